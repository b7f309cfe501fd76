"""File form of a record: named tensors and text metadata."""

from __future__ import annotations

from torch import Tensor

from ..errors import InputError

Record = tuple[dict[str, Tensor], dict[str, str]]


def check_record_kind(metadata: dict[str, str], kind: str) -> None:
    """Check that a file's metadata is that of a kind of record; one that names no kind passes.

    Raises:
        InputError: with both kinds.
    """
    stored_kind = metadata.get("kind", kind)
    if stored_kind != kind:
        raise InputError(f"this file holds a {stored_kind}, not a {kind}; give a {kind} file.")
