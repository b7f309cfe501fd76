"""Between ComfyUI's values and the core's: the only place that permutes, clamps and moves between devices."""

from __future__ import annotations

import io as bytes_io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from ..portraittalk_core.errors import InputError
from ..portraittalk_core.media.audio import speech_from_waveform
from ..portraittalk_core.pipelines.score import PictureSource
from ..portraittalk_core.types import NUM_LANDMARKS, LandmarkTrack, Speech
from .paths import temp_folder


def to_picture(image: Tensor, index: int = 0) -> Tensor:
    """One picture (H, W, 3) uint8 of an IMAGE batch (B, H, W, C) float 0..1.

    Raises:
        InputError: not an IMAGE, or without that picture.
    """
    if not isinstance(image, Tensor) or image.ndim != 4 or image.shape[0] <= index or image.shape[3] < 3:
        found = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise InputError(f"an IMAGE with at least {index + 1} RGB picture(s) is needed, not {found}.")
    pixels = image[index, ..., :3].detach().float().cpu()
    return pixels.nan_to_num(0).clamp(0, 1).mul(255).round().to(torch.uint8).contiguous()


def to_pictures(image: Tensor) -> Iterator[Tensor]:
    """All pictures of an IMAGE batch, one at a time."""
    for index in range(len(image)):
        yield to_picture(image, index)


def to_image(pictures: list[Tensor]) -> Tensor:
    """An IMAGE batch (B, H, W, 3) float 0..1 of (H, W, 3) uint8 pictures of one size."""
    import comfy.model_management

    batch = torch.empty(len(pictures), *pictures[0].shape, dtype=torch.float32)
    for into, picture in zip(batch, pictures, strict=True):  # one at a time: no second copy of the whole batch
        torch.div(picture, 255.0, out=into)
    return batch.to(comfy.model_management.intermediate_device())


def to_waveform(audio: dict | None) -> tuple[Tensor, int]:
    """Waveform (C, N) and sample rate of an AUDIO.

    Raises:
        InputError: no sound (as from a video without any), or not an AUDIO.
    """
    if audio is None:
        raise InputError("there is no audio: the video it comes from has no sound track. Connect Load Audio instead.")
    if not isinstance(audio, dict) or "waveform" not in audio or "sample_rate" not in audio:
        raise InputError(f"an AUDIO with a waveform and a sample rate is needed, not {type(audio).__name__}.")
    waveform = audio["waveform"]
    if waveform.ndim == 3 and len(waveform) > 1:
        raise InputError(f"the audio holds a batch of {len(waveform)} clips; connect one at a time.")
    return waveform.reshape(-1, waveform.shape[-1]).detach().float().cpu(), int(audio["sample_rate"])


def to_speech(audio: dict | None) -> Speech:
    """Speech of an AUDIO."""
    return speech_from_waveform(*to_waveform(audio), source="the audio input")


def to_track(face_landmarks: dict, fps: Fraction, face_index: int = 0) -> LandmarkTrack:
    """A track of newer ComfyUI's FACE_LANDMARKS; frames without that face repeat the last one.

    Raises:
        InputError: no such face in any frame, or another number of points than 478.
    """
    frames = face_landmarks.get("frames") if isinstance(face_landmarks, dict) else None
    if not frames or "image_size" not in face_landmarks:
        raise InputError("the FACE_LANDMARKS input holds no frames; connect a face landmark detector to it.")
    height, width = (int(v) for v in face_landmarks["image_size"])
    found = [_points_px(frame[face_index]) if face_index < len(frame) else None for frame in frames]
    valid = torch.tensor([points is not None for points in found])
    if not valid.any():
        raise InputError(f"none of the {len(frames)} frames of FACE_LANDMARKS holds a face number {face_index}.")
    last = next(points for points in found if points is not None)
    filled = [last := points if points is not None else last for points in found]
    return LandmarkTrack.from_px(torch.stack(filled), width, height, fps, valid)


def _points_px(face: dict) -> Tensor:
    flat = torch.as_tensor(face["landmarks_xy"]).detach().float().cpu()
    if tuple(flat.shape) != (NUM_LANDMARKS, 2):
        raise InputError(f"FACE_LANDMARKS must hold {NUM_LANDMARKS} points a face, not {tuple(flat.shape)}.")
    solid = torch.as_tensor(face.get("landmarks_3d", torch.zeros(NUM_LANDMARKS, 3))).detach().float().cpu()
    depth = solid[:, 2:3] if tuple(solid.shape) == (NUM_LANDMARKS, 3) else torch.zeros(NUM_LANDMARKS, 1)
    return torch.cat([flat, depth], 1)


@contextmanager
def video_file(video: object) -> Iterator[Path]:
    """The file behind a VIDEO; one that lives in memory is written to a temporary file for as long as needed."""
    source = video.get_stream_source() if hasattr(video, "get_stream_source") else None
    if isinstance(source, (str, Path)):
        yield Path(source)
        return
    with tempfile.TemporaryDirectory(dir=temp_folder(), prefix="portraittalk_") as folder:
        path = Path(folder) / "video.mp4"
        if isinstance(source, bytes_io.BytesIO):
            path.write_bytes(source.getvalue())
        else:
            video.save_to(str(path))
        yield path


def picture_source(images: Tensor, fps: Fraction, name: str) -> PictureSource:
    """An IMAGE batch as a video to be scored; `fps` only says how fast it plays."""
    height, width = images.shape[1:3]
    seconds = float(len(images) / fps)
    return PictureSource(name, width, height, fps, seconds, lambda _: to_pictures(images))
