"""Loading of SD1.5's UNet, VAE and text encoder from any single-file checkpoint, whose model family is checked first.

Family and sizes follow from the tensors' names and shapes alone; neither the file's name nor the hub is used.
Source: names in single files: CompVis/stable-diffusion (ldm); in networks: diffusers and transformers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..errors import InputError, MissingDependency
from ..weights.load import load_strict, read_tensors
from .latents import LATENT_SCALE, TinyVae
from .ldm_names import NUM_LEVELS, network_name
from .sites import HEADS

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

TEXT_HEADS = 12  # of CLIP ViT-L's text encoder, whatever its width

# where networks begin, read_tensors having dropped "model" from names; the last are diffusers' own files
UNET_PREFIXES = ("diffusion_model.", "unet.", "")
VAE_PREFIXES = ("first_stage_model.", "vae.")
TEXT_PREFIXES = ("cond_stage_model.", "text_encoder.")


_ADVICE = "Choose a plain SD1.5 checkpoint, for example v1-5-pruned-emaonly-fp16.safetensors."
CONTEXT_WIDTHS = {2048: "SDXL", 1024: "Stable Diffusion 2"}
SPECIAL_UNETS = {9: "an inpainting checkpoint", 8: "an instruct-pix2pix checkpoint", 5: "a depth checkpoint"}
_OTHER_FAMILIES = (  # regular expression of a name that only it has
    (r"^(image_proj|ip_adapter|adapter_modules)\.", "an identity adapter"),
    (r"^lora_(unet|te)|\.lora_(up|down|A|B)\.|\.(hada|lokr)_w1", "a LoRA"),
    (r"(^|\.)(input_hint_block|controlnet_cond_embedding|control_model)\.", "a ControlNet"),
    (r"(^|\.)motion_modules\.", "a motion module"),
    (r"(^|\.)(conditioner|label_emb|add_embedding)\.", "SDXL"),
    (r"(^|\.)(joint_blocks|double_blocks|transformer_blocks\.0\.attn\.add_k_proj)\.", "Stable Diffusion 3 or Flux"),
)


@dataclass(frozen=True)
class SD15:
    """Networks of Stable Diffusion 1.x; a part that the file lacks is None."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL | TinyVae | None
    text_encoder: CLIPTextModel | None


