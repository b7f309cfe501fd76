"""LoRA files: the weights move by strength · alpha / rank · up · down, all of them or none."""

import copy
import logging

import pytest
import torch
from sd15_files import make_checkpoint

from portraittalk_core.diffusion.checkpoint import SD15, load_sd15
from portraittalk_core.diffusion.lora import merge_lora
from portraittalk_core.errors import InputError

pytest.importorskip("diffusers")

# Kohya's name, diffusers' name, shape of the layer's weight
LAYERS = [
    ("down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
     "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", (32, 32)),
    ("down_blocks_1_attentions_1_transformer_blocks_0_attn2_to_k",
     "down_blocks.1.attentions.1.transformer_blocks.0.attn2.to_k", (64, 48)),
    ("mid_block_attentions_0_transformer_blocks_0_attn2_to_out_0",
     "mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0", (128, 128)),
    ("up_blocks_1_attentions_2_transformer_blocks_0_ff_net_0_proj",
     "up_blocks.1.attentions.2.transformer_blocks.0.ff.net.0.proj", (1024, 128)),
    ("up_blocks_3_attentions_0_transformer_blocks_0_ff_net_2",
     "up_blocks.3.attentions.0.transformer_blocks.0.ff.net.2", (32, 128)),
    ("up_blocks_2_attentions_1_proj_in", "up_blocks.2.attentions.1.proj_in", (64, 64, 1, 1)),
    ("down_blocks_0_resnets_1_conv2", "down_blocks.0.resnets.1.conv2", (32, 32, 3, 3)),
    ("down_blocks_1_downsamplers_0_conv", "down_blocks.1.downsamplers.0.conv", (64, 64, 3, 3)),
    ("down_blocks_2_resnets_0_conv_shortcut", "down_blocks.2.resnets.0.conv_shortcut", (128, 64, 1, 1)),
    ("mid_block_resnets_1_time_emb_proj", "mid_block.resnets.1.time_emb_proj", (128, 128)),
]  # fmt: skip
TEXT_LAYERS = [
    ("encoder_layers_0_self_attn_q_proj", "encoder.layers.0.self_attn.q_proj", (48, 48)),
    ("encoder_layers_1_mlp_fc1", "encoder.layers.1.mlp.fc1", (192, 48)),
]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return load_sd15(make_checkpoint(tmp_path_factory.mktemp("sd15") / "tiny.safetensors", vae=False))


@pytest.fixture
def sd15(original):
    return copy.deepcopy(original)


def weights(network):
    return {name.removeprefix("text_model."): tensor.clone() for name, tensor in network.state_dict().items()}


def same(ours, theirs):
    theirs = theirs.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in ours.state_dict().items())


def lora(name, shape, rank=4, alpha=None, seed=0, dtype=torch.float32):
    draw = torch.Generator().manual_seed(seed)
    down = torch.randn(rank, *shape[1:], generator=draw).to(dtype)
    up = torch.randn(shape[0], rank, *[1 for _ in shape[2:]], generator=draw).to(dtype)
    made = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
    return made | ({f"{name}.alpha": torch.tensor(float(alpha))} if alpha is not None else {})


def product(tensors, name, shape):
    """up · down, summed rank by rank in float64."""
    up, down = (tensors[f"{name}.lora_{way}.weight"].double() for way in ("up", "down"))
    total = torch.zeros(shape, dtype=torch.float64)
    for r in range(len(down)):
        total += up[:, r].reshape(-1, *[1 for _ in shape[1:]]) * down[r]
    return total


def check_moved(ours, theirs, moved):
    """`moved` holds what is expected of weights by name; all others must be as they were."""
    before, after = weights(theirs), weights(ours)
    for name, expected in moved.items():
        assert torch.allclose(after[f"{name}.weight"].double(), before[f"{name}.weight"] + expected, atol=1e-5), name
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"{name}.weight" for name in moved}


