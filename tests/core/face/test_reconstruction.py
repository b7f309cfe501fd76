"""The reconstruction network at a tiny size against transformers' ResNet, and faces aligned by Pillow's own steps."""

import numpy as np
import pytest
import torch
from PIL import Image

from portraittalk_core.errors import InputError, MissingDependency
from portraittalk_core.face import reconstruction
from portraittalk_core.face.reconstruction import (
    TEMPLATE,
    ReconstructionNet,
    aligned_face,
    five_points,
    load_reconstruction,
)


@pytest.fixture
def tiny(monkeypatch) -> ReconstructionNet:
    monkeypatch.setattr(reconstruction, "WIDTH", 8)
    monkeypatch.setattr(reconstruction, "BLOCKS", (1, 2, 1, 1))
    torch.manual_seed(0)
    net = ReconstructionNet().eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 2)
    return net


def test_the_backbone_is_a_resnet_of_version_1_5(tiny):
    from transformers import ResNetConfig, ResNetModel

    config = ResNetConfig(embedding_size=8, hidden_sizes=[32, 64, 128, 256], depths=[1, 2, 1, 1])
    theirs, state = ResNetModel(config).eval(), {}
    for name, tensor in tiny.backbone.state_dict().items():
        first, _, rest = name.partition(".")
        if first in ("conv1", "bn1"):
            kind = "convolution" if first == "conv1" else "normalization"
            state[f"embedder.embedder.{kind}.{rest}"] = tensor
            continue
        block, part, *last = rest.split(".")
        below = f"encoder.stages.{int(first[5:]) - 1}.layers.{block}"
        if part == "downsample":
            kind = "convolution" if last[0] == "0" else "normalization"
            state[f"{below}.shortcut.{kind}.{last[1]}"] = tensor
        else:
            kind = "convolution" if part.startswith("conv") else "normalization"
            state[f"{below}.layer.{int(part[-1]) - 1}.{kind}.{last[0]}"] = tensor
    theirs.load_state_dict(state)
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        pooled = theirs(pictures).pooler_output
        made = tiny(pictures)
        expected = torch.cat([layer(pooled) for layer in tiny.final_layers], 1).flatten(1)
    assert made.shape == (2, 257)
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prefix", ["net_recon", "face_3drecon", None])
def test_the_file_is_known_beside_other_tensors(tiny, tmp_path, prefix):
    state = tiny.state_dict()
    content = state if prefix is None else {prefix: state, "opt_00": {"state": {0: {"exp_avg": torch.zeros(3)}}}}
    torch.save(content, tmp_path / "epoch.pth")
    read = load_reconstruction(tmp_path / "epoch.pth").state_dict()
    assert all(torch.equal(read[name], tensor) for name, tensor in state.items())
    torch.save({"w": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="other.pth holds no face reconstruction"):
        load_reconstruction(tmp_path / "other.pth")
    with pytest.raises(MissingDependency):
        load_reconstruction(tmp_path / "absent.pth")


@pytest.mark.parametrize(("middle", "size"), [((160, 120), 41), ((40, 200), 63), ((300, 30), 95)])
def test_faces_are_scaled_and_cut_without_turning(middle, size):
    small = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    picture = Image.fromarray(small).resize((320, 240), Image.Resampling.BICUBIC)
    points = torch.tensor(TEMPLATE, dtype=torch.float64)[:, :2] * torch.tensor([size, -size]) + torch.tensor(middle)
    scale = 102 / size  # the template's unit becomes 102 pixels
    width, height = int(320 * scale), int(240 * scale)
    left = int(width / 2 - 112 + (middle[0] - 160) * scale)
    top = int(height / 2 - 112 + (middle[1] + 1 - 120) * scale)  # y counts from the last row up
    expected = picture.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + 224, top + 224))
    made = aligned_face(torch.from_numpy(np.array(picture)), points)
    assert made.shape == (224, 224, 3)
    difference = np.abs(made.numpy().astype(int) - np.asarray(expected).astype(int))
    assert difference.max() <= 2 and difference.mean() < 0.02


def test_five_points_are_the_middles_of_eyes_the_nose_and_the_mouths_corners():
    points = torch.arange(478)[:, None] * torch.tensor([1.0, 2.0, 0.0])
    expected = [(33 + 133) / 2, (362 + 263) / 2, 1, 61, 291]
    assert five_points(points)[:, 0].tolist() == expected and five_points(points)[:, 1].tolist() == [
        2 * x for x in expected
    ]
    with pytest.raises(InputError, match="lie in one place"):
        aligned_face(torch.zeros(64, 64, 3, dtype=torch.uint8), torch.ones(5, 2))
