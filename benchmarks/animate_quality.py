"""Quality loss of each acceleration: PSNR of frames that a trained toy generates with the library's painter.

Clips that it has not learnt from are painted as `portraittalk talk` paints them, chunk after chunk; the first frame is
given. Every run has the same seed; the run with another one tells how far two equally good videos lie apart.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from portraittalk_core.diffusion.checkpoint import SD15
from portraittalk_core.diffusion.denoiser import Condition
from portraittalk_core.diffusion.latents import LATENT_SCALE
from portraittalk_core.diffusion.samplers import SamplerOptions
from portraittalk_core.diffusion.sites import SITES
from portraittalk_core.diffusion.windowed import VideoOptions
from portraittalk_core.diffusion.windows import chunks
from portraittalk_core.layers.attention import AttentionCall
from portraittalk_core.metrics.psnr import psnr
from portraittalk_core.renderers.animatenet.animate_net import track_conditions
from portraittalk_core.renderers.animatenet.control import ControlOptions, FrameControl
from portraittalk_core.renderers.animatenet.hints import track_hints
from portraittalk_core.renderers.identitynet.adapter import IdentityOptions, identity_branches
from portraittalk_core.renderers.identitynet.decoupled_attention import IdentityBranch
from portraittalk_core.renderers.identitynet.painter import (
    AnimateConditioning,
    Animation,
    DiffusersPainter,
    PaintOptions,
)
from portraittalk_core.renderers.warp.renderer import PortraitRenderer
from portraittalk_core.threads import one_torch_thread
from portraittalk_core.training.animatenet.stage import JointStage
from portraittalk_core.training.data.video_clips import VideoClip
from portraittalk_core.types import Portrait

from .animate_core import NoTextCache
from .animate_toy import PLAN, held_out, trained_toy
from .identity_network import random_adapter
from .puppet_training import FRAMES, LENGTH, SIDE, PatchCodec, Plan

STEPS, FAST_STEPS, CFG, NUM_CLIPS, SEED = 10, 4, 2.0, 4, 7
FACE_STRENGTH = 0.3  # of a face adapter with random weights, which only shows that what is kept is right


@dataclasses.dataclass(frozen=True)
class Run:
    """Sampling settings of one variant."""

    steps: int = STEPS
    cfg: float = CFG
    sampler: str = "euler"
    schedule: str = "normal"
    denoise: float = 1.0  # below 1 it starts from the warped first frame
    reuse_every: int = 1
    cached: bool = True  # keys and values of text and face
    face: bool = False
    mode: str = "chunked"
    seed: int = SEED
    against: str = "unaccelerated"


FACE = "unaccelerated, with a face"
RUNS = {
    "unaccelerated": Run(cached=False),
    "keys of the text kept": Run(),
    FACE: Run(cached=False, face=True, against=FACE),
    "keys of text and face kept": Run(face=True, against=FACE),
    "ControlNet every 2nd step": Run(reuse_every=2),
    f"from the warp at denoise 0.5, {STEPS // 2} steps": Run(STEPS // 2, denoise=0.5),
    f"from noise, {STEPS // 2} steps": Run(STEPS // 2),
    "no CFG": Run(cfg=1.0),
    f"{FAST_STEPS} steps, no CFG": Run(FAST_STEPS, 1.0),
    f"{FAST_STEPS} steps, no CFG, lcm without LCM weights": Run(FAST_STEPS, 1.0, "lcm", "sgm_uniform"),
    f"{FAST_STEPS} steps, no CFG, from the warp at 0.5": Run(FAST_STEPS, 1.0, denoise=0.5),
    "sliding windows": Run(mode="sliding"),
    "another seed": Run(seed=SEED + 1),
}
WARP = "(the warp alone)"


class PatchVae(nn.Module):
    """The toy's codec behind the interface of diffusers' VAE."""

    def __init__(self) -> None:
        super().__init__()
        self.codec, self.place = PatchCodec(), nn.Parameter(torch.zeros(()), requires_grad=False)

    def encode(self, frames: Tensor) -> SimpleNamespace:
        """Latents of frames in −1..1."""
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=self.codec.encode(frames) / LATENT_SCALE))

    def decode(self, latents: Tensor) -> SimpleNamespace:
        """Frames of latents."""
        return SimpleNamespace(sample=self.codec.decode(latents * LATENT_SCALE))


class ToyPainter(DiffusersPainter):
    """The library's painter, with every frame's noise normalised to unit root mean square.

    A frame of the toy is 256 numbers, whose root mean square is 1 give or take 4.4 %; of 512² pixels it is 16384, and
    0.6 %. What a frame's noise is above the level that the network is told of stays in the picture to the last step:
    without this, a third of the toy's frames would be noisy, and all figures be about them.
    """

    def _noise(self, latents: Tensor, first: int) -> Tensor:
        noise = super()._noise(latents, first)
        return noise / noise.square().mean((1, 2, 3), keepdim=True).sqrt()

    def disable_cache(self) -> None:
        """Compute the text's keys and values at every step."""
        self._texts = NoTextCache()


