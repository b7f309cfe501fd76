"""Options of the renderer V-Express, and the files it needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError, MissingDependency
from ...options import check_options, option, same_option
from ...weights.specs import FileSpec
from ..identitynet.options import PRECISIONS

WEIGHTS = "huggingface.co/tk93/V-Express (research use only)"
ENCODER = "facebook/wav2vec2-base-960h (pytorch_model.bin or model.safetensors)"
FILES = (
    FileSpec("vexpress_folder", "huggingface.co/tk93/V-Express", "research only, non-commercial", "vexpress",
             size="7.4 GB", names="its five files"),
    FileSpec("speech_encoder", "facebook/wav2vec2-base-960h", "Apache-2.0", "audio_encoders", size="378 MB"),
    FileSpec("vae", "stabilityai/sd-vae-ft-mse, or any SD1.5 checkpoint", "MIT (not verified)", "vae", size="335 MB"),
)  # fmt: skip

STRATEGIES = ("fix_face", "no_retarget", "offset_retarget", "naive_retarget")
AUTO = "auto"  # the sampler of the networks' own training
SPACING = "simple"  # the name here for timesteps that trail from the last, all noise, down


@dataclass(frozen=True)
class VExpressOptions:
    """Sampling options of V-Express, with the public code's defaults."""

    width: int = option(512, 64, 2048, "width of the frames in pixels, a multiple of 8")
    height: int = option(512, 64, 2048, "height of the frames in pixels, a multiple of 8")
    steps: int = option(25, 1, 1000, "denoising steps")
    sampler: str = option(
        AUTO,
        help="sampler, as ComfyUI names it; auto: ddim, or euler of networks that `train style` has made",
        metavar="NAME",
    )
    seed: int = option(0, 0, 2**64 - 1, "another seed begins with other noise")
    guidance: float = option(3.5, 1, 30, "how strictly speech, look and head are followed; 1 takes half the time")
    reference_weight: float = option(0.95, 0, 2, "how strongly the portrait's look acts")
    audio_weight: float = option(3.0, 0, 5, "how strongly the speech acts")
    length: int = option(24, 1, 256, "frames that it sees at once")
    overlap: int = option(4, 0, 255, "frames that windows share")
    strategy: str = option("fix_face", help="how the landmarks of another face move the head", choices=STRATEGIES)

    def __post_init__(self) -> None:
        from ...checks import check_choice
        from ...diffusion.samplers import samplers_with
        from ...diffusion.windowed import VideoOptions
        from ...face.fit import check_size

        weights = {"reference_weight": "the reference's weight", "audio_weight": "the audio's weight"}
        check_options(self, strategy="retarget strategy", **weights)
        check_size(self.width, self.height)
        check_choice(self.sampler, (AUTO, *samplers_with(SPACING)), "sampler")
        VideoOptions("sliding", self.length, self.overlap)


@dataclass(frozen=True)
class VExpressRendererOptions:
    """Files and sampling options of V-Express, with the public code's defaults."""

    vexpress_folder: Path | None = option(None, help=f"folder with its five files, {WEIGHTS}", metavar="FOLDER")
    speech_encoder: Path | None = option(None, help=ENCODER, metavar="FILE")
    reference_weight: float = same_option(VExpressOptions, "reference_weight")
    audio_weight: float = same_option(VExpressOptions, "audio_weight")
    vexpress_window: int = same_option(VExpressOptions, "length")
    checkpoint: Path | None = option(None, help="SD1.5 checkpoint, for its VAE", metavar="FILE")
    vae: Path | None = option(None, help="SD1.5 VAE, or taesd_decoder.safetensors", metavar="FILE")
    style_attention: Path | None = option(None, help="lets V-Express see --style too", metavar="FILE")
    steps: int = same_option(VExpressOptions, "steps")
    cfg: float = same_option(VExpressOptions, "guidance")
    sampler: str = same_option(VExpressOptions, "sampler")
    seed: int = same_option(VExpressOptions, "seed")
    width: int = same_option(VExpressOptions, "width")
    height: int = same_option(VExpressOptions, "height")
    overlap: int = same_option(VExpressOptions, "overlap")
    device: str | None = option(None, help="cpu, cuda, mps; if not given, the fastest there is", metavar="NAME")
    precision: str = option("auto", help="auto: fp16 on a GPU, else fp32", choices=PRECISIONS)

    def __post_init__(self) -> None:
        check_options(self)
        vae = "any full SD1.5 checkpoint, for its VAE, or `vae` with a VAE's file or taesd_decoder.safetensors"
        needed = (
            ("vexpress_folder", self.vexpress_folder, "FOLDER", f"V-Express's five files from {WEIGHTS}"),
            ("vae" if self.vae else "checkpoint", self.vae or self.checkpoint, "FILE", vae),
            ("speech_encoder", self.speech_encoder, "FILE", ENCODER),
        )
        for name, path, kind, what in needed:
            if path is None:
                raise InputError(f"`renderer` vexpress needs `{name}` {kind}: {what}.")
            if not Path(path).exists():
                raise MissingDependency(f"`{name}` {path} is not there; give {what}.")
        self.painting  # noqa: B018 - which checks how they go together

    @property
    def painting(self) -> VExpressOptions:
        """The sampling options alone."""
        return VExpressOptions(
            width=self.width,
            height=self.height,
            steps=self.steps,
            sampler=self.sampler,
            seed=self.seed,
            guidance=self.cfg,
            reference_weight=self.reference_weight,
            audio_weight=self.audio_weight,
            length=self.vexpress_window,
            overlap=self.overlap,
            strategy="no_retarget",  # the motion is the portrait's own
        )
