import pytest
import torch
from scipy.spatial.distance import cosine

from portraittalk_core.errors import InputError, ShapeError
from portraittalk_core.losses.sync import sync_contrastive_loss, sync_cosine, sync_loss


def test_cosine_matches_scipy():
    draw = torch.Generator().manual_seed(0)
    first, second = torch.rand(4, 9, generator=draw), torch.rand(4, 9, generator=draw)
    expected = [1 - cosine(a, b) for a, b in zip(first.numpy(), second.numpy(), strict=True)]
    assert torch.allclose(sync_cosine(first, second), torch.tensor(expected, dtype=torch.float32), atol=1e-6)


def test_contrastive_loss_matches_the_closed_form():
    loss = sync_contrastive_loss(torch.tensor([0.8, 0.3]), torch.tensor([1, 0]))
    assert loss.item() == pytest.approx(-(torch.tensor(0.8).log() + torch.tensor(0.7).log()).item() / 2, abs=1e-6)


def test_log_loss_is_the_contrastive_loss_of_true_pairs():
    cosines = torch.tensor([0.9, 0.2, 0.5])
    assert torch.allclose(sync_loss(cosines), sync_contrastive_loss(cosines, torch.ones(3)))
    assert sync_loss(torch.zeros(2)).isfinite()


@pytest.mark.parametrize(("kind", "rises"), [("log", True), ("printed", False)])
def test_descent_raises_the_cosine_only_without_the_slip_of_the_sign(kind, rises):
    pictures = torch.tensor([[1.0, 0.2]], requires_grad=True)
    sounds = torch.tensor([[0.3, 1.0]])
    before = sync_cosine(pictures, sounds)
    sync_loss(before, kind).backward()
    after = sync_cosine(pictures.detach() - 0.1 * pictures.grad, sounds)
    assert bool(after > before.detach()) is rises


def test_sync_rejects_what_does_not_fit():
    with pytest.raises(InputError, match="lip-sync loss"):
        sync_loss(torch.ones(1), "cosine")
    with pytest.raises(ShapeError, match="embeddings of sounds"):
        sync_cosine(torch.ones(2, 3), torch.ones(2, 4))
