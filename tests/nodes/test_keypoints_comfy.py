"""The keypoint nodes and their workflows in a real ComfyUI, with tiny random weights in the public files' layouts."""

from __future__ import annotations

import json
import shutil
from itertools import islice

import av
import numpy as np
import pytest
import torch
from comfy_place import ROOT
from PIL import Image
from tiny_hubert import SIZES, write_tiny_hubert
from tiny_joyvasa import write_joyvasa

from portraittalk_core.media.records import load_record, save_record
from portraittalk_core.media.video_read import probe_video, read_pictures
from portraittalk_core.media.video_write import VideoWriter
from portraittalk_core.renderers.implicit.audio2exp.files import save_audio2exp
from portraittalk_core.renderers.implicit.audio2exp.network import Audio2Exp, Audio2ExpSize
from portraittalk_core.renderers.implicit.files import write_random_files
from portraittalk_core.types import KeypointTrack

pytestmark = pytest.mark.comfy

LIVEPORTRAIT, FACEVID2VID = "models/liveportrait", "models/controltalk/tiny"
AUDIO2EXP, HUBERT, JOYVASA = "kp_audio2exp.safetensors", "kp_hubert.bin", "kp_joyvasa/motion_generator.pt"
FPS, FRAMES = 8.0, 4  # half a second of speech
FILM_FRAMES = 8
MOTION = {"fps": FPS, "mouth_gain": 1.0, "head_motion": 2.0, "blink_rate": 15.0, "seed": 0, "face_index": 0}
MOTION |= {"silence_gate_db": -45.0, "smoothing": 0.3, "offset_ms": 0.0}
DRAWN = {"alpha": 1.0, "keep_frames": "always", "paste": "crop", "measure_opening": False}
UNCHANGED = {"mouth_gain": 1.0, "eyes_gain": 1.0, "brows_gain": 1.0, "rest_gain": 1.0, "head_gain": 1.0}
UNCHANGED |= {"pitch_deg": 0.0, "yaw_deg": 0.0, "roll_deg": 0.0, "blink_rate": 0.0, "smoothing": 0.0}
UNCHANGED |= {"smoother": "one-euro", "seed": 0}


@pytest.fixture(scope="module")
def weights(comfy):
    """Networks of both families, an Audio2Exp of LivePortrait's, and its HuBERT."""
    models = comfy.base / "models"
    write_random_files(models / "liveportrait", "liveportrait-21")
    write_random_files(models / "controltalk" / "tiny", "face-vid2vid-15", form="torch")
    (models / "audio_encoders").mkdir(exist_ok=True)
    write_tiny_hubert(models / "audio_encoders" / HUBERT)
    torch.manual_seed(0)
    network = Audio2Exp(Audio2ExpSize("liveportrait-21", SIZES["hidden_size"], widths=(32, 32, 32, 32)))
    torch.nn.init.normal_(network.out_fc.weight, std=0.01)
    save_audio2exp(models / "controltalk" / AUDIO2EXP, network)
    (models / "portraittalk" / "kp_joyvasa").mkdir(parents=True)
    write_joyvasa(models / "portraittalk" / "kp_joyvasa")
    yield
    shutil.rmtree(models / "portraittalk" / "kp_joyvasa")
    for folder in ("liveportrait", "controltalk"):
        shutil.rmtree(models / folder)
    (models / "audio_encoders" / HUBERT).unlink()


def node(kind: str, **inputs) -> dict:
    return {"class_type": f"PortraitTalk{kind}", "inputs": inputs}


def saved(number: str) -> dict:
    inputs = {"video": [number, 1], "filename_prefix": "kp", "format": "auto", "codec": "auto"}
    return {"class_type": "SaveVideo", "inputs": inputs}


@pytest.fixture(scope="module")
def film(comfy) -> tuple[str, tuple[int, int]]:
    """The first frames of the sample film: its name in ComfyUI's input folder, and its size."""
    path, source = comfy.base / "input" / "kp_film.mp4", ROOT / "samples" / "film.mp4"
    probe = probe_video(source)
    with VideoWriter(path, probe.width, probe.height, probe.fps) as writer:
        for picture in islice(read_pictures(source, probe.fps), FILM_FRAMES):
            writer.write(picture)
    return path.name, (probe.width, probe.height)


