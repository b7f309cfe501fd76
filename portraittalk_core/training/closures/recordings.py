"""People's speech with its words, aligned sound by sound: the words' phones found again by pocketsphinx."""

from __future__ import annotations

import logging
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import InputError, MissingDependency
from ...media.audio import load_speech
from ...media.files import files_below, is_hidden
from ...media.text_files import read_text
from ...progress import Progress
from ...speech.mel import log_mel
from ...types import SPEECH_RATE_HZ, Speech
from ..mouth.speech_corpus import CorpusClip
from ..mouth.trajectories import Phone, split_phones

log = logging.getLogger(__name__)

SOUNDS = (".wav", ".flac", ".mp3", ".ogg", ".mpg", ".mp4")
FRAME_S, MIDDLE_S = 0.01, 0.005  # of pocketsphinx: a frame, and by how much its window's middle lies behind its start
EDGE_S, LONGEST_S = 0.03, 0.5  # a word cut off at a clip's edge, or held so long, was not aligned
PEAK, LOUDNESS, JOINED_S = 0.7, 0.05, 4.5  # for the aligner; and of what is joined, to so many seconds at least


def aligned_recordings(folder: Path, on_progress: Progress | None = None) -> list[CorpusClip]:
    """Every sound of a folder and its folders that has its words in a .txt file of the same name.

    Recordings of single words are joined, some seconds at a time, so that a clip has more than one sound's statistics.
    What cannot be read, or is not heard to say its words, is left out and told.

    Args:
        folder: of the recordings.
        on_progress: called with sounds done and sounds in all; may raise to stop.

    Raises:
        InputError: none can be used.
        MissingDependency: pocketsphinx is not installed.
    """
    decoder = _decoder()
    paths = [p for p in files_below(Path(folder)) if p.suffix.lower() in SOUNDS and not is_hidden(p)]
    paths = [path for path in paths if path.with_suffix(".txt").is_file()]
    clips, parts = [], _Joined()
    for number, path in enumerate(paths, 1):
        if on_progress:
            on_progress(number, len(paths))
        try:
            waveform = load_speech(path).waveform.numpy()
            text = read_text(path.with_suffix(".txt"), "the words", "write what is said as UTF-8 text")
        except InputError as error:
            log.warning("%s is left out: %s", path.name, error)
            continue
        phones = _aligned(decoder, waveform, _words(text))
        if not is_plausible(phones, len(waveform) / SPEECH_RATE_HZ):
            log.warning("%s is left out: its words are not heard in it.", path.name)
            continue
        parts.add(waveform, phones)
        if parts.seconds >= JOINED_S:
            clips.append(parts.clip())
            parts = _Joined()
    if parts.seconds:
        clips.append(parts.clip())
    if not clips:
        raise InputError(
            f"{folder} holds no recording that can be used; put sounds there, each with its words in a .txt "
            "file of the same name."
        )
    return clips


class _Joined:
    """Recordings one after another, equally loud."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._waveforms: list[np.ndarray] = []
        self._phones: list[Phone] = []

    def add(self, waveform: np.ndarray, phones: list[Phone]) -> None:
        """Add (N,) samples at 16 kHz and their phones."""
        self._waveforms.append(waveform / max(float(np.sqrt(np.mean(waveform**2))), 1e-6) * LOUDNESS)
        self._phones += [Phone(p.symbol, p.start_s + self.seconds, p.end_s + self.seconds) for p in phones]
        self.seconds += len(waveform) / SPEECH_RATE_HZ

    def clip(self) -> CorpusClip:
        """All of them."""
        waveform = np.concatenate(self._waveforms).astype(np.float32)
        mel = log_mel(Speech(torch.from_numpy(np.clip(waveform, -1, 1))))
        return CorpusClip(mel.half(), mel.mean(1), split_phones(self._phones, "english"), "recording")


def _decoder() -> Any:  # noqa: ANN401  pocketsphinx's own
    try:
        return import_module("pocketsphinx").Decoder(loglevel="FATAL")
    except ImportError as error:
        raise MissingDependency(
            "recordings need the package pocketsphinx, which aligns words; install it with: pip install pocketsphinx"
        ) from error


def _words(text: str) -> str:
    return " ".join(re.sub(r"[^a-z' ()0-9]", " ", text.lower().replace("-", " ")).split())


def _aligned(decoder: Any, waveform: np.ndarray, words: str) -> list[Phone]:  # noqa: ANN401  pocketsphinx's own
    """Phones in pocketsphinx' ARPAbet, "pau" in silence; none where the words are not found."""
    loud = waveform / max(float(np.abs(waveform).max()), 1e-6) * PEAK
    samples = (loud * 32767).astype("<i2").tobytes()
    try:
        decoder.set_align_text(words)
        _decode(decoder, samples)
        if decoder.hyp() is None:
            return []
        decoder.set_alignment()
        _decode(decoder, samples)
        alignment = decoder.get_alignment()
    except RuntimeError:  # a word that its dictionary has not
        return []
    return [_phone(entry.name, phone) for entry in alignment or () for phone in entry]


def _decode(decoder: Any, samples: bytes) -> None:  # noqa: ANN401
    decoder.start_utt()
    decoder.process_raw(samples, full_utt=True)
    decoder.end_utt()


def _phone(word: str, phone: Any) -> Phone:  # noqa: ANN401
    silent = phone.name == "SIL" or phone.name.startswith("+") or word.startswith("<")
    start = phone.start * FRAME_S + MIDDLE_S
    return Phone("pau" if silent else phone.name.lower(), start, start + phone.duration * FRAME_S)


def is_plausible(phones: list[Phone], seconds: float) -> bool:
    """Whether words were aligned within a recording, and none held for long, as a sound that fits nothing is."""
    spoken = [phone for phone in phones if phone.symbol != "pau"]
    if len(spoken) < 2 or spoken[0].start_s < EDGE_S or spoken[-1].end_s > seconds - EDGE_S:
        return False
    return max(phone.end_s - phone.start_s for phone in spoken) <= LONGEST_S
