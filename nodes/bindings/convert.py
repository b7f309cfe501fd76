"""Conversion between ComfyUI's values and the core's: the only place that permutes, clamps and moves to a device.

Other packs hand over what ComfyUI's own nodes do not: whole numbers, 0 to 255, channels first, lazy mappings. What has
one meaning is taken, with a warning in the console; everything else is refused with what was received.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from ...portraittalk_core.checks import check_finite
from ...portraittalk_core.errors import InputError, MissingDependency
from ...portraittalk_core.evaluation.source import PictureSource
from ...portraittalk_core.media.image import MAX_SIDE_PX, MIN_SIDE_PX
from ...portraittalk_core.media.resize import shrink_quickly
from ...portraittalk_core.types import LandmarkTrack, Speech

log = logging.getLogger(__name__)

CHANNELS = (1, 3, 4)  # of an IMAGE: grey, colour, colour with transparency
BRIGHT, DARK = 2.0, -0.5  # mean above which, and least value below which, numbers are not those of an IMAGE
LITTLE_KNOWN = ("torch.uint16", "torch.uint32", "torch.uint64")  # dtypes that PyTorch hardly computes with
WHITES = (255, 65535)  # of pictures in whole numbers


class Pictures(Sequence):
    """The pictures of an IMAGE batch: each is (H, W, 3) uint8, made when it is asked for.

    Args:
        values: (B, H, W, C), C one of CHANNELS.
        white: the value that is white.
    """

    def __init__(self, values: Tensor, white: float) -> None:
        self._values, self._white = values, white

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: int) -> Tensor:
        pixels = check_finite(self._values[index].detach().float().cpu(), "the IMAGE").div(self._white).clamp(0, 1)
        if pixels.shape[2] == 4:
            pixels = 1 + (pixels[..., :3] - 1) * pixels[..., 3:]
        return pixels.expand(-1, -1, 3).mul(255).round().to(torch.uint8).contiguous()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return tuple(self._values.shape[1:3])


def to_pictures(image: object) -> Pictures:
    """The pictures of an IMAGE: a batch (B, H, W, C) float 0..1; transparency is laid on white.

    Taken too: one picture (H, W, C), grey ones (B, H, W) or (H, W), channels first, whole numbers, and 0..255.

    Raises:
        InputError: not an IMAGE, without a picture, or with values of an unknown range.
    """
    tensor = as_tensor(image)
    values = None if tensor is None else _with_channels(tensor)
    if values is None or not values.numel():
        received = type(image).__name__ if tensor is None else tuple(tensor.shape)
        raise InputError(f"an IMAGE with at least 1 picture(s) is needed, not {received}.")
    return Pictures(values, _white(values, "the IMAGE"))


def to_picture(image: object) -> Tensor:
    """The first picture of an IMAGE, (H, W, 3) uint8; see `to_pictures`."""
    return to_pictures(image)[0]


def to_portrait(image: object) -> Tensor:
    """The first picture of an IMAGE, (H, W, 3) uint8, checked as a portrait file would be.

    A side of more than 4096 pixels is scaled down to that, with a warning.

    Raises:
        InputError: not an IMAGE, not numbers, or a side under 128 pixels.
    """
    picture = to_picture(image)
    height, width = picture.shape[:2]
    share = min(1.0, MAX_SIDE_PX / max(width, height))
    size = (round(height * share), round(width * share))
    if min(size) < MIN_SIDE_PX:
        raise InputError(
            f"the portrait is {width}×{height} pixels; each side must be {MIN_SIDE_PX} to {MAX_SIDE_PX}. "
            "Resize it first, for example with Upscale Image."
        )
    if share < 1:
        log.warning("the portrait is %d×%d pixels; it is scaled down to %d×%d.", width, height, size[1], size[0])
    return shrink_quickly(picture, size)


def _with_channels(tensor: Tensor) -> Tensor | None:
    """Pictures (B, H, W, C) of a tensor of another shape; None where the shape has no one meaning."""
    if tensor.ndim == 2 or (tensor.ndim == 3 and tensor.shape[2] not in CHANNELS):
        tensor = tensor[..., None]
    if tensor.ndim == 3:
        tensor = tensor[None]
    if tensor.ndim == 4 and tensor.shape[3] not in CHANNELS and tensor.shape[1] in CHANNELS:
        tensor = tensor.permute(0, 2, 3, 1)
    return tensor if tensor.ndim == 4 and tensor.shape[3] in CHANNELS else None


def _white(values: Tensor, name: str) -> float:
    """The value that is white, of pictures or masks."""
    if values.dtype == torch.bool:
        return 1.0
    few = values.detach()[[0, len(values) // 2, len(values) - 1]].float()
    low, mean, high = (float(number) for number in (few.min(), few.mean(), few.max()))
    if values.dtype.is_floating_point and low >= DARK and not mean > BRIGHT:  # above 1 is clipped, as ComfyUI does
        return 1.0
    white = next((white for white in WHITES if high <= white), None)
    if low < DARK or white is None:
        if not np.isfinite((low, high)).all():
            return 1.0  # which is told where the picture is made
        raise InputError(f"{name} holds values from {low:g} to {high:g}; it must hold 0 to 1. Scale it first.")
    log.warning("%s holds values up to %g, not 1: they are divided by %d.", name, high, white)
    return float(white)


def as_tensor(value: object) -> Tensor | None:
    """A tensor of a tensor or NumPy array of real numbers; None of anything else."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        plain = value.itemsize <= 4 and (value.dtype.kind != "u" or value.itemsize == 1)
        kind = value.dtype.newbyteorder("=") if plain else np.float32
        value = torch.from_numpy(np.ascontiguousarray(value, dtype=kind))
    if not isinstance(value, Tensor) or value.is_complex():
        return None
    return value.float() if str(value.dtype) in LITTLE_KNOWN else value