@pytest.mark.parametrize(("alpha", "strength"), [(None, 1.0), (2, 0.7), (8, -1.5)])
def test_layers_move_by_the_formula(sd15, original, alpha, strength):
    tensors, unet, text = {}, {}, {}
    for prefix, layers, moved in (("lora_unet_", LAYERS, unet), ("lora_te_text_model_", TEXT_LAYERS, text)):
        for i, (kohya, name, shape) in enumerate(layers):
            made = lora(prefix + kohya, shape, rank=1 + i, alpha=alpha, seed=i)
            scale = 1 if alpha is None else alpha / (1 + i)
            moved[name] = strength * scale * product(made, prefix + kohya, shape)
            tensors |= made
    assert merge_lora(sd15, tensors, strength, "file") == len(LAYERS) + len(TEXT_LAYERS)
    check_moved(sd15.unet, original.unet, unet)
    check_moved(sd15.text_encoder, original.text_encoder, text)


def test_two_dimensional_factors_fit_a_pointwise_convolution(sd15, original):
    name = "lora_unet_up_blocks_2_attentions_1_proj_in"
    tensors = lora(name, (64, 64))
    merge_lora(sd15, tensors, 1.0, "file")
    moved = (
        sd15.unet.up_blocks[2].attentions[1].proj_in.weight - original.unet.up_blocks[2].attentions[1].proj_in.weight
    )
    assert torch.allclose(moved[:, :, 0, 0].double(), product(tensors, name, (64, 64)), atol=1e-5)


def test_merging_adds_up_and_strength_zero_is_nothing(sd15, original):
    name = f"lora_unet_{LAYERS[0][0]}"
    tensors = lora(name, (32, 32))
    merge_lora(sd15, tensors, 0.0, "file")
    assert same(sd15.unet, original.unet)
    merge_lora(sd15, tensors, 0.25, "file")
    merge_lora(sd15, tensors, -0.25, "file")
    back = weights(sd15.unet)[f"{LAYERS[0][1]}.weight"]
    assert torch.allclose(back, weights(original.unet)[f"{LAYERS[0][1]}.weight"], atol=1e-6)


def test_half_precision_is_rounded_once(original):
    half = SD15(copy.deepcopy(original.unet).half(), None, None)
    name = f"lora_unet_{LAYERS[0][0]}"
    tensors = lora(name, (32, 32), dtype=torch.float16)
    before = weights(half.unet)[f"{LAYERS[0][1]}.weight"].double()
    merge_lora(half, tensors, 0.3, "file")
    after = weights(half.unet)[f"{LAYERS[0][1]}.weight"]
    expected = before + 0.3 * product(tensors, name, (32, 32))
    assert after.dtype == torch.float16
    assert ((after.double() - expected).abs() <= expected.abs() * 2**-11 + 1e-6).all()


@pytest.mark.parametrize("part", ["dora_scale", "lora_mid.weight"])
def test_layer_of_another_method_is_left_out_with_a_warning(sd15, original, caplog, part):
    """Merging only its up and down would be wrong."""
    known, other = lora(f"lora_unet_{LAYERS[0][0]}", (32, 32)), lora(f"lora_unet_{LAYERS[2][0]}", (128, 128))
    other |= {f"lora_unet_{LAYERS[2][0]}.{part}": torch.ones(4, 4)}
    with caplog.at_level(logging.WARNING):
        assert merge_lora(sd15, known | other, 1.0, "mine.safetensors") == 1
    assert "mine.safetensors: 3 tensors fit no layer" in caplog.text
    assert part in caplog.text
    assert torch.equal(weights(sd15.unet)[f"{LAYERS[2][1]}.weight"], weights(original.unet)[f"{LAYERS[2][1]}.weight"])