class NoFaceCache:
    """An identity branch without cache: keys and values are computed at every step."""

    def __init__(self, branch: IdentityBranch) -> None:
        self.branch = branch

    def __call__(self, queries: Tensor, call: AttentionCall) -> Tensor | None:
        self.clear_cache()
        return self.branch(queries, call)

    def clear_cache(self) -> None:
        """Drop the branch's cached keys and values."""
        self.branch.clear_cache()


def painter_of(stage: JointStage, clip: VideoClip, run: Run) -> ToyPainter:
    """A painter of the toy's networks, configured as by the command line."""
    frozen, parts = stage.frozen, stage.parts
    sampling = SamplerOptions(run.sampler, run.schedule, run.steps, run.denoise, run.seed)
    options = PaintOptions(sampling, video=VideoOptions(run.mode, FRAMES, 1 if run.mode == "chunked" else FRAMES // 2))
    control = FrameControl(
        parts.controlnet, track_hints(clip.track, "landmarks"), ControlOptions(reuse_every=run.reuse_every)
    )
    conditioning = AnimateConditioning(parts.net, track_conditions(clip.track))
    texts = [frozen.texts.tokens([caption]) for caption in (clip.caption, "")]
    branches = {}
    if run.face:
        adapter = random_adapter(frozen.unet, texts[0].shape[2])
        tokens = torch.randn(2, 4, texts[0].shape[2], generator=torch.Generator().manual_seed(1))
        identity = identity_branches(adapter, tokens, [s.adapter_key for s in SITES], IdentityOptions(FACE_STRENGTH))
        branches = {index: [branch if run.cached else NoFaceCache(branch)] for index, branch in identity.items()}
    sd15 = SD15(frozen.unet, PatchVae(), None)
    painter = ToyPainter(
        sd15, Condition(*texts, run.cfg), branches, options, Animation(control, parts.motion, conditioning=conditioning)
    )
    if not run.cached:
        painter.disable_cache()
    return painter


def warped(clip: VideoClip) -> Tensor:
    """(T, 3, H, W) 0..1: the first frame warped to the landmarks."""
    picture = ((clip.read(0) + 1) * 127.5).round().byte().permute(1, 2, 0).contiguous()
    track = clip.track
    frames = torch.stack(list(PortraitRenderer(Portrait(picture, track.slice(0, 1))).render(track)))
    return frames.permute(0, 3, 1, 2).float() / 255


@torch.no_grad()
def painted(stage: JointStage, clip: VideoClip, run: Run) -> Tensor:
    """(T − 1, 3, H, W) −1..1 of a clip whose first frame is given."""
    painter, length = painter_of(stage, clip, run), len(clip.track)
    begin = torch.zeros(length, 4, SIDE // 8, SIDE // 8)
    if run.denoise < 1:
        begin = painter.encode(warped(clip).movedim(1, -1))
    finished = stage.frozen.codec.encode(clip.read(0)[None])
    for chunk in chunks(length, painter.batch, painter.overlap):
        first = max(chunk.frames.start + chunk.num_fixed, 1)
        fixed = finished[chunk.frames.start : first]
        latents = painter.paint_latents(begin[first : chunk.frames.stop], None, first, fixed).latents
        finished = torch.cat([finished, latents])
    return stage.frozen.codec.decode(finished).clamp(-1, 1)[1:]


def measure(tiny: bool, cache: Path, seed: int = 0) -> dict:
    """For every run: PSNR in dB to its baseline and to the true frames, and its time over the baseline's.

    True frames are as the codec shows them. Time is the processor's own, of tiny networks; it is not SD1.5's.
    """
    plan = Plan(2, 2, 2, seed=seed) if tiny else dataclasses.replace(PLAN, seed=seed)
    with one_torch_thread():
        stage = trained_toy(plan, cache)
        num_clips, length = (1, FRAMES + 1) if tiny else (NUM_CLIPS, LENGTH)
        clips = [held_out(number, seed, length) for number in range(num_clips)]
        videos, took = {}, {}
        runs = {name: dataclasses.replace(run, steps=1) if tiny else run for name, run in RUNS.items()}
        for name, run in runs.items():
            started = time.process_time()
            videos[name] = torch.cat([painted(stage, clip, run) for clip in clips])
            took[name] = time.process_time() - started
        codec = PatchCodec()
        true_clips = [torch.stack([clip.read(i) for i in range(1, length)]) for clip in clips]
        truth = torch.cat([codec.decode(codec.encode(true_frames)).clamp(-1, 1) for true_frames in true_clips])
        videos[WARP] = torch.cat([codec.decode(codec.encode(2 * warped(c)[1:] - 1)).clamp(-1, 1) for c in clips])
    rows = {}
    for name, frames in videos.items():
        against = RUNS[name].against if name in RUNS else "unaccelerated"
        time_share = took[name] / took[against] if name in took else 0.0
        rows[name] = [float(psnr(frames, videos[against], 2.0)), float(psnr(frames, truth, 2.0)), time_share]
    return rows
