"""Part of the animate benchmark with our core on diffusers: steps, decoding, the device's matrix rate."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from portraittalk_core.diffusion.branches import Batch, bind
from portraittalk_core.diffusion.denoiser import Condition, Denoiser
from portraittalk_core.diffusion.motion_modules import MotionModules, bind_motion
from portraittalk_core.diffusion.schedule import MOTION
from portraittalk_core.diffusion.sites import SITES
from portraittalk_core.diffusion.text_keys import TextKeys
from portraittalk_core.renderers.animatenet.control import ControlOptions, FrameControl
from portraittalk_core.renderers.identitynet.adapter import IdentityOptions, identity_branches

from .identity_network import SIGMA, TINY, filled, measured, nothing, random_adapter, random_network

CFG = 3.5
ALL = ("face", "control", "motion")
# name → what acts, cfg, reuse_every, whether keys are kept; the first is diffusers' own, with nothing bound
VARIANTS: dict[str, tuple[tuple[str, ...], float, int, bool]] = {
    "plain": ((), CFG, 1, True),
    "+ face": (("face",), CFG, 1, True),
    "+ ControlNet": (("control",), CFG, 1, True),
    "+ motion": (("motion",), CFG, 1, True),
    "everything": (ALL, CFG, 1, True),
    "everything, keys made in every step": (ALL, CFG, 1, False),
    "everything, ControlNet every 2nd step": (ALL, CFG, 2, True),
    "everything, no CFG": (ALL, 1.0, 1, True),
}
MATMUL_SIDE = 8192


class NoTextCache(TextKeys):
    """Text keys without cache: keys and values are computed at every step, as in diffusers."""

    def is_cached(self, text: Tensor | None) -> bool:
        return False


def precision_of(args: argparse.Namespace) -> torch.dtype:
    """The dtype of the options; by default fp16 on a GPU, bf16 on a CPU with AMX tiles, else fp32."""
    names = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if args.precision:
        return names[args.precision]
    if args.device.startswith("cuda"):
        return torch.float16
    return torch.bfloat16 if torch.cpu._is_amx_tile_supported() else torch.float32


class Core:
    """Networks with random weights, and steps of any of VARIANTS."""

    def __init__(self, args: argparse.Namespace) -> None:
        from diffusers import ControlNetModel, UNet2DConditionModel

        self.device, self.dtype = torch.device(args.device), precision_of(args)
        self.frames, self.side = args.frames, args.size // 8
        make = (args.tiny, self.device, self.dtype)
        self.unet = random_network(UNet2DConditionModel, *make)
        self.network = random_network(ControlNetModel, *make, seed=2)
        with torch.device("meta"):
            motion = MotionModules(TINY["block_out_channels"]) if args.tiny else MotionModules()
        self.motion = filled(motion.to_empty(device=self.device).to(self.dtype), 3)
        for name, buffer in self.motion.named_buffers():  # positions, which no file of weights was read for
            buffer.fill_(0.1 * len(name) % 1)
        width = TINY["cross_attention_dim"] if args.tiny else 768
        adapter = random_adapter(self.unet, width).to(self.device, self.dtype)
        keys = [site.adapter_key for site in SITES]
        self.faces = identity_branches(adapter, torch.randn(2, 4, width), keys, IdentityOptions())
        text = torch.randn(1, 77, width, device=self.device)
        self.conds = {CFG: Condition(text, text.flip(1), CFG), 1.0: Condition(text)}
        self.hint = torch.rand(1, 3, args.size, args.size)
        self.texts = {name: TextKeys() if variant[3] else NoTextCache() for name, variant in VARIANTS.items()}

    def variants(self) -> dict[str, Callable[[], object]]:
        """A callable of each variant: one step, or two where the ControlNet is reused in the second."""
        return {name: (lambda name=name: self.step(name)) for name in VARIANTS}

    @torch.inference_mode()
    def step(self, name: str, frames: int | None = None, side: int | None = None) -> None:
        """A step of a variant."""
        _, cfg, every, cached = VARIANTS[name]
        frames, side = frames or self.frames, side or self.side
        x = torch.randn(frames, 4, side, side, device=self.device) * SIGMA
        with self._bound(name, frames) as denoiser:
            if not cached:
                for branch in self.faces.values():
                    branch.clear_cache()
            for _ in range(every):
                denoiser(x, SIGMA, self.conds[cfg])

    @contextmanager
    def _bound(self, name: str, frames: int) -> Iterator[Denoiser]:
        parts, _, every, _ = VARIANTS[name]
        if not parts:
            yield Denoiser(self.unet)
            return
        batch, control = Batch(texts=self.texts[name]), None
        branches = {i: [face] for i, face in self.faces.items()} if "face" in parts else {}
        with ExitStack() as bound:
            bound.enter_context(bind(self.unet, branches, batch))
            if "control" in parts:
                bound.enter_context(bind(self.network, {}, batch))
                control = FrameControl(self.network, self._hints, ControlOptions(reuse_every=every), _maps)
                control.frames = range(frames)
            if "motion" in parts:
                bound.enter_context(bind_motion(self.unet, self.motion, frames))
            yield Denoiser(self.unet, batch, control, MOTION)

    def _hints(self, frames, height: int, width: int) -> Tensor:  # noqa: ANN001
        return torch.nn.functional.interpolate(self.hint, (height, width)).expand(len(frames), -1, -1, -1)


def _maps(frames, height: int, width: int) -> Tensor:  # noqa: ANN001
    return torch.full((len(frames), 1, height, width), 1.5)


def measure(args: argparse.Namespace) -> dict:
    """Milliseconds a step of every variant, and a frame of decoding."""
    if args.device == "cpu":
        torch.set_num_threads(1)
    core = Core(args)
    wait = torch.cuda.synchronize if core.device.type == "cuda" else nothing
    for name in VARIANTS:
        core.step(name, 1, 8)  # what is done once
    rounds_ms = measured(core.variants(), args.rounds, wait, warm_up=core.device.type == "cuda")
    times = {name: [t / VARIANTS[name][2] for t in rounds] for name, rounds in rounds_ms.items()}
    decode_ms = decoding(args, core, wait)
    result = {"ms": times, "device": str(core.device), "dtype": str(core.dtype), "decode_ms": decode_ms}
    if core.device.type == "cuda":
        result |= _of_device(core)
    return result


@torch.inference_mode()
def decoding(args: argparse.Namespace, core: Core, wait: Callable[[], None]) -> dict[str, float]:
    """Milliseconds a frame of SD1.5's VAE and of TAESD."""
    from diffusers import AutoencoderKL, AutoencoderTiny

    from portraittalk_core.diffusion.latents import TinyVae

    widths = (32, 64, 64, 64) if args.tiny else (128, 256, 512, 512)
    with torch.device("meta"):
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=widths,
            layers_per_block=2,
        )
        taesd = TinyVae(AutoencoderTiny())
    latents = torch.randn(min(4, core.frames), 4, core.side, core.side, device=core.device, dtype=core.dtype)
    nets = {
        "VAE": filled(vae.to_empty(device=core.device).to(core.dtype)),
        "TAESD": filled(taesd.to_empty(device=core.device).to(core.dtype)),
    }
    calls = {name: (lambda net=net: net.decode(latents).sample) for name, net in nets.items()}
    return {name: min(times) / len(latents) for name, times in measured(calls, args.rounds, wait).items()}


@torch.inference_mode()
def _of_device(core: Core) -> dict[str, float]:
    """FLOPs of a step, the device's matrix rate, and the memory that a step without CFG needs at most."""
    from torch.utils.flop_counter import FlopCounterMode

    flops = {}
    for name in ("everything", "everything, no CFG"):
        with FlopCounterMode(display=False) as counter:
            core.step(name)
        flops[name] = float(counter.get_total_flops())
    matrix = torch.randn(MATMUL_SIDE, MATMUL_SIDE, device=core.device, dtype=core.dtype)
    rates = []
    for _ in range(10):
        torch.cuda.synchronize()
        started = time.perf_counter()
        matrix @ matrix
        torch.cuda.synchronize()
        rates.append(2 * MATMUL_SIDE**3 / (time.perf_counter() - started))
    torch.cuda.reset_peak_memory_stats()
    core.step("everything, no CFG")
    return {"flops": flops, "matmul_rate": max(rates), "peak_mb": torch.cuda.max_memory_allocated() / 1e6}
