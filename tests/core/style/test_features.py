import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from portraittalk_core.errors import InputError, NoFaceError
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.geometry import rotation_matrix
from portraittalk_core.speech.encoders import SpeechFeatures
from portraittalk_core.speech.mel import log_mel
from portraittalk_core.style.features import (
    EXPRESSION_NAMES,
    EXPRESSION_WIDTHS,
    audio_features,
    averaged,
    coefficient_features,
    expression_features,
    neutral_expression,
    resampled,
)
from portraittalk_core.types import LandmarkTrack, Speech

OPENING, LEFT_UP = (EXPRESSION_NAMES.index(name) for name in ("mouth opening", "left corner up"))
YAW = len(EXPRESSION_NAMES) + 1


def speech(seconds=2.0, seed=0):
    noise = torch.randn(round(16_000 * seconds), generator=torch.Generator().manual_seed(seed))
    return Speech(0.1 * noise * torch.linspace(0.1, 1, len(noise)))


def track(points, fps=25, size=100.0, valid=None):
    """A track of canonical points (T, 478, 3), `size` pixels per inter-ocular distance."""
    return LandmarkTrack.from_px(points * size + torch.tensor([256.0, 256.0, 0.0]), 512, 512, Fraction(fps), valid)


def speaking(count=50):
    """The canonical face, whose mouth opens by 0.2 and whose left corner rises by 0.1 in the second half."""
    points = canonical_face().expand(count, -1, -1).clone()
    points[:, 14, 1] += 0.2 * torch.sin(torch.arange(count) * 0.7).clamp(min=0)
    points[count // 2 + 1 :, 291, 1] -= 0.1
    return points


class Whisper:
    """Stands in for Whisper tiny: 50 features a second that tell their own number."""

    def __init__(self, name="whisper-tiny", width=384):
        self.name, self.width = name, width

    def encode(self, speech, on_progress=None):
        count = math.ceil(speech.waveform.numel() / 320)
        return SpeechFeatures(torch.arange(count, dtype=torch.float32)[:, None].expand(-1, self.width), name=self.name)


def test_whisper_is_averaged_in_pairs():
    heard = audio_features(speech(2.03), Whisper())
    assert heard.feature == "whisper-tiny"
    assert heard.values.shape == (51, 384)
    assert torch.equal(heard.values[:50, 7], torch.arange(50) * 2 + 0.5)
    assert heard.values[50, 0] == 100.5


def test_mel_stands_in_and_does_not_hear_the_recording_level():
    quiet, loud = speech(), Speech(speech().waveform * 5)
    heard = audio_features(loud)
    assert heard.feature == "log-mel"
    assert heard.values.shape == (50, 80)
    assert torch.allclose(heard.values, audio_features(quiet).values, atol=1e-3)
    mel = log_mel(loud).numpy()
    expected = (mel[:200].reshape(50, 4, 80).mean(1) - np.quantile(mel, 0.95)) / 20
    assert np.allclose(heard.values, expected, atol=2e-3)


@pytest.mark.parametrize(
    ("clip", "encoder", "message"),
    [
        (speech(0.5), None, "lasts 0.50 s; a style needs 1 s"),
        (Speech(torch.zeros(32_000)), None, "is silent"),
        (speech(), Whisper("whisper-base", 512), "not by whisper-base"),
        (speech(), Whisper("hubert-x", 384), "not by hubert-x"),
    ],
)
def test_audio_rejects_what_tells_no_style(clip, encoder, message):
    with pytest.raises(InputError, match=message):
        audio_features(clip, encoder)


def test_averages_hold_the_last_row():
    rows = torch.tensor([[1.0], [3.0], [5.0]])
    assert averaged(rows, 2, 3)[:, 0].tolist() == [2.0, 5.0, 5.0]


def test_expression_tells_what_moves():
    seen = expression_features(track(speaking())).values
    assert seen.shape == (50, 23)
    opening = 0.2 * torch.sin(torch.arange(50) * 0.7).clamp(min=0)
    rest = (canonical_face()[13] - canonical_face()[14]).norm()
    assert torch.allclose(seen[:, OPENING], 10 * (opening + rest - (opening + rest).median()), atol=0.02)
    assert torch.allclose(seen[40, LEFT_UP] - seen[0, LEFT_UP], torch.tensor(1.0), atol=1e-3)
    still = [c for c in range(23) if c not in (OPENING, LEFT_UP, 1)]  # a raised corner is a bit further away
    assert float(seen[:, still].abs().max()) < 1e-3


def test_expression_does_not_see_pose_size_or_place():
    points = speaking()
    angles = torch.stack([8 * torch.sin(torch.arange(50) / k) for k in (5.0, 9.0, 7.0)], 1)
    turned = points @ rotation_matrix(angles).transpose(1, 2)
    plain, moved = expression_features(track(points)), expression_features(track(turned, size=63.0))
    assert torch.allclose(plain.values[:, :20], moved.values[:, :20], atol=5e-3)
    wanted = torch.diff(angles[:, 1], prepend=angles[:1, 1]) * 25 / 30
    assert np.corrcoef(moved.values[:, YAW], wanted)[0, 1] > 0.99


def test_expression_subtracts_the_persons_own_neutral():
    points = speaking()
    smiling = points.clone()
    smiling[:, 291, 1] -= 0.1
    neutral = neutral_expression([track(points), track(points)])
    apart = expression_features(track(smiling), neutral).values - expression_features(track(points), neutral).values
    assert torch.allclose(apart[:, LEFT_UP], torch.ones(50), atol=1e-3)
    own = expression_features(track(smiling)).values - expression_features(track(points)).values
    assert float(own[:, LEFT_UP].abs().max()) < 1e-3


@pytest.mark.parametrize("fps", [Fraction(50), Fraction(30000, 1001), Fraction(12)])
def test_resampling_goes_by_time(fps):
    times = np.arange(60) / float(fps)
    values = torch.from_numpy(np.stack([np.sin(times), times], 1)).float()
    found = resampled(values, fps)
    wanted = np.arange(math.ceil(60 / fps * 25)) / 25
    expected = np.stack([np.interp(wanted, times, values[:, c]) for c in range(2)], 1)
    assert np.allclose(found, expected, atol=1e-5)


def test_frame_rate_does_not_change_the_expression():
    assert torch.allclose(
        expression_features(track(speaking(100)[::2].repeat_interleave(2, 0), 50)).values[:, OPENING],
        expression_features(track(speaking(100)[::2], 25)).values[:, OPENING],
        atol=1e-4,
    )


def test_coefficients_are_cut_out_of_all_257():
    values = torch.randn(30, 257, generator=torch.Generator().manual_seed(0))
    assert torch.equal(coefficient_features(values, 25).values, values[:, 80:144])
    assert coefficient_features(torch.rand(60, 52), 50, "blendshapes").values.shape == (30, 52)
    assert EXPRESSION_WIDTHS == {"landmarks": 23, "3dmm": 64, "blendshapes": 52}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: coefficient_features(torch.zeros(30, 63), 25), "must have shape"),
        (lambda: coefficient_features(torch.full((30, 64), float("nan")), 25), "NaN"),
        (lambda: coefficient_features(torch.zeros(30, 64), 25, "x"), "kind of expression"),
        (lambda: expression_features(track(speaking(20))), "a style needs 1 s"),
    ],
)
def test_expression_rejects_what_cannot_be_used(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_expression_rejects_a_clip_that_hardly_shows_the_face():
    seen = torch.arange(50) < 20
    with pytest.raises(NoFaceError, match="in 20 of 50 frames only"):
        expression_features(track(speaking(), valid=seen), source="far away.mp4")
