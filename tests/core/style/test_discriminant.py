"""The discriminant extractor: statistics against numpy's and scipy's, and what must not count does not."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from portraittalk_core.errors import InputError
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.style.discriminant import (
    NUM_STATISTICS,
    DiscriminantNet,
    DiscriminantSizes,
    motion_of,
    motion_statistics,
    smoothing,
    window_starts,
)
from portraittalk_core.style.extractor import StyleExtractor, load_extractor, save_extractor
from portraittalk_core.style.reference import Reference, style_of
from portraittalk_core.types import LandmarkTrack, Speech


def talking(seconds: float, swing: float = 0.1) -> LandmarkTrack:
    """A plain face whose lower lip goes down and up twice a second."""
    points = canonical_face()
    points = torch.cat([points, points[:1].expand(478 - len(points), -1)])[None].repeat(round(25 * seconds), 1, 1)
    points[:, 14, 1] += swing / 2 * (1 - torch.cos(4 * math.pi * torch.arange(len(points)) / 25))
    return LandmarkTrack.from_px(100 * points + torch.tensor([256.0, 256, 0]), 512, 512, 25)


def waves(seed: int = 0, count: int = 64) -> torch.Tensor:
    """(1, N, 23) smooth curves of random size about random rests."""
    rng = np.random.default_rng(seed)
    curves = gaussian_filter1d(rng.normal(size=(count, 23)), 2, axis=0) * rng.uniform(0.3, 3, 23) + rng.normal(size=23)
    return torch.from_numpy(curves).float()[None]


def test_smoothing_is_a_gaussian_filter_inside_and_keeps_a_constant():
    kernel = smoothing(64, 1.5)
    torch.testing.assert_close(kernel @ torch.ones(64, 1), torch.ones(64, 1))
    curve = np.random.default_rng(0).normal(size=64)
    expected = gaussian_filter1d(curve, 1.5, truncate=8)[14:-14]
    np.testing.assert_allclose((kernel.double().numpy() @ curve)[14:-14], expected, atol=1e-5)


def test_statistics_are_those_of_numpy():
    motion = waves()
    curves = motion[0].double().numpy()
    kernels = [smoothing(64, sigma).double().numpy() for sigma in (1, 2)]
    smooth = np.concatenate([kernels[0] @ curves[:, :20], kernels[1] @ curves[:, 20:]], 1)
    median = np.sort(smooth, 0)[31]  # PyTorch's is the lower one of two
    low, high = np.quantile(smooth - median, [0.05, 0.95], axis=0)
    expected = [np.log(smooth.std(0) + 0.02), np.log(np.diff(smooth, axis=0).std(0) + 0.01)]
    expected.append((high + low) / (high - low + 0.05))
    for values, noise in ((smooth, 0.05), (np.diff(smooth, axis=0), 0.02)):
        damping = values.std(0)[:20] / (values.std(0)[:20] + noise)
        correlations = np.corrcoef(values[:, :20].T) * np.outer(damping, damping)
        expected.append(correlations[np.triu_indices(20, 1)])
    found = motion_statistics(motion)[0].numpy()
    assert len(found) == NUM_STATISTICS == 449
    np.testing.assert_allclose(found, np.concatenate(expected), atol=1e-4)


def test_where_a_face_rests_does_not_count_and_how_far_it_moves_does():
    motion = waves(1)
    rest = torch.randn(1, 1, 23, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(motion_statistics(motion + rest), motion_statistics(motion), atol=1e-4, rtol=0)
    larger = motion.clone()
    larger[..., 3] *= 2
    change = (motion_statistics(larger) - motion_statistics(motion))[0]
    assert float(change[3]) == pytest.approx(math.log(2), abs=0.1)
    assert float(change[[0, 1, 2, 4, 22, 23, 45]].abs().max()) < 1e-6


@pytest.mark.parametrize(("count", "size"), [(25, 64), (64, 64), (65, 64), (96, 64), (200, 64), (256, 25)])
def test_windows_overlap_by_half_and_reach_both_ends(count, size):
    starts = window_starts(count, size)
    assert starts[0] == 0 and starts[-1] + size >= count and starts[-1] <= max(count - size, 0)
    assert all(later - earlier <= size / 2 + 1 for earlier, later in zip(starts, starts[1:], strict=False))


def network() -> DiscriminantNet:
    torch.manual_seed(0)
    return DiscriminantNet(DiscriminantSizes(width=8, window=40)).eval().requires_grad_(False)


def test_style_is_mean_and_variance_of_windows():
    net, features = network(), torch.randn(2, 100, 23) / 10
    net.centre.fill_(0.5)
    net.scale.fill_(2.0)
    mean, variance = net(None, features)
    motion = motion_of(features)
    windows = [motion_statistics(motion[:, start : start + 40]) for start in (0, 20, 40, 60)]
    styles = torch.stack([(window - 0.5) / 2 @ net.project.weight.T for window in windows])
    torch.testing.assert_close(mean, styles.mean(0))
    torch.testing.assert_close(variance, styles.var(0, correction=0))


def test_angles_are_the_sums_of_turns():
    features = torch.zeros(1, 5, 23)
    features[0, 1:, 21] = 1.0  # 30 degrees a second
    assert motion_of(features)[0, :, 21].tolist() == pytest.approx([0, 0.12, 0.24, 0.36, 0.48])


def test_a_file_comes_back_and_says_what_it_is(tmp_path):
    made = StyleExtractor(network(), torch.rand(8))
    back = load_extractor(save_extractor(made, tmp_path / "a.safetensors"))
    assert back.sizes == made.sizes and not back.hears
    torch.testing.assert_close(back.network.project.weight, made.network.project.weight, rtol=1e-3, atol=1e-6)
    for changes, message in (({"width": 0}, "width must be"), ({"audio": "log-mel"}, "looks at landmarks alone")):
        with pytest.raises(InputError, match=message):
            replace(made.sizes, **changes)


def test_frames_without_the_face_do_not_count():
    """Held landmarks would be a face that sometimes freezes."""
    track = talking(8)
    points, valid = track.points.clone(), torch.ones(200, dtype=torch.bool)
    valid[50:100] = False  # two whole seconds: four movements of the mouth
    points[50:100] = points[49]
    held = LandmarkTrack(points, valid, track.fps, track.width, track.height)
    cut = replace(track, points=track.points[valid], valid=torch.ones(150, dtype=torch.bool))
    frozen = replace(held, valid=torch.ones_like(valid))
    styles = [style_of(Reference((t,)), extractor=load_extractor()).mean for t in (cut, held, frozen)]
    torch.testing.assert_close(styles[1], styles[0], rtol=0, atol=1e-3)
    assert float((styles[2] - styles[0]).norm()) > 0.5  # what they would add


def test_built_in_extractor_takes_no_notice_of_size_and_place_and_sees_alone():
    extractor, track = load_extractor(), talking(3)
    here = style_of(Reference((track,)), extractor=extractor)
    points = 2.5 * track.points_px + torch.tensor([300.0, 100, 0])
    there = style_of(Reference((LandmarkTrack.from_px(points, 4000, 3000, track.fps),)), extractor=extractor)
    torch.testing.assert_close(there.mean, here.mean, rtol=0, atol=0.05)
    other = style_of(Reference((talking(3, 0.02),)), extractor=extractor)
    assert float((other.mean - here.mean).norm()) > 3 and len(here) == 128
    sound = Speech(torch.rand(48000) - 0.5, "voice.wav")
    torch.testing.assert_close(style_of(Reference((track,), (sound,)), extractor=extractor).mean, here.mean)
    with pytest.raises(InputError, match="the built-in style extractor sees and does not hear, and voice.wav shows no"):
        style_of(Reference((), (sound,), "voice.wav"), extractor=extractor)
