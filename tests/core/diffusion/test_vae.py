"""VAE files of every layout, and TAESD against its sequence of layers written out."""

import pytest
import torch
from safetensors.torch import save_file
from sd15_files import checkpoint_tensors, make_checkpoint
from tiny_vae import decoded, decoder_tensors, encoded, encoder_tensors, write_taesd

from portraittalk_core.diffusion.checkpoint import load_sd15
from portraittalk_core.diffusion.latents import LATENT_SCALE
from portraittalk_core.diffusion.vae import load_vae
from portraittalk_core.errors import InputError, MissingDependency

diffusers = pytest.importorskip("diffusers")


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("sd15") / "tiny.safetensors", text=False)


def test_taesd_matches_its_layers_written_out(tmp_path):
    vae = load_vae(write_taesd(tmp_path))
    latents, pictures = 2 * noise(2, 4, 8, 8), torch.rand(2, 3, 64, 64)
    halves = [{n: t.half().float() for n, t in half.items()} for half in (decoder_tensors(), encoder_tensors())]
    with torch.no_grad():
        shown = vae.decode(latents / LATENT_SCALE).sample / 2 + 0.5
        seen = vae.encode(2 * pictures - 1).latent_dist.mean * LATENT_SCALE
    torch.testing.assert_close(shown, decoded(halves[0], latents), rtol=0, atol=1e-5)
    torch.testing.assert_close(seen, encoded(halves[1], pictures), rtol=0, atol=1e-5)
    assert not any(weight.requires_grad for weight in vae.parameters())


def test_diffusers_file_of_taesd_is_the_same_network(tmp_path):
    from_two = load_vae(write_taesd(tmp_path))
    save_file(from_two.tiny.state_dict(), tmp_path / "diffusion_pytorch_model.safetensors")
    from_one = load_vae(tmp_path / "diffusion_pytorch_model.safetensors")
    latents = noise(1, 4, 8, 8)
    assert torch.equal(from_one.decode(latents).sample, from_two.decode(latents).sample)


def test_a_decoder_alone_takes_the_checkpoints_encoder(tmp_path, checkpoint):
    own = load_sd15(checkpoint).vae
    path = write_taesd(tmp_path, encoder=False)
    vae, picture = load_vae(path, fallback=own), noise(1, 3, 64, 64)
    assert torch.equal(vae.encode(picture).latent_dist.mean, own.encode(picture).latent_dist.mean)
    assert not torch.equal(vae.decode(noise(1, 4, 8, 8)).sample, own.decode(noise(1, 4, 8, 8)).sample)
    with pytest.raises(InputError, match="taesd_decoder.safetensors only decodes; put taesd_encoder.safetensors"):
        load_vae(path)


def vae_tensors() -> dict[str, torch.Tensor]:
    whole = checkpoint_tensors(text=False)
    return {name.removeprefix("first_stage_model."): t for name, t in whole.items() if name.startswith("first_stage")}


@pytest.mark.slow
def test_every_layout_of_a_vae_is_the_same_network(tmp_path, checkpoint):
    own, latents, picture = load_sd15(checkpoint).vae, noise(1, 4, 8, 8), noise(1, 3, 64, 64)
    save_file(vae_tensors() | {"loss.logvar": torch.zeros(1)}, tmp_path / "ldm.safetensors")
    torch.save({"state_dict": vae_tensors()}, tmp_path / "ldm.ckpt")
    save_file(own.state_dict(), tmp_path / "diffusers.safetensors")
    for path in (tmp_path / "ldm.safetensors", tmp_path / "ldm.ckpt", tmp_path / "diffusers.safetensors", checkpoint):
        vae = load_vae(path)
        assert torch.equal(vae.decode(latents).sample, own.decode(latents).sample), path.name
        assert torch.equal(vae.encode(picture).latent_dist.mean, own.encode(picture).latent_dist.mean), path.name


def test_what_is_no_vae_of_sd15_is_refused(tmp_path):
    with pytest.raises(MissingDependency, match="there is no weight file"):
        load_vae(tmp_path / "none.safetensors")
    write_taesd(tmp_path)
    with pytest.raises(InputError, match="is an encoder of TAESD's; give its decoder"):
        load_vae(tmp_path / "taesd_encoder.safetensors")
    wide = decoder_tensors() | {"1.weight": torch.zeros(64, 16, 3, 3)}  # TAESD3's
    save_file(wide, tmp_path / "taesd3_decoder.safetensors")
    with pytest.raises(InputError, match="latents of 16 channels, SD1.5's have 4"):
        load_vae(tmp_path / "taesd3_decoder.safetensors")
    lacking = {name: t for name, t in decoder_tensors().items() if name != "7.weight"}
    save_file(lacking, tmp_path / "cut.safetensors")
    with pytest.raises(InputError, match="cut.safetensors"):
        load_vae(tmp_path / "cut.safetensors", fallback=torch.nn.Identity())
    flux = vae_tensors() | {"decoder.conv_in.weight": torch.zeros(32, 16, 3, 3)}
    save_file(flux, tmp_path / "ae.safetensors")
    with pytest.raises(InputError, match="ae.safetensors makes latents of 16 channels"):
        load_vae(tmp_path / "ae.safetensors")
    save_file({"x.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="holds no VAE; its tensors are called x.weight"):
        load_vae(tmp_path / "other.safetensors")
