import pytest
import torch
from tiny_vexpress import randomise
from torch.nn.functional import conv2d, pad

from portraittalk_core.errors import ShapeError
from portraittalk_core.renderers.vexpress.kps_guider import KpsGuider


def test_guider_has_the_public_files_names_and_size():
    guider = KpsGuider()
    assert sum(t.numel() for t in guider.parameters()) == 1_086_480
    names = {f"{layer}.{kind}" for layer in ("conv_in", *(f"blocks.{i}" for i in range(6)), "conv_out")
             for kind in ("weight", "bias")}  # fmt: skip
    assert guider.state_dict().keys() == names
    assert not guider(torch.rand(1, 3, 16, 24)).any()  # adds nothing before training


def test_guider_matches_plain_convolutions():
    guider = randomise(KpsGuider(12, (4, 6, 8, 10)), 1)
    x = torch.rand(2, 3, 32, 16, generator=torch.Generator().manual_seed(2))
    weights = guider.state_dict()
    expected, names = x, ["conv_in", *(f"blocks.{i}" for i in range(6)), "conv_out"]
    for name in names:
        whole = conv2d(pad(expected, (1, 1, 1, 1)), weights[f"{name}.weight"], weights[f"{name}.bias"])
        kept = whole[..., ::2, ::2] if name in ("blocks.1", "blocks.3", "blocks.5") else whole
        expected = kept if name == "conv_out" else kept / (1 + torch.exp(-kept))
    assert guider(x).shape == (2, 12, 4, 2)
    torch.testing.assert_close(guider(x), expected, rtol=1e-4, atol=1e-5)


def test_guider_rejects_other_shapes():
    with pytest.raises(ShapeError, match="drawings"):
        KpsGuider()(torch.zeros(1, 4, 16, 16))
