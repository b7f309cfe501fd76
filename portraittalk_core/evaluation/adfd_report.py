"""Metrics of the ADFD Score node, and their values by the keys of its JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..metrics.registry import METRICS
from .result import EvaluationResult, plain
from .setup import NO_PICTURES

_NAMES = {
    "adfd": "adfd",
    "adfd_spatial": "adfd_place",
    "adfd_motion": "adfd_motion",
    "mouth_landmark_distance": "m_lmd_iod",
    "face_landmark_distance": "f_lmd_iod",
    "mouth_landmark_distance_px": "m_lmd_px",
    "face_landmark_distance_px": "f_lmd_px",
    "psnr": "psnr",
    "ssim": "ssim",
}
_COUNTS = ("num_frames", "num_frames_with_face", "num_identical_frames", "num_frames_left_over", "width", "height",
           "fps", "landmark_source")  # fmt: skip
ADFD_METRICS = tuple(_NAMES.values())
"""For `EvaluationOptions.metrics`."""


@dataclass(frozen=True)
class AdfdReport:
    """Metric values of one pair, and ADFD's spatial and motion parts per frame."""

    numbers: Mapping[str, float | int | str | None]  # by the JSON's names; None where there was too little
    place: Tensor  # (T,) float64 of 0..1, NaN without a face in both
    motion: Tensor  # (T − 1,) float64 of 0..1, from each frame to the next

    @staticmethod
    def of(result: EvaluationResult) -> AdfdReport:
        """The report on the result of a pair that was evaluated by ADFD_METRICS."""
        numbers = {name: result.values.get(metric) for name, metric in _NAMES.items()}
        numbers |= {name: result.counts[name] for name in _COUNTS}
        place, motion = (_curve(result, f"ADFD {part}") for part in ("place", "motion"))
        return AdfdReport(numbers | {"note": _note(result)}, place, motion[1:])

    def to_json(self) -> str:
        """All values as JSON text; an infinite PSNR is written as "inf"."""
        return json.dumps({name: plain(value) for name, value in self.numbers.items()}, indent=2, ensure_ascii=False)


def _curve(result: EvaluationResult, name: str) -> Tensor:
    values = result.curves.get(name, [None] * int(result.counts["num_frames"]))
    return torch.tensor([torch.nan if value is None else value for value in values], dtype=torch.float64)


def _note(result: EvaluationResult) -> str:
    """Notes of the result, then missing metrics with reasons."""
    reasons: dict[str, list[str]] = {}
    for metric, reason in result.missing.items():
        if reason != NO_PICTURES:
            reasons.setdefault(reason, []).append(METRICS[metric].title)
    return "; ".join([*result.notes, *(f"{', '.join(titles)}: {reason}" for reason, titles in reasons.items())])
