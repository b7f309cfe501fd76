"""Kept keys and values of the text give what keys and values made anew give, in every order of rows."""

from __future__ import annotations

import pytest
import torch
from control_files import tiny_controlnet
from tiny_unet import tiny_unet

from portraittalk_core.diffusion.branches import bind
from portraittalk_core.diffusion.denoiser import Condition, Denoiser
from portraittalk_core.diffusion.text_keys import TextKeys
from portraittalk_core.renderers.animatenet.control import FrameControl

pytest.importorskip("diffusers")
SIGMAS = (5.0, 2.0, 0.5)


def text(seed, rows=1, tokens=7):
    return torch.randn(rows, tokens, 48, generator=torch.Generator().manual_seed(seed))


CONDITIONS = {
    "no cfg": Condition(text(1)),
    "cfg": Condition(text(1), text(2), 3.0),
    "lengths": Condition(text(1), text(2, tokens=14), 3.0),
    "a text for each frame": Condition(text(1, 3), text(2), 3.0),
}


class Calls:
    """Counts the calls of every layer that makes keys or values of text."""

    def __init__(self, *networks):
        self.rows = []
        for network in networks:
            for name, layer in network.named_modules():
                if name.endswith(("attn2.to_k", "attn2.to_v")):
                    layer.register_forward_hook(lambda _m, inputs, _o: self.rows.append(len(inputs[0])))


def runs(network, x, cond, sigmas=SIGMAS, batch=None):
    with bind(network, {}, batch) as bound:
        denoiser = Denoiser(network, bound)
        return torch.stack([denoiser(x, sigma, cond) for sigma in sigmas])


@pytest.mark.parametrize("name", CONDITIONS)
def test_kept_text_matches_diffusers_own_attention(name):
    """The unbound network attends with diffusers' processors, which make keys and values of every row and step."""
    network, x, cond = tiny_unet().double(), torch.randn(3, 4, 8, 8).double(), CONDITIONS[name]
    expected = torch.stack([Denoiser(network)(x, sigma, cond) for sigma in SIGMAS])
    calls = Calls(network)
    torch.testing.assert_close(runs(network, x, cond), expected, atol=1e-12, rtol=0)
    texts = {"no cfg": 1, "cfg": 2, "lengths": 2, "a text for each frame": 6}[name]
    assert calls.rows == [texts] * 32  # 16 sites, once each in all steps


def test_controlnet_keeps_the_same_text():
    network, control_net = tiny_unet().double(), tiny_controlnet().double()
    x = torch.randn(2, 4, 8, 8).double()
    control = FrameControl(control_net, lambda frames, h, w: torch.full((len(frames), 3, h, w), 0.5))
    control.frames, cond = [0, 1], CONDITIONS["cfg"]
    expected = [Denoiser(network, control=control)(x, sigma, cond) for sigma in SIGMAS]
    calls = Calls(control_net)
    with bind(network, {}) as batch, bind(control_net, {}, batch):
        denoiser = Denoiser(network, batch, control)
        found = [denoiser(x, sigma, cond) for sigma in SIGMAS]
    torch.testing.assert_close(torch.stack(found), torch.stack(expected), atol=1e-12, rtol=0)
    assert calls.rows == [2] * 14


def test_another_text_or_merged_weights_are_seen():
    network, x, cond = tiny_unet(), torch.randn(1, 4, 8, 8), CONDITIONS["cfg"]
    with bind(network, {}) as batch:
        denoiser = Denoiser(network, batch)
        denoiser(x, 2.0, cond)
        other = Condition(text(9), cond.negative, 3.0)
        torch.testing.assert_close(denoiser(x, 2.0, other), Denoiser(tiny_unet())(x, 2.0, other), atol=5e-5, rtol=0)
        cond.positive.mul_(1.5)
        torch.testing.assert_close(denoiser(x, 2.0, cond), Denoiser(tiny_unet())(x, 2.0, cond), atol=5e-5, rtol=0)
        before, merged = denoiser(x, 2.0, cond), tiny_unet()
        for one in (network, merged):  # as merge_lora does, in place
            layer = one.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn2.to_v")
            layer.weight += torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(4))
        expected = Denoiser(merged)(x, 2.0, cond)
        assert (expected - before).abs().max() > 1e-3
        torch.testing.assert_close(denoiser(x, 2.0, cond), expected, atol=5e-5, rtol=0)
        network.double()
        assert (denoiser(x, 2.0, cond) - expected).abs().max() < 1e-4


def test_keys_stand_once_in_memory_and_can_be_forgotten():
    network, texts = tiny_unet(), TextKeys()
    given = (text(1), text(2))
    rows = texts.rows(given, 8, network.conv_in.weight)
    torch.testing.assert_close(rows, torch.cat([t.expand(8, -1, -1) for t in given]), rtol=0, atol=0)
    assert texts.rows(given, 8, network.conv_in.weight) is rows and texts.is_cached(rows)
    assert not texts.is_cached(rows.clone()) and not texts.is_cached(None)
    attention = network.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn2")
    texts.attend(attention, torch.randn(16, 4, 128))
    keys, values = texts._keys_values(attention)
    assert keys.shape == values.shape == (2, 7, 128)
    texts.clear_cache()
    assert not texts.is_cached(rows) and not texts._keys_values_of and texts._rows is None and texts._sources == ()


def test_binding_that_made_its_own_batch_forgets_at_the_end():
    network = tiny_unet()
    with bind(network, {}) as batch:
        Denoiser(network, batch)(torch.randn(1, 4, 8, 8), 2.0, CONDITIONS["cfg"])
        assert len(batch.texts._keys_values_of) == 16
    assert not batch.texts._keys_values_of


def test_bindings_add_up():
    network, x, cond = tiny_unet(), torch.randn(2, 4, 8, 8), CONDITIONS["cfg"]

    def adding(factor):
        return {3: [lambda queries, call: factor * len(call.labels) * queries]}

    with bind(network, {3: [*adding(0.1)[3], *adding(0.2)[3]]}) as batch:
        expected = Denoiser(network, batch)(x, 2.0, cond)
    with bind(network, adding(0.1), batch), bind(network, adding(0.2), batch):
        found = Denoiser(network, batch)(x, 2.0, cond)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(runs(network, x, cond, (2.0,))[0], Denoiser(network)(x, 2.0, cond), atol=5e-5, rtol=0)
