"""Synthesised speech corpus with exact phones and articulatory trajectories."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...checks import check_range
from ...errors import InputError, OutputError
from ...media.audio import speech_from_waveform
from ...media.files import explain_write_errors
from ...progress import Progress
from ...speech.mel import log_mel
from ...types import SPEECH_RATE_HZ, Speech
from .augment import degrade, music_bed, noise, vary_effort
from .kokoro import LANGUAGES as KOKORO_LANGUAGES
from .kokoro import kokoro_voice, speak_kokoro
from .phones import SILENCE, SOUNDS
from .speech_text import make_phrase, make_text
from .synthesisers import (
    ESPEAK_LANGUAGES,
    ESPEAK_VARIANTS,
    FESTIVAL,
    FLITE,
    ESpeak,
    Utterance,
    Voice,
    espeak_voice,
    speak_festival,
    speak_flite,
)
from .trajectories import RATE_HZ, Phone, Sounds, split_phones, trajectories
from .vary_voice import SpokenClip, another_voice

HELD_OUT = ("ked_diphone", "pc_diphone", "rms")  # speakers held out from training
SHARES = {"espeak": 0.35, "flite": 0.25, "festival": 0.40}  # of the corpus' clips
NEURAL = {"kokoro": 1.0}
NUM_VARIATIONS = 3  # of a neural voice's clip, whose synthesis takes longest: as spoken, and by two other speakers
CLIPS_PER_SHARD = 40
MEAN_CLIP_S = 9.0
SYMBOLS = tuple(SOUNDS)  # a shard names sounds by their place in this


@dataclass(frozen=True)
class CorpusClip:
    """One training clip."""

    mel: Tensor  # (M, 80) decibels, 100 Hz, of the degraded sound
    level: Tensor  # (M,) decibels, 100 Hz, of the clean speech
    sounds: Sounds
    voice: str

    @property
    def targets(self) -> np.ndarray:
        """(M, 7) lip and jaw movements as MOUTH_PARAMETERS, 100 Hz."""
        return trajectories(self.sounds, (len(self.mel) - 1) / RATE_HZ, self.level.float().numpy())[: len(self.mel)]

    @property
    def voice_activity(self) -> np.ndarray:
        """(M,) voice activity at 100 Hz: 1 where a sound is spoken, 0 in pauses."""
        times = np.arange(len(self.mel)) / RATE_HZ
        active = np.zeros(len(times))
        for symbol, start, end in zip(self.sounds.symbols, self.sounds.start_s, self.sounds.end_s, strict=True):
            active[(times >= start) & (times < end)] = symbol != SILENCE
        return active


def make_corpus(
    folder: Path, hours: float, seed: int = 0, on_progress: Progress | None = None, neural: bool = False
) -> list[Path]:
    """Synthesise a corpus into safetensors shards; existing shards are reused, so that a stopped run resumes.

    Args:
        folder: where the shards go.
        hours: of speech, about.
        seed: of all choices; shard i depends on seed and i alone.
        neural: whether a neural synthesiser speaks instead of Debian's.
        on_progress: called with shards done and shards in all; may raise to stop.

    Returns:
        The shards' paths.

    Raises:
        MissingDependency: a synthesiser or voice is not installed.
    """
    check_range(hours, 0.02, 500, "hours")
    count = max(1, round(hours * 3600 / MEAN_CLIP_S / CLIPS_PER_SHARD))
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    kind = "neural" if neural else "speech"
    paths = [folder / f"{kind}_{seed}_{i:04d}.safetensors" for i in range(count)]
    missing = [i for i, path in enumerate(paths) if not path.is_file()]
    workers = max(1, min(multiprocessing.cpu_count(), 8, len(missing)))
    done = count - len(missing)
    # a process for each shard: eSpeak NG remembers earlier voices, and a shard must depend on its number alone
    fresh = {"mp_context": multiprocessing.get_context("spawn"), "max_tasks_per_child": 1}
    with ProcessPoolExecutor(workers, **fresh) as pool:
        jobs = [pool.submit(_write_shard, paths[i], seed, i, NEURAL if neural else SHARES) for i in missing]
        try:
            for job in as_completed(jobs):
                job.result()
                done += 1
                if on_progress:
                    on_progress(done, count)
        except BrokenProcessPool as error:
            raise OutputError(
                f"a process that spoke the corpus ended before its shard was written ({done} of {count} are): it was "
                "killed, or memory ran out. Free memory, or ask for fewer hours, and run the same again: it goes on "
                f"where it was, in {folder}."
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return paths


def load_corpus(paths: Sequence[Path]) -> list[CorpusClip]:
    """All clips of some shards; spectrograms stay in half precision.

    Raises:
        InputError: there are none.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    clips = []
    for path in paths:
        try:
            tensors = load_file(path)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} is damaged ({error}); delete it, and it will be made again.") from error
        for name in (key[:-4] for key in tensors if key.endswith(".mel")):
            start, end = tensors[f"{name}.spans"].double().numpy()
            symbols = tuple(SYMBOLS[i] for i in tensors[f"{name}.symbols"].tolist())
            sounds = Sounds(symbols, start, end)
            clips.append(CorpusClip(tensors[f"{name}.mel"], tensors[f"{name}.level"], sounds, name.split("/")[1]))
    if not clips:
        raise InputError("the speech corpus is empty; make it first.")
    return clips


