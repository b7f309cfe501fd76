"""Face rig: from mouth, lid and head curves to one person's 478 landmarks.

The deformation is linear in a few shapes that are made once for a face ("rig"): each says where every landmark goes
when the lips part by one inter-ocular distance, the mouth spreads, rounds or presses, or the eyes shut.
Shapes live in the face's own axes (x along the eyes to the viewer's right, y from forehead to chin, z away from the
viewer; unit: inter-ocular distance), so that they fit a turned or tilted head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..face import topology as topo
from ..face.geometry import rotation_matrix
from ..types import MOUTH_PARAMETERS, HeadPose, LandmarkTrack, MotionPlan, MouthCurves
from .expression import ACTIONS, OPENING, action_shapes
from .gaze import lids, look
from .smoothing import smooth_step

SPAN = 64  # frames whose landmarks are made at once
WIDEST_GAP = 0.36  # inner-lip gap of a fully open speaking mouth, as a share of the mouth's own width at rest
UPPER_SHARE = 0.2  # part of the opening that the upper lip does; the rest is the lower lip and the jaw
JAW_SHARE = 0.62  # chin drop as a share of the gap
CORNER_TAKES = (1.0, 0.6, 0.25, 0.06)  # of a corner's way when the lips part, of it and of the columns beside it
BROW_RISE, BROW_REACH = 0.05, 0.35  # inter-ocular units: how far brows rise, and how far around them skin follows
MAX_BROW = 2.0  # a style may raise them that much further
LIFT = 0.07  # of the mouth's width, that the upper lip rises at raise_upper 1
CLOSE_UPPER_SHARE = 0.45  # of an open resting mouth's gap, closed by the upper lip
CLOSED_BY_JAW, WIDE_UPPER_SHARE = 0.12, 0.12  # of what the gap has more than so many inter-ocular distances, this share
CLOSE_SWELL, MAX_SWELL = 0.65, 0.5  # the lips' outer rims lag by this share of the way, or of the lips' thickness
SPREAD = 0.07  # each corner's way outward at width 1, inter-ocular distances
SMILE_OUT, SMILE_BACK = 0.6, 0.4  # the corners' way outward and back, of their rise in a smile
PUCKER = 0.30  # the mouth narrows by this share at rounding 1: people by 0.1 to 0.35 when roundest
LEVELLED, MOST_LEVELLED = 0.8, 0.2  # share of a resting smile's rise that rounding takes back; and of which at most
LID_UPPER_SHARE = 0.9  # of a blink, done by the upper lid
LID_REACH = 0.65  # of the eye's opening: how far above the lid its skin follows
PIVOT = (0.0, 0.9, 1.1)  # the neck joint the head turns about, from between the eyes


@dataclass(frozen=True)
class FaceRig:
    """One face's rest position and deformation shapes, in its own axes."""

    rest: Tensor  # (478, 3) points in face axes, inter-ocular units
    axes: Tensor  # (3, 3) rows: the face's x, y, z in picture pixels' axes, unit length
    origin_px: Tensor  # (3,) the point between the eyes
    unit_px: float  # inter-ocular distance in pixels (3-D)
    mouth_width: float  # inter-ocular units
    close: Tensor  # (478, 3) brings an open resting mouth's lips together
    part: Tensor  # (478, 3) lips part by one unit of gap
    spread: Tensor  # (478, 3) width 1
    pucker: Tensor  # (478, 3) rounding 1
    press: Tensor  # (478, 3) press 1
    drop: Tensor  # (478, 3) the chin drops by one unit, the lips stay together
    lift: Tensor  # (478, 3) raise_upper 1
    tuck: Tensor  # (478, 3) tuck 1
    brows: Tensor  # (478, 3) both brows raised
    shut: Tensor  # (478, 3) both eyes shut
    smile: Tensor  # (478, 3) the mouth's corners rise by one unit
    actions: Tensor  # (13, 478, 3) facial actions, see `expression`

    @property
    def shapes(self) -> Tensor:
        """(11, 478, 3) in the order of `_shape_weights`, then brows, lids and smile."""
        lips = (self.close, self.part, self.spread, self.pucker, self.lift, self.tuck, self.press)
        return torch.stack([*lips, self.drop, self.brows, self.shut, self.smile])

    def to_px(self, local: Tensor) -> Tensor:
        """(…, 478, 3) face axes to picture pixels."""
        return local @ self.axes * self.unit_px + self.origin_px


