"""Dubbing a film with the lip renderers: speed beside IP-LAP's public code, share of each step, memory over length.

IP-LAP's inference script runs on the film's first frames, with landmarks as ours finds them in the place of its two
detectors and without the perceptual loss that its renderer computes while it paints; ours does the same inference on
them with the same random weights, and the pictures are compared. One thread, processor time.
"""

from __future__ import annotations

import argparse
import inspect
import json
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from portraittalk_core.engines.contract import EngineFiles
from portraittalk_core.engines.landmark_generator.crops import face_crops, unit_points
from portraittalk_core.engines.registry import open_engine
from portraittalk_core.face.lip_points import CONTENT_POINTS, JAW_POINTS
from portraittalk_core.face.mesh.landmarks import track_faces
from portraittalk_core.media.audio import load_speech
from portraittalk_core.media.video_read import probe_video, read_pictures
from portraittalk_core.media.video_write import VideoWriter
from portraittalk_core.motion.dub import dub_track
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.pipelines.dub import dub, read_film
from portraittalk_core.renderers.contract import Film, RenderJob
from portraittalk_core.renderers.lip import frames as frames_module
from portraittalk_core.renderers.lip import renderer as renderer_module
from portraittalk_core.renderers.lip.contract import LipBatch
from portraittalk_core.renderers.lip.files import open_lip_model
from portraittalk_core.renderers.lip.options import IpLapOptions, LipPaintOptions
from portraittalk_core.renderers.lip.random_files import random_lip_model, write_random_lip_files
from portraittalk_core.renderers.lip.renderer import LipRenderer
from portraittalk_core.renderers.registry import open_renderer
from portraittalk_core.renderers.write import render_video
from portraittalk_core.types import LandmarkTrack, Speech

from .embedded import ROOT, SPEECH
from .public_script import FIRST, PUBLIC, Given, Kept, run_script, true_renderer
from .score_memory import MovingFace, make_clip, peak_mb

