import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from portraittalk_core.errors import InputError
from portraittalk_core.face import topology as topo
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.geometry import mouth_open, rotation_matrix
from portraittalk_core.face.identity.embedding import FaceEmbedding
from portraittalk_core.metrics.blinks import blinks
from portraittalk_core.metrics.flicker import FlickerMeter, flicker
from portraittalk_core.metrics.head_motion import head_motion
from portraittalk_core.metrics.identity_similarity import identity_similarity
from portraittalk_core.metrics.jitter import JitterMeter, jitter
from portraittalk_core.metrics.mouth_correlation import mouth_correlation
from portraittalk_core.style.statistics import measure_statistics
from portraittalk_core.types import STYLE_STATISTICS, LandmarkTrack

FPS, COUNT, PX = Fraction(25), 300, 100.0
TIMES = torch.arange(COUNT) / 25


def mesh_px(change=None) -> torch.Tensor:
    """(T, 478, 3) a plain face, 100 px a unit, to which `change(points)` is done."""
    face = canonical_face()
    points = torch.cat([face, face[:1].expand(478 - len(face), -1)])[None].repeat(COUNT, 1, 1)
    return PX * (points if change is None else change(points)) + torch.tensor([256.0, 256, 0])


def track(change=None, valid=None) -> LandmarkTrack:
    return LandmarkTrack.from_px(mesh_px(change), 512, 512, FPS, valid)


def eyes_apart(points_px: torch.Tensor) -> float:
    points = points_px.double().numpy()[:, :, :2]
    right, left = (points[:, list(c)].mean(1) for c in (topo.RIGHT_EYE_CORNERS, topo.LEFT_EYE_CORNERS))
    return float(np.linalg.norm(right - left, axis=1).mean())


# --- jitter


def test_jitter_of_a_gliding_face_is_zero():
    glide = mesh_px() + torch.stack([3 * TIMES * 25, -TIMES * 25, 0 * TIMES], 1)[:, None]
    assert jitter(glide) == pytest.approx(0, abs=1e-3)
    assert jitter(glide, without_head=True) == pytest.approx(0, abs=1e-3)


def test_jitter_of_a_shaking_face_is_its_acceleration():
    shaking = mesh_px()
    shaking[1::2, :, 0] += 2.0  # −2, +2, …: bends of 4 px
    assert jitter(shaking) == pytest.approx(100 * 4 / eyes_apart(shaking), rel=1e-5)
    assert jitter(shaking, without_head=True) == pytest.approx(0, abs=1e-3)  # the whole head shakes


@pytest.mark.parametrize("without_head", [False, True])
def test_jitter_grows_with_noise(without_head):
    noise = torch.randn(COUNT, 478, 3, generator=torch.Generator().manual_seed(0))
    found = [jitter(mesh_px() + level * noise, without_head=without_head) for level in (0, 0.3, 1, 3)]
    assert found[0] < 1e-3
    assert found == sorted(set(found))


def test_jitter_of_noise_matches_numpy():
    noisy = mesh_px() + torch.randn(COUNT, 478, 3, generator=torch.Generator().manual_seed(1))
    places = noisy.double().numpy()[:, list(topo.RIGID), :2]
    bend = np.linalg.norm(np.diff(places, 2, axis=0), axis=2).mean()
    assert jitter(noisy) == pytest.approx(100 * bend / eyes_apart(noisy), rel=1e-9)


def test_jitter_is_free_of_size_and_ignores_a_talking_mouth():
    noisy = mesh_px() + torch.randn(COUNT, 478, 3, generator=torch.Generator().manual_seed(1))
    talking = noisy.clone()
    talking[::2, list(topo.LIPS), 1] += 9
    assert jitter(3 * noisy) == pytest.approx(jitter(noisy), rel=1e-6)
    assert jitter(talking) == jitter(noisy)
    assert jitter(3 * noisy, without_head=True) == pytest.approx(jitter(noisy, without_head=True), rel=1e-4)


