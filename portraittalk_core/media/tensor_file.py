"""Tensors as a safetensors file that appears whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from .files import atomic_write


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> Path:
    """Write tensors, of any device and layout, and return the path.

    Args:
        tensors: by name; their types stay.
        path: of the file; what is there is replaced at the end.
        metadata: texts beside them.

    Raises:
        OutputError: the file cannot be written.
    """
    from safetensors.torch import save

    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, dict(metadata or {}))
    with atomic_write(Path(path)) as part:
        part.write_bytes(content)
    return Path(path)
