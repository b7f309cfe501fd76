"""Real speakers as a second teacher of the mouth network: lips, jaw and width of videos, with human timing."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...engines.builtin.mouth_net import measure_mel
from ...errors import InputError
from ...media.audio import load_speech, speech_from_waveform
from ...media.files import files_below, is_hidden
from ...media.records import load_record, save_record
from ...progress import Progress
from ...speech.mel import log_mel
from ...types import MOUTH_PARAMETERS, SPEECH_RATE_HZ, LandmarkTrack, Speech
from .augment import degrade
from .speaker import TRACKED, VIDEO_SUFFIXES, SpeakerClip, at_frames, augmented, clip_of_video
from .vary_voice import FORMANTS, shift_formants

log = logging.getLogger(__name__)

WEIGHTS = (0.5, 0.6, 0.3, 0.5)  # of 1 − r, as TRACKED, and of the opening with pressed lips against the gap
_PRESS = MOUTH_PARAMETERS.index("press")
EMPTY = 1e-2  # added to the product of the norms: lips that hardly move teach nothing
RESAMPLED = 0.08  # deviation of the logarithm of the factor by which a clip is played faster


def real_clips(
    folder: Path, cache: Path, variations: int = 3, seed: int = 0, on_progress: Progress | None = None
) -> list[SpeakerClip]:
    """Training clips of every video of a folder and its folders: as recorded, and as other speakers would sound.

    Args:
        folder: with videos of speaking people.
        cache: a folder in which tracked faces are kept for the next run.
        variations: of each clip besides itself.
        seed: of the variations.
        on_progress: called with videos done and in all; may raise to stop.

    Raises:
        InputError: no video that can be learnt from.
    """
    paths = [p for p in files_below(Path(folder)) if p.suffix.lower() in VIDEO_SUFFIXES and not is_hidden(p)]
    clips: list[SpeakerClip] = []
    for number, path in enumerate(paths):
        random = np.random.default_rng([seed, 0x4EA1, number])
        try:
            speech, track = load_speech(path), _tracked(path, cache)
            clips.append(clip_of_video(speech, track, path.name))
            clips += [_another(clips[-1], speech, random) for _ in range(variations)]
        except InputError as error:
            log.warning("%s is left out: %s", path.name, error)
        if on_progress:
            on_progress(number + 1, len(paths))
    if not clips:
        raise InputError(f"{folder} holds no videos with a face and speech; leave `videos` out or give others.")
    return clips


def real_batch(clips: Sequence[SpeakerClip], segment: int, random: np.random.Generator) -> tuple[Tensor, list]:
    """(B, segment, 80) features of clips, and the parts that they show; a longer clip is cut at random."""
    mels, parts = [], []
    for clip in clips:
        frames = min(len(clip.tracked), int(segment / 100 * float(clip.fps)))
        start = int(random.integers(0, len(clip.tracked) - frames + 1))
        part = clip.part(start, start + frames)
        mel = augmented(part.mel, random)[:segment]
        mels.append(torch.nn.functional.pad(mel.T, (0, segment - len(mel)), mode="replicate").T)
        parts.append(part)
    return torch.stack(mels), parts


def real_loss(outputs: Tensor, parts: Sequence[SpeakerClip], late_s: float = 0.0) -> Tensor:
    """Mean of 1 − Pearson's r of the tracked movements over clips: free of each speaker's size and strength.

    Args:
        outputs: (B, M, 8) of the network.
        parts: B clips.
        late_s: by so much their pictures are behind the sound.
    """
    weights, losses = torch.tensor(WEIGHTS), []
    for output, part in zip(outputs, parts, strict=True):
        curves = at_frames(output, part, late_s)[part.valid]
        parting = curves[:, :1] * (1 - curves[:, _PRESS, None].clamp(0, 1))
        ours = torch.cat([curves[:, : len(TRACKED)], parting], 1)
        true = part.tracked[part.valid][:, (*range(len(TRACKED)), 0)]
        ours, true = ours - ours.mean(0), true - true.mean(0)
        norms = ours.square().mean(0) * true.square().mean(0)
        losses.append(((1 - (ours * true).mean(0) / (norms + EMPTY**2).sqrt()) * weights).sum())
    return torch.stack(losses).mean()


def _tracked(path: Path, cache: Path) -> LandmarkTrack:
    from ...face.mesh.landmarks import track_faces
    from ...media.video_read import probe_video, read_pictures

    mark = hashlib.sha256(f"{path.resolve()} {path.stat().st_size}".encode()).hexdigest()[:16]
    kept = cache / f"track_{mark}.safetensors"
    if kept.is_file():
        return load_record(LandmarkTrack, kept)
    fps = probe_video(path).fps
    track = track_faces(read_pictures(path, fps), fps, source=path.name)
    cache.mkdir(parents=True, exist_ok=True)
    save_record(track, kept)
    return track


def _another(clip: SpeakerClip, speech: Speech, random: np.random.Generator) -> SpeakerClip:
    """The clip by another throat, played a little faster or slower, and recorded in another room."""
    formants, factor = (float(np.exp(random.normal(0, spread))) for spread in (FORMANTS, RESAMPLED))
    waveform = shift_formants(speech.waveform.numpy(), float(np.clip(formants, 0.75, 1.35)))
    waveform = torch.from_numpy(np.clip(waveform, -1, 1).astype(np.float32))[None]
    played = speech_from_waveform(waveform, round(SPEECH_RATE_HZ * factor), clip.name).waveform.numpy()
    mel = log_mel(Speech(torch.from_numpy(degrade(played, random) if random.uniform() < 0.7 else played)))
    factor = round(SPEECH_RATE_HZ * factor) / SPEECH_RATE_HZ
    fps = Fraction(float(clip.fps) * factor).limit_denominator(1000)
    return replace(clip, mel=measure_mel(mel).normalise(mel), fps=fps)
