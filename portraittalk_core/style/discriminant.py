"""Style extractor by linear discriminant analysis of motion statistics, which is small and needs little data.

A face's motion in a window becomes statistics of how far, how fast and how lopsidedly each measure moves, and which
measures move together. A linear projection, learnt from many ways of speaking, divides them by how much they change
while one person speaks, and keeps the directions in which people differ. Mean and variance over the windows of a clip
are its style: SVP's equations 3 and 4 with equal weights.

Shapes: B clips, N features at 25 Hz, W windows, F statistics, D numbers of a style.
Source: Fisher 1936 (discriminants); Hatch, Kajarekar and Stolcke 2006 (within-class covariance normalisation);
`docs/design/styles.md` 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from ..checks import check_shape
from ..errors import InputError
from .features import EXPRESSION_NAMES, HEAD_NAMES, LANDMARK_WIDTH, MEASURED_EXPRESSION, NO_AUDIO, RATE_HZ, TURN_SCALE

KIND = "discriminant"  # of network, as the metadata of a style extractor's file says it
NUM_EXPRESSIONS = len(EXPRESSION_NAMES)
NUM_PAIRS = NUM_EXPRESSIONS * (NUM_EXPRESSIONS - 1) // 2
NUM_STATISTICS = 3 * LANDMARK_WIDTH + 2 * NUM_PAIRS
ANGLE_UNIT_DEG = 10.0
SIGMAS = (1.0, 2.0)  # frames, of the Gaussian over expressions and angles, against a detector's jitter
POSITION_FLOOR, SPEED_FLOOR = 0.02, 0.01  # added to deviations before the logarithm, in tenths of inter-ocular distance
POSITION_NOISE, SPEED_NOISE = 0.05, 0.02  # added to deviations that correlations are divided by
TAILS = (0.05, 0.95)  # quantiles that tell how lopsided a movement is


@dataclass(frozen=True)
class DiscriminantSizes:
    """Input features and sizes of a discriminant extractor."""

    width: int = 128  # of the style
    window: int = 64  # frames that statistics are taken of
    expression: str = MEASURED_EXPRESSION
    audio: str = NO_AUDIO
    num_positions: int = 256  # frames that are looked at together, at most

    def __post_init__(self) -> None:
        for name, value, high in (("width", self.width, NUM_STATISTICS), ("window", self.window, 256)):
            if type(value) is not int or not 1 <= value <= high:
                raise InputError(f"a style extractor's {name} must be a whole number from 1 to {high}, not {value!r}.")
        if (self.expression, self.audio, self.num_positions) != (MEASURED_EXPRESSION, NO_AUDIO, 256):
            raise InputError(
                f"a discriminant extractor looks at {MEASURED_EXPRESSION} alone, not at what its file says."
            )

    def to_json(self) -> str:
        """JSON text for a file's metadata."""
        return json.dumps(asdict(self), sort_keys=True)


class DiscriminantNet(nn.Module):
    """Standardisation and projection of motion statistics, under the file's names: `centre`, `scale`, `project.weight`.

    Args:
        sizes: of the style and the windows.
    """

    def __init__(self, sizes: DiscriminantSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.register_buffer("centre", torch.zeros(NUM_STATISTICS))
        self.register_buffer("scale", torch.ones(NUM_STATISTICS))
        self.project = nn.Linear(NUM_STATISTICS, sizes.width, bias=False)

    def forward(self, audio: Tensor | None, expression: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and variance (B, D) of the styles of clips' windows.

        Args:
            audio: None; it does not hear.
            expression: (B, N, 23) features of landmarks.

        Raises:
            InputError: a sound, or no expression.
        """
        if audio is not None or expression is None:
            raise InputError("this style extractor sees and does not hear: give a video with a face.")
        check_shape(expression, f"B N {LANDMARK_WIDTH}", "the expression features")
        motion, size = motion_of(expression), min(self.sizes.window, expression.shape[1])
        parts = torch.stack([motion[:, start : start + size] for start in window_starts(motion.shape[1], size)], 1)
        statistics = motion_statistics(parts.flatten(0, 1)).unflatten(0, parts.shape[:2])
        styles = self.project((statistics - self.centre) / self.scale)
        return styles.mean(1), styles.var(1, correction=0)


def window_starts(count: int, size: int) -> list[int]:
    """First frames of windows over `count` frames that overlap by half or more and reach both ends."""
    if count <= size:
        return [0]
    number = -(-2 * (count - size) // size) + 1
    return [round((count - size) * i / (number - 1)) for i in range(number)]


def motion_of(features: Tensor) -> Tensor:
    """(B, N, 23) expressions, and head angles in tens of degrees, of features (B, N, 23) with angular velocities."""
    turns = features[..., NUM_EXPRESSIONS:]
    angles = turns.cumsum(1) / (TURN_SCALE * RATE_HZ * ANGLE_UNIT_DEG)
    return torch.cat([features[..., :NUM_EXPRESSIONS], angles], 2)


def motion_statistics(motion: Tensor) -> Tensor:
    """(B, F) statistics of motions (B, N, 23), N ≥ 2, which do not tell where a face or head rests.

    Logarithms of the deviations of position and speed; how lopsided the movements are, −1..1; correlations of the
    expressions' positions and of their speeds.
    """
    expression, angles = motion.split([NUM_EXPRESSIONS, len(HEAD_NAMES)], 2)
    smooth = [smoothing(motion.shape[1], sigma).to(motion) for sigma in SIGMAS]
    position = torch.cat([smooth[0] @ expression, smooth[1] @ angles], 2)
    position = position - position.median(1, keepdim=True).values
    speed = position.diff(dim=1)
    spread, pace = position.std(1, correction=0), speed.std(1, correction=0)
    low, high = torch.quantile(position, torch.tensor(TAILS).to(motion), dim=1)
    lopsided = (high + low) / (high - low + POSITION_NOISE)
    logs = (spread + POSITION_FLOOR).log(), (pace + SPEED_FLOOR).log()
    together = _correlations(position, spread + POSITION_NOISE), _correlations(speed, pace + SPEED_NOISE)
    return torch.cat([*logs, lopsided, *together], 1)


def smoothing(count: int, sigma: float) -> Tensor:
    """(N, N) matrix that smooths N frames by a Gaussian, whose weights sum to 1 at the ends too."""
    frames = torch.arange(count, dtype=torch.float64)
    weights = (-0.5 * ((frames[:, None] - frames) / sigma).square()).exp()
    return (weights / weights.sum(1, keepdim=True)).float()


def _correlations(curves: Tensor, deviations: Tensor) -> Tensor:
    """(B, pairs) correlations of the expressions' curves, nearer to 0 where they hardly move."""
    centred = curves - curves.mean(1, keepdim=True)
    scaled = (centred / deviations[:, None])[..., :NUM_EXPRESSIONS]
    products = scaled.transpose(1, 2) @ scaled / curves.shape[1]
    first, second = torch.triu_indices(NUM_EXPRESSIONS, NUM_EXPRESSIONS, 1)
    return products[:, first, second]


def read_discriminant_sizes(metadata: Mapping[str, str], name: str) -> DiscriminantSizes:
    """Read the sizes of a discriminant extractor from its file's metadata.

    Raises:
        InputError: without them.
    """
    try:
        return DiscriminantSizes(**json.loads(metadata["sizes"]))
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{name} does not tell its sizes ({error}); make it again with `train style`.") from error
