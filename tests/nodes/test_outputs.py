"""Names in the output folder and temporary videos; no ComfyUI is needed but for the tests marked so."""

from __future__ import annotations

import gc
import importlib
import os
import re
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from comfy_stub import PACK, nodes_of

ROOT = Path(__file__).parents[2]


def get_save_image_path(prefix: str, output: str, *_) -> tuple:
    """As ComfyUI's own, for names without tokens."""
    subfolder, name = os.path.split(os.path.normpath(prefix))
    folder = os.path.join(output, subfolder)
    os.makedirs(folder, exist_ok=True)
    numbers = [int(file[len(name) + 1 :][:5]) for file in os.listdir(folder) if file.startswith(f"{name}_")]
    return folder, name, max(numbers, default=0) + 1, subfolder, prefix


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    """nodes.bindings.outputs, with an output folder."""
    with nodes_of(ROOT):
        module = importlib.import_module(f"{PACK}.nodes.bindings.outputs")
        (tmp_path / "output").mkdir()
        monkeypatch.setattr(module.folder_paths, "get_output_directory", lambda: str(tmp_path / "output"))
        monkeypatch.setattr(module.folder_paths, "get_save_image_path", get_save_image_path, raising=False)
        yield module


@pytest.mark.parametrize(
    ("prefix", "pattern"),
    [
        ("landmarks/take", r"landmarks/take_00001_\.safetensors"),
        ("Über uns/Tom & Jerry's #1", r"Über uns/Tom & Jerry's #1_00001_\.safetensors"),
        ("console/null", r"console/null_00001_\.safetensors"),  # only begin as a device's name does
        ("a//b/", r"a/b_00001_\.safetensors"),
        ("%year%/%month%-%day%/t", r"2\d{3}/\d\d-\d\d/t_00001_\.safetensors"),
        ("t_%hour%%minute%%second%", r"t_\d{6}_00001_\.safetensors"),
        ("%date%/t", r"2\d{3}-\d\d-\d\d/t_00001_\.safetensors"),
        ("%width%x%height%", r"640x360_00001_\.safetensors"),
    ],
)
def test_a_plain_name_is_numbered_and_its_tokens_are_filled_in(outputs, tmp_path, prefix, pattern):
    path, name, subfolder = outputs.new_output(prefix, size=(640, 360))
    assert re.fullmatch(pattern, path.relative_to(tmp_path / "output").as_posix())
    assert path.name == name and path.parent == tmp_path / "output" / subfolder and path.parent.is_dir()


def test_the_page_own_dates_are_filled_in(outputs, monkeypatch):
    moment = time.struct_time((2026, 3, 7, 9, 5, 2, 5, 66, 0))
    monkeypatch.setattr(outputs.time, "localtime", lambda: moment)
    texts = {
        "%date:yyyy-MM-dd%": "2026-03-07",
        "%date:yy.M.d%": "26.3.7",
        "%date:hh-mm-ss%": "09-05-02",
        "%date:h_m_s%": "9_5_2",
        "a%date:yyyyMMdd%b": "a20260307b",
    }
    for prefix, expected in texts.items():
        assert outputs.new_output(prefix)[1] == f"{expected}_00001_.safetensors", prefix


def test_the_next_number_is_taken(outputs):
    outputs.new_output("t")[0].touch()
    assert outputs.new_output("t", ".html")[1] == "t_00002_.html"


BAD = {
    '"><img src=x onerror=alert(1)>': "another meaning",
    r"..\..\x": "another meaning",
    "$HOME/x": "another meaning",
    "`id`": "another meaning",
    "a:b": "another meaning",
    "C:/x": "another meaning",
    "a|b": "another meaning",
    "what?": "another meaning",
    "a\nb": "another meaning",
    "a\0b": "another meaning",
    "moc.\u202egnp": "another meaning",
    "a\ud800b": "another meaning",
    "100%": "another meaning",
    "%date:HH:mm%": "another meaning",
    "../x": "begins or ends",
    "a/../../x": "begins or ends",
    "~/x": "begins or ends",
    ".hidden": "begins or ends",
    "-rf": "begins or ends",
    "a./x": "begins or ends",
    "x /y": "begins or ends",
    "CON/x": "device on Windows",
    "nul": "device on Windows",
    "com1.txt/x": "device on Windows",
    "LPT9": "device on Windows",
    "x" * 200: "bytes",
    "": "must be a name within",
    "/": "must be a name within",
    "/etc/x": "must be a name within",
    "%Empty Latent Image.width%": "does not know",
    "%batch_num%": "does not know",
}


@pytest.mark.parametrize("prefix", BAD)
def test_a_name_that_would_be_read_otherwise_is_refused(outputs, tmp_path, prefix):
    with pytest.raises(ValueError, match=BAD[prefix]):
        outputs.new_output(prefix)
    assert BAD[prefix] in outputs.valid_prefix(prefix)
    assert not list((tmp_path / "output").iterdir())


def test_a_name_is_checked_before_anything_runs(outputs):
    assert outputs.valid_prefix("landmarks/%date:yyyy%") is True
    assert outputs.valid_prefix(None) is True  # comes from another node
    assert outputs.valid_prefix("%width%") is True  # whether there is a width is seen when it runs
    with pytest.raises(ValueError, match="%width%, which this node does not know"):
        outputs.new_output("%width%")


