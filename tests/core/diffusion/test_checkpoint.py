"""SD1.5 from single files: the weights arrive where diffusers' own converters put them; strangers are refused."""

import re

import pytest
import torch
from safetensors.torch import save_file
from sd15_files import checkpoint_tensors, make_checkpoint

from portraittalk_core.diffusion.checkpoint import load_sd15
from portraittalk_core.errors import InputError, MissingDependency

pytest.importorskip("diffusers")

UNET = "model.diffusion_model."


@pytest.fixture(scope="module")
def tensors():
    return checkpoint_tensors()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("sd15") / "tiny.safetensors")


@pytest.fixture(scope="module")
def loaded(tiny):
    return load_sd15(tiny)


def saved(path, tensors):
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


def only(tensors, prefix):
    return {name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def diffusers_unet(tensors):
    """Built by diffusers alone: its own configuration, its own converter."""
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    unet = UNet2DConditionModel(block_out_channels=(32, 64, 128, 128), cross_attention_dim=48, attention_head_dim=8)
    unet.load_state_dict(convert_ldm_unet_checkpoint(dict(tensors), dict(unet.config)))
    return unet.eval()


def diffusers_vae(tensors):
    from diffusers import AutoencoderKL
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    vae = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[32, 64, 128, 128],
        layers_per_block=2,
    )
    vae.load_state_dict(convert_ldm_vae_checkpoint(dict(tensors), dict(vae.config)))
    return vae.eval()


@torch.no_grad()
def predicted(unet):
    draw = torch.Generator().manual_seed(1)
    x, text = torch.randn(2, 4, 16, 8, generator=draw), torch.randn(2, 77, 48, generator=draw)
    return unet(x.to(unet.dtype), torch.tensor([7, 981]), text.to(unet.dtype)).sample


def test_unet_matches_diffusers(loaded, tensors):
    assert torch.equal(predicted(loaded.unet), predicted(diffusers_unet(tensors)))


@torch.no_grad()
def test_vae_matches_diffusers(loaded, tensors):
    theirs = diffusers_vae(tensors)
    picture = torch.rand(1, 3, 32, 64, generator=torch.Generator().manual_seed(1))
    latents = loaded.vae.encode(picture).latent_dist.mean
    assert latents.shape == (1, 4, 4, 8)
    assert torch.equal(latents, theirs.encode(picture).latent_dist.mean)
    assert torch.equal(loaded.vae.decode(latents).sample, theirs.decode(latents).sample)
    assert loaded.vae.config.scaling_factor == 0.18215


@torch.no_grad()
def test_text_encoder_matches_a_written_out_clip(loaded, tensors):
    """CLIP's text encoder in plain tensor arithmetic: pre-norm, causal, x·sigmoid(1.702 x)."""
    w = {k.removeprefix("cond_stage_model.transformer.text_model."): v for k, v in tensors.items()}
    ids = torch.randint(0, 49408, (1, 77), generator=torch.Generator().manual_seed(1))

    def linear(name, x):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name, x):
        centred = x - x.mean(-1, keepdim=True)
        return (
            centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]
        )

    x = w["embeddings.token_embedding.weight"][ids[0]] + w["embeddings.position_embedding.weight"]
    for layer in range(2):
        at = f"encoder.layers.{layer}"
        h = norm(f"{at}.layer_norm1", x)
        q, k, v = (linear(f"{at}.self_attn.{p}_proj", h).reshape(77, 12, 4).transpose(0, 1) for p in "qkv")
        scores = (q @ k.transpose(1, 2) / 2).masked_fill(torch.ones(77, 77).triu(1).bool(), -torch.inf)
        x = x + linear(f"{at}.self_attn.out_proj", (scores.softmax(-1) @ v).transpose(0, 1).reshape(77, 48))
        h = linear(f"{at}.mlp.fc1", norm(f"{at}.layer_norm2", x))
        x = x + linear(f"{at}.mlp.fc2", h * torch.sigmoid(1.702 * h))
    ours = loaded.text_encoder(ids).last_hidden_state[0]
    assert torch.allclose(ours, norm("final_layer_norm", x), atol=2e-5)


