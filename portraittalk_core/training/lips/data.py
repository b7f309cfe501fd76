"""Windows for the lip renderer: a frame to be painted, sketches around it, its sound, and other frames of its clip.

Shapes: B windows, N references, M lip references, S side of the crops.
Source: W. Zhong et al. 2023 and J. Wu et al., "Talking Face Generation with Lip and Identity Priors", section 4.1.
References never lie in the window; in IP-LAP's public code they may be the frame that is to be painted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ...face.sketch import draw_sketch
from ...renderers.lip.contract import RADIUS
from ...renderers.lip.masks import around_lips
from ...renderers.lip.sketches import WINDOW_RATE
from ..data.order import example_at
from .clips import LipClip
from .mouth_opening import scale_mouth_opening

WINDOW = 2 * RADIUS + 1  # sketches around a frame, 40 ms apart as the renderer draws them
REFERENCE_CHANCE, COUNT_CHANCE = 6, 7  # mark the random numbers that choose references, and how many
GAIN, SHIFT = 0.25, 0.1  # largest change of a colour's contrast and of its level, by augmentation


@dataclass(frozen=True)
class LipWindowBatch:
    """Batch of windows. Pictures are whole crops; sketches have one channel, which stands for three."""

    pictures: Tensor  # (B, 3, S, S) uint8 the frames to be painted
    sketches: Tensor  # (B, 5, S, S) of the frames around each
    faces: Tensor  # (B, N, 3, S, S) uint8 references
    face_sketches: Tensor  # (B, N, S, S)
    lips: Tensor  # (B, M, 3, S, S) uint8 lips kept in place, black around them
    lip_sketches: Tensor  # (B, M, S, S)
    mouths: Tensor  # (B, S, S) 1 in the box around the lips to be painted
    mel: Tensor  # (B, 80, 16); (B, 0) where nothing is heard
    points: Tensor  # (B, 131, 2) landmarks of the frames to be painted, 0..1 of the crop
    lip_points: Tensor  # (B, M, 131, 2)

    def to(self, device: torch.device) -> LipWindowBatch:
        """On a device."""
        return LipWindowBatch(*(getattr(self, part.name).to(device) for part in fields(self)))


def as_pictures(crops: Tensor) -> Tensor:
    """Float32 0..1 of uint8 crops."""
    return crops.float() / 255


def as_sketches(drawn: Tensor) -> Tensor:
    """(..., 3, S, S) of sketches with one channel (..., S, S)."""
    return drawn.unsqueeze(-3).expand(*drawn.shape[:-2], 3, *drawn.shape[-2:])


class LipWindows:
    """Windows of clips.

    Args:
        clips: to learn from.
        size: S.
        num_faces: N.
        num_lips: M.
        augment: whether colours change and faces are mirrored, each window's alike.
        varied: whether every batch has 1 to `num_faces` and 1 to `num_lips` references.
        opening_noise: mouths of a window are drawn open by a factor of 1 ± this, all of its frames alike.

    Raises:
        InputError: no clip has a window of frames that show the face, and a frame beside it for references.
    """

    def __init__(
        self,
        clips: Sequence[LipClip],
        size: int,
        num_faces: int = 3,
        num_lips: int = 5,
        augment: bool = False,
        varied: bool = False,
        opening_noise: float = 0.0,
    ) -> None:
        self.clips, self.size = tuple(clips), size
        self.num_faces, self.num_lips, self.augment, self.varied = num_faces, num_lips, augment, varied
        self.opening_noise = opening_noise
        self._windows = [(number, frame) for number, clip in enumerate(self.clips) for frame in _middles(clip)]
        if not self._windows:
            raise InputError(
                f"none of the {len(self.clips)} clips shows the face in {WINDOW} frames one after another, and in "
                "another one; prepare longer ones."
            )

    def __len__(self) -> int:
        """Frames that can be painted."""
        return len(self._windows)

    @property
    def has_sound(self) -> bool:
        """Whether all clips have sound."""
        return all(clip.has_sound for clip in self.clips)

    def fingerprint(self) -> str:
        """Hash of names, landmarks, and what is drawn of them."""
        told = f"{self.size} {self.num_faces} {self.num_lips} {self.augment}{' varied' if self.varied else ''}"
        told += f" {self.opening_noise}" if self.opening_noise else ""
        digest = hashlib.sha256(told.encode())
        for clip in self.clips:
            digest.update(f"{clip.name} {clip.fps}".encode() + clip.points.contiguous().numpy().tobytes())
            digest.update(clip.usable.numpy().tobytes())
            if clip.face_frames is not None:
                digest.update(clip.face_frames.numpy().tobytes())
        return digest.hexdigest()

    def batch(self, number: int, size: int, seed: int) -> LipWindowBatch:
        """The batch of a number, a function of its arguments alone; every window comes once before one comes again.

        Args:
            number: of the batch, from 0.
            size: B.
            seed: of the order, and of the choice of references.
        """
        places = range(number * size, (number + 1) * size)
        windows = [(*self._windows[example_at(place, len(self), seed)], place) for place in places]
        return self.at(windows, seed, self._counts(number, seed))

    def _counts(self, number: int, seed: int) -> tuple[int, int]:
        """References and lip references of a batch."""
        most = self.num_faces, self.num_lips
        if not self.varied:
            return most
        draw = np.random.default_rng([seed, COUNT_CHANCE, number])
        return tuple(int(draw.integers(1, count + 1)) for count in most)

    def at(
        self, windows: Sequence[tuple[int, int, int]], seed: int, counts: tuple[int, int] | None = None
    ) -> LipWindowBatch:
        """Batch of windows: each a clip's number, the frame to be painted, and a number of its references' choice.

        `counts` are of references and lip references; None takes the most there may be.
        """
        counts = counts or (self.num_faces, self.num_lips)
        parts = [self._window(clip, frame, [seed, REFERENCE_CHANCE, chance], counts) for clip, frame, chance in windows]
        return LipWindowBatch(*(torch.stack(part) for part in zip(*parts, strict=True)))

    def _window(self, number: int, frame: int, chance: list[int], counts: tuple[int, int]) -> tuple[Tensor, ...]:
        clip, draw, count = self.clips[number], np.random.default_rng(chance), counts[0]
        offsets = window_offsets(clip)
        chosen = []
        for shown, wanted in zip((_face_frames(clip), clip.usable), counts, strict=True):
            others = torch.nonzero(shown).flatten()
            others = others[(others - frame).abs() > offsets[-1]].numpy()
            chosen.append(draw.choice(others, wanted, replace=len(others) < wanted).tolist())
        frames = [frame, *chosen[0], *chosen[1]]
        crops = clip.crops(frames)
        around = [*(frame + offset for offset in offsets), *chosen[0], *chosen[1]]
        seen = clip.points[around]
        if self.opening_noise:
            factor = 1 + self.opening_noise * float(draw.uniform(-1, 1))
            seen = torch.cat([scale_mouth_opening(seen[:WINDOW], factor), seen[WINDOW:]])
        sketches = draw_sketch(seen, self.size, clip.boxes_px[around])[:, 0]
        masks = torch.stack([around_lips(clip.points[at], self.size) for at in [frame, *chosen[1]]])
        mel = clip.heard(frame) if self.has_sound else torch.empty(0)
        points = torch.cat([seen[RADIUS, None], clip.points[chosen[1]]])
        if self.augment:
            crops, sketches, masks, points = _changed(crops, sketches, masks, points, draw)
        return (
            crops[0],
            sketches[:WINDOW],
            crops[1 : 1 + count],
            sketches[WINDOW : WINDOW + count],
            crops[1 + count :] * masks[1:, None].byte(),
            sketches[WINDOW + count :] * masks[1:],
            masks[0],
            mel,
            points[0],
            points[1:],
        )


def window_offsets(clip: LipClip) -> list[int]:
    """Frames from the one to be painted to each of its five sketches."""
    return [round(step * clip.fps / WINDOW_RATE) for step in range(-RADIUS, RADIUS + 1)]


def _face_frames(clip: LipClip) -> Tensor:
    """(T,) bool: frames that may be aligned references."""
    return clip.usable if clip.face_frames is None else clip.face_frames


def _middles(clip: LipClip) -> list[int]:
    """Frames that can be painted: shown in all of their window, with a usable frame outside of it."""
    reach = window_offsets(clip)[-1]
    if len(clip.shown) < 2 * reach + 1:
        return []
    whole = clip.shown.unfold(0, 2 * reach + 1, 1).all(1).nonzero()[:, 0] + reach
    seen = _face_frames(clip).long().cumsum(0)
    before = torch.nn.functional.pad(seen, (1, 0))[whole - reach]
    after = seen[-1] - seen[whole + reach]
    return whole[clip.usable[whole] & (before + after > 0)].tolist()


def _changed(
    crops: Tensor, sketches: Tensor, masks: Tensor, points: Tensor, draw: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All of a window in other colours, and every second time mirrored."""
    gain, shift = (torch.from_numpy(draw.uniform(-1, 1, (1, 3, 1, 1))).float() for _ in range(2))
    crops = ((crops.float() - 127.5) * (1 + GAIN * gain) + 127.5 * (1 + SHIFT * shift)).round().clamp(0, 255).byte()
    if draw.random() < 0.5:
        crops, sketches, masks = crops.flip(-1), sketches.flip(-1), masks.flip(-1)
        points = torch.stack([1 - points[..., 0], points[..., 1]], -1)
    return crops, sketches, masks, points
