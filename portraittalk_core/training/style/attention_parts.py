"""What else speaks into the UNet while style attention is trained: AnimateNet, motion modules, a face; all frozen.

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
    """Trained networks beside the style attention; None are not there."""

    controlnet: ControlNetModel | None = None
    animate_net: AnimateNet | None = None
    motion: MotionModules | None = None
    identity: IdentityAdapter | None = None

    def networks(self) -> dict[str, nn.Module]:
        """Those that are there, by name."""
        return {name: net for name, net in vars(self).items() if net is not None}


class _FaceBranch:
    """A site's attention to the face of each frame."""

    def __init__(self, attention: DecoupledAttention, playing: BoundConditioners) -> None:
        self._attention, self._playing = attention, playing

    def __call__(self, queries: Tensor, call: AttentionCall) -> Tensor:
        """What to add to the text's attention."""
        return self._attention(queries, self._playing.faces, call.heads)


class BoundConditioners:
    """The company at work on the frames of a batch.

    Args:
        company: frozen here.
        num_frames: of each clip.

    Raises:
        InputError: a face adapter that needs more than an embedding.
    """

    def __init__(self, company: Conditioners, num_frames: int) -> None:
        if company.identity is not None and company.identity.layout not in FACE_LAYOUTS:
            raise InputError(
                f"the face adapter is {company.identity.layout}; style is trained beside {' or '.join(FACE_LAYOUTS)}."
            )
        self.company, self._num_frames = company, num_frames
        for net in company.networks().values():
            net.eval().requires_grad_(False)
        self.faces: Tensor | None = None  # (R, T, E) tokens
        self._hints = self._points = self._placements = None

    @contextmanager
    def bound(self, unet: UNet2DConditionModel) -> Iterator[None]:
        """Let the company act on a UNet for as long as the context lasts."""
        company = self.company
        with ExitStack() as stack:
            if company.motion is not None:
                stack.enter_context(bind_motion(unet, company.motion, self._num_frames))
            if company.controlnet is not None:
                cues = bind_animate(
                    company.controlnet,
                    company.animate_net,
                    lambda frames: (self._points[list(frames)], self._placements[list(frames)]),
                    lambda: range(len(self._hints)),
                )
                self._tokens = stack.enter_context(cues)
            if company.identity is not None:
                sites = {site.index: company.identity.sites[site.adapter_key] for site in SITES}
                stack.enter_context(bind(unet, {index: [_FaceBranch(site, self)] for index, site in sites.items()}))
                stack.enter_context(attached(unet, company.identity.lora))
            yield
        self.faces = self._hints = self._points = self._placements = None

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move the company to a device; what is as large as the UNet also to its type."""
        for name, net in self.company.networks().items():
            nn.Module.to(net, device, *([dtype] if name == "controlnet" else []))
        if self.company.identity is not None:
            self.company.identity.lora = {n: t.to(device).float() for n, t in self.company.identity.lora.items()}

    def look(self, clips: ClipBatch, faces: Tensor | None, side_px: int, drawing: str, device: torch.device) -> None:
        """Tell the company of a batch.

        Args:
            clips: the batch, of R frames in all.
            faces: (R, 512) embeddings, 0 for no face.
            side_px: S.
            drawing: how landmarks are drawn.
            device: of the frames.
        """
        if self.company.controlnet is not None:
            drawn = [draw_condition(t, i, side_px, side_px, drawing) for t in clips.tracks for i in range(len(t))]
            self._hints = (torch.stack(drawn).permute(0, 3, 1, 2).float() / 255).to(device)
            self._points = clips.points_px.flatten(0, 1).to(device)
            self._placements = clips.placements.flatten(0, 1).to(device)
            self._tokens.clear_cache()
        if self.company.identity is not None:
            self.faces = self.company.identity.projection(ProjectionInput(face_embeds=faces.to(device)))

    @torch.no_grad()
    def control(self, latents: Tensor, levels: Tensor, text: Tensor) -> dict[str, object]:
        """What AnimateNet adds to the UNet for latents (R, 4, h, h), as its arguments."""
        net = self.company.controlnet
        if net is None:
            return {}
        kind = next(net.parameters()).dtype
        down, middle = net(latents.to(kind), levels, text.to(kind), self._hints.to(kind), return_dict=False)
        own = [part.to(latents.dtype) for part in down]
        return {"down_block_additional_residuals": own, "mid_block_additional_residual": middle.to(latents.dtype)}


def load_company(unet: UNet2DConditionModel, config: StyleAttentionTraining) -> Conditioners:
    """The networks that a configuration names.

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
    """What looks at reference faces: pictures (3, S, S) in −1..1 to embeddings (512,).

    Raises:
        MissingDependency: onnxruntime, or the models, are absent.
    """
    from ...face.identity.encoder import FaceEncoder, find_face_models

    encoder = FaceEncoder(find_face_models(folder))

    def describe(picture: Tensor) -> Tensor:
        shown = ((picture + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0)
        return encoder.encode([shown]).embedding.averaged()

    return describe
