"""Speed and memory of the built-in engine and the warp renderer, on scikit-image's astronaut and the sample speech.

Every measurement runs in a process of its own, so that none inherits another's memory, threads or warm caches. With
`--before`, this very file also measures an older checkout, in turn.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portraittalk_core.renderers.warp.renderer import PortraitRenderer
    from portraittalk_core.types import Portrait

ROOT = Path(__file__).parents[1]
SPEECH = ROOT / "samples" / "speech.wav"
PURPOSE = "speed and peak memory from sound to MP4 at 512×512, 25 fps, and the renderer beside a bare warp"
LONGEST_STAGES_S = 60  # longer speech is as fast
ROUNDS = 5  # of bare warp and renderer in turn; the median counts

GOAL_RENDER_FPS = 150.0  # frames per second and core
GOAL_FILLED_FPS = 150.0  # where the face fills the picture
FILLED = 0.62  # of the face's longer side: from its middle to the border of such a picture
GOAL_TALK_SPEED = 4.0  # × real time on one core
GOAL_FIRST_FRAME_S = 1.0
GOAL_LIVE_MS = 40.0  # of one core: 25 frames a second
GOAL_MEMORY_RATIO, GOAL_MEMORY_MORE_MB = 1.05, 64.0  # of the longest clip's peak, to that of the middle one


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's options."""
    parser.add_argument("--seconds", type=int, nargs="+", default=[5, 60, 600], help="lengths of speech")
    parser.add_argument("--quick", action="store_true", help="5 and 20 s only, fewer rounds")
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="an older checkout: its numbers beside these")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print, and return 1 if a goal is missed."""
    lengths = sorted({5, 20} if args.quick else set(args.seconds))
    roots = ([args.before.resolve()] if args.before else []) + [ROOT]
    lengths_found: list[dict[int, dict[str, float]]] = [{} for _ in roots]
    for seconds in lengths:
        for found, root in zip(lengths_found, roots, strict=True):  # in turn: the machine changes meanwhile
            stages = _in_child("stages", seconds, root) if seconds <= LONGEST_STAGES_S else {}
            found[seconds] = stages | _in_child("talk", seconds, root)
    renderers = [_in_child("renderer", 2 if args.quick else ROUNDS, root) for root in roots]
    live = _in_child("live", 4 if args.quick else 20, ROOT)
    one_cores = [_in_child("talk", lengths[0] if args.quick else 20, root, cores=1) for root in roots]
    for name, found, renderer in zip(("before", "now")[-len(roots) :], lengths_found, renderers, strict=True):
        print(f"\n{name}:" if args.before else "", end="")
        _print_lengths(found)
        _print_renderer(renderer)
    if args.before:
        before, now = one_cores
        print("talk on one core, before and now: "
              f"{before['talk_speed']:.1f}× and {now['talk_speed']:.1f}× real time, "
              f"{before['talk_cpu_s']:.1f} and {now['talk_cpu_s']:.1f} s of processor time\n")  # fmt: skip
    return _print_goals(lengths_found[-1], renderers[-1], one_cores[-1], live)


def measure_stages(seconds: int) -> dict[str, float]:
    """Speed of landmarks alone and of rendering (landmarks included) without encoding, in × real time."""
    from portraittalk_core.engines.builtin.engine import plan_motion
    from portraittalk_core.engines.registry import open_engine
    from portraittalk_core.motion.options import MotionOptions
    from portraittalk_core.motion.rig import SPAN, make_rig, plan_landmarks
    from portraittalk_core.threads import one_torch_thread

    portrait, speech, _ = _material(seconds)

    def landmarks() -> None:
        for _ in open_engine().spans(speech, portrait.landmarks, MotionOptions()):
            pass

    def pictures() -> Iterator:
        renderer, rig = _renderer_of(portrait), make_rig(plan.reference)
        for start in range(0, len(plan), SPAN):
            yield from renderer.render(plan_landmarks(plan, start, start + SPAN, rig))

    plan = plan_motion(speech, portrait.landmarks, MotionOptions())
    with one_torch_thread():  # as in `talk`
        next(pictures())  # what happens only once is not what is measured
        landmarks_s = _timed(landmarks)
        render_s = _timed(lambda: [None for _ in pictures()])
    return {"landmarks_speed": speech.seconds / landmarks_s, "render_speed": speech.seconds / render_s}


def measure_talk(seconds: int) -> dict[str, float]:
    """Speed of sound to MP4, its first frame, and this process's peak memory."""
    from portraittalk_core.media.audio import load_speech
    from portraittalk_core.pipelines.talk import talk

    portrait, _, sound = _material(seconds)
    started, busy = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        speech = load_speech(sound)
        loaded_s = time.perf_counter() - started
        result = talk(portrait, speech, Path(folder) / "talk.mp4", sound=sound)
    took_s = time.perf_counter() - started
    return {
        "talk_speed": result.seconds / took_s,
        "talk_cpu_s": time.process_time() - busy,
        "video_s": result.seconds,
        "first_frame_s": loaded_s + result.first_frame_s,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3),
    }


