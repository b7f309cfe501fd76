"""Files that the tree before the renderer contract wrote load, mean the same, and give the same frames."""

from __future__ import annotations

import dataclasses
import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from comfy_stub import inputs_of

from portraittalk_core.batch.manifest import read_manifest
from portraittalk_core.errors import MediaError
from portraittalk_core.face.aperture import LEFT_EYE, MOUTH, RIGHT_EYE
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.track_file import load_track
from portraittalk_core.renderers.warp.parallax import Parallax
from portraittalk_core.renderers.warp.renderer import PortraitRenderer
from portraittalk_core.style.prior import load_style
from portraittalk_core.style.reference import statistics_of
from portraittalk_core.types import LandmarkTrack, Portrait

ROOT = Path(__file__).parents[2]
OLD = ROOT / "tests" / "fixtures" / "before_renderers"
VALUES = json.loads((OLD / "values.json").read_text(encoding="utf-8"))
SIDE, SMALL = 256, 64
WIDGETS = ("Float", "Int", "String", "Boolean", "Combo")


def synthetic_portrait() -> Portrait:
    """A picture made of stripes, with the canonical face, as the fixture's frames were drawn from."""
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    picture = torch.stack([(x * 3 + y) % 256, (x + y * 2) % 256, (x * y // 64) % 256], -1).to(torch.uint8)
    points_px = canonical_face()[None] * 50 + torch.tensor([128.0, 118.0, 0.0])
    return Portrait(picture, LandmarkTrack.from_px(points_px, SIDE, SIDE, Fraction(25)))


def test_old_track_loads_with_the_same_values():
    track, old = load_track(OLD / "landmarks.safetensors"), VALUES["track"]
    assert (track.fps, track.width, track.height) == (Fraction(old["fps"]), old["width"], old["height"])
    assert track.valid.tolist() == old["valid"] == [True, True, False, True, True]
    for point, places in old["points"].items():
        assert track.points[:, int(point)].tolist() == places


def beside_mouth_and_eyes() -> torch.Tensor:
    """(SMALL, SMALL) bool: away from lips and lids, which newer versions paint better."""
    x, y = (synthetic_portrait().landmarks.points_px[0, :, axis] / (SIDE // SMALL) for axis in (0, 1))
    rows, columns = torch.meshgrid(torch.arange(SMALL), torch.arange(SMALL), indexing="ij")
    beside = torch.ones(SMALL, SMALL, dtype=torch.bool)
    for chain in (RIGHT_EYE, LEFT_EYE, MOUTH):
        points = [*chain[0], *chain[1]]
        low_x, high_x, low_y, high_y = x[points].min(), x[points].max(), y[points].min(), y[points].max()
        reach = 0.4 * (high_x - low_x)  # an open mouth reaches further down
        further = 2 * reach if chain is MOUTH else reach
        beside &= ~(
            (columns > low_x - reach) & (columns < high_x + reach) & (rows > low_y - reach) & (rows < high_y + further)
        )
    return beside


def small_frames() -> torch.Tensor:
    """(5, SMALL, SMALL, 3) levels of the old track's frames."""
    frames = torch.stack(list(PortraitRenderer(synthetic_portrait()).render(load_track(OLD / "landmarks.safetensors"))))
    step = SIDE // SMALL
    return frames.float().reshape(-1, SMALL, step, SMALL, step, 3).mean((2, 4)).round()


def test_old_track_gives_the_same_frames(monkeypatch):
    now = small_frames()
    # newer versions turn the steep skin along a head's outline less far: here as the old one did
    monkeypatch.setattr(Parallax, "softened", lambda self, points_px: points_px[..., :2])
    small = small_frames()
    old = torch.from_numpy(np.load(OLD / "landmarks_frames.npz")["frames"]).float()
    assert old.shape == small.shape == (5, SMALL, SMALL, 3)
    beside = beside_mouth_and_eyes()
    assert beside.float().mean() > 0.8
    changes = (small - old).abs()[:, beside]
    # colours are looked up at steps of a fifth of a pixel: at an edge of 255 levels that is 6.4 of a block of 4 pixels
    assert changes.max() <= 7 and changes.mean() < 0.5
    assert (now - old).abs()[:, beside].mean() < 0.5  # the outline is a small part of the frame
    assert (old[0] - old[4]).abs().max() > 20  # and the frames do differ


def test_old_style_loads_with_the_same_values():
    style, old = load_style(OLD / "style.safetensors"), VALUES["style"]
    assert (style.source, style.space, style.strength, style.noise) == tuple(
        old[name] for name in ("source", "space", "strength", "noise")
    )
    assert style.mean.tolist() == old["mean"]
    assert style.draw(2, Fraction(25))[0].tolist() == pytest.approx(old["draw"], rel=1e-5)
    assert dataclasses.asdict(statistics_of(style)) == pytest.approx(old["manner"], rel=1e-5)


def test_old_blended_style_loads_with_the_same_values():
    style, old = load_style(OLD / "blended_style.safetensors"), VALUES["blended"]
    frames = [0, 12, 24]
    assert style.source == old["source"]
    torch.testing.assert_close(style.draw(25, Fraction(25))[frames], torch.tensor(old["draw"]))
    torch.testing.assert_close(style.strengths(25, Fraction(25))[frames], torch.tensor(old["strengths"]))


def test_old_manifest_is_read_alike(tmp_path):
    for name in ("batch.csv", "style.safetensors"):
        shutil.copy(OLD / name, tmp_path)
    for name in ("a.png", "a.wav", "a.mp4", "b.mp4"):
        (tmp_path / name).write_bytes(b"")
    jobs = list(read_manifest(tmp_path / "batch.csv"))
    assert len(jobs) == len(VALUES["batch"]) == 6
    for job, old in zip(jobs, VALUES["batch"], strict=True):
        told = {name: getattr(job, name) for name in ("line", "job", "out", "style")}
        told |= {"files": {name: path.name for name, path in job.files.items()}, "options": dict(job.options)}
        told["problem"] = job.problem and job.problem.replace(f"{tmp_path.resolve()}/", "")
        assert told == old


def test_old_graph_fits_the_nodes():
    """ComfyUI gives a saved graph's values to a node's widgets by order; a seed has one more, for what follows."""
    graph, nodes = json.loads((OLD / "talking_portrait.json").read_text(encoding="utf-8")), inputs_of(ROOT)
    ours = [node for node in graph["nodes"] if node["type"].startswith("PortraitTalk")]
    assert {node["type"] for node in ours} >= {"PortraitTalkAudioToLandmarks"}
    for node in ours:
        inputs = nodes[node["type"]]
        assert {one["name"] for one in node["inputs"]} <= {one["id"] for one in inputs}
        values = list(node["widgets_values"])
        for one in [one for one in inputs if one["type"] in WIDGETS and not one.get("force_input")]:
            value = values.pop(0) if values else one.get("default")
            if one.get("control_after_generate") and values:
                assert values.pop(0) in ("fixed", "randomize", "increment", "decrement")
            check_value(one, value)
        assert not values


def check_value(one: dict, value: object) -> None:
    """That a widget takes a value."""
    kind = {"Float": (int, float), "Int": int, "String": str, "Boolean": bool, "Combo": str}[one["type"]]
    assert isinstance(value, kind), (one["id"], value)
    if one["type"] in ("Float", "Int"):
        assert one["min"] <= value <= one["max"], (one["id"], value)
    if one["type"] == "Combo" and one["id"] in ("keep_frames", "on_missing", "mode"):  # others list files
        assert value in one["options"]


def test_a_damaged_old_track_is_told(tmp_path):
    (tmp_path / "a.safetensors").write_bytes((OLD / "landmarks.safetensors").read_bytes()[:-100])
    with pytest.raises(MediaError, match="not a readable safetensors file"):
        load_track(tmp_path / "a.safetensors")
