"""A head before a drawn grid: the pack's own portrait laid over straight lines by its mask."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from portraittalk_core.engines.contract import whole_track
from portraittalk_core.engines.registry import open_engine
from portraittalk_core.errors import InputError
from portraittalk_core.face import topology as topo
from portraittalk_core.face.segmentation.person import portrait_mask
from portraittalk_core.media.audio import load_speech
from portraittalk_core.media.image import load_picture
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.motion.rig import plan_landmarks
from portraittalk_core.renderers.contract import Callbacks, RenderJob
from portraittalk_core.renderers.registry import open_renderer
from portraittalk_core.renderers.warp.build import portrait_renderer
from portraittalk_core.renderers.warp.cutout import Cutout, cut_out
from portraittalk_core.renderers.warp.fill import background_behind, filled
from portraittalk_core.types import MOUTH_PARAMETERS, HeadPose, LandmarkTrack, MotionPlan, MouthCurves, Portrait

pytestmark = pytest.mark.slow  # rendered clips: nine seconds together

SAMPLES = Path(__file__).parents[4] / "samples"
PERIOD, WIDTH = 24, 2.0  # pixels between the grid's lines, and their width
LIGHT, DARK = 225.0, 60.0


@pytest.fixture(scope="module")
def sample() -> Portrait:
    from portraittalk_core.face.mesh.landmarks import find_portrait

    return find_portrait(load_picture(SAMPLES / "portrait.jpg"))


@pytest.fixture(scope="module")
def mask(sample) -> torch.Tensor:
    return portrait_mask(sample.picture, sample.landmarks.points_px[0, :, :2])


@pytest.fixture(scope="module")
def before_grid(sample, mask) -> Portrait:
    return Portrait(laid_over(sample.picture, mask, grid(mask.shape)), sample.landmarks, "a grid")


@pytest.fixture(scope="module")
def talking(before_grid) -> LandmarkTrack:
    """Every ninth frame of the sample sentence, with as much head motion as the options allow."""
    speech, options = load_speech(SAMPLES / "speech.wav"), MotionOptions(head_motion=2.0)
    track = whole_track(open_engine(), speech, before_grid.landmarks, options)
    return track.at(slice(None, None, 9))


@pytest.fixture(scope="module")
def frames(before_grid, talking) -> list[torch.Tensor]:
    return list(open_renderer().render(RenderJob.of_track(before_grid, talking)))


def grid(shape) -> torch.Tensor:
    """(H, W) grey levels of dark lines, each centred PERIOD / 2 after a multiple of PERIOD."""
    y, x = torch.arange(shape[0])[:, None] + 0.5, torch.arange(shape[1])[None] + 0.5
    away = torch.minimum((x % PERIOD - PERIOD / 2).abs().expand(shape), (y % PERIOD - PERIOD / 2).abs().expand(shape))
    return LIGHT - (LIGHT - DARK) * (1 - (away - WIDTH / 2 + 0.5)).clamp(0, 1)


def laid_over(picture: torch.Tensor, mask: torch.Tensor, background: torch.Tensor) -> torch.Tensor:
    return torch.lerp(background[..., None].expand(-1, -1, 3), picture.float(), mask[..., None]).round().to(torch.uint8)


def line_places(picture: torch.Tensor, clear: np.ndarray) -> np.ndarray:
    """Where the upright lines are in each row in which 14 pixels around one are clear, in pixels."""
    darkness = (LIGHT - picture.float().mean(-1).numpy() - 20).clip(0)
    rows = np.abs(np.arange(len(darkness)) % PERIOD - PERIOD / 2) > 5
    places = []
    for centre in range(PERIOD // 2, darkness.shape[1] - 8, PERIOD):
        window = slice(centre - 6, centre + 6)
        used = rows & clear[:, max(0, centre - 7) : centre + 7].all(1)
        weights = darkness[used, window]
        places.append((weights * (np.arange(12) + 0.5)).sum(1) / weights.sum(1).clip(1))
    return np.concatenate(places)


@pytest.mark.slow
def test_lines_behind_a_talking_head_stay_where_they_are(before_grid, mask, talking, frames):
    rest, size = before_grid.landmarks.points[0, :, :2], torch.tensor([mask.shape[1], mask.shape[0]])
    rigid = list(topo.RIGID)
    moves = float(((talking.points[:, rigid, :2] - rest[rigid]) * size).norm(dim=2).amax())
    assert moves > 4  # else there is nothing to see
    # what the head itself comes over, turned about the neck, is no background
    clear = ndimage.distance_transform_edt(mask.numpy() == 0) > moves + 6
    assert clear[:260].mean() > 0.5
    for frame in frames:
        for turned in (lambda a: a, lambda a: a.swapaxes(0, 1)):
            places = line_places(turned(frame), turned(clear))
            expected = line_places(turned(before_grid.picture), turned(clear))
            assert np.abs(places - expected).max() <= 0.3


@pytest.mark.slow
def farthest_of(portrait: Portrait, track: LandmarkTrack) -> tuple[int, torch.Tensor]:
    """Number of the frame in which the head is farthest from where it was, and by how much, x and y in pixels."""
    moved = (track.points - portrait.landmarks.points)[:, list(topo.RIGID), :2].mean(1) * 512
    farthest = int(moved.norm(dim=1).argmax())
    return farthest, moved[farthest]


def test_lines_that_the_head_uncovers_go_on(before_grid, mask):
    """A row of grid cells just beside the hair: its lines are there at all times, in places the head has left."""
    behind = cut_out(before_grid.picture, before_grid.landmarks.points_px[0, :, :2]).background.mean(0).numpy()
    drawn = grid(mask.shape).numpy()
    depth = ndimage.distance_transform_edt(mask.numpy() > 0)
    uncovered = (depth > 0) & (depth < 5)
    uncovered[200:] = False  # hair and face
    error = np.abs(behind - drawn)[uncovered].mean()
    smooth = filled(before_grid.picture.permute(2, 0, 1).float(), (mask == 0).float()).mean(0).numpy()
    assert error < 0.6 * np.abs(smooth - drawn)[uncovered].mean()


@pytest.mark.slow
def test_hair_moves_with_the_head_and_the_lower_border_has_no_seam(before_grid, mask, talking, frames):
    farthest, shift = farthest_of(before_grid, talking)
    frame, picture = frames[farthest].float().mean(-1), before_grid.picture.float().mean(-1)
    hair = ndimage.binary_erosion(mask.numpy() > 0.99, iterations=8)
    hair[int(before_grid.landmarks.points_px[0, topo.FOREHEAD_TOP, 1]) - 4 :] = False
    assert hair.sum() > 500
    moved = torch.from_numpy(ndimage.shift(picture.numpy(), (float(shift[1]), float(shift[0])), order=1))
    with_head = (frame - moved).abs()[torch.from_numpy(hair)].mean()
    left_behind = (frame - picture).abs()[torch.from_numpy(hair)].mean()
    assert with_head < 0.6 * left_behind
    steps = frame[-40:].diff(dim=0).abs().mean(1) - picture[-40:].diff(dim=0).abs().mean(1)
    assert steps.max() < 2


def test_a_head_at_rest_leaves_the_picture_as_it_is(before_grid, mask):
    (frame,) = open_renderer().render(RenderJob.of_track(before_grid, before_grid.landmarks))
    oval = before_grid.landmarks.points_px[0, list(topo.FACE_OVAL), :2]
    difference = (frame.int() - before_grid.picture.int()).abs().amax(-1)
    x0, y0, x1, y1 = (int(v) for v in (*oval.amin(0), *oval.amax(0)))
    difference[y0:y1, x0:x1] = 0
    assert difference.float().mean() < 0.25  # a small face is sampled from a finer picture, which softens hair
    far = ndimage.distance_transform_edt(mask.numpy() == 0) > 12
    assert far.mean() > 0.3
    assert not difference.numpy()[far].any()


def test_people_and_background_are_the_picture(before_grid):
    cutout = cut_out(before_grid.picture, before_grid.landmarks.points_px[0, :, :2])
    assert isinstance(cutout, Cutout)
    together = cutout.people + (1 - cutout.mask) * cutout.background
    assert (together - before_grid.picture.permute(2, 0, 1)).abs().max() < 0.5
    assert cutout.people.min() >= 0
    assert (cutout.people <= 255 * cutout.mask + 1e-3).all()


def test_what_a_lens_blurs_over_a_wall_does_not_stay_on_it(sample, mask):
    """The background behind the head is the wall's one grey, without an outline of the hair."""
    soft = F.avg_pool2d(F.pad(mask[None, None], (2,) * 4, mode="replicate"), 5, 1)[0, 0]
    picture = laid_over(sample.picture, soft, torch.full(mask.shape, 190.0))
    background = cut_out(picture, sample.landmarks.points_px[0, :, :2]).background
    off = (background - 190).abs().amax(0)[: int(sample.landmarks.points_px[0, topo.CHIN, 1])]
    assert (off > 6).sum() < 480  # were 600
    assert off.max() < 60  # no specks


