"""What a layout's keypoints do in the face: its regions, and the directions that open the mouth and shut the eyes.

LivePortrait's lips and eyes are those that its public code moves for the animation regions "lip" and "eyes", its brows
those of its eyebrow slider. face-vid2vid's keypoints belong to nothing by name: every training finds its own, so for
that layout they must be measured (`renderers.implicit.bridges.measured_basis`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..checks import check_choice, check_finite, check_shape
from ..errors import InputError
from ..types import KEYPOINT_LAYOUTS

MOUTH, EYES, BROWS, REST = "mouth", "eyes", "brows", "rest"
REGIONS = (MOUTH, EYES, BROWS, REST)
LIVEPORTRAIT = "liveportrait-21"
KEYPOINTS_OF_REGIONS = {
    LIVEPORTRAIT: {
        MOUTH: (6, 12, 14, 17, 19, 20),
        EYES: (11, 13, 15, 16, 18),
        BROWS: (1, 2),
        REST: (0, 3, 4, 5, 7, 8, 9, 10),
    }
}
# Keypoint 19 goes with the lower lip, 20 with the upper one, 11 and 15 with the upper lids, 13 and 16 with the lower.
# Measured on LivePortrait's public motion templates d1, d2, d5, d7 and d8 (633 frames, MIT), which hold lip and eye
# ratios beside the expressions: y of 19 less y of 20 rises by .154 half crops per distance of the mouth's corners
# (r .94 within the clips), y of 11 and 15 less those of 13 and 16 by .0358 as open eyes shut (height over width from
# .33 to 0; r .98).
_LIPS_APART = {19: 1 / 0.154, 20: -1 / 0.154}
_LIDS_SHUT = {11: 1 / 0.0358, 15: 1 / 0.0358, 13: -1 / 0.0358, 16: -1 / 0.0358}
# How all keypoints of the lips and eyes move along, by regression on the same ratios and the head's angles; half crops,
# values below .001 left out.
_PARTING = {14: (0.0, 0.0084, 0.0), 17: (0.0, -0.0121, -0.0099), 19: (0.0, 0.1224, 0.0129), 20: (0.0, -0.0287, 0.0066)}
_SHUTTING = {11: (0.0012, 0.0153, 0), 13: (0.0027, -0.0028, 0), 15: (0, 0.0141, 0), 16: (0, -0.0035, 0)}


@dataclass(frozen=True)
class ExpressionBasis:
    """Directions and regions of a layout's expression."""

    layout: str
    parting: Tensor  # (K, 3) displacement when the lips part by one distance of the mouth's corners
    shutting: Tensor  # (K, 3) displacement when both eyes shut
    shares: dict[str, Tensor] = field(default_factory=dict)  # by region, (K,) 0..1 part of each keypoint; they add to 1
    parted: Tensor | None = None  # (K, 3) weights that read `parting` off an expression; None: by least squares
    shut: Tensor | None = None  # (K, 3) weights that read `shutting`

    def __post_init__(self) -> None:
        count = KEYPOINT_LAYOUTS[check_choice(self.layout, tuple(KEYPOINT_LAYOUTS), "the layout of a basis")]
        for name, reader in (("parting", "parted"), ("shutting", "shut")):
            way = getattr(self, name)
            check_finite(check_shape(way, f"{count} 3", f"{name} of {self.layout}"), name)
            if getattr(self, reader) is None:
                object.__setattr__(self, reader, way / way.square().sum().clamp(min=1e-12))
            check_finite(check_shape(getattr(self, reader), f"{count} 3", f"{reader} of {self.layout}"), reader)
        for region, share in self.shares.items():
            check_choice(region, REGIONS, "the region of a basis")
            check_shape(share, f"{count}", f"the share of the {region} of {self.layout}")

    def opening(self, moved: Tensor) -> Tensor:
        """(T,) how far the lips part, over the distance of the mouth's corners, by (T, K, 3) changes of expression."""
        return (moved * self.parted.to(moved.dtype)).sum((1, 2))

    def closure(self, moved: Tensor) -> Tensor:
        """(T,) how far the eyes shut, 0 not .. 1 all of their usual way, by (T, K, 3) changes of expression."""
        return (moved * self.shut.to(moved.dtype)).sum((1, 2))


def known_basis(layout: str) -> ExpressionBasis:
    """The basis of a layout whose keypoints are known by name.

    Raises:
        InputError: they are not; the text says what to do.
    """
    if layout not in KEYPOINTS_OF_REGIONS:
        raise InputError(
            f"which keypoints of {layout} move the mouth, the eyes or the brows is not known: every training of that "
            "family finds its own. Measure them on your model and portrait, or change the whole expression."
        )
    count = KEYPOINT_LAYOUTS[layout]
    readers = [_upright(rows, count) for rows in (_LIPS_APART, _LIDS_SHUT)]
    ways = [_directions(rows, count) for rows in (_PARTING, _SHUTTING)]
    # what is added is read back exactly
    ways = [way / (way * reader).sum() for way, reader in zip(ways, readers, strict=True)]
    return ExpressionBasis(layout, *ways, _shares(layout, count), *readers)


def region_share(layout: str, region: str, basis: ExpressionBasis | None = None) -> Tensor:
    """(K,) 0..1 part that a region has of each keypoint.

    Args:
        layout: of the keypoints.
        region: one of `REGIONS`, or "all".
        basis: of a model whose regions were measured; None takes what is known of the layout.

    Raises:
        InputError: an unknown region, or a layout whose keypoints belong to none by name.
    """
    check_choice(region, (*REGIONS, "all"), "the region of keypoints")
    if region == "all":
        return torch.ones(KEYPOINT_LAYOUTS[check_choice(layout, tuple(KEYPOINT_LAYOUTS), "the keypoints' layout")])
    shares = (basis or known_basis(layout)).shares
    if region not in shares:
        raise InputError(f"this basis of {layout} has no region {region}, only {', '.join(shares) or 'none'}.")
    return shares[region]


def _upright(weights: dict[int, float], count: int) -> Tensor:
    """(K, 3) weights of the keypoints' y."""
    return _directions({keypoint: (0.0, weight, 0.0) for keypoint, weight in weights.items()}, count)


def _directions(rows: dict[int, tuple[float, float, float]], count: int) -> Tensor:
    directions = torch.zeros(count, 3)
    for keypoint, row in rows.items():
        directions[keypoint] = torch.tensor(row)
    return directions


def _shares(layout: str, count: int) -> dict[str, Tensor]:
    shares = {}
    for region, keypoints in KEYPOINTS_OF_REGIONS[layout].items():
        shares[region] = torch.zeros(count)
        shares[region][list(keypoints)] = 1
    return shares