def voiceless_clips(count: int, seed: int = 0, seconds: float = 8.0) -> list[CorpusClip]:
    """Negative clips: music and noise without a voice."""
    clips = []
    for number in range(count):
        random = np.random.default_rng([seed, 0x5011, number])
        size = int(seconds * SPEECH_RATE_HZ)
        waveform = degrade(music_bed(size, random) if number % 2 else noise(size, random), random)
        mel = log_mel(Speech(torch.from_numpy(waveform))).half()
        silence = Sounds((SILENCE,), np.zeros(1), np.full(1, seconds + 1))
        clips.append(CorpusClip(mel, torch.full((len(mel),), -60.0), silence, "no voice"))
    return clips


def _write_shard(path: Path, seed: int, index: int, shares: dict[str, float]) -> None:
    from safetensors.torch import save_file

    torch.set_num_threads(1)
    random = np.random.default_rng([seed, index])
    tensors: dict[str, Tensor] = {}
    earlier: list[np.ndarray] = []
    for number, clip in enumerate(_spoken(random, shares)):
        waveform = clip.speech.waveform.numpy()
        if random.uniform() < 0.8:
            babble = np.sum([np.resize(o, 80_000) for o in earlier[-4:]], 0) if len(earlier) >= 4 else None
            waveform = degrade(waveform, random, babble)
        mel = log_mel(Speech(torch.from_numpy(waveform)))
        name = f"{number:03d}/{clip.voice.name}"
        tensors[f"{name}.mel"] = mel.half().contiguous()
        tensors[f"{name}.level"] = torch.from_numpy(level_db(clip.speech.waveform.numpy())).half()
        tensors[f"{name}.spans"] = torch.from_numpy(np.stack([clip.sounds.start_s, clip.sounds.end_s])).float()
        tensors[f"{name}.symbols"] = torch.tensor([SYMBOLS.index(s) for s in clip.sounds.symbols], dtype=torch.uint8)
        earlier.append(clip.speech.waveform.numpy())
    partial = path.with_suffix(".partial")
    save_file(tensors, partial)
    partial.rename(path)


