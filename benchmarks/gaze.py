"""Eyes of rendered portraits, as the face mesh finds them again, beside the angles asked for; and what they cost."""

from __future__ import annotations

import argparse
import time
from fractions import Fraction
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from portraittalk_core.errors import PortraitTalkError
from portraittalk_core.face.geometry import interocular_px, stabilised
from portraittalk_core.face.mesh.landmarks import find_portrait, open_mesh
from portraittalk_core.face.mesh.search import detect_faces
from portraittalk_core.face.topology import LEFT_EYE_CORNERS, LEFT_IRIS, RIGHT_EYE_CORNERS, RIGHT_IRIS
from portraittalk_core.media.image import load_picture
from portraittalk_core.motion.rig import plan_landmarks
from portraittalk_core.renderers.warp.build import portrait_renderer
from portraittalk_core.renderers.warp.eyes import Eyes
from portraittalk_core.threads import one_torch_thread
from portraittalk_core.types import HeadPose, LandmarkTrack, MotionPlan, MouthCurves, Portrait

PURPOSE = "where the eyes of rendered portraits look, beside what was asked, and what turning them costs"
YAWS, PITCHES = (-20.0, -10.0, 0.0, 10.0, 20.0), (-10.0, 0.0, 10.0)
EYES_PX = 120.0  # between the eyes, to which portraits are enlarged: a mesh finds small irises only roughly
TIMED = 40  # frames


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the benchmark."""
    parser.add_argument("--portraits", type=Path, nargs="+", required=True, help="pictures with one face each")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Render, find again and print; 1 if some eyes do not follow."""
    print(f"| portrait | yaw {' '.join(f'{a:g}' for a in YAWS)}° | pitch {' '.join(f'{a:g}' for a in PITCHES)}° | ms |")
    print("| --- | --- | --- | ---: |")
    follows = True
    with open_mesh() as mesh, one_torch_thread():
        for path in args.portraits:
            try:
                portrait = enlarged(find_portrait(load_picture(path), mesh=mesh))
            except PortraitTalkError as error:
                print(f"| {path.stem} | {error} | | |")
                continue
            follows &= _row(path.stem, portrait, mesh)
    return 0 if follows else 1


def enlarged(portrait: Portrait) -> Portrait:
    """A portrait of its face alone whose eyes are 120 px apart."""
    low, high = portrait.landmarks.points_px[0, :, :2].aminmax(dim=0)
    height, width = portrait.picture.shape[:2]
    margin = 0.35 * float((high - low).max())
    x0, y0 = (int(v) for v in (low - margin).clamp(min=0))
    x1, y1 = min(width, int(high[0] + margin)), min(height, int(high[1] + margin))
    scale = EYES_PX / float(interocular_px(portrait.landmarks.points_px)[0])
    part = portrait.picture[y0:y1, x0:x1].permute(2, 0, 1)[None].float()
    large = F.interpolate(part, scale_factor=scale, mode="bicubic", antialias=scale < 1).clamp(0, 255)
    picture = large[0].permute(1, 2, 0).round().to(torch.uint8).contiguous()
    points = portrait.landmarks.points_px.clone()
    points[..., :2] -= torch.tensor([x0, y0])
    track = LandmarkTrack.from_px(scale * points, picture.shape[1], picture.shape[0], portrait.landmarks.fps)
    return Portrait(picture, track, portrait.source)


def _row(name: str, portrait: Portrait, mesh: object) -> bool:
    renderer = portrait_renderer(portrait)
    if not any(isinstance(painter, Eyes) for painter in renderer.painters):
        print(f"| {name} | rest | | |")
        return True
    angles = torch.tensor([*((yaw, 0.0) for yaw in YAWS), *((0.0, pitch) for pitch in PITCHES)])
    pictures = list(renderer.render(_looking(portrait, angles)))
    found = torch.stack([detect_faces(picture, mesh, thorough=False)[0] for picture in pictures])
    size = torch.tensor([portrait.landmarks.width, portrait.landmarks.height, portrait.landmarks.width])
    aside, down = _pupils(stabilised(found * size)).unbind(1)
    aside, down = aside[: len(YAWS)], down[len(YAWS) :]
    with_gaze, without = (_milliseconds(renderer, portrait, amount) for amount in (8.0, 0.0))
    shown = [" ".join(f"{100 * value:.1f}" for value in values - values[len(values) // 2]) for values in (aside, down)]
    print(f"| {name} | {shown[0]} | {shown[1]} | {with_gaze - without:.2f} |", flush=True)
    return bool((aside.diff() > 0).all() and (down.diff() > 0).all())


def _looking(portrait: Portrait, angles: Tensor) -> LandmarkTrack:
    count, rest = len(angles), torch.zeros(len(angles))
    head = HeadPose(torch.zeros(count, 3), torch.zeros(count, 3), torch.ones(count))
    plan = MotionPlan(portrait.landmarks, MouthCurves.closed(count), rest, rest, head, Fraction(25), gaze=angles)
    return plan_landmarks(plan)


def _pupils(points: Tensor) -> Tensor:
    """(T, 2) where the pupils of stabilised points (T, 478, 3) stand between the corners, over the eyes' distance."""
    both = ((RIGHT_IRIS, RIGHT_EYE_CORNERS), (LEFT_IRIS, LEFT_EYE_CORNERS))
    return torch.stack([points[:, iris[0], :2] - points[:, list(corners), :2].mean(1) for iris, corners in both]).mean(
        0
    )


def _milliseconds(renderer: object, portrait: Portrait, amount: float) -> float:
    """Processor time of a frame whose eyes look aside by up to an angle, milliseconds."""
    yaw = amount * torch.sin(torch.arange(TIMED) / 3.0)
    track = _looking(portrait, torch.stack([yaw, torch.zeros(TIMED)], 1))
    started = time.process_time()
    for _ in renderer.render(track):
        pass
    return 1e3 * (time.process_time() - started) / TIMED
