"""Part of the animate benchmark in ComfyUI's own Python: plain SD1.5, and all of our nodes' conditioning."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from .identity_comfy import TINY, pack_in_comfy, random_model, steps
from .identity_network import SIGMA, filled, measured, nothing

CFG = 3.5


def measure(args: argparse.Namespace, comfyui: Path, pack: Path) -> dict:
    """Milliseconds of a whole sampling call of one step."""
    with pack_in_comfy(args.device, comfyui, pack):
        return _measure(args)


def _measure(args: argparse.Namespace) -> dict:
    import comfy.model_management
    import torch

    device = comfy.model_management.get_torch_device()
    names = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    dtype = names[args.precision or ("fp16" if device.type == "cuda" else "fp32")]
    model = random_model(args.tiny, dtype)
    width = model.model.model_config.unet_config["context_dim"]
    text = torch.randn(1, 77, width)
    texts = [[[text, {}]], [[text.flip(1), {}]]]
    x = torch.randn(args.frames, 4, args.size // 8, args.size // 8) * SIGMA
    controlled = _controlled(texts, args.tiny, dtype, device)
    everything = _moved(_faced(model, width, args.tiny), args.tiny)
    variants = {
        "plain": lambda: steps(_guider(model, texts, CFG), x, 1),
        "everything": lambda: steps(_guider(everything, controlled, CFG), x, 1),
        "everything, no CFG": lambda: steps(_guider(everything, controlled, 1.0), x, 1),
    }
    for patched in (model, everything):  # what is done once
        steps(_guider(patched, controlled if patched is everything else texts, CFG), x[:1, :, :8, :8], 1)
    wait = torch.cuda.synchronize if device.type == "cuda" else nothing
    times = measured(variants, args.rounds, wait, warm_up=device.type == "cuda")
    return {"ms": times, "device": str(device), "dtype": str(dtype)}


def _guider(model, texts, cfg: float):  # noqa: ANN001, ANN202
    import comfy.samplers

    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(*texts)
    guider.set_cfg(cfg)
    return guider


def _ours(name: str):  # noqa: ANN202
    return importlib.import_module(f"pt_benchmark.{name}")


def _faced(model, width: int, tiny: bool):  # noqa: ANN001, ANN202
    import torch

    binding, adapters = _ours("nodes.bindings.unet"), _ours("portraittalk_core.renderers.identitynet.adapter")
    sites = _ours("portraittalk_core.diffusion.sites").SITES
    adapter = filled(adapters.new_adapter({s.adapter_key: s.width // (10 if tiny else 1) for s in sites}, width), 1)
    bound = binding.managed(adapter, "random")
    return binding.bind_identity(model, bound, torch.randn(2, 4, width), adapters.IdentityOptions())


def _moved(model, tiny: bool):  # noqa: ANN001, ANN202
    import torch

    motion, temporal = _ours("nodes.bindings.motion"), _ours("portraittalk_core.diffusion.motion_modules")
    widths = (32, 64, 128, 128) if tiny else temporal.SD15_WIDTHS
    with torch.device("meta"):
        modules = temporal.MotionModules(widths, ops=_ours("nodes.bindings.unet").OPERATIONS)
    modules = filled(modules.to_empty(device="cpu"), 3)
    for _, buffer in modules.named_buffers():
        buffer.fill_(0.5)
    return motion.with_motion(model, motion.managed_motion(modules))


def _controlled(texts: list, tiny: bool, dtype, device) -> list:  # noqa: ANN001
    import comfy.cldm.cldm
    import comfy.controlnet
    import comfy.ops
    import torch
    from comfy_shape import CONTROL

    config = {**CONTROL, **(TINY if tiny else {})}
    network = comfy.cldm.cldm.ControlNet(**config, operations=comfy.ops.manual_cast, dtype=dtype)
    net = comfy.controlnet.ControlNet(filled(network, 2), load_device=device)
    controls, cursor = _ours("nodes.bindings.control"), _ours("nodes.bindings.cursor").Cursor()
    hint = torch.rand(1, 3, 8, 8)

    def hints(frames, height: int, width: int):  # noqa: ANN001, ANN202
        return torch.nn.functional.interpolate(hint, (height, width)).expand(len(frames), -1, -1, -1)

    control = controls.ComfyFrameControl(
        net, hints, cursor, maps=lambda frames, h, w: torch.full((len(frames), 1, h, w), 1.5)
    )
    return list(controls.with_control(texts, control))
