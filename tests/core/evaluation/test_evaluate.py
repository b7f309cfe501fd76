import csv
import io
import json
import math
import sys
from dataclasses import replace
from fractions import Fraction
from html import unescape

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from toy_puppet import BlockMesh

from portraittalk_core.errors import InputError, NoFaceError
from portraittalk_core.evaluation.clip import EvaluationClip
from portraittalk_core.evaluation.evaluate import evaluate
from portraittalk_core.evaluation.identity import IdentityReference
from portraittalk_core.evaluation.networks import Networks
from portraittalk_core.evaluation.options import EvaluationOptions
from portraittalk_core.evaluation.report.page import to_html
from portraittalk_core.evaluation.report.text import table_text
from portraittalk_core.evaluation.report.write import to_csv, to_json
from portraittalk_core.evaluation.result import EvaluationResult
from portraittalk_core.evaluation.score_report import ScoreReport
from portraittalk_core.evaluation.source import PictureSource
from portraittalk_core.face.geometry import mouth_open
from portraittalk_core.face.mesh.landmarks import track_faces
from portraittalk_core.metrics.adfd import adfd
from portraittalk_core.metrics.landmark_distance import lmd
from portraittalk_core.metrics.networks.load import load_syncnet
from portraittalk_core.metrics.networks.syncnet import SyncNet
from portraittalk_core.metrics.registry import FACE_ENCODER, METRICS, SYNCNET
from portraittalk_core.metrics.sound_mouth import level_per_frame

COUNT = 40
OPENING = np.random.default_rng(5).integers(0, 90, 500)  # of the mouth, which never repeats itself


class SpeakingMesh(BlockMesh):
    """The lower lip of a red block hangs the lower, the greener the red is."""

    def detect(self, picture: torch.Tensor) -> torch.Tensor:
        found = super().detect(picture)
        green = picture[..., 1][picture[..., 0] > 180].float()
        if len(found) and len(green):
            found[:, 14, 1] += 0.1 * float(green.median()) / 90
        return found


def pictures(count: int = COUNT, start: int = 0, grey: bool = False) -> list[torch.Tensor]:
    """A red block that BlockMesh takes for a face; it moves and changes its shape without ever repeating itself."""
    made = []
    for k in range(start, start + count):
        picture = torch.full((96, 128, 3), 90, dtype=torch.uint8)
        left, height = 40 + round(14 * math.sin(0.31 * k)), 44 + round(9 * math.sin(0.02 * k * k))
        if not grey:
            picture[20 : 20 + height, left : left + 40] = torch.tensor([220, int(OPENING[k]), 20], dtype=torch.uint8)
        made.append(picture)
    return made


def clip(frames, name: str = "clip", fps: int = 25, sound: np.ndarray | None = None) -> EvaluationClip:
    height, width = frames[0].shape[:2]

    def read(rate: Fraction):
        count = math.ceil(len(frames) / fps * rate)
        return (frames[min(int(k * fps / rate), len(frames) - 1)] for k in range(count))

    source = PictureSource(name, width, height, Fraction(fps), len(frames) / fps, read)
    return EvaluationClip(source, None if sound is None else lambda: iter([sound[None]]))


def swelling(count: int, start: int = 0) -> np.ndarray:
    """Sound whose level never repeats itself."""
    level = np.random.default_rng(3).uniform(0.05, 1, 400)[start : start + count]
    carrier = np.sin(np.arange(count * 640) * 0.4)
    return (np.repeat(level, 640) * carrier).astype(np.float32)


def noisy(frames, amount: int, seed: int = 0):
    draw = torch.Generator().manual_seed(seed)
    return [
        (f.int() + torch.randint(-amount, amount + 1, f.shape, generator=draw)).clamp(0, 255).to(torch.uint8)
        for f in frames
    ]


def compare(made, true, **options) -> EvaluationResult:
    return evaluate(made, true, EvaluationOptions(**options), mesh=SpeakingMesh())


def test_a_clip_and_itself_are_alike_in_everything():
    row = compare(clip(pictures(), sound=swelling(COUNT)), clip(pictures(), sound=swelling(COUNT)))
    assert row.error is None
    assert [row.values[name] for name in ("adfd", "ssim", "mouth_correlation")] == pytest.approx([1, 1, 1])
    assert {row.values[name] for name in ("m_lmd", "f_lmd", "m_lmd_iod", "lmd_atvg", "lmd_lip")} == {0.0}
    assert row.values["flicker"] < 0.01  # steps of 2 levels count as still
    assert math.isinf(row.values["psnr"])
    assert row.values["jitter"] == row.values["target:jitter"]
    assert (row.counts["num_frames"], row.counts["num_frames_with_face"], row.counts["num_identical_frames"]) == (
        40,
    ) * 3
    assert row.offset.seconds == pytest.approx(0, abs=1e-6)
    assert not row.worst


