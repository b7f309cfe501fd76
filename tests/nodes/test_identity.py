"""IdentityNet inside a real ComfyUI, with a tiny SD1.5; test_workflows_video runs it at its true size."""

from __future__ import annotations

import numpy as np
import pytest
from full_size_files import give_face_models
from onnx_models import paint_disc
from PIL import Image
from tiny_sd15 import ADAPTER, checkpoint, write_tiny_sd15

pytestmark = [pytest.mark.comfy, pytest.mark.usefixtures("weights")]

SAMPLER = {
    **{"seed": 3, "steps": 2, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 0.6},
    **{"identity_strength": 1.0, "width": 128, "height": 128, "keep_frames": "always"},
}


@pytest.fixture(scope="module")
def weights(comfy):
    write_tiny_sd15(comfy.base / "models")
    give_face_models(comfy.base / "models")


@pytest.fixture(scope="module")
def disc(comfy) -> str:
    path = comfy.base / "disc.png"
    Image.fromarray(paint_disc((200.0, 240.0, 130.0), (400.0, 200.0, 90.0)).numpy()).save(path)
    return comfy.put_input(path)


def painting(name: str = "t", wait_s: float = 0.0, **changes) -> dict:
    """Checkpoint + text + two empty frames + a face → IdentityNet Sampler → Save Image."""
    wires = {"model": ["1", 0], "vae": ["1", 2], "positive": ["2", 0], "negative": ["3", 0], "latent": ["4", 0]}
    wires |= {"face_embedding": ["5", 0], "adapter": ["6", 0]}
    return {
        "1": checkpoint(wait_s),
        "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a person"}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "blurry"}},
        "4": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 2}},
        "5": {"class_type": "GiveFace", "inputs": {"seed": 0}},
        "6": {
            "class_type": "PortraitTalkLoadIdentityAdapter",
            "inputs": {"adapter": ADAPTER, "lora": "of the adapter", "lora_strength": 1.0},
        },
        "7": {
            "class_type": "PortraitTalkIdentityNetSampler",
            "inputs": {**SAMPLER, **wires, "denoise": 1.0, **changes},
        },
        "9": {"class_type": "SaveImage", "inputs": {"images": ["7", 0], "filename_prefix": f"identity/{name}"}},
    }


def without_face(prompt: dict) -> dict:
    for wire in ("face_embedding", "adapter"):
        del prompt["7"]["inputs"][wire]
    return {key: node for key, node in prompt.items() if key not in ("5", "6")}


def frames(comfy, prompt: dict) -> np.ndarray:
    run = comfy.run(prompt)
    assert run.status == "success" and "9" in run.outputs, (run, comfy.log.read_text()[-2000:])
    return np.stack([np.asarray(Image.open(comfy.output(file))) for file in run.outputs["9"]["images"]]).astype(int)


@pytest.fixture(scope="module")
def with_face(comfy) -> np.ndarray:
    return frames(comfy, painting())


@pytest.fixture(scope="module")
def plain(comfy) -> np.ndarray:
    return frames(comfy, without_face(painting()))


def test_same_seed_twice_gives_identical_frames(comfy, with_face):
    again = painting("again", crf=17)  # another output file, so that ComfyUI does not take it from its cache
    assert np.array_equal(frames(comfy, again), with_face)
    assert with_face.shape == (2, 64, 64, 3) and with_face.std() > 5


def test_another_seed_and_another_face_change_them(comfy, with_face):
    assert np.abs(frames(comfy, painting(seed=4)) - with_face).mean() > 2
    other = painting()
    other["5"]["inputs"]["seed"] = 1
    assert np.abs(frames(comfy, other) - with_face).mean() > 0.5


def test_strength_zero_is_bit_equal_to_no_adapter(comfy, with_face, plain):
    assert np.array_equal(frames(comfy, painting(identity_strength=0.0)), plain)
    assert np.abs(with_face - plain).mean() > 0.5


def test_plain_is_what_ksampler_gives(comfy, plain):
    prompt = without_face(painting())
    sampler = prompt.pop("7")["inputs"]
    names = ("model", "positive", "negative", "seed", "steps", "cfg", "sampler_name", "scheduler", "denoise")
    prompt["7k"] = {
        "class_type": "KSampler",
        "inputs": {name: sampler[name] for name in names} | {"latent_image": ["4", 0]},
    }
    prompt["7"] = {"class_type": "VAEDecode", "inputs": {"samples": ["7k", 0], "vae": ["1", 2]}}
    assert np.abs(frames(comfy, prompt) - plain).max() <= 1  # rounded once here, once there


