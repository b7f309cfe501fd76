import pytest
import torch
from style_files import style_attention
from tiny_unet import tiny_unet

from portraittalk_core.diffusion.branches import Batch
from portraittalk_core.diffusion.sites import SITES
from portraittalk_core.errors import InputError
from portraittalk_core.layers.attention import NEGATIVE, POSITIVE
from portraittalk_core.style.attention import FrameStyles, StyleRun, bind_style

FRAMES = 3


@pytest.fixture(scope="module")
def unet():
    return tiny_unet()


@pytest.fixture(scope="module")
def net():
    return style_attention()


def given(chunks: int = 1, seed: int = 5):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(chunks * FRAMES, 4, 8, 8, generator=generator)
    return x, torch.tensor(300.0), torch.randn(chunks * FRAMES, 7, 48, generator=generator)


def styles(rows: int = 1, strength: float = 1.0, seed: int = 9) -> FrameStyles:
    generator = torch.Generator().manual_seed(seed)
    return FrameStyles(torch.randn(rows, 8, generator=generator), torch.full((rows,), strength))


def run(unet, net, chosen, rows=None, chunks: int = 1):
    with bind_style(unet, StyleRun(net, chosen, rows or Batch())), torch.no_grad():
        return unet(*given(chunks), return_dict=False)[0]


def plain(unet, chunks: int = 1):
    with torch.no_grad():
        return unet(*given(chunks), return_dict=False)[0]


def test_block_matches_the_same_steps_written_out(unet, net):
    """One transformer block against torch's own multi-head attention, in the order that SVP names."""
    site, chosen = SITES[2], styles()
    block = unet.get_submodule(f"{site.diffusers}.transformer_blocks.0")
    hidden, text = torch.randn(FRAMES, 16, 64), torch.randn(FRAMES, 7, 48)
    with torch.no_grad():
        seen = block.attn1(block.norm1(hidden)) + hidden
        seen = block.attn2(block.norm2(seen), encoder_hidden_states=text) + seen
        proj = net.style_proj.proj
        tokens = torch.nn.functional.linear(chosen.styles, proj.weight, proj.bias).reshape(1, 4, 48)
        tokens = torch.nn.functional.layer_norm(tokens, (48,), net.style_proj.norm.weight, net.style_proj.norm.bias)
        own = net.site(site.adapter_key)
        queries = torch.nn.functional.layer_norm(seen, (64,), own.norm.weight, own.norm.bias)
        attention = torch.nn.MultiheadAttention(64, 8, bias=False, kdim=48, vdim=48, batch_first=True)
        attention.q_proj_weight.copy_(own.to_q.weight)
        attention.k_proj_weight.copy_(own.to_k.weight)
        attention.v_proj_weight.copy_(own.to_v.weight)
        attention.out_proj.weight.copy_(own.to_out.weight)
        tokens = tokens.expand(FRAMES, -1, -1)
        seen = seen + attention(queries, tokens, tokens, need_weights=False)[0]
        expected = block.ff(block.norm3(seen)) + seen
        with bind_style(unet, StyleRun(net, chosen, Batch())):
            made = block(hidden, encoder_hidden_states=text)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-5)


def test_untrained_and_off_are_bit_equal_to_none(unet, net):
    expected = plain(unet)
    assert torch.equal(run(unet, style_attention(trained=False), styles()), expected)
    assert torch.equal(run(unet, net, styles(strength=0.0)), expected)
    assert not torch.allclose(run(unet, net, styles()), expected, atol=1e-2)
    assert torch.equal(plain(unet), expected)  # nothing stays behind


def test_nothing_stays_behind_after_an_error(unet, net):
    expected = plain(unet)
    with pytest.raises(KeyError), bind_style(unet, StyleRun(net, styles(), Batch())):
        raise KeyError
    assert torch.equal(plain(unet), expected)


def test_style_of_each_frame_is_its_own(unet, net):
    several = styles(rows=6)
    frames = (4, 1, 5)
    made = run(unet, net, several, Batch(frames=frames))
    for row, frame in enumerate(frames):
        alone = run(unet, net, FrameStyles(several.styles[frame : frame + 1], several.strengths[:1]))
        torch.testing.assert_close(made[row], alone[row], rtol=0, atol=1e-5)


@pytest.mark.parametrize("labels", [(POSITIVE, NEGATIVE), (NEGATIVE, POSITIVE)])
def test_negative_rows_get_no_style(unet, net, labels):
    made = run(unet, net, styles(), Batch(labels, range(FRAMES)), chunks=2)
    none, whole = plain(unet, 2), run(unet, net, styles(), Batch((POSITIVE, POSITIVE), range(FRAMES)), chunks=2)
    for chunk, label in enumerate(labels):
        part = slice(chunk * FRAMES, (chunk + 1) * FRAMES)
        torch.testing.assert_close(made[part], (whole if label == POSITIVE else none)[part], rtol=0, atol=1e-5)
    only = run(unet, net, styles(), Batch((NEGATIVE,), range(FRAMES)))
    assert torch.equal(only, plain(unet))


def test_strength_scales_what_a_block_adds(net):
    hidden = torch.randn(2, 16, 64)
    half, whole = (StyleRun(net, styles(strength=s), Batch()).add("5", hidden) for s in (0.5, 1.0))
    torch.testing.assert_close(2 * half, whole)


def test_kept_keys_are_made_anew_for_other_frames(unet, net):
    several, rows = styles(rows=6), Batch()
    made = StyleRun(net, several, rows)
    hidden = torch.randn(FRAMES, 16, 64)
    rows.frames = range(0, 3)
    first = made.add("5", hidden)
    rows.frames = range(3, 6)
    second = made.add("5", hidden)
    assert not torch.allclose(first, second, atol=1e-3)
    fresh = StyleRun(net, several, Batch(frames=range(3, 6))).add("5", hidden)
    assert torch.equal(second, fresh)


def test_rejects_what_does_not_fit(unet, net):
    with pytest.raises(InputError, match="style has 5 numbers.*trained on 8"):
        StyleRun(net, FrameStyles(torch.zeros(1, 5), torch.ones(1)), Batch())
    with pytest.raises(InputError, match="strength.*3"):
        FrameStyles(torch.zeros(1, 8), torch.full((1,), 3.0))
    with pytest.raises(InputError, match="not a number|finite|NaN|nan"):
        FrameStyles(torch.full((1, 8), float("nan")), torch.ones(1))
    with pytest.raises(InputError, match="there is no frame 6"):
        run(unet, net, styles(rows=6), Batch(frames=(4, 5, 6)))
    other = style_attention()
    other.add_module("5", torch.nn.Module())
    other.get_submodule("5").to_q = torch.nn.Linear(32, 32)
    with (
        pytest.raises(InputError, match="32 wide at site 5, the UNet 64"),
        bind_style(unet, StyleRun(other, styles(), Batch())),
    ):
        pass
