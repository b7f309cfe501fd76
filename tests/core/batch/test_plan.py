import sqlite3

import pytest
from batch_stubs import Runner, manifest, run, table

from portraittalk_core.batch.jobs import Outcome
from portraittalk_core.batch.plan import BatchPlan
from portraittalk_core.errors import InputError, OutputError
from portraittalk_core.evaluation.result import EvaluationResult

COLUMNS = "job,out,portrait,speech,generated,target"


class Making(Runner):
    """Writes what a job makes, and checks that what it reads was there before."""

    def __init__(self, out, ends=()):
        super().__init__(ends)
        self.out = out

    def run(self, job, on_progress=None):
        lacks = [name for name, path in job.files.items() if not path.is_file()]
        assert not lacks, f"{job.out} began without its {lacks}"
        outcome = super().run(job, on_progress)
        if outcome.status == "done":
            text = "video" if job.job == "talk" else EvaluationResult(job.out, "a", "b", values={"adfd": 0.5}).to_json()
            (self.out / job.out).write_text(text)
        return outcome


@pytest.fixture
def folder(tmp_path):
    for name in ("me.png", "a.wav", "true.mp4"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "out").mkdir()
    return tmp_path


def test_scores_wait_for_the_videos_that_other_lines_make(folder):
    rows = (
        "score,s0,,,out/v0.mp4,true.mp4",  # by its path
        "score,s1,,,v1.mp4,v0.mp4",  # by the names of the other lines
        "score,s2,,,V1,true.mp4",  # without its ending, as that line has it
        "talk,v0,me.png,a.wav,,",
        "talk,v1,me.png,out/v0.mp4,,",  # speaks with the sound of another video
        "score,s3,,,true.mp4,",
    )
    runner = Making(folder / "out")
    result = run(manifest(folder, *rows, columns=COLUMNS), runner)
    assert (result.done, result.failed, result.blocked) == (6, 0, 0)
    assert runner.given == ["v0.mp4", "s3.json", "s0.json", "v1.mp4", "s1.json", "s2.json"]
    assert [row["line"] for row in table(folder)] == ["5", "7", "2", "6", "3", "4"]


def test_what_fails_takes_along_what_needs_it_and_nothing_else(folder):
    (folder / "out" / "v0.mp4").write_text("of an earlier run, with another speech")
    rows = (
        "talk,v0,me.png,a.wav,,",
        "talk,v1,me.png,v0.mp4,,",
        "talk,bad,gone.png,a.wav,,",
        "talk,good,me.png,a.wav,,",
        "score,s0,,,v0.mp4,true.mp4",
        "score,s1,,,true.mp4,v1.mp4",
        "score,s2,,,bad.mp4,",
        "score,s3,,,good.mp4,",
    )
    runner = Making(folder / "out", {"v0.mp4": Outcome("failed", 1, "no face")})
    result = run(manifest(folder, *rows, columns=COLUMNS), runner)
    assert (result.done, result.failed, result.blocked) == (2, 2, 4)
    assert runner.given == ["v0.mp4", "good.mp4", "s3.json"]
    told = {row["out"]: (row["status"], row["attempts"], row["reason"]) for row in table(folder)}
    assert told["v1.mp4"] == ("blocked", "0", "its speech v0.mp4 was not made (line 2 failed)")
    assert told["s0.json"] == ("blocked", "0", "its video v0.mp4 was not made (line 2 failed)")
    assert told["s1.json"] == ("blocked", "0", "its true video v1.mp4 was not made (line 3 was skipped too)")
    assert told["s2.json"] == ("blocked", "0", "its video bad.mp4 was not made (line 4 failed)")
    assert told["s3.json"][0] == "done"


