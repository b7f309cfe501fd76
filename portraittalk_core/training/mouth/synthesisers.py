"""Debian's speech synthesisers as sources of speech with exact phone timings: eSpeak NG, Flite and Festival.

Needs the packages of PACKAGES; only training uses them. Flite and Festival are run as programs (the one place of the
library where programs are run), eSpeak NG as a library.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import MissingDependency
from ...media.audio import load_speech, speech_from_waveform
from ...types import Speech
from .trajectories import Phone

PACKAGES = (
    "espeak-ng flite festival festvox-us-slt-hts festvox-kallpc16k festvox-kdlpc16k festvox-italp16k festvox-itapc16k "
    "festvox-czech-dita festvox-czech-krb festvox-czech-machac festvox-czech-ph festvox-ru festvox-suopuhe-lj "
    "festvox-suopuhe-mv festvox-ca-ona-hts festvox-hi-nsk festvox-mr-nsk festvox-te-nsk"
)
HOW_TO = f"Install them with: apt-get install {PACKAGES}"


@dataclass(frozen=True)
class Voice:
    """Voice of a synthesiser."""

    program: str  # "espeak", "flite", "festival" or "kokoro"
    name: str  # as the program calls it
    language: str  # of the text: "en", or one of speech_text.LANGUAGES
    phone_set: str  # one of phones.PHONE_SETS
    encoding: str = "utf-8"  # of the text that the program takes


@dataclass(frozen=True)
class Utterance:
    """Speech and its phones."""

    speech: Speech
    phones: tuple[Phone, ...]
    voice: Voice


FLITE = tuple(Voice("flite", name, "en", "english") for name in ("awb", "rms", "slt", "kal16"))
FESTIVAL = (
    Voice("festival", "kal_diphone", "en", "english"),
    Voice("festival", "ked_diphone", "en", "english"),
    Voice("festival", "cmu_us_slt_arctic_hts", "en", "english"),
    Voice("festival", "lp_diphone", "it", "italian", "latin-1"),
    Voice("festival", "pc_diphone", "it", "italian", "latin-1"),
    Voice("festival", "czech_dita", "cs", "czech", "iso-8859-2"),
    Voice("festival", "czech_krb", "cs", "czech", "iso-8859-2"),
    Voice("festival", "czech_machac", "cs", "czech", "iso-8859-2"),
    Voice("festival", "czech_ph", "cs", "czech", "iso-8859-2"),
    Voice("festival", "suo_fi_lj_diphone", "fi", "finnish", "latin-1"),
    Voice("festival", "hy_fi_mv_diphone", "fi", "finnish", "latin-1"),
    Voice("festival", "msu_ru_nsh_clunits", "ru", "russian"),
    Voice("festival", "upc_ca_ona_hts", "ca", "catalan", "latin-1"),
    Voice("festival", "hindi_NSK_diphone", "hi", "indic"),
    Voice("festival", "marathi_NSK_diphone", "mr", "indic"),
    Voice("festival", "telugu_NSK_diphone", "te", "indic"),
)
ESPEAK_LANGUAGES = (
    "en-us", "en", "en-gb-scotland", "de", "fr", "es", "it", "pt-br", "nl", "pl", "sv", "hu", "tr", "ro", "el",
    "ru", "cs", "fi", "id", "sw", "cmn-latn-pinyin", "vi", "ja", "ko", "hi",
)  # fmt: skip
ESPEAK_VARIANTS = ("", "f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "klatt2", "klatt4")


def espeak_voice(language: str, variant: str) -> Voice:
    """One of eSpeak NG's voices."""
    text = "en" if language.startswith("en") else language
    return Voice("espeak", f"{language}+{variant}" if variant else language, text, "ipa")


