"""Manifest of a batch: a CSV with one talk, dub or score job a line, read as a stream."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from ..checks import abbreviated
from ..engines.options import option_kinds
from ..errors import InputError
from ..evaluation.options import EvaluationOptions
from ..face.options import FaceOptions
from ..media.files import check_readable
from ..media.options import SoundOptions, WriteOptions
from ..motion.dub_options import OF_THE_FILM, DubOptions
from ..motion.options import MotionOptions
from ..motion.point_files import PointFiles
from ..options import Option, check_option, columns_of
from ..renderers.contract import FILM, PORTRAIT
from ..renderers.registry import DEFAULT, DEFAULTS, renderer_spec, renderer_specs
from ..style.options import StyleUse
from .also import COLUMN as ALSO
from .also import SILENCE, also_pairs, names_mask

TALK, DUB, SCORE = "talk", "dub", "score"
VIDEOS = (".mp4", ".m4v", ".mov", ".mkv")
SUFFIXES = {TALK: VIDEOS, DUB: VIDEOS, SCORE: (".json",)}  # of outputs; the first one is added
FILES = {
    TALK: ("portrait", "speech", "source", "driving"),
    DUB: ("video", "speech"),
    SCORE: ("generated", "target", "portrait"),
}
NEEDED = {TALK: ("portrait", "speech"), DUB: ("video", "speech"), SCORE: ("generated",)}
STANDS_FOR = {"portrait": "source"}  # of a talk job: instead of a portrait, a picture or a video
SOURCES = {TALK: PORTRAIT, DUB: FILM}  # what a job's renderer draws
KINDS = {
    TALK: (MotionOptions, StyleUse, WriteOptions, FaceOptions, DubOptions, SoundOptions, PointFiles, *option_kinds()),
    DUB: (MotionOptions, StyleUse, WriteOptions, FaceOptions, DubOptions, SoundOptions, PointFiles, *option_kinds()),
    SCORE: (EvaluationOptions,),
}  # whose fields are options; of a job that draws, the renderer's are, too
OF_PORTRAITS = (*OF_THE_FILM, *columns_of(PointFiles))  # columns that a film has no use for
ALWAYS = ("job", "out")
COLUMNS = (*ALWAYS, *FILES[TALK], "video", ALSO, "style", "renderer", *FILES[SCORE][:2], "options", "note")
STYLE_FILE = ".safetensors"
UNSAFE = set('/\\:*?"<>|')  # what some system does not allow in a file name
MAX_QUOTED = 120  # characters of a cell or first line that an error quotes
MAX_SHOWN = 400  # characters of a path or name in a message and in the table
MAX_ROW = 131_072  # characters of a row, which may go over several lines
MAX_NAME = 240  # bytes of an output's name; systems take 255, and its note is called after it


@dataclass(frozen=True)
class Need:
    """Dependency of a job: an input file that may be the output of another line."""

    column: str  # in which it is named
    name: str  # file name within the output folder


@dataclass(frozen=True)
class BatchJob:
    """One line of a manifest."""

    line: int  # of the file, from 1
    job: str  # talk, dub or score
    out: str  # file name within the output folder
    files: Mapping[str, Path] = field(default_factory=dict)  # by column; a style's file too
    style: str | None = None  # a name
    options: Mapping[str, object] = field(default_factory=dict)
    renderer: str = DEFAULT  # of a talk or dub job
    names_renderer: bool = False  # whether the line says so itself
    problem: str | None = None  # why it cannot be done, known before any work
    also: tuple[str, ...] = ()  # further faces; "" for a mask in `files`, which has the sounds, too
    needs: tuple[Need, ...] = ()  # files that other lines make
    unmade: str | None = None  # what of them was not made


def read_manifest(path: Path, made_in: Path | None = None) -> Iterator[BatchJob]:
    """The jobs of a manifest, one at a time; paths count from its folder.

    Args:
        path: the manifest.
        made_in: the output folder. Files in it, and bare names of files that are not beside the manifest, may be what
            another line makes: they need not be there, and are told as what the job needs. None: all must be there.

    Columns: ``job`` (talk, dub or score) and ``out``, a file name; for talk ``portrait``, or ``source`` (a picture, or
    a video to be dubbed), ``speech`` and, if wanted, ``driving`` (a video whose head the portrait takes over), ``also``
    (further faces and what they say, see `also.also_pairs`), ``style`` (a name or a .safetensors file) and ``renderer``
    (its options are columns, too); for dub ``video``, ``speech`` and, if wanted, ``also``, ``style`` and ``renderer``;
    for score ``generated`` and, if wanted, ``target`` (without it, what needs no ground truth is measured) and
    ``portrait``. An option stands in a column of its own name, or in the JSON object of the column ``options``; the
    column wins. ``note`` is free text.

    Raises:
        InputError: it cannot be read, lacks a column, or has one that is not known.
    """
    path = Path(os.path.abspath(path))
    for line, cells, problem in _lines(path):
        kind = cells.get("job", "").lower()
        missing = [n for n in NEEDED.get(kind, ()) if n not in cells and STANDS_FOR.get(n, n) not in cells]
        if missing:
            raise InputError(
                f"{path} lacks the column {' and '.join(missing)}, which the {kind} job of line {line} needs."
            )
        try:
            if problem:
                raise InputError(problem)
            job = _job(line, kind, cells, path.parent, made_in)
        except (InputError, RecursionError) as error:  # of options that are nested without end
            job = BatchJob(line, shortened(kind), _out_name(kind, cells["out"]), problem=str(error))
        yield job


class _RowText:
    """Lines of a CSV file for `csv.reader`; keeps what was read since `begin`, and refuses rows without an end."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._length, self.quotes, self.lines = file, 0, 0, 0

    def begin(self) -> None:
        """Begin a row."""
        self._length = self.quotes = self.lines = 0

    def __iter__(self) -> Iterator[str]:
        while line := self.line():
            yield line

    def line(self) -> str:
        """The next line; empty at the end of the file."""
        line = self._file.readline(MAX_ROW + 1)
        self._length, self.quotes = self._length + len(line), self.quotes + line.count('"')
        self.lines += bool(line.strip())
        if self._length > MAX_ROW:
            raise csv.Error(f"a row has more than {MAX_ROW} characters; is a quote not closed?")
        return line


