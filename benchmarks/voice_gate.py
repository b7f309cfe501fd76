"""The voice gate on speech, on sounds without a voice, and on speech mixed with noise and music.

Beside it, in the same run, the gate of levels alone that it replaces, and that gate with the voice output of the
built-in mouth network, as the built-in engine used it.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from portraittalk_core.engines.builtin.mouth_model import LiveMouth, load_mouth, run_mouth
from portraittalk_core.engines.builtin.mouth_net import OUTPUTS, measure_mel
from portraittalk_core.errors import InputError
from portraittalk_core.media.audio import load_speech
from portraittalk_core.motion.smoothing import gaussian_smoothing
from portraittalk_core.motion.speaking_gate import speaking_gate
from portraittalk_core.speech.mel import log_mel
from portraittalk_core.speech.voice_activity import LiveVoiceGate, voice_activity
from portraittalk_core.speech.voice_network import WINDOW, voice_probability
from portraittalk_core.types import SPEECH_RATE_HZ, Speech

from .lipsync_tables import Table, progress, show, to_markdown
from .voice_gate_before import level_activity

PURPOSE = "how often the mouth may move in speech, and in music, noise and breath, beside the gate of before"
SOUNDS = (".wav", ".mp3", ".m4a", ".ogg", ".flac")
SNR_DB = (20, 10, 5, 0, -5, -10)
PAD_S, NEAR_S = 3.0, 0.5  # of no voice before and after a speech, and of it what is too near to be judged
SPEECH_DB = -25.0  # below the speech's level: surely spoken above
PAUSE_S = 0.5  # shorter pauses are the lips' own affair
SECONDS = 10.0  # of each made sound

Gate = Callable[[Speech], Tensor]


@dataclass(frozen=True)
class Labels:
    """What a clip with silence around it holds, every 10 ms: frames of speech, and frames without."""

    spoken: Tensor  # (M,) bool
    outside: Tensor  # (M,) bool, before and after the speech


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's options."""
    parser.add_argument("--speech", type=Path, nargs="+", required=True, metavar="FOLDER", help="clean speech: sounds")
    parser.add_argument("--singing", type=Path, nargs="*", default=[], metavar="FILE", help="singing, told apart")
    parser.add_argument("--others", type=Path, metavar="FOLDER", help="more sounds in which nobody speaks")
    parser.add_argument("--without", nargs="*", default=[], metavar="NAME", help="names in --speech that are no speech")
    parser.add_argument("--out", type=Path, metavar="FILE", help=".md: the tables")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print and write; 2 if there is nothing to measure."""
    torch.set_num_threads(1)
    singing = {path.stem for path in args.singing}
    speech = {
        path.stem: load_speech(path).waveform
        for folder in args.speech
        for path in _sounds(folder)
        if path.stem not in {*args.without, *singing}
    }
    if not speech:
        sys.stderr.write("no sound was found in --speech.\n")
        return 2
    sung = {path.stem: load_speech(path).waveform for path in args.singing}
    others = made_sounds() | {p.stem: load_speech(p).waveform for p in (_sounds(args.others) if args.others else [])}
    tables = [_alone(speech, sung, others), *(_mixed(speech, sung, name, others[name]) for name in ("noise", "music"))]
    tables.append(_speed(next(iter(speech.values()))))
    for table in tables:
        show(table)
    if args.out:
        args.out.write_text("\n".join(map(to_markdown, tables)), encoding="utf-8")
    return 0


def gates() -> dict[str, Gate]:
    """Voice activity of a clip at 100 Hz: the gate before, that with the mouth network, today's, the live one."""
    return {
        "levels": level_activity,
        "levels and mouth network": lambda speech: level_activity(speech) * _mouth_voice(speech),
        "voice gate": voice_activity,
        "voice gate, live": _live,
    }


