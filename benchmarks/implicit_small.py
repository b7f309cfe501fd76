"""A small keypoint renderer trained on GRID, against the warp renderer: ``python -m benchmarks implicit_small``.

Clips are those of `tools/prepare_grid.py --margin 1.1`. Training goes on where it stopped; `--steps 0` only evaluates.
Self-reenactment of held-out clips: a clip's reference frame is the source, and the renderer follows the other frames by
their own keypoints, the warp renderer by their landmarks. Speakers that were not trained on are reported apart.
Landmarks of rendered frames are measured again by the face mesh.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from portraittalk_core.errors import InputError, NoFaceError
from portraittalk_core.face.geometry import interocular_px, mouth_open
from portraittalk_core.face.mesh.landmarks import open_mesh, track_faces
from portraittalk_core.face.topology import LIPS
from portraittalk_core.media.image import save_picture
from portraittalk_core.media.resize import resize_planes
from portraittalk_core.metrics.psnr import psnr
from portraittalk_core.metrics.ssim import ssim
from portraittalk_core.renderers.contract import RenderJob
from portraittalk_core.renderers.implicit.contract import KeypointModel
from portraittalk_core.renderers.implicit.files import open_keypoint_model
from portraittalk_core.renderers.warp.build import warped_pictures
from portraittalk_core.threads import one_torch_thread
from portraittalk_core.training.data.squares import fit_square
from portraittalk_core.training.data.video_clips import VideoClip, read_list, read_videos
from portraittalk_core.training.keypoints.config import KeypointTrainer, KeypointTraining, LossWeights
from portraittalk_core.training.keypoints.stage import RENDERER_NAME, reenact, train_keypoints
from portraittalk_core.training.keypoints.variation import Variation
from portraittalk_core.types import LandmarkTrack, Portrait

from .implicit_held import BALANCED, LIST, write_held_clips
from .lipsync_tables import Table, show

PURPOSE = "a small keypoint renderer trained on GRID, against the warp renderer, on clips held out"
KEYPOINTS, HELD, MOTION = "keypoints", "held", "motion"  # folders in `out`
TRAIN, HELD_OUT = "train.txt", "held_out.txt"
RESOLUTION = 96  # pixels of the networks' crops
KEYPOINT_STEPS, HELD_STEPS, MOTION_STEPS = 3000, 2200, 900
# Pixels instead of VGG-19 and a discriminator: both would take most of two hours.
WEIGHTS = LossWeights(perceptual=0.0, pixels=20.0, gan=0.0, feature_matching=0.0, expression=0.5, head_pose=5.0)
# Keypoints learn alone first, guided by landmarks; then the pictures of those keypoints, the flow guided likewise.
# Together, and by pictures alone, 5,500 steps taught nothing about mouths.
OF_KEYPOINTS = dataclasses.replace(WEIGHTS, guide=1.0, equivariance=0.0)
OF_PICTURES = dataclasses.replace(WEIGHTS, flow=0.5, lips=40.0, eyes=2.0)
# Where the head stands must not tell how far the mouth is open: without these the bridge moved hardly any mouth.
APART = Variation(shift=0.2, zoom=0.3, stretch=0.15, turn_deg=12.0, bend=0.005, light=0.5, blur=1.5)
ALIKE = Variation(shift=0.15, zoom=0.25, stretch=0.15, turn_deg=10.0, bend=0.005, light=0.3)
FOLLOWED = 4  # every so manyth frame of a clip is made
SHOWN = 6  # frames of a sheet
Draw = Callable[[VideoClip, Sequence[int]], list[Tensor]]  # frames (H, W, 3) uint8 of a clip


@dataclass(frozen=True)
class Score:
    """How near rendered frames of some clips are to the true ones."""

    psnr: float  # dB, mean over clips
    ssim: float
    mouth: float  # mean distance of lip landmarks, % of the inter-ocular distance
    lip_r: float  # correlation of the lips' gap with the true one's, mean over clips
    lost: float  # share of frames in which no face is found any more


def training_configs(
    clips: Path, out: Path, steps: int, seed: int, start: Path | None = None
) -> list[KeypointTraining]:
    """The recipe's trainings, each from the weights of the one before: sizes that learn in hours on one core.

    Keypoints alone; the same with held heads among the clips; dense motion and pictures; and both with the statistics
    of batch norm that the third one has averaged, at less than half the learning rate.

    Args:
        clips: of tools/prepare_grid.py.
        out: folder of the last one; those of the others are in it.
        steps: of the last one.
        seed: of all.
        start: a renderer to begin with; None: random weights.
    """
    trainer = KeypointTrainer(
        steps=KEYPOINT_STEPS, batch_size=8, learning_rate=1e-3, ema_decay=0.99, save_every=200, sample_every=0,
        seed=seed, mixed_precision="bf16",
    )  # fmt: skip
    keypoints = KeypointTraining(
        clips, out / KEYPOINTS, clips / BALANCED, start, size="small", resolution=RESOLUTION, scales=3, augment=True,
        learn="keypoints", variation=APART, weights=OF_KEYPOINTS, trainer=trainer,
    )  # fmt: skip
    held = dataclasses.replace(
        keypoints,
        out=out / HELD,
        clips=clips / LIST,
        start=keypoints.out / RENDERER_NAME,
        trainer=dataclasses.replace(trainer, steps=HELD_STEPS, learning_rate=5e-4),
    )
    motion = dataclasses.replace(
        keypoints,
        out=out / MOTION,
        start=held.out / RENDERER_NAME,
        learn="pictures",
        variation=ALIKE,
        weights=OF_PICTURES,
        trainer=dataclasses.replace(trainer, steps=MOTION_STEPS, batch_size=4, sample_every=200),
    )
    last = dataclasses.replace(motion.trainer, steps=steps, learning_rate=4e-4)
    pictures = dataclasses.replace(motion, out=out, start=motion.out / RENDERER_NAME, freeze_norm=1, trainer=last)
    return [keypoints, held, motion, pictures]


def clip_picture(clip: VideoClip, frame: int) -> Tensor:
    """(H, W, 3) uint8 frame of a prepared clip."""
    return ((clip.read(frame) + 1) * 127.5).round().byte().permute(1, 2, 0).contiguous()


def by_copy(clip: VideoClip, frames: Sequence[int]) -> list[Tensor]:
    """The source for every frame: what following is worth at all."""
    return [clip_picture(clip, clip.reference)] * len(frames)


def by_warp(clip: VideoClip, frames: Sequence[int]) -> list[Tensor]:
    """The warp renderer, driven by the true frames' landmarks."""
    own = clip.track.slice(clip.reference, clip.reference + 1)
    track = dataclasses.replace(
        clip.track, points=clip.track.points[list(frames)], valid=clip.track.valid[list(frames)]
    )
    portrait = Portrait(clip_picture(clip, clip.reference), own, clip.name)
    return list(warped_pictures(RenderJob.of_track(portrait, track)))


