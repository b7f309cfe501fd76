"""Portraits and films rendered by keypoints, with random networks and with a stand-in whose pictures are known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from portraittalk_core.errors import InputError
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.geometry import mouth_open
from portraittalk_core.media.video_write import VideoWriter
from portraittalk_core.motion.keypoint_edit import in_head_axes
from portraittalk_core.motion.keypoint_regions import ExpressionBasis
from portraittalk_core.renderers.contract import Callbacks, Film, RenderJob
from portraittalk_core.renderers.implicit import mouth_amount
from portraittalk_core.renderers.implicit.contract import CropRule, Keypoints
from portraittalk_core.renderers.implicit.driving import Driving, ShutMouth, batches
from portraittalk_core.renderers.implicit.files import random_model
from portraittalk_core.renderers.implicit.interrupt import STEPS
from portraittalk_core.renderers.implicit.options import KeypointRenderOptions
from portraittalk_core.renderers.implicit.renderer import ImplicitRenderer
from portraittalk_core.renderers.registry import open_renderer
from portraittalk_core.renderers.write import render_video
from portraittalk_core.types import KEYPOINT_LAYOUTS, KeypointTrack, LandmarkTrack

LAYOUT = "liveportrait-21"


def keypoints_of(num: int, layout: str = LAYOUT, shift: float = 0.0, valid=None) -> KeypointTrack:
    """A track that moves every keypoint `shift` further to the right in each frame."""
    expression = torch.zeros(num, KEYPOINT_LAYOUTS[layout], 3)
    expression[:, :, 0] = shift * torch.arange(num)[:, None]
    seen = torch.ones(num, dtype=torch.bool) if valid is None else valid
    return KeypointTrack(expression, torch.zeros(num, 3), torch.zeros(num, 3), torch.ones(num), seen, 25, layout)


@dataclass
class Shifting:
    """A stand-in for networks: its picture is the source's, moved as far as the keypoints have moved on the mean.

    The expression that it measures is the crop's mean brightness, on all keypoints.
    """

    layout: str = LAYOUT
    crop: CropRule = CropRule(2.3, -0.125, True)
    input_size: int = 64
    output_size: int = 64
    device: torch.device = torch.device("cpu")
    dtype: torch.dtype = torch.float32
    encoded: int = 0
    measured: int = 0
    rendered: tuple = ()

    def keypoints(self, crops):
        self.measured += len(crops)
        zeros = torch.zeros(len(crops), KEYPOINT_LAYOUTS[self.layout], 3)
        bright = crops.mean((1, 2, 3))[:, None, None].expand_as(zeros)
        return Keypoints(zeros, torch.zeros(len(crops), 3), torch.zeros(len(crops), 3), torch.ones(len(crops)), bright)

    def features(self, crop):
        self.encoded += len(crop)
        return crop

    def place(self, keypoints):
        return keypoints.expression + keypoints.translation[:, None]

    def render(self, features, source, driving):
        self.rendered = (*self.rendered, len(driving))
        moved = (driving - source).mean(1)[:, :2]
        matrix = torch.eye(2, 3).repeat(len(moved), 1, 1)
        matrix[:, :, 2] = -moved
        crops = features.expand(len(moved), -1, -1, -1)
        grid = F.affine_grid(matrix, crops.shape, align_corners=False)
        return F.grid_sample(crops, grid, align_corners=False, padding_mode="border")


def own_motion(model: Shifting, portrait, num: int) -> KeypointTrack:
    """A track that leaves the portrait as it is."""
    renderer = ImplicitRenderer(model)
    face, *_ = renderer._encoded(RenderJob.of_track(portrait, keypoints_of(1)))
    return replace(keypoints_of(num), expression=face.expression.expand(num, -1, -1).contiguous())


def rendered(model, portrait, track, callbacks=None, **options):
    renderer = ImplicitRenderer(model, None, KeypointRenderOptions(match_colour=0.0, **options))
    return list(renderer.render(RenderJob.of_track(portrait, track), callbacks))


def test_unmoved_keypoints_give_the_portrait_back(astronaut):
    model = Shifting()
    pictures = rendered(model, astronaut, own_motion(model, astronaut, 3))
    blurred = (pictures[0].float() - astronaut.picture.float()).abs()
    assert float(blurred.mean()) < 2.5  # the crop has 64 pixels for a face of 212
    assert torch.equal(pictures[0][300:], astronaut.picture[300:])  # far from the face nothing is touched
    assert all(torch.equal(pictures[0], picture) for picture in pictures)


def test_a_portrait_is_encoded_once_and_frames_come_in_batches(astronaut):
    model = Shifting()
    track = own_motion(model, astronaut, 10)
    model.encoded = model.measured = 0
    spans = (track.slice(start, start + 3) for start in (0, 3, 6, 9))
    renderer = ImplicitRenderer(model, None, KeypointRenderOptions(batch_size=4))
    pictures = list(renderer.render(RenderJob(astronaut, spans, 10, track.fps)))
    assert len(pictures) == 10 and model.rendered == (4, 4, 2)
    assert (model.encoded, model.measured) == (1, 1)


def test_batches_keep_order_and_number():
    track = keypoints_of(11, shift=0.01)
    for sizes in ((11,), (1,) * 11, (4, 5, 2)):
        ends = np.cumsum(sizes)
        spans = (track.slice(int(end) - size, int(end)) for end, size in zip(ends, sizes, strict=True))
        found = list(batches(spans, 4))
        assert [len(piece) for piece in found] == [4, 4, 3]
        assert torch.equal(torch.cat([piece.expression for piece in found]), track.expression)


def test_motion_moves_the_face_the_way_the_keypoints_move(astronaut):
    model = Shifting()
    track = own_motion(model, astronaut, 2)
    track.expression[1, :, 0] += 0.1  # a tenth of half the crop's side to the right
    still, moved = rendered(model, astronaut, track, paste="crop")
    assert still.shape == moved.shape == (64, 64, 3)
    errors = [float((moved[:, 8:].float() - still[:, 8 - by : 64 - by].float()).abs().mean()) for by in range(7)]
    assert int(np.argmin(errors)) == 3  # 0.1 · 32 pixels


def test_batch_size_changes_no_picture(astronaut):
    model, retargeting = random_model(LAYOUT)
    track = keypoints_of(5, shift=0.02)
    made = []
    for size in (1, 2, 5):
        renderer = ImplicitRenderer(model, retargeting, KeypointRenderOptions(batch_size=size))
        made.append(torch.stack(list(renderer.render(RenderJob.of_track(astronaut, track)))).int())
    assert int((made[0] - made[1]).abs().max()) <= 1 and int((made[0] - made[2]).abs().max()) <= 1
    assert int((made[0][0] - made[0][4]).abs().max()) > 3  # they do move


@pytest.mark.slow
def test_a_compiled_renderer_sees_full_batches_only(astronaut, film):
    """Every number of frames would be compiled anew; what fills a batch up is not shown."""

    @dataclass(frozen=True)
    class Compiled(KeypointRenderOptions):
        compile: bool = True

    model, _ = random_model(LAYOUT)
    sizes, render = [], model.render

    def counted(features, source, driving):
        sizes.append(len(driving))
        return render(features, source, driving)

    model.render = counted
    jobs = [RenderJob.of_track(astronaut, keypoints_of(5, shift=0.02))]
    jobs.append(RenderJob.of_track(film, replace(keypoints_of(6, shift=0.02), fps=Fraction(10))))
    for job in jobs:
        plain, filled = (
            torch.stack(list(ImplicitRenderer(model, None, kind(batch_size=4)).render(job))).int()
            for kind in (KeypointRenderOptions, Compiled)
        )
        assert int((plain - filled).abs().max()) <= 1
    assert sizes == [4, 1, 4, 4, 2, 2, 4, 4]


@pytest.mark.parametrize("layout", KEYPOINT_LAYOUTS)
def test_both_families_render_portraits(astronaut, layout):
    model, retargeting = random_model(layout)
    renderer = ImplicitRenderer(model, retargeting)
    job = RenderJob.of_track(astronaut, keypoints_of(2, layout))
    assert renderer.output_size(job) == (512, 512)
    assert [picture.shape for picture in renderer.render(job)] == [(512, 512, 3)] * 2


def looking_aside(points: torch.Tensor) -> torch.Tensor:
    """(T, 478, 3) landmarks turned by 55 degrees, as those of a profile."""
    middle, turn = points.mean(1, keepdim=True), np.radians(55)
    x, y, z = (points - middle).unbind(-1)
    return torch.stack([np.cos(turn) * x + np.sin(turn) * z, y, np.cos(turn) * z - np.sin(turn) * x], -1) + middle


@pytest.mark.parametrize(
    "moved",
    [looking_aside, lambda points: points + torch.tensor([0.45, 0.0, 0.0]), lambda points: 2.5 * points - 0.9],
    ids=["profile", "half outside the picture", "larger than the picture"],
)
def test_odd_faces_are_rendered_where_they_are(astronaut, moved):
    """A crop that reaches beyond the picture is black there; the picture keeps its size and what is far away."""
    landmarks = replace(astronaut.landmarks, points=moved(astronaut.landmarks.points))
    model = Shifting()
    portrait = replace(astronaut, landmarks=landmarks)
    pictures = rendered(model, portrait, own_motion(model, portrait, 2))
    assert [picture.shape for picture in pictures] == [astronaut.picture.shape] * 2
    change = (pictures[0].float() - astronaut.picture.float()).abs().mean()
    assert float(change) < 6  # blurred by a crop of 64 pixels, and whole


def test_a_track_of_the_other_family_is_refused(astronaut):
    model, _ = random_model("face-vid2vid-15")
    with pytest.raises(InputError, match="layout liveportrait-21, but face-vid2vid-15 is needed"):
        list(ImplicitRenderer(model).render(RenderJob.of_track(astronaut, keypoints_of(2))))


def test_other_renderers_refuse_keypoints_and_say_what_draws_them(astronaut, tmp_path):
    job = RenderJob.of_track(astronaut, keypoints_of(2))
    with pytest.raises(InputError, match="keypoints .liveportrait-21.*take the renderer liveportrait"):
        render_video(open_renderer(), job, tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())


def test_motion_of_changing_kinds_is_refused(astronaut):
    job = RenderJob(astronaut, (keypoints_of(2), astronaut.landmarks), 3, Fraction(25))
    with pytest.raises(InputError, match="changes from KeypointTrack to LandmarkTrack"):
        list(ImplicitRenderer(Shifting()).render(job))


# --- alpha


def test_alpha_shuts_the_mouth_of_landmarks_and_opens_it_in_proportion(astronaut, make_plan):
    from portraittalk_core.motion.rig import make_rig, plan_landmarks

    angles = [[0.0, 0.0, 0.0], [4.0, -8.0, 3.0], [0.0, 6.0, 0.0]]
    plan = make_plan(astronaut.landmarks, opening=[0.3, 0.6, 0.9], angles_deg=angles)
    track = plan_landmarks(plan, 0, 3, make_rig(plan.reference))
    shut = ShutMouth(astronaut.landmarks)
    gaps = {
        alpha: mouth_open(shut.scaled(track, torch.full((3,), alpha))) for alpha in (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
    }
    assert float(gaps[0.0].max()) < 0.02 * float(gaps[1.0].max())
    stacked = torch.stack(list(gaps.values()))
    assert bool((stacked.diff(dim=0) > 0).all())
    assert torch.allclose(gaps[0.5], gaps[1.0] / 2, atol=0.01) and torch.allclose(gaps[1.5], 1.5 * gaps[1.0], atol=0.02)
    whole = shut.scaled(track, torch.zeros(3)).points
    eyes = [33, 133, 159, 145, 263, 362, 386, 374, 10, 1]
    assert torch.equal(whole[:, eyes], track.points[:, eyes])  # what does not speak stays, to the last bit


def spans_of(model, portrait, track, **options) -> KeypointTrack:
    """The one span that drives a portrait along a track of one span."""
    alpha = options.pop("alpha", None)
    renderer = ImplicitRenderer(model, None, KeypointRenderOptions(**options), alpha=alpha)
    job = RenderJob.of_track(portrait, track)
    face, *_ = renderer._encoded(job)
    (span,) = Driving(renderer, job).of_portrait(face)
    return span


@pytest.mark.slow
def test_alpha_scales_the_mouth_of_keypoint_tracks_only(astronaut):
    model = Shifting()
    base = own_motion(model, astronaut, 3)
    tracks = [replace(base, expression=base.expression + torch.rand(3, 21, 3)) for _ in range(2)]
    lips, others = [6, 12, 14, 17, 19, 20], [0, 1, 2, 11, 13, 15]
    shut, half, whole = (spans_of(model, astronaut, tracks[0], alpha=alpha).expression for alpha in (0.0, 0.5, 1.0))
    assert torch.equal(whole, tracks[0].expression)
    assert torch.allclose(half[:, lips], (shut + whole)[:, lips] / 2, atol=1e-6)
    assert torch.equal(half[:, others], whole[:, others]) and torch.equal(shut[:, others], whole[:, others])
    # whatever is said, 0 is one and the same mouth, that of the portrait with its lips together
    assert torch.allclose(
        spans_of(model, astronaut, tracks[1], alpha=0.0).expression[:, lips], shut[:, lips], atol=1e-6
    )
    assert float((shut[:, lips] - base.expression[:, lips]).abs().max()) > 1e-5  # the astronaut's are apart


@pytest.mark.slow
def test_alpha_leaves_blinks_where_the_mouth_had_to_be_measured(astronaut, monkeypatch):
    fv = "face-vid2vid-15"
    model, measured = Shifting(fv), []
    shares = {"mouth": torch.zeros(15), "eyes": torch.zeros(15)}
    shares["mouth"][[3, 4]] = torch.tensor([1.0, 0.5])  # 4 moves with the lids too
    shares["eyes"][[4, 7]] = torch.tensor([0.5, 1.0])
    parting = torch.zeros(15, 3)
    parting[3, 1], parting[4, 1] = 0.1, 0.02
    basis = ExpressionBasis(fv, parting, torch.zeros(15, 3), shares)
    monkeypatch.setattr(mouth_amount, "measured_basis", lambda *given: measured.append(given) or basis)
    renderer = ImplicitRenderer(model)
    face, *_ = renderer._encoded(RenderJob.of_track(astronaut, keypoints_of(1, fv)))
    own = face.expression.expand(3, -1, -1)
    said = replace(keypoints_of(3, fv), expression=own + torch.rand(3, 15, 3))
    shut, half, whole, wide = (spans_of(model, astronaut, said, alpha=alpha) for alpha in (0.0, 0.5, 1.0, 1.5))
    assert torch.equal(whole.expression, said.expression) and len(measured) == 3  # 1 needs no measure
    others = [k for k in range(15) if k not in (3, 4)]
    for track in (shut, half, wide):  # eyes, brows and the rest stay to the last bit
        assert torch.equal(track.expression[:, others], said.expression[:, others])
    rest = in_head_axes(mouth_amount.MouthAmount(model, astronaut).shut)[0]
    openings = [basis.opening(in_head_axes(track) - rest) for track in (shut, half, whole, wide)]
    torch.testing.assert_close(openings[0], torch.zeros(3, dtype=torch.float64), atol=1e-6, rtol=0)
    for alpha, opening in zip((0.5, 1.5), (openings[1], openings[3]), strict=True):
        torch.testing.assert_close(opening, alpha * openings[2], atol=1e-5, rtol=0)


def test_a_films_mouth_at_rest_is_that_of_its_most_closed_frame(tmp_path):
    class Numbered(Film):
        def pictures(self):
            yield from (torch.full((96, 96, 3), 10 * number, dtype=torch.uint8) for number in range(4))

    points = canonical_face()[None].repeat(4, 1, 1) * 0.1 + 0.5
    points[:, 14, 1] += torch.tensor([0.03, 0.02, 0.0, 0.04])
    track = LandmarkTrack(points, torch.ones(4, dtype=torch.bool), Fraction(25), 96, 96)
    found = mouth_amount.resting_portrait(Numbered(tmp_path / "film.mp4", track))
    assert int(found.picture[0, 0, 0]) == 20 and torch.equal(found.landmarks.points[0], points[2])


def test_relative_motion_starts_at_the_portraits_own_keypoints(astronaut):
    model = Shifting()
    span = spans_of(model, astronaut, keypoints_of(3, shift=0.1), relative=True)
    assert torch.allclose(span.expression[0], own_motion(model, astronaut, 1).expression[0])
    assert torch.allclose(span.expression[2, :, 0] - span.expression[0, :, 0], torch.tensor(0.2), atol=1e-6)


@pytest.mark.parametrize(
    ("alpha", "text"),
    [(float("nan"), "alpha"), (2.5, "between 0 and 2"), ([(1.0, 0.5), (0.2, 1.0)], "order of time")],
)
def test_a_bad_alpha_is_refused_before_any_frame(astronaut, alpha, text):
    model = Shifting()
    with pytest.raises(InputError, match=text):
        next(ImplicitRenderer(model, alpha=alpha).render(RenderJob.of_track(astronaut, keypoints_of(2))))
    assert model.encoded == 0


# --- progress and cancelling


def test_progress_counts_hundredths_of_frames_to_the_end(astronaut):
    calls = []
    rendered(Shifting(), astronaut, keypoints_of(5), Callbacks(lambda done, total: calls.append((done, total))))
    assert calls[-1] == (5 * STEPS, 5 * STEPS)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_a_job_is_cancelled_within_a_frame(astronaut, monkeypatch):
    from portraittalk_core.renderers.implicit import interrupt

    monkeypatch.setattr(interrupt, "PERIOD_S", 0.0)
    model, retargeting = random_model(LAYOUT)
    seen = []

    def stop(done: int, _total: int) -> None:
        seen.append(done)
        if len(seen) == 12:
            raise KeyboardInterrupt

    renderer = ImplicitRenderer(model, retargeting, KeypointRenderOptions(batch_size=2))
    pictures = renderer.render(RenderJob.of_track(astronaut, keypoints_of(4)), Callbacks(stop))
    with pytest.raises(KeyboardInterrupt):
        list(pictures)
    assert len(seen) == 12 and seen[-1] == 0  # the first batch was not done
    assert not any(module._forward_pre_hooks for module in model.modules())


# --- films


@pytest.fixture(scope="module")
def film(astronaut, tmp_path_factory) -> Film:
    """Six frames, of which the third and fourth show nobody; the face stands a little elsewhere in each."""
    path = tmp_path_factory.mktemp("film") / "in.mp4"
    with VideoWriter(path, 512, 512, Fraction(10), crf=0) as writer:
        for number in range(6):
            turned = (
                torch.full_like(astronaut.picture, 80) if number in (2, 3) else astronaut.picture.roll(2 * number, 1)
            )
            writer.write(turned)
    points = torch.cat([astronaut.landmarks.points + torch.tensor([2 * n / 512, 0.0, 0.0]) for n in range(6)])
    valid = torch.tensor([True, True, False, False, True, True])
    return Film(path, LandmarkTrack(points, valid, 10, 512, 512))


def test_a_film_keeps_frames_without_a_face_and_what_is_far_from_it(film):
    filmed = list(film.pictures())
    model = Shifting()
    job = RenderJob.of_track(film, replace(keypoints_of(6, shift=0.05), fps=Fraction(10)))
    made = list(ImplicitRenderer(model, None, KeypointRenderOptions(batch_size=4)).render(job))
    assert len(made) == 6 and model.rendered == (2, 2)
    assert all(torch.equal(made[at], filmed[at]) for at in (2, 3))
    assert all(torch.equal(made[at][350:], filmed[at][350:]) for at in range(6))
    assert all(not torch.equal(made[at], filmed[at]) for at in (0, 1, 4, 5))


def test_a_driving_film_starts_at_the_portraits_own_keypoints(astronaut, film):
    model = Shifting()
    motion = ImplicitRenderer(model).motion_of(film, astronaut)
    own = own_motion(model, astronaut, 1)
    assert len(motion) == 6 and motion.layout == LAYOUT and motion.fps == 10
    assert torch.allclose(motion.expression[0], own.expression[0], atol=1e-6)
    assert motion.valid.tolist() == film.track.valid.tolist()


def test_a_films_crops_are_the_networks_size_where_they_are_wanted(film):
    job = RenderJob.of_track(film, replace(keypoints_of(6), fps=Fraction(10)))
    renderer = ImplicitRenderer(Shifting(), None, KeypointRenderOptions(paste="crop"))
    assert renderer.output_size(job) == (64, 64)
    assert [picture.shape for picture in renderer.render(job)] == [(64, 64, 3)] * 6


def test_a_film_that_begins_without_a_face_is_rendered(film):
    late = replace(film, track=replace(film.track, valid=torch.tensor([False, False, False, False, True, True])))
    job = RenderJob.of_track(late, replace(keypoints_of(6), fps=Fraction(10)))
    made = list(ImplicitRenderer(Shifting()).render(job))
    assert all(torch.equal(a, b) for a, b in zip(made[:4], list(film.pictures())[:4], strict=True))


def test_landmarks_of_a_film_move_the_expression_as_far_as_the_warp_shows(film, make_plan):
    """The stand-in measures brightness: of the warped frame it must be that of the warped frame's crop."""
    from portraittalk_core.renderers.implicit.crop import crop_of
    from portraittalk_core.renderers.warp.build import warped_pictures

    opened = film.track.points.clone()
    opened[:, [14, 87, 317, 178, 402, 17, 152], 1] += 0.03
    track = replace(film.track, points=torch.where(film.track.valid[:, None, None], opened, film.track.points))
    job = RenderJob.of_track(film, track)
    seen = []

    class Watching(Shifting):
        def render(self, features, source, driving):
            seen.append((source[:, 0, 0], driving[:, 0, 0]))
            return super().render(features, source, driving)

    model = Watching()
    made = list(ImplicitRenderer(model).render(job))
    assert len(made) == 6
    warped = list(warped_pictures(job))
    sources, driven = (torch.cat(values) for values in zip(*seen, strict=True))
    for number, at in enumerate((0, 1, 4, 5)):
        crop = crop_of(film.track.points_px[at], model.crop, 64)
        assert float(crop.take(warped[at]).mean()) == pytest.approx(float(driven[number]), abs=1e-5)
        assert float(sources[number]) != float(driven[number])


