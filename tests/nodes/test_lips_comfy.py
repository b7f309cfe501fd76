"""The nodes of lip renderers and their workflows in a real ComfyUI, with tiny random weights in the files' layouts."""

from __future__ import annotations

import shutil
from itertools import islice

import av
import numpy as np
import pytest
import torch
from comfy_place import ROOT
from PIL import Image
from tiny_sd15 import ADAPTER, CHECKPOINT, CONTROL, write_tiny_sd15

from portraittalk_core.media.video_read import probe_video, read_pictures
from portraittalk_core.media.video_write import VideoWriter
from portraittalk_core.renderers.lip.random_files import write_random_lip_files

pytestmark = pytest.mark.comfy

FILM_FRAMES = 6
SILENT = {"voice_gate": 0.0}  # half a second of speech holds little voice
DUB = {"mouth_gain": 1.0, "sharpen": 1.0, "match_colour": 1.0, "blend": "lower", "feather": 0.08}
DUB |= {"keep_frames": "always"} | SILENT


@pytest.fixture(scope="module")
def weights(comfy):
    """A file of each family that can be made here."""
    models = comfy.base / "models"
    write_random_lip_files(models / "portraittalk" / "lip_tiny", "lips")
    write_random_lip_files(models / "iplap", "iplap", form="torch")
    yield
    shutil.rmtree(models / "portraittalk" / "lip_tiny")
    shutil.rmtree(models / "iplap")


@pytest.fixture(scope="module")
def film(comfy) -> str:
    """The first frames of the sample film; its name in ComfyUI's input folder."""
    path, source = comfy.base / "input" / "lip_film.mp4", ROOT / "samples" / "film.mp4"
    probe = probe_video(source)
    with VideoWriter(path, probe.width, probe.height, probe.fps) as writer:
        for picture in islice(read_pictures(source, probe.fps), FILM_FRAMES):
            writer.write(picture)
    return path.name


@pytest.fixture
def graph(film, short_speech):
    """A prompt: a film is dubbed; changes go to Dub Lips."""

    def make(renderer: str = "iplap", **changes) -> dict:
        wires = {"film": ["1", 0], "audio": ["2", 0], "lip_renderer": ["3", 0]}
        return {
            "1": {"class_type": "LoadVideo", "inputs": {"file": film}},
            "2": {"class_type": "LoadAudio", "inputs": {"audio": short_speech}},
            "3": node("LoadLipRenderer", renderer=renderer, precision="fp32"),
            "6": node("DubLips", **(wires | DUB | changes)),
            "7": {"class_type": "SaveImage", "inputs": {"images": ["6", 1], "filename_prefix": "lip"}},
        }  # fmt: skip

    return make


def masks_of(number: str) -> dict:
    """Nodes that save the masks of Dub Lips, as node 93."""
    return {
        "92": {"class_type": "MaskToImage", "inputs": {"mask": [number, 3]}},
        "93": {"class_type": "SaveImage", "inputs": {"images": ["92", 0], "filename_prefix": "lip_mask"}},
    }


def node(kind: str, **inputs) -> dict:
    return {"class_type": f"PortraitTalk{kind}", "inputs": inputs}


def done(comfy, prompt: dict):
    run = comfy.run(prompt)
    assert run.status == "success", (run.message, comfy.log.read_text()[-3000:])
    return run


def pictures(comfy, run, number: str) -> np.ndarray:
    return np.stack([np.asarray(Image.open(comfy.output(file))) for file in run.outputs[number]["images"]]).astype(int)


def video_of(comfy, run, number: str) -> tuple[int, bool]:
    """Number of frames of the video that a node saved, and whether there is sound."""
    (file,) = run.outputs[number]["images"]
    with av.open(str(comfy.output(file))) as video:
        return sum(1 for _ in video.decode(video=0)), bool(video.streams.audio)


def shipped(prompt: dict, film: str, speech: str, **changes) -> tuple[dict, dict[str, str]]:
    """A shipped workflow with the test's film, speech and files, and its nodes' numbers by their kind."""
    by_kind = {item["class_type"].removeprefix("PortraitTalk"): number for number, item in prompt.items()}
    prompt[by_kind["LoadVideo"]]["inputs"]["file"] = film
    if "LoadAudio" in by_kind:
        prompt[by_kind["LoadAudio"]]["inputs"]["audio"] = speech
    prompt[by_kind["DubLips"]]["inputs"] |= SILENT | changes
    return prompt, by_kind


def test_dub_lips_workflow_makes_a_video_without_downloads(comfy, workflow_prompt, film, short_speech):
    prompt, by_kind = shipped(workflow_prompt("dub_lips"), film, short_speech)
    run = done(comfy, prompt)
    assert video_of(comfy, run, by_kind["SaveVideo"]) == (FILM_FRAMES, True) and run.previews > 0
    (sheet,) = run.outputs[by_kind["SelectReferences"]]["images"]
    assert np.asarray(Image.open(comfy.output(sheet))).std() > 20
    steps = [(value, total) for number, value, total in run.progress if number == by_kind["DubLips"]]
    assert steps[-1][0] == steps[-1][1] >= FILM_FRAMES


