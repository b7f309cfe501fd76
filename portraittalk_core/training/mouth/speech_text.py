"""Text for speech synthesis: English sentences from Python's help, else pseudo-words of syllables."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Syllables:
    """Syllable parts of a language, in its own spelling."""

    onsets: tuple[str, ...]
    vowels: tuple[str, ...]
    codas: tuple[str, ...] = ("", "", "")


_WORDS: dict[str, str | list[str]] = json.loads(Path(__file__).with_name("languages.json").read_text(encoding="utf-8"))
COMMON = tuple(_WORDS["en"].split())


def _syllables(onsets: str, vowels: str, codas: str) -> Syllables:
    ends = tuple(codas.split())
    return Syllables(tuple(onsets.split()), tuple(vowels.split()), (*ends, *[""] * (3 + 2 * len(ends))))


LANGUAGES = {language: _syllables(*parts) for language, parts in _WORDS.items() if language != "en"}


@cache
def _sentences() -> tuple[str, ...]:
    """English sentences of 4..22 plain words out of Python's help texts."""
    from pydoc_data.topics import topics

    text = " ".join(re.sub(r"\s+", " ", topic) for topic in topics.values())
    sentences = (sentence.strip() for sentence in re.findall(r"[A-Z][^.!?:`*\"_=<>()\[\]{}\\/|#]{15,140}[.!?]", text))
    plain = {s for s in sentences if re.fullmatch(r"[A-Za-z ,;'\-]+[.!?]", s) and 4 <= s.count(" ") <= 22}
    return tuple(sorted(plain))


def make_text(language: str, random: np.random.Generator) -> str:
    """One utterance to speak.

    Args:
        language: "en", or one of LANGUAGES.
        random: chooses the words.

    Returns:
        One or two sentences, with commas where a speaker pauses.
    """
    if language == "en":
        if random.uniform() < 0.5:
            return str(random.choice(_sentences()))
        return _punctuated([str(word) for word in random.choice(COMMON, random.integers(5, 16))], random)
    syllables = LANGUAGES[language]
    return _punctuated([_word(syllables, random) for _ in range(random.integers(4, 12))], random)


def make_phrase(random: np.random.Generator) -> str:
    """A short English phrase most of whose words, and above all the first, begin on the lips (p b m f v w)."""
    on_lips = [word for word in COMMON if word[0] in "pbmfvw"]
    words = [
        str(random.choice(on_lips if random.uniform() < (0.6 if place else 0.85) else COMMON))
        for place in range(random.integers(2, 8))
    ]
    return _punctuated(words, random)


def _word(syllables: Syllables, random: np.random.Generator) -> str:
    count = random.choice([1, 2, 2, 3, 3, 4])
    vowels = syllables.vowels or ("",)
    parts = (
        random.choice(syllables.onsets) + random.choice(vowels) + random.choice(syllables.codas) for _ in range(count)
    )
    return "".join(str(part) for part in parts)


def _punctuated(words: list[str], random: np.random.Generator) -> str:
    marked = [word + ("," if random.uniform() < 0.12 else "") for word in words[:-1]]
    return " ".join([*marked, words[-1]]) + str(random.choice([".", ".", ".", "?", "!"]))
