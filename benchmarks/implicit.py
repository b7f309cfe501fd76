"""LivePortrait's public code beside ours, frame for frame, on random weights of true size; memory over length.

A frame of either: the motion of a driving crop, placed, stitched keypoints, the picture, and the picture pasted into a
portrait of 1024 × 1024. Source features and canonical keypoints are made once in both. One thread, processor time.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.renderers.contract import RenderJob
from portraittalk_core.renderers.implicit.files import open_keypoint_model, random_model, write_random_files
from portraittalk_core.renderers.implicit.options import KeypointRenderOptions
from portraittalk_core.renderers.implicit.renderer import ImplicitRenderer
from portraittalk_core.renderers.write import render_video
from portraittalk_core.types import KeypointTrack, LandmarkTrack, Portrait

from .embedded import ROOT
from .score_memory import peak_mb

PURPOSE = "LivePortrait's public code and ours, frame for frame on random weights of true size; memory over length"
LAYOUT = "liveportrait-21"
PUBLIC_CODE = "https://github.com/KlingAIResearch/LivePortrait"
NETWORKS = ("appearance_feature_extractor", "motion_extractor", "warping_module", "spade_generator")
SIDE, PORTRAIT = 256, 1024
GOAL_RATIO, GOAL_MORE_MB = 1.0, 50.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's options."""
    parser.add_argument("--repo", type=Path, help=f"a copy of {PUBLIC_CODE}; without one only ours is measured")
    parser.add_argument("--frames", type=int, default=4, help="that are rendered in a round")
    parser.add_argument("--batch", type=int, default=4, help="frames that ours renders at once")
    parser.add_argument("--rounds", type=int, default=2, help="of both in turn; the least counts")
    parser.add_argument("--seconds", type=int, nargs="*", default=[60, 600], help="lengths whose memory is measured")
    parser.add_argument("--tiny", action="store_true", help="tiny networks: tries the script")
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)  # what a child process does: so many seconds
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print, and return 1 if a goal is missed."""
    torch.set_num_threads(1)
    if args.memory:
        print(json.dumps(peak_of_rendering(args.memory)))
        return 0
    missed = measure_speed(args)
    peaks = {seconds: _in_child(seconds) for seconds in args.seconds}
    for seconds, peak in peaks.items():
        print(f"{seconds} s rendered by tiny networks into a video of {SIDE} × {SIDE}: peak {peak:.0f} MB")
    if len(peaks) > 1:
        more = max(peaks.values()) - min(peaks.values())
        good = more <= GOAL_MORE_MB
        missed += not good
        print(f"{'ok  ' if good else 'MISS'} memory of lengths differs by {more:.0f} MB (at most {GOAL_MORE_MB:g})")
    return 0 if args.tiny else int(missed > 0)


def measure_speed(args: argparse.Namespace) -> int:
    """Print a table of both; returns how many goals are missed."""
    crops = torch.rand(args.frames, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    picture = made_picture(PORTRAIT)
    with tempfile.TemporaryDirectory() as folder:
        size = "tiny" if args.tiny else "public"
        form = "torch" if args.repo else "safetensors"
        paths = write_random_files(Path(folder), LAYOUT, size, form=form)
        ours = OurFrames(paths, picture, args.batch)
        public = PublicFrames(args.repo, paths, picture) if args.repo else None
    runs: dict[str, Callable[[], object]] = {"ours": lambda: ours.render(crops)}
    if public is not None:
        runs["public code"] = lambda: public.render(crops)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(args.rounds):
        for name, call in runs.items():
            times[name].append(_seconds(call) / args.frames)
    print(f"LivePortrait at {size} size, one thread, {args.frames} frames a round, batches of {args.batch}")
    for name, found in times.items():
        print(f"  {name:<12}{1e3 * min(found):10.1f} ms a frame ({1e3 * max(found):.1f} at most)")
    for name, share in ours.shares(crops).items():
        print(f"    {name:<32}{share:7.1%}")
    if public is None:
        print(f"  the public code is not measured: git clone {PUBLIC_CODE}, and --repo")
        return 0
    ratio = min(times["ours"]) / min(times["public code"])
    print(
        f"{'ok  ' if ratio <= GOAL_RATIO else 'MISS'} ours over the public code: {ratio:.3f} (at most {GOAL_RATIO:g})"
    )
    return int(ratio > GOAL_RATIO)


class OurFrames:
    """Our frames of one portrait, driven by crops.

    Args:
        paths: files of the networks.
        picture: (H, W, 3) uint8 portrait.
        batch: frames at once.
    """

    def __init__(self, paths: list[Path], picture: Tensor, batch: int) -> None:
        self.model, retargeting = open_keypoint_model(paths)
        self.renderer = ImplicitRenderer(self.model, retargeting, KeypointRenderOptions(match_colour=0.0))
        self.batch = batch
        job = RenderJob.of_track(portrait_of(picture), still_track(1))
        self.face, self.features, self.source, self.paster = self.renderer._encoded(job)  # noqa: SLF001 - its parts

    @torch.no_grad()
    def render(self, crops: Tensor) -> list[Tensor]:
        """(H, W, 3) uint8 pictures of (T, 3, S, S) driving crops."""
        pictures = []
        for part in crops.split(self.batch):
            moved = self.model.keypoints(_of_size(part, self.model.input_size))
            driven = self.renderer.place(self.source, moved)
            pictures += self.paster.paste(self.model.render(self.features, self.source, driven))
        return pictures

    def shares(self, crops: Tensor) -> dict[str, float]:
        """Share of processor time of every network, and of all else."""
        spent: dict[str, float] = {}
        with timed_modules(self.model, spent), timed_modules(self.renderer.retargeting, spent, "stitching"):
            whole = _seconds(lambda: self.render(crops))
        shares = {name: seconds / whole for name, seconds in sorted(spent.items(), key=lambda row: -row[1])}
        return shares | {"paste, keypoints and the rest": 1 - sum(shares.values())}


class PublicFrames:
    """Frames of LivePortrait's public code, on the same files.

    Args:
        repo: a copy of it.
        paths: of the networks' .pth files.
        picture: (H, W, 3) uint8 portrait.
    """

    def __init__(self, repo: Path, paths: list[Path], picture: Tensor) -> None:
        absent = {name: SimpleNamespace(rlog=print, rprint=print, Timer=object) for name in ("src.utils.timer",)}
        with patch.object(sys, "path", [str(repo), *sys.path]), patch.dict(sys.modules, absent):
            self._wrapper = importlib.import_module("src.live_portrait_wrapper").LivePortraitWrapper
            self._crop = importlib.import_module("src.utils.crop")
            config = importlib.import_module("yaml").safe_load((repo / "src/config/models.yaml").read_text())
            load = importlib.import_module("src.utils.helper").load_model
            files = {path.stem: str(path) for path in paths}
            names = (*NETWORKS, "stitching_retargeting_module")
            nets = {name: load(files[name], config, "cpu", name) for name in names}
        settings = SimpleNamespace(flag_use_half_precision=False)
        self._self = SimpleNamespace(**nets, device="cpu", inference_cfg=settings, compile=False)
        self._self.inference_ctx = torch.inference_mode
        self._self.stitch = lambda *faces: self._wrapper.stitch(self._self, *faces)
        self._picture = picture.numpy()
        points = portrait_of(picture).landmarks.points_px[0, :, :2].double().numpy()
        made = self._crop.crop_image(
            self._picture, np.resize(points, (203, 2)), dsize=512, scale=2.3, vy_ratio=-0.125, flag_do_rot=True
        )
        crop = self._crop.cv2.resize(made["img_crop"], (SIDE, SIDE), interpolation=self._crop.cv2.INTER_AREA)
        mask = self._crop.cv2.imread(str(repo / "src/utils/resources/mask_template.png"))
        self._to_picture = made["M_c2o"]
        self._mask = self._crop.prepare_paste_back(mask, self._to_picture, (PORTRAIT, PORTRAIT))
        source = torch.from_numpy(crop)[None].permute(0, 3, 1, 2).float() / 255
        self._source = self._call("transform_keypoint", self._call("get_kp_info", source))
        self._features = self._call("extract_feature_3d", source)

    def _call(self, name: str, *arguments: object) -> object:
        return getattr(self._wrapper, name)(self._self, *arguments)

    def render(self, crops: Tensor) -> list[np.ndarray]:
        """(H, W, 3) uint8 pictures of (T, 3, 256, 256) driving crops, one at a time, as the public code does."""
        pictures = []
        for crop in crops:
            driven = self._call("transform_keypoint", self._call("get_kp_info", crop[None]))
            driven = self._call("stitching", self._source, driven)
            made = self._call("warp_decode", self._features, self._source, driven)
            rendered = self._call("parse_output", made["out"])[0]
            pictures.append(self._crop.paste_back(rendered, self._to_picture, self._picture, self._mask))
        return pictures


@contextmanager
def timed_modules(networks: nn.Module, spent: dict[str, float], name: str = "") -> Iterator[None]:
    """Add the processor seconds of every network to `spent` while the context is open.

    Args:
        networks: whose children are timed.
        spent: seconds by name.
        name: one for all of them; empty takes each child's own.
    """
    hooks, begun = [], []

    def end(key: str) -> Callable[..., None]:
        def note(*_: object) -> None:
            spent[key] = spent.get(key, 0.0) + time.process_time() - begun.pop()

        return note

    for child_name, child in networks.named_children():
        hooks.append(child.register_forward_pre_hook(lambda *_: begun.append(time.process_time())))
        hooks.append(child.register_forward_hook(end(name or child_name)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def peak_of_rendering(seconds: int) -> float:
    """Peak memory in MB of rendering so many seconds by tiny networks, landmarks and all, into a video."""
    from portraittalk_core.engines.registry import open_engine
    from portraittalk_core.media.audio import load_speech
    from portraittalk_core.motion.options import MotionOptions
    from portraittalk_core.types import Speech

    from .embedded import SPEECH

    model, retargeting = random_model(LAYOUT)
    portrait = portrait_of(made_picture(SIDE))
    wave = load_speech(SPEECH).waveform
    speech = Speech(wave.repeat(seconds * Speech.sample_rate // len(wave) + 1)[: seconds * Speech.sample_rate])
    options = MotionOptions()
    spans = open_engine().spans(speech, portrait.landmarks, options)
    job = RenderJob(portrait, spans, speech.num_frames(options.fps), options.fps, speech)
    with tempfile.TemporaryDirectory() as folder:
        render_video(ImplicitRenderer(model, retargeting), job, Path(folder) / "out.mp4")
    return peak_mb()


def portrait_of(picture: Tensor) -> Portrait:
    """A portrait whose face is the canonical one in the picture's middle."""
    side = picture.shape[0]
    points = canonical_face().clone()
    low, high = points[:, :2].amin(0), points[:, :2].amax(0)
    points = (points - torch.cat([(low + high) / 2, torch.zeros(1)])) / float((high - low).max()) * 0.4
    points[:, :2] += 0.5
    return Portrait(picture, LandmarkTrack(points[None].float(), torch.ones(1, dtype=torch.bool), 25, side, side))


def made_picture(side: int) -> Tensor:
    """(H, W, 3) uint8 of waves."""
    at = torch.arange(side) * (12 / side)
    waves = [127 + 120 * torch.sin(at + k) * torch.cos(at[:, None] - k) for k in range(3)]
    return torch.stack(waves, -1).to(torch.uint8)


def still_track(num_frames: int) -> KeypointTrack:
    """Keypoints that do not move."""
    seen = torch.ones(num_frames, dtype=torch.bool)
    parts = (torch.zeros(num_frames, 21, 3), torch.zeros(num_frames, 3), torch.zeros(num_frames, 3))
    return KeypointTrack(*parts, torch.ones(num_frames), seen, Fraction(25), LAYOUT)


def _of_size(crops: Tensor, side: int) -> Tensor:
    return crops if crops.shape[-1] == side else torch.nn.functional.interpolate(crops, (side, side), mode="area")


def _seconds(call: Callable[[], object]) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def _in_child(seconds: int) -> float:
    words = [sys.executable, "-m", "benchmarks", "implicit", "--memory", str(seconds)]
    return json.loads(subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT).stdout)
