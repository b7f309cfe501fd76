"""Bridges between landmarks and implicit keypoints, with nothing trained.

The warp bridge measures an expression where it can be seen: the portrait is warped to the landmarks, with the head held
still, and the model reads both the warped frame and the warped portrait at rest; their difference is the motion. The
lips bridge asks the model's retargeting network instead. Either way the head comes from the landmarks.

Shapes: T frames, K keypoints, S side of a crop.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import InputError
from ...face import topology as topo
from ...face.geometry import align
from ...media.tee import tee
from ...motion.keypoint_regions import BROWS, EYES, MOUTH, REST, ExpressionBasis
from ...motion.keypoint_rotation import angles_of, rotation_of
from ...motion.rig import WIDEST_GAP, make_rig
from ...threads import one_torch_thread
from ...types import KeypointTrack, LandmarkTrack, Portrait
from ..contract import RenderJob
from ..warp.build import warped_pictures
from .contract import KeypointModel, Keypoints, Retargeting
from .crop import FaceCrop
from .extract import BATCH, keypoints_of_picture

# How far the middle of our mesh lies before the point about which keypoints turn, half crops: what explains best the
# translations in LivePortrait's public motion templates d1, d5, d7 and d8 by our mesh on the same films.
FACE_DEPTH = -0.15
# LivePortrait's lip ratio over ours, both gap over corner distance: its points measure .70 (wide open) to .88 of ours
# on the films of its public templates d5 and d8.
PUBLIC_RATIO = 0.8
OPEN_LIPS = 0.03  # ratio of a source's lips from which LivePortrait shuts them before anything is added
UNMOVED = 0.1  # of a region's strongest movement: a keypoint that moves less belongs to none


def keypoints_of_landmarks(
    model: KeypointModel, portrait: Portrait, spans: Iterable[LandmarkTrack], batch: int = BATCH
) -> Iterator[KeypointTrack]:
    """The motion of landmarks as keypoints, through frames warped to them.

    Expression is the portrait's own, and what the model sees change between the portrait warped to its own landmarks
    and warped to a frame's, the head held still; it turns with the head. Rotation, translation and scale are those of
    the landmarks' head, added to the portrait's own.

    Args:
        model: of a family.
        portrait: the picture that is to move.
        spans: consecutive spans of landmarks on the portrait's picture.
        batch: frames that the model reads at once.

    Yields:
        A keypoint track for every span; one span is held at a time.
    """
    face, crop = keypoints_of_picture(model, portrait.picture, portrait.landmarks.points_px[0])
    head = HeadOfLandmarks(portrait.landmarks, face, crop, model.layout)
    for_warp, for_head = tee(spans)
    still = (head.held(span) for span in for_warp)
    motion = itertools.chain([portrait.landmarks], still)  # the rest is warped too: what the warp adds falls out
    warped = warped_pictures(RenderJob(portrait, motion, 1, portrait.landmarks.fps))
    rest = _expressions(model, crop, itertools.islice(warped, 1), 1)
    for span in for_head:
        expressions = _expressions(model, crop, itertools.islice(warped, len(span)), batch)
        yield head.track(span, expressions - rest)


def keypoints_of_lips(
    model: KeypointModel, retargeting: Retargeting | None, portrait: Portrait, spans: Iterable[LandmarkTrack]
) -> Iterator[KeypointTrack]:
    """The mouth's opening, the eyes' and the head of landmarks as keypoints, by the model's retargeting networks.

    Args:
        model: of a family.
        retargeting: its small networks.
        portrait: the picture that is to move.
        spans: consecutive spans of landmarks on the portrait's picture.

    Yields:
        A keypoint track for every span.

    Raises:
        InputError: the model has no retargeting networks.
    """
    if retargeting is None:
        raise InputError(
            f"{model.layout} has no retargeting network here, so lips cannot be moved by their opening alone; add "
            "LivePortrait's stitching_retargeting_module, or take the bridge warp."
        )
    rest_px = portrait.landmarks.points_px
    face, crop = keypoints_of_picture(model, portrait.picture, rest_px[0])
    head = HeadOfLandmarks(portrait.landmarks, face, crop, model.layout)
    placed, scale = model.place(face), float(face.scale[0])
    shut = eye_ratios(rest_px)
    for span in spans:
        points_px = head.held(span).points_px
        moved = lip_displacements(retargeting, placed, lip_ratio(rest_px), lip_ratio(points_px))
        moved = moved + eye_displacements(retargeting, placed, shut, eye_ratios(points_px))
        yield head.track(span, moved.float().cpu() / scale)


def lip_displacements(retargeting: Retargeting, placed: Tensor, rest: Tensor, target: Tensor) -> Tensor:
    """(T, K, 3) displacements of placed keypoints that open a face's lips.

    Args:
        retargeting: of the model.
        placed: (1, K, 3) keypoints of the face as it is.
        rest: (1,) `lip_ratio` of the face as it is.
        target: (T,) `lip_ratio` that is wanted.
    """
    ratios = (PUBLIC_RATIO * rest.expand(len(target)).to(placed), PUBLIC_RATIO * target.to(placed))
    with torch.no_grad():
        return retargeting.lips(placed.expand(len(target), -1, -1), *ratios)


def eye_displacements(retargeting: Retargeting, placed: Tensor, rest: Tensor, target: Tensor) -> Tensor:
    """(T, K, 3) displacements of placed keypoints that open a face's eyes otherwise than they are; 0 where they do not.

    Args:
        retargeting: of the model.
        placed: (1, K, 3) keypoints of the face as it is.
        rest: (1, 2) `eye_ratios` of the face as it is.
        target: (T, 2) that are wanted; the networks take their mean.
    """
    targets = torch.cat([rest, target]).mean(1).to(placed)
    count = len(targets)
    with torch.no_grad():
        moved = retargeting.eyes(placed.expand(count, -1, -1), rest.expand(count, -1).to(placed), targets)
    return moved[1:] - moved[:1]


def lip_ratio(points_px: Tensor) -> Tensor:
    """(T,) gap between the inner lips over the distance of the mouth's corners, of (T, 478, 2 or 3) pixels."""
    return _distance(points_px, (topo.INNER_LIP_TOP, topo.INNER_LIP_BOTTOM)) / _distance(points_px, topo.MOUTH_CORNERS)


