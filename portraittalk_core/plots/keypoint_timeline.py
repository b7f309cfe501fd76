"""Timeline data of a keypoint track: its curves, and its head and mouth on the canonical face."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..face.canonical import canonical_face
from ..motion.keypoint_curves import KeypointCurves, curves_of
from ..motion.keypoint_regions import KEYPOINTS_OF_REGIONS
from ..motion.keypoint_rotation import head_angles
from ..motion.rig import WIDEST_GAP, plan_landmarks
from ..types import HeadPose, KeypointTrack, LandmarkTrack, MotionPlan, MouthCurves, Speech
from .timeline import timeline_payload

SIDE_PX, UNIT_PX = 512, 110.0  # of the drawn face: the picture's side, the distance between the eyes
MIN_MOVEMENT = 0.01  # half crops: of families whose mouth is not known, less than this is drawn as hardly open


def keypoint_timeline_payload(track: KeypointTrack, speech: Speech | None = None, gain: Tensor | None = None) -> dict:
    """A keypoint track in the form of `plots.timeline.timeline_payload`.

    Args:
        track: T frames.
        speech: what is said, for its waveform.
        gain: (T,) the factor of every frame that the track was made with; None is 1 throughout.

    Returns:
        As there, with `mouth` and `blink` of `motion.keypoint_curves`; of a long track the largest of every span. The
        face is the canonical one with the track's head, mouth and eyes.
    """
    curves = curves_of(track)
    payload = timeline_payload(_schematic_face(track, curves), speech, gain)
    spans = len(payload["curves"]["mouth"])
    edges = [len(track) * index // spans for index in range(spans + 1)]
    for name, values in (("mouth", curves.mouth.clamp(min=0)), ("blink", curves.blink.clamp(0, 1))):
        largest = [float(values[a:b].max()) for a, b in zip(edges, edges[1:], strict=False)]
        payload["curves"][name] = [round(value, 4) for value in largest]
    return payload


def _schematic_face(track: KeypointTrack, curves: KeypointCurves) -> LandmarkTrack:
    """The canonical face with the head, mouth and eyes of a track."""
    zeros, middle = torch.zeros(len(track)), torch.tensor([SIDE_PX / 2, 0.42 * SIDE_PX, 0.0])
    rest = LandmarkTrack.from_px(canonical_face()[None] * UNIT_PX + middle, SIDE_PX, SIDE_PX, track.fps)
    widest = WIDEST_GAP if track.layout in KEYPOINTS_OF_REGIONS else max(float(curves.mouth.max()), MIN_MOVEMENT)
    opening = (curves.mouth / widest).clamp(0, 1)
    mouth = replace(MouthCurves.closed(len(track)), opening=opening, jaw=opening)
    head = HeadPose(head_angles(track), torch.zeros(len(track), 3), torch.ones(len(track)))
    return plan_landmarks(MotionPlan(rest, mouth, curves.blink.clamp(0, 1), zeros, head, track.fps))
