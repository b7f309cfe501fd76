"""The style benchmark measures what it says: on made-up clips whose answers are known."""

import math
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import __main__ as command  # noqa: E402
from benchmarks.style import key_frames, plain_face, rank_correlation  # noqa: E402
from benchmarks.style_clips import (  # noqa: E402
    StyleClip,
    cluster_by_extractor,
    cluster_by_statistics,
    load_style_clips,
    segments,
    untrained,
)
from benchmarks.style_plots import classical_scaling, flat, save_map, save_strip  # noqa: E402
from benchmarks.style_recordings import (  # noqa: E402
    another_recording,
    clip_mean,
    interval,
    nearest_own,
    nearest_speaker,
    traces,
)
from portraittalk_core.errors import InputError  # noqa: E402
from portraittalk_core.face.geometry import mouth_open  # noqa: E402
from portraittalk_core.media.image import load_picture  # noqa: E402
from portraittalk_core.media.records import save_record  # noqa: E402
from portraittalk_core.metrics.clustering_strength import nearest_centroid_accuracy  # noqa: E402
from portraittalk_core.style.extractor import StyleExtractor, new_extractor_net  # noqa: E402
from portraittalk_core.style.extractor_files import ExtractorSizes  # noqa: E402
from portraittalk_core.types import LandmarkTrack  # noqa: E402


def talking(seconds: float, swing: float, turns: float) -> LandmarkTrack:
    """A plain face whose lower lip goes down and up twice a second while the head rocks."""
    count = round(25 * seconds)
    times = torch.arange(count) / 25
    points = plain_face().points_px.repeat(count, 1, 1)
    points[:, 14, 1] += 50 * swing * (1 - torch.cos(4 * math.pi * times))
    angle = torch.deg2rad(turns * torch.sin(math.pi * times))
    turn = torch.stack([torch.cos(angle), -torch.sin(angle), torch.sin(angle), torch.cos(angle)], 1).view(-1, 2, 2)
    points[..., :2] = (points[..., :2] - 256) @ turn + 256
    return LandmarkTrack.from_px(points, 512, 512, plain_face().fps)


@pytest.fixture(scope="module")
def clips() -> list[StyleClip]:
    ways = {"calm": (0.04, 0.5), "wide": (0.2, 0.5), "rocking": (0.04, 6.0)}
    return [StyleClip(name, talking(8, *way)) for name, way in ways.items()]


def test_segments_are_of_equal_length_whatever_the_clip(clips):
    parts = segments(clips[0], 3)
    assert [len(part.track) for part in parts] == [75, 75]
    assert torch.equal(torch.cat([part.track.points for part in parts]), clips[0].track.points[:150])
    assert [len(part.track) for part in segments(StyleClip("short", talking(3, 0.1, 1)), 1.5)] == [37, 37]
    assert segments(StyleClip("too short", talking(3, 0.1, 1)), 2) == []


def test_different_ways_of_speaking_are_told_apart_and_equal_ones_not(clips):
    scores = cluster_by_statistics(clips, 2)
    assert scores.accuracy == 1 and scores.strength > 3 and scores.shuffled < 0.7
    assert len(scores.labels) == 12 and len(cluster_by_statistics(clips, 2, without=(1, 4)).points[0]) == 9
    same = [StyleClip(str(n), clips[0].track) for n in range(3)]
    assert cluster_by_statistics(same, 2).strength < 0.1


def test_extractor_looks_at_the_face_alone_where_there_is_no_sound(clips):
    torch.manual_seed(0)
    sizes = ExtractorSizes(width=32, num_layers=1, num_heads=4, feed_forward=64)
    extractor = StyleExtractor(new_extractor_net(sizes).eval().requires_grad_(False), torch.ones(32), "small")
    scores = cluster_by_extractor(clips, 2, extractor, None, "face")
    assert scores.points.shape == (12, 32) and scores.accuracy > 1 / 3
    other = untrained(extractor)
    assert other.sizes == extractor.sizes
    assert not torch.equal(cluster_by_extractor(clips, 2, other, None, "face").points, scores.points)
    with pytest.raises(InputError, match="0 clips have a sound"):
        cluster_by_extractor(clips, 2, extractor, None, "sound")