def plan_landmarks(
    plan: MotionPlan, start: int = 0, stop: int | None = None, rig: FaceRig | None = None
) -> LandmarkTrack:
    """The landmarks of frames start..stop-1 of a plan.

    Args:
        plan: the whole clip's motion, T frames.
        start: first frame.
        stop: one past the last frame; None is the end.
        rig: what `make_rig(plan.reference)` returned, to save making it again for every span.

    Returns:
        A track of stop − start frames of the reference's picture size.
    """
    rig = rig or make_rig(plan.reference)
    span = slice(start, len(plan) if stop is None else min(stop, len(plan)))
    weights = _shape_weights(rig, MouthCurves(*(getattr(plan.mouth, name)[span] for name in MOUTH_PARAMETERS)))
    gaze = None if plan.gaze is None else plan.gaze[span]
    weights += [plan.brow[span].clamp(0, MAX_BROW), lids(plan.blink[span].clamp(0, 1), gaze)]
    weights += [torch.full_like(weights[0], plan.smile)]
    local = rig.rest + torch.einsum("st,snc->tnc", torch.stack(weights), rig.shapes)
    if plan.expression is not None:
        local += expressed(rig, plan.expression[span], plan.mouth.press[span])
    look(local, rig.rest, gaze)
    local = turn_head(local, plan.head, span)
    reference = plan.reference
    shoulders = None if plan.shoulders is None else plan.shoulders[span]
    return LandmarkTrack.from_px(
        rig.to_px(local), reference.width, reference.height, plan.fps, shoulders=shoulders
    )  # fmt: skip


def expressed(rig: FaceRig, amounts: Tensor, press: Tensor | None = None) -> Tensor:
    """Displacements of an expression.

    Args:
        rig: of the face.
        amounts: (T, 13) of `expression.ACTIONS`.
        press: (T,) 0..1 how far the lips close for a sound: so much less the expression parts them.

    Returns:
        (T, 478, 3) in face axes.
    """
    if press is not None:
        amounts = amounts.clone()
        amounts[:, [ACTIONS.index(action) for action in OPENING]] *= (1 - press.clamp(0, 1))[:, None]
    return torch.einsum("ta,anc->tnc", amounts, rig.actions)


def _shape_weights(rig: FaceRig, mouth: MouthCurves) -> list[Tensor]:
    """(T,) of each of the rig's mouth shapes."""
    widest = WIDEST_GAP * rig.mouth_width
    rounding, press = mouth.rounding.clamp(0, 1), mouth.press.clamp(0, 1)
    # pressed lips part no more than they are pressed, so that a bilabial closes whatever the opening says
    gap = mouth.parting.clamp(0, 2) * widest
    chin = (mouth.jaw - mouth.parting).clamp(-0.2, 0.4) * JAW_SHARE * widest
    moving = (mouth.opening + mouth.jaw).clamp(0, 1)  # at rest nothing is lifted or tucked
    lift, tuck = (curve.clamp(0, 1) * moving.clamp(max=0.25) * 4 for curve in (mouth.raise_upper, mouth.tuck))
    return [torch.ones_like(gap), gap, mouth.width.clamp(-1, 1), rounding, lift, tuck, press, chin]


