"""Attention branches of the core in a ComfyUI MODEL, through its public hooks only.

ComfyUI calls what lies in an attn2 slot as patch(q, k, v, extra_options); a slot holds one patch, so ours calls the
one it found there first, and lets others add to it as they would to their own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.patcher_extension
import comfy.sd
import comfy.supported_models
from comfy.ldm.modules.attention import optimized_attention
from torch import Tensor, nn

from ...portraittalk_core.diffusion.sites import SITES
from ...portraittalk_core.errors import InputError
from ...portraittalk_core.layers.attention import AttentionCall, Branch
from ...portraittalk_core.renderers.identitynet.adapter import IdentityAdapter, IdentityOptions, identity_branches
from ...portraittalk_core.renderers.identitynet.adapter_lora import kohya_lora
from ...portraittalk_core.weights.load import read_tensors

log = logging.getLogger(__name__)

OWNER = "portraittalk"  # under this name ComfyUI keeps what is ours on a MODEL
OPERATIONS = comfy.ops.manual_cast  # layers that take any precision, wherever their weights lie
NAMES = {"SDXL": "SDXL", "SD20": "Stable Diffusion 2", "SD21": "Stable Diffusion 2.1", "Flux": "Flux"}


class SitePatch:
    """Patch of one attn2 slot: the previous patch, then our branches, then those added by other packs."""

    def __init__(self, previous: Callable | None, branches: Sequence[Branch]) -> None:
        self.previous, self.branches = previous, list(branches)
        self._guests: list[tuple[Callable, dict]] = []

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, extra_options: dict) -> Tensor:
        """The site's attention before its output projection, (B, HW, C)."""
        heads = extra_options["n_heads"]
        if self.previous is None:
            precision = extra_options.get("attn_precision")
            out = optimized_attention(q, k, v, heads, attn_precision=precision)
        else:
            out = self.previous(q, k, v, extra_options)
        call = AttentionCall(heads, extra_options.get("cond_or_uncond", [0]), extra_options.get("sigmas", 0.0))
        for branch in self.branches:
            added = branch(q, call)
            out = out if added is None else out + added
        for guest, options in self._guests:
            if _acts(options, extra_options):
                out = out + guest(out, q, k, v, extra_options, **options)
        return out

    def add(self, callback: Callable, **options: object) -> None:
        """Let another pack add to this slot, as IPAdapter packs do to a patch they find in it."""
        self._guests.append((callback, options))

    def to(self, _: object) -> SitePatch:
        """Itself: ComfyUI moves patches, but our weights are moved as models of their own."""
        return self

    def __deepcopy__(self, memo: dict) -> SitePatch:
        """A MODEL's clone shares the weights, but not what is added to it later."""
        copied = SitePatch(self.previous, self.branches)
        copied._guests = list(self._guests)
        return copied


def _acts(options: dict, extra_options: dict) -> bool:
    """Whether a guest with sigma_start and sigma_end acts at this noise level."""
    if "sigma_start" not in options or "sigmas" not in extra_options:
        return True
    return options.get("sigma_end", 0.0) <= float(extra_options["sigmas"][0]) <= options["sigma_start"]


@dataclass(frozen=True)
class BoundAdapter:
    """An identity adapter under ComfyUI's memory management, with its LoRA."""

    adapter: IdentityAdapter
    patcher: comfy.model_patcher.ModelPatcher
    name: str  # of the file
    lora: dict[str, Tensor]  # Kohya's names; empty where none is to be applied
    lora_strength: float = 1.0


def managed(adapter: IdentityAdapter, name: str, lora: dict | None = None, lora_strength: float = 1.0) -> BoundAdapter:
    """Put an adapter under ComfyUI's memory management.

    Args:
        adapter: built with OPERATIONS.
        name: of its file, for messages.
        lora: a companion LoRA file's tensors; None takes the one inside the adapter, an empty dict none.
        lora_strength: factor of the LoRA.
    """
    patcher = under_management(adapter)
    return BoundAdapter(adapter, patcher, name, kohya_lora(adapter.lora) if lora is None else lora, lora_strength)


def under_management(module: nn.Module) -> comfy.model_patcher.ModelPatcher:
    """A ModelPatcher for a module of ours that was built with OPERATIONS."""
    kind = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)  # newer ComfyUI's own
    return kind(
        module,
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )


