"""Records (landmark tracks, head poses, …) as safetensors files that describe themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, TypeVar

from ..errors import InputError, MediaError
from ..types import Record
from .atomic import whole_file


class Recordable(Protocol):
    """What `types` offers of everything that can be kept in a file."""

    def to_record(self) -> Record:
        """Named tensors and text metadata."""

    @classmethod
    def from_record(cls, tensors: dict, metadata: dict[str, str]) -> Recordable:
        """The record they were made of."""


R = TypeVar("R", bound=Recordable)


def save_record(record: Recordable, path: Path) -> Path:
    """Write a record to a safetensors file, whole or not at all, and return its path.

    Raises:
        OutputError: the file cannot be written.
    """
    from safetensors.torch import save

    tensors, metadata = record.to_record()
    content = save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata)
    with whole_file(Path(path)) as part:
        part.write_bytes(content)
    return Path(path)


def load_record(kind: type[R], path: Path) -> R:
    """Read a record of a kind, such as `LandmarkTrack`.

    Raises:
        MediaError: the file is missing, damaged, or holds something else.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise MediaError(f"{path} does not exist; check the path.")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        return kind.from_record(tensors, metadata)
    except (SafetensorError, OSError) as error:
        raise MediaError(f"{path} is not a readable safetensors file ({error}); make it again.") from error
    except (InputError, ValueError, KeyError) as error:
        raise MediaError(f"{path} cannot be used as a {kind.__name__}: {error}") from error
