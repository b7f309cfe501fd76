"""The shipped workflows of whole videos inside a real ComfyUI: two with random weights of the true shapes."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from full_size_files import ADAPTER, CHECKPOINT, CONTROL, MOTION, STYLE
from onnx_models import paint_disc
from PIL import Image
from safetensors.torch import load_file
from six_people import one_of_six
from tiny_sd15 import ADAPTER as TINY_ADAPTER
from tiny_sd15 import CHECKPOINT as TINY_CHECKPOINT
from tiny_sd15 import CONTROL as TINY_CONTROL
from tiny_sd15 import moving, write_tiny_sd15

pytestmark = pytest.mark.comfy
FILES = {"ckpt_name": CHECKPOINT, "lora_name": STYLE, "control_net_name": CONTROL, "motion_module": MOTION}
FILES |= {"adapter": ADAPTER}
VISIBLE_FRAMES, FRAMES, FPS, SIDE = 2, 3, 2, 256


def node_of(prompt: dict, kind: str) -> str:
    (number,) = (number for number, node in prompt.items() if node["class_type"] == kind)
    return number


def with_random_weights(prompt: dict, **changes) -> dict:
    """The prompt with the test's files, one step, and what else is to change (Kind__input=value)."""
    for node in prompt.values():
        for name in node["inputs"].keys() & FILES.keys():
            if not isinstance(node["inputs"][name], list):
                node["inputs"][name] = FILES[name]
    # random weights see no face
    prompt[node_of(prompt, "PortraitTalkLoadFaceEmbedding")] = {"class_type": "GiveFace", "inputs": {"seed": 0}}
    prompt[node_of(prompt, "PortraitTalkIdentityNetSampler")]["inputs"] |= {"steps": 1, "cfg": 1.0}
    for place, value in changes.items():
        kind, name = place.split("__")
        prompt[node_of(prompt, kind)]["inputs"][name] = value
    return prompt


def pictures(comfy, run, node: str) -> np.ndarray:
    return np.stack([np.asarray(Image.open(comfy.output(file))) for file in run.outputs[node]["images"]]).astype(int)


@pytest.fixture(scope="module")
def film_name(comfy, tmp_path_factory) -> str:
    """A woman who drifts through the picture, and then is gone."""
    from skimage.data import astronaut

    path = tmp_path_factory.mktemp("film") / "film.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=FPS, options={"crf": "1"})
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        for number in range(FRAMES):
            x_start = 100 + 4 * number
            crop = np.ascontiguousarray(astronaut()[:SIDE, x_start : x_start + SIDE])
            picture = crop if number < VISIBLE_FRAMES else np.full_like(crop, 90)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        file.mux(stream.encode(None))
    return comfy.put_input(path)


@pytest.fixture
def dubbed(workflow_prompt, film_name):
    """The prompt of a dub that ends with its landmarks, and the number of AudioToLandmarks."""

    def make(sound: str) -> tuple[dict, str]:
        return _dubbed(workflow_prompt("dub_a_video"), film_name, sound)

    return make


def _dubbed(prompt: dict, film_name: str, sound: str) -> tuple[dict, str]:
    prompt[node_of(prompt, "LoadVideo")]["inputs"]["file"] = film_name
    prompt[node_of(prompt, "LoadAudio")]["inputs"]["audio"] = sound
    motion = node_of(prompt, "PortraitTalkAudioToLandmarks")
    kept_kinds = ("LoadVideo", "LoadAudio", "GetVideoComponents", "PortraitTalkLandmarksFromVideo")
    prompt = {number: node for number, node in prompt.items() if node["class_type"] in kept_kinds or number == motion}
    prompt["90"] = {
        "class_type": "PortraitTalkPreviewLandmarks",
        "inputs": {"landmarks": [motion, 0], "max_frames": 64},
    }
    prompt["91"] = {"class_type": "SaveImage", "inputs": {"images": ["90", 0], "filename_prefix": "dub/track"}}
    return prompt, motion


@pytest.mark.parametrize("sound", ["speech_name", "short_speech"])
def test_a_dubbed_track_is_as_long_as_the_video(comfy, dubbed, request, sound):
    """One speech is longer than the video, one shorter."""
    prompt, motion = dubbed(request.getfixturevalue(sound))
    run = comfy.run(prompt)
    assert run.status == "success", run.message
    assert len(run.outputs["91"]["images"]) == FRAMES
    timeline = run.outputs[motion]["portraittalk_timeline"][0]
    assert timeline["fps"] == FPS


