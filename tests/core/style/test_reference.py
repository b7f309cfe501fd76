import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from portraittalk_core.engines.contract import whole_track
from portraittalk_core.engines.registry import open_engine
from portraittalk_core.errors import InputError, NoFaceError
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.media.audio import load_speech
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.style.extractor import StyleExtractor, new_extractor_net
from portraittalk_core.style.features import audio_features
from portraittalk_core.style.options import StyleUse
from portraittalk_core.style.presets import preset
from portraittalk_core.style.prior import BlendedStyle
from portraittalk_core.style.reference import (
    STATISTICS_SPREAD,
    Reference,
    ReferenceOptions,
    in_style,
    named_style,
    speech_pieces,
    statistics_of,
    style_of,
    track_pieces,
)
from portraittalk_core.style.statistics import measure_statistics
from portraittalk_core.types import STYLE_STATISTICS, LandmarkTrack, Speech

FPS = Fraction(25)
SAMPLE = Path(__file__).parents[3] / "samples" / "speech.wav"


def talking(seconds: float, swing: float = 0.1, valid=None) -> LandmarkTrack:
    """A plain face whose lower lip goes down and up twice a second."""
    count = round(25 * seconds)
    points = canonical_face()
    points = torch.cat([points, points[:1].expand(478 - len(points), -1)])[None].repeat(count, 1, 1)
    points[:, 14, 1] += swing / 2 * (1 - torch.cos(4 * math.pi * torch.arange(count) / 25))
    return LandmarkTrack.from_px(100 * points + torch.tensor([256.0, 256, 0]), 512, 512, FPS, valid)


def test_a_reference_becomes_its_statistics():
    made = style_of(Reference((talking(8, 0.06), talking(8, 0.12)), source="two"), StyleUse(0.5, 0.2, 7))
    windows = torch.cat([measure_statistics(talking(8, swing)) for swing in (0.06, 0.12)])
    torch.testing.assert_close(made.mean, windows.mean(0))
    torch.testing.assert_close(made.std, windows.std(0, correction=0))
    assert (made.space, made.source, made.strength, made.noise, made.seed) == ("manner", "two", 0.5, 0.2, 7)
    assert made.spread.tolist() == pytest.approx(STATISTICS_SPREAD)


def test_a_named_style_is_its_preset_give_or_take_the_noise():
    exact = statistics_of(named_style("lively", StyleUse(noise=0.0)))
    assert [getattr(exact, n) for n in STYLE_STATISTICS] == pytest.approx(
        [getattr(preset("lively"), n) for n in STYLE_STATISTICS]
    )
    first, second = (statistics_of(named_style("lively", StyleUse(noise=0.3, seed=seed))) for seed in (1, 2))
    assert first != second and first == statistics_of(named_style("lively", StyleUse(noise=0.3, seed=1)))
    assert abs(first.opening - preset("lively").opening) < 5 * 0.3 * STATISTICS_SPREAD[0]


@pytest.fixture(scope="module")
def extractor() -> StyleExtractor:
    net = new_extractor_net().eval().requires_grad_(False)
    return StyleExtractor(net, torch.ones(256), "test extractor")


@pytest.fixture(scope="module")
def speech() -> Speech:
    return load_speech(SAMPLE)


def test_an_extractor_looks_listens_or_does_both(extractor, speech):
    track, sound = talking(3), Speech(speech.waveform[: 3 * 16000])
    both, seen, only = (
        style_of(Reference(tracks, sounds), StyleUse(seed=3), extractor)
        for tracks, sounds in (((track,), (sound,)), ((track,), ()), ((), (sound,)))
    )
    assert both.space == extractor.space and both.seed == 3 and len(both) == 256
    assert not torch.allclose(both.mean, seen.mean) and not torch.allclose(both.mean, only.mean)
    assert both.style_statistics.space == "manner" and only.style_statistics is None
    torch.testing.assert_close(only.mean, extractor.prior(audio_features(sound)).mean)
    with pytest.raises(InputError, match="made from sound alone"):
        statistics_of(only)