def load_sd15(path: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> SD15:
    """Load a single-file SD1.x checkpoint, or a UNet file of diffusers.

    Args:
        path: .safetensors or .ckpt; a pickle may hold tensors only.
        device: of the networks.
        dtype: of their weights; where the file has the same, they are memory-mapped rather than copied.

    Returns:
        Networks for inference, without gradients.

    Raises:
        MissingDependency: no such file, or diffusers is not installed.
        InputError: damaged, another kind of file, or another family of Stable Diffusion.
    """
    path = Path(path)
    tensors = read_tensors(path)
    _check_family(tensors, path.name)
    try:
        import diffusers  # noqa: F401 - before minutes of reading, not after
    except ImportError as error:
        raise MissingDependency("diffusers is not installed; run: pip install diffusers") from error
    unet, vae, text = [_part(tensors, prefixes, mark) for prefixes, mark in _PARTS]
    del tensors  # so that each can go as soon as it is cast

    def network(
        empty: Callable[[dict[str, Tensor], str], nn.Module], part: dict[str, Tensor], called: str
    ) -> nn.Module | None:
        if not part:
            return None
        return filled_network(empty(part, path.name), part, f"the {called} in {path.name}", device, dtype)

    return SD15(
        network(_empty_unet, unet, "UNet"),
        network(empty_vae, vae, "VAE"),
        network(_empty_text, text, "text encoder"),
    )


def vae_part(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """VAE tensors of a VAE file or a full checkpoint, under diffusers' names; empty if there is no VAE."""
    part = _part(tensors, (*VAE_PREFIXES, ""), _VAE_MARK)
    return {_present_name(name): tensor for name, tensor in part.items() if name.startswith(_VAE_PARTS)}


def _present_name(name: str) -> str:
    """Name of a tensor of a VAE's attention in diffusers today; stabilityai/sd-vae-ft-mse has older ones."""
    return _OLD_ATTENTION.sub(lambda match: f".attentions.{match[1]}.{_PRESENT[match[2]]}.", name)


def _check_family(tensors: Mapping[str, Tensor], source: str) -> None:
    """Check that tensors are an SD1.x checkpoint with plain text conditioning; the error names their family."""
    for pattern, what in _OTHER_FAMILIES:
        if any(re.search(pattern, name) for name in tensors):
            raise InputError(f"{source} is {what}, not a Stable Diffusion 1.5 checkpoint. {_ADVICE}")
    for name, tensor in tensors.items():
        if name.endswith("attn2.to_k.weight") and tensor.shape[-1] in CONTEXT_WIDTHS:
            family = CONTEXT_WIDTHS[tensor.shape[-1]]
            raise InputError(f"{source} is {family} (text tokens {tensor.shape[-1]} wide, SD1.5's are 768). {_ADVICE}")
    entries = [f"{prefix}{name}.weight" for prefix in UNET_PREFIXES for name in ("input_blocks.0.0", "conv_in")]
    entry = next((tensors[name] for name in entries if name in tensors and tensors[name].ndim == 4), None)
    if entry is None:
        raise InputError(f"{source} holds no UNet; its tensors are called {next(iter(tensors))} and so on. {_ADVICE}")
    channels = entry.shape[1]
    if channels != 4:
        what = SPECIAL_UNETS.get(channels, "another kind of UNet")
        raise InputError(f"{source} is {what}: it reads {channels} channels, SD1.5 reads 4. {_ADVICE}")


def _part(tensors: Mapping[str, Tensor], prefixes: tuple[str, ...], mark: re.Pattern) -> dict[str, Tensor]:
    """Tensors of one network under diffusers' or transformers' names; empty if the file lacks it."""
    for prefix in prefixes:
        subset = {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        start = next((m.end(1) for name in subset if (m := mark.match(name))), None)
        if start is not None:
            renamed = {network_name(name[start:]): tensor for name, tensor in subset.items()}
            return {name: tensor for name, tensor in renamed.items() if not name.endswith("position_ids")}
    return {}


_TEXT_LEVELS = r"((?:clip_l\.)?(?:transformer\.)?(?:text_model\.)?)"  # above the network, each or none
_VAE_PARTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
_PRESENT = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD_ATTENTION = re.compile(rf"\.attentions\.(\d+)\.({'|'.join(_PRESENT)})\.")
_VAE_MARK = re.compile(r"()encoder\.conv_in\.weight$")
_PARTS = (  # prefixes; a name by which the network is known, behind what stands above its own names
    (UNET_PREFIXES, re.compile(r"()(input_blocks\.0\.0|conv_in)\.weight$")),
    (VAE_PREFIXES, _VAE_MARK),
    (TEXT_PREFIXES, re.compile(_TEXT_LEVELS + r"embeddings\.token_embedding\.weight$")),
)


def _empty_unet(tensors: Mapping[str, Tensor], source: str) -> UNet2DConditionModel:
    from diffusers import UNet2DConditionModel

    context = _size(tensors, "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight", 1, source)
    with torch.device("meta"):
        return UNet2DConditionModel(
            sample_size=64,
            in_channels=_size(tensors, "conv_in.weight", 1, source),
            out_channels=_size(tensors, "conv_out.weight", 0, source),
            block_out_channels=_widths(tensors, "down_blocks", source),
            cross_attention_dim=context,
            attention_head_dim=HEADS,  # diffusers means their number
        )


def empty_vae(tensors: dict[str, Tensor], source: str) -> AutoencoderKL:
    """An AutoencoderKL on the meta device with the sizes of `tensors`; reshapes ldm's attention weights in place."""
    from diffusers import AutoencoderKL

    widths = _widths(tensors, "encoder.down_blocks", source)
    for name in [n for n in tensors if ".attentions." in n and tensors[n].ndim == 4]:
        tensors[name] = tensors[name].flatten(1)  # ldm attends with 1×1 convolutions, diffusers with linear layers
    with torch.device("meta"):
        return AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * len(widths),
            up_block_types=("UpDecoderBlock2D",) * len(widths),
            block_out_channels=widths,
            layers_per_block=2,
            latent_channels=_size(tensors, "post_quant_conv.weight", 0, source),
            scaling_factor=LATENT_SCALE,
        )


def _empty_text(tensors: dict[str, Tensor], source: str) -> CLIPTextModel:
    from transformers import CLIPTextConfig, CLIPTextModel

    vocabulary, width = tensors["embeddings.token_embedding.weight"].shape
    layers = {m.group(1) for name in tensors if (m := re.match(r"encoder\.layers\.(\d+)\.", name))}
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=_size(tensors, "encoder.layers.0.mlp.fc1.weight", 0, source),
        num_hidden_layers=len(layers),
        num_attention_heads=TEXT_HEADS,
        max_position_embeddings=_size(tensors, "embeddings.position_embedding.weight", 0, source),
        hidden_act="quick_gelu",
        projection_dim=width,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )
    with torch.device("meta"):
        network = CLIPTextModel(config)
    if "text_model.final_layer_norm.weight" in network.state_dict():  # transformers 4 has a level more
        for name in list(tensors):
            tensors[f"text_model.{name}"] = tensors.pop(name)
    return network


def _widths(tensors: Mapping[str, Tensor], blocks: str, source: str) -> tuple[int, ...]:
    """Channels of each level of resolution."""
    return tuple(_size(tensors, f"{blocks}.{i}.resnets.0.conv1.weight", 0, source) for i in range(NUM_LEVELS))


def _size(tensors: Mapping[str, Tensor], name: str, dimension: int, source: str) -> int:
    if name not in tensors or tensors[name].ndim <= dimension:
        raise InputError(f"{source} is no complete SD1.5 checkpoint: it lacks {name}; download it again.")
    return tensors[name].shape[dimension]


def filled_network(
    network: nn.Module, tensors: dict[str, Tensor], source: str, device: torch.device | str, dtype: torch.dtype
) -> nn.Module:
    """Load tensors into a network on the meta device; each is removed from `tensors` as it is cast, to save memory."""
    load_strict(network, {name: tensor.to("meta") for name, tensor in tensors.items()}, source)  # only compares
    cast = {name: tensors.pop(name).to(device, dtype) for name in list(tensors)}
    network.load_state_dict(cast, assign=True)
    for module in network.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta:  # the numbers of CLIP's positions, which files need not hold
                setattr(module, name, torch.arange(buffer.numel(), device=device).reshape(buffer.shape))
    return network
