import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from portraittalk_core.errors import InputError, MediaError
from portraittalk_core.media.records import load_record, save_record
from portraittalk_core.style.prior import (
    BlendedStyle,
    StylePrior,
    distance,
    faded,
    interpolate,
    load_style,
    shared,
)


def make(mean=(0.0, 1.0, -2.0), std=(0.5, 0.0, 1.0), spread=(1.0, 2.0, 0.5), space="extractor:a", **more):
    return StylePrior(*(torch.tensor(v) for v in (mean, std, spread)), space, **more)


STYLE_STATISTICS = StylePrior(torch.ones(2), torch.full((2,), 0.2), torch.ones(2), "manner", "calm")


def test_draws_have_the_mean_and_the_floored_deviation():
    prior = make(noise=0.1)
    draws = torch.stack([prior.sample(seed) for seed in range(4000)])
    assert np.allclose(draws.mean(0), [0.0, 1.0, -2.0], atol=0.06)
    assert np.allclose(draws.std(0), [0.5, 0.2, 1.0], rtol=0.05)  # max(std, 0.1 · spread)


def test_a_collapsed_style_still_moves_by_its_noise():
    prior = make(std=(0.0, 0.0, 0.0), noise=0.3)
    normal = torch.randn(3, generator=torch.Generator().manual_seed(5))
    assert torch.allclose(prior.sample(5), prior.mean + 0.3 * prior.spread * normal)
    still = dataclasses.replace(prior, noise=0.0)
    assert torch.equal(still.sample(1), still.mean)


def test_draw_is_one_sample_for_all_frames_and_follows_the_seed():
    prior = make(seed=7)
    drawn = prior.draw(5, 25)
    assert drawn.shape == (5, 3)
    assert torch.equal(drawn, prior.sample(7).expand(5, 3))
    assert not torch.equal(drawn, dataclasses.replace(prior, seed=8).draw(5, 25))
    assert torch.equal(prior.strengths(4, 25), torch.ones(4))


def test_interpolation_is_linear_and_exact_at_the_ends():
    first, second = make(strength=1.0), make((2.0, 3.0, 0.0), (0.1, 0.4, 0.0), strength=2.0)
    middle = interpolate(first, second, 0.25)
    assert torch.allclose(middle.mean, torch.tensor([0.5, 1.5, -1.5]))
    assert torch.allclose(middle.std, torch.tensor([0.4, 0.1, 0.75]))
    assert middle.strength == 1.25
    for share, end in ((0.0, first), (1.0, second)):
        made = interpolate(first, second, share)
        assert torch.equal(made.mean, end.mean)
        assert torch.equal(made.sample(3), end.sample(3))


def test_distance_is_that_of_optimal_transport():
    from scipy.stats import norm, wasserstein_distance

    first, second = make((0.0,), (1.0,), (1.0,)), make((3.0,), (1.0,), (1.0,))
    grid = (np.arange(20_000) + 0.5) / 20_000
    moved = wasserstein_distance(norm.ppf(grid), norm.ppf(grid, 3.0))  # equal deviations: W1 is W2
    assert distance(first, second) == pytest.approx(moved, rel=1e-6)
    wide = make((4.0,), (4.0,), (1.0,))
    by_quantiles = math.sqrt(np.mean((norm.ppf(grid) - norm.ppf(grid, 4.0, 4.0)) ** 2))
    assert distance(first, wide) == pytest.approx(by_quantiles, rel=1e-3)
    assert distance(wide, wide) == 0


def test_distance_grows_evenly_while_interpolating():
    first, second = make(), make((2.0, 3.0, 0.0), (0.1, 0.4, 0.0))
    whole = distance(first, second)
    parts = [distance(first, interpolate(first, second, t)) for t in (0.25, 0.5, 0.75)]
    assert parts == pytest.approx([0.25 * whole, 0.5 * whole, 0.75 * whole], rel=1e-5)


def test_blend_follows_its_curve():
    first, second = make(strength=0.0), make((2.0, 3.0, 0.0), strength=2.0)
    blend = BlendedStyle(first, second, ((0.2, 0.0), (0.6, 1.0), (0.8, 0.5)))
    seconds = np.arange(30) / 25
    expected = np.interp(seconds, [0.2, 0.6, 0.8], [0.0, 1.0, 0.5])
    assert np.allclose(blend.shares(30, 25), expected, atol=1e-6)
    drawn = blend.draw(30, 25)
    assert torch.equal(drawn[0], first.sample())
    assert torch.allclose(drawn[15], second.sample())
    assert np.allclose(blend.strengths(30, 25), 2 * expected, atol=1e-6)
    assert blend.strength == 2.0


def test_blend_by_frames_hits_every_frame():
    shares = torch.rand(40, generator=torch.Generator().manual_seed(0))
    fps = Fraction(30000, 1001)
    blend = BlendedStyle(
        make(), make((1.0, 1.0, 1.0)), tuple((float(n / fps), float(share)) for n, share in enumerate(shares))
    )
    assert torch.allclose(blend.shares(40, fps), shares, atol=1e-5)


