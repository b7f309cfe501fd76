"""Networks against their forward passes written out layer by layer on the file's own names."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from portraittalk_core.errors import InputError
from portraittalk_core.metrics.lpips import Lpips, lpips
from portraittalk_core.metrics.networks.alexnet import WIDTHS, AlexNetFeatures
from portraittalk_core.metrics.networks.inception import FidInception, resized
from portraittalk_core.metrics.networks.syncnet import SyncNet


def lively(network: nn.Module) -> nn.Module:
    """Weights that let every layer matter."""
    torch.manual_seed(0)
    for part in network.modules():
        if isinstance(part, nn.Conv2d | nn.Conv3d | nn.Linear):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            for values, low, high in ((part.running_mean, -0.2, 0.2), (part.running_var, 0.7, 1.3)):
                values.uniform_(low, high)
            nn.init.uniform_(part.weight, 0.7, 1.3)
            nn.init.uniform_(part.bias, -0.2, 0.2)
    return network.eval().requires_grad_(False)


def normed(x, weights, name, eps):
    mean, var, w, b = (weights[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
    shape = (1, -1, *[1] * (x.ndim - 2))
    return (x - mean.view(shape)) / (var.view(shape) + eps).sqrt() * w.view(shape) + b.view(shape)


def test_syncnet_matches_its_layers_written_out():
    net = lively(SyncNet())
    w = net.state_dict()
    assert sum(p.numel() for p in net.parameters()) == 13_631_616
    assert len(w) == 102

    def layer(x, conv, at, **options):
        x = conv(x, w[f"{at}.weight"], w[f"{at}.bias"], **options)
        name, number = at.rsplit(".", 1)
        return normed(x, w, f"{name}.{int(number) + 1}", 1e-5).relu()

    def head(x, name):
        x = F.linear(x.flatten(1), w[f"{name}.0.weight"], w[f"{name}.0.bias"])
        return F.linear(normed(x, w, f"{name}.1", 1e-5).relu(), w[f"{name}.3.weight"], w[f"{name}.3.bias"])

    columns = torch.randn(2, 1, 13, 20)
    x = layer(columns, F.conv2d, "netcnnaud.0", padding=1)
    x = F.max_pool2d(layer(x, F.conv2d, "netcnnaud.4", padding=1), 3, (1, 2))
    for at in (8, 11, 14):
        x = layer(x, F.conv2d, f"netcnnaud.{at}", padding=1)
    x = layer(F.max_pool2d(x, 3, 2), F.conv2d, "netcnnaud.18")
    torch.testing.assert_close(net.sound(columns), head(x, "netfcaud"), rtol=1e-4, atol=1e-4)

    frames = 255 * torch.rand(1, 3, 5, 224, 224)
    x = F.max_pool3d(layer(frames, F.conv3d, "netcnnlip.0", stride=(1, 2, 2)), (1, 3, 3), (1, 2, 2))
    x = layer(x, F.conv3d, "netcnnlip.4", stride=(1, 2, 2), padding=(0, 1, 1))
    x = F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
    for at in (8, 11, 14):
        x = layer(x, F.conv3d, f"netcnnlip.{at}", padding=(0, 1, 1))
    x = layer(F.max_pool3d(x, (1, 3, 3), (1, 2, 2)), F.conv3d, "netcnnlip.18")
    torch.testing.assert_close(net.lips(frames), head(x, "netfclip"), rtol=1e-4, atol=1e-2)


def test_inception_matches_its_layers_written_out():
    net = lively(FidInception())
    w = net.state_dict()
    assert len(w) == 566

    def unit(x, name, stride=1, padding=0):
        x = F.conv2d(x, w[f"{name}.conv.weight"], None, stride, padding)
        return normed(x, w, f"{name}.bn", 1e-3).relu()

    def mean(x):  # without the padding
        ones = F.avg_pool2d(torch.ones_like(x), 3, 1, 1)
        return F.avg_pool2d(x, 3, 1, 1) / ones

    def chain(x, block, *steps):
        for name, *options in steps:
            x = unit(x, f"{block}.{name}", *options)
        return x

    pictures = torch.randint(0, 256, (1, 3, 70, 90)).to(torch.uint8)
    x = (resized(pictures.float(), 299) - 128) / 128
    x = unit(unit(unit(x, "Conv2d_1a_3x3", 2), "Conv2d_2a_3x3"), "Conv2d_2b_3x3", 1, 1)
    x = unit(unit(F.max_pool2d(x, 3, 2), "Conv2d_3b_1x1"), "Conv2d_4a_3x3")
    x = F.max_pool2d(x, 3, 2)
    for b in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        triple = chain(x, b, ("branch3x3dbl_1",), ("branch3x3dbl_2", 1, 1), ("branch3x3dbl_3", 1, 1))
        five = chain(x, b, ("branch5x5_1",), ("branch5x5_2", 1, 2))
        x = torch.cat([unit(x, f"{b}.branch1x1"), five, triple, unit(mean(x), f"{b}.branch_pool")], 1)
    triple = chain(x, "Mixed_6a", ("branch3x3dbl_1",), ("branch3x3dbl_2", 1, 1), ("branch3x3dbl_3", 2))
    x = torch.cat([unit(x, "Mixed_6a.branch3x3", 2), triple, F.max_pool2d(x, 3, 2)], 1)
    across, down = (1, (0, 3)), (1, (3, 0))
    for b in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        seven = chain(x, b, ("branch7x7_1",), ("branch7x7_2", *across), ("branch7x7_3", *down))
        twice = [(f"branch7x7dbl_{i}", *(across if i % 2 else down)) for i in (2, 3, 4, 5)]
        double = chain(x, b, ("branch7x7dbl_1",), *twice)
        x = torch.cat([unit(x, f"{b}.branch1x1"), seven, double, unit(mean(x), f"{b}.branch_pool")], 1)
    three = chain(x, "Mixed_7a", ("branch3x3_1",), ("branch3x3_2", 2))
    seven = [("branch7x7x3_1",), ("branch7x7x3_2", *across), ("branch7x7x3_3", *down), ("branch7x7x3_4", 2)]
    x = torch.cat([three, chain(x, "Mixed_7a", *seven), F.max_pool2d(x, 3, 2)], 1)
    for b, pool in (("Mixed_7b", mean), ("Mixed_7c", lambda y: F.max_pool2d(y, 3, 1, 1))):
        three = unit(x, f"{b}.branch3x3_1")
        double = chain(x, b, ("branch3x3dbl_1",), ("branch3x3dbl_2", 1, 1))
        ends = [unit(three, f"{b}.branch3x3_2a", 1, (0, 1)), unit(three, f"{b}.branch3x3_2b", 1, (1, 0))]
        ends += [unit(double, f"{b}.branch3x3dbl_3a", 1, (0, 1)), unit(double, f"{b}.branch3x3dbl_3b", 1, (1, 0))]
        x = torch.cat([unit(x, f"{b}.branch1x1"), *ends, unit(pool(x), f"{b}.branch_pool")], 1)
    expected = F.adaptive_avg_pool2d(x, 1).flatten(1)
    assert float(expected.std()) > 0.1
    torch.testing.assert_close(net(pictures), expected, rtol=1e-3, atol=1e-3)


def test_resizing_reads_pixels_without_a_shift():
    ramp = torch.arange(4.0).expand(1, 3, 4, 4)
    # pixel i reads at i · 4 / 8 = 0, .5, 1, …; beyond the last pixel nothing is left to blend with
    assert resized(ramp, 8)[0, 0, 0].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3]
    assert resized(ramp.mT, 2)[0, 0, :, 0].tolist() == [0, 2]  # and no antialiasing


def network(seed: int = 0) -> Lpips:
    torch.manual_seed(seed)
    return Lpips(lively(AlexNetFeatures()), [torch.rand(width) for width in WIDTHS]).eval()


def convolved(x, weight, bias, stride, padding):
    """A convolution as one product of matrices."""
    height = (x.shape[2] + 2 * padding - weight.shape[2]) // stride + 1
    columns = F.unfold(x, weight.shape[2:], padding=padding, stride=stride)
    return (weight.flatten(1) @ columns + bias[:, None]).unflatten(2, (height, -1))


def test_lpips_matches_the_equation_written_out():
    net = network()
    w = {name: tensor.double() for name, tensor in net.features.state_dict().items()}
    pictures = [2 * torch.rand(2, 3, 71, 64) - 1 for _ in range(2)]
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])

    def layers(picture):
        # −1..1 with ImageNet's numbers, rounded to three digits as the published code has them
        shift, scale = (2 * mean - 1), 2 * std
        x, found = ((picture - shift[:, None, None]) / scale[:, None, None]).double(), []
        for at, stride, padding in ((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1)):
            x = F.max_pool2d(x, 3, 2) if at in (3, 6) else x
            x = convolved(x, w[f"features.{at}.weight"], w[f"features.{at}.bias"], stride, padding).relu()
            found.append(x)
        return found

    expected = torch.zeros(2, dtype=torch.float64)
    for a, b, head in zip(*map(layers, pictures), net.heads, strict=True):
        for n in range(2):
            for row in range(a.shape[2]):
                ya, yb = (F.normalize(y[n, :, row], dim=0, eps=1e-10) for y in (a, b))
                expected[n] += (head.double() @ (ya - yb).square()).sum() / (a.shape[2] * a.shape[3])
    torch.testing.assert_close(net(*pictures).double(), expected, rtol=1e-4, atol=1e-5)


def test_lpips_matches_the_published_package():
    package = pytest.importorskip("lpips", exc_type=Exception)
    theirs = package.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    weights = theirs.state_dict()
    features = AlexNetFeatures()
    by_number = {name.split(".")[-2] + name[name.rindex(".") :]: t for name, t in weights.items() if "slice" in name}
    features.load_state_dict({f"features.{name}": tensor for name, tensor in by_number.items()})
    ours = Lpips(features, [weights[f"lin{i}.model.1.weight"].flatten() for i in range(5)]).eval()
    a, b = (2 * torch.rand(2, 3, 80, 96) - 1 for _ in range(2))
    torch.testing.assert_close(ours(a, b), theirs(a, b).flatten().detach(), rtol=1e-5, atol=1e-6)


def test_lpips_is_zero_for_identical_symmetric_and_grows_with_noise():
    net = network(1)
    a, noise = torch.rand(1, 3, 96, 96) - 0.5, torch.randn(1, 3, 96, 96)
    assert float(net(a, a)) == 0
    assert float(net(a, noise)) == pytest.approx(float(net(noise, a)), rel=1e-6)
    found = [float(net(a, a + level * noise)) for level in (0.02, 0.1, 0.3, 0.6)]
    assert found == sorted(found)


def test_lpips_of_frames_is_that_of_minus_one_to_one():
    net = network(2)
    a, b = torch.randint(0, 256, (2, 64, 72, 3)).to(torch.uint8)
    expected = float(net(*(p.permute(2, 0, 1)[None].float() / 127.5 - 1 for p in (a, b))))
    assert lpips(a, b, net) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(InputError, match="cannot be compared"):
        lpips(a, b[:60], net)
    with pytest.raises(InputError, match="too small for LPIPS"):
        lpips(a[:40], b[:40], net)
    with pytest.raises(InputError, match="heads of 64"):
        Lpips(AlexNetFeatures(), [torch.zeros(3)] * 5)
