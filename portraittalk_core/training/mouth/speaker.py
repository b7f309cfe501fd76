"""Speaker adaptation of the mouth network from video, with cross-validated gain."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...checks import beyond
from ...engines.builtin.mouth_net import OUTPUT_RATE_HZ, OUTPUTS, STRIDE, MouthNet, measure_mel, vocal_tracts
from ...errors import InputError
from ...face import topology as topo
from ...face.geometry import align
from ...media.files import is_hidden
from ...metrics.lip_sync import lip_correlation
from ...motion.rig import face_axes
from ...progress import Progress
from ...speech.mel import log_mel
from ...threads import one_torch_thread
from ...types import LandmarkTrack, Speech
from .augment import mask_bands

log = logging.getLogger(__name__)

MIN_S = 20.0  # of video, in all
ADVISED_S = 60.0
# outputs that landmarks measure; the network's other outputs are regularised to stay as they were
TRACKED = ("opening", "jaw", "width")
SPREADS = (0.20, 0.20, 0.25)  # deviation of each while somebody speaks, in the network's units
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg")


@dataclass(frozen=True)
class SpeakerClip:
    """Speech features and tracked mouth of a clip."""

    mel: Tensor  # (M, 80) normalised
    tracked: Tensor  # (T, 3) as TRACKED, of mean 0 and deviation 1 within the clip
    valid: Tensor  # (T,) bool
    fps: Fraction
    name: str

    def part(self, start: int, stop: int) -> SpeakerClip:
        """Frames start..stop-1 as a clip of their own."""
        first, last = (round(frame / float(self.fps) * 50) * STRIDE for frame in (start, stop))
        return SpeakerClip(self.mel[first:last], self.tracked[start:stop], self.valid[start:stop], self.fps, self.name)


@dataclass(frozen=True)
class SpeakerFit:
    """Settings of a speaker adaptation."""

    steps: int = 300
    batch: int = 8
    segment_s: float = 4.0
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    keep: float = 2.0  # weight of the regularisation towards the base network's other outputs
    folds: int = 4
    seed: int = 0


@dataclass(frozen=True)
class HeldBack:
    """Lip correlation on a held-out part, before and after adaptation."""

    name: str
    before: float  # Pearson's r of the lip gap, best lag within ±2 frames
    after: float
    seconds: float


def clip_of_video(speech: Speech, track: LandmarkTrack, name: str) -> SpeakerClip:
    """Training clip of a video's sound and landmarks."""
    mel = log_mel(speech)
    count = min(len(track), speech.num_frames(track.fps))
    tracked = tracked_mouth(track)[:count]
    valid = track.valid[:count]
    if int(valid.sum()) < 25:
        raise InputError(f"{name} shows a face in {int(valid.sum())} frames only; at least 25 are needed.")
    mean, spread = tracked[valid].mean(0), tracked[valid].std(0).clamp(min=1e-4)
    return SpeakerClip(measure_mel(mel).normalise(mel), (tracked - mean) / spread, valid, track.fps, name)


def tracked_mouth(track: LandmarkTrack) -> Tensor:
    """(T, 3) inner-lip gap, chin drop and mouth width, inter-ocular units, with the head's pose taken out."""
    points = track.points_px
    middle = points[track.valid].median(0).values if track.valid.any() else points[0]
    axes, origin, unit = face_axes(middle)
    local, rest = (points - origin) @ axes.T / unit, (middle - origin) @ axes.T / unit
    rigid = list(topo.RIGID)
    scale, rotation, shift = align(local[:, rigid], rest[rigid].expand(len(local), -1, -1))
    still = scale[:, None, None] * local @ rotation.transpose(1, 2) + shift[:, None]
    gap = (still[:, topo.INNER_LIP_BOTTOM] - still[:, topo.INNER_LIP_TOP])[:, :2].norm(dim=1)
    jaw = still[:, topo.CHIN, 1] - still[:, topo.NOSE_TIP, 1]
    width = (still[:, topo.MOUTH_CORNERS[1]] - still[:, topo.MOUTH_CORNERS[0]]).norm(dim=1)
    return torch.stack([gap, jaw, width], 1)


def fit_speaker(
    base: MouthNet, clips: Sequence[SpeakerClip], fit: SpeakerFit | None = None, on_progress: Progress | None = None
) -> MouthNet:
    """Fit a copy of a network to some clips.

    Args:
        base: where to begin.
        clips: what to learn from.
        fit: how.
        on_progress: called with steps done and steps in all; may raise to stop.
    """
    fit = fit or SpeakerFit()
    torch.manual_seed(fit.seed)
    random = np.random.default_rng(fit.seed)
    net = copy.deepcopy(base).requires_grad_(True).eval()  # batch statistics stay those of the large corpus
    optimizer = torch.optim.AdamW(net.parameters(), fit.learning_rate, weight_decay=fit.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, fit.learning_rate, fit.steps, pct_start=0.2)
    shares = np.sqrt([len(clip.tracked) for clip in clips])  # so that one long clip does not outweigh the others
    shares /= shares.sum()
    size = min(int(fit.segment_s * float(clip.fps)) for clip in clips)
    size = min(size, *(len(clip.tracked) for clip in clips))
    with one_torch_thread():
        for step in range(1, fit.steps + 1):
            segments = [_segment(clips[i], size, random) for i in random.choice(len(clips), fit.batch, p=shares)]
            loss = _fit_loss(net, base, segments, fit, random)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            if on_progress:
                on_progress(step, fit.steps)
    return net.requires_grad_(False)


