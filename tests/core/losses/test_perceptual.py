import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate

from portraittalk_core.errors import InputError, ShapeError
from portraittalk_core.losses.perceptual import PerceptualLoss, gram_loss, gram_matrix


class TwoLayers(nn.Module):
    """Any network that gives a list of activations will do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3, 2, 1)

    def forward(self, pictures):
        inner = self.first(pictures).relu()
        return [inner, self.second(inner).relu()]


@pytest.fixture
def pictures():
    draw = torch.Generator().manual_seed(1)
    return tuple(torch.rand(2, 3, 16, 12, generator=draw) for _ in range(2))


def normalised(pictures):
    """ImageNet's, channel by channel; the numbers stand in torchvision's documentation of its models."""
    channels = zip(pictures.unbind(1), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)
    return torch.stack([(channel - mean) / deviation for channel, mean, deviation in channels], 1)


def test_feature_loss_matches_a_plain_computation(pictures):
    network = TwoLayers().double()
    sides, expected = [side.double() for side in pictures], 0.0
    for scale in range(3):
        if scale:  # of even sides, bilinear halving without antialiasing is the mean of 2 × 2 pixels
            sides = [interpolate(side, scale_factor=0.5, mode="bilinear") for side in sides]
        layers = zip((1.0, 0.5), *(network(normalised(side)) for side in sides), strict=True)
        expected += sum(weight * float((x - y).detach().abs().mean()) for weight, x, y in layers)
    loss = PerceptualLoss(network.float(), num_scales=3, layer_weights=(1.0, 0.5))
    assert float(loss(*pictures).features) == pytest.approx(expected, rel=1e-5)


def test_gram_loss_matches_numpy_at_full_size(pictures):
    network = TwoLayers()
    expected = 0.0
    for a, b in zip(*(network(normalised(side)) for side in pictures), strict=True):
        arrays = [x.detach().double().numpy() for x in (a, b)]
        grams = [np.einsum("bihw,bjhw->bij", x, x) / np.prod(x.shape[1:]) for x in arrays]
        expected += np.abs(grams[0] - grams[1]).mean()
    for num_scales in (1, 2):
        losses = PerceptualLoss(network, num_scales)(*pictures)
        assert float(losses.gram) == pytest.approx(expected, rel=1e-5)


def test_gram_matrix_of_constant_channels_is_their_products():
    """Channels a and b everywhere: a·b · H·W / (C · H·W)."""
    activations = torch.tensor([2.0, 3.0])[None, :, None, None].expand(1, 2, 4, 5)
    assert torch.allclose(gram_matrix(activations), torch.tensor([[[2.0, 3.0], [3.0, 4.5]]]))


def test_gram_loss_does_not_see_where_things_are():
    draw = torch.Generator().manual_seed(2)
    activations = torch.randn(2, 6, 8, 8, generator=draw)
    shuffled = activations.flatten(2)[:, :, torch.randperm(64, generator=draw)].view_as(activations)
    assert float(gram_loss([activations], [shuffled])) < 1e-6
    assert float((activations - shuffled).abs().mean()) > 0.5


def test_losses_are_zero_for_identical_and_reach_the_generated_pictures_only(pictures):
    network = TwoLayers()
    loss = PerceptualLoss(network)
    same = loss(pictures[0], pictures[0])
    assert float(same.features) == float(same.gram) == 0
    generated, target = (side.requires_grad_(True) for side in pictures)
    losses = loss(generated, target)
    (losses.features + losses.gram).backward()
    assert generated.grad.abs().sum() > 0
    assert target.grad is None
    assert all(weight.grad is None for weight in network.parameters())


def test_losses_are_float32_under_autocast(pictures):
    loss = PerceptualLoss(TwoLayers())
    exact = loss(*pictures)
    with torch.autocast("cpu", torch.bfloat16):
        rough = loss(*pictures)
    assert rough.features.dtype == rough.gram.dtype == torch.float32
    assert float(rough.features) == pytest.approx(float(exact.features), rel=0.02)
    assert float(rough.gram) == pytest.approx(float(exact.gram), rel=0.1)


def test_loss_rejects_what_it_cannot_compare(pictures):
    with pytest.raises(ShapeError, match="generated pictures"):
        PerceptualLoss(TwoLayers())(pictures[0][0], pictures[1][0])
    with pytest.raises(InputError, match="cannot be compared"):
        PerceptualLoss(TwoLayers())(pictures[0], pictures[1][..., :8])
    with pytest.raises(InputError, match="3 layer weights do not fit a network of 2 layers"):
        PerceptualLoss(TwoLayers(), layer_weights=(1.0, 1.0, 1.0))(*pictures)
    with pytest.raises(InputError, match="num_scales"):
        PerceptualLoss(TwoLayers(), 0)
