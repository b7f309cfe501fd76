"""The UNet's look at AnimateNet's maps: exact nothing untrained, a hand-written attention once trained."""

from __future__ import annotations

import copy

import pytest
import torch
from control_files import tiny_controlnet
from tiny_unet import tiny_unet

from portraittalk_core.diffusion.branches import bind
from portraittalk_core.diffusion.denoiser import Condition, Denoiser
from portraittalk_core.errors import InputError
from portraittalk_core.renderers.animatenet.animate_net import load_animate_net, new_animate_net, save_animate_net
from portraittalk_core.renderers.animatenet.control import ControlOptions, FrameControl
from portraittalk_core.renderers.animatenet.feature_attention import (
    ControlFeatures,
    FeatureAttention,
    FeatureBranch,
    FeatureControl,
    feature_branches,
)

pytest.importorskip("diffusers")
SIGMA = 2.0

# number → the UNet's transformer, and which of the ControlNet's thirteen residuals it looks at, written out: its own
# place on the way down and in the middle (12), the skip connection that meets it on the way up
PLACES = {
    "1": ("down_blocks.0.attentions.0", 1),
    "3": ("down_blocks.0.attentions.1", 2),
    "5": ("down_blocks.1.attentions.0", 4),
    "7": ("down_blocks.1.attentions.1", 5),
    "9": ("down_blocks.2.attentions.0", 7),
    "11": ("down_blocks.2.attentions.1", 8),
    "31": ("mid_block.attentions.0", 12),
    "13": ("up_blocks.1.attentions.0", 8),
    "15": ("up_blocks.1.attentions.1", 7),
    "17": ("up_blocks.1.attentions.2", 6),
    "19": ("up_blocks.2.attentions.0", 5),
    "21": ("up_blocks.2.attentions.1", 4),
    "23": ("up_blocks.2.attentions.2", 3),
    "25": ("up_blocks.3.attentions.0", 2),
    "27": ("up_blocks.3.attentions.1", 1),
    "29": ("up_blocks.3.attentions.2", 0),
}


@pytest.fixture(scope="module")
def nets():
    """UNet, ControlNet, and what Denoiser is asked."""
    torch.manual_seed(5)
    cond = Condition(torch.randn(1, 7, 48), torch.randn(1, 7, 48), 3.0)
    return tiny_unet(), tiny_controlnet(), torch.randn(2, 4, 16, 16), cond


@pytest.fixture(scope="module")
def plain(nets):
    """Denoised without any attention to maps."""
    return denoised(nets, FrameControl(nets[1], hints))


@pytest.fixture(scope="module")
def by_hand(nets):
    """Function that gives what is denoised with every site's attention written out."""
    unet = copy.deepcopy(nets[0])

    def run(net):
        control = Seen(nets[1], hints)
        for number, (place, residual) in PLACES.items():
            attention = unet.get_submodule(f"{place}.transformer_blocks.0.attn2")
            attention.set_processor(ByHand(net.features[number], control, residual))
        return denoised(nets, control, unet=unet)

    return run


def hints(frames, height, width):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(9, 3, height, width, generator=generator)[list(frames)]


def trained(controlnet, only=None):
    net = new_animate_net(controlnet, features=True)
    generator = torch.Generator().manual_seed(4)
    for number, attention in net.features.items():
        if only in (None, number):
            attention.to_v_ft.weight.data.normal_(std=2.0, generator=generator)
    return net.eval().requires_grad_(False)


def denoised(nets, control, frames=(7, 3), unet=None):
    control.frames = frames
    return Denoiser(unet or nets[0], control=control)(nets[2], SIGMA, nets[3])


def looking(nets, net, control, strength=1.0, frames=(7, 3)):
    made = feature_branches(net.features, control.features, strength)
    with bind(nets[0], {index: [branch] for index, branch in made.items()}):
        return denoised(nets, control, frames)


class ByHand:
    """Text and a map, the softmax written out."""

    def __init__(self, attention, control, residual):
        self.attention, self.control, self.residual = attention, control, residual

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, **_):
        down, middle = self.control.seen
        rows, channels, height, width = (*down, middle)[self.residual].shape
        pixels = (*down, middle)[self.residual].reshape(rows, channels, height * width).mT
        queries, out = attn.to_q(hidden_states), 0
        sources = [(attn.to_k, attn.to_v, encoder_hidden_states)]
        sources += [(self.attention.to_k_ft, self.attention.to_v_ft, pixels)]
        for to_k, to_v, tokens in sources:
            parts = [x.chunk(attn.heads, 2) for x in (queries, to_k(tokens), to_v(tokens))]
            heads = [(q @ k.mT / q.shape[2] ** 0.5).softmax(2) @ v for q, k, v in zip(*parts, strict=True)]
            out = out + torch.cat(heads, 2)
        return attn.to_out[0](out)


