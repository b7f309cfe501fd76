"""Hands a user's CONTROL_NET, frame by frame, the drawings that belong to the frames being denoised.

ComfyUI's own gives every context window the drawings of frames 0 to 15, and a batch that is not the first likewise.
"""

from __future__ import annotations

from collections.abc import Sequence

import comfy.controlnet
from torch import Tensor

from ..portraittalk_core.animate.hints import Hints
from ..portraittalk_core.animate.mouth_weight import Maps
from ..portraittalk_core.diffusion.checkpoint import CONTEXT_WIDTHS
from ..portraittalk_core.errors import InputError
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
    """

    def __init__(
        self,
        net: comfy.controlnet.ControlNet,
        hints: Hints,
        cursor: Cursor,
        strength: float = 1.0,
        percents: tuple[float, float] = (0.0, 1.0),
        maps: Maps | None = None,
    ) -> None:
        super().__init__()
        check_control_net(net)
        self.net, self.hints, self.cursor, self.maps = net.copy(), hints, cursor, maps
        self.net.set_previous_controlnet(None)
        self.net.set_cond_hint(None, strength, percents)
        self.sub_idxs: Sequence[int] | None = None  # AnimateDiff-Evolved tells its window here too

    def get_control(self, x_noisy: Tensor, t: Tensor, cond: dict, batched_number: int, transformer_options: dict):
        """What is added to the UNet, from this net and from those chained before it."""
        before = None
        if self.previous_controlnet is not None:
            before = self.previous_controlnet.get_control(x_noisy, t, cond, batched_number, transformer_options)
        frames = self.frames(len(x_noisy) // batched_number, transformer_options)
        ratio = self.net.compression_ratio
        drawn = self.hints(frames, x_noisy.shape[2] * ratio, x_noisy.shape[3] * ratio)
        dtype = self.net.manual_cast_dtype or getattr(self.net.control_model, "dtype", x_noisy.dtype)
        self.net.cond_hint = self.net.preprocess_image(drawn.to(x_noisy.device, dtype)).repeat(batched_number, 1, 1, 1)
        mine = self.net.get_control(x_noisy, t, cond, batched_number, transformer_options)
        return _added(before, self._weighted(mine, frames))

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
        window = transformer_options.get("context_window")
        listed = getattr(window, "index_list", None) or (transformer_options.get("ad_params") or {}).get("sub_idxs")
        listed = listed or self.sub_idxs or range(count)
        if len(listed) != count:
            raise InputError(f"the window names {len(listed)} frames, but {count} are being denoised.")
        return [self.cursor.first + int(index) for index in listed]

    def pre_run(self, model, percent_to_timestep_function) -> None:
        """Called by ComfyUI before sampling."""
        super().pre_run(model, percent_to_timestep_function)
        self.net.pre_run(model, percent_to_timestep_function)

    def cleanup(self) -> None:
        """Called by ComfyUI after sampling."""
        super().cleanup()
        self.net.cleanup()

    def get_models(self) -> list:
        """What ComfyUI loads and offloads."""
        return super().get_models() + self.net.get_models()

    def inference_memory_requirements(self, dtype) -> float:
        """Bytes besides the weights."""
        return super().inference_memory_requirements(dtype) + self.net.inference_memory_requirements(dtype)

    def copy(self) -> ComfyFrameControl:
        """Another with the same drawings, for another chain."""
        percents = self.net.timestep_percent_range
        made = ComfyFrameControl(self.net, self.hints, self.cursor, self.net.strength, percents, self.maps)
        self.copy_to(made)
        made.sub_idxs = self.sub_idxs
        return made


def with_control(conditioning: list, control: ComfyFrameControl) -> list:
    """A CONDITIONING with the control behind whatever control it has already."""
    made = []
    for tokens, options in conditioning:
        chained = control.copy().set_previous_controlnet(options.get("control"))
        made.append([tokens, {**options, "control": chained, "control_apply_to_uncond": False}])
    return made


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
