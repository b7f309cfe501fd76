"""Implicit keypoints of prepared videos: found once by a frozen renderer, kept on disk, read by memory mapping.

Shapes: T frames of a video, K keypoints, S side of the renderer's crops in pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor, nn

from ...face.geometry import mouth_open
from ...media.files import make_folder
from ...media.tensor_file import save_tensors
from ...renderers.implicit.contract import KeypointModel, Keypoints
from .squares import fit_square
from .video_clips import VideoClip

BATCH = 16  # frames whose keypoints are found at once
CLOSED = 0.05  # quantile of a clip's mouth openings that counts as shut
NAMES = tuple(field.name for field in fields(Keypoints))
CLOSED_NAME = "closed_expression"
LEAST_SPREAD = 1e-5  # of expressions: smaller ones are no motion


def model_mark(model: nn.Module) -> str:
    """Fingerprint of a model's weights."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


@dataclass(frozen=True)
class KeptKeypoints:
    """Kept keypoints of videos; those of a clip are read when they are asked for."""

    paths: tuple[Path, ...]  # a file for each video, in the order of the data

    def of(self, video: int, frames: Sequence[int]) -> tuple[Keypoints, Tensor]:
        """Keypoints of a video's frames, and (F, K, 3) their expressions with shut lips."""
        from safetensors import safe_open

        first, last = min(frames), max(frames) + 1
        at = [frame - first for frame in frames]
        with safe_open(str(self.paths[video]), framework="pt") as file:
            read = {name: file.get_slice(name)[first:last][at] for name in (*NAMES, CLOSED_NAME)}
        return Keypoints(*(read[name] for name in NAMES)), read[CLOSED_NAME]

    def mouth_spread(self) -> float:
        """Root mean square of the distance of all expressions from what they are with shut lips: how far a mouth moves.

        Squared errors over its square are 1 in the mean where nothing is shut, whichever few keypoints move.
        """
        from safetensors import safe_open

        total, count = 0.0, 0
        for path in self.paths:
            with safe_open(str(path), framework="pt") as file:
                distance = (file.get_tensor(CLOSED_NAME) - file.get_tensor("expression")).square()
            total, count = total + float(distance.double().sum()), count + distance.numel()
        return max((total / count) ** 0.5, LEAST_SPREAD)

    def expression_limits(self) -> tuple[Tensor, Tensor]:
        """Least and greatest expressions of all frames, each (K, 3): beyond them the renderer has learnt nothing."""
        from safetensors import safe_open

        low, high = [], []
        for path in self.paths:
            with safe_open(str(path), framework="pt") as file:
                expression = file.get_tensor("expression")
            low.append(expression.amin(0))
            high.append(expression.amax(0))
        return torch.stack(low).amin(0), torch.stack(high).amax(0)


def keep_keypoints(
    folder: Path, videos: Sequence[VideoClip], model: KeypointModel, tick: Callable[[], None] = lambda: None
) -> KeptKeypoints:
    """Keypoints of all videos; found where no file of this renderer is there.

    Args:
        folder: for the files; made if absent.
        videos: of the data.
        model: frozen.
        tick: called after every few frames; may raise to stop.

    Raises:
        OutputError: the files cannot be written.
    """
    mark, paths = model_mark(model), []
    make_folder(folder)
    for video in videos:
        digest = hashlib.sha256(f"{mark}{video.name}".encode() + video.track.points.contiguous().numpy().tobytes())
        path = folder / f"{digest.hexdigest()[:32]}.safetensors"
        if not path.is_file():
            keypoints = _found(video, model, tick)
            closed = closed_expressions(keypoints.expression, mouth_open(video.track), video.track.valid)
            save_tensors({**{n: getattr(keypoints, n) for n in NAMES}, CLOSED_NAME: closed}, path)
        paths.append(path)
    return KeptKeypoints(tuple(paths))


@torch.no_grad()
def _found(video: VideoClip, model: KeypointModel, tick: Callable[[], None]) -> Keypoints:
    parts = []
    for first in range(0, len(video.track), BATCH):
        frames = range(first, min(first + BATCH, len(video.track)))
        crops = torch.stack([fit_square(video.read(frame), model.input_size) for frame in frames])
        keypoints = model.keypoints((crops + 1).to(model.device) / 2)
        parts.append(Keypoints(*(getattr(keypoints, name).cpu() for name in NAMES)))
        tick()
    return Keypoints.cat(parts)


def closed_expressions(expression: Tensor, opening: Tensor, valid: Tensor) -> Tensor:
    """(T, K, 3) expressions of a clip's frames as they are with shut lips, all else the same.

    What of the expression goes with the mouth's opening is found by least squares over the clip, E ≈ a + b · opening;
    every frame is then moved along b to the opening of the clip's most closed frames.

    Args:
        expression: (T, K, 3).
        opening: (T,) of the mouth, as landmarks measure it.
        valid: (T,) bool: frames that show the face.
    """
    usable = valid if int(valid.sum()) > 1 else torch.ones_like(valid)
    shut = torch.quantile(opening[usable], CLOSED)
    deviation = opening - opening[usable].mean()
    spread = deviation[usable].square().sum().clamp(min=1e-8)
    centred = expression - expression[usable].mean(0)
    slope = (deviation[usable, None, None] * centred[usable]).sum(0) / spread
    return expression + (shut - opening).clamp(max=0)[:, None, None] * slope
