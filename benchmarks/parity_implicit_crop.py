"""Parity of crop and paste with LivePortrait's public code, on the sample portrait at some sizes and turns."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from portraittalk_core.renderers.implicit.contract import CropRule
from portraittalk_core.renderers.implicit.crop import EYE_POINTS, MEASURED, crop_of
from portraittalk_core.renderers.implicit.paste import paste
from portraittalk_core.types import Portrait

from .parity import PublicCode, run

PUBLIC = PublicCode(
    "https://github.com/KlingAIResearch/LivePortrait",
    "src/utils/crop.py",
    {"cv2": "opencv-contrib-python", "rich": "rich"},
)
RULE = CropRule(2.3, -0.125, True)
CASES = ((1.5, 0), (3, 0), (4, 17), (3, -40))  # times 512 pixels; degrees
SAMPLE = Path(__file__).parents[1] / "samples" / "portrait.jpg"
SIDE = 512  # of the public crop and of what is rendered
NUM_POINTS = 203  # of the public landmarks


def measure(repo: Path) -> dict[str, float]:
    """Largest differences of crop and paste from the public code in `repo`, in grey levels, and how many exceed one.

    OpenCV samples at steps of 1/32 pixel, and the public code rounds to whole levels twice; hence single pixels of two
    levels in the crop. A face whose crop has less than 256 pixels is shrunk without aliasing here, so it is left out.

    Args:
        repo: a copy of github.com/KlingAIResearch/LivePortrait.
    """
    with patch.object(sys, "path", [str(repo), *sys.path]):
        public = importlib.import_module("src.utils.crop")
    results = {}
    for zoom, degrees in CASES:
        results |= _compared(public, repo, _portrait(zoom, degrees), f"{round(512 * zoom)} px, {degrees}°")
    return results


def _compared(public: ModuleType, repo: Path, portrait: Portrait, name: str) -> dict[str, float]:
    picture, points = portrait.picture, portrait.landmarks.points_px[0]
    theirs = public.crop_image(
        picture.numpy(), public_points(points), dsize=SIDE, scale=RULE.scale, vx_ratio=0, vy_ratio=RULE.shift_y,
        flag_do_rot=True,
    )  # fmt: skip
    crop = crop_of(points, RULE, SIDE // 2)
    small = public.cv2.resize(theirs["img_crop"], (SIDE // 2,) * 2, interpolation=public.cv2.INTER_AREA)
    taken = (crop.take(picture)[0].permute(1, 2, 0) * 255).round().numpy()
    rendered = _smooth_noise(public)
    mask = public.cv2.imread(str(repo / "src" / "utils" / "resources" / "mask_template.png"))
    size = picture.shape[1], picture.shape[0]
    placed = public.prepare_paste_back(mask, theirs["M_c2o"], size)
    expected = public.paste_back(rendered, theirs["M_c2o"], picture.numpy(), placed)
    planes = torch.from_numpy(rendered).permute(2, 0, 1).float() / 255
    pasted = paste(picture, planes, crop, torch.from_numpy(mask[..., 0]).float() / 255, match_colour=0.0)
    matrix = np.abs(theirs["M_o2c"][:2] - crop.resized(SIDE).matrix.numpy()).max()
    return {
        f"{name}: matrix, pixels": float(matrix),
        **_levels(f"{name}: crop", taken, small),
        **_levels(f"{name}: paste", pasted.numpy(), expected),
    }


def public_points(points_px: Tensor) -> np.ndarray:
    """(203, 2) points in the public order: eyes and mouth corners at their places, the rest of the face elsewhere."""
    at = points_px[:, :2].double().numpy() - 0.5  # pixels' middles count there
    rows = np.stack([at[MEASURED[number % len(MEASURED)]] for number in range(NUM_POINTS)])
    for first, eye in zip((0, 24), EYE_POINTS, strict=True):
        for number, point in enumerate(eye):
            rows[first + 6 * number] = at[point]
    rows[48], rows[66] = at[61], at[291]
    return rows


def _levels(name: str, ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    difference = np.abs(ours.astype(int) - theirs.astype(int))
    return {
        f"{name}, largest difference": float(difference.max()),
        f"{name}, share over 1": float((difference > 1).mean()),
    }


def _smooth_noise(public: ModuleType) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3)).astype(np.uint8)
    blurred = public.cv2.GaussianBlur(noise, (0, 0), 6)
    return public.cv2.normalize(blurred, None, 0, 255, public.cv2.NORM_MINMAX)


def _portrait(zoom: float, degrees: float) -> Portrait:
    import cv2

    from portraittalk_core.face.mesh.landmarks import find_portrait
    from portraittalk_core.media.image import load_picture

    picture, side = load_picture(SAMPLE).numpy(), round(512 * zoom)
    picture = cv2.resize(picture, (side, side), interpolation=cv2.INTER_CUBIC)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), degrees, 1)
    picture = cv2.warpAffine(picture, turn, (side, side), flags=cv2.INTER_CUBIC)
    return find_portrait(torch.from_numpy(picture), source=SAMPLE.name)


if __name__ == "__main__":
    raise SystemExit(run(PUBLIC, measure))
