"""LoRA files of diffusers' and PEFT's layouts become Kohya's, scale and all."""

import copy
import json

import pytest
import torch
from safetensors.torch import save_file
from sd15_files import make_checkpoint

from portraittalk_core.diffusion.checkpoint import load_sd15
from portraittalk_core.diffusion.lora import merge_lora
from portraittalk_core.diffusion.lora_file import kohya_named, read_lora
from portraittalk_core.errors import InputError

state_dicts = pytest.importorskip("diffusers.utils.state_dict_utils")

ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
RANK = 4
PLACES = {  # of the UNet, with the shape of the tiny checkpoint's layer
    f"{ATTENTION}.to_q": (32, 32),
    f"{ATTENTION}.to_out.0": (32, 32),
    "mid_block.attentions.0.transformer_blocks.0.attn2.to_k": (128, 48),
    "up_blocks.3.attentions.0.transformer_blocks.0.ff.net.0.proj": (256, 32),
    "down_blocks.0.resnets.1.conv2": (32, 32, 3, 3),
    "mid_block.resnets.1.time_emb_proj": (128, 128),
}
TEXT = {"text_model.encoder.layers.1.self_attn.out_proj": (48, 48)}


def factors(places, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return {
        place: (
            torch.randn(RANK, *shape[1:], generator=draw),
            torch.randn(shape[0], RANK, *[1 for _ in shape[2:]], generator=draw),
        )
        for place, shape in places.items()
    }


def peft(places, part):
    return {
        f"{part}.{place}.lora_{letter}.weight": tensor
        for place, pair in factors(places).items()
        for letter, tensor in zip("AB", pair, strict=True)
    }


def written(pattern: str) -> dict[str, torch.Tensor]:
    """Under names of a layout, `{}` for the place and `down` for down and up."""
    return {
        pattern.format(place).replace("down.weight", f"{way}.weight"): tensor
        for place, pair in factors(PLACES).items()
        for way, tensor in zip(("down", "up"), pair, strict=True)
    }


def test_peft_names_become_what_diffusers_own_conversion_gives():
    both = peft(PLACES, "unet") | peft(TEXT, "text_encoder")
    theirs = state_dicts.convert_state_dict_to_kohya(both)
    theirs = {name.replace("lora_te1_", "lora_te_"): tensor for name, tensor in theirs.items() if "alpha" not in name}
    ours = kohya_named(both)
    assert ours.keys() == theirs.keys() and len(ours) == 2 * (len(PLACES) + len(TEXT))
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def old_processors() -> dict[str, torch.Tensor]:
    """As diffusers wrote attention before 0.21."""
    return {
        f"unet.{ATTENTION}.processor.{place.rpartition('attn1.')[2].removesuffix('.0')}_lora.{way}.weight": tensor
        for place, pair in factors(PLACES).items()
        if place.startswith(ATTENTION)
        for way, tensor in zip(("down", "up"), pair, strict=True)
    }


@pytest.mark.parametrize(
    "given",
    [
        written("unet.{}.lora.down.weight"),
        written("{}.lora.down.weight"),
        written("unet.{}.lora_linear_layer.down.weight"),
        {n.removeprefix("unet."): t for n, t in peft(PLACES, "unet").items()},
        {f"base_model.{n.removeprefix('unet.')}": t for n, t in peft(PLACES, "unet").items()},
        {n.replace(".weight", ".default.weight"): t for n, t in peft(PLACES, "unet").items()},
        old_processors(),
    ],
    ids=["lora.down", "of the UNet alone", "lora_linear_layer", "PEFT alone", "base_model", "default", "processor"],
)
def test_every_layout_is_the_same_lora(given):
    expected, ours = kohya_named(peft(PLACES, "unet")), kohya_named(given)
    assert ours.keys() <= expected.keys() and len(ours) == len(given)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in ours.items())


def test_kohyas_own_names_stay():
    given = {"lora_unet_mid_block_x.lora_down.weight": torch.ones(2, 3), "other": torch.ones(1)}
    assert kohya_named(given) == given


SCALES = [
    ({}, 1.0),
    ({"unet.lora_alpha": 8, "unet.r": RANK}, 2.0),
    ({"unet.lora_alpha": 8, "unet.use_rslora": True}, 8 / RANK**0.5),
    ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"attn1.to_q": 2}}, 0.5),
    ({"text_encoder.lora_alpha": 8}, 1.0),
]


@pytest.mark.parametrize(("told", "scale"), SCALES)
def test_the_scale_is_taken_from_the_file(tmp_path, told, scale):
    place = f"{ATTENTION}.to_q"
    down, up = factors(PLACES)[place]
    tensors = {f"unet.{place}.lora_A.weight": down, f"unet.{place}.lora_B.weight": up}
    save_file(tensors, tmp_path / "lora.safetensors", {"lora_adapter_metadata": json.dumps(told)})
    base = load_sd15(make_checkpoint(tmp_path / "tiny.safetensors", vae=False, text=False))
    merged = copy.deepcopy(base)
    assert merge_lora(merged, read_lora(tmp_path / "lora.safetensors"), 0.5, "lora") == 1
    moved = merged.unet.get_submodule(place).weight - base.unet.get_submodule(place).weight
    torch.testing.assert_close(moved, 0.5 * scale * up @ down, rtol=1e-4, atol=1e-5)


def test_an_alpha_among_the_tensors_counts_before_the_metadata():
    place = f"{ATTENTION}.to_q"
    down, up = factors(PLACES)[place]
    given = {f"unet.{place}.alpha": torch.tensor(3.0), f"unet.{place}.lora.down.weight": down}
    given |= {f"unet.{place}.lora.up.weight": up}
    for order in (list(given), list(given)[::-1]):
        named = kohya_named({name: given[name] for name in order}, {"lora_adapter_metadata": '{"unet.lora_alpha": 8}'})
        assert named[f"lora_unet_{place.replace('.', '_')}.alpha"] == 3
    assert kohya_named({"x": up}, {"lora_adapter_metadata": "{"}).keys() == {"x"}


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"unet.lora_alpha": "1e309"}, "alpha must be a number"),
        ({"unet.lora_alpha": 1e300}, "alpha must lie between"),
        ({"unet.lora_alpha": [8]}, "alpha must be a number"),
        ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"(": 2}}, "holds the pattern"),
    ],
)
def test_a_configuration_that_is_none_is_told(told, said):
    place = f"{ATTENTION}.to_q"
    down, up = factors(PLACES)[place]
    tensors = {f"unet.{place}.lora_A.weight": down, f"unet.{place}.lora_B.weight": up}
    with pytest.raises(InputError, match=said):
        kohya_named(tensors, {"lora_adapter_metadata": json.dumps(told)})