def bind_identity(
    model: comfy.model_patcher.ModelPatcher, bound: BoundAdapter, tokens: Tensor, options: IdentityOptions
) -> comfy.model_patcher.ModelPatcher:
    """A clone of a MODEL with identity attention; the MODEL itself is not changed.

    Args:
        model: SD1.5, with whatever LoRAs and patches.
        bound: the adapter.
        tokens: (2, T, E) of the face, then of no face.
        options: strength, part of the schedule, weights of single sites.

    Raises:
        InputError: the MODEL is not SD1.5.
    """
    check_sd15(model, bound.adapter.token_width)
    sampling = model.get_model_object("model_sampling")
    window = (float("inf"), 0.0)
    if options.start > 0 or options.end < 1:
        window = tuple(sampling.percent_to_sigma(percent) for percent in (options.start, options.end))
    keys = [site.adapter_key for site in SITES]
    branches = identity_branches(bound.adapter, tokens, keys, options, window, optimized_attention)
    if not branches:
        return model
    clone = with_branches(model, {index: [branch] for index, branch in branches.items()})
    models = [*clone.get_additional_models_with_key(OWNER), bound.patcher]
    clone.set_additional_models(OWNER, models)
    return _with_lora(clone, bound)


def with_branches(
    model: comfy.model_patcher.ModelPatcher, branches: dict[int, Sequence[Branch]]
) -> comfy.model_patcher.ModelPatcher:
    """A clone of a MODEL whose cross-attentions call branches, by the site's index, after what is there already."""
    clone = model.clone()
    slots = clone.model_options["transformer_options"].get("patches_replace", {}).get("attn2", {})
    for index, site_branches in branches.items():
        block, number = SITES[index].block
        exact = (block, number, 0)  # a patch for one transformer of a block hides one for the block
        existing = slots.get(exact, slots.get((block, number)))
        inner = 0 if exact in slots else None
        clone.set_model_attn2_replace(SitePatch(existing, site_branches), block, number, inner)
    used = [branch for site_branches in branches.values() for branch in site_branches]
    outer = comfy.patcher_extension.WrappersMP.OUTER_SAMPLE
    clone.add_wrapper_with_key(outer, OWNER, _cache_clearing_wrapper(used))
    return clone


def _cache_clearing_wrapper(branches: Sequence[Branch]) -> Callable:
    """A wrapper of a whole sampling run that clears the branches' caches at its end."""

    def run(executor: Callable, *args: object, **kwargs: object) -> Tensor:
        try:
            return executor(*args, **kwargs)
        finally:
            for branch in branches:
                branch.clear_cache()

    return run


def check_sd15(model: comfy.model_patcher.ModelPatcher, token_width: int = 768) -> None:
    """Refuse a MODEL that is not SD1.5 for pictures.

    Raises:
        InputError: saying what it is.
    """
    config = model.model.model_config
    kind = type(config).__name__
    shape = config.unet_config
    channels = shape.get("in_channels", 4)
    if not isinstance(config, comfy.supported_models.SD15):
        raise InputError(
            f"the MODEL is {NAMES.get(kind, kind)}, but IdentityNet needs an SD1.5 checkpoint; choose one in Load "
            "Checkpoint."
        )
    if channels != 4:
        what = {9: "an inpainting checkpoint", 8: "an InstructPix2Pix checkpoint"}.get(channels, "of another kind")
        raise InputError(f"the MODEL is {what} ({channels} input channels); use a plain SD1.5 checkpoint (4 channels).")
    if shape.get("context_dim") != token_width:
        raise InputError(
            f"the adapter's tokens are {token_width} wide, the MODEL attends to {shape.get('context_dim')}; "
            "adapter and checkpoint must both be for SD1.5."
        )


def _with_lora(model: comfy.model_patcher.ModelPatcher, bound: BoundAdapter) -> comfy.model_patcher.ModelPatcher:
    """The adapter's LoRA applied, unless the MODEL has it already, as from a Load LoRA node."""
    if not bound.lora or bound.lora_strength == 0:
        return model
    if _has_lora(model, bound.lora):
        log.warning("the MODEL already has the LoRA of %s; it is not applied twice.", bound.name)
        return model
    return comfy.sd.load_lora_for_models(model, None, bound.lora, bound.lora_strength, 0)[0]


def _has_lora(model: comfy.model_patcher.ModelPatcher, lora: dict[str, Tensor]) -> bool:
    ups = {_fingerprint(t) for name, t in lora.items() if name.endswith("lora_up.weight")}
    for patches in model.patches.values():
        for patch in patches:
            weights = getattr(patch[1], "weights", None)
            if weights and isinstance(weights[0], Tensor) and _fingerprint(weights[0]) in ups:
                return True
    return False


def read_lora(path: Path) -> dict[str, Tensor]:
    """Tensors of an adapter's companion LoRA file.

    Raises:
        InputError: damaged, or no LoRA of the attentions of SD1.5.
    """
    tensors = read_tensors(path)
    if not any(name.startswith("lora_unet_") and "_attn2_to_k" in name for name in tensors):
        raise InputError(f"{path.name} is not the LoRA of a FaceID adapter; choose its companion file, or none.")
    return tensors


def _fingerprint(tensor: Tensor) -> tuple:
    values = tensor.flatten()[:16].half().tolist()  # the file may be stored in another precision
    return (tuple(tensor.shape), *(round(v, 3) for v in values))
