"""LPIPS, FID and FVD of two videos in one go, with whichever networks there are; the others say what they need."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError
from ..weights.metric_files import ALEXNET, I3D, INCEPTION, LPIPS_HEADS
from .fid import FrameFeatures, fid
from .frame_mean import FrameMean
from .fvd import ClipFeatures, fvd
from .lpips import lpips
from .networks.load import load_i3d, load_inception, load_lpips
from .registry import METRICS, TARGET

NAMES = ("lpips", "fid", "fvd")


class NetworkScores:
    """Takes pairs of frames; memory does not grow with the video.

    Args:
        files: by role, as `weights.metric_files.find_metric_files` gives them.
        device: where the networks run.

    Raises:
        InputError: a file is not what its role says, or damaged.
    """

    def __init__(self, files: Mapping[str, Path], device: str | torch.device = "cpu") -> None:
        self.missing = {n: why for n in NAMES if (why := METRICS[n].missing((TARGET, *files)))}  # name → why
        self.lpips = FrameMean("lower")
        self._lpips = self._frames = self._clips = None
        if "lpips" not in self.missing:
            self._lpips = load_lpips(files[ALEXNET], files[LPIPS_HEADS]).to(device)
        if "fid" not in self.missing:
            inception = load_inception(files[INCEPTION]).to(device)
            self._frames = [FrameFeatures(lambda batch: inception(batch.to(device))) for _ in range(2)]
        if "fvd" not in self.missing:
            i3d = load_i3d(files[I3D]).to(device)
            self._clips = [ClipFeatures(lambda clips: i3d(clips.to(device))) for _ in range(2)]

    def update(self, generated: Tensor, target: Tensor) -> None:
        """Take in the next frame of both, (H, W, 3) uint8 of one size.

        Raises:
            InputError: frames of different sizes.
        """
        if generated.shape != target.shape:
            raise InputError(f"frames of {tuple(generated.shape)} and {tuple(target.shape)} cannot be compared.")
        if self._lpips is not None and "lpips" not in self.missing:
            try:
                self.lpips.update(lpips(generated, target, self._lpips))
            except InputError as error:  # too small: the other two still can
                self.missing["lpips"] = f"not available: {error}"
        for features in (self._frames, self._clips):
            for one, picture in zip(features or (), (generated, target), strict=False):
                one.update(picture)

    def result(self) -> tuple[dict[str, float], dict[str, str]]:
        """Values by name, and why the others are missing."""
        values, missing = {}, dict(self.missing)
        makers = {
            "lpips": self.lpips.result,
            "fid": lambda: fid(*self._frames),
            "fvd": lambda: fvd(*self._clips),
        }
        for name in NAMES:
            if name in missing:
                continue
            try:
                values[name] = makers[name]()
            except InputError as error:  # too few frames
                missing[name] = f"not available: {error}"
        return values, missing