def test_a_mask_is_what_set_latent_noise_mask_does(comfy, plain):
    """A soft mask of another size, one for both frames; a latent's own mask counts where none is connected."""
    mask = {
        "20": {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 40, "height": 48}},
        "21": {
            "class_type": "FeatherMask",
            "inputs": {"mask": ["20", 0], "left": 30, "top": 0, "right": 0, "bottom": 9},
        },
        "22": {"class_type": "SetLatentNoiseMask", "inputs": {"samples": ["4", 0], "mask": ["21", 0]}},
    }
    connected = frames(comfy, without_face(painting(mask=["21", 0])) | mask)
    own = frames(comfy, without_face(painting(latent=["22", 0])) | mask)
    sampler = painting()["7"]["inputs"]
    names = ("model", "positive", "negative", "seed", "steps", "cfg", "sampler_name", "scheduler", "denoise")
    prompt = without_face(painting()) | mask
    prompt["7k"] = {
        "class_type": "KSampler",
        "inputs": {name: sampler[name] for name in names} | {"latent_image": ["22", 0]},
    }
    prompt["7"] = {"class_type": "VAEDecode", "inputs": {"samples": ["7k", 0], "vae": ["1", 2]}}
    expected = frames(comfy, prompt)
    assert np.abs(connected - expected).max() <= 1 and np.array_equal(own, connected)
    assert np.abs(connected - plain).mean() > 1


def test_another_packs_patch_and_ours_both_act(comfy, with_face, plain):
    chained = painting()
    chained["8"] = {"class_type": "PatchAttention", "inputs": {"model": ["1", 0], "amount": 0.5}}
    chained["7"]["inputs"]["model"] = ["8", 0]
    both = frames(comfy, chained)
    patched = frames(comfy, without_face({**chained, "7": {**chained["7"], "inputs": dict(chained["7"]["inputs"])}}))
    assert np.abs(patched - plain).mean() > 0.1
    assert np.abs(both - patched).mean() > 0.5
    assert np.abs(both - with_face).mean() > 0.1


def test_interrupt_stops_within_one_step(comfy):
    run = comfy.run(painting(wait_s=0.5, steps=60, seed=9), interrupt_at=("7", 2))
    assert run.status == "interrupted"
    assert max(value for node, value, _ in run.progress if node == "7") <= 2 * 2  # a step counts two: so many frames
    assert not [name for name in comfy.temp_files() if ".part" in name]


def test_denoise_zero_is_the_warped_portrait(comfy, portrait_name, short_speech):
    prompt = {
        **painting(denoise=0.0, landmarks=["11", 0], portrait=["10", 0], audio=["12", 0], width=512, height=512),
        "10": {"class_type": "LoadImage", "inputs": {"image": portrait_name}},
        "12": {"class_type": "LoadAudio", "inputs": {"audio": short_speech}},
        "11": {
            "class_type": "PortraitTalkAudioToLandmarks",
            "inputs": {"portrait": ["10", 0], "audio": ["12", 0], "fps": 8.0, "mouth_gain": 1.0, "head_motion": 1.0,
                       "blink_rate": 15.0, "seed": 0, "face_index": 0, "silence_gate_db": -45.0, "smoothing": 0.3,
                       "offset_ms": 0.0},
        },
        "13": {
            "class_type": "PortraitTalkRenderPortrait",
            "inputs": {"portrait": ["10", 0], "landmarks": ["11", 0], "keep_frames": "always", "crf": 16},
        },
    }  # fmt: skip
    del prompt["7"]["inputs"]["latent"]
    prompt = without_face(prompt)
    untouched = frames(comfy, prompt)
    prompt["9"]["inputs"]["images"] = ["13", 0]
    assert np.array_equal(untouched, frames(comfy, prompt))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 130, "height": 128, "landmarks": True}, "must be a multiple of 8, not 130"),
        ({"latent": None}, "connect either landmarks, with the portrait, or a latent; neither is connected"),
        ({"adapter": None}, "belong together; connect adapter too"),
        ({"start_percent": 0.7, "end_percent": 0.7}, "end_percent 0.7 is not behind start_percent 0.7"),
        ({"layer_weights": "six"}, "must look like 6: 0, 13: 1.5, not 'six'"),
        ({"layer_weights": "99: 1"}, "a layer's number must lie between 0 and 15"),
    ],
)
def test_bad_input_is_told_in_the_dialog(comfy, portrait_name, short_speech, changes, words):
    prompt = painting()
    inputs = prompt["7"]["inputs"]
    if changes.pop("landmarks", False):
        del inputs["latent"]
        prompt["10"] = {"class_type": "LoadImage", "inputs": {"image": portrait_name}}
        prompt["11"] = {
            "class_type": "PortraitTalkLandmarksFromVideo",
            "inputs": {"frames": ["10", 0], "fps": 25.0, "face_index": 0, "on_missing": "hold"},
        }
        inputs |= {"landmarks": ["11", 0], "portrait": ["10", 0]}
    for name, value in changes.items():
        if value is None:
            del inputs[name]
        else:
            inputs[name] = value
    run = comfy.run(prompt)
    assert run.status == "error" and words in run.message, run.message


