"""What each acceleration does to the picture: a toy network that has learnt a drawn puppet, decoded frames, PSNR.

Source of the toy: `benchmarks.ablation`. The unaccelerated run has 10 Euler steps from noise, no CFG, nothing kept.
"""

from __future__ import annotations

import dataclasses
import tempfile
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor

from portraittalk_core.animate.hints import track_hints
from portraittalk_core.animate.temporal import bind_motion
from portraittalk_core.diffusion.animate_net import bind_animate, cues_of_track
from portraittalk_core.diffusion.branches import Batch, bind
from portraittalk_core.diffusion.control import ControlOptions, FrameControl
from portraittalk_core.diffusion.denoiser import Condition, Denoiser
from portraittalk_core.diffusion.samplers import SamplerOptions, sample
from portraittalk_core.diffusion.schedule import MOTION
from portraittalk_core.diffusion.text_keys import TextKeys
from portraittalk_core.diffusion.windowed import VideoOptions, WindowedDenoiser
from portraittalk_core.metrics.psnr import psnr
from portraittalk_core.render.warp import PortraitRenderer
from portraittalk_core.threads import one_torch_thread
from portraittalk_core.training.animate_stage import JointStage
from portraittalk_core.training.video_data import VideoClip
from portraittalk_core.types import Portrait

from .ablation import FRAMES, PatchCodec, Plan, first_stage, puppet_clip, second_stage, toy_base
from .animate_core import NeverKept

STEPS, NUM_CLIPS = 10, 6


@dataclasses.dataclass(frozen=True)
class Run:
    """One way to draw a clip."""

    steps: int = STEPS
    denoise: float = 1.0  # below 1 it starts from the warped first frame
    reuse_every: int = 1
    kept: bool = True


RUNS = {
    "unaccelerated": Run(kept=False),
    "keys of text and face kept": Run(),
    "ControlNet every 2nd step": Run(reuse_every=2),
    "from the warp at denoise 0.5, half the steps": Run(STEPS // 2, 0.5),
    "from noise, half the steps": Run(STEPS // 2),
}


@torch.no_grad()
def drawn(stage: JointStage, clip: VideoClip, run: Run) -> Tensor:
    """Decoded frames (F, 3, H, W) in −1..1 of a clip whose first frame is given."""
    parts, frozen, track = stage.parts, stage.frozen, clip.track.slice(0, FRAMES)
    true = torch.stack([clip.read(i) for i in range(FRAMES)])
    picture = ((true[0] + 1) * 127.5).round().byte().permute(1, 2, 0).contiguous()
    warp = torch.stack(list(PortraitRenderer(Portrait(picture, track.slice(0, 1))).render(track)))
    start = frozen.codec.encode(warp.permute(0, 3, 1, 2).float() / 127.5 - 1)
    start = torch.cat([frozen.codec.encode(true[:1]), start[1:]])
    noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(7))
    batch = Batch(texts=TextKeys() if run.kept else NeverKept())
    control = FrameControl(
        parts.controlnet, track_hints(track, "landmarks"), ControlOptions(reuse_every=run.reuse_every)
    )
    with ExitStack() as bound:
        bound.enter_context(bind(frozen.unet, {}, batch))
        bound.enter_context(bind_animate(parts.controlnet, parts.net, cues_of_track(track), lambda: control.frames))
        bound.enter_context(bind(parts.controlnet, {}, batch))
        bound.enter_context(bind_motion(frozen.unet, parts.motion, FRAMES))
        inner = Denoiser(frozen.unet, batch, control, MOTION)
        denoiser = WindowedDenoiser(inner, 0, VideoOptions(length=FRAMES, overlap=1), start[:1])
        options = SamplerOptions(steps=run.steps, denoise=run.denoise, betas=MOTION)
        begin = start if run.denoise < 1 else torch.cat([start[:1], torch.zeros_like(start[1:])])
        made = sample(denoiser, begin, noise, Condition(frozen.texts.tokens([""])), options)
    return frozen.codec.decode(made).clamp(-1, 1)[1:]


def measure(tiny: bool, seed: int = 0) -> dict:
    """PSNR in dB of every run to the unaccelerated one and to the true frames (as the codec shows them)."""
    plan = Plan(2, 2, 2, seed=seed) if tiny else Plan(seed=seed)
    clips, codec = [puppet_clip(90_000 + number, FRAMES) for number in range(NUM_CLIPS)], PatchCodec()
    true = [torch.stack([clip.read(i) for i in range(FRAMES)]) for clip in clips]
    truth = torch.cat([codec.decode(codec.encode(one))[1:] for one in true]).clamp(-1, 1)
    with one_torch_thread(), tempfile.TemporaryDirectory() as folder:
        frozen = toy_base(plan.base_steps, seed)
        first = first_stage(frozen, True, plan, Path(folder) / "first")
        stage = second_stage(frozen, first, "full", plan, Path(folder) / "second")
        found = {name: torch.cat([drawn(stage, clip, run) for clip in clips]) for name, run in RUNS.items()}
    reference = found["unaccelerated"]
    return {name: [float(psnr(one, reference, 2.0)), float(psnr(one, truth, 2.0))] for name, one in found.items()}
