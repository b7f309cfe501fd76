"""Several speakers in a real ComfyUI: faces of one picture, and one Dub Lips behind the other."""

from __future__ import annotations

import shutil
import wave
from itertools import islice

import av
import numpy as np
import pytest
from comfy_place import ROOT
from PIL import Image

from portraittalk_core.media.audio import load_speech
from portraittalk_core.media.video_read import probe_video, read_pictures
from portraittalk_core.media.video_write import VideoWriter
from portraittalk_core.renderers.implicit.files import write_random_files
from portraittalk_core.renderers.lip.random_files import write_random_lip_files

pytestmark = [pytest.mark.comfy, pytest.mark.slow]

SIDE, FPS, LOW_HZ, HIGH_HZ = 256, 10.0, 150, 400
MOTION = {"fps": FPS, "mouth_gain": 1.0, "head_motion": 1.0, "blink_rate": 15.0, "seed": 0}
SPEAKERS = MOTION | {"faces": "", "keep_frames": "always"}


def node(kind: str, **inputs) -> dict:
    return {"class_type": f"PortraitTalk{kind}", "inputs": inputs}


@pytest.fixture(scope="module")
def two(comfy, tmp_path_factory) -> str:
    """A picture of the sample portrait beside its mirror image."""
    portrait = Image.open(ROOT / "samples" / "portrait.jpg").convert("RGB").resize((SIDE, SIDE))
    both = np.concatenate([np.asarray(portrait), np.asarray(portrait)[:, ::-1]], 1)
    path = tmp_path_factory.mktemp("two") / "two_people.png"
    Image.fromarray(both).save(path)
    return comfy.put_input(path)


@pytest.fixture(scope="module")
def tones(comfy, tmp_path_factory) -> tuple[str, str]:
    """Two tones that come and go, of 0.5 and 0.3 s."""
    folder, names = tmp_path_factory.mktemp("tones"), []
    for pitch, seconds in ((LOW_HZ, 0.5), (HIGH_HZ, 0.3)):
        time = np.arange(int(16_000 * seconds)) / 16_000
        loud = 0.4 * np.sin(2 * np.pi * 5 * time).clip(0.1)
        path, samples = folder / f"tone_{pitch}.wav", loud * np.sin(2 * np.pi * pitch * time)
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes((samples * 32_000).astype("<i2").tobytes())
        names.append(comfy.put_input(path))
    return tuple(names)


def done(comfy, prompt: dict):
    run = comfy.run(prompt)
    assert run.status == "success", (run.message, comfy.log.read_text()[-3000:])
    return run


def heard(path) -> set[int]:
    """Which of the two tones a video's sound holds."""
    sound = load_speech(path).waveform.numpy()
    loud, hz = np.abs(np.fft.rfft(sound)), np.fft.rfftfreq(len(sound), 1 / 16_000)
    return {pitch for pitch in (LOW_HZ, HIGH_HZ) if loud[np.abs(hz - pitch) < 20].max() > 0.2 * loud.max()}


def speaking(two: str, tones: tuple[str, str], **changes) -> dict:
    """A picture of two people who speak, saved as frames (node 7) and video (node 8)."""
    wires = {"portrait": ["1", 0], "voices.voice0": ["2", 0], "voices.voice1": ["3", 0]}
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": two}},
        "2": {"class_type": "LoadAudio", "inputs": {"audio": tones[0]}},
        "3": {"class_type": "LoadAudio", "inputs": {"audio": tones[1]}},
        "4": node("SeveralSpeakers", **(wires | SPEAKERS | changes)),
        "7": {"class_type": "SaveImage", "inputs": {"images": ["4", 0], "filename_prefix": "two"}},
        "8": {"class_type": "SaveVideo", "inputs": {"video": ["4", 1], "filename_prefix": "two", "format": "auto",
                                                    "codec": "auto"}},
    }  # fmt: skip


def test_both_faces_of_a_picture_speak(comfy, two, tones):
    run = done(comfy, speaking(two, tones))
    frames = np.stack([np.asarray(Image.open(comfy.output(file))) for file in run.outputs["7"]["images"]]).astype(int)
    assert frames.shape == (5, SIDE, 2 * SIDE, 3)
    moved = np.abs(frames[1:] - frames[:1]).max((0, 3))
    assert min(moved[:, :SIDE].max(), moved[:, SIDE:].max()) > 20
    (video,) = run.outputs["8"]["images"]
    assert heard(comfy.output(video)) == {LOW_HZ, HIGH_HZ}


