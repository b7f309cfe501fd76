import numpy as np
import pytest
import torch
from torch import nn

from portraittalk_core.errors import InputError
from portraittalk_core.losses.masked_reconstruction import hide, masked_reconstruction_loss, random_patch_mask


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Frozen(nn.Module):
    """A frozen network with a small adapter beside it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.frozen = nn.Conv2d(4, 4, 3, padding=1).requires_grad_(False)
        self.adapter = nn.Conv2d(4, 4, 1)

    def forward(self, latents):
        return self.frozen(latents) + self.adapter(latents)


@pytest.fixture
def drawn():
    draw = seeded()
    clean, masked, noise = (torch.randn(3, 4, 8, 8, generator=draw) for _ in range(3))
    return clean, masked, noise, torch.tensor([0.9991, 0.5, 0.0047])  # SD1.5's first, a middle and its last timestep


def reference_loss(predict, clean, masked, noise, alpha_bar, mode):
    """The equations as they are written, in float64."""
    errors = []
    for i, kept in enumerate(alpha_bar.double().tolist()):
        z = np.sqrt(kept) * masked[i].double().numpy() + np.sqrt(1 - kept) * noise[i].double().numpy()
        whole = clean[i].double().numpy()
        target = noise[i].double().numpy() if mode == "paper" else (z - np.sqrt(kept) * whole) / np.sqrt(1 - kept)
        said = predict(torch.from_numpy(z).float()[None])[0].detach().double().numpy()
        errors.append(((said - target) ** 2).mean())
    return errors


@pytest.mark.parametrize("mode", ["paper", "reconstruct"])
def test_loss_matches_the_equation(drawn, mode):
    network = Frozen().requires_grad_(False)
    expected = reference_loss(network, *drawn, mode)
    assert float(masked_reconstruction_loss(network, *drawn, mode)) == pytest.approx(np.mean(expected), rel=1e-5)


def test_loss_weighs_by_the_limited_signal_to_noise_ratio(drawn):
    network = Frozen().requires_grad_(False)
    expected = reference_loss(network, *drawn, "reconstruct")
    ratios = drawn[3].double().numpy() / (1 - drawn[3].double().numpy())
    weighted = np.mean([e * min(r, 5) / r for e, r in zip(expected, ratios, strict=True)])
    assert float(masked_reconstruction_loss(network, *drawn, snr_limit=5.0)) == pytest.approx(weighted, rel=1e-4)


def test_modes_are_equal_where_nothing_is_hidden(drawn):
    clean, _, noise, alpha_bar = drawn
    pictures = torch.rand(3, 3, 64, 64, generator=seeded()) * 2 - 1
    nothing = torch.stack([random_patch_mask(64, 64, 16, 0.0, seeded())] * 3)
    assert torch.equal(hide(pictures, nothing), pictures)
    paper, reconstruct = (
        masked_reconstruction_loss(Frozen().requires_grad_(False), clean, clean.clone(), noise, alpha_bar, mode)
        for mode in ("paper", "reconstruct")
    )
    assert abs(float(paper) - float(reconstruct)) < 1e-6


def test_modes_differ_where_something_is_hidden(drawn):
    paper, reconstruct = (
        masked_reconstruction_loss(Frozen().requires_grad_(False), *drawn, mode) for mode in ("paper", "reconstruct")
    )
    assert abs(float(paper) - float(reconstruct)) > 0.1


@pytest.mark.parametrize("mode", ["paper", "reconstruct"])
def test_gradients_reach_the_adapter_only(drawn, mode):
    network = Frozen()
    masked_reconstruction_loss(network, *drawn, mode).backward()
    assert all(p.grad is None for p in network.frozen.parameters())
    assert all(p.grad.abs().sum() > 0 for p in network.adapter.parameters())


def test_a_perfect_answer_costs_nothing_and_restores_the_whole_picture(drawn):
    clean, masked, noise, alpha_bar = drawn
    kept = alpha_bar.view(-1, 1, 1, 1)

    def perfect(latents):
        return (latents - kept.sqrt() * clean) / (1 - kept).sqrt()

    assert float(masked_reconstruction_loss(perfect, clean, masked, noise, alpha_bar)) < 1e-6
    assert float(masked_reconstruction_loss(perfect, clean, masked, noise, alpha_bar, "paper")) > 1


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 1.0])
def test_mask_hides_the_asked_share_in_whole_patches(ratio):
    mask = random_patch_mask(512, 256, 16, ratio, seeded(3))
    assert mask.shape == (1, 512, 256)
    patches = mask[0].float().unfold(0, 16, 16).unfold(1, 16, 16).mean((2, 3))
    assert set(patches.unique().tolist()) <= {0.0, 1.0}
    assert float(patches.mean()) == pytest.approx(ratio, abs=0.5 / patches.numel())


def test_mask_is_deterministic_and_random():
    first, again, other = (random_patch_mask(64, 64, 16, 0.5, seeded(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_mask_of_a_size_that_is_no_multiple_of_the_patch_is_cut():
    assert random_patch_mask(40, 50, 16, 1.0).all()
    assert random_patch_mask(40, 50, 16, 1.0).shape == (1, 40, 50)


def test_hidden_pixels_are_grey():
    pictures, mask = torch.ones(1, 3, 32, 32), random_patch_mask(32, 32, 16, 0.5, seeded())[None]
    hidden = hide(pictures, mask)
    assert hidden[mask.expand_as(hidden)].unique().tolist() == [0.0]
    assert hidden[~mask.expand_as(hidden)].unique().tolist() == [1.0]


def test_loss_rejects_another_mode_and_mask_another_ratio(drawn):
    with pytest.raises(InputError, match="reconstruct, paper"):
        masked_reconstruction_loss(Frozen().requires_grad_(False), *drawn, "both")
    with pytest.raises(InputError, match="hidden patches"):
        random_patch_mask(64, 64, 16, 1.5)
