"""AnimateNet's branches in a tiny ControlNet: exact nothing untrained, a hand-written attention once trained."""

from __future__ import annotations

import copy
from fractions import Fraction

import pytest
import torch
from control_files import ldm_tensors, tiny_controlnet
from motion_files import motion_tensors
from safetensors.torch import load_file, safe_open, save_file
from tiny_unet import tiny_unet
from torch.nn.functional import gelu, layer_norm, linear

from portraittalk_core.diffusion.denoiser import Condition, Denoiser
from portraittalk_core.errors import InputError
from portraittalk_core.renderers.animatenet.animate_net import (
    AnimateOptions,
    bind_animate,
    load_animate_net,
    new_animate_net,
    save_animate_net,
    track_conditions,
)
from portraittalk_core.renderers.animatenet.control import FrameControl
from portraittalk_core.renderers.animatenet.head_placement import placements
from portraittalk_core.types import LandmarkTrack

pytest.importorskip("diffusers")

# the ControlNet's cross-attentions by the checkpoint's numbers, written out
PLACES = {
    "1": "down_blocks.0.attentions.0",
    "3": "down_blocks.0.attentions.1",
    "5": "down_blocks.1.attentions.0",
    "7": "down_blocks.1.attentions.1",
    "9": "down_blocks.2.attentions.0",
    "11": "down_blocks.2.attentions.1",
    "31": "mid_block.attentions.0",
}
NAMES = {f"{n}.to_{part}_{kind}.weight" for n in PLACES for part in "kv" for kind in ("lm", "hp")}
FRAMES = [2, 0, 3]


@pytest.fixture(scope="module")
def controlnet():
    return tiny_controlnet()


@pytest.fixture(scope="module")
def plain(controlnet):
    """Residuals of the ControlNet alone."""
    return residuals(controlnet)


@pytest.fixture(scope="module")
def other(controlnet):
    """A copy of the ControlNet, whose attentions are written out by hand."""
    return copy.deepcopy(controlnet)


@pytest.fixture
def track():
    generator = torch.Generator().manual_seed(3)
    points = torch.rand(5, 478, 3, generator=generator) * 0.3 + 0.3
    return LandmarkTrack(points, torch.ones(5, dtype=torch.bool), Fraction(25), 700, 300)


def trained(controlnet, only=None, seed=9):
    """A net with random values, frozen; `only` names the branches that are not zero."""
    net = new_animate_net(controlnet)
    generator = torch.Generator().manual_seed(seed)
    for name, weight in net.named_parameters():
        if ".to_v_" in name and (only is None or name in only):
            weight.data.normal_(std=0.5, generator=generator)
    return net.eval().requires_grad_(False)


def given(chunks=2, frames=3):
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(chunks * frames, 4, 16, 16, generator=generator)
    text = torch.randn(chunks * frames, 7, 48, generator=generator)
    hint = torch.rand(chunks * frames, 3, 128, 128, generator=generator)
    return rows, torch.tensor(300.0), text, hint


@torch.no_grad()
def residuals(controlnet, arguments=None):
    down, middle = controlnet(*(arguments or given()), return_dict=False)
    return [*down, middle]


@torch.no_grad()
def bound(controlnet, net, cues, options=None, frames=FRAMES):
    with bind_animate(controlnet, net, cues, lambda: frames, options):
        return residuals(controlnet)


def difference(one, other):
    return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True))


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


class ByHand:
    """Text, landmarks and placement with softmax written out, row by row."""

    def __init__(self, weights, number, tokens, strengths):
        self.weights, self.number, self.tokens, self.strengths = weights, number, tokens, strengths

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, **_):
        queries, text = attn.to_q(hidden_states), encoder_hidden_states
        rows = []
        for row, query in enumerate(queries):
            out = self.attention(query, attn.to_k(text[row]), attn.to_v(text[row]), attn.heads)
            for kind, tokens in self.tokens.items():
                mine = tokens[row % len(tokens)]
                keys = linear(mine, self.weights[f"{self.number}.to_k_{kind}.weight"])
                values = linear(mine, self.weights[f"{self.number}.to_v_{kind}.weight"])
                out = out + self.strengths[kind] * self.attention(query, keys, values, attn.heads)
            rows.append(out)
        return attn.to_out[0](torch.stack(rows))

    @staticmethod
    def attention(queries, keys, values, heads):
        parts = []
        for q, k, v in zip(*(x.chunk(heads, 1) for x in (queries, keys, values)), strict=True):
            parts.append((q @ k.T / q.shape[1] ** 0.5).softmax(1) @ v)
        return torch.cat(parts, 1)


