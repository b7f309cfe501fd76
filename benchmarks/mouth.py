"""The inside of the mouth beside that of real people: ``python -m benchmarks mouth``.

The frame of a clip whose lips are nearest to each other is the only picture; the warp renderer moves it to the true
landmarks of frames with an open mouth. What it draws is compared with the film inside the outer lips (and inside the
inner ones), scaled so that the lips are 128 pixels wide: PSNR, SSIM of the lips' box, and sharpness, the mean gradient
over that of the film (1 is as sharp as it). Only the mouth's inside differs between the rows, but for `--before`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from portraittalk_core.errors import InputError
from portraittalk_core.face import topology as topo
from portraittalk_core.face.aperture import MOUTH, Aperture, pixel_centres, soft_step
from portraittalk_core.media.image import save_picture
from portraittalk_core.metrics.ssim import ssim
from portraittalk_core.threads import one_torch_thread

from .lipsync_tables import Table, progress, show, to_markdown
from .mouth_clips import MouthClip, films_of, read_clip
from .mouth_frames import DRAWN, renderer_of, track_of
from .mouth_learnt import LearntMouth, places, portrait_colours

PURPOSE = "the inside of the mouth beside that of real people"
SIDE, ROOM = 128, 0.15  # pixels of the lips' width when compared; what is cut out beyond them
OUTER = (topo.OUTER_UPPER_LIP, topo.OUTER_LOWER_LIP)
HEADER = ["inside of the mouth", "PSNR dB, outer lips", "PSNR dB, inner lips", "SSIM", "sharpness"]
PAINTED, BEFORE, LEARNT, MEAN = "painted", "painted before", "learnt", "mean colour"
Scores = dict[str, list[tuple[float, float, float, float]]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's options."""
    parser.add_argument("--clips", type=Path, nargs="+", required=True, metavar="FOLDER", help="videos, a table each")
    parser.add_argument("--learn", type=Path, nargs="*", default=[], metavar="FOLDER", help="videos of other people")
    parser.add_argument("--without", nargs="*", default=[], metavar="NAME", help="clips that are left out")
    parser.add_argument("--every", type=int, default=4, help="of the videos in --learn, each so manyth")
    parser.add_argument("--frames", type=int, default=10, help="of each clip at most")
    parser.add_argument("--before", type=Path, metavar="TREE", help="another tree, whose renderer is measured too")
    parser.add_argument("--tracks", type=Path, metavar="FOLDER", help="where landmarks are kept for the next run")
    parser.add_argument("--sheets", type=Path, metavar="FOLDER", help="for pictures of every clip")
    parser.add_argument("--out", type=Path, metavar="FILE", help=".md: the tables")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure what the command line names."""
    with one_torch_thread():
        films = [film for folder in args.learn for film in films_of(folder, args.without)[:: args.every]]
        learnt = LearntMouth(list(_clips(films, args))) if films else None
        tables = [_measure(folder, learnt, args) for folder in args.clips]
    for table in tables:
        show(table)
    if args.out:
        args.out.write_text("\n".join(map(to_markdown, tables)), encoding="utf-8")
    return 0


def _clips(films: Sequence[Path], args: argparse.Namespace) -> Iterator[MouthClip]:
    for number, film in enumerate(films, 1):
        progress(f"{number}/{len(films)} {film.stem}")
        clip = read_clip(film, args.tracks, args.frames)
        if clip is not None:
            yield clip
    progress("")


def _measure(folder: Path, learnt: LearntMouth | None, args: argparse.Namespace) -> Table:
    scores: Scores = {}
    count = 0
    for clip in _clips(films_of(folder, args.without), args):
        count += 1
        drawn = _variants(clip, learnt, args.before)
        for name, frames in drawn.items():
            scores.setdefault(name, []).append(clip_score(clip, frames))
        if args.sheets:
            args.sheets.mkdir(parents=True, exist_ok=True)
            save_picture(_sheet(clip, drawn), args.sheets / f"{clip.name}.png")
    if not count:
        raise InputError(f"no mouth opens in the videos of {folder}; give a folder of clips of speaking people.")
    rows = [[name, *_cells(values)] for name, values in scores.items()]
    return Table(f"{folder.name}, {count} clips, {args.frames} frames of each at most", HEADER, rows)


def _cells(values: list[tuple[float, float, float, float]]) -> list[str]:
    outer, inner, alike, sharp = (torch.tensor(column).mean() for column in zip(*values, strict=True))
    return [f"{outer:.2f}", f"{inner:.2f}", f"{alike:.3f}", f"{sharp:.2f}"]


def _variants(clip: MouthClip, learnt: LearntMouth | None, before: Path | None) -> dict[str, Tensor]:
    """(F, H, W, 3) frames of every variant."""
    track = track_of(clip.targets, clip.portrait)
    drawn = {PAINTED: torch.stack(list(renderer_of(clip.portrait, clip.rest).render(track)))}
    if before is not None:
        drawn[BEFORE] = _by(before, clip)
    if learnt is not None:
        drawn |= {name: _filled(clip, drawn[PAINTED], learnt, name) for name in (LEARNT, MEAN)}
    return drawn


def _by(tree: Path, clip: MouthClip) -> Tensor:
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder, "clip.safetensors")
        tensors = {"picture": clip.portrait, "rest": clip.rest, "targets": clip.targets}
        save_file({name: value.contiguous() for name, value in tensors.items()}, asked)
        script = Path(__file__).with_name("mouth_frames.py")
        environment = os.environ | {"PYTHONPATH": str(tree)}
        subprocess.run([sys.executable, str(script), folder], cwd=tree, env=environment, check=True)
        return load_file(asked.with_suffix(DRAWN))["frames"]


@torch.inference_mode()
def _filled(clip: MouthClip, frames: Tensor, learnt: LearntMouth, name: str) -> Tensor:
    """The frames with another inside of the mouth."""
    skin, lips = portrait_colours(clip.portrait, clip.rest)
    rest, filled = Aperture.of(clip.rest[:, :2], MOUTH), frames.clone()
    for picture, points in zip(filled, clip.targets, strict=True):
        found = places(clip, rest, points)
        if found is None:
            continue
        at, inputs = found
        mean = (learnt.mean_of_skin * skin).expand(len(at), 3)
        colours = mean if name == MEAN else learnt.colours(inputs, skin, lips)
        # as softly as the painted one
        mouth = Aperture.of(points[:, :2], MOUTH)
        u, v = mouth.axes_of(at + 0.5)
        top, bottom = mouth.edge_heights(u)
        feather = max(1.2, 0.02 * mouth.width)
        cover = (soft_step(v - top, feather) * soft_step(bottom - v, feather))[:, None]
        x, y = at.unbind(1)
        picture[y, x] = torch.lerp(picture[y, x].float(), 255 * colours.clamp(0, 1), cover).round().to(torch.uint8)
    return filled


def clip_score(clip: MouthClip, frames: Tensor) -> tuple[float, float, float, float]:
    """PSNR inside the outer and inside the inner lips, SSIM, sharpness over the film's: means over frames."""
    rows = []
    for drawn, film, points in zip(frames, clip.pictures, clip.targets, strict=True):
        (a, outer, inner), (b, _, _) = (_lips_of(picture, points) for picture in (drawn, film))
        error = (a - b).square().mean(0)
        psnrs = (-10 * torch.log10(((error * mask).sum() / mask.sum().clamp(min=1)).clamp(min=1e-6) / 255**2)
                 for mask in (outer, inner))  # fmt: skip
        sharp = _gradient(a, outer) / max(_gradient(b, outer), 1e-3)
        rows.append((*map(float, psnrs), ssim(a.permute(1, 2, 0), b.permute(1, 2, 0)), sharp))
    return tuple(torch.tensor(rows).mean(0).tolist())


