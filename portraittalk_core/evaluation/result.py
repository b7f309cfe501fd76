"""Evaluation result of one video or pair, and its JSON form."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from PIL import Image
from torch import Tensor

from .align import Offset

SHOWN_PX = 224  # height of a worst frame in the report
JPEG_QUALITY = 86


@dataclass(frozen=True)
class WorstFrame:
    """One of the worst frames, with the reason."""

    time_s: float  # of the generated video
    why: str
    generated: str  # JPEG, base64
    target: str | None  # the same, of the same moment


@dataclass(frozen=True)
class EvaluationResult:
    """Metrics of one pair; without a target, of one video."""

    name: str
    generated: str  # as it was given
    target: str | None
    error: str | None = None  # why nothing could be measured
    values: Mapping[str, float] = field(default_factory=dict)  # by the metric's name; "target:…" the target's own
    missing: Mapping[str, str] = field(default_factory=dict)  # what was not measured, and why
    counts: Mapping[str, int | str] = field(default_factory=dict)  # frames, pixels, rates, back ends
    offset: Offset | None = None
    notes: tuple[str, ...] = ()  # what was done to make the two comparable, what to know
    fps: float = 25.0  # of the curves
    curves: Mapping[str, list[float | None]] = field(default_factory=dict)  # by name, one value a frame
    worst: tuple[WorstFrame, ...] = ()
    seconds_taken: float = 0.0

    def to_json(self) -> str:
        """As JSON text; infinite numbers are written as "inf"."""
        fields = dataclasses.asdict(self) | {"values": {k: plain(v) for k, v in self.values.items()}}
        return json.dumps(fields, ensure_ascii=False, allow_nan=False)

    @staticmethod
    def from_json(text: str) -> EvaluationResult:
        """The result that `to_json` wrote.

        Raises:
            ValueError: it is not one.
        """
        try:
            read = json.loads(text)
            offset = None if read["offset"] is None else Offset(**read["offset"])
            worst = tuple(WorstFrame(**frame) for frame in read["worst"])
            values = {name: float(value) for name, value in read["values"].items()}
            changed = {"offset": offset, "worst": worst, "values": values, "notes": tuple(read["notes"])}
            return EvaluationResult(**(read | changed))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the result of an evaluation: {error}") from error


def plain(value: float | int | str | None) -> float | int | str | None:
    """A number in a form that JSON allows: infinities as text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def curve(values: Tensor) -> list[float | None]:
    """A curve (T,) for JSON: five digits, None for NaN."""
    return [float(f"{v:.5g}") if math.isfinite(v) else None for v in values.tolist()]


def jpeg_base64(picture: Tensor) -> str:
    """A picture (H, W, 3) uint8 as a small JPEG in base64."""
    image, stream = Image.fromarray(picture.contiguous().numpy()), io.BytesIO()
    height, width = picture.shape[:2]
    if height > SHOWN_PX:
        image = image.resize((max(1, round(width * SHOWN_PX / height)), SHOWN_PX), Image.Resampling.LANCZOS)
    image.save(stream, "JPEG", quality=JPEG_QUALITY)
    return base64.b64encode(stream.getvalue()).decode("ascii")