def test_silence_is_no_sound(extractor):
    silent = style_of(Reference((talking(3),), (Speech(torch.zeros(3 * 16000)),)), extractor=extractor)
    torch.testing.assert_close(silent.mean, style_of(Reference((talking(3),)), extractor=extractor).mean)


def test_references_that_say_nothing_are_refused(speech):
    with pytest.raises(InputError, match="needs a reference"):
        Reference()
    with pytest.raises(InputError, match="seen, not heard"):
        style_of(Reference(sounds=(speech,)))
    with pytest.raises(InputError, match=r"lasts 0\.80 s"):
        style_of(Reference((talking(0.8),)))


def pictures(count: int, black=()):
    for number in range(count):
        yield torch.full((64, 64, 3), 0 if number in black else 99, dtype=torch.uint8)


@pytest.fixture
def sighted(monkeypatch):
    """`track_pieces` with a tracker that finds a face in every picture that is not black; lists what it found."""
    from portraittalk_core.style import reference as style

    pieces = []

    def track_faces(given, fps, mesh, face_index, face_order, on_face=None):
        seen = [bool(picture.any()) for picture in given]
        pieces.append(seen)
        if not any(seen):
            raise NoFaceError("no face")
        return talking(len(seen) / 25, valid=torch.tensor(seen))

    monkeypatch.setattr(style, "track_faces", track_faces)
    return pieces


def test_all_of_a_short_video_is_watched(sighted):
    found = track_pieces(pictures(100), FPS, 100, mesh=object())
    assert [(start, len(track)) for start, track in found] == [(0, 100)]


def test_ten_minutes_are_watched_in_pieces_evenly_spread(sighted):
    found = track_pieces(pictures(15_000), FPS, 15_000, mesh=object())
    assert [len(track) for _, track in found] == [256] * 8
    starts = [start for start, _ in found]
    assert starts[0] == 0 and starts[-1] == 15_000 - 256
    assert {later - earlier for earlier, later in zip(starts, starts[1:], strict=False)} <= {2106, 2107}


def test_pieces_without_a_face_are_left_out_unless_they_are_most(sighted):
    some = track_pieces(pictures(1000, range(300)), FPS, 1000, object(), ReferenceOptions(pieces=3))
    assert [start for start, _ in some] == [372, 744]
    with pytest.raises(NoFaceError, match="shows the face in 90 of the 200 frames"):
        track_pieces(pictures(200, range(90, 200)), FPS, 200, object())
    with pytest.raises(InputError, match=r"lasts 0\.80 s"):
        track_pieces(pictures(20), FPS, 20, object())
    with pytest.raises(NoFaceError, match="in 0 of the 50 frames"):
        track_pieces(pictures(50, range(50)), FPS, 50, object())


def test_each_piece_is_heard_where_it_is_seen():
    speech = Speech(torch.arange(16000 * 4, dtype=torch.float32) / 64000)
    parts = speech_pieces(speech, [(25, talking(1)), (75, talking(2))])
    assert torch.equal(parts[0].waveform, speech.waveform[16000:32000])
    assert len(parts[1].waveform) == 32000 and torch.equal(parts[1].waveform[16000:], torch.zeros(16000))


def test_motion_in_a_style_that_changes_goes_from_one_to_the_other(speech, astronaut):
    def make(options):
        return whole_track(open_engine(), speech, astronaut.landmarks, options)

    calm, lively = (named_style(name, StyleUse(noise=0)) for name in ("calm", "lively"))
    options = MotionOptions()
    plain, start, end = make(options), in_style(make, options, calm), in_style(make, options, lively)
    assert torch.equal(in_style(make, options, None).points, plain.points)
    assert torch.equal(in_style(make, options, replace(calm, strength=0.0)).points, plain.points)
    half = speech.seconds / 2
    mixed = in_style(make, options, BlendedStyle(calm, lively, ((0.0, 0.0), (half, 0.0), (half + 0.5, 1.0))))
    before, after = int(25 * half), int(25 * (half + 0.6))
    torch.testing.assert_close(mixed.points[:before], start.points[:before])
    torch.testing.assert_close(mixed.points[after:], end.points[after:])
