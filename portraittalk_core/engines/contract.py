"""The contract of motion engines: speech and a face in, spans of tracks out; and their registry entry.

Most engines make landmarks, which every renderer takes. Some make implicit keypoints of one layout, for the renderers
of that layout alone; `MotionEngine.makes` says which.

Imports no torch at its top, so that ``--help`` can read the registry without waiting for it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..errors import InputError
from ..weights.catalog import WeightFile
from ..weights.specs import FileSpec

if TYPE_CHECKING:
    from torch import Tensor

    from ..motion.options import MotionOptions
    from ..progress import Progress
    from ..speech.encoders import SpeechFeatures
    from ..types import KeypointTrack, LandmarkTrack, Speech

    MotionTrack = LandmarkTrack | KeypointTrack


LANDMARKS = "landmarks"  # what an engine without `makes` makes
RENDERERS = {"liveportrait-21": "liveportrait", "face-vid2vid-15": "facevid2vid"}  # which renderer draws a layout


class MotionEngine(Protocol):
    """Turns speech into the landmarks of a face, or into implicit keypoints.

    An engine that can use speech features made elsewhere also has `listening_to(features) -> MotionEngine`. One that
    makes keypoints also has `makes`, the layout of its tracks. One that predicts mouths on the heads of a film also has
    `film_spans`, see `FilmEngine`.
    """

    name: str

    def spans(
        self,
        speech: Speech,
        reference: LandmarkTrack,
        options: MotionOptions | None = None,
        on_progress: Progress | None = None,
    ) -> Iterator[MotionTrack]:
        """Tracks of a face that says `speech`, span by span, so that memory need not hold them all.

        Args:
            speech: the clip.
            reference: one frame: the face at rest or speaking.
            options: frame rate, gain, head motion, blinks, style; None are the defaults.
            on_progress: called with frames heard and in all, before the first span and between others; may raise to
                stop.

        Yields:
            Consecutive tracks, all of a kind, together ceil(seconds · fps) frames; landmarks are of the reference's
            picture size.
        """


class FilmEngine(MotionEngine, Protocol):
    """An engine that predicts mouths on the heads of a film; `motion.dub` calls it instead of `spans`."""

    def film_spans(
        self,
        speech: Speech,
        film: LandmarkTrack,
        options: MotionOptions | None = None,
        scenes: Tensor | None = None,
        on_progress: Progress | None = None,
    ) -> Iterator[LandmarkTrack]:
        """A film's face saying `speech`, frame by frame on its own head.

        Args:
            speech: the clip; silence follows it.
            film: T frames; those that are not valid show no face, and what is made of them does not count.
            options: gain, gate, smoothing, offset and style; the frame rate is the film's, and nothing else moves.
            scenes: (T,) number of each frame's scene, between two cuts; None: there are no cuts.
            on_progress: called before the first span, with frames processed and in all; may raise to stop.

        Yields:
            Consecutive tracks, together T frames, on the film's picture; all but the lower face is the film's.
        """


class WindowEngine(FilmEngine, Protocol):
    """An engine whose predictions are of five frames together, which IP-LAP's own inference draws."""

    def film_windows(self, speech: Speech, film: LandmarkTrack, scenes: Tensor | None = None) -> Iterator[Tensor]:
        """Lips and jaws of the frames around each frame of a film of 25 frames a second.

        Args:
            speech: the clip; what is longer than the film is heard by its last frames.
            film: T frames.
            scenes: (T,) number of each frame's scene, over whose ends no window reaches; None: there are no cuts.

        Yields:
            (n, 5, 57, 2) float64 pixels of `face.lip_points.CONTENT_POINTS`, of consecutive frames, together T.
        """


@dataclass(frozen=True)
class EngineFiles:
    """Files that an engine is built from."""

    weights: Path | None = None  # the engine's own file; None where it needs none
    encoder: Path | object | None = None  # a speech encoder's file, or one that is open already (has `encode`)
    face_model: Path | None = None  # folder of the 3-D face model; None looks beside the weights
    options: Mapping[str, Mapping[str, object]] = field(default_factory=dict)  # of engines by name: value by field


