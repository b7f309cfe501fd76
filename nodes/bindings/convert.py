"""Conversion between ComfyUI's values and the core's: the only place that permutes, clamps and moves to a device."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor

from ...portraittalk_core.checks import check_finite
from ...portraittalk_core.errors import InputError, MissingDependency
from ...portraittalk_core.evaluation.source import PictureSource
from ...portraittalk_core.face.mesh.tracking import filled
from ...portraittalk_core.media.audio import speech_from_waveform
from ...portraittalk_core.media.image import MAX_SIDE_PX, MIN_SIDE_PX
from ...portraittalk_core.types import NUM_LANDMARKS, LandmarkTrack, Speech, as_fps
from .paths import temp_folder

log = logging.getLogger(__name__)


def to_portrait(image: Tensor) -> Tensor:
    """The first picture of an IMAGE batch, (H, W, 3) uint8, checked as a portrait file would be.

    Raises:
        InputError: not an IMAGE, not numbers, or a side outside 128..4096 pixels.
    """
    picture = to_picture(image)
    height, width = picture.shape[:2]
    if min(width, height) < MIN_SIDE_PX or max(width, height) > MAX_SIDE_PX:
        raise InputError(
            f"the portrait is {width}×{height} pixels; each side must be {MIN_SIDE_PX} to {MAX_SIDE_PX}. "
            "Resize it first, for example with Upscale Image."
        )
    return picture


def to_picture(image: Tensor, index: int = 0) -> Tensor:
    """One picture (H, W, 3) uint8 of an IMAGE batch (B, H, W, C) float 0..1; transparency is laid on white.

    Raises:
        InputError: not an IMAGE, without that picture, or with values that are not numbers.
    """
    if not isinstance(image, Tensor) or image.ndim != 4 or image.shape[0] <= index or image.shape[3] not in (1, 3, 4):
        received = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise InputError(f"an IMAGE with at least {index + 1} picture(s) is needed, not {received}.")
    pixels = check_finite(image[index].detach().float().cpu(), "the IMAGE").clamp(0, 1)
    if pixels.shape[2] == 4:
        pixels = 1 + (pixels[..., :3] - 1) * pixels[..., 3:]
    return pixels.expand(-1, -1, 3).mul(255).round().to(torch.uint8).contiguous()


def to_pictures(image: Tensor) -> Iterator[Tensor]:
    """All pictures of an IMAGE batch, one at a time."""
    for index in range(len(image)):
        yield to_picture(image, index)


def to_masks(masks: list[Tensor]) -> Tensor:
    """A MASK batch (B, H, W) float 0..1 of masks of one size."""
    import comfy.model_management

    return torch.stack(masks).to(comfy.model_management.intermediate_device())


def to_picture_masks(mask: Tensor | None, pictures: list[Tensor]) -> list[Tensor] | None:
    """A mask (H, W) 0..1 of every picture's size; one for all or one for each.

    Raises:
        InputError: not a MASK, or another number than pictures.
    """
    if mask is None:
        return None
    masks = mask[None] if isinstance(mask, Tensor) and mask.ndim == 2 else mask
    if not isinstance(masks, Tensor) or masks.ndim != 3 or len(masks) not in (1, len(pictures)):
        received = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise InputError(f"one mask, or one for each of {len(pictures)} pictures, is needed, not {received}.")
    masks = check_finite(masks.detach().float().cpu(), "the mask").clamp(0, 1)
    return [
        torch.nn.functional.interpolate(picture_mask[None, None], picture.shape[:2], mode="bilinear")[0, 0]
        for picture_mask, picture in zip(masks.expand(len(pictures), -1, -1), pictures, strict=True)
    ]


def to_latents(latent: dict) -> Tensor:
    """Latents (B, 4, h, w) of a LATENT.

    Raises:
        InputError: not a LATENT of SD1.5, or with values that are not numbers.
    """
    samples = latent.get("samples") if isinstance(latent, dict) else None
    if not isinstance(samples, Tensor) or samples.ndim != 4 or samples.shape[1] != 4 or not len(samples):
        received = tuple(samples.shape) if isinstance(samples, Tensor) else type(samples).__name__
        raise InputError(f"a LATENT of SD1.5, (frames, 4, height/8, width/8), is needed, not {received}.")
    return check_finite(samples, "the LATENT")


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
    if not isinstance(waveform, Tensor) or waveform.ndim not in (1, 2, 3) or waveform.numel() == 0:
        received = tuple(waveform.shape) if isinstance(waveform, Tensor) else type(waveform).__name__
        raise InputError(
            f"the audio input holds no sound, its waveform is {received}; connect a clip with speech in it."
        )
    if waveform.ndim == 3 and len(waveform) > 1:
        raise InputError(f"the audio input holds a batch of {len(waveform)} clips; connect one at a time.")
    flat = waveform.reshape(-1, waveform.shape[-1]).detach().float().cpu()
    return check_finite(flat, "the sound of the audio input"), int(audio["sample_rate"])


def to_speech(audio: dict | None) -> Speech:
    """Speech of an AUDIO."""
    return speech_from_waveform(*to_waveform(audio), source="the audio input")


def to_track(face_landmarks: dict, fps: Fraction, face_index: int = 0, on_missing: str = "hold") -> LandmarkTrack:
    """A track of newer ComfyUI's FACE_LANDMARKS.

    Args:
        face_landmarks: what its face landmark detector gives.
        fps: frames per second.
        face_index: which face of the first frame that holds so many, in the detector's own order.
        on_missing: what to do with frames without the face, see `face.mesh.track_faces`.

    Raises:
        InputError: no such face in any frame, one frame without it if `on_missing` is "error", or not 478 points.
    """
    frames = face_landmarks.get("frames") if isinstance(face_landmarks, dict) else None
    if not frames or "image_size" not in face_landmarks:
        raise InputError("the FACE_LANDMARKS input holds no frames; connect a face landmark detector to it.")
    height, width = (int(v) for v in face_landmarks["image_size"])
    points_px = _one_face(frames, face_index)
    missing = [i for i, points in enumerate(points_px) if points is None]
    if len(missing) == len(frames):
        raise InputError(f"none of the {len(frames)} frames of FACE_LANDMARKS holds a face number {face_index}.")
    if missing and on_missing == "error":
        raise InputError(
            f"{len(missing)} of the {len(frames)} frames of FACE_LANDMARKS show no face, the first is frame "
            f"{missing[0]}; choose hold or interpolate."
        )
    valid = torch.tensor([points is not None for points in points_px])
    return LandmarkTrack.from_px(filled(points_px, on_missing), width, height, fps, valid)


def _one_face(frames: list[list[dict]], face_index: int) -> list[Tensor | None]:
    """(478, 3) pixels of one tracked face a frame, None where missing: the detector's order may change."""
    tracked: list[Tensor | None] = []
    last = None
    for faces in frames:
        points = [_points_px(face) for face in faces]
        if last is None:
            face = points[face_index] if face_index < len(points) else None
        else:
            distances = [float((p[:, :2].mean(0) - last[:, :2].mean(0)).norm()) for p in points]
            size = float((last[:, :2].amax(0) - last[:, :2].amin(0)).max())
            face = points[distances.index(min(distances))] if distances and min(distances) < size else None
        last = last if face is None else face
        tracked.append(face)
    return tracked


