"""Names and shapes of what a weight file holds, read from its header alone; nothing inside it is run."""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import pickletools
import re
import struct
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError
from .plain_globals import plain_globals

Shapes = dict[str, tuple[int, ...]]  # name → shape

MAX_HEADER_BYTES = 16_000_000  # of a safetensors file; those of SDXL have 0.3 MB
MAX_PICKLE_BYTES, MAX_PICKLE_STEPS = 8_000_000, 2_000_000  # of the list of a PyTorch file's tensors; real ones: 1 MB
MAX_GROWTH, SMALL_BYTES = 4, 2**26  # how far content may grow over its file, and what is never too much
MAX_MEMBERS = 100_000  # of an archive; PyTorch's have one a tensor
MAX_LEVELS, MAX_ENTRIES = 16, 200_000  # of nested checkpoints
_PROGRAM = re.compile(r"(^|/)constants\.pkl$|(^|/)code/")  # in a TorchScript archive
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
    check_sizes(path)
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: (member.file_size,) for member in archive.infolist()}
    if not any(name.endswith("data.pkl") for name in members):
        return members
    import torch

    with plain_globals():
        content = torch.load(path, map_location="meta", weights_only=True, mmap=True)
    shaped = ((names, value) for names, value in nested_entries(content) if names and hasattr(value, "shape"))
    return {shortened(names): tuple(value.shape) for names, value in shaped}


def nested_entries(content: object) -> Iterator[tuple[tuple[str, ...], object]]:
    """What lies in nested dicts and is no dict: the names that lead to it, and the value.

    Raises:
        InputError: it is nested too deep, or dicts that hold each other hold too much.
    """
    waiting, count = [((), content)], 0
    while waiting:
        names, value = waiting.pop()
        count += 1
        if len(names) > MAX_LEVELS or count > MAX_ENTRIES:
            raise InputError(f"it is nested more than {MAX_LEVELS} levels deep, or holds more than {MAX_ENTRIES} parts")
        if isinstance(value, dict):
            waiting += [((*names, str(name)), part) for name, part in reversed(value.items())]
        else:
            yield names, value


def shortened(names: Iterable[str]) -> str:
    """Names of levels and of a tensor joined by dots, without levels that add nothing."""
    *levels, last = names
    return ".".join((*(level for level in levels if level not in NAMELESS), last))


def check_sizes(path: Path) -> None:
    """Check, before anything is unpacked, what a weight file says it will become.

    Raises:
        InputError: it would fill the memory (an archive or a MATLAB file that grows, an enormous list of tensors), or
            it is a program.
        Exception: as the readers of damaged files raise.
    """
    size = path.stat().st_size
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        if any(_PROGRAM.search(member.filename) for member in members):  # which torch.load would hand to torch.jit.load
            raise InputError("it is a program (TorchScript), and no program in a file is run")
        if len(members) > MAX_MEMBERS:
            raise InputError(f"it is an archive of {len(members)} files; weight files have at most {MAX_MEMBERS}")
        longest = max((member.file_size for member in members if member.filename.endswith(".pkl")), default=0)
        if longest > MAX_PICKLE_BYTES:
            raise InputError(
                f"its list of tensors has {longest / 1e6:.0f} MB; {MAX_PICKLE_BYTES / 1e6:.0f} MB are allowed"
            )
        _check_growth(sum(member.file_size for member in members), size)
        return
    with path.open("rb") as file:
        start = file.read(9)
        if start.startswith(b"MATLAB 5"):
            _check_growth(sum(8 * math.prod(shape) for shape in _matlab_shapes(path).values()), size)
            return
        file.seek(0)
        if _count_steps(file) > MAX_PICKLE_STEPS:
            raise InputError(f"its list of tensors has over {MAX_PICKLE_STEPS:,} steps, as no weight file's has")


def _check_growth(becomes: int, size: int) -> None:
    if becomes > MAX_GROWTH * size + SMALL_BYTES:
        raise InputError(f"it would grow from {size / 1e6:.1f} MB to {becomes / 1e6:,.0f} MB, as no weights do")


def _count_steps(file: BinaryIO) -> int:
    """Steps of a PyTorch file of before 2020, four pickles and then numbers, up to the limit; none is taken."""
    steps = 0
    with contextlib.suppress(ValueError):  # no pickle, or a damaged one, as its reader will say
        for _ in range(4):
            for _ in pickletools.genops(file):
                steps += 1
                if steps > MAX_PICKLE_STEPS:
                    return steps
    return steps


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