def test_networks_are_for_inference(loaded):
    for network in (loaded.unet, loaded.vae, loaded.text_encoder):
        assert not network.training
        assert not any(p.requires_grad for p in network.parameters())
        assert not any(t.is_meta for t in (*network.parameters(), *network.buffers()))


def test_text_encoder_config_is_read_off_the_shapes(loaded):
    config = loaded.text_encoder.config
    assert (config.hidden_size, config.num_hidden_layers, config.max_position_embeddings) == (48, 2, 77)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_are_cast(tiny, loaded, dtype):
    sd15 = load_sd15(tiny, dtype=dtype)
    ours, theirs = sd15.unet.state_dict(), loaded.unet.state_dict()
    assert all(torch.equal(ours[name], theirs[name].to(dtype)) for name in theirs)
    assert {p.dtype for n in (sd15.unet, sd15.vae, sd15.text_encoder) for p in n.parameters()} == {dtype}


def test_half_precision_file_loads_in_full(tmp_path, tensors):
    path = make_checkpoint(tmp_path / "half.safetensors", vae=False, text=False, dtype=torch.float16)
    sd15 = load_sd15(path)
    assert torch.equal(
        sd15.unet.conv_in.weight, tensors["model.diffusion_model.input_blocks.0.0.weight"].half().float()
    )
    assert sd15.vae is None
    assert sd15.text_encoder is None


def test_other_sizes_of_the_same_topology_load(tmp_path):
    path = make_checkpoint(tmp_path / "wide.safetensors", channels=64, context=96, vae=False)
    sd15 = load_sd15(path)
    assert sd15.unet.config.block_out_channels == (64, 128, 256, 256)
    assert sd15.unet.config.cross_attention_dim == sd15.text_encoder.config.hidden_size == 96


def _bare(tensors):
    return {k.removeprefix("model.diffusion_model."): v for k, v in only(tensors, "model.diffusion_model.").items()}


def _diffusers_layout(tensors):
    return diffusers_unet(tensors).state_dict()


@pytest.mark.parametrize(
    "layout",
    [_bare, _diffusers_layout, lambda t: {f"unet.{k}": v for k, v in _diffusers_layout(t).items()}],
    ids=["without prefix", "diffusers", "diffusers with prefix"],
)
def test_unet_of_another_layout_is_the_same(tmp_path, tensors, loaded, layout):
    sd15 = load_sd15(saved(tmp_path / "unet.safetensors", layout(tensors)))
    assert torch.equal(predicted(sd15.unet), predicted(loaded.unet))
    assert sd15.vae is None


def test_pickle_is_the_same(tmp_path, loaded):
    sd15 = load_sd15(make_checkpoint(tmp_path / "sd.ckpt"))
    for part in ("unet", "vae", "text_encoder"):
        theirs = getattr(loaded, part).state_dict()
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in getattr(sd15, part).state_dict().items())


def test_text_encoder_without_its_inner_level_is_found(tmp_path, tensors, loaded):
    renamed = {name.replace(".text_model.", "."): tensor for name, tensor in tensors.items()}
    sd15 = load_sd15(saved(tmp_path / "merge.safetensors", renamed))
    ids = torch.arange(77)[None]
    assert torch.equal(sd15.text_encoder(ids).last_hidden_state, loaded.text_encoder(ids).last_hidden_state)


