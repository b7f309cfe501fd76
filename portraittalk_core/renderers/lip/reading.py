"""References of a footage: chosen and read from a film, or the one picture of a portrait.

Shapes: T frames, N references, M lip references, S side of the crops.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ...errors import InputError
from ...face.lip_points import LIP_POINTS
from ...face.sketch import draw_sketch
from ...types import Portrait
from ..film_pictures import pictures_at
from .contract import References
from .crop import LipBoxes, box_of
from .footage import Footage
from .masks import around_lips
from .options import OWN, USUAL, LipPaintOptions
from .references import ReferenceFrames, choose, contact_sheet


def references_of(
    footage: Footage,
    boxes: LipBoxes,
    weights: Tensor,
    options: LipPaintOptions,
    frames: ReferenceFrames | None = None,
) -> References:
    """The references of a footage.

    Args:
        footage: a film, or a portrait, which is the only reference of itself.
        boxes: of its frames.
        weights: (T,) how much of each frame is painted; references are of frames that show the face.
        options: how many, or which.
        frames: those that were chosen before; None chooses them here.

    Raises:
        InputError: a frame was named that the film does not have, or that does not show the face.
    """
    if isinstance(footage.source, Portrait):
        portrait = footage.source
        height, width = portrait.picture.shape[:2]
        box = box_of(portrait.landmarks.points_px[0], boxes.rule, width, height, options.crop_pad)
        points = box.points01(portrait.landmarks.points_px[0, list(LIP_POINTS)])
        crop, sketch = box.take(portrait.picture, boxes.rule.size), _sketch(points, box.size_px, boxes.rule.size)
        return _references([(crop, sketch, points)], [0], [0])
    chosen = chosen_frames(footage, weights, options) if frames is None else frames
    numbers, crops = crops_of(footage, boxes, {*chosen.faces, *chosen.lips})
    read = [(crop, *_drawn(footage, boxes, index)) for index, crop in zip(numbers, crops, strict=True)]
    places = {number: place for place, number in enumerate(numbers)}
    return _references(read, [places[at] for at in chosen.faces], [places[at] for at in chosen.lips])


def reference_sheet(
    footage: Footage, boxes: LipBoxes, weights: Tensor, options: LipPaintOptions
) -> tuple[ReferenceFrames, Tensor]:
    """The frames of a film that are its references, and (H, W, 3) uint8 with them all; see `references_of`."""
    chosen = chosen_frames(footage, weights, options)
    numbers, crops = crops_of(footage, boxes, {*chosen.faces, *chosen.lips})
    return chosen, contact_sheet(crops, chosen, numbers)


def crops_of(footage: Footage, boxes: LipBoxes, frames: Iterable[int]) -> tuple[list[int], list[Tensor]]:
    """Numbers of some frames of a film, in turn and each once, and their crops (3, S, S)."""
    film, numbers = footage.source, sorted(set(frames))
    in_file = {at: at if film.order is None else int(film.order[at]) for at in numbers}
    read = sorted(set(in_file.values()))
    crops: dict[int, Tensor] = {}
    for number, picture in zip(read, pictures_at(film.path, film.track.fps, read), strict=True):
        for index in (at for at in numbers if in_file[at] == number):
            crops[index] = boxes[index].take(picture, boxes.rule.size)
    return numbers, [crops[at] for at in numbers]


def chosen_frames(footage: Footage, weights: Tensor, options: LipPaintOptions) -> ReferenceFrames:
    """The frames of a film that are references: those that were named, or of `references.choose`."""
    named, count = options.chosen_frames, len(footage)
    if named is not None:
        for number in named:
            if number >= count or not bool(footage.track.valid[number]):
                why = f"has frames 0 to {count - 1}" if number >= count else "shows no face there"
                raise InputError(f"`reference_frames` names frame {number}, but {footage.name} {why}; name another.")
        return ReferenceFrames(named, named)
    shown = weights >= 1 if bool((weights >= 1).any()) else weights > 0
    numbers = options.num_references(count), options.lip_references or USUAL[1]
    return choose(footage.track, shown, *numbers, footage.source.sharpness if options.inference == OWN else None)


def _drawn(footage: Footage, boxes: LipBoxes, index: int) -> tuple[Tensor, Tensor]:
    points = boxes.points01(index, footage.track.points[index, list(LIP_POINTS)])
    return _sketch(points, boxes[index].size_px, boxes.rule.size), points


def _sketch(points: Tensor, size_px: tuple[int, int], size: int) -> Tensor:
    return draw_sketch(points[None], size, torch.tensor([size_px]))[0]


def _references(read: list[tuple[Tensor, Tensor, Tensor]], chosen: list[int], lips: list[int]) -> References:
    """References from crops (3, S, S), sketches (3, S, S) and points (131, 2) 0..1 of the crop."""
    masks = {at: around_lips(read[at][2], read[at][0].shape[-1]) for at in lips}
    return References(
        torch.stack([read[at][0] for at in chosen]),
        torch.stack([read[at][1] for at in chosen]),
        torch.stack([read[at][0] * masks[at] for at in lips]),
        torch.stack([read[at][1] * masks[at] for at in lips]),
        torch.stack([read[at][2] for at in lips]),
    )
