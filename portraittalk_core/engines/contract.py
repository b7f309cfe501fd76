"""The contract of motion engines: speech and a face in, spans of landmark tracks out; and their registry entry.

Imports no torch at its top, so that ``--help`` can read the registry without waiting for it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..errors import InputError
from ..weights.catalog import WeightFile
from ..weights.specs import FileSpec

if TYPE_CHECKING:
    from ..motion.options import MotionOptions
    from ..progress import Progress
    from ..speech.encoders import SpeechFeatures
    from ..types import LandmarkTrack, Speech


class MotionEngine(Protocol):
    """Turns speech into the landmarks of a face.

    An engine that can use speech features made elsewhere also has `listening_to(features) -> MotionEngine`.
    """

    name: str

    def spans(
        self,
        speech: Speech,
        reference: LandmarkTrack,
        options: MotionOptions | None = None,
        on_progress: Progress | None = None,
    ) -> Iterator[LandmarkTrack]:
        """Landmark tracks of a face that says `speech`, span by span, so that memory need not hold them all.

        Args:
            speech: the clip.
            reference: one frame: the face at rest or speaking.
            options: frame rate, gain, head motion, blinks, style; None are the defaults.
            on_progress: called before the first span, with frames processed and in all; may raise to stop.

        Yields:
            Consecutive tracks of the reference's picture size, together ceil(seconds · fps) frames.
        """


@dataclass(frozen=True)
class EngineFiles:
    """Files that an engine is built from."""

    weights: Path | None = None  # the engine's own file; None where it needs none
    encoder: Path | object | None = None  # a speech encoder's file, or one that is open already (has `encode`)
    face_model: Path | None = None  # folder of the 3-D face model; None looks beside the weights


Build = Callable[[EngineFiles], MotionEngine]


@dataclass(frozen=True)
class EngineSpec:
    """Registry entry of an engine, for the command line, the doctor, error texts, nodes and docs."""

    name: str  # as `MotionEngine.name`, and as files name it in `WeightFile.engine`
    title: str  # for people
    build: str | Build  # what builds it; text is "module:function" below this package, imported when asked for
    files: tuple[FileSpec, ...] = ()  # the engine's own weights first
    kinds: tuple[WeightFile, ...] = ()  # how its weights are recognised, where the catalogue does not know them

    @property
    def needed_files(self) -> tuple[FileSpec, ...]:
        """Required files."""
        return tuple(file for file in self.files if file.needed)

    def load(self) -> Build:
        """The engine's build function."""
        if callable(self.build):
            return self.build
        module, _, function = self.build.partition(":")
        return getattr(importlib.import_module(f".{module}", __package__), function)

    def open(self, files: EngineFiles | None = None) -> MotionEngine:
        """Build the engine.

        Raises:
            InputError, MissingDependency: a file is of another kind, or missing; the text says what to do.
        """
        return self.load()(files or EngineFiles())


def whole_track(
    engine: MotionEngine,
    speech: Speech,
    reference: LandmarkTrack,
    options: MotionOptions | None = None,
    on_progress: Progress | None = None,
) -> LandmarkTrack:
    """An engine's spans joined to one track.

    Args:
        engine: any motion engine.
        speech: the clip.
        reference: one frame.
        options: as of `MotionEngine.spans`.
        on_progress: called with frames done and in all, half of them before the first span; may raise to stop.

    Returns:
        ceil(seconds · fps) frames.

    Raises:
        InputError: the engine made another number of frames.
    """
    import dataclasses

    import torch

    from ..motion.options import MotionOptions

    options = options or MotionOptions()
    total, done = speech.num_frames(options.fps), 0
    points, span = torch.empty(total, *reference.points.shape[1:]), reference
    valid = torch.empty(total, dtype=torch.bool)
    progress = None if on_progress is None else lambda count, of: on_progress(total * count // max(2 * of, 1), total)
    for span in engine.spans(speech, reference, options, progress):
        stop = done + len(span)
        if stop <= total:
            points[done:stop], valid[done:stop] = span.points, span.valid
        done = stop
        if on_progress:
            on_progress(min((total + done) // 2, total), total)
    if done != total:
        raise InputError(f"the {engine.name} engine made {done} frames, but {speech.source} has {total}.")
    return dataclasses.replace(span, points=points, valid=valid)


def listening_to(engine: MotionEngine, features: SpeechFeatures) -> MotionEngine:
    """An engine with precomputed features of one clip instead of its own speech encoder.

    Raises:
        InputError: the engine takes none.
    """
    if not hasattr(engine, "listening_to"):
        raise InputError(
            f"the {engine.name} engine hears the sound itself; disconnect the features of {features.name}, which "
            "only engines with a speech encoder take (GeneFace++'s audio2motion)."
        )
    return engine.listening_to(features)
