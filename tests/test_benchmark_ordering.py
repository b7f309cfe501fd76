"""The ordering benchmark makes the damage it names, and its verdicts follow from the numbers."""

import argparse
import json
import math
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_puppet import BlockMesh

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import ordering  # noqa: E402
from benchmarks.ordering_claims import CLAIMS, FAULTS, judge, shown_value  # noqa: E402
from portraittalk_core.errors import InputError  # noqa: E402
from portraittalk_core.evaluation.result import EvaluationResult  # noqa: E402
from portraittalk_core.media.video_read import probe_video, read_pictures  # noqa: E402
from portraittalk_core.media.video_write import VideoWriter  # noqa: E402
from portraittalk_core.metrics.registry import measured_metrics  # noqa: E402

SMALL = ordering.Damage((25, 35), (1.0, 3.0), (1, 2))


def rows(metric: str, original: float, **faults: tuple[float, ...]) -> dict[tuple[str, int], EvaluationResult]:
    """One clip's rows of one metric."""
    names = dict(zip(("encoded", "blurred", "shifted"), FAULTS, strict=True))
    values = {("original", 0): original}
    values |= {(names[fault], k): value for fault, some in faults.items() for k, value in enumerate(some)}
    return {key: EvaluationResult("x", "x", "x", values={metric: value}) for key, value in values.items()}


class SpeakingMesh(BlockMesh):
    """The lower lip of a red block hangs the lower, the greener the red is."""

    def detect(self, picture: torch.Tensor) -> torch.Tensor:
        found = super().detect(picture)
        green = picture[..., 1][picture[..., 0] > 150].float()
        if len(found) and len(green):
            found[:, 14, 1] += 0.1 * float(green.median()) / 90
        return found


def pictures(count: int) -> torch.Tensor:
    """(T, 96, 128, 3) uint8: stripes that move, a corner whose grey tells the frame, a face that speaks in a sine."""
    stripes = np.random.default_rng(3).integers(110, 160, (96, 32, 1)).repeat(4, 1).repeat(3, 2)
    made = np.stack([np.roll(stripes, k, 1) for k in range(count)])
    made[:, :24, :24] = 8 * np.arange(count)[:, None, None, None]
    for k in range(count):
        left = 50 + round(10 * math.sin(0.3 * k))
        made[k, 30:80, left : left + 44] = 220, round(45 + 40 * math.sin(0.35 * k)), 20
    return torch.from_numpy(made.astype(np.uint8))


@pytest.fixture
def clip(tmp_path) -> Path:
    path = tmp_path / "face.mp4"
    sound = torch.from_numpy(np.sin(np.arange(16_000) * 0.1, dtype=np.float32))[None] * 0.3
    with VideoWriter(path, 128, 96, Fraction(25), (sound, 16_000), crf=0) as writer:
        for picture in pictures(25):
            writer.write(picture)
    return path


def test_every_metric_of_a_report_has_a_claim_with_a_reason():
    assert measured_metrics(reference_free=False).keys() <= CLAIMS.keys()
    for name, claim in CLAIMS.items():
        assert claim.because, name
        assert claim.sees == tuple(fault for fault in FAULTS if fault in claim.sees), "in the faults' order"


def test_blur_matches_scipy():
    from scipy.ndimage import gaussian_filter1d

    picture = pictures(1)[0]
    wanted = picture.numpy().astype(np.float64)
    for axis in (0, 1):
        wanted = gaussian_filter1d(wanted, 2.0, axis, mode="nearest", radius=8)
    assert np.abs(ordering.blurred(picture, 2.0).numpy() - wanted).max() < 0.51  # rounding


def test_copies_are_damaged_as_told(clip, tmp_path):
    copies = ordering.make_copies(clip, 0.8, SMALL, tmp_path / "copies")
    found = {key: torch.stack(list(read_pictures(path))) for key, path in copies.items()}
    assert {len(some) for some in found.values()} == {20}
    assert all(probe_video(path).has_sound for path in copies.values())
    original = found["original", 0].float()

    def error(key):
        return float((found[key].float() - original).square().mean())

    assert error(("re-encoded", 0)) < error(("re-encoded", 1))
    assert error(("blurred", 0)) < error(("blurred", 1))
    for k, late in enumerate(SMALL.frames):
        wanted = [max(frame - late, 0) * 8 for frame in range(20)]
        levels = found["shifted", k][:, 6:18, 6:18].float().mean((1, 2, 3))
        assert levels.tolist() == pytest.approx(wanted, abs=3)