@pytest.mark.slow
def test_transparent_pictures_have_the_heads_mask(before_grid, talking, mask):
    masks: list[torch.Tensor] = []
    job = RenderJob.of_track(before_grid, talking.slice(0, 2))
    plain = list(open_renderer().render(job, Callbacks(on_mask=masks.append)))
    clear = list(open_renderer(background="transparent").render(job))
    assert clear[0].shape == (*plain[0].shape[:2], 4)
    for picture, opaque, alpha in zip(clear, plain, masks, strict=True):
        assert torch.equal(picture[..., 3], alpha)
        inside = alpha == 255
        assert (picture[inside][:, :3].int() - opaque[inside].int()).abs().max() <= 3
    assert (masks[0].float() / 255 - mask).abs().mean() < 0.05


@pytest.mark.slow
def test_a_moved_heads_mask_has_no_trace_of_where_it_was(before_grid, talking, mask):
    farthest, shift = farthest_of(before_grid, talking)
    masks: list[torch.Tensor] = []
    job = RenderJob.of_track(before_grid, talking.slice(farthest, farthest + 1))
    list(open_renderer().render(job, Callbacks(on_mask=masks.append)))
    moved = ndimage.shift(mask.numpy(), (float(shift[1]), float(shift[0])), order=1)
    head = np.zeros_like(moved, dtype=bool)
    head[: int(before_grid.landmarks.points_px[0, topo.NOSE_TIP, 1])] = True
    inside = ndimage.binary_erosion(moved > 0.99, iterations=4) & head
    outside = ndimage.distance_transform_edt(moved == 0) > 9  # of which what a lens blurs takes 2
    assert inside.sum() > 5000
    assert masks[0].numpy()[inside].min() == 255
    assert masks[0].numpy()[outside & head].max() == 0


