"""Motion engines and the mouth's gain inside a real ComfyUI server."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from portraittalk_core.engines.builtin.closure_net import ClosureNet
from portraittalk_core.engines.builtin.mouth_model import save_closures, save_mouth
from portraittalk_core.engines.builtin.mouth_net import MouthNet
from portraittalk_core.engines.landmark_generator.network import LandmarkNet

pytestmark = pytest.mark.comfy

LOWER_LIP, UPPER_LIP = 14, 13


def prompt_with(portrait: str, sound: str, prefix: str, engine: str | None = None, **changes) -> dict:
    """Load Motion Engine → AudioToLandmarks → Save Landmarks."""
    motion = {"fps": 25.0, "mouth_gain": 1.0, "head_motion": 0.0, "blink_rate": 0.0, "seed": 0, "face_index": 0}
    motion |= {"silence_gate_db": -45.0, "smoothing": 0.3, "offset_ms": 0.0}
    nodes = {
        "1": {"class_type": "LoadImage", "inputs": {"image": portrait}},
        "2": {"class_type": "LoadAudio", "inputs": {"audio": sound}},
        "3": {
            "class_type": "PortraitTalkAudioToLandmarks",
            "inputs": {"portrait": ["1", 0], "audio": ["2", 0], **motion, **changes},
        },
        "5": {"class_type": "PreviewImage", "inputs": {"images": ["3", 3]}},
        "9": {
            "class_type": "PortraitTalkSaveLandmarks",
            "inputs": {"landmarks": ["3", 0], "filename_prefix": f"{prefix}/t"},
        },
    }
    if engine:
        nodes["4"] = {"class_type": "PortraitTalkLoadMotionEngine", "inputs": {"engine": engine, "encoder": "none"}}
        nodes["3"]["inputs"]["engine"] = ["4", 0]
    return nodes


def saved_gap(comfy, prefix: str) -> torch.Tensor:
    points = load_file(next((comfy.base / "output" / prefix).glob("*.safetensors")))["points"]
    return points[:, LOWER_LIP, 1] - points[:, UPPER_LIP, 1]


@pytest.fixture(scope="module")
def engine_files(comfy) -> Path:
    """A fitted mouth network, a public engine with random weights, and a file of another kind."""
    folder = comfy.base / "models" / "portraittalk"
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    net = MouthNet(8).eval().requires_grad_(False)
    net.late.bias[-1] = 1.0  # hears a voice
    save_mouth(net, folder / "me.safetensors", {})
    save_closures(ClosureNet(8), folder / "closures.safetensors", {})
    save_file({k: v.contiguous() for k, v in LandmarkNet().state_dict().items()}, folder / "lip.safetensors")
    save_file({"w": torch.zeros(1)}, folder / "other.safetensors")
    return folder


def test_engines_are_listed_by_content(comfy, engine_files):
    spec = comfy.get_json("/object_info/PortraitTalkLoadMotionEngine")["PortraitTalkLoadMotionEngine"]
    engine = spec["input"]["required"]["engine"]
    listed = engine[0] if isinstance(engine[0], list) else engine[1]["options"]
    if isinstance(listed[0], dict):  # a list whose entries have inputs of their own
        assert [entry["key"] for entry in listed if "encoder" in entry["inputs"].get("optional", {})] == [
            entry["key"] for entry in listed if entry["key"] != "built in"
        ]
        listed = [entry["key"] for entry in listed]
    assert set(listed) == {"built in", "me.safetensors", "closures.safetensors", "lip.safetensors"}


@pytest.mark.parametrize("engine", ["built in", "me.safetensors", "closures.safetensors", "lip.safetensors"])
def test_every_engine_makes_a_track_and_a_plot(comfy, engine_files, small_portrait_name, speech_name, engine):
    prefix = f"engine_{engine.split('.')[0].replace(' ', '_')}"
    run = comfy.run(prompt_with(small_portrait_name, speech_name, prefix, engine))
    assert run.status == "success", run.message
    gap = saved_gap(comfy, prefix)
    assert len(gap) == 193  # 7.718 s at 25 fps
    assert torch.isfinite(gap).all()
    assert gap.std() > 1e-5
    assert run.outputs["5"]["images"]


@pytest.mark.parametrize("name", ["encoder", "engine.encoder"])
def test_the_encoder_of_an_engine_is_found_under_its_old_name_too(
    comfy, object_info, engine_files, small_portrait_name, speech_name, name
):
    """Newer ComfyUI names an input of a list's entry by both; graphs in API format from older ones do not."""
    plain = "encoder" in object_info["PortraitTalkLoadMotionEngine"]["input"].get("optional", {})
    if plain and name == "engine.encoder":
        pytest.skip("this ComfyUI has no lists whose entries have inputs")
    prompt = prompt_with(small_portrait_name, speech_name, "encoder", "lip.safetensors")
    prompt["4"]["inputs"] = {"engine": "lip.safetensors", name: "nowhere.safetensors"}
    run = comfy.run(prompt)
    assert run.status == "error"
    assert "nowhere.safetensors" in run.message


def test_gain_points_close_the_mouth_where_they_say(comfy, small_portrait_name, speech_name):
    prompt = prompt_with(small_portrait_name, speech_name, "gain", gain_points="[[3.9, 1], [4, 0]]")
    run = comfy.run(prompt)
    assert run.status == "success", run.message
    gap = saved_gap(comfy, "gain")
    assert gap[105:].max() - gap[105:].min() < 1e-4
    assert gap[:95].max() > gap[105:].max() + 0.005
    payload = run.outputs["3"]["portraittalk_timeline"][0]
    assert isinstance(payload, dict)


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("GiveFloats", {}),
        ("GiveCurve", {"part": 94.5 / 192}),
        (
            "CurveEditor",
            {"curve": {"points": [[0, 1], [94 / 192, 1], [95 / 192, 0], [1, 0]], "interpolation": "linear"}},
        ),
    ],
)
def test_a_curve_closes_the_mouth_where_it_says(comfy, object_info, small_portrait_name, speech_name, kind, inputs):
    if kind not in object_info:
        pytest.skip("this ComfyUI has no curves")
    prompt = prompt_with(small_portrait_name, speech_name, kind, gain_curve=["6", 0])
    prompt["6"] = {"class_type": kind, "inputs": inputs}
    run = comfy.run(prompt)
    assert run.status == "success", run.message
    gap = saved_gap(comfy, kind)
    assert gap[95:].max() - gap[95:].min() < 1e-4
    assert gap[:95].max() > gap[95:].max() + 0.005


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("other.safetensors", "is not a motion engine"),
        ("../../input/x", "is not in models/portraittalk"),
        ("encoded", "hears the sound itself"),
        ("points", "gain point 1 has gain 3"),
    ],
)
def test_what_cannot_work_is_told(comfy, engine_files, small_portrait_name, speech_name, what, message):
    prompt = prompt_with(small_portrait_name, speech_name, "bad", what if "/" in what or "." in what else None)
    if what == "encoded":
        prompt["6"] = {"class_type": "GiveEncodedAudio", "inputs": {"width": 1024}}
        prompt["3"]["inputs"]["audio_encoder_output"] = ["6", 0]
    if what == "points":
        prompt["3"]["inputs"]["gain_points"] = "[[0, 3]]"
    run = comfy.run(prompt)
    assert run.status == "error"
    assert message in run.message
