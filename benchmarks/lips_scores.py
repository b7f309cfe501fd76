"""How near painted mouths are to the filmed or drawn ones, clip by clip, and whether one network beats another.

Shapes: F frames, S side of the crops.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from portraittalk_core.face.lip_points import INNER
from portraittalk_core.face.mesh.landmarks import open_mesh
from portraittalk_core.metrics.landmark_distance import MOUTH_POINTS, lmd
from portraittalk_core.metrics.ssim import ssim
from portraittalk_core.renderers.lip.inside import TRIED_GAP, gaps
from portraittalk_core.renderers.lip.lip_model import LipPriors
from portraittalk_core.renderers.lip.masks import around_lips, mouth_mask
from portraittalk_core.renderers.lip.references import choose

from .implicit_small import by_warp, clip_picture, measured
from .lips_puppet import SIDE, UNIT, mouth_ruler
from .lips_subjects import Subject, in_silence
from .lips_training import FULL, SILENCE_HEARD

FACES, LIPS, LIPS_OF = 5, 5, 12  # references and lip references painted with; lip references the nearest are of
AT_ONCE = 8  # frames that are painted together
AT_THE_MOUTH = ("no lips", "no sound", SILENCE_HEARD)  # parts that act there alone, and are judged there
SURE = 2  # standard errors that a gain has to exceed to count as more than chance
Painter = Callable[[Subject, Sequence[int]], Tensor]
Reader = Callable[[Subject, Sequence[int], Tensor], Tensor]


@dataclass(frozen=True)
class Score:
    """How near painted frames are to the true ones."""

    psnr_db: float  # of the lower halves
    mouth_db: float  # PSNR of the boxes around the lips
    inside_db: float  # PSNR between the lips of open mouths; NaN where none is open
    ssim: float  # of the lower halves
    lmd_px: float

    def cells(self) -> list[str]:
        """Of a table."""
        values = zip(dataclasses.astuple(self), (2, 2, 2, 3, 3), strict=True)
        return [f"{value:.{places}f}" for value, places in values]


HEADING = ["PSNR dB", "mouth dB", "inside dB", "SSIM", "LMD px"]
Scores = list[Score]  # of each clip
OfSeeds = list[Scores]  # of each training


def mean(scores: Scores) -> Score:
    """Means over clips, without those that a number cannot be told of."""
    values = torch.tensor([dataclasses.astuple(one) for one in scores], dtype=torch.float64)
    return Score(*values.nanmean(0).tolist())


def mean_of_seeds(scores: OfSeeds) -> Score:
    """Means over trainings and clips."""
    return mean([mean(clips) for clips in scores])


def score(held_out: Sequence[Subject], paint: Painter, reader: Reader) -> Scores:
    """Of each clip; mouths are found by `reader`."""
    return [_score(subject, paint, reader) for subject in held_out]


def _score(subject: Subject, paint: Painter, reader: Reader) -> Score:
    frames, track, lower = subject.painted_frames, subject.video.track, slice(subject.side // 2, None)
    made, true = paint(subject, frames), subject.crops(frames)
    pairs = zip(*(255 * crops[:, :, lower].permute(0, 2, 3, 1) for crops in (made, true)), strict=True)
    alike = sum(ssim(*pair) for pair in pairs) / len(frames)
    errors = (made - true).square().mean(1)
    masks = torch.stack([around_lips(subject.clip.points[frame], subject.side) for frame in frames])
    inner = torch.stack([inside_mask(subject, frame) for frame in frames])
    inner *= (gaps(track.points[frames], track.width, track.height) > TRIED_GAP)[:, None, None]
    means = errors[:, lower].mean(), *((errors * mask).sum() / mask.sum() for mask in (masks, inner))
    places = reader(subject, frames, made), _true_places(reader, subject)
    found = ~(places[0].isnan() | places[1].isnan()).flatten(1).any(1)
    away = lmd(places[0][found], places[1][found], kind="l1_raw").mean() if bool(found.any()) else torch.nan
    return Score(*(float(-10 * one.log10()) for one in means), float(alike), float(away))


def inside_mask(subject: Subject, frame: int) -> Tensor:
    """(S, S) 1 between the inner lips of a frame's crop."""
    return mouth_mask(subject.clip.points[frame, INNER], subject.side)


