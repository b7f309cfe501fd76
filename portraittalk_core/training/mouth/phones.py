"""Articulatory targets of lips and jaw by IPA symbol, and IPA tables of the synthesisers' phone sets.

Values follow articulatory phonetics (vowel height sets jaw and lips, rounding narrows and protrudes, bilabials close,
labiodentals tuck the lower lip under the upper teeth); dominance says how strictly a sound insists on its own.
Source: Cohen and Massaro, Modeling coarticulation in synthetic visual speech, 1993 (dominance); IPA chart (features).
"""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path

SILENCE = ""  # the symbol of a pause


@dataclass(frozen=True)
class Articulation:
    """Articulatory targets of one sound, and their dominance."""

    targets: tuple[float, ...]  # one per types.MOUTH_PARAMETERS; opening and jaw 0..1, width −1..1, the others 0..1
    dominance: tuple[float, ...]  # one per types.MOUTH_PARAMETERS, 0 leaves it to the neighbours
    vowel: bool = False


def _sound(
    opening: float, jaw: float, width: float = 0.0, rounding: float = 0.0, *,
    insists: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0), raises: float = 0.0, tuck: float = 0.0,
    press: float = 0.0,
) -> Articulation:  # fmt: skip
    lips, chin, aside, forward = insists
    strict = 4.0 if press or tuck else 1.0
    targets = (opening, jaw, width, rounding, raises, tuck, press)
    return Articulation(targets, (lips, chin, aside, forward, lips, strict, strict))


def _vowel(opening: float, jaw: float, width: float, rounding: float = 0.0) -> Articulation:
    raises = 0.25 * max(width, 0.0)
    return replace(_sound(opening, jaw, width, rounding, raises=raises), vowel=True)


_WEAK = (0.35, 0.45, 0.3, 0.25)  # tongue sounds leave the lips to the vowels around them
_CORONAL = (0.55, 0.8, 0.4, 0.25)
_HISS = (0.9, 1.3, 0.7, 0.6)
_CLOSED = (5.0, 1.2, 0.5, 0.5)

# fmt: off
SOUNDS: dict[str, Articulation] = {
    SILENCE: _sound(0.0, 0.0, 0.1, insists=(0.6, 0.6, 0.4, 0.5)),
    # open to close, front spread, back rounded
    "a": _vowel(0.95, 1.0, 0.10), "ɐ": _vowel(0.80, 0.85, 0.05), "ɑ": _vowel(0.95, 1.0, -0.05),
    "ɒ": _vowel(0.70, 0.9, -0.3, 0.4), "æ": _vowel(0.95, 0.9, 0.45), "ʌ": _vowel(0.62, 0.65, 0.0),
    "ɔ": _vowel(0.55, 0.75, -0.5, 0.6), "ɛ": _vowel(0.80, 0.65, 0.50), "œ": _vowel(0.50, 0.6, -0.4, 0.6),
    "e": _vowel(0.62, 0.48, 0.60), "ø": _vowel(0.30, 0.42, -0.6, 0.8), "o": _vowel(0.38, 0.55, -0.7, 0.85),
    "ə": _vowel(0.36, 0.35, 0.0), "ɜ": _vowel(0.40, 0.40, -0.1, 0.15), "ɚ": _vowel(0.36, 0.35, -0.2, 0.3),
    "ɤ": _vowel(0.42, 0.45, 0.1), "ɪ": _vowel(0.46, 0.33, 0.45), "i": _vowel(0.42, 0.22, 0.80),
    "ɨ": _vowel(0.38, 0.25, 0.30), "ʏ": _vowel(0.20, 0.25, -0.6, 0.8), "y": _vowel(0.12, 0.18, -0.8, 1.0),
    "ʊ": _vowel(0.20, 0.30, -0.6, 0.7), "u": _vowel(0.10, 0.20, -0.9, 1.0), "ɯ": _vowel(0.34, 0.22, 0.3),
    # lips
    "p": _sound(0.0, 0.22, -0.1, insists=_CLOSED, press=1.0), "b": _sound(0.0, 0.22, -0.1, insists=_CLOSED, press=1.0),
    "m": _sound(0.0, 0.22, -0.1, insists=_CLOSED, press=0.9),
    "β": _sound(0.10, 0.25, insists=(2.5, 1, 0.4, 0.4), press=0.3),
    "f": _sound(0.15, 0.18, -0.1, insists=(2.0, 1.2, 0.5, 0.5), raises=0.5, tuck=1.0),
    "v": _sound(0.15, 0.20, -0.1, insists=(2.0, 1.2, 0.5, 0.5), raises=0.4, tuck=0.9),
    "w": _sound(0.06, 0.22, -0.9, 1.0, insists=(1.8, 0.8, 2.0, 2.5)),
    "ɥ": _sound(0.10, 0.2, -0.8, 0.9, insists=(1.5, 0.8, 1.6, 2.0)),
    # tongue tip and teeth; sibilants show the teeth between parted lips
    "t": _sound(0.26, 0.16, 0.30, insists=_CORONAL), "d": _sound(0.28, 0.18, 0.25, insists=_CORONAL),
    "n": _sound(0.28, 0.22, 0.20, insists=_CORONAL), "l": _sound(0.34, 0.34, -0.15, insists=_CORONAL),
    "ɾ": _sound(0.32, 0.28, insists=_WEAK), "r": _sound(0.34, 0.32, insists=_WEAK),
    "θ": _sound(0.32, 0.22, 0.05, insists=_CORONAL), "ð": _sound(0.32, 0.26, insists=_CORONAL),
    "s": _sound(0.45, 0.04, 0.50, insists=_HISS, raises=0.25),
    "z": _sound(0.43, 0.06, 0.45, insists=_HISS, raises=0.25),
    "ɹ": _sound(0.22, 0.30, -0.5, 0.5, insists=(0.8, 0.6, 0.9, 1.1)),
    # tongue body and back
    "ʃ": _sound(0.48, 0.12, -0.3, 0.6, insists=(0.9, 1.3, 0.9, 1.3), raises=0.3),
    "ʒ": _sound(0.46, 0.12, -0.3, 0.6, insists=(0.9, 1.3, 0.9, 1.3), raises=0.3),
    "j": _sound(0.34, 0.20, 0.60, insists=(0.7, 0.7, 0.9, 0.8)), "ɲ": _sound(0.30, 0.22, 0.3, insists=_CORONAL),
    "ʎ": _sound(0.34, 0.28, 0.3, insists=_CORONAL), "ç": _sound(0.34, 0.18, 0.4, insists=_CORONAL),
    "k": _sound(0.42, 0.32, 0.1, insists=_WEAK), "ɡ": _sound(0.42, 0.32, 0.1, insists=_WEAK),
    "ŋ": _sound(0.40, 0.32, insists=_WEAK), "x": _sound(0.42, 0.35, insists=_WEAK),
    "ʁ": _sound(0.40, 0.40, insists=_WEAK), "h": _sound(0.42, 0.42, insists=(0.15, 0.15, 0.1, 0.1)),
    "ʔ": _sound(0.38, 0.35, insists=(0.15, 0.2, 0.1, 0.1)),
}

