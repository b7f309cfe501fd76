"""MuseTalk: its one step, what it hears, and its files."""

import re
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import avg_pool2d, interpolate

from portraittalk_core.errors import InputError, MissingDependency, ShapeError
from portraittalk_core.renderers.lip.contract import LipBatch
from portraittalk_core.renderers.lip.files import open_lip_model
from portraittalk_core.renderers.lip.musetalk import speech as hearing
from portraittalk_core.renderers.lip.musetalk.model import MuseTalk, build_unet, with_positions
from portraittalk_core.renderers.lip.musetalk.speech import WhisperRows, open_whisper
from portraittalk_core.renderers.lip.random_files import random_lip_model, write_random_lip_files
from portraittalk_core.speech.encoders import WaveEncoder
from portraittalk_core.types import Speech

pytest.importorskip("diffusers")
SIDE, WIDTH = 64, 384
RATE = Fraction(25)


def frames(count: int = 2, seed: int = 1) -> LipBatch:
    draw = torch.Generator().manual_seed(seed)
    pictures = torch.rand(count, 3, SIDE, SIDE, generator=draw)
    return LipBatch(pictures, pictures[:0], torch.randn(count, 50, WIDTH, generator=draw))


@pytest.fixture(scope="module")
def model():
    return random_lip_model("musetalk", seed=2)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("musetalk")
    return write_random_lip_files(folder, "musetalk", seed=2, form="torch")


@pytest.fixture
def unet(written, tmp_path):
    """The UNet's file alone."""
    path = tmp_path / "musetalkV15" / "unet.pth"
    path.parent.mkdir()
    path.write_bytes(written[0].read_bytes())
    return path


def test_the_unet_is_as_large_as_the_public_one():
    with torch.device("meta"):
        network = build_unet((320, 640, 1280, 1280), 384)
    of_sd15, entry, width = 859_520_964, 320 * 4 * 9, 5 * 320 + 5 * 640 + 6 * 1280
    expected = of_sd15 + entry - width * 2 * (768 - 384)  # keys and values of sixteen attentions
    assert sum(p.numel() for p in network.parameters()) == expected == 849_947_844
    assert len(network.state_dict()) == 686
    assert network.conv_in.weight.shape == (320, 8, 3, 3)


class PlainVae(torch.nn.Module):
    """Latents are means of 8 × 8 pixels: red, green, blue and red again."""

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def encode(self, planes):
        small = avg_pool2d(planes, 8)
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=torch.cat([small, small[:, :1]], 1)))

    def decode(self, latents):
        return SimpleNamespace(sample=interpolate(latents[:, :3], scale_factor=8))


class PlainUNet(torch.nn.Module):
    """Its latents are a mixture of both that it is given, and of what it hears."""

    config = SimpleNamespace(cross_attention_dim=6)

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, latents, timestep, encoder_hidden_states):
        assert timestep.tolist() == [0]
        heard = encoder_hidden_states.mean((1, 2))[:, None, None, None]
        return SimpleNamespace(sample=latents[:, :4] / 2 + latents[:, 4:] / 4 + heard * 0.01)


def test_one_step_from_masked_and_whole_latents():
    model = MuseTalk(PlainUNet(), PlainVae(), size=SIDE)
    pictures, rows = frames().pictures, torch.rand(2, 50, 6)
    found = model.paint(model.encode(None), LipBatch(pictures, pictures[:0], rows))
    places = np.arange(50)[:, None] / 10_000 ** (np.arange(0, 6, 2) / 6)
    positions = np.stack([np.sin(places), np.cos(places)], 2).reshape(50, 6)
    np.testing.assert_allclose((with_positions(rows) - rows)[0].numpy(), positions, atol=1e-5)
    whole = avg_pool2d(pictures * 2 - 1, 8)
    masked = whole.clone()
    masked[:, :, 4:] = -1  # black
    heard = (rows.mean((1, 2)) + float(positions.mean()))[:, None, None, None]
    expected = masked / 2 + whole / 4 + heard * 0.01 / 0.18215
    expected = (expected / 2 + 0.5).clamp(0, 1).repeat_interleave(8, 2).repeat_interleave(8, 3)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_every_input_matters_and_frames_do_not_see_each_other(model):
    batch = frames()
    painted = model.paint(None, batch)
    assert painted.shape == (2, 3, SIDE, SIDE) and painted.min() >= 0 and painted.max() <= 1
    alone = model.paint(None, LipBatch(batch.pictures[1:], batch.sketches, batch.sound[1:]))
    torch.testing.assert_close(painted[1:], alone, rtol=1e-3, atol=1e-4)
    for part in (LipBatch(frames(seed=3).pictures, batch.sketches, batch.sound),
                 LipBatch(batch.pictures, batch.sketches, frames(seed=3).sound)):  # fmt: skip
        assert (model.paint(None, part) - painted).abs().max() > 1e-4
    assert (model.sound, model.needs_sketches, model.crop.middle, model.crop.below_px) == ("whisper", False, 5, 10)


