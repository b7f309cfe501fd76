"""Speed and memory of `track` and `dub` on a film of a speaking face, beside bare decoding, mesh and encoding.

All stages run in one process, in turn, and the median of some rounds counts: ratios hold on a busy machine, too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from .embedded import ROOT, SPEECH
from .score_memory import peak_mb

PURPOSE = "speed of track and dub beside bare decoding, mesh and encoding, and memory a frame"
GOAL_TRACK_SPEED, GOAL_WARP_SPEED, GOAL_DUB_SPEED = 4.0, 1.5, 1.0  # × real time, at 512×512 and 25 fps
GOAL_DUB_COST = 2.0  # times the processor time of a dub by the warp
GOAL_TRACK_KB = 18.0  # a frame more of film: three copies of its landmarks
STAGES = ("decoding", "mesh", "encoding", "track", "dub by the warp", "dub")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's options."""
    parser.add_argument("--seconds", type=int, default=6, help="length of the film")
    parser.add_argument("--rounds", type=int, default=3, help="of all stages in turn; the median counts")
    parser.add_argument("--film", type=Path, help="a film of one's own instead of the drawn one")
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="an older checkout: its commands beside these")
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)  # what a child process does: so many frames
    parser.add_argument(
        "--commands", type=Path, help=argparse.SUPPRESS
    )  # in a small process, since peaks are inherited
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print, and return 1 if a goal is missed."""
    if args.commands:
        with tempfile.TemporaryDirectory() as folder:
            _print_commands({"before": args.commands, "now": ROOT}, args.film, Path(folder), args.rounds)
        return 0
    if args.memory:
        print(json.dumps(_peak_of_tracking(args.memory)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        film = args.film or _made_film(Path(folder), args.seconds)
        rounds = [_round(film, Path(folder)) for _ in range(args.rounds)]
        if args.before:
            print(
                _in_child("--commands", str(args.before.resolve()), "--film", str(film), "--rounds", str(args.rounds))
            )
    fps, frames = rounds[0]["fps"], rounds[0]["frames"]
    found = {name: [statistics.median(one[name][kind] for one in rounds) for kind in (0, 1)] for name in STAGES}
    print(f"{frames:.0f} frames; ms a frame, median of {args.rounds} rounds\n{'':16}{'time':>8}{'processor':>11}")
    for name, (wall, cpu) in found.items():
        print(f"{name:16}{1e3 * wall:8.1f}{1e3 * cpu:11.1f}")
    bare = {
        "track": ("decoding", "mesh", "mesh"),
        "dub by the warp": ("decoding", "mesh", "mesh", "decoding", "encoding"),
    }
    bare["dub"] = ("dub by the warp",)
    for name, parts in bare.items():
        ratio = found[name][1] / sum(found[part][1] for part in parts)
        print(f"{name}: {ratio:.2f} times the processor time of {' + '.join(parts)}")
    few, many = (float(_in_child("--memory", str(count))) for count in (2_000, 12_000))
    kb = 1e3 * (many - few) / 10_000
    goals = {
        f"track {1 / fps / found['track'][0]:.1f}× real time": 1 / fps / found["track"][0] >= GOAL_TRACK_SPEED,
        f"dub by the warp {1 / fps / found['dub by the warp'][0]:.1f}× real time": 1 / fps / found["dub by the warp"][0]
        >= GOAL_WARP_SPEED,
        f"dub {1 / fps / found['dub'][0]:.1f}× real time": 1 / fps / found["dub"][0] >= GOAL_DUB_SPEED,
        f"dub at most {GOAL_DUB_COST:g} times the warp's processor time": found["dub"][1]
        <= GOAL_DUB_COST * found["dub by the warp"][1],
        f"track {kb:.1f} KB a frame": kb <= GOAL_TRACK_KB,
    }
    for text, met in goals.items():
        print(f"{text}: {'met' if met else 'MISSED'}")
    return int(not all(goals.values()))


def _made_film(folder: Path, seconds: int) -> Path:
    """A film of scikit-image's astronaut, speaking."""
    import torch
    from skimage.data import astronaut

    from portraittalk_core.face.mesh.landmarks import find_portrait
    from portraittalk_core.media.audio import load_speech
    from portraittalk_core.pipelines.talk import talk
    from portraittalk_core.types import Speech

    wave = load_speech(SPEECH).waveform
    wave = wave.repeat(seconds * 16_000 // len(wave) + 1)[: seconds * 16_000]
    talk(find_portrait(torch.from_numpy(astronaut().copy())), Speech(wave), folder / "film.mp4")
    return folder / "film.mp4"


def _round(film: Path, folder: Path) -> dict:
    """(seconds of time, seconds of processor time) a frame of every stage."""
    from portraittalk_core.engines.registry import open_engine
    from portraittalk_core.face.mesh.landmarks import open_mesh, track_faces
    from portraittalk_core.media.audio import load_speech
    from portraittalk_core.media.video_read import probe_video, read_pictures
    from portraittalk_core.media.video_write import VideoWriter
    from portraittalk_core.motion.options import MotionOptions
    from portraittalk_core.pipelines.dub import dub, read_film
    from portraittalk_core.renderers.registry import open_renderer

    fps, speech, engine = probe_video(film).fps, load_speech(SPEECH), open_engine()
    pictures = list(read_pictures(film))
    height, width = pictures[0].shape[:2]

    def encode() -> None:
        with VideoWriter(folder / "encoded.mp4", width, height, fps) as writer:
            for picture in pictures:
                writer.write(picture)

    with open_mesh() as mesh:

        def made(renderer: object) -> None:
            seen, out = read_film(film, mesh=mesh), folder / "dubbed.mp4"
            dub(seen, speech, out, MotionOptions(), engine=engine, renderer=renderer)

        mesh.detect(pictures[0])
        work: dict[str, Callable[[], object]] = {
            "decoding": lambda: sum(1 for _ in read_pictures(film)),
            "mesh": lambda: [mesh.detect(picture) for picture in pictures],
            "encoding": encode,
            "track": lambda: track_faces(read_pictures(film), fps, mesh),
            "dub by the warp": lambda: made(open_renderer("warp")),
            "dub": lambda: made(None),
        }
        found = {name: _timed(work[name], len(pictures)) for name in STAGES}
    return {**found, "fps": float(fps), "frames": len(pictures)}


def _timed(work: Callable[[], object], frames: int) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return (time.perf_counter() - wall) / frames, (time.process_time() - cpu) / frames


def _peak_of_tracking(frames: int) -> float:
    """Peak memory in MB of following a face, which a stub finds, through so many pictures."""
    import itertools
    from fractions import Fraction

    import torch

    from portraittalk_core.face.mesh.landmarks import track_faces

    from .score_memory import MovingFace

    picture = torch.zeros(128, 160, 3, dtype=torch.uint8)
    picture[30:100, 50:110, 0] = 210
    track_faces(itertools.repeat(picture, frames), Fraction(25), MovingFace())
    return peak_mb()


def _print_commands(trees: dict[str, Path], film: Path, folder: Path, rounds: int) -> None:
    """Print what the commands `track` and `dub` of two trees cost, whole processes in turn, their start included."""
    commands = {
        "track": ["track", "--video", str(film), "--out", str(folder / "track.safetensors")],
        "dub": ["dub", "--video", str(film), "--speech", str(SPEECH), "--out", str(folder / "dubbed.mp4")],
    }
    print(f"whole commands, median of {rounds} rounds\n{'':16}{'time s':>8}{'processor s':>13}{'peak MB':>9}")
    for command, words in commands.items():
        costs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in trees}
        for _ in range(rounds):
            for name, tree in trees.items():
                costs[name].append(_cost_of(words, tree))
        medians = {name: [statistics.median(values) for values in zip(*costs[name], strict=True)] for name in trees}
        for name, (wall, cpu, peak) in medians.items():
            print(f"{command + ' ' + name:16}{wall:8.1f}{cpu:13.1f}{peak:9.0f}")
        before, now = medians.values()
        print(f"{command}: {before[0] / now[0]:.2f} times as fast, {before[1] / now[1]:.2f} times less processor time")


def _cost_of(words: list[str], tree: Path) -> tuple[float, float, float]:
    """Seconds, seconds of processor time and peak memory in MB of a command run from a checkout."""
    began = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "portraittalk_core", *words, *(["--no-resume"] if words[0] == "dub" else [])], cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    errors = child.stderr.read() if child.stderr else b""
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{' '.join(words)} in {tree}: {errors.decode()[-2000:]}")
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def _in_child(*options: str) -> str:
    words = [sys.executable, "-m", "benchmarks", "film", *options]
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT).stdout
