"""Which pixels of a picture show people, by MediaPipe's selfie segmentation, with edges as fine as the picture.

Licence of the network's weights: Apache-2.0, Google LLC (see NOTICE).
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ...checks import check_shape
from ...errors import InputError, MissingDependency
from ...threads import one_torch_thread
from ...types import check_picture
from ..topology import FACE_OVAL
from .guided import guided_upsampled, sliding_max
from .network import SIDE_PX, SelfieSegmentation

WEIGHTS = Path(__file__).parents[1] / "weights" / "selfie_segmentation.safetensors"
SHA256 = "32c2030121b2ff93c045f36feed3fa6d9009080099f60846b1b13e128b985c58"
GUIDE_PX = 512  # longest side at which the picture's edges are looked for
RADIUS, EPSILON = 5, 3e-4  # of the guided filter: pixels of the guide, squared colours 0..1
BAND = 9  # pixels of the guide around the coarse edge, between which the fine edge may lie
UNSURE = 0.25  # of the network's mask, which becomes 0, and as much below 1 which becomes 1
LEAST, MOST = 0.12, 0.88  # of the fine mask, which become 0 and 1: what is nearly certain is
HEAD = 1.35  # of the face's longer side: from its middle to the border of the second look at the head
SMALL_HEAD = 0.75  # of the picture: a second look is taken at heads whose square is smaller
WINDOW = 0.2  # of the second look's side, over which it fades at its border
LEAST_PX = 16
NEAR = 0.04  # of the picture's longer side around the first look's person, where the second look counts
INSIDE, OUTSIDE, SURE = 0.7, 0.05, 0.75  # the least of the face inside, of its surroundings outside, of pixels decided


def person_mask(images: Tensor) -> Tensor:
    """Probability that each pixel shows a person.

    Args:
        images: (B, 3, H, W) in 0..1.

    Returns:
        (B, H, W) in 0..1.

    Raises:
        ShapeError: not such images.
        MissingDependency: the weights that come with this package are not there.
    """
    check_shape(images, "B 3 H W", "images")
    with torch.inference_mode(), one_torch_thread():
        return torch.cat([_mask(image[None].float().cpu()) for image in images])


def portrait_mask(picture: Tensor, points_px: Tensor) -> Tensor | None:
    """Mask of the people in a portrait, with a second look at the head; None where no person is recognised.

    A person is recognised where the face is nearly all inside the mask, background is seen around it, and few pixels
    are undecided. Drawings with features unlike a person's often have none.

    Args:
        picture: (H, W, 3) uint8.
        points_px: (478, 2) landmarks of the face, pixels.

    Returns:
        (H, W) in 0..1, or None.
    """
    height, width = check_picture(picture, "the portrait").shape[:2]
    oval, size = points_px[list(FACE_OVAL)], torch.tensor([width, height])
    image = picture.permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode(), one_torch_thread():
        mask = _mask(image)[0]
        low, high = oval.amin(0), oval.amax(0)
        reach, middle = HEAD * float((high - low).max()), (low + high) / 2
        x0, y0 = (middle - reach).clamp(min=0).int().tolist()
        x1, y1 = (int(end) for end in torch.minimum(middle + reach, size))
        if min(x1 - x0, y1 - y0) < LEAST_PX:
            return None
        if max(x1 - x0, y1 - y0) < SMALL_HEAD * max(height, width):
            vicinity = grown(mask[None, None], round(NEAR * max(height, width)))[0, 0, y0:y1, x0:x1]
            head = torch.minimum(_mask(image[..., y0:y1, x0:x1])[0], vicinity)
            mask[y0:y1, x0:x1].lerp_(head, _window(x1 - x0) * _window(y1 - y0)[:, None])
    return mask if _is_person(mask[y0:y1, x0:x1], mask, points_px) else None


def grown(mask: Tensor, radius: int) -> Tensor:
    """(B, C, H, W) maxima over squares of 2 · radius + 1 pixels."""
    side = 2 * radius + 1
    padded = F.pad(mask, (radius, radius, radius, radius), value=float("-inf"))
    return sliding_max(sliding_max(padded, side, 3), side, 2)


def _is_person(around: Tensor, mask: Tensor, points_px: Tensor) -> bool:
    last = torch.tensor([mask.shape[1], mask.shape[0]]) - 1
    at = torch.minimum(points_px.long().clamp(min=0), last)
    decided = ((around < 0.1) | (around > 0.9)).float().mean()
    is_inside = float(mask[at[:, 1], at[:, 0]].mean()) > INSIDE
    return is_inside and float((around < 0.5).float().mean()) > OUTSIDE and float(decided) > SURE


def _window(length: int) -> Tensor:
    """(length,) weights of the second look, which fade at the ends."""
    line = torch.arange(length) + 0.5
    return (torch.minimum(line, length - line) / (WINDOW * length)).clamp(max=1)


def _mask(image: Tensor) -> Tensor:
    """(1, H, W) mask of (1, 3, H, W) with the picture's edges."""
    height, width = image.shape[-2:]
    coarse = _network()(F.interpolate(image, (SIDE_PX, SIDE_PX), mode="bilinear", antialias=True))[None]
    scale = min(1.0, GUIDE_PX / max(height, width))
    small = (max(1, round(height * scale)), max(1, round(width * scale)))
    mask = ((_resized(coarse, small) - UNSURE) / (1 - 2 * UNSURE)).clamp(0, 1)
    guide = F.interpolate(image, small, mode="bilinear", antialias=True) if scale < 1 else image
    slopes, offsets = guided_upsampled(mask, guide, (height, width), RADIUS, EPSILON)
    fine = ((slopes * image).sum(1, keepdim=True) + offsets - LEAST) / (MOST - LEAST)
    # far from the coarse edge, colours such as a dark coat's before a dark wall decide nothing
    upper, lower = (_resized(grown(part, BAND), (height, width)) for part in (mask, 1 - mask))
    return torch.minimum(torch.maximum(fine.clamp(0, 1), 1 - 2 * lower), 2 * upper).clamp(0, 1)[:, 0]


def _resized(mask: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(mask, size, mode="bilinear", align_corners=False)


@cache
def _network() -> SelfieSegmentation:
    """The network with this package's weights; read and checked once per process."""
    from safetensors.torch import load

    if not WEIGHTS.is_file():
        raise MissingDependency(f"{WEIGHTS} is not there; install this package again.")
    content = WEIGHTS.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise InputError(
            f"the segmentation weights {WEIGHTS} are damaged (another SHA-256); install this package again."
        )
    network = SelfieSegmentation()
    network.load_state_dict({key: value.float() for key, value in load(content).items()})
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
