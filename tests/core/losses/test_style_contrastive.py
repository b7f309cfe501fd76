import math

import pytest
import torch

from portraittalk_core.errors import InputError
from portraittalk_core.losses.style_contrastive import inverse_distances, style_contrastive_loss


def place(*points):
    return torch.tensor(points, dtype=torch.float32)


HEIGHT = math.sqrt(9 - 0.25)  # of a point at distance 3 from (0, 0) and (1, 0)


def test_loss_of_one_negative_is_exact():
    styles = place((0.0, 0.0), (1.0, 0.0), (0.5, HEIGHT))
    loss = style_contrastive_loss(styles, torch.tensor([4, 4, 9]))
    assert float(loss) == pytest.approx(math.log(1 + math.exp(-2.5)), abs=1e-6)
    assert float(loss) == pytest.approx(0.0788897, abs=1e-6)


def test_loss_of_two_negatives_is_exact():
    styles = place((0.0, 0.0), (1.0, 0.0), (0.5, HEIGHT), (0.5, -HEIGHT))
    loss = style_contrastive_loss(styles, torch.tensor([0, 0, 1, 2]))
    assert float(loss) == pytest.approx(0.1520084, abs=1e-6)


def test_loss_averages_all_positives_as_a_plain_loop_does():
    generator = torch.Generator().manual_seed(1)
    styles, labels = torch.randn(9, 5, generator=generator), [0, 0, 0, 1, 1, 2, 2, 2, 3]
    constant, tau, total = 0.5, 0.3, []

    def alike(i, j):
        return math.exp(1 / (math.dist(styles[i].tolist(), styles[j].tolist()) + constant) / tau)

    for i in range(9):
        against = sum(alike(i, n) for n in range(9) if labels[n] != labels[i])
        costs = [
            -math.log(alike(i, p) / (alike(i, p) + against)) for p in range(9) if p != i and labels[p] == labels[i]
        ]
        if costs:
            total.append(sum(costs) / len(costs))
    loss = style_contrastive_loss(styles, torch.tensor(labels), constant, tau)
    assert float(loss) == pytest.approx(sum(total) / len(total), rel=1e-5)


def test_loss_has_finite_gradients_where_vectors_coincide():
    styles = torch.zeros(4, 3, requires_grad=True)
    style_contrastive_loss(styles, torch.tensor([0, 0, 1, 1])).backward()
    assert torch.isfinite(styles.grad).all()


def test_likeness_stays_exact_for_small_distances_far_from_the_origin():
    near = inverse_distances(place((1000.0, 0.0)), place((1000.001, 0.0)), 0.01)
    step = float(torch.tensor(1000.001)) - 1000.0
    assert float(near) == pytest.approx(1 / (step + 0.01), rel=1e-4)


def test_loss_rejects_a_batch_without_contrast():
    for labels in ([0, 1, 2], [0, 0, 0]):
        with pytest.raises(InputError, match="needs two clips of one style"):
            style_contrastive_loss(torch.randn(3, 2), torch.tensor(labels))