class Seen(FrameControl):
    """A FrameControl that remembers what it has handed out."""

    def __call__(self, *given):
        self.seen = super().__call__(*given)
        return self.seen


def test_untrained_attention_is_bit_equal_to_none(nets, plain):
    net = new_animate_net(nets[1], features=True)
    assert torch.equal(looking(nets, net, FeatureControl(nets[1], hints)), plain)
    assert torch.equal(looking(nets, trained(nets[1]), FeatureControl(nets[1], hints), 0.0), plain)
    alone = Denoiser(nets[0])(nets[2], SIGMA, nets[3])
    assert torch.equal(looking(nets, net, FeatureControl(nets[1], hints, add=False)), alone)
    assert (plain - alone).abs().max() > 1e-3


def test_attention_matches_a_look_by_hand(nets, plain, by_hand):
    net = trained(nets[1])
    attended = looking(nets, net, FeatureControl(nets[1], hints))
    torch.testing.assert_close(attended, by_hand(net), atol=5e-5, rtol=0)
    assert (attended - plain).abs().max() > 1e-2


@pytest.mark.parametrize("number", PLACES)
def test_each_site_acts_by_itself(nets, number, plain):
    """Six times the tolerance of the look by hand, which therefore sees a map that is looked at in the wrong place."""
    net = trained(nets[1], only=number)
    assert (looking(nets, net, FeatureControl(nets[1], hints)) - plain).abs().max() > 3e-4


def test_attention_alone_sees_each_frames_own_drawing(nets):
    net, control = trained(nets[1]), FeatureControl(nets[1], hints, add=False)
    both, other = looking(nets, net, control), looking(nets, net, control, frames=(7, 1))
    torch.testing.assert_close(both[0], other[0], atol=1e-5, rtol=0)
    assert (both[1] - other[1]).abs().max() > 1e-4


def test_nothing_is_looked_at_where_the_control_does_not_act(nets):
    net, alone = trained(nets[1]), Denoiser(nets[0])(nets[2], SIGMA, nets[3])
    control = FeatureControl(nets[1], hints)
    assert not torch.equal(looking(nets, net, control), alone)
    control.options = ControlOptions(window=(1.0, 0.0))
    assert torch.equal(looking(nets, net, control), alone)  # the maps of the step before are gone
    control.features.maps = (torch.zeros(1),)
    control.clear_cache()
    assert control.features.at(3) is None


def test_attention_learns_from_nothing(nets):
    net, control = new_animate_net(nets[1], features=True), FeatureControl(nets[1], hints)
    control.frames = (7, 3)
    text, timestep = nets[3].positive.expand(2, -1, -1), torch.tensor(300.0)
    control(nets[2], timestep, text, SIGMA)
    made = feature_branches(net.features, control.features)
    with bind(nets[0], {index: [branch] for index, branch in made.items()}):
        nets[0](nets[2], timestep, text, return_dict=False)[0].square().mean().backward()
    assert all(attention.to_v_ft.weight.grad.any() for attention in net.features.values())


def test_file_keeps_the_option(nets, tmp_path):
    net = trained(nets[1])
    loaded = load_animate_net(save_animate_net(net, tmp_path / "net.safetensors"))
    assert loaded.state_dict().keys() == net.state_dict().keys()
    assert all(torch.equal(tensor, net.state_dict()[name]) for name, tensor in loaded.state_dict().items())
    assert loaded.features["17"].to_k_ft.weight.shape == (128, 64)  # a level's site meets the skip of the one above
    plain = load_animate_net(save_animate_net(new_animate_net(nets[1]), tmp_path / "plain.safetensors"))
    with pytest.raises(InputError, match="no attention to features"):
        feature_branches(plain.features, ControlFeatures())


def test_files_with_part_of_the_option_are_refused(nets, tmp_path):
    net = trained(nets[1])
    del net.features["17"]
    path = save_animate_net(net, tmp_path / "net.safetensors")
    with pytest.raises(InputError, match="features in 15 cross-attentions, while SD1.5's UNet has 16"):
        load_animate_net(path)


def test_maps_of_another_size_are_refused(nets):
    branch = FeatureBranch(FeatureAttention(32, 16), ControlFeatures([torch.zeros(2, 16, 4, 6)] * 13), 0)
    call = type("Call", (), {"heads": 8})
    assert branch(torch.zeros(2, 24, 32), call).shape == (2, 24, 32)
    for shape in ((2, 16, 32), (4, 24, 32)):
        with pytest.raises(InputError, match="run the ControlNet on the same latents"):
            branch(torch.zeros(shape), call)
    with pytest.raises(InputError, match="strength of features"):
        feature_branches({"1": None}, ControlFeatures(), 5.0)
