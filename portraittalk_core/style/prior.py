"""Style priors: Gaussian distributions of style with sampling, interpolation, distance, and a file format.

Shapes: D numbers of the style's vector space, T frames.
Source: SVP, section 3 (intrinsic style as a distribution); `docs/design/styles.md` 2.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..checks import check_finite, check_range, check_shape, parse_number, parse_whole
from ..errors import InputError
from ..media.files import check_readable
from ..media.records import load_record
from ..types import Record, as_fps
from ..weights.load import read_metadata

VERSION = "1"  # of the layout of a style file
STATISTICS_SPACE = "manner"  # the space of motion statistics, which needs no weights
MAX_POINTS = 10_000  # of a curve of blending
_TENSORS = ("mean", "std", "spread")
_TEXTS = ("space", "source", "strength", "noise", "seed")


@dataclass(frozen=True, eq=False)
class StylePrior:
    """The style of one person as a Gaussian with independent dimensions."""

    kind: ClassVar[str] = "StylePrior"
    mean: Tensor  # (D,) float32
    std: Tensor  # (D,) float32, ≥ 0
    spread: Tensor  # (D,) float32, ≥ 0: how far means lie apart over the training set; what noise is measured by
    space: str  # of the values: "manner", or "extractor:<id>" of a trained extractor
    source: str = "style"  # what to call it in messages: a file name, a preset
    strength: float = 1.0  # 0 off .. 2
    noise: float = 0.1  # 0..2: the least deviation that is drawn with, in spreads
    seed: int = 0
    style_statistics: StylePrior | None = field(default=None)  # of the same clip, in the space "manner"

    def __post_init__(self) -> None:
        for name in _TENSORS:
            value = check_shape(getattr(self, name), "D", f"the {name} of the style {self.source}")
            check_finite(value, f"the {name} of the style {self.source}")
            object.__setattr__(self, name, value.detach().float().cpu())
        if not len(self.mean) or not len(self.mean) == len(self.std) == len(self.spread):
            sizes = ", ".join(f"{name} {len(getattr(self, name))}" for name in _TENSORS)
            raise InputError(f"the style {self.source} needs as many numbers in each part (and one at least): {sizes}.")
        for name in ("std", "spread"):
            if (minimum := float(getattr(self, name).min())) < 0:
                raise InputError(
                    f"the {name} of the style {self.source} must not be negative, but goes to {minimum:g}."
                )
        if not self.space:
            raise InputError(f"the style {self.source} does not say what space it lives in.")
        check_range(self.strength, 0, 2, "style strength")
        check_range(self.noise, 0, 2, "style noise")
        check_range(self.seed, 0, 2**64 - 1, "seed")
        statistics = self.style_statistics
        if statistics is not None and (statistics.space != STATISTICS_SPACE or self.space == STATISTICS_SPACE):
            space = statistics.space if statistics.space != STATISTICS_SPACE else "statistics beside statistics"
            raise InputError(
                f"the statistics of the style {self.source} live in the space {STATISTICS_SPACE!r}, not in {space!r}."
            )

    def __len__(self) -> int:
        return len(self.mean)

    @property
    def sampling_std(self) -> Tensor:
        """(D,) standard deviation for sampling, max(std, noise · spread).

        Contrastive training lets the learnt deviation collapse, which would make every draw the same.
        Source: `docs/design/styles.md` 2.
        """
        return torch.maximum(self.std, self.noise * self.spread)

    @property
    def statistics_part(self) -> StylePrior | None:
        """The style's motion statistics as a prior, or None."""
        return self if self.space == STATISTICS_SPACE else self.style_statistics

    def sample(self, seed: int | None = None) -> Tensor:
        """(D,) one sample, the same for the same seed on every machine; None takes the style's own seed."""
        generator = torch.Generator().manual_seed(self.seed if seed is None else seed)
        return self.mean + self.sampling_std * torch.randn(len(self.mean), generator=generator)

    def draw(self, num_frames: int, fps: Fraction | float) -> Tensor:
        """(T, D) style of every frame: one sample for the whole clip, so that all windows share it."""
        _check_frames(num_frames, fps)
        return self.sample().expand(num_frames, -1).clone()

    def strengths(self, num_frames: int, fps: Fraction | float) -> Tensor:
        """(T,) strength of the style in every frame."""
        _check_frames(num_frames, fps)
        return torch.full((num_frames,), float(self.strength))

    def to_record(self) -> Record:
        """Tensors and metadata of a style file."""
        tensors, texts = _flat(self, "")
        if self.style_statistics is not None:
            statistics, statistics_texts = _flat(self.style_statistics, "manner.")
            tensors, texts = {**tensors, **statistics}, {**texts, **statistics_texts}
        return tensors, {"kind": self.kind, "version": VERSION, **texts}

    @classmethod
    def from_record(cls, tensors: dict[str, Tensor], metadata: dict[str, str]) -> StylePrior:
        """The style of a file's tensors and metadata.

        Raises:
            InputError: another kind of record, another version of the layout, or a part is missing or no number.
        """
        _check_record(metadata, cls.kind)
        has_statistics = any(name.startswith("manner.") for name in (*tensors, *metadata))
        style_statistics = _unflat(tensors, metadata, "manner.", None) if has_statistics else None
        return _unflat(tensors, metadata, "", style_statistics)


