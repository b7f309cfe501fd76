"""The run of Dub Lips: from a film and a speech to the video file and the node's outputs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...portraittalk_core.errors import InputError
from ...portraittalk_core.media.video_read import probe_video
from ...portraittalk_core.motion.dub import dub_track, film_order, fit_speech
from ...portraittalk_core.motion.dub_options import DubOptions
from ...portraittalk_core.motion.options import MotionOptions
from ...portraittalk_core.pipelines.dub import render_film
from ...portraittalk_core.pipelines.render import LENGTHS_DIFFER_S
from ...portraittalk_core.renderers.contract import Callbacks, Film, RenderJob
from ...portraittalk_core.renderers.lip.files import IPLAP
from ...portraittalk_core.renderers.lip.options import OWN, LipPaintOptions
from ...portraittalk_core.renderers.lip.renderer import LipRenderer
from ...portraittalk_core.types import LandmarkTrack, Speech
from ..engine import to_engine
from ..video import FrameBuffer
from . import convert, convert_video
from .film_sound import with_film_sound
from .lip_select import ChosenReferences, read_video
from .lips import LipNetworks
from .progress import Progress, check_interrupted, show_text
from .resume import sections_of
from .temp_video import new_temp_video, temp_video, video_ui

if TYPE_CHECKING:
    from ...portraittalk_core.engines.contract import MotionEngine

# inputs that painted crops do not depend on
NOT_PAINTED = ("keep_frames", "crf", "ai_mark", "resume", "keep_film_sound")


@dataclass(frozen=True)
class DubInputs:
    """What is painted how; see the node for what each means."""

    speech: Speech
    paint: LipPaintOptions
    motion: MotionOptions = field(default_factory=MotionOptions)
    dub: DubOptions = field(default_factory=DubOptions)
    weights: str = ""  # files of the networks


@dataclass(frozen=True)
class FaceInputs:
    """The film's inputs besides itself."""

    landmarks: LandmarkTrack | None = None  # of its face
    references: ChosenReferences | None = None
    face_index: int = 0
    face_at: object | None = None

    @property
    def names_a_face(self) -> bool:
        """Whether another face than the largest one is meant."""
        return self.face_at is not None or self.face_index > 0


@dataclass(frozen=True)
class OutputInputs:
    """How the result is given."""

    keep_frames: str = "auto"
    crf: int = 16
    resume: bool = True
    keep_film_sound: bool = False


@dataclass(frozen=True)
class NodeResult:
    """Outputs and UI of the node."""

    outputs: tuple
    ui: Any


class LipFrames:
    """Frames for the outputs, all of them or the first, which are shown as they come, and their masks.

    Args:
        keep_frames: see `FrameBuffer`.
        film: what is dubbed.
    """

    def __init__(self, keep_frames: str, film: Film) -> None:
        size = 3 * film.track.width * film.track.height
        self.buffer = FrameBuffer(keep_frames, len(film.track), size, output="frames")
        self.progress = Progress()
        self.on_picture = self.buffer.preview_callback(self.progress)

    def masks(self, masks: Iterator[Tensor]) -> Tensor:
        """A MASK of as many frames, of (H, W) masks 0..1; black is what was not touched at all."""
        levels = []
        for mask in islice(masks, len(self.buffer.pictures)):
            check_interrupted()
            levels.append((mask * 255).ceil() / 255)
        return convert.to_masks(levels)