def test_keypoints_draw_both_faces(comfy, two, tones):
    models = comfy.base / "models" / "liveportrait"
    write_random_files(models, "liveportrait-21")
    prompt = speaking(two, tones, keypoint_renderer=["5", 0])
    prompt["5"] = node("LoadKeypointRenderer", networks="models/liveportrait", precision="fp32")
    run = done(comfy, prompt)
    frames = np.stack([np.asarray(Image.open(comfy.output(file))) for file in run.outputs["7"]["images"]]).astype(int)
    source = np.asarray(Image.open(comfy.base / "input" / two)).astype(int)
    painted = np.abs(frames - source).max((0, 3))
    assert min(painted[:, :SIDE].max(), painted[:, SIDE:].max()) > 40 and painted[-4:].max() == 0
    shutil.rmtree(models)


def test_a_place_says_whose_a_voice_is(comfy, two, tones):
    """The first voice is that of the face under the mask, the right one; the left face stays, or listens."""
    moved = [_movement_of_the_right_one(comfy, two, tones, listeners) for listeners in ("", "0")]
    still, listening = (both[:, : SIDE - 60].max() for both in moved)
    assert still == 0 and listening > 10
    assert min(both[:, SIDE:].max() for both in moved) > 20


def _movement_of_the_right_one(comfy, two, tones, listeners: str) -> np.ndarray:
    """(H, W) how far pixels change where the first voice is that of the right face."""
    prompt = speaking(two, tones, **{"faces_at.face_at0": ["6", 0], "listeners": listeners})
    del prompt["4"]["inputs"]["voices.voice1"], prompt["8"]
    prompt["5"] = {"class_type": "SolidMask", "inputs": {"value": 0.0, "width": 2 * SIDE, "height": SIDE}}
    prompt["9"] = {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": SIDE, "height": SIDE}}
    prompt["6"] = {"class_type": "MaskComposite", "inputs": {"destination": ["5", 0], "source": ["9", 0], "x": SIDE,
                                                            "y": 0, "operation": "add"}}  # fmt: skip
    files = done(comfy, prompt).outputs["7"]["images"]
    frames = np.stack([np.asarray(Image.open(comfy.output(file))) for file in files]).astype(int)
    return np.abs(frames[1:] - frames[:1]).max((0, 3))


BAD = {
    "one face twice": ({"faces": "1, 1"}, "the face of voice 0 and the face of voice 1 are the same face"),
    "too few": ({"faces": "1"}, "faces must be the number of a face for each of the 2 voices"),
}


@pytest.mark.parametrize("case", BAD)
def test_faces_that_are_not_there_are_told(comfy, two, tones, case):
    changes, words = BAD[case]
    run = comfy.run(speaking(two, tones, **changes))
    assert run.status == "error" and words in run.message, run.message


def test_one_dub_behind_the_other_keeps_the_first_sound(comfy, tones):
    models, source = comfy.base / "models" / "portraittalk" / "lip_two", ROOT / "samples" / "film.mp4"
    write_random_lip_files(models, "lips")
    probe = probe_video(source)
    with VideoWriter(comfy.base / "input" / "lip_two.mp4", probe.width, probe.height, probe.fps) as writer:
        for picture in islice(read_pictures(source, probe.fps), 8):
            writer.write(picture)
    paint = {"mouth_gain": 1.0, "sharpen": 1.0, "match_colour": 1.0, "blend": "lower", "feather": 0.08}
    paint |= {"keep_frames": "never", "voice_gate": 0.0, "lip_renderer": ["3", 0]}
    prompt = {
        "1": {"class_type": "LoadVideo", "inputs": {"file": "lip_two.mp4"}},
        "2": {"class_type": "LoadAudio", "inputs": {"audio": tones[0]}},
        "3": node("LoadLipRenderer", renderer="lips", precision="fp32"),
        "4": node("DubLips", film=["1", 0], audio=["2", 0], **paint),
        "5": {"class_type": "LoadAudio", "inputs": {"audio": tones[1]}},
        "6": node("DubLips", film=["4", 0], audio=["5", 0], **paint, keep_film_sound=True),
        "7": {"class_type": "SaveVideo", "inputs": {"video": ["6", 0], "filename_prefix": "two", "format": "auto",
                                                    "codec": "auto"}},
    }  # fmt: skip
    (video,) = done(comfy, prompt).outputs["7"]["images"]
    assert heard(comfy.output(video)) == {LOW_HZ, HIGH_HZ}
    with av.open(str(comfy.output(video))) as file:
        assert sum(1 for _ in file.decode(video=0)) == 8
    shutil.rmtree(models)
