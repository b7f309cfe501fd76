"""AnimateNet Control inside a real ComfyUI, with random weights of the true shapes."""

from __future__ import annotations

import av
import numpy as np
import pytest
from full_size_files import ADAPTER, CHECKPOINT, CONTROL, MOTION
from PIL import Image

pytestmark = [pytest.mark.comfy, pytest.mark.usefixtures("sd15_weights")]
FRAMES, WINDOW, OVERLAP = 10, 4, 1


@pytest.fixture(scope="module")
def graph(portrait_name, short_speech):
    """Makes the full graph: speech, portrait, face, text, landmarks, ControlNet, motion module → sampler."""

    def build(shift_from: int | None = None, **changes) -> dict:
        control = {"motion_module": MOTION, "strength": 1.0, "start_percent": 0.0, "end_percent": 1.0}
        control |= {"mouth_weight": 1.5, "motion_strength": 1.0, "mode": "chunked", "window": WINDOW}
        control |= {"overlap": OVERLAP, "style": "landmarks", **changes}
        sampler = {"seed": 3, "steps": 1, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 0.9}
        sampler |= {"identity_strength": 1.0, "width": 64, "height": 64, "keep_frames": "always"}
        wires = {"model": ["1", 0], "vae": ["1", 2], "positive": ["2", 0], "negative": ["3", 0], "control": ["14", 0]}
        wires |= {"face_embedding": ["5", 0], "adapter": ["6", 0], "portrait": ["10", 0], "audio": ["12", 0]}
        driving = ["13", 0] if shift_from is not None else ["11", 0]
        return {
            "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": CHECKPOINT}},
            "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a person"}},
            "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "blurry"}},
            "4": {"class_type": "ControlNetLoader", "inputs": {"control_net_name": CONTROL}},
            "5": {"class_type": "GiveFace", "inputs": {"seed": 0}},
            "6": {
                "class_type": "PortraitTalkLoadIdentityAdapter",
                "inputs": {"adapter": ADAPTER, "lora": "of the adapter", "lora_strength": 1.0},
            },
            "10": {"class_type": "LoadImage", "inputs": {"image": portrait_name}},
            "12": {"class_type": "LoadAudio", "inputs": {"audio": short_speech}},
            "11": {
                "class_type": "PortraitTalkAudioToLandmarks",
                "inputs": {"portrait": ["10", 0], "audio": ["12", 0], "fps": 2.0 * FRAMES, "mouth_gain": 1.0,
                           "head_motion": 1.0, "blink_rate": 15.0, "seed": 0, "face_index": 0,
                           "silence_gate_db": -45.0, "smoothing": 0.3, "offset_ms": 0.0},
            },
            "13": {"class_type": "ShiftLandmarks", "inputs": {"landmarks": ["11", 0], "first": shift_from or 0}},
            "14": {
                "class_type": "PortraitTalkAnimateNetControl",
                "inputs": {"landmarks": driving, "control_net": ["4", 0], **control},
            },
            "7": {
                "class_type": "PortraitTalkIdentityNetSampler",
                "inputs": {**sampler, **wires, "landmarks": ["11", 0]},
            },
            "8": {"class_type": "SaveVideo", "inputs": {"video": ["7", 1], "filename_prefix": "animate/t",
                                                          "format": "auto", "codec": "auto"}},
            "9": {"class_type": "SaveImage", "inputs": {"images": ["7", 0], "filename_prefix": "animate/t"}},
        }  # fmt: skip

    return build


def frames(comfy, prompt: dict) -> np.ndarray:
    run = comfy.run(prompt)
    assert run.status == "success" and "9" in run.outputs, (run, comfy.log.read_text()[-2000:])
    return np.stack([np.asarray(Image.open(comfy.output(shown))) for shown in run.outputs["9"]["images"]]).astype(int)


@pytest.fixture(scope="module")
def whole(comfy, graph) -> np.ndarray:
    return frames(comfy, graph())


def test_the_full_graph_makes_as_many_frames_as_the_speech_lasts(whole):
    assert whole.shape == (FRAMES, 64, 64, 3)
    assert whole.std() > 5


def test_later_landmarks_change_later_frames_only(comfy, graph, whole):
    """Chunks begin at 0, 3 and 6: a change from frame 8 on cannot reach those of the first two."""
    other = frames(comfy, graph(shift_from=8))
    assert np.array_equal(other[:6], whole[:6])
    assert np.abs(other[8:] - whole[8:]).mean() > 0.1


def test_motion_module_and_controlnet_each_change_the_frames(comfy, graph, whole):
    assert np.abs(frames(comfy, graph(motion_strength=0.0)) - whole).mean() > 0.5
    assert np.abs(frames(comfy, graph(strength=0.0)) - whole).mean() > 0.1


def test_sliding_windows_make_as_many_frames(comfy, graph):
    prompt = graph(mode="sliding")
    run = comfy.run(prompt)
    assert run.status == "success", run.message
    with av.open(str(comfy.output(run.outputs["8"]["images"][0]))) as file:
        assert sum(1 for _ in file.decode(video=0)) == FRAMES
        assert file.streams.audio


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"overlap": 16}, "an overlap of 16 does not fit windows of 16"),
        ({"motion_module": "absent.ckpt"}, "the motion module absent.ckpt is not in models/animatediff_models"),
    ],
)
def test_bad_input_is_told(comfy, portrait_name, changes, words):
    control = {"motion_module": "none", "strength": 1.0, "start_percent": 0.0, "end_percent": 1.0, "overlap": 4}
    control |= {"mouth_weight": 1.5, "motion_strength": 1.0, "mode": "chunked", **changes}
    run = comfy.run(
        {
            "1": {"class_type": "LoadImage", "inputs": {"image": portrait_name}},
            "2": {
                "class_type": "PortraitTalkLandmarksFromVideo",
                "inputs": {"frames": ["1", 0], "fps": 25.0, "face_index": 0, "on_missing": "hold"},
            },
            "3": {"class_type": "PortraitTalkAnimateNetControl", "inputs": {"landmarks": ["2", 0], **control}},
            "9": {"class_type": "SaveImage", "inputs": {"images": ["3", 1], "filename_prefix": "hints"}},
        }
    )
    assert run.status == "error" and words in run.message, run.message
