"""Held-out puppets that say another's speech, for ``python -m benchmarks controltalk``: how far their mouths open."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from toy_puppet import MOUTH_DROP, UNIT

from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.renderers.implicit.audio2exp.network import Audio2Exp
from portraittalk_core.renderers.implicit.contract import KeypointModel, Keypoints
from portraittalk_core.training.data.speech_rows import MelEncoder, read_rows
from portraittalk_core.training.data.squares import fit_square
from portraittalk_core.training.data.video_clips import VideoClip, read_videos
from portraittalk_core.training.data.windows import NUM_FRAMES

from .controltalk_training import CROP, DRAWN, SIDE, Plan, held_out_seeds, moves_of

EYES = UNIT * DRAWN / CROP  # inter-ocular distance over the crop's side
SKIN_REDNESS, MOUTH_REDNESS = 0.2, 0.575  # red less the mean of green and blue, as the puppet is painted
HALF_WIDTH, HALF_HEIGHT = 0.4, 0.1  # of the puppet's mouth, the height when shut


@dataclass(frozen=True)
class Clip:
    """A held-out puppet, and the speech of another one."""

    video: VideoClip
    keypoints: Keypoints  # of T frames
    rows: Tensor  # (T, R, D) of the other's speech
    silence: Tensor  # (R, D)
    spoken_opening: Tensor  # (T,) of the other's mouth
    own_opening: Tensor  # (T,) of its own


def read_clips(folder: Path, model: KeypointModel, plan: Plan) -> list[Clip]:
    """Held-out puppets; each says what the next one said."""
    videos, rows, _ = read_rows(folder, read_videos(folder, NUM_FRAMES).videos, MelEncoder())
    seeds, clips = held_out_seeds(plan), []
    for number, video in enumerate(videos):
        other = (number + 1) % len(videos)
        crops = crops_of(video, range(plan.frames))
        heard = rows.windows(other, range(plan.frames))
        mouths = [moves_of(seeds[which], plan.frames)[:, 3] for which in (other, number)]
        clips.append(Clip(video, model.keypoints(crops), heard, rows.silence(other), *mouths))
    return clips


def crops_of(video: VideoClip, frames: Sequence[int]) -> Tensor:
    """(F, 3, S, S) frames of a video in 0..1, at the networks' size."""
    return (torch.stack([fit_square(video.read(frame), SIDE) for frame in frames]) + 1) / 2


@torch.no_grad()
def talk(
    model: KeypointModel, network: Audio2Exp | None, clip: Clip, alpha: float | None, still: bool = False
) -> Tensor:
    """(T, 3, S, S) frames of a puppet that says the other's speech: the silent pass, then speech.

    Args:
        model: the renderer.
        network: Audio2Exp; None where alpha is.
        clip: whom to move.
        alpha: of speech; None leaves the expression as it is.
        still: whether the puppet is given as an image, its first frame, instead of as a video.
    """
    frames = [0] * len(clip.rows) if still else list(range(len(clip.rows)))
    source = Keypoints(*(getattr(clip.keypoints, f.name)[frames] for f in dataclasses.fields(Keypoints)))
    crops = crops_of(clip.video, frames)
    expression = source.expression
    if alpha is not None:
        shut = network(expression, clip.silence.expand(len(frames), -1, -1))
        expression = network(shut, clip.rows, alpha)
    placed = model.place(dataclasses.replace(source, expression=expression))
    return model.render(model.features(crops), model.place(source), placed)


def openings(frames: Tensor, clip: Clip, still: bool = False) -> Tensor:
    """(T,) how far mouths are open in frames (T, 3, S, S), 0..1, by the area of their colour."""
    redness = frames[:, 0] - frames[:, 1:].mean(1)
    share = ((redness - SKIN_REDNESS) / (MOUTH_REDNESS - SKIN_REDNESS)).clamp(0, 1)
    centres = _mouth_centres(clip)[[0] * len(frames) if still else slice(None)]
    line = (torch.arange(SIDE) + 0.5) / SIDE
    rows, columns = (line - centres[:, axis : axis + 1] for axis in (1, 0))
    inside = ((rows > -0.25 * EYES) & (rows < 0.6 * EYES))[:, :, None] & (columns.abs() < 0.55 * EYES)[:, None]
    area = (share * inside).sum((1, 2)) / (EYES * SIDE) ** 2
    half_height = area / (math.pi * HALF_WIDTH)
    return 2 * (half_height - HALF_HEIGHT) / MOUTH_DROP


@dataclass(frozen=True)
class Scale:
    """What `openings` reads of the renderer's own frames: its blur makes shut mouths look larger than they are."""

    shut: float
    wide: float  # more than shut

    @classmethod
    def of(cls, model: KeypointModel, clips: Sequence[Clip]) -> Scale:
        """Least squares over rendered frames of held-out puppets as they are, whose openings are known."""
        read = torch.cat([openings(talk(model, None, clip, None), clip) for clip in clips])
        true = torch.cat([clip.own_opening for clip in clips])
        columns = torch.stack([torch.ones_like(true), true], 1)
        shut, wide = torch.linalg.lstsq(columns, read[:, None]).solution[:, 0].tolist()
        return cls(shut, wide)

    def __call__(self, read: Tensor) -> Tensor:
        """Openings, 0 shut and 1 wide open, of what was read."""
        return (read - self.shut) / self.wide


def _mouth_centres(clip: Clip) -> Tensor:
    """(T, 2) where the shut mouth's middle stands, over the picture's side."""
    points, face = clip.video.track.points, canonical_face()
    upper = points[:, 13, :2]
    return upper + (float(face[[13, 14], 1].mean()) - float(face[13, 1])) * EYES * torch.tensor([0.0, 1.0])
