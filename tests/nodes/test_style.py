"""Styles inside a real ComfyUI: from a reference or a name to motion, to a file, and to a sampler's frames."""

from __future__ import annotations

import uuid
import wave

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from style_files import style_attention
from tiny_sd15 import TOKEN_WIDTH, write_tiny_sd15
from tiny_vexpress import write_wav2vec, write_whisper

from portraittalk_core.media.audio import load_speech
from portraittalk_core.speech.encoders import load_speech_encoder
from portraittalk_core.style.extractor import StyleExtractor, load_extractor, new_extractor_net, save_extractor
from portraittalk_core.style.extractor_files import ExtractorSizes
from portraittalk_core.style.features import audio_features
from portraittalk_core.style.projection import save_style_attention
from portraittalk_core.types import STYLE_STATISTICS

pytestmark = pytest.mark.comfy

FPS, REFERENCE_S, REFERENCE_FPS = 20.0, 1.5, 10.0
FRAMES = 10  # of half a second
MOTION = {"fps": FPS, "mouth_gain": 1.0, "head_motion": 1.0, "blink_rate": 15.0, "seed": 0, "face_index": 0}
MOTION |= {"silence_gate_db": -45.0, "smoothing": 0.3, "offset_ms": 0.0}
USE = {"strength": 1.0, "noise": 0.1, "seed": 0}
REFERENCE = "of the reference"
HEARING, WHISPER, OTHER_WHISPER, WAVE = (
    "hearing_extractor.safetensors", "tiny_whisper.safetensors", "small_whisper.safetensors", "tiny_wave.safetensors",
)  # fmt: skip
EXTRACTOR, TRAINED, UNTRAINED = "small_extractor.safetensors", "style_trained.safetensors", "style_new.safetensors"


class Graph(dict):
    """A prompt that grows by nodes; `add` gives a node's first output."""

    def add(self, kind: str, /, **inputs) -> list:
        number = str(len(self) + 1)
        self[number] = {"class_type": kind, "inputs": inputs}
        return [number, 0]

    def style(self, preset: str = REFERENCE, **changes) -> list:
        return self.add("PortraitTalkStylePrior", preset=preset, **{**USE, **changes})


@pytest.fixture(scope="module")
def talk(comfy, small_portrait_name, short_speech):
    """Runs graphs of styles; gives the landmarks that the portrait speaks with in each of them."""

    def run(graph: Graph, styles: dict[str, list | None], more: Graph | None = None) -> dict[str, torch.Tensor]:
        portrait = graph.add("LoadImage", image=small_portrait_name)
        sound, folder = graph.add("LoadAudio", audio=short_speech), uuid.uuid4().hex
        for name, style in styles.items():
            inputs = {"portrait": portrait, "audio": sound, **MOTION} | ({} if style is None else {"style": style})
            spoken = graph.add("PortraitTalkAudioToLandmarks", **inputs)
            graph.add("PortraitTalkSaveLandmarks", landmarks=spoken, filename_prefix=f"{folder}/{name}")
        done = comfy.run(graph)
        assert done.status == "success", (done.message, comfy.log.read_text()[-2000:])
        saved = comfy.base / "output" / folder
        return {name: load_file(next(saved.glob(f"{name}_0*")))["points"] for name in styles}

    return run


@pytest.fixture(scope="module")
def saved_styles(comfy):
    """Function that runs a graph and returns the files that Save Style wrote of its styles."""

    def run(graph: Graph, styles: dict[str, list]) -> dict:
        folder = uuid.uuid4().hex
        for name, style in styles.items():
            graph.add("PortraitTalkSaveStyle", style=style, filename_prefix=f"{folder}/{name}")
        done = comfy.run(graph)
        assert done.status == "success", (done.message, comfy.log.read_text()[-2000:])
        return {name: next((comfy.base / "output" / folder).glob(f"{name}_0*")) for name in styles}

    return run


