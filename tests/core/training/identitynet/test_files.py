"""Identity's training from a configuration file to a weight file."""

import json
import shutil

import pytest
import torch
from sd15_files import make_checkpoint
from tokenizer_files import write_tokenizer
from toy_faces import write_people

from portraittalk_core.diffusion.checkpoint import load_sd15
from portraittalk_core.diffusion.text import encode_text, find_tokenizer
from portraittalk_core.errors import InputError
from portraittalk_core.renderers.identitynet.adapter import load_adapter
from portraittalk_core.training.identitynet.config import load_config
from portraittalk_core.training.identitynet.stage import train_identity
from portraittalk_core.training.loop.config import TrainerConfig
from portraittalk_core.training.loop.frozen import ClipTexts, VaeLatentCodec
from portraittalk_core.weights.load import read_metadata

pytest.importorskip("diffusers")
pytest.importorskip("accelerate")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def sd15(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("sd15") / "sd15.safetensors")


def write_config(tmp_path, more="", **trainer) -> object:
    settings = {"steps": 2, "batch_size": 2, "gradient_accumulation": 1, "sample_every": 2, **trainer}
    lines = [f"{name} = {value}" for name, value in settings.items()]
    head = 'checkpoint = "sd15.safetensors"\ndata = "people"\nout = "out"\nresolution = 64\nmask_patch = 8\n'
    path = tmp_path / "identity.toml"
    path.write_text(head + more + "[trainer]\n" + "\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.slow
def test_identity_is_trained_from_a_config_file(tmp_path, sd15):
    shutil.copy(sd15, tmp_path)
    write_people(tmp_path / "people", captions=True)
    write_tokenizer(tmp_path / "words")
    more = 'train_lora = true\nrank = 2\ntokenizer = "words"\n'
    path = write_config(tmp_path, more)
    seen = []
    made = train_identity(load_config(path), lambda *now: seen.append(now))
    assert seen[-1] == (2, 2) and seen[0] == (0, 2)
    adapter = load_adapter(made.adapter)
    assert adapter.layout == "faceid" and len(adapter.lora) == 256
    assert made.adapter == tmp_path / "out" / "identity_adapter.safetensors"
    card = read_metadata(made.adapter)
    assert card["steps"] == "2" and card["settings_sha256"] == made.training.settings_hash
    assert made.report.pictures == 4 and made.training.samples[0].is_file()
    assert [json.loads(line)["step"] for line in made.training.log.read_text().splitlines()] == [1, 2]
    further = train_identity(load_config(write_config(tmp_path, more, steps=3)))
    assert further.training.resumed_from == 2 and further.training.steps == 3


def test_captions_reach_the_text_encoder(tmp_path, sd15):
    base = load_sd15(sd15)
    tokenizer = find_tokenizer(write_tokenizer(tmp_path / "words"))
    texts = ClipTexts(base.text_encoder, tokenizer)
    long = "a photo of anna " * 40
    tokens = texts.tokens(["", "a photo of anna", long])
    assert tokens.shape == (3, 77, 48)
    for row, caption in enumerate(["", "a photo of anna"]):
        assert torch.allclose(tokens[row], encode_text(base.text_encoder, tokenizer, caption)[0], atol=1e-6)
    assert torch.allclose(ClipTexts(base.text_encoder).tokens([""])[0], tokens[0])
    with pytest.raises(InputError, match="tokenizer"):
        ClipTexts(base.text_encoder).tokens(["a photo of anna"])


def test_vae_latents_have_sd15s_scale(sd15):
    vae = load_sd15(sd15).vae
    pictures = torch.rand(2, 3, 64, 64) * 2 - 1
    latents = VaeLatentCodec(vae).encode(pictures)
    assert latents.shape == (2, 4, 8, 8)
    with torch.no_grad():
        assert torch.allclose(latents, vae.encode(pictures).latent_dist.mean * 0.18215, atol=1e-6)
        assert torch.allclose(VaeLatentCodec(vae).decode(latents), vae.decode(latents / 0.18215).sample, atol=1e-5)


def test_config_is_read_with_its_types(tmp_path):
    path = write_config(
        tmp_path, 'mask_ratio = [0.2, 1]\nadapter = "a.bin"\n', learning_rate=1, mixed_precision='"bf16"'
    )
    config = load_config(path)
    assert config.checkpoint == tmp_path / "sd15.safetensors" and config.adapter == tmp_path / "a.bin"
    assert config.mask_ratio == (0.2, 1.0) and config.mode == "reconstruct"
    assert config.trainer.learning_rate == 1.0 and config.trainer.mixed_precision == "bf16"
    assert TrainerConfig().learning_rate == 5e-6


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("resolutoin = 512\n", "unknown names: resolutoin"),
        ('resolution = "512"\n', "resolution must be a whole number, not '512'"),
        ("snr_limit = 1e309\n", "snr_limit must be a finite number, not inf"),
        (f"snr_limit = {10**400}\n", "snr_limit must be a finite number, not 1000"),
        ("resolution = 512.0\n", "resolution must be a whole number"),
        ("train_lora = 1\n", "train_lora must be true or false"),
        ("mask_ratio = 0.5\n", "mask_ratio must be a list of 2 numbers"),
        ("mask_ratio = [0.5, 0.1]\n", "smaller one first"),
        ("mode = 'both'\n", "reconstruct, paper"),
        ("resolution = 100\n", "multiple of 64"),
        ("drop_image = 0.9\ndrop_both = 0.9\n", "more than 1 together"),
        ("trainer = 5\n", "trainer must be a table"),
        ("[trainer]\nrate = 5\n", "trainer.rate"),
        ("[trainer]\nbatch_size = 0\n", "batch_size"),
        ("x = = 1", "not valid TOML"),
    ],
)
def test_config_refuses_by_name(tmp_path, text, told):
    path = tmp_path / "identity.toml"
    path.write_text('checkpoint = "a"\ndata = "b"\nout = "c"\n' + text, encoding="utf-8")
    with pytest.raises(InputError, match=told):
        load_config(path)