def embedding_prompt(disc: str, **changes) -> dict:
    """Load Image → Load Face Embedding → its crops and mask saved."""
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": disc}},
        "2": {
            "class_type": "PortraitTalkLoadFaceEmbedding",
            "inputs": {"images": ["1", 0], "face_index": 0, **changes},
        },
        "3": {"class_type": "MaskToImage", "inputs": {"mask": ["2", 2]}},
        "8": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "identity/mask"}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["2", 1], "filename_prefix": "identity/face"}},
    }


def test_load_face_embedding_gives_the_face_and_where_it_is(comfy, disc):
    run = comfy.run(embedding_prompt(disc))
    assert run.status == "success", run.message
    crop = np.asarray(Image.open(comfy.output(run.outputs["9"]["images"][0])))
    mask = np.asarray(Image.open(comfy.output(run.outputs["8"]["images"][0])))[..., 0]
    assert crop.shape == (256, 256, 3) and crop[128, 128].mean() > 60
    assert mask.shape == (480, 640) and mask[240, 200] > 200 and mask[20, 600] == 0


def test_load_face_embedding_takes_more_pictures_of_other_sizes(comfy, disc):
    prompt = embedding_prompt(
        disc, **{"pictures.picture0": ["5", 0], "pictures.picture2": ["6", 0]}, weights="1, 0.5, 2"
    )
    small = {"image": ["1", 0], "upscale_method": "area", "crop": "disabled"}
    prompt["5"] = {"class_type": "ImageScale", "inputs": {**small, "width": 512, "height": 384}}
    prompt["6"] = {"class_type": "ImageScale", "inputs": {**small, "width": 400, "height": 300}}
    run = comfy.run(prompt)
    assert run.status == "success", run.message
    crops, masks = (run.outputs[node]["images"] for node in "98")
    assert len(crops) == len(masks) == 3
    masks = [np.asarray(Image.open(comfy.output(mask)))[..., 0] for mask in masks]
    assert all(mask.shape == (480, 640) and mask[240, 200] > 200 and mask[20, 600] == 0 for mask in masks)


def test_faces_blend_and_join(comfy, disc):
    prompt = painting()
    prompt |= {key: node for key, node in embedding_prompt(disc, more=["5", 0]).items() if key == "2"}
    prompt["20"] = {"class_type": "LoadImage", "inputs": {"image": disc}}
    prompt["2"]["inputs"]["images"] = ["20", 0]
    prompt["21"] = prompt.pop("2")
    prompt["2"] = painting()["2"]
    prompt["22"] = {
        "class_type": "PortraitTalkBlendFaces",
        "inputs": {"face_a": ["21", 0], "face_b": ["5", 0], "amount": 0.3},
    }
    prompt["7"]["inputs"]["face_embedding"] = ["22", 0]
    assert frames(comfy, prompt).std() > 5


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"face_index": 5}, "only 2 faces, not a number 5"), ({"weights": "1, 2"}, "2 numbers for 1 pictures")],
)
def test_load_face_embedding_tells_bad_input(comfy, disc, changes, words):
    run = comfy.run(embedding_prompt(disc, **changes))
    assert run.status == "error" and words in run.message, run.message


def test_missing_face_models_are_told_with_their_place(comfy, disc):
    with comfy.without("insightface"):
        run = comfy.run(embedding_prompt(disc, face_index=1))
    assert run.status == "error"
    for words in ("models/insightface/models/buffalo_l", "det_10g.onnx", "w600k_r50.onnx", "github.com/deepinsight"):
        assert words in run.message.replace("\\", "/"), run.message
