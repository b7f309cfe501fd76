"""What a PyTorch checkpoint may name besides tensors: the settings of a training, which are passed over.

Training programs put their command line into checkpoints (JoyVASA: argparse.Namespace with pathlib.PosixPath). PyTorch
refuses such files with `weights_only=True` unless the classes are allowed. Here none of these classes is: their names
stand for an object that takes everything and keeps nothing.
"""

from __future__ import annotations

import contextlib

_PATHS = ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")
NAMES = ("argparse.Namespace", *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in _PATHS))


class Setting:
    """Stands for an object of a training's settings; it holds nothing."""

    __slots__ = ()

    def __new__(cls, *_: object) -> Setting:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Forget the state."""


def plain_globals() -> contextlib.AbstractContextManager:
    """Context in which `torch.load(weights_only=True)` passes over a training's settings.

    PyTorch before 2.5 has no such list; there, files with settings are refused.
    """
    import torch

    allow = getattr(torch.serialization, "safe_globals", None)
    return allow([(Setting, name) for name in NAMES]) if allow else contextlib.nullcontext()
