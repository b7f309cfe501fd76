"""The pack inside a real ComfyUI server."""

import wave
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from portraittalk_core.media.audio import load_speech

pytestmark = pytest.mark.comfy

ROOT = Path(__file__).parents[2]
MOTION = {
    **{"fps": 25.0, "mouth_gain": 1.0, "head_motion": 1.0, "blink_rate": 15.0, "seed": 0, "face_index": 0},
    **{"silence_gate_db": -45.0, "smoothing": 0.3, "offset_ms": 0.0},
}


def talking(portrait: str, sound: str, **changes) -> dict:
    """LoadImage + LoadAudio → AudioToLandmarks → Save Landmarks."""
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": portrait}},
        "2": {"class_type": "LoadAudio", "inputs": {"audio": sound}},
        "3": {
            "class_type": "PortraitTalkAudioToLandmarks",
            "inputs": {"portrait": ["1", 0], "audio": ["2", 0], **MOTION, **changes},
        },
        "9": {
            "class_type": "PortraitTalkSaveLandmarks",
            "inputs": {"landmarks": ["3", 0], "filename_prefix": "tracks/t"},
        },
    }


def write_wav(path: Path, samples: np.ndarray, rate: int = 16000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


def test_quick_portrait_makes_a_video(comfy, workflow_prompt):
    """As it comes, with the pack's own samples."""
    prompt = workflow_prompt("quick_portrait")
    run = comfy.run(prompt)
    assert run.status == "success", run.message
    save = next(n for n, node in prompt.items() if node["class_type"] == "SaveVideo")
    plot = next(n for n, node in prompt.items() if node["class_type"] == "PortraitTalkPreviewLandmarks")
    video = comfy.output(run.outputs[save]["images"][0])
    with av.open(str(video)) as file:
        frames = sum(1 for _ in file.decode(video=0))
        stream = file.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (512, 512, 25)
        assert file.streams.audio
        sound_s = float(file.streams.audio[0].duration * file.streams.audio[0].time_base)
    with wave.open(str(ROOT / "samples/speech.wav")) as speech:
        seconds = speech.getnframes() / speech.getframerate()
    assert abs(frames / 25 - seconds) <= 1 / 25
    assert abs(sound_s - seconds) <= 2 / 25
    assert run.outputs[plot]["images"]
    assert run.previews > 3  # the page saw it grow
    draw = next(n for n, node in prompt.items() if node["class_type"] == "PortraitTalkRenderPortrait")
    assert max(value for node, value, _ in run.progress if node == draw) == frames
    shown = run.outputs[draw]  # on the node itself: the same video
    assert shown["animated"] == [True] and shown["text"][0].startswith(f"{frames} frames")
    with av.open(str(comfy.output(shown["images"][0]))) as file:
        assert sum(1 for _ in file.decode(video=0)) == frames


def test_score_a_video_of_a_video_and_itself_is_one(comfy, workflow_prompt, small_portrait_name, tmp_path):
    short = write_wav(tmp_path / "short.wav", 0.3 * np.sin(np.arange(24000) * 0.3) * (np.arange(24000) % 4000 > 1500))
    prompt = talking(small_portrait_name, comfy.put_input(short), mouth_gain=1.5) | {
        "4": {
            "class_type": "PortraitTalkRenderPortrait",
            "inputs": {"portrait": ["1", 0], "landmarks": ["3", 0], "keep_frames": "never", "crf": 16},
        },
        "5": {
            "class_type": "SaveVideo",
            "inputs": {"video": ["4", 1], "filename_prefix": "v", "format": "auto", "codec": "auto"},
        },
    }
    result = comfy.run(prompt)
    assert result.status == "success", result.message
    video = comfy.output(result.outputs["5"]["images"][0])
    prompt = workflow_prompt("score_a_video")
    for node in prompt.values():
        if node["class_type"] == "LoadVideo":
            node["inputs"]["file"] = comfy.put_input(video, "itself.mp4")
    run = comfy.run(prompt)
    assert run.status == "success", run.message
    score = next(n for n, node in prompt.items() if node["class_type"] == "PortraitTalkADFDScore")
    assert run.outputs[score]["text"][0].startswith("ADFD 1.000")
    assert "PSNR inf" in run.outputs[score]["text"][0]


def test_frames_tracks_and_files_go_round(comfy, portrait_name, tmp_path):
    spoken = load_speech(ROOT / "samples" / "speech.wav").waveform[8000:24000]
    prompt = talking(portrait_name, comfy.put_input(write_wav(tmp_path / "round.wav", spoken.numpy()))) | {
        "4": {
            "class_type": "PortraitTalkRenderPortrait",
            "inputs": {
                **{"portrait": ["1", 0], "landmarks": ["3", 0], "audio": ["2", 0]},
                **{"keep_frames": "always", "crf": 16},
            },
        },
        "5": {"class_type": "PreviewImage", "inputs": {"images": ["4", 0]}},
        "6": {
            "class_type": "PortraitTalkLandmarksFromVideo",
            "inputs": {"frames": ["4", 0], "fps": 25.0, "face_index": 0, "on_missing": "hold"},
        },
        "7": {
            "class_type": "PortraitTalkADFDScore",
            "inputs": {"generated": ["6", 0], "target": ["3", 0], "fps": 25.0, "face_index": 0},
        },
        "8": {
            "class_type": "PortraitTalkLandmarksFromVideo",
            "inputs": {"video": ["4", 1], "fps": 25.0, "face_index": 0, "on_missing": "error"},
        },
        "10": {"class_type": "PortraitTalkPreviewLandmarks", "inputs": {"landmarks": ["8", 0], "max_frames": 8}},
        "11": {"class_type": "MaskToImage", "inputs": {"mask": ["4", 2]}},
        "12": {"class_type": "PreviewImage", "inputs": {"images": ["11", 0]}},
    }
    run = comfy.run(prompt)
    assert run.status == "success", run.message
    assert len(run.outputs["5"]["images"]) == 25
    masks = [np.asarray(Image.open(comfy.output(image)).convert("L")) for image in run.outputs["12"]["images"]]
    assert len(masks) == 25
    assert all(mask[100:180, 200:240].min() == 255 and mask[:60, :150].max() == 0 for mask in masks)  # face, wall
    assert float(run.outputs["7"]["text"][0].split()[1]) > 0.7  # a second: few steps, each with the tracker's noise
    saved = next((comfy.base / "output" / "tracks").glob("*.safetensors"))
    name = f"tracks/{saved.name} [output]"
    assert (
        name
        in comfy.get_json("/object_info/PortraitTalkLoadLandmarks")["PortraitTalkLoadLandmarks"]["input"]["required"][
            "file"
        ][1]["options"]
    )
    loaded = comfy.run(
        {
            "1": {"class_type": "PortraitTalkLoadLandmarks", "inputs": {"file": name}},
            "2": {"class_type": "PortraitTalkPreviewLandmarks", "inputs": {"landmarks": ["1", 0], "max_frames": 4}},
        }
    )
    assert loaded.status == "success", loaded.message


def test_video_in_memory_is_scored_without_encoding_it(comfy, portrait_name):
    scaled = {"image": ["1", 0], "upscale_method": "area", "width": 256, "height": 256, "crop": "disabled"}
    run = comfy.run(
        {
            "1": {"class_type": "LoadImage", "inputs": {"image": portrait_name}},
            "2": {"class_type": "ImageScale", "inputs": scaled},
            "3": {"class_type": "RepeatImageBatch", "inputs": {"image": ["2", 0], "amount": 3}},
            "4": {"class_type": "CreateVideo", "inputs": {"images": ["3", 0], "fps": 25.0}},
            "5": {
                "class_type": "PortraitTalkADFDScore",
                "inputs": {"generated": ["4", 0], "target": ["3", 0], "fps": 25.0, "face_index": 0},
            },
        }
    )
    assert run.status == "success", run.message
    assert "PSNR inf" in run.outputs["5"]["text"][0]


def test_interrupt_stops_within_a_second_and_leaves_no_file(comfy, portrait_name, tmp_path):
    t = np.arange(16000 * 60)
    sound = write_wav(tmp_path / "long.wav", 0.3 * np.sin(t * 0.1) * (np.sin(t / 3000) > 0))
    prompt = talking(portrait_name, comfy.put_input(sound)) | {
        "4": {
            "class_type": "PortraitTalkRenderPortrait",
            "inputs": {"portrait": ["1", 0], "landmarks": ["3", 0], "keep_frames": "never", "crf": 16},
        },
        "5": {
            "class_type": "SaveVideo",
            "inputs": {"video": ["4", 1], "filename_prefix": "never", "format": "auto", "codec": "auto"},
        },
    }
    files_before = comfy.temp_files()
    run = comfy.run(prompt, interrupt_at=("4", 20))
    assert run.status == "interrupted"
    assert run.after_interrupt_s < 1.0
    assert not set(comfy.temp_files()) - set(files_before)


def test_interrupt_stops_the_tracking_of_a_face(comfy, portrait_name):
    scaled = {"image": ["1", 0], "upscale_method": "area", "width": 256, "height": 256, "crop": "disabled"}
    run = comfy.run(
        {
            "1": {"class_type": "LoadImage", "inputs": {"image": portrait_name}},
            "2": {"class_type": "ImageScale", "inputs": scaled},
            "3": {"class_type": "RepeatImageBatch", "inputs": {"image": ["2", 0], "amount": 400}},
            "4": {
                "class_type": "PortraitTalkLandmarksFromVideo",
                "inputs": {"frames": ["3", 0], "fps": 25.0, "face_index": 0, "on_missing": "hold"},
            },
            "5": {"class_type": "PortraitTalkPreviewLandmarks", "inputs": {"landmarks": ["4", 0], "max_frames": 2}},
        },
        interrupt_at=("4", 3),
    )
    assert run.status == "interrupted"
    assert run.after_interrupt_s < 1.0
    assert max(value for node, value, _ in run.progress if node == "4") < 100


def given_audio(portrait: str, kind: str) -> dict:
    return talking(portrait, "") | {"2": {"class_type": "GiveAudio", "inputs": {"kind": kind}}}


def test_six_channels_at_96_khz_become_a_video_with_stereo(comfy, small_portrait_name):
    render_inputs = {"portrait": ["1", 0], "landmarks": ["3", 0], "audio": ["2", 0], "keep_frames": "never", "crf": 16}
    saved = {"video": ["4", 1], "filename_prefix": "six", "format": "auto", "codec": "auto"}
    run = comfy.run(
        given_audio(small_portrait_name, "six channels")
        | {
            "4": {"class_type": "PortraitTalkRenderPortrait", "inputs": render_inputs},
            "5": {"class_type": "SaveVideo", "inputs": saved},
        }
    )
    assert run.status == "success", run.message
    with av.open(str(comfy.output(run.outputs["5"]["images"][0]))) as file:
        assert file.streams.audio[0].codec_context.layout.name == "stereo"
        assert sum(1 for _ in file.decode(video=0)) == 25
    assert "images holds the first one" in run.outputs["4"]["text"][0]


def test_save_video_keeps_the_mark_of_made_videos(comfy, small_portrait_name):
    drawn = {"portrait": ["1", 0], "landmarks": ["3", 0], "keep_frames": "never", "crf": 16}
    prompt = given_audio(small_portrait_name, "silent")
    for render, save, more in (("4", "5", {}), ("6", "7", {"ai_mark": False})):
        prompt[render] = {"class_type": "PortraitTalkRenderPortrait", "inputs": drawn | more}
        saved = {"video": [render, 1], "filename_prefix": "mark", "format": "auto", "codec": "auto"}
        prompt[save] = {"class_type": "SaveVideo", "inputs": saved}
    run = comfy.run(prompt)
    assert run.status == "success", run.message
    for save, marked in (("5", True), ("7", False)):
        with av.open(str(comfy.output(run.outputs[save]["images"][0]))) as file:
            said = file.metadata.get("comment", "")
        assert ("digitalsourcetype/compositeWithTrainedAlgorithmicMedia" in said) == marked


def test_silence_keeps_the_mouth_still(comfy, small_portrait_name):
    prompt = given_audio(small_portrait_name, "silent")
    prompt["3"]["inputs"] |= {"head_motion": 0.0, "blink_rate": 0.0}
    prompt["9"]["inputs"]["filename_prefix"] = "silence/t"
    run = comfy.run(prompt)
    assert run.status == "success", run.message
    points = load_file(next((comfy.base / "output" / "silence").glob("*.safetensors")))["points"]
    assert float((points - points[:1]).abs().max()) < 1e-4


def test_face_landmarks_of_newer_comfyui_are_followed(comfy, portrait_name):
    prompt = given_audio(portrait_name, "six channels") | {
        "4": {"class_type": "GiveFaceLandmarks", "inputs": {"landmarks": ["3", 0]}},
        "5": {
            "class_type": "PortraitTalkLandmarksFromVideo",
            "inputs": {"face_landmarks": ["4", 0], "fps": 25.0, "face_index": 0, "on_missing": "interpolate"},
        },
        "6": {
            "class_type": "PortraitTalkSaveLandmarks",
            "inputs": {"landmarks": ["5", 0], "filename_prefix": "given/back"},
        },
    }
    prompt["9"]["inputs"]["filename_prefix"] = "given/made"
    run = comfy.run(prompt)
    assert run.status == "success", run.message
    original, back = (load_file(next((comfy.base / "output/given").glob(f"{n}_*"))) for n in ("made", "back"))
    visible = np.arange(25) != 3
    assert back["valid"].tolist() == visible.tolist()
    assert float((original["points"] - back["points"])[visible].abs().max()) < 1e-4
    between = (original["points"][2] + original["points"][4]) / 2
    assert float((back["points"][3] - between).abs().max()) < 1e-4


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no face", "no face was found"),
        ("face_index", "face_index is 9"),
        ("short", "at least 0.1 s"),
        ("empty", "holds no sound"),
        ("nan", "2 values of 96000 that are NaN"),
        ("batch", "batch of 2 clips"),
        ("nothing", "no audio"),
        ("tiny portrait", "each side must be 128 to 4096"),
        ("soundless video", "no sound"),
        ("another shape", "no face was found"),
        ("nothing connected", "nothing to watch"),
        ("damaged track", "not a readable safetensors file"),
        ("missing track", "is not there"),
        ("track and video", "only be compared with another track"),
    ],
)
def test_bad_input_tells_the_user(comfy, portrait_name, speech_name, tmp_path, what, message):
    prompt = _bad_prompt(what, comfy, portrait_name, speech_name, tmp_path)
    run = comfy.run(prompt)
    assert run.status == "error"
    assert message in run.message
    assert "Traceback" not in run.message