@pytest.fixture(scope="module")
def style_files(comfy):
    """A small extractor that sees and hears, and style attentions for presets, where the nodes look for them."""
    folder = comfy.base / "models" / "portraittalk"
    folder.mkdir(exist_ok=True)
    small = ExtractorSizes(width=32, num_layers=1, num_heads=4, feed_forward=64)
    save_extractor(StyleExtractor(new_extractor_net(small).eval(), torch.ones(32)), folder / EXTRACTOR)
    for name in (TRAINED, UNTRAINED):
        net = style_attention(len(STYLE_STATISTICS), TOKEN_WIDTH, name == TRAINED, space="manner")
        save_style_attention(net, folder / name)
    yield folder
    for name in (EXTRACTOR, TRAINED, UNTRAINED):
        (folder / name).unlink()


@pytest.fixture(scope="module")
def reference_sound(comfy, speech_name) -> str:
    with wave.open(str(comfy.base / "input" / speech_name)) as source:
        params, sound = source.getparams(), source.readframes(round(source.getframerate() * REFERENCE_S))
    path = comfy.base / "reference.wav"
    with wave.open(str(path), "wb") as part:
        part.setparams(params)
        part.writeframes(sound)
    return comfy.put_input(path)


@pytest.fixture(scope="module")
def film(small_portrait_name, reference_sound):
    """Adds a clip of the portrait that speaks; gives its frames, video, sound and landmarks."""

    def add(graph: Graph) -> dict[str, list]:
        portrait = graph.add("LoadImage", image=small_portrait_name)
        sound = graph.add("LoadAudio", audio=reference_sound)
        motion = {**MOTION, "fps": REFERENCE_FPS}
        track = graph.add("PortraitTalkAudioToLandmarks", portrait=portrait, audio=sound, **motion)
        inputs = {"portrait": portrait, "landmarks": track, "audio": sound, "keep_frames": "always", "crf": 16}
        rendered = graph.add("PortraitTalkRenderPortrait", **inputs)
        return {"frames": rendered, "video": [rendered[0], 1], "audio": sound, "landmarks": track}

    return add


def test_a_style_changes_the_motion_and_strength_0_does_not(talk):
    graph = Graph()
    styles = {
        "none": None,
        "lively": graph.style("lively"),
        "again": graph.style("lively"),
        "other": graph.style("lively", seed=1),
        "off": graph.style("lively", strength=0.0),
        "calm": graph.style("calm"),
    }
    tracks = talk(graph, styles)
    assert tracks["none"].shape[0] == FRAMES
    assert torch.equal(tracks["off"], tracks["none"])
    assert torch.equal(tracks["again"], tracks["lively"])
    differences = {name: float((tracks[name] - tracks["none"]).abs().max()) for name in ("lively", "calm")}
    assert min(differences.values()) > 1e-3, differences
    assert float((tracks["other"] - tracks["lively"]).abs().max()) > 1e-4
    still, moved = (tracks[name][:, 1, :2].std(0).norm() for name in ("calm", "lively"))  # the nose's tip
    assert moved > still
    lips = {name: (tracks[name][:, 13] - tracks[name][:, 14]).norm(dim=-1).max() for name in ("calm", "lively")}
    assert lips["lively"] > lips["calm"]


