"""Descriptors of faces by dlib's network, whose weights come with this package: who a face is, without any file.

Shapes: F faces of a picture.
Source: Davis King, "High Quality Face Recognition with Deep Metric Learning" (blog.dlib.net, 2017); the five places of
dlib's upright faces are those of its get_face_chip_details. Weights: CC0-1.0, Davis King (see NOTICE).
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from ...checks import check_finite, check_shape
from ...errors import InputError, MissingDependency, ShapeError
from ...threads import one_torch_thread
from ...types import NUM_LANDMARKS, check_picture
from .. import topology as topo
from .arcface_crop import sampled, similarity
from .descriptor_net import CHIP_PX, WIDTH, FaceDescriptorNet

__all__ = ["SAME_PERSON", "WIDTH", "describe", "descriptor_network", "distance", "face_chip"]

FILE = Path(__file__).parents[1] / "weights" / "face_descriptor.safetensors"
SHA256 = "41e115472babaa7d62ddb2b95be4b0c70c881f0dcca3c6eeda6aadd8d4176358"
NAME = "dlib's face descriptor"
SAME_PERSON = 0.6  # distance below which dlib takes two faces for one person's

PADDING = 0.25  # around the face, of its side
# mesh points: outer and inner corner of the left eye, of the right eye, the nose's base; and where a face has them
POINTS = (263, 362, 33, 133, 2)
PLACES = (
    (0.8595674595992, 0.2134981538014),
    (0.6460604764104, 0.2289674387677),
    (0.1205750620789, 0.2137274526848),
    (0.3340850613712, 0.2290642403242),
    (0.4901123135679, 0.6277975316475),
)


@cache
def descriptor_network() -> FaceDescriptorNet:
    """The network with the package's weights; read and checked once per process.

    Raises:
        MissingDependency: the weights are not there.
        InputError: they are damaged.
    """
    from safetensors.torch import load

    if not FILE.is_file():
        raise MissingDependency(f"{FILE.parent} lacks the weights {FILE.name}; install this package again.")
    content = FILE.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise InputError(f"the face descriptor's weights {FILE} are damaged (another SHA-256); install it again.")
    network = FaceDescriptorNet()
    network.load_state_dict({name: values.float() for name, values in load(content).items()})
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def face_chip(picture: Tensor, face_px: Tensor) -> Tensor:
    """The upright face that the network looks at; black outside the picture.

    A face larger than that is averaged over whole numbers of pixels first.

    Args:
        picture: (H, W, 3) uint8.
        face_px: (468 or 478, 2 or 3) MediaPipe's landmarks, pixels.

    Returns:
        (150, 150, 3) uint8.

    Raises:
        InputError: landmarks that are not finite, or lie all in one place.
        ShapeError: something of another shape.
    """
    check_picture(picture, "the picture of a face")
    check_shape(face_px, "P D", "the landmarks of a face")
    if len(face_px) not in (topo.NUM_MESH_POINTS, NUM_LANDMARKS) or face_px.shape[1] < 2:
        raise ShapeError(f"the landmarks of a face are MediaPipe's 468 or 478 points, not {tuple(face_px.shape)}.")
    points = check_finite(face_px[list(POINTS), :2].double(), "the landmarks of a face")
    places = (torch.tensor(PLACES, dtype=torch.float64) + PADDING) / (1 + 2 * PADDING) * CHIP_PX
    forward = similarity(points, places)
    return sampled(*_shrunk(picture, forward), CHIP_PX)


def describe(picture: Tensor, faces_px: Tensor) -> Tensor:
    """Descriptors of the faces of a picture.

    Args:
        picture: (H, W, 3) uint8.
        faces_px: (F, 468 or 478, 2 or 3) landmarks, pixels.

    Returns:
        (F, 128) float32; they are compared by `distance`.

    Raises:
        MissingDependency: the weights are not there.
        InputError: as `face_chip`, or the weights are damaged.
    """
    if not len(faces_px):
        return torch.zeros(0, WIDTH)
    chips = torch.stack([face_chip(picture, face) for face in faces_px])
    with torch.no_grad(), one_torch_thread():
        return descriptor_network()(chips)


def distance(a: Tensor, b: Tensor) -> Tensor:
    """(…) Euclid's distance of descriptors (…, 128); below `SAME_PERSON` they are one person's by dlib's rule."""
    return torch.linalg.vector_norm(a.double() - b.double(), dim=-1)


def _shrunk(picture: Tensor, forward: Tensor) -> tuple[Tensor, Tensor]:
    """The picture where the chip is, by a whole number smaller, and the transform (2, 3) from there to the chip."""
    factor = int(1 / float(forward[:, 0].norm()))
    if factor < 2:
        return picture, forward
    corners = torch.tensor([[0, 0], [0, CHIP_PX], [CHIP_PX, 0], [CHIP_PX, CHIP_PX]], dtype=torch.float64)
    places = (corners - forward[:, 2]) @ torch.linalg.inv(forward[:, :2]).T
    sides = torch.tensor([picture.shape[1], picture.shape[0]])
    start = torch.minimum((places.amin(0).floor().long() - factor).clamp(min=0), sides - 1)
    end = torch.minimum((places.amax(0).ceil().long() + factor).clamp(min=1), sides).maximum(start + 1)
    part = picture[start[1] : end[1], start[0] : end[0]].permute(2, 0, 1)[None].float()
    small = functional.avg_pool2d(part, factor, ceil_mode=True)[0].permute(1, 2, 0).round().to(torch.uint8)
    # whole numbers are the centres of pixels: x = start + factor · x' + (factor − 1) / 2
    shift = forward[:, 2] + forward[:, :2] @ (start.double() + (factor - 1) / 2)
    return small, torch.cat([forward[:, :2] * factor, shift[:, None]], 1)
