"""Expressions fitted to landmarks that a face model with known coefficients shows."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from portraittalk_core.errors import NoFaceError
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.expression_fit import between, fit_expressions
from portraittalk_core.face.morphable import MorphableModel
from portraittalk_core.types import LandmarkTrack


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    """The canonical face, with three identities and four expressions that bend it smoothly."""
    draw = torch.Generator().manual_seed(0)
    mean = canonical_face().double()[:468] * torch.tensor([0.6, -0.6, -0.6], dtype=torch.float64)
    mean = mean - mean.mean(0)
    smooth = torch.cat([mean, mean**2, mean.roll(1, 1) * mean], 1)
    bases = torch.einsum("mk,kde->mde", smooth, 0.06 * torch.randn(9, 3, 7, generator=draw, dtype=torch.float64))
    return MorphableModel(torch.arange(468), mean, bases[..., :3], bases[..., 3:])


def filmed(model: MorphableModel, identity, expressions, valid=None) -> LandmarkTrack:
    """A turning head with these coefficients, by a pinhole camera ten units away, in NumPy."""
    points = np.zeros((len(expressions), 478, 3))
    for frame, expression in enumerate(expressions):
        shape = (model.mean + model.identity @ identity + model.expression @ expression).numpy()
        turn = 0.15 * math.sin(frame)
        rotation = np.array([[math.cos(turn), 0, math.sin(turn)], [0, 1, 0], [-math.sin(turn), 0, math.cos(turn)]])
        posed = shape @ rotation.T
        pixels = 256 + 1500 * posed[:, :2] * [1, -1] / (10 - posed[:, 2:])
        points[frame, :468] = np.concatenate([pixels, -150 * posed[:, 2:]], 1)
    return LandmarkTrack.from_px(torch.from_numpy(points).float(), 512, 512, Fraction(25), valid)


def test_known_expressions_are_measured_whoever_it_is(model):
    draw = torch.Generator().manual_seed(1)
    expressions = torch.randn(6, 4, generator=draw, dtype=torch.float64)
    valid = torch.tensor([True, True, False, True, True, True])
    identity = torch.randn(3, generator=draw, dtype=torch.float64)
    told = []
    track = filmed(model, identity, expressions, valid)
    first, second = fit_expressions(model, [track.slice(0, 4), track.slice(4, 6)], lambda *done: told.append(done))
    made = torch.cat([first, second])
    assert first.shape == (4, 4) and told[-1] == (5, 5)
    expected = expressions.float()
    expected[2] = (expected[1] + expected[3]) / 2  # nobody was seen
    correlations = [float(np.corrcoef(made[:, k], expected[:, k])[0, 1]) for k in range(4)]
    assert min(correlations) > 0.98
    assert float((made - expected).abs().mean()) < 0.25  # the prior draws them towards 0
    unseen = filmed(model, identity, expressions, torch.zeros(6, dtype=torch.bool))
    with pytest.raises(NoFaceError, match="no frame shows the face"):
        fit_expressions(model, [unseen])


def test_rows_between_frames_are_interpolated_as_numpy_does():
    valid = torch.tensor([0, 1, 0, 0, 1, 1, 0], dtype=torch.bool)
    rows = torch.tensor([[1.0], [4.0], [2.0]])
    expected = np.interp(range(7), [1, 4, 5], [1, 4, 2])
    torch.testing.assert_close(between(rows, valid)[:, 0], torch.from_numpy(expected).float())
    assert between(rows[:0], valid[:0]).shape == (0, 1)
