import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from portraittalk_core.training.loop.ema import Ema
from portraittalk_core.training.loop.stage import Trainable


def follow(network, decay):
    trained = Trainable.of(network)
    return Ema(trained.parameters, decay, trained.buffers)


def closed_form(values, decay, start):
    average = start
    for n, value in enumerate(values, 1):
        kept = min(decay, (1 + n) / (10 + n))
        average = kept * average + (1 - kept) * value
    return average


def test_ema_matches_the_closed_form():
    weight = nn.Parameter(torch.zeros(1))
    ema = Ema({"w": weight}, 0.5)
    for n in range(1, 20):
        weight.data.fill_(float(n))
        ema.update()
    expected = closed_form(range(1, 20), 0.5, 0.0)
    assert float(ema.averages["w"]) == pytest.approx(expected, rel=1e-6)
    with ema.in_place():
        assert float(weight.detach()) == pytest.approx(expected, rel=1e-6)
    assert float(weight.detach()) == 19


def test_running_statistics_are_averaged_and_counters_copied():
    norm = nn.BatchNorm1d(2)
    ema, means, variances = follow(norm, 0.8), [], []
    draw = torch.Generator().manual_seed(0)
    for n in range(1, 15):
        norm(n * torch.randn(16, 2, generator=draw) + n)
        ema.update()
        means.append(norm.running_mean.double().clone())
        variances.append(norm.running_var.double().clone())
    for name, values, start in (("running_mean", means, 0.0), ("running_var", variances, 1.0)):
        assert torch.allclose(ema.averages[name].double(), closed_form(values, 0.8, start), rtol=1e-5)
        assert not torch.allclose(ema.averages[name].double(), values[-1], rtol=0.01)
    assert int(ema.averages["num_batches_tracked"]) == 14
    assert ema.averages["num_batches_tracked"].dtype == torch.int64


def test_averaged_statistics_fit_averaged_weights():
    """As a weight grows evenly, its average lags behind; what BatchNorm then subtracts must lag as far."""
    layer, norm = nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1, momentum=0.5, affine=False)
    network = nn.Sequential(layer, norm)
    ema, x = follow(network, 0.9), torch.tensor([[1.0], [3.0]])
    for n in range(400):
        layer.weight.data.fill_(0.01 * n)
        network(x)
        ema.update()
    with ema.in_place():
        network.eval()
        centred = float(layer(x).detach().mean() - norm.running_mean)
        assert float(layer.weight.detach()) == pytest.approx(
            0.01 * (399 - 0.9 / 0.1), abs=1e-3
        )  # lag of decay d: d/(1−d)
    latest = 2 * 0.01 * (399 - 9) - float(norm.running_mean)  # averaged weight with the latest statistics
    assert abs(centred) == pytest.approx(2 * 0.01 * 1, abs=1e-3)  # BatchNorm's own lag: one step at momentum ½
    assert abs(latest) == pytest.approx(2 * 0.01 * 8, abs=1e-3)


def test_vectors_of_spectral_norm_are_copied_and_keep_their_length():
    torch.manual_seed(0)
    layer = spectral_norm(nn.Linear(5, 4))
    ema = follow(layer, 0.9)
    draw = torch.Generator().manual_seed(1)
    for _ in range(30):
        with torch.no_grad():
            layer.parametrizations.weight.original.add_(0.3 * torch.randn(4, 5, generator=draw))
        layer(torch.zeros(1, 5))
        ema.update()
    for name, size in (("_u", 4), ("_v", 5)):
        vector = ema.averages[f"parametrizations.weight.0.{name}"]
        assert vector.shape == (size,)
        assert float(vector.norm()) == pytest.approx(1, abs=1e-5)
        assert torch.equal(vector, layer.get_buffer(f"parametrizations.weight.0.{name}"))
    averaged = ema.averages["parametrizations.weight.original"]
    assert not torch.allclose(averaged, layer.parametrizations.weight.original, atol=0.05)
    layer.eval()
    with ema.in_place():
        largest = float(torch.linalg.svdvals(layer.weight.detach())[0])
    assert largest == pytest.approx(1, abs=0.1)


def test_in_place_gives_everything_back():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    ema = follow(network, 0.9)
    for _ in range(3):
        network(torch.randn(2, 3, 4, 4))
        ema.update()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with ema.in_place():
        assert all(torch.equal(network.state_dict()[name], ema.averages[name]) for name in before)
        network(torch.randn(2, 3, 4, 4))  # in training mode, which moves the statistics
    assert all(torch.equal(network.state_dict()[name], before[name]) for name in before)


def test_buffers_that_are_put_in_anew_are_followed():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))
            self.register_buffer("seen", torch.zeros(1))
            self.register_buffer("scratch", torch.zeros(1), persistent=False)

        def forward(self):
            self.seen = self.seen + 1  # another tensor

    network = Counts()
    ema = follow(network, 0.5)
    network()
    network()
    ema.update()
    assert ema.averages.keys() == {"weight", "seen"}
    assert float(ema.averages["seen"]) == 2


def test_trainable_of_a_network_leaves_out_what_is_frozen():
    network = nn.Sequential(nn.Linear(2, 2).requires_grad_(False), nn.BatchNorm1d(2))
    trained = Trainable.of(network, "net.")
    assert trained.parameters.keys() == {"net.1.weight", "net.1.bias"}
    assert trained.buffers().keys() == {"net.1.running_mean", "net.1.running_var", "net.1.num_batches_tracked"}
    assert trained.buffers()["net.1.running_mean"] is network[1].running_mean