@pytest.fixture
def graph(small_portrait_name, short_speech):
    """A prompt: a portrait that speaks, drawn by keypoints; changes go to the drawing node."""

    def make(networks: str = LIVEPORTRAIT, **changes) -> dict:
        drawn = {"keypoint_renderer": ["3", 0], "keypoints": ["5", 0], "portrait": ["1", 0], "audio": ["2", 0]}
        return {
            "1": {"class_type": "LoadImage", "inputs": {"image": small_portrait_name}},
            "2": {"class_type": "LoadAudio", "inputs": {"audio": short_speech}},
            "3": node("LoadKeypointRenderer", networks=networks, precision="fp32"),
            "4": node("AudioToLandmarks", portrait=["1", 0], audio=["2", 0], **MOTION),
            "5": node("LandmarksToKeypoints", keypoint_renderer=["3", 0], portrait=["1", 0], landmarks=["4", 0],
                      bridge="warp"),
            "6": node("RenderKeypoints", **(drawn | DRAWN | changes)),
            "7": saved("6"),
            "8": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": "kp"}},
        }  # fmt: skip

    return make


@pytest.fixture
def still(graph):
    """A prompt: a portrait drawn by its own keypoints, one frame; changes go to the drawing node."""

    def make(networks: str = LIVEPORTRAIT, **changes) -> dict:
        prompt = graph(networks, **changes)
        prompt["5"] = node("KeypointsFromVideo", keypoint_renderer=["3", 0], frames=["1", 0], fps=FPS, face_index=0,
                           on_missing="hold")  # fmt: skip
        del prompt["4"]  # which would run by itself where something else is refused
        return prompt

    return make


def done(comfy, prompt: dict):
    run = comfy.run(prompt)
    assert run.status == "success", (run.message, comfy.log.read_text()[-3000:])
    return run


def pictures(comfy, run, number: str = "8") -> np.ndarray:
    files = run.outputs[number]["images"]
    return np.stack([np.asarray(Image.open(comfy.output(file))) for file in files]).astype(int)


def frames_of(comfy, run) -> tuple[int, bool, tuple[int, int]]:
    """Number of frames, whether there is sound, and size of the video that a run saved."""
    (file,) = (shown["images"][0] for shown in run.outputs.values() if shown.get("animated") == [True])
    with av.open(str(comfy.output(file))) as video:
        stream = video.streams.video[0]
        size = (stream.width, stream.height)
        return sum(1 for _ in video.decode(video=0)), bool(video.streams.audio), size


def shipped(workflow_prompt, speech: str, name: str) -> dict:
    """A shipped workflow, with half a second of speech at few frames."""
    prompt = workflow_prompt(name)
    for item in prompt.values():
        if item["class_type"] == "LoadAudio":
            item["inputs"]["audio"] = speech
        if "AudioToLandmarks" in item["class_type"]:
            item["inputs"]["fps"] = FPS
    return prompt