def test_a_blend_begins_as_one_style_and_ends_as_the_other(talk):
    graph = Graph()
    calm, lively = graph.style("calm"), graph.style("lively")
    half = {"style_a": calm, "style_b": lively, "share": 0.5}
    styles = {
        "calm": calm,
        "lively": lively,
        "turning": graph.add("PortraitTalkBlendStyles", **half, over_time="[[0, 0], [0.25, 1]]"),
        "between": graph.add("PortraitTalkBlendStyles", **half),
        "all_b": graph.add("PortraitTalkBlendStyles", **{**half, "share": 1.0}),
        "none": None,
        "half of the time": graph.style("lively", strength_curve=graph.add("GiveCurve", part=0.5)),
    }
    tracks = talk(graph, styles)
    last = round(0.25 * FPS)
    assert torch.equal(tracks["turning"][0], tracks["calm"][0])
    torch.testing.assert_close(tracks["turning"][last:], tracks["lively"][last:], rtol=0, atol=1e-6)
    assert torch.equal(tracks["all_b"], tracks["lively"])
    assert not torch.equal(tracks["turning"][2], tracks["calm"][2])
    torch.testing.assert_close(tracks["half of the time"][:5], tracks["lively"][:5], rtol=0, atol=1e-6)
    torch.testing.assert_close(tracks["half of the time"][5:], tracks["none"][5:], rtol=0, atol=1e-6)
    for end in ("calm", "lively"):
        assert float((tracks["between"] - tracks[end]).abs().max()) > 1e-4


def test_a_kept_style_moves_as_before(talk, saved_styles, comfy):
    graph = Graph()
    lively, calm = graph.style("lively", seed=5, noise=0.3), graph.style("calm", seed=5, noise=0.3)
    turning = graph.add(
        "PortraitTalkBlendStyles", style_a=calm, style_b=lively, share=0.5, over_time="[[0, 0], [0.25, 1]]"
    )
    files = saved_styles(graph, {"lively": lively, "turning": turning})
    tracks_before = talk(graph, {"lively": lively, "turning": turning})
    names = {name: f"{path.relative_to(comfy.base / 'output').as_posix()} [output]" for name, path in files.items()}
    again = Graph()
    use = {"strength": 1.0, "noise": 0.3, "seed": 5}
    loaded = {name: again.add("PortraitTalkLoadStyle", file=file, **use) for name, file in names.items()}
    loaded["off"] = again.add("PortraitTalkLoadStyle", file=names["lively"], **{**use, "strength": 0.0})
    tracks_after = talk(again, {**loaded, "none": None})
    for name in files:
        assert torch.equal(tracks_after[name], tracks_before[name]), name
    assert torch.equal(tracks_after["off"], tracks_after["none"])


def test_a_reference_gives_a_style_from_whatever_shows_it(comfy, saved_styles, film, style_files):
    """Frames, the video of the same frames and a video in memory show and sound alike, landmarks nearly so."""
    graph = Graph()
    clip = film(graph)
    at = {"fps": REFERENCE_FPS}
    memory = graph.add("CreateVideo", images=clip["frames"], audio=clip["audio"], **at)
    hearing = {"extractor": EXTRACTOR}
    styles = {
        "frames": graph.style(frames=clip["frames"], **at),
        "video": graph.style(video=clip["video"]),
        "memory": graph.style(video=memory),
        "landmarks": graph.style(landmarks=clip["landmarks"]),
        "frames_heard": graph.style(frames=clip["frames"], audio=clip["audio"], **hearing, **at),
        "frames_deaf": graph.style(frames=clip["frames"], **hearing, **at),
        "memory_heard": graph.style(video=memory, **hearing),
        "video_heard": graph.style(video=clip["video"], **hearing),
        "sound": graph.style(audio=clip["audio"], **hearing),
    }
    preview = graph.add("SaveImage", images=[styles["frames"][0], 1], filename_prefix="plot")
    files = {name: load_file(path) for name, path in saved_styles(graph, styles).items()}
    plot = next((comfy.base / "output").glob("plot_*"))
    assert preview and np.asarray(Image.open(plot)).std() > 10
    assert torch.equal(files["memory"]["mean"], files["frames"]["mean"])
    for name in ("video", "landmarks"):  # pixels were compressed; the mesh draws its own points
        distance = (files[name]["mean"] - files["frames"]["mean"]).abs() / files["frames"]["spread"]
        assert distance.median() < 0.5, (name, distance)
    assert len(files["frames"]["mean"]) == len(STYLE_STATISTICS)
    assert torch.equal(files["frames_heard"]["manner.mean"], files["frames"]["mean"])
    torch.testing.assert_close(files["memory_heard"]["mean"], files["frames_heard"]["mean"], rtol=1e-3, atol=1e-3)
    with_sound, without_sound = files["frames_heard"]["mean"], files["frames_deaf"]["mean"]
    assert float((with_sound - without_sound).abs().max()) > 0.01
    assert float((files["video_heard"]["mean"] - with_sound).norm()) < float((without_sound - with_sound).norm())
    assert not any(name.startswith("manner.") for name in files["sound"])


