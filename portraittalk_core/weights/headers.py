"""Names and shapes of what a weight file holds, read from its header alone; nothing inside it is run."""

from __future__ import annotations

import json
import mmap
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

Shapes = dict[str, tuple[int, ...]]  # name → shape

MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit
NAMELESS = ("state_dict", "model", "module")  # levels of nested checkpoints that add nothing to a name


def read_shapes(path: Path) -> Shapes:
    """Tensors of a weight file by name, whatever the file is called.

    Knows safetensors, PyTorch's zip files, ONNX (inputs and outputs), MATLAB 5 (variables) and other zip archives
    (members, with their size in bytes).

    Returns:
        Nothing for a file of another kind, a damaged one, or a pickle that wants to run code.
    """
    try:
        with path.open("rb") as file:
            start = file.read(9)
        if zipfile.is_zipfile(path):
            return _zip_shapes(path)
        if start[8:9] == b"{":
            return _safetensors_shapes(path)
        if start.startswith(b"MATLAB 5"):
            return _matlab_shapes(path)
        return _onnx_shapes(path) if start.startswith(b"\x08") else {}
    except Exception:  # damaged files make their readers raise anything, and all mean: not a file we know
        return {}


def _safetensors_shapes(path: Path) -> Shapes:
    """Tensors of a safetensors file: eight bytes of header length, then the JSON header."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(MAX_HEADER_BYTES, path.stat().st_size):
            return {}
        header = json.loads(file.read(length))
    return {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}


def _zip_shapes(path: Path) -> Shapes:
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: (member.file_size,) for member in archive.infolist()}
    if not any(name.endswith("data.pkl") for name in members):
        return members
    import torch

    return dict(_walk(torch.load(path, map_location="meta", weights_only=True, mmap=True), ""))


def _walk(content: object, prefix: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Tensors in nested dicts, by dotted name."""
    if not isinstance(content, dict):
        return
    for name, value in content.items():
        if hasattr(value, "shape"):
            yield f"{prefix}{name}", tuple(value.shape)
        else:
            yield from _walk(value, prefix if name in NAMELESS else f"{prefix}{name}.")


def _matlab_shapes(path: Path) -> Shapes:
    from scipy.io import whosmat

    return {name: tuple(shape) for name, shape, _ in whosmat(str(path))}


def _onnx_shapes(path: Path) -> Shapes:
    """Inputs and outputs of the graph; a size that is not fixed is 0.

    Source: onnx.proto: model.graph is field 7; its inputs and outputs are 11 and 12; value.name 1, value.type 2;
    type.tensor_type 1; tensor_type.shape 2; shape.dim 1; dim.dim_value 1.
    """
    shapes: Shapes = {}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for graph in parts(content, (0, len(content)), 7):
            for value in (*parts(content, graph, 11), *parts(content, graph, 12)):
                name = b"".join(content[slice(*part)] for part in parts(content, value, 1)).decode()
                spans = [value]
                for field in (2, 1, 2, 1):
                    spans = [part for span in spans for part in parts(content, span, field)]
                shapes[name] = tuple(next(parts(content, dim, 1), (0, 0))[0] for dim in spans)
    return shapes


def parts(content: mmap.mmap, span: tuple[int, int], field_number: int) -> Iterator[tuple[int, int]]:
    """Fields of a protobuf message that lies at start..end: (start, end) of a nested one, (value, 0) of a number.

    Args:
        content: the file.
        span: start and end of the message in it.
        field_number: the fields' number.
    """
    at, end = span
    while at < end:
        key, at = _number(content, at)
        field, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _number(content, at)
            part = value, 0
        else:
            length, at = _number(content, at) if wire == 2 else ({1: 8, 5: 4}[wire], at)
            part = at, at + length
            at += length
        if field == field_number:
            yield part


def _number(content: mmap.mmap, at: int) -> tuple[int, int]:
    """A base-128 number, lowest seven bits first, and where it ends."""
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
