"""Which landmarks a face that looks aside hides: what is guessed behind its outline must not pull at what is seen.

There the landmarks crowd together, each with another way to go, and a motion field that followed them would fold.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from ...face import topology as topo
from ...face.canonical import canonical_face

NEAR = 9  # landmarks through which a plane is laid for the direction in which skin looks
STEEP = 0.8  # cosine of the angle between a face and the viewer's direction, above which nothing is hidden: 37 degrees
HIDDEN = 0.12  # cosine of the angle between skin and the viewer's direction, below which it is not seen
WITHIN = 0.04  # of the face's smaller side: an outline that lies deeper is hidden
DIRECTIONS = 36  # in the picture, from which the outline is looked at


def turned_away(points: Tensor) -> set[int]:
    """Numbers of the landmarks of a face (478, 2) that look away from the viewer; none of a face that looks ahead."""
    face, rigid = canonical_face(), list(topo.RIGID)
    placed = torch.cat([face[rigid], torch.ones(len(rigid), 1)], 1).double()
    x_of, y_of = torch.linalg.lstsq(placed, points[rigid].double()).solution[:3].unbind(1)
    # the direction in space of which a picture shows nothing
    to_viewer = torch.linalg.cross(x_of, y_of)
    to_viewer = (to_viewer / to_viewer.norm().clamp(min=1e-9)).float()
    facing = _directions() @ to_viewer
    facing = facing * facing[list(topo.RIGID)].sum().sign()
    if abs(float(to_viewer[2])) > STEEP:
        return set()
    hidden = set(torch.nonzero(facing < HIDDEN).flatten().tolist())
    # what is left of the outline keeps the face where it is: its far side lies behind the mouth, in its midst
    angles = torch.arange(DIRECTIONS) * (2 * torch.pi / DIRECTIONS)
    along = points[: topo.NUM_MESH_POINTS] @ torch.stack([angles.cos(), angles.sin()])  # (468, DIRECTIONS)
    depth = (along.amax(0) - along).amin(1) / (along.amax(0) - along.amin(0)).amin()
    hidden -= {point for point in topo.FACE_OVAL if float(depth[point]) < WITHIN}
    return hidden - {*topo.RIGID}


@cache
def _directions() -> Tensor:
    """(468, 3) unit vectors from the skin outward at the landmarks of the model face."""
    face = canonical_face()[: topo.NUM_MESH_POINTS]
    near = torch.cdist(face, face).topk(NEAR, largest=False).indices
    patches = face[near] - face[near].mean(1, keepdim=True)
    normals = torch.linalg.svd(patches).Vh[:, 2]
    middle = torch.tensor([0.0, float(face[:, 1].mean()), float(face[:, 2].max())])
    return normals * ((face - middle) * normals).sum(1, keepdim=True).sign()
