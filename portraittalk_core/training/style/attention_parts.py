"""Frozen conditioners during style attention's training: AnimateNet, motion modules, a face adapter.

Shapes: R frames of a batch, S side of the pictures in pixels, h = S / 8.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...diffusion.branches import bind
from ...diffusion.motion_modules import MotionModules, bind_motion, load_motion_modules
from ...diffusion.sites import SITES
from ...errors import InputError
from ...layers.attention import AttentionCall
from ...renderers.animatenet.animate_net import AnimateNet, bind_animate, load_animate_net
from ...renderers.animatenet.control import load_controlnet
from ...renderers.animatenet.landmark_control import draw_condition
from ...renderers.identitynet.adapter import IdentityAdapter, load_adapter
from ...renderers.identitynet.decoupled_attention import DecoupledAttention
from ...renderers.identitynet.face_tokens import ProjectionInput
from ..data.video_clips import ClipBatch
from ..loop.low_rank import attached
from .config import StyleAttentionTraining

if TYPE_CHECKING:
    from diffusers import ControlNetModel, UNet2DConditionModel

FACE_LAYOUTS = ("faceid", "portrait")  # that need nothing but an embedding of the face


@dataclass(frozen=True)
class Conditioners:
    """Frozen conditioning networks beside the style attention; None where absent."""

    controlnet: ControlNetModel | None = None
    animate_net: AnimateNet | None = None
    motion: MotionModules | None = None
    identity: IdentityAdapter | None = None

    def networks(self) -> dict[str, nn.Module]:
        """The networks that are not None, by name."""
        return {name: net for name, net in vars(self).items() if net is not None}


class _FaceBranch:
    """A site's face attention, with one face per frame."""

    def __init__(self, attention: DecoupledAttention, bound: BoundConditioners) -> None:
        self._attention, self._bound = attention, bound

    def __call__(self, queries: Tensor, call: AttentionCall) -> Tensor:
        """Residual added to the text's attention."""
        return self._attention(queries, self._bound.faces, call.heads)


class BoundConditioners:
    """Conditioners bound to a UNet, with the inputs of the current batch.

    Args:
        conditioners: frozen here.
        num_frames: of each clip.

    Raises:
        InputError: a face adapter that needs more than an embedding.
    """

    def __init__(self, conditioners: Conditioners, num_frames: int) -> None:
        if conditioners.identity is not None and conditioners.identity.layout not in FACE_LAYOUTS:
            layouts = " or ".join(FACE_LAYOUTS)
            raise InputError(f"the face adapter is {conditioners.identity.layout}; style is trained beside {layouts}.")
        self.conditioners, self._num_frames = conditioners, num_frames
        for net in conditioners.networks().values():
            net.eval().requires_grad_(False)
        self.faces: Tensor | None = None  # (R, T, E) tokens
        self._hints = self._points = self._placements = None

    @contextmanager
    def bound(self, unet: UNet2DConditionModel) -> Iterator[None]:
        """Bind the conditioners to a UNet within the context."""
        conditioners = self.conditioners
        with ExitStack() as stack:
            if conditioners.motion is not None:
                stack.enter_context(bind_motion(unet, conditioners.motion, self._num_frames))
            if conditioners.controlnet is not None:
                cues = bind_animate(
                    conditioners.controlnet,
                    conditioners.animate_net,
                    lambda frames: (self._points[list(frames)], self._placements[list(frames)]),
                    lambda: range(len(self._hints)),
                )
                self._tokens = stack.enter_context(cues)
            if conditioners.identity is not None:
                sites = {site.index: conditioners.identity.sites[site.adapter_key] for site in SITES}
                stack.enter_context(bind(unet, {index: [_FaceBranch(site, self)] for index, site in sites.items()}))
                stack.enter_context(attached(unet, conditioners.identity.lora))
            yield
        self.faces = self._hints = self._points = self._placements = None

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the conditioners to a device; the ControlNet also to the UNet's type."""
        for name, net in self.conditioners.networks().items():
            nn.Module.to(net, device, *([dtype] if name == "controlnet" else []))
        if self.conditioners.identity is not None:
            self.conditioners.identity.lora = {
                n: t.to(device).float() for n, t in self.conditioners.identity.lora.items()
            }

    def set_batch(
        self, clips: ClipBatch, faces: Tensor | None, side_px: int, drawing: str, device: torch.device
    ) -> None:
        """Set the conditioners' inputs to a batch.

        Args:
            clips: the batch, of R frames in all.
            faces: (R, 512) embeddings, 0 for no face.
            side_px: S.
            drawing: how landmarks are drawn.
            device: of the frames.
        """
        if self.conditioners.controlnet is not None:
            hints = [draw_condition(t, i, side_px, side_px, drawing) for t in clips.tracks for i in range(len(t))]
            self._hints = (torch.stack(hints).permute(0, 3, 1, 2).float() / 255).to(device)
            self._points = clips.points_px.flatten(0, 1).to(device)
            self._placements = clips.placements.flatten(0, 1).to(device)
            self._tokens.clear_cache()
        if self.conditioners.identity is not None:
            self.faces = self.conditioners.identity.projection(ProjectionInput(face_embeds=faces.to(device)))

    @torch.no_grad()
    def control(self, latents: Tensor, levels: Tensor, text: Tensor) -> dict[str, object]:
        """AnimateNet's residuals for latents (R, 4, h, h), as arguments of the UNet."""
        net = self.conditioners.controlnet
        if net is None:
            return {}
        kind = next(net.parameters()).dtype
        down, middle = net(latents.to(kind), levels, text.to(kind), self._hints.to(kind), return_dict=False)
        residuals = [part.to(latents.dtype) for part in down]
        return {"down_block_additional_residuals": residuals, "mid_block_additional_residual": middle.to(latents.dtype)}


def load_conditioners(unet: UNet2DConditionModel, config: StyleAttentionTraining) -> Conditioners:
    """Load the conditioners of a configuration.

    Raises:
        MissingDependency: a file is absent.
        InputError: a file is something else, or does not fit.
    """
    widths: Sequence[int] = tuple(unet.config.block_out_channels)
    return Conditioners(
        None if config.controlnet is None else load_controlnet(config.controlnet),
        None if config.animate_net is None else load_animate_net(config.animate_net),
        None if config.motion is None else load_motion_modules(config.motion, widths=widths),
        None if config.identity is None else load_adapter(config.identity),
    )


def face_describer(folder: Path) -> object:
    """Face encoder of reference pictures: (3, S, S) in −1..1 to embeddings (512,).

    Raises:
        MissingDependency: onnxruntime, or the models, are absent.
    """
    from ...face.identity.encoder import FaceEncoder, find_face_models

    encoder = FaceEncoder(find_face_models(folder))

    def describe(picture: Tensor) -> Tensor:
        pixels = ((picture + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0)
        return encoder.encode([pixels]).embedding.averaged()

    return describe
