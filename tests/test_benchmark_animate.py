"""The animate benchmark runs through on tiny networks, and a goal that is missed is told."""

import argparse
import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import __main__ as command  # noqa: E402
from benchmarks import animate  # noqa: E402

pytest.importorskip("diffusers")


def trained(cache: Path):
    """The toy of `--tiny` and the tensors of its networks."""
    from benchmarks.animate_toy import Plan, trained_toy

    stage = trained_toy(Plan(2, 2, 2), cache)
    networks = (stage.frozen.unet, stage.parts.controlnet, stage.parts.net, stage.parts.motion)
    return [{name: t.clone() for name, t in one.state_dict().items()} for one in networks]


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A cache folder and the tensors that were trained into it."""
    cache = tmp_path_factory.mktemp("toy")
    return cache, trained(cache)


def measured_here(kind: str, args: argparse.Namespace, seconds: int = 0) -> dict:
    """What a process of its own would tell, without the start of one."""
    given = argparse.Namespace(**{**vars(args), "child": kind, "seconds": seconds})
    return json.loads(json.dumps(animate._measure(given)))


@pytest.mark.slow
@pytest.mark.parametrize("part", ["core", "quality", "memory"])
def test_the_script_runs_on_tiny_networks(part, toy, monkeypatch, capsys):
    """The memory of the shorter speech is measured by a process, which shows that the script starts them."""
    child = animate._child
    arguments = ["animate", "--tiny", "--size", "64", "--frames", "2", "--rounds", "1", "--only", part]
    arguments += ["--cache", str(toy[0])]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    started = []

    def measured(kind: str, args: argparse.Namespace, seconds: int = 0) -> dict:
        if kind == "memory" and not started:
            started.append(seconds)
            return child(kind, args, seconds=seconds)
        return measured_here(kind, args, seconds)

    monkeypatch.setattr(animate, "_child", measured)
    assert command.main() == 0
    told = capsys.readouterr().out
    assert {"core": "G4", "quality": "every 2nd step", "memory": "G12"}[part] in told
    assert started == ([1] if part == "memory" else [])


def given(ms, decode=1.0):
    times = {"plain": [100.0], "everything, keys made in every step": [180.0], "everything, no CFG": [94.0], **ms}
    return {"ms": times, "device": "cpu", "dtype": "fp32", "decode_ms": {"VAE": decode, "TAESD": 0.1}}


@pytest.mark.parametrize(("step", "code"), [(179.0, 0), (181.0, 1)])
def test_a_missed_goal_is_the_exit_code(step, code, monkeypatch, capsys):
    found = given({"everything": [step, 300.0], "everything, ControlNet every 2nd step": [159.0]})
    monkeypatch.setattr(animate, "_child", lambda *_, **__: found)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "animate", "--only", "core", "--frames", "16"])
    assert command.main() == code
    assert ("MISS G1" in capsys.readouterr().out) == bool(code)


def test_memory_that_grows_is_a_missed_goal(monkeypatch):
    def child(kind, args, seconds):
        row = {"frames": 25 * seconds, "peak_before_painting_mb": 1.0, "cpu_s": 1.0, "wall_s": 1.0}
        return {**row, "peak_mb": 500 + seconds}

    monkeypatch.setattr(animate, "_child", child)
    (goal,) = animate._memory(argparse.Namespace(tiny=False))
    assert goal[1:] == (540, animate.GOAL_MORE_MB, False)


@pytest.mark.parametrize(("same_db", "missed"), [(float("inf"), False), (133.0, False), (60.0, True)])
def test_kept_keys_that_change_the_picture_are_a_missed_goal(same_db, missed, monkeypatch, capsys):
    found = dict.fromkeys(("keys of the text kept", "keys of text and face kept"), [same_db, 25.0, 0.9])
    monkeypatch.setattr(animate, "_child", lambda *_: found | {"(the warp alone)": [20.0, 24.0, 0.0]})
    goals = animate._quality(argparse.Namespace())
    assert [value < limit for _, value, limit, least in goals if least] == [missed] * 2
    told = capsys.readouterr().out
    assert ("equal" in told) == (same_db == float("inf"))


@pytest.mark.slow
def test_a_kept_toy_is_the_toy_that_was_trained(toy):
    cache, first = toy
    again = trained(cache)
    assert len(list(cache.iterdir())) == 3
    for one, two in zip(first, again, strict=True):
        assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())


def test_captions_tell_the_shirt_and_an_empty_one_nothing():
    from benchmarks.animate_toy import FixedTexts, ShirtTexts, captioned, held_out

    clip = held_out(1, 0)
    colour = torch.rand(3, generator=torch.Generator().manual_seed(90_001 + 10_000)) * 1.2 - 0.6  # as it is drawn
    assert [float(word) for word in captioned(clip).caption.split()] == pytest.approx(colour.tolist(), abs=1e-3)
    one, other, none = ShirtTexts().tokens([clip.caption, held_out(2, 0).caption, ""])
    assert torch.equal(none, FixedTexts().tokens([""])[0])
    assert not torch.equal(one, other) and not torch.equal(one, none)


def test_every_benchmark_is_a_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--help"])
    with pytest.raises(SystemExit):
        command.main()
    told = capsys.readouterr().out
    assert all(name in told for name in ("ablation", "score-memory", "ordering", "animate", "batch"))
