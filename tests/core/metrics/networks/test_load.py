import hashlib

import pytest
import torch
from torch import nn

from portraittalk_core.errors import InputError
from portraittalk_core.metrics.files import I3D_FILES
from portraittalk_core.metrics.networks.alexnet import WIDTHS, AlexNetFeatures
from portraittalk_core.metrics.networks.inception import FidInception
from portraittalk_core.metrics.networks.load import I3d, load_i3d, load_inception, load_lpips, load_syncnet
from portraittalk_core.metrics.networks.syncnet import SyncNet


class Script(nn.Module):
    def __init__(self, width: int = 400) -> None:
        super().__init__()
        self.width = width

    def forward(self, x, rescale: bool, resize: bool, return_features: bool):
        means = torch.nn.functional.avg_pool3d(x, [16, 224, 224]).flatten(1)
        return means.repeat(1, 134)[:, : self.width] if return_features and not rescale and not resize else x


@pytest.fixture(scope="module")
def syncnet(tmp_path_factory):
    """As the published file is: a bare pickle without counters."""
    torch.manual_seed(0)
    net, path = SyncNet().eval(), tmp_path_factory.mktemp("sync") / "syncnet_v2.model"
    kept = {name: tensor for name, tensor in net.state_dict().items() if "num_batches" not in name}
    torch.save(kept, path, _use_new_zipfile_serialization=False)
    return net, path


def test_syncnet_loads_from_an_old_file(syncnet):
    net, path = syncnet
    loaded, columns = load_syncnet(path), torch.randn(2, 1, 13, 20)
    torch.testing.assert_close(loaded.sound(columns), net.sound(columns).detach())
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())


def test_inception_loads(tmp_path):
    net = FidInception().eval()
    torch.save(net.state_dict(), tmp_path / "inception.pth")
    loaded = load_inception(tmp_path / "inception.pth")
    picture = torch.randint(0, 256, (1, 3, 40, 50)).to(torch.uint8)
    torch.testing.assert_close(loaded(picture), net(picture).detach())


def test_lpips_loads_from_both_files(tmp_path):
    features = AlexNetFeatures()
    torch.save(features.state_dict() | {"classifier.6.bias": torch.zeros(1000)}, tmp_path / "a.pth")
    heads = {f"lin{i}.model.1.weight": torch.rand(1, width, 1, 1) for i, width in enumerate(WIDTHS)}
    torch.save(heads, tmp_path / "alex.pth", _use_new_zipfile_serialization=False)
    net = load_lpips(tmp_path / "a.pth", tmp_path / "alex.pth")
    torch.testing.assert_close(net.heads[2].data, heads["lin2.model.1.weight"].flatten())
    torch.testing.assert_close(net.features.features[3].weight, features.features[3].weight)
    with pytest.raises(InputError, match="alex.pth is not torchvision's AlexNet"):
        load_lpips(tmp_path / "alex.pth", tmp_path / "a.pth")


def test_i3d_loads_and_checks_what_it_gives(tmp_path, monkeypatch):
    torch.jit.script(Script()).save(str(tmp_path / "i3d.pt"))
    content = (tmp_path / "i3d.pt").read_bytes()
    monkeypatch.setitem(I3D_FILES, hashlib.sha256(content).hexdigest(), len(content))
    clips = torch.zeros(2, 3, 16, 224, 224)
    clips[:, 0] = 0.5
    found = load_i3d(tmp_path / "i3d.pt")(clips)
    assert found.shape == (2, 400)
    assert found[0, :3].tolist() == [0.5, 0, 0]
    with pytest.raises(InputError, match=r"\(2, 9\) instead of \(2, 400\)"):
        I3d(Script(9))(clips)
    with pytest.raises(InputError, match="clips for I3D"):
        I3d(Script())(clips[:, :, :10])


def test_files_of_other_networks_are_refused(tmp_path, syncnet):
    for load in (load_inception, load_i3d):
        with pytest.raises(InputError, match=r"syncnet_v2\.model is not .*it holds SyncNet"):
            load(syncnet[1])
    torch.save({"x": torch.zeros(2)}, tmp_path / "x.pth")
    with pytest.raises(InputError, match="nothing that is known"):
        load_syncnet(tmp_path / "x.pth")


def test_a_damaged_syncnet_says_what_it_lacks(tmp_path, syncnet):
    kept = torch.load(syncnet[1], weights_only=True)
    del kept["netcnnlip.8.bias"]
    torch.save(kept, tmp_path / "s.model")
    with pytest.raises(InputError, match=r"lacks netcnnlip\.8\.bias"):
        load_syncnet(tmp_path / "s.model")
