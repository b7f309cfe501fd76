"""Networks of SVP's first two fine-tuning stages: begun from SD1.5, gone on from files, and written as V-Express's.

Source: SVP, section 3.4; V-Express (Wang et al. 2024); `docs/design/styles.md` 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from ...diffusion.motion_modules import MotionModules, load_motion_modules, new_motion_modules
from ...errors import InputError
from ...layers.perceiver import HEAD_WIDTH
from ...layers.temporal import check_frames
from ...media.files import make_folder
from ...media.tensor_file import save_tensors
from ...renderers.vexpress.audio_projection import AudioProjection, AudioSizes
from ...renderers.vexpress.kps_guider import KpsGuider
from ...renderers.vexpress.load import (
    AUDIO,
    GUIDER,
    GUIDER_POINTS,
    MOTION,
    PARTS,
    PREDICTION,
    REFERENCE,
    UNET,
    load_vexpress,
)
from ...renderers.vexpress.reference import blocks_of
from ...renderers.vexpress.unet import NOISE, UNetSizes, VExpress, build_reading_unet, build_reference_net
from .diffusion_config import MULTI, DiffusionTraining

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

NETWORKS = {UNET: "unet", REFERENCE: "reference", MOTION: "motion", GUIDER: "guider", AUDIO: "projection"}
OF_SOUND = (".attn2.", ".norm2.")  # the UNet's layers that hear; norm2 stands before the attention to the sound


def starting_networks(
    config: DiffusionTraining, unet: UNet2DConditionModel | None, audio_width: int | None = None
) -> VExpress:
    """The networks that a stage begins with.

    Args:
        config: of the stage.
        unet: SD1.5's; None goes on from files.
        audio_width: numbers of a speech feature, for a new audio projection.

    Raises:
        MissingDependency: a file is absent.
        InputError: a file is something else, or does not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.trainer.seed)
        if config.start is None:
            return networks_of_sd15(unet, config.guider_points)
        networks = load_vexpress(config.start, optional=(MOTION, AUDIO))
        return networks if config.stage != MULTI else _with_motion_and_sound(networks, config, audio_width)


def networks_of_sd15(base: UNet2DConditionModel, guider_points: int) -> VExpress:
    """UNet and ReferenceNet with SD1.5's weights, and a new guider; motion modules and audio projection are None.

    The UNet begins as SD1.5's: the attention to the reference is a copy of the self-attention, the output layers of
    both new attentions are zero.

    Args:
        base: SD1.5's UNet.
        guider_points: that the guider sees.
    """
    config = base.config
    sizes = UNetSizes(tuple(config.block_out_channels), config.cross_attention_dim, config.norm_num_groups)
    unet, reading = build_reading_unet(sizes)
    tensors = base.float().state_dict()
    state = {name: tensors[_source(name)] for name in unet.state_dict()}
    unet.load_state_dict(state)
    for block in blocks_of(unet):
        for layer in (block.attn1_5.to_out[0], block.attn2.to_out[0]):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    reference = build_reference_net(sizes)
    reference.load_state_dict({name: tensors[name] for name in reference.state_dict()})
    guider = KpsGuider(sizes.widths[0])
    return VExpress(unet, reading, None, reference, guider, None, guider_points, NOISE)


def _source(name: str) -> str:
    """The tensor of SD1.5's UNet that a reading UNet's begins as."""
    return name.replace(".attn1_5.", ".attn1.").replace(".norm1_5.", ".norm1.")


def _with_motion_and_sound(networks: VExpress, config: DiffusionTraining, audio_width: int | None) -> VExpress:
    """The networks with motion modules and an audio projection; what the files lack, and a given `motion`, is new."""
    widths, context = tuple(networks.unet.config.block_out_channels), networks.unet.config.cross_attention_dim
    motion, projection = networks.motion, networks.projection
    if config.motion is not None:
        motion = load_motion_modules(config.motion, widths=widths)
        if motion.version != "v2":
            raise InputError(
                f"{config.motion.name} is of version {motion.version}, without a module in the middle; give "
                "AnimateDiff's mm_sd_v15_v2.ckpt."
            )
    elif motion is None:
        motion = new_motion_modules(widths, "v2")
    check_frames(config.frames, motion.length)
    if projection is None:
        projection = AudioProjection(AudioSizes(features=audio_width or 768, out=context, **_inner(context)))
    return replace(networks, motion=motion.float(), projection=projection.float())


def _inner(context: int) -> dict[str, int]:
    """Inner sizes of a new audio projection: the public file's, or a toy's."""
    if context == AudioSizes.out:
        return {}
    return {"width": context, "inner": HEAD_WIDTH * max(context // HEAD_WIDTH, 1), "depth": 1}


def trained_parts(networks: VExpress, stage: str) -> dict[str, nn.Parameter]:
    """The weights that a stage trains, by name.

    Single frames: the UNet without its attention to the sound, the ReferenceNet up to where its last tokens are
    taken, and the guider. Consecutive frames: motion modules, audio projection and the UNet's attention to the sound.
    """
    if stage == MULTI:
        selection = {"motion": lambda _: True, "projection": lambda _: True, "unet": _hears}
    else:
        # nothing behind up_blocks.2 has a say in what V-Express trains; its own code freezes the same
        selection = {"unet": lambda name: not _hears(name), "reference": _is_read, "guider": lambda _: True}
    return {
        f"{network}.{name}": weight
        for network, is_selected in selection.items()
        for name, weight in getattr(networks, network).named_parameters()
        if is_selected(name)
    }


def _hears(name: str) -> bool:
    return any(part in name for part in OF_SOUND)


def _is_read(name: str) -> bool:
    return not name.startswith("up_blocks.3.")


def save_networks(networks: VExpress, folder: Path, metadata: Mapping[str, str]) -> dict[str, Path]:
    """Write the networks as V-Express's files, and return them by part.

    Args:
        networks: those that are None are left out.
        folder: for them, made if absent.
        metadata: of each file; the guider's says how many points it sees, the UNet's what it predicts.

    Raises:
        OutputError: a file cannot be written.
    """
    cards = {GUIDER: {GUIDER_POINTS: str(networks.guider_points)}, UNET: {PREDICTION: networks.prediction}}
    files = {}
    make_folder(Path(folder))
    for part, name in NETWORKS.items():
        network: nn.Module | MotionModules | None = getattr(networks, name)
        if network is not None:
            path = Path(folder) / f"{Path(PARTS[part]).stem}.safetensors"
            tensors = {key: tensor.float() for key, tensor in network.state_dict().items()}
            files[part] = save_tensors(tensors, path, {**metadata, **cards.get(part, {})})
    return files