def make_rig(reference: LandmarkTrack) -> FaceRig:
    """Measure one face and make its deformation shapes.

    Args:
        reference: one frame of landmarks, of a face at rest or speaking.
    """
    points = reference.points_px[0]
    axes, origin, unit = face_axes(points)
    rest = (points - origin) @ axes.T / unit
    outline = SkinInterpolator(rest)
    lips = {"spread": _spread_shape(rest, outline), "press": _press_shape(rest), "drop": _drop_shape(rest, outline)}
    lips["part"] = _part_shape(rest, outline)
    lips |= {"lift": _lift_shape(rest, outline), "smile": _smile_shape(rest, outline)}
    return FaceRig(
        rest=rest,
        axes=axes,
        origin_px=origin,
        unit_px=unit,
        mouth_width=float((rest[topo.MOUTH_CORNERS[1]] - rest[topo.MOUTH_CORNERS[0]]).norm()),
        close=_close_shape(rest, outline),
        pucker=_pucker_shape(rest, outline),
        tuck=_tuck_shape(rest),
        brows=_brows_shape(rest),
        shut=_shut_shape(rest),
        actions=action_shapes(rest, lips),
        **lips,
    )


def face_axes(points_px: Tensor) -> tuple[Tensor, Tensor, float]:
    """Local coordinate axes of a face.

    Args:
        points_px: (478, 3) pixels.

    Returns:
        Axes (3, 3), rows x, y, z as unit vectors; origin (3,) between the eyes, px; inter-ocular distance in 3-D, px.
    """
    right_eye = points_px[list(topo.RIGHT_EYE_CORNERS)].mean(0)
    left_eye = points_px[list(topo.LEFT_EYE_CORNERS)].mean(0)
    unit = float((left_eye - right_eye).norm())
    x = (left_eye - right_eye) / unit
    down = points_px[topo.CHIN] - points_px[topo.FOREHEAD_TOP]
    y = torch.nn.functional.normalize(down - x * (x @ down), dim=0)
    return torch.stack([x, y, torch.linalg.cross(x, y)]), (left_eye + right_eye) / 2, unit


def turn_head(local: Tensor, head: HeadPose, span: slice) -> Tensor:
    """(T, 478, 3) in face axes, rotated about the neck, then moved and scaled as the frames `span` of `head` say."""
    pivot = torch.tensor(PIVOT)
    rotation, scale = rotation_matrix(head.angles_deg[span]), head.scale[span]
    turned = (local - pivot) @ rotation.transpose(1, 2) * scale[:, None, None] + pivot
    return turned + head.translation[span][:, None, :]


class SkinInterpolator:
    """Radial basis interpolation of lip and jaw displacements over the skin; upper face and nose stay fixed."""

    # fmt: off
    FIXED = (*topo.RIGID, *topo.RIGHT_BROW, *topo.LEFT_BROW, 1, 2, 4, 5, 98, 327, 97, 326, 64, 294, 48, 278, 195, 117,
             346, 118, 347, 119, 348, 100, 329)
    # fmt: on

    def __init__(self, rest: Tensor) -> None:
        self.rest = rest
        self.lips = sorted({*topo.OUTER_UPPER_LIP, *topo.OUTER_LOWER_LIP})
        self.anchors = sorted({*topo.FACE_OVAL, *self.FIXED})
        self.centres = self.lips + self.anchors
        at = rest[self.centres, :2]
        system = torch.cdist(at, at).double() + 1e-4 * torch.eye(len(at), dtype=torch.float64)
        self.weights = torch.linalg.solve(system, torch.cdist(at, rest[:, :2]).double()).T.float()  # (478, centres)

    def spread_over(self, shape: Tensor, anchored: Tensor) -> Tensor:
        """(478, 3): lips as in `shape`, anchors as in `anchored`, all other skin in between."""
        displacements = torch.cat([shape[self.lips], anchored[self.anchors]])
        filled = self.weights @ displacements
        filled[list(topo.LIPS)] = shape[list(topo.LIPS)]
        for group in (topo.EYELIDS, topo.RIGHT_IRIS, topo.LEFT_IRIS, topo.RIGHT_BROW, topo.LEFT_BROW):
            filled[list(group)] = 0
        return filled


