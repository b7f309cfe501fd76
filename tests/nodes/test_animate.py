"""AnimateNet Control inside a real ComfyUI, with tiny networks; test_workflows_video runs it at its true size."""

from __future__ import annotations

import av
import numpy as np
import pytest
import torch
from full_size_files import repeated
from motion_files import motion_tensors
from PIL import Image
from safetensors.torch import save_file
from tiny_sd15 import (
    ADAPTER,
    CHECKPOINT,
    CONTROL,
    SEEN_UP,
    TOKEN_WIDTH,
    UP,
    WIDTHS,
    moving,
    write_tiny_sd15,
)  # fmt: skip

from portraittalk_core.renderers.animatenet.animate_net import AnimateNet
from portraittalk_core.renderers.animatenet.animate_net_files import AnimateSizes

pytestmark = [pytest.mark.comfy, pytest.mark.usefixtures("weights")]
FRAMES, WINDOW, OVERLAP = 7, 4, 1
SHIFT, SIDE = 0.15, 512  # of ShiftLandmarks, in widths; pixels of a hint
FOLLOW = "follow, rate-limited"


@pytest.fixture(scope="module")
def weights(comfy):
    write_tiny_sd15(comfy.base / "models")


@pytest.fixture(scope="module")
def animate_nets(comfy):
    """Tiny AnimateNets where the node looks for them: with random values, and with none."""
    folder = comfy.base / "models" / "portraittalk"
    folder.mkdir(exist_ok=True)
    features = {number: (width, width) for number, width in WIDTHS.items()}
    features |= {str(13 + 2 * i): pair for i, pair in enumerate(zip(UP, SEEN_UP, strict=True))}
    with torch.device("meta"):
        shapes = AnimateNet(AnimateSizes(WIDTHS, TOKEN_WIDTH, features=features)).state_dict()
    trained = repeated(shapes)
    save_file({n: 4 * t if ".to_v_" in n else t for n, t in trained.items()}, folder / "trained.safetensors")
    save_file({n: 0 * t if ".to_v_" in n else t for n, t in trained.items()}, folder / "untrained.safetensors")
    save_file({n: t for n, t in trained.items() if not n.startswith("features.")}, folder / "plain.safetensors")
    looking = {n: t for n, t in trained.items() if not n.startswith("features.")}
    looking |= {"previous_proj.weight": torch.full((32, 4, 3, 3), 0.2), "previous_proj.bias": torch.zeros(32)}
    save_file(looking, folder / "looking.safetensors")
    wide = {n: t.new_zeros(t.shape[0], 2048) if ".to_k_lm" in n else t for n, t in trained.items()}
    save_file(wide, folder / "sdxl.safetensors")
    other = {n: t for n, t in motion_tensors("v3").items() if "blocks.3" not in n}
    save_file(other, comfy.base / "models" / "animatediff_models" / "sdxl_motion.safetensors")
    yield
    for path in folder.glob("*.safetensors"):
        path.unlink()


@pytest.fixture(scope="module")
def graph(portrait_name, short_speech):
    """Makes the full graph: speech, portrait, face, text, landmarks, ControlNet, motion module → sampler."""

    def build(shift_from: int | None = None, **changes) -> dict:
        control = {"motion_module": "none", "strength": 1.0, "start_percent": 0.0, "end_percent": 1.0}
        control |= {"mouth_weight": 1.5, "motion_strength": 1.0, "mode": "chunked", "window": WINDOW}
        control |= {"overlap": OVERLAP, "style": "landmarks", **changes}
        sampler = {
            "seed": 3,
            "steps": 1,
            "cfg": 2.0,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": 0.9,
        }
        sampler |= {"identity_strength": 1.0, "width": 64, "height": 64, "keep_frames": "always"}
        wires = {"model": ["1", 0], "vae": ["1", 2], "positive": ["2", 0], "control": ["16", 0]}
        wires["negative"] = ["3", 0]
        wires |= {"face_embedding": ["5", 0], "adapter": ["6", 0], "portrait": ["10", 0], "audio": ["12", 0]}
        driving = ["13", 0] if shift_from is not None else ["11", 0]
        return {
            "1": CHECKPOINT,
            "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a person"}},
            "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "blurry"}},
            "4": CONTROL,
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
            "16": moving(["14", 0]),
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
    return np.stack([np.asarray(Image.open(comfy.output(file))) for file in run.outputs["9"]["images"]]).astype(int)


@pytest.fixture(scope="module")
def full_frames(comfy, graph) -> np.ndarray:
    return frames(comfy, graph())


def test_later_landmarks_change_later_frames_only(comfy, graph, full_frames):
    """Chunks begin at 0 and 3: a change from frame 5 on cannot reach those of the first one."""
    assert full_frames.std() > 5
    other = frames(comfy, graph(shift_from=5))
    assert np.array_equal(other[:3], full_frames[:3])
    assert np.abs(other[5:] - full_frames[5:]).mean() > 0.1


def test_motion_module_and_controlnet_each_change_the_frames(comfy, graph, full_frames):
    assert np.abs(frames(comfy, graph(motion_strength=0.0)) - full_frames).mean() > 0.5
    assert np.abs(frames(comfy, graph(strength=0.0)) - full_frames).mean() > 0.1