def test_a_faded_style_is_itself_at_the_curves_strength():
    style = make(strength=1.5, seed=4)
    factors = torch.tensor([1.0, 0.5, 0.0, 0.25, 1.25])
    faded_style = faded(style, factors, Fraction(25))
    torch.testing.assert_close(faded_style.strengths(5, 25), 1.5 * factors, rtol=0, atol=1e-6)
    torch.testing.assert_close(faded_style.draw(5, 25), style.sample().expand(5, -1), rtol=0, atol=1e-6)
    assert faded(style, torch.zeros(3), Fraction(25)).strength == 0
    hour = faded(style, torch.linspace(0, 1, 90_000), Fraction(25))  # more frames than a curve has points
    torch.testing.assert_close(hour.strengths(90_000, 25), torch.linspace(0, 1.5, 90_000), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("style", "factor", "message"),
    [
        (make(strength=1.5), 1.4, "style strength"),
        (make(), -0.1, "the share of the second style"),
        (BlendedStyle(make(), make(), ((0, 0),)), 1.0, "changes over time already"),
    ],
)
def test_a_style_that_cannot_be_faded_so_is_told(style, factor, message):
    with pytest.raises(InputError, match=message):
        faded(style, torch.tensor([1.0, factor]), Fraction(25))


def test_manners_are_blended_too():
    other = dataclasses.replace(STYLE_STATISTICS, mean=torch.zeros(2))
    first, second = make(style_statistics=STYLE_STATISTICS), make(style_statistics=other)
    assert torch.allclose(interpolate(first, second, 0.75).style_statistics.mean, torch.full((2,), 0.25))
    assert BlendedStyle(first, second, ((0.0, 1.0),)).style_statistics.draw(2, 25).shape == (2, 2)
    assert BlendedStyle(make(), make(), ((0.0, 1.0),)).style_statistics is None
    preset, video = STYLE_STATISTICS, make(style_statistics=other)
    assert shared(preset, video) == (preset, other)


@pytest.mark.parametrize("style_statistics", [None, STYLE_STATISTICS])
def test_record_comes_back_as_it_was(style_statistics, tmp_path):
    prior = make(source="mrs smith.mp4", strength=1.5, noise=0.3, seed=2**64 - 1, style_statistics=style_statistics)
    back = load_record(StylePrior, save_record(prior, tmp_path / "style.safetensors"))
    assert torch.equal(back.sample(), prior.sample())
    assert (back.space, back.source, back.strength, back.noise, back.seed) == (
        "extractor:a", "mrs smith.mp4", 1.5, 0.3, 2**64 - 1
    )  # fmt: skip
    assert (back.style_statistics is None) == (style_statistics is None)
    if style_statistics:
        assert torch.equal(back.style_statistics.sample(), style_statistics.sample())


def test_a_blend_comes_back_from_its_file_too(tmp_path):
    same = make(style_statistics=STYLE_STATISTICS)
    for blend in (
        BlendedStyle(same, same, ((0.0, 0.25),)),
        BlendedStyle(make(), make((2.0, 0.0, 0.0)), ((0.1, 0), (2, 1))),
    ):
        back = load_style(save_record(blend, tmp_path / "blend.safetensors"))
        assert back.points == blend.points
        assert torch.equal(back.draw(60, 25), blend.draw(60, 25))
        assert (back.style_statistics is None) == (blend.style_statistics is None)
    assert isinstance(load_style(save_record(same, tmp_path / "one.safetensors")), StylePrior)
    (tmp_path / "no.safetensors").write_bytes(b"no style at all")
    for name, message in (("no", "not a readable safetensors file"), ("none", "none.safetensors")):
        with pytest.raises(MediaError, match=message):
            load_style(tmp_path / f"{name}.safetensors")
    tensors, metadata = blend.to_record()
    with pytest.raises(InputError, match="of version 9"):
        BlendedStyle.from_record(tensors, {**metadata, "version": "9"})
    with pytest.raises(InputError, match="needs points"):
        BlendedStyle.from_record({}, metadata)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "2"}, "style file of version 2"),
        ({"kind": "HeadPose"}, "holds HeadPose"),
        ({"seed": "x"}, "the seed of the style must be a whole number"),
        ({"space": None}, "lacks"),
        ({"mean": torch.tensor([0.0, float("nan"), 1.0])}, "1 values of 3 that are NaN"),
        ({"std": torch.tensor([0.0, -1.0, 1.0])}, "must not be negative, but goes to -1"),
        ({"std": torch.ones(2)}, "as many numbers"),
        ({"spread": None}, "spread"),
    ],
)
def test_record_rejects_damage(change, message):
    tensors, metadata = make().to_record()
    for name, value in change.items():
        into = tensors if name in tensors else metadata
        into[name] = value
        if value is None:
            del into[name]
    with pytest.raises(InputError, match=message):
        StylePrior.from_record(tensors, metadata)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: make(strength=2.5), "style strength must lie between 0 and 2"),
        (lambda: make(noise=-1.0), "style noise"),
        (lambda: make(style_statistics=make()), "live in the space 'manner'"),
        (lambda: interpolate(make(), STYLE_STATISTICS, 0.5), "different spaces"),
        (lambda: interpolate(make(), make(style_statistics=STYLE_STATISTICS), 0.5), "has none"),
        (lambda: interpolate(make(), make(), 1.5), "share of the second style"),
        (lambda: distance(make(), make(space="extractor:b")), "different spaces"),
        (lambda: BlendedStyle(make(), make(), ()), "1 to 10000 points"),
        (lambda: BlendedStyle(make(), make(), ((1.0, 0.0), (0.5, 1.0))), "one after another"),
        (lambda: BlendedStyle(make(), make(), ((float("nan"), 0.0),)), "time of a point"),
        (lambda: make().draw(0, 25), "number of frames"),
        (lambda: shared(make(), STYLE_STATISTICS), "different spaces"),
    ],
)
def test_style_rejects_what_makes_no_sense(build, message):
    with pytest.raises(InputError, match=message):
        build()
