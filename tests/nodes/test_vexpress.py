"""V-Express Portrait inside a real ComfyUI, with tiny random weights in the public files' layouts."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import warnings
import wave

import av
import numpy as np
import pytest
import torch
from comfy_place import ROOT, comfy_folder, comfy_python
from PIL import Image
from safetensors.torch import save_file
from sd15_files import _weights, vae_shapes
from style_files import style_attention
from tiny_vexpress import CONTEXT, WIDTHS, write_vexpress, write_wav2vec, write_whisper

from portraittalk_core.style.projection import save_style_attention
from portraittalk_core.types import STYLE_STATISTICS

pytestmark = pytest.mark.comfy

COMPLETE, PARTIAL, ENCODER, WIDE, WHISPER = "tiny", "partial", "vx_wave.safetensors", "vx_wide.bin", "vx_whisper.bin"
STYLED, NARROW = "vx_style.safetensors", "vx_narrow.safetensors"
VAE, SIDE, FRAMES = "vx_vae.safetensors", 64, 8  # two windows of 6 frames
NODE = "PortraitTalkVExpress"
READ = "V-Express's networks are read"
USE = {"seed": 0, "steps": 2, "cfg": 3.5, "reference_weight": 0.95, "audio_weight": 3.0, "window": 6, "overlap": 2}
USE |= {"networks": COMPLETE, "encoder": ENCODER, "width": SIDE, "height": SIDE, "keep_frames": "always"}
MOTION = {"fps": 8.0, "mouth_gain": 1.0, "head_motion": 2.0, "blink_rate": 15.0, "seed": 0, "face_index": 0}
MOTION |= {"silence_gate_db": -45.0, "smoothing": 0.3, "offset_ms": 0.0}


@pytest.fixture(scope="module")
def weights(comfy):
    """Everything that the node needs, and some of what it must refuse."""
    _need_diffusers(comfy_python(comfy_folder()))
    models = comfy.base / "models"
    for folder in ("vexpress", "audio_encoders", "vae"):
        (models / folder).mkdir(exist_ok=True)
    complete = write_vexpress(models / "vexpress" / COMPLETE)
    shutil.copytree(complete, models / "vexpress" / PARTIAL)
    (models / "vexpress" / PARTIAL / "v_kps_guider.bin").unlink()
    files = [models / "audio_encoders" / name for name in (ENCODER, WIDE, WHISPER)]
    write_wav2vec(files[0])
    write_wav2vec(files[1], width=128)
    write_whisper(files[2], width=64)
    draw = torch.Generator().manual_seed(1)
    vae = {name: _weights(name, shape, draw).half() for name, shape in vae_shapes(128)}
    save_file(vae, models / "vae" / VAE)
    folder = models / "portraittalk"
    folder.mkdir(exist_ok=True)
    for name, widths in ((STYLED, WIDTHS), (NARROW, (32, 64, 64, 32))):
        save_style_attention(style_attention(len(STYLE_STATISTICS), CONTEXT, True, widths, "manner"), folder / name)
    yield
    shutil.rmtree(models / "vexpress")
    for path in (*files, models / "vae" / VAE, folder / STYLED, folder / NARROW):
        path.unlink()


def _need_diffusers(python: str) -> None:
    """As a person does whom the node tells that it is missing."""
    if subprocess.run([python, "-c", "import diffusers"], capture_output=True, check=False).returncode:
        command = [python, "-m", "pip", "install", "-q", "diffusers"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = f"V-EXPRESS IN COMFYUI IS NOT TESTED: `{' '.join(command)}` failed: {done.stderr[-300:]}"
            warnings.warn(reason, stacklevel=1)
            pytest.skip(reason)


@pytest.fixture(scope="module")
def eight_frames(comfy) -> str:
    """The sample speech, as long as FRAMES frames at 25 fps."""
    with wave.open(str(ROOT / "samples" / "speech.wav")) as source:
        params, sound = source.getparams(), source.readframes(source.getframerate() * FRAMES // 25)
    path = comfy.base / "eight_frames.wav"
    with wave.open(str(path), "wb") as part:
        part.setparams(params)
        part.writeframes(sound)
    return comfy.put_input(path)


@pytest.fixture(scope="module")
def graph(small_portrait_name, eight_frames, taesd):
    """A prompt with the node and what it is connected to; changes go to the node."""

    def make(vae: str = taesd, **changes) -> dict:
        inputs = {"portrait": ["1", 0], "audio": ["2", 0], "vae": ["3", 0], **USE, **changes}
        return {
            "1": {"class_type": "LoadImage", "inputs": {"image": small_portrait_name}},
            "2": {"class_type": "LoadAudio", "inputs": {"audio": eight_frames}},
            "3": {"class_type": "VAELoader", "inputs": {"vae_name": vae}},
            "4": {"class_type": NODE, "inputs": inputs},
            "5": {"class_type": "SaveVideo", "inputs": {
                "video": ["4", 1], "filename_prefix": "vx", "format": "auto", "codec": "auto",
            }},
            "6": {"class_type": "SaveImage", "inputs": {"images": ["4", 0], "filename_prefix": "vx"}},
        }  # fmt: skip

    return make


def done(comfy, prompt: dict):
    run = comfy.run(prompt)
    assert run.status == "success", (run.message, comfy.log.read_text()[-3000:])
    return run


def pictures(comfy, run) -> np.ndarray:
    return np.stack([np.asarray(Image.open(comfy.output(file))) for file in run.outputs["6"]["images"]]).astype(int)


def times_read(comfy) -> int:
    return comfy.log.read_text().count(READ)


@pytest.fixture(scope="module")
def plain(comfy, weights, graph) -> np.ndarray:
    """Frames of the prompt as it is, decoded by TAESD."""
    return pictures(comfy, done(comfy, graph()))


def test_a_portrait_speaks_to_a_video(comfy, weights, graph, plain):
    run = done(comfy, graph(VAE))
    with av.open(str(comfy.output(run.outputs["5"]["images"][0]))) as file:
        stream = file.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (SIDE, SIDE, 25)
        assert sum(1 for _ in file.decode(video=0)) == FRAMES
        assert file.streams.audio
    frames = pictures(comfy, run)
    assert frames.shape == (FRAMES, SIDE, SIDE, 3) and frames.std() > 1
    steps = [(value, total) for node, value, total in run.progress if node == "4"]
    assert len(steps) > 10 and steps[-1][0] == steps[-1][1] and run.previews > 0
    assert plain.shape == frames.shape and plain.std() > 1  # TAESD decodes too
    assert np.abs(plain - frames).mean() > 1


def test_of_frames_that_are_not_kept_there_is_one(comfy, weights, graph):
    few = done(comfy, graph(keep_frames="never"))
    assert len(few.outputs["6"]["images"]) == 1


def test_the_shipped_workflow_makes_a_video(comfy, weights, workflow_prompt, portrait_name, short_speech):
    prompt = workflow_prompt("v_express_portrait")
    (paint,) = (number for number, node in prompt.items() if node["class_type"] == NODE)
    checkpoint = prompt[paint]["inputs"]["vae"][0]
    prompt[checkpoint] = {"class_type": "VAELoader", "inputs": {"vae_name": VAE}}  # none of the true size is needed
    prompt[paint]["inputs"] |= {"vae": [checkpoint, 0], "networks": COMPLETE, "encoder": ENCODER, "width": SIDE}
    prompt[paint]["inputs"] |= {"height": SIDE, "steps": 1}
    for node in prompt.values():
        if node["class_type"] == "PortraitTalkAudioToLandmarks":
            node["inputs"]["fps"] = 8.0
        if node["class_type"] == "LoadAudio":
            node["inputs"]["audio"] = short_speech
    run = done(comfy, prompt)
    (save,) = (number for number, node in prompt.items() if node["class_type"] == "SaveVideo")
    with av.open(str(comfy.output(run.outputs[save]["images"][0]))) as file:
        assert sum(1 for _ in file.decode(video=0)) == 4  # half a second at 8 fps
        assert file.streams.audio


def test_networks_are_read_once_until_they_are_to_be_freed(comfy, weights, graph):
    done(comfy, graph(seed=10))
    reads_before = times_read(comfy)
    for seed in (11, 12):  # ComfyUI loads again what is loaded already
        done(comfy, graph(seed=seed))
    assert times_read(comfy) == reads_before
    comfy.post("/free", {"unload_models": True})
    for seed in range(13, 43):  # the server frees them when it next looks
        time.sleep(1)
        done(comfy, graph(seed=seed))
        if times_read(comfy) > reads_before:
            break
    assert times_read(comfy) == reads_before + 1


def test_networks_survive_that_comfyui_takes_their_memory(comfy, weights):
    pack = next(path for path in (comfy.base / "custom_nodes").iterdir() if path.is_dir())
    script, comfyui = ROOT / "tests" / "support" / "comfy_vexpress_memory.py", comfy_folder()
    command = [comfy_python(comfyui), script, comfyui, pack, comfy.base / "models" / "vexpress" / COMPLETE]
    ran = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, cwd=comfyui)
    assert ran.returncode == 0, ran.stderr[-3000:]
    results = json.loads(ran.stdout.splitlines()[-1])
    assert results["whole"] > 1e6 and results["again"] and results["another"]
    assert (results["taken"], results["brought"], results["anew"]) == (0, results["whole"], results["whole"])


def test_landmarks_move_the_head_and_set_the_rate(comfy, weights, graph, short_speech):
    prompt = graph(landmarks=["7", 0])
    prompt["2"]["inputs"]["audio"] = short_speech
    moving = {"portrait": ["1", 0], "audio": ["2", 0], **MOTION}
    prompt["7"] = {"class_type": "PortraitTalkAudioToLandmarks", "inputs": moving}
    moved = pictures(comfy, done(comfy, prompt))
    assert len(moved) == 4  # half a second at 8 fps
    prompt["4"]["inputs"]["head"] = "fix_face"
    still = pictures(comfy, done(comfy, prompt))
    assert np.abs(moved - still).mean() > 0.01  # two pixels of the head at this size; the same seed and networks


def test_what_is_chosen_has_its_say(comfy, weights, graph, plain):
    for change in ({"seed": 5}, {"audio_weight": 0.0}, {"reference_weight": 0.0}, {"cfg": 1.0}):
        assert np.abs(pictures(comfy, done(comfy, graph(**change))) - plain).mean() > 0.05, change


def styled(prompt: dict, number: str, preset: str, attention: str, strength: float = 1.0) -> dict:
    """A StylePrior with a style attention, as a node of the prompt."""
    inputs = {"preset": preset, "strength": strength, "noise": 0.0, "seed": 0, "style_attention": attention}
    prompt[number] = {"class_type": "PortraitTalkStylePrior", "inputs": inputs}
    return prompt


def test_a_style_acts_where_it_is_trained_and_on(comfy, weights, graph, plain):
    def painted(preset: str, attention: str = STYLED, strength: float = 1.0) -> np.ndarray:
        return pictures(comfy, done(comfy, styled(graph(style=["7", 0]), "7", preset, attention, strength)))

    lively = painted("lively")
    assert np.array_equal(painted("lively", "none"), plain)  # of the motion alone, and there is none
    assert np.array_equal(painted("lively", strength=0.0), plain)
    assert np.abs(lively - plain).mean() > 1
    assert np.abs(painted("calm") - lively).mean() > 0.05
    turning = styled(styled(graph(style=["9", 0]), "7", "lively", STYLED), "8", "lively", STYLED, 0.0)
    ends = {"style_a": ["8", 0], "style_b": ["7", 0], "share": 0.5, "over_time": "[[0, 0], [0.16, 0], [0.28, 1]]"}
    turning["9"] = {"class_type": "PortraitTalkBlendStyles", "inputs": ends}
    turned = np.abs(pictures(comfy, done(comfy, turning)) - plain).mean((1, 2, 3))
    assert turned[:2].mean() < 0.5 * turned[-2:].mean()  # which lie in one window each: nothing at first, then more


def test_a_style_attention_of_another_width_is_told(comfy, weights, graph):
    run = comfy.run(styled(graph(style=["7", 0]), "7", "calm", NARROW))
    assert run.status == "error" and "32 wide at site" in run.message, run.message


def test_interrupt_stops_at_once_and_leaves_nothing(comfy, weights, graph):
    files_before = comfy.temp_files()
    run = comfy.run(graph(seed=77, steps=100), interrupt_at=("4", 20))
    assert run.status == "interrupted" and run.after_interrupt_s < 10
    assert not set(comfy.temp_files()) - set(files_before)
    done(comfy, graph(seed=78))


BAD = {
    "no weights": (
        {"networks": "models/vexpress"},
        "V-Express's weights are not in models/vexpress; get denoising_unet",
    ),
    "folder gone": ({"networks": "absent"}, "V-Express's weights are not in models/vexpress/absent"),
    "outside": ({"networks": "../vae"}, "V-Express's weights are not in models/vexpress/../vae"),
    "a part missing": ({"networks": PARTIAL}, "get v_kps_guider.bin from huggingface.co/tk93/V-Express"),
    "no encoder": ({"encoder": "none"}, "put facebook/wav2vec2-base-960h into models/audio_encoders"),
    "encoder gone": ({"encoder": "absent.bin"}, "the speech encoder absent.bin is not in models/audio_encoders"),
    "another encoder": ({"encoder": WHISPER}, "V-Express hears by wav2vec 2.0 base, not by whisper"),
    "a wider encoder": ({"encoder": WIDE}, "needs a speech encoder with 64 channels"),
    "too long a window": ({"window": 32, "overlap": 31, "width": 65}, "width"),
    "overlap": ({"window": 4, "overlap": 4}, "an overlap of 4 does not fit windows of 4"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_missing_is_told(comfy, weights, graph, case):
    changes, words = BAD[case]
    run = comfy.run(graph(**changes))
    assert run.status == "error" and words in run.message, run.message


def test_a_picture_without_a_face_is_told(comfy, weights, graph):
    prompt = graph()
    prompt["1"] = {
        "class_type": "EmptyImage", "inputs": {"width": 256, "height": 256, "batch_size": 1, "color": 0x808080},
    }  # fmt: skip
    run = comfy.run(prompt)
    assert run.status == "error" and "no face was found" in run.message


def test_the_list_shows_folders_of_weights(comfy, weights):
    networks_input = comfy.get_json(f"/object_info/{NODE}")[NODE]["input"]["required"]["networks"]
    options = networks_input[0] if isinstance(networks_input[0], list) else networks_input[1]["options"]
    assert options == ["models/vexpress", PARTIAL, COMPLETE]