@pytest.mark.parametrize(
    ("film_end", "order"),
    [("hold", [0, 1, 2] + 13 * [2]), ("loop", [*(5 * [0, 1, 2]), 0]), ("ping-pong", 4 * [0, 1, 2, 1])],
)
def test_a_film_goes_on_as_long_as_the_speech(comfy, dubbed, speech_name, film_end, order):
    """7.7 s at 2 fps are 16 frames, the film has 3."""
    prompt, motion = dubbed(speech_name)
    frames = [node_of(prompt, "GetVideoComponents"), 0]
    prompt[motion]["inputs"] |= {"film_end": film_end, "film": frames}
    for node, images in (("92", [motion, 4]), ("93", frames)):
        prompt[node] = {"class_type": "SaveImage", "inputs": {"images": images, "filename_prefix": f"dub/{node}"}}
    run = comfy.run(prompt)
    assert run.status == "success", run.message
    assert len(run.outputs["91"]["images"]) == 16
    film = pictures(comfy, run, "93")
    assert (pictures(comfy, run, "92") == film[order]).all()


def test_pictures_of_another_film_are_told_of(comfy, dubbed, short_speech):
    prompt, motion = dubbed(short_speech)
    one = {"image": [node_of(prompt, "GetVideoComponents"), 0], "batch_index": 0, "length": 1}
    prompt["94"] = {"class_type": "ImageFromBatch", "inputs": one}
    prompt[motion]["inputs"]["film"] = ["94", 0]
    run = comfy.run(prompt)
    assert run.status == "error" and "film has 1 pictures, driving_landmarks 3 frames" in run.message
    del prompt[motion]["inputs"]["driving_landmarks"]
    run = comfy.run(prompt)
    assert run.status == "error" and "film goes with driving_landmarks" in run.message


@pytest.mark.parametrize(("scenes", "seen"), [("same", [True] * 4 + [False] * 4), ("all", [True] * 8)])
def test_scenes_of_another_face_are_left_out_where_asked_for(comfy, small_portrait_name, tmp_path, scenes, seen):
    """The second scene shows somebody else, as large."""
    Image.fromarray(one_of_six(1, 256).numpy()).save(tmp_path / "other.png")
    folder = f"scenes_{scenes}"
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": small_portrait_name}},
        "3": {"class_type": "LoadImage", "inputs": {"image": comfy.put_input(tmp_path / "other.png")}},
        "4": {"class_type": "RepeatImageBatch", "inputs": {"image": ["1", 0], "amount": 4}},
        "5": {"class_type": "RepeatImageBatch", "inputs": {"image": ["3", 0], "amount": 4}},
        "6": {"class_type": "ImageBatch", "inputs": {"image1": ["4", 0], "image2": ["5", 0]}},
        "7": {
            "class_type": "PortraitTalkLandmarksFromVideo",
            "inputs": {"frames": ["6", 0], "fps": 25.0, "face_index": 0, "on_missing": "hold", "scenes": scenes},
        },
        "8": {
            "class_type": "PortraitTalkSaveLandmarks",
            "inputs": {"landmarks": ["7", 0], "filename_prefix": f"{folder}/t"},
        },
    }
    run = comfy.run(prompt)
    assert run.status == "success", run.message
    saved = load_file(next((comfy.base / "output" / folder).glob("*.safetensors")))
    assert saved["valid"].bool().tolist() == seen


@pytest.mark.usefixtures("sd15_weights")
def test_identity_portrait_makes_a_video(comfy, workflow_prompt, short_speech, tmp_path):
    Image.fromarray(paint_disc((200.0, 240.0, 130.0), (400.0, 200.0, 90.0)).numpy()).save(tmp_path / "disc.png")
    prompt = workflow_prompt("identity_portrait")
    kinds = {node["class_type"]: node["inputs"] for node in prompt.values()}
    kinds["CheckpointLoaderSimple"]["ckpt_name"] = CHECKPOINT
    kinds["LoraLoader"]["lora_name"] = STYLE
    kinds["PortraitTalkLoadIdentityAdapter"]["adapter"] = ADAPTER
    kinds["LoadAudio"]["audio"] = short_speech
    kinds["PortraitTalkLoadFaceEmbedding"]["images"] = ["disc", 0]  # the random detector takes a disc for a face
    prompt["disc"] = {"class_type": "LoadImage", "inputs": {"image": comfy.put_input(tmp_path / "disc.png")}}
    kinds["PortraitTalkAudioToLandmarks"]["fps"] = 8.0
    kinds["PortraitTalkIdentityNetSampler"].update(steps=1, width=64, height=64)
    run = comfy.run(prompt)
    assert run.status == "success", run.message
    save = next(key for key, node in prompt.items() if node["class_type"] == "SaveVideo")
    with av.open(str(comfy.output(run.outputs[save]["images"][0]))) as file:
        stream = file.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (64, 64, 8)
        assert sum(1 for _ in file.decode(video=0)) == 4
        assert file.streams.audio


