"""Style attention in a ComfyUI MODEL, by hooks in its transformer blocks while it is loaded."""

from __future__ import annotations

from collections.abc import Callable

import comfy.model_patcher
from comfy.patcher_extension import PatcherInjection, WrappersMP
from torch import Tensor

from ...portraittalk_core.diffusion.branches import Batch
from ...portraittalk_core.diffusion.sites import SITES
from ...portraittalk_core.errors import InputError
from ...portraittalk_core.style.attention import BlockHooks, FrameStyles, StyleRun
from ...portraittalk_core.style.projection import StyleAttention
from .cursor import Cursor
from .unet import OWNER, check_sd15, under_management

KEY = f"{OWNER}_style"  # under which ComfyUI keeps what is ours


def managed_style(net: StyleAttention) -> comfy.model_patcher.ModelPatcher:
    """A style attention, built with `bindings.unet.OPERATIONS`, under ComfyUI's memory management."""
    return under_management(net)


def with_style(
    model: comfy.model_patcher.ModelPatcher,
    attention: comfy.model_patcher.ModelPatcher,
    styles: FrameStyles,
    cursor: Cursor,
) -> comfy.model_patcher.ModelPatcher:
    """A clone of a MODEL with style attention in its blocks; the MODEL itself where the style is off.

    Args:
        model: SD1.5.
        attention: of `managed_style`.
        styles: of every frame.
        cursor: shared with the painter.

    Raises:
        InputError: the MODEL is not SD1.5, or the attention is not for it.
    """
    if not styles.is_active:
        return model
    net = attention.model
    check_sd15(model, model.model.model_config.unet_config.get("context_dim", 768))
    batch = Batch()
    run = StyleRun(net, styles, batch)
    hooks = _Hooks(run)
    clone = model.clone()
    clone.set_additional_models(KEY, [attention])
    clone.set_injections(KEY, [PatcherInjection(hooks.inject, hooks.eject)])
    clone.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, _batch_wrapper(batch, cursor))
    clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, _cache_clearing_wrapper(run))
    return clone


class _Hooks:
    """Hooks in every transformer block."""

    def __init__(self, run: StyleRun) -> None:
        self.run = run
        self._release: list[Callable[[], None]] = []

    def inject(self, patcher: comfy.model_patcher.ModelPatcher) -> None:
        """Called by ComfyUI once the MODEL is loaded."""
        self.eject(patcher)
        for site in SITES:
            block = patcher.model.diffusion_model.get_submodule(f"{site.ldm}.transformer_blocks.0")
            own_width = self.run.net.site(site.adapter_key).to_q.weight.shape[0]
            model_width = block.norm3.weight.shape[0]
            if own_width != model_width:
                raise InputError(
                    f"the style attention is {own_width} wide where the MODEL is {model_width}; use one for SD1.5."
                )
            hooks = BlockHooks(lambda x, n=site.adapter_key, h=block.attn2.heads: self.run.add(n, x, h))
            self._release.append(hooks.bind(block.norm3, block.ff))

    def eject(self, patcher: comfy.model_patcher.ModelPatcher) -> None:
        """Called by ComfyUI before the MODEL is used without us."""
        while self._release:
            self._release.pop()()

    def __deepcopy__(self, memo: dict) -> _Hooks:
        return self


def _batch_wrapper(batch: Batch, cursor: Cursor) -> Callable:
    """A wrapper of the UNet's call that records which samples are positive, and of which frames."""

    def call(executor: Callable, x: Tensor, timesteps: Tensor, context=None, y=None, control=None,
             transformer_options=None, **more: object) -> Tensor:  # fmt: skip
        options = transformer_options or {}
        batch.labels = options.get("cond_or_uncond", [0])
        batch.frames = cursor.frames(len(x) // len(batch.labels), options)
        return executor(x, timesteps, context, y, control, options, **more)

    return call


def _cache_clearing_wrapper(run: StyleRun) -> Callable:
    """A wrapper of a whole sampling run that clears the cache at its end."""

    def sample(executor: Callable, *args: object, **kwargs: object) -> Tensor:
        try:
            return executor(*args, **kwargs)
        finally:
            run.clear_cache()

    return sample