TO_K = f"{UNET}input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
STRANGERS = [
    ("SDXL", {TO_K: torch.zeros(64, 2048)}),
    ("SDXL", {f"{UNET}label_emb.0.0.weight": torch.zeros(4, 4)}),
    ("SDXL", {"conditioner.embedders.0.transformer.text_model.final_layer_norm.weight": torch.zeros(4)}),
    ("Stable Diffusion 2", {TO_K: torch.zeros(64, 1024)}),
    ("inpainting.* 9 channels", {f"{UNET}input_blocks.0.0.weight": torch.zeros(32, 9, 3, 3)}),
    ("instruct-pix2pix.* 8 channels", {f"{UNET}input_blocks.0.0.weight": torch.zeros(32, 8, 3, 3)}),
]


@pytest.mark.parametrize(("told", "changed"), STRANGERS, ids=[f"{t} by {next(iter(c))}" for t, c in STRANGERS])
def test_another_family_is_refused_by_name(tmp_path, tensors, told, changed):
    path = saved(tmp_path / "other.safetensors", only(tensors, UNET) | changed)
    with pytest.raises(InputError, match=rf"other\.safetensors is .*{told}"):
        load_sd15(path)


OTHERS = [
    ("a ControlNet", "control_model.input_hint_block.0.weight"),
    ("a ControlNet", "controlnet_cond_embedding.conv_in.weight"),
    ("a LoRA", "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight"),
    ("a LoRA", "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight"),
    ("an identity adapter", "image_proj.norm.weight"),
    ("a motion module", "down_blocks.0.motion_modules.0.temporal_transformer.proj_in.weight"),
    ("Stable Diffusion 3 or Flux", "model.diffusion_model.joint_blocks.0.x_block.attn.proj.weight"),
    ("holds no UNet", "encoder.conv_in.weight"),
]


@pytest.mark.parametrize(("told", "name"), OTHERS, ids=[name for _, name in OTHERS])
def test_another_kind_of_file_is_refused_by_name(tmp_path, told, name):
    path = saved(tmp_path / "other.safetensors", {name: torch.zeros(8, 4, 3, 3)})
    with pytest.raises(InputError, match=rf"other\.safetensors.* {told}"):
        load_sd15(path)


def test_incomplete_unet_is_refused_with_its_gaps(tmp_path, tensors):
    lacking = only(tensors, UNET)
    del lacking[f"{UNET}middle_block.1.proj_in.weight"]
    lacking[f"{UNET}time_embed.cond_proj.weight"] = torch.zeros(4, 4)
    with pytest.raises(InputError, match=r"lacks mid_block\.attentions\.0\.proj_in\.weight.*also holds .*cond_proj"):
        load_sd15(saved(tmp_path / "gap.safetensors", lacking))


@pytest.mark.parametrize("gone", ["out.2.weight", "input_blocks.7.0.in_layers.2.weight"])
def test_unet_without_a_level_is_refused(tmp_path, tensors, gone):
    lacking = {name: tensor for name, tensor in only(tensors, UNET).items() if not name.endswith(gone)}
    with pytest.raises(InputError, match="gap.safetensors is no complete SD1.5 checkpoint: it lacks"):
        load_sd15(saved(tmp_path / "gap.safetensors", lacking))


@pytest.mark.parametrize("name", ["cut.safetensors", "cut.ckpt"])
def test_truncated_file_is_refused(tmp_path, cut_file, name):
    path = cut_file(make_checkpoint(tmp_path / name, vae=False, text=False))
    with pytest.raises(InputError, match=re.escape(name)):
        load_sd15(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(MissingDependency, match="nowhere.safetensors"):
        load_sd15(tmp_path / "nowhere.safetensors")


def test_nothing_is_fetched(tiny, monkeypatch):
    import socket

    def refuse(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert load_sd15(tiny).unet is not None


def test_file_stays_as_it_was_when_weights_are_changed(tmp_path):
    """Weights of the file's own type are mapped into memory; what is written to them must not reach the disk."""
    path = make_checkpoint(tmp_path / "tiny.safetensors", vae=False, text=False)
    before = path.read_bytes()
    load_sd15(path).unet.conv_in.weight.add_(1)
    assert path.read_bytes() == before
