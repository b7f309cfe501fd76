"""What followed faces tell: how alike two move, and how one moves by itself; in blocks, so that memory stays flat.

Shapes: T frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import InputError
from ..face.curve_statistics import HEAD_SIGMA_S, blink_durations_s, gaussian_smoothed, swing_frequency
from ..metrics.adfd import adfd
from ..metrics.head_motion import LEAST_FRAMES as LEAST_FOR_HEAD
from ..metrics.jitter import JitterMeter
from ..metrics.landmark_distance import FACE_POINTS, VARIANTS, lmd, lmd_variant
from ..metrics.lip_sync import MIN_FRAMES as LEAST_FOR_R
from ..metrics.lip_sync import lip_correlation
from ..types import LandmarkTrack
from .align import ENVELOPE_HZ
from .clip import FollowedClip
from .result import curve, nan_like
from .score import MIN_FRAMES

if TYPE_CHECKING:
    from .options import Shift

MAX_SOUND_LAG_S = 0.2  # lips and sound further apart are seen to be apart by anyone


class FaceScores:
    """The numbers of two followed faces, over frames that show both.

    Args:
        made: the generated video.
        true: the target, followed at the same rate.
        shift: which frames belong together.
        side_px: of the face crop that M-LMD and F-LMD scale to 256 pixels; None if no face was seen.
    """

    def __init__(self, made: FollowedClip, true: FollowedClip, shift: Shift, side_px: float | None) -> None:
        self._made, self._true, self._shift = made, true, shift
        self.both = made.valid[shift.made :][: shift.count] & true.valid[shift.true :][: shift.count]
        self.num_both = int(self.both.sum())
        self.values: dict[str, float] = {}
        self.missing: dict[str, str] = {}
        self._per_frame = {name: nan_like(shift.count) for name in ("place", "motion", *_NORMED, *VARIANTS)}
        if self.num_both >= MIN_FRAMES and side_px is not None:
            self._measure(side_px)
        else:
            why = f"fewer than {MIN_FRAMES} frames show the face in both"
            self.missing |= dict.fromkeys(("adfd", "adfd_place", "adfd_motion", *_NORMED, *VARIANTS), why)
        self._correlate_mouths()

    def result(self) -> tuple[dict[str, float], dict[str, str]]:
        """Values, and why others are missing."""
        return self.values, self.missing

    @property
    def distance(self) -> Tensor:
        """(T,) the mouth's, by which the worst frames are chosen; NaN without a face in both."""
        return self._per_frame["m_lmd_iod"]

    @property
    def curves(self) -> dict[str, list[float | None]]:
        """What a report draws over time."""
        shift = self._shift
        mouths = (
            self._made.mouth_open[shift.made :][: shift.count],
            self._true.mouth_open[shift.true :][: shift.count],
        )
        return {
            "ADFD place": curve(self._per_frame["place"]),
            "ADFD motion": curve(self._per_frame["motion"]),
            "mouth distance": curve(self.distance),
            "mouth opening, generated": curve(mouths[0]),
            "mouth opening, target": curve(mouths[1]),
        }

    def _measure(self, side_px: float) -> None:
        frames = self.both.nonzero()[:, 0]
        shift, size = self._shift, (self._true.height, self._true.width)
        blocks = zip(self._made.blocks(frames + shift.made, 1), self._true.blocks(frames + shift.true, 1), strict=True)
        for (numbers, made), (_, true) in blocks:
            at = numbers - shift.made
            a, b = (_pixels(track, size) for track in (made, true))
            score = adfd(a[:, : len(FACE_POINTS)], b[:, : len(FACE_POINTS)], size)
            self._per_frame["place"][at] = score.spatial_per_frame
            self._per_frame["motion"][at[1:]] = score.motion_per_frame
            for name, points in _NORMED.items():
                self._per_frame[name][at] = lmd(a, b, points=points, norm="interocular")
            for name in VARIANTS:
                self._per_frame[name][at] = lmd_variant(name, a, b, side_px)
        place, motion = self._per_frame["place"][frames].mean(), self._per_frame["motion"][frames[1:]].mean()
        self.values |= {"adfd": float(place * motion), "adfd_place": float(place), "adfd_motion": float(motion)}
        for name in (*_NORMED, *VARIANTS):
            self.values[name] = float(self._per_frame[name][frames].mean())

    def _correlate_mouths(self) -> None:
        a = self._made.mouth_open[self._shift.made :][: self._shift.count]
        b = self._true.mouth_open[self._shift.true :][: self._shift.count]
        if self.num_both < LEAST_FOR_R:
            why = f"fewer than {LEAST_FOR_R} frames show the face in both"
            self.missing |= dict.fromkeys(("mouth_correlation", "mouth_lag"), why)
            return
        reach = max(1, round(MAX_SOUND_LAG_S * float(self._made.fps)))
        found = lip_correlation(a.nan_to_num(0), b, self.both, min(reach, len(b)))
        self.values["mouth_correlation"] = found.r_zero
        self.values["mouth_lag"] = -found.lag / float(self._made.fps) * 1000  # + comes late


