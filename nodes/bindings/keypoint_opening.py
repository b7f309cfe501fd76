"""The mouth's opening in frames as they are written, against what was asked."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from ...portraittalk_core.errors import MissingDependency
from ...portraittalk_core.motion.keypoint_regions import ExpressionBasis
from ...portraittalk_core.renderers.contract import Film
from ...portraittalk_core.renderers.implicit.contract import KeypointModel
from ...portraittalk_core.renderers.implicit.lip_opening import LipOpening, OpeningMeter, target_opening
from ...portraittalk_core.renderers.implicit.mouth_amount import MouthAmount
from ...portraittalk_core.types import KeypointTrack, LandmarkTrack, Portrait
from . import convert
from .keypoints import no_plot
from .progress import face_mesh

log = logging.getLogger(__name__)

DIGITS = 4


@dataclass(frozen=True)
class OpeningOutputs:
    """What a node gives of a mouth's opening."""

    plot: Tensor  # IMAGE
    report: str  # JSON; empty where nothing was measured
    text: str  # one line


NOTHING = OpeningOutputs(no_plot(), "", "")


@contextmanager
def meter(enabled: bool, fps: object) -> Iterator[OpeningMeter | None]:
    """What measures pictures; None where nobody wants it."""
    if not enabled:
        yield None
        return
    with face_mesh() as mesh:
        yield OpeningMeter(mesh, fps)


def basis_of(
    measured: OpeningMeter | None, motion: KeypointTrack | LandmarkTrack, model: KeypointModel, source: Portrait | Film
) -> ExpressionBasis | None:
    """What moves the mouth in the keypoints of a motion; None where nobody asks, or it is known by name."""
    if measured is None or not isinstance(motion, KeypointTrack):
        return None
    return MouthAmount(model, source).basis


def outputs_of(
    measured: OpeningMeter | None,
    motion: KeypointTrack | LandmarkTrack,
    alpha: float | Tensor,
    basis: ExpressionBasis | None = None,
) -> OpeningOutputs:
    """Plot and report of a finished measurement.

    Args:
        measured: which has seen all pictures; None gives empty outputs.
        motion: that was rendered.
        alpha: the amount of it, one number or one a frame.
        basis: what moves the mouth, where the layout's keypoints are not known by name.
    """
    if measured is None:
        return NOTHING
    amounts = alpha if isinstance(alpha, Tensor) else torch.full((len(motion),), float(alpha))
    opening = measured.against(amounts * target_opening(motion, basis))
    summary = opening.summary()
    r, faceless = summary["correlation"], summary["num_faceless"]
    text = f"opening asked and measured: r {'n/a' if r is None else f'{r:.3f}'}"
    text += f"; no face found in {faceless} of {len(opening)} frames" if faceless else ""
    return OpeningOutputs(_plot(opening), json.dumps(summary | _curves(opening)), text)


def _plot(opening: LipOpening) -> Tensor:
    from ...portraittalk_core.plots.lip_opening import plot_opening

    try:
        return convert.to_image([plot_opening(opening)])
    except MissingDependency as error:
        log.warning("no plot: %s", error)
        return no_plot()


def _curves(opening: LipOpening) -> dict[str, list[float | None]]:
    """Both curves, None where no face was found."""
    curves = {"asked": opening.target.tolist(), "measured": opening.measured.tolist()}
    return {
        name: [None if value != value else round(value, DIGITS) for value in values]  # noqa: PLR0124 - NaN
        for name, values in curves.items()
    }
