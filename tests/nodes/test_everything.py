"""The workflow `everything` in a real ComfyUI, with random weights of small networks: it runs, and its parts count."""

from __future__ import annotations

import av
import numpy as np
import pytest
import torch
from onnx_models import paint_disc, write_face_models
from PIL import Image
from safetensors.torch import save_file
from tiny_sd15 import ADAPTER, CHECKPOINT, CONTROL, TOKEN_WIDTH, moving, write_tiny_sd15

pytestmark = pytest.mark.comfy
LORA = "tiny_lora.safetensors"
SITE = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"


def nodes_of(prompt: dict, kind: str) -> list[str]:
    return [number for number, node in prompt.items() if node["class_type"] == kind]


@pytest.fixture
def prompt(comfy_with_onnxruntime, workflow_prompt, small_portrait_name, short_speech, tmp_path) -> dict:
    """The shipped graph with small networks in the place of SD1.5's files, and a score of what shows a face."""
    comfy = comfy_with_onnxruntime
    models = comfy.base / "models"
    write_tiny_sd15(models)
    write_face_models(models / "insightface")
    (models / "loras").mkdir(exist_ok=True)
    draw = torch.Generator().manual_seed(0)
    parts = {"lora_down": (4, TOKEN_WIDTH), "lora_up": (32, 4)}
    tensors = {f"{SITE}.{name}.weight": torch.randn(shape, generator=draw) for name, shape in parts.items()}
    save_file(tensors, models / "loras" / LORA)
    prompt = workflow_prompt("everything")
    (checkpoint,), (net,) = nodes_of(prompt, "CheckpointLoaderSimple"), nodes_of(prompt, "ControlNetLoader")
    prompt[checkpoint], prompt[net] = dict(CHECKPOINT), dict(CONTROL)
    (lora,) = nodes_of(prompt, "LoraLoader")  # the small text encoder knows no LoRA
    prompt[lora] = {
        "class_type": "LoraLoaderModelOnly",
        "inputs": {"model": [checkpoint, 0], "lora_name": LORA, "strength_model": 1.0},
    }
    for number in nodes_of(prompt, "CLIPTextEncode"):
        prompt[number]["inputs"]["clip"] = [checkpoint, 1]
    places = [(200.0, 240.0, 130.0), (400.0, 200.0, 110.0)]  # the random detector takes a disc for a face
    for number, place in zip(nodes_of(prompt, "PortraitTalkLoadFaceEmbedding"), places, strict=True):
        name = f"disc_{number}.png"
        Image.fromarray(paint_disc(place).numpy()).save(tmp_path / name)
        picture = {"class_type": "LoadImage", "inputs": {"image": comfy.put_input(tmp_path / name)}}
        prompt[f"disc{number}"] = picture
        prompt[number]["inputs"]["images"] = [f"disc{number}", 0]
    for number in nodes_of(prompt, "LoadImage"):
        if not number.startswith("disc"):
            prompt[number]["inputs"]["image"] = small_portrait_name
    ((sound,), (motion,)) = (nodes_of(prompt, kind) for kind in ("LoadAudio", "PortraitTalkAudioToLandmarks"))
    prompt[sound]["inputs"]["audio"], prompt[motion]["inputs"]["fps"] = short_speech, 8.0
    (adapter,), (control,) = (
        nodes_of(prompt, kind) for kind in ("PortraitTalkLoadIdentityAdapter", "PortraitTalkAnimateNetControl")
    )
    prompt[adapter]["inputs"]["adapter"] = ADAPTER
    prompt[control]["inputs"] |= {"style": "landmarks", "motion_module": "none"}
    prompt["moving"] = moving([control, 0])
    (paint,) = nodes_of(prompt, "PortraitTalkIdentityNetSampler")
    prompt[paint]["inputs"] |= {"control": ["moving", 0], "steps": 1, "width": 64, "height": 64}
    (score,), (drawn,) = (nodes_of(prompt, kind) for kind in ("PortraitTalkADFDScore", "PortraitTalkRenderPortrait"))
    prompt[score]["inputs"]["generated"] = [drawn, 1]  # random weights paint no face that could be scored
    prompt["frames"] = {"class_type": "SaveImage", "inputs": {"images": [paint, 0], "filename_prefix": "everything/f"}}
    return prompt


def frames_of(comfy, run) -> np.ndarray:
    pictures = [np.asarray(Image.open(comfy.output(file))) for file in run.outputs["frames"]["images"]]
    return np.stack(pictures).astype(int)


def test_everything_makes_one_video_and_a_score_and_its_parts_have_a_say(comfy, prompt):
    run = comfy.run(prompt)
    assert run.status == "success", (run.message, comfy.log.read_text()[-2000:])
    frames = frames_of(comfy, run)
    assert frames.shape == (4, 64, 64, 3) and frames.std() > 1
    (save,), (score,) = nodes_of(prompt, "SaveVideo"), nodes_of(prompt, "PortraitTalkADFDScore")
    with av.open(str(comfy.output(run.outputs[save]["images"][0]))) as file:
        assert file.streams.audio and sum(1 for _ in file.decode(video=0)) == 4
    assert "ADFD 1.000" in run.outputs[score]["text"][0]  # a video against itself
    (lora,), (style,) = (nodes_of(prompt, kind) for kind in ("LoraLoaderModelOnly", "PortraitTalkStylePrior"))
    face = next(n for n in nodes_of(prompt, "PortraitTalkLoadFaceEmbedding") if "more" in prompt[n]["inputs"])
    changes = {
        "LoRA": (lora, "strength_model", 0.0),
        "second reference": (face, "more", None),
        "style": (style, "preset", "mumbling"),
    }
    for what, (number, name, value) in changes.items():
        inputs = dict(prompt[number]["inputs"])
        inputs.pop(name) if value is None else inputs.update({name: value})
        other = comfy.run(prompt | {number: {**prompt[number], "inputs": inputs}})
        assert other.status == "success", (what, other.message)
        assert (frames_of(comfy, other) != frames).any(), what