@pytest.mark.usefixtures("sd15_weights")
def test_long_speech_makes_a_video_as_long_as_the_speech(comfy, workflow_prompt, small_portrait_name, short_speech):
    """Face, its LoRA, ControlNet and motion module together, positive and negative, in two chunks."""
    prompt = with_random_weights(
        workflow_prompt("long_speech"),
        LoadImage__image=small_portrait_name,
        LoadAudio__audio=short_speech,
        PortraitTalkAudioToLandmarks__fps=10.0,
        PortraitTalkAnimateNetControl__window=4,
        PortraitTalkAnimateNetControl__overlap=1,
        PortraitTalkIdentityNetSampler__width=64,
        PortraitTalkIdentityNetSampler__height=64,
        PortraitTalkIdentityNetSampler__cfg=2.0,
    )
    painted = [node_of(prompt, "PortraitTalkIdentityNetSampler"), 0]
    prompt["90"] = {"class_type": "SaveImage", "inputs": {"images": painted, "filename_prefix": "long/t"}}
    run = comfy.run(prompt)
    assert run.status == "success", (run.message, comfy.log.read_text()[-2000:])
    frames = pictures(comfy, run, "90")
    assert frames.shape == (5, 64, 64, 3) and frames.std() > 5
    with av.open(str(comfy.output(run.outputs[node_of(prompt, "SaveVideo")]["images"][0]))) as file:
        assert file.streams.audio
        assert sum(1 for _ in file.decode(video=0)) == 5


def test_dub_a_video_paints_the_face_and_leaves_the_rest(comfy, workflow_prompt, film_name, short_speech):
    write_tiny_sd15(comfy.base / "models")
    prompt = with_random_weights(
        workflow_prompt("dub_a_video"),
        LoadVideo__file=film_name,
        LoadAudio__audio=short_speech,
        PortraitTalkCropFace__size=64,
        PortraitTalkAnimateNetControl__style="landmarks",
        PortraitTalkAnimateNetControl__motion_module="none",
        PortraitTalkLoadIdentityAdapter__adapter=TINY_ADAPTER,
    )
    prompt[node_of(prompt, "CheckpointLoaderSimple")] = TINY_CHECKPOINT
    prompt[node_of(prompt, "ControlNetLoader")] = TINY_CONTROL
    prompt["89"] = moving([node_of(prompt, "PortraitTalkAnimateNetControl"), 0])
    prompt[node_of(prompt, "PortraitTalkIdentityNetSampler")]["inputs"]["control"] = ["89", 0]
    parts, paste = node_of(prompt, "GetVideoComponents"), node_of(prompt, "PortraitTalkPasteFace")
    prompt["90"] = {"class_type": "SaveImage", "inputs": {"images": [parts, 0], "filename_prefix": "dub/film"}}
    prompt["91"] = {"class_type": "SaveImage", "inputs": {"images": [paste, 0], "filename_prefix": "dub/made"}}
    run = comfy.run(prompt)
    assert run.status == "success", (run.message, comfy.log.read_text()[-2000:])
    film, result = pictures(comfy, run, "90"), pictures(comfy, run, "91")
    assert film.shape == result.shape == (FRAMES, SIDE, SIDE, 3)
    assert np.array_equal(result[VISIBLE_FRAMES:], film[VISIBLE_FRAMES:])  # nobody is there
    changed = np.abs(result[0] - film[0]).mean(2)
    assert changed[130:160, 95:125].mean() > 5  # her mouth and chin
    assert max(changed[-10:].max(), changed[:, -40:].max()) <= 1  # newer ComfyUI decodes to fractions of a level
    with av.open(str(comfy.output(run.outputs[node_of(prompt, "SaveVideo")]["images"][0]))) as file:
        stream = file.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (SIDE, SIDE, Fraction(FPS))
        assert file.streams.audio
        assert sum(1 for _ in file.decode(video=0)) == FRAMES
