"""Resuming an interrupted sampler job from its finished chunks, in a real ComfyUI; and the job's cache key."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import threading
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_sd15 import checkpoint, moving, write_tiny_sd15

ROOT, PACK = Path(__file__).parents[2], "portraittalk_with_keys"
WINDOW, OVERLAP, CHUNKS = 4, 1, 3
KILL_S = 480  # at most, until so many chunks are finished
WAIT_S = 0.7  # of each call of the UNet
FRAMES = WINDOW + (CHUNKS - 1) * (WINDOW - OVERLAP)


def sampler(resume: bool, seed: int) -> dict:
    values = {"seed": seed, "steps": 1, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 0.9}
    values |= {"identity_strength": 1.0, "width": 64, "height": 64, "keep_frames": "always", "resume": resume}
    wires = {"model": ["1", 0], "vae": ["1", 2], "positive": ["2", 0], "negative": ["2", 0], "control": ["15", 0]}
    wires |= {"portrait": ["10", 0], "audio": ["12", 0]}
    return {"class_type": "PortraitTalkIdentityNetSampler", "inputs": {**values, **wires, "landmarks": ["11", 0]}}


def outputs_of(number: str) -> dict:
    """Saves frames, last frame and latents of a sampler; their numbers begin with that of the sampler."""
    saved = {"f": ("SaveImage", "images", 0), "g": ("SaveImage", "images", 3), "l": ("SaveLatent", "samples", 2)}
    return {
        number + key: {"class_type": kind, "inputs": {name: [number, slot], "filename_prefix": f"resume/{number}{key}"}}
        for key, (kind, name, slot) in saved.items()
    }


@pytest.fixture(scope="module")
def graph(comfy, small_portrait_name, short_speech):
    """Makes speech, portrait, motion module → sampler, for so many frames; face and ControlNet would only cost time.

    Tiny networks would be through before they are stopped: each call waits.
    """
    write_tiny_sd15(comfy.base / "models")

    def build(resume: bool, frames: int = FRAMES, seed: int = 3, number: str = "7") -> dict:
        control = {"motion_module": "none", "strength": 1.0, "start_percent": 0.0, "end_percent": 1.0}
        control |= {"mouth_weight": 1.5, "motion_strength": 1.0, "mode": "chunked", "window": WINDOW}
        control |= {"overlap": OVERLAP, "style": "landmarks"}
        return {
            "1": checkpoint(WAIT_S),
            "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a person"}},
            "10": {"class_type": "LoadImage", "inputs": {"image": small_portrait_name}},
            "12": {"class_type": "LoadAudio", "inputs": {"audio": short_speech}},
            "11": {
                "class_type": "PortraitTalkAudioToLandmarks",
                "inputs": {"portrait": ["10", 0], "audio": ["12", 0], "fps": 2.0 * frames, "mouth_gain": 1.0,
                           "head_motion": 1.0, "blink_rate": 15.0, "seed": 0, "face_index": 0,
                           "silence_gate_db": -45.0, "smoothing": 0.3, "offset_ms": 0.0},
            },
            "14": {
                "class_type": "PortraitTalkAnimateNetControl",
                "inputs": {"landmarks": ["11", 0], **control},
            },
            "15": moving(["14", 0]),
            number: sampler(resume, seed),
            **outputs_of(number),
        }  # fmt: skip

    return build


def results(comfy, run, number: str) -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
    """Frames, last frame, latents."""
    assert run.status == "success", (run.message, comfy.log.read_text()[-2000:])
    frames, last = (
        np.stack([np.asarray(Image.open(comfy.output(file))) for file in run.outputs[number + key]["images"]])
        for key in "fg"
    )
    (file,) = run.outputs[number + "l"]["latents"]
    return frames, last, load_file(comfy.output(file))["latent_tensor"]


def sections(comfy) -> list[Path]:
    return sorted((comfy.base / "user" / "portraittalk" / "unfinished").glob("*/[0-9]*.safetensors"))


def kill_after(comfy, prompt: dict, count: int) -> list[Path]:
    """Queue a prompt, kill the server when so many sections are finished, and give them."""

    def queue() -> None:
        with contextlib.suppress(Exception):  # the connection is lost
            comfy.run(prompt)

    queued = threading.Thread(target=queue)
    queued.start()
    end = time.monotonic() + KILL_S
    while len(sections(comfy)) < count and time.monotonic() < end and comfy.server.poll() is None:
        time.sleep(0.02)
    comfy.kill()
    queued.join(KILL_S)
    return sections(comfy)


def node_text(run, number: str) -> str:
    return run.outputs[number]["text"][0]


@pytest.mark.comfy
def test_a_killed_job_goes_on_from_its_chunks_and_comes_out_the_same(comfy, graph):
    finished = kill_after(comfy, graph(resume=True), 1)
    assert 1 <= len(finished) < CHUNKS
    stamps = {path: path.stat().st_mtime_ns for path in finished}
    comfy.start()
    assert {path: path.stat().st_mtime_ns for path in sections(comfy)} == stamps  # a restart leaves them
    resumed = comfy.run(graph(resume=True))
    again = results(comfy, resumed, "7")
    # counted where they are read and where they are painted: none was painted twice
    assert f"resumed: {len(finished)} of {CHUNKS} sections were finished already" in node_text(resumed, "7")
    assert sections(comfy) == [] and not list((comfy.base / "user" / "portraittalk" / "unfinished").iterdir())

    uninterrupted = comfy.run(graph(resume=False, number="77"))
    assert "resumed" not in node_text(uninterrupted, "77")
    for resumed_part, other in zip(again, results(comfy, uninterrupted, "77"), strict=True):
        assert resumed_part.shape == other.shape and np.array_equal(resumed_part, other)
    assert len(again[0]) == FRAMES and len(again[2]) == FRAMES and again[0].std() > 5


@pytest.mark.comfy
def test_a_cancelled_job_goes_on_but_one_of_another_seed_begins_anew(comfy, graph):
    frames = 2 * WINDOW - OVERLAP  # two chunks
    stopped = comfy.run(graph(resume=True, frames=frames, seed=5), interrupt_at=("7", WINDOW))
    assert stopped.status == "interrupted" and len(sections(comfy)) == 1
    other = comfy.run(graph(resume=True, frames=frames, seed=6))
    assert other.status == "success" and "resumed" not in node_text(other, "7")
    assert len(sections(comfy)) == 1  # of the first, still
    again = comfy.run(graph(resume=True, frames=frames, seed=5, number="70"))  # the node's number does not matter
    assert "resumed: 1 of 2 sections" in node_text(again, "70")
    assert sections(comfy) == []


@dataclass
class Inputs:
    """Stub of the sampler's inputs."""

    seed: int = 1
    crf: int = 16
    portrait: object = None
    latent: object = None
    control: object = None