_NORMED = {"m_lmd_iod": "mouth", "f_lmd_iod": "face"}


def _pixels(track: LandmarkTrack, size: tuple[int, int]) -> Tensor:
    """(K, 478, 2) float64 pixels of the target's picture."""
    return track.points[..., :2].double() * torch.tensor([size[1], size[0]], dtype=torch.float64)


def own_scores(
    clip: FollowedClip, level: Tensor | None, silent_because: str
) -> tuple[dict[str, float], dict[str, str]]:
    """What needs no ground truth: sync with its own sound by the weight-free proxy, jitter, blinks, head motion.

    Args:
        clip: followed.
        level: its loudness, of `align.clip_loudness`, or None.
        silent_because: why there is none.

    Returns:
        Values by name, and reasons for what could not be measured.
    """
    values: dict[str, float] = {"change": float(clip.change.mean())} if len(clip.change) else {}
    missing: dict[str, str] = {} if values else {"change": "there is one picture only"}
    if level is None:
        missing |= dict.fromkeys(("sound_mouth_correlation", "sound_mouth_lag"), silent_because)
    else:
        sound = level_per_frame(level, len(clip), float(clip.fps))
        try:
            reach = max(1, round(MAX_SOUND_LAG_S * float(clip.fps)))
            found = lip_correlation(sound, clip.mouth_open, clip.valid, min(reach, len(clip)))
            values["sound_mouth_correlation"] = found.r_best
            values["sound_mouth_lag"] = found.lag / float(clip.fps) * 1000
        except InputError as error:
            missing |= dict.fromkeys(("sound_mouth_correlation", "sound_mouth_lag"), str(error))
    return _with_motion(clip, values, missing)


def _with_motion(
    clip: FollowedClip, values: dict[str, float], missing: dict[str, str]
) -> tuple[dict[str, float], dict[str, str]]:
    """Jitter, blinks and head motion beside what was measured before."""
    if int(clip.valid.sum()) < LEAST_FOR_HEAD:
        why = f"a face is seen in fewer than {LEAST_FOR_HEAD} frames"
        return values, missing | dict.fromkeys(_MOTION, why)
    for name, without_head in (("jitter", False), ("jitter_still", True)):
        meter = JitterMeter(without_head)
        for _, track in clip.blocks(torch.arange(len(clip))):
            meter.update(track.points_px, track.valid)
        if meter.num_frames:
            values[name] = meter.result()
        else:
            missing[name] = "a face is never seen in three frames in a row"
    lengths = blink_durations_s(clip.eye_open, clip.valid, clip.fps)
    values["blink_rate"] = len(lengths) * 60 * float(clip.fps) / int(clip.valid.sum())
    if len(lengths):
        values["blink_duration"] = float(lengths.median())
    else:
        missing["blink_duration"] = "there was no blink"
    values |= _head(clip)
    return values, missing


def _head(clip: FollowedClip) -> dict[str, float]:
    """As `metrics.head_motion`, from angles that were measured block by block."""
    rate, seen = float(clip.fps), clip.valid.nonzero()[:, 0]
    last = torch.searchsorted(seen, torch.arange(len(clip)), right=True) - 1
    held = clip.angles_deg[seen[last.clamp(min=0)]]
    angles = gaussian_smoothed(held, HEAD_SIGMA_S * rate)
    steps = (angles[1:] - angles[:-1]).norm(dim=1)[clip.valid[1:] & clip.valid[:-1]]
    return {
        "head_std": float(angles[seen].std(0, correction=0).square().mean().sqrt()),
        "head_speed": rate * float(steps.mean()) if len(steps) else 0.0,
        "head_beat": rate * float(swing_frequency(angles[seen])),
    }


_MOTION = ("jitter", "jitter_still", "blink_rate", "blink_duration", "head_std", "head_speed", "head_beat")


def level_per_frame(level: Tensor, count: int, fps: float) -> Tensor:
    """(T,) mean of a loudness curve (100 a second) over each frame's time; beyond its end the last value."""
    sums = torch.cat([torch.zeros(1, dtype=torch.float64), level.double().cumsum(0)])
    edges = (torch.arange(count + 1, dtype=torch.float64) / fps * ENVELOPE_HZ).clamp(max=len(level))
    whole = edges.floor().long()
    held = torch.cat([level.double(), level[-1:].double()])
    integral = sums[whole] + (edges - whole) * held[whole]
    widths = edges[1:] - edges[:-1]
    means = (integral[1:] - integral[:-1]) / widths.clamp(min=1e-9)
    return torch.where(widths > 1e-6, means, held[-1])
