import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from scipy.ndimage import distance_transform_edt
from scipy.spatial import ConvexHull, Delaunay

from portraittalk_core.errors import InputError
from portraittalk_core.face import topology as topo
from portraittalk_core.face.crop import CropOptions, fit_track_to, plan_face_crop
from portraittalk_core.renderers.paste import PasteOptions, box_mask, face_mask, paste_face, paste_frames
from portraittalk_core.types import Portrait

SIDES = (200, 512, 1400)  # the crop is enlarged, or loses detail


def scaled(portrait: Portrait, side: int):
    picture = Image.fromarray(portrait.picture.numpy()).resize((side, side), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(picture)), fit_track_to(portrait.landmarks, side, side)


def tinted(crop: torch.Tensor) -> torch.Tensor:
    """As a diffusion model gives a crop back: paler, warmer, softer."""
    soft = torch.from_numpy(np.array(Image.fromarray(crop.numpy()).filter(ImageFilter.GaussianBlur(1)))).float()
    mean = soft.mean((0, 1))
    return ((soft - mean) * 0.9 + mean + torch.tensor([14.0, -4.0, -12.0])).round().clamp(0, 255).to(torch.uint8)


def paste(picture, painted, plan, **options) -> torch.Tensor:
    (made,) = paste_frames(picture, [painted], plan, PasteOptions(**options))
    return made


@pytest.mark.parametrize("shape", ["face", "box"])
@pytest.mark.parametrize("side", SIDES)
def test_a_crop_pasted_back_unpainted_changes_nothing(astronaut, side, shape):
    picture, track = scaled(astronaut, side)
    plan = plan_face_crop(track)
    made = paste(picture, plan.crop(picture), plan, shape=shape)
    error = (made.double() - picture.double()).square().mean()
    assert 10 * torch.log10(255**2 / error.clamp(min=1e-9)) > 50
    assert (made.int() - picture.int()).abs().max() <= 1