def by_keypoints(model: KeypointModel) -> Draw:
    """A keypoint renderer, driven by the true frames' keypoints; its pictures are scaled to the clip's size."""

    def draw(clip: VideoClip, frames: Sequence[int]) -> list[Tensor]:
        def crop(frame: int) -> Tensor:
            return (fit_square(clip.read(frame), model.input_size)[None] + 1) / 2

        source = crop(clip.reference)
        side = clip.track.width
        drawn = [resize_planes(reenact(model, source, crop(frame)), (side, side))[0] for frame in frames]
        return [(picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous() for picture in drawn]

    return draw


def score(clips: Sequence[VideoClip], draw: Draw, frames_of: Callable[[VideoClip], list[int]]) -> Score:
    """Mean score of clips."""
    rows, lost, total = [], 0, 0
    with open_mesh() as mesh:
        for clip in clips:
            frames = frames_of(clip)
            drawn, true = draw(clip, frames), [clip_picture(clip, frame) for frame in frames]
            pairs = [(a.float(), b.float()) for a, b in zip(drawn, true, strict=True)]
            likeness = [sum(measure(*pair) for pair in pairs) / len(pairs) for measure in (psnr, ssim)]
            total += len(frames)
            points = torch.stack([clip.track.points_px[frame] for frame in frames])
            seen = measured(drawn, clip, mesh)
            valid = torch.zeros(len(frames), dtype=torch.bool) if seen is None else seen.valid
            lost += int((~valid).sum())
            mouth = lip_r = float("nan")
            if int(valid.sum()) > 2:
                away = (seen.points_px - points)[valid][:, list(LIPS), :2].norm(dim=-1).mean(1)
                mouth = float((100 * away / interocular_px(points[valid])).mean())
                opened = mouth_open(seen)[valid]
                asked = mouth_open(clip.track)[frames][valid]
                lip_r = float(torch.corrcoef(torch.stack([opened, asked]))[0, 1])
            rows.append((*likeness, mouth, lip_r))
    means = torch.tensor(rows, dtype=torch.float64).nanmean(0).tolist()
    return Score(*means, lost / total)


def measured(pictures: Sequence[Tensor], clip: VideoClip, mesh: object) -> LandmarkTrack | None:
    """Landmarks of rendered frames; None if no face is in any."""
    try:
        return track_faces(pictures, clip.track.fps, mesh, source=clip.name)
    except (NoFaceError, InputError):
        return None


def followed_frames(clip: VideoClip) -> list[int]:
    """Frames that are made of a clip: every fourth that shows the face, without the reference."""
    return [f for f in range(0, len(clip.track), FOLLOWED) if clip.track.valid[f] and f != clip.reference]


def groups(clips: Sequence[VideoClip], train: frozenset[str]) -> Iterator[tuple[str, list[VideoClip]]]:
    """Held-out clips of each trained speaker, and of all others together."""
    trained = sorted({name.partition("/")[0] for name in train})
    for speaker in trained:
        yield f"{speaker}, held-out clips", [clip for clip in clips if clip.name.startswith(f"{speaker}/")]
    yield "other speakers", [clip for clip in clips if clip.name.partition("/")[0] not in trained]


def save_sheet(clips: Sequence[VideoClip], ways: dict[str, Draw], path: Path) -> None:
    """A picture: of some clips the source, the true frame, and what every renderer makes of it."""
    rows = []
    for clip in clips:
        frames = followed_frames(clip)
        frame = max(frames, key=lambda f: float(mouth_open(clip.track)[f]))
        drawn = [draw(clip, [frame])[0] for name, draw in ways.items() if draw is not by_copy]
        rows.append(torch.cat([clip_picture(clip, clip.reference), clip_picture(clip, frame), *drawn], 1))
    save_picture(torch.cat(rows), path)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's options."""
    parser.add_argument("--clips", metavar="FOLDER", type=Path, required=True, help="of tools/prepare_grid.py")
    parser.add_argument("--out", metavar="FOLDER", type=Path, default=Path("implicit_small"), help="run and pictures")
    parser.add_argument("--steps", metavar="N", type=int, default=3000, help="of the last training; 0 only evaluates")
    parser.add_argument("--start", metavar="FILE", type=Path, help="renderer that training begins with")
    parser.add_argument("--renderer", metavar="FILE", type=Path, help="to evaluate; if not given, the one of --out")
    parser.add_argument("--held-out", metavar="N", type=int, default=10, help="clips of each group, at most")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of the training")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train, evaluate, and print the table."""
    began = time.process_time()
    with one_torch_thread():
        if args.steps:
            write_held_clips(args.clips, args.seed)
            for config in training_configs(args.clips, args.out, args.steps, args.seed, args.start):
                print(f"trained: {train_keypoints(config).renderer}, {time.process_time() - began:.0f} s of one core")
        model, _ = open_keypoint_model(args.renderer or args.out / RENDERER_NAME)
        evaluate(model, args)
    return 0


def evaluate(model: KeypointModel, args: argparse.Namespace) -> None:
    """Print the table of all groups, and write a sheet of each."""
    ways = {"source frame": by_copy, "warp": by_warp, "keypoints": by_keypoints(model)}
    clips = read_videos(args.clips, 1, read_list(args.clips / HELD_OUT)).videos
    rows = []
    for name, members in groups(clips, read_list(args.clips / TRAIN)):
        chosen = members[:: max(1, len(members) // args.held_out)][: args.held_out]
        if not chosen:
            continue
        for way, draw in ways.items():
            found = score(chosen, draw, followed_frames)
            numbers = (f"{found.psnr:.2f}", f"{found.ssim:.3f}", f"{found.mouth:.2f}", f"{found.lip_r:.3f}")
            rows.append([f"{name} ({len(chosen)})", way, *numbers, f"{found.lost:.1%}"])
        args.out.mkdir(parents=True, exist_ok=True)
        save_sheet(chosen[:SHOWN], ways, args.out / f"{name.replace(', ', '_').replace(' ', '_')}.png")
    heading = ["clips", "renderer", "PSNR dB", "SSIM", "mouth error %", "lip-gap r", "faces lost"]
    show(Table("self-reenactment", heading, rows))
