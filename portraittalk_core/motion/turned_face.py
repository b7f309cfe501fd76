"""Landmarks of a filmed face in every pose of its head: not those of the face at rest, turned.

A detector guesses the depth of landmarks, and a turned face has them elsewhere by up to a fifth of the distance between
its eyes, so that the mouth would be put beside the lips. How they depart is learnt from the film itself.

Shapes: T frames, N of them, P features of a pose.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from ..face import topology as topo
from ..face.geometry import align, eye_axis
from ..memory_map import release_memory
from ..types import LandmarkTrack
from .rig import face_axes
from .slow_mouth import HANDLES, handle_weights, handles_of, slow_part

BLOCK = 256  # frames that are looked at at once
LEAST_SINE, LEAST_MOUTH = 0.05, 0.02  # deviations of poses (3°) and mouths (inter-ocular) that hardly tell anything
NUM_POSE = 3


class TurnedFace:
    """A face whose landmarks depart from those at rest as its head turns, and as it smiles.

    Args:
        reference: one frame: the face at rest.
        departures: (P, 478, 3) by which they do, a feature of the pose each, inter-ocular distances; None: rigid.
        slow: (T, H, 3) by which the mouth's handles lastingly do (`slow_mouth`), inter-ocular distances; None: nothing.
    """

    def __init__(self, reference: LandmarkTrack, departures: Tensor | None = None, slow: Tensor | None = None) -> None:
        self.rest, self.slow = reference.points_px[0], slow
        self.unit = float(eye_axis(self.rest[None]).norm().clamp(min=1e-6))
        self.departures = departures

    @staticmethod
    def of_film(track: LandmarkTrack, reference: LandmarkTrack, among: Tensor | None = None) -> TurnedFace:
        """A face as a film shows it: least squares over the frames, beside what open and wide mouths explain.

        Args:
            track: of the film, T frames.
            reference: one of its frames: the face at rest.
            among: (T,) bool: frames that count; None: all that show the face.
        """
        face = TurnedFace(reference)
        frames = torch.nonzero(track.valid if among is None else track.valid & among).flatten()
        products, sums, kept = 0.0, 0.0, []
        for block in frames.split(BLOCK):
            features, departed = face._regression_rows(track.px_of(block))
            products, sums = products + features.T @ features, sums + features.T @ departed
            kept.append((features[:, :NUM_POSE], handles_of(departed.unflatten(1, (-1, 3))).flatten(1)))
            release_memory()
        if not len(frames):
            return face
        ridge = [LEAST_SINE] * NUM_POSE + [LEAST_MOUTH] * (len(products) - NUM_POSE - 1) + [0.0]
        ridge = len(frames) * torch.tensor(ridge, dtype=torch.float64).square().diag()
        departures = torch.linalg.solve(products + ridge, sums)[:NUM_POSE].float()
        departures = departures.reshape(NUM_POSE, *face.rest.shape)
        slow, known = torch.zeros(len(track), len(HANDLES) * 3), torch.zeros(len(track), dtype=torch.bool)
        by_pose = handles_of(departures).flatten(1).double()
        slow[frames] = torch.cat([handles - pose @ by_pose for pose, handles in kept]).float()
        known[frames] = True
        return TurnedFace(reference, departures, slow_part(slow, known, float(track.fps)).unflatten(1, (-1, 3)))

    def placed(self, points: Tensor, filmed: Tensor, slow: Tensor | None = None) -> Tensor:
        """(T, 478, 3) pixels, where points (T or 1, 478, 3) of the head at rest lie on (T, 478, 3) filmed heads.

        Args:
            points: of the head at rest.
            filmed: landmarks of the frames.
            slow: (T, H, 3) rows of `slow`: what the mouth does for longer there; None: nothing.
        """
        scale, rotation, shift = self._heads(filmed)
        if self.departures is not None:
            points = points + self.unit * torch.einsum("tp,pnc->tnc", _pose(rotation), self.departures)
        if slow is not None:
            points = points + self._moved(slow)
        return scale[:, None, None] * points @ rotation.transpose(1, 2) + shift[:, None]

    def moves(self, slow: Tensor, filmed: Tensor) -> Tensor:
        """(T, 478, 3) pixels by which displaced handles (T, H, 3) move the landmarks of (T, 478, 3) filmed heads."""
        scale, rotation, _ = self._heads(filmed)
        return scale[:, None, None] * self._moved(slow) @ rotation.transpose(1, 2)

    def _moved(self, slow: Tensor) -> Tensor:
        return self.unit * torch.einsum("thc,hn->tnc", slow, self.weights)

    @cached_property
    def weights(self) -> Tensor:
        """(H, 478) share of the handles' displacements that each landmark takes."""
        axes, origin, unit = face_axes(self.rest)
        return handle_weights((self.rest - origin) @ axes.T / unit)

    def _heads(self, filmed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rigid = list(topo.RIGID)
        return align(self.rest[None, rigid].expand(len(filmed), -1, -1), filmed[:, rigid])

    def _regression_rows(self, filmed: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, P + 3) float64 of filmed faces (N, 478, 3), and how they depart from that at rest (N, 1434)."""
        scale, rotation, shift = self._heads(filmed)
        departed = (((filmed - shift[:, None]) @ rotation) / scale[:, None, None] - self.rest) / self.unit
        lips = (departed + self.rest / self.unit)[:, [topo.INNER_LIP_TOP, topo.INNER_LIP_BOTTOM, *topo.MOUTH_CORNERS]]
        mouth = torch.stack([(lips[:, 1] - lips[:, 0]).norm(dim=1), (lips[:, 3] - lips[:, 2]).norm(dim=1)], 1)
        features = torch.cat([_pose(rotation), mouth, torch.ones(len(filmed), 1)], 1)
        return features.double(), departed.flatten(1).double()


def _pose(rotation: Tensor) -> Tensor:
    """(T, P) features of (T, 3, 3) rotations: sines of yaw, also squared, and of pitch; 0 at rest."""
    sideways, updown = rotation[:, 0, 2], rotation[:, 1, 2]
    return torch.stack([sideways, sideways.square(), updown], 1)
