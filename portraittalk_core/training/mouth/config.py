"""The mouth training's TOML recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..identitynet.config import read_settings, read_toml
from .recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class MouthConfig(Recipe):
    """A recipe, and where its files go."""

    out: Path  # weight file to write
    corpus: Path  # folder in which synthesised speech and tracked faces are kept


def load_mouth_config(path: Path) -> MouthConfig:
    """Read a recipe from a TOML file; relative paths in it start at its own folder.

    Raises:
        InputError: not there, no TOML, an unknown or absent name, or a value of another type or out of range.
        MissingDependency: Python 3.10 without tomli.
    """
    return read_settings(MouthConfig, read_toml(path), Path(path))