def _bad_prompt(what: str, comfy, portrait: str, speech: str, tmp_path: Path) -> dict:
    if what in ("no face", "another shape"):
        size = (256, 256, 3) if what == "no face" else (256, 512, 3)
        Image.fromarray(np.full(size, 90, np.uint8)).save(tmp_path / f"{size[1]}.png")
        grey = comfy.put_input(tmp_path / f"{size[1]}.png")
        if what == "no face":
            return talking(grey, speech)
        render_inputs = {"portrait": ["5", 0], "landmarks": ["3", 0], "keep_frames": "never", "crf": 16}
        return talking(portrait, speech) | {
            "5": {"class_type": "LoadImage", "inputs": {"image": grey}},
            "6": {"class_type": "PortraitTalkRenderPortrait", "inputs": render_inputs},
            "7": {"class_type": "PreviewImage", "inputs": {"images": ["6", 0]}},
        }
    if what == "soundless video":
        prompt = talking(portrait, speech)
        prompt["2"] = {"class_type": "LoadVideo", "inputs": {"file": _silent_video(comfy, tmp_path)}}
        prompt["7"] = {"class_type": "GetVideoComponents", "inputs": {"video": ["2", 0]}}
        prompt["3"]["inputs"]["audio"] = ["7", 1]
        return prompt
    if what == "track and video":
        scored = {"generated": ["5", 0], "target": ["3", 0], "fps": 25.0, "face_index": 0}
        return talking(portrait, speech) | {
            "5": {"class_type": "LoadVideo", "inputs": {"file": _silent_video(comfy, tmp_path)}},
            "6": {"class_type": "PortraitTalkADFDScore", "inputs": scored},
        }
    (tmp_path / "broken.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0 not a header")
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(tmp_path / "tiny.png")
    return {
        **{kind: given_audio(portrait, kind) for kind in ("empty", "nan", "batch", "nothing")},
        "tiny portrait": talking(comfy.put_input(tmp_path / "tiny.png"), speech),
        "face_index": talking(portrait, speech, face_index=9),
        "short": talking(portrait, comfy.put_input(write_wav(tmp_path / "short20.wav", np.zeros(320)))),
        "nothing connected": _previewed("LandmarksFromVideo", {"fps": 25.0, "face_index": 0, "on_missing": "hold"}),
        "damaged track": _previewed("LoadLandmarks", {"file": comfy.put_input(tmp_path / "broken.safetensors")}),
        "missing track": _previewed("LoadLandmarks", {"file": "gone.safetensors"}),
    }[what]


def _previewed(node: str, inputs: dict) -> dict:
    preview = {"landmarks": ["1", 0], "max_frames": 4}
    return {
        "1": {"class_type": f"PortraitTalk{node}", "inputs": inputs},
        "2": {"class_type": "PortraitTalkPreviewLandmarks", "inputs": preview},
    }


def _silent_video(comfy, tmp_path: Path) -> str:
    path = tmp_path / "silent.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width = stream.height = 128
        stream.pix_fmt = "yuv420p"
        for _ in range(5):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((128, 128, 3), np.uint8), "rgb24")))
        file.mux(stream.encode(None))
    return comfy.put_input(path)
