"""Records (landmark tracks, head poses, …) as safetensors files that describe themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, TypeVar

from ..errors import InputError, MediaError
from ..types import Record
from .files import check_readable
from .tensor_file import save_tensors


class Recordable(Protocol):
    """Protocol of the records of `types` that can be saved."""

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
    tensors, metadata = record.to_record()
    return save_tensors(tensors, path, metadata)


def record_kind(path: Path) -> str:
    """What kind of record a file says it holds, such as "LandmarkTrack"; empty where it does not say.

    Raises:
        MediaError: the file is missing, or no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    path = check_readable(path)
    try:
        with safe_open(str(path), framework="pt") as file:
            return (file.metadata() or {}).get("kind", "")
    except (SafetensorError, OSError) as error:
        raise MediaError(
            f"{path} is not a readable safetensors file ({error}); give one that PortraitTalk made."
        ) from error


def load_record(kind: type[R], path: Path) -> R:
    """Read a record of a kind, such as `LandmarkTrack`.

    Raises:
        MediaError: the file is missing, damaged, or holds something else, or more.
    """
    from safetensors import SafetensorError, safe_open

    path = check_readable(path)
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            # Cloned: what safetensors gives may lie in the mapped file, which Windows then would not let us replace.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise MediaError(
            f"{path} is not a readable safetensors file ({error}); give one that PortraitTalk made."
        ) from error
    try:
        record = kind.from_record(tensors, metadata)
    except KeyError as error:
        raise MediaError(f"{path} cannot be used as a {kind.__name__}: it lacks {error}; make it again.") from error
    except (InputError, ValueError, TypeError, OverflowError) as error:
        raise MediaError(f"{path} cannot be used as a {kind.__name__}: {error}") from error
    unknown = sorted(tensors.keys() - record.to_record()[0].keys())
    if unknown:
        raise MediaError(
            f"{path} cannot be used as a {kind.__name__}: it also holds {', '.join(unknown)}; make it again."
        )
    return record
