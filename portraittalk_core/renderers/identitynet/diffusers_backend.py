"""The diffusers back end: SD1.5 with face adapter, LoRA, ControlNet, motion module and style attention from files."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ...checks import check_range
from ...diffusion.checkpoint import load_sd15
from ...diffusion.denoiser import Condition
from ...diffusion.lora import merge_lora
from ...diffusion.lora_file import read_lora
from ...diffusion.motion_modules import MotionModules, load_motion_modules
from ...diffusion.samplers import SamplerOptions, sigma_at_part
from ...diffusion.schedule import schedule_of
from ...diffusion.sites import SITES
from ...diffusion.text import encode_text, find_tokenizer
from ...diffusion.vae import load_vae
from ...diffusion.windowed import VideoOptions
from ...errors import InputError
from ...face.fit import face_surroundings
from ...face.identity.background import person_masks
from ...face.identity.clip_crop import load_clip_vision, with_clip_view
from ...face.identity.embedding import FaceEmbedding, blend_faces
from ...face.identity.encoder import CROP_PX, FaceEncoder, find_face_models
from ...media.image import load_picture
from ...style.attention import style_conditioning
from ..animatenet.animate_net import AnimateOptions, load_animate_net, track_conditions
from ..animatenet.control import ControlOptions, FrameControl, load_controlnet
from ..animatenet.feature_attention import FeatureControl
from ..animatenet.head_placement import placements
from ..animatenet.hints import track_hints
from ..animatenet.mouth_weight import mouth_maps
from ..animatenet.previous_frame import previous_placements
from ..devices import select_device
from .adapter import IdentityAdapter, IdentityOptions, identity_branches, load_adapter
from .adapter_lora import kohya_lora
from .painter import AnimateConditioning, Animation, DiffusersPainter, PaintOptions

if TYPE_CHECKING:
    from ...diffusion.checkpoint import SD15
    from ...types import LandmarkTrack, Portrait
    from .backend import Canvas
    from .options import IdentityNetOptions

DeviceDtype = tuple[str, torch.dtype]  # device and dtype


class DiffusersBackend:
    """Back end whose painters run on diffusers.

    Args:
        options: files and numbers, checked.
    """

    def __init__(self, options: IdentityNetOptions) -> None:
        self.options = options
        self.device_dtype: DeviceDtype = select_device(options.device, options.precision)

    @property
    def needs_motion(self) -> bool:
        """Whether a ControlNet needs the complete track."""
        return self.options.controlnet is not None

    def open(self, canvas: Canvas) -> DiffusersPainter:
        """A painter for one job.

        Raises:
            InputError: a file is damaged or of another model.
            MissingDependency: a file or a package is missing.
        """
        options, (device, dtype) = self.options, self.device_dtype
        adapter = None if options.identity_adapter is None else load_adapter(options.identity_adapter)
        tokens = None if adapter is None else self._face_tokens(canvas.portrait, adapter)
        sd15, condition = self._sd15, self._condition
        branches = {} if adapter is None else self._branches(adapter.to(device, dtype), tokens.to(device))
        sampling = SamplerOptions(options.sampler, options.schedule, options.steps, options.denoise, options.seed)
        video = VideoOptions(options.long_video, options.window, options.overlap)
        painting = PaintOptions(sampling, options.batch_size, video, options.per_frame, options.edit)
        return DiffusersPainter(sd15, condition, branches, painting, self._animation(canvas))

    @functools.cached_property
    def _sd15(self) -> SD15:
        """The checkpoint with its VAE and LoRAs, read once for all jobs."""
        options, (device, dtype) = self.options, self.device_dtype
        sd15 = load_sd15(options.checkpoint, device, dtype)
        if sd15.text_encoder is None:
            raise InputError(f"{options.checkpoint.name} holds no text encoder; use a full SD1.5 checkpoint.")
        if options.vae is not None:
            sd15 = replace(sd15, vae=load_vae(options.vae, device, dtype, sd15.vae))
        for value in options.lora:
            path, strength = lora_and_strength(value)
            merge_lora(sd15, read_lora(path), check_range(strength, -10, 10, "a LoRA's strength"), str(path))
        if options.identity_adapter is not None and options.adapter_lora and options.identity_strength:
            lora = load_adapter(options.identity_adapter).lora
            if lora:
                merge_lora(sd15, kohya_lora(lora), options.adapter_lora, options.identity_adapter.name)
        return sd15

    @functools.cached_property
    def _condition(self) -> Condition:
        """Embeddings of the prompts."""
        options, tokenizer = self.options, find_tokenizer(self.options.tokenizer)
        prompts = (options.prompt, options.negative_prompt)
        return Condition(*(encode_text(self._sd15.text_encoder, tokenizer, text) for text in prompts), options.cfg)

    def _face_tokens(self, portrait: Portrait, adapter: IdentityAdapter) -> torch.Tensor:
        """(2, T, 768) face tokens of the person, or of somebody between two."""
        options = self.options
        pictures = [load_picture(path) for path in options.faces] or [face_surroundings(portrait)]
        names = [path.name for path in options.faces] or [portrait.source]
        with FaceEncoder(find_face_models([options.face_models])) as encoder:
            embedding = self._described(encoder, pictures, names, options.face_weights or None)
            if options.blend_with:
                blended = [load_picture(path) for path in options.blend_with]
                other = self._described(encoder, blended, [path.name for path in options.blend_with])
                embedding = blend_faces(embedding, other, options.blend_amount)
        return adapter.tokens(embedding, options.combine)

    def _described(
        self, encoder: FaceEncoder, pictures: list[torch.Tensor], names: list[str], weights: tuple | None = None
    ) -> FaceEmbedding:
        """The face of one person's pictures."""
        masks = person_masks(pictures) if self.options.remove_background else None
        encoded = encoder.encode(pictures, names, weights, masks, crop_px=CROP_PX)
        if self.options.clip_vision is None:
            return encoded.embedding
        return with_clip_view(encoded.embedding, encoded.crops, load_clip_vision(self.options.clip_vision))

    def _branches(self, adapter: IdentityAdapter, tokens: torch.Tensor) -> dict:
        keys = [site.adapter_key for site in SITES]
        branches = identity_branches(adapter, tokens, keys, IdentityOptions(self.options.identity_strength))
        return {index: [branch] for index, branch in branches.items()}

    def _animation(self, canvas: Canvas) -> Animation:
        options, track = self.options, canvas.motion
        control = motion = face = None
        if options.motion_module is not None and options.motion_strength:
            motion = load_motion_modules(options.motion_module).to(*self.device_dtype)
        if track is not None and options.controls:
            control = self._control(track, motion)
            face = None if options.animatenet is None else self._animate_conditioning(track, canvas)
        length = (canvas.job.num_frames, canvas.job.fps)
        style = style_conditioning(canvas.job.style, options.style_attention, self.device_dtype, length=length)
        return Animation(control, motion, options.motion_strength, face, style)

    def _control(self, track: LandmarkTrack, motion: MotionModules | None) -> FrameControl:
        options, betas = self.options, schedule_of(motion)
        network = load_controlnet(options.controlnet, *self.device_dtype)
        window = (sigma_at_part(options.control_start, betas), sigma_at_part(options.control_end, betas))
        control = ControlOptions(options.control_strength, window, options.control_every)
        kind = FeatureControl if options.features else FrameControl
        return kind(
            network, track_hints(track, options.control_style), control, mouth_maps(track, options.mouth_weight)
        )

    def _animate_conditioning(self, track: LandmarkTrack, canvas: Canvas) -> AnimateConditioning:
        options = self.options
        net = load_animate_net(options.animatenet).to(*self.device_dtype)
        if options.features and not net.features:
            raise InputError(
                f"{options.animatenet.name} has no attention to features; train one with it, or leave `features` at 0."
            )
        strengths, placed = AnimateOptions(options.landmark_tokens, options.placement_tokens), None
        if net.previous_proj is not None:  # trained on the placement of the frame before; first of all the portrait's
            placement = placements(track)
            start = placement if canvas.fit is None else placements(canvas.place(canvas.portrait.landmarks))
            placed = previous_placements(start[0], placement)
        return AnimateConditioning(net, track_conditions(track, placed), strengths, options.features)


def lora_and_strength(value: str) -> tuple[Path, float]:
    """Parse FILE or FILE:STRENGTH of a LoRA."""
    name, _, number = value.rpartition(":")
    try:
        return (Path(name), float(number)) if name else (Path(value), 1.0)
    except ValueError:
        return Path(value), 1.0
