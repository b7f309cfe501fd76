"""Builds the landmark generator."""

from __future__ import annotations

from ..contract import EngineFiles
from .engine import LandmarkGenerator, load_landmark_generator


def build(files: EngineFiles) -> LandmarkGenerator:
    """The engine of the landmark generator's weights."""
    return load_landmark_generator(files.weights)