class Thing:
    """A value that is hashed by its type only."""

    def __init__(self) -> None:
        self.load_device, self.vae_dtype = "cpu", torch.float32


@pytest.fixture
def resume(tmp_path, monkeypatch):
    """nodes.bindings.resume, with folders that hold a checkpoint and a picture."""
    folders, pack, nodes = ModuleType("folder_paths"), ModuleType(PACK), ModuleType(f"{PACK}.nodes")
    for name in ("models", "input", "user"):
        (tmp_path / name).mkdir()
    (tmp_path / "models" / "a.safetensors").write_bytes(b"weights")
    (tmp_path / "input" / "face.png").write_bytes(b"picture")
    folders.folder_names_and_paths = {"checkpoints": ([str(tmp_path / "models")], {".safetensors"})}
    folders.models_dir = str(tmp_path)
    folders.get_input_directory = lambda: str(tmp_path / "input")
    folders.get_user_directory = lambda: str(tmp_path / "user")
    folders.annotated_filepath = lambda name: (name, None)
    pack.__path__, nodes.__path__ = [str(ROOT)], [str(ROOT / "nodes")]
    modules_before = set(sys.modules)
    monkeypatch.setitem(sys.modules, "folder_paths", folders)
    monkeypatch.setitem(sys.modules, PACK, pack)
    monkeypatch.setitem(sys.modules, f"{PACK}.nodes", nodes)
    yield importlib.import_module(f"{PACK}.nodes.bindings.resume")
    for name in [name for name in set(sys.modules) - modules_before if name.startswith(f"{PACK}.")]:
        del sys.modules[name]