def eye_ratios(points_px: Tensor) -> Tensor:
    """(T, 2) height over width of the person's left and right eye, of (T, 478, 2 or 3) pixels."""
    left = _distance(points_px, (386, 374)) / _distance(points_px, topo.LEFT_EYE_CORNERS)
    right = _distance(points_px, (159, 145)) / _distance(points_px, topo.RIGHT_EYE_CORNERS)
    return torch.stack([left, right], 1)


@dataclass(frozen=True)
class _HeadMotion:
    """How a head has moved since the portrait, in half crops: moved = scale · turn · point + shift."""

    turn: Tensor  # (T, 3, 3)
    scale: Tensor  # (T,)
    shift: Tensor  # (T, 3)


class HeadOfLandmarks:
    """Head motion of landmarks on one portrait, and the same motion of its keypoints.

    Args:
        rest: one frame: the portrait's own landmarks.
        face: the portrait's own keypoints.
        crop: in which they lie.
        layout: of the keypoints.
    """

    def __init__(self, rest: LandmarkTrack, face: Keypoints, crop: FaceCrop, layout: str) -> None:
        self._rest, self._rest_px = rest, rest.points_px.double()
        self._face, self._layout = Keypoints(*(part.double().cpu() for part in vars(face).values())), layout
        unit = 2 / crop.size  # half crops per pixel of the crop
        flat = crop.matrix.double().cpu()
        scale = float(torch.linalg.det(flat[:, :2]).abs().sqrt())
        self._axes = torch.eye(3, dtype=torch.float64)
        self._axes[:2, :2] = flat[:, :2] / scale
        self._per_px = scale * unit
        # landmarks count from the first pixel's corner, matrices of crops from its middle
        corner = (flat[:, 2] - flat[:, :2] @ torch.full((2,), 0.5, dtype=torch.float64) + 0.5) * unit - 1
        middle = self._rest_px[0, :, 2].mean() * self._per_px
        self._origin = torch.cat([corner, (FACE_DEPTH - middle)[None]])

    def held(self, span: LandmarkTrack) -> LandmarkTrack:
        """The span's expressions on the portrait's own head."""
        rigid, points_px = list(topo.RIGID), self._points_px(span)
        fixed = self._rest_px[:, rigid].expand(len(span), -1, -1)
        scale, turn, shift = align(points_px[:, rigid], fixed)
        still = scale[:, None, None] * points_px @ turn.transpose(1, 2) + shift[:, None]
        return LandmarkTrack.from_px(still, self._rest.width, self._rest.height, span.fps, span.valid)

    def track(self, span: LandmarkTrack, moved: Tensor) -> KeypointTrack:
        """Keypoints with the span's head.

        Args:
            span: T frames.
            moved: (T, K, 3) what its expressions add to the portrait's, on the portrait's head.
        """
        face, head = self._face, self._motion(span)
        turned = head.turn @ rotation_of(self._layout, face.rotation_deg)
        expression = (face.expression + moved.double().cpu()) @ head.turn.transpose(1, 2)
        travelled = (head.turn @ face.translation[0]) * head.scale[:, None] + head.shift
        parts = (expression, angles_of(self._layout, turned), travelled, face.scale * head.scale)
        return KeypointTrack(*(part.float() for part in parts), span.valid.clone(), span.fps, self._layout)

    def _motion(self, span: LandmarkTrack) -> _HeadMotion:
        rigid = list(topo.RIGID)
        rest = self._rest_px[:, rigid].expand(len(span), -1, -1)
        scale, turn, shift = align(rest, self._points_px(span)[:, rigid])
        turn = self._axes @ turn @ self._axes.T
        moved = self._per_px * shift @ self._axes.T + self._origin
        return _HeadMotion(turn, scale, moved - scale[:, None] * (turn @ self._origin))

    def _points_px(self, span: LandmarkTrack) -> Tensor:
        """(T, 478, 3) float64 pixels of the portrait's picture, whatever size of it the span was made on."""
        size = torch.tensor([self._rest.width, self._rest.height, self._rest.width], dtype=torch.float64)
        return span.points.double() * size


