"""Evaluation result of one video or pair, and its JSON form."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from PIL import Image
from torch import Tensor

from ..checks import abbreviated, is_finite_number
from .align import Offset

SHOWN_PX = 224  # height of a worst frame in the report
JPEG_QUALITY = 86
LARGEST = 1e100  # of a number that is read back: its square is finite


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

        Nothing in it is trusted: it may come from a file that somebody edited, and goes into reports.

        Raises:
            ValueError: it is not one, or a field holds what such a field never does.
        """
        try:
            read = json.loads(text)
            for name, is_right in _RIGHT.items():
                if not is_right(read[name]):
                    raise ValueError(f"not the result of an evaluation: {name} is {abbreviated(read[name])}")
            offset = None if read["offset"] is None else Offset(**read["offset"])
            worst = tuple(WorstFrame(**frame) for frame in read["worst"])
            values = {name: float(value) for name, value in read["values"].items()}
            changed = {"offset": offset, "worst": worst, "values": values, "notes": tuple(read["notes"])}
            return EvaluationResult(**(read | changed))
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"not the result of an evaluation: {error}") from error


def plain(value: float | int | str | None) -> float | int | str | None:
    """A number in a form that JSON allows: infinities as text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _is_number(value: object) -> bool:
    return is_finite_number(value) and abs(value) < LARGEST


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_text_or_none(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_value(value: object) -> bool:
    """Whether it is what `plain` makes of a metric's value."""
    return _is_number(value) or value in ("inf", "-inf", "nan")


def _is_curve(value: object) -> bool:
    return isinstance(value, list) and all(point is None or _is_number(point) for point in value)


def _is_offset(value: object) -> bool:
    if value is None:
        return True
    numbers = (value["seconds"], value["likeness"])
    return all(n is None or _is_number(n) for n in numbers) and _is_text(value["by"]) and _is_text(value["note"])


def _is_worst_frame(value: object) -> bool:
    return (
        _is_number(value["time_s"])
        and _is_text(value["why"])
        and all(
            code is None or (_is_text(code) and _BASE64.fullmatch(code))
            for code in (value["generated"], value["target"])
        )
    )


def _record(is_right: Callable[[object], bool]) -> Callable[[object], bool]:
    """Check of an object all whose values are right."""
    return lambda found: isinstance(found, dict) and all(map(is_right, found.values()))


def _list(is_right: Callable[[object], bool]) -> Callable[[object], bool]:
    """Check of a list all whose entries are right."""
    return lambda found: isinstance(found, list) and all(map(is_right, found))


_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
# what each field of `EvaluationResult.to_json` holds
_RIGHT: Mapping[str, Callable[[object], bool]] = {
    "name": _is_text,
    "generated": _is_text,
    "target": _is_text_or_none,
    "error": _is_text_or_none,
    "values": _record(_is_value),
    "missing": _record(_is_text),
    "counts": _record(lambda count: _is_text(count) or _is_number(count)),
    "offset": _is_offset,
    "notes": _list(_is_text),
    "fps": lambda fps: _is_number(fps) and 1e-3 <= fps <= 1e6,
    "curves": _record(_is_curve),
    "worst": _list(_is_worst_frame),
    "seconds_taken": _is_number,
}


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
