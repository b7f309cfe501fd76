"""Shut lids beside those of real people: ``python -m benchmarks blinks``.

A frame of a clip with open eyes is the only picture; the warp renderer moves it to the true landmarks of a frame in
which the speaker blinks. What it draws is compared with the film in a box around each eye, from below its brow to below
its lower lid: PSNR, of each clip the mean of its blinks. Beside it, the open eyes as they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from portraittalk_core.errors import InputError
from portraittalk_core.face import topology as topo
from portraittalk_core.face.aperture import LEFT_EYE, RIGHT_EYE, Aperture
from portraittalk_core.media.image import save_picture
from portraittalk_core.media.video_read import read_pictures
from portraittalk_core.renderers.warp.build import portrait_renderer
from portraittalk_core.threads import one_torch_thread
from portraittalk_core.types import LandmarkTrack, Portrait

from .lipsync_clips import FPS, tracked_video
from .lipsync_tables import Table, progress, show
from .mouth_clips import films_of
from .mouth_frames import track_of

PURPOSE = "shut lids beside those of real people"
EYES = (RIGHT_EYE, LEFT_EYE)
SHUT, OPEN = 0.45, 0.92  # of a clip's usual opening: where eyes are shut, and open
BLINK, NEAR = 6, 20  # frames: between blinks at least, and from a blink to the open eyes at most
ASIDE, ABOVE, BELOW = 0.75, 0.45, 0.4  # of an eye's width, from its middle: the box that is compared
STEADY = [1, topo.CHIN, 33, 263]  # landmarks by which the pose of an open frame is nearest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's options."""
    parser.add_argument("--clips", type=Path, nargs="+", required=True, metavar="FOLDER", help="videos")
    parser.add_argument("--blinks", type=int, default=3, help="of each clip at most")
    parser.add_argument("--tracks", type=Path, metavar="FOLDER", help="where landmarks are kept for the next run")
    parser.add_argument("--sheets", type=Path, metavar="FOLDER", help="for pictures of every clip: open, real, drawn")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure what the command line names."""
    rows, count = [], 0
    with one_torch_thread():
        films = [film for folder in args.clips for film in films_of(folder, [])]
        for number, film in enumerate(films, 1):
            progress(f"{number}/{len(films)} {film.stem}")
            track = tracked_video(film, FPS, args.tracks)
            pairs = blinks_of(track)[: args.blinks]
            drawn = list(_drawn(film, track, pairs))
            if not drawn:
                continue
            count += len(drawn)
            rows.append([film.stem, *(sum(values) / len(drawn) for values in zip(*map(_scores, drawn), strict=True))])
            if args.sheets:
                args.sheets.mkdir(parents=True, exist_ok=True)
                sheet = torch.cat([torch.cat([opened, real, shown], 1) for opened, real, shown, _ in drawn])
                save_picture(sheet, args.sheets / f"{film.stem}.png")
    progress("")
    if not rows:
        raise InputError("nobody blinks in these videos; give clips of speaking people of some seconds.")
    rows.append(["mean", *(sum(row[column] for row in rows) / len(rows) for column in (1, 2))])
    cells = [[name, f"{shut:.2f}", f"{still:.2f}"] for name, shut, still in rows]
    show(Table(f"{count} blinks of {len(rows) - 1} clips", ["clip", "drawn, PSNR dB", "eyes left open, dB"], cells))
    return 0


def blinks_of(track: LandmarkTrack) -> list[tuple[int, int]]:
    """Frames in which eyes are most shut, each with the frame of open eyes nearby whose head is nearest."""
    points = track.points_px[..., :2]
    eyes = [[Aperture.of(frame, chains) for chains in EYES] for frame in points]
    opening = torch.tensor([max(eye.gap / eye.width for eye in pair) for pair in eyes])
    usual = opening[track.valid].median()
    pairs = []
    for shut in range(2, len(opening) - 2):
        beside = slice(max(0, shut - BLINK), shut + BLINK + 1)
        if not track.valid[shut] or opening[shut] >= SHUT * usual or opening[shut] > opening[beside].min():
            continue
        near = range(max(0, shut - NEAR), min(len(opening), shut + NEAR + 1))
        opened = [frame for frame in near if track.valid[frame] and opening[frame] > OPEN * usual]
        if opened:
            moved = (points[opened][:, STEADY] - points[shut, STEADY]).norm(dim=2).sum(1)
            pairs.append((shut, opened[int(moved.argmin())]))
    return pairs


def _drawn(
    film: Path, track: LandmarkTrack, pairs: Sequence[tuple[int, int]]
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """The frame with open eyes, the one with shut ones, what is drawn of it, and its landmarks."""
    needed = {number for pair in pairs for number in pair}
    kept = {number: picture for number, picture in enumerate(read_pictures(film, FPS)) if number in needed}
    points = track.points_px
    for shut, opened in pairs:
        if shut in kept and opened in kept:
            portrait = Portrait(kept[opened], track_of(points[opened][None], kept[opened]))
            (frame,) = portrait_renderer(portrait).render(track_of(points[shut][None], kept[opened]))
            yield kept[opened], kept[shut], frame, points[shut]


def _scores(of_blink: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[float, float]:
    """PSNR of what is drawn, and of the open eyes, in dB."""
    opened, real, drawn, points = of_blink
    return _psnr(drawn, real, points), _psnr(opened, real, points)


def _psnr(picture: Tensor, real: Tensor, points: Tensor) -> float:
    """Of two (H, W, 3) pictures in the boxes around the eyes of landmarks (478, 3)."""
    errors = []
    for chains in EYES:
        eye = Aperture.of(points[:, :2], chains)
        x, y = eye.origin.tolist()
        rows = slice(max(0, int(y - ABOVE * eye.width)), max(1, int(y + BELOW * eye.width)))
        columns = slice(max(0, int(x - ASIDE * eye.width)), max(1, int(x + ASIDE * eye.width)))
        errors.append((picture[rows, columns].float() - real[rows, columns].float()).square().mean())
    return float(-10 * torch.log10(torch.stack(errors).mean().clamp(min=1e-3) / 255**2))
