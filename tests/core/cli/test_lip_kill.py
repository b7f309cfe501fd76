"""A dub with a lip renderer that is killed in its middle goes on, and ends with the same bytes."""

from __future__ import annotations

import signal
import subprocess
import sys
import wave
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from portraittalk_core.cli.main import main
from portraittalk_core.engines.landmark_generator.network import LANDMARK_SIZES, LandmarkNet, save_landmark_net
from portraittalk_core.media.video_read import probe_video
from portraittalk_core.media.video_write import VideoWriter
from portraittalk_core.renderers.lip.random_files import write_random_lip_files

ROOT, FRAMES, SIDE, STOPS_AT = Path(__file__).parents[3], 6, 192, 4
KILLED = """
import os, signal, sys
from portraittalk_core.cli.main import main
from portraittalk_core.renderers.lip.renderer import _LipJob

paint = _LipJob._painted

def killed(job, batch):
    if batch.first == {first}:
        os.kill(os.getpid(), signal.SIGKILL)
    return paint(job, batch)

_LipJob._painted = killed
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def words(tmp_path_factory, astronaut) -> list[str]:
    """A dub of a short film by tiny random networks, as IP-LAP's own script does it, but for where it goes."""
    folder = tmp_path_factory.mktemp("kill")
    close = np.array(Image.fromarray(astronaut.picture.numpy()[:300, 80:380]).resize((SIDE, SIDE)))
    with VideoWriter(folder / "film.mp4", SIDE, SIDE, Fraction(25), crf=4) as writer:
        for number in range(FRAMES):
            writer.write(torch.from_numpy(np.roll(close, number % 3, 1)))
    noise = np.random.default_rng(0).normal(size=16000 * FRAMES // 25) * 3000
    with wave.open(str(folder / "noise.wav"), "wb") as sound:
        sound.setparams((1, 2, 16000, 0, "NONE", ""))
        sound.writeframes(noise.astype(np.int16).tobytes())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        net = LandmarkNet(LANDMARK_SIZES["tiny"])
    engine = save_landmark_net(net, folder / "engine.safetensors", {})
    (lips,) = write_random_lip_files(folder, "iplap")
    files = ["--source", folder / "film.mp4", "--speech", folder / "noise.wav", "--engine", engine]
    paint = ["--renderer", "iplap", "--lips-file", lips, "--inference", "script", "--references", 2, "--batch-size", 2]
    return list(map(str, ["dub", *files, *paint, "--device", "cpu"]))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_killed_dub_goes_on_and_ends_with_the_same_bytes(words, tmp_path, capsys):
    out, whole = tmp_path / "o.mp4", tmp_path / "whole.mp4"
    program = [sys.executable, "-c", KILLED.format(first=STOPS_AT), *words, "--out", str(out)]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert (tmp_path / "o.mp4.unfinished").is_dir() and not out.exists()
    assert main([*words, "--out", str(out)]) == 0
    assert "2 of 3 sections were finished already" in capsys.readouterr().out
    assert main([*words, "--out", str(whole)]) == 0
    assert out.read_bytes() == whole.read_bytes() and probe_video(out).num_frames == FRAMES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.mp4", "whole.mp4"]
