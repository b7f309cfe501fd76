"""The run of Several Speakers: from a picture and sounds to the video file and the node's frames."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...portraittalk_core.errors import InputError
from ...portraittalk_core.face.mesh.landmarks import find_portrait
from ...portraittalk_core.media.several_sounds import nothing_said, summed_sounds
from ...portraittalk_core.motion.options import MotionOptions
from ...portraittalk_core.pipelines.together import PictureSpeaker, talk_speakers
from ...portraittalk_core.renderers.contract import Callbacks
from ..engine import to_engine
from ..video import FrameBuffer
from . import convert, convert_audio
from .face_place import choice_at
from .progress import Progress, face_mesh
from .temp_video import new_temp_video

ORDER = "left_to_right"
SOURCE = "the portrait"


def run(
    image: object, speaking: tuple, motion: MotionOptions, made_by: tuple, written: tuple
) -> tuple[FrameBuffer, Path]:
    """Render a picture whose faces speak into a video file in the temporary folder.

    Args:
        image: IMAGE.
        speaking: AUDIOs and places of faces, both with None where nothing is connected; numbers of faces, and of those
            who listen, as texts.
        motion: of all faces.
        made_by: what moves them, and what draws them; None is the built-in engine, and the warp.
        written: keep_frames and crf.

    Returns:
        The frames for IMAGE, and the file.

    Raises:
        InputError: no sound, numbers that are none, two sounds for one face, or a place without a sound.
        NoFaceError: a face that is not there.
    """
    picture, (audios, places, faces, listeners) = convert.to_portrait(image), speaking
    numbers, size = numbers_of(faces, audios, places), tuple(picture.shape[:2])
    speakers, sounds = [], []
    with face_mesh() as mesh:
        for at, number in numbers.items():
            which = choice_at(number, places[at], size)
            portrait = find_portrait(picture, which, ORDER, SOURCE, mesh)
            name = f"the face of voice {at}"
            speakers.append(PictureSpeaker(portrait, convert_audio.to_speech(audios[at]), name))
            sounds.append(convert_audio.to_waveform(audios[at]))
        for number in listed(listeners, "listeners"):
            portrait = find_portrait(picture, number, ORDER, SOURCE, mesh)
            speakers.append(PictureSpeaker(portrait, nothing_said(), f"the listening face {number}"))
    keep_frames, crf = written
    total = max(speaker.speech.num_frames(motion.fps) for speaker in speakers)
    buffer, progress, out = FrameBuffer(keep_frames, total, picture.numel()), Progress(), new_temp_video()
    callbacks = Callbacks(progress, buffer.preview_callback(progress))
    engine, networks = made_by
    more = {"engine": to_engine(engine, None, speakers[0].speech), "crf": crf, "callbacks": callbacks}
    more["sound"] = sounds[0] if len(sounds) == 1 else summed_sounds(sounds)
    with _drawn_by(networks) as renderer:
        talk_speakers(speakers, out, motion, renderer=renderer, **more)
    return buffer, out


@contextmanager
def _drawn_by(networks: object | None) -> Iterator[object | None]:
    """The renderer of a PORTRAITTALK_KEYPOINT_RENDERER, on its device; None, the warp, without one."""
    if networks is None:
        yield None
        return
    renderer = networks.renderer(1.0)
    with networks.on_device(renderer.options.batch_size):
        yield renderer


def numbers_of(faces: str, audios: list, places: list) -> dict[int, int]:
    """The number of the face, from left to right, of every sound that is connected, by the sound's own number.

    Raises:
        InputError: no sound, other numbers than sounds, or a place without a sound.
    """
    connected = [at for at, audio in enumerate(audios) if audio is not None]
    if not connected:
        raise InputError("nobody is to speak: connect a sound to voices.")
    if lost := [at for at, place in enumerate(places) if place is not None and at not in connected]:
        raise InputError(f"faces_at {lost[0]} says where a face is, and voice {lost[0]} is not connected.")
    numbers = listed(faces, "faces")
    if not numbers:
        return {at: at for at in connected}
    if len(numbers) != len(connected):
        raise InputError(
            f"faces must be the number of a face for each of the {len(connected)} voices, such as "
            f"{', '.join(map(str, range(len(connected))))}, or empty, not {faces.strip()[:80]!r}."
        )
    return dict(zip(connected, numbers, strict=True))


def listed(text: str, name: str) -> list[int]:
    """Numbers of faces in a text.

    Raises:
        InputError: something else is there.
    """
    words = [word.strip() for word in text.replace(";", ",").split(",") if word.strip()]
    if not all(word.isascii() and word.isdecimal() and len(word) < 4 for word in words):
        raise InputError(f"{name} must be numbers of faces from 0, such as 0, 2, or empty, not {text.strip()[:80]!r}.")
    return [int(word) for word in words]
