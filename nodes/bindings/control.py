"""Per-frame hints for a user's CONTROL_NET: the hint pictures of the frames being denoised.

ComfyUI's own gives every context window, and every batch, the hints of frames 0 to 15.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import comfy.controlnet
from torch import Tensor

from ...portraittalk_core.checks import check_range
from ...portraittalk_core.diffusion.checkpoint import CONTEXT_WIDTHS
from ...portraittalk_core.errors import InputError
from ...portraittalk_core.renderers.animatenet.hints import Hints
from ...portraittalk_core.renderers.animatenet.mouth_weight import Maps
from .animate import BoundAnimate
from .cursor import Cursor


class ComfyFrameControl(comfy.controlnet.ControlBase):
    """A CONTROL_NET with a hint picture for every frame.

    Args:
        net: the user's; it is copied, not changed.
        hints: draws the frames that are asked for.
        cursor: shared with the painter.
        strength: factor of what the net adds.
        percents: part of the steps in which it acts.
        maps: factors for places, such as the mouth's; None for all alike.
        animate: further conditioning of the net and the UNet; None for none.
        reuse_every: 2 reuses the net's output for a second step, window by window and chunk by chunk.
    """

    def __init__(
        self,
        net: comfy.controlnet.ControlNet,
        hints: Hints,
        cursor: Cursor,
        strength: float = 1.0,
        percents: tuple[float, float] = (0.0, 1.0),
        maps: Maps | None = None,
        animate: BoundAnimate | None = None,
        reuse_every: int = 1,
    ) -> None:
        super().__init__()
        check_control_net(net)
        self.net, self.hints, self.cursor, self.maps = net.copy(), hints, cursor, maps
        self.net.set_previous_controlnet(None)
        self.net.set_cond_hint(None, strength, percents)
        self.animate, self.reuse_every = animate, check_range(reuse_every, 1, 8, "reuse_every")
        self._cache = _ControlCache()
        self._sampling: tuple | None = None  # MODEL and schedule of the run, for the copies that hold the hints
        self.sub_idxs: Sequence[int] | None = None  # AnimateDiff-Evolved tells its window here too

    def get_control(self, x_noisy: Tensor, t: Tensor, cond: dict, batched_number: int, transformer_options: dict):
        """The residuals for the UNet, of this net and of those chained before it."""
        previous = None
        if self.previous_controlnet is not None:
            previous = self.previous_controlnet.get_control(x_noisy, t, cond, batched_number, transformer_options)
        frames = self.frames(len(x_noisy) // batched_number, transformer_options)
        own_control = self._own_control(frames, x_noisy, t, cond, batched_number, transformer_options)
        if self.animate is not None:
            self.animate.set_maps(own_control)
        return _added(previous, own_control)

    def _own_control(
        self, frames, x_noisy: Tensor, t: Tensor, cond: dict, batched_number: int, transformer_options: dict
    ):
        """This net's residuals, or those cached a step before."""
        window = (tuple(frames), tuple(x_noisy.shape))
        chunks = tuple(transformer_options.get("uuids") or transformer_options.get("cond_or_uncond") or ())
        if not self._acts(t):
            return None
        cached = self._cache.get(window, chunks, self.reuse_every)
        if cached is not None:
            return cached
        ratio = self.net.compression_ratio
        hint_images = self.hints(frames, x_noisy.shape[2] * ratio, x_noisy.shape[3] * ratio)
        net = self._with_hints(hint_images.to(x_noisy.device))
        with nullcontext() if self.animate is None else self.animate.at(net.control_model, frames):
            control = net.get_control(x_noisy, t, cond, batched_number, transformer_options)
        control = self._weighted(control, frames)
        if control is not None and self.reuse_every > 1:
            self._cache.put(window, chunks, control)
        return control

    def _with_hints(self, hint_images: Tensor) -> comfy.controlnet.ControlNet:
        """A copy of the net with these hint pictures (F, 3, H, W) 0..1; it shares the weights.

        A copy, because the net keeps what it makes of its pictures, in a place of its own that ComfyUI may change.
        """
        net = self.net.copy()
        net.set_cond_hint(hint_images, self.net.strength, self.net.timestep_percent_range)
        comfy.controlnet.ControlNet.pre_run(net, *self._sampling)  # a ControlLoRA's own would build its network anew
        net.control_model, net.manual_cast_dtype = self.net.control_model, self.net.manual_cast_dtype
        return net

    def _acts(self, t: Tensor) -> bool:
        span = self.net.timestep_range
        return span is None or span[1] <= float(t[0]) <= span[0]

    def _weighted(self, control: dict | None, frames: Sequence[int]) -> dict | None:
        if control is None or self.maps is None:
            return control

        def weighted(added: Tensor | None) -> Tensor | None:
            if added is None:
                return None
            factors = self.maps(frames, *added.shape[2:]).to(added)
            return added * factors.repeat(len(added) // len(frames), 1, 1, 1)

        return {key: [weighted(added) for added in parts] for key, parts in control.items()}

    def frames(self, count: int, transformer_options: dict) -> list[int]:
        """Numbers of the frames in a chunk of the batch."""
        return self.cursor.frames(count, transformer_options, self.sub_idxs)

    def pre_run(self, model, percent_to_timestep_function) -> None:
        """Called by ComfyUI before sampling."""
        self.clear_cache()
        super().pre_run(model, percent_to_timestep_function)
        self.net.pre_run(model, percent_to_timestep_function)
        self._sampling = (model, percent_to_timestep_function)

    def cleanup(self) -> None:
        """Called by ComfyUI after sampling, but not after an interrupted one."""
        super().cleanup()
        self.net.cleanup()
        self._sampling = None
        self.clear_cache()

    def clear_cache(self) -> None:
        """Drop everything cached for a run."""
        self._cache = _ControlCache()
        if self.animate is not None:
            self.animate.clear_cache()

    def get_models(self) -> list:
        """The models that ComfyUI loads and offloads."""
        animate_models = [] if self.animate is None else [self.animate.patcher]
        return super().get_models() + self.net.get_models() + animate_models

    def inference_memory_requirements(self, dtype) -> float:
        """Bytes besides the weights."""
        return super().inference_memory_requirements(dtype) + self.net.inference_memory_requirements(dtype)

    def copy(self) -> ComfyFrameControl:
        """A copy with the same hints, for another chain of controls."""
        percents = self.net.timestep_percent_range
        copied = ComfyFrameControl(
            self.net, self.hints, self.cursor, self.net.strength, percents, self.maps, self.animate, self.reuse_every
        )
        self.copy_to(copied)
        copied.sub_idxs = self.sub_idxs
        return copied


class _ControlCache:
    """Cache of a net's residuals over steps, for each window and each group of conditions."""

    def __init__(self) -> None:
        self._controls: dict[tuple, tuple[int, dict]] = {}

    def get(self, window: tuple, chunks: tuple, every: int) -> dict | None:
        """The cached residuals where they may be reused; None where they must be computed."""
        served, control = self._controls.get((window, chunks), (0, None))
        if control is None or served % every == 0:
            return None
        self._controls[window, chunks] = (served + 1, control)
        return _copied(control)

    def put(self, window: tuple, chunks: tuple, control: dict) -> None:
        """Cache residuals in place of older ones of any of these conditions and frames."""
        outdated = [key for key in self._controls if key[0][0] == window[0] and set(key[1]) & set(chunks)]
        for key in outdated:
            del self._controls[key]
        self._controls[window, chunks] = (1, _copied(control))


def _copied(control: dict) -> dict:
    """Residuals with lists of their own: the UNet pops tensors off the lists it is given."""
    return {key: list(parts) for key, parts in control.items()}


def with_control(conditionings: Sequence[list], control: ComfyFrameControl) -> tuple[list, ...]:
    """CONDITIONINGs with the control chained to whatever control they have already.

    Those with the same previous control share one copy, so that ComfyUI can run positive and negative in one batch.
    """
    copies: dict[int, ComfyFrameControl] = {}
    controlled = []
    for conditioning in conditionings:
        rows = []
        for tokens, options in conditioning:
            previous = options.get("control")
            chained = copies.setdefault(id(previous), control.copy().set_previous_controlnet(previous))
            rows.append([tokens, {**options, "control": chained, "control_apply_to_uncond": False}])
        controlled.append(rows)
    return tuple(controlled)


def check_control_net(net: object) -> None:
    """Refuse a CONTROL_NET that takes no hint pictures, or is made for another base model.

    Raises:
        InputError: saying what it is.
    """
    if not isinstance(net, comfy.controlnet.ControlNet):
        raise InputError(f"the CONTROL_NET is a {type(net).__name__}; use a ControlNet for SD1.5.")
    network = getattr(net, "control_model", None)  # a ControlLoRA makes it when it runs
    state = getattr(net, "control_weights", {}) if network is None else network.state_dict()
    ends = ("attn2.to_k.weight", "attn2.to_k.down")
    widths = {tensor.shape[1] for name, tensor in state.items() if name.endswith(ends)}
    for width in widths & CONTEXT_WIDTHS.keys():
        raise InputError(f"the CONTROL_NET is for {CONTEXT_WIDTHS[width]}; use one for SD1.5.")


def _added(first: dict | None, second: dict | None) -> dict | None:
    """The sum of two controls' outputs, entry by entry."""
    if first is None or second is None:
        return first or second
    total = {}
    for key in ("input", "middle", "output"):
        parts_1, parts_2 = first.get(key, []), second.get(key, [])
        longest = max(len(parts_1), len(parts_2))
        pairs = zip(*((part + [None] * (longest - len(part))) for part in (parts_1, parts_2)), strict=True)
        total[key] = [b if a is None else a if b is None else a + b for a, b in pairs]
    return total
