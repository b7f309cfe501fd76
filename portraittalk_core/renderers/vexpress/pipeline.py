"""The V-Express pipeline: frames from a portrait, speech and key points, denoised in overlapping windows.

Shapes: F frames, h = H/8 and w = W/8 latent pixels.
Source: V-Express (Wang et al. 2024), sections 3 and 4; SVP, section 3.3 (the style);
`docs/design/vexpress.md` 1, 2, 3, 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor, nn

from ...diffusion.branches import Batch
from ...diffusion.denoiser import Condition
from ...diffusion.motion_modules import bind_motion
from ...diffusion.samplers import SamplerOptions, sample
from ...diffusion.vae import load_vae
from ...diffusion.windowed import VideoOptions, WindowedDenoiser
from ...diffusion.windows import static_windows
from ...errors import InputError
from ...face.fit import Fit, fit_to, fitted
from ...layers.temporal import check_frames
from ...progress import Progress
from ...speech.encoders import GivenFeatures, SpeechEncoder, counted, load_speech_encoder, require_width
from ...style.attention import StyleConditioning, StyleRun, bind_style
from ...types import LandmarkTrack, Portrait, Speech
from .audio_projection import audio_tokens
from .denoiser import HeadControl, denoiser_of, schedule_of_prediction
from .head_keypoints import draw_heads, key_points
from .latent_codec import DiffusersLatentCodec, LatentCodec, decoded
from .load import load_vexpress
from .options import AUTO, SPACING, VExpressOptions
from .reference import read_bank, write_bank
from .retarget import retarget
from .unet import NOISE, VExpress

FPS = Fraction(25)  # without a driving track
OTHER_FAMILY = "whisper"  # its features are others, though some are as wide


@dataclass(frozen=True)
class VExpressFiles:
    """Weight files of V-Express."""

    networks: Sequence[Path]  # its own five, or folders of them
    vae: Path  # of SD1.5, or TAESD, or any full SD1.5 checkpoint
    encoder: Path  # wav2vec 2.0 base (facebook/wav2vec2-base-960h)


@dataclass(frozen=True)
class VExpressModels:
    """Loaded networks of V-Express, and SVP's style conditioning."""

    networks: VExpress
    coder: LatentCodec
    encoder: SpeechEncoder | GivenFeatures
    style: StyleConditioning | None = None  # how the person speaks, in every frame or all
    load_to_device: Callable[[], None] | None = (
        None  # puts the networks where they compute; after the picture is encoded
    )