def measure_live(seconds: int) -> dict[str, float]:
    """Processor time of a live frame of a face that fills the picture: hearing, planning, drawing and its JPEG.

    Sound comes in pieces of 20 ms, each frame is drawn by itself, as `portraittalk live --output http` does.
    """
    import torch

    from portraittalk_core.engines.builtin.live import LivePlanner
    from portraittalk_core.media.live_video import MjpegServer
    from portraittalk_core.pipelines.live import PIECE
    from portraittalk_core.renderers.warp.build import portrait_renderer
    from portraittalk_core.threads import one_torch_thread

    portrait, speech, _ = _material(seconds)
    portrait = _filled(portrait)
    planner, renderer = LivePlanner(portrait.landmarks), portrait_renderer(portrait, breathes=True)
    frames_ms: list[float] = []
    server = MjpegServer(0)
    with one_torch_thread(), torch.inference_mode():
        list(renderer.render(portrait.landmarks))
        began = time.process_time()
        for piece in speech.waveform.split(PIECE):
            track = planner.push(piece)
            for index in range(0 if track is None else len(track)):
                for picture in renderer.render(track.slice(index, index + 1)):
                    server.show(picture)
                now = time.process_time()
                frames_ms.append(1e3 * (now - began))
                began = now
    server.close()
    ordered = sorted(frames_ms)
    return {
        "live_ms": statistics.mean(frames_ms),
        "live_worst_ms": ordered[int(0.95 * len(ordered))],
        "live_latency_ms": 1e3 * planner.latency_s,
    }


def measure_renderer(rounds: int) -> dict[str, float]:
    """Frames per second and core of a bare full-frame warp and of the renderer, in turn, by processor time."""
    import torch
    import torch.nn.functional as F

    from portraittalk_core.engines.contract import whole_track
    from portraittalk_core.engines.registry import open_engine
    from portraittalk_core.motion.options import MotionOptions

    torch.set_num_threads(1)
    portrait, speech, _ = _material(8)
    filled = _filled(portrait)
    tracks = [whole_track(open_engine(), speech, face.landmarks, MotionOptions()) for face in (portrait, filled)]
    track, renderers = tracks[0], [_renderer_of(portrait), _renderer_of(filled)]
    picture = portrait.picture.permute(2, 0, 1)[None].float()
    identity = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])
    grid = F.affine_grid(identity, list(picture.shape), align_corners=False) + 0.01 * torch.randn(1, 512, 512, 2)

    def warp() -> None:
        with torch.inference_mode():
            for _ in range(len(track)):
                F.grid_sample(picture, grid, align_corners=False)

    def render(which: int) -> None:
        for _ in renderers[which].render(tracks[which]):
            pass

    all_rates: dict[str, list[float]] = {"warp_fps": [], "render_fps": [], "filled_fps": []}
    for _ in range(rounds + 1):
        all_rates["warp_fps"].append(len(track) / _timed(warp, time.process_time))
        all_rates["render_fps"].append(len(track) / _timed(lambda: render(0), time.process_time))
        all_rates["filled_fps"].append(len(track) / _timed(lambda: render(1), time.process_time))
    return {name: statistics.median(rates[1:]) for name, rates in all_rates.items()}  # the first round warms up


def _renderer_of(portrait: Portrait) -> PortraitRenderer:
    try:
        from portraittalk_core.renderers.warp.build import portrait_renderer
    except ImportError:  # a checkout that was older than it
        from portraittalk_core.renderers.warp.renderer import PortraitRenderer as portrait_renderer
    return portrait_renderer(portrait)


def _filled(portrait: Portrait) -> Portrait:
    """The portrait cut to its face, in as many pixels."""
    from portraittalk_core.face.mesh.landmarks import find_portrait
    from portraittalk_core.media.resize import resize_picture

    points = portrait.landmarks.points_px[0, :, :2]
    low, high = points.amin(0), points.amax(0)
    reach = FILLED * float((high - low).max())
    x0, y0 = ((low + high) / 2 - reach).clamp(min=0).long().tolist()
    side = int(2 * reach)
    return find_portrait(resize_picture(portrait.picture[y0 : y0 + side, x0 : x0 + side], portrait.picture.shape[:2]))


MEASURES: dict[str, Callable[[int], dict[str, float]]] = {
    "stages": measure_stages,
    "talk": measure_talk,
    "renderer": measure_renderer,
    "live": measure_live,
}