PURPOSE = "frames a second of the lip renderers, IP-LAP's own code beside them, share of each step, memory over length"
FILM = ROOT / "samples" / "film.mp4"
GOAL_RATIO, GOAL_MORE_MB, GOAL_LEVELS = 2.0, 64.0, 1
FRAMES_AFTER = 2  # of a window, which the last frames of a film lack
MEL_CHUNK_FRAMES = 5  # of sound that a frame's chunk lasts
MOVED = 0.05  # of how far random landmarks are thrown, so that a face remains
STEPS = ("reading, cropping, sketches", "references", "network", "paste", "encoding")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's options."""
    parser.add_argument("--repo", type=Path, help=f"a copy of {PUBLIC.url}; without one only ours is measured")
    parser.add_argument("--film", type=Path, default=FILM, help="whose face is dubbed; the sample film if not given")
    parser.add_argument("--frames", type=int, default=8, help="of the film, painted in a round; 0: memory alone")
    parser.add_argument("--references", type=int, default=25, help="pictures that guide the painting")
    parser.add_argument("--batch", type=int, default=8, help="frames that ours paints at once")
    parser.add_argument("--rounds", type=int, default=1, help="of all in turn; the least counts")
    parser.add_argument("--device", default="cpu", help="of our networks: cpu, cuda, mps")
    parser.add_argument("--names", nargs="*", default=["iplap"], help="of ours that are measured: iplap lips musetalk")
    parser.add_argument("--seconds", type=int, nargs="*", default=[60, 600], help="lengths whose memory is measured")
    parser.add_argument("--tiny", action="store_true", help="tiny networks: tries the script")
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)  # what a child does: renderer, film
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print, and return 1 if a goal is missed."""
    torch.set_num_threads(1)
    if args.memory:
        renderer, film = args.memory
        print(json.dumps(peak_of_dubbing(Path(film), renderer)))
        return 0
    missed = measure_speed(args) if args.frames else 0
    missed += sum(memory_of_lengths(name, args.seconds) for name in ("iplap", "warp"))
    return 0 if args.tiny else int(missed > 0)


def measure_speed(args: argparse.Namespace) -> int:
    """Print a table of all that are asked for; returns how many goals are missed."""
    size = "tiny" if args.tiny else "public"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seen = Seen.of(args.film, folder, args.frames)
        print(f"{len(seen.film.track)} frames of {args.film.name}, {args.references} references, {size} networks, "
              f"{args.device}, ms a frame")  # fmt: skip
        print(f"  {'detection':<34}{1e3 * seen.detection_s:9.1f}\n  {'warp':<34}{_warp(seen, folder):9.1f}")
        ours: dict[str, float] = {}
        for model in args.names:
            form = "torch" if model == "iplap" else "safetensors"
            (path, *_) = write_random_lip_files(folder / model, model, size, form=form)
            dubbed = [OurFrames(seen, path, args).timed(folder) for _ in range(args.rounds)]
            best = min(dubbed, key=lambda one: sum(one.values()))
            ours[model] = sum(best.values())
            print(f"  {model:<34}{1e3 * ours[model]:9.1f}   {1 / ours[model]:.2f} frames a second")
            for step, spent in best.items():
                print(f"    {step:<32}{1e3 * spent:9.1f}{spent / ours[model]:8.0%}")
        if args.repo is None or "iplap" not in ours:
            print(f"  IP-LAP's own code is not measured: git clone {PUBLIC.url}, and --repo")
            return 0
        compared = measure_public(args, seen, folder / "iplap")
        public, off = compared.seconds_a_frame, compared.pictures
        ratio = public / ours["iplap"]
        print(f"  'iplap' by its own code{'':<15}{1e3 * public:9.1f}   {1 / public:.2f} frames a second")
        tell_difference(compared)
    most = max((int(one.max()) for one in off[:-FRAMES_AFTER]), default=0)
    goals = (
        (ratio >= GOAL_RATIO, f"ours is {ratio:.2f} times as fast (at least {GOAL_RATIO:g})"),
        (
            most <= GOAL_LEVELS,
            f"pictures differ by {most} levels at most, but for the last two (at most {GOAL_LEVELS})",
        ),
    )
    for good, told in goals:
        print(f"{'ok  ' if good else 'MISS'} {told}")
    return sum(not good for good, _ in goals)


class Seen:
    """The first frames of a film, with their landmarks and those of a new speech."""

    def __init__(self, film: Film, speech: Speech, detection_s: float) -> None:
        self.film, self.speech, self.detection_s = film, speech, detection_s
        track = dub_track(film.track, speech, MotionOptions(), open_engine(), scenes=film.scenes)
        self.job = RenderJob.of_track(film, track, speech)

    @staticmethod
    def of(path: Path, folder: Path, num_frames: int) -> Seen:
        """Read and tracked; a film that is shorter is looked at to its end."""
        probe = probe_video(path)
        part = folder / "film.mp4"
        with VideoWriter(part, probe.width, probe.height, probe.fps, crf=4) as writer:
            for _, picture in zip(range(num_frames), read_pictures(path, probe.fps), strict=False):
                writer.write(picture)
        started = time.process_time()
        film = read_film(part, scenes="all")
        spent = (time.process_time() - started) / len(film.track)
        return Seen(replace(film, sharpness=None), load_speech(SPEECH), spent)


class OurFrames:
    """Our frames of a film.

    Args:
        seen: the film.
        path: of the networks' file.
        args: references, batch and device.
    """

    def __init__(self, seen: Seen, path: Path, args: argparse.Namespace) -> None:
        self._seen = seen
        options = LipPaintOptions(references=args.references, batch_size=args.batch, voice_gate=0.0, max_yaw=90.0)
        self._renderer = LipRenderer(open_lip_model(path, args.device), options)

    def timed(self, folder: Path) -> dict[str, float]:
        """Seconds a frame by step."""
        spent = dict.fromkeys(STEPS, 0.0)
        device = self._renderer.model.device
        job, patches = renderer_module._LipJob, ExitStack()  # noqa: SLF001 - whose steps are timed
        reader = frames_module.FrameReader
        for owner, name, step in (
            (reader, "batches", STEPS[0]), (job, "_encoded", STEPS[1]), (job, "_painted", STEPS[2]),
            (job, "_pasted", STEPS[3]), (VideoWriter, "write", STEPS[4]),
        ):  # fmt: skip
            patches.enter_context(patch.object(owner, name, _timing(getattr(owner, name), spent, step, device)))
        with patches:
            render_video(self._renderer, self._seen.job, folder / "ours.mp4")
        spent["network"] -= spent["references"]  # which are encoded where they are first needed
        count = len(self._seen.film.track)
        return {step: seconds / count for step, seconds in spent.items()}


def _timing(call: Callable, spent: dict[str, float], step: str, device: torch.device) -> Callable:
    """A function whose processor time, or on a GPU its time, is added to a step's."""
    clock = time.perf_counter if device.type == "cuda" else time.thread_time

    def each(*args: object, **more: object) -> Iterator[object]:
        items = call(*args, **more)
        while True:
            started = clock()
            try:
                item = next(items)
            except StopIteration:
                return
            finally:
                spent[step] += clock() - started
            yield item

    def timed(*args: object, **more: object) -> object:
        started = clock()
        result = call(*args, **more)
        if device.type == "cuda":
            torch.cuda.synchronize()
        spent[step] += clock() - started
        return result

    return each if inspect.isgeneratorfunction(call) else timed


