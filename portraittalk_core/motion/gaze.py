"""Gaze: where the eyes look, frame by frame: saccades and fixations, a direction, the camera, or a curve.

Angles are of the eyes in the head, degrees, relative to the portrait's own gaze: yaw (+ to the viewer's right) and
pitch (+ down), as those of heads.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..checks import abbreviated, is_finite_number
from ..errors import InputError
from ..face import topology as topo
from .options import AT_CAMERA, MAX_GAZE_PITCH, MAX_GAZE_YAW, MotionOptions
from .points import read_points

EYES = ((topo.RIGHT_IRIS, topo.RIGHT_EYE_CORNERS), (topo.LEFT_IRIS, topo.LEFT_EYE_CORNERS))
# from the eyeball's centre of rotation to the pupil, inter-ocular distances: 10.4 mm of 63 mm
PUPIL_RADIUS = 0.165
LEVEL_Y = -0.028  # of the pupil beside the corners' middle where an eye looks straight ahead; median of 22 speakers
PITCH_TRUST = 0.5  # of the head's own pitch, which a face mesh tells from one picture with a bias of its own
LIMIT_DEG = (35.0, 22.0)  # yaw and pitch in the head that no eye passes
LID_PER_DEG, LID_SLACK_DEG = 0.011, 2.0  # of the eye's opening, that the lids follow the pupil down or up beyond these
MOST_LID_RISE = 0.12
EXAMPLE = "[[0, 0, 0], [2.5, 12, -3]]"

GazePoint = tuple[float, float, float]  # at this second, yaw and pitch in degrees

# Lee, Badler and Badler 2002: mean seconds of mutual gaze and of gaze away, while talking and while listening
MUTUAL_S, AWAY_S = {True: 3.1, False: 7.9}, {True: 0.93, False: 0.43}
LEAST_S = 0.25
AMPLITUDE_DEG, AMPLITUDE_TAIL = 6.9, 15.7  # A = −6.9 · ln(P / 15.7), P evenly in 0..15
MOST_AWAY_DEG = 12.0  # a face that fills the picture is looked at closely
# per cent of saccades by direction, from the viewer's right counterclockwise in steps of 45°
DIRECTIONS = (15.54, 6.46, 17.69, 7.44, 16.80, 7.89, 20.38, 7.79)
UPRIGHT_SHARE = 0.6  # of an amplitude, up and down
FIXATION_S, FIXATION_SPREAD = 0.75, 0.5  # between the small saccades over a face that is looked at; log-normal
FIXATION_DEG = (0.3, 1.3)
SACCADE_S, SACCADE_S_PER_DEG = 0.021, 0.0022  # main sequence, Carpenter 1988


def saccade_s(amplitude_deg: float) -> float:
    """Duration of a saccade, 2.2 ms a degree and 21 ms (the main sequence)."""
    return SACCADE_S + SACCADE_S_PER_DEG * amplitude_deg


class EyeWander:
    """Saccades of somebody in a conversation, at any moment; pieces may be asked for one after the other.

    While somebody speaks, they look away more often than while they listen.

    Args:
        seed: another one looks elsewhere.

    Source: Lee, Badler and Badler, "Eyes Alive", SIGGRAPH 2002, section 4 (amplitudes, directions, mutual gaze and gaze
    away); Carpenter, "Movements of the Eyes", 1988 (the main sequence).
    """

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng([seed, 0xE7E5])
        self._from = self._to = (0.0, 0.0)
        self._began, self._lasts = -1.0, SACCADE_S
        self._away = False
        self._next_fixation = self._next_turn = 0.0  # seconds, of the next small saccade, and of that to or fro
        self._schedule(0.0, True)

    def at(self, times_s: Tensor, speaking: Tensor) -> Tensor:
        """(T, 2) degrees at (T,) times, later than all before, while somebody speaks, (T,) bool."""
        directions = []
        for time, talks in zip(times_s.tolist(), speaking.tolist(), strict=True):
            if time >= self._next_turn:
                self._away = not self._away
                self._look(self._aside() if self._away else (0.0, 0.0), time)
                self._schedule(time, talks)
            elif time >= self._next_fixation:
                self._look(self._near(), time)
                self._next_fixation = time + self._fixation_s()
            directions.append(self._direction(time))
        return torch.tensor(directions).reshape(-1, 2)

    def _schedule(self, time: float, talks: bool) -> None:
        mean = (AWAY_S if self._away else MUTUAL_S)[talks]
        self._next_turn = time + LEAST_S + float(self._random.exponential(max(mean - LEAST_S, 0.1)))
        self._next_fixation = math.inf if self._away else time + self._fixation_s()

    def _fixation_s(self) -> float:
        return float(self._random.lognormal(math.log(FIXATION_S), FIXATION_SPREAD))

    def _aside(self) -> tuple[float, float]:
        amplitude = -AMPLITUDE_DEG * math.log(self._random.uniform(0.05, 15) / AMPLITUDE_TAIL)
        towards = self._random.choice(8, p=np.array(DIRECTIONS) / sum(DIRECTIONS)) + self._random.uniform(-0.5, 0.5)
        return _polar(min(amplitude, MOST_AWAY_DEG), math.pi / 4 * towards)

    def _near(self) -> tuple[float, float]:
        return _polar(self._random.uniform(*FIXATION_DEG), self._random.uniform(0, 2 * math.pi))

    def _look(self, to: tuple[float, float], time: float) -> None:
        self._from, self._to, self._began = self._direction(time), to, time
        self._lasts = saccade_s(math.dist(self._from, to))

    def _direction(self, time: float) -> tuple[float, float]:
        share = min(max((time - self._began) / self._lasts, 0.0), 1.0)
        share *= share * (3 - 2 * share)
        return tuple(a + share * (b - a) for a, b in zip(self._from, self._to, strict=True))


def _polar(amplitude: float, angle: float) -> tuple[float, float]:
    return amplitude * math.cos(angle), -UPRIGHT_SHARE * amplitude * math.sin(angle)


class Gaze:
    """Directions of a face's eyes at any moment.

    Args:
        options: gaze, its direction and points, and eye_motion count.
        rest: (478, 3) the portrait's points in face axes, inter-ocular units.
        axes: (3, 3) rows: the face's x, y, z in the picture's axes.
    """

    def __init__(self, options: MotionOptions, rest: Tensor, axes: Tensor) -> None:
        self._amount = options.eye_motion
        self._own = own_gaze_deg(rest)
        self._still = torch.tensor([options.gaze_yaw, options.gaze_pitch])
        if options.gaze == AT_CAMERA:
            self._still = self._still + camera_deg(axes) - self._own
        self._points = [torch.tensor(column, dtype=torch.float64) for column in zip(*options.gaze_points, strict=True)]
        self._wander = EyeWander(options.seed)
        self.moves = self._amount > 0 or bool(self._points) or bool(self._still.any())

    def at(self, times_s: Tensor, speaking: Tensor, head_deg: Tensor, towards_deg: Tensor | None = None) -> Tensor:
        """Directions in the head.

        Args:
            times_s: (T,) later than all before.
            speaking: (T,) bool.
            head_deg: (T, 3) how the head turns: eyes that move stay on what they look at.
            towards_deg: (T, 2) where else there is to look; None is nowhere.

        Returns:
            (T, 2).
        """
        directions = self._still.expand(len(times_s), 2)
        if self._points:
            seconds, *angles = self._points
            directions = directions + torch.stack([_interpolated(times_s, seconds, angle) for angle in angles], 1)
        if towards_deg is not None:
            directions = directions + min(self._amount, 1.0) * towards_deg
        if self._amount > 0:
            wandered = self._amount * self._wander.at(times_s, speaking)
            directions = directions + wandered - min(self._amount, 1.0) * head_deg[:, [1, 0]]
        limit = torch.tensor(LIMIT_DEG)
        return (directions + self._own).clamp(-limit, limit) - self._own.clamp(-limit, limit)


def directs_gaze(options: MotionOptions) -> bool:
    """Whether options say where the eyes look."""
    return options.gaze == AT_CAMERA or bool(options.gaze_yaw or options.gaze_pitch or options.gaze_points)


def own_gaze_deg(rest: Tensor) -> Tensor:
    """(2,) yaw and pitch of a portrait's eyes in its head, from where the pupils stand between the corners.

    Args:
        rest: (478, 3) in face axes, inter-ocular units.
    """
    aside = torch.stack([rest[iris[0]] - rest[list(corners)].mean(0) for iris, corners in EYES]).mean(0)
    sines = torch.stack([aside[0], aside[1] - LEVEL_Y]) / PUPIL_RADIUS
    return torch.rad2deg(torch.asin(sines.clamp(-0.5, 0.5)))


def camera_deg(axes: Tensor) -> Tensor:
    """(2,) yaw and pitch in the head at which eyes look into the camera; `axes` as of `Gaze`."""
    yaw, pitch = torch.atan2(-axes[0, 2], axes[2, 2]), torch.asin((-axes[1, 2]).clamp(-1, 1))
    return torch.rad2deg(torch.stack([yaw, PITCH_TRUST * pitch]))


def pupil_ways(directions_deg: Tensor, rest: Tensor) -> Tensor:
    """(T, 3) how far the pupils move in face axes, inter-ocular units, where eyes look (T, 2) degrees aside."""
    resting_deg = own_gaze_deg(rest)
    return PUPIL_RADIUS * (_looking(resting_deg + directions_deg) - _looking(resting_deg))


def look(local: Tensor, rest: Tensor, gaze: Tensor | None) -> None:
    """Move the irises of (T, 478, 3) points in face axes, in place, where the eyes look (T, 2) degrees aside."""
    if gaze is not None:
        local[:, [*topo.RIGHT_IRIS, *topo.LEFT_IRIS]] += pupil_ways(gaze, rest)[:, None]


def lids(blink: Tensor, gaze: Tensor | None) -> Tensor:
    """(T,) how far the lids shut: blinks, 0..1, and as they follow eyes that look (T, 2) degrees aside; < 0 opens."""
    if gaze is None:
        return blink
    pitch = gaze[:, 1]
    follow = (LID_PER_DEG * (pitch - pitch.clamp(-LID_SLACK_DEG, LID_SLACK_DEG))).clamp(min=-MOST_LID_RISE)
    return blink + (1 - blink) * follow


def _looking(directions_deg: Tensor) -> Tensor:
    """(…, 3) unit vectors in face axes."""
    yaw, pitch = torch.deg2rad(directions_deg).unbind(-1)
    return torch.stack([yaw.sin() * pitch.cos(), pitch.sin(), -yaw.cos() * pitch.cos()], -1)


def _interpolated(times_s: Tensor, at_s: Tensor, values: Tensor) -> Tensor:
    """(T,) linear between points; of two at one time, the later one counts from there on."""
    position = torch.searchsorted(at_s, times_s, right=True)
    lower, upper = (position - 1).clamp(min=0), position.clamp(max=len(at_s) - 1)
    share = ((times_s - at_s[lower]) / (at_s[upper] - at_s[lower]).clamp(min=1e-9)).clamp(0, 1)
    return torch.lerp(values[lower], values[upper], share).float()


def gaze_points(text: str) -> list[GazePoint]:
    """Points of seconds, yaw and pitch, sorted by time.

    Args:
        text: JSON, a list of [seconds, yaw, pitch]; empty or [] is none.

    Raises:
        InputError: something else, a negative time, or angles beyond 30 and 20 degrees.
    """
    return read_points(text, "gaze", EXAMPLE, _point)


def _point(entry: object, number: int) -> GazePoint:
    if not isinstance(entry, list) or len(entry) != 3:
        raise InputError(f"gaze point {number} must be [seconds, yaw, pitch], not {abbreviated(entry)}.")
    seconds, yaw, pitch = entry
    if not is_finite_number(seconds) or not 0 <= seconds <= 1e7:
        raise InputError(f"gaze point {number} must be at 0 s or later, not at {abbreviated(seconds)}.")
    for name, value, limit in (("yaw", yaw, MAX_GAZE_YAW), ("pitch", pitch, MAX_GAZE_PITCH)):
        if not is_finite_number(value) or abs(value) > limit:
            raise InputError(
                f"gaze point {number} must have a {name} from -{limit} to {limit} degrees, not {abbreviated(value)}."
            )
    return float(seconds), float(yaw), float(pitch)