def test_pieces_are_told_as_the_metric_does_and_by_other_clips_of_their_speaker():
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(5).repeat_interleave(4)
    points = torch.randn(20, 3, generator=draw) + torch.randn(5, 3, generator=draw)[labels]
    expected = nearest_centroid_accuracy(points, labels, leave_one_out=True)
    hits = nearest_own(points, labels)
    assert 0 < expected < 1 and float(hits.double().mean()) == pytest.approx(expected)
    low, high = interval(hits, labels)
    assert 0 <= low < expected < high <= 1
    assert interval(torch.ones(20, dtype=torch.bool), labels) == (1, 1)
    places = torch.tensor([0.0, 1.0, 9.0, 10.0, 4.8])[labels, None].expand(-1, 2)
    share, chance, count = nearest_speaker(places, labels, ["a", "a", "b", "c", "b"])
    assert (share, count) == (8 / 16, 16)  # both clips of a; those of b are nearer to c and a
    assert chance == pytest.approx(1 / 4)
    assert clip_mean(torch.tensor([True, False, False, True]), torch.tensor([0, 1, 1, 1])) == pytest.approx(2 / 3)


def test_another_recording_keeps_the_motion_and_changes_all_else():
    track = talking(4, 0.2, 3.0)
    before = mouth_open(track)
    seen = [another_recording(track, torch.Generator().manual_seed(seed)) for seed in range(8)]
    sizes = torch.tensor([float((t.points_px[0, 33] - t.points_px[0, 263]).norm()) for t in seen])
    assert sizes.max() > 1.5 * sizes.min() and len({float(traces(t)[5]) for t in seen}) == 8
    for other in seen:
        assert len(other) == len(track) and other.fps == track.fps
        after = mouth_open(other)
        assert float(torch.corrcoef(torch.stack([before[6:-6], after[6:-6]]))[0, 1]) > 0.8


def test_classical_scaling_keeps_the_distances_of_points_on_a_plane():
    plane = torch.randn(9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    basis = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).Q
    found = classical_scaling(plane @ basis[:2] + 3)
    torch.testing.assert_close(torch.cdist(found, found), torch.cdist(plane, plane))
    assert flat(plane)[0].shape == (9, 2)


def test_rank_correlation_is_that_of_any_rising_function():
    x = torch.tensor([0.1, 5.0, -3.0, 2.0])
    assert rank_correlation(x, x.exp()) == pytest.approx(1)
    assert rank_correlation(x, -(x**3)) == pytest.approx(-1)


def test_telling_frames_are_wide_or_closed_mouths_of_each_part():
    track = talking(6, 0.1, 0)
    opening = track.points[:, 14, 1] - track.points[:, 13, 1]
    chosen = key_frames(track)
    for number, (frame, part) in enumerate(zip(chosen, torch.arange(150).tensor_split(6), strict=True)):
        best = opening[part].min() if number in (2, 5) else opening[part].max()
        assert frame in part and float(opening[frame]) == pytest.approx(float(best), abs=1e-6)


def test_pictures_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    points = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(30) % 3
    save_map(points, labels, ["a", "b", "c"], "three", tmp_path / "map.png")
    grey = torch.full((64, 64, 3), 100, dtype=torch.uint8)
    save_strip({"one": [grey] * 3, "other": [grey] * 3}, [0.0, 1.0, 2.0], "two", tmp_path / "strip.png")
    for name in ("map.png", "strip.png"):
        shown = load_picture(tmp_path / name)
        assert min(shown.shape[:2]) > 300 and shown.float().std() > 5


@pytest.mark.slow
def test_command_reads_tracks_and_says_how_motion_follows(tmp_path, capsys, monkeypatch, clips):
    pytest.importorskip("matplotlib")
    pytest.importorskip("scipy")
    for clip in clips:
        save_record(clip.track, tmp_path / f"{clip.name}.safetensors")
    assert [clip.name for clip in load_style_clips(tmp_path, None)] == ["calm", "rocking", "wide"]
    monkeypatch.setattr("benchmarks.style.SPEECH_S", 3)
    words = ["style", str(tmp_path), "--recordings", "1", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *words])
    assert command.main() == 0
    scores = capsys.readouterr().out
    assert "100.0%" in scores and "opening" in scores and (tmp_path / "out" / "map_manner.png").is_file()


def test_folder_of_one_clip_is_refused(tmp_path, clips):
    save_record(clips[0].track, tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes(b"no track")
    skipped = []
    with pytest.raises(InputError, match="1 clips that can be used"):
        load_style_clips(tmp_path, None, skipped.append)
    assert len(skipped) == 1 and skipped[0].startswith("b ")