def _check_record(metadata: dict[str, str], kind: str) -> None:
    if metadata.get("kind") != kind:
        raise InputError(f"this file holds {metadata.get('kind') or 'no record'}, not a {kind}.")
    if metadata.get("version") != VERSION:
        raise InputError(
            f"this is a style file of version {metadata.get('version')}; this release reads version {VERSION}. "
            "Save the style again with this release, or update."
        )


def _flat(prior: StylePrior, prefix: str) -> Record:
    tensors = {f"{prefix}{name}": getattr(prior, name) for name in _TENSORS}
    return tensors, {f"{prefix}{name}": str(getattr(prior, name)) for name in _TEXTS}


def _unflat(
    tensors: dict[str, Tensor], metadata: dict[str, str], prefix: str, style_statistics: StylePrior | None
) -> StylePrior:
    missing = [f"{prefix}{name}" for name in _TENSORS if f"{prefix}{name}" not in tensors]
    missing += [f"{prefix}{name}" for name in _TEXTS if f"{prefix}{name}" not in metadata]
    if missing:
        raise InputError(f"a style needs {', '.join(missing)}, which this file lacks.")
    texts = {name: metadata[f"{prefix}{name}"] for name in _TEXTS}
    strength, noise = (parse_number(texts[name], f"the {name} of the style", 0, 2) for name in ("strength", "noise"))
    numbers = strength, noise, parse_whole(texts["seed"], "the seed of the style", 0, 2**64 - 1)
    parts = (tensors[f"{prefix}{name}"] for name in _TENSORS)
    return StylePrior(*parts, texts["space"], texts["source"], *numbers, style_statistics)