@pytest.mark.parametrize(
    ("metric", "numbers", "wrong", "broken"),
    [
        ("ssim", (1, 0.9, 0.8, 0.7), (), ()),
        ("ssim", (1, 0.9, 0.8, 0.95), (("blurred", "shifted"),), ()),  # a shift it does not claim to see
        ("ssim", (1, 0.8, 0.8, 0.7), (("re-encoded", "blurred"),), (("re-encoded", "blurred"),)),
        ("psnr", (math.inf, 30, 25, 20), (), ()),
        ("adfd", (1, 0.8, 0.9, 0.6), (("re-encoded", "blurred"),), ()),
        ("adfd", (0.6, 0.8, 0.9, 0.6), (("original", "re-encoded"), ("re-encoded", "blurred")),
         (("original", "shifted"),)),
        ("m_lmd", (0, 1, 2, 3), (), ()),
        ("m_lmd", (4, 5, 6, 3), (("blurred", "shifted"),), (("original", "shifted"),)),
        ("mouth_lag", (0, 0, 0, -120), (("original", "re-encoded"), ("re-encoded", "blurred")), ()),
    ],
)  # fmt: skip
def test_verdict_on_the_order(metric, numbers, wrong, broken):
    original, encoded, blurred, shifted = numbers
    verdict = judge(metric, [rows(metric, original, encoded=(encoded,), blurred=(blurred,), shifted=(shifted,))], 1)
    assert (verdict.out_of_order, verdict.broken) == (wrong, broken)
    assert bool(verdict.failed) is bool(broken)
    assert verdict.clips_as_claimed == (not broken)
    assert not verdict.grows


def test_verdict_on_growing_faults_counts_only_where_claimed():
    falls, not_always = (0.9, 0.8, 0.7), (0.9, 0.95, 0.6)
    seen = judge("ssim", [rows("ssim", 1, encoded=falls, blurred=(0.85, 0.79, 0.6), shifted=not_always)], 3)
    assert seen.grows == {"re-encoded": True, "blurred": True, "shifted": False} and not seen.failed
    unseen = judge("ssim", [rows("ssim", 1, encoded=not_always, blurred=(0.9, 0.5, 0.4), shifted=falls)], 3)
    assert unseen.failed == ("re-encoded does not grow",)
    assert unseen.means == {"original": 1, "re-encoded": 0.95, "blurred": 0.5, "shifted": 0.8}


def test_means_leave_out_clips_that_lack_a_number():
    whole = rows("ssim", 1, encoded=(0.9,), blurred=(0.8,), shifted=(0.7,))
    lacking = {key: EvaluationResult("y", "y", "y") if key[0] == "blurred" else row for key, row in whole.items()}
    assert judge("ssim", [whole, lacking], 1).num_clips == 1
    assert judge("ssim", [lacking], 1) is None
    own = EvaluationResult("z", "z", "z", values={"jitter": 0.3, "target:jitter": 0.5})
    assert shown_value(own, "jitter") == pytest.approx(0.2)


def test_strengths_must_grow():
    assert ordering.Damage.around(30, 2.0, 3) == ordering.Damage()
    assert ordering.Damage.around(30, 2.0, 1, growing=False).levels == 1
    with pytest.raises(InputError, match="no milder one"):
        ordering.Damage.around(30, 2.0, 1)
    with pytest.raises(InputError, match="must grow"):
        ordering.Damage(crf=(30, 23))


@pytest.mark.slow
def test_the_whole_benchmark_on_a_drawn_face(clip, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ordering, "open_mesh", SpeakingMesh)
    parser = argparse.ArgumentParser()
    ordering.add_arguments(parser)
    out = tmp_path / "out"
    args = parser.parse_args(["--clips", str(clip), "--seconds", "0.6", "--frames", "2", "--quick", "--out", str(out)])
    args.run(args)
    said = capsys.readouterr().out
    assert "Mouth-opening correlation" in said and "not available: needs" in said
    told = json.loads((out / "ordering.json").read_text())
    verdicts = {verdict["metric"]: verdict for verdict in told["metrics"]}
    assert verdicts["psnr"]["means"]["original"] == "inf"
    assert verdicts["mouth_correlation"]["means"]["original"] == pytest.approx(1)
    assert verdicts["mouth_correlation"]["means"]["shifted"] < 0.95 and not verdicts["mouth_correlation"]["failed"]
    assert verdicts["ssim"]["claim"]["sees"] == ["re-encoded", "blurred"]
    assert told["damage"] == {"crf": [30], "sigma_px": [2.0], "frames": [2]}
    assert (out / "ordering.png").stat().st_size > 20_000

    unseen = rows("m_lmd", 1, encoded=(2,), blurred=(3,), shifted=(0.5,))
    monkeypatch.setattr(ordering, "judged", lambda *_: [judge("m_lmd", [unseen], 1)])
    args.out = None
    monkeypatch.setattr(ordering, "score_clips", lambda *_: [("face", unseen)])
    assert args.run(args) == 1
    assert "M-LMD fails in what it claims: shifted is not worse than original" in capsys.readouterr().out


def test_growing_faults_are_told_and_drawn(tmp_path):
    clips = {"a": rows("ssim", 1, encoded=(0.9, 0.8, 0.7), blurred=(0.85, 0.9, 0.6), shifted=(0.9, 0.8, 0.7))}
    verdicts = ordering.judged(list(clips.values()), ordering.Damage())
    table = ordering.growth_table(verdicts, list(clips.values()), ordering.Damage())
    assert table.rows == [
        ["SSIM", "0.900 → 0.800 → 0.700 grows *", "0.850 → 0.900 → 0.600 does not *", "0.900 → 0.800 → 0.700 grows"]
    ]
    ordering.save_growth(verdicts, clips, ordering.Damage(), tmp_path / "growing.png")
    assert (tmp_path / "growing.png").stat().st_size > 5_000
