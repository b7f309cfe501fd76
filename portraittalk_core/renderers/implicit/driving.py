"""What drives a renderer with implicit keypoints: landmarks through a bridge, keypoint tracks, Audio2Exp.

Alpha acts where speech comes in. Landmarks: the mouth goes from shut (0) over as it is (1) beyond it, on the same head.
Keypoint tracks: the mouth's expression, from the source's own shut mouth on. Audio2Exp: all that it adds to a shut
mouth, ControlTalk's equation 3.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from ...errors import InputError
from ...motion.dub import mouth_share, resting_frame, with_mouth
from ...motion.keypoint_lips import with_lips
from ...motion.keypoint_time import join
from ...types import KeypointTrack, LandmarkTrack
from ..contract import Film, RenderJob
from .audio2exp.alpha import AlphaCurve
from .bridges import keypoints_of_landmarks, keypoints_of_lips
from .contract import Keypoints
from .engine_motion import OURS, carried, check_lips, our_landmarks
from .extract import track_of
from .face_renderer import FaceRenderer
from .mouth_amount import MouthAmount, shut_landmarks

Spans = Iterator[KeypointTrack]
MOTION = ("expression", "rotation_deg", "translation", "scale")  # parts of a track and of keypoints


class Driving:
    """The motion of one job, as keypoints.

    Args:
        renderer: with its model, options and Audio2Exp driver.
        job: what is rendered.
        on_layer: called at least once a layer of the speech encoder; may raise to stop.

    Raises:
        InputError: an Audio2Exp driver without speech or of another family, a bad alpha.
    """

    def __init__(self, renderer: FaceRenderer, job: RenderJob, on_layer: Callable[[], None] | None = None) -> None:
        self.renderer, self.job, self.driver = renderer, job, renderer.driver
        self._on_layer = None if on_layer is None else lambda *_: on_layer()
        self.curve = AlphaCurve(renderer.alpha)
        self.mouth = MouthAmount(renderer.model, job.source)
        check_lips(renderer.options, job)
        if self.driver is not None:
            if job.speech is None:
                raise InputError("Audio2Exp hears the speech itself; give the speech too, or leave `audio2exp` out.")
            if self.driver.layout != renderer.model.layout:
                raise InputError(
                    f"{self.driver.source} moves keypoints of {self.driver.layout}, but these networks have "
                    f"{renderer.model.layout}; give an Audio2Exp that was trained on them."
                )

    def spans(self) -> tuple[type, Iterator[KeypointTrack | LandmarkTrack]]:
        """The kind of the motion, and its spans, checked as they come.

        Raises:
            InputError: there is none, it is of another family, or its kind changes.
        """
        checked = (check_motion(span, self.renderer.model.layout) for span in self.job.motion)
        first = next(checked, None)
        if first is None:
            raise InputError("the motion has no span; make it for this source.")
        kind = type(first)
        return kind, (_of_kind(span, kind) for span in itertools.chain([first], checked))

    def of_portrait(self, face: Keypoints) -> Spans:
        """The keypoint tracks of a portrait.

        Args:
            face: the portrait's own keypoints.
        """
        kind, spans = self.spans()
        portrait = self.job.source
        if kind is KeypointTrack:
            base = self.keypoints(spans, face)
            if self.renderer.options.lips == OURS and self.driver is None:
                lips = self.landmarks(our_landmarks(self.job), portrait.landmarks)
                driven = keypoints_of_landmarks(self.renderer.model, portrait, lips)
                base = with_lips(base, driven, self.mouth.basis)
            return self.edited(base)
        scaled = self.landmarks(spans, portrait.landmarks)
        model = self.renderer.model
        if self.renderer.options.bridge == "lips":
            return self.edited(keypoints_of_lips(model, self.renderer.retargeting, portrait, scaled))
        return self.edited(keypoints_of_landmarks(model, portrait, scaled))

    def landmarks(self, spans: Iterator[LandmarkTrack], reference: LandmarkTrack) -> Iterator[LandmarkTrack]:
        """Landmark spans with alpha on their mouth; shut where Audio2Exp is to speak.

        Args:
            spans: of the motion.
            reference: one frame: the face at rest.
        """
        shut, done = ShutMouth(reference), 0
        for span in spans:
            amounts = self.curve.at(done, len(span), span.fps) if self.driver is None else torch.zeros(len(span))
            yield shut.scaled(span, amounts)
            done += len(span)

    def keypoints(self, spans: Spans, face: Keypoints) -> Spans:
        """Keypoint spans as they are or carried from their first frame on, with alpha on their mouth.

        Args:
            spans: of the motion.
            face: one face: the source's own keypoints.
        """
        source = track_of(face, self.renderer.model.layout, self.job.fps)
        if self.renderer.options.relative or self.job.of_nobody:
            spans = carried(spans, source, self.job.of_nobody)
        if self.driver is not None:
            yield from spans
            return
        done = 0
        for span in spans:
            yield self.mouth.scaled(span, self.curve.at(done, len(span), span.fps))
            done += len(span)

    def edited(self, base: Spans) -> Spans:
        """The spans as Audio2Exp edits them; as they are without one."""
        if self.driver is None:
            return base
        options = self.renderer.options
        passes = options.silence_pass, options.audio_offset
        return self.driver.drive(base, self.job.speech, self.renderer.alpha, *passes, on_progress=self._on_layer)

    def resting_landmarks(self) -> LandmarkTrack:
        """One frame: the source's face at rest."""
        source = self.job.source
        return resting_frame(source.track) if isinstance(source, Film) else source.landmarks


