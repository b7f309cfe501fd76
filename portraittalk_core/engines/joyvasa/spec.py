"""Registry entry of JoyVASA."""

from __future__ import annotations

from dataclasses import replace

from ...weights.catalog import known_file
from ..contract import EngineSpec
from .options import JoyVasaOptions

GENERATOR = replace(
    known_file("jdh-algo/JoyVASA motion_generator_hubert_chinese.pt", "engine"),
    note="with motion_template.pkl of the same source beside it",
)

SPEC = EngineSpec(
    "joyvasa",
    "JoyVASA (keypoints, for LivePortrait alone)",
    "joyvasa.build:build",
    (GENERATOR,),
    makes="liveportrait-21",
    options=JoyVasaOptions,
)
