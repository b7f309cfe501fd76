"""The metrics whose networks people fetch themselves: LPIPS, FID, FVD and LSE, or what is missing for them.

Shapes: T frames.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError, MissingDependency
from ..face.crop import resampled
from ..metrics.fid import FidMeter
from ..metrics.files import find_metric_files
from ..metrics.frame_mean import FrameMean
from ..metrics.fvd import ClipFeatures, fvd
from ..metrics.lpips import Lpips, lpips
from ..metrics.lse import SyncScorer
from ..metrics.networks import load
from ..metrics.packages import TORCHMETRICS, found_packages
from ..metrics.registry import ALEXNET, I3D, INCEPTION, LPIPS_HEADS, METRICS, NEEDS, SPEECH, SYNCNET, TARGET
from .clip import FollowedClip, ScoredClip

SYNC_FPS, SYNC_PX = Fraction(25), 224
MEDIAN = 13  # frames over which the face's box is smoothed, as in SyncNet's own code
ROOM = 0.4  # of the box's half side, beyond it
PICTURE_METRICS = ("lpips", "fid", "fvd")
SYNC_METRICS = ("lse_d", "lse_c", "av_offset")
Measured = tuple[dict[str, float], dict[str, str]]


@dataclass(frozen=True)
class Networks:
    """What of the four is there."""

    lpips: Lpips | None = None
    inception: nn.Module | None = None
    i3d: nn.Module | None = None
    syncnet: nn.Module | None = None
    roles: frozenset[str] = field(default_factory=frozenset)  # what was found, as `registry.NEEDS` calls it
    files: tuple[tuple[str, int], ...] = ()  # names and sizes, by which kept results are told apart

    def missing(self, names: Sequence[str]) -> dict[str, str]:
        """What to show instead of the numbers whose networks, or packages, are not there."""
        there = {TARGET, SPEECH, *self.roles, *found_packages()}
        found = {name: METRICS[name].missing(there) for name in names}
        return {name: reason for name, reason in found.items() if reason}


def open_networks(folders: Iterable[Path]) -> Networks:
    """Those that some folders hold, known by their content.

    Raises:
        InputError: a file that was known cannot be opened.
    """
    files = find_metric_files(folders)
    has_lpips = ALEXNET in files and LPIPS_HEADS in files
    return Networks(
        load.load_lpips(files[ALEXNET], files[LPIPS_HEADS]) if has_lpips else None,
        load.load_inception(files[INCEPTION]).eval() if INCEPTION in files else None,
        load.load_i3d(files[I3D]) if I3D in files else None,
        load.load_syncnet(files[SYNCNET]).eval() if SYNCNET in files else None,
        frozenset(files),
        tuple(sorted((path.name, path.stat().st_size) for path in files.values())),
    )


class PictureJudges:
    """LPIPS, FID and FVD of frames that come in pairs; memory stays the same.

    Args:
        networks: those that are there.
    """

    def __init__(self, networks: Networks) -> None:
        self._missing = networks.missing(PICTURE_METRICS)
        self._lpips_network, self._lpips = networks.lpips, FrameMean("lower")
        self._fid = self._fid_meter(networks)
        i3d = networks.i3d
        self._clips = [ClipFeatures(i3d) for _ in range(2)] if i3d is not None else []

    def _fid_meter(self, networks: Networks) -> FidMeter | None:
        if networks.inception is None or "fid" in self._missing:
            return None
        try:
            return FidMeter(networks.inception)
        except MissingDependency:  # installed, but it cannot be opened
            self._missing["fid"] = METRICS["fid"].missing(set(NEEDS) - {TORCHMETRICS})
            return None

    def update(self, generated: Tensor, target: Tensor) -> None:
        """Take in the next frame of both, (H, W, 3) uint8 of one size."""
        if self._lpips_network is not None and "lpips" not in self._missing:
            try:
                self._lpips.update(lpips(generated, target, self._lpips_network))
            except InputError as error:  # too small for its network: the others still can
                self._missing["lpips"] = str(error)
        if self._fid is not None:
            self._fid.update(generated, of_target=False)
            self._fid.update(target, of_target=True)
        for meter, picture in zip(self._clips, (generated, target), strict=False):
            meter.update(picture)

    def result(self) -> Measured:
        """Values, and why others are missing."""
        values, missing = {}, dict(self._missing)
        makers = {
            "lpips": self._lpips.result,
            "fid": lambda: self._fid.result(),  # noqa: PLW0108 - there may be none
            "fvd": lambda: fvd(*self._clips),
        }
        for name, measure in makers.items():
            if name in missing:
                continue
            try:
                values[name] = measure()
            except InputError as error:  # too few frames
                missing[name] = str(error)
        return values, missing


def sync_scores(
    clip: ScoredClip, followed: FollowedClip, networks: Networks, over: Callable[[Iterable[Tensor]], Iterator[Tensor]]
) -> Measured:
    """LSE-D, LSE-C and the offset of a video's lips and its own sound, in a pass over its pictures at 25 fps.

    The crop is what SyncNet's code cuts, around the landmarks' box in place of a detector's: half its larger side and
    0.4 of that beyond to the left, the right and, twice, below; median over 13 frames; scaled to 224×224.
    """
    if missing := networks.missing(SYNC_METRICS):
        return {}, missing
    if clip.sound is None:
        return {}, dict.fromkeys(SYNC_METRICS, clip.silent_because)
    if not followed.valid.any():
        return {}, dict.fromkeys(SYNC_METRICS, "no face was found in any frame")
    boxes = _sync_boxes(followed)
    count = math.ceil(len(followed) / followed.fps * SYNC_FPS)
    try:
        blocks = [block.reshape(-1) for block in clip.sound()]
        waveform = torch.from_numpy(np.concatenate(blocks)) if blocks else torch.zeros(0)
        scorer = SyncScorer(networks.syncnet, waveform, count)
        for k, picture in enumerate(over(itertools.islice(clip.pictures.read(SYNC_FPS), count))):
            at = min(int(k * followed.fps / SYNC_FPS), len(boxes) - 1)
            scorer.update(resampled(picture, tuple(boxes[at].tolist()), (SYNC_PX, SYNC_PX)))
        found = scorer.result()
    except InputError as error:
        return {}, dict.fromkeys(SYNC_METRICS, str(error))
    return {"lse_d": found.distance, "lse_c": found.confidence, "av_offset": float(found.offset)}, {}


def _sync_boxes(followed: FollowedClip) -> Tensor:
    """(T, 4) left, top, right, bottom in pixels."""
    seen = followed.valid.nonzero()[:, 0]
    parts = []
    for _, track in followed.blocks(seen):
        low, high = track.points_px[..., :2].amin(1), track.points_px[..., :2].amax(1)
        parts.append(torch.cat([(low + high) / 2, (high - low).amax(1, keepdim=True) / 2], 1).double())
    last = torch.searchsorted(seen, torch.arange(len(followed)), right=True) - 1
    held = torch.cat(parts)[last.clamp(min=0)]
    edge = MEDIAN // 2
    padded = torch.cat([held[:1].expand(edge, -1), held, held[-1:].expand(edge, -1)])
    x, y, half = padded.unfold(0, MEDIAN, 1).median(-1).values.unbind(1)
    side = 2 * half * (1 + ROOM)
    left, top = x - half * (1 + ROOM), y - half
    return torch.stack([left, top, left + side, top + side], 1)
