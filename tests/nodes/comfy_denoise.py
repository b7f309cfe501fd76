"""Run by ComfyUI's own Python: denoised latents of a tiny SD1.5 through ComfyUI, for cases that a test wrote down.

python comfy_denoise.py COMFYUI PACK FOLDER: FOLDER holds unet.safetensors (diffusers' names), adapter.safetensors,
inputs.safetensors and cases.json; denoised.safetensors is written.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path


def main(comfyui: Path, pack: Path, folder: Path) -> None:
    sys.argv = ["main.py", "--cpu"]
    sys.path[:0] = [str(comfyui), str(pack.parent)]
    import comfy.options

    comfy.options.enable_args_parsing()
    from safetensors.torch import load_file, save_file

    unet_binding = importlib.import_module(f"{pack.name}.nodes.comfy_unet")
    inputs = load_file(folder / "inputs.safetensors")
    made = {}
    for name, case in json.loads((folder / "cases.json").read_text()).items():
        made[name] = denoised(unet_binding, inputs, folder, case)
    save_file(made, folder / "denoised.safetensors")


def tiny_model(folder: Path):
    import comfy.model_patcher
    import comfy.supported_models
    import comfy.utils
    import torch
    from safetensors.torch import load_file

    config = {
        "in_channels": 4, "out_channels": 4, "model_channels": 32, "channel_mult": [1, 2, 4, 4], "num_heads": 8,
        "num_res_blocks": [2, 2, 2, 2], "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "num_head_channels": -1,
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0], "transformer_depth_middle": 1,
        "context_dim": 48, "image_size": 8, "use_spatial_transformer": True, "legacy": False,
        "use_linear_in_transformer": False, "adm_in_channels": None, "use_temporal_attention": False,
    }  # fmt: skip
    settings = comfy.supported_models.SD15(dict(config))
    settings.set_inference_dtype(torch.float32, None)
    model = settings.get_model({}, "")
    names = comfy.utils.unet_to_diffusers(config)
    theirs = load_file(folder / "unet.safetensors")
    model.diffusion_model.load_state_dict({names[name]: tensor for name, tensor in theirs.items()})
    model.diffusion_model.eval()
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


def denoised(unet_binding, inputs, folder: Path, case: dict):
    import comfy.samplers
    import torch

    model = with_identity(unet_binding, tiny_model(folder), folder, inputs["tokens"], case)

    class OneCall(comfy.samplers.Sampler):
        def sample(self, model_wrap, sigmas, extra_args, callback, noise, *_, **__):
            return model_wrap(noise, sigmas[:1].expand(len(noise)), **extra_args)

    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds([[inputs["positive"], {}]], [[inputs["negative"], {}]])
    guider.set_cfg(case["cfg"])
    x = inputs["x"]
    sigmas = torch.tensor([case["sigma"], 0.0])
    out = guider.sample(x, torch.zeros_like(x), OneCall(), sigmas, seed=0)
    return (out * 0.18215).contiguous()  # ComfyUI hands latents out unscaled


def with_identity(unet_binding, model, folder: Path, tokens, case: dict):
    core = unet_binding.__package__.replace(".nodes", ".portraittalk_core")
    adapters = importlib.import_module(f"{core}.identity.adapter")
    bound = unet_binding.managed(
        adapters.load_adapter(folder / "adapter.safetensors", ops=unet_binding.OPERATIONS),
        "adapter",
        None if case.get("lora") else {},
    )
    for options in case["identity"]:
        layers = {int(k): v for k, v in options.pop("layers", {}).items()}
        model = unet_binding.bind_identity(model, bound, tokens, adapters.IdentityOptions(layers=layers, **options))
    if case.get("foreign"):
        add_foreign(model, case["foreign"])
    if case.get("misplaced"):
        slots = model.model_options["transformer_options"]["patches_replace"]["attn2"]
        slots[("middle", 1)] = slots.pop(("middle", 0))
    return model.clone() if case.get("clone") else model


def add_foreign(model, how: str) -> None:
    """What another pack does: IPAdapter's callback in our slot."""

    def callback(out, q, k, v, extra_options, **kwargs):
        return 0.5 * q

    slots = model.model_options["transformer_options"]["patches_replace"]["attn2"]
    if how == "guest":
        slots[("input", 1)].add(callback, sigma_start=999.0, sigma_end=0.0)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