Build = Callable[[EngineFiles], MotionEngine]


@dataclass(frozen=True)
class EngineSpec:
    """Registry entry of an engine, for the command line, the doctor, error texts, nodes and docs."""

    name: str  # as `MotionEngine.name`, and as files name it in `WeightFile.engine`
    title: str  # for people
    build: str | Build  # what builds it; text is "module:function" below this package, imported when asked for
    files: tuple[FileSpec, ...] = ()  # the engine's own weights first
    kinds: tuple[WeightFile, ...] = ()  # how its weights are recognised, where the catalogue does not know them
    makes: str = LANDMARKS  # or the layout of the keypoints it makes
    options: type | None = None  # a dataclass of `option()` fields, of this engine alone

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
    """The spans of an engine that makes landmarks, joined to one track.

    Args:
        engine: any motion engine.
        speech: the clip.
        reference: one frame.
        options: as of `MotionEngine.spans`.
        on_progress: called with frames done and in all: a frame that was heard is half done; may raise to stop.

    Returns:
        ceil(seconds · fps) frames.

    Raises:
        InputError: the engine made another number of frames, or makes keypoints.
    """
    import dataclasses

    import torch

    from ..motion.options import MotionOptions
    from ..types import joined_shoulders

    check_makes(engine, LANDMARKS)
    options = options or MotionOptions()
    total, done, heard = speech.num_frames(options.fps), 0, 0
    points, span = torch.empty(total, *reference.points.shape[1:]), reference
    valid, shoulders = torch.empty(total, dtype=torch.bool), []

    def hear(count: int, of: int) -> None:
        nonlocal heard
        heard = total * count // max(of, 1)
        on_progress((heard + done) // 2, total)

    for span in engine.spans(speech, reference, options, on_progress and hear):
        stop = done + len(span)
        if stop <= total:
            points[done:stop], valid[done:stop] = span.points, span.valid
            shoulders.append(span.shoulders)
        done = stop
        if on_progress:
            on_progress(min((max(heard, done) + done) // 2, total), total)
    if done != total:
        raise InputError(f"the {engine.name} engine made {done} frames, but {speech.source} has {total}.")
    return dataclasses.replace(span, points=points, valid=valid, shoulders=joined_shoulders(shoulders))


def whole_keypoints(
    engine: MotionEngine,
    speech: Speech,
    reference: LandmarkTrack,
    options: MotionOptions | None = None,
    on_progress: Progress | None = None,
) -> KeypointTrack:
    """The spans of an engine that makes keypoints, joined to one track; arguments as of `whole_track`.

    Raises:
        InputError: the engine made another number of frames, or makes landmarks.
    """
    from ..motion.keypoint_time import join
    from ..motion.options import MotionOptions

    if output_kind(engine) == LANDMARKS:
        raise InputError(f"the engine {engine.name} makes landmarks; choose one that makes keypoints (JoyVASA).")
    options = options or MotionOptions()
    track = join(engine.spans(speech, reference, options, on_progress))
    total = speech.num_frames(options.fps)
    if len(track) != total:
        raise InputError(f"the {engine.name} engine made {len(track)} frames, but {speech.source} has {total}.")
    return track


def output_kind(engine: MotionEngine) -> str:
    """What an engine makes: "landmarks", or the layout of its keypoints."""
    return getattr(engine, "makes", LANDMARKS)


def check_makes(engine: MotionEngine, *kinds: str) -> MotionEngine:
    """Check that an engine makes what somebody can use, and return it.

    Args:
        engine: any motion engine.
        kinds: those that can be used: "landmarks", and layouts of keypoints.

    Raises:
        InputError: it makes something else; the text says what to do.
    """
    makes = output_kind(engine)
    if makes not in kinds:
        renderer = RENDERERS.get(makes)
        advice = f"take the renderer {renderer}, or another engine" if renderer else "choose another engine"
        raise InputError(
            f"the engine {engine.name} makes {_called(makes)}, and {_called(kinds[0])} are needed here; {advice}."
        )
    return engine


def _called(makes: str) -> str:
    return makes if makes == LANDMARKS else f"keypoints of {makes}"


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
