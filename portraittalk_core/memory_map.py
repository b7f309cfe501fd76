"""Memory-mapped tensors: long tables of numbers in temporary files, such as the landmarks of a film of an hour.

A table looks like any tensor; its values lie in a file without a name, which is gone with the process, however that
ends. What was looked at stays in memory until `release_memory`.
"""

from __future__ import annotations

import math
import mmap
import os
import sys
import tempfile
import weakref
from typing import BinaryIO

import torch
from torch import Tensor

from .errors import OutputError

MOST_IN_MEMORY = 16_000_000  # bytes; larger tables lie in a file
BLOCK = 256  # rows that are written at once
CHUNK = 1_000_000  # numbers that are copied at once
ITEM = 4  # bytes of a float32

_tables: weakref.WeakKeyDictionary[mmap.mmap, range] = weakref.WeakKeyDictionary()  # and their places in memory


def mapped_tensor(*shape: int) -> Tensor:
    """A float32 tensor whose values are not set, in memory where it is small.

    Args:
        shape: of all axes.

    Raises:
        OutputError: the disk is full.
    """
    num_bytes = ITEM * math.prod(shape)
    if num_bytes <= MOST_IN_MEMORY:
        return torch.empty(shape)
    with _new_file() as file:
        try:
            _reserve(file, num_bytes)
        except OSError as error:
            raise _full(num_bytes, error) from error
        return _mapped(file, num_bytes).view(shape)


def release_memory() -> None:
    """Let the system take back the memory of all tables, whose values stay in their files; costs microseconds."""
    if sys.platform == "linux":
        for table in list(_tables.keys()):
            table.madvise(mmap.MADV_DONTNEED)


def extended(row: Tensor, length: int) -> Tensor:
    """(length,) a row of numbers (N,) float32, cut off or with zeros behind, in a table like `mapped_tensor`.

    Where it need not be longer, and is small or in a table already, it is not copied.
    """
    is_small = ITEM * length <= MOST_IN_MEMORY
    if len(row) >= length and (is_small or any(row.data_ptr() in place for place in list(_tables.values()))):
        return row[:length]
    table, count = mapped_tensor(length), min(length, len(row))
    table[count:] = 0
    for start in range(0, count, CHUNK):
        table[start : min(start + CHUNK, count)] = row[start : min(start + CHUNK, count)]
        release_memory()
    return table


def gathered(table: Tensor, order: Tensor) -> Tensor:
    """(N, …) rows of a table in another order, in a table like `mapped_tensor`.

    Args:
        table: (T, …) float32.
        order: (N,) row numbers.
    """
    rows = mapped_tensor(len(order), *table.shape[1:])
    for start in range(0, len(order), BLOCK):
        rows[start : start + BLOCK] = table[order[start : start + BLOCK]]
        release_memory()
    return rows


class MappedRows:
    """Gathers rows whose number is not known; beyond `MOST_IN_MEMORY` they lie in a file.

    Args:
        shape: of a row.
    """

    def __init__(self, *shape: int) -> None:
        self._shape, self._count = shape, 0
        self._blocks: list[Tensor] = []  # large ones: small ones would scatter memory
        self._file: BinaryIO | None = None
        self._most_blocks = max(1, MOST_IN_MEMORY // (ITEM * BLOCK * math.prod(shape)))

    def __len__(self) -> int:
        return self._count

    def add(self, row: Tensor | None) -> None:
        """Take the next row; None: zeros.

        Raises:
            OutputError: the disk is full.
        """
        at = self._count % BLOCK
        if at == 0:
            if len(self._blocks) >= self._most_blocks:
                self._write()
            self._blocks.append(torch.zeros(BLOCK, *self._shape))
        if row is not None:
            self._blocks[-1][at] = row
        self._count += 1

    def table(self) -> Tensor:
        """(T, …) all rows; what was gathered is given up.

        Raises:
            OutputError: the disk is full.
        """
        if self._file is None:
            table, self._blocks = torch.cat(self._blocks)[: self._count], []
            return table
        self._write()
        with self._file as file:
            file.flush()
            return _mapped(file, os.fstat(file.fileno()).st_size).view(-1, *self._shape)[: self._count]

    def _write(self) -> None:
        self._file = self._file or _new_file()
        try:
            for block in self._blocks:
                self._file.write(memoryview(block.numpy()).cast("B"))
        except OSError as error:
            raise _full(ITEM * self._count * math.prod(self._shape), error) from error
        self._blocks = []


def _new_file() -> BinaryIO:
    """A file without a name, on a disk: where temporary files are kept in memory, in the folder for large ones."""
    folder = None if os.environ.get("TMPDIR") or not os.access("/var/tmp", os.W_OK) else "/var/tmp"  # noqa: S108
    try:
        return tempfile.TemporaryFile(dir=folder)
    except OSError as error:
        raise _full(MOST_IN_MEMORY, error) from error


def _reserve(file: BinaryIO, num_bytes: int) -> None:
    """Make a file so long; a full disk is an error here, since later it would end the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, num_bytes)
        return
    zeros = bytes(1 << 20)
    for start in range(0, num_bytes, len(zeros)):
        file.write(zeros[: num_bytes - start])
    file.flush()


def _mapped(file: BinaryIO, num_bytes: int) -> Tensor:
    """(N,) float32 on a file's bytes, which it keeps open."""
    table = mmap.mmap(file.fileno(), num_bytes)
    values = torch.frombuffer(table, dtype=torch.float32)
    _tables[table] = range(values.data_ptr(), values.data_ptr() + num_bytes)
    return values


def _full(num_bytes: int, error: OSError) -> OutputError:
    return OutputError(
        f"a temporary file of {num_bytes / 1e6:.0f} MB in {tempfile.gettempdir()} cannot be written ({error}): a long "
        "film's landmarks lie there; make room, or set TMPDIR to a folder of another disk."
    )
