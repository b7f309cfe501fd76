"""Cost of identity attention over plain SD1.5, with random weights of the true shape, all in one run.

On diffusers: plain, ours, ours without cached keys and values, diffusers' own IP-Adapter. In ComfyUI (its own Python):
plain, ours, and the standard way of IP-Adapter packs, a second attention per site whose keys and values are computed
in every step.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from .identity_network import SIGMA, STEPS, measured, nothing, random_adapter, random_network

ROOT = Path(__file__).parents[1]
PURPOSE = "cost of a face in a UNet call over plain SD1.5, on diffusers and in ComfyUI, random weights"
GOAL_COST, GOAL_BESIDE_STANDARD = 1.08, 1.0
NOISE = 0.02  # by which two equal calls were seen to differ


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's options."""
    parser.add_argument("--size", type=int, default=256, help="side of the frames in pixels")
    parser.add_argument("--frames", type=int, default=1, help="frames in a call; each is there twice, for cfg")
    parser.add_argument("--rounds", type=int, default=5, help="of all variants in turn; the least counts")
    parser.add_argument("--tiny", action="store_true", help="a tiny network: tries the script, measures nothing")
    parser.add_argument("--device", default="", help="cpu, cuda, …; if not given, cuda where there is one")
    parser.add_argument("--child", choices=("diffusers", "comfy"), help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print, and return 1 if a goal is missed."""
    if args.child:
        print(json.dumps(_CHILDREN[args.child](args)))
        return 0
    results = {"diffusers": _child("diffusers", args, sys.executable)}
    python = comfy_python()
    if python is None:
        print("NO COMFYUI at COMFYUI_DIR or ~/ComfyUI: its path is NOT MEASURED.")
    else:
        results["comfy"] = _child("comfy", args, python)
    return _report(results, args)


def comfy_folder() -> Path:
    """ComfyUI's folder."""
    return Path(os.environ.get("COMFYUI_DIR", "~/ComfyUI")).expanduser()


def comfy_python() -> str | None:
    """Path of ComfyUI's own Python; None without ComfyUI."""
    folder = comfy_folder()
    places = [os.environ.get("COMFYUI_PYTHON"), folder / "venv/bin/python", folder / ".venv/bin/python"]
    return next((str(p) for p in places if p and Path(p).exists()), None) if (folder / "main.py").is_file() else None


def _child(kind: str, args: argparse.Namespace, python: str) -> dict:
    options = ["--size", args.size, "--frames", args.frames, "--rounds", args.rounds, "--device", args.device]
    command = [python, "-m", "benchmarks", "identity", "--child", kind, *map(str, options)]
    one_core = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} if not args.device.startswith("cuda") else {}
    command += ["--tiny"] if args.tiny else []
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, **one_core}
    )
    if done.returncode:
        raise SystemExit(f"{kind} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _report(results: dict, args: argparse.Namespace) -> int:
    print(f"one UNet call, {args.size}×{args.size}, {2 * args.frames} rows, least of {args.rounds} rounds")
    for place, result in results.items():
        plain = result["ms"]["plain"]
        print(f"\n{place} on {result['device']}, {result['dtype']}")
        for name, ms in result["ms"].items():
            print(f"  {name:<44}{ms:9.1f} ms {ms / plain:7.3f} × plain")
    ours = results["diffusers"]["ms"]
    goals = [("a face over plain SD1.5, diffusers", ours["ours"] / ours["plain"], GOAL_COST)]
    if "comfy" in results:
        ms = results["comfy"]["ms"]
        goals.append(("a face over plain SD1.5, ComfyUI", ms["ours"] / ms["plain"], GOAL_COST))
        goals.append(("ours over the standard way, ComfyUI", ms["ours"] / ms["standard"], GOAL_BESIDE_STANDARD + NOISE))
    print()
    for name, value, limit in goals:
        print(f"{'ok  ' if value <= limit else 'MISS'} {name}: {value:.3f} (at most {limit:.2f})")
    saved = ours["ours, keys and values made in every step"] - ours["ours"]
    print(f"     keeping keys and values saves {saved:.1f} ms a step, {saved / ours['plain']:.2%} of a plain step")
    return 0 if args.tiny else int(any(value > limit for _, value, limit in goals))


def _measured(variants: dict[str, Callable[[], object]], rounds: int, wait: Callable[[], None]) -> dict[str, float]:
    """Minimum milliseconds a step of each variant."""
    return {name: min(times) / STEPS for name, times in measured(variants, rounds, wait).items()}


def _on_diffusers(args: argparse.Namespace) -> dict:
    import torch
    from diffusers import UNet2DConditionModel

    from portraittalk_core.diffusion.branches import bind
    from portraittalk_core.diffusion.denoiser import Condition, Denoiser
    from portraittalk_core.diffusion.sites import SITES
    from portraittalk_core.renderers.identitynet.adapter import IdentityOptions, identity_branches

    device, dtype, wait = _device(args)
    unet = random_network(UNet2DConditionModel, args.tiny, device, dtype)
    width = 48 if args.tiny else 768
    text = torch.randn(1, 77, width, device=device, dtype=dtype)
    x = torch.randn(args.frames, 4, args.size // 8, args.size // 8, device=device) * SIGMA
    adapter, tokens = random_adapter(unet, width), torch.randn(2, 4, width)
    keys = [site.adapter_key for site in SITES]
    branches = identity_branches(adapter.to(device, dtype), tokens.to(device), keys, IdentityOptions())
    cond = Condition(text, text.flip(1), 3.5)

    def steps(denoiser: Denoiser, on_step: Callable[[], None] = nothing) -> None:
        for _ in range(STEPS):
            denoiser(x, SIGMA, cond)
            on_step()

    def ours(on_step: Callable[[], None] = nothing) -> None:
        with bind(unet, {index: [branch] for index, branch in branches.items()}) as batch:
            steps(Denoiser(unet, batch), on_step)
        clear_cache()

    def clear_cache() -> None:
        for branch in branches.values():
            branch.clear_cache()

    variants = {
        "plain": lambda: steps(Denoiser(unet)),
        "ours": ours,
        "ours, keys and values made in every step": lambda: ours(clear_cache),
        "diffusers' own IP-Adapter": _diffusers_own(unet, adapter, tokens.to(device, dtype), x, steps),
    }
    with torch.inference_mode():
        return {"ms": _measured(variants, args.rounds, wait), "device": str(device), "dtype": str(dtype)}


def _diffusers_own(unet, adapter, tokens, x, steps):  # noqa: ANN001, ANN202
    import torch
    from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0

    from portraittalk_core.diffusion.denoiser import Denoiser
    from portraittalk_core.diffusion.sites import SITES

    processors = dict(unet.attn_processors)
    for site in SITES:
        attention = adapter.sites[site.adapter_key]
        width, token_width = attention.to_k_ip.weight.shape
        processor = IPAdapterAttnProcessor2_0(width, token_width, num_tokens=(4,))
        processor.to_k_ip[0], processor.to_v_ip[0] = attention.to_k_ip, attention.to_v_ip
        processors[f"{site.attention(2)}.processor"] = processor
    rows = tokens.repeat_interleave(len(x), 0)[:, None]

    class WithFaces(torch.nn.Module):
        """The UNet with the face tokens as its IP-Adapter processors take them."""

        def __init__(self) -> None:
            super().__init__()
            self.unet = unet

        def forward(self, sample, timestep, text, return_dict):  # noqa: ANN001, ANN202
            return unet(sample, timestep, (text, [rows]), return_dict=return_dict)

    def call() -> None:
        own_processors = unet.attn_processors
        unet.set_attn_processor(dict(processors))  # it empties what it is given
        try:
            steps(Denoiser(WithFaces()))
        finally:
            unet.set_attn_processor(own_processors)

    return call


def _on_comfy(args: argparse.Namespace) -> dict:
    from .identity_comfy import measure

    return measure(args, comfy_folder(), ROOT, _measured)


def _device(args: argparse.Namespace):  # noqa: ANN202
    import torch

    name = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = name.startswith("cuda")
    return (
        torch.device(name),
        torch.float16 if on_gpu else torch.float32,
        torch.cuda.synchronize if on_gpu else nothing,
    )


_CHILDREN = {"diffusers": _on_diffusers, "comfy": _on_comfy}
