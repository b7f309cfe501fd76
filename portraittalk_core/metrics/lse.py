"""LSE-D, LSE-C and offset: lip-sync errors by SyncNet's features of lips and sound.

Shapes: T frames, W windows (of five frames), N samples, D features.
Source: Chung and Zisserman 2016, "Out of time"; Prajwal et al. 2020, section 4.2, for the names.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import check_finite, check_range, check_shape
from ..errors import InputError
from ..progress import Progress
from .cepstra import cepstra
from .meter import Meter, MetricContext
from .networks.syncnet import CROP_PX, NUM_COLUMNS, NUM_FRAMES, SyncNet

FPS, SAMPLES_A_FRAME, COLUMNS_A_FRAME = 25, 640, 4
MAX_SHIFT = 15  # windows of 40 ms, both ways
BATCH = 20  # windows at a time
EPSILON = 1e-6  # torch's pairwise distance adds it to each difference


@dataclass(frozen=True)
class LipSync:
    """SyncNet's distance, confidence and offset of one face and one sound."""

    distance: float  # LSE-D, ≥ 0, lower is better
    confidence: float  # LSE-C, ≥ 0, higher is better
    offset: int  # −15..15 frames of 40 ms; negative: the match lies later in the sound
    num_windows: int
    by_shift: Tensor  # (31,) mean distances, sound shifted from −15 to 15


class LipSyncMeter:
    """Distances of lips and sound at 31 shifts, from features that come in parts; memory stays the same.

    Beyond both ends of the sound, features are zeros, as in SyncNet's own code: short clips suffer from that.

    Args:
        max_shift: windows, both ways.
    """

    def __init__(self, max_shift: int = MAX_SHIFT) -> None:
        self.max_shift = int(check_range(max_shift, 1, 1000, "max_shift"))
        self.num_windows = 0
        self._sums = torch.zeros(2 * self.max_shift + 1, dtype=torch.float64)
        self._lips: Tensor | None = None  # that still wait for later sound
        self._sound: Tensor | None = None  # from max_shift windows before the first of them

    def update(self, lips: Tensor, sound: Tensor) -> None:
        """Add the next windows of both.

        Args:
            lips: (W, D).
            sound: (W, D).

        Raises:
            InputError: of different shapes, or values that are not numbers.
        """
        for name, features in (("lip features", lips), ("sound features", sound)):
            check_finite(check_shape(features, "W D", name), name)
        if lips.shape != sound.shape:
            raise InputError(f"features of lips {tuple(lips.shape)} and sound {tuple(sound.shape)} must be as many.")
        lips, sound = lips.detach().float().cpu(), sound.detach().float().cpu()
        if self._lips is None:
            self._lips, self._sound = lips[:0], lips.new_zeros(self.max_shift, lips.shape[1])
        self._lips, self._sound = torch.cat([self._lips, lips]), torch.cat([self._sound, sound])
        self._take(len(self._sound) - 2 * self.max_shift)

    def result(self) -> LipSync:
        """The result over all windows; no update is possible afterwards.

        Raises:
            InputError: there was no window.
        """
        if self._lips is not None and len(self._lips):
            self._sound = torch.cat([self._sound, self._sound.new_zeros(self.max_shift, self._sound.shape[1])])
            self._take(len(self._lips))
        if not self.num_windows:
            raise InputError("there is no window of lips and sound to compare; five frames and their sound are needed.")
        means = self._sums / self.num_windows
        minimum, at = means.min(0)
        return LipSync(
            float(minimum), float(means.median() - minimum), self.max_shift - int(at), self.num_windows, means.clone()
        )

    def _take(self, count: int) -> None:
        """Add the distances of the first windows, whose later sound is available."""
        if count <= 0:
            return
        shifts = 2 * self.max_shift + 1
        for start in range(0, count, BATCH):
            stop = min(start + BATCH, count)
            around = self._sound[start : stop + shifts - 1].unfold(0, shifts, 1)  # (W, D, shifts)
            difference = self._lips[start:stop, :, None] - around + EPSILON
            self._sums += difference.norm(dim=1).double().sum(0)
        self.num_windows += count
        self._lips, self._sound = self._lips[count:], self._sound[count:]


