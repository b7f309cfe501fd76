"""The command `live`."""

import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from portraittalk_core.cli.main import main
from portraittalk_core.engines.builtin.closure_net import ClosureNet
from portraittalk_core.engines.builtin.mouth_model import save_closures

ROOT = Path(__file__).parents[3]
PORTRAIT, SPEECH = ROOT / "samples" / "portrait.jpg", ROOT / "samples" / "speech.wav"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--stdin", "--speech", str(SPEECH)], "--speech and --stdin are two sounds"),
        (["--offset-ms", "-40", "--stdin"], "--offset-ms must be at least 0 here, but is -40"),
        (["--stdin", "--engine", str(SPEECH)], "speech.wav cannot be read as a weight file"),
        (["--output", "x.mp4", "--stdin"], '"window", "http" or a video device'),
        (["--output", "http", "--port", "70000", "--stdin"], "--port must lie between 0 and 65535"),
        (["--output", "http", "--port", "0", "--microphone", "no_such_card"], "the microphone no_such_card"),
    ],
)
def test_what_cannot_be_used_is_told(capsys, flags, message):
    assert main(["live", "--portrait", str(PORTRAIT), *flags]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "text", "name", "expected"),
    [
        ("--gaze-points", "[[0, 5, 0], [1.5, -10, 4]]", "gaze_points", ((0, 5, 0), (1.5, -10, 4))),
        ("--emotion-points", '[[2, "happy", 0.5]]', "emotion_points", ((2, "happy", 0.5),)),
    ],
)
def test_points_over_time_are_read(monkeypatch, tmp_path, flag, text, name, expected):
    given = []
    monkeypatch.setattr("portraittalk_core.pipelines.live.live", lambda *args, **_: given.append(args[3]) or Report)
    monkeypatch.setattr("portraittalk_core.cli.live._sound", lambda _: ())
    points = tmp_path / "points.json"
    points.write_text(text)
    assert (
        main(["live", "--portrait", str(PORTRAIT), "--stdin", "--output", "http", "--port", "0", flag, str(points)])
        == 0
    )
    assert tuple(map(tuple, getattr(given[0], name))) == expected


def test_a_trained_network_is_used(monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr("portraittalk_core.pipelines.live.live", lambda *_, network: given.append(network) or Report)
    save_closures(ClosureNet(4), tmp_path / "c.safetensors", {})
    words = ["live", "--portrait", str(PORTRAIT), "--speech", str(SPEECH), "--output", "http", "--port", "0"]
    assert main([*words, "--engine", str(tmp_path / "c.safetensors")]) == 0
    assert given == [tmp_path / "c.safetensors"]


class Report:
    """What a live run says."""

    text = "nothing was shown"


@pytest.mark.slow
def test_a_wav_that_is_piped_in_is_shown_to_a_browser():
    words = [sys.executable, "-m", "portraittalk_core", "live", "--portrait", str(PORTRAIT), "--stdin"]
    with subprocess.Popen(
        [*words, "--output", "http", "--port", "0", "--fps", "10"], cwd=ROOT, text=False,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as command:  # fmt: skip
        command.stdin.write(SPEECH.read_bytes()[:120_000])
        command.stdin.flush()
        where = command.stdout.readline().decode().partition(" in ")[2].partition(";")[0]
        jpeg = urllib.request.urlopen(where + "frame.jpg", timeout=300).read()
        command.stdin.close()
        told = command.stdout.read().decode()
        assert command.wait() == 0, command.stderr.read()
    assert jpeg[:3] == b"\xff\xd8\xff"
    assert "frames shown" in told
