"""V-Express's training of style from files: what is heard in videos, and what a configuration may name."""

import dataclasses
from fractions import Fraction

import pytest
import torch
from sd15_files import make_checkpoint
from tiny_vae import write_taesd
from tiny_vexpress import tiny_vexpress, write_vexpress, write_wav2vec, write_whisper
from toy_puppet import motion, track_of, write_prepared
from toy_styles import QUICK

from portraittalk_core.cli.main import main
from portraittalk_core.errors import InputError, MissingDependency
from portraittalk_core.renderers.vexpress.audio_projection import audio_tokens
from portraittalk_core.renderers.vexpress.load import load_vexpress
from portraittalk_core.renderers.vexpress.pipeline import VExpressModels, paint_vexpress
from portraittalk_core.speech.encoders import load_speech_encoder
from portraittalk_core.style.projection import load_style_attention
from portraittalk_core.training.data.video_clips import VideoClip, VideoData
from portraittalk_core.training.style.attention_stage import train_style_attention
from portraittalk_core.training.style.config import load_style_config
from portraittalk_core.training.style.vexpress import read_vexpress
from portraittalk_core.training.style.vexpress_audio import Listener, TokenFiles, hear_videos
from portraittalk_core.types import Portrait, Speech
from portraittalk_core.weights.load import read_metadata, read_tensors

pytest.importorskip("diffusers")
pytest.importorskip("accelerate")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def ear(tmp_path_factory):
    """A small wav2vec 2.0 and the projection of tiny V-Express, told of how often it hears."""
    encoder = load_speech_encoder(write_wav2vec(tmp_path_factory.mktemp("ear") / "wav2vec.safetensors"))
    encoder.calls = []
    encoder.network.register_forward_hook(lambda *_: encoder.calls.append(1))
    return encoder


def sound(seconds, seed=0) -> torch.Tensor:
    return 0.1 * torch.randn(round(16_000 * seconds), generator=torch.Generator().manual_seed(seed))


