"""One call for every motion engine: tells by a file's content what engine it is, and puts the engine together."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import InputError, MissingDependency
from ..speech.encoders import GivenFeatures, SpeechFeatures, load_speech_encoder
from ..types import LandmarkTrack, MotionOptions, Speech
from ..weights.catalog import FoundWeights, find_weights, recognise
from .builtin.engine import embedded_motion
from .finish import finish_motion
from .raw_motion import Progress, RawEngine

EMBEDDED = "embedded"
BFM_FILE, BFM_INDEX_FILE = "BFM_model_front.mat", "index_mp468_from_mesh35709.npy"
ENCODER_ADVICE = (
    "it needs the speech encoder facebook/hubert-large-ls960-ft (Apache-2.0, 1.3 GB): put its pytorch_model.bin or "
    "model.safetensors into models/audio_encoders and choose it"
)
BFM_ADVICE = (
    f"it needs the Basel Face Model 2009 ({BFM_FILE} and {BFM_INDEX_FILE}, as prepared for GeneFace++ / "
    "Deep3DFaceRecon; register at faces.dmi.unibas.ch, non-commercial): put both into models/portraittalk/BFM"
)


@dataclass(frozen=True)
class MotionEngine:
    """Turns speech into the landmarks of a face; every engine is called alike."""

    name: str
    raw: RawEngine | None = None  # a public network; None is the engine in the box
    network: Path | None = None  # for the engine in the box: another mouth network than its own

    def __call__(
        self,
        speech: Speech,
        reference: LandmarkTrack,
        options: MotionOptions | None = None,
        on_progress: Progress | None = None,
    ) -> LandmarkTrack:
        """The landmarks of `reference` (one frame) saying `speech`: ceil(seconds · fps) frames."""
        options = options or MotionOptions()
        if self.raw is None:
            return embedded_motion(speech, reference, options, self.network, on_progress)
        return finish_motion(self.raw.raw_motion(speech, reference, on_progress), speech, reference, options)

    def listening_to(self, features: SpeechFeatures) -> MotionEngine:
        """This engine with features of one clip that were made elsewhere, in place of its own speech encoder.

        Raises:
            InputError: the engine takes none.
        """
        if not hasattr(self.raw, "encoder"):
            raise InputError(
                f"the {self.name} engine hears the sound itself; disconnect the features of {features.name}, which "
                "only GeneFace++'s audio2motion takes."
            )
        raw = copy.copy(self.raw)
        raw.encoder = GivenFeatures(features)
        return replace(self, raw=raw)


class _NoEncoder:
    """Stands where a speech encoder belongs, and says so when it is needed."""

    def __init__(self, weights: Path) -> None:
        self.weights = weights

    def encode(self, speech: Speech, on_progress: Progress | None = None) -> SpeechFeatures:
        raise MissingDependency(f"{self.weights.name} cannot be used yet: {ENCODER_ADVICE}.")


@dataclass(frozen=True)
class EngineFiles:
    """What an engine is put together from."""

    weights: Path
    encoder: Path | object | None = None  # a speech encoder's file, or one that is open already (has `encode`)
    face_model: Path | None = None  # folder of the 3-D face model; None looks beside the weights


def open_engine(files: EngineFiles | None = None) -> MotionEngine:
    """The engine that a file holds.

    Args:
        files: the weights, and what else the engine needs; None is the engine in the box.

    Raises:
        InputError: the file is of another family; the text says which.
        MissingDependency: the file, the speech encoder or the 3-D face model is missing; the text says where from.
    """
    if files is None:
        return MotionEngine(EMBEDDED)
    weights = Path(files.weights)
    if not weights.is_file():
        raise MissingDependency(f"there is no motion engine file {weights}; put it there, or choose another.")
    kind = recognise(weights)
    opener = OPENERS.get(kind.engine) if kind else None
    if opener is None:
        is_what = f"is: {kind.role} ({kind.source})" if kind else "is none that is known"
        known = "AniPortrait audio2mesh, GeneFace++ audio2motion, IP-LAP landmark generator, or a mouth network of ours"
        raise InputError(f"{weights.name} is not a motion engine; it {is_what}. Choose one of: {known}.")
    return opener(files)


def find_engines(folders: list[Path]) -> list[FoundWeights]:
    """The motion engines in some folders."""
    return [found for found in find_weights(folders) if found.kind.engine in OPENERS]


def _open_mouth(files: EngineFiles) -> MotionEngine:
    from .builtin.mouth_model import load_mouth

    load_mouth(files.weights)  # so that a damaged file is told now
    return MotionEngine(EMBEDDED, network=Path(files.weights))


def _open_audio2mesh(files: EngineFiles) -> MotionEngine:
    from .audio2mesh import load_audio2mesh

    return MotionEngine("audio2mesh", load_audio2mesh(files.weights))


def _open_audio2motion(files: EngineFiles) -> MotionEngine:
    from ..face.morphable import load_morphable
    from .audio2motion.engine import Audio2Motion
    from .audio2motion.network import load_expression_net

    folder = _face_model_folder(files)
    morphable = load_morphable(folder / BFM_FILE, folder / BFM_INDEX_FILE)
    net = load_expression_net(files.weights)
    return MotionEngine("audio2motion", Audio2Motion(net, _encoder(files), morphable))


def _open_landmark_generator(files: EngineFiles) -> MotionEngine:
    from .landmark_generator.engine import load_landmark_generator

    return MotionEngine("landmark_generator", load_landmark_generator(files.weights))


def _face_model_folder(files: EngineFiles) -> Path:
    beside = Path(files.weights).parent
    folders = [Path(files.face_model)] if files.face_model else [beside / "BFM", beside]
    for folder in folders:
        if (folder / BFM_FILE).is_file() and (folder / BFM_INDEX_FILE).is_file():
            return folder
    looked = ", ".join(str(folder) for folder in folders)
    raise MissingDependency(f"{Path(files.weights).name} cannot be used yet: {BFM_ADVICE}. Looked in {looked}.")


def _encoder(files: EngineFiles) -> object:
    if files.encoder is None:
        return _NoEncoder(Path(files.weights))
    if hasattr(files.encoder, "encode"):
        return files.encoder
    return load_speech_encoder(Path(files.encoder))


OPENERS: dict[str, Callable[[EngineFiles], MotionEngine]] = {
    "mouth": _open_mouth,
    "audio2mesh": _open_audio2mesh,
    "audio2motion": _open_audio2motion,
    "landmark_generator": _open_landmark_generator,
}