def test_a_job_that_succeeds_at_last_is_waited_for(folder):
    again = Outcome("failed", 1, "disk away", again=True)
    runner = Making(folder / "out", {"v0.mp4": [again, Outcome("done")]})
    rows = ("score,s0,,,v0.mp4,true.mp4", "talk,v0,me.png,a.wav,,")
    assert run(manifest(folder, *rows, columns=COLUMNS), runner).done == 2
    assert runner.given == ["v0.mp4", "v0.mp4", "s0.json"]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (["talk,v0,me.png,v0.mp4,,"], "it needs its own output"),
        (["talk,v0,me.png,out/v0.mp4,,"], "it needs its own output"),
        (["talk,v0,me.png,v1.mp4,,", "talk,v1,me.png,v0.mp4,,"], r"in a circle \(2 → 3 → 2\)"),
        (["score,s0,,,v9.mp4,true.mp4"], r"generated .*v9\.mp4 does not exist, and no line makes it"),
        (["score,s0,,,out/v9.mp4,true.mp4"], r"out/v9\.mp4 does not exist, and no line makes it"),
        (["score,s0,,,elsewhere/v0.mp4,true.mp4", "talk,v0,me.png,a.wav,,"], r"elsewhere/v0\.mp4 does not exist$"),
        (["score,s0,,,s1.json,true.mp4", "score,s1,,,true.mp4,"], r"s1\.json does not exist$"),
    ],
)
def test_a_circle_and_a_video_that_nobody_makes_are_told(folder, rows, told):
    runner = Making(folder / "out")
    result = run(manifest(folder, *rows, "talk,good,me.png,a.wav,,", columns=COLUMNS), runner)
    assert "good.mp4" in runner.given and not {"s0.json", "s1.json"} & set(runner.given) - {"s1.json"}
    first = next(row for row in table(folder) if row["line"] == "2")
    assert (first["status"], first["attempts"]) == ("failed", "0")
    with pytest.raises(InputError, match=told):
        raise InputError(first["reason"])
    assert result.failed == (2 if "circle" in told else 1)


def test_what_waits_for_a_circle_is_told_of_it(folder):
    rows = ("talk,v0,me.png,v1.mp4,,", "talk,v1,me.png,v0.mp4,,", "score,s0,,,v1.mp4,true.mp4")
    with BatchPlan(manifest(folder, *rows, columns=COLUMNS), folder / "out") as plan:
        jobs = list(plan.jobs(0))
    assert plan.depth == 1
    assert [job.line for job in jobs] == [2, 3, 4]
    assert "(3 → 2 → 3)" in jobs[2].problem


def test_long_chains_are_put_in_order(folder):
    rows = [f"talk,v{k},me.png,v{k - 1}.mp4,," for k in range(60, 0, -1)]
    runner = Making(folder / "out")
    run(manifest(folder, *rows, "talk,v0,me.png,a.wav,,", columns=COLUMNS), runner)
    assert runner.given == [f"v{k}.mp4" for k in range(61)]


def test_a_file_beside_the_manifest_goes_before_an_output_of_its_name(folder):
    (folder / "v0.mp4").write_text("beside")
    rows = ("score,s0,,,v0.mp4,true.mp4", "talk,v0,me.png,a.wav,,")
    with BatchPlan(manifest(folder, *rows, columns=COLUMNS), folder / "out") as plan:
        score, _ = plan.jobs(0)
    assert score.files["generated"] == folder / "v0.mp4"


def test_a_plan_that_the_temporary_folder_does_not_take_is_told(folder, monkeypatch):
    real = sqlite3.connect

    def connect(place):
        store = real(place)
        store.execute("pragma max_page_count = 24")  # as a full disk: SQLite says so in the same words
        return store

    monkeypatch.setattr(sqlite3, "connect", connect)
    monkeypatch.setenv("SQLITE_TMPDIR", str(folder))
    runner = Runner()
    path = manifest(folder, *(f"talk,v{k},me.png,a.wav,," for k in range(3000)), columns=COLUMNS)
    with pytest.raises(OutputError, match=rf"temporary folder \({folder}\).*full.*set TMPDIR"):
        run(path, runner)
    assert not runner.given