# other IPA symbols that look alike on the lips
ALIKE = {
    "ɘ": "ə", "ɵ": "ø", "ɝ": "ɜ", "ɞ": "œ", "ʉ": "u", "ɶ": "œ", "ᵻ": "ɪ", "ᵿ": "ʊ", "ɫ": "l", "ɭ": "l", "ɬ": "l",
    "ʈ": "t", "ɖ": "d", "ɳ": "n", "ɽ": "ɾ", "ɻ": "ɹ", "ʐ": "ʒ", "ʂ": "ʃ", "ɕ": "ʃ", "ʑ": "ʒ", "ɟ": "ɡ", "c": "k",
    "g": "ɡ",
    "q": "k", "ɣ": "ɡ", "χ": "x", "ħ": "h", "ɦ": "h", "ʕ": "ʔ", "ɸ": "f", "ʋ": "v", "ɱ": "v", "ɓ": "b", "ɗ": "d",
    "ɠ": "ɡ",
    "ʀ": "ʁ", "ɴ": "ŋ", "ʍ": "w", "ɰ": "ɡ", "ʙ": "b", "ɺ": "ɾ",
}
# fmt: on

PHONE_SETS: dict[str, dict[str, str]] = json.loads(
    Path(__file__).with_name("phone_sets.json").read_text(encoding="utf-8")
)  # per synthesiser: its name of a phone → IPA


def to_sounds(symbol: str, phone_set: str) -> list[str]:
    """The IPA symbols of one phone as a synthesiser names it: one, two of a diphthong or an affricate, or silence.

    Args:
        symbol: the synthesiser's own name of the phone.
        phone_set: one of PHONE_SETS.

    Returns:
        Keys of SOUNDS; an unknown symbol becomes a neutral ə, so that it never closes a mouth.
    """
    if symbol.startswith("("):
        return [SILENCE]  # eSpeak NG's note that a word is read in another language
    table = PHONE_SETS[phone_set]
    ipa = table.get(symbol, table.get(symbol.rstrip("1:"), symbol.rstrip("1:")))
    if phone_set == "russian" and len(ipa) == 2 and ipa[0] == ipa[1]:
        ipa = ipa[0]  # doubled letters are palatalised consonants
    keys = [sound for sign in unicodedata.normalize("NFC", ipa) if (sound := _sound_key(sign))]
    return keys or ([SILENCE] if not ipa else ["ə"])


def _sound_key(sign: str) -> str:
    """Key of SOUNDS for one IPA character; empty for a diacritic."""
    plain = sign if sign in SOUNDS or sign in ALIKE else unicodedata.normalize("NFD", sign)[0]
    plain = ALIKE.get(plain, plain)
    return plain if plain in SOUNDS else ""