def _lines(path: Path) -> Iterator[tuple[int, dict[str, str], str]]:
    """Line number, cells by column, and what is wrong with the row as such."""
    check_readable(path)
    line = 1
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            text = _RowText(file)
            first = text.line()
            delimiter = max(",;\t", key=first.count)
            columns = [name.strip().lower() for name in next(csv.reader([first], delimiter=delimiter), [])]
            _check_columns(path, first, columns)
            text.begin()
            reader = csv.DictReader(text, columns, delimiter=delimiter, skipinitialspace=True)
            for row in reader:
                too_many = any(row.pop(None, ()))
                cells = {name: (cell or "").strip() for name, cell in row.items()}
                line, problem = reader.line_num + 1, _row_problem(cells, text, too_many)
                text.begin()
                if any(cells.values()):
                    yield line, cells, problem
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path} cannot be read as a manifest below line {line} ({error}); save it as CSV in UTF-8."
        ) from error


def _row_problem(cells: Mapping[str, str], text: _RowText, too_many: bool) -> str:
    """What is wrong with a row as such; empty: nothing."""
    if text.lines > 1 and text.quotes % 2:
        return f"a quote that is not closed made one of {text.lines} lines, of which this is the last; close it"
    if unprintable := [name for name, cell in cells.items() if "\0" in cell]:
        return f"the column {unprintable[0]} holds a NUL, which no text has; save the file as CSV in UTF-8"
    return "there are more cells than columns; put a cell that holds the delimiter into quotes" if too_many else ""


