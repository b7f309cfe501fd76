import re
import statistics
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from batch_stubs import Runner, manifest, run

from portraittalk_core.batch import report as batch_report
from portraittalk_core.batch.jobs import Outcome
from portraittalk_core.evaluation.result import EvaluationResult

PAIRS = {"good": 0.91, "bad": 0.31, "fair": 0.62}  # ADFD by the item's name
COLUMNS = "job,out,generated,target"


class Scoring(Runner):
    """Writes rows whose ADFD is known by their names; an item named after a fault has it."""

    def __init__(self, folder, ends=()):
        super().__init__(ends)
        self.folder = folder

    def run(self, job, on_progress=None):
        outcome = super().run(job, on_progress)
        name = job.out.removesuffix(".json")
        values = {"adfd": PAIRS.get(name, 0.5), "psnr": float("inf") if name == "good" else 30.0}
        values = values if job.files.get("target") else {"sound_mouth_correlation": 0.25}
        error = "no face was found in any frame" if name == "faceless" else None
        row = EvaluationResult(name, "made.mp4", "true.mp4", error, values, notes=("told of the item",))
        if outcome.status == "done":
            (self.folder / "out" / job.out).write_text(row.to_json())
        return outcome


class Page(HTMLParser):
    """Rows of cells of all tables, links, and whatever a page would load."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.links, self.loaded = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        told = dict(attributes)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "a":
            self.links.append(told["href"])
        if tag in ("link", "script", "iframe") or "src" in told:
            self.loaded.append(tag)

    def handle_data(self, text):
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += text


@pytest.fixture
def folder(tmp_path):
    for name in ("made.mp4", "true.mp4"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "out").mkdir()
    return tmp_path


def rows_of(*names):
    return [f"score,{name},made.mp4,true.mp4" for name in names]


def page_of(result) -> Page:
    return Page(result.report.read_text(encoding="utf-8"))


def first_cells(page):
    return [row[0] for row in page.rows if len(row) > 1]


def test_worst_items_come_first_under_the_means(folder):
    page = page_of(run(manifest(folder, *rows_of("good", "bad", "fair"), columns=COLUMNS), Scoring(folder)))
    assert first_cells(page)[:5] == ["item", "mean ± std", "bad", "fair", "good"]
    means = next(row for row in page.rows if row[0] == "mean ± std")
    values = [0.91, 0.31, 0.62]
    assert means[2] == f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"
    assert "30.00" in means[3] and "1 infinite left out" in means[3]
    assert page.links == ["pages/bad.html", "pages/fair.html", "pages/good.html"]
    assert not page.loaded


def test_every_item_has_a_page_of_its_own_that_links_reach(folder):
    result = run(manifest(folder, *rows_of("good", "née 1"), columns=COLUMNS), Scoring(folder))
    for link in page_of(result).links:
        text = (folder / "out" / unquote(link)).read_text(encoding="utf-8")
        assert "Told of the item" in text and not Page(text).loaded
    assert len(page_of(result).links) == 2


def test_what_could_not_be_measured_stands_first_and_says_why(folder):
    ends = {"broken.json": Outcome("failed", 1, "it <b>broke</b>")}
    rows = [*rows_of("good", "broken", "faceless"), "score,gone,gone.mp4,true.mp4"]
    result = run(manifest(folder, *rows, columns=COLUMNS), Scoring(folder, ends))
    page, text = page_of(result), result.report.read_text(encoding="utf-8")
    names = ("good", "broken", "faceless", "gone")
    listed = [row for row in page.rows if row and row[0] in names]
    assert {row[0] for row in listed[:3]} == {"broken", "faceless", "gone"}
    assert listed[3][0] == "good"
    assert "it <b>broke</b>" in next(row[-1] for row in listed if row[0] == "broken")
    assert "<b>broke</b>" not in text
    assert re.search(r"gone\.mp4 does not exist", text) and "no face was found in any frame" in text
    means = next(row for row in page.rows if row[0] == "mean ± std")
    assert means[2] == "0.910", "what failed does not count"


def test_every_text_of_the_page_is_escaped(folder):
    ends = {"bad.json": Outcome("failed", 1, "<i>reason")}
    path = manifest(folder, *rows_of("good", "bad", "<i>it"), columns=COLUMNS)  # no file can be called like the last
    path = path.rename(path.with_name("<i>list.csv"))
    text = run(path, Scoring(folder, ends)).report.read_text(encoding="utf-8")
    assert "<i>" not in text
    assert all(f"&lt;i&gt;{word}" in text for word in ("it<", "reason<", "list.csv<", "list.csv,"))


def test_videos_without_truth_have_a_table_of_their_own(folder):
    rows = [*rows_of("good"), "score,alone,made.mp4,"]
    text = run(manifest(folder, *rows, columns=COLUMNS), Scoring(folder)).report.read_text(encoding="utf-8")
    pairs, alone = text.split("Videos on their own")
    assert ">good<" in pairs and ">alone<" not in pairs and ">alone<" in alone
    assert "0.250" in alone


def test_the_page_is_made_on_a_rerun_and_pages_follow_their_numbers(folder):
    path = manifest(folder, *rows_of("good", "fair"), columns=COLUMNS)
    first = run(path, Scoring(folder))
    page = folder / "out" / "pages" / "fair.html"
    before, kept = page.stat().st_mtime_ns, (folder / "out" / "pages" / "good.html").stat().st_mtime_ns
    first.report.unlink()
    (folder / "out" / "fair.json").write_text(EvaluationResult("fair", "a", "b", values={"adfd": 0.111}).to_json())

    class Skipping(Runner):
        def run(self, job, on_progress=None):
            return Outcome("skipped")

    again = run(path, Skipping())
    assert "0.111" in again.report.read_text(encoding="utf-8") and "0.111" in page.read_text(encoding="utf-8")
    assert page.stat().st_mtime_ns > before
    assert (folder / "out" / "pages" / "good.html").stat().st_mtime_ns == kept
    (folder / "out" / "fair.json").write_text("{")
    assert "cannot be read" in run(path, Skipping()).report.read_text(encoding="utf-8")


def test_a_batch_without_scores_has_no_page(folder):
    path = manifest(folder, "talk,v,made.mp4,true.mp4", columns="job,out,portrait,speech")
    assert run(path, Runner()).report is None
    assert not (folder / "out" / "scores.html").exists()


def test_of_very_many_the_worst_are_listed_and_all_are_in_the_mean(folder, monkeypatch):
    monkeypatch.setattr(batch_report, "MOST_LISTED", 2)
    page = page_of(run(manifest(folder, *rows_of("good", "fair", "x"), columns=COLUMNS), Scoring(folder)))
    assert first_cells(page)[2:4] == ["x", "fair"] and "good" not in first_cells(page)
    means = next(row for row in page.rows if row[0] == "mean ± std")
    assert means[2].startswith(f"{statistics.mean([0.91, 0.62, 0.5]):.3f}")
