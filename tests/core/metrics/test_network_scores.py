import pytest
import torch

from portraittalk_core.errors import InputError
from portraittalk_core.metrics.lpips import lpips
from portraittalk_core.metrics.network_scores import NetworkScores
from portraittalk_core.metrics.networks.alexnet import WIDTHS, AlexNetFeatures
from portraittalk_core.metrics.networks.load import load_lpips
from portraittalk_core.weights.metric_files import ALEXNET, I3D, INCEPTION, LPIPS_HEADS


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    torch.save(AlexNetFeatures().state_dict(), folder / "alexnet.pth")
    heads = {f"lin{i}.model.1.weight": torch.rand(1, width, 1, 1) for i, width in enumerate(WIDTHS)}
    torch.save(heads, folder / "alex.pth")

    class Script(torch.nn.Module):
        def forward(self, x, rescale: bool, resize: bool, return_features: bool):
            means = torch.nn.functional.avg_pool3d(x, [16, 224, 224]).flatten(1)
            return means.repeat(1, 134)[:, :400] if return_features else x

    torch.jit.script(Script()).save(str(folder / "i3d.pt"))
    return {ALEXNET: folder / "alexnet.pth", LPIPS_HEADS: folder / "alex.pth", I3D: folder / "i3d.pt"}


def frames(seed: int, count: int, side: int = 64) -> torch.Tensor:
    return torch.randint(0, 256, (count, side, side, 3), generator=torch.Generator().manual_seed(seed)).byte()


def test_without_networks_every_metric_says_what_it_needs():
    scores = NetworkScores({})
    scores.update(*frames(0, 2))
    values, missing = scores.result()
    assert values == {}
    assert missing["fid"] == f"not available: needs {INCEPTION}"
    assert missing["lpips"] == f"not available: needs {ALEXNET} and {LPIPS_HEADS}"
    assert missing["fvd"] == f"not available: needs {I3D}"


def test_what_there_is_is_measured(files):
    a, b = frames(1, 33), frames(2, 33)
    scores = NetworkScores(files)
    for pair in zip(a, b, strict=True):
        scores.update(*pair)
    values, missing = scores.result()
    assert set(missing) == {"fid"}
    network = load_lpips(files[ALEXNET], files[LPIPS_HEADS])
    expected = sum(lpips(*pair, network) for pair in zip(a, b, strict=True)) / 33
    assert values["lpips"] == pytest.approx(expected, rel=1e-6)
    assert values["fvd"] > 0


def test_identical_videos_are_at_no_distance(files):
    scores = NetworkScores(files)
    for frame in frames(3, 33):
        scores.update(frame, frame)
    values, _ = scores.result()
    assert values["lpips"] == 0
    assert values["fvd"] == pytest.approx(0, abs=1e-3)


def test_too_few_or_too_small_frames_are_told_not_counted(files):
    scores = NetworkScores(files)
    scores.update(*frames(4, 2, side=40))
    values, missing = scores.result()
    assert values == {}
    assert "too small for LPIPS" in missing["lpips"]
    assert "FVD of 0 and 0 clips" in missing["fvd"]
    with pytest.raises(InputError, match="cannot be compared"):
        scores.update(frames(5, 1)[0], frames(5, 1, side=40)[0])
