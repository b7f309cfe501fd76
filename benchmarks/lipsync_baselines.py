"""Baseline predictors of mouth opening: loudness, a fixed band, Rhubarb, ridge regression."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import wave
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from portraittalk_core.speech.mel import MEL_RATE_HZ, log_mel
from portraittalk_core.types import Speech

from .lipsync_clips import Clip

WINDOW_S = 0.06
BAND_HZ, BAND_FLOOR_DB = (300.0, 3000.0), 40.0
# How far each of Rhubarb's mouth shapes is open, 0 closed .. 1 widest, after the pictures in its manual.
RHUBARB_OPEN = {"X": 0, "A": 0, "B": 0.15, "C": 0.45, "D": 1, "E": 0.5, "F": 0.2, "G": 0.1, "H": 0.35}
RHUBARB_SMOOTH_S, RHUBARB_RATE_HZ = 0.12, 200
RIDGE_BANDS, RIDGE_CONTEXT, RIDGE_FLOOR_DB, RIDGE_PENALTY = 20, 6, 55.0, 3e3


@dataclass(frozen=True)
class Prediction:
    """Predicted mouth curves; None for those that a predictor does not give."""

    gap: Tensor  # (T,) any unit
    width: Tensor | None = None  # (T,)
    jaw: Tensor | None = None  # (T,); where None, the gap stands for it


@dataclass(frozen=True)
class Predictor:
    """A named function from a clip to predicted mouth curves."""

    name: str
    predict: Callable[[Clip], Prediction]
    constant: bool = False  # it does not move: only its error says something


def simple_predictors() -> list[Predictor]:
    """Predictors that need neither training nor an external program."""
    return [
        Predictor("constant", lambda clip: Prediction(torch.zeros(len(clip))), constant=True),
        Predictor("RMS envelope", lambda clip: Prediction(rms_envelope(clip.speech.waveform, len(clip), clip.fps))),
        Predictor("log band 300–3000 Hz", lambda clip: Prediction(log_band(clip.speech, len(clip), clip.fps))),
    ]


def rms_envelope(waveform: Tensor, num_frames: int, fps: Fraction) -> Tensor:
    """(num_frames,) root mean square of 60 ms around each video frame's middle; beyond the ends it is silent."""
    half = int(WINDOW_S / 2 * Speech.sample_rate)
    middles = ((torch.arange(num_frames) + 0.5) / float(fps) * Speech.sample_rate).long()
    power = torch.cat([torch.zeros(1, dtype=torch.float64), waveform.double().square().cumsum(0)])
    ends = [(middles + side).clamp(0, len(waveform)) for side in (-half, half)]
    return ((power[ends[1]] - power[ends[0]]) / (2 * half)).clamp(min=1e-12).sqrt()


def log_band(speech: Speech, num_frames: int, fps: Fraction) -> Tensor:
    """(num_frames,) decibels of the band 300–3000 Hz, no lower than 40 dB below the clip's loud moments."""
    from scipy.signal import butter, sosfiltfilt

    sections = butter(4, BAND_HZ, "bandpass", fs=Speech.sample_rate, output="sos")
    band = torch.from_numpy(sosfiltfilt(sections, speech.waveform.numpy()).copy())
    level = 20 * (rms_envelope(band, num_frames, fps) + 1e-6).log10()
    return torch.maximum(level, level.quantile(0.95) - BAND_FLOOR_DB)


def find_rhubarb(path: str | None) -> str | None:
    """Path of Rhubarb's executable: the given one, else one on PATH, else None."""
    return shutil.which(path or "rhubarb")


def rhubarb_predictors(executable: str) -> list[Predictor]:
    """Predictors by Rhubarb, one for each of its two recognisers."""

    def predictor(recogniser: str) -> Predictor:
        return Predictor(f"Rhubarb, {recogniser}", lambda clip: Prediction(_rhubarb(executable, recogniser, clip)))

    return [predictor(recogniser) for recogniser in ("pocketSphinx", "phonetic")]