@pytest.fixture(scope="module")
def whisper_files(comfy, style_files):
    """An extractor that hears by Whisper tiny, and speech encoders: that one's width, a wider one, and wav2vec 2.0."""
    sizes = ExtractorSizes("whisper-tiny", audio_width=384, width=32, num_layers=1, num_heads=4, feed_forward=64)
    save_extractor(StyleExtractor(new_extractor_net(sizes).eval(), torch.ones(32)), style_files / HEARING)
    folder = comfy.base / "models" / "audio_encoders"
    folder.mkdir(exist_ok=True)
    write_whisper(folder / WHISPER)
    write_whisper(folder / OTHER_WHISPER, width=512)
    write_wav2vec(folder / WAVE)
    yield
    for path in (style_files / HEARING, folder / WHISPER, folder / OTHER_WHISPER, folder / WAVE):
        path.unlink()


def test_a_style_is_heard_by_whisper(comfy, saved_styles, whisper_files, reference_sound):
    """As the core hears it; an extractor that hears by itself takes no notice of the encoder."""
    graph = Graph()
    sound, hearing = graph.add("LoadAudio", audio=reference_sound), {"extractor": HEARING, "encoder": WHISPER}
    styles = {
        "whisper": graph.style(audio=sound, **hearing),
        "own": graph.style(audio=sound, extractor=EXTRACTOR),
        "own_too": graph.style(audio=sound, extractor=EXTRACTOR, encoder=WHISPER),
    }
    files = {name: load_file(path) for name, path in saved_styles(graph, styles).items()}
    models = comfy.base / "models"
    extractor = load_extractor(models / "portraittalk" / HEARING)
    features = audio_features(
        load_speech(comfy.base / "input" / reference_sound),
        load_speech_encoder(models / "audio_encoders" / WHISPER),
    )
    expected = extractor.prior(audio=features)
    torch.testing.assert_close(files["whisper"]["mean"], expected.mean, rtol=1e-3, atol=1e-3)
    assert torch.equal(files["own"]["mean"], files["own_too"]["mean"])


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        ("none", "hears by Whisper tiny: put openai/whisper-tiny into models/audio_encoders and choose it"),
        (OTHER_WHISPER, "styles are heard by Whisper tiny (384 channels), not by whisper-base (512 channels)"),
        (WAVE, "styles are heard by Whisper tiny (384 channels), not by wav2vec2-64"),
        ("absent.bin", "the speech encoder absent.bin is not in models/audio_encoders"),
    ],
)
def test_another_encoder_than_the_extractors_is_told(
    comfy, whisper_files, reference_sound, portrait_name, short_speech, encoder, words
):
    graph = Graph()
    sound = graph.add("LoadAudio", audio=reference_sound)
    style = graph.style(audio=sound, extractor=HEARING, encoder=encoder)
    message = refusal(comfy, graph, style, portrait_name, short_speech)
    assert words in message, message


def test_a_reference_makes_a_portrait_speak_otherwise(talk, film):
    graph = Graph()
    clip = film(graph)
    tracks = talk(graph, {"none": None, "style": graph.style(video=clip["video"])})
    assert float((tracks["style"] - tracks["none"]).abs().max()) > 1e-3


def blended(graph: Graph, over_time: str, first: list | None = None) -> list:
    first = first or graph.style("calm")
    inputs = {"style_a": first, "style_b": graph.style("lively"), "share": 0.5, "over_time": over_time}
    return graph.add("PortraitTalkBlendStyles", **inputs)


