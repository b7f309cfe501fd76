"""A film's own sound under the new one, as that of another speaker who was dubbed before."""

from __future__ import annotations

from pathlib import Path

from comfy_api.latest import io
from torch import Tensor

from ...portraittalk_core.media.several_sounds import summed_sounds
from ...portraittalk_core.media.video_read import probe_video

KEEP = "keep_film_sound"


def keep_sound_widget() -> io.Input:
    """The widget that keeps it."""
    return io.Boolean.Input(
        KEEP, default=False, optional=True,
        tooltip="Add audio to the film's own sound, instead of replacing it: for another speaker of a film that this "
        "node has dubbed before.",
    )  # fmt: skip


def with_film_sound(film: Path, sound: tuple[Tensor, int] | None) -> tuple[Tensor, int] | None:
    """The sum of a film's own sound and a new one; of a silent film the new one, and the film's where there is none.

    Args:
        film: the file.
        sound: waveform (C, N) and rate.
    """
    if not probe_video(film).has_sound:
        return sound
    return summed_sounds([film] if sound is None else [film, sound])
