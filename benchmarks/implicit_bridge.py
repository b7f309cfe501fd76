"""Landmarks to keypoints on real films, without anybody's weights: ``python -m benchmarks implicit_bridge``.

The small renderer of `implicit_small` shows a film's reference frame moved by the film's own landmarks, which the
bridge turns into keypoints. The mouth is measured again on the rendered frames, against what the landmarks asked for;
so are the two keypoints that training ties to the lips, and what the dense motion moves the lips by.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from portraittalk_core.errors import InputError, NoFaceError
from portraittalk_core.face.geometry import mouth_open
from portraittalk_core.face.mesh.landmarks import open_mesh, track_faces
from portraittalk_core.face.topology import INNER_LIP_BOTTOM, INNER_LIP_TOP
from portraittalk_core.media.image import save_picture
from portraittalk_core.media.resize import resize_picture
from portraittalk_core.media.video_read import read_pictures
from portraittalk_core.renderers.contract import RenderJob
from portraittalk_core.renderers.implicit.blocks import coordinate_grid
from portraittalk_core.renderers.implicit.bridges import keypoints_of_landmarks
from portraittalk_core.renderers.implicit.contract import CropRule, KeypointModel
from portraittalk_core.renderers.implicit.extract import keypoints_of_picture
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
INNER_LIPS = (INNER_LIP_TOP, INNER_LIP_BOTTOM)


@dataclass(frozen=True)
class Bridged:
    """A film's asked and rendered mouths."""

    asked: Tensor  # (T,) opening over the inter-ocular distance
    rendered: Tensor  # (T,)
    by_keypoints: float  # correlation of the lips' gap that the keypoints have with the asked one
    by_flow: float  # and of the gap that the dense motion makes
    sheet: Tensor  # (H, W, 3) uint8: the true frame with the widest mouth, that frame rendered, and the most shut one

    @property
    def r(self) -> float:
        """Correlation of both."""
        return correlation(self.asked, self.rendered)

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
            inner = inner_gaps(renderer.model, portrait, track)
            drawn = list(renderer.render(RenderJob.of_track(portrait, track)))
            seen = track_faces(drawn, FPS, mesh, source=f"{film.name}, rendered")
        except (NoFaceError, InputError):
            return None
    both = seen.valid & track.valid
    asked, rendered = mouth_open(track)[both], mouth_open(seen)[both]
    places = both.nonzero()[:, 0]
    wide, shut = (int(places[int(at)]) for at in (asked.argmax(), asked.argmin()))
    return Bridged(asked, rendered, *inner, _row([frames[wide], drawn[wide], drawn[shut]], track))


@torch.no_grad()
def inner_gaps(model: KeypointModel, portrait: Portrait, track: LandmarkTrack) -> tuple[float, float]:
    """How the gap of the first two keypoints, and that of the dense motion, follow the gap of the landmarks: r of each.

    Args:
        model: whose first keypoints training has tied to the inner lips.
        portrait: a film's reference frame.
        track: T frames of the film.
    """
    face, crop = keypoints_of_picture(model, portrait.picture, portrait.landmarks.points_px[0])
    placed = model.place(face.with_motion(next(iter(keypoints_of_landmarks(model, portrait, [track])))))
    points = 2 * crop.points_on_crop(track.points_px).float() / model.input_size - 1
    source, features = model.place(face), model.features(crop.take(portrait.picture))
    flows = []
    for number in track.valid.nonzero()[:, 0].tolist():
        deformation, _ = model.warping_module.dense_motion_network(features, source, placed[number : number + 1])
        field = (deformation - coordinate_grid(*deformation.shape[1:4], deformation.device))[..., :2].mean(1)
        at = points[number, list(INNER_LIPS)][None, :, None]
        flows.append(grid_sample(field.permute(0, 3, 1, 2), at, align_corners=False)[0, 1, :, 0])
    flow, valid = torch.stack(flows), track.valid
    top, bottom = INNER_LIPS
    asked = (points[:, bottom, 1] - points[:, top, 1])[valid]
    return (
        correlation(asked, (placed[:, 1, 1] - placed[:, 0, 1])[valid]),
        correlation(asked, flow[:, 0] - flow[:, 1]),  # a place below looks up where the mouth opens
    )


def correlation(first: Tensor, second: Tensor) -> float:
    """Of two series (T,)."""
    return float(torch.corrcoef(torch.stack([first.float(), second.float()]))[0, 1])


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
                rows.append([film.stem, *[""] * 2, "no face", "", ""])
                continue
            spread = f"{float(found.asked.std()):.3f} / {float(found.rendered.std()):.3f}"
            inner = f"{found.by_keypoints:.2f}", f"{found.by_flow:.2f}"
            rows.append([film.stem, *inner, f"{found.r:.2f}", f"{found.slope:.2f}", spread])
            sheets.append(found.sheet)
            follows &= found.r > 0
    if args.picture and sheets:
        save_picture(torch.cat(sheets), args.picture)
    heading = ["film", "r of keypoints", "of flow", "rendered", "slope", "deviation asked / rendered"]
    show(Table("mouths through the bridge", heading, rows))
    return 0 if follows else 1
