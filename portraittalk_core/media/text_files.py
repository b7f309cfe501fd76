"""Text files that users give: read up to a size, and parsed as JSON, TOML or CSV up to a depth.

A few megabytes of brackets or of dotted keys fill gigabytes, or end the parser by its own recursion; both are told
before anything is parsed.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ..checks import abbreviated
from ..errors import InputError, MissingDependency

MAX_BYTES = 2**24
MAX_CONFIG_BYTES, MAX_TABLE_BYTES = 2**20, 2**22
MAX_DEPTH = 64  # of brackets, and of the parts of a dotted key
MAX_FIELD = 2**17 - 1  # letters of a cell, Python's own limit
_TOKENS = re.compile(r'\\.|["\[\]{}]', re.DOTALL)
_NESTING = {"[": 1, "{": 1, "]": -1, "}": -1}
_PART = r"(?:[\w-]+|\"[^\"\n]*\"|'[^'\n]*')"
_DEEP_KEY = re.compile(rf"(?<![\w-]){_PART}(?:[ \t]*\.[ \t]*{_PART}){{{MAX_DEPTH}}}")


@dataclass(frozen=True)
class Table:
    """A CSV file: its first line, the column names in lower case, and the cells of every further line that has some."""

    first: str
    columns: Sequence[str]
    rows: Sequence[tuple[int, Mapping[str, str]]]  # number of the line's end in the file, cells


def read_text(path: Path, what: str, advice: str, max_bytes: int = MAX_BYTES) -> str:
    """Text of a UTF-8 file; a mark at its beginning is left out.

    Args:
        path: of the file.
        what: it holds, for messages: "the gain points".
        advice: what to give instead, the end of the message.
        max_bytes: that are read; a larger file is refused unread.

    Raises:
        InputError: not there, a folder, a device or pipe, too large, not UTF-8, or not readable.
    """
    path = Path(path)
    try:
        if not path.is_file():
            reason = "it is a device or pipe" if path.exists() else "there is no such file"
            raise InputError(f"{what} {path} cannot be read ({'a folder' if path.is_dir() else reason}); {advice}.")
        size = path.stat().st_size
        if size > max_bytes:
            raise InputError(
                f"{what} {path} cannot be read: the file has {size / 2**20:.1f} MB, {max_bytes / 2**20:g} MB are "
                f"allowed; {advice}."
            )
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)  # a file may grow, or tell no size, as those in /proc
        if len(content) > max_bytes:
            raise InputError(f"{what} {path} cannot be read: it has no end within {max_bytes / 2**20:g} MB; {advice}.")
        return content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{what} {path} cannot be read ({error}); {advice}.") from error


def parse_json(text: str, what: str, advice: str) -> Any:  # noqa: ANN401 - what JSON can hold
    """JSON of a text, at most MAX_DEPTH brackets deep.

    Raises:
        InputError: no JSON, or nested deeper.
    """
    check_depth(text, what)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{what} is not JSON ({error}); {advice}.") from error


def parse_toml(text: str, what: str) -> dict[str, Any]:
    """TOML of a text; brackets and dotted keys are at most MAX_DEPTH deep.

    Raises:
        InputError: no TOML, or nested deeper.
        MissingDependency: Python 3.10 without tomli.
    """
    toml = toml_reader()
    check_depth(text, what)
    if deep := _DEEP_KEY.search(text):
        raise InputError(f"{what} holds a key of more than {MAX_DEPTH} parts: {abbreviated(deep[0])}.")
    try:
        return toml.loads(text)
    except (toml.TOMLDecodeError, ValueError, RecursionError) as error:
        raise InputError(f"{what} is not valid TOML: {error}.") from error


def parse_csv(text: str, what: str) -> Table:
    """Table of a text whose first line names the columns; cells are separated by comma, semicolon or tab.

    Raises:
        InputError: a cell is longer than MAX_FIELD letters, or its quotes are wrong.
    """
    first = text.splitlines()[0] if text.strip() else ""
    delimiter = max(",;\t", key=first.count)
    try:
        columns = [name.strip().lower() for name in next(csv.reader([first], delimiter=delimiter), [])]
        reader = csv.DictReader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
        rows = [(reader.line_num, cells) for line in reader if any((cells := _cells(line)).values())]
    except csv.Error as error:
        raise InputError(f"{what} cannot be read ({error}); save it as CSV in UTF-8.") from error
    return Table(first, columns, rows)


def check_depth(text: str, what: str) -> None:
    """Check that brackets outside of double quotes are nested at most MAX_DEPTH deep.

    Raises:
        InputError: they are nested deeper.
    """
    depth, quoted = 0, False
    for match in _TOKENS.finditer(text):
        quoted ^= match[0] == '"'
        depth += 0 if quoted else _NESTING.get(match[0], 0)
        if depth > MAX_DEPTH:
            raise InputError(f"{what} is nested more than {MAX_DEPTH} brackets deep; nothing that is read here is.")


def toml_reader() -> ModuleType:
    """Python's reader of TOML.

    Raises:
        MissingDependency: Python 3.10 without tomli.
    """
    try:
        import tomllib
    except ImportError:  # Python 3.10
        try:
            import tomli as tomllib
        except ImportError as error:
            raise MissingDependency("tomli is not installed; run: pip install tomli") from error
    return tomllib


def _cells(line: Mapping[str | None, object]) -> dict[str, str]:
    return {str(k).strip().lower(): v.strip() for k, v in line.items() if k is not None and isinstance(v, str)}