def to_masks(masks: list[Tensor]) -> Tensor:
    """A MASK batch (B, H, W) float 0..1 of masks (H, W); those of another size are scaled to the first one's."""
    import comfy.model_management

    size = masks[0].shape
    masks = [
        mask
        if mask.shape == size
        else torch.nn.functional.interpolate(mask[None, None].float(), size, mode="bilinear")[0, 0]
        for mask in masks
    ]
    return torch.stack(masks).to(comfy.model_management.intermediate_device())


def to_mask_batch(mask: object) -> Tensor:
    """Masks (M, H, W) float 0..1 of a MASK, on the CPU.

    Raises:
        InputError: not a MASK, or with values that are not numbers.
    """
    masks = _batched(mask)
    if masks is None:
        raise InputError(f"a MASK, (masks, height, width), is needed, not {_received(mask)}.")
    white = _white(masks, "the mask")
    return check_finite(masks.detach().float().cpu(), "the mask").div(white).clamp(0, 1)


def to_picture_masks(mask: object | None, pictures: Sequence[Tensor]) -> list[Tensor] | None:
    """A mask (H, W) 0..1 of every picture's size; one for all or one for each.

    Raises:
        InputError: not a MASK, or another number than pictures.
    """
    if mask is None:
        return None
    masks = _batched(mask)
    if masks is None or len(masks) not in (1, len(pictures)):
        raise InputError(f"one mask, or one for each of {len(pictures)} pictures, is needed, not {_received(mask)}.")
    return [
        torch.nn.functional.interpolate(picture_mask[None, None], picture.shape[:2], mode="bilinear")[0, 0]
        for picture_mask, picture in zip(to_mask_batch(mask).expand(len(pictures), -1, -1), pictures, strict=True)
    ]


def _batched(mask: object) -> Tensor | None:
    """(M, H, W) of a MASK with or without axes of its own for batch and channel; None of anything else."""
    masks = as_tensor(mask)
    if masks is not None and masks.ndim == 4 and 1 in (masks.shape[1], masks.shape[3]):
        masks = masks.squeeze(1 if masks.shape[1] == 1 else 3)
    masks = masks[None] if masks is not None and masks.ndim == 2 else masks
    return masks if masks is not None and masks.ndim == 3 and masks.numel() else None


def _received(mask: object) -> object:
    return tuple(mask.shape) if hasattr(mask, "shape") else type(mask).__name__


def to_latents(latent: Mapping) -> Tensor:
    """Latents (B, 4, h, w) of a LATENT.

    Raises:
        InputError: not a LATENT of SD1.5, or with values that are not numbers.
    """
    samples = latent.get("samples") if isinstance(latent, Mapping) else None
    if not isinstance(samples, Tensor) or samples.ndim != 4 or samples.shape[1] != 4 or not len(samples):
        received = tuple(samples.shape) if isinstance(samples, Tensor) else type(samples).__name__
        raise InputError(f"a LATENT of SD1.5, (frames, 4, height/8, width/8), is needed, not {received}.")
    return check_finite(samples, "the LATENT")


def to_mask(masks: list[Tensor]) -> Tensor:
    """A MASK (B, H, W) float 0..1 of (H, W) uint8 masks."""
    import comfy.model_management

    return torch.stack(masks).float().div_(255).to(comfy.model_management.intermediate_device())


def to_image(pictures: list[Tensor]) -> Tensor:
    """An IMAGE batch (B, H, W, 3) float 0..1 of (H, W, 3) uint8 pictures of one size."""
    import comfy.model_management

    batch = torch.empty(len(pictures), *pictures[0].shape, dtype=torch.float32)
    for into, picture in zip(batch, pictures, strict=True):  # one at a time: no second copy of the whole batch
        torch.div(picture, 255.0, out=into)
    return batch.to(comfy.model_management.intermediate_device())


def picture_source(image: object, fps: Fraction, name: str) -> PictureSource:
    """An IMAGE batch as a video that can be read at any frame rate: the frame shown at each moment.

    Raises:
        InputError: not an IMAGE, or without a frame.
    """
    pictures = to_pictures(image)
    return PictureSource.of_frames(name, len(pictures), pictures.size, fps, pictures.__getitem__)


def to_plot(track: LandmarkTrack, speech: Speech) -> Tensor:
    """A track's curves as an IMAGE; a small grey picture where matplotlib is not installed."""
    from ...portraittalk_core.plots.track import plot_track

    try:
        return to_image([plot_track(track, speech)])
    except MissingDependency as error:
        log.warning("no plot: %s", error)
        return torch.full((1, 64, 64, 3), 0.5)
