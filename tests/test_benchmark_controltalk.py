"""The benchmarks of keypoint training measure what they say: on puppets whose mouths are known."""

import dataclasses
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import controltalk as toy  # noqa: E402
from benchmarks import controltalk_mouths as mouths  # noqa: E402
from benchmarks import controltalk_training as training  # noqa: E402
from benchmarks import implicit_held as held  # noqa: E402
from benchmarks import implicit_small as small  # noqa: E402

toy_puppet = sys.modules["toy_puppet"]


def clip_of(seed: int, num_frames: int = 12) -> mouths.Clip:
    video = training.head_clip(seed, num_frames)
    return mouths.Clip(video, None, torch.zeros(num_frames, 18, 4), torch.zeros(18, 4), *[torch.zeros(num_frames)] * 2)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_opening_is_read_off_the_pictures(seed):
    clip = clip_of(seed)
    frames = mouths.crops_of(clip.video, range(12))
    asked = toy_puppet.motion(12, seed)[:, 3].clamp(min=0)
    assert torch.allclose(mouths.openings(frames, clip), asked, atol=0.12)
    assert toy.correlation(mouths.openings(frames, clip), asked) > 0.97


def test_opening_of_a_still_puppet_is_looked_for_where_it_stands():
    clip = clip_of(3)
    frames = mouths.crops_of(clip.video, [0] * 4)
    asked = training.moves_of(3, 12)[0, 3].clamp(min=0)
    assert torch.allclose(mouths.openings(frames, clip, still=True), asked.expand(4), atol=0.12)


def test_scale_is_that_of_frames_whose_mouths_are_known(monkeypatch):
    """A renderer that makes shut mouths look 0.2 open, and wide ones no wider."""
    clip = dataclasses.replace(clip_of(0), own_opening=torch.linspace(0, 1, 12))
    monkeypatch.setattr(mouths, "talk", lambda *_: None)
    monkeypatch.setattr(mouths, "openings", lambda frames, clip: 0.2 + 0.8 * clip.own_opening)
    scale = mouths.Scale.of(None, [clip])
    assert (scale.shut, scale.wide) == pytest.approx((0.2, 0.8))
    assert torch.allclose(scale(torch.tensor([0.2, 1.0])), torch.tensor([0.0, 1.0]), atol=1e-6)


ROW = toy.Row(0.5, 0.3, 0.9, 0.8)


def findings(**changes) -> toy.Findings:
    alphas = {alpha: dataclasses.replace(ROW, opening=0.05 + 0.4 * alpha) for alpha in toy.ALPHAS}
    alphas[0.0] = dataclasses.replace(alphas[0.0], cosine=0.5)
    printed = dataclasses.replace(ROW, cosine=0.5), dataclasses.replace(ROW, cosine=0.2)
    return dataclasses.replace(toy.Findings(0.9, ROW, alphas, {}, printed, 0.95, 0.02), **changes)


def test_claims_hold_for_the_papers_order_and_each_can_fail():
    assert all(findings().claims().values())
    flat = {alpha: ROW for alpha in toy.ALPHAS}
    assert list(findings(alphas=flat).claims().values()).count(False) == 3  # not rising, not shut, no better in sync
    assert not findings(printed=(ROW, ROW)).claims()["equation 5 as printed lowers it"]
    assert list(findings(image_as_video=0.5).claims().values()).count(False) == 1


def test_groups_keep_speakers_apart():
    names = ["s1/a", "s1/b", "s30/a", "s4/a"]
    clips = [dataclasses.replace(toy_puppet.puppet_clip(0, 2), name=name) for name in names]
    found = {
        name: [clip.name for clip in members] for name, members in small.groups(clips, frozenset({"s1/x", "s4/y"}))
    }
    assert found == {
        "s1, held-out clips": ["s1/a", "s1/b"],
        "s4, held-out clips": ["s4/a"],
        "other speakers": ["s30/a"],
    }


def test_frames_that_are_followed_show_the_face_and_are_not_the_source():
    clip = toy_puppet.puppet_clip(0, 12)
    valid = torch.ones(12, dtype=torch.bool)
    valid[8] = False
    clip = dataclasses.replace(clip, reference=4, track=dataclasses.replace(clip.track, valid=valid))
    assert small.followed_frames(clip) == [0]


def test_held_heads_stand_still_while_their_mouths_move(tmp_path, monkeypatch):
    monkeypatch.setattr(held, "warped_pictures", lambda job: [job.source.picture] * job.num_frames)
    toy_puppet.write_prepared(tmp_path, ["a/1", "a/2", "b/1"])
    (tmp_path / held.TRAIN).write_text("a/1\na/2\nb/1\n")
    names = small.read_list(held.write_held_clips(tmp_path, 0))
    assert names == {*("a/1", "a/2", "b/1"), *(f"{f}/{n}" for f in held.FOLDERS for n in ("a/1", "a/2", "b/1"))}
    assert small.read_list(tmp_path / held.BALANCED) == {"a/1", "a/2", "b/1"}
    for clip in small.read_videos(tmp_path, 1, frozenset({"held/a/1", "held/b/1"})).videos:
        points = clip.track.points_px
        moved = (points - points[:1]).norm(dim=-1)
        rigid = list(held.topo.RIGID)
        assert clip.reference == 0 and moved[1:, rigid].max() < 0.05 * points[0].std()
        assert small.mouth_open(clip.track).std() > 0.02


def test_clips_of_a_speaker_are_spread_evenly():
    names = [f"s1/{number}" for number in range(10)] + ["s4/x", "s4/y"]
    assert held.by_speaker(names, 5) == ["s1/0", "s1/2", "s1/4", "s1/6", "s1/8", "s4/x", "s4/y"]
    assert held.by_speaker(names, 12) == names
