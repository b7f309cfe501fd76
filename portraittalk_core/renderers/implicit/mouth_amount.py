"""Alpha on the mouth of keypoint tracks: eyes, brows and head stay as they are, in every family.

Which keypoints move the mouth is known by name for LivePortrait; for face-vid2vid it is measured on the source, once.
"""

from __future__ import annotations

import itertools
from functools import cached_property

from torch import Tensor

from ...motion.dub import resting_index
from ...motion.keypoint_edit import added, expression_gain, in_head_axes
from ...motion.keypoint_regions import KEYPOINTS_OF_REGIONS, MOUTH, ExpressionBasis
from ...motion.rig import make_rig
from ...types import KeypointTrack, LandmarkTrack, Portrait
from ..contract import Film
from .bridges import OPEN_LIPS, keypoints_of_landmarks, lip_ratio, measured_basis
from .contract import KeypointModel
from .extract import keypoints_of_picture, track_of


class MouthAmount:
    """Scales the mouth's part of the expression of keypoint tracks about the source's shut mouth.

    Args:
        model: of a family.
        source: whose mouth it is; of a film its most frontal frame with the most closed lips.
    """

    def __init__(self, model: KeypointModel, source: Portrait | Film) -> None:
        self._model, self._source = model, source

    @cached_property
    def portrait(self) -> Portrait:
        """The source as one picture."""
        return resting_portrait(self._source) if isinstance(self._source, Film) else self._source

    @cached_property
    def basis(self) -> ExpressionBasis | None:
        """What moves the mouth, measured on the source; None where the layout's keypoints are known by name."""
        return None if self._model.layout in KEYPOINTS_OF_REGIONS else measured_basis(self._model, self.portrait)

    @cached_property
    def shut(self) -> KeypointTrack:
        """One frame: the source with its lips together."""
        landmarks = self.portrait.landmarks
        if float(lip_ratio(landmarks.points_px)) >= OPEN_LIPS:
            return next(keypoints_of_landmarks(self._model, self.portrait, [shut_landmarks(landmarks)]))
        face, _ = keypoints_of_picture(self._model, self.portrait.picture, landmarks.points_px[0])
        return track_of(face, self._model.layout, landmarks.fps)

    def scaled(self, span: KeypointTrack, amounts: Tensor) -> KeypointTrack:
        """A span whose mouth is shut at 0, as it is at 1, and further open above.

        Where the keypoints of the mouth had to be measured, they share in other movements too and follow alpha in part
        only; what lacks is made up along the direction in which the mouth opens, so that the opening is in proportion.

        Args:
            span: T frames.
            amounts: (T,).
        """
        if bool((amounts == 1).all()):
            return span
        rest = in_head_axes(self.shut)[0]
        result = expression_gain(span, amounts, MOUTH, rest, self.basis)
        if self.basis is None:
            return result
        target, opened = (self.basis.opening(in_head_axes(track) - rest) for track in (span, result))
        difference = (amounts.to(target) * target - opened).where(amounts != 1, 0.0)
        return added(result, difference, self.basis.parting)


def shut_landmarks(reference: LandmarkTrack) -> LandmarkTrack:
    """One frame: a face at rest with its lips together."""
    rig = make_rig(reference)
    points_px = rig.to_px(rig.rest + rig.close)[None]
    return LandmarkTrack.from_px(points_px, reference.width, reference.height, reference.fps)


def resting_portrait(film: Film) -> Portrait:
    """The film's most frontal frame with the most closed lips."""
    index = resting_index(film.track)
    picture = next(itertools.islice(film.pictures(), index, None))
    return Portrait(picture, film.track.slice(index, index + 1), film.source)
