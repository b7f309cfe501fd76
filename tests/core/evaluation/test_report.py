import csv
import io
import json
import math
from html.parser import HTMLParser
from pathlib import Path

import pytest

from portraittalk_core.cli.score import print_anchors
from portraittalk_core.errors import InputError
from portraittalk_core.evaluation.align import Offset
from portraittalk_core.evaluation.report.page import to_html
from portraittalk_core.evaluation.report.plots import Chart, draw_chart, ticks
from portraittalk_core.evaluation.report.text import table_text
from portraittalk_core.evaluation.report.write import report_files, to_csv, to_json, write_report
from portraittalk_core.evaluation.result import EvaluationResult, WorstFrame
from portraittalk_core.evaluation.score_report import ScoreReport
from portraittalk_core.metrics.registry import METRICS

NASTY = '<script>alert("x")</script>&.mp4'


@pytest.fixture
def report() -> ScoreReport:
    shared = {"missing": {"identity": "not available: needs the portrait"}, "fps": 25.0}
    curves = {"SSIM": [0.9, 0.8, 0.7], "PSNR": [30.0, None, 31.0], "mouth distance": [None, 1.0, 2.0]}
    worst = (WorstFrame(0.08, "SSIM 0.7 <b>", "/9j/", "/9j/"),)
    counts = {"num_frames": 3, "landmark_source": "stub"}
    return ScoreReport(
        [
            EvaluationResult(NASTY, NASTY, "b.mp4", values={"ssim": 0.8, "psnr": 30.0}, curves=curves, worst=worst,
                      counts=counts, offset=Offset(0.12, "sound", 0.9), notes=("a <note>",), **shared),
            EvaluationResult("two", "c.mp4", "d.mp4", values={"ssim": 0.6, "psnr": math.inf}, counts=counts, **shared),
            EvaluationResult("three", "e.mp4", "f.mp4", error="the file e.mp4 is broken & lost"),
            EvaluationResult("four", "g.mp4", "h.mp4", error="no face", values={"ssim": 0.1}, **shared),
        ],
        {"pictures": "whole frames"},
        environment={"torch": "2"},
    )  # fmt: skip


class Page(HTMLParser):
    """Tags that were opened and not closed, tags seen, and where they lead."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.seen, self.links, self.words = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br", "img", "line", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_summary_is_mean_and_sample_deviation_of_rows_that_did_not_fail(report):
    ssim, psnr = report.summary("ssim"), report.summary("psnr")
    assert (ssim.mean, ssim.std, ssim.num) == (pytest.approx(0.7), pytest.approx(math.sqrt(0.02)), 2)
    assert (psnr.mean, psnr.std, psnr.num, psnr.num_infinite) == (30.0, None, 1, 1)


def test_page_is_whole_self_contained_and_escaped(report):
    page = Page(to_html(report))
    assert page.open == [] and "script" not in page.seen
    assert all(link.startswith(("data:image/", "#row")) for link in page.links)
    text = "".join(page.words)
    assert NASTY in text and "A <note>" in text and "broken & lost" in text
    assert METRICS["ssim"].text in text  # the definition behind the number
    assert "needs the portrait" in text and "torch" in text


def test_every_text_of_a_page_is_escaped():
    """Whatever a file name, a library's error or a setting may hold, the page shows it and obeys none of it."""
    row = EvaluationResult(
        "<i>name",
        "<i>made",
        "<i>true",
        values={"ssim": 0.5},
        curves={"SSIM": [0.5]},
        counts={"landmark_source": "<i>mesh"},
        worst=(WorstFrame(0, "<i>why", '"><i>', '"><i>'),),
        notes=("<i>note",),
        missing={"fid": "<i>missing"},
        fps=25.0,
    )
    failed = EvaluationResult("<i>second", "a", "b", error="<i>error", missing={"fid": "<i>else"})
    environment = {"<i>package": "<i>version"}
    text = to_html(ScoreReport([row, failed], {"<i>key": "<i>value"}, made_at="<i>when", environment=environment))
    page = Page(text)
    assert "i" not in page.seen and page.open == []
    shown = "".join(page.words)
    said = [
        "name",
        "made",
        "true",
        "mesh",
        "why",
        "missing",
        "second",
        "error",
        "else",
        "key",
        "value",
        "when",
        "p",
        "v",
    ]
    assert [word for word in said if f"<i>{word}" not in shown] == [] and "<i>note" in shown
    assert text.count('base64,&#34;&gt;&lt;i&gt;"') == 2


def test_curves_of_a_chart_are_named_and_escaped():
    drawn = draw_chart(Chart("<i>title", "<i>unit", {"<i>first": [1.0, 2.0], "<i>second": [0.0, 1.0]}), 25)
    page = Page(str(drawn))
    assert "i" not in page.seen
    assert [w for w in page.words if w.startswith("<i>")] == ["<i>title", "<i>second", "<i>first"]
    assert [w for w in page.words if w.strip() == "<i>unit"]


@pytest.mark.parametrize(("values", "lines", "shaded"), [([1, 2, None, None, 4, 5], 2, 1), ([None, 1, 2, 3], 1, 0)])
def test_a_curve_breaks_where_it_is_not_known(values, lines, shaded):
    seen = Page(str(draw_chart(Chart("a", "b", {"": values}), 25))).seen
    assert (seen.count("polyline"), seen.count("rect")) == (lines, shaded)  # a first frame alone is no gap


