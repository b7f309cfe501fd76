"""The bad-input benchmark goes over every command, and sees what it says it looks for."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import bad_input_run  # noqa: E402
from benchmarks.bad_input import prepare_folder  # noqa: E402
from benchmarks.bad_input_cases import Case, cases  # noqa: E402
from benchmarks.bad_input_run import Digests, Result, Worker, digests, run_case, violations  # noqa: E402
from portraittalk_core.cli import main as cli  # noqa: E402
from portraittalk_core.cli import plot as cli_plot  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def listed() -> list[Case]:
    return list(cases())


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("bad")
    prepare_folder(made)
    return made


def test_there_are_hundreds_of_cases_over_all_commands(listed):
    assert len(listed) > 500 and len({case.name for case in listed}) == len(listed)
    assert {case.words[0] for case in listed} == {command.name for command in cli.COMMANDS}
    assert sum(bool(case.taken) for case in listed) > 50


@pytest.mark.parametrize(
    "name",
    [
        "talk --style-strength 'nan'",
        "talk --gain-points zero.json",
        "talk --engine bomb.pt",
        "talk --engine runs_old.pt",
        "landmarks --out is --style, hard",
        "plot --track coincide.safetensors",
        "score --pairs field.csv",
        "train --config dotted.toml",
        "train --config brackets.toml",
        "dub weights lips_cut.safetensors with iplap",
        "dub film cut_off.mp4 with iplap",
        "dub also left",
        "talk portrait profile.png with liveportrait",
        "talk portrait faceless.png with facevid2vid",
    ],
)
def test_a_bad_input_ends_as_it_should(name, listed, folder, monkeypatch):
    monkeypatch.chdir(folder)
    before = digests(folder)
    (case,) = (case for case in listed if case.name == name)
    result = run_case(case, Path())
    assert not result.violations and result.code == 2, result
    assert digests(folder) == before
    assert not (folder / "has_run").exists()


@pytest.mark.parametrize(
    ("result", "taken", "new", "found"),
    [
        (Result(1, "portraittalk: internal error", 0, 0), "", [], ["ended with 1", "ended in a fault"]),
        (Result(0, "", 0, 0), "film.mp4", [], ["took film.mp4, which it reads, for its output"]),
        (Result(2, "", 0, 0), "", [], ["said nothing"]),
        (Result(2, "portraittalk: x", 0, 0), "", ["out/o.mp4"], ["left out/o.mp4"]),
        (Result(0, "", 0, 0), "", ["out/.o.1.part.mp4"], ["left the part out/.o.1.part.mp4"]),
        (Result(0, "", 99, 9999), "", [], ["took 99 s", "took 9999 MB"]),
        (Result(2, "portraittalk: x", 0, 0), "film.mp4", [], []),
        (Result(3, "", 0, 0), "", ["out/scores"], []),
    ],
)
def test_each_violation_is_seen(result, taken, new, found):
    assert violations(Case("x", (), taken), result, ["out"], ["out", *new]) == found


def test_a_fault_and_a_changed_input_are_seen(folder, monkeypatch):
    def destroys(_args):
        Path("gain.json").write_text("lost")
        raise ValueError("odd")

    monkeypatch.chdir(folder)
    monkeypatch.setattr(
        cli_plot.COMMAND.__class__, "run", property(lambda _self: destroys, lambda *_: None), raising=False
    )
    case = Case("x", ("plot", "--track=track.safetensors", "--out=out/o.png"))
    before = digests(folder)
    result = run_case(case, Path())
    assert result.violations == ["ended with 1", "ended in a fault"]
    assert digests(folder) != before
    Path("gain.json").write_text("[[0, 1], [0.4, 0.5]]")


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path):
    path, digest = tmp_path / "input.bin", Digests()
    path.write_bytes(b"before")
    before, status = digests(tmp_path, digest), path.stat()
    assert digests(tmp_path, digest) == before
    path.write_bytes(b"behind")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert digests(tmp_path, digest) != before


def test_a_process_that_hangs_or_dies_is_a_violation(folder, monkeypatch):
    monkeypatch.setattr(bad_input_run, "LIMIT_S", 1.0)
    worker = Worker(folder)
    worker._process = type("Dead", (), {"kill": lambda _self: None, "join": lambda _self: None})()
    worker._pipe = type("Pipe", (), {"send": lambda *_: None, "poll": lambda *_: False})()
    assert worker.run(Case("x", ("doctor",))).violations == ["did not end within 4 s"]
    worker._process = type("Dead", (), {"kill": lambda _self: None, "join": lambda _self: None})()

    def closed(*_args):
        raise EOFError

    worker._pipe = type("Pipe", (), {"send": closed})()
    assert worker.run(Case("x", ("doctor",))).violations == ["ended its process"]