def _warp(seen: Seen, folder: Path) -> float:
    """Milliseconds a frame of the warp, encoding included."""
    started = time.process_time()
    render_video(open_renderer("warp"), seen.job, folder / "warp.mp4")
    return 1e3 * (time.process_time() - started) / len(seen.film.track)


@dataclass(frozen=True)
class Compared:
    """IP-LAP's own script and ours, which does its inference from the crop to the paste."""

    seconds_a_frame: float  # of the script
    pictures: list[Tensor]  # (H, W, 3) differences in levels, of every frame
    networks: dict[str, float]  # largest differences of what the renderers' networks are given and paint


def measure_public(args: argparse.Namespace, seen: Seen, folder: Path) -> Compared:
    """Both codes on the same pictures, landmarks and sound, with the same random weights."""
    (path,) = sorted(folder.glob("*.pth"))
    film = replace(seen.film, track=replace(seen.film.track, valid=torch.ones(len(seen.film.track), dtype=torch.bool)))
    film, speech = replace(film, scenes=None), heard_by_script(seen.speech, len(film.track))
    pictures = [np.ascontiguousarray(picture.numpy()[..., ::-1]) for picture in film.pictures()]
    torch.manual_seed(0)
    tame = partial(tame_landmarks, film=film.track)
    kept = run_script(args.repo, Given(folder, film.track, pictures, speech, true_renderer, tame))
    engine = open_engine(EngineFiles(folder / "landmarkgenerator_checkpoint.pth"))
    model, batches = open_lip_model(path), []
    paint = model.paint

    def kept_too(features: object, batch: LipBatch) -> Tensor:
        batches.append((batch, paint(features, batch)))
        return batches[-1][1]

    model.paint = kept_too
    renderer = LipRenderer(model, IpLapOptions(lips_file=path, inference="script"))
    track = dub_track(film.track, speech, MotionOptions(), engine)
    job = replace(RenderJob.of_track(film, track, speech), windows=renderer.windows_of(engine, film, speech))
    shown = zip(renderer.render(job), kept.shown, strict=False)
    off = [(ours.int() - torch.from_numpy(theirs).int()).abs() for ours, theirs in shown]
    return Compared(kept.seconds_a_frame, off, compare_networks(batches, kept))


def compare_networks(batches: list[tuple[LipBatch, Tensor]], kept: Kept) -> dict[str, float]:
    """Largest differences of inputs and outputs of the renderers' networks, but of the last frames' windows."""
    count = sum(len(batch.pictures) for batch, _ in batches) - FRAMES_AFTER
    ours = {
        "crops": torch.cat([batch.pictures.flip(1) for batch, _ in batches]),
        "sketches": torch.cat([batch.sketches for batch, _ in batches]),
        "painted crops": torch.cat([painted.flip(1) for _, painted in batches]),
        "mel chunks": torch.cat([batch.sound for batch, _ in batches]),
    }
    theirs = (kept.faces, kept.sketches, kept.painted, kept.mels)
    return {
        name: float((made[FIRST:count] - torch.stack(expected)[: count - FIRST]).abs().max())
        for (name, made), expected in zip(ours.items(), theirs, strict=True)
    }


