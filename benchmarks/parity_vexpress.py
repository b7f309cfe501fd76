"""Parity of V-Express's networks and features with Tencent's public code, on random weights."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import patch

import torch
from torch import Tensor, nn

from portraittalk_core.diffusion.motion_modules import MotionModules, bind_motion
from portraittalk_core.renderers.vexpress.audio_projection import AudioProjection, features_around
from portraittalk_core.renderers.vexpress.kps_guider import KpsGuider
from portraittalk_core.renderers.vexpress.reference import read_bank, write_bank
from portraittalk_core.renderers.vexpress.unet import UNetSizes, build_reading_unet, build_reference_net
from portraittalk_core.weights.load import load_strict

from .parity import PublicCode, compared, run

PUBLIC = PublicCode("https://github.com/tencent-ailab/V-Express", "modules/unet_3d.py", {"diffusers": "diffusers"})

WIDTHS, CONTEXT, GROUPS = (32, 64, 64, 64), 64, 16
FRAMES, SIDE = 4, 16
TEMPORAL = {
    "num_attention_heads": 8,
    "num_transformer_block": 1,
    "attention_block_types": ("Temporal_Self", "Temporal_Self"),
    "temporal_position_encoding": True,
    "temporal_position_encoding_max_len": 32,
    "temporal_attention_dim_div": 1,
}
MOTION = {
    "use_inflated_groupnorm": True,
    "unet_use_cross_frame_attention": False,
    "unet_use_temporal_attention": False,
    "use_motion_module": True,
    "motion_module_resolutions": (1, 2, 4, 8),
    "motion_module_mid_block": True,
    "motion_module_decoder_only": False,
    "motion_module_type": "Vanilla",
    "motion_module_kwargs": TEMPORAL,
}


@torch.no_grad()
def measure(repo: Path) -> dict[str, float]:
    """Largest differences between the public code in `repo` and ours, and the size of what is compared.

    Args:
        repo: a copy of github.com/tencent-ailab/V-Express.
    """
    with patch.object(sys, "path", [str(repo), *sys.path]):
        _stand_in()
        modules = importlib.import_module("modules")
        results = _audio(modules) | _guider(modules)
        for guided in (False, True):
            results |= _unet(modules, guided)
        return results


def _stand_in() -> None:
    """Add names of an older diffusers that the public code imports and does not use in V-Express."""
    import diffusers.models.attention_processor as processors

    for name in ("AttnAddedKVProcessor", "AttnAddedKVProcessor2_0", "ADDED_KV_ATTENTION_PROCESSORS"):
        if not hasattr(processors, name):
            setattr(processors, name, SimpleNamespace)


def _random(network: nn.Module, seed: int) -> nn.Module:
    """A network with random weights, also in layers that start at zero."""
    draw = torch.Generator().manual_seed(seed)
    for weight in network.parameters():
        fan_in = weight[0].numel() if weight.ndim > 1 else 25
        weight.copy_(torch.randn(weight.shape, generator=draw) / fan_in**0.5)
    for module in network.modules():
        if isinstance(module, nn.LayerNorm | nn.GroupNorm):
            module.weight += 1
    return network.eval()


def _noise(*shape: int, seed: int = 5) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _audio(modules: ModuleType) -> dict[str, float]:
    sizes = {"dim": 768, "depth": 4, "dim_head": 64, "heads": 12, "num_queries": 5, "embedding_dim": 768}
    public_net = _random(modules.AudioProjection(**sizes, output_dim=768, ff_mult=4, max_seq_len=10), 1)
    our_net = load_strict(AudioProjection(), public_net.state_dict(), "V-Express")
    features = features_around(_noise(57, 768), 11)
    return compared("audio projection", our_net(features), public_net(features))


def _guider(modules: ModuleType) -> dict[str, float]:
    public_net = _random(modules.VKpsGuider(320, block_out_channels=(16, 32, 96, 256)), 2)
    our_net = load_strict(KpsGuider(), public_net.state_dict(), "V-Express")
    drawings = _noise(3, 3, 64, 64).abs()
    expected = public_net(drawings.transpose(0, 1)[None])[0].transpose(0, 1)
    return compared("guider", our_net(drawings), expected)


def _unet(modules: ModuleType, guided: bool) -> dict[str, float]:
    options = {"block_out_channels": WIDTHS, "cross_attention_dim": CONTEXT, "norm_num_groups": GROUPS}
    reference = _random(modules.UNet2DConditionModel(**options), 3)
    unet = _random(modules.UNet3DConditionModel(**options, **MOTION), 4)
    latents, reference_latents = _noise(1, 4, FRAMES, SIDE, SIDE), _noise(1, 4, SIDE, SIDE, seed=6)
    kps, audio = _noise(1, WIDTHS[0], FRAMES, SIDE, SIDE, seed=7), _noise(1, FRAMES, 5, CONTEXT, seed=8)
    if guided:
        latents, kps, audio = latents.repeat(2, 1, 1, 1, 1), _after_zeros(kps), _after_zeros(audio)
    settings = {"guided": guided, "weights": (0.95, 3.0)}
    expected = _public_pass(modules, (reference, unet), (latents, reference_latents, kps, audio), settings)
    actual = _our_pass((reference, unet), (latents, reference_latents, kps, audio), settings)
    name = "UNet, guided" if guided else "UNet"
    return compared(name, actual, expected.transpose(1, 2).flatten(0, 1))


def _public_pass(modules: ModuleType, networks: tuple, inputs: tuple, settings: dict) -> Tensor:
    reference, unet = networks
    latents, reference_latents, kps, audio = inputs
    control = modules.ReferenceAttentionControl
    common = {"do_classifier_free_guidance": settings["guided"], "batch_size": 1, "fusion_blocks": "full"}
    writer = control(reference, mode="write", **common)
    strong = {"reference_attention_weight": settings["weights"][0], "audio_attention_weight": settings["weights"][1]}
    reader = control(unet, mode="read", **common, **strong)
    reference(reference_latents, timestep=0, encoder_hidden_states=torch.zeros(1, 1, CONTEXT), return_dict=False)
    reader.update(writer, settings["guided"], dtype=torch.float32)
    audio_tokens = audio.flatten(0, 1)
    return unet(latents, torch.tensor(501), encoder_hidden_states=audio_tokens, kps_features=kps, return_dict=False)[0]


def _our_pass(networks: tuple, inputs: tuple, settings: dict) -> Tensor:
    latents, reference_latents, kps, audio = inputs
    sizes = UNetSizes(WIDTHS, CONTEXT, GROUPS)
    unused = (r"^conv_(norm_)?out\.",)
    reference = load_strict(build_reference_net(sizes), networks[0].state_dict(), "V-Express", ignore=unused)
    tensors = networks[1].state_dict()
    moving = {name: tensor for name, tensor in tensors.items() if ".motion_modules." in name}
    motion = load_strict(MotionModules(WIDTHS, "v2"), moving, "V-Express")
    unet, reading = build_reading_unet(sizes)
    load_strict(unet, {name: tensor for name, tensor in tensors.items() if name not in moving}, "V-Express")
    read_bank(unet, write_bank(reference, reference_latents))
    reading.labels = (1, 0) if settings["guided"] else (0,)
    reading.reference_weight, reading.audio_weight = settings["weights"]
    reading.kps = kps.transpose(1, 2).flatten(0, 1)
    with bind_motion(unet, motion, FRAMES):
        rows = latents.transpose(1, 2).flatten(0, 1)
        return unet(rows, torch.tensor(501), audio.flatten(0, 1), return_dict=False)[0]


def _after_zeros(x: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(x), x])


if __name__ == "__main__":
    raise SystemExit(run(PUBLIC, measure))