class ShutMouth:
    """The shut mouth of one face, on any head.

    Args:
        reference: one frame: the face at rest, its mouth open or not.
    """

    def __init__(self, reference: LandmarkTrack) -> None:
        self.landmarks = shut_landmarks(reference)
        self._share = mouth_share(reference)

    def scaled(self, span: LandmarkTrack, amounts: Tensor) -> LandmarkTrack:
        """A span whose mouth is shut at 0, as it is at 1, and further open above.

        Args:
            span: T frames on the reference's picture.
            amounts: (T,).
        """
        if bool((amounts == 1).all()):
            return span
        points, valid = self.landmarks.points.expand(len(span), -1, -1), self.landmarks.valid.expand(len(span))
        spoken = replace(self.landmarks, points=points, valid=valid)
        shut = with_mouth(span, spoken, self.landmarks, self._share)
        points = torch.lerp(shut.points, span.points, amounts[:, None, None].to(span.points))
        return replace(span, points=points)


def check_motion(span: object, layout: str) -> KeypointTrack | LandmarkTrack:
    """Check that a span of motion is of landmarks, or of keypoints of a layout, and return it.

    Raises:
        InputError: keypoints of another layout, or something else.
    """
    if isinstance(span, KeypointTrack):
        return span.check_layout(layout)
    if not isinstance(span, LandmarkTrack):
        raise InputError(f"the motion must be a landmark or keypoint track, not {type(span).__name__}.")
    return span


def batches(spans: Iterator[KeypointTrack], size: int) -> Iterator[KeypointTrack]:
    """Pieces of `size` frames of consecutive tracks; only the last one may be smaller."""
    rest = None
    for span in spans:
        joined = span if rest is None else join([rest, span])
        multiple = len(joined) - len(joined) % size
        yield from (joined.slice(start, start + size) for start in range(0, multiple, size))
        rest = joined.slice(multiple, len(joined)) if multiple < len(joined) else None
    if rest is not None:
        yield rest


def _of_kind(span: KeypointTrack | LandmarkTrack, kind: type) -> KeypointTrack | LandmarkTrack:
    if type(span) is not kind:
        raise InputError(f"the motion changes from {kind.__name__} to {type(span).__name__}; make all of it of a kind.")
    return span
