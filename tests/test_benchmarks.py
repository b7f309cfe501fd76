"""The lip-sync benchmark measures what it says: on made-up clips whose answers are known."""

import os
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import __main__ as command  # noqa: E402
from benchmarks import lipsync, lipsync_baselines, lipsync_grid  # noqa: E402
from benchmarks.lipsync_baselines import Prediction, Predictor, Ridge, cues_to_curve, find_rhubarb, rms_envelope  # noqa: E402
from benchmarks.lipsync_clips import Clip, in_one_pose, load_clips, pose_free_jaw, speaker_of  # noqa: E402
from benchmarks.lipsync_grid import closures_table, load_grid, read_align  # noqa: E402
from benchmarks.lipsync_tables import Table, to_markdown  # noqa: E402
from portraittalk_core.errors import InputError  # noqa: E402
from portraittalk_core.face.geometry import rotation_matrix  # noqa: E402
from portraittalk_core.types import LandmarkTrack, MouthCurves, Speech  # noqa: E402

RATE, FPS, NUM = 16_000, Fraction(25), 75


def babble(seed: int, name: str) -> Clip:
    """Three seconds of a tone whose loudness is exactly what the lips do."""
    random = np.random.default_rng(seed)
    gap = np.clip(np.convolve(random.normal(size=NUM + 6), np.ones(7) / 3, "valid"), 0, None)
    times = np.arange(NUM * RATE // 25) / RATE
    loud = np.interp(times, (np.arange(NUM) + 0.5) / 25, gap)
    speech = Speech(torch.tensor(0.1 * loud * np.sin(2 * np.pi * 700 * times), dtype=torch.float32), name)
    gap, valid = torch.tensor(gap, dtype=torch.float32), torch.ones(NUM, dtype=torch.bool)
    return Clip(name, speaker_of(name), speech, gap, 2 - gap, gap + 1, valid, FPS, Path(f"{name}.mp4"), False)


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [babble(seed, name) for seed, name in enumerate(("ann_1", "ann_2", "bob_1", "cy_1"))]


def write(clips: list[Clip], folder: Path, write_sound) -> Path:
    (folder / "gt").mkdir()
    for clip in clips:
        (folder / f"{clip.name}.mp4").touch()  # not looked into while gt/ tells the curves
        write_sound(clip.speech.waveform.numpy(), RATE, f"{clip.name}.wav")
        curves = {"sig_gap": clip.gap, "sig_width": clip.width, "sig_jaw_pn": clip.jaw, "valid": clip.valid}
        np.savez(folder / "gt" / clip.name, fps=25.0, **{name: curve.numpy() for name, curve in curves.items()})
    return folder


@pytest.mark.slow
def test_the_command_writes_its_tables(clips, tmp_path, write_sound, monkeypatch, capsys):
    folder, out, monkey_path = write(clips, tmp_path, write_sound), tmp_path / "table.md", str(tmp_path / "no")
    arguments = ["lipsync", "--clips", str(folder), "--out", str(out), "--trained-on", "bob_", "--failures"]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments, "--rhubarb", monkey_path])
    assert command.main() in (0, 1)
    text = out.read_text(encoding="utf-8")
    assert "All 4 clips" in text and "3 clips: without the 1 named bob_*" in text and "bob_1*" in text
    assert "RHUBARB IS NOT MEASURED" in capsys.readouterr().err
    rms = next(line for line in text.splitlines() if line.startswith("| RMS"))
    assert float(rms.split("|")[3].split("/")[0]) > 0.97  # loudness is what the lips do in these clips


def test_nothing_to_measure_is_an_error(tmp_path, monkeypatch, capsys):
    for arguments, said in ([], "--clips FOLDER"), (["--clips", str(tmp_path)], "holds no .mp4"):
        monkeypatch.setattr(sys, "argv", ["benchmarks", "lipsync", *arguments])
        assert command.main() == 2
        assert said in capsys.readouterr().err