def test_where_nobody_is_recognised_the_picture_is_warped_as_a_whole(sample, caplog):
    blank = Portrait(torch.full_like(sample.picture, 120), sample.landmarks, "a blank")
    masks: list[torch.Tensor] = []
    job = RenderJob.of_track(blank, sample.landmarks)
    list(open_renderer().render(job, Callbacks(on_mask=masks.append)))
    assert bool((masks[0] == 255).all())
    assert "no person is recognised in a blank" in caplog.text
    with pytest.raises(InputError, match="no person is recognised in a blank, so its background cannot be left away"):
        list(open_renderer(background="transparent").render(job))


def test_filling_keeps_what_is_known_and_continues_a_ramp():
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(50.0), indexing="ij")
    ramp = torch.stack([2 * x + y, 100 - x, 0 * x + 7])
    known = torch.ones(40, 50)
    known[12:26, 15:33] = 0
    found = filled(ramp, known)
    assert torch.allclose(found[:, known == 1], ramp[:, known == 1])
    assert (found - ramp).abs().max() < 12
    assert (found[2] - 7).abs().max() < 1e-3
    assert (filled(ramp, torch.zeros(40, 50)) == 0).all()


@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0])
def test_a_line_goes_on_where_nothing_is_known(slope):
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    away = (y - 10 - slope * (x - 32)).abs() / (1 + slope**2) ** 0.5
    line = (200 - 160 * (2 - away).clamp(0, 1)).expand(3, -1, -1).contiguous()
    known = torch.ones(48, 64, dtype=torch.bool)
    known[:, 28:37] = False
    found = background_behind(line, known, 12)
    hidden = ~known & (away < 1)
    assert hidden.sum() > 8
    assert (found[0][hidden] - line[0][hidden]).abs().mean() < 40
    assert (found[0][~known & (away > 5)] - 200).abs().mean() < 10