def projected(weights, part, numbers):
    hidden = gelu(linear(numbers, weights[f"{part}.proj.0.weight"], weights[f"{part}.proj.0.bias"]))
    out = linear(hidden, weights[f"{part}.proj.2.weight"], weights[f"{part}.proj.2.bias"]).reshape(len(numbers), -1, 48)
    return layer_norm(out, (48,), weights[f"{part}.norm.weight"], weights[f"{part}.norm.bias"])


def tokens_by_hand(net, track, frames):
    points = track.points[frames, :, :2].double() * torch.tensor([track.width, track.height])
    points = points - points.mean(1, keepdim=True)
    points = points / points.norm(dim=2).square().mean(1).sqrt()[:, None, None]
    weights = net.state_dict()
    return {
        "lm": projected(weights, "landmark_proj", points.flatten(1).float()),
        "hp": projected(weights, "placement_proj", placements(track)[frames]),
    }


@torch.no_grad()
def by_hand(other, net, track, strengths):
    tokens = tokens_by_hand(net, track, FRAMES)
    for number, place in PLACES.items():
        attention = other.get_submodule(f"{place}.transformer_blocks.0.attn2")
        attention.set_processor(ByHand(net.state_dict(), number, tokens, strengths))
    return residuals(other)


def test_untrained_net_is_bit_equal_to_the_plain_controlnet(controlnet, track, plain):
    assert len(plain) == 13
    assert equal(bound(controlnet, new_animate_net(controlnet), track_conditions(track)), plain)
    assert difference(bound(controlnet, trained(controlnet), track_conditions(track)), plain) > 1e-2


def test_strength_zero_is_bit_equal_and_asks_for_no_cues(controlnet, plain):
    def cues(frames):
        raise RuntimeError("asked")

    assert equal(bound(controlnet, trained(controlnet), cues, AnimateOptions(0.0, 0.0)), plain)


@pytest.mark.parametrize("strengths", [(1.0, 1.0), (0.7, -0.5), (0.0, 2.0), (2.0, 0.0)])
def test_branches_match_attention_by_hand(controlnet, track, strengths, plain, other):
    net = trained(controlnet)
    attended = bound(controlnet, net, track_conditions(track), AnimateOptions(*strengths))
    expected = by_hand(other, net, track, dict(zip(("lm", "hp"), strengths, strict=True)))
    assert difference(attended, expected) < 2e-5
    assert difference(attended, plain) > 1e-2


@pytest.mark.parametrize("number", PLACES)
@pytest.mark.parametrize("kind", ["lm", "hp"])
def test_each_branch_acts_by_itself(controlnet, track, number, kind, plain):
    """Five times the tolerance of the look by hand, which therefore sees a branch in the wrong place."""
    net = trained(controlnet, only=[f"{number}.to_v_{kind}.weight"])
    assert difference(bound(controlnet, net, track_conditions(track)), plain) > 1e-4


def test_the_controlnet_is_plain_again_afterwards(controlnet, track, plain):
    with (
        pytest.raises(ZeroDivisionError),
        bind_animate(controlnet, trained(controlnet), track_conditions(track), lambda: FRAMES),
    ):
        raise ZeroDivisionError
    assert equal(residuals(controlnet), plain) and not controlnet._forward_pre_hooks


@pytest.mark.parametrize("cue", [0, 1])
def test_each_frame_reacts_to_its_own_cues_only(controlnet, track, cue):
    net, cues = trained(controlnet), track_conditions(track)

    def changed(frames):
        made = [one.clone() for one in cues(frames)]
        here = frames.index(0)
        made[cue][here] = cues([4])[cue][0]
        return made

    before, after = bound(controlnet, net, cues), bound(controlnet, net, changed)
    moved = [max(float((a[row] - b[row]).abs().max()) for a, b in zip(before, after, strict=True)) for row in range(6)]
    assert min(moved[1], moved[4]) > 1e-3  # frame 0 is the second of each chunk
    assert max(moved[0], moved[2], moved[3], moved[5]) < 1e-5


