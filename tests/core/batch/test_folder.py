"""The output folder of a batch: one batch at a time, and nothing of killed ones is left in it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from batch_stubs import Runner, run, table, talks

from portraittalk_core.batch import folder as batch_folder
from portraittalk_core.batch.folder import LOCK, locked
from portraittalk_core.errors import InputError, MissingDependency

ROOT = Path(__file__).parents[3]
HOLD = (
    "import sys, time; from pathlib import Path; from portraittalk_core.batch.folder import locked\n"
    "with locked(Path(sys.argv[1])):\n"
    "    print('held', flush=True)\n"
    "    time.sleep(120)"
)


@pytest.fixture
def folder(tmp_path):
    for name in ("me.png", "a.wav"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


@pytest.fixture
def holder(tmp_path):
    """A process that holds the folder `out`."""
    words = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.slow
def test_a_second_batch_is_refused_until_the_first_ends_however_it_ends(folder, holder):
    runner = Runner()
    with pytest.raises(InputError, match=rf"another batch makes its results in .*out \(process {holder.pid} on "):
        run(talks(folder, 2), runner)
    assert not runner.given
    assert not (folder / "out" / "batch.csv").exists()
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (folder / "out" / LOCK).exists(), "the killed one could not clear it away"
    assert run(talks(folder, 2), runner).done == 2
    assert not (folder / "out" / LOCK).exists()


def test_the_table_of_the_first_batch_stays_whole(folder):
    path = talks(folder, 3)
    told = []

    class Second(Runner):
        def run(self, job, on_progress=None):
            with pytest.raises(InputError, match="another batch"):
                run(path, Runner())
            told.append(len(table(folder)))
            return super().run(job, on_progress)

    assert run(path, Second()).done == 3
    assert told == [0, 1, 2]
    assert [row["line"] for row in table(folder)] == ["2", "3", "4"]


def test_a_lock_that_was_removed_and_made_anew_meanwhile_is_taken_at_its_place(folder, monkeypatch):
    """Between opening and locking the holder may end, and remove the file that we opened."""
    out, real, calls = folder / "out", batch_folder._lock, []

    def lock(file):
        calls.append(file)
        if len(calls) == 1:
            (out / LOCK).unlink()
        return real(file)

    monkeypatch.setattr(batch_folder, "_lock", lock)
    with locked(out):
        assert len(calls) == 2
        monkeypatch.undo()
        with pytest.raises(InputError, match="another batch"), locked(out):
            pass


def test_a_file_system_without_locks_is_told_and_used(folder, monkeypatch, caplog):
    fcntl = pytest.importorskip("fcntl")

    def flock(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", flock)
    assert run(talks(folder, 1), Runner()).done == 1
    assert "run one batch at a time" in caplog.text


def test_a_folder_that_was_not_there_is_not_left_empty(folder, monkeypatch):
    def no_workers(*_):
        raise MissingDependency("no Ray")

    monkeypatch.setattr("portraittalk_core.batch.run._open_workers", no_workers)
    with pytest.raises(MissingDependency):
        run(talks(folder, 1), Runner())
    assert not (folder / "out").exists()
    (folder / "out").mkdir()
    (folder / "out" / "batch.csv").write_text("of before")
    with pytest.raises(MissingDependency):
        run(talks(folder, 1), Runner())
    assert (folder / "out" / "batch.csv").read_text() == "of before"


def test_what_killed_batches_left_half_written_is_removed_and_nothing_else(folder):
    fcntl = pytest.importorskip("fcntl")
    out = folder / "out"
    for place in (out, out / "finished", out / "pages"):
        place.mkdir(exist_ok=True)
    mine = [
        out / ".v0.0123abcd.part.mp4",
        out / ".V1.0123abcd.part.mp4",  # one file with v1 on some systems
        out / ".batch.0123abcd.part.csv",
        out / ".scores.89abcdef.part.html",
        out / "finished" / ".gone.mp4.0123abcd.part.json",
        out / "pages" / ".gone.0123abcd.part.html",
        out / f".{'w' * 40}.0123abcd.part.mp4",  # of a name of 50 letters
    ]
    old = out / ".other.0123abcd.part.mp4"  # of a manifest of before
    kept = [
        out / ".another.0123abcd.part.mp4",  # which `portraittalk talk` may be writing
        out / ".v0.part.mp4",
        out / ".v0.0123abc.part.mp4",
        out / "v0.0123abcd.part.mp4",
        out / ".v.0123abcd.part.mp4",
        out / "video.mp4",
    ]
    for path in (*mine, old, *kept):
        path.write_text("half")
    past = time.time() - batch_folder.ABANDONED_S - 60
    os.utime(old, (past, past))
    (out / ".v1.0123abcd.part.d").mkdir()
    path = talks(folder, 2)
    path.write_text(path.read_text() + f"talk,{'w' * 50},me.png,a.wav\n")
    with contextlib.ExitStack() as writers:
        for each in kept:  # their programs live
            fcntl.flock(writers.enter_context(each.open()), fcntl.LOCK_EX)
        assert run(path, Runner()).done == 3
    assert [path.name for path in (*mine, old) if path.exists()] == []
    assert [path.name for path in kept if not path.exists()] == []
    assert (out / ".v1.0123abcd.part.d").is_dir()


def test_what_a_worker_left_that_died_in_this_run_is_removed_too(folder):
    class Dying(Runner):
        def run(self, job, on_progress=None):
            (folder / "out" / f".{Path(job.out).stem}.0123abcd.part.mp4").write_text("half")
            (folder / "out" / "finished").mkdir(exist_ok=True)
            (folder / "out" / "finished" / f".{job.out}.0123abcd.part.json").write_text("half")
            return super().run(job, on_progress)

    assert run(talks(folder, 2), Dying()).done == 2
    assert not [path for path in (folder / "out").rglob("*") if ".part." in path.name]
