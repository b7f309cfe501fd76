import csv

import pytest

from portraittalk_core.batch.jobs import JobRunner
from portraittalk_core.cli import main as cli
from portraittalk_core.errors import NoFaceError
from portraittalk_core.media.made_mark import marking


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    """A manifest whose jobs write a file each; the portrait of `b` has no face."""

    def talk(self, job, out, on_progress):
        if job.out == "b.mp4":
            raise NoFaceError("no face in me.png; choose another picture.")
        if job.out == "stop.mp4":
            raise KeyboardInterrupt
        out.write_text("video")

    monkeypatch.setattr(JobRunner, "_talk", talk)
    for name in ("me.png", "a.wav"):
        (tmp_path / name).write_text(name)

    def write(*names):
        rows = ["job,out,portrait,speech", *(f"talk,{name},me.png,a.wav" for name in names)]
        (tmp_path / "jobs.csv").write_text("\n".join(rows))
        return ["batch", str(tmp_path / "jobs.csv"), "--out", str(tmp_path / "out")]

    return write


def statuses(tmp_path):
    with (tmp_path / "out" / "batch.csv").open() as file:
        return [row["status"] for row in csv.DictReader(file)]


def test_each_line_says_whether_its_video_is_marked(tmp_path, monkeypatch):
    monkeypatch.setattr(JobRunner, "_talk", lambda _self, _job, out, _progress: out.write_text(str(marking())))
    for name in ("me.png", "a.wav"):
        (tmp_path / name).write_text(name)
    rows = [
        "job,out,portrait,speech,ai_mark",
        "talk,a,me.png,a.wav,",
        "talk,b,me.png,a.wav,false",
        "talk,c,me.png,a.wav,",
    ]
    (tmp_path / "jobs.csv").write_text("\n".join(rows))
    assert cli.main(["batch", str(tmp_path / "jobs.csv"), "--out", str(tmp_path / "out")]) == 0
    assert [(tmp_path / "out" / f"{name}.mp4").read_text() for name in "abc"] == ["True", "False", "True"]


def test_batch_says_what_happened_and_goes_on_the_next_time(jobs, tmp_path, capsys):
    assert cli.main(jobs("a", "c")) == 0
    said = capsys.readouterr()
    assert "2 done, 0 skipped (finished before), 0 failed" in said.out
    assert "line 2, a.mp4: done" in said.err
    assert cli.main(jobs("a", "b", "c", "d")) == 3
    said = capsys.readouterr()
    assert "1 done, 2 skipped (finished before), 1 failed" in said.out
    assert "line 3, b.mp4: failed: no face in me.png" in said.err
    assert statuses(tmp_path) == ["skipped", "failed", "skipped", "done"]


def test_batch_says_what_was_skipped_for_lack_of_its_video_and_where_the_scores_are(jobs, tmp_path, capsys):
    words = jobs()
    rows = ["job,out,portrait,speech,generated", "score,s,,,b.mp4", "talk,b,me.png,a.wav,"]
    (tmp_path / "jobs.csv").write_text("\n".join(rows))
    assert cli.main(words) == 3
    said = capsys.readouterr()
    assert "0 done, 0 skipped (finished before), 1 failed, 1 skipped (what they need was not made)" in said.out
    assert str(tmp_path / "out" / "scores.html") in said.out
    assert "line 2, s.json: skipped: its video b.mp4 was not made (line 3 failed)" in said.err
    assert statuses(tmp_path) == ["failed", "blocked"]


def test_batch_stopped_keeps_what_is_finished(jobs, tmp_path, capsys):
    assert cli.main(jobs("a", "stop", "c")) == 130
    assert "the same command goes on from there" in capsys.readouterr().err
    assert statuses(tmp_path) == ["done"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--workers", "0"], "--workers must lie between 1 and 10000, but is 0"),
        (["--retries", "-1"], "--retries must"),
        (["--metric-models", "/nowhere"], "is no folder"),
    ],
)
def test_batch_rejects_wrong_options(jobs, tmp_path, capsys, words, told):
    assert cli.main([*jobs("a"), *words]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_batch_rejects_a_manifest_without_columns(jobs, tmp_path, capsys):
    words = jobs("a")
    (tmp_path / "jobs.csv").write_text("a,b\n1,2\n")
    assert cli.main(words) == 2
    assert "lacks the columns job and out: the first line is 'a,b'" in capsys.readouterr().err
