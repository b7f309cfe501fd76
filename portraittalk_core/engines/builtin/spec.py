"""Registry entry of the built-in engine."""

from __future__ import annotations

from dataclasses import replace

from ...weights.catalog import known_file
from ..contract import EngineSpec

SPEC = EngineSpec(
    "embedded",
    "a network of `portraittalk train mouth` or `train closures`",
    "builtin.build:build",
    (replace(known_file("portraittalk train mouth", "engine"), needed=False),),
)