def test_a_clip_hears_its_part_of_the_whole_speech_which_is_heard_once(ear, tmp_path):
    projection, track, ticks = tiny_vexpress().projection, track_of(motion(20, 0)), []
    listener = Listener(ear, projection, tmp_path / "heard")
    ear.calls.clear()
    for _ in range(2):
        path = listener.hear(Speech(sound(0.8)), track, listener.mark(), lambda: ticks.append(1))
    assert len(ear.calls) == 1 and ticks
    tokens = TokenFiles([tmp_path / "absent", path])
    whole = audio_tokens(projection, ear.encode(Speech(sound(0.8))).values, 20)
    assert torch.equal(tokens(1, 7, 12), whole[7:12]) and whole.shape == (20, 5, 64)
    alone = audio_tokens(projection, ear.encode(Speech(sound(0.8)[7 * 640 : 12 * 640])).values, 5)
    assert not torch.allclose(tokens(1, 7, 12), alone, atol=1e-3)  # as it would be, heard by itself
    assert path == listener.hear(Speech(sound(1.0)[: 16_000 * 4 // 5].clone()), track, listener.mark(), list)
    other = Listener(ear, tiny_vexpress().projection.requires_grad_(False), tmp_path / "heard")
    other.projection.proj_out.weight.mul_(2)
    assert other.hear(Speech(sound(0.8)), track, other.mark(), list) != path


@pytest.mark.parametrize(("fps", "frames", "seconds"), [(25, 20, 0.5), (25, 20, 1.1), (30, 21, 0.7)])
def test_sound_is_cut_or_silent_where_the_picture_ends(ear, tmp_path, fps, frames, seconds):
    projection, lasts = tiny_vexpress().projection, round(16_000 * frames / fps)
    track = dataclasses.replace(track_of(motion(frames, 0)), fps=Fraction(fps))
    listener = Listener(ear, projection, tmp_path)
    path = listener.hear(Speech(sound(seconds)), track, listener.mark(), list)
    spanned = torch.cat([sound(seconds), torch.zeros(lasts)])[:lasts]
    whole = audio_tokens(projection, ear.encode(Speech(spanned)).values, frames)
    assert torch.equal(TokenFiles([path])(0, 0, frames), whole)


def test_another_ear_is_refused_in_the_same_words_as_where_frames_are_painted(tmp_path):
    networks = tiny_vexpress()
    whisper = load_speech_encoder(write_whisper(tmp_path / "whisper.safetensors"))
    wide = load_speech_encoder(write_wav2vec(tmp_path / "wide.safetensors", width=128))
    portrait = Portrait(torch.zeros(64, 64, 3, dtype=torch.uint8), track_of(motion(1, 0)))
    for encoder in (whisper, wide):
        with pytest.raises(InputError) as painting:
            list(paint_vexpress(portrait, None, Speech(sound(0.8)), VExpressModels(networks, None, encoder)))
        with pytest.raises(InputError) as training:
            listener = Listener(encoder, networks.projection, tmp_path)
            listener.hear(Speech(sound(0.8)), track_of(motion(20, 0)), b"", list)
        assert str(training.value) == str(painting.value)


TOML = """stage = "attention"
checkpoint = "sd15.safetensors"
vexpress = {vexpress}
speech_encoder = "wav2vec.safetensors"
data = "data"
out = "out"
resolution = 64
frames = 3
[trainer]
steps = 2
batch_size = 1
gradient_accumulation = 1
learning_rate = 0.01
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with all that a configuration names."""
    folder = tmp_path_factory.mktemp("files")
    heard = {"anna/1.mp4": sound(1.2), "bruno/1.mp4": sound(1.2, 2)}
    write_prepared(folder / "data", ("anna/1.mp4", "anna/2.mp4", "bruno/1.mp4"), heard)
    make_checkpoint(folder / "sd15.safetensors", text=False)
    write_vexpress(folder / "vexpress")
    write_wav2vec(folder / "wav2vec.safetensors")
    return folder


@pytest.mark.slow
def test_training_goes_from_a_folder_to_a_file(files, capsys):
    file = files / "style.toml"
    file.write_text(TOML.format(vexpress='"vexpress"'))
    assert main(["train", "style", "--config", str(file)]) == 0
    told = capsys.readouterr().out
    assert "left out anna/2.mp4: it has no sound" in told and "2 steps on V-Express" in told
    path = files / "out" / "style_attention.safetensors"
    made = load_style_attention(path)
    assert read_metadata(path)["trained_on"] == "V-Express" and any(made.site("1").to_out.weight.flatten())
    assert made.site("1").to_q.weight.shape == (32, 32) and made.style_proj.norm.weight.shape == (64,)
    heard = sorted((files / "out" / "heard").iterdir())
    assert len(heard) == 2 and read_tensors(heard[0])["tokens"].shape == (30, 5, 64)
    stamps = [one.stat().st_mtime_ns for one in heard]
    config = dataclasses.replace(load_style_config(file), trainer=dataclasses.replace(QUICK, steps=2))
    parts, data, dropped = read_vexpress(config)
    assert [one.stat().st_mtime_ns for one in heard] == stamps
    assert [name for name, _ in dropped] == ["anna/2.mp4"]
    assert [video.name for video in data.data.videos] == ["anna/1.mp4", "bruno/1.mp4"]
    networks, encoder = load_vexpress([files / "vexpress"]), load_speech_encoder(files / "wav2vec.safetensors")
    bruno = audio_tokens(networks.projection, encoder.encode(Speech(sound(30 / 25, 2))).values, 30)
    torch.testing.assert_close(parts.tokens(1, 4, 7), bruno[4:7])


def test_files_may_be_listed_one_by_one(files):
    file = files / "listed.toml"
    names = ", ".join(f'"vexpress/{path.name}"' for path in sorted((files / "vexpress").iterdir()))
    file.write_text(TOML.format(vexpress=f"[{names}]"))
    config = load_style_config(file)
    assert len(config.vexpress) == 5 and all(path.is_file() for path in config.vexpress) and config.clip_frames == 3
    file.write_text(TOML.format(vexpress='["vexpress", 3]'))
    with pytest.raises(InputError, match="vexpress must be a path"):
        load_style_config(file)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('vexpress = "v"', "vexpress needs speech_encoder"),
        ('speech_encoder = "w"', "speech_encoder is for V-Express alone"),
        ('vexpress = []\nspeech_encoder = "w"', "lists no files"),
        ('vexpress = "v"\nspeech_encoder = "w"\nmotion = "m"', "motion cannot be used with vexpress"),
        (
            'vexpress = "v"\nspeech_encoder = "w"\ncontrolnet = "c"\nanimate_net = "a"\nidentity = "i"',
            "controlnet, animate_net, identity cannot be used with vexpress",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, lines, words):
    file = tmp_path / "style.toml"
    file.write_text(f'stage = "attention"\ncheckpoint = "a"\ndata = "b"\nout = "c"\n{lines}\n')
    with pytest.raises(InputError, match=words):
        load_style_config(file)


@pytest.mark.slow
def test_unfit_files_are_told(files, tmp_path):
    file = files / "style.toml"
    file.write_text(TOML.format(vexpress='"vexpress"'))
    config = dataclasses.replace(load_style_config(file), out=tmp_path / "out")
    make_checkpoint(tmp_path / "bare.safetensors", vae=False)
    mute = write_prepared(tmp_path / "mute", ("carl/1.mp4",))
    wrong = {
        "holds no VAE": {"checkpoint": tmp_path / "bare.safetensors"},
        "is a TAESD, too rough to train with": {"checkpoint": write_taesd(tmp_path / "tiny")},
        "none of the 1 videos has sound": {"data": mute},
        "64 frames does not fit": {"frames": 64},
    }
    for words, changes in wrong.items():
        with pytest.raises(InputError, match=words):
            train_style_attention(dataclasses.replace(config, **changes))
    with pytest.raises(MissingDependency, match="V-Express"):
        train_style_attention(dataclasses.replace(config, vexpress=(tmp_path / "absent",)))


def test_hearing_tells_how_far_it_is_and_may_be_stopped(ear, files, tmp_path):
    clips = [
        VideoClip(name, lambda _: torch.zeros(3, 64, 64), track_of(motion(30, 0)))
        for name in ("anna/1.mp4", "bruno/1.mp4")
    ]
    listener, told = Listener(ear, tiny_vexpress().projection, tmp_path), []
    hear_videos(files / "data", VideoData(clips, 3), listener, lambda *done: told.append(done))
    assert told[0] == (0, 2) and told[-1] == (2, 2) and told == sorted(told) and len(told) > 6

    def stop(done, _total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hear_videos(files / "data", VideoData(clips, 3), Listener(ear, listener.projection, tmp_path / "b"), stop)
    assert len(list((tmp_path / "b").iterdir())) == 1