def _live(speech: Speech) -> Tensor:
    """The live gate, 40 ms at a time, seen as late as the live mouth answers."""
    gate, late = LiveVoiceGate(), round(100 * LiveMouth.latency_s)
    opened = torch.cat([gate.push(piece) for piece in F.pad(speech.waveform, (0, SPEECH_RATE_HZ)).split(640)])
    frames = torch.arange(len(speech.waveform) // 160 + 1) + late
    return opened[(frames * 160 // WINDOW - 1).clamp(0, len(opened) - 1)]


def _mouth_voice(speech: Speech) -> Tensor:
    """What the built-in engine multiplied the gate of levels by."""
    mel = log_mel(speech)
    voice = run_mouth(load_mouth(), [mel], measure_mel(mel))[:, OUTPUTS.index("voice")]
    return ((gaussian_smoothing(voice, 5.0) - 0.2) / 0.2).clamp(0, 1).repeat_interleave(2)[: len(mel)]


def made_sounds() -> dict[str, Tensor]:
    """Sounds without a voice, 10 s each, −1..1 at 16 kHz."""
    generator = torch.Generator().manual_seed(0)
    t = torch.arange(int(SECONDS * SPEECH_RATE_HZ)) / SPEECH_RATE_HZ
    noise = torch.randn(len(t), generator=generator)
    beat = (t * 2) % 1
    breath_in = _coloured(noise, lambda hz: 1 / (1 + ((hz - 1200) / 900).square())) * (
        (math.tau * t / 3).sin().clamp(min=0)
    )
    music = _music(t, generator)
    sounds = {
        "silence": torch.zeros_like(t),
        "noise": noise,
        "pink noise": _coloured(noise, lambda hz: hz.clamp(min=20).rsqrt()),
        "pulsed noise": noise * (beat < 0.4),
        "breath": breath_in,
        "hum": sum((math.tau * 50 * k * t).sin() / k for k in (1, 2, 3, 5, 7)),
        "organ": _chord(t, (261.6, 329.6, 392.0), 9) * (0.65 + 0.35 * (math.tau * 6 * t).sin()),
        "organ melody": _melody(t, generator, lambda age: (age * 40).clamp(max=1), 8),
        "plucked": _melody(t, generator, lambda age: (-6 * age).exp(), 12),
        "music": music,
    }
    return {name: 0.3 * sound / sound.abs().amax().clamp(min=1e-9) for name, sound in sounds.items()}


def _chord(t: Tensor, pitches_hz: tuple[float, ...], partials: int) -> Tensor:
    return sum((math.tau * pitch * k * t).sin() / k for pitch in pitches_hz for k in range(1, partials))


def _melody(t: Tensor, generator: torch.Generator, envelope: Callable[[Tensor], Tensor], partials: int) -> Tensor:
    """Chords of a major scale, two a second, whose loudness is a function of the seconds since they began."""
    sound = torch.zeros_like(t)
    note = SPEECH_RATE_HZ // 2
    for start in range(0, len(t), note):
        root = 196.0 * 2 ** (int(torch.randint(0, 13, (), generator=generator)) / 12)
        part = t[start : start + note]
        sound[start : start + note] = _chord(part, (root, 1.26 * root, 1.5 * root), partials) * envelope(part - part[0])
    return sound


def _music(t: Tensor, generator: torch.Generator) -> Tensor:
    """Plucked and held chords over a bass, with a drum on every beat."""
    drum = torch.randn(len(t), generator=generator) * (-25 * ((2 * t) % 1)).exp()
    bass = (math.tau * 65.4 * t).sin() * (-3 * ((2 * t) % 1)).exp()
    chords = [_melody(t, generator, envelope, 10) for envelope in (lambda age: (-4 * age).exp(), torch.ones_like)]
    return chords[0] + 0.5 * chords[1] + 2 * drum + 2 * bass


def _coloured(noise: Tensor, gain: Callable[[Tensor], Tensor]) -> Tensor:
    hz = torch.fft.rfftfreq(len(noise), 1 / SPEECH_RATE_HZ)
    return torch.fft.irfft(torch.fft.rfft(noise) * gain(hz), len(noise))


def padded(waveform: Tensor) -> tuple[Tensor, Labels]:
    """A speech with three seconds of silence before and after it, and where it speaks, by the loudness of 20 ms."""
    pad = int(PAD_S * SPEECH_RATE_HZ)
    sound = F.pad(waveform, (pad, pad))
    power = F.avg_pool1d(sound.square()[None, None], 320, 160, 160)[0, 0]
    level = 10 * power.clamp(min=1e-12).log10()
    loud = torch.quantile(level[level > level.max() - 40], 0.95)
    near = int((PAD_S - NEAR_S) * 100)
    outside = torch.zeros_like(level, dtype=torch.bool)
    outside[10:near], outside[-near:-10] = True, True
    return sound, Labels(level > loud + SPEECH_DB, outside)


def opened(gate: Gate, sound: Tensor) -> Tensor:
    """(M,) bool: where the gate lets the mouth move, every 10 ms."""
    return speaking_gate(gate(Speech(sound.contiguous()))) > 0.5


def _shares(gate: Gate, clips: list[tuple[Tensor, Labels]]) -> tuple[float, float]:
    """Share of the frames with speech, and of those without, in which the mouth may move."""
    right = total = wrong = quiet = 0
    for sound, labels in clips:
        moves = opened(gate, sound)
        num = min(len(moves), len(labels.spoken))
        spoken, outside, moves = labels.spoken[:num], labels.outside[:num], moves[:num]
        right, total = right + int((moves & spoken).sum()), total + int(spoken.sum())
        wrong, quiet = wrong + int((moves & outside).sum()), quiet + int(outside.sum())
    return right / max(total, 1), wrong / max(quiet, 1)


def _alone(speech: dict[str, Tensor], sung: dict[str, Tensor], others: dict[str, Tensor]) -> Table:
    body = []
    names = gates()
    for kind, sounds in (("speech", speech), ("singing", sung)):
        for name, waveform in sounds.items():
            progress(f"{kind}: {name}")
            body.append([kind, name, *(f"{_shares(gate, [padded(waveform)])[0]:.3f}" for gate in names.values())])
    for name, waveform in others.items():
        progress(f"no voice: {name}")
        shares = (opened(gate, waveform).float().mean() for gate in names.values())
        body.append(["no voice", name, *(f"{float(share):.3f}" for share in shares)])
    progress("")
    return Table("Share of the frames in which the mouth may move, clip by clip", ["kind", "clip", *names], body)


def _mixed(speech: dict[str, Tensor], sung: dict[str, Tensor], name: str, other: Tensor) -> Table:
    names, body = gates(), []
    for snr in SNR_DB:
        progress(f"{name} at {snr} dB")
        row = [str(snr)]
        for sounds in (speech, sung):
            clips = [_with(waveform, other, snr) for waveform in sounds.values()]
            for gate in names.values():
                share, wrong = _shares(gate, clips)
                row += [f"{share:.3f}", f"{wrong:.3f}"] if sounds is speech else [f"{share:.3f}"]
        body.append(row)
    progress("")
    header = [f"{gate}: {what}" for gate in names for what in ("speech", "beside it")]
    header += [f"{gate}: singing" for gate in names]
    return Table(f"With {name}, by decibels that the speech lies above it", ["dB", *header], body)


def _with(waveform: Tensor, other: Tensor, snr_db: float) -> tuple[Tensor, Labels]:
    sound, labels = padded(waveform)
    mixed_in = other.repeat(len(sound) // len(other) + 1)[: len(sound)]
    power = waveform.square().mean() / mixed_in.square().mean() / 10 ** (snr_db / 10)
    mixed = sound + power.sqrt() * mixed_in
    return mixed / mixed.abs().amax().clamp(min=1), labels


def _speed(waveform: Tensor) -> Table:
    rows = []
    for seconds in (10, 600):
        clip = Speech(waveform.repeat(600 * SPEECH_RATE_HZ // len(waveform) + 1)[: seconds * SPEECH_RATE_HZ])
        started = time.process_time()
        voice_probability(clip)
        network = time.process_time() - started
        started = time.process_time()
        voice_activity(clip)
        whole = time.process_time() - started
        rows.append([str(seconds), f"{network:.3f}", f"{whole:.3f}", f"{1000 * whole / seconds:.2f}"])
    return Table("Processor seconds, one core", ["s of sound", "network", "voice gate", "ms per s"], rows)


def _sounds(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder.")
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SOUNDS)
