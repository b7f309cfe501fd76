"""Builds the built-in engine."""

from __future__ import annotations

from ..contract import EngineFiles
from .engine import BuiltinEngine
from .mouth_model import load_mouth


def build(files: EngineFiles) -> BuiltinEngine:
    """The engine with the built-in mouth network, or with one that `portraittalk train mouth` wrote.

    Raises:
        InputError: the file is damaged or of another kind.
    """
    load_mouth(files.weights)  # loaded now, so that a damaged file is reported before any work
    return BuiltinEngine(files.weights)
