"""Registry entry of audio2mesh."""

from __future__ import annotations

from ...weights.catalog import known_file
from ..contract import EngineSpec

SPEC = EngineSpec(
    "audio2mesh",
    "AniPortrait audio2mesh",
    "audio2mesh.build:build",
    (known_file("ZJYang/AniPortrait audio2mesh.pt", "engine"),),
)
