"""Audio2Exp on the small GRID renderer: ``python -m benchmarks implicit_speech``, after `implicit_small`.

The lip-sync network and Audio2Exp are trained on the clips that the renderer was trained on, with log-mel rows in
HuBERT's place; both go on where they stopped, and `--steps 0` only evaluates. Every held-out sentence is then spoken by
its clip's reference frame, as an image. Mouths of rendered frames are measured by the face mesh, against the true ones.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from portraittalk_core.face.geometry import mouth_open
from portraittalk_core.face.mesh.landmarks import open_mesh
from portraittalk_core.metrics.mouth_correlation import mouth_correlation
from portraittalk_core.renderers.implicit.audio2exp.files import load_audio2exp
from portraittalk_core.renderers.implicit.audio2exp.network import Audio2Exp
from portraittalk_core.renderers.implicit.contract import KeypointModel
from portraittalk_core.renderers.implicit.files import open_keypoint_model
from portraittalk_core.threads import one_torch_thread
from portraittalk_core.training.audio2exp.config import Audio2ExpTrainer, Audio2ExpTraining
from portraittalk_core.training.audio2exp.stage import AUDIO2EXP_NAME, train_audio2exp
from portraittalk_core.training.data.speech_rows import MelEncoder, SpeechRows, read_rows
from portraittalk_core.training.data.squares import fit_square
from portraittalk_core.training.data.video_clips import VideoClip, read_list, read_videos
from portraittalk_core.training.data.windows import NUM_FRAMES
from portraittalk_core.training.keypoints.stage import RENDERER_NAME
from portraittalk_core.training.sync.config import SyncTrainer, SyncTraining
from portraittalk_core.training.sync.stage import SYNC_NAME, train_sync

from .implicit_small import HELD_OUT, TRAIN, groups, measured
from .lipsync_tables import Table, show

PURPOSE = "Audio2Exp on the small GRID renderer: mouths of held-out sentences against the true ones"
ALPHAS = (0.0, 0.5, 1.0, 1.5)


@dataclass(frozen=True)
class Spoken:
    """Mouths of some held-out sentences at one alpha."""

    opening: float  # mean, inter-ocular distances
    r: float  # with the true mouths, best lag within two frames, mean over clips
    lost: int  # clips in which no face is found


def train_networks(args: argparse.Namespace) -> None:
    """Train the lip-sync network, then Audio2Exp."""
    lists = {"clips": args.clips / TRAIN}
    sync = SyncTrainer(
        steps=args.sync_steps, batch_size=32, ema_decay=0.995, save_every=250, sample_every=500, seed=args.seed
    )
    found = train_sync(
        SyncTraining(args.clips, args.out / "sync", held_out=args.clips / HELD_OUT, size="small", trainer=sync, **lists)
    )
    print(f"lip sync: {found.score.accuracy:.1%} of held-out windows are told; chance is 50 %")
    speech = Audio2ExpTrainer(
        steps=args.steps, batch_size=2, learning_rate=1e-3, betas=(0.9, 0.95), ema_decay=0.95, save_every=100,
        sample_every=100, seed=args.seed, mixed_precision="bf16",
    )  # fmt: skip
    files = args.out / RENDERER_NAME, args.out / "sync" / SYNC_NAME
    train_audio2exp(Audio2ExpTraining(args.clips, *files, args.out / "audio2exp", trainer=speech, **lists))


@torch.no_grad()
def spoken_frames(
    model: KeypointModel, network: Audio2Exp, clip: VideoClip, rows: tuple[Tensor, Tensor], alpha: float
) -> list[Tensor]:
    """(H, W, 3) uint8 frames of a clip's reference picture that says its sentence.

    Args:
        model: the renderer.
        network: Audio2Exp.
        clip: held out.
        rows: (T, R, D) windows of its speech, and (R, D) of silence.
        alpha: of speech.
    """
    heard, silence = rows
    crop = (fit_square(clip.read(clip.reference), model.input_size)[None] + 1) / 2
    source = model.keypoints(crop)
    features, placed = model.features(crop), model.place(source)
    shut = network(source.expression, silence[None])
    frames = []
    for window in heard:
        moved = dataclasses.replace(source, expression=network(shut, window[None], alpha))
        picture = model.render(features, placed, model.place(moved))[0]
        frames.append((picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous())
    return frames


def measure(
    model: KeypointModel, network: Audio2Exp, clips: Sequence[tuple[int, VideoClip]], rows: SpeechRows, alpha: float
) -> Spoken:
    """Mouths of sentences; each clip comes with its number among those of the rows."""
    opened, correlations, lost = [], [], 0
    with open_mesh() as mesh:
        for number, clip in clips:
            windows = rows.windows(number, range(len(clip.track))), rows.silence(number)
            seen = measured(spoken_frames(model, network, clip, windows, alpha), clip, mesh)
            if seen is None:
                lost += 1
                continue
            opened.append(float(mouth_open(seen).mean()))
            if alpha:
                correlations.append(mouth_correlation(seen, clip.track).r_best)
    mean_r = sum(correlations) / len(correlations) if correlations else float("nan")
    return Spoken(sum(opened) / max(len(opened), 1), mean_r, lost)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's options."""
    parser.add_argument("--clips", metavar="FOLDER", type=Path, required=True, help="of tools/prepare_grid.py")
    parser.add_argument(
        "--out", metavar="FOLDER", type=Path, default=Path("implicit_small"), help="as implicit_small's"
    )
    parser.add_argument("--sync-steps", metavar="N", type=int, default=3000, help="of the lip-sync network")
    parser.add_argument("--steps", metavar="N", type=int, default=200, help="of Audio2Exp; 0 only evaluates")
    parser.add_argument("--held-out", metavar="N", type=int, default=6, help="clips of each group, at most")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of the training")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train, evaluate, and print the table; 1 if opening does not rise with alpha."""
    began = time.process_time()
    with one_torch_thread():
        if args.steps:
            train_networks(args)
        model, _ = open_keypoint_model(args.out / RENDERER_NAME)
        network = load_audio2exp(args.out / "audio2exp" / AUDIO2EXP_NAME)
        videos = read_videos(args.clips, NUM_FRAMES, read_list(args.clips / HELD_OUT)).videos
        kept, rows, _ = read_rows(args.clips, videos, MelEncoder())
        numbers = {clip.name: number for number, clip in enumerate(kept)}
        table, rises = [], []
        for name, members in groups(kept, read_list(args.clips / TRAIN)):
            chosen = members[:: max(1, len(members) // args.held_out)][: args.held_out]
            pairs = [(numbers[clip.name], clip) for clip in chosen]
            found = [measure(model, network, pairs, rows, alpha) for alpha in ALPHAS]
            true = sum(float(mouth_open(clip.track).mean()) for clip in chosen) / max(len(chosen), 1)
            rises.append(all(a.opening < b.opening for a, b in zip(found, found[1:], strict=False)))
            table += [
                [f"{name} ({len(chosen)})", f"{alpha:g}", f"{s.opening:.3f}", f"{true:.3f}", f"{s.r:.3f}", str(s.lost)]
                for alpha, s in zip(ALPHAS, found, strict=True)
            ]
    show(Table("held-out sentences", ["clips", "alpha", "opening", "true", "r", "faces lost"], table))
    print(f"{time.process_time() - began:.0f} s of one core.")
    return 0 if all(rises) else 1