def _fit_loss(
    net: MouthNet, base: MouthNet, clips: list[SpeakerClip], fit: SpeakerFit, random: np.random.Generator
) -> Tensor:
    """Error of the tracked outputs, and of the others against the base network's."""
    spreads = torch.tensor(SPREADS)
    untracked = [i for i, name in enumerate(OUTPUTS) if name not in TRACKED]
    num_frames = min(len(clip.mel) for clip in clips)
    mel = torch.stack([augmented(clip.mel[:num_frames], random) for clip in clips])
    with torch.no_grad():
        base_outputs = base(mel)
    live, late = net.both(mel)
    loss = torch.zeros(())
    for answer, weight in ((late, 1.0), (live, 0.5)):
        loss = loss + weight * fit.keep * (answer - base_outputs)[..., untracked].square().mean()
        for output, base_output, clip in zip(answer, base_outputs, clips, strict=True):
            error = at_frames(output, clip)[:, : len(TRACKED)] - _targets(at_frames(base_output, clip), clip, spreads)
            loss = loss + weight * (error[clip.valid] / spreads).square().mean() / len(clips)
    return loss


def held_back_gain(
    base: MouthNet, clips: Sequence[SpeakerClip], fit: SpeakerFit | None = None, on_progress: Progress | None = None
) -> list[HeldBack]:
    """Cross-validated lip correlation before and after adaptation.

    Each clip is cut into `fit.folds` parts; each part is judged by a network fitted to all others.
    """
    fit = fit or SpeakerFit()
    parts = [_parts(clip, fit.folds) for clip in clips]
    gains = []
    for fold in range(fit.folds):
        rest = [part for of_clip in parts for i, part in enumerate(of_clip) if i != fold]

        def fold_progress(done: int, total: int, fold: int = fold) -> None:
            if on_progress:
                on_progress(fold * total + done, fit.folds * total)

        fitted = fit_speaker(base, rest, fit, fold_progress)
        for of_clip in parts:
            part = of_clip[fold]
            base_r, fitted_r = (lip_r(net, part) for net in (base, fitted))
            gains.append(
                HeldBack(f"{part.name}, part {fold + 1}", base_r, fitted_r, len(part.tracked) / float(part.fps))
            )
    return gains


def lip_r(net: MouthNet, clip: SpeakerClip, max_lag: int = 2) -> float:
    """Pearson's r of the network's opening and the true lip gap, at the best lag within ±`max_lag` frames."""
    with torch.inference_mode():
        output = at_frames(net(vocal_tracts(clip.mel)).mean(0), clip)
    return lip_correlation(output[:, 0], clip.tracked[:, 0], clip.valid, max_lag).r_best


def video_files(folder: Path) -> list[Path]:
    """The videos of a folder.

    Raises:
        InputError: there are none.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give one with videos of the speaker.")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES and not is_hidden(path))
    if not paths:
        raise InputError(f"{folder} holds no video ({', '.join(VIDEO_SUFFIXES)}); put some of the speaker there.")
    return paths


def check_length(clips: Sequence[SpeakerClip]) -> None:
    """Check that the clips are long enough.

    Raises:
        InputError: less than MIN_S.
    """
    seconds = sum(float(clip.valid.sum()) / float(clip.fps) for clip in clips)
    if seconds < MIN_S:
        raise InputError(
            f"the videos show the face for {beyond(seconds, MIN_S, digits=0)} s; {MIN_S:.0f} s are needed, a minute or "
            "more advised."
        )
    if seconds < ADVISED_S:
        shown = beyond(seconds, ADVISED_S, digits=0)
        log.warning("the videos show the face for %s s only; with a minute or more the gain is surer.", shown)


def _parts(clip: SpeakerClip, count: int) -> list[SpeakerClip]:
    edges = np.linspace(0, len(clip.tracked), count + 1).astype(int)
    return [clip.part(int(start), int(stop)) for start, stop in zip(edges[:-1], edges[1:], strict=True)]


def _segment(clip: SpeakerClip, size: int, random: np.random.Generator) -> SpeakerClip:
    start = int(random.integers(0, len(clip.tracked) - size + 1))
    return clip.part(start, start + size)


def augmented(mel: Tensor, random: np.random.Generator) -> Tensor:
    """Augment a mel spectrogram by a shift, noise, a random offset per band and a band mask."""
    moved = torch.roll(mel, int(random.integers(-1, 2)), 0)
    bent = moved + 0.25 * torch.randn_like(moved) + 0.3 * torch.randn(1, mel.shape[1])
    return mask_bands(bent, random)


def at_frames(output: Tensor, clip: SpeakerClip, late_s: float = 0.0) -> Tensor:
    """(T, 8) interpolated from (M, 8) at 50 Hz: the network's output in the middle of every video frame.

    Args:
        output: of the network.
        clip: whose frames.
        late_s: by so much the picture is behind its sound.
    """
    moments = (torch.arange(len(clip.tracked)) + 0.5) / float(clip.fps) - late_s
    at = (moments * OUTPUT_RATE_HZ).clamp(0, len(output) - 1)
    lower = at.floor().long()
    upper = (lower + 1).clamp(max=len(output) - 1)
    return torch.lerp(output[lower], output[upper], (at - lower)[:, None])


def _targets(base_output: Tensor, clip: SpeakerClip, spreads: Tensor) -> Tensor:
    """(T, 3) targets: the tracked mouth in the network's units, around the base output's mean."""
    return base_output[:, : len(TRACKED)].mean(0) + spreads * clip.tracked