def test_jitter_in_parts_is_that_of_the_whole_and_skips_gaps():
    noisy = mesh_px() + torch.randn(COUNT, 478, 3, generator=torch.Generator().manual_seed(2))
    valid = torch.ones(COUNT, dtype=torch.bool)
    valid[[50, 120, 121]] = False
    wild = noisy.clone()
    wild[~valid] = torch.nan
    meter, start = JitterMeter(), 0
    for size in (1, 1, 2, 60, 100, 136):
        meter.update(wild[start : start + size], valid[start : start + size])
        start += size
    assert meter.result() == pytest.approx(jitter(wild, valid), rel=1e-12)
    assert meter.num_frames == COUNT - 2 - 3 - 4


@pytest.mark.parametrize(
    ("points", "valid", "message"),
    [
        (mesh_px()[:2], None, "three|3 frames in a row"),
        (mesh_px(), torch.arange(COUNT) % 3 > 0, "3 frames in a row"),
        (mesh_px()[:, :68], None, "68 were given"),
        (mesh_px() * torch.nan, None, "NaN"),
        (mesh_px(), torch.ones(3, dtype=torch.bool), "bool flags"),
    ],
)
def test_jitter_rejects(points, valid, message):
    with pytest.raises(InputError, match=message):
        jitter(points, valid)


# --- flicker


