"""Gaze And Breath inside a real ComfyUI: what it says moves the eyes of AudioToLandmarks, as the core's options do."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.torch import load_file

pytestmark = pytest.mark.comfy

MOTION = {"fps": 8.0, "mouth_gain": 1.0, "head_motion": 1.0, "blink_rate": 0.0, "seed": 0, "face_index": 0}
MOTION |= {"silence_gate_db": -45.0, "smoothing": 0.3, "offset_ms": 0.0}
STILL = {"gaze": "portrait", "gaze_yaw": 0.0, "gaze_pitch": 0.0, "eye_motion": 0.0, "brow_motion": 0.0}
STILL |= {"breath": 0.0, "idle_motion": 0.0}
MOVING = ("alone", "natural", "calm")  # names of tracks whose heads move
NATURAL = dict.fromkeys(("eye_motion", "brow_motion", "breath", "idle_motion"), 1.0)
IRISES, CORNERS = [468, 473], [33, 133, 362, 263]  # MediaPipe's numbers: middles of the irises, corners of both eyes


def node(kind: str, **inputs) -> dict:
    return {"class_type": f"PortraitTalk{kind}", "inputs": inputs}


def speaking(portrait: str, sound: str, **given) -> dict:
    """AudioToLandmarks and Save Landmarks, for each name of values of Gaze And Breath; None is without that node."""
    prompt = {
        "image": {"class_type": "LoadImage", "inputs": {"image": portrait}},
        "sound": {"class_type": "LoadAudio", "inputs": {"audio": sound}},
    }
    for name, values in given.items():
        wires = {"portrait": ["image", 0], "audio": ["sound", 0]}
        if values is not None:
            prompt[f"{name}.gaze"] = node("GazeAndBreath", **STILL | values)
            wires["gaze_and_breath"] = [f"{name}.gaze", 0]
        locked = {} if name in MOVING else {"head_motion": 0.0}
        prompt[f"{name}.track"] = node("AudioToLandmarks", **MOTION | locked, **wires)
        prompt[f"{name}.save"] = node("SaveLandmarks", landmarks=[f"{name}.track", 0], filename_prefix=f"gaze/{name}")
    return prompt


def points_of(comfy, name: str) -> np.ndarray:
    """(T, 478, 2) what was saved under a name."""
    (path,) = (comfy.base / "output" / "gaze").glob(f"{name}*.safetensors")
    return load_file(path)["points"].numpy()[..., :2]


def looks(comfy, name: str) -> np.ndarray:
    """(T, 2) the irises' place beside the eyes' corners, in widths of an eye."""
    points = points_of(comfy, name)
    return (points[:, IRISES].mean(1) - points[:, CORNERS].mean(1)) / np.ptp(points[:, CORNERS[:2], 0], axis=1)[:, None]


def test_eyes_look_where_it_says_and_its_defaults_are_what_happens_without_it(comfy, portrait_name, short_speech):
    aside = {"gaze_yaw": 20.0, "gaze_points": "[[0, 0, 0], [0.35, 0, 15]]"}  # and more and more down
    run = comfy.run(speaking(portrait_name, short_speech, still={}, alone=None, natural=NATURAL, calm={}, aside=aside))
    assert run.status == "success", (run.message, comfy.log.read_text()[-2000:])
    turned = looks(comfy, "aside") - looks(comfy, "still")
    assert np.ptp(looks(comfy, "still"), axis=0).max() < 1e-3
    assert turned[:, 0].min() > 0.05  # to the viewer's right
    assert turned[-1, 1] > turned[0, 1] + 0.02
    assert np.array_equal(points_of(comfy, "natural"), points_of(comfy, "alone"))
    assert not np.array_equal(points_of(comfy, "calm"), points_of(comfy, "alone"))


def test_what_it_cannot_say_is_told(comfy, portrait_name, short_speech):
    run = comfy.run(speaking(portrait_name, short_speech, far={"gaze_points": "[[0, 40, 0]]"}))
    assert run.status == "error" and "yaw from -30 to 30 degrees, not 40" in run.message
    prompt = speaking(portrait_name, short_speech, two={"gaze_points": "[[0, 10, 0]]"})
    values = {name: MOTION[name] for name in ("fps", "mouth_gain", "head_motion", "blink_rate", "seed")}
    values |= {"portrait": ["image", 0], "gaze_and_breath": ["two.gaze", 0], "faces": "", "keep_frames": "never"}
    prompt["several"] = node("SeveralSpeakers", **values, **{"voices.voice0": ["sound", 0]})
    prompt["out"] = {"class_type": "PreviewImage", "inputs": {"images": ["several", 0]}}
    for name in ("two.track", "two.save"):
        del prompt[name]
    run = comfy.run(prompt)
    assert run.status == "error" and "gaze_points move one face" in run.message
