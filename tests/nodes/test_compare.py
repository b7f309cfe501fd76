"""Compare Videos and Score Without Reference inside a real ComfyUI."""

from __future__ import annotations

import json
import uuid
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.comfy

MOTION = {
    **{"fps": 25.0, "mouth_gain": 1.5, "head_motion": 1.0, "blink_rate": 15.0, "seed": 0, "face_index": 0},
    **{"silence_gate_db": -45.0, "smoothing": 0.3, "offset_ms": 0.0},
}


@pytest.fixture(scope="module")
def speech_of_a_second(comfy) -> str:
    """One second of the sample speech: in half a second the steps are so few that one level moves ADFD by a tenth."""
    with wave.open(str(Path(__file__).parents[2] / "samples" / "speech.wav")) as source:
        params, sound = source.getparams(), source.readframes(source.getframerate())
    path = comfy.base / "one_second.wav"
    with wave.open(str(path), "wb") as second:
        second.setparams(params)
        second.writeframes(sound)
    return comfy.put_input(path)


@pytest.fixture(scope="module")
def video(comfy, portrait_name, speech_of_a_second) -> str:
    """A second of the speaking portrait at its own size: in half of it, a level here and there moves the landmarks."""
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": portrait_name}},
        "2": {"class_type": "LoadAudio", "inputs": {"audio": speech_of_a_second}},
        "3": {
            "class_type": "PortraitTalkAudioToLandmarks",
            "inputs": {"portrait": ["1", 0], "audio": ["2", 0], **MOTION},
        },
        "4": {
            "class_type": "PortraitTalkRenderPortrait",
            "inputs": {
                "portrait": ["1", 0],
                "landmarks": ["3", 0],
                "audio": ["2", 0],
                "keep_frames": "never",
                "crf": 16,
            },
        },
        "5": {
            "class_type": "SaveVideo",
            "inputs": {"video": ["4", 1], "filename_prefix": "second", "format": "auto", "codec": "auto"},
        },
    }
    run = comfy.run(prompt)
    assert run.status == "success", run.message
    return comfy.put_input(comfy.output(run.outputs["5"]["images"][0]), "one_second.mp4")


def graph(video: str, **changes) -> dict:
    """A video compared with itself; reports go to a folder of their own."""
    inputs = {"generated": ["1", 0], "target": ["1", 0], "align": False, "crop": "whole"}
    inputs |= {"filename_prefix": f"{uuid.uuid4().hex}/r", **changes}
    return {
        "1": {"class_type": "LoadVideo", "inputs": {"file": video}},
        "2": {"class_type": "PortraitTalkCompareVideos", "inputs": inputs},
        "7": {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}},
        "8": {"class_type": "PreviewImage", "inputs": {"images": ["2", 6]}},
        "10": {"class_type": "PreviewAny", "inputs": {"source": ["2", 8]}},
    }


def alone(source: list, **changes) -> dict:
    inputs = {"video": source, "filename_prefix": f"{uuid.uuid4().hex}/r", **changes}
    return {
        "3": {"class_type": "PortraitTalkScoreWithoutReference", "inputs": inputs},
        "9": {"class_type": "PreviewAny", "inputs": {"source": ["3", 0]}},
    }


def numbers(comfy, run, node: str) -> dict:
    """The row of the report.json that lies beside the page."""
    page = comfy.output(run.outputs[node]["portraittalk_report"][0])
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert str(page) in run.outputs[node]["text"][0]
    return json.loads(page.with_suffix(".json").read_text())["rows"][0]


def test_a_video_and_itself_are_equal_and_what_is_lacking_is_said(comfy, video):
    run = comfy.run(graph(video))
    assert run.status == "success", (run.message, comfy.log.read_text()[-2000:])
    row = numbers(comfy, run, "2")
    assert row["values"]["adfd"] == pytest.approx(1)
    assert row["values"]["psnr"] == "inf"
    assert row["missing"]["lse_c"].startswith("not available: needs ")
    assert "portrait" in row["missing"]["identity"]
    summary, table = run.outputs["2"]["text"][0], run.outputs["7"]["text"][0]
    assert summary.startswith("ADFD 1.000")
    assert "LSE-C not available" in summary
    assert "SSIM ↑: 1.000" in table
    assert "not available: needs SyncNet" in table
    assert run.outputs["2"]["images"]
    assert run.outputs["8"]["images"]  # the grey one: nothing was lost
    assert max(value for node, value, _ in run.progress if node == "2") > 20