def test_config_names_what_is_absent(tmp_path):
    path = tmp_path / "identity.toml"
    path.write_text('data = "b"\n', encoding="utf-8")
    with pytest.raises(InputError, match="lacks checkpoint, out"):
        load_config(path)
    with pytest.raises(InputError, match="no configuration file"):
        load_config(tmp_path / "none.toml")


def test_a_checkpoint_without_vae_is_refused(tmp_path):
    make_checkpoint(tmp_path / "sd15.safetensors", vae=False)
    write_people(tmp_path / "people")
    with pytest.raises(InputError, match="lacks vae"):
        train_identity(load_config(write_config(tmp_path)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('adapter = "out/old.safetensors"\n', "adapter is read from"),
        ('adapter = "out/../out/old.safetensors"\n', "adapter is read from"),
        ('face_models = "."\n', "face_models is read from"),
    ],
)
def test_what_is_read_may_not_lie_where_is_written(tmp_path, text, said):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.safetensors").write_bytes(b"kept")
    with pytest.raises(InputError, match=said):
        load_config(write_config(tmp_path, text))
    with pytest.raises(InputError, match="data is read from"):
        path = write_config(tmp_path)
        path.write_text(path.read_text().replace('out = "out"', 'out = "people/made"'))
        (tmp_path / "people").mkdir()
        load_config(path)
    assert (tmp_path / "out" / "old.safetensors").read_bytes() == b"kept"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('adapter = "a\\u0000b"\n', "NUL"),
        ('adapter = "~nobody_of_this_name/x"\n', "a home folder that is not known"),
        (f"rank = {10**400}\n", "rank must be a number that fits a computer"),
        ("a" + ".a" * 100_000 + " = 1\n", "a key of more than 64 parts"),
        ("a = " + "[" * 100_000, "brackets deep"),
        ("#" * 2_000_000, "1 MB are allowed"),
    ],
)
def test_config_that_no_program_can_take_is_told(tmp_path, text, said):
    path = tmp_path / "identity.toml"
    path.write_text('checkpoint = "a"\ndata = "b"\nout = "c"\n' + text, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        load_config(path)