def grey(graph: Graph, count: int) -> list:
    return graph.add("EmptyImage", width=128, height=128, batch_size=count, color=0x808080)


BAD = {
    "nothing": (lambda g: g.style(), "there is no reference: connect a video, frames, landmarks or audio"),
    "no face": (
        lambda g: g.style(frames=grey(g, 12), fps=10.0),
        "shows the face in 0 of the 12 frames",
    ),
    "short": (lambda g: g.style(frames=grey(g, 5)), "the batch of frames lasts 0.20 s; a style needs 1 s at least"),
    "sound alone": (
        lambda g: g.style(audio=g.add("GiveAudio", kind="six channels")),
        "without a trained extractor a style is seen, not heard",
    ),
    "broken sound": (lambda g: g.style(audio=g.add("GiveAudio", kind="nan")), "NaN or infinite"),
    "extractor gone": (
        lambda g: g.style("calm", extractor="absent.safetensors"),
        "the style extractor absent.safetensors is not in models/portraittalk",
    ),
    "attention of others": (
        lambda g: g.style(audio=g.add("GiveAudio", kind="six channels"), extractor=EXTRACTOR, style_attention=TRAINED),
        "this style attention was trained on manner; make the style with the extractor that belongs to it",
    ),
    "motion of a voice": (
        lambda g: g.style(audio=g.add("GiveAudio", kind="six channels"), extractor=EXTRACTOR),
        "knows no motion: it was made from sound alone",
    ),
    "words": (lambda g: blended(g, "slowly"), "over_time must look like [[0, 0], [4, 1]], not 'slowly'"),
    "one number": (lambda g: blended(g, "[0, 1]"), "over_time must look like"),
    "backwards": (lambda g: blended(g, "[[2, 0], [1, 1]]"), "must come one after another in time, not at 2, 1 s"),
    "share of 3": (lambda g: blended(g, "[[0, 3]]"), "the share of the second style"),
    "not a time": (lambda g: blended(g, "[[NaN, 1]]"), "the time of a point of the blend"),
    "curve of a curve": (
        lambda g: blended(g, "", g.style("calm", strength_curve=g.add("GiveCurve", part=0.5))),
        "changes over time already",
    ),
    "blend of a blend": (lambda g: blended(g, "", blended(g, "[[0, 0], [1, 1]]")), "changes over time already"),
}


def refusal(comfy, graph: Graph, style: list, portrait_name: str, short_speech: str) -> str:
    """Error message of a graph in which the portrait speaks in that style."""
    portrait, sound = graph.add("LoadImage", image=portrait_name), graph.add("LoadAudio", audio=short_speech)
    graph.add("PortraitTalkAudioToLandmarks", portrait=portrait, audio=sound, style=style, **MOTION)
    run = comfy.run(graph)
    assert run.status == "error"
    return run.message


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_told(comfy, style_files, portrait_name, short_speech, case):
    make, words = BAD[case]
    graph = Graph()
    message = refusal(comfy, graph, make(graph), portrait_name, short_speech)
    assert words in message, message


@pytest.fixture(scope="module")
def bad_files(comfy, saved_styles, talk) -> dict[str, str]:
    """Files that are no good styles, by what is wrong, in the input folder."""
    graph = Graph()
    path = saved_styles(graph, {"calm": graph.style("calm")})["calm"]
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    folder = comfy.base / "input"
    save_file(tensors, folder / "old.safetensors", {**metadata, "version": "999"})
    save_file({**tensors, "mean": tensors["mean"] * float("nan")}, folder / "nan.safetensors", metadata)
    save_file({"mean": tensors["mean"]}, folder / "part.safetensors", metadata)
    talk(Graph(), {"track": None})
    track = next((comfy.base / "output").rglob("track_*.safetensors"))
    (folder / "track.safetensors").write_bytes(track.read_bytes())
    (folder / "noise.safetensors").write_bytes(b"no style at all" * 9)
    return {"old": "old", "nan": "nan", "part": "part", "track": "track", "noise": "noise", "gone": "gone"}


