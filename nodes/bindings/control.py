"""Hands a user's CONTROL_NET, frame by frame, the drawings that belong to the frames being denoised.

ComfyUI's own gives every context window the drawings of frames 0 to 15, and a batch that is not the first likewise.
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
    """A CONTROL_NET with a drawing for every frame.

    Args:
        net: the user's; it is copied, not changed.
        hints: draws the frames that are asked for.
        cursor: shared with the painter.
        strength: factor of what the net adds.
        percents: part of the steps in which it acts.
        maps: factors for places, such as the mouth's; None for all alike.
        animate: what else the net and the UNet are told; None for nothing.
        reuse_every: 2 lets what the net gives serve a second step too, window by window and chunk by chunk.
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
        self._kept = _Kept()
        self.sub_idxs: Sequence[int] | None = None  # AnimateDiff-Evolved tells its window here too

    def get_control(self, x_noisy: Tensor, t: Tensor, cond: dict, batched_number: int, transformer_options: dict):
        """What is added to the UNet, from this net and from those chained before it."""
        before = None
        if self.previous_controlnet is not None:
            before = self.previous_controlnet.get_control(x_noisy, t, cond, batched_number, transformer_options)
        frames = self.frames(len(x_noisy) // batched_number, transformer_options)
        mine = self._mine(frames, x_noisy, t, cond, batched_number, transformer_options)
        if self.animate is not None:
            self.animate.look_at(mine)
        return _added(before, mine)

    def _mine(self, frames, x_noisy: Tensor, t: Tensor, cond: dict, batched_number: int, transformer_options: dict):
        """What this net adds, or what it has added a step before."""
        about = (tuple(frames), tuple(x_noisy.shape))
        chunks = tuple(transformer_options.get("uuids") or transformer_options.get("cond_or_uncond") or ())
        if not self._acts(t):
            return None
        kept = self._kept.get(about, chunks, self.reuse_every)
        if kept is not None:
            return kept
        ratio = self.net.compression_ratio
        drawn = self.hints(frames, x_noisy.shape[2] * ratio, x_noisy.shape[3] * ratio)
        dtype = self.net.manual_cast_dtype or getattr(self.net.control_model, "dtype", x_noisy.dtype)
        self.net.cond_hint = self.net.preprocess_image(drawn.to(x_noisy.device, dtype)).repeat(batched_number, 1, 1, 1)
        with nullcontext() if self.animate is None else self.animate.at(self.net.control_model, frames):
            made = self.net.get_control(x_noisy, t, cond, batched_number, transformer_options)
        made = self._weighted(made, frames)
        if made is not None and self.reuse_every > 1:
            self._kept.put(about, chunks, made)
        return made

    def _acts(self, t: Tensor) -> bool:
        span = self.net.timestep_range
        return span is None or span[1] <= float(t[0]) <= span[0]

    def _weighted(self, mine: dict | None, frames: Sequence[int]) -> dict | None:
        if mine is None or self.maps is None:
            return mine

        def weighted(added: Tensor | None) -> Tensor | None:
            if added is None:
                return None
            factors = self.maps(frames, *added.shape[2:]).to(added)
            return added * factors.repeat(len(added) // len(frames), 1, 1, 1)

        return {key: [weighted(added) for added in parts] for key, parts in mine.items()}

    def frames(self, count: int, transformer_options: dict) -> list[int]:
        """Numbers of the frames in a chunk of the batch."""
        return self.cursor.frames(count, transformer_options, self.sub_idxs)

    def pre_run(self, model, percent_to_timestep_function) -> None:
        """Called by ComfyUI before sampling."""
        self.clear_cache()
        super().pre_run(model, percent_to_timestep_function)
        self.net.pre_run(model, percent_to_timestep_function)

    def cleanup(self) -> None:
        """Called by ComfyUI after sampling, but not after an interrupted one."""
        super().cleanup()
        self.net.cleanup()
        self.clear_cache()

    def clear_cache(self) -> None:
        """Drop everything that was made for a run."""
        self._kept = _Kept()
        if self.animate is not None:
            self.animate.clear_cache()

    def get_models(self) -> list:
        """What ComfyUI loads and offloads."""
        own = [] if self.animate is None else [self.animate.patcher]
        return super().get_models() + self.net.get_models() + own

    def inference_memory_requirements(self, dtype) -> float:
        """Bytes besides the weights."""
        return super().inference_memory_requirements(dtype) + self.net.inference_memory_requirements(dtype)

    def copy(self) -> ComfyFrameControl:
        """Another with the same drawings, for another chain."""
        percents = self.net.timestep_percent_range
        made = ComfyFrameControl(
            self.net, self.hints, self.cursor, self.net.strength, percents, self.maps, self.animate, self.reuse_every
        )
        self.copy_to(made)
        made.sub_idxs = self.sub_idxs
        return made


class _Kept:
    """What a net has added a few steps before, for each window and each group of conditions."""

    def __init__(self) -> None:
        self._made: dict[tuple, tuple[int, dict]] = {}

    def get(self, about: tuple, chunks: tuple, every: int) -> dict | None:
        """What may be used once more; None where it must be made again."""
        served, made = self._made.get((about, chunks), (0, None))
        if made is None or served % every == 0:
            return None
        self._made[about, chunks] = (served + 1, made)
        return _copied(made)

    def put(self, about: tuple, chunks: tuple, made: dict) -> None:
        """Keep what was made, instead of anything older about one of these conditions and frames."""
        outdated = [key for key in self._made if key[0][0] == about[0] and set(key[1]) & set(chunks)]
        for key in outdated:
            del self._made[key]
        self._made[about, chunks] = (1, _copied(made))


def _copied(control: dict) -> dict:
    """The UNet takes tensors out of the lists it is given."""
    return {key: list(parts) for key, parts in control.items()}


def with_control(conditionings: Sequence[list], control: ComfyFrameControl) -> tuple[list, ...]:
    """CONDITIONINGs with the control behind whatever control they have already.

    Those behind the same are given the same, so that ComfyUI can run positive and negative in one batch.
    """
    copies: dict[int, ComfyFrameControl] = {}
    made = []
    for conditioning in conditionings:
        rows = []
        for tokens, options in conditioning:
            before = options.get("control")
            chained = copies.setdefault(id(before), control.copy().set_previous_controlnet(before))
            rows.append([tokens, {**options, "control": chained, "control_apply_to_uncond": False}])
        made.append(rows)
    return tuple(made)


def check_control_net(net: object) -> None:
    """Refuse what cannot be handed drawings, or is made for another base model.

    Raises:
        InputError: saying what it is.
    """
    if not isinstance(net, comfy.controlnet.ControlNet):
        raise InputError(f"the CONTROL_NET is a {type(net).__name__}; use a ControlNet for SD1.5.")
    state = net.control_model.state_dict() if net.control_model is not None else {}
    widths = {tensor.shape[1] for name, tensor in state.items() if name.endswith("attn2.to_k.weight")}
    for width in widths & CONTEXT_WIDTHS.keys():
        raise InputError(f"the CONTROL_NET is for {CONTEXT_WIDTHS[width]}; use one for SD1.5.")


def _added(before: dict | None, mine: dict | None) -> dict | None:
    """The sum of two controls' outputs, entry by entry."""
    if before is None or mine is None:
        return before or mine
    made = {}
    for key in ("input", "middle", "output"):
        one, two = before.get(key, []), mine.get(key, [])
        longest = max(len(one), len(two))
        pairs = zip(*((part + [None] * (longest - len(part))) for part in (one, two)), strict=True)
        made[key] = [b if a is None else a if b is None else a + b for a, b in pairs]
    return made