def num_windows(num_frames: int, num_samples: int) -> int:
    """How many windows SyncNet's code compares: as many as both have, less five."""
    return max(0, min(num_frames, num_samples // SAMPLES_A_FRAME) - NUM_FRAMES)


class SyncScorer:
    """Frames of a face crop and their sound to LSE, one frame after the other.

    Args:
        network: with its weights, on its device.
        waveform: (N,) at 16 kHz, −1..1.
        num_frames: of the video at 25 fps, so that it is known where the last window is.
    """

    def __init__(self, network: SyncNet, waveform: Tensor, num_frames: int) -> None:
        self.network, self.meter = network, LipSyncMeter()
        self._columns = cepstra(waveform).float().T  # (13, M)
        self._num_open = num_windows(num_frames, len(waveform))
        if not self._num_open:
            raise InputError(
                f"{num_frames} frames and {len(waveform) / SAMPLES_A_FRAME:.1f} frames' worth of sound are too short "
                f"for LSE; {NUM_FRAMES + 1} of both are needed."
            )
        self._frames: list[Tensor] = []
        self._next = 0  # window

    def update(self, picture: Tensor) -> None:
        """Add the next frame, (224, 224, 3) uint8 RGB of the face crop."""
        check_shape(picture, f"{CROP_PX} {CROP_PX} 3", "the face crop for SyncNet")
        if self._num_open:
            self._frames.append(picture.flip(2).permute(2, 0, 1).float())  # RGB to BGR
            if len(self._frames) == BATCH + NUM_FRAMES - 1:
                self._take()

    def result(self) -> LipSync:
        """The result over all windows.

        Raises:
            InputError: fewer frames came than were announced.
        """
        if len(self._frames) >= NUM_FRAMES:
            self._take()
        if self._num_open:
            raise InputError(f"{self._num_open} windows of frames are missing: the video ended before it was to.")
        return self.meter.result()

    @torch.no_grad()
    def _take(self) -> None:
        count = min(len(self._frames) - NUM_FRAMES + 1, self._num_open)
        device = next(self.network.parameters()).device
        if count > 0:
            lips = torch.stack([torch.stack(self._frames[i : i + NUM_FRAMES], 1) for i in range(count)])
            starts = range(COLUMNS_A_FRAME * self._next, COLUMNS_A_FRAME * (self._next + count), COLUMNS_A_FRAME)
            sound = torch.stack([self._columns[None, :, s : s + NUM_COLUMNS] for s in starts])
            self.meter.update(self.network.lips(lips.to(device)), self.network.sound(sound.to(device)))
        self._next, self._num_open, self._frames = self._next + count, self._num_open - count, self._frames[count:]


def lse(frames: Tensor, waveform: Tensor, network: SyncNet, on_progress: Progress | None = None) -> LipSync:
    """LSE of a whole clip in memory; longer ones go through `SyncScorer`.

    Args:
        frames: (T, 224, 224, 3) uint8 RGB, the face crop at 25 fps.
        waveform: (N,) at 16 kHz, −1..1.
        network: with its weights.
        on_progress: called with frames done and in all.

    Raises:
        InputError: fewer than six frames or their sound.
    """
    scorer = SyncScorer(network, waveform, len(frames))
    for number, frame in enumerate(frames, 1):
        scorer.update(frame)
        if on_progress:
            on_progress(number, len(frames))
    return scorer.result()


class CropsLse(Meter):
    """LSE-D, LSE-C and the offset of a video's face crops and its own sound."""

    def __init__(self, context: MetricContext) -> None:
        self._scorer = SyncScorer(context.network, context.waveform(), context.num_frames)

    def update(self, picture: Tensor) -> None:
        """Add the next crop."""
        self._scorer.update(picture)

    def result(self) -> dict[str, float]:
        """The registry's three numbers."""
        result = self._scorer.result()
        return {"lse_d": result.distance, "lse_c": result.confidence, "av_offset": float(result.offset)}
