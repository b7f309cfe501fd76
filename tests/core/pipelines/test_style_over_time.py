"""Styles that change over time, on an engine whose points tell in which style they were made."""

from fractions import Fraction

import pytest
import torch

from portraittalk_core.errors import InputError
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.pipelines.style_over_time import engine_in_style
from portraittalk_core.style.prior import BlendedStyle, StylePrior, used_as
from portraittalk_core.style.reference import named_style
from portraittalk_core.types import LandmarkTrack, Speech

FPS = Fraction(10)
OPTIONS = MotionOptions(fps=FPS)


def track(count: int, value: float = 0.0) -> LandmarkTrack:
    return LandmarkTrack(torch.full((count, 478, 3), value), torch.ones(count, dtype=torch.bool), FPS, 64, 64)


class Opening:
    """Every point is the style's opening."""

    name = "opening"

    def spans(self, speech, reference, options=None, on_progress=None):
        yield from (track(count, options.style_statistics.opening) for count in (4, 6))


class FilmOpening(Opening):
    def film_spans(self, speech, film, options=None, scenes=None, on_progress=None):
        yield track(len(film), options.style_statistics.opening)


@pytest.fixture
def blend() -> BlendedStyle:
    first, second = (used_as(named_style(name), 1.0, 0.0, 0) for name in ("calm", "lively"))
    return BlendedStyle(first, second, ((0.2, 0.0), (0.7, 1.0)))


SHARES = torch.tensor([0, 0, 0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1])
EXPECTED = 0.17 + SHARES * (0.28 - 0.17)  # the presets' openings


def test_frames_go_from_one_style_to_the_other(blend):
    engine = engine_in_style(Opening(), blend)
    spans = list(engine.spans(Speech(torch.zeros(16_000)), track(1), OPTIONS))
    assert [len(span) for span in spans] == [4, 6] and engine.name == "opening"
    torch.testing.assert_close(torch.cat([span.points[:, 0, 0] for span in spans]), EXPECTED)
    assert not hasattr(engine, "film_spans")


def test_an_engine_of_films_does_so_on_the_films_own_time(blend):
    engine = engine_in_style(FilmOpening(), blend)
    (span,) = engine.film_spans(Speech(torch.zeros(99)), track(10), OPTIONS)
    torch.testing.assert_close(span.points[:, 5, 1], EXPECTED)


def test_other_engines_and_styles_stay_as_they_are(blend):
    engine, keypoints = Opening(), FilmOpening()
    keypoints.makes = "liveportrait-21"
    assert engine_in_style(engine, None) is engine and engine_in_style(engine, named_style("calm")) is engine
    assert engine_in_style(engine, used_as(blend, 0.0, 0.0, 0)) is engine
    assert engine_in_style(keypoints, blend) is keypoints


def test_styles_without_motion_are_refused():
    parts = torch.zeros(4), torch.ones(4), torch.ones(4)
    heard = BlendedStyle(*(StylePrior(*parts, "extractor:1", name) for name in ("a", "b")), ((0.0, 0.0),))
    with pytest.raises(InputError, match="knows no motion"):
        engine_in_style(Opening(), heard)
