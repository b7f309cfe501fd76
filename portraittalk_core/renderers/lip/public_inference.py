"""IP-LAP's own inference, step by step: what it takes of options and jobs, how it rounds and how it pastes.

Shapes: H and W of a picture, S side of the networks' crops.
Source: W. Zhong et al., "Identity-Preserving Talking Face Generation with Landmark and Appearance Priors" (2023) and
its public code's behaviour; the places of 68 landmarks: C. Sagonas et al. 2013, "300 Faces in-the-Wild Challenge".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ...errors import InputError
from ...media.fixed_point import blurred, filled_polygon, resized
from ...types import Speech
from ..contract import Film, RenderJob
from .crop import LipBox
from .options import OWN, PUBLIC_FPS, SCRIPT, LipPaintOptions

# of the mesh, where 27 of the 68 landmarks lie that the public code detects anew: the jaw, and the brows back
JAW = (162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389)
BROWS = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)
OUTLINE = JAW + BROWS[::-1]
BLUR_PX, BLUR_SIGMA = 21, 11.0
FIRST_SHOWN = 2  # the frame that stands for those before it too
AS_IN_SCRIPT = {
    "crop_pad": None,
    "blend": "face",
    "match_colour": 0.0,
    "sharpen": 0.0,
    "voice_gate": 0.0,
    "max_yaw": 90.0,
}


def options_of(options: LipPaintOptions) -> LipPaintOptions:
    """The options, with those that do not count in the script's inference as they are there."""
    return replace(options, **AS_IN_SCRIPT) if options.inference == SCRIPT else options


def check_job(job: RenderJob, options: LipPaintOptions) -> None:
    """Raise InputError where a job cannot be done as the public code does it."""
    if options.inference == OWN:
        return
    told = f"`inference` {options.inference} is IP-LAP's own"
    if not isinstance(job.source, Film):
        raise InputError(f"{told}, for films, not for the picture {job.source.source}; take `inference` own.")
    if job.fps != PUBLIC_FPS:
        raise InputError(
            f"{told}, for {PUBLIC_FPS} frames a second, and {job.source.source} has {float(job.fps):g}; convert it "
            f"first (ffmpeg -i FILM -r {PUBLIC_FPS} NEW.mp4), or take `inference` own."
        )
    if job.windows is None:
        raise InputError(f"{told}, which needs an engine's windows of a dub with one speaker; take `inference` own.")


def windows_of(
    options: LipPaintOptions, engine: object, film: Film, speech: Speech
) -> Callable[[], Iterator[Tensor]] | None:
    """`RenderJob.windows` of a dub; None where each frame's own landmarks are drawn.

    Raises:
        InputError: the engine predicts no windows.
    """
    if options.inference == OWN:
        return None
    if not hasattr(engine, "film_windows"):
        raise InputError(
            f"`inference` {options.inference} draws what IP-LAP's landmark generator predicts, and the engine is "
            f"{getattr(engine, 'name', 'another')}; give its file, landmarkgenerator_checkpoint.pth, as the engine, or "
            "take `inference` own."
        )
    scenes = None if options.inference == SCRIPT else film.scenes
    return partial(engine.film_windows, speech, film.track, scenes)


def outline_mask(points_px: Tensor, width: int, height: int) -> Tensor:
    """(H, W) uint8 of what is pasted: the face from the brows down, with a soft edge.

    Args:
        points_px: (478, 2 or 3) landmarks of the filmed face.
        width: W.
        height: H.
    """
    corners, mask = points_px[list(OUTLINE), :2].trunc().long(), torch.zeros(height, width, dtype=torch.uint8)
    ends = torch.tensor([width, height])
    (left, top), (right, bottom) = (
        torch.minimum(end.clamp(min=0), ends).tolist()
        for end in (corners.amin(0) - BLUR_PX, corners.amax(0) + BLUR_PX + 1)
    )
    if right > left and bottom > top:  # beyond that all is 0, and stays so
        part = filled_polygon(corners - torch.tensor([left, top]), right - left, bottom - top)
        mask[top:bottom, left:right] = blurred(part, BLUR_PX, BLUR_SIGMA)
    return mask


def pasted(picture: Tensor, painted: Tensor, box: LipBox, points_px: Tensor) -> Tensor:
    """(H, W, 3) uint8: a picture with its painted crop, cut off to whole levels.

    Args:
        picture: (H, W, 3) uint8.
        painted: (3, S, S) float 0..1 of 255 levels.
        box: the crop's place.
        points_px: see `outline_mask`.
    """
    height, width = picture.shape[:2]
    levels = (painted.permute(1, 2, 0) * 255).round().byte()
    made, out = picture.clone(), picture.clone()
    made[box.top : box.bottom, box.left : box.right] = resized(levels, *box.size_px)
    mask = outline_mask(points_px, width, height)
    rows, columns = (torch.nonzero(mask.amax(axis)).flatten() for axis in (1, 0))
    if len(rows):
        part = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
        share = mask[part].double()[..., None] / 255
        out[part] = (made[part].double() * share + picture[part].double() * (1 - share)).byte()
    return out