def _rhubarb(executable: str, recogniser: str, clip: Clip) -> Tensor:
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder) / "speech.wav"
        with wave.open(str(sound), "wb") as file:
            file.setparams((1, 2, Speech.sample_rate, 0, "NONE", ""))
            samples = (clip.speech.waveform.clamp(-1, 1) * 32767).to(torch.int16)
            file.writeframes(samples.numpy().tobytes())
        command = [executable, "--quiet", "--recognizer", recogniser, "--exportFormat", "json"]
        command += ["--extendedShapes", "GHX", os.fspath(sound)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    cues = [(cue["start"], cue["end"], RHUBARB_OPEN[cue["value"]]) for cue in json.loads(done.stdout)["mouthCues"]]
    return cues_to_curve(cues, len(clip), clip.fps)


def cues_to_curve(cues: list[tuple[float, float, float]], num_frames: int, fps: Fraction) -> Tensor:
    """(num_frames,) of (start s, end s, openness) cues: smoothed over 120 ms, read at the frames' middles."""
    steps = torch.zeros(int(num_frames / fps * RHUBARB_RATE_HZ) + RHUBARB_RATE_HZ)
    for start, end, openness in cues:
        steps[int(start * RHUBARB_RATE_HZ) : int(end * RHUBARB_RATE_HZ)] = openness
    half = int(RHUBARB_SMOOTH_S * RHUBARB_RATE_HZ) // 2
    padded = torch.nn.functional.pad(steps[None, None], (half, half), mode="replicate")
    smooth = torch.nn.functional.avg_pool1d(padded, 2 * half + 1, stride=1)[0, 0]
    return smooth[((torch.arange(num_frames) + 0.5) / float(fps) * RHUBARB_RATE_HZ).long()]


class Ridge:
    """Linear regression from log-mel surroundings to the gap, trained on the clips of every other speaker."""

    def __init__(self, clips: list[Clip]) -> None:
        self._sums = [(clip.speaker, *self._products(clip)) for clip in clips]
        self._weights = {speaker: self._fit(speaker) for speaker in {clip.speaker for clip in clips}}

    def predictor(self) -> Predictor:
        """The ridge regression as a predictor of its clips."""
        return Predictor("ridge on log-mel, other speakers", lambda clip: Prediction(self.predict(clip)))

    def predict(self, clip: Clip) -> Tensor:
        """(T,) opening, in standard deviations, by weights trained without the clip's speaker."""
        return torch.from_numpy(surroundings(clip.speech, len(clip), clip.fps) @ self._weights[clip.speaker])

    def _products(self, clip: Clip) -> tuple[np.ndarray, np.ndarray]:
        valid = clip.valid.numpy()
        x = surroundings(clip.speech, len(clip), clip.fps)[valid]
        y = _standard(clip.gap.double().numpy()[valid])
        return x.T @ x, x.T @ y

    def _fit(self, left_out: str) -> np.ndarray:
        products = [(xx, xy) for speaker, xx, xy in self._sums if speaker != left_out]
        if not products:
            raise ValueError("ridge regression needs clips of at least two speakers")
        xx, xy = (sum(parts) for parts in zip(*products, strict=True))
        return np.linalg.solve(xx + RIDGE_PENALTY * np.eye(len(xx)), xy)


def surroundings(speech: Speech, num_frames: int, fps: Fraction) -> np.ndarray:
    """(num_frames, 520) standardised log-mel levels from six video frames before to six after, two for each."""
    mel = log_mel(speech).numpy().astype(np.float64)
    bands = mel.reshape(len(mel), RIDGE_BANDS, -1).mean(2)
    bands = np.maximum(bands, np.percentile(bands, 95) - RIDGE_FLOOR_DB)
    times_s = (np.arange(2 * num_frames) + 0.5) / (2 * float(fps))
    at = np.clip(np.rint(times_s * MEL_RATE_HZ).astype(int), 0, len(bands) - 1)
    frames = _standard(bands[at]).reshape(num_frames, -1)
    padded = np.pad(frames, ((RIDGE_CONTEXT, RIDGE_CONTEXT), (0, 0)), mode="edge")
    return _standard(np.concatenate([padded[i : i + num_frames] for i in range(2 * RIDGE_CONTEXT + 1)], 1))


def _standard(values: np.ndarray) -> np.ndarray:
    return (values - values.mean(0)) / (values.std(0) + 1e-3)
