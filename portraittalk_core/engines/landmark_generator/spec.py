"""Registry entry of the landmark generator."""

from __future__ import annotations

from ...weights.catalog import known_file
from ..contract import EngineSpec

SPEC = EngineSpec(
    "landmark_generator",
    "IP-LAP landmark generator",
    "landmark_generator.build:build",
    (known_file("IP-LAP landmarkgenerator_checkpoint", "engine"),),
)
