"""The settings of IdentityNet's fine-tuning, and how they are read from a TOML file."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, UnionType
from typing import Any, TypeVar

from ...checks import abbreviated, check_choice, check_range, is_finite_number
from ...errors import InputError, MissingDependency
from ...losses.masked_reconstruction import MODES
from ..loop.config import TrainerConfig

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class IdentityTraining:
    """What to train IdentityNet on, from what, and how."""

    checkpoint: Path  # any single-file SD1.5
    data: Path  # one folder per person, with pictures and, where wanted, captions: anna/1.jpg, anna/1.txt
    out: Path  # folder for the adapter, checkpoints, samples and the log
    adapter: Path | None = None  # faceid or portrait file to start from; None is a new faceid of 4 tokens
    train_lora: bool = False  # of the UNet's own attentions too, as the public faceid files have it
    rank: int = 128  # of that LoRA
    resolution: int = 512  # pixels; pictures are scaled and cut to this square
    mask_patch: int = 16  # pixels
    mask_ratio: tuple[float, float] = (0.1, 0.5)  # share of patches that is hidden, uniform between these
    mode: str = "reconstruct"  # of the loss; "paper" is Eq. 1 as printed
    snr_limit: float = 5.0  # of the loss's weight, see there; 0 weighs all noise levels alike, as Eq. 1 does
    drop_image: float = 0.05  # share of pictures that are shown without the face,
    drop_text: float = 0.05  # … without the caption,
    drop_both: float = 0.05  # … without either
    cache_latents: bool = False  # of the whole pictures, in memory: 64 KB for each at 512 pixels
    gradient_checkpointing: bool = False  # less memory, about a third slower
    face_models: Path | None = None  # folder with InsightFace's buffalo_l, for pictures without an embedding file
    tokenizer: Path | None = None  # folder with CLIP's, for captions; None looks where diffusion.text does
    trainer: TrainerConfig = field(default_factory=TrainerConfig)

    def __post_init__(self) -> None:
        check_choice(self.mode, MODES, "mode")
        check_range(self.rank, 1, 1024, "rank")
        check_range(self.resolution, 64, 2048, "resolution")
        if self.resolution % 64:
            raise InputError(f"resolution must be a multiple of 64, not {self.resolution}.")
        check_range(self.mask_patch, 1, self.resolution, "mask_patch")
        low, high = (check_range(share, 0, 1, "mask_ratio") for share in self.mask_ratio)
        if low > high:
            raise InputError(f"mask_ratio must be two shares, the smaller one first, not {low:g}, {high:g}.")
        check_range(self.snr_limit, 0, 1e6, "snr_limit")
        for name in ("drop_image", "drop_text", "drop_both"):
            check_range(getattr(self, name), 0, 1, name)
        if self.drop_image + self.drop_text + self.drop_both > 1:
            raise InputError("drop_image, drop_text and drop_both are more than 1 together; lower them.")


def load_config(path: Path) -> IdentityTraining:
    """Read the settings from a TOML file; relative paths in it start at its own folder.

    Raises:
        InputError: not there, no TOML, an unknown or absent name, or a value of another type or out of range.
        MissingDependency: Python 3.10 without tomli.
    """
    return read_settings(IdentityTraining, read_toml(path), Path(path))


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file holds.

    Raises:
        InputError: not there, or no TOML.
        MissingDependency: Python 3.10 without tomli.
    """
    path, toml = Path(path), toml_reader()
    if not path.is_file():
        raise InputError(f"there is no configuration file {path}.")
    try:
        return toml.loads(path.read_text(encoding="utf-8"))
    except (toml.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid TOML: {error}.") from error


def read_settings(kind: type[Settings], content: Mapping[str, Any], path: Path, prefix: str = "") -> Settings:
    """A dataclass of settings from the tables of a TOML file.

    Args:
        kind: a dataclass; its fields' types are held strictly, its dataclass fields are tables.
        content: what the file holds.
        path: of the file, for messages and relative paths.
        prefix: of the names in messages.

    Raises:
        InputError: with every name that is unknown, absent or of another type.
    """
    types, fields = typing.get_type_hints(kind), {f.name: f for f in dataclasses.fields(kind)}
    unknown = [f"{prefix}{name}" for name in content if name not in fields]
    if unknown:
        raise InputError(f"{path} holds unknown names: {', '.join(unknown)}. Known are {', '.join(fields)}.")
    blank = dataclasses.MISSING
    absent = [n for n, f in fields.items() if n not in content and f.default is blank and f.default_factory is blank]
    if absent:
        raise InputError(f"{path} lacks {', '.join(prefix + name for name in absent)}.")
    values = {name: _value(types[name], value, f"{prefix}{name}", path) for name, value in content.items()}
    try:
        return kind(**values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _value(kind: Any, value: Any, name: str, path: Path) -> Any:  # noqa: ANN401 - whatever the field holds
    if isinstance(kind, UnionType):  # X | None; TOML has no null, who wants None leaves the name out
        (kind,) = (part for part in typing.get_args(kind) if part is not type(None))
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return read_settings(kind, value, path, f"{name}.")
    if kind is Path and isinstance(value, str):
        return path.parent / Path(value).expanduser()
    if kind is float and type(value) in (int, float):
        if not is_finite_number(value):
            raise InputError(f"{path}: {name} must be a finite number, not {abbreviated(value)}.")
        return float(value)
    if kind in (int, str, bool) and type(value) is kind:
        return value
    if typing.get_origin(kind) is tuple and typing.get_args(kind)[1:] == (...,):  # any number; one may stand by itself
        part = typing.get_args(kind)[0]
        return tuple(_value(part, one, name, path) for one in (value if isinstance(value, list) else [value]))
    if typing.get_origin(kind) is tuple and isinstance(value, list) and len(value) == len(typing.get_args(kind)):
        return tuple(_value(part, one, name, path) for part, one in zip(typing.get_args(kind), value, strict=True))
    raise InputError(f"{path}: {name} must be {_words(kind)}, not {value!r}.")


def _words(kind: Any) -> str:  # noqa: ANN401
    known = {Path: "a path in quotes", float: "a number", int: "a whole number", str: "text in quotes"}
    known[bool] = "true or false"
    if kind in known:
        return known[kind]
    if dataclasses.is_dataclass(kind):
        return "a table"
    return f"a list of {len(typing.get_args(kind))} numbers"


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
