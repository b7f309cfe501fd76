"""V-Express's networks: the denoising UNet with reference attention, its motion modules, and the reference UNet.

Source: V-Express (Wang et al. 2024), section 3; `docs/design/vexpress.md` 1, 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from ...diffusion.motion_module_files import SD15_WIDTHS
from ...diffusion.motion_modules import MotionModules
from ...diffusion.sites import CONTEXT_WIDTH, HEADS, SITES
from ...errors import MissingDependency
from .audio_projection import AudioProjection
from .kps_guider import KpsGuider
from .reference import ReaderBlock, Reading

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

NOISE, VELOCITY = "noise", "velocity"


@dataclass(frozen=True)
class UNetSizes:
    """Sizes of SD1.5's UNet, or of a toy's."""

    widths: tuple[int, ...] = SD15_WIDTHS
    context: int = CONTEXT_WIDTH
    groups: int = 32  # of its norms; the motion modules' are 32 always


@dataclass(frozen=True)
class VExpress:
    """V-Express's networks, or those that were trained here on SVP's plan."""

    unet: UNet2DConditionModel  # with ReaderBlocks
    reading: Reading  # what the UNet's blocks read
    motion: MotionModules  # in the middle too
    reference: UNet2DConditionModel  # writes the bank
    guider: KpsGuider
    projection: AudioProjection
    guider_points: int = 3  # that the guider sees: V-Express's 3, or SVP's 8
    prediction: str = VELOCITY  # what the UNet predicts: V-Express's velocity, or SVP's noise


def build_reference_net(sizes: UNetSizes | None = None) -> UNet2DConditionModel:
    """The reference UNet: SD1.5's without the output layers, which the bank does not need.

    Raises:
        MissingDependency: diffusers is not installed.
    """
    network = _unet(sizes or UNetSizes())
    network.conv_norm_out, network.conv_out = None, nn.Identity()
    return network


def build_reading_unet(sizes: UNetSizes | None = None) -> tuple[UNet2DConditionModel, Reading]:
    """The denoising UNet: SD1.5's with reader blocks, and their conditioning.

    Raises:
        MissingDependency: diffusers is not installed.
    """
    unet, reading = _unet(sizes or UNetSizes()), Reading()
    for site in SITES:
        blocks = unet.get_submodule(f"{site.diffusers}.transformer_blocks")
        blocks[0] = ReaderBlock(blocks[0], reading)

    def add_kps(_module: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
        return output if reading.kps is None else output + reading.kps.to(output)

    unet.conv_in.register_forward_hook(add_kps)
    return unet, reading


def _unet(sizes: UNetSizes) -> UNet2DConditionModel:
    try:
        from diffusers import UNet2DConditionModel
    except ImportError as error:
        raise MissingDependency("diffusers is not installed; run: pip install diffusers") from error
    network = UNet2DConditionModel(
        sample_size=64,
        block_out_channels=sizes.widths,
        cross_attention_dim=sizes.context,
        attention_head_dim=HEADS,  # diffusers means their number
        norm_num_groups=sizes.groups,
    )
    return network.eval().requires_grad_(False)
