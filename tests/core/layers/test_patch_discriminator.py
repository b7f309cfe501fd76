import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, instance_norm

from portraittalk_core.errors import InputError, ShapeError
from portraittalk_core.layers.patch_discriminator import (
    DiscriminatorOptions,
    MultiScaleDiscriminator,
    PatchDiscriminator,
)


def seeded(options, seed=0):
    torch.manual_seed(seed)
    return MultiScaleDiscriminator(options)


def pictures(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def convolutions(network):
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]


def test_scale_matches_a_chain_of_convolutions_written_out():
    network = seeded(DiscriminatorOptions(in_channels=4, width=8)).scales[0]
    layers, x = convolutions(network), pictures(2, 4, 40, 32)
    found, activations = network(x)
    assert [tuple(layer.weight.shape) for layer in layers] == [
        (8, 4, 4, 4), (16, 8, 4, 4), (32, 16, 4, 4), (64, 32, 4, 4), (1, 64, 4, 4)
    ]  # fmt: skip
    for number, (layer, stride) in enumerate(zip(layers, (2, 2, 2, 1, 1), strict=True)):
        x = conv2d(x, layer.weight, layer.bias, stride, 2)
        if 0 < number < 4:
            x = instance_norm(x)
        if number < 4:
            x = torch.where(x > 0, x, 0.2 * x)
            assert torch.allclose(activations[number], x, atol=1e-5)
    assert torch.allclose(found, x, atol=1e-5)
    assert len(activations) == 4


def test_patch_of_a_logit_is_70_pixels():
    """Isola et al. 2017: three layers of stride 2 and two of stride 1, all 4 wide, see 70 pixels."""
    for num_layers, side in ((1, 16), (2, 34), (3, 70)):
        network = seeded(DiscriminatorOptions(width=2, norm="none", num_layers=num_layers)).scales[0].double()
        x = pictures(1, 3, 160, 160).double().requires_grad_(True)
        logits, _ = network(x)
        logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
        seen = x.grad[0].abs().sum(0) > 0
        rows, columns = seen.any(1).nonzero(), seen.any(0).nonzero()
        assert int(rows.max() - rows.min()) + 1 == int(columns.max() - columns.min()) + 1 == side


def test_second_scale_sees_means_of_the_picture():
    network, x = seeded(DiscriminatorOptions(width=4)), pictures(1, 3, 32, 32)
    padded = np.pad(x.double().numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=np.nan)
    halved = np.stack(
        [[np.nanmean(padded[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3], (2, 3)) for j in range(16)] for i in range(16)]
    )
    expected, _ = network.scales[1](torch.from_numpy(halved).permute(2, 3, 0, 1).float())
    judged = network(x)
    assert torch.allclose(judged.logits[1], expected, atol=1e-5)
    assert torch.equal(judged.logits[0], network.scales[0](x)[0])
    assert [len(layers) for layers in judged.activations] == [4, 4]


def test_spectral_norm_leaves_the_largest_singular_value_at_one():
    network = seeded(DiscriminatorOptions(width=4, norm="none", spectral_norm=True, num_scales=1))
    with torch.no_grad():
        for layer in convolutions(network):
            layer.parametrizations.weight.original.mul_(5)
        for _ in range(200):
            network(pictures(1, 3, 32, 32))
    network.eval()
    for layer in convolutions(network):
        values = np.linalg.svd(layer.weight.detach().flatten(1).double().numpy(), compute_uv=False)
        assert values[0] == pytest.approx(1, abs=1e-3)
    assert not any("parametrizations" in name for name in dict(seeded(DiscriminatorOptions()).named_parameters()))


def test_batch_norm_keeps_statistics():
    network = seeded(DiscriminatorOptions(width=4, norm="batch"))
    network(pictures(2, 3, 32, 32))
    names = [name for name, _ in network.named_buffers() if name.endswith("running_mean")]
    assert len(names) == 2 * 3
    assert all(network.get_buffer(name).abs().sum() > 0 for name in names)


def test_channels_stop_at_512():
    network = PatchDiscriminator(DiscriminatorOptions(width=256, num_layers=3))
    assert [layer.out_channels for layer in convolutions(network)] == [256, 512, 512, 512, 1]


def test_discriminator_rejects_what_it_cannot_see():
    network = seeded(DiscriminatorOptions(width=4))
    with pytest.raises(InputError, match="needs 16 pixels a side"):
        network(torch.zeros(1, 3, 32, 15))
    network(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ShapeError, match="pictures for the discriminator"):
        network(torch.zeros(1, 4, 32, 32))


@pytest.mark.parametrize(
    ("field", "value"), [("norm", "layer"), ("width", 0), ("num_layers", 9), ("num_scales", 0), ("in_channels", 0)]
)
def test_options_reject_what_cannot_be(field, value):
    with pytest.raises(InputError, match=field):
        DiscriminatorOptions(**{field: value})
