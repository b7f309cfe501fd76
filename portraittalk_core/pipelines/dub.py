"""Dubbing of a filmed face: the mouth follows a new speech, the rest of the video stays."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from ..engines.contract import MotionEngine
from ..errors import NoFaceError
from ..face.choice import FaceChoice
from ..face.covered import mouth_covered
from ..face.mesh.landmarks import MeshBackend, open_mesh, track_faces
from ..face.mouth_colours import film_colours, inside_colours
from ..face.scenes import other_people
from ..face.sharpness import mouth_sharpness
from ..media.video_read import probe_video, read_pictures
from ..motion.dub import dub_track, film_order
from ..motion.dub_options import DubOptions
from ..motion.options import MotionOptions
from ..options import option_of
from ..progress import Progress
from ..renderers.contract import FILM, PORTRAIT, Callbacks, Film, Renderer, RenderJob
from ..renderers.registry import DEFAULTS, open_renderer
from ..renderers.write import RenderResult, Sound, render_video
from ..style.prior import Style
from ..types import LandmarkTrack, Speech
from .render import LENGTHS_DIFFER_S, seconds_of
from .same_person import PersonDescriptor, ScenesSeen, follow_person

log = logging.getLogger(__name__)

GLIMPSE_S = 0.2  # a mouth that is seen for less between covered frames counts as covered


def read_film(
    video: Path,
    *,
    mesh: MeshBackend | None = None,
    face_index: int | FaceChoice = 0,
    face_order: str = "size",
    on_progress: Progress | None = None,
    scenes: str = "same",
    people: PersonDescriptor | None = None,
) -> Film:
    """Track a video's face through all frames, and find its cuts, where the mouth is covered, and how sharp it is.

    Args:
        video: with a face in some of its frames, read one at a time.
        mesh: what finds landmarks; None opens one.
        face_index: which face; or what chooses it.
        face_order: how faces are counted, see `face.mesh.landmarks.detect_faces`.
        on_progress: called with frames read and in all; may raise to stop.
        scenes: which ones are to be dubbed, see `DubOptions`; of the others, the frames are not valid.
        people: tells people apart, see `same_person.described_by`; None: the shape of the face does.

    Raises:
        MediaError: the video cannot be read.
        NoFaceError: no frame shows the face.
    """
    if mesh is None and people is not None:
        with open_mesh() as opened:
            return read_film(
                video, mesh=opened, face_index=face_index, face_order=face_order, on_progress=on_progress,
                scenes=scenes, people=people,
            )  # fmt: skip
    fps = probe_video(video).fps
    pictures = read_pictures(video, fps, on_progress=on_progress)
    name = Path(video).name
    watched = _Watched(people if scenes == "same" else None)
    mouths = watched.mouths
    track = track_faces(
        pictures, fps, mesh, face_index, face_order, on_missing="interpolate", source=name, on_face=watched.see
    )
    numbers, other_person = watched.scenes.scenes(), torch.zeros(len(track), dtype=torch.bool)
    if scenes == "same" and people is not None and int(numbers[-1]):
        descriptors = watched.scenes.faces()
        track, other_person = follow_person(video, track, numbers, people, mesh, mouths.see, descriptors)
    covered = covered_stretches(torch.tensor(mouths.visible), numbers, float(fps)) & track.valid
    if scenes == "same" and people is None:
        other_person = other_people(replace(track, valid=track.valid & ~covered), numbers) & track.valid
    covered &= ~other_person
    _log_findings(name, numbers, other_person, covered, fps, "shape" if people is None else "descriptor")
    usable = track.valid & ~other_person & ~covered
    if not usable.any():
        raise NoFaceError(
            f"the mouth is covered in all frames of {name} that show a face; choose a video with a free mouth."
        )
    track = replace(track, valid=usable)
    of_frames = {"scenes": numbers, "covered": covered, "other_person": other_person}
    colours = film_colours([found for found, is_seen in zip(mouths.colours, usable.tolist(), strict=True) if is_seen])
    return Film(Path(video), track, **of_frames, sharpness=torch.tensor(mouths.sharpness), mouth_colours=colours)


class _Mouths:
    """Whether each frame shows a mouth, how sharp it is, and which colours it has inside."""

    def __init__(self) -> None:
        self.visible: list[bool] = []
        self.sharpness: list[float] = []
        self.colours: list[Tensor | None] = []

    def see(self, index: int, picture: Tensor, face: Tensor | None) -> None:
        """Take a frame, the next one or an earlier one again: its picture, and (478, 3) landmarks in pixels or None."""
        values = (
            face is None or not mouth_covered(picture, face),
            0.0 if face is None else mouth_sharpness(picture, face),
            None if face is None else inside_colours(picture, face),
        )
        for series, value in zip((self.visible, self.sharpness, self.colours), values, strict=True):
            series[index : index + 1] = [value]


class _Watched:
    """What is seen of a film while it is tracked: scenes, who is in them where people are told apart, and mouths."""

    def __init__(self, people: PersonDescriptor | None) -> None:
        self.scenes, self.mouths = ScenesSeen(people), _Mouths()

    def see(self, picture: Tensor, face: Tensor | None) -> None:
        """Take the next frame: its picture, and (478, 3) landmarks in pixels or None."""
        self.scenes.see(picture, face)
        self.mouths.see(len(self.mouths.visible), picture, face)


def covered_stretches(visible: Tensor, scenes: Tensor, fps: float) -> Tensor:
    """(T,) bool: where a mouth counts as covered.

    A hand that moves shows some lip now and then, and comes and goes over some frames: short sights between covered
    frames do not count, and the frames next to covered ones count as covered.

    Args:
        visible: (T,) bool: whether a frame by itself shows a mouth.
        scenes: (T,) number of each frame's scene; nothing spreads over a cut.
        fps: frames per second.
    """
    covered = ~visible
    for at in torch.nonzero(covered).flatten().tolist():
        stop = min(len(covered), at + 2 + int(GLIMPSE_S * fps))
        again = torch.nonzero(covered[at + 1 : stop] & (scenes[at + 1 : stop] == scenes[at])).flatten()
        if len(again):
            covered[at : at + 1 + int(again[-1])] = True
    same = scenes[1:] == scenes[:-1]
    adjacent = covered.clone()
    adjacent[1:] |= covered[:-1] & same
    adjacent[:-1] |= covered[1:] & same
    return adjacent


def _log_findings(  # noqa: PLR0913 - what was found
    name: str, scenes: Tensor, other_person: Tensor, covered: Tensor, fps: Fraction, known_by: str
) -> None:
    """Log what of a film is left as it was filmed, and why; people were told apart by what `known_by` says."""
    if other_person.any():
        first = float(int(other_person.int().argmax()) / fps)
        log.warning(
            "%s has cuts (%d), and from %.2f s on another face than at the beginning: %d of its frames stay as filmed. "
            "If that is the same person, or is to speak too: %s all.", name, int(scenes.max()), first,
            int(other_person.sum()), option_of(DubOptions, "scenes").flag,
        )  # fmt: skip
    elif int(scenes.max()):
        cuts = ", ".join(f"{float(at / fps):.2f} s" for at in _cuts(scenes)[:8])
        log.warning(
            "%s has cuts, at %s%s: as far as its %s tells, the face is the same in all scenes, and speaks in all. "
            "If it is not, cut the film there.", name, cuts, " and later" if len(_cuts(scenes)) > 8 else "", known_by,
        )  # fmt: skip
    if covered.any():
        log.warning(
            "the mouth in %s is covered in %d frames, from %.2f s on: they stay as filmed.", name, int(covered.sum()),
            float(int(covered.int().argmax()) / fps),
        )  # fmt: skip


def _cuts(scenes: Tensor) -> list[int]:
    return (torch.nonzero(scenes[1:] != scenes[:-1]).flatten() + 1).tolist()


def dub(
    film: Film,
    speech: Speech,
    out: Path,
    options: MotionOptions,
    *,
    engine: MotionEngine,
    renderer: Renderer | None = None,
    style: Style | None = None,
    sound: Sound = None,
    crf: int = 18,
    callbacks: Callbacks | None = None,
    dub_options: DubOptions | None = None,
) -> RenderResult:
    """Dub a film: render its face with the mouth of a new speech, as a stream of pictures.

    Args:
        film: of `read_film`.
        speech: what is to be said; after its end the mouth rests closed.
        out: the video file to write, as long as the film, or as the speech where that is longer and the options say so.
        options: of the mouth; its fps, head motion and blinks do not count.
        engine: what moves the mouth.
        renderer: what draws; None is the default of films, `renderers.registry.DEFAULTS`.
        style: for renderers that look at a style.
        sound: the new sound, the speech itself if None; cut, or silence added, where it is not as long.
        crf: H.264 quality, 0 lossless .. 51.
        callbacks: called meanwhile; may raise to stop, and then no file remains.
        dub_options: what follows where the speech is longer than the film.

    Raises:
        OutputError: the file cannot be written.
    """
    film_end = (dub_options or DubOptions()).film_end
    num_frames = speech.num_frames(film.track.fps)
    if film_end != "cut" and num_frames > len(film.track):
        film = film.in_order(film_order(len(film.track), num_frames, film_end))
    renderer = renderer or open_renderer(DEFAULTS[FILM])
    windows = renderer.windows_of(engine, film, speech) if hasattr(renderer, "windows_of") else None
    return render_film(
        film,
        dub_track(film.track, speech, options, engine, scenes=film.scenes),
        out,
        renderer=renderer,
        speech=speech,
        style=style,
        sound=speech if sound is None else sound,
        crf=crf,
        callbacks=callbacks,
        windows=windows,
    )


def render_film(
    film: Film,
    track: LandmarkTrack,
    out: Path,
    *,
    renderer: Renderer | None = None,
    speech: Speech | None = None,
    style: Style | None = None,
    sound: Sound = None,
    crf: int = 18,
    callbacks: Callbacks | None = None,
    windows: Callable[[], Iterator[Tensor]] | None = None,
) -> RenderResult:
    """Render a film whose face follows another track; see `dub`.

    Args:
        film: of `read_film`.
        track: where its landmarks go, one frame for each of the film's.
        out: the video file to write.
        renderer: what draws; None is the default of films, or the warp where nothing is said.
        speech: what is said, for renderers that listen.
        style: for renderers that look at a style.
        sound: the video's sound; silence if None.
        crf: H.264 quality, 0 lossless .. 51.
        callbacks: called meanwhile; may raise to stop, and then no file remains.
        windows: see `RenderJob.windows`.
    """
    started = time.perf_counter()
    _compare_lengths(film.track.seconds, sound)
    job = replace(RenderJob.of_track(film, track, speech, style), windows=windows)
    renderer = renderer or open_renderer(DEFAULTS[FILM if speech is not None else PORTRAIT])
    return render_video(renderer, job, out, sound=sound, crf=crf, callbacks=callbacks, started=started)


def _compare_lengths(film_s: float, sound: Sound) -> None:
    """Log where sound and film differ in length; see `compare_lengths` of `render`."""
    sound_s = seconds_of(sound)
    if sound_s is None or abs(sound_s - film_s) < LENGTHS_DIFFER_S:
        return
    if sound_s > film_s:
        log.warning(
            "the film lasts %.2f s, the speech %.2f s: it is cut off where the film ends. To keep all of it, let the "
            "film go on: %s with hold, loop or ping-pong.", film_s, sound_s, option_of(DubOptions, "film_end").flag,
        )  # fmt: skip
    else:
        log.info("the film lasts %.2f s, the speech %.2f s: after it the mouth rests, in silence.", film_s, sound_s)
