"""Selection of the device and dtype of networks."""

from __future__ import annotations

import torch

from ..errors import InputError

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def select_device(device: str | None = None, precision: str = "auto") -> tuple[str, torch.dtype]:
    """Select the device and dtype of networks.

    Args:
        device: as torch names it; None takes the fastest there is.
        precision: fp32, fp16 or bf16; auto is fp16, on the CPU fp32.

    Raises:
        InputError: no such device here.
    """
    fastest = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = device or fastest
    if str(device).partition(":")[0] == "meta":  # torch's device of shapes without numbers
        raise InputError(f"`device` {device} cannot be used here (it computes nothing); try cpu.")
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, ValueError, ImportError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(f"`device` {device} cannot be used here ({reason}); try cpu.") from error
    selected = precision if precision != "auto" else "fp32" if device == "cpu" else "fp16"
    return device, DTYPES[selected]