def test_clips_are_read_as_they_were_written(clips, tmp_path, write_sound):
    speakers = tmp_path / "speakers.csv"
    speakers.write_text("file,speaker\ndev/ann_1.mp4,Ann\n", encoding="utf-8")
    found = load_clips(write(clips, tmp_path, write_sound), speakers)
    assert [(c.name, c.speaker) for c in found] == [
        ("ann_1", "Ann"),
        ("ann_2", "ann"),
        ("bob_1", "bob"),
        ("cy_1", "cy"),
    ]
    torch.testing.assert_close(found[0].jaw, clips[0].jaw)
    assert not found[0].measured and found[0].speech.seconds == 3


def test_score_of_a_perfect_and_of_a_late_prediction(clips):
    clip = clips[0]
    perfect = lipsync.score(clip, Predictor("perfect", lambda c: Prediction(3 * c.gap - 1, -c.gap)))
    assert (perfect.r_zero, perfect.r_best, perfect.lag, perfect.r_jaw, perfect.r_width) == pytest.approx(
        (1, 1, 0, 1, 1)
    )
    assert perfect.gap_error == pytest.approx(0, abs=1e-6)
    late = lipsync.score(clip, Predictor("late", lambda c: Prediction(c.gap.roll(2))))
    assert (late.lag, late.r_best) == (-2, pytest.approx(1)) and late.r_zero < 0.9 and late.r_width is None
    still = lipsync.score(clip, Predictor("still", lambda c: Prediction(torch.zeros(NUM)), constant=True))
    assert still.r_best is None
    assert still.gap_error == pytest.approx(float((clip.gap - clip.gap.mean()).abs().mean()), rel=1e-5)


def test_ridge_never_hears_the_speaker_it_predicts(clips):
    torch.testing.assert_close(Ridge(clips).predict(clips[0]), Ridge([*clips[:1], *clips[2:]]).predict(clips[0]))
    other = babble(99, "ann_2")
    torch.testing.assert_close(Ridge([clips[0], other, *clips[2:]]).predict(clips[0]), Ridge(clips).predict(clips[0]))
    assert not torch.allclose(Ridge([*clips[:3], babble(99, "cy_1")]).predict(clips[0]), Ridge(clips).predict(clips[0]))


def test_rms_envelope_matches_numpy(clips):
    waveform = clips[0].speech.waveform.double().numpy()
    padded = np.pad(waveform, 480)
    middles = ((np.arange(NUM) + 0.5) / 25 * RATE).astype(int)
    expected = [np.sqrt(np.mean(padded[m : m + 960] ** 2)) for m in middles]
    np.testing.assert_allclose(rms_envelope(clips[0].speech.waveform, NUM, FPS), expected, atol=1e-6)


def test_cues_stand_at_their_times():
    curve = cues_to_curve([(0.0, 1.0, 0.0), (1.0, 2.0, 1.0), (2.0, 3.0, 0.5)], NUM, FPS)
    assert curve[[10, 40, 65]].tolist() == pytest.approx([0.0, 1.0, 0.5], abs=1e-6)
    assert 0.2 < float(curve[24]) < 0.8  # within 60 ms of the step


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_rhubarb_is_asked_and_read(clips, tmp_path):
    script = tmp_path / "rhubarb"
    script.write_text(
        '#!/bin/sh\necho \'{"mouthCues": [{"start": 0, "end": 1.5, "value": "A"}, '
        '{"start": 1.5, "end": 3, "value": "D"}]}\'\n',
        encoding="utf-8",
    )
    script.chmod(0o755)
    first, second = lipsync_baselines.rhubarb_predictors(find_rhubarb(str(script)))
    assert [first.name, second.name] == ["Rhubarb, pocketSphinx", "Rhubarb, phonetic"]
    assert first.predict(clips[0]).gap[[10, 60]].tolist() == pytest.approx([0, 1], abs=1e-6)