def test_frames_in_memory_score_as_the_file_they_come_from(comfy, video):
    parts = {"5": {"class_type": "GetVideoComponents", "inputs": {"video": ["1", 0]}}}
    with comfy.without("insightface"):
        run = comfy.run(
            graph(video, generated=["5", 0], audio=["5", 1], portrait=["5", 0])
            | parts
            | {"6": {"class_type": "CreateVideo", "inputs": {"images": ["5", 0], "audio": ["5", 1], "fps": 25.0}}}
            | alone(["6", 0])
        )
    assert run.status == "success", (run.message, comfy.log.read_text()[-2000:])
    values = numbers(comfy, run, "2")["values"]
    # ComfyUI decodes by itself: from 0.21 on its levels differ by one here and there
    assert values["adfd"] > 0.9
    assert values["ssim"] > 0.98
    assert values["sound_mouth_correlation"] == pytest.approx(values["target:sound_mouth_correlation"], abs=0.05)
    by_itself = numbers(comfy, run, "3")
    assert by_itself["values"]["sound_mouth_correlation"] == pytest.approx(values["sound_mouth_correlation"], abs=0.05)
    assert by_itself["target"] is None
    # without InsightFace's files, dlib's descriptor tells whose face it is
    assert values["identity"] > 0.99 and values["identity_distance"] < 0.3
    assert numbers(comfy, run, "2")["counts"]["face_encoder"] == "dlib's face descriptor"
    assert float(run.outputs["10"]["text"][0]) > 0.99


def test_frames_without_sound_face_or_shape_are_told_of(comfy, video, tmp_path):
    Image.fromarray(np.full((256, 256, 3), 90, np.uint8)).save(tmp_path / "grey.png")
    grey = {"4": {"class_type": "LoadImage", "inputs": {"image": comfy.put_input(tmp_path / "grey.png")}}}
    run = comfy.run(grey | alone(["4", 0]))
    assert run.status == "success", run.message
    assert run.outputs["3"]["text"][0].startswith("no face was found in any of the 1 frames")
    assert "IMAGE frames have no sound; connect audio" in run.outputs["9"]["text"][0]
    Image.fromarray(np.full((256, 512, 3), 90, np.uint8)).save(tmp_path / "wide.png")
    wide = {"4": {"class_type": "LoadImage", "inputs": {"image": comfy.put_input(tmp_path / "wide.png")}}}
    refused = comfy.run(wide | graph(video, generated=["4", 0]))
    assert refused.status == "error"
    assert "different shapes" in refused.message
    loaded = {"1": graph(video)["1"]}
    for prompt in (graph(video, sound_track=2), loaded | alone(["1", 0], sound_track=2)):
        refused = comfy.run(prompt)
        assert refused.status == "error" and "has no sound track 2; choose one of 1 to 1" in refused.message


def test_compare_two_seeds_reports_on_both_and_on_what_differs(
    comfy, workflow_prompt, small_portrait_name, short_speech
):
    prompt = workflow_prompt("compare_two_seeds")
    for node in prompt.values():
        if node["class_type"] == "LoadAudio":
            node["inputs"]["audio"] = short_speech
        if node["class_type"] == "LoadImage":
            node["inputs"]["image"] = small_portrait_name
    run = comfy.run(prompt)
    assert run.status == "success", (run.message, comfy.log.read_text()[-2000:])
    scored = {
        n: numbers(comfy, run, n) for n, node in prompt.items() if "portraittalk_report" in run.outputs.get(n, {})
    }
    assert len(scored) == 3
    (pair,) = [row for row in scored.values() if row["target"]]
    assert 0.5 < pair["values"]["adfd"] < 1
    sound = [row["values"]["sound_mouth_correlation"] for row in scored.values() if not row["target"]]
    assert len(sound) == 2
    for name in ("jitter", "head_std", "blink_rate"):
        assert name in pair["values"]