@cache
def _true_places(reader: Reader, subject: Subject) -> Tensor:
    frames = subject.painted_frames
    return reader(subject, frames, subject.crops(frames))


@dataclass(frozen=True)
class Gain:
    """How much nearer the full network is than another one, on the same clips."""

    value: float  # mean over trainings and clips
    error: float  # its standard error, of clips and, where there are several, of trainings; NaN of a single clip
    of_seeds: tuple[float, ...] = ()  # means over clips, where there are several trainings

    @staticmethod
    def of(differences: Sequence[Sequence[float]]) -> Gain:
        """Of each training's clips; those that a number cannot be told of are left out."""
        table = torch.tensor(differences, dtype=torch.float64)
        clips, seeds = table.nanmean(0), table.nanmean(1)
        clips = clips[~clips.isnan()]
        square = clips.var() / len(clips) if len(clips) > 1 else torch.tensor(torch.nan)
        if len(seeds) == 1:
            return Gain(float(clips.mean()), float(square**0.5))
        return Gain(float(clips.mean()), float((square + seeds.var() / len(seeds)) ** 0.5), tuple(seeds.tolist()))

    @property
    def mark(self) -> str:
        """MISS for none, weak for one that may be chance."""
        if not self.value > 0:
            return "MISS"
        return "weak" if self.value <= SURE * self.error else "ok  "


def verdict(scores: dict[str, OfSeeds], who: str = "") -> set[str]:
    """Print whether the full network is the best in PSNR and in landmark distance; the names of those as good.

    PSNR is of the lower half, or at the mouth where a part acts there.
    """
    best, as_good = scores.get(FULL), set()
    for name, others in scores.items() if best else ():
        if name == FULL:
            continue
        where, place = ("mouth_db", "at the mouth") if name in AT_THE_MOUTH else ("psnr_db", "of the lower half")
        pairs = [list(zip(*trained, strict=True)) for trained in zip(best, others, strict=True)]
        sharper = [[getattr(full, where) - getattr(other, where) for full, other in clips] for clips in pairs]
        nearer = [[other.lmd_px - full.lmd_px for full, other in clips] for clips in pairs]
        gains = (Gain.of(sharper), "dB {}", ".2f"), (Gain.of(nearer), "px nearer lips", ".3f")
        for gain, unit, form in gains:
            as_good |= {name} if gain.mark == "MISS" else set()
            told = f"{gain.value:+{form}} ± {gain.error:{form}} {unit.format(place)}"
            seeds = ", ".join(f"{value:+{form}}" for value in gain.of_seeds)
            print(f"{gain.mark} full over {name}{who}: {told}{seeds and f' (by training {seeds})'}")
    return as_good


def others_of(held_out: Sequence[Subject]) -> dict[Subject, Subject]:
    """For each clip the next one, of another person on drawn people."""
    return dict(zip(held_out, (*held_out[1:], held_out[0]), strict=True))


def painter(name: str, model: LipPriors) -> Painter:
    """Paints with a network of VARIANTS, with five references."""
    paint = by_model(model, FACES)
    return (lambda subject, frames: paint(in_silence(subject), frames)) if name == SILENCE_HEARD else paint