def load_models(
    files: VExpressFiles, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> VExpressModels:
    """Load V-Express's networks, VAE and speech encoder.

    Raises:
        MissingDependency: a file is not there, or a package is not installed.
        InputError: a file is damaged or of another model.
    """
    encoder = load_speech_encoder(files.encoder, device)
    networks = load_vexpress(files.networks, device, dtype)
    return VExpressModels(networks, DiffusersLatentCodec(load_vae(files.vae, device, dtype)), encoder)


def paint_vexpress(
    portrait: Portrait,
    track: LandmarkTrack | None,
    speech: Speech,
    files: VExpressFiles | VExpressModels,
    options: VExpressOptions | None = None,
    on_progress: Progress | None = None,
) -> Iterator[Tensor]:
    """Render a speaking portrait.

    All frames are denoised together, window by window, before the first one is given.

    Args:
        portrait: cropped around its face to the output's aspect ratio.
        track: whose head is followed, and at which rate; it is held or cut to the speech's length. None keeps the
            portrait's head still, at 25 frames a second.
        speech: what is said.
        files: V-Express's, or what `load_models` made of them.
        options: how to paint.
        on_progress: called with layers and frames done and in all; may raise to stop.

    Returns:
        An iterator of (H, W, 3) uint8 frames, as many as cover the speech.

    Raises:
        InputError: something given does not fit the rest.
    """
    options = options or VExpressOptions()
    models = load_models(files) if isinstance(files, VExpressFiles) else files
    networks = models.networks
    check_frames(options.length, networks.motion.length)
    num_frames = speech.num_frames(FPS if track is None else track.fps)
    fit = fit_to(portrait, options.width, options.height)
    points = head_points(portrait, track, fit, options.strategy, num_frames, networks.guider_points)
    painting = Painting(models, options, num_frames, on_progress)
    features = audio_features(models, speech, painting)
    return painting.frames(fitted(portrait, fit).picture, points, features)


def audio_features(models: VExpressModels, speech: Speech, painting: Painting) -> Tensor:
    """(N, D) audio features of the speech; the progress callback is called so that the job can be cancelled."""
    on_progress = None if painting.on_progress is None else lambda *_: painting.on_progress(0, painting.total)
    check_family(models.encoder.name)
    features = models.encoder.encode(speech, on_progress)
    return require_width(features, models.networks.projection.sizes.features, "V-Express")


def check_family(encoder: str) -> None:
    """Check that a speech encoder is of the family that V-Express was trained with.

    Raises:
        InputError: it is another; `encoder` is its name.
    """
    if encoder.startswith(OTHER_FAMILY):
        raise InputError(f"V-Express hears by wav2vec 2.0 base, not by {encoder}; choose facebook/wav2vec2-base-960h.")


def head_points(  # noqa: PLR0913 - what the head's place depends on
    portrait: Portrait, track: LandmarkTrack | None, fit: Fit, strategy: str, num_frames: int, count: int = 3
) -> Tensor:
    """(F, P, 2) px key points of the head in every frame; P is `count`, 3 or 8.

    A track on a picture of the portrait's size is taken to be the portrait's own; another one's picture is stretched
    over the frame.
    """
    reference = key_points(fit.track(portrait.landmarks), count)[0]
    if track is None:
        return retarget(reference, reference[None].expand(num_frames, -1, -1), "fix_face")
    if (track.width, track.height) == (portrait.landmarks.width, portrait.landmarks.height):
        driving = key_points(fit.track(track), count)
    else:
        driving = key_points(track, count) * torch.tensor([fit.width / track.width, fit.height / track.height])
    padded = torch.cat([driving[:num_frames], driving[-1:].expand(num_frames - len(driving[:num_frames]), -1, -1)])
    return retarget(reference, padded, strategy)


def sampling_of(networks: VExpress, options: VExpressOptions) -> SamplerOptions:
    """Sampler and noise levels of networks: V-Express's DDIM on trailing timesteps, or SVP's Euler."""
    of_noise = networks.prediction == NOISE
    sampler = options.sampler if options.sampler != AUTO else "euler" if of_noise else "ddim"
    spacing = "normal" if of_noise else SPACING
    return SamplerOptions(
        sampler, spacing, options.steps, 1.0, options.seed, schedule_of_prediction(networks.prediction)
    )


@dataclass(frozen=True)
class Painting:
    """State of one rendering."""

    models: VExpressModels
    options: VExpressOptions
    num_frames: int
    on_progress: Progress | None

    @torch.no_grad()
    def frames(self, picture: Tensor, points: Tensor, features: Tensor) -> Iterator[Tensor]:
        """Render frames from the portrait's picture, key points (F, P, 2) and audio features (N, D)."""
        encoded = self.models.coder.encode(picture)
        if self.models.load_to_device is not None:
            self.models.load_to_device()
        audio = audio_tokens(self.models.networks.projection, features, self.num_frames)
        yield from self.decoded(encoded, points, audio)

    @torch.no_grad()
    def decoded(self, encoded: Tensor, points: Tensor, audio: Tensor) -> Iterator[Tensor]:
        """Render frames from a reference's latents (1, 4, h, w), key points (F, P, 2) and audio tokens (F, 5, C)."""
        latents = self._latents(encoded, points, audio)
        if not torch.isfinite(latents).all():
            raise InputError("V-Express gives values that are not numbers; load its networks as float32 or bfloat16.")
        for done, latent in enumerate(latents, 1):
            yield decoded(self.models.coder, latent[None])
            if self.on_progress is not None:
                self.on_progress(self.num_layers + done, self.total)

    @property
    def total(self) -> int:
        """Units of progress, layers plus frames: decoding a frame takes about as long as one layer of a window."""
        return self.num_layers + self.num_frames

    @property
    def num_layers(self) -> int:
        options = self.options
        windows = len(static_windows(self.num_frames, options.length, options.overlap))
        return len(self._layers) * windows * options.steps

    @property
    def _layers(self) -> list[nn.Module]:
        """The layers by whose calls progress is counted."""
        from diffusers.models.resnet import ResnetBlock2D

        return [module for module in self.models.networks.unet.modules() if isinstance(module, ResnetBlock2D)]

    def _latents(self, encoded: Tensor, points: Tensor, audio: Tensor) -> Tensor:
        """(F, 4, h, w) latents of all frames."""
        networks, options = self.models.networks, self.options
        video = VideoOptions("sliding", options.length, options.overlap, "flat")
        control = HeadControl(networks, _drawings(points, options.width, options.height))
        networks.reading.reference_weight = options.reference_weight
        networks.reading.audio_weight = options.audio_weight
        count = len(points)
        device = next(networks.unet.parameters()).device
        noise = torch.randn(
            count, 4, options.height // 8, options.width // 8, generator=torch.Generator().manual_seed(options.seed)
        ).to(device)
        cond = Condition(audio.to(device), None, options.guidance)
        sampling = sampling_of(networks, options)
        read_bank(networks.unet, write_bank(networks.reference, encoded))
        try:
            with ExitStack() as bound:
                batch = Batch()
                if self.models.style is not None:
                    run = StyleRun(self.models.style.net, self.models.style.styles, batch)
                    bound.enter_context(bind_style(networks.unet, run))
                bound.enter_context(bind_motion(networks.unet, networks.motion, min(options.length, count)))
                bound.enter_context(self._counted())
                denoiser = WindowedDenoiser(denoiser_of(networks, control, batch), 0, video)
                return sample(denoiser, torch.zeros_like(noise), noise, cond, sampling)
        finally:
            read_bank(networks.unet, None)

    def _counted(self):  # noqa: ANN202 - a context manager
        total, on_progress = self.total, self.on_progress
        report = None if on_progress is None else lambda done, _: on_progress(done, total)
        return counted(self._layers, self.num_layers, report)


def _drawings(points: Tensor, width: int, height: int) -> Callable[[Sequence[int]], Tensor]:
    def drawings(frames: Sequence[int]) -> Tensor:
        pictures = draw_heads(points[frames[0] : frames[-1] + 1], width, height)
        return torch.stack(list(pictures)).permute(0, 3, 1, 2).float() / 255

    return drawings
