"""The samples in ComfyUI's input folder, and the workflows that name them; no ComfyUI is needed."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import av
import pytest
from PIL import Image

ROOT, PACK = Path(__file__).parents[2], "portraittalk_with_samples"
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
LOADERS = ("LoadImage", "LoadAudio", "LoadVideo")


@pytest.fixture
def samples(tmp_path, monkeypatch):
    """nodes.bindings.samples, with an input folder of its own."""
    folders, pack, nodes = ModuleType("folder_paths"), ModuleType(PACK), ModuleType(f"{PACK}.nodes")
    folders.get_input_directory = lambda: str(tmp_path / "input")
    folders.get_user_directory = lambda: str(tmp_path / "user")
    pack.__path__, nodes.__path__ = [str(ROOT)], [str(ROOT / "nodes")]
    monkeypatch.setitem(sys.modules, "folder_paths", folders)
    monkeypatch.setitem(sys.modules, PACK, pack)
    monkeypatch.setitem(sys.modules, f"{PACK}.nodes", nodes)
    yield importlib.import_module(f"{PACK}.nodes.bindings.samples")
    for name in [name for name in sys.modules if name.startswith(f"{PACK}.")]:
        del sys.modules[name]


def nodes_of(graph: dict) -> list[dict]:
    return graph["nodes"] + [
        node for part in graph.get("definitions", {}).get("subgraphs", []) for node in part["nodes"]
    ]


def test_missing_samples_are_copied_once_and_nothing_else_is_left(samples, tmp_path):
    assert sorted(samples.offer_samples()) == sorted(samples.SAMPLES)
    for name, source in samples.SAMPLES.items():
        assert (tmp_path / "input" / name).read_bytes() == (ROOT / "samples" / source).read_bytes()
    assert {path.name for path in (tmp_path / "input").iterdir()} == set(samples.SAMPLES)
    assert samples.offer_samples() == []


def test_a_file_or_link_of_that_name_is_left_as_it_is(samples, tmp_path):
    kept, linked, *_ = samples.SAMPLES
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / kept).write_bytes(b"mine")
    (tmp_path / "input" / linked).symlink_to(tmp_path / "elsewhere")
    assert set(samples.offer_samples()) == set(samples.SAMPLES) - {kept, linked}
    assert (tmp_path / "input" / kept).read_bytes() == b"mine"
    assert not (tmp_path / "elsewhere").exists()


def test_a_sample_that_was_deleted_stays_away(samples, tmp_path):
    kept, deleted, *others = samples.SAMPLES
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / kept).write_bytes(b"of an earlier version")
    samples.offer_samples()
    for name in (kept, deleted):
        (tmp_path / "input" / name).unlink()
    assert samples.offer_samples() == []
    assert {path.name for path in (tmp_path / "input").iterdir()} == set(others)
    samples.folder_paths.get_input_directory = lambda: str(tmp_path / "another")
    assert set(samples.offer_samples()) == set(samples.SAMPLES)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"no such path\n"])
def test_a_note_that_cannot_be_read_is_none(samples, tmp_path, content):
    (tmp_path / "user" / "portraittalk").mkdir(parents=True)
    (tmp_path / "user" / "portraittalk" / "samples.txt").write_bytes(content)
    assert set(samples.offer_samples()) == set(samples.SAMPLES)
    assert samples.offer_samples() == []


def test_a_folder_that_cannot_be_written_is_told_and_the_nodes_still_load(samples, tmp_path, caplog):
    (tmp_path / "input").write_bytes(b"a file where the folder should be")
    assert samples.offer_samples() == []
    assert "were not copied" in caplog.text


def test_a_copy_that_fails_leaves_nothing(samples, tmp_path, monkeypatch, caplog):
    def half(source, target):
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(samples.shutil, "copyfile", half)
    assert samples.offer_samples() == []
    assert list((tmp_path / "input").iterdir()) == []
    assert "the disk is full" in caplog.text


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_load_samples_or_nothing(samples, path):
    """A name that the input folder lacks turns the node red, and the page then refuses to run."""
    for node in nodes_of(json.loads(path.read_text(encoding="utf-8"))):
        if node["type"] in LOADERS and node["mode"] == 0:
            assert node["widgets_values"][0] in samples.SAMPLES


def test_samples_are_what_their_names_say(samples):
    with Image.open(ROOT / "samples" / "portrait.jpg") as picture:
        assert picture.format == "JPEG" and min(picture.size) >= 512
    for name in ("film.mp4", "generated.mp4"):
        with av.open(str(ROOT / "samples" / name)) as film:
            video, sound = film.streams.video[0], film.streams.audio[0]
            assert video.codec_context.name == "h264" and sound.codec_context.name == "aac"
            assert float(video.duration * video.time_base) == pytest.approx(7.7, abs=0.1)
    assert sum((ROOT / "samples" / source).stat().st_size for source in samples.SAMPLES.values()) < 1_500_000
