"""Builds audio2motion from its network, a speech encoder and the Basel Face Model."""

from __future__ import annotations

from pathlib import Path

from ...errors import MissingDependency
from ...face.morphable import load_morphable
from ...face.morphable_files import BFM_FILE, BFM_INDEX_FILE
from ...progress import Progress
from ...speech.encoders import SpeechFeatures, load_speech_encoder
from ...types import Speech
from ..contract import EngineFiles
from .engine import Audio2Motion, EncoderLike
from .network import load_expression_net
from .spec import ENCODER, FACE_MODEL


def build(files: EngineFiles) -> Audio2Motion:
    """The engine of a published audio2motion_vae or audio2secc_vae.

    Raises:
        InputError: a file is damaged or of another model.
        MissingDependency: the 3-D face model is missing; the text says where from.
    """
    folder = _face_model_folder(files)
    morphable = load_morphable(folder / BFM_FILE, folder / BFM_INDEX_FILE)
    return Audio2Motion(load_expression_net(files.weights), _encoder(files), morphable)


class _NoEncoder:
    """Placeholder for a missing speech encoder, which raises when it is used."""

    def __init__(self, weights: Path) -> None:
        self.weights = weights

    def encode(self, speech: Speech, on_progress: Progress | None = None) -> SpeechFeatures:
        raise MissingDependency(
            f"{self.weights.name} cannot be used yet: it needs the speech encoder {ENCODER.advice}."
        )


def _face_model_folder(files: EngineFiles) -> Path:
    weights_folder = files.weights.parent
    folders = [Path(files.face_model)] if files.face_model else [weights_folder / "BFM", weights_folder]
    for folder in folders:
        if (folder / BFM_FILE).is_file() and (folder / BFM_INDEX_FILE).is_file():
            return folder
    searched = ", ".join(str(folder) for folder in folders)
    raise MissingDependency(
        f"{files.weights.name} cannot be used yet: it needs the {FACE_MODEL.advice}. Looked in {searched}."
    )


def _encoder(files: EngineFiles) -> EncoderLike:
    if files.encoder is None:
        return _NoEncoder(files.weights)
    return files.encoder if hasattr(files.encoder, "encode") else load_speech_encoder(Path(files.encoder))
