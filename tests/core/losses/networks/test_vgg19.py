import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import conv2d, max_pool2d

from portraittalk_core.errors import InputError, MissingDependency, ShapeError
from portraittalk_core.losses.networks.vgg19 import Vgg19Features, load_vgg19
from portraittalk_core.losses.perceptual import PerceptualLoss

# torchvision's vgg19: places of its convolutions in `features`, and their channels
PLACES = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
CHANNELS = (64, 64, 128, 128, 256, 256, 256, 256, 512, 512, 512, 512, 512, 512, 512, 512)


def published(places=PLACES, channels=CHANNELS) -> dict[str, torch.Tensor]:
    """Tensors under the names and in the shapes of the published file, the classifier cut small."""
    draw, tensors, before = torch.Generator().manual_seed(0), {}, 3
    for place, width in zip(places, channels, strict=True):
        scale = (2 / (9 * before)) ** 0.5  # keeps activations about 1
        tensors[f"features.{place}.weight"] = scale * torch.randn(width, before, 3, 3, generator=draw)
        tensors[f"features.{place}.bias"] = 0.1 * torch.randn(width, generator=draw)
        before = width
    tensors["classifier.6.weight"], tensors["classifier.6.bias"] = torch.zeros(1000, 4), torch.zeros(1000)
    return tensors


@pytest.fixture(scope="module")
def tensors():
    return published()


def chain(pictures, tensors):
    """VGG-19 as table 1 of the paper has it, written out: two, two, four, four and one convolution, pools between."""

    def conv(x, place):
        return conv2d(x, tensors[f"features.{place}.weight"], tensors[f"features.{place}.bias"], padding=1).clamp(min=0)

    relu1_1 = conv(pictures, 0)
    x = max_pool2d(conv(relu1_1, 2), 2, 2)
    relu2_1 = conv(x, 5)
    x = max_pool2d(conv(relu2_1, 7), 2, 2)
    relu3_1 = conv(x, 10)
    x = max_pool2d(conv(conv(conv(relu3_1, 12), 14), 16), 2, 2)
    relu4_1 = conv(x, 19)
    x = max_pool2d(conv(conv(conv(relu4_1, 21), 23), 25), 2, 2)
    return [relu1_1, relu2_1, relu3_1, relu4_1, conv(x, 28)]


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_features_match_a_chain_of_convolutions_written_out(tmp_path, tensors, kind):
    path = tmp_path / f"anything.{kind}"
    if kind == "pth":
        torch.save(tensors, path, _use_new_zipfile_serialization=False)  # as the file of 2016 is
    else:
        save_file({name: tensor for name, tensor in tensors.items() if name.startswith("features.")}, path)
    network = load_vgg19(path)
    pictures = torch.randn(1, 3, 48, 32, generator=torch.Generator().manual_seed(1))
    found, expected = network(pictures), chain(pictures, tensors)
    assert [tuple(layer.shape) for layer in found] == [
        (1, 64, 48, 32), (1, 128, 24, 16), (1, 256, 12, 8), (1, 512, 6, 4), (1, 512, 3, 2)
    ]  # fmt: skip
    for ours, theirs in zip(found, expected, strict=True):
        assert theirs.std() > 0.1
        assert torch.allclose(ours, theirs, atol=1e-4)
    assert not any(weight.requires_grad for weight in network.parameters())
    assert not network.training


def test_network_has_the_published_number_of_weights():
    """Torchvision's 143,667,240 less the classifier's 123,642,856 and the last three convolutions' 3 · 2,359,808."""
    count = sum(weight.numel() for weight in Vgg19Features().parameters())
    assert count == 143_667_240 - 123_642_856 - 3 * 2_359_808


def test_network_gives_the_layers_that_the_published_indices_end_at():
    """Slices end before 2, 7, 12, 21 and 30 of torchvision's `features`."""
    assert Vgg19Features().output_layers == [1, 6, 11, 20, 29]


def test_loss_of_the_network_reaches_the_pictures(tmp_path, tensors):
    torch.save(tensors, tmp_path / "vgg.pth")
    loss = PerceptualLoss(load_vgg19(tmp_path / "vgg.pth"))
    generated = torch.full((1, 3, 32, 32), 0.5, requires_grad=True)
    losses = loss(generated, torch.zeros(1, 3, 32, 32))
    losses.features.backward()
    assert generated.grad.abs().sum() > 0
    with pytest.raises(InputError, match=r"too small for VGG-19: 16 pixels"):
        loss(generated[..., :24], torch.zeros(1, 3, 32, 24))


def test_files_of_other_networks_are_refused(tmp_path, tensors):
    sixteen = published(
        (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), (*CHANNELS[:7], *CHANNELS[8:11], *CHANNELS[12:15])
    )
    normed = {**tensors, "features.1.running_mean": torch.zeros(64)}
    narrow = {**tensors, "features.0.weight": torch.zeros(64, 1, 3, 3)}
    for name, content in {
        "sixteen": sixteen,
        "normed": normed,
        "narrow": narrow,
        "other": {"x": torch.zeros(2)},
    }.items():
        torch.save(content, tmp_path / f"{name}.pth")
        with pytest.raises(InputError, match=rf"{name}\.pth is not VGG-19"):
            load_vgg19(tmp_path / f"{name}.pth")
    torch.save({n: t for n, t in tensors.items() if n != "features.12.bias"}, tmp_path / "cut.pth")
    with pytest.raises(InputError, match=r"lacks features\.12\.bias"):
        load_vgg19(tmp_path / "cut.pth")
    with pytest.raises(MissingDependency, match="no weight file"):
        load_vgg19(tmp_path / "absent.pth")


def test_network_rejects_what_is_no_picture():
    with pytest.raises(ShapeError, match="pictures for VGG-19"):
        Vgg19Features()(torch.zeros(1, 1, 32, 32))
