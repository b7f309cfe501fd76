"""The style reference of a StylePrior node: tracks and sound from whichever inputs are connected."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..portraittalk_core.errors import InputError
from ..portraittalk_core.media.audio import load_speech, speech_from_waveform
from ..portraittalk_core.media.sound import SoundChoice
from ..portraittalk_core.media.video_read import probe_video, read_pictures
from ..portraittalk_core.style.expression_source import ExpressionRecorder, open_expression_source
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
    face_recon: Path | None = None,
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
        face_recon: what measures expressions in the pictures; None for nothing.

    Raises:
        InputError: nothing is connected, or it shows too little of a face.
    """
    sound = convert_audio.to_speech(audio) if audio is not None else None
    if landmarks is not None:
        return Reference((landmarks,), _cut(sound, [(0, landmarks)]), "the landmarks")
    recorder = None if face_recon is None else ExpressionRecorder(open_expression_source(face_recon))
    tracking = _Tracking(ReferenceOptions(face_index), recorder)
    if video is not None:
        return _of_video(video, sound, sound_track if needs_sound else None, tracking)
    if frames is not None:
        return _of_frames(frames, as_fps(fps), sound, tracking, "the batch of frames")
    if sound is not None:
        return Reference(sounds=(sound,), source="the sound")
    raise InputError("there is no reference: connect a video, frames, landmarks or audio, or choose a preset.")


@dataclass(frozen=True)
class _Tracking:
    """Which face is tracked, and what measures its expressions."""

    options: ReferenceOptions
    recorder: ExpressionRecorder | None

    def pieces(self, pictures, fps, total: int, mesh, name: str) -> list:
        """Pieces of the pictures with the face's landmarks."""
        return track_pieces(pictures, fps, total, mesh, self.options, name, self.recorder)

    def reference(self, pieces: list, sound, name: str) -> Reference:
        """The reference of tracked pieces and their sound."""
        expressions = () if self.recorder is None else self.recorder.features(pieces, name)
        return Reference(tuple(track for _, track in pieces), _cut(sound, pieces), name, expressions)


def _of_video(video, sound, sound_track: int | None, tracking: _Tracking) -> Reference:
    needs_sound = sound is None and sound_track is not None
    in_memory = convert_video.video_frames(video)
    if in_memory is not None:
        frames, fps = in_memory
        if needs_sound:
            audio = convert_audio.to_sound(convert_video.video_audio(video))
            sound = None if audio is None else speech_from_waveform(*audio, source="the sound of the video")
        return _of_frames(frames, fps, sound, tracking, "the video")
    with convert_video.video_file(video) as path, face_mesh() as mesh:
        probe = probe_video(path)
        pictures = read_pictures(path, probe.fps, on_progress=Progress())
        total = round(probe.seconds * probe.fps)
        pieces = tracking.pieces(pictures, probe.fps, total, mesh, "the video")
        if needs_sound and probe.has_sound:
            sound = load_speech(SoundChoice(path, sound_track or None))
    return tracking.reference(pieces, sound, "the video")


def _of_frames(frames, fps, sound, tracking: _Tracking, name: str) -> Reference:
    pictures = convert.to_pictures(frames)
    with face_mesh() as mesh:
        counted_pictures = counted(pictures, len(pictures), Progress())
        pieces = tracking.pieces(counted_pictures, fps, len(pictures), mesh, name)
    return tracking.reference(pieces, sound, name)


def _cut(sound, pieces: list) -> tuple:
    return () if sound is None else speech_pieces(sound, pieces)