def measured_basis(model: KeypointModel, portrait: Portrait, batch: int = BATCH) -> ExpressionBasis:
    """Which keypoints of a model move mouth, eyes and brows, and how, measured on one portrait.

    The portrait is warped to a wide open mouth, to shut eyes and to raised brows, and the model reads each. A keypoint
    belongs to regions by the share that each has in its movement, and to the rest where it hardly moves.

    Args:
        model: of a family.
        portrait: an upright face with open eyes.
        batch: frames that the model reads at once.
    """
    rig = make_rig(portrait.landmarks)
    shut_mouth = rig.rest + rig.close
    open_mouth = shut_mouth + WIDEST_GAP * rig.mouth_width * rig.part
    poses = torch.stack([shut_mouth, open_mouth, shut_mouth + rig.shut, shut_mouth + rig.brows])
    landmarks = portrait.landmarks
    posed = LandmarkTrack.from_px(rig.to_px(poses), landmarks.width, landmarks.height, landmarks.fps)
    expressions = next(iter(keypoints_of_landmarks(model, portrait, [posed], batch))).expression
    mouth, eyes, brows = (expressions[1:] - expressions[0]).unbind()
    ratio = lip_ratio(posed.points_px)
    strength = torch.stack(
        [part.norm(dim=1) / part.norm(dim=1).max().clamp(min=1e-12) for part in (mouth, eyes, brows)]
    )
    strength = strength.square()
    shares = strength / strength.sum(0).clamp(min=UNMOVED**2)
    named = dict(zip((MOUTH, EYES, BROWS), shares, strict=True))
    parting = mouth * named[MOUTH][:, None] / float(ratio[1] - ratio[0])
    return ExpressionBasis(
        model.layout, parting, eyes * named[EYES][:, None], {**named, REST: (1 - shares.sum(0)).clamp(0, 1)}
    )


def _expressions(model: KeypointModel, crop: FaceCrop, pictures: Iterator[Tensor], batch: int) -> Tensor:
    """(T, K, 3) float32 expressions that a model sees in pictures, at one crop."""
    minima = []
    while taken := _crops(crop, itertools.islice(pictures, batch), model.device):
        with torch.no_grad():
            minima.append(model.keypoints(torch.cat(taken)).expression.float().cpu())
    return torch.cat(minima)


def _crops(crop: FaceCrop, pictures: Iterator[Tensor], device: torch.device) -> list[Tensor]:
    with one_torch_thread():  # the warp's many small steps
        return [crop.take(picture, device) for picture in pictures]


def _distance(points_px: Tensor, pair: tuple[int, int]) -> Tensor:
    return (points_px[:, pair[0], :2] - points_px[:, pair[1], :2]).norm(dim=1).clamp(min=1e-6)
