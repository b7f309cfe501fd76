import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from style_files import style_attention
from tiny_vexpress import CONTEXT, WIDTHS, randomise, tiny_vexpress
from torch import nn

from portraittalk_core.diffusion.branches import Batch
from portraittalk_core.diffusion.motion_modules import bind_motion
from portraittalk_core.diffusion.sites import SITES
from portraittalk_core.errors import InputError
from portraittalk_core.renderers.vexpress.reference import ReferenceAttention, blocks_of, read_bank, write_bank
from portraittalk_core.renderers.vexpress.unet import build_reading_unet
from portraittalk_core.style.attention import FrameStyles, StyleRun, bind_style

FRAMES = 3


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def networks():
    return tiny_vexpress()


@pytest.fixture
def seen(networks):
    read_bank(networks.unet, write_bank(networks.reference, noise(1, 4, 8, 8, seed=1)))
    reading = networks.reading
    reading.labels, reading.reference_weight, reading.audio_weight, reading.kps = (0,), 1.0, 1.0, None
    return networks


def test_a_style_stands_between_the_audio_and_the_feed_forward_layers(seen):
    """One reading block written out, in the order that SVP names; `test_style_attention` has its attention by torch."""
    site, rows = SITES[5], noise(FRAMES, 16, 64)
    block, audio = blocks_of(seen.unet)[5], noise(FRAMES, 5, CONTEXT, seed=2)
    net = style_attention(8, CONTEXT, True, WIDTHS)
    run = StyleRun(net, FrameStyles(noise(1, 8, seed=3), torch.full((1,), 0.7)), Batch())
    heard = rows + block.attn1(block.norm1(rows))
    heard = heard + block.attn1_5(block.norm1_5(heard), (0,))
    heard = heard + block.attn2(block.norm2(heard), encoder_hidden_states=audio)
    looked = heard + run.add(site.adapter_key, heard)
    with bind_style(seen.unet, run):
        made = block(rows, encoder_hidden_states=audio)
    torch.testing.assert_close(made, looked + block.ff(block.norm3(looked)))
    assert (looked - heard).abs().mean() > 0.01


def called(networks, rows=None, audio=None):
    rows = noise(FRAMES, 4, 8, 8) if rows is None else rows
    audio = noise(len(rows), 5, CONTEXT, seed=2) if audio is None else audio
    return networks.unet(rows, torch.tensor(501.0), audio, return_dict=False)[0]


def by_plain_torch(attention, x, context):
    """Multi-head attention written out, one head and one row at a time."""
    rows = []
    for row, tokens in zip(x, context, strict=True):
        q, k, v = (row @ attention.to_q.weight.T, tokens @ attention.to_k.weight.T, tokens @ attention.to_v.weight.T)
        heads = []
        for part in torch.arange(q.shape[1]).chunk(attention.heads):
            heads.append(torch.softmax(q[:, part] @ k[:, part].T / len(part) ** 0.5, 1) @ v[:, part])
        rows.append(torch.cat(heads, 1) @ attention.to_out[0].weight.T + attention.to_out[0].bias)
    return torch.stack(rows)


def test_reference_attention_matches_plain_torch():
    layer = randomise(ReferenceAttention(32, 8), 3)
    x, bank = noise(4, 6, 32), noise(1, 9, 32, seed=1)
    layer.read(bank)
    both = torch.cat([torch.zeros_like(bank).repeat(2, 1, 1), bank.repeat(2, 1, 1)])  # the public code's: zeros first
    torch.testing.assert_close(layer(x, (1, 0)), by_plain_torch(layer, x, both))
    torch.testing.assert_close(layer(x, (0,)), by_plain_torch(layer, x, bank.repeat(4, 1, 1)))


def test_block_adds_self_reference_audio_and_feed_forward_in_order(seen):
    block = blocks_of(seen.unet)[0]
    width = WIDTHS[0]
    x, audio = noise(2, 64, width), noise(2, 5, CONTEXT, seed=2)
    bank = write_bank(seen.reference, noise(1, 4, 8, 8, seed=1))[0].repeat(2, 1, 1)
    seen.reading.reference_weight, seen.reading.audio_weight = 0.95, 3.0
    h = block.norm1(x)
    h = x + by_plain_torch(block.attn1, h, h)
    h = h + 0.95 * by_plain_torch(block.attn1_5, block.norm1_5(h), bank)
    h = h + 3 * by_plain_torch(block.attn2, block.norm2(h), audio)
    values, gates = block.ff.net[0].proj(block.norm3(h)).chunk(2, 2)
    h = h + block.ff.net[2](values * nn.functional.gelu(gates))
    torch.testing.assert_close(block(x, encoder_hidden_states=audio), h, rtol=1e-4, atol=1e-4)


