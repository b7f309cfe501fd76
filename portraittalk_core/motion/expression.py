"""Facial expressions of emotions: which facial actions each is made of, and how a face does them.

The actions are those of the Facial Action Coding System (Ekman and Friesen 1978; unit numbers stand beside them); the
combinations are the prototypes of Ekman's basic emotions (EMFACS, Friesen and Ekman 1983), with the amounts chosen by
eye. Shapes live in the face's own axes, see `motion.rig`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..checks import abbreviated, is_finite_number
from ..errors import InputError
from ..face import topology as topo
from ..face.geometry import smile, stabilised
from .options import NEUTRAL, MotionOptions
from .points import read_points
from .smoothing import frame_times_s, smooth_step

# fmt: off
ACTIONS = (
    "inner brows",   # 1, the inner ends rise
    "outer brows",   # 2, the outer ends rise
    "frown",         # 4, brows are drawn down and together
    "wide lids",     # 5, upper lids rise
    "cheeks",        # 6, cheeks and lower lids rise
    "squint",        # 7, lids tighten
    "nose",          # 9, the nose is wrinkled
    "lift",          # 10, the upper lip rises
    "smile",         # 12, the mouth's corners rise
    "sulk",          # 15, they sink
    "stretch",       # 20, they go apart
    "press",         # 24, lips are pressed together
    "drop",          # 26, the jaw drops
)
# fmt: on
EMOTIONS: dict[str, dict[str, float]] = {
    NEUTRAL: {},
    "happy": {"cheeks": 1.0, "smile": 1.0, "outer brows": 0.15},
    "sad": {"inner brows": 1.0, "frown": 0.3, "sulk": 1.0, "squint": 0.3},
    "angry": {"frown": 1.0, "wide lids": 0.35, "squint": 0.7, "press": 0.8, "sulk": 0.25, "nose": 0.3},
    "surprised": {"inner brows": 1.0, "outer brows": 1.0, "wide lids": 0.9, "drop": 0.8},
    "disgusted": {"nose": 1.0, "lift": 0.9, "frown": 0.6, "squint": 0.6, "sulk": 0.5},
    "afraid": {"inner brows": 1.0, "outer brows": 0.4, "frown": 0.2, "wide lids": 1.0, "stretch": 1.0, "drop": 0.3},
}
OPENING = ("lift", "drop")  # actions that part the lips: lips that close for a sound close nevertheless

# at amount 1, inter-ocular distances
INNER_RISE, OUTER_RISE, FROWN_DOWN, FROWN_IN = 0.1, 0.08, 0.075, 0.045
CHEEK_RISE, CHEEK_REACH = 0.045, 0.34
NOSE_RISE, NOSE_REACH = 0.045, 0.2
SMILE_RISE, SULK_DOWN, STRETCH_OUT, JAW_DROP = 0.12, 0.11, 0.08, 0.12
JAW_PARTS = 0.07  # the lips' gap as the jaw drops
MOST_OWN_SMILE = 0.15
BROW_REACH = 0.35  # how far around the brows skin follows
WIDE, TIGHT_UPPER, TIGHT_LOWER, CHEEK_LID = 0.24, 0.14, 0.3, 0.22  # of the eye's opening
CHEEKS = ((50, 101, 205, 36), (280, 330, 425, 266))
NOSE_SIDES = ((64, 48, 98, 129, 49), (294, 278, 327, 358, 279))
EYES = ((topo.RIGHT_UPPER_LID, topo.RIGHT_LOWER_LID), (topo.LEFT_UPPER_LID, topo.LEFT_LOWER_LID))

CROSS_FADE_S = 0.35  # from one emotion to the next
EXAMPLE = '[[0, "happy", 0.6], [2.5, "sad", 1]]'

EmotionPoint = tuple[float, str, float]  # from this second on, this emotion, at this strength 0..1


def emotion_amounts(emotion: str, strength: float) -> Tensor:
    """(13,) amounts of `ACTIONS` for an emotion at a strength of 0..1."""
    amounts = EMOTIONS[emotion]
    return strength * torch.tensor([amounts.get(action, 0.0) for action in ACTIONS])


def expression_of(options: MotionOptions, num_frames: int) -> Tensor | None:
    """(T, 13) amounts of the facial actions in every frame; None where no emotion shows."""
    return timeline_of(options).at(frame_times_s(num_frames, options.fps))


def timeline_of(options: MotionOptions) -> ExpressionTimeline:
    """The emotions of motion options."""
    return ExpressionTimeline(options.emotion, options.emotion_strength, options.emotion_points)


class ExpressionTimeline:
    """Amounts of the facial actions at any moment; each emotion is faded in over 0.35 s.

    Args:
        emotion: before the first point, and throughout where there are none.
        strength: 0..1; with points, a factor of theirs.
        points: of `emotion_points`, sorted by time.
    """

    def __init__(self, emotion: str, strength: float, points: Sequence[EmotionPoint] = ()) -> None:
        # the emotion is there from the beginning; points fade in from their moment on
        self._starts = [-CROSS_FADE_S, *(seconds for seconds, _, _ in points)]
        self._amounts = [emotion_amounts(emotion, strength)]
        self._amounts += [emotion_amounts(name, strength * amount) for _, name, amount in points]
        self.shows = any(bool(amounts.any()) for amounts in self._amounts)

    def at(self, times_s: Tensor) -> Tensor | None:
        """(T, 13) amounts at (T,) times; None where nothing shows at any time."""
        if not self.shows:
            return None
        amounts = self._amounts[0].expand(len(times_s), -1)
        for start, following in zip(self._starts[1:], self._amounts[1:], strict=True):
            amounts = torch.lerp(amounts, following, smooth_step((times_s - start) / CROSS_FADE_S).float()[:, None])
        return amounts


def emotion_points(text: str) -> list[EmotionPoint]:
    """Points of seconds, emotion and strength, sorted by time.

    Args:
        text: JSON, a list of [seconds, emotion, strength]; empty or [] is none.

    Raises:
        InputError: something else, a negative time, an unknown emotion, or a strength outside 0..1.
    """
    return read_points(text, "emotion", EXAMPLE, _point)


def _point(entry: object, number: int) -> EmotionPoint:
    if not isinstance(entry, list) or len(entry) != 3:
        raise InputError(f"emotion point {number} must be [seconds, emotion, strength], not {abbreviated(entry)}.")
    seconds, emotion, strength = entry
    if not is_finite_number(seconds) or not 0 <= seconds <= 1e7:
        raise InputError(f"emotion point {number} must begin at 0 s or later, not at {abbreviated(seconds)}.")
    if not isinstance(emotion, str) or emotion not in EMOTIONS:
        raise InputError(f"emotion point {number} must be one of {', '.join(EMOTIONS)}, not {abbreviated(emotion)}.")
    if not is_finite_number(strength) or not 0 <= strength <= 1:
        raise InputError(f"emotion point {number} must have a strength from 0 to 1, not {abbreviated(strength)}.")
    return float(seconds), emotion, float(strength)


def action_shapes(rest: Tensor, lips: dict[str, Tensor]) -> Tensor:
    """How one face does each of `ACTIONS`.

    Args:
        rest: (478, 3) points in face axes, inter-ocular units.
        lips: (478, 3) each: the rig's shapes "lift", "part", "smile", "spread", "press" and "drop".

    Returns:
        (13, 478, 3) displacements at amount 1.
    """
    # who smiles at rest stops smiling first
    rest_smile = max(0.0, float(smile(stabilised(rest[None]))[0]))
    sulk = -SULK_DOWN * lips["smile"] * torch.tensor([0.25, 1.0, 0.5]) - min(rest_smile, MOST_OWN_SMILE) * lips["smile"]
    shapes = {
        "inner brows": _brow_shape(rest, lambda inward: (0.0, -INNER_RISE * inward**1.5)),
        "outer brows": _brow_shape(rest, lambda inward: (0.0, -OUTER_RISE * (1 - inward) ** 0.7)),
        "frown": _brow_shape(rest, lambda inward: (FROWN_IN * inward, FROWN_DOWN * (0.35 + 0.65 * inward))),
        "wide lids": _lid_shape(rest, -WIDE, 0.0),
        "cheeks": _patches(rest, CHEEKS, CHEEK_REACH, -CHEEK_RISE) + _lid_shape(rest, 0.0, -CHEEK_LID),
        "squint": _lid_shape(rest, TIGHT_UPPER, -TIGHT_LOWER),
        "nose": _patches(rest, NOSE_SIDES, NOSE_REACH, -NOSE_RISE),
        "lift": lips["lift"],
        "smile": SMILE_RISE * lips["smile"],
        "sulk": sulk,
        "stretch": STRETCH_OUT / 0.07 * lips["spread"],
        "press": lips["press"],
        "drop": JAW_DROP * lips["drop"] + JAW_PARTS * lips["part"],
    }
    return torch.stack([shapes[action] for action in ACTIONS])


def _brow_shape(rest: Tensor, way: Callable[[float], tuple[float, float]]) -> Tensor:
    """A movement of the brows, which the skin around them follows evenly less.

    Args:
        rest: (478, 3).
        way: from 0 at a brow's outer end .. 1 at its inner one, to how far it goes inward and down.
    """
    shape = torch.zeros_like(rest)
    for brow, towards in ((topo.RIGHT_BROW, 1.0), (topo.LEFT_BROW, -1.0)):
        points = rest[list(brow)]
        outer, inner = float(points[0, 0]), float(points[len(brow) // 2 - 1, 0])
        distance, nearest = torch.cdist(rest[:, :2], points[:, :2]).min(1)
        inward = ((points[nearest, 0] - outer) / (inner - outer)).clamp(0, 1)
        above = rest[:, 1] < points[:, 1].max()
        share = smooth_step(1 - distance / torch.where(above, BROW_REACH, 0.5 * BROW_REACH))
        moved = torch.tensor([way(value) for value in inward.tolist()])
        shape[:, 0] += towards * share * moved[:, 0]
        shape[:, 1] += share * moved[:, 1]
    shape[[*topo.EYELIDS, *topo.RIGHT_IRIS, *topo.LEFT_IRIS, *topo.FACE_OVAL]] = 0
    return shape


def _lid_shape(rest: Tensor, upper_share: float, lower_share: float) -> Tensor:
    """Lids go down by shares of the eye's opening, most in their middle; the skin beside them follows."""
    shape = torch.zeros_like(rest)
    fixed = {*topo.EYELIDS, *topo.RIGHT_IRIS, *topo.LEFT_IRIS, *topo.RIGHT_BROW, *topo.LEFT_BROW}
    for upper, lower in EYES:
        gaps = rest[list(lower), 1] - rest[list(upper), 1]
        opening = float(gaps.max())
        for lid, share, side in ((upper, upper_share, -1.0), (lower, lower_share, 1.0)):
            if share == 0:
                continue
            shape[list(lid), 1] = share * gaps.clamp(min=0)
            edge = rest[list(lid)]
            left, right = float(edge[:, 0].min()), float(edge[:, 0].max())
            for point in range(topo.NUM_MESH_POINTS):
                x, y = float(rest[point, 0]), float(rest[point, 1])
                if point in fixed or not left <= x <= right:
                    continue
                distance = side * (y - float(edge[(edge[:, 0] - x).abs().argmin(), 1]))
                if 0 <= distance < opening:
                    across = math.sin(math.pi * (x - left) / (right - left))
                    shape[point, 1] = share * opening * across * (1 - distance / opening)
    return shape


def _patches(rest: Tensor, patches: Sequence[Sequence[int]], reach: float, down: float) -> Tensor:
    """Some places of the skin go down by so much, and less what lies around; lips, lids and the outline stay."""
    shape = torch.zeros_like(rest)
    for points in patches:
        distance = torch.cdist(rest[:, :2], rest[list(points), :2]).amin(1)
        shape[:, 1] += down * smooth_step(1 - distance / reach)
    fixed = [*topo.LIPS, *topo.EYELIDS, *topo.RIGHT_IRIS, *topo.LEFT_IRIS, *topo.FACE_OVAL, *topo.RIGHT_BROW]
    shape[[*fixed, *topo.LEFT_BROW]] = 0
    return shape
