"""Cost of ControlNet, motion modules and face over plain SD1.5, and savings of each acceleration.

Steps of SD1.5's true shape with random weights: our core on diffusers, and ComfyUI (its own Python) with our nodes'
functions. Pictures of a toy that has learnt something, for what an acceleration does to them. Peak memory of speech to
MP4 with tiny networks. Every part runs in a process of its own, all in one run.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from pathlib import Path

from .identity import comfy_folder, comfy_python

ROOT = Path(__file__).parents[1]
PURPOSE = "cost of ControlNet, motion and face over plain SD1.5, accelerations and their PSNR, memory of long speech"
CHILDREN = ("core", "comfy", "quality", "memory")
LENGTHS_S = (60, 600)
GOALS = {"G1": 1.80, "G2": 1.60, "G3": 0.95, "G4": 0.16, "G5": 0.05, "G6": 0.40, "G7": 40.0, "G8": 2.5}
GOAL_MORE_MB, GOAL_VRAM_MB = 100.0, 8000.0
GOAL_SAME_DB = 100.0  # the same but for rounding
FAST_STEPS, FULL_STEPS = 4, 25
OVERLAP_COST = 16 / 12  # windows of 16 that share 4 frames

Goal = tuple[str, float, float, bool]  # what, value, limit, whether it is a least value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's options."""
    parser.add_argument("--size", type=int, default=128, help="side of the frames in pixels")
    parser.add_argument("--frames", type=int, default=16, help="frames in a step; each is there twice, for cfg")
    parser.add_argument("--rounds", type=int, default=2, help="of all variants in turn; the least counts")
    parser.add_argument("--precision", default="", choices=("", "fp32", "bf16", "fp16"), help="of all weights")
    parser.add_argument("--device", default="cpu", help="cpu or cuda; with cuda, absolute figures too")
    parser.add_argument("--only", nargs="+", default=CHILDREN, choices=CHILDREN, help="some parts; without it, all")
    cache = (
        "folder for the toy that paints the pictures, which is trained once (minutes); if not given, in the temporary"
    )
    parser.add_argument("--cache", metavar="FOLDER", type=Path, help=cache)
    parser.add_argument("--tiny", action="store_true", help="tiny networks, short speech: tries the script")
    parser.add_argument("--child", choices=CHILDREN, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=int, default=0, help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print, and return 1 if a goal is missed."""
    if args.child:
        print(json.dumps(_measure(args)))
        return 0
    goals: list[Goal] = []
    for part in args.only:
        goals += _PARTS[part](args)
    print()
    missed = 0
    for what, value, limit, is_minimum in goals:
        good = value >= limit if is_minimum else value <= limit
        missed += not good
        bound = "at least" if is_minimum else "at most"
        print(f"{'ok  ' if good else 'MISS'} {what}: {value:.3f} ({bound} {limit:g})")
    return 0 if args.tiny else int(missed > 0)


def _measure(args: argparse.Namespace) -> dict:
    if args.child == "core":
        from .animate_core import measure

        return measure(args)
    if args.child == "comfy":
        from .animate_comfy import measure

        return measure(args, comfy_folder(), ROOT)
    if args.child == "quality":
        from .animate_quality import measure
        from .animate_toy import default_cache

        return measure(args.tiny, args.cache or default_cache())
    from .animate_memory import measure

    return measure(args.seconds)


def _child(kind: str, args: argparse.Namespace, python: str = sys.executable, seconds: int = 0) -> dict:
    options = {"size": args.size, "frames": args.frames, "rounds": args.rounds, "device": args.device}
    command = [python, "-m", "benchmarks", "animate", "--child", kind, "--seconds", str(seconds)]
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command += ["--precision", args.precision] if args.precision else []
    command += ["--tiny"] if args.tiny else []
    command += ["--cache", str(args.cache.resolve())] if args.cache else []
    one_core = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} if not args.device.startswith("cuda") else {}
    environment = {**os.environ, **one_core}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    if done.returncode:
        raise SystemExit(f"{kind} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _steps(args: argparse.Namespace, result: dict, title: str) -> dict[str, float]:
    """Print a table of steps, and return each as a ratio to plain."""
    rows = 2 * args.frames
    device = f"{result['device']}, {result['dtype']}"
    print(f"\n{title} on {device}: a step of {args.size}×{args.size}, {rows} rows with CFG")
    fastest = {name: min(times) for name, times in result["ms"].items()}
    plain = fastest["plain"]
    for name, times in result["ms"].items():
        spread = f"{min(times) / plain:.2f} to {max(times) / plain:.2f}"
        print(f"  {name:<44}{fastest[name]:11.1f} ms {fastest[name] / plain:7.3f} × plain  ({spread})", flush=True)
    return {name: ms / plain for name, ms in fastest.items()}


def _core(args: argparse.Namespace) -> list[Goal]:
    result = _child("core", args)
    ratios = _steps(args, result, "our core on diffusers")
    everything, uncached = ratios["everything"], ratios["everything, keys made in every step"]
    print(f"  keeping keys and values of text and face saves {(uncached - everything) / uncached:.1%} of a step")
    single = ratios["everything, no CFG"]
    preset = FAST_STEPS * single / FULL_STEPS
    goals: list[Goal] = [
        ("G1 everything over plain", everything, GOALS["G1"], False),
        ("G2 with ControlNet every 2nd step", ratios["everything, ControlNet every 2nd step"], GOALS["G2"], False),
        ("G3 everything without CFG", single, GOALS["G3"], False),
        (f"G4 {FAST_STEPS} steps, no CFG / plain, {FULL_STEPS} steps, CFG", preset, GOALS["G4"], False),
    ]
    step_ms = min(result["ms"]["everything, no CFG"]) / args.frames
    for name, ms in result["decode_ms"].items():
        share = ms / (ms + FAST_STEPS * step_ms)
        print(f"  decoding by {name:<6}{ms:9.1f} ms a frame, {share:.1%} of a frame of {FAST_STEPS} steps without CFG")
        if name == "TAESD":
            goals.append(("G5 decoding's share, by TAESD (--vae)", share, GOALS["G5"], False))
    return goals + (_absolute(args, result) if "matmul_rate" in result else [])


def _absolute(args: argparse.Namespace, result: dict) -> list[Goal]:
    """Figures of a GPU: its share of the matrix rate, and frames per second."""
    fastest = {name: min(times) / 1000 for name, times in result["ms"].items()}
    share = result["flops"]["everything"] / fastest["everything"] / result["matmul_rate"]
    single, full = fastest["everything, no CFG"] / args.frames, fastest["everything"] / args.frames
    decode = {name: ms / 1000 for name, ms in result["decode_ms"].items()}
    fast = 1 / (FAST_STEPS * single * OVERLAP_COST + decode["TAESD"])
    best = 1 / (FULL_STEPS * full * OVERLAP_COST + decode["VAE"])
    print(f"  matrix rate {result['matmul_rate'] / 1e12:.0f} TFLOP/s; most memory {result['peak_mb']:.0f} MB")
    at = f"{args.size}×{args.size}, windows included"
    return [
        ("G6 share of the matrix rate, everything with CFG", share, GOALS["G6"], True),
        (f"G7 frames a second, {FAST_STEPS} steps, no CFG, TAESD, {at}", fast, GOALS["G7"], True),
        (f"G8 frames a second, {FULL_STEPS} steps, CFG, VAE, {at}", best, GOALS["G8"], True),
        ("G13 MB of the device for a step without CFG", result["peak_mb"], GOAL_VRAM_MB, False),
    ]


def _comfy(args: argparse.Namespace) -> list[Goal]:
    python = comfy_python()
    if python is None:
        print("NO COMFYUI at COMFYUI_DIR or ~/ComfyUI: its path is NOT MEASURED.")
        return []
    ratios = _steps(args, _child("comfy", args, python), "ComfyUI with our nodes' functions")
    return [
        ("G1 everything over plain, ComfyUI", ratios["everything"], GOALS["G1"], False),
        ("G3 everything without CFG, ComfyUI", ratios["everything, no CFG"], GOALS["G3"], False),
    ]


def _quality(args: argparse.Namespace) -> list[Goal]:
    print(
        "\npictures of a toy that has learnt a puppet, clips held out (the first run trains it, for --cache)",
        flush=True,
    )
    result = _child("quality", args)
    print(f"  {'PSNR in dB':<52}{'to the unaccelerated':>21}{'to the truth':>14}{'time (toy)':>12}")
    for name, (same, true, took) in result.items():
        psnr_text = "equal" if math.isinf(same) else f"{same:.1f}"
        print(f"  {name:<52}{psnr_text:>21}{true:>14.2f}{f'{took:.2f} ×' if took else '':>12}", flush=True)
    cached_runs = ("keys of the text kept", "keys of text and face kept")
    return [
        (f"{name}: PSNR in dB to making them at every step", result[name][0], GOAL_SAME_DB, True)
        for name in cached_runs
    ]


def _memory(args: argparse.Namespace) -> list[Goal]:
    lengths = (1, 2) if args.tiny else LENGTHS_S
    results = {seconds: _child("memory", args, seconds=seconds) for seconds in lengths}
    print("\nspeech → landmarks → warp → paint (face, ControlNet, motion, chunks; tiny networks) → H.264")
    for seconds, row in results.items():
        peaks = f"peak {row['peak_mb']:.0f} MB ({row['peak_before_painting_mb']:.0f} when the landmarks were there)"
        print(
            f"  {seconds:>4} s, {row['frames']} frames: {peaks}, {row['cpu_s']:.0f} s CPU, {row['wall_s']:.0f} s clock"
        )
    more = results[lengths[1]]["peak_mb"] - results[lengths[0]]["peak_mb"]
    return [(f"G12 MB more for {lengths[1]} s than for {lengths[0]} s", more, GOAL_MORE_MB, False)]


_PARTS = {"core": _core, "comfy": _comfy, "quality": _quality, "memory": _memory}
