from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter1d

from portraittalk_core.errors import InputError
from portraittalk_core.face import topology as topo
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.crop import CropOptions, fit_track_to, plan_face_crop
from portraittalk_core.types import LandmarkTrack, as_fps

SIZE = (640, 360)


def track_at(*middles: tuple[float, float], side: float = 100.0, fps: int = 25, size=SIZE) -> LandmarkTrack:
    """The canonical face, its oval `side` pixels high, around each middle."""
    face = canonical_face()
    oval = face[list(topo.FACE_OVAL), :2]
    low, high = oval.amin(0), oval.amax(0)
    unit = torch.cat([face[:, :2] - (low + high) / 2, face[:, 2:]], 1) * (side / (high - low).max())
    moved = unit + torch.tensor([[x, y, 0.0] for x, y in middles])[:, None]
    return LandmarkTrack.from_px(moved.float(), *size, as_fps(fps))


def noise(width: int, height: int) -> torch.Tensor:
    return torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_a_head_that_hardly_moves_gets_one_box_that_holds_its_whole_path():
    generator = torch.Generator().manual_seed(1)
    middles = (torch.tensor([300.0, 170.0]) + 8 * torch.randn(50, 2, generator=generator)).tolist()
    plan = plan_face_crop(track_at(*middles))
    assert plan.is_fixed
    oval = plan.track_on_crop().points[:, list(topo.FACE_OVAL), :2]
    assert oval.min() > 0.1 and oval.max() < 0.9


def test_a_head_that_walks_away_is_followed_without_trembling():
    walk = np.linspace(100, 540, 100)
    trembling = walk + np.random.default_rng(0).normal(0, 1.5, 100)
    plan = plan_face_crop(track_at(*((x, 170.0) for x in trembling)))
    assert not plan.is_fixed
    left = plan.corners[:, 0].numpy()
    expected = gaussian_filter1d(trembling, 0.4 * 25, mode="nearest", truncate=3.0) - plan.side / 2
    assert np.abs(left - expected).max() < 0.05
    assert np.abs(np.diff(left, 2)).max() < 0.05 * np.abs(np.diff(trembling, 2)).max()
    oval = plan.track_on_crop().points[:, list(topo.FACE_OVAL), :2]
    assert oval.min() > 0 and oval.max() < 1


def test_a_box_jumps_with_a_cut_and_stands_still_before_and_after():
    plan = plan_face_crop(track_at(*[(120.0, 170.0)] * 40, *[(500.0, 170.0)] * 40))
    left = plan.corners[:, 0]
    assert torch.allclose(left[:40], left[0]) and torch.allclose(left[40:], left[0] + 380)


def test_a_fast_head_does_not_leave_the_box():
    sway = [(320 + 200 * float(np.sin(i / 7)), 170.0) for i in range(100)]  # a face's width in 4 frames
    oval = plan_face_crop(track_at(*sway)).track_on_crop().points[:, list(topo.FACE_OVAL), 0]
    assert oval.min() > 0 and oval.max() < 1


@pytest.mark.parametrize(("box", "is_fixed"), [("fixed", True), ("follow", False)])
def test_a_person_may_choose_the_box(box, is_fixed):
    plan = plan_face_crop(track_at((200.0, 170.0), (206.0, 170.0)), CropOptions(box=box))
    assert plan.is_fixed is is_fixed


def test_margin_is_the_room_beside_the_face():
    track = track_at((300.0, 170.0))
    for margin in (0.0, 0.25, 1.0):
        assert plan_face_crop(track, CropOptions(margin)).side == pytest.approx(100 * (1 + 2 * margin), rel=1e-4)