def test_unet_without_additions_matches_diffusers(seen):
    tensors = {name: t for name, t in seen.unet.state_dict().items() if "1_5" not in name}
    theirs = UNet2DConditionModel(
        block_out_channels=WIDTHS, cross_attention_dim=CONTEXT, attention_head_dim=8, norm_num_groups=32
    ).eval()
    theirs.load_state_dict(tensors)
    rows, audio = noise(FRAMES, 4, 8, 8), noise(FRAMES, 5, CONTEXT, seed=2)
    seen.reading.reference_weight = 0.0
    with torch.no_grad():
        expected = theirs(rows, torch.tensor(501.0), audio).sample
    torch.testing.assert_close(called(seen, rows, audio), expected, rtol=1e-4, atol=1e-4)
    seen.reading.reference_weight = 1.0
    assert (called(seen, rows, audio) - expected).abs().max() > 0.1


def test_bank_is_what_cross_attention_is_asked_with_at_time_0(seen):
    """The same numbers seen from elsewhere: diffusers' own processor hands them to the attention."""
    asked = {}

    class Listens:
        def __init__(self, inner, name):
            self.inner, self.name = inner, name

        def __call__(self, attn, hidden_states, encoder_hidden_states=None, **options):
            asked[self.name] = hidden_states
            assert encoder_hidden_states.shape == (1, 1, CONTEXT) and not encoder_hidden_states.any()
            return self.inner(attn, hidden_states, encoder_hidden_states, **options)

    before = seen.reference.attn_processors
    mine = {n: Listens(p, n) if ".attn2." in n else p for n, p in before.items()}
    seen.reference.set_attn_processor(mine)
    try:
        bank = write_bank(seen.reference, noise(1, 4, 8, 8, seed=1))
    finally:
        seen.reference.set_attn_processor(before)
    assert len(bank) == len(asked) == len(SITES)
    for site, kept in zip(SITES, bank, strict=True):
        assert torch.equal(kept, asked[f"{site.attention(2)}.processor"])


def test_key_points_are_added_behind_the_first_convolution(seen):
    plain = called(seen)
    caught = []
    hook = seen.unet.down_blocks[0].resnets[0].register_forward_hook(lambda _m, inputs, _o: caught.append(inputs[0]))
    kps = noise(FRAMES, WIDTHS[0], 8, 8, seed=4)
    seen.reading.kps = kps
    moved = called(seen)
    hook.remove()
    expected = nn.functional.conv2d(noise(FRAMES, 4, 8, 8), seen.unet.conv_in.weight, seen.unet.conv_in.bias, padding=1)
    torch.testing.assert_close(caught[0], expected + kps)
    assert (moved - plain).abs().max() > 0.1


def test_a_negative_row_sees_no_reference(seen):
    seen.reading.labels = (0, 1)
    rows = noise(1, 4, 8, 8).repeat(2, 1, 1, 1)
    audio = noise(1, 5, CONTEXT, seed=2).repeat(2, 1, 1)
    first = called(seen, rows, audio)
    assert (first[0] - first[1]).abs().max() > 0.01
    read_bank(seen.unet, write_bank(seen.reference, noise(1, 4, 8, 8, seed=9)))
    second = called(seen, rows, audio)
    assert (first[0] - second[0]).abs().max() > 0.01
    torch.testing.assert_close(first[1], second[1])


def test_frames_see_each_other_only_by_motion_modules(seen):
    rows = noise(FRAMES, 4, 8, 8)
    other = torch.cat([rows[:2], noise(1, 4, 8, 8, seed=8)])
    audio = noise(FRAMES, 5, CONTEXT, seed=2)
    torch.testing.assert_close(called(seen, rows, audio)[:2], called(seen, other, audio)[:2])
    with bind_motion(seen.unet, seen.motion, FRAMES):
        assert (called(seen, rows, audio)[:2] - called(seen, other, audio)[:2]).abs().max() > 0.01


def test_unet_without_reference_is_refused(seen):
    read_bank(seen.unet, None)
    with pytest.raises(InputError, match="no reference"):
        called(seen)
    with pytest.raises(InputError, match="2 sites"):
        read_bank(seen.unet, (torch.zeros(1, 64, 32),) * 2)


def test_names_are_the_public_files():
    with torch.device("meta"):
        unet, _ = build_reading_unet()  # of true size
    names = {name: tuple(t.shape) for name, t in unet.state_dict().items()}
    site = "up_blocks.1.attentions.2.transformer_blocks.0"
    for inner in ("attn1", "attn1_5"):
        assert names[f"{site}.{inner}.to_k.weight"] == (1280, 1280)
        assert names[f"{site}.{inner}.to_out.0.bias"] == (1280,)
    assert names[f"{site}.norm1_5.weight"] == (1280,) and names[f"{site}.attn2.to_v.weight"] == (1280, 768)
    added = sum(t.numel() for n, t in unet.state_dict().items() if "1_5" in n)
    # four square matrices, one bias and a norm at each of 5, 5 and 6 sites
    assert added == sum(n * (4 * c * c + 3 * c) for n, c in ((5, 320), (5, 640), (6, 1280)))
    # SD1.5's UNet has 859,520,964 parameters
    assert sum(t.numel() for t in unet.state_dict().values()) == 859_520_964 + added
    assert isinstance(blocks_of(unet)[0].attn1, Attention)
