"""What the suite says of itself: tests that are too long, what was left out, a ComfyUI that does not start."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUSY = """
import time, pytest

def work(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass

@pytest.fixture(scope="module")
def made(): work(0.3)

def test_waits_only(): time.sleep(0.4)
def test_imports(): import takes_long
def test_works(): work(0.3)
@pytest.mark.slow
def test_says_so(): work(0.3)
def test_lets_a_fixture_work(made): pass
def test_uses_it_again(made): pass
@pytest.mark.comfy
def test_asks_a_server(): pass
def test_nobody_wanted(): pass
"""


def pytest_of(folder: Path, *args: str, **env: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *args]
    given = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tests" / "support"), str(ROOT)]), **env}
    given = {key: value for key, value in given.items() if not key.startswith(("PYTEST_", "COV_"))}
    return subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, check=False)


@pytest.fixture
def busy(tmp_path) -> Path:
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    slow: s\n    comfy: c\n")
    (tmp_path / "conftest.py").write_text('pytest_plugins = ("suite_schedule", "suite_limits")\n')
    (tmp_path / "test_busy.py").write_text(BUSY)
    (tmp_path / "takes_long.py").write_text("from test_busy import work\nwork(0.3)\n")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_run_fails_for_every_test_that_is_too_long_and_unmarked(busy, workers):
    # `work` counts seconds, not loops
    done = pytest_of(busy, "-n", workers, "--slow-s", "0.2", "--slowness", "1", "-m", "not comfy", "-k", "not wanted")
    named = re.findall(r"^ +\d+\.\d s +\S*::(\w+)$", done.stdout, re.M)
    assert sorted(named) == ["test_lets_a_fixture_work", "test_uses_it_again", "test_works"], done.stdout
    assert "Left out: 1 comfy, 1 not asked for." in done.stdout
    assert done.returncode == 1 and "6 passed" in done.stdout


@pytest.mark.slow
def test_a_run_says_how_many_it_left_out_and_why(busy):
    done = pytest_of(busy, "-n", "0", "-m", "not slow and not comfy", "-k", "not wanted")
    assert "Left out: 1 slow, 1 comfy, 1 not asked for." in done.stdout
    assert done.returncode == 0 and "too long" not in done.stdout


def test_groups_are_files_but_there_is_one_server():
    from suite_schedule import COMFY, PAGES, SECONDS, group_of

    assert [name for name in SECONDS if name not in (COMFY, PAGES) and not (ROOT / name).is_file()] == []
    assert group_of("tests/core/face/test_draw.py::test_a[x::y]") == "tests/core/face/test_draw.py"
    assert group_of("tests/nodes/test_comfy.py::test_a") == group_of("tests/nodes/test_style.py::test_b") == COMFY
    assert group_of("tests/nodes/test_page.py::test_a") == group_of("tests/nodes/test_timeline.py::test_b") == PAGES


@pytest.mark.slow
def test_a_comfyui_that_does_not_start_is_told_once(tmp_path):
    (tmp_path / "main.py").write_text("print('Total VRAM 0 MB')\nimport a_package_nobody_has\n")
    files = [str(ROOT / "tests" / "nodes" / name) for name in ("test_listed.py", "test_paste_face.py")]
    env = {"COMFYUI_DIR": str(tmp_path), "COMFYUI_PYTHON": sys.executable}
    done = pytest_of(ROOT, "-n", "0", *files, **env)
    found = re.search(r"collected (\d+) items", done.stdout)
    assert found and f" {int(found[1]) - 1} skipped, 1 error in " in done.stdout, done.stdout
    assert done.returncode == 1
    told, _, _ = done.stdout.partition("short test summary")  # which is cut only where a terminal is narrow
    assert told.count("a_package_nobody_has'") == 1  # not once more in a trace
    for words in ("ended with code 1", "Total VRAM 0 MB", "its Python lacks a_package_nobody_has", "requirements.txt"):
        assert words in done.stdout, words
    assert len(done.stdout.splitlines()) < 50


MORTAL = """
import http.server, os, sys

class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/object_info":
            os._exit(9)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

with open("starts", "a") as file:
    file.write("x")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Page).serve_forever()
"""


@pytest.mark.slow
def test_a_comfyui_that_ends_in_the_middle_is_started_again(tmp_path):
    (tmp_path / "main.py").write_text(MORTAL)
    env = {"COMFYUI_DIR": str(tmp_path), "COMFYUI_PYTHON": sys.executable}
    done = pytest_of(ROOT, "-n", "0", str(ROOT / "tests" / "nodes" / "test_listed.py"), **env)
    assert re.search(r" [2-9] errors in ", done.stdout), done.stdout
    assert (tmp_path / "starts").read_text() == "xx"  # once more, for the tests after the one that saw it end


@pytest.mark.parametrize(("measured_s", "factor"), [(0.0085, 1.0), (0.0255, 3.0), (0.001, 1.0)])
def test_seconds_of_a_slower_machine_count_less(monkeypatch, measured_s, factor):
    import suite_limits

    monkeypatch.setattr(suite_limits, "calibration_s", lambda: measured_s)
    assert suite_limits.slowness() == pytest.approx(factor)