def _points_px(face: dict) -> Tensor:
    """(478, 3) pixels of one face; its depth is given in the units of the network's own crop."""
    flat = torch.as_tensor(face["landmarks_xy"]).detach().float().cpu()
    if tuple(flat.shape) != (NUM_LANDMARKS, 2):
        raise InputError(f"FACE_LANDMARKS must hold {NUM_LANDMARKS} points a face, not {tuple(flat.shape)}.")
    solid = torch.as_tensor(face.get("landmarks_3d", torch.zeros(NUM_LANDMARKS, 3))).detach().float().cpu()
    if tuple(solid.shape) != (NUM_LANDMARKS, 3):
        return torch.cat([flat, torch.zeros(NUM_LANDMARKS, 1)], 1)
    # crop and picture differ by a turn, a shift and a scale: the scale is the ratio of the spreads
    scale = flat.var(0).sum().sqrt() / solid[:, :2].var(0).sum().sqrt().clamp(min=1e-6)
    return torch.cat([flat, solid[:, 2:] * scale], 1)


@contextmanager
def video_file(video: object) -> Iterator[Path]:
    """The file behind a VIDEO; one that is in memory or a part of a file is written out for as long as needed."""
    from comfy_api.input_impl import VideoFromFile

    source = video.get_stream_source() if hasattr(video, "get_stream_source") else None
    if isinstance(source, (str, Path)) and abs(VideoFromFile(str(source)).get_duration() - video.get_duration()) < 0.02:
        yield Path(source)
        return
    with tempfile.TemporaryDirectory(dir=temp_folder(), prefix="portraittalk_") as folder:
        path = Path(folder) / "video.mp4"
        if isinstance(source, BytesIO):
            path.write_bytes(source.getvalue())
        else:
            video.save_to(str(path))
        yield path


def video_frames(video: object) -> tuple[Tensor, Fraction] | None:
    """IMAGE frames and frames per second of a VIDEO that consists of frames in memory, as Create Video makes it."""
    from comfy_api.input_impl import VideoFromComponents

    if not isinstance(video, VideoFromComponents):
        return None
    parts = video.get_components()
    return parts.images, as_fps(Fraction(parts.frame_rate))


def picture_source(images: Tensor, fps: Fraction, name: str) -> PictureSource:
    """An IMAGE batch as a video that can be read at any frame rate: the frame shown at each moment.

    Raises:
        InputError: not an IMAGE, or without a frame.
    """
    if images.ndim != 4:
        raise InputError(f"{name} must be an IMAGE with at least 1 frame, not {tuple(images.shape)}.")
    return PictureSource.of_frames(name, len(images), images.shape[1:3], fps, lambda k: to_picture(images, k))


def to_plot(track: LandmarkTrack, speech: Speech) -> Tensor:
    """A track's curves as an IMAGE; a small grey picture where matplotlib is not installed."""
    from ...portraittalk_core.plots.track import plot_track

    try:
        return to_image([plot_track(track, speech)])
    except MissingDependency as error:
        log.warning("no plot: %s", error)
        return torch.full((1, 64, 64, 3), 0.5)