@pytest.mark.slow
@pytest.mark.parametrize("yaw_deg", [-15.0, 15.0])
def test_a_head_turns_by_fifteen_degrees_without_folds(sample, yaw_deg):
    from portraittalk_core.face.geometry import interocular_px
    from portraittalk_core.face.mesh.landmarks import find_portrait

    rest, zero = sample.landmarks, torch.zeros(1)
    head = HeadPose(torch.tensor([[0.0, yaw_deg, 0.0]]), torch.zeros(1, 3), torch.ones(1))
    mouth = MouthCurves(**{name: zero for name in MOUTH_PARAMETERS})
    track = plan_landmarks(MotionPlan(rest, mouth, zero, zero, head, Fraction(25)))
    renderer = portrait_renderer(sample)
    (frame,) = renderer.render(track)
    found = find_portrait(frame).landmarks.points_px
    error = (found - track.points_px)[0, :, :2].norm(dim=1).mean() / interocular_px(track.points_px)[0]
    moved = (rest.points_px - track.points_px)[0, :, :2].norm(dim=1).mean() / interocular_px(track.points_px)[0]
    assert moved > 0.1
    assert error < 0.035
    # nose and ears: the map back is one to one, so that nothing is torn or shown twice
    target = renderer.parallax.softened(track.points_px)
    layer = renderer.field.backward(target, renderer.field.head_motion(target))[0, 0]
    spacing = renderer.field.nodes[1, 1] - renderer.field.nodes[0, 0]
    right, down = layer.diff(dim=2)[:, :-1] / spacing[0], layer.diff(dim=1)[:, :, :-1] / spacing[1]
    area = right[0] * down[1] - right[1] * down[0]
    assert area.min() > 0.42
    assert area.max() < 3.2  # of what a patch shows: hair and collars beside the head are not folded either


def test_the_mask_of_a_portrait_at_rest_is_that_of_its_people(before_grid, monkeypatch):
    monkeypatch.setattr("portraittalk_core.renderers.warp.renderer.SHARP_SIDE_PX", 0)  # finer ones differ a little
    masks: list[torch.Tensor] = []
    people = cut_out(before_grid.picture, before_grid.landmarks.points_px[0, :, :2]).mask
    list(portrait_renderer(before_grid).render(before_grid.landmarks, on_mask=masks.append))
    assert torch.equal(masks[0], (255 * people).round().to(torch.uint8))


def test_asking_for_the_mask_changes_no_frame(before_grid, talking):
    some = talking.slice(0, 20)
    plain = list(portrait_renderer(before_grid).render(some))
    masks: list[torch.Tensor] = []
    masked = list(portrait_renderer(before_grid).render(some, on_mask=masks.append))
    assert torch.equal(torch.stack(plain), torch.stack(masked))
    assert len(masks) == len(some)


@pytest.mark.slow
def test_shoulders_rise_with_the_breath_before_a_background_that_stays(before_grid, mask):
    from skimage.registration import phase_cross_correlation

    rest, rises = before_grid.landmarks, torch.tensor([0.0, 0.02, 0.04, 0.06])
    track = replace(rest.at(torch.zeros(4, dtype=torch.long)), shoulders=rises)
    renderer = portrait_renderer(before_grid, breathes=True)
    frames = list(renderer.render(track))
    chin, height = renderer.chest.chin, renderer.chest.height
    # where the motion is whole: below the neck, in the middle of the people
    rows = slice(round(float(chin[1] + 0.45 * height)), round(float(chin[1] + 0.75 * height)))
    columns = slice(round(float(chin[0] - 0.5 * height)), round(float(chin[0] + 0.5 * height)))
    assert float(mask[rows, columns].mean()) > 0.95
    grey = [frame[rows, columns].float().mean(-1).numpy() for frame in frames]
    up = [float(phase_cross_correlation(grey[0], one, upsample_factor=20)[0][0]) for one in grey]
    asked = (rises * renderer.chest.unit_px).tolist()
    assert up[0] == 0 and up == sorted(up)
    assert all(0.6 * px <= moved <= 1.1 * px for moved, px in zip(up[1:], asked[1:], strict=True))
    clear = ndimage.distance_transform_edt(mask.numpy() == 0) > 6 + asked[-1]
    for frame in frames[1:]:
        assert np.abs(line_places(frame, clear) - line_places(before_grid.picture, clear)).max() <= 0.3
    head = round(float(rest.points_px[0, topo.NOSE_TIP, 1]))
    assert all(torch.equal(frame[:head], frames[0][:head]) for frame in frames)
