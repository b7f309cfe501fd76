"""Closures of lips on real words: GRID's sentences, whose words are aligned, with phones from a lexicon."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from torch import Tensor

from portraittalk_core.engines.builtin.live import USUAL
from portraittalk_core.engines.builtin.mouth import fit_to, predict_mouth
from portraittalk_core.engines.builtin.mouth_model import load_mouth
from portraittalk_core.errors import InputError
from portraittalk_core.face.geometry import mouth_open
from portraittalk_core.media.audio import load_speech
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.motion.smoothing import frame_times_s
from portraittalk_core.training.mouth.closures import Closures, add_closures, add_gap
from portraittalk_core.training.mouth.phones import SILENCE
from portraittalk_core.training.mouth.trajectories import Sounds

from .lipsync_clips import tracked_video
from .lipsync_tables import Table, progress
from .lipsync_training import curves_at, streamed

UNITS_PER_S = 25_000  # of an .align file
FPS = Fraction(50)
WITHIN_S = 0.04
VIDEOS, SOUND = (".mpg", ".mp4"), ".wav"

# GRID's 51 words, in the speakers' British English
LEXICON = {
    "bin": "b ɪ n", "lay": "l e ɪ", "place": "p l e ɪ s", "set": "s ɛ t", "blue": "b l u", "green": "ɡ ɹ i n",
    "red": "ɹ ɛ d", "white": "w a ɪ t", "at": "æ t", "by": "b a ɪ", "in": "ɪ n", "with": "w ɪ ð", "again": "ə ɡ ɛ n",
    "now": "n a ʊ", "please": "p l i z", "soon": "s u n", "zero": "z ɪ ɹ ə ʊ", "one": "w ʌ n", "two": "t u",
    "three": "θ ɹ i", "four": "f ɔ", "five": "f a ɪ v", "six": "s ɪ k s", "seven": "s ɛ v ə n", "eight": "e ɪ t",
    "nine": "n a ɪ n", "a": "e ɪ", "b": "b i", "c": "s i", "d": "d i", "e": "i", "f": "ɛ f", "g": "d ʒ i",
    "h": "e ɪ t ʃ", "i": "a ɪ", "j": "d ʒ e ɪ", "k": "k e ɪ", "l": "ɛ l", "m": "ɛ m", "n": "ɛ n", "o": "ə ʊ",
    "p": "p i", "q": "k j u", "r": "ɑ", "s": "ɛ s", "t": "t i", "u": "j u", "v": "v i", "x": "ɛ k s",
    "y": "w a ɪ", "z": "z ɛ d", "sil": "", "sp": "",
}  # fmt: skip
# usual lengths of sounds, of which a word's own length is shared out; stops are short, tense vowels long
LENGTHS_S = {"stop": 0.07, "hiss": 0.11, "nasal": 0.07, "glide": 0.06, "lax": 0.08, "tense": 0.13}
KINDS = {
    "stop": "pbtdkɡ", "hiss": "szʃʒfvθð", "nasal": "mn", "glide": "lɹwj", "lax": "ɪɛæʌəʊ", "tense": "iuɔɑea",
}  # fmt: skip
_LENGTH = {symbol: LENGTHS_S[kind] for kind, symbols in KINDS.items() for symbol in symbols}


@dataclass(frozen=True)
class GridClip:
    """One sentence."""

    name: str
    sound: Path
    sounds: Sounds
    video: Path | None


def read_align(path: Path) -> Sounds:
    """Timed sounds of an .align file: start, end in 1/25,000 s and word, line by line.

    Raises:
        InputError: no such lines, or a word that GRID has not.
    """
    symbols, starts, ends = [], [], []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            start, end, word = line.split()
            start_s, end_s = int(start) / UNITS_PER_S, int(end) / UNITS_PER_S
            phones = LEXICON[word].split() or [SILENCE]
        except (ValueError, KeyError) as error:
            raise InputError(
                f"{path.name} holds the line {line!r}; an .align file has start, end, GRID word."
            ) from error
        lengths = np.array([_LENGTH.get(phone, 1.0) for phone in phones])
        edges = start_s + (end_s - start_s) * np.concatenate([[0], np.cumsum(lengths) / lengths.sum()])
        symbols += phones
        starts += edges[:-1].tolist()
        ends += edges[1:].tolist()
    return Sounds(tuple(symbols), np.array(starts), np.array(ends))


def load_grid(folder: Path) -> list[GridClip]:
    """The sentences of a folder and its folders: <name>.align, and <name>.wav or the video's sound.

    Raises:
        InputError: none.
    """
    folder = Path(folder)
    aligns = {path.stem: path for path in sorted(folder.rglob("*.align"))}
    files = {path.suffix.lower() + path.stem: path for path in folder.rglob("*") if path.is_file()}
    clips = []
    for name, path in aligns.items():
        video = next((files[suffix + name] for suffix in VIDEOS if suffix + name in files), None)
        sound = files.get(SOUND + name, video)
        if sound is not None:
            clips.append(GridClip(name, sound, read_align(path), video))
    if not clips:
        raise InputError(f"{folder} holds no .align files with .wav or .mpg files of the same names beside them.")
    return clips


def closures_table(clips: list[GridClip], weights: Path | None, lips: bool, tracks: Path | None) -> Table:
    """Table of closures: of the built-in engine, streamed, and of the speaker's own lips where they are asked for."""
    ours, live, own = Closures(), Closures(), Closures()
    net = load_mouth(weights)
    for number, clip in enumerate(clips, 1):
        progress(f"words of GRID: {number}/{len(clips)} {clip.name}")
        speech = load_speech(clip.sound)
        times = frame_times_s(speech.num_frames(FPS), FPS)
        add_closures(ours, predict_mouth(speech, MotionOptions(fps=FPS), weights), times, clip.sounds, WITHIN_S)
        add_closures(live, curves_at(fit_to(streamed(speech, net)[:, :7], USUAL), times), times, clip.sounds, WITHIN_S)
        if lips and clip.video is not None:
            add_gap(own, *_own_gap(clip, tracks), clip.sounds, WITHIN_S)
    progress("")
    rows = [_row("ours", ours), _row("ours, live", live)]
    rows += [_row("the speaker's own lips", own)] * bool(own.bilabials)
    title = (
        f"Lips on {len(clips)} sentences of GRID, within {1000 * WITHIN_S:.0f} ms of the sound's middle (asked: ≥ 92 %)"
    )
    header = [
        "lips",
        "words with p, b, m",
        "closed",
        "f, v",
        "tucked",
        "vowels",
        "closed in vowels",
        "tucked in vowels",
    ]
    return Table(title, header, rows)


def _own_gap(clip: GridClip, tracks: Path | None) -> tuple[Tensor, Tensor]:
    track = tracked_video(clip.video, Fraction(25), tracks)
    return mouth_open(track), frame_times_s(len(track), track.fps)


def _row(name: str, closures: Closures) -> list[str]:
    def share(kind: str) -> str:
        return f"{closures.share(kind):.1%}" if getattr(closures, kind) else "–"

    numbers = (len(closures.bilabials), len(closures.labiodentals), len(closures.vowels_closed))
    return [
        name, str(numbers[0]), share("bilabials"), str(numbers[1] or "–"), share("labiodentals"), str(numbers[2]),
        share("vowels_closed"), share("vowels_tucked"),
    ]  # fmt: skip