def _lip_columns() -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """For each of the 11 columns across the mouth, its 4 upper and 4 lower points, outer ring first."""
    upper = zip(*topo.UPPER_LIP_RINGS, strict=True)
    lower = zip(*topo.LOWER_LIP_RINGS, strict=True)
    return list(zip(upper, lower, strict=True))


def _jaw(rest: Tensor) -> Tensor:
    """(478,) share of the chin's drop that each point makes: 1 at the chin, 0 above the mouth and at the ears."""
    mouth_y = rest[list(topo.MOUTH_CORNERS), 1].mean()
    chin = rest[topo.CHIN]
    below = smooth_step((rest[:, 1] - mouth_y + 0.25 * (chin[1] - mouth_y)) / (1.05 * (chin[1] - mouth_y)))
    half_width = (rest[list(topo.FACE_OVAL), 0].max() - rest[list(topo.FACE_OVAL), 0].min()) / 2
    aside = ((rest[:, 0] - chin[0]).abs() / half_width).clamp(max=1)
    return below * (1 - 0.75 * aside**2)


def _close_shape(rest: Tensor, outline: SkinInterpolator) -> Tensor:
    shape = torch.zeros_like(rest)
    for upper, lower in _lip_columns()[1:-1]:
        gap = (rest[lower[3]] - rest[upper[3]]) * torch.tensor([0.0, 1.0, 1.0])
        # only the jaw closes what is wider than a smile
        wide = max(0.0, float(gap[1]) - CLOSED_BY_JAW) * (1 - WIDE_UPPER_SHARE / CLOSE_UPPER_SHARE)
        upper_share = CLOSE_UPPER_SHARE * (1 - wide / max(float(gap[1]), 1e-6))
        for chain, share in ((upper, upper_share), (lower, upper_share - 1)):
            thickness = float((rest[chain[3]] - rest[chain[0]])[1].abs())
            # lips that come together grow thicker, but not by more than a share of what they are
            swell = min(CLOSE_SWELL, MAX_SWELL * thickness / max(abs(share * float(gap[1])), 1e-6))
            for ring, lag in enumerate((1.0, 0.4 / 0.65, 0.15 / 0.65, 0.0)):
                shape[chain[ring]] = (1 - swell * lag) * share * gap
    # a wide-open resting mouth closes with its jaw
    middle_gap = float(rest[topo.INNER_LIP_BOTTOM, 1] - rest[topo.INNER_LIP_TOP, 1])
    jaw_way = torch.zeros_like(rest)
    jaw_way[:, 1] = -_jaw(rest) * max(0.0, middle_gap - 0.08) * 0.5
    return outline.spread_over(shape, jaw_way)


def _part_shape(rest: Tensor, outline: SkinInterpolator) -> Tensor:
    shape, jaw_way = torch.zeros_like(rest), torch.zeros_like(rest)
    jaw = _jaw(rest)
    jaw_way[:, 1] = JAW_SHARE * jaw
    jaw_way[:, 2] = 0.15 * JAW_SHARE * jaw  # the chin swings back as it drops
    right_corner, left_corner = rest[topo.INNER_MOUTH_CORNERS[0], 0], rest[topo.INNER_MOUTH_CORNERS[1], 0]
    columns = _lip_columns()
    for upper, lower in columns[1:-1]:
        across = (2 * (rest[upper[3], 0] - right_corner) / (left_corner - right_corner) - 1).clamp(-1, 1)
        height = float(1 - across**2)  # the parted mouth's outline
        for ring, (carry_up, carry_down) in enumerate(((0.7, 0.9), (0.8, 0.93), (0.9, 0.97), (1.0, 1.0))):
            shape[upper[ring], 1] = -UPPER_SHARE * carry_up * height
            shape[lower[ring], 1] = (1 - UPPER_SHARE) * carry_down * height
            shape[lower[ring], 2] = 0.1 * height
    # corners sink a little and come in, and take what is beside them along
    for column, share in enumerate(CORNER_TAKES):
        for (upper, lower), inward in ((columns[column], 0.10), (columns[-1 - column], -0.10)):
            for point in {*upper, *lower}:
                shape[point] += share * torch.tensor([inward, 0.22, 0.0])
    return outline.spread_over(shape, jaw_way)