def test_keypoint_portrait_workflow_makes_a_video(comfy, weights, workflow_prompt, short_speech):
    run = done(comfy, shipped(workflow_prompt, short_speech, "keypoint_portrait"))
    with Image.open(ROOT / "samples" / "portrait.jpg") as portrait:
        assert frames_of(comfy, run) == (FRAMES, True, tuple(2 * (side // 2) for side in portrait.size))
    assert run.previews > 0


def test_keypoint_dub_workflow_makes_a_video(comfy, weights, workflow_prompt, short_speech, film):
    prompt = shipped(workflow_prompt, short_speech, "keypoint_dub")
    by_kind = {item["class_type"].removeprefix("PortraitTalk"): number for number, item in prompt.items()}
    prompt[by_kind["LoadVideo"]]["inputs"]["file"] = film[0]
    run = done(comfy, prompt)
    assert frames_of(comfy, run) == (FILM_FRAMES, True, film[1])
    steps = [(value, total) for number, value, total in run.progress if number == by_kind["RenderKeypoints"]]
    assert steps[-1][0] == steps[-1][1] >= FILM_FRAMES


def test_mouth_opening_workflow_plots_asked_against_measured(comfy, weights, workflow_prompt, short_speech):
    prompt = shipped(workflow_prompt, short_speech, "mouth_opening")
    (draw,) = (number for number, item in prompt.items() if item["class_type"] == "PortraitTalkRenderKeypoints")
    prompt[draw]["inputs"]["alpha_points"] = "[[0, 0], [0.2, 0], [0.4, 2]]"
    prompt["90"] = {"class_type": "PreviewAny", "inputs": {"source": [draw, 3]}}
    run = done(comfy, prompt)
    assert frames_of(comfy, run)[:2] == (FRAMES, True)
    (plot,) = run.outputs[draw]["images"]
    assert np.asarray(Image.open(comfy.output(plot))).std() > 10
    report = json.loads(run.outputs["90"]["text"][0])
    assert report["num_frames"] == FRAMES == len(report["asked"]) == len(report["measured"])
    assert report["asked"][:2] == [0, 0] and report["asked"][3] > 0.01  # alpha 0, then 2


def test_keypoints_of_a_film_are_edited_saved_and_read_again(comfy, weights, film):
    prompt = {
        "1": {"class_type": "LoadVideo", "inputs": {"file": film[0]}},
        "3": node("LoadKeypointRenderer", networks=LIVEPORTRAIT, precision="fp32"),
        "4": node("KeypointsFromVideo", keypoint_renderer=["3", 0], video=["1", 0], fps=25.0, face_index=0,
                  on_missing="hold"),
        "5": node("EditKeypoints", keypoints=["4", 0], **(UNCHANGED | {"head_gain": 0.0}), num_frames=6),
        "6": node("SaveKeypoints", keypoints=["4", 0], filename_prefix="kp/film"),
        "7": node("SaveKeypoints", keypoints=["5", 0], filename_prefix="kp/edited"),
        "8": {"class_type": "PreviewImage", "inputs": {"images": ["4", 5]}},
    }  # fmt: skip
    run = done(comfy, prompt)
    filmed, edited = (load_record(KeypointTrack, comfy.base / "output" / run.outputs[number]["text"][0].split(":")[0])
                    for number in ("6", "7"))  # fmt: skip
    assert (len(filmed), len(edited), filmed.layout) == (FILM_FRAMES, 6, "liveportrait-21")
    assert filmed.expression.std(0).max() > 0 and filmed.rotation_deg.std(0).max() > 0
    assert edited.rotation_deg.std(0).max() < 1e-3
    assert torch.allclose(edited.expression[0], filmed.expression[0], atol=1e-3)  # it turns with the head
    assert run.outputs["4"]["images"] and pictures(comfy, run).shape[0] == 1
    name = run.outputs["7"]["text"][0].split(":")[0]
    again = done(comfy, {
        "1": node("LoadKeypoints", file=f"{name} [output]"),
        "2": node("SaveKeypoints", keypoints=["1", 0], filename_prefix="kp/again"),
    })  # fmt: skip
    read = load_record(KeypointTrack, comfy.base / "output" / again.outputs["2"]["text"][0].split(":")[0])
    assert torch.equal(read.expression, edited.expression) and again.outputs["1"]["images"]


def test_audio2exp_speaks_and_sends_its_timeline(comfy, weights, still):
    prompt = still(keypoints=["9", 0])
    prompt["9"] = node(
        "Audio2Exp", keypoints=["5", 0], audio=["2", 0], audio2exp=AUDIO2EXP, encoder=HUBERT, alpha=0.5,
        alpha_points="[[0, 0], [0.3, 0], [0.4, 2]]",
    )  # fmt: skip
    run = done(comfy, prompt)
    (timeline,) = run.outputs["9"]["portraittalk_timeline"]
    assert (timeline["frames"], timeline["fps"]) == (FRAMES, FPS) and timeline["wave"]
    assert timeline["curves"]["gain"] == pytest.approx([0, 0, 0.25, 2], abs=1e-3)
    frames = pictures(comfy, run)
    assert len(frames) == FRAMES
    assert np.abs(frames[1] - frames[0]).max() == 0 < np.abs(frames[3] - frames[0]).mean()  # alpha 0, then 1


def test_an_engine_makes_keypoints_which_our_lips_go_with(comfy, weights, still):
    prompt = still(keypoints=["9", 0])
    prompt["5"] = node("LoadMotionEngine", engine=JOYVASA, encoder="none", joyvasa_steps=5)
    motion = {"fps": FPS, "mouth_gain": 1.0, "head_motion": 1.0, "seed": 0, "face_index": 0}
    prompt["9"] = node("AudioToKeypoints", engine=["5", 0], portrait=["1", 0], audio=["2", 0],
                       keypoint_renderer=["3", 0], **motion)  # fmt: skip
    own = done(comfy, prompt)
    assert own.outputs["9"]["images"] and frames_of(comfy, own)[:2] == (FRAMES, True)
    prompt["6"]["inputs"]["lips"] = "ours"
    assert np.abs(pictures(comfy, done(comfy, prompt)) - pictures(comfy, own)).mean() > 0


def test_both_families_draw_and_the_same_seed_gives_the_same_frames(comfy, weights, graph):
    first = pictures(comfy, done(comfy, graph()))
    again = pictures(comfy, done(comfy, graph(batch_size=1)))
    assert len(first) == FRAMES and np.abs(first[0] - first[-1]).mean() > 0.1
    assert np.abs(first - again).max() <= 1
    other = pictures(comfy, done(comfy, graph(FACEVID2VID)))
    assert len(other) == FRAMES and np.abs(other[0] - other[-1]).mean() > 0


def test_a_prompt_queued_again_comes_from_the_cache(comfy, weights, graph):
    prompt = graph(alpha=0.9)  # of no other test
    first, again = done(comfy, prompt), done(comfy, prompt)
    (last,) = comfy.get_json("/history?max_items=1").values()
    (cached,) = (content["nodes"] for name, content in last["status"]["messages"] if name == "execution_cached")
    assert {"3", "4", "5", "6", "7", "8"} <= set(cached)
    assert any(number == "6" for number, *_ in first.progress)
    assert not again.progress and not again.previews  # nothing is moved, measured or rendered again
    for number in ("7", "8"):  # the same files, not new ones
        assert again.outputs[number] == first.outputs[number]
    later = done(comfy, graph(alpha=0.8))
    assert any(number == "6" for number, *_ in later.progress) and not any(n == "4" for n, *_ in later.progress)


def test_interrupt_stops_within_a_frame_and_leaves_nothing(comfy, weights, graph):
    files_before = comfy.temp_files()
    prompt = graph(batch_size=1)
    prompt["4"]["inputs"] |= {"fps": 60.0, "seed": 5}
    run = comfy.run(prompt, interrupt_at=("6", 150))  # hundredths of a frame
    assert run.status == "interrupted" and run.after_interrupt_s < 5
    assert not set(comfy.temp_files()) - set(files_before)


def other_family(comfy, tmp_path) -> str:
    head, place, seen = torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(2, dtype=torch.bool)
    track = KeypointTrack(torch.zeros(2, 15, 3), head, place, torch.ones(2), seen, 8, "face-vid2vid-15")
    save_record(track, tmp_path / "kp_other.safetensors")
    return comfy.put_input(tmp_path / "kp_other.safetensors")


BAD = {
    "no networks": ({"networks": "models/portraittalk"}, "there are no keypoint networks in models/portraittalk"),
    "outside": ({"networks": "models/liveportrait/../vae"}, "there are no keypoint networks in"),
    "nothing to draw": ({"portrait": None}, "connect a portrait or a film: there is neither"),
    "alpha": ({"alpha_points": "[[0, 3]]"}, "gain point 1 has gain 3"),
    "bridge": ({"networks": FACEVID2VID, "bridge": "lips"}, "the bridge lips needs"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_told(comfy, weights, still, case):
    changes, words = BAD[case]
    prompt = still(**changes)
    if prompt["6"]["inputs"]["portrait"] is None:
        del prompt["6"]["inputs"]["portrait"]
    with comfy.without("portraittalk"):
        run = comfy.run(prompt)
    assert run.status == "error" and words in run.message, run.message


def test_keypoints_of_the_other_family_are_told(comfy, weights, still, tmp_path):
    prompt = still()
    prompt["5"] = node("LoadKeypoints", file=other_family(comfy, tmp_path))
    run = comfy.run(prompt)
    assert run.status == "error" and "layout face-vid2vid-15, but liveportrait-21 is needed" in run.message


def test_lists_show_networks_and_audio2exp(comfy, weights):
    def options(name: str, key: str) -> list[str]:
        info = comfy.get_json(f"/object_info/PortraitTalk{name}")[f"PortraitTalk{name}"]["input"]["required"][key]
        return info[0] if isinstance(info[0], list) else info[1]["options"]

    assert options("LoadKeypointRenderer", "networks") == [LIVEPORTRAIT, FACEVID2VID]
    assert options("Audio2Exp", "audio2exp") == [AUDIO2EXP]
