"""Results that are read back from a folder: somebody may have edited them, and they go into reports."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from portraittalk_core.evaluation.align import Offset
from portraittalk_core.evaluation.report.page import to_html
from portraittalk_core.evaluation.report.write import to_csv, to_json
from portraittalk_core.evaluation.result import EvaluationResult, WorstFrame
from portraittalk_core.evaluation.score_report import ScoreReport

SCRIPT = '"><script>alert(1)</script>'
RESULT = EvaluationResult(
    "n",
    "made.mp4",
    "true.mp4",
    None,
    {"adfd": 0.5, "psnr": float("inf")},
    {"lpips": "needs weights"},
    {"num_frames": 4, "num_frames_with_face": 3, "landmark_source": "stub"},
    Offset(0.1, "sound", 0.4, "a note"),
    ("note",),
    25.0,
    {"mouth distance": [0.1, 0.2, None, 0.3]},
    (WorstFrame(0.1, "why", "/9j/AAAA", "/9j/AA=="),),
    1.0,
)
EDITS = (SCRIPT, [SCRIPT], {"a": SCRIPT}, {SCRIPT: 1}, {SCRIPT: SCRIPT}, [[SCRIPT]], {}, [], None, True, 5, -1, "inf",
         float("nan"), 1e308, 1e-300, 10**400)  # fmt: skip


def places(read, place=()):
    """Every place in a JSON value."""
    yield place
    pairs = read.items() if isinstance(read, dict) else enumerate(read) if isinstance(read, list) else ()
    for key, value in pairs:
        yield from places(value, (*place, key))


def edited(place, value):
    read = json.loads(RESULT.to_json())
    if not place:
        return value
    inner = read
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return read


@pytest.mark.parametrize("place", list(places(json.loads(RESULT.to_json()))), ids=str)
def test_an_edited_result_is_refused_or_gives_reports_that_run_nothing(place):
    for value in EDITS:
        try:
            result = EvaluationResult.from_json(json.dumps(edited(place, value)))
        except ValueError:
            continue
        report = ScoreReport([result], {})
        for text in (to_html(report), to_csv(report), to_json(report)):
            assert text
        assert "<script" not in to_html(report)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", 3),
        ("generated", None),
        ("values", {"adfd": "0.5"}),
        ("values", {"adfd": True}),
        ("missing", {"lpips": ["x"]}),
        ("counts", {"num_frames": []}),
        ("offset", {"seconds": "1", "by": "sound", "likeness": 0.5, "note": ""}),
        ("notes", "abc"),
        ("fps", 0),
        ("curves", {"SSIM": ["0.5"]}),
        ("worst", [{"time_s": 0, "why": "", "generated": 'x" onerror="alert(1)', "target": None}]),
        ("seconds_taken", "long"),
    ],
)
def test_a_field_of_another_type_is_refused_by_name(field, value):
    with pytest.raises(ValueError, match=f"not the result of an evaluation: {field} is "):
        EvaluationResult.from_json(json.dumps(edited((field,), value)))


def test_depth_without_end_and_unknown_fields_are_refused():
    for text in ("[" * 100_000, json.dumps(edited(("more",), 1)), "7", "null", ""):
        with pytest.raises(ValueError):
            EvaluationResult.from_json(text)


def test_what_is_not_edited_is_read_as_it_was():
    assert EvaluationResult.from_json(RESULT.to_json()) == RESULT
    alone = replace(RESULT, target=None, offset=None, worst=(), error="no face", values={})
    assert EvaluationResult.from_json(alone.to_json()) == alone
    old = Path(__file__).parents[2] / "fixtures" / "score_of_667951c.json"
    EvaluationResult.from_json(old.read_text(encoding="utf-8"))