def _in_child(measure: str, number: int, root: Path, cores: int | None = None) -> dict[str, float]:
    """Run one measurement of a checkout in a new process, on so many cores if the system lets us choose."""
    command = [sys.executable, __file__, measure, str(number)]
    print(f"{measure} ({number}) of {root}", file=sys.stderr)
    environment = os.environ | {"PYTHONPATH": str(root)} | ({"OMP_NUM_THREADS": str(cores)} if cores else {})
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    try:
        if cores and allowed:
            os.sched_setaffinity(0, sorted(allowed)[:cores])  # the child inherits it, and x264 counts by it
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    finally:
        if allowed:
            os.sched_setaffinity(0, allowed)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _material(seconds: int) -> tuple:
    """The astronaut with landmarks, so many seconds of speech, and the file that holds it."""
    import skimage

    from portraittalk_core.face.mesh.landmarks import find_portrait
    from portraittalk_core.media.audio import load_speech
    from portraittalk_core.media.image import load_picture

    picture = load_picture(Path(skimage.__file__).parent / "data" / "astronaut.png")
    sound = tiled_speech(SPEECH, seconds, Path(tempfile.gettempdir()) / f"portraittalk-bench-{os.getpid()}.wav")
    atexit.register(sound.unlink, missing_ok=True)
    return find_portrait(picture), load_speech(sound), sound


def tiled_speech(source: Path, seconds: int, out: Path) -> Path:
    """Repeat `source`, a WAV file, to a length of `seconds`; returns `out`."""
    with wave.open(str(source), "rb") as read, wave.open(str(out), "wb") as write:
        write.setparams(read.getparams())
        remaining = seconds * read.getframerate()
        while remaining > 0:
            read.rewind()
            count = min(remaining, read.getnframes())
            write.writeframes(read.readframes(count))
            remaining -= count
    return out


def _timed(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    started = clock()
    work()
    return clock() - started


def _print_lengths(results: dict[int, dict[str, float]]) -> None:
    print(f"\n512×512, 25 fps, {os.cpu_count()} cores; seconds of video per second of work")
    print(
        f"{'speech':>8} {'landmarks':>10} {'rendering':>10} {'all, to MP4':>12} {'first frame':>12} {'peak memory':>12}"
    )
    for seconds, row in results.items():
        landmarks = f"{row['landmarks_speed']:.0f}×" if "landmarks_speed" in row else ""
        rendering = f"{row['render_speed']:.1f}×" if "render_speed" in row else ""
        print(
            f"{seconds:6d} s {landmarks:>10} {rendering:>10} "
            f"{row['talk_speed']:11.1f}× {row['first_frame_s']:10.2f} s {row['peak_mb']:9.0f} MB"
        )


def _print_renderer(rates: dict[str, float]) -> None:
    share = rates["render_fps"] / rates["warp_fps"]
    print(
        f"\nper core: bare full-frame warp {rates['warp_fps']:.0f} frames/s, renderer {rates['render_fps']:.0f} ",
        end="",
    )
    print(f"frames/s ({share:.2f} of the warp), of a face that fills the picture {rates['filled_fps']:.0f} frames/s\n")


def _print_goals(
    lengths: dict[int, dict[str, float]],
    renderer: dict[str, float],
    one_core: dict[str, float],
    live: dict[str, float],
) -> int:
    *_, middle, longest = [min(lengths), *lengths]
    allowed_mb = GOAL_MEMORY_RATIO * lengths[middle]["peak_mb"] + GOAL_MEMORY_MORE_MB
    goals = [
        ("renderer, frames/s per core", renderer["render_fps"], ">=", GOAL_RENDER_FPS),
        ("the same, a face that fills the picture", renderer["filled_fps"], ">=", GOAL_FILLED_FPS),
        ("talk on one core, × real time", one_core["talk_speed"], ">=", GOAL_TALK_SPEED),
        ("first frame encoded on one core, s", one_core["first_frame_s"], "<=", GOAL_FIRST_FRAME_S),
        (f"first frame of {longest} s, s", lengths[longest]["first_frame_s"], "<=", GOAL_FIRST_FRAME_S),
        ("live, ms of processor time a frame", live["live_ms"], "<=", GOAL_LIVE_MS),
        (f"peak memory of {longest} s, MB (beside {middle} s)", lengths[longest]["peak_mb"], "<=", allowed_mb),
    ]
    missed = 0
    print(f"{'goal':44} {'reached':>9} {'target':>12}")
    for name, reached, sign, target in goals:
        met = reached >= target if sign == ">=" else reached <= target
        missed += not met
        print(f"{name:44} {reached:9.2f} {sign:>4} {target:7.2f}  {'met' if met else 'NOT MET'}")
    print(
        f"\ntalk on one core: {one_core['talk_cpu_s']:.1f} s of processor time for {one_core['video_s']:.0f} s of video"
    )
    print(
        f"live: 95 % of the frames within {live['live_worst_ms']:.0f} ms of processor time; planned at most "
        f"{live['live_latency_ms']:.0f} ms after their moment in the sound"
    )
    return int(missed > 0)


if __name__ == "__main__":
    print(json.dumps(MEASURES[sys.argv[1]](int(sys.argv[2]))))
