"""Text for the synthesisers: English from Python's own documentation and our word list, else words built of syllables."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import numpy as np

# fmt: off
COMMON = ["hello", "people", "good", "morning", "every", "body", "welcome", "to", "our", "show", "maybe", "you", "remember", "why", "we", "moved", "the", "boat", "before", "summer", "my", "mother", "bought", "five", "apples", "and", "a", "warm", "blue", "shirt", "what", "about", "your", "father", "he", "was", "very", "funny", "when", "we", "met", "him", "please", "open", "both", "windows", "because", "the", "room", "is", "too", "hot", "I", "never", "thought", "about", "that", "problem", "until", "you", "told", "me", "now", "show", "me", "how", "far", "away", "the", "river", "might", "be", "if", "we", "follow", "this", "old", "path", "over", "the", "mountain", "big", "brown", "bears", "may", "come", "from", "above", "the", "farm", "push", "the", "door", "very", "slowly", "and", "wait", "for", "a", "moment", "then", "watch", "the", "small", "bird", "fly", "off", "the", "roof", "most", "of", "them", "have", "been", "working", "from", "home", "for", "many", "months", "but", "some", "would", "rather", "be", "back", "in", "the", "office", "again", "president", "people", "government", "amazing", "beautiful", "simple", "problem", "number", "example", "family", "money", "water", "music", "movie", "happy", "together", "tomorrow", "probably", "important", "anybody", "favorite", "wonderful", "possible", "yellow", "purple", "orange", "banana", "umbrella", "oh", "wow", "yes", "no", "well", "so", "okay", "right", "sure", "thanks", "sorry", "maybe", "really", "actually", "exactly", "absolutely", "of", "course", "let", "us", "go"]
# fmt: on


@dataclass(frozen=True)
class Syllables:
    """What words of a language are built of, in its own spelling."""

    onsets: tuple[str, ...]
    vowels: tuple[str, ...]
    codas: tuple[str, ...] = ("", "", "")


def _parts(onsets: str, vowels: str, codas: str = "") -> Syllables:
    empty = ("",) * (3 + 2 * len(codas.split()))
    return Syllables(tuple(onsets.split()), tuple(vowels.split()), (*codas.split(), *empty))


# fmt: off
_DEVANAGARI = _parts("क ख ग घ च छ ज ट ड त थ द ध न प फ ब भ म म ब प य र ल व श स ह", "ा ि ी ु ू े ै ो ौ ा ा े", "न र म ल स")
_TELUGU = _parts("క గ చ జ ట డ త ద న ప బ భ మ మ ప బ య ర ల వ శ స హ", "ా ి ీ ు ూ ె ే ొ ో ా ా", "న్ ర్ మ్ ల్")
LANGUAGES: dict[str, Syllables] = {
    "it": _parts("b c d f g l m n p r s t v z p m b f str pr gr ch tr sp gn", "a a e i o u ia io uo ie", "n r l s"),
    "fi": _parts("h j k l m n p r s t v m p v k", "a aa e ee i ii o u uu y ä ää ö öy ie uo yö ai oi au", "n s l t r"),
    "cs": _parts("b c č d f h ch j k l m n p r ř s š t v z ž m p b v st př", "a á e é i í o u ů ou ě", "n k l s t m"),
    "ru": _parts("б в г д ж з к л м н п р с т ф х ц ч ш щ м п б в ст пр", "а а о о е и у ы я ю ё э", "н л к т м р"),
    "ca": _parts("b c d f g l m n p r s t v x j ll ny m b p pr tr", "a e i o u à è ó ai au ei", "n r l s t"),
    "hi": _DEVANAGARI, "mr": _DEVANAGARI, "te": _TELUGU,
    "de": _parts("b d f g h j k l m n p r s t w z sch st pf m b w", "a e i o u ä ö ü au ei eu ie ah oh", "n r t l ch st m"),
    "fr": _parts("b c d f g j l m n p r s t v ch m p b v gn qu", "a é è i o u ou an on in eu oi au", "r l t s"),
    "es": _parts("b c d f g j l m n p r s t v ll ch m p b qu tr", "a e i o u ie ue ai a o", "n r l s"),
    "pt-br": _parts("b c d f g j l m n p r s t v nh lh m p b v", "a e i o u ão ei ou é ó", "r l s m"),
    "nl": _parts("b d f g h j k l m n p r s t v w z sch m b w", "a aa e ee i ie o oo u uu oe eu ij ui ou", "n r t l k"),
    "pl": _parts("b c cz d f g h j k l ł m n p r rz s sz t w z ż ś m p b w", "a ą e ę i o ó u y", "n k m ł t sz"),
    "sv": _parts("b d f g h j k l m n p r s sj t v st m b f", "a e i o u y å ä ö", "n r l t sk m"),
    "hu": _parts("b c cs d f g gy h j k l m n ny p r s sz t v z zs m b p", "a á e é i í o ó ö ő u ú ü ű", "n k l t r m"),
    "tr": _parts("b c ç d f g h j k l m n p r s ş t v y z m b", "a e ı i o ö u ü", "n r l k m t"),
    "ro": _parts("b c d f g h j l m n p r s ș t ț v z m p b", "a ă â e i o u ea oa ie", "n r l t m"),
    "el": _parts("β γ δ ζ θ κ λ μ ν π ρ σ τ φ χ μπ ντ μ π φ", "α ε η ο ου ω αι ει α ο", "ς ν"),
    "id": _parts("b c d g h j k l m n p r s t w y ng ny m b p", "a e i o u ai au", "n ng k s r t m"),
    "sw": _parts("b ch d f g h j k l m n p r s sh t v w z mb nd m p", "a e i o u"),
    "cmn-latn-pinyin": _parts(
        "b p m f d t n l g k h j q x zh ch sh r z c s b p m f w y",
        "a1 a4 ai4 an1 ao3 e2 en2 ei4 i1 i4 ing2 in1 ong1 ou3 u4 ui4 uan2 ang4",
    ),
    "vi": _parts("b c d đ g h kh l m n ng nh ph qu r s t th tr v x m b ph", "a ă â e ê i o ô ơ u ư ai ao ươ", "n ng m t c p"),
    "ja": _parts("か き く さ し す た ち つ な に ぬ は ひ ふ ま み む め も ら り ろ わ ば び ぶ べ ぼ ぱ ぴ ぷ や ゆ よ ま ぼ", "", "ん"),
    "ko": _parts("가 나 다 라 마 바 사 아 자 차 카 타 파 하 머 버 모 보 무 부 미 비 매 배 우리 오 이 고 소 시 수 저 너 더", "", ""),
}
# fmt: on


@cache
def _sentences() -> tuple[str, ...]:
    """English sentences of 4..22 plain words out of Python's help texts."""
    from pydoc_data.topics import topics

    text = " ".join(re.sub(r"\s+", " ", topic) for topic in topics.values())
    found = (sentence.strip() for sentence in re.findall(r"[A-Z][^.!?:`*\"_=<>()\[\]{}\\/|#]{15,140}[.!?]", text))
    plain = {s for s in found if re.fullmatch(r"[A-Za-z ,;'\-]+[.!?]", s) and 4 <= s.count(" ") <= 22}
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
