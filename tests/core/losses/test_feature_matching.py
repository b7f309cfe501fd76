import numpy as np
import pytest
import torch

from portraittalk_core.errors import InputError
from portraittalk_core.losses.feature_matching import feature_matching_loss


def drawn(seed):
    draw = torch.Generator().manual_seed(seed)
    return [[torch.randn(2, 3 + i, side, side, generator=draw) for i in range(4)] for side in (8, 4)]


def test_loss_matches_numpy_summed_over_layers_and_averaged_over_scales():
    generated, real = drawn(0), drawn(1)
    scales = [
        sum(np.abs(a.double().numpy() - b.double().numpy()).mean() for a, b in zip(*pair, strict=True))
        for pair in zip(generated, real, strict=True)
    ]
    assert float(feature_matching_loss(generated, real)) == pytest.approx(np.mean(scales), rel=1e-6)


def test_loss_of_a_constant_difference_is_layers_times_it():
    real = drawn(0)
    shifted = [[layer + 0.25 for layer in scale] for scale in real]
    assert float(feature_matching_loss(shifted, real)) == pytest.approx(4 * 0.25, rel=1e-5)
    assert float(feature_matching_loss(real, real)) == 0


def test_gradient_reaches_the_generated_side_only():
    generated, real = drawn(0), drawn(1)
    for scale in (*generated, *real):
        for layer in scale:
            layer.requires_grad_(True)
    feature_matching_loss(generated, real).backward()
    assert all(layer.grad.abs().sum() > 0 for scale in generated for layer in scale)
    assert all(layer.grad is None for scale in real for layer in scale)


def test_loss_rejects_activations_of_other_shapes():
    generated, real = drawn(0), drawn(1)
    for bad in (real[:1], [real[0], real[1][:2]], [], [[], []]):
        with pytest.raises(InputError, match="cannot be compared layer by layer"):
            feature_matching_loss(generated, bad)
        with pytest.raises(InputError, match="cannot be compared layer by layer"):
            feature_matching_loss(bad, generated)
