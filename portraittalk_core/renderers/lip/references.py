"""Choice of the frames of a film that a lip model takes its speaker's face and lips from, and their contact sheet.

Shapes: T frames, N references, M lip references.
Source: W. Zhong et al., "Identity-Preserving Talking Face Generation with Landmark and Appearance Priors" (2023), its
public code: equal steps of rank from the most closed to the most open mouth. Beyond it: of the frames between two
steps, the sharpest whose head is turned as usual.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ...checks import check_range
from ...errors import InputError
from ...face.geometry import head_pose
from ...face.lip_points import OPENING
from ...memory_map import release_memory
from ...types import LandmarkTrack

MOST_REFERENCES = 1000
MOST_CANDIDATES = 9  # frames of which one reference is chosen
USUAL_FRAMES = 256  # whose median tells how the head is turned as a rule
TURNED_DEG = 10.0  # a head turned so much further speaks against a frame as a mouth without any sharpness does
TILE_PX, CAPTION_PX, GAP_PX = 128, 16, 4  # of a contact sheet
GROUND, INK, LIPS_INK = (24, 24, 28), (224, 224, 224), (255, 190, 80)


@dataclass(frozen=True)
class ReferenceFrames:
    """Numbers of the frames that are references, by how far the mouth is open; a short film's come several times."""

    faces: tuple[int, ...]  # N, for the face's appearance
    lips: tuple[int, ...]  # M, for the lips' alone


def choose(
    track: LandmarkTrack, shown: Tensor, num_faces: int, num_lips: int, sharpness: Tensor | None = None
) -> ReferenceFrames:
    """Choose references by lip opening, sharpness and pose.

    Args:
        track: T frames of the film's face.
        shown: (T,) bool: frames that may be chosen, which show the face, its mouth, and the person that is meant.
        num_faces: N.
        num_lips: M.
        sharpness: (T,) of the mouth in each frame, see `face.sharpness`; None: lip opening alone counts, as in IP-LAP's
            public code.

    Raises:
        InputError: no frame may be chosen.
    """
    check_range(num_faces, 1, MOST_REFERENCES, "references")
    check_range(num_lips, 1, MOST_REFERENCES, "lip_references")
    frames = torch.nonzero(shown).flatten()
    if not len(frames):
        raise InputError(
            f"none of the film's {len(track)} frames shows a face to take references from; choose another."
        )
    upper, lower = (track.points[frames, point, :2].double() for point in OPENING)
    release_memory()
    ranked = frames[(upper - lower).norm(dim=1).argsort(stable=True)]
    usual = None if sharpness is None else _usual_pose(track, frames)
    return ReferenceFrames(
        *(
            tuple(
                _best(track, candidates, sharpness, usual) for candidates in _candidates(ranked, count, usual is None)
            )
            for count in (num_faces, num_lips)
        )
    )


def _candidates(ranked: Tensor, count: int, exact: bool) -> list[Tensor]:
    """Frames near each of some equal steps of rank, the step's own first; none is a candidate twice."""
    steps = torch.linspace(0, len(ranked) - 1, count).long().tolist()
    between = (len(ranked) - 1) // max(count - 1, 1)
    reach = 0 if exact else max(0, min((between - 1) // 2, MOST_CANDIDATES // 2))
    offsets = sorted(range(-reach, reach + 1), key=abs)
    return [ranked[[step + away for away in offsets if 0 <= step + away < len(ranked)]] for step in steps]


def _best(track: LandmarkTrack, candidates: Tensor, sharpness: Tensor | None, usual: Tensor | None) -> int:
    """The sharpest of some frames whose head is turned as usual."""
    if len(candidates) == 1 or sharpness is None or usual is None:
        return int(candidates[0])
    sharp = sharpness[candidates].double()
    away_deg = (_pose(track, candidates) - usual).norm(dim=1).double()
    cost = away_deg / TURNED_DEG - sharp / sharp.max().clamp(min=1e-9)
    return int(candidates[int(cost.argmin())])


def _usual_pose(track: LandmarkTrack, frames: Tensor) -> Tensor:
    """(2,) median pitch and yaw in degrees."""
    some = frames[torch.linspace(0, len(frames) - 1, min(len(frames), USUAL_FRAMES)).long()]
    return _pose(track, some).median(0).values


def _pose(track: LandmarkTrack, frames: Tensor) -> Tensor:
    """(F, 2) pitch and yaw of some frames in degrees."""
    return head_pose(track.at(frames)).angles_deg[:, :2]


def contact_sheet(
    pictures: Sequence[Tensor], frames: ReferenceFrames, numbers: Sequence[int], columns: int = 0
) -> Tensor:
    """One picture with all references and the numbers of their frames; those of the lips are marked.

    Args:
        pictures: (3, S, S) float 0..1 crops of the frames.
        frames: what was chosen.
        numbers: of the frames that the pictures show.
        columns: tiles in a row; 0: about as many as rows.

    Returns:
        (H, W, 3) uint8.

    Raises:
        InputError: other than one number a picture, or no picture.
    """
    if not len(pictures) or len(pictures) != len(numbers):
        raise InputError(f"a contact sheet needs a number for each picture, not {len(numbers)} for {len(pictures)}.")
    columns = columns or int(np.ceil(np.sqrt(len(pictures))))
    rows = -(-len(pictures) // columns)
    across, down = TILE_PX + GAP_PX, TILE_PX + CAPTION_PX + GAP_PX
    sheet = Image.new("RGB", (columns * across + GAP_PX, rows * down + GAP_PX), GROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(CAPTION_PX - 4)
    for place, (picture, number) in enumerate(zip(pictures, numbers, strict=True)):
        left, top = GAP_PX + place % columns * across, GAP_PX + place // columns * down
        pixels = (picture.float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        sheet.paste(Image.fromarray(np.ascontiguousarray(pixels)).resize((TILE_PX, TILE_PX)), (left, top))
        is_lips = number in frames.lips
        times = max(frames.faces.count(number), 1)
        caption = str(number) + (f" x{times}" if times > 1 else "") + (" lips" if is_lips else "")
        draw.text((left + 2, top + TILE_PX + 1), caption, fill=LIPS_INK if is_lips else INK, font=font)
    return torch.from_numpy(np.array(sheet))
