"""The workflow `edit_by_text` in a real ComfyUI, with random weights of small networks: each paints its own part."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx_models import paint_disc, write_face_models
from PIL import Image
from tiny_sd15 import ADAPTER, CHECKPOINT, CONTROL, write_tiny_sd15

from portraittalk_core.renderers.identitynet.edit import kept_weights

pytestmark = pytest.mark.comfy
SIDE, EDITS = 64, ("style", "age", "expression", "background")
SAMPLER = "PortraitTalkIdentityNetSampler"


def numbers_of(prompt: dict, kind: str) -> list[str]:
    return [number for number, node in prompt.items() if node["class_type"] == kind]


@pytest.fixture
def prompt(comfy_with_onnxruntime, workflow_prompt, portrait_name, tmp_path) -> dict:
    """The shipped graph with small networks in the place of SD1.5's files."""
    comfy = comfy_with_onnxruntime
    models = comfy.base / "models"
    write_tiny_sd15(models)
    write_face_models(models / "insightface")
    Image.fromarray(paint_disc((200.0, 240.0, 130.0), (400.0, 200.0, 90.0)).numpy()).save(tmp_path / "face.png")
    prompt = workflow_prompt("edit_by_text")
    changes = {"PortraitTalkAnimateNetControl": {"style": "landmarks"}, SAMPLER: {"steps": 1}}
    changes[SAMPLER] |= {"width": SIDE, "height": SIDE}
    changes |= {"LoadImage": {"image": portrait_name}, "PortraitTalkLoadIdentityAdapter": {"adapter": ADAPTER}}
    changes["PortraitTalkLoadFaceEmbedding"] = {"images": ["face", 0]}  # the random detector takes a disc for a face
    for number, node in prompt.items():
        node["inputs"] |= changes.get(node["class_type"], {})
        tiny = {"CheckpointLoaderSimple": CHECKPOINT, "ControlNetLoader": CONTROL}.get(node["class_type"])
        prompt[number] = node if tiny is None else dict(tiny)
    prompt["face"] = {"class_type": "LoadImage", "inputs": {"image": comfy.put_input(tmp_path / "face.png")}}
    return prompt


def pictures(comfy, prompt: dict) -> dict[str, np.ndarray]:
    """The saved picture of each edit."""
    run = comfy.run(prompt)
    assert run.status == "success", (run.message, comfy.log.read_text()[-2000:])
    saves = {prompt[number]["inputs"]["filename_prefix"]: number for number in numbers_of(prompt, "SaveImage")}
    files = {prefix.split("_")[-1]: run.outputs[number]["images"][0] for prefix, number in saves.items()}
    return {name: np.asarray(Image.open(comfy.output(file))).astype(int) for name, file in files.items()}


def drafts_of(prompt: dict, *names: str) -> dict:
    """The part of the graph that makes some edits' pictures, before anything is painted."""
    saves = [
        n for n in numbers_of(prompt, "SaveImage") if prompt[n]["inputs"]["filename_prefix"].split("_")[-1] in names
    ]
    samplers = {prompt[number]["inputs"]["images"][0] for number in saves}
    ends = {*numbers_of(prompt, "SaveImage"), *numbers_of(prompt, "MaskPreview")} - set(saves)
    return {
        number: {**node, "inputs": {**node["inputs"], "denoise": 0.0}} if number in samplers else node
        for number, node in prompt.items()
        if number not in ends
    }


def test_each_edit_paints_its_part_of_the_portrait_and_leaves_the_rest(comfy, prompt):
    painted, drafts = pictures(comfy, prompt), pictures(comfy, drafts_of(prompt, "expression", "background"))
    assert set(painted) == set(EDITS) and set(drafts) == {"expression", "background"}
    still, smiling = drafts["background"], drafts["expression"]
    changed = {name: (painted[name] != still).any(2) for name in EDITS}
    from skimage.data import astronaut

    person = kept_weights(torch.from_numpy(astronaut())[None] / 255, "background")[0, 0].numpy()
    blocks = person.reshape(SIDE, 8, SIDE, 8)
    inside, outside = blocks.min((1, 3)) > 0.999, blocks.max((1, 3)) < 0.001
    assert inside.sum() > 500 and outside.sum() > 500
    assert changed["style"].mean() > 0.9
    for name, stays, goes in (("age", outside, inside), ("background", inside, outside)):
        assert not changed[name][stays].any() and changed[name][goes].mean() > 0.9, name
    assert (smiling != still).any() and (painted["expression"] != smiling).any(2)[inside].mean() > 0.9
    assert not (painted["expression"] != smiling).any(2)[outside].any()
