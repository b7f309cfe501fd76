"""Motion in a style that changes over time: both ends are predicted, and mixed frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor

from ..engines.contract import LANDMARKS, MotionEngine, output_kind
from ..motion.options import MotionOptions
from ..progress import Progress
from ..style.prior import BlendedStyle, Style
from ..style.reference import statistics_of
from ..types import LandmarkTrack, Speech


def engine_in_style(engine: MotionEngine, style: Style | None) -> MotionEngine:
    """The engine itself, or for a style that changes over time one that moves from the one style to the other.

    Args:
        engine: any motion engine; one that makes keypoints knows no styles, and stays as it is.
        style: None for the engine's own. One that does not change stands in the motion options.

    Raises:
        InputError: a style without motion statistics.
    """
    if not isinstance(style, BlendedStyle) or style.strength == 0 or output_kind(engine) != LANDMARKS:
        return engine
    return BlendedStyleEngine(engine, style)


class BlendedStyleEngine:
    """A motion engine in a style that changes over time, see `engines.contract.MotionEngine`.

    Args:
        engine: one that makes landmarks; it predicts every clip twice.
        style: both ends, and the curve between them; its time is the clip's.
    """

    def __init__(self, engine: MotionEngine, style: BlendedStyle) -> None:
        self._engine, self._style = engine, style
        self._ends = tuple(statistics_of(end) for end in (style.first, style.second))
        if hasattr(engine, "film_spans"):
            self.film_spans = self._film_spans

    def __getattr__(self, name: str) -> object:
        """Everything else is the engine's own: its name, and what it can do beside spans."""
        return getattr(self.__dict__["_engine"], name)

    def spans(
        self,
        speech: Speech,
        reference: LandmarkTrack,
        options: MotionOptions | None = None,
        on_progress: Progress | None = None,
    ) -> Iterator[LandmarkTrack]:
        """Consecutive spans of landmarks, as of `engines.contract.MotionEngine`."""
        options = options or MotionOptions()

        def predict(end: MotionOptions) -> Iterator[LandmarkTrack]:
            return self._engine.spans(speech, reference, end, on_progress)

        return self._mixed(predict, options, speech.num_frames(options.fps), options.fps)

    def _film_spans(
        self,
        speech: Speech,
        film: LandmarkTrack,
        options: MotionOptions | None = None,
        scenes: Tensor | None = None,
        on_progress: Progress | None = None,
    ) -> Iterator[LandmarkTrack]:
        """Consecutive spans of a film's face, as of `engines.contract.FilmEngine`."""

        def predict(end: MotionOptions) -> Iterator[LandmarkTrack]:
            return self._engine.film_spans(speech, film, end, scenes, on_progress)

        return self._mixed(predict, options or MotionOptions(fps=film.fps), len(film), film.fps)

    def _mixed(
        self,
        predict: Callable[[MotionOptions], Iterator[LandmarkTrack]],
        options: MotionOptions,
        num_frames: int,
        fps: Fraction,
    ) -> Iterator[LandmarkTrack]:
        shares, start = self._style.shares(num_frames, fps)[:, None, None], 0
        ends = (predict(replace(options, style_statistics=statistics)) for statistics in self._ends)
        for first, second in zip(*ends, strict=True):
            stop = start + len(first)
            yield replace(first, points=torch.lerp(first.points, second.points, shares[start:stop]))
            start = stop
