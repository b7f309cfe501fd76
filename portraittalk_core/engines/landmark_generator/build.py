"""Builds the landmark generator."""

from __future__ import annotations

from ..contract import EngineFiles
from .engine import LandmarkGenerator
from .network import load_landmark_net


def build(files: EngineFiles) -> LandmarkGenerator:
    """The engine of a published landmarkgenerator_checkpoint.pth; see `network.load_landmark_net`."""
    return LandmarkGenerator(load_landmark_net(files.weights))