@pytest.mark.parametrize("shape", ["face", "box"])
def test_what_is_painted_appears_and_the_rest_stays_to_the_bit(astronaut, shape):
    plan = plan_face_crop(astronaut.landmarks)
    other = torch.randint(0, 256, (256, 256, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    kept = astronaut.picture.clone()
    made = paste(astronaut.picture, other, plan, shape=shape, match_colour=0.0)
    changed = (made != astronaut.picture).any(-1)
    assert torch.equal(astronaut.picture, kept)
    rows, columns = changed.nonzero(as_tuple=True)
    box = plan.box(0)
    assert box.top <= rows.min() and rows.max() + 1 <= box.top + box.side
    assert box.left <= columns.min() and columns.max() + 1 <= box.left + box.side
    # the nose is painted: the picture there is the crop, reduced by Pillow
    x, y = astronaut.landmarks.points_px[0, topo.NOSE_TIP, :2].long().tolist()
    ends = ((x - 20 - box.left, y - 20 - box.top), (x + 20 - box.left, y + 20 - box.top))
    edges = [v * 256 / box.side for end in ends for v in end]
    expected = np.asarray(Image.fromarray(other.numpy()).resize((40, 40), Image.Resampling.BICUBIC, edges))
    assert np.abs(made[y - 20 : y + 20, x - 20 : x + 20].numpy().astype(int) - expected).max() <= 1
    if shape == "face":
        hull = Delaunay(astronaut.landmarks.points_px[0, list(topo.FACE_OVAL), :2].numpy())
        inside = hull.find_simplex(np.argwhere(np.ones((512, 512)))[:, ::-1] + 0.5).reshape(512, 512) >= 0
        far = distance_transform_edt(~inside) > 0.25 * 107  # grown by 4 %, feather of 15 %
        assert not changed[torch.from_numpy(far)].any()


def step_over(picture: torch.Tensor, mask: np.ndarray) -> float:
    """Mean step between neighbours where the mask's edge runs, after blurring away the texture."""
    soft = np.asarray(Image.fromarray(picture.numpy()).filter(ImageFilter.GaussianBlur(2)), dtype=np.float64)
    across, down = np.abs(np.diff(soft, axis=1))[:-1], np.abs(np.diff(soft, axis=0))[:, :-1]
    return float((across + down).mean(-1)[mask[:-1, :-1]].mean())


def edge_of(plan, shape: str) -> np.ndarray:
    """Pixels that a fully different crop changes in part, well in the feather."""
    black, white = (torch.full((512, 512, 3), v, dtype=torch.uint8) for v in (0, 255))
    made = paste(black, white, plan, shape=shape, match_colour=0.0)[..., 0].numpy()
    return (made > 40) & (made < 215)


@pytest.mark.parametrize("shape", ["face", "box"])
def test_no_seam_is_seen_around_a_crop_of_other_colours(astronaut, shape):
    plan = plan_face_crop(astronaut.landmarks)
    painted = tinted(plan.crop(astronaut.picture))
    edge = edge_of(plan, shape)
    made = paste(astronaut.picture, painted, plan, shape=shape)
    assert edge.sum() > 1000
    assert step_over(made, edge) < 1.05 * step_over(astronaut.picture, edge)


def test_colour_matching_brings_the_painted_face_to_the_pictures_colours(astronaut):
    plan = plan_face_crop(astronaut.landmarks)
    painted = tinted(plan.crop(astronaut.picture))
    low = astronaut.landmarks.points_px[0, list(topo.FACE_OVAL), :2].amin(0).long()
    high = astronaut.landmarks.points_px[0, list(topo.FACE_OVAL), :2].amax(0).long()
    face = (slice(low[1], high[1]), slice(low[0], high[0]))

    def away(match_colour: float) -> float:
        made = paste(astronaut.picture, painted, plan, match_colour=match_colour)
        return float((made[face].float() - astronaut.picture[face].float()).mean((0, 1)).abs().max())

    plain, half, matched = (away(share) for share in (0.0, 0.5, 1.0))
    assert plain > 6
    assert matched < 1.5
    assert matched < half < plain


def test_colour_matching_has_a_limit(astronaut):
    plan = plan_face_crop(astronaut.landmarks)
    crop = plan.crop(astronaut.picture)
    darker = (crop.float() / 2 - 40).clamp(0, 255).to(torch.uint8)
    nose = astronaut.landmarks.points_px[0, topo.NOSE_TIP, :2].long().tolist()
    here = (slice(nose[1] - 5, nose[1] + 5), slice(nose[0] - 5, nose[0] + 5))
    made = paste(astronaut.picture, darker, plan)
    plain = paste(astronaut.picture, darker, plan, match_colour=0.0)
    assert plain[here].float().mean() < made[here].float().mean() < plain[here].float().mean() + 60


def test_the_mouth_is_the_painted_one_and_far_detail_the_pictures_own(astronaut):
    picture, track = scaled(astronaut, 1400)
    grain = torch.randint(-12, 13, (1400, 1400, 1), generator=torch.Generator().manual_seed(0))
    picture = (picture.int() + grain).clamp(0, 255).to(torch.uint8)
    plan = plan_face_crop(track)
    painted = plan.crop(picture, size=256)
    mouth = (plan.track_on_crop().points[0, 13, :2] * 256).long().tolist()
    painted[mouth[1] - 12 : mouth[1] + 12, mouth[0] - 20 : mouth[0] + 20] = torch.tensor([20, 10, 10]).byte()
    made = paste(picture, painted, plan)
    x, y = track.points_px[0, 13, :2].long().tolist()
    assert made[y - 10 : y + 10, x - 10 : x + 10].float().mean() < 25
    assert made[y - 10 : y + 10, x - 10 : x + 10].float().std() < 10
    x, y = track.points_px[0, topo.FOREHEAD_TOP, :2].long().tolist()
    brow = (slice(y + 20, y + 60), slice(x - 20, x + 20))  # its grain is finer than the crop can hold
    assert (made[brow].int() - picture[brow].int()).abs().max() <= 1


def test_a_background_that_does_not_move_stays_under_a_box(astronaut):
    plan = plan_face_crop(astronaut.landmarks)
    crop = plan.crop(astronaut.picture)
    generator = torch.Generator().manual_seed(0)
    shimmer = (crop.float() + 1.5 * torch.randn(crop.shape, generator=generator)).round().clamp(0, 255).to(torch.uint8)
    made = paste(astronaut.picture, shimmer, plan, shape="box")
    box = plan.box(0)
    corner = (slice(int(box.top) + 60, int(box.top) + 90), slice(int(box.left) + 8, int(box.left) + 20))
    assert (made[corner].int() - astronaut.picture[corner].int()).abs().float().mean() < 0.2


def test_face_mask_is_full_on_the_face_and_fades_outside(astronaut):
    points = plan_face_crop(astronaut.landmarks).track_on_crop().points
    mask = face_mask(points, 0.15, 192).numpy()
    oval = points[0, list(topo.FACE_OVAL), :2].numpy() * 192
    hull = Delaunay(oval[ConvexHull(oval).vertices])
    inside = hull.find_simplex(np.argwhere(np.ones((192, 192)))[:, ::-1] + 0.5).reshape(192, 192) >= 0
    face = np.ptp(oval, axis=0).max()
    away = distance_transform_edt(~inside)
    assert (mask[inside] == 1).all()
    assert (mask[away > 0.19 * face + 1.5] == 0).all()
    half = (away > 0.115 * face - 1) & (away < 0.115 * face + 1)  # distances to pixels' middles: a pixel of leeway
    assert 0.4 < mask[half].mean() < 0.6


@pytest.mark.parametrize("edge", [0.05, 0.3])
def test_box_mask_ends_before_the_crop_does(edge):
    mask = box_mask(edge, 100)
    border = torch.cat([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    assert border.max() == 0 and mask[50, 50] > 0.9
    assert torch.allclose(mask, mask.flip(0), atol=1e-5) and torch.allclose(mask, mask.T, atol=1e-5)
    assert mask[50].diff().abs().max() < 2 / (edge * 100)


def test_a_face_at_the_border_is_pasted_up_to_it(astronaut):
    picture = astronaut.picture[70:, 200:].contiguous()
    points = astronaut.landmarks.points_px - torch.tensor([200.0, 70.0, 0.0])
    track = type(astronaut.landmarks).from_px(points, picture.shape[1], picture.shape[0], astronaut.landmarks.fps)
    plan = plan_face_crop(track)
    made = paste(picture, torch.full((64, 64, 3), 255, dtype=torch.uint8), plan, match_colour=0.0)
    assert (made[30, 0] > picture[30, 0]).all() and made[30, 0].min() > 240
    assert torch.equal(paste(picture, plan.crop(picture), plan), picture)


def test_frames_are_pasted_each_into_its_own(astronaut):
    size = 40
    points = astronaut.landmarks.points.repeat(size, 1, 1)
    points[..., 0] += torch.linspace(-0.2, 0.45, size)[:, None]
    track = replace(astronaut.landmarks, points=points, valid=torch.ones(size, dtype=torch.bool))
    plan = plan_face_crop(track)
    assert not plan.is_fixed
    pictures = [torch.full((512, 512, 3), i, dtype=torch.uint8) for i in range(size)]
    painted = torch.full((64, 64, 3), 255, dtype=torch.uint8)
    seen = []
    options = PasteOptions(match_colour=0.0)
    made = list(paste_frames(pictures, [painted] * size, plan, options, lambda *at: seen.append(at)))
    for i, picture in enumerate(made):
        x, y = track.points_px[i, topo.NOSE_TIP, :2].long().tolist()
        assert picture[y, x].min() == 255 and picture[-1, 0].max() == i
    assert seen == [(i + 1, size) for i in range(size)]


def test_a_still_portrait_serves_all_frames_and_nothing_is_drawn_ahead(astronaut):
    plan = plan_face_crop(astronaut.landmarks, CropOptions(box="fixed"))
    crop = plan.crop(astronaut.picture)
    drawn = []

    def painted():
        for number in itertools.count():
            drawn.append(number)
            yield crop

    frames = paste_frames(astronaut.picture, painted(), plan)
    assert all(torch.equal(next(frames), astronaut.picture) for _ in range(3))
    assert drawn == [0, 1, 2]


def test_a_face_lost_for_long_stays_unpainted_and_a_short_loss_is_bridged(astronaut):
    valid = torch.ones(60, dtype=torch.bool)
    valid[5:8] = False  # 0.12 s
    valid[20:40] = False  # 0.8 s
    track = replace(astronaut.landmarks, points=astronaut.landmarks.points.repeat(60, 1, 1), valid=valid)
    plan = plan_face_crop(track)
    painted = torch.full((32, 32, 3), 255, dtype=torch.uint8)
    black = torch.zeros(512, 512, 3, dtype=torch.uint8)
    x, y = track.points_px[0, topo.NOSE_TIP, :2].long().tolist()
    nose = [int(f[y, x, 0]) for f in paste_frames(black, [painted] * 60, plan, PasteOptions(match_colour=0.0))]
    assert nose[:16] == [255] * 16 and nose[20:40] == [0] * 20 and nose[44:] == [255] * 16
    assert max(abs(a - b) for a, b in itertools.pairwise(nose)) < 100  # it fades


def test_paste_rejects_what_does_not_fit(astronaut):
    plan = plan_face_crop(astronaut.landmarks)
    crop = plan.crop(astronaut.picture)
    with pytest.raises(InputError, match="must be square, not 64×32"):
        paste_face(astronaut.picture, crop[:32, :64].contiguous(), plan.box(0), box_mask(0.1))
    with pytest.raises(InputError, match="there are only 1 pictures"):
        list(paste_frames([astronaut.picture], [crop, crop], plan))
    with pytest.raises(InputError, match="planned for 512×512"):
        paste(astronaut.picture[:256].contiguous(), crop, plan)
    with pytest.raises(InputError, match="frame 2 is beyond the 2 frames"):
        two = replace(astronaut.landmarks, points=plan.track.points.repeat(2, 1, 1), valid=torch.ones(2).bool())
        list(paste_frames(astronaut.picture, [crop] * 3, plan_face_crop(two)))
    for wrong in ({"shape": "round"}, {"feather": 0.0}, {"match_colour": float("nan")}):
        with pytest.raises(InputError):
            PasteOptions(**wrong)
