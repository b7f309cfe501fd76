"""Lip sync of the mouth network: streamed, on unseen synthesised speakers, and after fitting to real ones."""

from __future__ import annotations

import statistics
from pathlib import Path

import torch
from torch import Tensor

from portraittalk_core.engines.builtin.mouth_model import LiveMouth, load_mouth
from portraittalk_core.engines.builtin.mouth_net import OUTPUT_RATE_HZ, MouthNet, measure_mel
from portraittalk_core.errors import MissingDependency
from portraittalk_core.motion.smoothing import frame_times_s, sample_at
from portraittalk_core.speech.mel import log_mel
from portraittalk_core.training.mouth.held_out import held_out_voices, judge_voice
from portraittalk_core.training.mouth.speaker import SpeakerClip, SpeakerFit, fit_speaker, lip_r
from portraittalk_core.types import MOUTH_PARAMETERS, MouthCurves, Speech

from .lipsync_baselines import Prediction
from .lipsync_clips import Clip
from .lipsync_tables import Table, progress

PIECE_S = 0.04  # how much sound arrives at once, live
FOLDS = 5


def live(clip: Clip, weights: Path | None = None) -> Prediction:
    """Prediction of the network on streamed sound, with its delay compensated."""
    outputs = streamed(clip.speech, load_mouth(weights))
    mouth = curves_at(outputs.clamp(min=0), frame_times_s(len(clip), clip.fps))
    return Prediction(mouth.parting, mouth.width, mouth.jaw)


def streamed(speech: Speech, net: MouthNet) -> Tensor:
    """(M, 8) outputs at 50 Hz of a network on streamed sound, with its delay compensated."""
    stream = LiveMouth(net)
    pieces = speech.waveform.split(int(PIECE_S * speech.sample_rate))
    return torch.cat([stream.push(piece) for piece in (*pieces, torch.zeros(8000))])


def curves_at(outputs: Tensor, times_s: Tensor) -> MouthCurves:
    """Curves at (T,) moments of (M, ≥ 7) outputs at 50 Hz."""
    columns = outputs.T[: len(MOUTH_PARAMETERS)]
    return MouthCurves(*(sample_at(column, OUTPUT_RATE_HZ, times_s) for column in columns))


def held_out_table(weights: Path | None = None) -> Table:
    """Table of correlation with the articulatory targets, and of lips on single sounds, for unseen speakers."""
    shares = ("bilabials", "labiodentals", "vowels", "short_pauses", "silence")
    header = ["speaker", "s", "opening r", "jaw r", "width r", "rounding r", "/p b m/ closed", "/f v/ tucked"]
    header += ["vowels closed", "short pauses at rest", "silence closed"]
    body = []
    for voice in held_out_voices():
        progress(f"held out: {voice.name}")
        try:
            scores = judge_voice(voice, network=weights)
        except MissingDependency as error:
            body.append([voice.name, f"not measured: {error}", *[""] * (len(header) - 2)])
            continue
        rs = [f"{r:.3f}" for r in (scores.opening, scores.jaw, scores.width, scores.rounding)]
        body.append([voice.name, f"{scores.seconds:.0f}", *rs, *(f"{getattr(scores, name):.1%}" for name in shares)])
    progress("")
    title = "Synthesised speakers that no training heard (asked: r ≥ 0.9, /p b m/ and /f v/ ≥ 92 %, silence ≥ 99 %)"
    return Table(title, header, body)


def fitted_table(clips: list[Clip], weights: Path | None = None) -> Table:
    """Table of lip correlation before and after fitting to the other speakers, in five folds by speaker."""
    base, speakers = load_mouth(weights), sorted({clip.speaker for clip in clips})
    examples = {clip.name: _example(clip) for clip in clips}
    rows: list[tuple[float, ...]] = []
    for fold in range(FOLDS):
        progress(f"fitting to the other speakers: {fold + 1}/{FOLDS}")
        left_out = set(speakers[fold::FOLDS])
        net = fit_speaker(base, [examples[c.name] for c in clips if c.speaker not in left_out], SpeakerFit())
        for clip in (c for c in clips if c.speaker in left_out):
            rows.append(tuple(lip_r(n, examples[clip.name], lag) for lag in (2, 0) for n in (base, net)))
    progress("")
    best, best_fitted, zero, zero_fitted = zip(*rows, strict=True)
    body = [
        ["before", f"{statistics.mean(best):.3f}", f"{statistics.mean(zero):.3f}", f"{min(best):.2f}"],
        [
            "after",
            f"{statistics.mean(best_fitted):.3f}",
            f"{statistics.mean(zero_fitted):.3f}",
            f"{min(best_fitted):.2f}",
        ],
    ]
    title = f"Fitted to the clips of the other speakers ({len(speakers)} speakers, {FOLDS} folds)"
    return Table(title, ["", "r, ±2 frames", "r, zero lag", "worst clip"], body)


def _example(clip: Clip) -> SpeakerClip:
    mel = log_mel(clip.speech)
    curves = torch.stack([clip.gap, clip.jaw, clip.width], 1).float()
    mean, spread = curves[clip.valid].mean(0), curves[clip.valid].std(0).clamp(min=1e-4)
    return SpeakerClip(measure_mel(mel).normalise(mel), (curves - mean) / spread, clip.valid, clip.fps, clip.name)