def test_text_part_without_a_text_encoder_is_warned_of(original, caplog):
    alone = SD15(copy.deepcopy(original.unet), None, None)
    tensors = lora(f"lora_unet_{LAYERS[0][0]}", (32, 32)) | lora(f"lora_te_text_model_{TEXT_LAYERS[0][0]}", (48, 48))
    with caplog.at_level(logging.WARNING):
        assert merge_lora(alone, tensors, 1.0, "file") == 1
    assert "2 tensors fit no layer" in caplog.text


ATTN2 = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
REFUSED = [
    ("for SDXL: it changes two text encoders", lora("lora_te2_text_model_encoder_layers_0_mlp_fc1", (8, 8))),
    ("for SDXL: text tokens are 2048 wide", lora(ATTN2, (1280, 2048))),
    ("for SDXL: text tokens are 2048 wide",
     lora("lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k", (640, 2048))),
    ("for Stable Diffusion 2: text tokens are 1024 wide", lora(ATTN2, (1280, 1024))),
    (r"does not fit SD1.5: .*attn2_to_k has up \(8, 4\) and down \(4, 48\).*\(128, 48\)", lora(ATTN2, (8, 48))),
    ("none of its 2 tensors, such as unknown.lora_down", lora("unknown", (8, 8))),
    ("such as none at all", {}),
]  # fmt: skip


@pytest.mark.parametrize(("told", "tensors"), REFUSED, ids=[told for told, _ in REFUSED])
def test_merge_lora_rejects_and_changes_nothing(sd15, original, told, tensors):
    good = lora(f"lora_unet_{LAYERS[0][0]}", (32, 32)) if "none" not in told else {}
    with pytest.raises(InputError, match=f"mine.*{told}"):
        merge_lora(sd15, good | tensors, 1.0, "mine.safetensors")
    assert same(sd15.unet, original.unet)


def test_every_layer_that_kohya_trains_is_known(original):
    """Its trainers change 16 transformers (in, out, 8 projections of attention, 2 of the feed-forward) and the text's
    12 layers of 6; the names that diffusers' own layers have are the yardstick.
    """
    from portraittalk_core.diffusion.lora import _layers

    names = set(_layers(original))
    transformers = [n for n, m in original.unet.named_modules() if type(m).__name__ == "Transformer2DModel"]
    parts = ["proj_in", "proj_out", "transformer_blocks_0_ff_net_0_proj", "transformer_blocks_0_ff_net_2"]
    parts += [f"transformer_blocks_0_attn{i}_to_{p}" for i in (1, 2) for p in ("q", "k", "v", "out_0")]
    wanted = {f"lora_unet_{t.replace('.', '_')}_{part}" for t in transformers for part in parts}
    assert len(wanted) == 16 * 12
    assert wanted <= names
    places = ["mlp_fc1", "mlp_fc2", *(f"self_attn_{p}_proj" for p in ("q", "k", "v", "out"))]
    assert {f"lora_te_text_model_encoder_layers_{i}_{p}" for i in range(2) for p in places} <= names


def test_the_lora_inside_an_adapter_merges(sd15, original):
    """Its 32 attentions of four projections, renamed, land on the layers that diffusers' order says."""
    from adapter_files import adapter_tensors

    from portraittalk_core.renderers.identitynet.adapter_lora import kohya_lora

    nested = adapter_tensors("faceid")["ip_adapter"]
    inside = {name: tensor for name, tensor in nested.items() if "_lora." in name}
    assert merge_lora(sd15, kohya_lora(inside), 1.0, "adapter") == 32 * 4
    before, after = weights(original.unet), weights(sd15.unet)
    processors = list(original.unet.attn_processors)
    for number in (0, 1, 17, 30, 31):
        place = processors[number].removesuffix(".processor")
        for part, layer in (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("out", "to_out.0")):
            up, down = (inside[f"{number}.to_{part}_lora.{way}.weight"] for way in ("up", "down"))
            expected = before[f"{place}.{layer}.weight"] + up @ down
            assert torch.allclose(after[f"{place}.{layer}.weight"], expected, atol=1e-5)
