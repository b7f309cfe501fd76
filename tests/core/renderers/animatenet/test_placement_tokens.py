"""Landmark and placement tokens: sizes, invariances, and branches that add nothing until they are trained."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from portraittalk_core.errors import InputError
from portraittalk_core.renderers.animatenet.placement_tokens import (
    KINDS,
    SITES,
    LandmarkTokens,
    PlacementTokens,
    ZeroBranch,
    centred,
)

HEADS = 4


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def some_points(num: int = 3) -> torch.Tensor:
    return torch.randn(num, 478, 3) * 50 + 200


def test_tokens_have_the_designs_sizes():
    landmarks, placement = LandmarkTokens(), PlacementTokens()
    assert landmarks(some_points(2)).shape == (2, 8, 768)
    assert placement(torch.rand(2, 6)).shape == (2, 4, 768)
    shapes = {name: tuple(tensor.shape) for name, tensor in landmarks.state_dict().items()}
    assert shapes["proj.0.weight"] == (1024, 956) and shapes["proj.2.weight"] == (8 * 768, 1024)
    shapes = {name: tuple(tensor.shape) for name, tensor in placement.state_dict().items()}
    assert shapes["proj.0.weight"] == (256, 6) and shapes["proj.2.weight"] == (4 * 768, 256)


@pytest.mark.parametrize("module", [LandmarkTokens, PlacementTokens])
def test_tokens_match_the_formula(module):
    tokens = module(width=12, num_tokens=2, hidden=16)
    nn.init.normal_(tokens.norm.weight)
    nn.init.normal_(tokens.norm.bias)
    given = some_points() if module is LandmarkTokens else torch.randn(3, 6)
    numbers = given
    if module is LandmarkTokens:
        flat = given[..., :2].double()
        flat = flat - flat.mean(1, keepdim=True)
        numbers = (flat / (flat**2).sum((1, 2), keepdim=True).div(478) ** 0.5).reshape(3, -1).float()
    first, _, last = tokens.proj
    hidden = numbers @ first.weight.T + first.bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    out = (hidden @ last.weight.T + last.bias).reshape(3, 2, 12)
    spread = (out - out.mean(2, keepdim=True)).square().mean(2, keepdim=True)
    out = (out - out.mean(2, keepdim=True)) / (spread + 1e-5).sqrt() * tokens.norm.weight + tokens.norm.bias
    torch.testing.assert_close(tokens(given), out, rtol=1e-5, atol=1e-5)


def test_landmark_tokens_do_not_see_place_and_size():
    tokens, points = LandmarkTokens(width=16, hidden=32), some_points()
    moved = points * 1.7 + torch.tensor([30.0, -80.0, 5.0])
    torch.testing.assert_close(tokens(moved), tokens(points), rtol=0, atol=1e-5)
    bent = points.clone()
    bent[:, 13, 1] += 100
    assert (tokens(bent) - tokens(points)).abs().max() > 1e-3


def test_centred_points_in_one_place_stay_finite():
    assert not centred(torch.full((1, 478, 2), 7.0)).any()


def test_tokens_are_made_of_the_given_layers():
    class Linear(nn.Linear):
        pass

    ops = SimpleNamespace(Linear=Linear, LayerNorm=nn.LayerNorm)
    for module in (LandmarkTokens(16, 2, 8, ops), PlacementTokens(16, 2, 8, ops), ZeroBranch(8, 16, "hp", ops)):
        layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
        assert len(layers) == 2 and all(type(layer) is Linear for layer in layers)


@pytest.mark.parametrize("kind", KINDS)
def test_branch_adds_exactly_nothing_until_trained(kind):
    branch = ZeroBranch(32, 24, kind)
    queries, tokens, text = torch.randn(2, 10, 32), torch.randn(2, 8, 24), torch.randn(2, 10, 32)
    added = branch(queries, tokens, HEADS)
    assert not added.any()
    assert torch.equal(text + added, text)
    nn.init.normal_(branch.get_submodule(f"to_v_{kind}").weight)
    assert (branch(queries, tokens, HEADS)).abs().max() > 1e-3


def test_branch_adds_nothing_even_in_layers_left_uninitialised():
    class Linear(nn.Linear):
        def reset_parameters(self):
            nn.init.constant_(self.weight, float("nan"))

    branch = ZeroBranch(32, 24, "lm", SimpleNamespace(Linear=Linear))
    assert torch.equal(branch(torch.randn(2, 10, 32), torch.randn(2, 8, 24), HEADS), torch.zeros(2, 10, 32))


def test_branch_matches_multi_head_attention():
    branch = ZeroBranch(32, 24, "lm")
    nn.init.normal_(branch.to_v_lm.weight)
    queries, tokens = torch.randn(2, 10, 32), torch.randn(2, 8, 24)
    expected = torch.empty(2, 10, 32)
    keys, values = tokens @ branch.to_k_lm.weight.T, tokens @ branch.to_v_lm.weight.T
    for head in range(HEADS):
        part = slice(8 * head, 8 * head + 8)
        weights = (queries[..., part] @ keys[..., part].transpose(1, 2) / 8**0.5).softmax(2)
        expected[..., part] = weights @ values[..., part]
    torch.testing.assert_close(branch(queries, tokens, HEADS), expected, rtol=1e-5, atol=1e-5)


def test_branch_learns_from_zero():
    branch = ZeroBranch(32, 24)
    tokens = torch.randn(2, 8, 24)
    branch(torch.randn(2, 10, 32), tokens, HEADS).sum().backward()
    assert branch.to_v_lm.weight.grad.abs().max() > 0


def test_branches_of_a_site_have_the_checkpoints_names():
    sites = {number: [ZeroBranch(8, 16, kind) for kind in KINDS] for number in SITES}
    names = {f"{n}.{key}" for n, branches in sites.items() for b in branches for key in b.state_dict()}
    assert len(names) == 7 * 4
    assert {"31.to_k_lm.weight", "31.to_v_lm.weight", "1.to_k_hp.weight", "1.to_v_hp.weight"} <= names


def test_tokens_reject_other_shapes():
    with pytest.raises(InputError, match=r"landmarks.*478.*\(1, 68, 2\)"):
        LandmarkTokens(16, 2, 8)(torch.zeros(1, 68, 2))
    with pytest.raises(InputError, match=r"placements.*6.*\(1, 4\)"):
        PlacementTokens(16, 2, 8)(torch.zeros(1, 4))
    with pytest.raises(InputError, match=r"lm, hp.*pose"):
        ZeroBranch(8, 16, "pose")
