"""The part of the identity benchmark that runs in ComfyUI's own Python."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from .identity_network import SIGMA, STEPS, filled, nothing

SD15 = {
    "in_channels": 4, "out_channels": 4, "model_channels": 320, "channel_mult": [1, 2, 4, 4], "num_heads": 8,
    "num_res_blocks": [2, 2, 2, 2], "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "num_head_channels": -1,
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0], "transformer_depth_middle": 1,
    "context_dim": 768, "image_size": 32, "use_spatial_transformer": True, "legacy": False,
    "use_linear_in_transformer": False, "adm_in_channels": None, "use_temporal_attention": False,
}  # fmt: skip
TINY = {"model_channels": 32, "context_dim": 48}


def measure(args: argparse.Namespace, comfyui: Path, pack: Path, measured: Callable) -> dict:
    """Milliseconds of a whole sampling call of one step: plain, ours, and the standard way."""
    on_gpu = args.device.startswith("cuda")
    sys.argv = ["main.py"] if on_gpu else ["main.py", "--cpu"]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "pt_benchmark"
        place.symlink_to(pack, target_is_directory=True)
        sys.path[:0] = [str(comfyui), folder]
        import comfy.options

        comfy.options.enable_args_parsing()
        binding = importlib.import_module("pt_benchmark.nodes.comfy_unet")
        return _measure(args, binding, measured)


def _measure(args: argparse.Namespace, binding, measured: Callable) -> dict:  # noqa: ANN001
    import comfy.model_management
    import comfy.model_patcher
    import comfy.supported_models
    import torch

    adapters = importlib.import_module("pt_benchmark.portraittalk_core.identity.adapter")
    sites = importlib.import_module("pt_benchmark.portraittalk_core.diffusion.sites").SITES
    device = comfy.model_management.get_torch_device()
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    settings = comfy.supported_models.SD15({**SD15, **(TINY if args.tiny else {})})
    settings.set_inference_dtype(dtype, None)
    network = settings.get_model({}, "")
    filled(network.diffusion_model)
    model = comfy.model_patcher.ModelPatcher(network, device, comfy.model_management.unet_offload_device())
    width = settings.unet_config["context_dim"]
    widths = {site.adapter_key: site.width // (10 if args.tiny else 1) for site in sites}
    adapter = filled(adapters.new_adapter(widths, width), 1)
    tokens = torch.randn(2, 4, width)
    ours = binding.bind_identity(model, binding.managed(adapter, "random"), tokens, adapters.IdentityOptions())
    standard = _standard(model, adapter, tokens, sites)
    x = torch.randn(args.frames, 4, args.size // 8, args.size // 8) * SIGMA
    text = torch.randn(1, 77, width)
    guiders = {"plain": _guider(model, text), "ours": _guider(ours, text), "standard": _guider(standard, text)}
    variants = {name: (lambda guider=guider: _steps(guider, x)) for name, guider in guiders.items()}
    wait = torch.cuda.synchronize if device.type == "cuda" else nothing
    return {"ms": measured(variants, args.rounds, wait), "device": str(device), "dtype": str(dtype)}


def _guider(model, text):  # noqa: ANN001, ANN202
    import comfy.samplers

    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds([[text, {}]], [[text.flip(1), {}]])
    guider.set_cfg(3.5)
    return guider


def _steps(guider, x):  # noqa: ANN001, ANN202
    """As many calls of the UNet as `identity.STEPS`, as a sampler makes them."""
    import comfy.samplers
    import torch

    class Calls(comfy.samplers.Sampler):
        def sample(self, model_wrap, sigmas, extra_args, callback, noise, *_, **__):  # noqa: ANN001, ANN002, ANN003, ANN202
            for _ in range(STEPS):
                out = model_wrap(noise, sigmas[:1].expand(len(noise)), **extra_args)
            return out

    return guider.sample(x, torch.zeros_like(x), Calls(), torch.tensor([SIGMA, 0.0]), seed=0)


def _standard(model, adapter, tokens, sites):  # noqa: ANN001, ANN202
    """A second attention in every site, written the plain way: keys and values of the face made in every call."""
    import torch
    from comfy.ldm.modules.attention import optimized_attention

    def patch_of(site):  # noqa: ANN001, ANN202
        attention = adapter.sites[site.adapter_key]

        def patch(q, k, v, extra_options):  # noqa: ANN001, ANN202
            rows = len(q) // len(extra_options["cond_or_uncond"])
            chosen = torch.cat(
                [tokens[label : label + 1].repeat(rows, 1, 1) for label in extra_options["cond_or_uncond"]]
            )
            face = chosen.to(q)
            weights = [layer.weight.to(q) for layer in (attention.to_k_ip, attention.to_v_ip)]
            keys, values = (torch.nn.functional.linear(face, weight) for weight in weights)
            heads = extra_options["n_heads"]
            return optimized_attention(q, k, v, heads) + optimized_attention(q, keys, values, heads) * 1.0

        return patch

    clone = model.clone()
    for site in sites:
        clone.set_model_attn2_replace(patch_of(site), *site.block)
    return clone
