"""What a GPU takes for a conditioned SD1.5 step and for a LivePortrait frame, on random weights of true size.

Milliseconds and peak memory; goals G6 to G10 of the AnimateNet preset; LivePortrait in fp16 at batches of 1, 4 and 16,
compiled and not. It reads nothing from any network. `--tiny --device cpu` tries the script anywhere.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import torch

PACKAGES = "torch diffusers transformers accelerate safetensors scipy einops pillow av numpy"
PURPOSE = (
    "milliseconds and memory of a conditioned SD1.5 step and of a LivePortrait frame on a GPU, goals G6 to G10, in "
    f"under 8 minutes, without network; needs: pip install {PACKAGES}"
)
LAYOUT = "liveportrait-21"
BUDGET_S = 360  # after so long nothing new is begun
FAST_STEPS, FULL_STEPS = 4, 25
OVERLAP_COST = 16 / 12  # windows of 16 that share 4 frames
GOALS = {"G6": 0.40, "G7": 40.0, "G8": 2.5, "G10": 150.0}
EVERYTHING, SINGLE = "everything", "everything, no CFG"
ANCHOR_MS = 14.8  # LivePortrait's public code, RTX 4090, compiled, 512 × 512
PORTRAIT = 1024

Row = tuple[str, ...]
Goal = tuple[str, float, float]  # what, value, the least


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's options."""
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or, with --tiny, cpu")
    parser.add_argument("--frames", type=int, default=16, help="in an SD1.5 step; each is there twice, with CFG")
    parser.add_argument("--size", type=int, default=512, help="side of SD1.5's frames in pixels")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16], help="of LivePortrait")
    parser.add_argument("--rounds", type=int, default=5, help="after one that warms up; the least counts")
    parser.add_argument("--precision", default="fp16", choices=("fp32", "bf16", "fp16"), help="of all weights")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--only", nargs="+", default=["sd15", "liveportrait"], choices=("sd15", "liveportrait"))
    parser.add_argument("--tiny", action="store_true", help="tiny networks: tries the script")
    parser.add_argument("--out", type=Path, metavar="OUT.md", help="file for the tables too")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print tables in Markdown, and return 1 if a goal is missed."""
    started, device = time.perf_counter(), Device(args.device)
    lines = [f"{device.name}, torch {torch.__version__}, Python {platform.python_version()}, {args.precision}"]
    goals: list[Goal] = []
    if "sd15" in args.only:
        rows, goals = sd15(args, device)
        lines += ["", *table(("SD1.5", "ms a step", "ms a frame", "peak MB"), rows)]
    if "liveportrait" in args.only:
        lines += [
            "",
            *table(("LivePortrait", "ms a frame", "frames/s", "peak MB"), liveportrait(args, device, started)),
        ]
    lines += ["", *(_said(goal) for goal in goals), f"took {time.perf_counter() - started:.0f} s"]
    text = "\n".join(lines)
    print(text)
    if args.out is not None:
        args.out.write_text(text + "\n", encoding="utf-8")
    return 0 if args.tiny else int(any(value < least for _, value, least in goals))


class Device:
    """A device that is timed, and whose memory is watched.

    Args:
        name: as torch names it.

    Raises:
        SystemExit: there is none.
    """

    def __init__(self, name: str) -> None:
        self.torch = torch.device(name)
        self.is_cuda = self.torch.type == "cuda"
        if self.is_cuda and not torch.cuda.is_available():
            raise SystemExit("torch finds no CUDA device here; on a CPU, try the script with --tiny --device cpu.")
        self.first_s = 0.0
        self.name = torch.cuda.get_device_name(self.torch) if self.is_cuda else str(self.torch)

    def wait(self) -> None:
        """Wait for all that the device has to do."""
        if self.is_cuda:
            torch.cuda.synchronize(self.torch)

    def measure(self, call: Callable[[], object], rounds: int) -> tuple[float, float | None]:
        """Least milliseconds of a call after one that warms up, and peak MB.

        The memory is None on a CPU; without enough of it, the time is infinite.
        """
        if self.is_cuda:
            torch.cuda.reset_peak_memory_stats(self.torch)
        times = []
        try:
            for _ in range(rounds + 1):
                self.wait()
                began = time.perf_counter()
                call()
                self.wait()
                times.append(1000 * (time.perf_counter() - began))
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            return float("inf"), None
        peak = torch.cuda.max_memory_allocated(self.torch) / 1e6 if self.is_cuda else None
        self.first_s = times[0] / 1000  # of the last call that was measured
        return min(times[1:]), peak

    @contextmanager
    def no_waiting(self):  # noqa: ANN201
        """Raise where the host waits for the device."""
        if not self.is_cuda:
            yield
            return
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def matrix_rate(self, dtype: torch.dtype, side: int) -> float:
        """FLOP/s of a product of square matrices."""
        matrix = torch.randn(side, side, device=self.torch, dtype=dtype)
        best, _ = self.measure(lambda: matrix @ matrix, 10)
        return 2 * side**3 / best * 1000


# --- SD1.5


def sd15(args: argparse.Namespace, device: Device) -> tuple[list[Row], list[Goal]]:
    """Rows and goals of a conditioned step: face, ControlNet, motion module, text."""
    from torch.utils.flop_counter import FlopCounterMode

    from .animate_core import Core, decoding

    core = Core(argparse.Namespace(**{**vars(args), "device": str(device.torch)}))
    frames, side = core.frames, core.side
    small = max(8, side // 2)
    calls = {
        ("plain SD1.5, CFG", side): "plain",
        ("everything, CFG", side): EVERYTHING,
        ("everything, no CFG", side): SINGLE,
        ("everything, no CFG, the face's square alone", small): SINGLE,
    }
    found, rows = {}, []
    for (title, at), name in calls.items():
        core.step(name, 1, 8)  # what is done once
        ms, peak = device.measure(lambda name=name, at=at: core.step(name, side=at), args.rounds)
        found[name, at] = ms
        rows.append((f"{title}, {8 * at}², {frames} frames", f"{ms:.1f}", f"{ms / frames:.2f}", _mb(peak)))
    decode = decoding(args, core, device.wait)
    rows += [(f"decoding by {name}, {8 * side}²", "", f"{ms:.2f}", "") for name, ms in decode.items()]
    with FlopCounterMode(display=False) as counter:
        core.step(EVERYTHING)
    rate = device.matrix_rate(core.dtype, 256 if args.tiny else 8192)
    share = counter.get_total_flops() / (found[EVERYTHING, side] / 1000) / rate

    def fps(ms: float, steps: int, decode_ms: float) -> float:
        return 1000 / (steps * ms / frames * OVERLAP_COST + decode_ms)

    tiny_decode, quarter = decode["TAESD"], decode["TAESD"] * (small / side) ** 2
    fast, full = found[SINGLE, side], found[EVERYTHING, side]
    quick, best = fps(fast, FAST_STEPS, tiny_decode), fps(full, FULL_STEPS, decode["VAE"])
    rows.append(("the device's matrix rate", "", "", f"{rate / 1e12:.1f} TFLOP/s"))
    rows.append((f"G9: G7's setting over G8's (12 is wanted over ComfyUI's stack): {quick / best:.1f} ×", "", "", ""))
    return rows, [
        ("G6 share of the matrix rate, everything with CFG", share, GOALS["G6"]),
        (f"G7 frames a second, {FAST_STEPS} steps, no CFG, TAESD, windows included", quick, GOALS["G7"]),
        (f"G8 frames a second, {FULL_STEPS} steps, CFG, VAE, windows included", best, GOALS["G8"]),
        (
            f"G10 frames a second, a square of {8 * small}, {FAST_STEPS} steps",
            fps(found[SINGLE, small], FAST_STEPS, quarter),
            GOALS["G10"],
        ),
    ]


# --- LivePortrait


def liveportrait(args: argparse.Namespace, device: Device, started: float) -> list[Row]:
    """Rows of a frame: keypoints placed and stitched, picture rendered, pasted into a portrait, copied to the host."""
    from portraittalk_core.renderers.implicit.compiled import compile_networks

    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    frames, rows = Frames(_renderer(args.tiny, device, dtypes[args.precision])), []
    plain = frames.rendered(args.batches[0]).float()
    for compiled in (False,) if args.no_compile else (False, True):
        if compiled:
            compile_networks(frames.model)
        for batch in args.batches:
            if time.perf_counter() - started > BUDGET_S:
                rows.append((f"batch {batch}: left out, the time is over", "", "", ""))
                continue
            ms, peak = device.measure(lambda batch=batch: frames.whole(batch), args.rounds)
            how = f"compiled (first call {device.first_s:.0f} s)" if compiled else "not compiled"
            rows.append((f"batch {batch}, {how}", f"{ms / batch:.2f}", f"{1000 * batch / ms:.1f}", _mb(peak)))
        if not compiled:
            rows += frames.parts(min(4, max(args.batches)), args.rounds, device)
    last = frames.rendered(args.batches[0]).float()
    if not args.no_compile:
        differs = float((last - plain).abs().max())
        rows.append(("compiled against not: largest difference, colours 0..1", f"{differs:.1e}", "", ""))
    with device.no_waiting():
        frames.rendered(args.batches[0])
    rows.append(("the host does not wait for the device within a frame", "", "", ""))
    return rows + [("anchor: the public code on an RTX 4090, compiled", f"{ANCHOR_MS}", f"{1000 / ANCHOR_MS:.1f}", "")]


class Frames:
    """Frames of one portrait.

    Args:
        renderer: an `ImplicitRenderer`.
    """

    def __init__(self, renderer) -> None:  # noqa: ANN001
        from portraittalk_core.renderers.contract import RenderJob

        from .implicit import made_picture, portrait_of, still_track

        self.renderer, self.model, self.still = renderer, renderer.model, still_track
        portrait = portrait_of(made_picture(PORTRAIT))
        encoded = renderer._encoded(RenderJob.of_track(portrait, still_track(1)))  # noqa: SLF001 - its parts
        self.face, self.features, self.source, self.paster = encoded
        self.placed: dict[int, torch.Tensor] = {}

    @torch.no_grad()
    def whole(self, batch: int) -> None:
        """A batch of frames from keypoint track to pictures on the host."""
        self.renderer._rendered(  # noqa: SLF001 - as it renders
            self.face, self.features, self.source, self.still(batch), self.paster
        )

    @torch.no_grad()
    def rendered(self, batch: int) -> torch.Tensor:
        """The networks' part of a batch, all of it on the device."""
        if batch not in self.placed:
            self.placed[batch] = self.source.repeat(batch, 1, 1) * 0.98
        driven = self.placed[batch]
        if self.renderer.retargeting is not None:
            driven = self.renderer.retargeting.stitch(self.source.expand_as(driven), driven)
        return self.model.render(self.features, self.source, driven)

    @torch.no_grad()
    def parts(self, batch: int, rounds: int, device: Device) -> list[Row]:
        """Rows of the parts of a frame, not compiled."""
        side = self.model.input_size
        crops = torch.rand(batch, 3, side, side, device=device.torch)
        made = self.rendered(batch)
        calls = {
            "motion extractor": lambda: self.model.keypoints(crops),
            "appearance (once a portrait)": lambda: self.model.features(crops[:1]),
            "stitching, warping, generator": lambda: self.rendered(batch),
            "paste and copy to the host": lambda: self.paster.paste(made),
        }
        rows = []
        for name, call in calls.items():
            ms, _ = device.measure(call, rounds)
            count = 1 if "once" in name else batch
            rows.append((f"of it: {name}, batch {count}", f"{ms / count:.2f}", "", ""))
        return rows


def _renderer(tiny: bool, device: Device, dtype: torch.dtype):  # noqa: ANN202
    from portraittalk_core.renderers.implicit.files import PICTURE_NETWORKS, random_model
    from portraittalk_core.renderers.implicit.options import KeypointRenderOptions
    from portraittalk_core.renderers.implicit.renderer import ImplicitRenderer

    model, retargeting = random_model(LAYOUT, "tiny" if tiny else "public")
    for name, network in model.named_children():
        network.to(device.torch, dtype if name in PICTURE_NETWORKS else torch.float32)
    return ImplicitRenderer(model, retargeting.to(device.torch), KeypointRenderOptions())


def table(heading: Row, rows: list[Row]) -> list[str]:
    """Lines of a Markdown table."""
    lines = [heading, ("---",) * len(heading), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _mb(peak: float | None) -> str:
    return "–" if peak is None else f"{peak:.0f}"


def _said(goal: Goal) -> str:
    what, value, least = goal
    return f"{'ok  ' if value >= least else 'MISS'} {what}: {value:.3g} (at least {least:g})"
