from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
import time

import pytest

from portraittalk_core.cli.process import goes_on_from, run_guarded, stop_on_signals
from portraittalk_core.errors import InputError


def raises(error: BaseException):
    def job():
        raise error

    return job


def test_a_job_that_ends_well_exits_0_silently(capsys):
    assert run_guarded(lambda: None, debug=False) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InputError("a.png holds no face; choose another."), 2, "portraittalk: a.png holds no face; choose another.\n"),
        (KeyboardInterrupt(), 130, "portraittalk: stopped; nothing was written\n"),
        (KeyboardInterrupt("rows are kept"), 130, "portraittalk: stopped; rows are kept\n"),
        (OSError(errno.ENOSPC, "No space left on device", "o.mp4"), 2, "o.mp4 cannot be used: No space left on device"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "a/b"), 2, "a/b cannot be used: Not a directory"),
        (MemoryError(), 2, "not enough memory"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), 2, "No space left on device"),
        (FileNotFoundError(2, "No usable temporary directory found in ['/tmp']"), 2, "set TMPDIR"),
        (ValueError("odd"), 1, "internal error: ValueError: odd"),
    ],
)
def test_an_error_becomes_its_exit_code_and_one_line(error, code, said, capsys):
    assert run_guarded(raises(error), debug=False) == code
    err = capsys.readouterr().err
    assert said in err and len(err.splitlines()) == 1


def test_stopped_work_says_where_what_is_finished_is_kept(tmp_path):
    def message(folder):
        with pytest.raises(KeyboardInterrupt) as stop, goes_on_from(folder, "finished rows"):
            raise KeyboardInterrupt
        return str(stop.value)

    assert message(None) == message(tmp_path / "none") == message(tmp_path) == ""
    (tmp_path / "row").touch()
    assert message(tmp_path) == f"finished rows are kept in {tmp_path}; the same command goes on from there"


def test_a_folder_that_is_gone_is_told(capsys, monkeypatch):
    def gone():
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(os, "getcwd", gone)
    assert run_guarded(lambda: pytest.fail("it began"), debug=False) == 2
    assert "is gone; change to another one" in capsys.readouterr().err


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_process_without_standard_streams_does_its_work(closed, tmp_path):
    script = tmp_path / "job.py"
    script.write_text(
        "import os, sys\n"
        "from portraittalk_core.cli.process import run_guarded\n"
        "def job():\n"
        "    with open(sys.argv[1], 'w') as file:\n"
        "        print('said')\n"
        "        os.write(1, b'by a library')\n"
        "        file.write('written')\n"
        "sys.exit(run_guarded(job, False))\n"
    )
    words = [sys.executable, str(script), str(tmp_path / "out.txt")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", *words], env=environment, check=False).returncode == 0
    assert (tmp_path / "out.txt").read_text() == "written"


def test_debug_shows_the_traceback(capsys):
    assert run_guarded(raises(ValueError("odd")), debug=True) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_job_with_130_and_handlers_are_put_back(number, capsys):
    before = signal.getsignal(number)

    def job():
        os.kill(os.getpid(), number)
        time.sleep(5)

    assert run_guarded(job, debug=False) == 130
    assert "stopped; nothing was written" in capsys.readouterr().err
    assert signal.getsignal(number) is before


def test_a_second_signal_at_once_does_not_break_the_clean_up():
    cleaned = False
    with pytest.raises(KeyboardInterrupt), stop_on_signals():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            cleaned = True
    assert cleaned


@pytest.mark.parametrize(("debug", "heard"), [(False, False), (True, True)])
def test_native_noise_is_hidden_unless_debugging(debug, heard, capfd):
    def job():
        os.write(2, b"W0000 native noise\n")
        sys.stderr.write("python line\n")

    assert run_guarded(job, debug=debug) == 0
    err = capfd.readouterr().err
    assert ("native noise" in err) == heard
    assert "python line" in err


def test_library_warnings_are_shown_and_its_chatter_is_not(capsys):
    def job():
        logger = logging.getLogger("portraittalk_core.media.audio")
        logger.warning("a.wav is cut off after %.1f s", 2.0)
        logger.info("chatter")

    run_guarded(job, debug=False)
    assert capsys.readouterr().err == "warning: a.wav is cut off after 2.0 s\n"


def test_a_full_disk_is_told_behind_a_librarys_own_error(capsys):
    def job():
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "o.mp4")
        except OSError as error:
            raise RuntimeError("the library gave up") from error

    assert run_guarded(job, debug=False) == 2
    assert "o.mp4 cannot be used: No space left" in capsys.readouterr().err