def test_jaw_is_free_of_the_head_pose():
    face = lipsync.neutral_face().points_px[0]
    drop = torch.linspace(0, 30, 20)
    faces = face.repeat(20, 1, 1)
    faces[:, 152, 1] += drop
    track = LandmarkTrack.from_px(faces, 512, 512, FPS)
    angles = torch.stack([torch.linspace(-20, 20, 20), torch.linspace(15, -15, 20), torch.linspace(-10, 10, 20)], 1)
    turned = faces @ rotation_matrix(angles).transpose(1, 2) * torch.linspace(0.8, 1.2, 20)[:, None, None] + 7
    moving = LandmarkTrack.from_px(turned, 512, 512, FPS)
    torch.testing.assert_close(pose_free_jaw(track).diff(), drop.diff() / 100, atol=0, rtol=0.03)  # a little aslant
    assert np.corrcoef(pose_free_jaw(moving), drop)[0, 1] > 0.99
    torch.testing.assert_close(in_one_pose(moving, face).float(), faces, atol=1e-2, rtol=0)


def test_landmark_error_of_a_mouth_that_stays_shut(clips):
    clip = Clip(**{**vars(clips[0]), "speech": Speech(torch.zeros(3 * RATE)), "track": still_track()})
    row = lipsync.landmark_error(clip)
    assert (row.fitted_still, row.plain_still) == pytest.approx((0, 0), abs=1e-5)


def still_track() -> LandmarkTrack:
    return LandmarkTrack.from_px(lipsync.neutral_face().points_px.repeat(NUM, 1, 1), 512, 512, FPS)


def test_markdown_of_a_table():
    assert to_markdown(Table("T", ["a", "b"], [["x|y", "1"]])) == "**T**\n\n| a | b |\n| --- | ---: |\n| x\\|y | 1 |\n"


ALIGN = "0 25000 sil\n25000 31250 bin\n31250 35000 by\n35000 37500 sp\n37500 43750 five\n43750 75000 sil\n"


def test_words_of_an_align_file_become_sounds(tmp_path):
    (tmp_path / "a.align").write_text(ALIGN, encoding="utf-8")
    sounds = read_align(tmp_path / "a.align")
    assert "".join(symbol or "_" for symbol in sounds.symbols) == "_bɪnbaɪ_faɪv_"
    assert (sounds.start_s[1], sounds.end_s[3]) == (1.0, 1.25)  # 25,000 units are a second
    assert sounds.start_s[1:].tolist() == sounds.end_s[:-1].tolist()
    vowel = sounds.end_s[2] - sounds.start_s[2]
    assert vowel == pytest.approx(0.25 * 0.08 / 0.22)  # 70, 80 and 70 ms of 0.25 s
    for text in ("0 10 sil\n10 20 hello\n", "0 10\n", "x 10 sil\n"):
        (tmp_path / "b.align").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match="b.align holds the line"):
            read_align(tmp_path / "b.align")


def test_closures_on_grid_are_counted(tmp_path, write_sound, monkeypatch, capsys):
    (tmp_path / "align").mkdir()
    (tmp_path / "align" / "a.align").write_text(ALIGN, encoding="utf-8")
    write_sound(np.zeros(3 * RATE, np.float32), RATE, "a.wav")
    clips = load_grid(tmp_path)
    middles = [(s + e) / 2 for x, s, e in zip(*vars(clips[0].sounds).values(), strict=True) if x in ("b", "f")]
    times = (torch.arange(150) + 0.5) / 50

    def lips(*closed: float) -> MouthCurves:
        """Closed at some moments, and always tucked."""
        near = torch.stack([(times - at).abs() < 0.015 for at in closed]).any(0)
        still = torch.zeros(150)
        return MouthCurves((~near).float(), still, still, still, still, still + 1, still)

    monkeypatch.setattr(lipsync_grid, "predict_mouth", lambda *_: lips(middles[0], middles[1] + 0.1))
    row = closures_table(clips, None, lips=False, tracks=None).rows[0]
    assert row[:5] == ["ours", "2", "50.0%", "2", "100.0%"]
    monkeypatch.setattr(sys, "argv", ["benchmarks", "lipsync", "--grid", str(tmp_path / "align")])
    assert command.main() == 2
    assert "holds no .align files with" in capsys.readouterr().err