def _sideways(rest: Tensor) -> Tensor:
    """(478,) −1 at the right mouth corner .. 1 at the left one, for lip points."""
    right_corner, left_corner = rest[topo.MOUTH_CORNERS[0], 0], rest[topo.MOUTH_CORNERS[1], 0]
    return ((2 * rest[:, 0] - right_corner - left_corner) / (left_corner - right_corner)).clamp(-1.05, 1.05)


def _spread_shape(rest: Tensor, outline: SkinInterpolator) -> Tensor:
    shape = torch.zeros_like(rest)
    shape[:, 0] = SPREAD * _sideways(rest)
    shape[:, 1] = -0.25 * SPREAD * _sideways(rest).abs() ** 2
    shape[:, 2] = 0.4 * SPREAD * _sideways(rest).abs() ** 2
    return outline.spread_over(shape, torch.zeros_like(rest))


def _smile_shape(rest: Tensor, outline: SkinInterpolator) -> Tensor:
    """The corners rise and go outward, the lips' middle stays, cheeks follow as skin does."""
    shape = torch.zeros_like(rest)
    aside = _sideways(rest)
    shape[:, 0] = SMILE_OUT * aside
    shape[:, 1] = -(aside.abs() ** 2)
    shape[:, 2] = SMILE_BACK * aside**2
    return outline.spread_over(shape, torch.zeros_like(rest))


def _pucker_shape(rest: Tensor, outline: SkinInterpolator) -> Tensor:
    shape = torch.zeros_like(rest)
    shape[:, 0] = -PUCKER / 2 * (rest[topo.MOUTH_CORNERS[1], 0] - rest[topo.MOUTH_CORNERS[0], 0]) * _sideways(rest)
    shape[:, 1] = LEVELLED * _smile_rise(rest) * _sideways(rest) ** 2  # nobody rounds lips that smile
    shape[:, 2] = -0.10 * (1 - 0.5 * _sideways(rest).abs())  # lips come forward
    for upper, lower in _lip_columns()[1:-1]:  # and grow a little thicker
        for ring, swell in enumerate((0.02, 0.013, 0.006, 0.0)):
            shape[upper[ring], 1] -= swell
            shape[lower[ring], 1] += swell
    return outline.spread_over(shape, torch.zeros_like(rest))


def _smile_rise(rest: Tensor) -> float:
    """How far a smiling mouth's corners stand above its middle, inter-ocular distances; 0 where they hang."""
    seam = [topo.INNER_LIP_TOP, topo.INNER_LIP_BOTTOM]
    return float((rest[seam, 1].mean() - rest[list(topo.MOUTH_CORNERS), 1].mean()).clamp(0, MOST_LEVELLED))


def _press_shape(rest: Tensor) -> Tensor:
    shape = torch.zeros_like(rest)
    for upper, lower in _lip_columns()[1:-1]:  # the red of the lips rolls inward; the skin around them hardly moves
        for chain in (upper, lower):
            thickness = rest[chain[3]] - rest[chain[0]]
            for ring, carry in enumerate((0.10, 0.12, 0.08, 0.0)):
                shape[chain[ring], 1] = carry * thickness[1]
    return shape


def _drop_shape(rest: Tensor, outline: SkinInterpolator) -> Tensor:
    shape, jaw_way = torch.zeros_like(rest), torch.zeros_like(rest)
    jaw_way[:, 1] = _jaw(rest)
    for _, lower in _lip_columns()[1:-1]:
        shape[lower[0], 1] = 0.25 * _jaw(rest)[lower[0]]  # the lip's outer rim is pulled along
    return outline.spread_over(shape, jaw_way)