@dataclass(frozen=True, eq=False)
class BlendedStyle:
    """Two styles blended by a curve over time; usable wherever a `StylePrior` is."""

    kind: ClassVar[str] = "BlendedStyle"
    first: StylePrior
    second: StylePrior
    points: tuple[tuple[float, float], ...]  # (second, share of the second style 0..1); lines between, held outside

    def __post_init__(self) -> None:
        check_same_space(self.first, self.second)
        points = tuple((float(second), float(share)) for second, share in self.points)
        if not 0 < len(points) <= MAX_POINTS:
            raise InputError(f"a blend of styles needs 1 to {MAX_POINTS} points (second, share), not {len(points)}.")
        for second, share in points:
            check_range(second, 0, 1e6, "the time of a point of the blend")
            check_range(share, 0, 1, "the share of the second style")
        if any(later[0] <= earlier[0] for earlier, later in zip(points, points[1:], strict=False)):
            times = ", ".join(f"{second:g}" for second, _ in points[:6])
            raise InputError(f"the points of a blend must come one after another in time, not at {times} s.")
        object.__setattr__(self, "points", points)

    def __len__(self) -> int:
        return len(self.first)

    @property
    def space(self) -> str:
        return self.first.space

    @property
    def source(self) -> str:
        return f"{self.first.source} → {self.second.source}"

    @property
    def strength(self) -> float:
        """The larger strength of the two styles, 0 only if the style never acts; see `strengths` for every frame."""
        return max(self.first.strength, self.second.strength)

    @property
    def seed(self) -> int:
        return self.first.seed

    @property
    def style_statistics(self) -> BlendedStyle | None:
        """The blend of both styles' statistics, or None if either has none."""
        if self.first.style_statistics is None or self.second.style_statistics is None:
            return None
        return BlendedStyle(self.first.style_statistics, self.second.style_statistics, self.points)

    @property
    def statistics_part(self) -> BlendedStyle | None:
        """The blend's motion statistics, or None if either style has none."""
        return self if self.space == STATISTICS_SPACE else self.style_statistics

    def shares(self, num_frames: int, fps: Fraction | float) -> Tensor:
        """(T,) weight of the second style in every frame, by linear interpolation of the curve's points."""
        rate = _check_frames(num_frames, fps)
        seconds = torch.arange(num_frames, dtype=torch.float64) / float(rate)
        times, values = torch.tensor(self.points, dtype=torch.float64).T
        following = torch.searchsorted(times.contiguous(), seconds, right=True)
        low, high = (following - 1).clamp(min=0), following.clamp(max=len(times) - 1)
        length = (times[high] - times[low]).clamp(min=1e-12)
        part = ((seconds - times[low]) / length).clamp(0, 1)
        return torch.lerp(values[low], values[high], part).float()

    def draw(self, num_frames: int, fps: Fraction | float) -> Tensor:
        """(T, D) style of every frame: one sample of each style, interpolated by the curve."""
        shares = self.shares(num_frames, fps)[:, None]
        return (1 - shares) * self.first.sample() + shares * self.second.sample()

    def strengths(self, num_frames: int, fps: Fraction | float) -> Tensor:
        """(T,) strength of the style in every frame."""
        shares = self.shares(num_frames, fps)
        return (1 - shares) * self.first.strength + shares * self.second.strength

    def to_record(self) -> Record:
        """Tensors and metadata of a style file."""
        tensors = {"points": torch.tensor(self.points, dtype=torch.float64)}
        texts = {"kind": self.kind, "version": VERSION}
        for name, prior in (("first", self.first), ("second", self.second)):
            parts, prior_texts = prior.to_record()
            tensors |= {f"{name}.{key}": tensor.clone() for key, tensor in parts.items()}  # files share no memory
            texts |= {f"{name}.{key}": text for key, text in prior_texts.items()}
        return tensors, texts

    @classmethod
    def from_record(cls, tensors: dict[str, Tensor], metadata: dict[str, str]) -> BlendedStyle:
        """The blend of a file's tensors and metadata.

        Raises:
            InputError: another kind of record, another version of the layout, or a part is missing or no number.
        """
        _check_record(metadata, cls.kind)
        if "points" not in tensors:
            raise InputError("a blend of styles needs points, which this file lacks.")
        points = check_shape(tensors["points"], "K 2", "the points of the blend").tolist()
        first, second = (
            StylePrior.from_record(_below(tensors, name), _below(metadata, name)) for name in ("first", "second")
        )
        return cls(first, second, tuple((at, share) for at, share in points))


Style = StylePrior | BlendedStyle


def _below(items: dict[str, Any], name: str) -> dict[str, Any]:
    """Entries whose key begins with a prefix and a dot, with the prefix removed."""
    return {key.removeprefix(f"{name}."): item for key, item in items.items() if key.startswith(f"{name}.")}


def load_style(path: Path) -> Style:
    """Load a `StylePrior` or `BlendedStyle` from a file of `media.records.save_record`.

    Raises:
        MediaError: the file is missing, damaged, of another version, or holds something else.
    """
    kind = BlendedStyle if read_metadata(check_readable(path)).get("kind") == BlendedStyle.kind else StylePrior
    return load_record(kind, path)


def used_as(style: Style, strength: float, noise: float, seed: int) -> Style:
    """Copy of a style with another strength, noise and seed, in its style statistics and both ends of a blend too."""
    numbers = {"strength": strength, "noise": noise, "seed": seed}
    if isinstance(style, BlendedStyle):
        first, second = (used_as(end, **numbers) for end in (style.first, style.second))
        return replace(style, first=first, second=second)
    style_statistics = None if style.style_statistics is None else replace(style.style_statistics, **numbers)
    return replace(style, **numbers, style_statistics=style_statistics)


def at_mean(style: Style) -> Style:
    """Copy of a style whose samples are all its mean, both ends of a blend too."""
    if isinstance(style, BlendedStyle):
        return replace(style, first=at_mean(style.first), second=at_mean(style.second))
    return replace(style, std=torch.zeros_like(style.std), noise=0.0)