def _spoken(random: np.random.Generator, shares: dict[str, float]) -> Iterator[SpokenClip]:
    """The clips of one shard: some of each synthesiser, one Festival voice at a time (its start takes long)."""
    programs = random.choice(list(shares), CLIPS_PER_SHARD, p=list(shares.values()))
    for program in shares:
        remaining = int((programs == program).sum())
        variations = NUM_VARIATIONS if program == "kokoro" else 1
        while remaining > 0:
            batch = min(remaining, 8 if variations == 1 else 4 * variations)
            voice = _choose_voice(program, random)
            utterances = speak_texts(voice, -(-batch * 2 // variations), random)
            for clip in join_utterances(utterances, random):
                yield clip
                yield from (another_voice(clip, random) for _ in range(variations - 1))
            remaining -= batch


def speak_texts(voice: Voice, count: int, random: np.random.Generator) -> list[Utterance]:
    """Some utterances of one voice, at one random rate and pitch each (Festival: one for all)."""
    texts = [make_text(voice.language, random) for _ in range(count)]
    if voice.program == "festival":
        return speak_festival(voice, texts, float(random.uniform(0.75, 1.35)))
    if voice.program == "kokoro":
        if voice.language == "en":  # real speech begins on the lips more often than sentences of Python's help
            texts = [text if random.uniform() < 0.5 else make_phrase(random) for text in texts]
        return speak_kokoro(voice, texts, random)
    if voice.program == "flite":
        pitch = (lambda: random.uniform(160, 240)) if voice.name == "slt" else (lambda: random.uniform(85, 150))
        utterances = [speak_flite(voice, text, float(random.uniform(0.75, 1.35)), float(pitch())) for text in texts]
    else:
        utterances = [
            _espeak().speak(voice, text, int(random.integers(120, 260)), int(random.integers(20, 80)), 60)
            for text in texts
        ]
    return [utterance for utterance in utterances if utterance is not None]


@cache
def _espeak() -> ESpeak:
    return ESpeak()


def _choose_voice(program: str, random: np.random.Generator) -> Voice:
    if program == "espeak":
        language = ESPEAK_LANGUAGES[random.integers(len(ESPEAK_LANGUAGES))]
        return espeak_voice(language, ESPEAK_VARIANTS[random.integers(len(ESPEAK_VARIANTS))])
    if program == "kokoro":
        return kokoro_voice(KOKORO_LANGUAGES[random.integers(len(KOKORO_LANGUAGES))])
    voices = [voice for voice in (FLITE if program == "flite" else FESTIVAL) if voice.name not in HELD_OUT]
    return voices[random.integers(len(voices))]


def join_utterances(utterances: list[Utterance], random: np.random.Generator) -> Iterator[SpokenClip]:
    """Clips of one to three utterances with pauses around them, at another size of the speaker's throat."""
    at = 0
    while at < len(utterances):
        group = utterances[at : at + int(random.choice([1, 2, 2, 3]))]
        at += len(group)
        parts, phones, length = [], [], 0
        for utterance in group:
            pause = int(SPEECH_RATE_HZ * random.choice([0.05, 0.2, 0.4, 0.9, 1.5]))
            parts.append(np.zeros(pause, np.float32))
            length += pause
            offset = length / SPEECH_RATE_HZ
            phones += [Phone(p.symbol, p.start_s + offset, p.end_s + offset) for p in utterance.phones]
            parts.append(utterance.speech.waveform.numpy())
            length += len(parts[-1])
        parts.append(np.zeros(int(SPEECH_RATE_HZ * random.uniform(0, 0.8)), np.float32))
        yield _resized(np.concatenate(parts), phones, group[0].voice, random)


def _resized(waveform: np.ndarray, phones: list[Phone], voice: Voice, random: np.random.Generator) -> SpokenClip:
    factor = float(np.exp(random.normal(0, 0.08)))
    speech = speech_from_waveform(torch.from_numpy(waveform)[None], round(SPEECH_RATE_HZ * factor), voice.name)
    louder = np.clip(vary_effort(speech.waveform.numpy(), random), -1, 1)
    moved = [Phone(p.symbol, p.start_s / factor, p.end_s / factor) for p in phones]
    return SpokenClip(Speech(torch.from_numpy(louder)), _with_pauses(moved, voice), voice)


def _with_pauses(phones: list[Phone], voice: Voice) -> Sounds:
    """IPA sounds of phones, with pauses in the gaps between them."""
    filled: list[Phone] = []
    end = 0.0
    for phone in phones:
        if phone.start_s > end + 0.02:
            filled.append(Phone("", end, phone.start_s))
        filled.append(phone)
        end = max(end, phone.end_s)
    filled.append(Phone("", end, end + 1.0))
    return split_phones(filled, voice.phone_set)


def level_db(waveform: np.ndarray, window_s: float = 0.04) -> np.ndarray:
    """(M,) level at 100 Hz, decibels."""
    hop, half = SPEECH_RATE_HZ // RATE_HZ, int(window_s * SPEECH_RATE_HZ / 2)
    power = np.concatenate([[0.0], np.cumsum(waveform.astype(np.float64) ** 2)])
    middle = np.arange(len(waveform) // hop + 1) * hop
    low, high = np.maximum(middle - half, 0), np.minimum(middle + half, len(waveform))
    return 10 * np.log10((power[high] - power[low]) / np.maximum(high - low, 1) + 1e-9)