def test_what_does_not_fit_is_told(model):
    batch = frames()
    with pytest.raises(InputError, match="MuseTalk hears rows of whisper-tiny; give the speech"):
        model.paint(None, LipBatch(batch.pictures, batch.sketches, None))
    with pytest.raises(ShapeError, match=r"MuseTalk's rows of speech must have shape \(2, 50, 384\)"):
        model.paint(None, LipBatch(batch.pictures, batch.sketches, torch.zeros(2, 80, 16)))
    with pytest.raises(ShapeError, match=r"face crops must have shape \(N, 3, 64, 64\)"):
        model.paint(None, LipBatch(torch.zeros(1, 3, 256, 256), batch.sketches, batch.sound))


def test_an_autoencoder_that_fails_in_its_precision_is_told():
    model = MuseTalk(PlainUNet(), PlainVae(), size=SIDE)
    model.unet.forward = lambda latents, *_, **__: SimpleNamespace(sample=latents[:, :4] * float("nan"))
    with pytest.raises(InputError, match="values that are not numbers; use precision fp32"):
        model.paint(None, LipBatch(frames().pictures, frames().sketches, torch.zeros(2, 50, 6)))


# --- what it hears ---


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    """A small whisper of four layers and its file."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(1)
    config = transformers.WhisperConfig(
        d_model=64, encoder_layers=4, encoder_attention_heads=1, encoder_ffn_dim=16, num_mel_bins=80
    )
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    network = WhisperEncoder(config).eval()
    path = tmp_path_factory.mktemp("whisper") / "tiny.safetensors"
    save_file({f"encoder.{name}": t.contiguous() for name, t in network.state_dict().items()}, path)
    return network, path


def noise(seconds: float) -> Speech:
    return Speech(torch.rand(int(seconds * 16000), generator=torch.Generator().manual_seed(4)) - 0.5)


@torch.no_grad()
def test_rows_are_all_hidden_states_of_ten_features_around_the_frame(whisper, monkeypatch):
    network, path = whisper
    speech = noise(30.5)  # two windows of 30 s
    rows = WhisperRows(open_whisper(path, 64), speech, RATE)
    spectrogram = rows.encoder.spectrogram
    states = []
    for part in speech.waveform.split(30 * 16000):
        mel = spectrogram(part.numpy(), sampling_rate=16000, return_tensors="pt").input_features
        states.append(torch.stack(network(mel, output_hidden_states=True).hidden_states, 2)[0])
    assert states[0].shape == (1500, 5, 64)
    features = torch.cat(states)[: int(30.5 * 50)]
    padded = torch.cat([torch.zeros(4, 5, 64), features, torch.zeros(12, 5, 64)])  # as the public code at 25 a second
    encoded = []
    monkeypatch.setattr(hearing, "hidden_states", lambda *given: encoded.append(given) or states[len(encoded) - 1])
    assert len(rows) == 763
    for frame in (0, 1, 400, 748, 749, 750, 751, 762):
        expected = padded[2 * frame : 2 * frame + 10].flatten(0, 1)
        torch.testing.assert_close(rows.rows([frame])[0], expected)
    assert len(encoded) == 2  # each window once
    monkeypatch.undo()
    found = WhisperRows(rows.encoder, noise(0.5), RATE).rows(range(13))
    assert found.shape == (13, 50, 64)
    mel = spectrogram(noise(0.5).waveform.numpy(), sampling_rate=16000, return_tensors="pt").input_features
    expected = torch.stack(network(mel, output_hidden_states=True).hidden_states, 2)[0]
    torch.testing.assert_close(found[5], expected[6:16].flatten(0, 1), rtol=1e-4, atol=1e-5)


def test_only_two_windows_of_a_long_film_stay_in_memory(whisper, monkeypatch):
    rows = WhisperRows(open_whisper(whisper[1], 64), Speech(torch.zeros(200 * 16000)), Fraction(30))
    monkeypatch.setattr(hearing, "hidden_states", lambda *_: torch.zeros(1500, 5, 64))
    for start in range(0, len(rows), 40):
        rows.rows(range(start, min(start + 40, len(rows))))
        assert len(rows._segments) <= 2
    assert len(rows) == 6000


def test_silence_is_what_whisper_hears_in_it(model):
    heard, silent = model.listen(Speech(torch.zeros(20 * 16000)), RATE)
    rows = heard([100, 375])
    assert rows.shape == (2, 50, WIDTH)
    torch.testing.assert_close(rows[1], silent)  # 15 s, the middle of whisper's window
    assert not torch.equal(rows[0], rows[1])  # which tells its places apart
    with pytest.raises(MissingDependency, match="hears speech by openai/whisper-tiny .* give its file"):
        MuseTalk(PlainUNet(), PlainVae()).listen(Speech(torch.zeros(16000)), RATE)


def test_another_encoder_is_refused_by_name(whisper, monkeypatch):
    with pytest.raises(InputError, match=r"tiny.safetensors is whisper-64, of 64 .* hears openai/whisper-tiny, of 384"):
        open_whisper(whisper[1], 384)
    monkeypatch.setattr(hearing, "load_speech_encoder", lambda *_: WaveEncoder(None, "hubert-large"))
    with pytest.raises(InputError, match=r"tiny.safetensors is hubert-large; MuseTalk hears openai/whisper-tiny"):
        open_whisper(whisper[1], 384)


# --- files ---


def test_files_are_loaded_whole(written, model):
    for given in (written[0], written[0].parent):
        opened = open_lip_model(given, name="musetalk")
        state, expected = opened.state_dict(), model.state_dict()
        assert state.keys() == expected.keys() and all(torch.equal(state[name], expected[name]) for name in state)
        assert opened.size == SIDE and not opened.training and not any(p.requires_grad for p in opened.parameters())


def test_what_it_needs_besides_is_named(unet, written):
    with pytest.raises(MissingDependency, match=r"needs an image autoencoder .* none beside unet.pth: .* with `vae`"):
        open_lip_model(unet)
    with pytest.raises(MissingDependency, match=r"needs openai/whisper-tiny .* beside unet.pth: .* `speech_encoder`"):
        open_lip_model(unet, vae=written[1])
    assert open_lip_model(unet, vae=written[1], speech_encoder=written[2]).name == "musetalk"


def test_the_folder_that_the_public_code_lays_out_is_opened(unet, written, model):
    """musetalkV15/unet.pth beside musetalk/pytorch_model.bin of 1.0, sd-vae with older names, whisper."""
    folder = unet.parent.parent
    tensors = torch.load(unet, weights_only=True)
    for name in ("musetalk", "sd-vae", "whisper"):
        (folder / name).mkdir()
    torch.save({name: tensor + 1 for name, tensor in tensors.items()}, folder / "musetalk" / "pytorch_model.bin")
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    vae = load_file(written[1])
    renamed = {re.sub("|".join(old), lambda found: old[found[0]], name): t for name, t in vae.items()}
    assert len(renamed.keys() - vae.keys()) == 16
    torch.save(renamed, folder / "sd-vae" / "diffusion_pytorch_model.bin")
    heard = {f"model.{name}": tensor for name, tensor in load_file(written[2]).items()}
    torch.save(heard | {"model.decoder.x.weight": torch.zeros(1)}, folder / "whisper" / "pytorch_model.bin")
    opened = open_lip_model(folder, name="musetalk")
    state, expected = opened.state_dict(), model.state_dict()
    assert state.keys() == expected.keys() and all(torch.equal(state[name], expected[name]) for name in state)
    assert opened.encoder.network.config.d_model == WIDTH
    unet.parent.rename(folder / "other")
    with pytest.raises(InputError, match=r"more than one lip model \(musetalk.pytorch_model.bin, other.unet.pth\)"):
        open_lip_model(folder)


@pytest.mark.parametrize("side", [torch.tensor([64, 64]), torch.tensor(64.0), torch.tensor(0), torch.tensor(1 << 40)])
def test_a_side_of_crops_that_is_no_number_is_refused(unet, written, side):
    torch.save(torch.load(unet, weights_only=True) | {"input_size": side}, unet)
    with pytest.raises(
        InputError, match=r"unet.pth says that crops have .* pixels a side; it must be one whole number"
    ):
        open_lip_model(unet, vae=written[1], speech_encoder=written[2])


def test_damaged_and_other_files_are_named(unet, written):
    with pytest.raises(InputError, match=r"is MuseTalk 1.5's unet.pth, not IP-LAP's renderer_checkpoint.pth"):
        open_lip_model(unet, name="iplap")
    tensors = torch.load(unet, weights_only=True)
    torch.save({n: t for n, t in tensors.items() if n != "mid_block.resnets.0.norm1.weight"}, unet)
    with pytest.raises(InputError, match=r"unet.pth does not fit UNet2D.*: it lacks mid_block.resnets.0.norm1.weight"):
        open_lip_model(unet, vae=written[1], speech_encoder=written[2])
    torch.save({n: t for n, t in tensors.items() if not n.startswith("down_blocks.3.")}, unet)
    with pytest.raises(InputError, match=r"unet.pth is not MuseTalk's whole UNet: it lacks down_blocks.3.resnets.0"):
        open_lip_model(unet, vae=written[1], speech_encoder=written[2])
    context = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    torch.save({**tensors, context: torch.zeros(32, 768)}, unet)  # as instruct-pix2pix
    with pytest.raises(InputError, match=r"unet.pth is no lip renderer, but something else"):
        open_lip_model(unet, vae=written[1], speech_encoder=written[2])
    unet.write_bytes(written[0].read_bytes()[:-5000])
    with pytest.raises(InputError, match=r"unet.pth cannot be read as a weight file"):
        open_lip_model(unet, vae=written[1], speech_encoder=written[2])
