"""Registry entry of audio2motion."""

from __future__ import annotations

from dataclasses import replace

from ...face.morphable_files import BFM_FILE, BFM_INDEX_FILE
from ...weights.catalog import known_file
from ..contract import EngineSpec

ENCODER = replace(
    known_file("facebook/hubert-large-ls960-ft", "encoder"), names="its pytorch_model.bin or model.safetensors"
)
FACE_MODEL = replace(
    known_file("Basel Face Model 2009, as prepared for GeneFace++", "face_model"),
    names=f"{BFM_FILE} and {BFM_INDEX_FILE}",
    note="register at faces.dmi.unibas.ch",
)

SPEC = EngineSpec(
    "audio2motion",
    "GeneFace++ audio2motion",
    "audio2motion.build:build",
    (known_file("GeneFace++ audio2motion_vae or Real3DPortrait audio2secc_vae", "engine"), ENCODER, FACE_MODEL),
)