def test_csv_has_a_line_a_row(report):
    lines = list(csv.DictReader(io.StringIO(to_csv(report))))
    assert [line["status"] for line in lines] == ["done", "done", "failed", "failed"]
    assert (lines[0]["name"], lines[0]["ssim"], lines[0]["offset_s"]) == (NASTY, "0.8", "0.12")
    assert (lines[1]["psnr"], lines[2]["ssim"], lines[2]["error"]) == ("inf", "", "the file e.mp4 is broken & lost")


def test_csv_holds_no_formula_that_a_spreadsheet_would_run():
    row = EvaluationResult("=1+1", '@made("x")', "-true", "+error", values={"mouth_lag": -40.0}, notes=("=note",))
    (line,) = csv.DictReader(io.StringIO(to_csv(ScoreReport([row], {}))))
    assert [line[c] for c in ("name", "generated", "target", "error", "notes")] == [
        "'=1+1", "'@made(\"x\")", "'-true", "'+error", "'=note"
    ]  # fmt: skip
    assert line["mouth_lag"] == "-40.0"


def test_json_holds_rows_summary_and_definitions(report):
    read = json.loads(to_json(report))
    assert (read["num_rows"], read["num_failed"]) == (4, 2)
    assert read["rows"][1]["values"] == {"ssim": 0.6, "psnr": "inf"}
    assert read["summary"]["ssim"]["num"] == 2
    assert read["definitions"]["ssim"]["text"] == METRICS["ssim"].text
    assert "curves" not in read["rows"][0]


def test_report_is_three_files_in_a_folder_or_one(report, tmp_path):
    assert [path.name for path in write_report(report, tmp_path)] == ["report.json", "report.csv", "report.html"]
    assert write_report(report, tmp_path / "one.HTML") == [tmp_path / "one.HTML"]
    assert (tmp_path / "one.HTML").read_text("utf-8").startswith("<!DOCTYPE html>")
    with pytest.raises(InputError, match=r"\.json, \.csv or \.html"):
        report_files(tmp_path / "report.pdf")


def test_chart_of_nothing_is_nothing_and_of_much_is_small():
    assert draw_chart(Chart("a", "b", {"": [None, None]}), 25) == ""
    assert len(draw_chart(Chart("a", "b", {"": [math.sin(k) for k in range(100_000)]}), 25)) < 60_000


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0, 1, [0, 0.25, 0.5, 0.75, 1]), (3, 28, [10, 20]), (-1, 1, None)]
)
def test_ticks_are_round_and_within(low, high, expected):
    found = ticks(low, high, 4)
    assert all(low <= tick <= high for tick in found) and len(found) >= 2
    assert expected is None or found == expected


ROW = ["name", "generated", "target", "error", "values", "missing", "counts", "offset", "notes", "fps", "seconds_taken"]
COUNTS = ["num_frames", "num_frames_with_face", "num_frames_with_face_generated", "num_frames_with_face_target",
          "num_identical_frames", "num_frames_left_over", "width", "height", "fps", "landmark_source"]  # fmt: skip


def test_a_score_of_the_tree_before_is_still_read_and_its_report_has_the_names_it_had(tmp_path):
    """The fixture is what the batch job `score` wrote before there was one evaluator; scripts read these names."""
    old = Path(__file__).parents[2] / "fixtures" / "score_of_667951c.json"
    result = EvaluationResult.from_json(old.read_text(encoding="utf-8"))
    assert json.loads(result.to_json()) == json.loads(old.read_text(encoding="utf-8"))
    write_report(ScoreReport([result], {}), tmp_path)
    read = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert list(read) == [
        *("made_at", "reference_free", "num_rows", "num_failed", "settings", "environment", "summary", "rows"),
        *("not_available", "definitions"),
    ]
    (row,) = read["rows"]
    assert list(row) == [*ROW, "worst_s"]
    assert list(row["counts"]) == COUNTS
    assert list(row["offset"]) == ["seconds", "by", "likeness", "note"]
    assert set(row["values"]) <= set(read["definitions"]) | {f"target:{name}" for name in read["definitions"]}
    assert len(row["values"]) == 34
    fields = ["name", "title", "unit", "better", "range", "text", "source", "needs"]
    assert all(list(definition) == fields for definition in read["definitions"].values())
    assert {"mean", "std", "least", "greatest", "num", "num_infinite"} == set(read["summary"]["adfd"])
    (line,) = csv.DictReader((tmp_path / "report.csv").read_text("utf-8-sig").splitlines())
    assert list(line)[:5] == ["name", "generated", "target", "status", "error"]
    assert list(line)[-3:] == ["offset_s", "offset_by", "notes"]
    assert set(row["values"]) | set(COUNTS) == set(list(line)[5:-3])


def test_numbers_that_mean_little_alone_have_anchors_beside_them(capsys):
    counts = {"num_frames": 3, "num_frames_with_face": 3, "width": 64, "height": 64}
    values = {"lse_d": 7.0, "target:lse_d": 6.5, "ssim": 0.8}
    report = ScoreReport([EvaluationResult("a", "a.mp4", "b.mp4", values=values, counts=counts, fps=25.0)], {})
    page, text = " ".join(Page(to_html(report)).words), table_text(report)
    print_anchors(report)
    terminal = " ".join(capsys.readouterr().out.split())
    for made in (page, text, terminal):
        assert "published means 6.76 to 8.08 on LRS2" in made and "LSE tells whether mouth and sound" in made
        assert "published 102" not in made  # of FVD, which was not measured
    assert "LSE-D ↓: 7.000 (true video: 6.500)" in text
    plain = ScoreReport([EvaluationResult("a", "a", "b", values={"ssim": 1.0}, counts=counts, fps=25.0)], {})
    print_anchors(plain)
    assert not capsys.readouterr().out
    assert "anchor" not in table_text(plain) and "LSE" not in table_text(plain)