def test_sliding_windows_make_as_many_frames(comfy, graph):
    prompt = graph(mode="sliding")
    run = comfy.run(prompt)
    assert run.status == "success", run.message
    with av.open(str(comfy.output(run.outputs["8"]["images"][0]))) as file:
        assert sum(1 for _ in file.decode(video=0)) == FRAMES
        assert file.streams.audio


def test_an_animate_nets_tokens_and_its_features_each_change_the_frames(comfy, graph, full_frames, animate_nets):
    """That an untrained one changes nothing is tested in test_bindings, with small networks."""
    with_tokens = frames(comfy, graph(animate_net="trained.safetensors", head_placement=FOLLOW, portrait=["10", 0]))
    assert np.abs(with_tokens - full_frames).mean() > 0.1
    off = {"animate_net": "trained.safetensors", "landmark_tokens": 0, "placement_tokens": 0}
    assert np.abs(frames(comfy, graph(**off, features=1.0)) - full_frames).mean() > 0.1


def test_a_saved_value_of_features_does_nothing_without_a_file_that_has_them(comfy, graph, full_frames, animate_nets):
    off = {"animate_net": "plain.safetensors", "landmark_tokens": 0, "placement_tokens": 0}
    assert np.array_equal(frames(comfy, graph(**off, features=1.0)), full_frames)


def test_the_last_finished_frame_is_looked_at_in_every_chunk(comfy, graph, full_frames, animate_nets):
    """With tokens off, so that nothing but the frame itself is seen; batches of single frames: see test_bindings."""
    seen = frames(comfy, graph(animate_net="looking.safetensors", landmark_tokens=0, placement_tokens=0))
    assert (np.abs(seen - full_frames).mean((1, 2, 3)) > 0.1).all()


def small_graph(portrait_name: str, first: int = 99, **changes) -> dict:
    """Four frames of a picture, elsewhere from one frame on, drawn."""
    control = {"motion_module": "none", "strength": 1.0, "start_percent": 0.0, "end_percent": 1.0, "overlap": 4}
    control |= {"mouth_weight": 1.5, "motion_strength": 1.0, "mode": "chunked", **changes}
    landmarks = {"frames": ["6", 0], "fps": 25.0, "face_index": 0, "on_missing": "hold"}
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": portrait_name}},
        "6": {"class_type": "RepeatImageBatch", "inputs": {"image": ["1", 0], "amount": 4}},
        "2": {"class_type": "PortraitTalkLandmarksFromVideo", "inputs": landmarks},
        "4": {"class_type": "ShiftLandmarks", "inputs": {"landmarks": ["2", 0], "first": first}},
        "3": {"class_type": "PortraitTalkAnimateNetControl", "inputs": {"landmarks": ["4", 0], **control}},
        "5": {"class_type": "ImageScale", "inputs": {"image": ["1", 0], "upscale_method": "bilinear", "width": 512,
                                                     "height": 384, "crop": "disabled"}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["3", 1], "filename_prefix": "hints"}},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({}, [0, SHIFT, 0]),
        ({"head_placement": FOLLOW}, [0, 0.02, 0.02]),
        ({"head_placement": FOLLOW, "portrait": ["1", 0], "first": 0}, [0.02, 0.02, 0.02]),
    ],
)
def test_a_head_that_follows_never_jumps(comfy, portrait_name, changes, steps):
    """The face is elsewhere from the third frame on, or from the first, while the portrait's stays where it was."""
    run = comfy.run(small_graph(portrait_name, **{"first": 2, **changes}))
    assert run.status == "success", run.message
    pictures = [np.asarray(Image.open(comfy.output(file)))[..., :3].max(2) for file in run.outputs["9"]["images"]]
    middles = [np.flatnonzero(picture.max(0) > 40)[[0, -1]].mean() / SIDE for picture in pictures]
    np.testing.assert_allclose(np.diff(middles), steps, atol=2 / SIDE)


ALONE = "an AnimateNet works inside a ControlNet; connect control_net, or set animate_net to none"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"overlap": 16}, "an overlap of 16 does not fit windows of 16"),
        ({"start_percent": 0.6, "end_percent": 0.4}, "end_percent 0.4 is not behind start_percent 0.6"),
        ({"motion_module": "absent.ckpt"}, "the motion module absent.ckpt is not in models/animatediff_models"),
        ({"motion_module": "sdxl_motion.safetensors"}, "sdxl_motion.safetensors is a motion module for SDXL"),
        ({"animate_net": "absent.safetensors"}, "the AnimateNet absent.safetensors is not in models/portraittalk"),
        ({"animate_net": "trained.safetensors"}, ALONE),
        ({"animate_net": "sdxl.safetensors"}, "sdxl.safetensors is for SDXL (its tokens are 2048 wide)"),
        ({"head_placement": FOLLOW, "portrait": ["5", 0]}, "made on a picture of 512×512, this one is 512×384"),
    ],
)  # fmt: skip
def test_bad_input_is_told(comfy, portrait_name, animate_nets, changes, words):
    run = comfy.run(small_graph(portrait_name, **changes))
    assert run.status == "error" and words in run.message, run.message


def test_the_list_shows_animate_nets_only(comfy, animate_nets):
    listed = comfy.get_json("/object_info/PortraitTalkAnimateNetControl")["PortraitTalkAnimateNetControl"]
    kind, options = listed["input"]["optional"]["animate_net"]
    names = options["options"] if kind == "COMBO" else kind
    file_names = {f"{name}.safetensors" for name in ("trained", "untrained", "plain", "looking", "sdxl")}
    assert set(names) == {"none", *file_names}
