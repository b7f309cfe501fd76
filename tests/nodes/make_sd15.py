"""Run by ComfyUI's own Python: writes a random checkpoint of SD1.5's true shape, in fp16, as a single file.

python make_sd15.py COMFYUI OUT.safetensors
Names and shapes are those of ComfyUI's own networks. Weights are drawn once and repeated: a billion draws take minutes.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from comfy_shape import UNET  # noqa: E402

POOL = 4_000_037
VAE = {
    "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128,
    "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0,
}  # fmt: skip


def main(comfyui: Path, out: Path) -> None:
    sys.argv = ["main.py", "--cpu"]
    sys.path.insert(0, str(comfyui))
    import comfy.options

    comfy.options.enable_args_parsing()
    import torch
    from safetensors.torch import save_file

    pool = torch.randn(POOL, generator=torch.Generator().manual_seed(0)).half()
    tensors = {name: filled(name, shape, pool) for name, shape in shapes().items()}
    save_file(tensors, out)


def shapes() -> dict[str, tuple[int, ...]]:
    import comfy.ops
    import torch
    from comfy import sd1_clip
    from comfy.ldm.models.autoencoder import AutoencoderKL
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    with torch.device("meta"):
        parts = {
            "model.diffusion_model.": UNetModel(**UNET, operations=comfy.ops.disable_weight_init),
            "first_stage_model.": AutoencoderKL(ddconfig=VAE, embed_dim=4),
            "cond_stage_model.transformer.": sd1_clip.SDClipModel(device="meta", dtype=torch.float16).transformer,
        }
    tensors = {prefix + name: tensor for prefix, net in parts.items() for name, tensor in net.state_dict().items()}
    return {name: tuple(tensor.shape) for name, tensor in tensors.items() if "text_projection" not in name}


def filled(name: str, shape: tuple[int, ...], pool):
    import math

    import torch

    count = math.prod(shape)
    if len(shape) < 2:
        return torch.full(shape, 1.0 if name.endswith("weight") else 0.0, dtype=torch.float16)
    values = pool.repeat(-(-count // POOL))[:count] if count > POOL else pool[:count]
    return (values / math.prod(shape[1:]) ** 0.5).reshape(shape).contiguous()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