def test_lips_of_a_film_are_asked_for_by_their_opening(film):
    """The retargeting network gets the ratios of the filmed and of the wanted lips, and its answer moves the face."""
    from portraittalk_core.renderers.implicit.bridges import PUBLIC_RATIO

    opened = film.track.points.clone()
    opened[:, 14, 1] += 0.03
    track = replace(film.track, points=torch.where(film.track.valid[:, None, None], opened, film.track.points))

    def ratios(points):
        pixels = 512 * points[..., :2]
        gap = (pixels[:, 13] - pixels[:, 14]).norm(dim=1)
        return PUBLIC_RATIO * gap / (pixels[:, 61] - pixels[:, 291]).norm(dim=1)

    class Asked:
        now, then = (), ()

        def stitch(self, source, driving):
            return driving

        def lips(self, source, now, then):
            self.now, self.then = (*self.now, *now.tolist()), (*self.then, *then.tolist())
            return 0.1 * then[:, None, None].expand_as(source)

    seen = []

    class Watching(Shifting):
        def render(self, features, source, driving):
            seen.append((driving - source).mean((1, 2)))
            return super().render(features, source, driving)

    asked = Asked()
    renderer = ImplicitRenderer(Watching(), asked, KeypointRenderOptions(bridge="lips"))
    assert len(list(renderer.render(RenderJob.of_track(film, track)))) == 6
    seen_frames = film.track.valid.nonzero().flatten().tolist()
    assert asked.now == pytest.approx(ratios(film.track.points)[seen_frames].tolist(), rel=1e-4)
    assert asked.then == pytest.approx(ratios(track.points)[seen_frames].tolist(), rel=1e-4)
    assert torch.cat(seen).tolist() == pytest.approx([0.1 * then for then in asked.then], rel=1e-4)