class ESpeak:
    """eSpeak NG in this process."""

    _SYNCHRONOUS, _PHONEMES_AS_IPA, _UTF8, _PHONEME_EVENT = 2, 3, 1, 7
    _RATE, _PITCH, _RANGE = 1, 3, 4

    def __init__(self) -> None:
        name = ctypes.util.find_library("espeak-ng")
        if name is None:
            raise MissingDependency(f"the library of eSpeak NG was not found. {HOW_TO}")
        self.library = ctypes.CDLL(name)
        self.rate_hz = self.library.espeak_Initialize(self._SYNCHRONOUS, 0, None, self._PHONEMES_AS_IPA)
        if self.rate_hz <= 0:
            raise MissingDependency(f"eSpeak NG does not find its own files. {HOW_TO}")
        self._sound: list[bytes] = []
        self._marks: list[tuple[float, str]] = []
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))
        self._keep = kind(self._receive)  # the library holds no reference
        self.library.espeak_SetSynthCallback(self._keep)

    def speak(self, voice: Voice, text: str, words_per_min: int, pitch: int, pitch_range: int) -> Utterance | None:
        """Synthesise a text; None if the voice gives no sound for it."""
        self._sound.clear()
        self._marks.clear()
        if self.library.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise MissingDependency(f"eSpeak NG has no voice {voice.name}. {HOW_TO}")
        for setting, value in ((self._RATE, words_per_min), (self._PITCH, pitch), (self._RANGE, pitch_range)):
            self.library.espeak_SetParameter(setting, value, 0)
        encoded = text.encode()
        self.library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, self._UTF8, None, None)
        return _utterance(self._samples(), self.rate_hz, _spans(self._marks), voice)

    def phonemes(self, text: str, language: str) -> str:
        """A text in IPA, with marks of stress, without its punctuation."""
        if self.library.espeak_SetVoiceByName(language.encode()) != 0:
            raise MissingDependency(f"eSpeak NG has no voice {language}. {HOW_TO}")
        self.library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        rest, clauses = ctypes.c_char_p(text.encode()), []
        while rest.value:
            clause = self.library.espeak_TextToPhonemes(ctypes.byref(rest), self._UTF8, self._PHONEMES_AS_IPA)
            clauses.append(re.sub(r"\(.*?\)", "", (clause or b"").decode("utf-8", "ignore")))
        return " ".join(clauses)

    def _samples(self) -> np.ndarray:
        return np.frombuffer(b"".join(self._sound), np.int16).astype(np.float32) / 32768

    def _receive(self, samples: int | None, count: int, events: ctypes.Array) -> int:
        if samples and count > 0:
            self._sound.append(ctypes.string_at(samples, 2 * count))
        i = 0
        while events[i].type != 0:
            if events[i].type == self._PHONEME_EVENT:
                name = bytes(events[i].id).split(b"\0")[0].decode("utf-8", "ignore")
                self._marks.append((events[i].sample / self.rate_hz, name))
            i += 1
        return 0


class _Event(ctypes.Structure):
    """espeak_EVENT of eSpeak NG's public header."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    ]


def speak_flite(voice: Voice, text: str, stretch: float, pitch_hz: float) -> Utterance | None:
    """Synthesise a text with Flite; None without sound."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "speech.wav")
        options = ["--setf", f"duration_stretch={stretch:.3f}", "--setf", f"int_f0_target_mean={pitch_hz:.0f}"]
        output = _run("flite", ["-voice", voice.name, *options, "-psdur", "-t", text, "-o", str(path)])
        ends = [(name, float(end)) for name, end in re.findall(r"(\S+):([0-9.]+)", output)]
        if not path.is_file() or not ends:
            return None
        return Utterance(load_speech(path), tuple(_from_ends(ends)), voice)


def speak_festival(voice: Voice, texts: list[str], stretch: float) -> list[Utterance]:
    """Synthesise several texts in one Festival process; failed ones are left out."""
    with tempfile.TemporaryDirectory() as folder:
        lines = [f"(voice_{voice.name})", f"(Parameter.set 'Duration_Stretch {stretch:.3f})"]
        for number, text in enumerate(texts):
            quoted = text.replace("\\", "").replace('"', "")
            saves = f'(utt.save.segs u "{folder}/{number}.lab") (utt.save.wave u "{folder}/{number}.wav")'
            lines.append(f'(unwind-protect (let ((u (utt.synth (Utterance Text "{quoted}")))) {saves}) nil)')
        script = Path(folder, "speak.scm")
        script.write_bytes("\n".join(lines).encode(voice.encoding, "ignore"))
        _run("festival", ["-b", str(script)])
        return [
            utterance for number in range(len(texts)) if (utterance := _festival_result(Path(folder), number, voice))
        ]


def _festival_result(folder: Path, number: int, voice: Voice) -> Utterance | None:
    sound, labels = folder / f"{number}.wav", folder / f"{number}.lab"
    if not sound.is_file() or not labels.is_file() or sound.stat().st_size < 4000:
        return None
    rows = [line.split() for line in labels.read_text("latin-1").splitlines() if line[:1].isdigit()]
    ends = [(row[2], float(row[0])) for row in rows if len(row) >= 3]
    return Utterance(load_speech(sound), tuple(_from_ends(ends)), voice) if ends else None


def _run(program: str, arguments: list[str]) -> str:
    path = shutil.which(program)
    if path is None:
        raise MissingDependency(f"the speech synthesiser {program} was not found. {HOW_TO}")
    done = subprocess.run([path, *arguments], capture_output=True, timeout=300, check=False)
    return done.stdout.decode("utf-8", "ignore")


def _from_ends(ends: list[tuple[str, float]]) -> list[Phone]:
    starts = [0.0, *(end for _, end in ends[:-1])]
    return [Phone(name, start, end) for (name, end), start in zip(ends, starts, strict=True)]


def _spans(marks: list[tuple[float, str]]) -> list[Phone]:
    ends = [at for at, _ in marks[1:]]
    return [Phone(name, at, end) for (at, name), end in zip(marks, ends, strict=False)]


def _utterance(samples: np.ndarray, rate_hz: int, phones: list[Phone], voice: Voice) -> Utterance | None:
    import torch

    if len(samples) < rate_hz // 4 or len(phones) < 3:
        return None
    speech = speech_from_waveform(torch.from_numpy(samples)[None], rate_hz, voice.name)
    return Utterance(speech, tuple(phones), voice)