def test_landmark_scores_in_blocks_are_those_of_whole_tracks(monkeypatch):
    from portraittalk_core.evaluation import clip as clips

    monkeypatch.setattr(clips, "BLOCK", 7)
    made, true = pictures(start=3), pictures()
    made[11] = torch.full_like(made[11], 90)  # no face
    row = compare(clip(made), clip(true))
    tracks = [track_faces(frames, Fraction(25), SpeakingMesh()) for frames in (made, true)]
    both = tracks[0].valid & tracks[1].valid
    a, b = (track.points_px[both].double()[..., :2] for track in tracks)
    whole = adfd(a[:, :468], b[:, :468], (96, 128))
    assert row.counts["num_frames_with_face"] == len(a) == 39
    found = row.values["adfd"], row.values["adfd_place"], row.values["adfd_motion"]
    assert found == pytest.approx((whole.score, whole.spatial, whole.motion), rel=1e-6)
    for name, points in (("m_lmd_iod", "mouth"), ("f_lmd_iod", "face")):
        assert row.values[name] == pytest.approx(float(lmd(a, b, points=points, norm="interocular").mean()), rel=1e-5)


def test_own_scores_in_blocks_are_those_of_the_metrics(monkeypatch):
    from portraittalk_core.evaluation import clip as clips
    from portraittalk_core.metrics.blinks import blinks
    from portraittalk_core.metrics.head_motion import head_motion
    from portraittalk_core.metrics.jitter import jitter

    monkeypatch.setattr(clips, "BLOCK", 9)
    frames = pictures()
    frames[20] = torch.full_like(frames[20], 90)
    values = evaluate(clip(frames), mesh=SpeakingMesh()).values
    track = track_faces(frames, Fraction(25), SpeakingMesh())
    head = head_motion(track)
    assert values["jitter"] == pytest.approx(jitter(track.points_px, track.valid), rel=1e-5)
    assert values["blink_rate"] == blinks(track).per_minute
    found = values["head_std"], values["head_speed"], values["head_beat"]
    assert found == pytest.approx((head.overall_std_deg, head.mean_speed_deg_s, head.beat_hz), rel=1e-3, abs=1e-3)


