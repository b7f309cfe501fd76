import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from toy_puppet import BlockMesh

from portraittalk_core.metrics.lse import lse
from portraittalk_core.metrics.networks.syncnet import SyncNet
from portraittalk_core.metrics.registry import SYNCNET
from portraittalk_core.pipelines.score import PictureSource
from portraittalk_core.pipelines.score_clip import ScoredClip, follow_clip
from portraittalk_core.pipelines.score_networks import Networks, PictureJudges, sync_scores

COUNT = 9


def frames() -> list[torch.Tensor]:
    made = []
    for k in range(COUNT):
        picture = torch.full((96, 128, 3), 90, dtype=torch.uint8)
        picture[20:70, 40:80] = torch.tensor([230, 7 * k, 10], dtype=torch.uint8)  # stands still
        made.append(picture)
    return made


def clip(with_sound: bool = True) -> ScoredClip:
    source = PictureSource("clip", 128, 96, Fraction(25), COUNT / 25, lambda _fps: iter(frames()))
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (1, COUNT * 640)).astype(np.float32)
    return ScoredClip(source, (lambda: iter([sound[:, :999], sound[:, 999:]])) if with_sound else None)


def test_without_networks_it_is_told_what_they_need():
    judges = PictureJudges(Networks())
    judges.update(frames()[0], frames()[1])
    values, missing = judges.result()
    assert not values and set(missing) == {"lpips", "fid", "fvd"}
    assert all(reason.startswith("not available: needs ") for reason in missing.values())
    followed = follow_clip(clip().pictures, Fraction(25), BlockMesh())
    assert SYNCNET in sync_scores(clip(), followed, Networks(), iter)[1]["lse_d"]


def test_lse_is_that_of_the_crop_by_the_landmarks_box():
    torch.manual_seed(0)
    network = SyncNet().eval()
    networks = Networks(syncnet=network, roles=frozenset([SYNCNET]))
    followed = follow_clip(clip().pictures, Fraction(25), BlockMesh())
    values, missing = sync_scores(clip(), followed, networks, iter)
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
    networks = Networks(syncnet=SyncNet().eval(), roles=frozenset([SYNCNET]))
    followed = follow_clip(clip().pictures, Fraction(25), BlockMesh())
    assert "no sound track" in sync_scores(clip(with_sound=False), followed, networks, iter)[1]["lse_d"]
    short = ScoredClip(clip().pictures, lambda: iter([np.ones((1, 900), np.float32)]))
    assert "too short" in sync_scores(short, followed, networks, iter)[1]["lse_c"]
