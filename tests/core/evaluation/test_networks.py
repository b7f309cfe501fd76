import math
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from toy_puppet import BlockMesh

from portraittalk_core.evaluation.clip import EvaluationClip
from portraittalk_core.evaluation.evaluate import evaluate
from portraittalk_core.evaluation.meters import MeterSet
from portraittalk_core.evaluation.networks import Networks
from portraittalk_core.evaluation.options import EvaluationOptions
from portraittalk_core.evaluation.source import PictureSource
from portraittalk_core.metrics.lpips import Lpips, lpips
from portraittalk_core.metrics.lse import lse
from portraittalk_core.metrics.meter import FRAME_PAIRS, MetricContext
from portraittalk_core.metrics.networks import load
from portraittalk_core.metrics.networks.alexnet import WIDTHS, AlexNetFeatures
from portraittalk_core.metrics.networks.syncnet import SyncNet
from portraittalk_core.metrics.packages import installed_packages
from portraittalk_core.metrics.registry import ALEXNET, I3D, INCEPTION, LPIPS_HEADS, METRICS, SYNCNET, TARGET

COUNT = 9


def frames() -> list[torch.Tensor]:
    made = []
    for k in range(COUNT):
        picture = torch.full((96, 128, 3), 90, dtype=torch.uint8)
        picture[20:70, 40:80] = torch.tensor([230, 7 * k, 10], dtype=torch.uint8)  # stands still
        made.append(picture)
    return made


def clip(with_sound: bool = True) -> EvaluationClip:
    source = PictureSource("clip", 128, 96, Fraction(25), COUNT / 25, lambda _fps: iter(frames()))
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (1, COUNT * 640)).astype(np.float32)
    return EvaluationClip(source, (lambda: iter([sound[:, :999], sound[:, 999:]])) if with_sound else None)


def synced(networks: Networks, given: EvaluationClip):
    """Values and reasons of the metrics that SyncNet measures."""
    options = EvaluationOptions(metrics=("lse_d", "lse_c", "av_offset"))
    result = evaluate(given, options=options, mesh=BlockMesh(), networks=networks)
    return result.values, result.missing


def test_without_networks_it_is_told_what_they_need():
    values, missing = judged(Networks(), frames()[:1], frames()[1:2])
    assert not values and set(missing) == {"lpips", "fid", "fvd"}
    assert all(reason.startswith("not available: needs ") for reason in missing.values())
    assert SYNCNET in synced(Networks(), clip())[1]["lse_d"]


class Means(torch.nn.Module):
    """Stands for Inception, and for I3D: means of the channels."""

    num_features = 3

    def forward(self, batch):
        return batch.double().flatten(2).mean(2)


@pytest.fixture
def all_networks() -> Networks:
    torch.manual_seed(0)
    heads = [torch.rand(width) for width in WIDTHS]
    roles = frozenset([ALEXNET, LPIPS_HEADS, INCEPTION, I3D])
    opened = {load.load_lpips: Lpips(AlexNetFeatures(), heads), load.load_inception: Means(), load.load_i3d: Means()}
    return Networks(opened, roles)


def random_frames(seed: int, count: int, side: int = 64) -> torch.Tensor:
    return torch.randint(0, 256, (count, side, side, 3), generator=torch.Generator().manual_seed(seed)).byte()


def judged(networks: Networks, made, true):
    """Values and reasons of the metrics of frame pairs that need a network."""
    metrics = [METRICS[name] for name in ("lpips", "fid", "fvd")]
    available = networks.roles | installed_packages() | {TARGET}
    meters = MeterSet(metrics, MetricContext(Fraction(25), tuple(made[0].shape[:2])), networks, available)
    assert {metric.inputs for metric in metrics} == {FRAME_PAIRS}
    for pair in zip(made, true, strict=True):
        meters.update(*pair)
    return meters.result()


@pytest.mark.slow
def test_networks_judge_every_frame(all_networks):
    a, b = random_frames(1, 33), random_frames(2, 33)
    values, missing = judged(all_networks, a, b)
    assert not missing
    expected = sum(lpips(*pair, all_networks.opened[load.load_lpips]) for pair in zip(a, b, strict=True)) / 33
    assert values["lpips"] == pytest.approx(expected, rel=1e-6)
    means = [part.numpy().mean((1, 2)) for part in (a, b)]
    covariances = [np.cov(part.T) for part in means]
    root = sqrtm(covariances[0] @ covariances[1]).real
    fid = np.square(means[0].mean(0) - means[1].mean(0)).sum() + np.trace(sum(covariances) - 2 * root)
    assert values["fid"] == pytest.approx(fid, rel=1e-6)
    assert values["fvd"] > 0
    same, _ = judged(all_networks, a, a)
    assert same["lpips"] == 0
    assert (same["fid"], same["fvd"]) == pytest.approx((0, 0), abs=1e-3)


def test_too_few_or_too_small_frames_are_told_not_counted(all_networks):
    values, missing = judged(all_networks, random_frames(3, 1, side=40), random_frames(4, 1, side=40))
    assert not values
    assert "too small for LPIPS" in missing["lpips"]
    assert "FID of 1 and 1 pictures" in missing["fid"]
    assert "FVD of 0 and 0 clips" in missing["fvd"]


@pytest.mark.parametrize("absent", ["torchmetrics", "torchmetrics.image.fid"])  # not installed; cannot be opened
def test_without_torchmetrics_fid_says_so_and_the_others_go_on(all_networks, absent, monkeypatch):
    monkeypatch.setitem(sys.modules, absent, None)
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", None)
    values, missing = judged(all_networks, random_frames(1, 32), random_frames(2, 32))
    assert missing == {"fid": "not available: needs torchmetrics (pip install torchmetrics)"}
    assert set(values) == {"lpips", "fvd"}


def test_lse_is_that_of_the_crop_by_the_landmarks_box():
    torch.manual_seed(0)
    network = SyncNet().eval()
    networks = Networks({load.load_syncnet: network}, frozenset([SYNCNET]))
    values, missing = synced(networks, clip())
    assert not missing
    # the block is 40 wide and 50 high around (60, 45): 2.8 · 25 pixels a side from 25 above the middle
    from PIL import Image

    crops = []
    for picture in frames():
        held = np.pad(picture.numpy(), ((80, 80), (80, 80), (0, 0)), mode="edge")
        box = (60 - 35 + 80, 45 - 25 + 80, 60 + 35 + 80, 45 + 45 + 80)
        crops.append(
            torch.from_numpy(np.array(Image.fromarray(held).resize((224, 224), Image.Resampling.BICUBIC, box)))
        )
    sound = torch.from_numpy(np.concatenate([block[0] for block in clip().sound()]))
    expected = lse(torch.stack(crops), sound, network)
    assert values["lse_d"] == pytest.approx(expected.distance, rel=1e-2)
    assert math.isfinite(values["lse_c"]) and abs(values["av_offset"]) <= 15


def test_lse_of_a_silent_or_short_video_is_told():
    networks = Networks({load.load_syncnet: SyncNet().eval()}, frozenset([SYNCNET]))
    assert "no sound track" in synced(networks, clip(with_sound=False))[1]["lse_d"]
    short = EvaluationClip(clip().pictures, lambda: iter([np.ones((1, 900), np.float32)]))
    assert "too short" in synced(networks, short)[1]["lse_c"]