@pytest.mark.slow
def test_noise_is_seen_by_pictures_and_shown_where_it_is_worst():
    true, quiet, loud = pictures(), noisy(pictures(), 4), noisy(pictures(), 20)
    mixed = quiet[:]
    mixed[25] = loud[25]
    scores = [compare(clip(made), clip(true)) for made in (quiet, loud, mixed)]
    assert scores[0].values["psnr"] > scores[2].values["psnr"] > scores[1].values["psnr"]
    assert scores[0].values["flicker"] < scores[1].values["flicker"]
    assert 1.0 in [frame.time_s for frame in scores[2].worst]  # frame 25
    expected = [
        structural_similarity(
            a.numpy(), b.numpy(), channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for a, b in zip(quiet[:2], true[:2], strict=True)
    ]
    assert scores[0].curves["SSIM"][:2] == pytest.approx(expected, abs=1e-5)  # five digits


@pytest.mark.slow
def test_a_leading_offset_is_told_and_taken_out_only_when_asked():
    frames, sound = pictures(COUNT + 5), swelling(COUNT + 5)
    late = clip(frames, "late", sound=sound)  # what the target shows first comes after 5 frames here
    true = clip(frames[5:], "true", sound=sound[5 * 640 :])
    told, taken = compare(late, true), compare(late, true, align=True)
    assert told.offset.by == "sound" and told.offset.seconds == pytest.approx(0.2, abs=0.006)
    assert any("200 ms late" in note and "--align" in note for note in told.notes)
    assert told.values["adfd"] < 0.95
    assert taken.values["adfd"] == pytest.approx(1, rel=1e-4)
    assert (taken.counts["num_frames"], taken.counts["num_identical_frames"]) == (40, 40)
    early = compare(true, late, align=True)
    assert early.offset.seconds == pytest.approx(-0.2, abs=0.006)
    assert early.counts["num_identical_frames"] == 40


@pytest.mark.slow
def test_other_rates_sizes_and_lengths_are_made_comparable_and_told():
    large = [torch.nn.functional.interpolate(f.permute(2, 0, 1)[None].float(), scale_factor=2)[0] for f in pictures(30)]
    large = [f.permute(1, 2, 0).to(torch.uint8) for f in large]
    doubled = [frame for frame in large for _ in range(2)]
    row = compare(clip(doubled, "made", fps=50), clip(pictures(), "true"))
    assert (row.counts["num_frames"], row.counts["fps"]) == (60, "50/1")
    assert row.values["adfd_place"] > 0.99
    told = " ".join(row.notes)
    assert "256×192 were scaled to 128×96" in told and "25 fps was sampled at 50 fps" in told and "1.20 s" in told


@pytest.mark.slow
def test_face_crop_is_one_square_for_both():
    true = pictures()
    outside = [frame.clone() for frame in true]
    for frame in outside:
        frame[:6, :6] = 255  # far from the face
    whole, face = (compare(clip(outside), clip(true), crop=crop, margin=0.05) for crop in ("whole", "face"))
    assert whole.counts["num_identical_frames"] == 0
    assert face.counts["num_identical_frames"] == 40
    assert (face.counts["width"], face.counts["height"]) == (256, 256)
    assert any("one square" in note for note in face.notes)


def test_a_faceless_video_keeps_its_picture_scores_and_is_an_error():
    row = compare(clip(pictures(grey=True), "grey"), clip(pictures(), "true"))
    assert "no face was found in any frame of grey" in row.error
    assert row.values["psnr"] > 0
    assert "adfd" in row.missing and "jitter" in row.missing and "adfd" not in row.values


def test_videos_of_other_shapes_are_refused():
    with pytest.raises(InputError, match="different shapes"):
        compare(clip([f[:, :96] for f in pictures()]), clip(pictures()))


def test_max_frames_limits_what_is_compared():
    calls = []
    options = EvaluationOptions(max_frames=10)
    row = evaluate(
        clip(pictures()), clip(pictures()), options, mesh=SpeakingMesh(), on_progress=lambda *c: calls.append(c)
    )
    assert row.counts["num_frames"] == 10
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_a_row_survives_the_disk():
    row = compare(clip(noisy(pictures(), 9), sound=swelling(COUNT)), clip(pictures(), sound=swelling(COUNT)))
    assert EvaluationResult.from_json(row.to_json()) == row
    infinite = replace(row, values={"psnr": math.inf})
    assert EvaluationResult.from_json(infinite.to_json()) == infinite
    with pytest.raises(ValueError, match="not the result"):
        EvaluationResult.from_json("{}")


def test_alone_sound_and_mouth_are_correlated_at_their_lag():
    frames = pictures(80)
    mouth = track_faces(frames, Fraction(25), SpeakingMesh())
    decibels = -40 + 100 * np.roll(mouth_open(mouth).numpy(), -3)  # the sound comes 3 frames before the mouth
    amplitude = np.repeat(np.sqrt(2) * 10 ** (decibels.clip(-79, 0) / 20), 640)
    sound = (amplitude * np.sin(np.arange(80 * 640) * np.pi / 2 + np.pi / 4)).astype(np.float32)
    values = evaluate(clip(frames, sound=sound), mesh=SpeakingMesh()).values
    assert values["sound_mouth_correlation"] > 0.97
    assert values["sound_mouth_lag"] == 120


def test_alone_silence_and_a_missing_portrait_are_told():
    row = evaluate(clip(pictures(), sound=np.zeros(COUNT * 640, np.float32)), mesh=SpeakingMesh())
    assert row.missing["sound_mouth_correlation"] == "the sound is silent"
    assert row.missing["identity"] == "not available: needs the portrait"
    assert row.error is None
    assert "no sound track" in evaluate(clip(pictures()), mesh=SpeakingMesh()).missing["sound_mouth_lag"]


def test_identity_is_the_cosine_of_a_face_a_second():
    seen = []

    def describe(picture):
        seen.append(picture)
        return torch.tensor([1.0, float(len(seen) - 1)])

    identity = IdentityReference(describe, torch.tensor([2.0, 0.0]))
    row = evaluate(clip(pictures()), mesh=SpeakingMesh(), identity=identity)
    assert len(seen) == 2  # 1.6 s
    assert row.values["identity"] == pytest.approx((1 + 1 / math.sqrt(2)) / 2)
    assert row.values["identity_distance"] == pytest.approx((1 + math.sqrt(2)) / 2)


def test_identity_to_the_target_is_the_cosine_of_both_faces_a_second():
    """The direction of a face's vector is its green; frames 0, 25 and 50 are looked at, the target has none at 25."""
    made, true = pictures(60), pictures(60)
    for frame, degrees in ((made[0], 0), (true[0], 60), (made[25], 0), (made[50], 10), (true[50], 100)):
        frame[0, 0] = torch.tensor([1, degrees, 0])
    seen = []

    def describe(picture):
        seen.append(picture.shape)
        if picture[0, 0, 0] != 1:
            raise NoFaceError("no face")
        angle = math.radians(float(picture[0, 0, 1]))
        return (3 + len(seen)) * torch.tensor([math.cos(angle), math.sin(angle)])

    row = evaluate(
        clip(made),
        clip(true),
        EvaluationOptions(crop="face"),
        mesh=SpeakingMesh(),
        identity=IdentityReference(describe),
    )
    assert len(seen) == 6 and set(seen) == {(96, 128, 3)}  # whole pictures, whatever PSNR sees
    assert row.values["identity_to_target"] == pytest.approx((0.5 + 0.0) / 2, abs=1e-6)
    assert row.missing["identity"] == "not available: needs the portrait"
    drawn = row.curves["identity to target"]
    assert drawn[0] == drawn[24] == pytest.approx(0.5, abs=1e-4)
    assert drawn[25] is None and drawn[59] == pytest.approx(0, abs=1e-4)
    (line,) = csv.DictReader(io.StringIO(to_csv(ScoreReport([row], {}))))
    assert float(line["identity_to_target"]) == pytest.approx(0.25, abs=1e-6)
    assert "identity_to_target" in json.loads(to_json(ScoreReport([row], {})))["rows"][0]["values"]
    page = to_html(ScoreReport([row], {}))
    assert page.count(METRICS["identity_to_target"].title) >= 3  # summary, chart, definition


def test_identity_to_the_target_says_what_it_lacks():
    row = evaluate(clip(pictures()), clip(pictures()), mesh=SpeakingMesh(), identity=IdentityReference())
    assert row.missing["identity_to_target"] == f"not available: needs {FACE_ENCODER}"

    def blind(_picture):
        raise NoFaceError("no face")

    row = evaluate(clip(pictures()), clip(pictures()), mesh=SpeakingMesh(), identity=IdentityReference(blind))
    assert "no face in any pair" in row.missing["identity_to_target"]
    assert "identity to target" not in row.curves


@pytest.mark.slow
def test_lse_of_the_target_stands_beside_the_generated_ones():
    torch.manual_seed(0)
    networks = Networks({load_syncnet: SyncNet().eval()}, roles=frozenset([SYNCNET]))
    short = {"frames": pictures(12), "sound": swelling(12)}
    late = {"frames": pictures(12, start=3), "sound": swelling(12)}
    calls = []
    row = evaluate(
        clip(**late), clip(**short), mesh=SpeakingMesh(), networks=networks, on_progress=lambda *c: calls.append(c)
    )
    alone = [evaluate(clip(**c), mesh=SpeakingMesh(), networks=networks).values for c in (late, short)]
    for name in ("lse_d", "lse_c", "av_offset"):
        assert row.values[name] == pytest.approx(alone[0][name], rel=1e-6)
        assert row.values[f"target:{name}"] == pytest.approx(alone[1][name], rel=1e-6)
    assert row.values["lse_d"] != row.values["target:lse_d"]
    assert calls[-1] == (60, 60)  # five passes of 12
    silent = evaluate(clip(late["frames"]), clip(**short), mesh=SpeakingMesh(), networks=networks)
    assert "no sound track" in silent.missing["lse_d"] and "target:lse_d" in silent.values
    assert "LSE-D ↓: not available (true video: " in table_text(ScoreReport([silent], {}))
    other = evaluate(clip(**late), clip(short["frames"]), mesh=SpeakingMesh(), networks=networks)
    assert "lse_d" in other.values and "no sound track" in other.missing["target:lse_d"]
    assert "LSE-D, the target's own" in unescape(to_html(ScoreReport([other], {})))


def test_what_neither_video_can_have_is_said_once():
    row = compare(clip(pictures()), clip(pictures()))
    assert "needs" in row.missing["lse_d"] and "target:lse_d" not in row.missing


def test_without_kornia_the_rest_is_measured(monkeypatch):
    monkeypatch.setitem(sys.modules, "kornia.metrics", None)
    row = compare(clip(noisy(pictures(), 9)), clip(pictures()))
    needs = "not available: needs kornia (pip install kornia)"
    assert (row.missing["psnr"], row.missing["ssim"]) == (needs, needs)
    assert not {"psnr", "ssim"} & row.values.keys()
    assert row.values["adfd"] > 0.9 and row.values["flicker"] > 0
    assert row.error is None and not {"PSNR", "SSIM"} & row.curves.keys()
    assert {frame.why.split()[0] for frame in row.worst} <= {"mouth"}


def test_level_per_frame_is_the_mean_over_its_time():
    level = torch.arange(10, dtype=torch.float64)  # 0.1 s
    assert level_per_frame(level, 5, 50).tolist() == pytest.approx([0.5, 2.5, 4.5, 6.5, 8.5])
    assert level_per_frame(level, 5, 40).tolist()[:4] == pytest.approx([0.6, 3.0, 5.4, 8.0], abs=0.5)
    assert level_per_frame(level, 5, 40).tolist()[4] == 9.0  # beyond the sound's end
