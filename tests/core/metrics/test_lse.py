import numpy as np
import pytest
import torch
from torch import nn

from portraittalk_core.errors import InputError
from portraittalk_core.metrics.cepstra import cepstra
from portraittalk_core.metrics.lse import LipSyncMeter, SyncScorer, lse, num_windows


def measured(lips, sound, part: int = 1000):
    meter = LipSyncMeter()
    for start in range(0, len(lips), part):
        meter.update(torch.as_tensor(lips[start : start + part]), torch.as_tensor(sound[start : start + part]))
    return meter.result()


def published(lips: np.ndarray, sound: np.ndarray) -> tuple[float, float, int, np.ndarray]:
    """SyncNet's arithmetic, one window and shift at a time."""
    padded = np.concatenate([np.zeros((15, sound.shape[1])), sound, np.zeros((15, sound.shape[1]))])
    means = np.zeros(31)
    for shift in range(31):
        apart = [np.sqrt(np.square(lips[i] - padded[i + shift] + 1e-6).sum()) for i in range(len(lips))]
        means[shift] = np.mean(apart)
    return means.min(), np.sort(means)[15] - means.min(), 15 - int(means.argmin()), means


def random(seed: int, count: int = 47) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)


def test_lse_finds_sound_rolled_by_two():
    lips = 3 * torch.eye(30)
    found = measured(lips, lips.roll(2, 0))
    assert found.offset == -2
    assert found.num_windows == 30
    # two windows lie beyond the end, where sound is zero: 3 each; the others fit
    assert found.distance == pytest.approx(2 * 3 / 30, abs=1e-4)


@pytest.mark.parametrize("late", [-15, -4, 0, 3, 15])
def test_lse_offset_follows_the_delay(late):
    lips = random(0, 80)
    found = measured(lips, np.roll(lips, late, 0))
    assert found.offset == -late


@pytest.mark.parametrize("count", [1, 5, 16, 47])
def test_lse_matches_the_published_arithmetic(count):
    lips, sound = random(1, count), random(2, count)
    distance, confidence, offset, means = published(lips, sound)
    found = measured(lips, sound)
    assert (found.distance, found.confidence) == pytest.approx((distance, confidence), abs=1e-5)
    assert found.offset == offset
    np.testing.assert_allclose(found.by_shift.numpy(), means, atol=1e-5)


@pytest.mark.parametrize("part", [1, 2, 7, 31])
def test_lse_in_parts_is_that_of_the_whole(part):
    lips, sound = random(3), random(4)
    whole, parts = measured(lips, sound), measured(lips, sound, part)
    torch.testing.assert_close(parts.by_shift, whole.by_shift)
    assert parts.num_windows == whole.num_windows == 47


def test_lse_meter_keeps_no_more_than_it_needs():
    meter = LipSyncMeter()
    for seed in range(20):
        meter.update(torch.from_numpy(random(seed)), torch.from_numpy(random(seed)))
        assert len(meter._lips) <= 15
        assert len(meter._sound) <= 31


def test_lse_gets_worse_with_noise():
    lips, noise = random(5, 80), random(6, 80)
    found = [measured(lips, lips + level * noise) for level in (0, 0.2, 0.5, 1)]
    assert [f.distance for f in found] == sorted(f.distance for f in found)
    assert [f.confidence for f in found] == sorted((f.confidence for f in found), reverse=True)


class Watcher(nn.Module):
    """Stands in for SyncNet: remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.none = nn.Parameter(torch.zeros(1))
        self.frames, self.columns = [], []

    def lips(self, frames):
        self.frames += list(frames)
        return frames.mean((2, 3, 4))

    def sound(self, columns):
        self.columns += list(columns)
        return columns.mean((1, 2))[:, :3]


def test_scorer_shows_the_network_windows_of_both():
    noise = np.random.default_rng(7)
    waveform = torch.from_numpy(noise.integers(-3000, 3000, 640 * 33) / 32768).float()
    frames = torch.zeros(35, 224, 224, 3, dtype=torch.uint8)
    frames[..., 0], frames[..., 2] = torch.arange(35, dtype=torch.uint8)[:, None, None], 200  # red counts, blue stays
    watcher, steps = Watcher(), []
    found = lse(frames, waveform, watcher, lambda *step: steps.append(step))
    assert found.num_windows == len(watcher.frames) == len(watcher.columns) == num_windows(35, 640 * 33) == 28
    assert steps[-1] == (35, 35)
    for i in (0, 19, 20, 27):
        assert watcher.frames[i].shape == (3, 5, 224, 224)
        assert watcher.frames[i][2, :, 0, 0].tolist() == list(range(i, i + 5))  # BGR: red comes last
        assert watcher.frames[i][0].unique().tolist() == [200]
        torch.testing.assert_close(watcher.columns[i][0], cepstra(waveform)[4 * i : 4 * i + 20].T.float())


def test_lse_rejects():
    with pytest.raises(InputError, match="too short for LSE"):
        SyncScorer(Watcher(), torch.zeros(640 * 5), 30)
    with pytest.raises(InputError, match="no window"):
        LipSyncMeter().result()
    with pytest.raises(InputError, match="must be as many"):
        measured(random(0), random(0)[:5])
    scorer = SyncScorer(Watcher(), torch.zeros(640 * 30), 30)
    scorer.update(torch.zeros(224, 224, 3, dtype=torch.uint8))
    with pytest.raises(InputError, match="25 windows of frames are missing"):
        scorer.result()
    with pytest.raises(InputError, match="face crop for SyncNet"):
        scorer.update(torch.zeros(96, 96, 3, dtype=torch.uint8))
