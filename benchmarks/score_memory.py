"""Peak memory of scoring synthetic clips, one process for each length.

python -m benchmarks score-memory 60 600
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from portraittalk_core.evaluation.evaluate import evaluate
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.media.video_write import VideoWriter
from portraittalk_core.types import Speech

PURPOSE = "peak memory of scoring clips of some lengths, each in a process of its own"
FPS, WIDTH, HEIGHT = Fraction(25), 160, 128
MIN_RED = 40  # pixels of a face


class MovingFace:
    """Face-mesh stub: the canonical face at a red block, with a mouth opening given by its green channel."""

    name = "stub"

    def detect(self, picture: torch.Tensor) -> torch.Tensor:
        """(F, 478, 3) landmarks of a picture (H, W, 3) uint8; none where there is no block."""
        height, width = picture.shape[:2]
        red = (picture[..., 0] > 150) & (picture[..., 2] < 90)
        if int(red.sum()) < MIN_RED:
            return torch.zeros(0, 478, 3)
        rows, columns = red.nonzero().unbind(1)
        low, high = (torch.tensor([float(f(columns)), float(f(rows))]) for f in (torch.min, torch.max))
        face = canonical_face().clone()
        face_min, face_max = face[:, :2].amin(0), face[:, :2].amax(0)
        face[:, :2] = (face[:, :2] - face_min) / (face_max - face_min) * (high + 1 - low) + low
        face[:, 2] *= float(high[0] - low[0]) / 2
        face[[14, 87, 317], 1] += 0.1 * float(high[1] - low[1]) * float(picture[..., 1][red].float().mean()) / 90
        return (face / torch.tensor([width, height, width]))[None]

    def close(self) -> None:
        """No operation: there is nothing to free."""

    def __enter__(self) -> MovingFace:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def make_clip(path: Path, seconds: int, noise: int) -> None:
    """Write a clip of a swaying, speaking face before moving stripes, with a tone as loud as its mouth is open."""
    count = round(seconds * FPS)
    draw = np.random.default_rng(noise)
    level = np.abs(np.sin(np.arange(count) * 0.37))
    samples = np.repeat(level, Speech.sample_rate // 25).astype(np.float32)
    samples *= 0.3 * np.sin(np.arange(len(samples)) * 0.1, dtype=np.float32)
    rows = np.arange(HEIGHT)[:, None, None]
    with VideoWriter(path, WIDTH, HEIGHT, FPS, sound=Speech(torch.from_numpy(samples))) as writer:
        for k in range(count):
            picture = np.broadcast_to(100 + 60 * np.sin((rows + 2 * k) / 9), (HEIGHT, WIDTH, 3)).copy()
            picture += draw.normal(0, 4, (1, WIDTH, 1)) if noise else 0
            left_px = 50 + round(10 * np.sin(0.05 * k))
            picture[30:100, left_px : left_px + 60] = 210, 20 + 60 * level[k], 20
            writer.write(torch.from_numpy(picture.clip(0, 255).astype(np.uint8)))


def measure(folder: Path) -> str:
    """Text of memory and speed of scoring a folder's clips in this process."""
    torch.set_num_threads(1)
    start_mb, started = peak_mb(), time.perf_counter()
    row = evaluate(folder / "made.mp4", folder / "true.mp4", mesh=MovingFace())
    took, frames = time.perf_counter() - started, row.counts["num_frames"]
    memory = f"peak {peak_mb():.0f} MB ({start_mb:.0f} MB before)"
    return f"{frames} frames: {memory}, {took:.0f} s, {frames / took:.0f} frames/s"


def peak_mb() -> float:
    """Peak memory of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage tells is not less than the parent had at the fork
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if "VmHWM" in line) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's options."""
    parser.add_argument("seconds", type=int, nargs="*", default=[60, 600], help="lengths to measure")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Make the clips in this process and measure each length in another."""
    if args.measure:
        print(measure(args.measure))
        return 0
    for seconds in args.seconds:
        with tempfile.TemporaryDirectory() as folder:
            for noise, name in enumerate(("true.mp4", "made.mp4")):
                make_clip(Path(folder) / name, seconds, noise)
            words = [sys.executable, "-m", "benchmarks", "score-memory", "--measure", folder]
            done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
            print(f"{seconds} s, {WIDTH}×{HEIGHT} at {float(FPS):g} fps, {done.stdout.strip()}", flush=True)
    return 0
