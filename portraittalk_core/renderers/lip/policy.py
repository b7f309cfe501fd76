"""Which frames of a film are painted, and when its mouth rests: faceless, turned, covered frames, silence, music.

Shapes: T frames.
"""

from __future__ import annotations

import logging
from fractions import Fraction

import torch
from torch import Tensor

from ...face.geometry import head_pose
from ...memory_map import release_memory
from ...motion.dub import fit_speech, mouth_share, presence, resting_face, with_mouth
from ...motion.smoothing import frame_times_s, sample_at
from ...motion.speaking_gate import ACTIVITY_HZ, speaking_gate
from ...motion.turned_face import TurnedFace
from ...speech.voice_activity import voice_activity
from ...types import LandmarkTrack, Speech

log = logging.getLogger(__name__)

BLOCK = 256  # frames whose heads are measured at once
GLIMPSE_S = 0.2  # a face that looks back for less between turned frames counts as turned


def paint_weights(
    track: LandmarkTrack, scenes: Tensor, usable: Tensor, max_yaw_deg: float, source: str = "the film"
) -> Tensor:
    """(T,) 0..1, how much of a painted mouth each frame shows: 0 as filmed, 1 painted, a short fade between.

    Args:
        track: of the filmed face; `valid` is False in frames without a face, with a covered mouth, of somebody else.
        scenes: (T,) number of each frame's scene; over a cut nothing fades.
        usable: (T,) bool: whether the face is large enough to be painted.
        max_yaw_deg: faces that are turned further stay as they were filmed.
        source: name of the film, for the log.
    """
    turned = turned_aside(track, scenes, max_yaw_deg) & track.valid
    small = track.valid & ~usable & ~turned
    for frames, why in (turned, f"is turned aside by more than {max_yaw_deg:g}°"), (small, "is too small"):
        if frames.any():
            first_s = float(int(frames.int().argmax()) / track.fps)
            log.warning(
                "the face in %s %s in %d frames, from %.2f s on: they stay as filmed.", source, why, int(frames.sum()),
                first_s,
            )  # fmt: skip
    return presence(track.valid & ~turned & ~small, scenes, track.fps)


def turned_aside(track: LandmarkTrack, scenes: Tensor, max_yaw_deg: float) -> Tensor:
    """(T,) bool: frames whose face is turned aside by more than a yaw in degrees, and short moments between them."""
    parts = []
    for start in range(0, len(track), BLOCK):
        parts.append(head_pose(track.slice(start, start + BLOCK)).angles_deg[:, 1])
        release_memory()
    turned = torch.cat(parts).abs() > max_yaw_deg
    reach = int(GLIMPSE_S * track.fps)
    at = torch.nonzero(turned).flatten()
    for before, after in zip(at[:-1].tolist(), at[1:].tolist(), strict=True):
        if 1 < after - before <= reach + 1 and scenes[before] == scenes[after]:
            turned[before:after] = True
    return turned


def voice_gate(speech: Speech | None, num_frames: int, fps: Fraction, strength: float) -> Tensor:
    """(T,) 1 where somebody speaks, down to 1 − strength in silence, noise, music and after the speech's end.

    Args:
        speech: what is to be said; without any, the motion alone counts, and the gate is open.
        num_frames: T.
        fps: frames per second.
        strength: 0..1.
    """
    if speech is None or strength == 0:
        return torch.ones(num_frames)
    fitted = fit_speech(speech, num_frames, fps).speech
    gate = speaking_gate(voice_activity(fitted))
    return 1 - strength * (1 - sample_at(gate, float(ACTIVITY_HZ), frame_times_s(num_frames, fps)).float())


class RestingMouth:
    """The closed mouth of a film's own face, on its head in every frame.

    Args:
        track: of the filmed face.
        scenes: (T,) number of each frame's scene: each has a face at rest of its own.
        rest: one frame that is the face at rest of all scenes; None chooses the calmest of each.
    """

    def __init__(self, track: LandmarkTrack, scenes: Tensor, rest: LandmarkTrack | None = None) -> None:
        self._track, self._scenes, self._rest = track, scenes, rest
        self._scene: int | None = None
        self._face: tuple[LandmarkTrack, Tensor, TurnedFace] | None = None

    def blend(self, index: int, target: Tensor, gate: float) -> Tensor:
        """(478, 3) landmarks of a frame whose mouth is `gate` of the way from rest to the target's."""
        if gate >= 1:
            return target
        reference, share, turned = self._at_rest(int(self._scenes[index]))
        filmed = self._track.slice(index, index + 1)
        slow = None if turned.slow is None else turned.slow[index : index + 1]
        return torch.lerp(with_mouth(filmed, reference, reference, share, turned, slow).points[0], target, gate)

    def _at_rest(self, scene: int) -> tuple[LandmarkTrack, Tensor, TurnedFace]:
        if self._face is None or (scene != self._scene and self._rest is None):
            if self._rest is None:
                reference = resting_face(self._track, self._scenes, scene)
                turned = TurnedFace.of_film(self._track, reference, self._scenes == scene)
            else:
                reference, turned = self._rest, TurnedFace(self._rest)
            self._scene, self._face = scene, (reference, mouth_share(reference), turned)
        return self._face