def clip(seed: int, count: int = 6) -> torch.Tensor:
    return torch.randint(40, 200, (count, 12, 10, 3), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def test_flicker_of_a_still_target_is_the_mean_change():
    generated, still = clip(0), clip(1)[:1].expand(6, -1, -1, -1)
    expected = np.abs(np.diff(generated.numpy().astype(int), axis=0)).mean()
    assert flicker(generated, still) == pytest.approx(expected, rel=1e-12)


def test_flicker_looks_only_where_the_target_is_still():
    target = clip(1)[:1].repeat(6, 1, 1, 1)
    target[1::2, :6, :, 1] += 3  # the upper half moves in one channel, by more than 2 levels
    target[1::2, 6:, :, 2] += 2  # the lower half by no more than compression does
    generated = target.clone()
    generated[1::2, :6] = 0
    generated[1::2, 6:, :, 0] += 30
    assert flicker(generated, target) == pytest.approx((30 + 2) / 3)
    meter = FlickerMeter()
    steps = [meter.update(a, b) for a, b in zip(generated, target, strict=True)]
    assert steps[0] is None and steps[1:] == pytest.approx([32 / 3] * 5)


def test_flicker_grows_with_noise():
    still = clip(1)[:1].repeat(6, 1, 1, 1)
    noise = torch.randn(still.shape, generator=torch.Generator().manual_seed(3))
    found = [flicker((still + level * noise).round().clamp(0, 255).byte(), still) for level in (0, 1, 3, 10)]
    assert found[0] == 0
    assert found == sorted(set(found))


def test_flicker_rejects():
    with pytest.raises(InputError, match="stands still"):
        flicker(clip(0), clip(1) // 2 + torch.arange(6, dtype=torch.uint8)[:, None, None, None] * 20)
    with pytest.raises(InputError, match="two frames"):
        flicker(clip(0)[:1], clip(1)[:1])
    with pytest.raises(InputError, match="cannot be compared"):
        flicker(clip(0), clip(1)[:, :5])


# --- identity


def test_identity_similarity_matches_numpy():
    a, b = np.random.default_rng(0).normal(size=(2, 5, 512))
    expected = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    found = identity_similarity(torch.from_numpy(a), torch.from_numpy(b))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)
    torch.testing.assert_close(identity_similarity(torch.from_numpy(b), torch.from_numpy(a)), found)
    one = identity_similarity(torch.from_numpy(a), torch.from_numpy(b[2]))
    assert float(one[2]) == pytest.approx(expected[2])


def test_identity_similarity_of_oneself_opposite_and_stranger():
    face = torch.zeros(3, 512)
    face[0, 0], face[1, 0], face[2, 1] = 2.0, -5.0, 1.0
    assert identity_similarity(face, face[0]).tolist() == [1, -1, 0]
    person = FaceEmbedding(torch.eye(512)[:2])  # two pictures: the mean lies at 45°
    assert identity_similarity(face, person).tolist() == pytest.approx([0.5**0.5, -(0.5**0.5), 0.5**0.5])


@pytest.mark.parametrize(
    ("generated", "reference", "message"),
    [
        (torch.ones(3, 512), torch.ones(2, 512), "3 generated faces.*2 of the reference"),
        (torch.ones(3, 100), torch.ones(100), "must have shape"),
        (torch.ones(3, 128), torch.ones(512), "128 and 512 numbers are of two networks"),
        (torch.zeros(3, 512), torch.ones(512), "all zeros"),
        (torch.full((3, 512), math.nan), torch.ones(512), "NaN"),
    ],
)
def test_identity_similarity_rejects(generated, reference, message):
    with pytest.raises(InputError, match=message):
        identity_similarity(generated, reference)


# --- mouth


def talking(late: int = 0):
    gap = 0.1 * torch.from_numpy(np.abs(np.random.default_rng(4).normal(size=COUNT + 20))).float()

    def change(points):
        points[:, 14, 1] += gap[10 - late : 10 - late + COUNT]
        return points

    return track(change)


def test_mouth_correlation_is_numpys_of_the_gaps():
    a, b = talking(), talking(1)
    expected = np.corrcoef(mouth_open(a), mouth_open(b))[0, 1]
    found = mouth_correlation(a, b)
    assert found.r_zero == pytest.approx(expected, abs=1e-5)
    assert found.lag == 1 and found.r_best == pytest.approx(1, abs=1e-4)
    assert mouth_correlation(a, a).r_zero == pytest.approx(1)
    assert mouth_correlation(b, a).r_zero == pytest.approx(found.r_zero)
    with pytest.raises(InputError, match="cut and resample"):
        mouth_correlation(a, b.slice(0, 100))


# --- blinks and head


def blinking(points):
    shut = ((TIMES % 3.0) < 0.2)[:, None]
    for upper, lower in ((159, 145), (386, 374)):
        points[:, upper] = torch.where(shut, points[:, lower], points[:, upper])
    return points


def test_blinks_are_counted_and_timed():
    found = blinks(track(blinking))
    assert found.count == 4
    assert found.per_minute == pytest.approx(4 / 12 * 60)
    assert found.median_s == pytest.approx(0.2)
    assert blinks(track()).count == 0 and blinks(track()).median_s is None
    with pytest.raises(InputError, match="no frame"):
        blinks(track(None, torch.zeros(COUNT, dtype=torch.bool)))


def rolling(points):
    angles = torch.zeros(COUNT, 3)
    angles[:, 2] = 5 * torch.sin(2 * math.pi * 0.5 * TIMES)  # rolls, so that no perspective enters
    return points @ rotation_matrix(angles).transpose(1, 2)


def test_head_motion_of_a_sine():
    found = head_motion(track(rolling))
    assert found.std_deg[2] == pytest.approx(5 / math.sqrt(2), rel=0.08)  # smoothing takes some
    assert max(found.std_deg[:2]) < 0.1
    assert found.overall_std_deg == pytest.approx(5 / math.sqrt(6), rel=0.08)
    assert found.mean_speed_deg_s == pytest.approx(4 * 5 * 0.5, rel=0.1)  # four amplitudes a period
    assert found.beat_hz == pytest.approx(0.5, rel=0.1)
    still = head_motion(track())
    assert (still.overall_std_deg, still.mean_speed_deg_s) == pytest.approx((0, 0), abs=1e-2)
    with pytest.raises(InputError, match="2 show one"):
        head_motion(track(rolling).slice(0, 2))


def test_blinks_and_head_are_those_of_the_manner():
    lively = track(lambda points: rolling(blinking(points)))
    style_statistics = dict(zip(STYLE_STATISTICS, measure_statistics(lively, window_s=60)[0].tolist(), strict=True))
    found, head = blinks(lively), head_motion(lively)
    assert (found.per_minute, found.median_s) == pytest.approx(
        (style_statistics["blink_rate"], style_statistics["blink_s"]), rel=1e-5
    )
    assert (head.overall_std_deg, head.beat_hz) == pytest.approx(
        (style_statistics["head_deg"], style_statistics["head_hz"]), rel=1e-5
    )