def run(
    networks: LipNetworks,
    film: object,
    inputs: DubInputs,
    face_inputs: FaceInputs,
    written: OutputInputs,
    sound: tuple,
    hidden,
    engine: object | None = None,
) -> NodeResult:
    """Dub a film into a video file in the temporary folder.

    Args:
        networks: that paint.
        film: VIDEO.
        inputs: what is painted how.
        face_inputs: what is known of the film.
        written: how the result is given.
        sound: waveform and rate of the video's sound.
        hidden: the node's number and the prompt.
        engine: what moves the mouth; None is the built-in one.
    """
    out, sections = new_temp_video(), None
    if written.resume:
        job = replace(inputs, weights=networks.files)
        sections = sections_of((networks.patcher,), (), job, hidden.unique_id, hidden.dynprompt, NOT_PAINTED)
    with ExitStack() as files:
        filmed = _filmed(film, inputs, face_inputs, files)
        frames, text = LipFrames(written.keep_frames, filmed), _findings(filmed, inputs)
        opened = to_engine(engine, None, inputs.speech)
        track = _dubbed(filmed, inputs, opened, frames.progress)
        chosen = None if face_inputs.references is None else face_inputs.references.frames
        renderer = LipRenderer(networks.model, _checked(inputs.paint, networks.model.name), chosen)
        windows = renderer.windows_of(opened, filmed, inputs.speech)
        callbacks = Callbacks(frames.progress, frames.on_picture, sections=sections)
        sound = with_film_sound(filmed.path, sound) if written.keep_film_sound else sound
        more = {"renderer": renderer, "speech": inputs.speech, "callbacks": callbacks, "crf": written.crf}
        with networks.on_device(inputs.paint.batch_size):
            render_film(filmed, track, out, sound=sound, windows=windows, **more)
        mask = frames.masks(renderer.masks(replace(RenderJob.of_track(filmed, track, inputs.speech), windows=windows)))
    text.append(sections.summary if sections is not None else "")
    return _result(frames, (track, mask), out, text, hidden)


def _checked(paint: LipPaintOptions, renderer: str) -> LipPaintOptions:
    """The options, if the renderer has the inference that they ask for."""
    if paint.inference != OWN and renderer != IPLAP:
        raise InputError(
            f"inference {paint.inference} is that of IP-LAP's own script, and the renderer is {renderer}: take "
            f"{IPLAP} in Load Lip Renderer, or inference {OWN}."
        )
    return paint


def _result(frames: LipFrames, outputs: tuple, out: Path, findings: list[str], hidden) -> NodeResult:
    """The node's result; outputs are those behind the frames."""
    notes = [text for text in findings if text]
    text = "; ".join([frames.buffer.text, *notes])
    if notes or frames.buffer.surprises:
        show_text(hidden.unique_id, text)
    images = convert.to_image(frames.buffer.pictures)
    return NodeResult((temp_video(out), images, *outputs), video_ui(out, text))


def _filmed(film: object, inputs: DubInputs, face_inputs: FaceInputs, files: ExitStack) -> Film:
    """The film with its face tracked, or as Select References has tracked it; longer where the speech is."""
    path = files.enter_context(convert_video.video_file(film))
    shown, references = probe_video(path), face_inputs.references
    if references is not None:
        references.check_film(None, (shown.width, shown.height))
    is_tracked = references is not None and references.film is not None
    if is_tracked and face_inputs.landmarks is None and not face_inputs.names_a_face and inputs.dub.scenes == "same":
        filmed = replace(references.film, path=path)
    else:
        face = face_inputs.face_index, face_inputs.face_at
        filmed = read_video(path, face_inputs.landmarks, face, inputs.dub.scenes)
    if references is not None:
        references.check_film(len(filmed.track), (shown.width, shown.height))
    num_frames = inputs.speech.num_frames(filmed.track.fps)
    if inputs.dub.film_end == "cut" or num_frames <= len(filmed.track):
        return filmed
    return filmed.in_order(film_order(len(filmed.track), num_frames, inputs.dub.film_end))


def _dubbed(film: Film, inputs: DubInputs, engine: MotionEngine, progress: Progress) -> LandmarkTrack:
    return dub_track(film.track, inputs.speech, inputs.motion, engine, progress, film.scenes)


def _findings(film: Film, inputs: DubInputs) -> list[str]:
    """What the person may not expect of a film and its speech."""
    fitted, kept = fit_speech(inputs.speech, len(film.track), film.track.fps), int((~film.track.valid).sum())
    cut = f"the video ends {fitted.cut_s:.2f} s before the speech: the rest of it is left out (film_end)"
    rest = f"the speech ends {fitted.rest_s:.2f} s before the video: the mouth rests there"
    stay = f"{kept} frames stay as they were filmed: no face, another person's, or a covered mouth"
    notes = (cut, fitted.cut_s > LENGTHS_DIFFER_S), (rest, fitted.rest_s > LENGTHS_DIFFER_S), (stay, kept > 0)
    return [text for text, is_so in notes if is_so]