def test_a_link_out_of_the_folder_is_refused_and_one_inside_is_not(outputs, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "output" / "real").mkdir()
    for name, target in (("out", tmp_path / "outside"), ("in", tmp_path / "output" / "real"), ("loop", "loop")):
        (tmp_path / "output" / name).symlink_to(target)
    for prefix in ("out/x", "out/new/x", "loop/x"):
        with pytest.raises(ValueError, match="by a link"):
            outputs.new_output(prefix)
    assert outputs.new_output("in/x")[1] == "x_00001_.safetensors"
    assert not list((tmp_path / "outside").iterdir())


def test_a_file_in_the_way_is_told(outputs, tmp_path):
    (tmp_path / "output" / "taken").touch()
    with pytest.raises(OSError, match="taken"):
        outputs.new_output("taken/x")


@pytest.fixture
def temp_videos(tmp_path, monkeypatch):
    """nodes.bindings.temp_video in a ComfyUI that is nothing but a temporary folder and a prompt's name."""
    server, videos = ModuleType("server"), ModuleType("comfy_api.input_impl")
    server.PromptServer = SimpleNamespace(instance=SimpleNamespace(last_prompt_id="first"))
    videos.VideoFromFile = type("VideoFromFile", (), {"__init__": lambda self, file: setattr(self, "file", file)})
    with nodes_of(ROOT):
        monkeypatch.setitem(importlib.sys.modules, "server", server)
        monkeypatch.setitem(importlib.sys.modules, "comfy_api.input_impl", videos)
        module = importlib.import_module(f"{PACK}.nodes.bindings.temp_video")
        monkeypatch.setattr(module, "temp_folder", lambda: tmp_path)
        yield module, server.PromptServer.instance


def test_a_temporary_video_goes_in_the_prompt_after_it_was_let_go_of(temp_videos):
    module, comfyui = temp_videos
    path = module.new_temp_video()
    path.touch()
    video = module.temp_video(path)
    assert video.file == str(path)
    comfyui.last_prompt_id = "second"
    module.new_temp_video()
    assert path.exists()  # ComfyUI holds it
    del video
    gc.collect()
    module.new_temp_video()
    assert path.exists()  # let go of in this very prompt
    comfyui.last_prompt_id = "third"
    module.new_temp_video()
    assert not path.exists()


def render(portrait: str, gain: float) -> dict:
    motion = {"fps": 8.0, "mouth_gain": gain, "head_motion": 1.0, "blink_rate": 15.0, "seed": 0, "face_index": 0}
    motion |= {"silence_gate_db": -45.0, "smoothing": 0.3, "offset_ms": 0.0}
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": portrait}},
        "2": {"class_type": "GiveAudio", "inputs": {"kind": "six channels"}},
        "3": {
            "class_type": "PortraitTalkAudioToLandmarks",
            "inputs": {"portrait": ["1", 0], "audio": ["2", 0], **motion},
        },
        "4": {
            "class_type": "PortraitTalkRenderPortrait",
            "inputs": {"portrait": ["1", 0], "landmarks": ["3", 0], "keep_frames": "never", "crf": 16},
        },
        "5": {
            "class_type": "SaveVideo",
            "inputs": {"video": ["4", 1], "filename_prefix": "kept/v", "format": "auto", "codec": "auto"},
        },
    }


@pytest.mark.comfy
def test_prompts_do_not_pile_up_temporary_videos(comfy, small_portrait_name):
    before = set(comfy.temp_files())
    for number in range(3):
        run = comfy.run(render(small_portrait_name, 1.0 + number / 10))
        assert run.status == "success", run.message
        assert comfy.output(run.outputs["5"]["images"][0]).stat().st_size > 1000
    assert len(set(comfy.temp_files()) - before) <= 2


@pytest.mark.comfy
@pytest.mark.parametrize("prefix", ['"><img src=x onerror=alert(1)>', "CON/x", "%date:HH:mm%"])
def test_a_bad_name_is_told_before_anything_runs(comfy, portrait_name, prefix):
    found = {"frames": ["1", 0], "fps": 25.0, "face_index": 0, "on_missing": "hold"}
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": portrait_name}},
        "2": {"class_type": "PortraitTalkLandmarksFromVideo", "inputs": found},
        "3": {
            "class_type": "PortraitTalkSaveLandmarks",
            "inputs": {"landmarks": ["2", 0], "filename_prefix": prefix},
        },
    }
    run = comfy.run(prompt)
    assert run.status == "error"
    assert "filename_prefix" in run.message and "choose a plain name" in run.message
    assert not run.progress


@pytest.mark.comfy
def test_tokens_of_the_page_are_filled_in_by_the_node(comfy, portrait_name):
    prompt = render(portrait_name, 1.0)
    save = {"landmarks": ["3", 0], "filename_prefix": "dated/%date:yyyy%/%year%_%width%"}
    prompt["6"] = {"class_type": "PortraitTalkSaveLandmarks", "inputs": save}
    del prompt["5"]
    run = comfy.run(prompt)
    assert run.status == "success", run.message
    (path,) = (comfy.base / "output" / "dated").rglob("*.safetensors")
    year = time.strftime("%Y")
    assert re.fullmatch(rf"{year}/{year}_512_\d{{5}}_\.safetensors", path.relative_to(path.parents[1]).as_posix())


@pytest.mark.parametrize("output", ["images", "frames"])
def test_what_holds_the_first_frame_alone_is_called_by_its_output(output):
    with nodes_of(ROOT):
        video = importlib.import_module(f"{PACK}.nodes.video")
        buffer = video.FrameBuffer("never", 9, 3 * 64 * 64, output=output)
    assert buffer.text == f"9 frames; {output} holds the first one, video all of them"
