"""Speed and memory from sound to landmarks, one process for each length of speech."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from .lipsync_tables import Table

ROOT = Path(__file__).parents[1]
SPEECH = ROOT / "samples" / "speech.wav"
LENGTHS_S = (60, 600)
PIECE_S = 0.02  # of sound that arrives at once, live
SPAN = 250  # frames of landmarks that are made, and let go, at once
GOAL_SPEED = 50.0  # × real time on one core
GOAL_MORE_MB = 16.0  # of growth while working on the longest clip, beside the shortest


def processor_s() -> float:
    """Processor seconds of this process and of its finished child processes."""
    done = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + done.ru_utime + done.ru_stime


def measure_in_children() -> tuple[Table, int]:
    """Table of speed and memory for each length, and the number of missed goals."""
    results = {seconds: _in_child(seconds) for seconds in LENGTHS_S}
    body = []
    for seconds, row in results.items():
        speeds = [
            f"{row['cpu_s'] / seconds:.5f}",
            f"{seconds / row['cpu_s']:.0f} ×",
            f"{seconds / row['wall_s']:.0f} ×",
        ]
        body.append([f"{seconds} s", *speeds, f"{row['before_mb']:.0f} MB", f"{row['growth_mb']:.1f} MB"])
    slow = min(seconds / row["cpu_s"] for seconds, row in results.items()) < GOAL_SPEED
    more_mb = results[LENGTHS_S[-1]]["growth_mb"] - results[LENGTHS_S[0]]["growth_mb"]
    grows = more_mb > GOAL_MORE_MB
    verdicts = f"{'NOT MET' if slow else 'met'}: ≥ {GOAL_SPEED:.0f} × real time; "
    verdicts += f"{'NOT MET' if grows else 'met'}: {more_mb:.1f} MB more growth, ≤ {GOAL_MORE_MB:.0f}"
    header = ["speech", "CPU s per s", "× real time, CPU", "× real time, clock", "peak before", "growth"]
    return Table(f"Sound to landmarks on one core, one torch thread ({verdicts})", header, body), slow + grows


def live_table() -> Table:
    """Latency of the mouth network on streamed sound: its look-ahead and its processing time."""
    from portraittalk_core.engines.builtin.mouth_model import LiveMouth
    from portraittalk_core.media.audio import load_speech

    live, took = LiveMouth(), []
    for piece in load_speech(SPEECH).waveform.repeat(4).split(int(PIECE_S * 16_000)):
        started = time.perf_counter()
        live.push(piece)
        took.append(time.perf_counter() - started)
    took.sort()
    worst_s = live.latency_s + PIECE_S + took[int(0.99 * len(took))]
    row = [live.latency_s, PIECE_S, took[len(took) // 2], took[int(0.99 * len(took))], worst_s]
    header = ["network waits for", "piece", "work, median", "work, 99 %", "sound to answer, 99 %"]
    return Table("Live: how late the mouth is", header, [[f"{seconds * 1000:.0f} ms" for seconds in row]])


def run_child(seconds: int) -> int:
    """Measure one length and print the result as JSON for the parent process."""
    print(json.dumps(measure(seconds)))
    return 0


def measure(seconds: int) -> dict[str, float]:
    """Processor time and growth of the peak memory from sound to landmarks, span by span."""
    import torch

    from portraittalk_core.media.audio import load_speech
    from portraittalk_core.types import Speech

    torch.set_num_threads(1)
    sample = load_speech(SPEECH).waveform
    _sound_to_landmarks(Speech(sample))  # what happens only once is not what is measured
    waveform = torch.empty(seconds * Speech.sample_rate)
    for start in range(0, len(waveform), len(sample)):
        piece = waveform[start : start + len(sample)]
        piece.copy_(sample[: len(piece)])
    speech = Speech(waveform)
    ballast = [torch.ones(2**18)]  # what loading has used for a while and freed must not hide any growth
    at_rest_mb = _peak_mb()
    while _peak_mb() == at_rest_mb:
        ballast.append(torch.ones(2**18))  # 1 MB, touched
    before_mb, busy, started = _peak_mb(), time.process_time(), time.perf_counter()
    _sound_to_landmarks(speech)
    return {
        "cpu_s": time.process_time() - busy,
        "wall_s": time.perf_counter() - started,
        "before_mb": before_mb,
        "growth_mb": _peak_mb() - before_mb,
    }


def _sound_to_landmarks(speech) -> None:
    from portraittalk_core.engines.builtin.engine import plan_motion
    from portraittalk_core.motion.rig import make_rig, plan_landmarks

    from .lipsync_clips import neutral_face

    plan = plan_motion(speech, neutral_face())
    rig = make_rig(plan.reference)
    for start in range(0, len(plan), SPAN):
        plan_landmarks(plan, start, start + SPAN, rig)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def _in_child(seconds: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks", "lipsync", "--measure-speed", str(seconds)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])