def heard_by_script(speech: Speech, num_frames: int) -> Speech:
    """So much of a speech that the script shows all frames of a film."""
    return replace(speech, waveform=speech.waveform[: (num_frames + MEL_CHUNK_FRAMES) * Speech.sample_rate // 25])


def tame_landmarks(network: nn.Module, film: LandmarkTrack) -> None:
    """Random predictions that are a face: the film's own in the middle, moved by some pixels."""
    crops = face_crops(film)
    usual = unit_points(film, crops, CONTENT_POINTS, torch.arange(len(film))).mean(0)
    jaw = len(JAW_POINTS)
    for layer, places in (network.jaw_keypoint_map, usual[:jaw]), (network.mouse_keypoint_map, usual[jaw:]):
        layer.weight *= MOVED
        layer.bias.copy_(places.flatten())


def tell_difference(compared: Compared) -> None:
    """Print how far apart the two codes are, frame by frame; the script's last two windows lack frames."""
    off, parts = compared.pictures, (f"{name} {value:.1e}" for name, value in compared.networks.items())
    print(f"  the networks' inputs and outputs, of 0..1, differ by: {', '.join(parts)}")
    print("  pictures of both, before they are encoded, differ by (levels: most, mean, pixels by more than one)")
    for number, one in enumerate(off):
        last = "   the script's film runs backwards here" if number >= len(off) - FRAMES_AFTER else ""
        far = float((one.amax(2) > 1).float().mean())
        print(f"    frame {number:<4}{int(one.max()):5d}{float(one.float().mean()):10.5f}{far:10.4%}{last}")


def peak_of_dubbing(path: Path, renderer: str) -> float:
    """Peak memory in MB of dubbing a film by the speech beside it, tracking and all: by the warp, or tiny networks."""
    found = Film(path, track_faces(read_pictures(path), probe_video(path).fps, MovingFace()))
    speech = load_speech(path.with_name("speech.wav"))
    options = LipPaintOptions(references=2, max_yaw=90.0)
    opened = open_renderer() if renderer == "warp" else LipRenderer(random_lip_model(renderer), options)
    dub(found, speech, path.with_name("out.mp4"), MotionOptions(), engine=open_engine(), renderer=opened)
    return peak_mb()


def memory_of_lengths(renderer: str, lengths: list[int]) -> int:
    """Print the peak memory of films of some lengths; returns whether they differ by too much."""
    peaks: dict[int, float] = {}
    for seconds in lengths:
        peaks[seconds] = _in_child(renderer, seconds)
        print(f"{seconds} s of film dubbed by {renderer}, tiny networks: peak {peaks[seconds]:.0f} MB", flush=True)
    more = max(peaks.values(), default=0.0) - min(peaks.values(), default=0.0)
    if len(peaks) > 1:
        good = "ok  " if more <= GOAL_MORE_MB else "MISS"
        print(f"{good} memory of lengths differs by {more:.0f} MB (at most {GOAL_MORE_MB:g})")
    return int(more > GOAL_MORE_MB)


def _in_child(renderer: str, seconds: int) -> float:
    """Peak memory in MB; the film is made here, since that takes memory too."""
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "film.mp4"
        make_clip(film, seconds, 0)
        with wave.open(str(SPEECH)) as short, wave.open(str(film.with_name("speech.wav")), "wb") as long:
            long.setparams(short.getparams())
            samples = short.readframes(short.getnframes())
            for _ in range(0, seconds * short.getframerate(), short.getnframes()):
                long.writeframes(samples)
        words = [sys.executable, "-m", "benchmarks", "dub", "--memory", renderer, str(film)]
        return json.loads(subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT).stdout)