def _check_columns(path: Path, first: str, columns: list[str]) -> None:
    if missing := [name for name in ALWAYS if name not in columns]:
        actual = f"the first line is {first.strip()[:MAX_QUOTED]!r}" if first.strip() else "it is empty"
        raise InputError(
            f"{path} lacks the column{'s' * (len(missing) > 1)} {' and '.join(missing)}: {actual}. The first line must "
            "name the columns: job,out and portrait,speech (talk), video,speech (dub) or generated,target (score)."
        )
    if twice := [name for name in dict.fromkeys(columns) if name and columns.count(name) > 1]:
        raise InputError(f"{path} has the column {twice[0]} twice; leave one out.")
    allowed = (*COLUMNS, *all_columns())
    if unknown := [name for name in columns if name and name not in allowed]:
        raise InputError(
            f"{path} has the column {unknown[0]!r}, which means nothing here; known are "
            f"{', '.join(dict.fromkeys(allowed))} (note is free text)."
        )


def _job(line: int, kind: str, cells: dict[str, str], folder: Path, made_in: Path | None) -> BatchJob:
    if kind not in SUFFIXES:
        raise InputError(f"the job must be talk, dub or score, not {abbreviated(kind)}")
    out = _out_file(kind, cells["out"])
    named = {name: cells[name] for name in FILES[kind] if cells.get(name)}  # files, as they stand in the cells
    also = also_pairs(cells.get(ALSO, "")) if kind in SOURCES else []
    named |= {pair.sound_key: pair.sound for pair in also if pair.sound != SILENCE}
    files = {name: folder / text for name, text in named.items()}
    needs = tuple(_needs(named, files, made_in)) if made_in else ()
    missing = [name for name in NEEDED[kind] if name not in files and STANDS_FOR.get(name, name) not in files]
    if missing:
        raise InputError(f"the {kind} job names no {' and no '.join(missing)}")
    if "portrait" in files and "source" in files:
        raise InputError("the talk job names both a portrait and a source, which are the same thing; leave one out")
    style = cells.get("style") or None if kind in SOURCES else None
    if style and Path(style).suffix:
        if Path(style).suffix != STYLE_FILE:
            raise InputError(
                f"the style {shortened(style)} is no name and no {STYLE_FILE}; make one with `portraittalk style`"
            )
        files["style"], style = folder / style, None
    dependent = {need.column for need in needs}
    renderer_name = cells.get("renderer") if kind in SOURCES else None
    renderer = renderer_name or DEFAULTS[SOURCES.get(kind, PORTRAIT)]
    allowed = job_options(kind, renderer)
    options = _options(kind, cells, allowed)
    for name in [name for name in options if allowed[name].kind is Path and not allowed[name].many]:
        files[name] = folder / str(options.pop(name))  # files count by their content
    if names_mask(options.get("face")):
        files["face"] = folder / options.pop("face")
    files |= {pair.face_key: folder / pair.face for pair in also if names_mask(pair.face)}
    faces = tuple("" if names_mask(pair.face) else pair.face for pair in also)
    absent = [
        not_there(name, path)
        for name, path in files.items()
        if name not in dependent and not is_file(path) and not (name in allowed and os.path.isdir(path))
    ]
    if absent:
        raise InputError("; ".join(absent))
    return BatchJob(line, kind, out, files, style, options, renderer, bool(renderer_name), also=faces, needs=needs)


def job_options(kind: str, renderer: str = DEFAULT) -> Mapping[str, Option]:
    """The options of a job by column; of a talk or dub job the renderer's, too.

    Raises:
        InputError: there is no such renderer.
    """
    more = (renderer_spec(renderer, SOURCES[kind]).options,) if kind in SOURCES else ()
    options = columns_of(*KINDS[kind], *more)
    return {name: options[name] for name in options if name not in OF_PORTRAITS} if kind == DUB else options


