"""Builds the audio2mesh engine."""

from __future__ import annotations

from ..contract import EngineFiles
from .engine import Audio2Mesh
from .network import load_mesh_net


def build(files: EngineFiles) -> Audio2Mesh:
    """The engine of a published audio2mesh.pt; see `network.load_mesh_net`."""
    return Audio2Mesh(load_mesh_net(files.weights))
