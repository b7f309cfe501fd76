"""Part of the identity benchmark in ComfyUI's own Python."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from comfy_shape import TINY, UNET

from .identity_network import SIGMA, STEPS, filled, nothing


def measure(args: argparse.Namespace, comfyui: Path, pack: Path, measured: Callable) -> dict:
    """Milliseconds of a whole sampling call of one step: plain, ours, and the standard way."""
    with pack_in_comfy(args.device, comfyui, pack):
        return _measure(args, importlib.import_module("pt_benchmark.nodes.bindings.unet"), measured)


@contextmanager
def pack_in_comfy(device: str, comfyui: Path, pack: Path) -> Iterator[None]:
    """Make ComfyUI's modules importable, and the pack as `pt_benchmark`."""
    sys.argv = ["main.py"] if device.startswith("cuda") else ["main.py", "--cpu"]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "pt_benchmark"
        place.symlink_to(pack, target_is_directory=True)
        sys.path[:0] = [str(comfyui), folder]
        import comfy.options

        comfy.options.enable_args_parsing()
        yield


def random_model(tiny: bool, dtype):  # noqa: ANN001, ANN201
    """A MODEL of SD1.5's shape, or a tiny one, with random weights."""
    import comfy.model_management
    import comfy.model_patcher
    import comfy.supported_models

    settings = comfy.supported_models.SD15({**UNET, **(TINY if tiny else {})})
    settings.set_inference_dtype(dtype, None)
    network = settings.get_model({}, "")
    filled(network.diffusion_model)
    device, offload_device = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
    return comfy.model_patcher.ModelPatcher(network, device, offload_device)


def _measure(args: argparse.Namespace, binding, measured: Callable) -> dict:  # noqa: ANN001
    import comfy.model_management
    import torch

    adapters = importlib.import_module("pt_benchmark.portraittalk_core.renderers.identitynet.adapter")
    sites = importlib.import_module("pt_benchmark.portraittalk_core.diffusion.sites").SITES
    device = comfy.model_management.get_torch_device()
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    model = random_model(args.tiny, dtype)
    width = model.model.model_config.unet_config["context_dim"]
    widths = {site.adapter_key: site.width // (10 if args.tiny else 1) for site in sites}
    adapter = filled(adapters.new_adapter(widths, width), 1)
    tokens = torch.randn(2, 4, width)
    ours = binding.bind_identity(model, binding.managed(adapter, "random"), tokens, adapters.IdentityOptions())
    standard = _standard(model, adapter, tokens, sites)
    x = torch.randn(args.frames, 4, args.size // 8, args.size // 8) * SIGMA
    text = torch.randn(1, 77, width)
    guiders = {"plain": _guider(model, text), "ours": _guider(ours, text), "standard": _guider(standard, text)}
    variants = {name: (lambda guider=guider: steps(guider, x)) for name, guider in guiders.items()}
    wait = torch.cuda.synchronize if device.type == "cuda" else nothing
    return {"ms": measured(variants, args.rounds, wait), "device": str(device), "dtype": str(dtype)}


def _guider(model, text):  # noqa: ANN001, ANN202
    import comfy.samplers

    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds([[text, {}]], [[text.flip(1), {}]])
    guider.set_cfg(3.5)
    return guider


def steps(guider, x, count: int = STEPS):  # noqa: ANN001, ANN201
    """Call the UNet `count` times as a sampler does."""
    import comfy.samplers
    import torch

    class Calls(comfy.samplers.Sampler):
        def sample(self, model_wrap, sigmas, extra_args, callback, noise, *_, **__):  # noqa: ANN001, ANN002, ANN003, ANN202
            for _ in range(count):
                out = model_wrap(noise, sigmas[:1].expand(len(noise)), **extra_args)
            return out

    return guider.sample(x, torch.zeros_like(x), Calls(), torch.tensor([SIGMA, 0.0]), seed=0)


def _standard(model, adapter, tokens, sites):  # noqa: ANN001, ANN202
    """A MODEL with a second attention in every site, whose keys and values are computed in every call."""
    import torch
    from comfy.ldm.modules.attention import optimized_attention

    def patch_of(site):  # noqa: ANN001, ANN202
        attention = adapter.sites[site.adapter_key]

        def patch(q, k, v, extra_options):  # noqa: ANN001, ANN202
            rows = len(q) // len(extra_options["cond_or_uncond"])
            row_tokens = torch.cat(
                [tokens[label : label + 1].repeat(rows, 1, 1) for label in extra_options["cond_or_uncond"]]
            )
            face = row_tokens.to(q)
            weights = [layer.weight.to(q) for layer in (attention.to_k_ip, attention.to_v_ip)]
            keys, values = (torch.nn.functional.linear(face, weight) for weight in weights)
            heads = extra_options["n_heads"]
            return optimized_attention(q, k, v, heads) + optimized_attention(q, keys, values, heads) * 1.0

        return patch

    clone = model.clone()
    for site in sites:
        clone.set_model_attn2_replace(patch_of(site), *site.block)
    return clone
