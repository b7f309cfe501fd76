"""The style reference of a StylePrior node: tracks and sound from whichever inputs are connected."""

from __future__ import annotations

from ..portraittalk_core.errors import InputError
from ..portraittalk_core.media.audio import load_speech, speech_from_waveform
from ..portraittalk_core.media.sound import SoundChoice
from ..portraittalk_core.media.video_read import probe_video, read_pictures
from ..portraittalk_core.style.reference import Reference, ReferenceOptions, speech_pieces, track_pieces
from ..portraittalk_core.types import as_fps
from .bindings import convert, convert_audio, convert_video
from .bindings.progress import Progress, counted, face_mesh


def reference_of(
    needs_sound: bool,
    video=None,
    frames=None,
    landmarks=None,
    audio=None,
    *,
    fps: float = 25.0,
    face_index: int = 0,
    sound_track: int = 0,
) -> Reference:
    """Tracks and sound of the reference person.

    Args:
        needs_sound: whether the style extractor uses the sound.
        video: VIDEO.
        frames: IMAGE.
        landmarks: PORTRAITTALK_LANDMARKS.
        audio: AUDIO; goes before the video's own.
        fps: of the frames.
        face_index: which face.
        sound_track: which one of the video's, from 1; 0 is its default.

    Raises:
        InputError: nothing is connected, or it shows too little of a face.
    """
    sound = convert_audio.to_speech(audio) if audio is not None else None
    if landmarks is not None:
        return Reference((landmarks,), _cut(sound, [(0, landmarks)]), "the landmarks")
    if video is not None:
        return _of_video(video, sound, sound_track if needs_sound else None, ReferenceOptions(face_index))
    if frames is not None:
        return _of_frames(frames, as_fps(fps), sound, ReferenceOptions(face_index), "the batch of frames")
    if sound is not None:
        return Reference(sounds=(sound,), source="the sound")
    raise InputError("there is no reference: connect a video, frames, landmarks or audio, or choose a preset.")


def _of_video(video, sound, sound_track: int | None, options: ReferenceOptions) -> Reference:
    needs_sound = sound is None and sound_track is not None
    in_memory = convert_video.video_frames(video)
    if in_memory is not None:
        frames, fps = in_memory
        if needs_sound:
            audio = convert_audio.to_sound(convert_video.video_audio(video))
            sound = None if audio is None else speech_from_waveform(*audio, source="the sound of the video")
        return _of_frames(frames, fps, sound, options, "the video")
    with convert_video.video_file(video) as path, face_mesh() as mesh:
        probe = probe_video(path)
        pictures = read_pictures(path, probe.fps, on_progress=Progress())
        total = probe.num_frames or round(probe.seconds * probe.fps)
        pieces = track_pieces(pictures, probe.fps, total, mesh, options, "the video")
        if needs_sound and probe.has_sound:
            sound = load_speech(SoundChoice(path, sound_track or None))
    return _reference(pieces, sound, "the video")


def _of_frames(frames, fps, sound, options: ReferenceOptions, name: str) -> Reference:
    pictures = convert.to_pictures(frames)
    with face_mesh() as mesh:
        counted_pictures = counted(pictures, len(pictures), Progress())
        pieces = track_pieces(counted_pictures, fps, len(pictures), mesh, options, name)
    return _reference(pieces, sound, name)


def _reference(pieces: list, sound, name: str) -> Reference:
    return Reference(tuple(track for _, track in pieces), _cut(sound, pieces), name)


def _cut(sound, pieces: list) -> tuple:
    return () if sound is None else speech_pieces(sound, pieces)
