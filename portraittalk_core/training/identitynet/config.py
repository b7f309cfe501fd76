"""Settings of IdentityNet's fine-tuning, and the TOML reader of all stages."""

from __future__ import annotations

import dataclasses
import os
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar

from ...checks import abbreviated, check_choice, check_range, check_text, is_finite_number, is_same_file
from ...errors import InputError
from ...losses.masked_reconstruction import MODES
from ...media.text_files import MAX_CONFIG_BYTES, parse_toml, read_text, toml_reader
from ...renderers.identitynet.options import COMBINATIONS
from ..data.options import POOL
from ..loop.config import TrainerConfig

Settings = TypeVar("Settings")
TRAINABLE_LAYOUTS = ("faceid", "portrait", "plain")  # of adapters
ATTENTIONS = ("decoupled", "unified")
FACE_ENCODERS = ("arcface", "clip")


@dataclass(frozen=True)
class IdentityTraining:
    """Settings of IdentityNet's fine-tuning."""

    checkpoint: Path  # any single-file SD1.5
    # one folder per person, with pictures and, where wanted, captions: anna/1.jpg, anna/1.txt; or the folder that
    # `portraittalk prepare` has made, whose videos are a person each
    data: Path
    out: Path  # folder for the adapter, checkpoints, samples and the log
    adapter: Path | None = None  # faceid or portrait file to start from; None is a new faceid of 4 tokens
    train_lora: bool = False  # of the UNet's own attentions too, as the public faceid files have it
    rank: int = 128  # of that LoRA
    train_unet: bool = False  # all of the UNet's own weights too; writes a whole checkpoint besides the adapter
    references: int = 1  # other pictures of the person that every sample sees
    combine: str = "auto"  # how: "average", "concat"; "auto" is what the adapter's layout is made for
    remove_background: bool = False  # before a face is described
    # the paper's ablations: "unified" puts face tokens behind the text's, in one attention; "clip" describes faces by
    # CLIP's image embedding. Painting knows no unified adapters
    attention: str = "decoupled"
    face_encoder: str = "arcface"
    clip_vision: Path | None = None  # with face_encoder = "clip": CLIP-ViT-H's file
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
        check_range(self.references, 1, POOL, "references")
        check_choice(self.combine, COMBINATIONS, "combine")
        check_choice(self.attention, ATTENTIONS, "attention")
        check_choice(self.face_encoder, FACE_ENCODERS, "face_encoder")
        if self.train_lora and self.train_unet:
            raise InputError("train_lora and train_unet exclude each other: the UNet's own weights can learn all that.")
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
    """Parse a TOML file.

    Raises:
        InputError: not there, or no TOML.
        MissingDependency: Python 3.10 without tomli.
    """
    path = Path(path)
    toml_reader()  # told before the file is looked for
    if not path.exists():
        raise InputError(f"there is no configuration file {path}.")
    text = read_text(path, "the configuration", "give a TOML file as docs/training.md shows one", MAX_CONFIG_BYTES)
    return parse_toml(text, str(path))


def read_settings(kind: type[Settings], content: Mapping[str, Any], path: Path, prefix: str = "") -> Settings:
    """Build a dataclass of settings from the tables of a TOML file.

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
        settings = kind(**values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    _check_apart(settings, path)
    return settings


def _check_apart(settings: object, path: Path) -> None:
    """Check that no path of the settings is written: it is not `out`, nor directly in that folder, nor around it."""
    values = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    out = values.pop("out", None)
    if not isinstance(out, Path):
        return
    for name, value in values.items():
        for read in value if isinstance(value, tuple) else (value,):
            if not isinstance(read, Path) or not read.exists():
                continue
            real, real_out = Path(os.path.realpath(read)), Path(os.path.realpath(out))
            is_written = read.is_file() and (is_same_file(real.parent, out) or is_same_file(read, out))
            if is_written or (read.is_dir() and real_out.is_relative_to(real)):
                raise InputError(
                    f"{path}: {name} is read from {read}, where the training writes ({out}); choose another name or "
                    "folder for out, so that nothing is lost and nothing that is made is learnt from."
                )


def _value(kind: Any, value: Any, name: str, path: Path) -> Any:  # noqa: ANN401 - whatever the field holds
    if isinstance(kind, UnionType):  # X | None; TOML has no null, who wants None leaves the name out
        (kind,) = (part for part in typing.get_args(kind) if part is not type(None))
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return read_settings(kind, value, path, f"{name}.")
    if kind in (Path, str) and isinstance(value, str):
        check_text(value, f"{path}: {name}")
    if kind is Path and isinstance(value, str):
        return _path_of(path, value, name)
    if kind is float and type(value) in (int, float):
        if not is_finite_number(value):
            raise InputError(f"{path}: {name} must be a finite number, not {abbreviated(value)}.")
        return float(value)
    if kind is int and type(value) is int and not is_finite_number(value):
        raise InputError(f"{path}: {name} must be a number that fits a computer, not {abbreviated(value)}.")
    if kind in (int, str, bool) and type(value) is kind:
        return value
    if typing.get_origin(kind) is tuple and typing.get_args(kind)[1:] == (...,):  # any number; one may stand by itself
        part = typing.get_args(kind)[0]
        return tuple(_value(part, item, name, path) for item in (value if isinstance(value, list) else [value]))
    if typing.get_origin(kind) is tuple and isinstance(value, list) and len(value) == len(typing.get_args(kind)):
        return tuple(_value(part, item, name, path) for part, item in zip(typing.get_args(kind), value, strict=True))
    raise InputError(f"{path}: {name} must be {_words(kind)}, not {abbreviated(value)}.")


def _path_of(path: Path, value: str, name: str) -> Path:
    try:
        return path.parent / Path(value).expanduser()
    except RuntimeError as error:  # "~somebody", who has no home here
        raise InputError(f"{path}: {name} is {abbreviated(value)}, a home folder that is not known.") from error


def _words(kind: Any) -> str:  # noqa: ANN401
    words = {Path: "a path in quotes", float: "a number", int: "a whole number", str: "text in quotes"}
    words[bool] = "true or false"
    if kind in words:
        return words[kind]
    if dataclasses.is_dataclass(kind):
        return "a table"
    return f"a list of {len(typing.get_args(kind))} numbers"
