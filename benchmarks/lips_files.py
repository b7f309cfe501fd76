"""Files of the lip renderer beside each other and the warp: ``python -m benchmarks lips_files --clips C --files A B``.

Files may frame faces in their own way, so all are measured in the picture: the inside of each one's mouth is pasted
over the warp, as `blend` mouth does, and what comes out is compared with the true frame in one crop of 128 pixels.
As in `lips`, second halves of held-out clips are made from references of their first halves.

Of the last file it says besides what sound, lip references, alignment and numbers of references are worth: it is given
silence, the sound of another moment, black lips, unwarped references, or others in number, each time with all that it
paints, whether that helps or not. The network is not trained anew for that, so that a part which it has learnt to do
without shows as 0.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from portraittalk_core.face.lip_points import INNER, INNER_LIPS, LIP_POINTS
from portraittalk_core.face.mesh.landmarks import open_mesh
from portraittalk_core.media.image import save_picture
from portraittalk_core.metrics.landmark_distance import MOUTH_POINTS, lmd
from portraittalk_core.metrics.ssim import ssim
from portraittalk_core.pipelines.dub import read_film
from portraittalk_core.renderers.lip.contract import LipCropRule
from portraittalk_core.renderers.lip.crop import LipBoxes
from portraittalk_core.renderers.lip.files import open_lip_model
from portraittalk_core.renderers.lip.inside import TRIED, TRIED_GAP, best_share, gaps
from portraittalk_core.renderers.lip.lip_model import LipFeatures, LipPriors
from portraittalk_core.renderers.lip.masks import around_lips, mouth_mask
from portraittalk_core.renderers.lip.references import choose
from portraittalk_core.speech.wav2lip_mel import SILENCE
from portraittalk_core.threads import one_torch_thread
from portraittalk_core.training.data.video_clips import read_list, read_videos
from portraittalk_core.training.lips.data import window_offsets

from .implicit_small import HELD_OUT, TRAIN, by_warp, clip_picture, groups, measured
from .lips_scores import AT_ONCE
from .lips_subjects import Subject, clip_subject, film_subject, kept_speech
from .lipsync_tables import Table, show

PURPOSE = "files of the lip renderer beside each other and beside the warp, in the same pictures"
RULE = LipCropRule(LIP_POINTS, 0.0, square=False, size=128, pad_share=0.1)  # in which all are measured
HEADING = ["lower half dB", "mouth dB", "inside dB", "sharpness", "SSIM", "lips px"]
COUNTS, LIP_COUNTS = (1, 2, 5, 10, 25), (1, 3, 5)
AWAY = 12  # frames from a frame whose sound is given instead of its own
WARP = "warp"
_WARPED: dict[tuple[str, tuple[int, ...]], list[Tensor]] = {}


@dataclass(frozen=True)
class Found:
    """How near pictures are to the true ones; means over clips."""

    half_db: float
    mouth_db: float
    inside_db: float  # between the lips of mouths that are open
    sharpness: float  # gradients there, over the true ones
    ssim: float
    lips_px: float  # NaN where no landmarks were looked for

    def cells(self) -> list[str]:
        """Of a table."""
        values = dataclasses.astuple(self)
        return [f"{value:.{places}f}" for value, places in zip(values, (2, 2, 2, 2, 3, 3), strict=True)]


Draw = Callable[[Subject], list[Tensor]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's options."""
    parser.add_argument("--clips", metavar="FOLDER", type=Path, required=True, help="of tools/prepare_grid.py")
    parser.add_argument("--films", metavar="FILM", nargs="*", type=Path, default=(), help="of others, to make besides")
    parser.add_argument("--files", metavar="FILE", nargs="+", type=Path, required=True, help="of `train lips`")
    parser.add_argument("--held-out", metavar="N", type=int, default=8, help="of each group of clips")
    parser.add_argument("--no-parts", action="store_true", help="the first table alone")
    parser.add_argument("--sheet", metavar="PNG", type=Path, help="true, warped, and each file's pictures")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the tables."""
    with one_torch_thread(), tempfile.TemporaryDirectory(prefix="portraittalk_lips_") as folder:
        models = {file.parent.name + "/" + file.name: open_lip_model(file, name="lips") for file in args.files}
        parts = {name: clips_of(args, model, Path(folder)) for name, model in models.items()}
        last = list(models)[-1]
        rows = []
        for group in parts[last]:
            ways = {WARP: (warp_pictures, parts[last][group])}
            for name, model in models.items():
                ways[name] = partial(over_warp, model, *model.usual), parts[name][group]
            rows += [[group, way, *compared(draw, subjects).cells()] for way, (draw, subjects) in ways.items()]
        show(Table("its mouth over the warp", ["clips", "renderer", *HEADING], rows))
        others = [subject for group in list(parts[last])[2:] for subject in parts[last][group]]
        if not args.no_parts:
            show_parts(models[last], others)
        if args.sheet is not None:
            save_sheet(models, parts, args.sheet)
    return 0


def clips_of(args: argparse.Namespace, model: LipPriors, folder: Path) -> dict[str, list[Subject]]:
    """Held-out clips and films by group, as a file's networks frame them."""
    held_out = read_videos(args.clips, 1, read_list(args.clips / HELD_OUT)).videos
    found = {}
    for name, members in groups(held_out, read_list(args.clips / TRAIN)):
        some = members[:: max(1, len(members) // args.held_out)][: args.held_out]
        found[name] = [clip_subject(v, lambda v=v: kept_speech(args.clips / v.name), model.crop, folder) for v in some]
    if args.films:
        found["films"] = [film_subject(read_film(film), model.crop, folder) for film in args.films]
    return {f"{name} ({len(members)})": members for name, members in found.items()}


def warp_pictures(subject: Subject) -> list[Tensor]:
    """The warp of the first part's most closed mouth; of each clip it is made once."""
    frames = tuple(subject.painted_frames)
    if (subject.video.name, frames) not in _WARPED:
        source = choose(subject.video.track, subject.first_part, 1, 1).faces[0]
        made = by_warp(dataclasses.replace(subject.video, reference=source), frames)
        _WARPED[subject.video.name, frames] = made
    return _WARPED[subject.video.name, frames]


def over_warp(model: LipPriors, faces: int, lips: int, subject: Subject, change: str = "") -> list[Tensor]:
    """The warp's pictures with the inside of a network's mouths."""
    frames, made = subject.painted_frames, []
    crops = painted(model, faces, lips, subject, change)
    for frame, picture, crop in zip(frames, warp_pictures(subject), crops, strict=True):
        box, side = subject.boxes[frame], subject.side
        inner = box.points01(subject.video.track.points_px[frame, list(INNER_LIPS)])
        both = torch.cat([crop, mouth_mask(inner, side)[None]])
        placed = interpolate(both[None], box.size_px[::-1], mode="bilinear", align_corners=False)[0].permute(1, 2, 0)
        part = picture[box.top : box.bottom, box.left : box.right]
        mixed = torch.lerp(part.float(), 255 * placed[..., :3], placed[..., 3:].clamp(0, 1))
        made.append(picture.clone())
        made[-1][box.top : box.bottom, box.left : box.right] = mixed.round().clamp(0, 255).byte()
    return made


@torch.no_grad()
def painted(model: LipPriors, faces: int, lips: int, subject: Subject, change: str) -> Tensor:
    """(F, 3, S, S) crops of a subject's frames, with one part of what the networks see changed."""
    references = subject.references(faces, lips)
    if change == "no lips":
        black = (torch.zeros_like(part) for part in (references.lips, references.lip_sketches))
        references = dataclasses.replace(references, **dict(zip(("lips", "lip_sketches"), black, strict=True)))
    features: LipFeatures = model.encode(references)
    if not change:
        features = with_best_share(model, features, subject, faces, lips)
    own = model.config
    model.config = dataclasses.replace(own, ablate="align-mean") if change == "unwarped mean" else own
    frames, made = subject.painted_frames, []
    for at in range(0, len(frames), AT_ONCE):
        batch = subject.batch(frames[at : at + AT_ONCE])
        if change == "silence":
            batch = dataclasses.replace(batch, sound=torch.full_like(batch.sound, SILENCE))
        if change == "other sound":
            away = [max(0, frame - AWAY) for frame in frames[at : at + AT_ONCE]]
            batch = dataclasses.replace(batch, sound=torch.stack([subject.clip.heard(frame) for frame in away]))
        made.append(model.paint(features, batch))
    model.config = own
    return torch.cat(made)


def with_best_share(model: LipPriors, features: LipFeatures, subject: Subject, faces: int, lips: int) -> LipFeatures:
    """The features with as much of the painting as helps in the first part of the clip, at which `dub` looks, too."""
    bare, track = model.with_share(features, 0.0), subject.video.track
    chosen = choose(track, subject.first_part, faces, lips)
    reach = window_offsets(subject.clip)[-1]
    opened = torch.nonzero(subject.first_part & (gaps(track.points, track.width, track.height) > TRIED_GAP)).flatten()
    frames = [f for f in opened.tolist() if f >= reach and f not in {*chosen.faces, *chosen.lips}]
    if bare is None or not frames:
        return features
    frames = [frames[at] for at in torch.linspace(0, len(frames) - 1, min(TRIED, len(frames))).long().tolist()]
    batch = subject.batch(frames)
    masks = mouth_mask(subject.clip.points[frames, INNER], subject.side)[:, None]
    crops = (model.paint(given, batch) for given in (bare, features))
    return model.with_share(features, best_share(*crops, subject.crops(frames), masks))


def compared(draw: Draw, subjects: Sequence[Subject], with_lips: bool = True) -> Found:
    """Means over clips of how near pictures are."""
    rows = []
    for subject in subjects:
        frames, track = subject.painted_frames, subject.video.track
        boxes = LipBoxes(track, RULE)
        pictures, filmed = draw(subject), [clip_picture(subject.video, frame) for frame in frames]
        made, true = (torch.stack([boxes[f].take(p, RULE.size) for f, p in zip(frames, some, strict=True)])
                      for some in (pictures, filmed))  # fmt: skip
        half = slice(RULE.size // 2, None)
        pairs = zip(*(255 * crops[:, :, half].permute(0, 2, 3, 1) for crops in (made, true)), strict=True)
        alike = sum(ssim(*pair) for pair in pairs) / len(frames)
        errors = (made - true).square().mean(1)
        points = [boxes.points01(f, track.points[f, list(LIP_POINTS)]) for f in frames]
        mouths = torch.stack([around_lips(own, RULE.size) for own in points])
        inner = torch.stack(
            [mouth_mask(boxes.points01(f, track.points[f, list(INNER_LIPS)]), RULE.size) for f in frames]
        )
        inner *= (gaps(track.points[frames], track.width, track.height) > TRIED_GAP)[:, None, None]
        means = [errors[:, half].mean(), *((errors * mask).sum() / mask.sum().clamp(min=1) for mask in (mouths, inner))]
        sharp = _gradients(made, inner) / _gradients(true, inner)
        away = _lips_px(pictures, filmed, subject) if with_lips else torch.nan
        rows.append((*(float(-10 * mean.log10()) for mean in means), float(sharp), float(alike), float(away)))
    values = torch.tensor(rows, dtype=torch.float64)
    return Found(*values.masked_fill(values.isinf(), torch.nan).nanmean(0).tolist())


def _gradients(crops: Tensor, mask: Tensor) -> Tensor:
    across, down = crops.diff(dim=3)[:, :, 1:], crops.diff(dim=2)[..., 1:]
    return ((across.square() + down.square()).mean(1) * mask[:, 1:, 1:]).sum().sqrt()


def _lips_px(pictures: Sequence[Tensor], filmed: Sequence[Tensor], subject: Subject) -> float:
    """IP-LAP's landmark distance of mouths that the face mesh finds, pixels of the picture."""
    with open_mesh() as mesh:
        both = [measured(some, subject.video, mesh) for some in (pictures, filmed)]
    if None in both:
        return torch.nan
    seen = both[0].valid & both[1].valid
    places = [track.points_px[seen][:, list(MOUTH_POINTS), :2] for track in both]
    return float(lmd(*places, kind="l1_raw").mean()) if bool(seen.any()) else torch.nan


def show_parts(model: LipPriors, subjects: Sequence[Subject]) -> None:
    """Print what each part of a file is worth on people it has never seen."""
    faces, lips = model.usual
    changes = ["all of the painting", "silence", "other sound", "unwarped mean"]
    if not model.config.lip_warp:  # which adds what it paints to lips: black ones would tell nothing
        changes.append("no lips")
    ways = {f"{faces} references, {lips} lips": (faces, lips, "")}
    ways |= {change: (faces, lips, change) for change in changes}
    ways |= {f"{count} references": (count, lips, "") for count in COUNTS}
    ways |= {f"{count} lips": (faces, count, "") for count in LIP_COUNTS}
    rows = []
    for name, (num_faces, num_lips, change) in ways.items():
        draw = partial(over_warp, model, num_faces, num_lips, change=change)
        rows.append([name, *compared(draw, subjects, with_lips=False).cells()[:-1]])
    show(Table("parts, people never seen", ["given", *HEADING[:-1]], rows))


def save_sheet(models: dict[str, LipPriors], parts: dict[str, dict[str, list[Subject]]], path: Path) -> None:
    """A picture: of some clips the true frame with the widest mouth, the warp's, and each file's."""
    last, rows = list(models)[-1], []
    for group, subjects in parts[last].items():
        for at in range(min(2, len(subjects))):
            subject = subjects[at]
            track = subject.video.track
            frames = subject.painted_frames
            widest = int(gaps(track.points[frames], track.width, track.height).argmax())
            ways = [warp_pictures(subject)]
            ways += [over_warp(model, *model.usual, parts[name][group][at]) for name, model in models.items()]
            pictures = [clip_picture(subject.video, frames[widest]), *(way[widest] for way in ways)]
            box = LipBoxes(track, RULE)[frames[widest]]
            rows.append(torch.cat([box.take(picture, 256) for picture in pictures], 2))
    sheet = (torch.cat(rows, 1).clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
    save_picture(sheet, path)
    print(f"{path}, from left to right: true, {WARP}, {', '.join(models)}")