def by_model(
    model: LipPriors, num_faces: int, num_lips: int | None = None, lips_of: dict[Subject, Subject] | None = None
) -> Painter:
    """Paints with a network, through the renderer's contract.

    Args:
        model: the network.
        num_faces: references.
        num_lips: lip references; None: 5, or 12 where each frame has the nearest of them.
        lips_of: clips whose lips are taken in the place of a clip's own.
    """
    num_lips = num_lips or (LIPS_OF if model.config.nearest_lips else LIPS)

    def paint(subject: Subject, frames: Sequence[int]) -> Tensor:
        references = subject.references(num_faces, num_lips)
        if lips_of is not None:
            other = lips_of[subject].references(1, num_lips)
            references = dataclasses.replace(other, pictures=references.pictures, sketches=references.sketches)
        features = model.encode(references)
        parts = [frames[at : at + AT_ONCE] for at in range(0, len(frames), AT_ONCE)]
        return torch.cat([model.paint(features, subject.batch(part)) for part in parts])

    return paint


def warped(subject: Subject, frames: Sequence[int]) -> Tensor:
    """The warp renderer: the first part's most closed mouth, moved to the frames' landmarks."""
    source = choose(subject.video.track, subject.first_part, 1, 1).faces[0]
    pictures = by_warp(dataclasses.replace(subject.video, reference=source), frames)
    return torch.stack([subject.boxes[f].take(p, subject.side) for f, p in zip(frames, pictures, strict=True)])


def over_warp(model: LipPriors) -> Painter:
    """The warp's crops with the insides of the network's mouths pasted into them, as `blend` mouth does."""
    painted = by_model(model, FACES)

    def paint(subject: Subject, frames: Sequence[int]) -> Tensor:
        masks = torch.stack([inside_mask(subject, frame) for frame in frames])
        return torch.lerp(warped(subject, frames), painted(subject, frames), masks[:, None])

    return paint


def read_drawn(subject: Subject, frames: Sequence[int], crops: Tensor) -> Tensor:
    """(F, 4, 2) how far the left, right, highest and lowest end of a drawn mouth are off, in pixels of the crops."""
    off = []
    for frame, crop, true in zip(frames, crops, subject.crops(frames), strict=True):
        off.append(_ruler(subject, frame) @ (crop - true).flatten())
    left, right, top, bottom = torch.stack(off).unbind(1)
    middles = (left + right) / 2, (top + bottom) / 2
    ends = [(left, middles[1]), (right, middles[1]), (middles[0], top), (middles[0], bottom)]
    scale = UNIT * SIDE * subject.side / subject.clip.boxes_px[list(frames)]  # pixels of an inter-ocular distance
    return torch.stack([torch.stack(end, 1) for end in ends], 1) * scale[:, None]


@cache
def _ruler(subject: Subject, frame: int) -> Tensor:
    def crop(picture: Tensor) -> Tensor:
        levels = (picture * 255).round().byte().permute(1, 2, 0).contiguous()
        return subject.boxes[frame].take(levels, subject.side)

    return mouth_ruler(subject.acting, frame, crop, around_lips(subject.clip.points[frame], subject.side))


def read_filmed(subject: Subject, frames: Sequence[int], crops: Tensor) -> Tensor:
    """(F, 40, 2) mouth landmarks of crops in their pictures, pixels; NaN where no face is found."""
    pictures = []
    for frame, crop in zip(frames, crops, strict=True):
        picture, box = clip_picture(subject.video, frame), subject.boxes[frame]
        width, height = box.size_px
        resized = interpolate(crop[None], (height, width), mode="bilinear", align_corners=False)[0]
        part = (resized * 255).round().clamp(0, 255).byte().permute(1, 2, 0)
        middle = height // 2
        picture[box.top + middle : box.bottom, box.left : box.right] = part[middle:]
        pictures.append(picture)
    with open_mesh() as mesh:
        seen = measured(pictures, subject.video, mesh)
    if seen is None:
        return torch.full((len(frames), len(MOUTH_POINTS), 2), torch.nan)
    return seen.points_px[:, list(MOUTH_POINTS), :2].masked_fill(~seen.valid[:, None, None], torch.nan)
