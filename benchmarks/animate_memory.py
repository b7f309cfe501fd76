"""Peak memory from speech to MP4 with all conditioning on tiny networks, one process for each length."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
import wave
from pathlib import Path

import torch

from portraittalk_core.diffusion.checkpoint import SD15
from portraittalk_core.diffusion.denoiser import Condition
from portraittalk_core.diffusion.motion_modules import MotionModules
from portraittalk_core.diffusion.samplers import SamplerOptions
from portraittalk_core.diffusion.sites import SITES
from portraittalk_core.diffusion.windowed import VideoOptions
from portraittalk_core.engines.contract import whole_track
from portraittalk_core.engines.registry import open_engine
from portraittalk_core.media.audio import load_speech
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.pipelines.render import render_track
from portraittalk_core.renderers.animatenet.control import FrameControl
from portraittalk_core.renderers.animatenet.hints import track_hints
from portraittalk_core.renderers.animatenet.mouth_weight import mouth_maps
from portraittalk_core.renderers.identitynet.adapter import IdentityOptions, identity_branches
from portraittalk_core.renderers.identitynet.backend import Canvas
from portraittalk_core.renderers.identitynet.build import IdentityNetRenderer
from portraittalk_core.renderers.identitynet.painter import Animation, DiffusersPainter, PaintOptions
from portraittalk_core.types import LandmarkTrack, Portrait, Speech

from .identity_network import filled, random_adapter
from .lipsync_clips import neutral_face

SPEECH = Path(__file__).parents[1] / "samples" / "speech.wav"
SIDE, WIDTHS, CONTEXT = 64, (32, 32, 32, 32), 16


def measure(seconds: int) -> dict[str, float]:
    """Peak memory in MB, processor and clock seconds of so many seconds of speech."""
    torch.set_num_threads(1)
    busy, started = time.process_time(), time.perf_counter()
    portrait = _portrait()
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder) / "speech.wav"
        track = _spoken(portrait, seconds, sound)
        with_track = _peak_mb()
        renderer = IdentityNetRenderer(_Backend(_painter(track)), SIDE, SIDE)
        out = Path(folder) / "out.mp4"
        video = render_track(portrait, track, out, renderer=renderer, sound=sound, transfer="absolute")
    return {
        "frames": video.num_frames,
        "peak_mb": _peak_mb(),
        "peak_before_painting_mb": with_track,
        "cpu_s": time.process_time() - busy,
        "wall_s": time.perf_counter() - started,
    }


class _Backend:
    """A renderer backend that returns a given painter."""

    needs_motion = False

    def __init__(self, painter: DiffusersPainter) -> None:
        self.painter = painter

    def open(self, canvas: Canvas) -> DiffusersPainter:  # noqa: ARG002 - as the contract has it
        return self.painter


def _spoken(portrait: Portrait, seconds: int, sound: Path) -> LandmarkTrack:
    """The landmark track of so many seconds of speech, which is written to a file and read from it."""
    sample = load_speech(SPEECH).waveform
    with wave.open(str(sound), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(Speech.sample_rate)
        remaining = seconds * Speech.sample_rate
        while remaining > 0:
            part = sample[:remaining]
            file.writeframes((part * 32767).round().to(torch.int16).numpy().tobytes())
            remaining -= len(part)
    return whole_track(open_engine(), load_speech(sound), portrait.landmarks, MotionOptions())


def _portrait() -> Portrait:
    face = neutral_face()
    landmarks = LandmarkTrack(face.points, face.valid, face.fps, SIDE, SIDE)
    return Portrait(torch.randint(0, 256, (SIDE, SIDE, 3), dtype=torch.uint8), landmarks)


def _painter(track: LandmarkTrack) -> DiffusersPainter:
    """A one-step painter with face, ControlNet, mouth maps, motion modules and chunks."""
    from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel

    shape = {"block_out_channels": WIDTHS, "cross_attention_dim": CONTEXT, "attention_head_dim": 8}
    unet = filled(UNet2DConditionModel(**shape, layers_per_block=2))
    network = filled(ControlNetModel(**shape, conditioning_embedding_out_channels=(8, 8, 8, 8)), 2)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        norm_num_groups=4,
    )
    keys = [site.adapter_key for site in SITES]
    faces = identity_branches(random_adapter(unet, CONTEXT), torch.randn(2, 4, CONTEXT), keys, IdentityOptions())
    control = FrameControl(network, track_hints(track, "landmarks"), maps=mouth_maps(track, 1.5))
    options = PaintOptions(SamplerOptions(steps=1, denoise=0.5), video=VideoOptions("chunked", 32, 4))
    animation = Animation(control, filled(MotionModules(WIDTHS), 3))
    branches = {index: [face] for index, face in faces.items()}
    return DiffusersPainter(
        SD15(unet, filled(vae), None), Condition(torch.randn(1, 7, CONTEXT)), branches, options, animation
    )


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
