"""Where public weights are kept, by the names that several texts give; all are on Hugging Face."""

from __future__ import annotations

LIVEPORTRAIT = "KlingTeam/LivePortrait"  # as its makers' README has it; it was KwaiVGI once
LIVEPORTRAIT_SAFETENSORS = "Kijai/LivePortrait_safetensors"  # the same as safetensors, as ComfyUI users have it
LIVEPORTRAIT_EITHER = f"{LIVEPORTRAIT} or {LIVEPORTRAIT_SAFETENSORS}"