@pytest.mark.parametrize(
    ("which", "words"),
    [
        ("old", "this is a style file of version 999; this release reads version"),
        ("nan", "NaN or infinite"),
        ("part", "which this file lacks"),
        ("track", "cannot be used as a StylePrior"),
        ("noise", "is not a readable safetensors file"),
        ("gone", "the style file gone.safetensors is not there"),
    ],
)
def test_a_bad_style_file_is_told(comfy, bad_files, portrait_name, short_speech, which, words):
    graph = Graph()
    loaded = graph.add("PortraitTalkLoadStyle", file=f"{bad_files[which]}.safetensors", **USE)
    message = refusal(comfy, graph, loaded, portrait_name, short_speech)
    assert words in message, message


def test_the_lists_show_what_belongs_there(comfy, style_files):
    inputs = comfy.get_json("/object_info/PortraitTalkStylePrior")["PortraitTalkStylePrior"]["input"]["optional"]
    lists = {name: spec[1]["options"] if spec[0] == "COMBO" else spec[0] for name, spec in inputs.items()}
    assert set(lists["extractor"]) - {HEARING} == {"none", "built-in", EXTRACTOR}
    assert set(lists["style_attention"]) == {"none", TRAINED, UNTRAINED}


def test_a_style_acts_in_the_sampler_where_it_is_trained_and_on(comfy, style_files):
    write_tiny_sd15(comfy.base / "models")
    graph = Graph()
    loaded = graph.add("GiveTinyCheckpoint", wait_s=0.0)
    clip = [loaded[0], 1]
    texts = [graph.add("CLIPTextEncode", clip=clip, text=text) for text in ("a person", "blurry")]
    latent = graph.add("EmptyLatentImage", width=64, height=64, batch_size=2)
    sampler = {"seed": 3, "steps": 1, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    sampler |= {"identity_strength": 1.0, "width": 64, "height": 64, "keep_frames": "always", "fps": 1.0}
    sampler |= {"model": loaded, "vae": [loaded[0], 2], "positive": texts[0], "negative": texts[1], "latent": latent}
    trained = graph.style("lively", style_attention=TRAINED)
    off = graph.style("calm", strength=0.0, style_attention=TRAINED)
    ends = {"style_a": off, "style_b": trained, "share": 0.5, "over_time": "[[0, 0], [1, 1]]"}
    styles = {
        "none": None,
        "motion alone": graph.style("lively"),
        "untrained": graph.style("lively", style_attention=UNTRAINED),
        "off": graph.style("lively", strength=0.0, style_attention=TRAINED),
        "lively": trained,
        "calm": graph.style("calm", style_attention=TRAINED),
        "turning": graph.add("PortraitTalkBlendStyles", **ends),
    }
    saved = {}
    for name, style in styles.items():
        painted = graph.add("PortraitTalkIdentityNetSampler", **sampler, **({} if style is None else {"style": style}))
        saved[name] = graph.add("SaveImage", images=painted, filename_prefix="styled")[0]
    run = comfy.run(graph)
    assert run.status == "success", (run.message, comfy.log.read_text()[-2000:])
    frames = {
        name: np.stack([np.asarray(Image.open(comfy.output(file))) for file in run.outputs[node]["images"]]).astype(int)
        for name, node in saved.items()
    }
    for name in ("motion alone", "untrained", "off"):
        assert np.array_equal(frames[name], frames["none"]), name
    for name, other in (("lively", "none"), ("calm", "none"), ("lively", "calm")):
        assert np.abs(frames[name] - frames[other]).mean() > 0.5, (name, other)
    assert np.array_equal(frames["turning"][0], frames["none"][0])  # its strength is 0 yet
    assert np.abs(frames["turning"][1] - frames["none"][1]).mean() > 0.5