def test_frame_control_hands_each_frame_its_tokens(controlnet, track):
    net, cond = trained(controlnet), Condition(torch.randn(1, 7, 48), torch.randn(1, 7, 48), 3.0)
    control = FrameControl(controlnet, lambda frames, h, w: torch.full((len(frames), 3, h, w), 0.5))
    x = torch.randn(1, 4, 8, 8).expand(2, -1, -1, -1)

    def denoised(frames):
        control.frames = frames
        return Denoiser(tiny_unet(), control=control)(x, 2.0, cond)

    plain = denoised([0, 1])
    assert torch.allclose(plain[0], plain[1], atol=1e-5)  # all drawings are alike
    with bind_animate(controlnet, net, track_conditions(track), lambda: control.frames):
        both, swapped, others = denoised([0, 1]), denoised([1, 0]), denoised([0, 4])
    torch.testing.assert_close(both, swapped.flip(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(both[0], others[0], atol=1e-5, rtol=0)
    assert (both[0] - both[1]).abs().max() > 1e-3 and (both[1] - others[1]).abs().max() > 1e-3
    with bind_animate(controlnet, new_animate_net(controlnet), track_conditions(track), lambda: control.frames):
        assert torch.equal(denoised([0, 1]), plain)


def test_tokens_are_kept_until_frames_change_or_are_forgotten(controlnet, track):
    net, asked, frames = trained(controlnet), [], [[0, 1, 2]]

    def cues(numbers):
        asked.append(tuple(numbers))
        return track_conditions(track)(numbers)

    with bind_animate(controlnet, net, cues, lambda: frames[0]) as tokens:
        first = residuals(controlnet)
        assert equal(residuals(controlnet), first) and asked == [(0, 1, 2)]
        frames[0] = [0, 1, 3]
        assert difference(residuals(controlnet), first) > 1e-3
        tokens.clear_cache()
        residuals(controlnet)
    assert asked == [(0, 1, 2), (0, 1, 3), (0, 1, 3)]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_every_weight(controlnet, track, checkpointing):
    network = copy.deepcopy(controlnet).train()
    if checkpointing:
        network.enable_gradient_checkpointing()
    net = trained(controlnet).requires_grad_(True)
    cues = track_conditions(track)
    with bind_animate(network, net, cues, lambda: FRAMES):
        residuals(network)  # a look in between must not cut the gradients off
        down, middle = network(*given(), return_dict=False)
        sum(one.square().mean() for one in (*down, middle)).backward()
    lacking = [name for name, weight in net.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not lacking
    assert all(weight.grad is None for weight in network.parameters())


def test_a_net_learns_from_nothing(controlnet, track):
    net, wanted, losses = new_animate_net(controlnet), residuals(controlnet), []
    optimiser = torch.optim.Adam(net.parameters(), 1e-4)
    target = [one + 0.1 for one in wanted]
    with bind_animate(controlnet, net, track_conditions(track), lambda: FRAMES):
        for _ in range(4):
            down, middle = controlnet(*given(), return_dict=False)
            loss = sum((a - b).square().mean() for a, b in zip((*down, middle), target, strict=True))
            losses.append(loss.item())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    assert losses[0] == pytest.approx(13 * 0.1**2, rel=1e-4)  # nothing was added yet
    assert losses[-1] < losses[0]


def test_half_precision_net_stays_near(controlnet, track):
    net = trained(controlnet)
    full = bound(controlnet, net, track_conditions(track))
    half = bound(controlnet, copy.deepcopy(net).to(torch.float16), track_conditions(track))
    assert 0 < difference(full, half) < 0.05


def test_file_has_the_designs_names_and_comes_back(controlnet, tmp_path):
    net = trained(controlnet)
    path = save_animate_net(net, tmp_path / "net.safetensors", {"steps": "7"})
    stored = load_file(path)
    assert {name for name in stored if name[0].isdigit()} == NAMES
    others = {name.split(".")[0] for name in stored if not name[0].isdigit()}
    assert others == {"landmark_proj", "placement_proj"}
    assert stored["5.to_k_lm.weight"].shape == (64, 48)
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"layout": "animatenet", "base": "SD1.5", "steps": "7"}
    loaded = load_animate_net(path)
    assert loaded.state_dict().keys() == net.state_dict().keys()
    assert all(torch.equal(tensor, net.state_dict()[name]) for name, tensor in loaded.state_dict().items())
    assert not loaded.training and not any(weight.requires_grad for weight in loaded.parameters())


def test_new_nets_repeat_by_seed(controlnet):
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    nets = [new_animate_net(controlnet, seed).state_dict() for seed in (4, 4, 5)]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(nets[0][name], tensor) for name, tensor in nets[1].items())
    assert not torch.equal(nets[0]["1.to_k_lm.weight"], nets[2]["1.to_k_lm.weight"])
    assert not any(tensor.any() for name, tensor in nets[0].items() if ".to_v_" in name)


def changed(net, change):
    tensors = net.state_dict()
    change(tensors)
    return tensors


BAD = {
    "lacks 31.to_v_hp.weight": lambda t: t.pop("31.to_v_hp.weight"),
    "also holds 31.to_q_hp.weight": lambda t: t.update({"31.to_q_hp.weight": torch.zeros(2, 2)}),
    r"branches at 1, 3, 5, 7, 9, 11, 13, 31, but": lambda t: t.update({"13.to_k_lm.weight": torch.zeros(8, 48)}),
    "has other shapes: 5.to_v_lm.weight": lambda t: t.update({"5.to_v_lm.weight": torch.zeros(64, 40)}),
    "lacks landmark_proj.proj.2.weight": lambda t: t.pop("landmark_proj.proj.2.weight"),
    "landmark_proj gives 100 numbers": lambda t: t.update({"landmark_proj.proj.2.weight": torch.zeros(100, 1024)}),
    "is for Stable Diffusion 2": lambda t: t.update({"1.to_k_lm.weight": torch.zeros(32, 1024)}),
    "5.to_k_hp.weight has the shape": lambda t: t.update({"5.to_k_hp.weight": torch.zeros(())}),
    "9.to_k_lm.weight of x.safetensors holds 1 values": lambda t: t["9.to_k_lm.weight"][0, 0].fill_(float("nan")),
}


@pytest.mark.parametrize("words", BAD)
def test_damaged_files_are_refused(words, controlnet, tmp_path):
    save_file(changed(trained(controlnet), BAD[words]), tmp_path / "x.safetensors")
    with pytest.raises(InputError, match=words):
        load_animate_net(tmp_path / "x.safetensors")


OTHERS = {
    "a ControlNet; give it where": lambda: ldm_tensors(tiny_controlnet()),
    "a motion module; give it": lambda: motion_tensors("v3"),
    "an identity adapter; give it to": lambda: {"ip_adapter.1.to_k_ip.weight": torch.zeros(2, 2)},
    "has no branches": lambda: tiny_unet().state_dict(),
}


@pytest.mark.parametrize("words", OTHERS)
def test_other_files_are_refused(words, tmp_path):
    save_file({name: tensor.contiguous() for name, tensor in OTHERS[words]().items()}, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match=words):
        load_animate_net(tmp_path / "x.safetensors")


@pytest.mark.parametrize(("key", "value"), [("base", "SDXL"), ("layout", "faceid")])
def test_metadata_of_another_kind_is_refused(controlnet, tmp_path, key, value):
    path = save_animate_net(trained(controlnet), tmp_path / "x.safetensors", {key: value})
    with pytest.raises(InputError, match=rf"{key} is {value}, not"):
        load_animate_net(path)


def test_a_controlnet_of_another_size_is_refused(controlnet, track):
    net = trained(tiny_controlnet(context=40))
    with pytest.raises(InputError, match=r"\(32, 40\), the ControlNet's are \(32, 48\)"):
        bound(controlnet, net, track_conditions(track))


def test_wrong_cues_and_frames_are_refused(controlnet, track):
    net, cues = trained(controlnet), track_conditions(track)
    with pytest.raises(InputError, match="6 rows cannot be 4 frames"):
        bound(controlnet, net, cues, frames=[0, 1, 2, 3])
    with pytest.raises(InputError, match="5 frames, there is no frame 5"):
        bound(controlnet, net, cues, frames=[0, 5, 1])
    with pytest.raises(InputError, match="no frame -1"):
        bound(controlnet, net, cues, frames=[-1, 0, 1])
    with pytest.raises(InputError, match="2 faces and 3 placements were given for 3 frames"):
        bound(controlnet, net, lambda frames: (cues(frames[1:])[0], cues(frames)[1]))
    with pytest.raises(InputError, match="4 placements for 5 frames"):
        track_conditions(track, placements(track)[:4])
    with pytest.raises(InputError, match="strength of landmark tokens"):
        AnimateOptions(landmarks=4.0)


def test_carried_placements_stand_in_for_the_tracks_own(controlnet, track):
    placed = placements(track).flip(0)
    assert torch.equal(track_conditions(track, placed)([1])[1][0], placements(track)[3])