def _lift_shape(rest: Tensor, outline: SkinInterpolator) -> Tensor:
    shape = torch.zeros_like(rest)
    width = float((rest[topo.MOUTH_CORNERS[1]] - rest[topo.MOUTH_CORNERS[0]]).norm())
    for upper, _ in _lip_columns()[1:-1]:
        height = 1 - float(_sideways(rest)[upper[3]]) ** 2
        for ring, carry in enumerate((0.8, 0.85, 0.92, 1.0)):
            shape[upper[ring], 1] = -LIFT * width * carry * height
    return outline.spread_over(shape, torch.zeros_like(rest))


def _tuck_shape(rest: Tensor) -> Tensor:
    shape = torch.zeros_like(rest)
    for _, lower in _lip_columns()[1:-1]:  # the lower lip rolls in under the upper teeth: its red grows thin
        thickness = rest[lower[3]] - rest[lower[0]]
        for ring, carry in enumerate((0.12, 0.25, 0.30, 0.15)):
            shape[lower[ring], 1] = carry * thickness[1]
        shape[lower[3], 2] = 0.05
    return shape


def _brows_shape(rest: Tensor) -> Tensor:
    """The brows rise, the forehead above them evenly less, the lids hardly."""
    shape = torch.zeros_like(rest)
    for brow in (topo.RIGHT_BROW, topo.LEFT_BROW):
        points = rest[list(brow)]
        distance = torch.cdist(rest[:, :2], points[:, :2]).amin(1)
        above = rest[:, 1] < points[:, 1].max()
        reach = torch.where(above, BROW_REACH, 0.5 * BROW_REACH)
        shape[:, 1] = torch.minimum(shape[:, 1], -BROW_RISE * smooth_step(1 - distance / reach))
    fixed = [*topo.EYELIDS, *topo.RIGHT_IRIS, *topo.LEFT_IRIS, *topo.FACE_OVAL]
    shape[fixed] = 0
    return shape


def _shut_shape(rest: Tensor) -> Tensor:
    shape = torch.zeros_like(rest)
    lids = ((topo.RIGHT_UPPER_LID, topo.RIGHT_LOWER_LID), (topo.LEFT_UPPER_LID, topo.LEFT_LOWER_LID))
    for upper, lower in lids:
        opening = 0.0
        for above, under in list(zip(upper, lower, strict=True))[1:-1]:
            gap = rest[under] - rest[above]
            opening = max(opening, float(gap[1]))
            shape[above] = LID_UPPER_SHARE * gap
            shape[under] = -(1 - LID_UPPER_SHARE) * gap
        _carry_lid_skin(rest, shape, upper, opening)
    return shape


def _carry_lid_skin(rest: Tensor, shape: Tensor, upper: tuple[int, ...], opening: float) -> None:
    """Let the skin above the lid follow it evenly less with the distance: glasses' rims and brows stay."""
    lid = rest[list(upper)]
    left_end, right_end = float(lid[:, 0].min()), float(lid[:, 0].max())
    reach = max(LID_REACH * opening, 1e-3)
    fixed = {*topo.EYELIDS, *topo.RIGHT_IRIS, *topo.LEFT_IRIS, *topo.RIGHT_BROW, *topo.LEFT_BROW}
    for point in range(topo.NUM_MESH_POINTS):
        x, y = float(rest[point, 0]), float(rest[point, 1])
        if point in fixed or not left_end <= x <= right_end:
            continue
        above = float(lid[(lid[:, 0] - x).abs().argmin(), 1]) - y
        if 0 <= above < reach:
            across = math.sin(math.pi * (x - left_end) / (right_end - left_end))
            shape[point, 1] = LID_UPPER_SHARE * opening * across * (1 - above / reach)