def test_crop_matches_pillow_at_a_fraction_of_a_pixel():
    picture, plan = noise(*SIZE), plan_face_crop(track_at((300.3, 180.7), side=90.4))
    box = plan.box(0)
    edges = (box.left, box.top, box.left + box.side, box.top + box.side)
    for size in (512, 64):  # larger and smaller than the box
        expected = Image.fromarray(picture.numpy()).resize((size, size), Image.Resampling.BICUBIC, edges)
        apart = plan.crop(picture, size=size).int() - torch.from_numpy(np.asarray(expected).astype(np.int32))
        assert apart.abs().max() <= 1


def test_beyond_the_border_its_pixels_repeat():
    picture, plan = noise(*SIZE), plan_face_crop(track_at((10.0, 10.0)))
    box = plan.box(0)
    assert box.left < 0 and box.top < 0
    far = 200
    padded = np.pad(picture.numpy(), ((far, far), (far, far), (0, 0)), mode="edge")
    edges = [v + far for v in (box.left, box.top, box.left + box.side, box.top + box.side)]
    expected = Image.fromarray(padded).resize((512, 512), Image.Resampling.BICUBIC, edges)
    assert (plan.crop(picture).int() - torch.from_numpy(np.asarray(expected).astype(np.int32))).abs().max() <= 1


def test_landmarks_point_at_the_same_spot_of_the_crop():
    picture = torch.zeros(360, 640, 3, dtype=torch.uint8)
    track = track_at((300.0, 180.0))
    x, y = track.points_px[0, topo.NOSE_TIP, :2].long().tolist()
    picture[y - 1 : y + 2, x - 1 : x + 2] = 255
    plan = plan_face_crop(track)
    on_crop = plan.track_on_crop()
    lit = (plan.crop(picture)[..., 0] > 127).nonzero().float().mean(0).flip(0) + 0.5
    pixel = torch.tensor([x + 0.5, y + 0.5]) - track.points_px[0, topo.NOSE_TIP, :2]
    assert (on_crop.width, on_crop.height) == (512, 512)
    assert (lit - on_crop.points_px[0, topo.NOSE_TIP, :2] - pixel * 512 / plan.side).abs().max() < 0.6


def test_one_frame_of_landmarks_serves_all_pictures():
    plan = plan_face_crop(track_at((300.0, 180.0)))
    assert torch.equal(plan.crop(noise(*SIZE), 7), plan.crop(noise(*SIZE), 0))


def test_a_stray_frame_does_not_widen_the_box_of_a_long_video():
    points = track_at(*[(300.0, 170.0)] * 300).points.clone()
    points[150] = points[150] * 3 - 1
    track = replace(track_at((300.0, 170.0)), points=points, valid=torch.ones(300, dtype=torch.bool))
    assert plan_face_crop(track).side == pytest.approx(180, rel=0.02)


def test_track_is_fitted_to_the_picture_at_another_size():
    assert fit_track_to(track_at((300.0, 170.0)), 1280, 720).points_px[0, 1, 0] == pytest.approx(600, abs=30)
    with pytest.raises(InputError, match="640×360, this one is 512×512"):
        fit_track_to(track_at((300.0, 170.0)), 512, 512)


def test_crop_rejects_what_does_not_fit():
    plan = plan_face_crop(track_at((300.0, 170.0), (310.0, 170.0)))
    with pytest.raises(InputError, match="320×180 pixels, the crop was planned for 640×360"):
        plan.crop(noise(320, 180))
    with pytest.raises(InputError, match="frame 2 is beyond the 2 frames"):
        plan.crop(noise(*SIZE), 2)
    with pytest.raises(InputError, match="4 pixels large"):
        plan_face_crop(track_at((300.0, 170.0), side=4))
    with pytest.raises(InputError, match="cannot be cropped"):
        plan_face_crop(track_at((300.0, 170.0), (90_000.0, 170.0)), CropOptions(box="fixed"))
    with pytest.raises(InputError, match="margin"):
        CropOptions(margin=float("nan"))
    with pytest.raises(InputError, match="auto, fixed, follow"):
        CropOptions(box="steady")