def prompt(seed: int = 1, text: str = "a person", crf: int = 16, ids: str = "123") -> dict:
    loader, encoder, last = ids
    wires = {"model": [loader, 0], "positive": [encoder, 0]}
    return {
        loader: {"class_type": "Loader", "inputs": {"ckpt_name": "a.safetensors"}, "is_changed": [time.time()]},
        encoder: {"class_type": "Encode", "inputs": {"clip": [loader, 1], "text": text}},
        last: {"class_type": "Sampler", "inputs": {**wires, "seed": seed, "crf": crf}},
    }


def key(resume, nodes: dict | None = None, last: str = "3", **inputs) -> str:
    nodes = nodes or prompt()
    conditioning = ([[torch.ones(1, 77, 8), {"pooled_output": None, "control": Thing()}]],)
    return resume.job_key(
        (Thing(), Thing()), conditioning, Inputs(**inputs), last, SimpleNamespace(get_node=nodes.__getitem__)
    )


def test_the_same_job_has_the_same_key_whatever_its_nodes_are_numbered(resume):
    assert key(resume) == key(resume) == key(resume, prompt(ids="987"), last="7")
    assert key(resume) == key(resume, prompt(crf=20), crf=20)


def test_every_input_before_the_sampler_makes_another_job(resume):
    keys = [key(resume), key(resume, prompt(seed=2)), key(resume, prompt(text="a cat")), key(resume, seed=2)]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("change", [lambda p: p.write_bytes(b"other weights"), lambda p: os.utime(p, (1, 1))])
def test_another_file_of_the_same_name_makes_another_job(resume, change, tmp_path):
    key_before = key(resume)
    change(tmp_path / "models" / "a.safetensors")
    assert key(resume) != key_before


def test_tensors_count_by_their_content(resume):
    zeros, other = torch.zeros(2, 4, 8, 8), torch.zeros(2, 4, 8, 8)
    assert key(resume, latent={"samples": zeros}) == key(resume, latent={"samples": other})
    other[1, 3, 7, 7] = 1e-30
    assert key(resume, latent={"samples": zeros}) != key(resume, latent={"samples": other})
    assert key(resume, latent={"samples": zeros}) != key(resume, latent={"samples": zeros.half()})
    assert key(resume, latent={"samples": zeros}) != key(resume, latent={"samples": zeros.reshape(4, 2, 8, 8)})
    assert key(resume, portrait=torch.zeros(1, 8, 8, 3)) != key(resume, portrait=torch.ones(1, 8, 8, 3))


def test_dataclasses_count_by_what_they_are_made_of(resume):
    from portraittalk_core.diffusion.windowed import VideoOptions

    assert key(resume, control=VideoOptions()) == key(resume, control=VideoOptions())
    assert key(resume, control=VideoOptions()) != key(resume, control=VideoOptions(overlap=3))
    assert key(resume, control=[Fraction(25)]) != key(resume, control=[Fraction(30)])


def test_values_that_are_split_otherwise_make_another_job(resume):
    assert key(resume, control=["ab", "c"]) != key(resume, control=["a", "bc"])
    assert key(resume, control=[["a"], "b"]) != key(resume, control=[["a", "b"]])


def test_a_user_folder_that_cannot_be_written_does_not_stop_the_job(resume, tmp_path, caplog):
    (tmp_path / "user" / "portraittalk").write_text("a file in its place")
    assert resume.sections_of((Thing(), Thing()), (), Inputs(), None, None) is None
    assert "could not be resumed" in caplog.text