def test_the_same_inputs_give_the_same_frames_and_only_the_mouth_is_new(comfy, weights, graph):
    run = done(comfy, graph("lips") | masks_of("6"))
    first, mask = pictures(comfy, run, "7"), pictures(comfy, run, "93")
    again = pictures(comfy, done(comfy, graph("lips", crf=17)), "7")
    assert len(first) == len(mask) == FILM_FRAMES and np.array_equal(first, again)
    source = comfy.base / "input" / "lip_film.mp4"
    film = np.stack([picture.numpy() for picture in read_pictures(source, probe_video(source).fps)]).astype(int)
    assert np.array_equal(first[mask == 0], film[mask == 0])
    assert np.abs(first - film)[mask > 230].mean() > 2 and 0.005 < (mask > 0).mean() < 0.2


def test_interrupt_stops_within_a_frame_and_the_same_job_goes_on(comfy, weights, graph):
    slow = {"batch_size": 1, "film_end": "ping-pong"}
    files_before, whole = comfy.temp_files(), pictures(comfy, done(comfy, graph(**slow, resume=False)), "7")
    assert len(whole) == 13  # half a second, and the end of a frame
    stopped = comfy.run(graph(**slow), interrupt_at=("6", 100))  # hundredths of a frame
    assert stopped.status == "interrupted" and stopped.after_interrupt_s < 5
    assert len(set(comfy.temp_files()) - set(files_before)) <= 1  # the whole one's
    resumed = done(comfy, graph(**slow))
    assert "sections were finished already" in resumed.outputs["6"]["text"][0]
    assert np.array_equal(pictures(comfy, resumed, "7"), whole)


BAD = {
    "no file": ({"renderer": "musetalk"}, "there is no file of the lip renderer musetalk in models/musetalk"),
    "another family": ({"file": "renderer_checkpoint.pth", "renderer": "lips"}, "is IP-LAP's renderer_checkpoint.pth"),
    "outside": ({"file": "../input/lip_film.mp4"}, "is not in models/iplap"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_told(comfy, weights, graph, case):
    changes, words = BAD[case]
    prompt = graph()
    prompt["3"]["inputs"] |= changes
    del prompt["1"], prompt["2"], prompt["6"], prompt["7"]
    prompt["4"] = {"class_type": "PreviewAny", "inputs": {"source": ["3", 1]}}
    run = comfy.run(prompt)
    assert run.status == "error" and words in run.message, run.message


def test_references_of_another_film_are_told(comfy, weights, graph, portrait_name):
    prompt = graph(references=["5", 0])
    prompt["4"] = {"class_type": "LoadImage", "inputs": {"image": portrait_name}}
    prompt["5"] = node("SelectReferences", film=["4", 0], num_references=1, num_lip_references=1, indices="0",
                       face_index=0)  # fmt: skip
    run = comfy.run(prompt)
    assert run.status == "error" and "the references are of a film of 1 frames of 512×512" in run.message


def test_fix_lips_workflow_takes_the_clip_s_own_sound(comfy, workflow_prompt, short_speech):
    source, clip = comfy.base / "input" / "portraittalk_generated.mp4", comfy.base / "input" / "lip_clip.mp4"
    fps = probe_video(source).fps
    with av.open(str(source)) as file:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in islice(file.decode(audio=0), 30)])
        rate = file.streams.audio[0].rate
    with VideoWriter(clip, 512, 512, fps, sound=(torch.from_numpy(sound)[None], rate)) as writer:
        for picture in islice(read_pictures(source, fps), FILM_FRAMES):
            writer.write(picture)
    prompt, by_kind = shipped(workflow_prompt("fix_lips_of_a_generated_clip"), clip.name, short_speech)
    assert video_of(comfy, done(comfy, prompt), by_kind["SaveVideo"]) == (FILM_FRAMES, True)


@pytest.mark.usefixtures("weights")
def test_dub_then_repaint_keeps_all_but_the_mouth(comfy, workflow_prompt, film, short_speech):
    write_tiny_sd15(comfy.base / "models")
    prompt, by_kind = shipped(workflow_prompt("dub_then_repaint"), film, short_speech)
    changes = {"CropFace": {"size": 64}, "LoadIdentityAdapter": {"adapter": ADAPTER}}
    changes |= {"AnimateNetControl": {"style": "landmarks", "motion_module": "none"}}
    changes |= {"IdentityNetSampler": {"steps": 1, "cfg": 1.0}}
    for kind, values in changes.items():
        prompt[by_kind[kind]]["inputs"] |= values
    face = {"class_type": "GiveFace", "inputs": {"seed": 0}}  # random weights see none
    given = {"LoadFaceEmbedding": face, "CheckpointLoaderSimple": CHECKPOINT, "ControlNetLoader": CONTROL}
    prompt |= {by_kind[kind]: replacement for kind, replacement in given.items()}
    dub, mouth = by_kind["DubLips"], by_kind["ImageCompositeMasked"]
    prompt |= masks_of(dub)
    for number, images in (("90", [dub, 1]), ("91", [mouth, 0])):
        prompt[number] = {"class_type": "SaveImage", "inputs": {"images": images, "filename_prefix": "lip/made"}}
    run = done(comfy, prompt)
    dubbed, painted, mask = (pictures(comfy, run, number) for number in ("90", "91", "93"))
    assert video_of(comfy, run, by_kind["SaveVideo"]) == (FILM_FRAMES, True)
    assert np.array_equal(dubbed[mask == 0], painted[mask == 0])
    assert np.abs(dubbed - painted)[mask > 230].mean() > 1