def interpolate(first: StylePrior, second: StylePrior, share: float) -> StylePrior:
    """Linear interpolation of two styles: means, deviations, strength and noise; the seed is the first's.

    On that line of Gaussians with independent dimensions, `distance` grows evenly.

    Args:
        first: what share 0 gives.
        second: what share 1 gives.
        share: 0..1.

    Raises:
        InputError: different spaces, or only one of them has a style_statistics.
    """
    check_range(share, 0, 1, "the share of the second style")
    check_same_space(first, second)
    parts = (_line(getattr(first, name), getattr(second, name), share) for name in _TENSORS)
    style_statistics = (
        None if first.style_statistics is None else interpolate(first.style_statistics, second.style_statistics, share)
    )
    source = f"{first.source} → {second.source} at {share:g}"
    numbers = (_line(first.strength, second.strength, share), _line(first.noise, second.noise, share))
    return StylePrior(*parts, first.space, source, *numbers, first.seed, style_statistics)


def faded(style: Style, factors: Tensor, fps: Fraction) -> BlendedStyle:
    """A style whose strength changes over time: a blend of itself at strength 0 and at its largest strength.

    Args:
        style: one that does not change yet.
        factors: (T,) ≥ 0 of its strength, for every frame; of a clip longer than MAX_POINTS, as many of them.
        fps: frames per second.

    Raises:
        InputError: the style changes over time already, or a strength lies outside 0..2.
    """
    if isinstance(style, BlendedStyle):
        raise InputError(f"{style.source} changes over time already; it takes no curve of its strength.")
    factors = check_finite(check_shape(factors, "T", "the curve of the style's strength"), "the strength's curve")
    at = torch.linspace(0, len(factors) - 1, min(len(factors), MAX_POINTS)).round().long()
    largest = float(factors.max())
    seconds, values = (at.double() / float(fps)).tolist(), factors[at].double().tolist()
    points = [(second, factor / (largest or 1.0)) for second, factor in zip(seconds, values, strict=True)]
    ends = (used_as(style, strength, style.noise, style.seed) for strength in (0.0, style.strength * largest))
    return BlendedStyle(*ends, tuple((second, min(share, 1.0)) for second, share in points))


def distance(first: StylePrior, second: StylePrior) -> float:
    """2-Wasserstein distance of two styles: sqrt(|mean₁ − mean₂|² + |std₁ − std₂|²), in units of their space.

    A true metric: 0 for equal styles only, finite also where a deviation is 0 (where divergences are not).
    Source: Dowson and Landau 1982, for Gaussians with diagonal covariances.

    Raises:
        InputError: different spaces.
    """
    _check_spaces(first, second)
    difference = torch.cat([first.mean - second.mean, first.std - second.std]).double()
    return float(difference.norm())


def shared(first: StylePrior, second: StylePrior) -> tuple[StylePrior, StylePrior]:
    """Two styles in a common space: as they are if it is the same, else their style statistics.

    Raises:
        InputError: there is no such space.
    """
    if first.space == second.space and (first.style_statistics is None) == (second.style_statistics is None):
        return first, second
    if first.statistics_part is None or second.statistics_part is None:
        check_same_space(first, second)
    return first.statistics_part, second.statistics_part


def check_same_space(first: StylePrior, second: StylePrior) -> None:
    """Check that two styles can be mixed.

    Raises:
        InputError: different spaces, or only one of them has a style_statistics.
    """
    _check_spaces(first, second)
    if (first.style_statistics is None) != (second.style_statistics is None):
        with_one, without = (second, first) if first.style_statistics is None else (first, second)
        raise InputError(
            f"the style {with_one.source} has motion statistics and {without.source} has none; make both from a video."
        )


def _check_spaces(first: StylePrior, second: StylePrior) -> None:
    if first.space != second.space or len(first) != len(second):
        raise InputError(
            f"the styles {first.source} ({first.space}, {len(first)} numbers) and {second.source} ({second.space}, "
            f"{len(second)} numbers) live in different spaces; make both with the same extractor, or both without one."
        )


def _line(first: Tensor | float, second: Tensor | float, share: float) -> Tensor | float:
    return (1 - share) * first + share * second  # exact at both ends


def _check_frames(num_frames: int, fps: Fraction | float) -> Fraction:
    check_range(num_frames, 1, 10**7, "the number of frames")
    return as_fps(fps)
