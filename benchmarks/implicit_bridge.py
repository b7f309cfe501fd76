"""Landmarks to keypoints on real films, without anybody's weights: ``python -m benchmarks implicit_bridge``.

The small renderer of `implicit_small` shows a film's reference frame moved by the film's own landmarks, which the
bridge turns into keypoints. The mouth is measured again on the rendered frames, against what the landmarks asked for.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from portraittalk_core.errors import InputError, NoFaceError
from portraittalk_core.face.geometry import mouth_open
from portraittalk_core.face.mesh.landmarks import open_mesh, track_faces
from portraittalk_core.media.image import save_picture
from portraittalk_core.media.resize import resize_picture
from portraittalk_core.media.video_read import read_pictures
from portraittalk_core.renderers.contract import RenderJob
from portraittalk_core.renderers.implicit.contract import CropRule
from portraittalk_core.renderers.implicit.files import open_keypoint_model
from portraittalk_core.renderers.implicit.options import KeypointRenderOptions
from portraittalk_core.renderers.implicit.renderer import ImplicitRenderer
from portraittalk_core.threads import one_torch_thread
from portraittalk_core.training.data.prepare import best_reference
from portraittalk_core.training.keypoints.stage import RENDERER_NAME
from portraittalk_core.types import LandmarkTrack, Portrait

from .lipsync_tables import Table, show

PURPOSE = (
    "landmarks through the bridge to keypoints on real films: the mouth that is asked for against the rendered one"
)
FPS = Fraction(25)
SHOWN_PX = 192  # height of a sheet's pictures


@dataclass(frozen=True)
class Bridged:
    """A film's asked and rendered mouths."""

    asked: Tensor  # (T,) opening over the inter-ocular distance
    rendered: Tensor  # (T,)
    sheet: Tensor  # (H, W, 3) uint8: the true frame with the widest mouth, that frame rendered, and the most shut one

    @property
    def r(self) -> float:
        """Correlation of both."""
        return float(torch.corrcoef(torch.stack([self.asked, self.rendered]))[0, 1])

    @property
    def slope(self) -> float:
        """How much of the asked opening is rendered, by least squares; 1 is all."""
        asked, rendered = self.asked - self.asked.mean(), self.rendered - self.rendered.mean()
        return float((asked * rendered).sum() / asked.square().sum().clamp(min=1e-12))


def bridge_film(renderer: ImplicitRenderer, film: Path, seconds: float) -> Bridged | None:
    """What the renderer makes of the first seconds of a film; None if no face is found in it, or in what it makes."""
    frames = list(itertools.islice(read_pictures(film, FPS), round(seconds * FPS)))
    with open_mesh() as mesh:
        try:
            track = track_faces(frames, FPS, mesh, source=film.name)
            reference = best_reference(track)
            portrait = Portrait(frames[reference], track.slice(reference, reference + 1), film.name)
            drawn = list(renderer.render(RenderJob.of_track(portrait, track)))
            seen = track_faces(drawn, FPS, mesh, source=f"{film.name}, rendered")
        except (NoFaceError, InputError):
            return None
    both = seen.valid & track.valid
    asked, rendered = mouth_open(track)[both], mouth_open(seen)[both]
    places = both.nonzero()[:, 0]
    wide, shut = (int(places[int(at)]) for at in (asked.argmax(), asked.argmin()))
    return Bridged(asked, rendered, _row([frames[wide], drawn[wide], drawn[shut]], track))


def _row(pictures: list[Tensor], track: LandmarkTrack) -> Tensor:
    """Face crops of pictures, side by side."""
    points = track.points_px[:, :, :2].flatten(0, 1)
    low, high = points.amin(0), points.amax(0)
    side = int(min(float((high - low).max()) * 1.2, track.width, track.height))
    x, y = (int(min(max(float(m) - side / 2, 0), length - side))
            for m, length in zip((low + high) / 2, (track.width, track.height), strict=True))  # fmt: skip
    return torch.cat([resize_picture(p[y : y + side, x : x + side], (SHOWN_PX, SHOWN_PX)) for p in pictures], 1)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's options."""
    parser.add_argument("films", metavar="FILM", type=Path, nargs="+", help="of one face that speaks")
    parser.add_argument(
        "--out", metavar="FOLDER", type=Path, default=Path("implicit_small"), help="as implicit_small's"
    )
    parser.add_argument("--margin", metavar="X", type=float, default=1.1, help="of the clips that it was trained on")
    parser.add_argument("--seconds", metavar="S", type=float, default=3.0, help="of each film")
    parser.add_argument("--picture", metavar="FILE.png", type=Path, help="a row of frames for each film")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the table; 1 if a film's mouth does not follow at all."""
    rows, sheets, follows = [], [], True
    with one_torch_thread():
        model, _ = open_keypoint_model(args.out / RENDERER_NAME)
        model.crop = CropRule(args.margin, 0.0, upright=False)
        renderer = ImplicitRenderer(model, options=KeypointRenderOptions())
        for film in args.films:
            found = bridge_film(renderer, film, args.seconds)
            if found is None:
                rows.append([film.stem, "no face", "", ""])
                continue
            spread = f"{float(found.asked.std()):.3f} / {float(found.rendered.std()):.3f}"
            rows.append([film.stem, f"{found.r:.3f}", f"{found.slope:.2f}", spread])
            sheets.append(found.sheet)
            follows &= found.r > 0
    if args.picture and sheets:
        save_picture(torch.cat(sheets), args.picture)
    show(Table("mouths through the bridge", ["film", "r", "slope", "deviation asked / rendered"], rows))
    return 0 if follows else 1
