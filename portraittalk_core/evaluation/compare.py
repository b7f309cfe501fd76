"""Paired metrics: a generated video against its target, frame by frame.

Shapes: T frames of the comparison.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from ..face import topology as topo
from ..face.crop import resampled
from ..metrics.meter import FRAME_PAIRS, LANDMARK_PAIRS, SOURCE_FRAME_PAIRS, MetricContext
from .clip import EvaluationClip, TrackedClip
from .options import EvaluationOptions, FramePairing
from .reference_free import merged
from .result import WorstFrame
from .setup import NO_PICTURES, Setup
from .source import PictureSource, Steps, scaled_to
from .worst_frames import WorstFrames

CROP_PX = 256
OUTLIERS = 0.01  # share of frames whose face may stand out on each side of the crop
APART_S = 0.5  # between worst frames, that they do not show one moment
MOUTH_DISTANCE, SIMILARITY = "m_lmd_iod", "ssim"  # the metrics by which worst frames are chosen
Box = tuple[float, float, float, float]  # left, top, right, bottom, pixels


@dataclass(frozen=True)
class PairScores:
    """Paired metrics of two videos."""

    values: Mapping[str, float]
    missing: Mapping[str, str]
    curves: Mapping[str, Tensor]  # (T,) by the metrics' names
    num_with_face: int  # frames that show the face in both
    num_identical: int  # pairs of equal pictures
    size: tuple[int, int]  # width and height of the pictures that were compared
    worst: tuple[WorstFrame, ...]


def measure_pair(
    clips: tuple[EvaluationClip, EvaluationClip],
    tracked: tuple[TrackedClip, TrackedClip],
    pairing: FramePairing,
    crop: FaceCrop,
    setup: Setup,
    steps: Steps,
) -> PairScores:
    """Measure the metrics that need the target.

    Args:
        clips: generated and target.
        tracked: the same, both sampled at one rate.
        pairing: which of their frames belong together.
        crop: of `face_crop`.
        setup: what it is measured with.
        steps: counts the pairs of pictures.
    """
    generated, target = tracked
    context = MetricContext(generated.fps, (target.height, target.width), pairing.num_frames, crop.side_px)
    landmarks = setup.meters(LANDMARK_PAIRS, context, clips[0])
    starts = pairing.generated_start, pairing.target_start
    numbers = [torch.arange(start, start + pairing.num_frames) for start in starts]
    for pair in zip(generated.blocks(numbers[0]), target.blocks(numbers[1]), strict=True):
        landmarks.update(*pair)
    curves = landmarks.curves()
    unknown = torch.full((pairing.num_frames,), torch.nan)
    worst = WorstFrames(curves.get(MOUTH_DISTANCE, unknown), setup.options.num_worst, APART_S * float(generated.fps))
    frames, sources = (setup.meters(inputs, context, clips[0]) for inputs in (FRAME_PAIRS, SOURCE_FRAME_PAIRS))
    num_identical, size = 0, clips[1].size
    if any(clip.pictures is None for clip in clips):
        for meters in (frames, sources):
            meters.drop_all(NO_PICTURES)
    else:
        for k, pair in enumerate(steps.over(_picture_pairs(clips, generated.fps, pairing))):
            sources.update(*pair)
            a, b = crop.applied(*pair)
            num_identical, size = num_identical + torch.equal(a, b), (b.shape[1], b.shape[0])
            frames.update(a, b)
            worst.offer(k, frames.latest(SIMILARITY), a, b)
    values, missing = merged(*(meters.result() for meters in (landmarks, frames, sources)))
    both = generated.valid[numbers[0]] & target.valid[numbers[1]]
    return PairScores(
        values,
        missing,
        curves | frames.curves() | sources.curves(),
        int(both.sum()),
        num_identical,
        size,
        tuple(worst.frames(starts[0], float(generated.fps))),
    )


def _picture_pairs(
    clips: tuple[EvaluationClip, EvaluationClip], fps: Fraction, pairing: FramePairing
) -> Iterator[tuple[Tensor, Tensor]]:
    generated, target = (_from(clip.pictures, fps, start) for clip, start in
                  zip(clips, (pairing.generated_start, pairing.target_start), strict=True))  # fmt: skip
    return itertools.islice(zip(generated, target, strict=False), pairing.num_frames)


def _from(source: PictureSource, fps: Fraction, start: int) -> Iterator[Tensor]:
    return itertools.islice(source.read(fps), start, None)


@dataclass(frozen=True)
class FaceCrop:
    """Square around the target's face in all frames, and whether pictures are cropped to it."""

    square: Box | None  # None: the target shows no face
    cuts: bool

    @property
    def side_px(self) -> float | None:
        """Side of the square."""
        return None if self.square is None else self.square[2] - self.square[0]

    def applied(self, generated: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """A pair of pictures (H, W, 3) uint8 at the target's size, or cropped to the square and scaled to 256×256."""
        generated = scaled_to(generated, tuple(target.shape[:2]))
        if not self.cuts:
            return generated, target
        return tuple(resampled(picture, self.square, (CROP_PX, CROP_PX)) for picture in (generated, target))


def face_crop(target: TrackedClip, options: EvaluationOptions) -> FaceCrop:
    """Square around the target's face oval in all frames, with the options' margin."""
    valid_frames = target.valid.nonzero()[:, 0]
    if not len(valid_frames):
        return FaceCrop(None, cuts=False)
    low, high = [], []
    for track in target.blocks(valid_frames):
        oval = track.points_px[:, list(topo.FACE_OVAL), :2].double()
        low.append(oval.amin(1))
        high.append(oval.amax(1))
    low, high = torch.cat(low), torch.cat(high)
    minimum, maximum = torch.quantile(low, OUTLIERS, 0), torch.quantile(high, 1 - OUTLIERS, 0)
    face = float((high - low).amax(1).median())
    side = float((maximum - minimum).max()) + 2 * options.margin * face
    left_px, top_px = ((minimum + maximum) / 2 - side / 2).tolist()
    return FaceCrop((left_px, top_px, left_px + side, top_px + side), options.crop == "face")