def all_columns() -> tuple[str, ...]:
    """The columns of every option of every kind of job."""
    drawing = (spec.options for source in SOURCES.values() for spec in renderer_specs(source))
    kinds = dict.fromkeys((*KINDS[TALK], *KINDS[DUB], *drawing, *KINDS[SCORE]))
    return tuple(columns_of(*kinds))


def _needs(named: dict[str, str], files: dict[str, Path], made_in: Path) -> Iterator[Need]:
    """Dependencies of a job: videos of the output folder, or named as another line names its output."""
    for column, path in files.items():
        name = path.name if path.suffix else path.name + SUFFIXES[TALK][0]
        bare = "/" not in named[column] and "\\" not in named[column]
        may_be = (bare and not is_file(path)) or os.path.realpath(path.parent) == str(made_in)
        if may_be and Path(name).suffix.lower() in SUFFIXES[TALK]:
            yield Need(column, name)


def _out_file(kind: str, name: str) -> str:
    if not name or name.startswith(".") or name.endswith(".") or UNSAFE & set(name) or not name.isprintable():
        raise InputError(f"out must be a plain file name for the output folder, not {abbreviated(name)}")
    suffixes = SUFFIXES[kind]
    name = name if Path(name).suffix.lower() in suffixes else name + suffixes[0]
    if len(name.encode()) > MAX_NAME:
        raise InputError(f"out has {len(name.encode())} bytes, and a file name at most {MAX_NAME}: {abbreviated(name)}")
    return name


def _out_name(kind: str, name: str) -> str:
    """Output name of a line with a problem; the cell itself if the name is the problem."""
    try:
        return _out_file(kind, name) if kind in SUFFIXES else shortened(name)
    except InputError:
        return shortened(name)


def _options(kind: str, cells: dict[str, str], allowed: Mapping[str, Option]) -> dict[str, object]:
    try:
        options = json.loads(cells.get("options") or "{}")
    except (ValueError, RecursionError) as error:
        raise InputError(f"options {cells['options'][:MAX_QUOTED]!r} is not JSON ({error})") from error
    if not isinstance(options, dict):
        raise InputError(f'options must be a JSON object such as {{"seed": 3}}, not {cells["options"][:MAX_QUOTED]!r}')
    options |= {name: _value(cell) for name, cell in cells.items() if cell and name not in COLUMNS}
    for name, value in options.items():
        if name not in allowed:
            raise InputError(f"a {kind} job has no option {abbreviated(name)}; it has {', '.join(allowed)}")
        _check_value(allowed[name], value)
    return options


def _check_value(option: Option, value: object) -> None:
    if option.many and not isinstance(value, list):
        raise InputError(f'{option.column} must be a list such as ["a", "b"], not {abbreviated(value)}')
    if option.whole and type(value) is not int:  # 3.0 is no count either
        raise InputError(f"{option.column} must be a whole number, not {abbreviated(value)}")
    try:
        for single in value if option.many else (value,):
            check_option(option, single, option.column)
    except InputError as error:
        raise InputError(str(error).rstrip(".")) from error


def _value(cell: str) -> object:
    """Value of a cell: a number, true or false, or text such as 30000/1001."""
    try:
        return json.loads(cell.lower())
    except (ValueError, RecursionError):
        return cell


def is_file(path: Path) -> bool:
    """Whether a file is there; a name that no file can have is none."""
    return os.path.isfile(path)  # Path.is_file raises where the name is too long


def not_there(column: str, path: Path) -> str:
    """What is wrong with a file that a column names."""
    return f"the {column} {shortened(path)} {'is a folder, no file' if os.path.isdir(path) else 'does not exist'}"


def shortened(text: object) -> str:
    """A cell or path for a message and the table, as it is unless it is very long."""
    text = str(text).replace("\0", "\\0")
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
