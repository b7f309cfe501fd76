"""Synthetic media for every test: tones, coloured videos of any timing, files that break off."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import pytest

# Tiny tensors shared by two threads cost ten times what one thread needs. Read when torch is first imported, here and
# in every process that tests start, so set before anything imports numpy.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")

pytest_plugins = ("suite_schedule", "suite_limits", "suite_garbage")


@pytest.fixture
def write_sound(tmp_path) -> Callable[..., Path]:
    """write_sound(samples (C, N) float, rate, name="sound.wav", codec="pcm_s16le", layout=None) -> path."""

    def write(samples, rate: int, name: str = "sound.wav", codec: str = "pcm_s16le", layout: str | None = None) -> Path:
        import av
        import numpy as np

        samples = np.atleast_2d(np.asarray(samples, dtype=np.float32))
        layout = layout or {1: "mono", 2: "stereo"}[len(samples)]
        with av.open(str(tmp_path / name), "w") as file:
            stream = file.add_stream(codec, rate=rate)
            stream.layout = layout
            if codec == "aac":
                stream.bit_rate = 192_000
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), "fltp", layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            converter = av.AudioResampler(stream.format.name, layout, rate)
            for block in [*converter.resample(frame), *converter.resample(None), None]:
                file.mux(stream.encode(block))
        return tmp_path / name

    return write


@pytest.fixture
def write_video(tmp_path) -> Callable[..., Path]:
    """write_video(pictures, name="video.mp4", stamps=None, unit=1/25 s, rotation=0) -> path.

    `pictures` are (H, W, 3) uint8 arrays, or grey levels for pictures of 128×128; picture k is shown from
    stamps[k] · unit seconds on (from k · unit, unless given).
    """

    def write(
        pictures: Sequence,
        name: str = "video.mp4",
        stamps: Sequence[int] | None = None,
        unit: Fraction = Fraction(1, 25),
        rotation: int = 0,
    ) -> Path:
        import av
        import numpy as np

        pictures = [np.full((128, 128, 3), p, np.uint8) if np.ndim(p) == 0 else np.asarray(p) for p in pictures]
        with av.open(str(tmp_path / name), "w") as file:
            stream = file.add_stream("libx264", rate=1 / unit, options={"crf": "1", "preset": "ultrafast"})
            stream.height, stream.width = pictures[0].shape[:2]
            stream.pix_fmt, stream.codec_context.time_base = "yuv420p", unit
            if rotation:
                if not hasattr(type(stream), "set_display_rotation"):
                    pytest.skip("this PyAV cannot mark a video as turned")
                stream.set_display_rotation(rotation)
            for index, picture in enumerate(pictures):
                frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")
                frame.pts, frame.time_base = stamps[index] if stamps else index, unit
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
        return tmp_path / name

    return write


@pytest.fixture
def cut_file() -> Callable[[Path, float], Path]:
    """cut_file(path, share) keeps only the first part of a file."""

    def cut(path: Path, share: float = 0.5) -> Path:
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
        return path

    return cut