def _lips_of(picture: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The lips (3, h, w) 0..255 at SIDE pixels' width, and masks (h, w) inside the outer and inside the inner lips."""
    lips = points[list(topo.LIPS), :2]
    room = ROOM * float(lips[:, 0].amax() - lips[:, 0].amin())
    height, width = picture.shape[:2]
    (x0, y0), (x1, y1) = (lips.amin(0) - room).long().tolist(), (lips.amax(0) + room).long().tolist()
    x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
    part = picture[y0:y1, x0:x1].permute(2, 0, 1)[None].float()
    scale = SIDE / (x1 - x0 - 2 * room)
    size = (round((y1 - y0) * scale), round((x1 - x0) * scale))
    scaled = F.interpolate(part, size=size, mode="bicubic", align_corners=False, antialias=True)[0].clamp(0, 255)
    at = pixel_centres((0, 0, size[1], size[0])) * torch.tensor([(x1 - x0) / size[1], (y1 - y0) / size[0]])
    at = at + torch.tensor([x0, y0])
    return scaled, *(_inside(at, Aperture.of(points[:, :2], chains)) for chains in (OUTER, MOUTH))


def _inside(at: Tensor, opening: Aperture) -> Tensor:
    u, v = opening.axes_of(at)
    top, bottom = opening.edge_heights(u)
    return ((v > top) & (v < bottom) & (u.abs() < opening.width / 2)).float()


def _gradient(picture: Tensor, mask: Tensor) -> float:
    """Mean length of the gradient of (3, h, w) brightness inside a mask (h, w)."""
    grey = picture.mean(0)
    across, down = grey[1:-1, 2:] - grey[1:-1, :-2], grey[2:, 1:-1] - grey[:-2, 1:-1]
    inner = mask[1:-1, 1:-1]
    return float(((across**2 + down**2).sqrt() * inner).sum() / inner.sum().clamp(min=1))


def _sheet(clip: MouthClip, drawn: dict[str, Tensor], columns: int = 8) -> Tensor:
    """Rows of mouths: the film, then every variant."""
    chosen = torch.linspace(0, len(clip.targets) - 1, min(columns, len(clip.targets))).long().tolist()
    rows = []
    for frames in (clip.pictures, *drawn.values()):
        parts = [_lips_of(frames[i], clip.targets[i])[0] for i in chosen]
        resized = [F.interpolate(part[None], size=(120, 160), mode="bilinear", antialias=True)[0] for part in parts]
        rows.append(torch.cat(resized, 2))
    return torch.cat(rows, 1).permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).contiguous()
