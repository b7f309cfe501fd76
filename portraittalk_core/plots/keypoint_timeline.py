"""Timeline data of a keypoint track: its curves, and its head and mouth on the canonical face."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..face.canonical import canonical_face
from ..motion.rig import plan_landmarks
from ..types import HeadPose, KeypointTrack, LandmarkTrack, MotionPlan, MouthCurves, Speech
from .keypoints import expression_curves
from .timeline import timeline_payload

SIDE_PX, UNIT_PX = 512, 110.0  # of the drawn face: the picture's side, the distance between the eyes
MIN_MOVEMENT = 0.01  # half crops: lips that move less than this are drawn as hardly open


def keypoint_timeline_payload(track: KeypointTrack, speech: Speech | None = None, gain: Tensor | None = None) -> dict:
    """A keypoint track in the form of `plots.timeline.timeline_payload`.

    Args:
        track: T frames.
        speech: what is said, for its waveform.
        gain: (T,) the factor of every frame that the track was made with; None is 1 throughout.

    Returns:
        As there. `mouth` is the lips' movement, half crops, of layouts whose lips are known, else that of all
        keypoints; there are no blinks. The face is the canonical one with the track's head and mouth.
    """
    curves = expression_curves(track)
    movement = curves.get("lips", next(iter(curves.values())))
    payload = timeline_payload(_schematic_face(track, movement), speech, gain)
    spans = len(payload["curves"]["mouth"])
    edges = [len(track) * index // spans for index in range(spans + 1)]
    largest = [float(movement[a:b].max()) for a, b in zip(edges, edges[1:], strict=False)]
    payload["curves"]["mouth"] = [round(value, 4) for value in largest]
    payload["curves"]["blink"] = [0.0] * spans
    return payload


def _schematic_face(track: KeypointTrack, movement: Tensor) -> LandmarkTrack:
    """The canonical face with the head of a track, its mouth open by the (T,) movement of the lips."""
    zeros, middle = torch.zeros(len(track)), torch.tensor([SIDE_PX / 2, 0.42 * SIDE_PX, 0.0])
    rest = LandmarkTrack.from_px(canonical_face()[None] * UNIT_PX + middle, SIDE_PX, SIDE_PX, track.fps)
    opening = movement / max(float(movement.max()), MIN_MOVEMENT)
    mouth = replace(MouthCurves.closed(len(track)), opening=opening, jaw=opening)
    head = HeadPose(track.rotation_deg, torch.zeros(len(track), 3), torch.ones(len(track)))
    return plan_landmarks(MotionPlan(rest, mouth, zeros, zeros, head, track.fps))
