"""Procedural mouth interior: cavity, teeth and tongue, shaded per pixel in the mouth's own axes.

Upper teeth hang from the skull, lower teeth and tongue ride on the jaw. Where the portrait itself shows the inside of
the mouth, its own teeth are used (`open_mouth`) and the painting is only behind them. In a face that is drawn in flat
colours the inside is flat too: darkness, one band of teeth, a tongue.

Unit of all lengths here: the width of the resting mouth.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...face.aperture import soft_step

UPPER_EDGE = 0.085  # the upper incisors end this far below the line where the closed lips meet
LOWER_EDGE = 0.055  # the lower incisors begin this far below that line, jaw closed
FLAT_EDGE = 0.02  # how soft the edges of flat colours are
TOOTH_WIDTHS = (0.085, 0.068, 0.076, 0.07, 0.068)  # central incisor outward, one side


@dataclass(frozen=True)
class MouthPalette:
    """Colours of one portrait's mouth, RGB 0..1, each (3,)."""

    seam: Tensor  # the shadow between closed lips
    cavity: Tensor
    tongue: Tensor
    gum: Tensor
    teeth: Tensor


def make_palette(lips: Tensor, skin: Tensor, flat: bool = False) -> MouthPalette:
    """Fit the palette to a portrait's brightness and tint.

    Args:
        lips: (N, 3) pixels on the lips, 0..1.
        skin: (M, 3) pixels on the cheeks, 0..1.
        flat: whether the face is drawn in flat colours: teeth are white then, and the darkness is of the lips' colour.
    """
    lip, face = lips.median(0).values, skin.quantile(0.7, 0)
    light = face.mean().clamp(0.15, 0.95)
    grey = lip.mean()
    # a drawing or a grey photograph keeps its own tint: teeth take only a little of the skin's colour
    tint = face / face.mean().clamp(min=1e-3)
    white = torch.tensor([1.0, 0.965, 0.90]) if (face.max() - face.min()) > 0.04 else torch.ones(3)
    teeth = (1.2 * light).clamp(max=0.92) * white * (0.75 + 0.25 * tint)
    inner = 0.6 * lip + 0.4 * grey
    colourful = ((lip.max() - lip.min()) / 0.1).clamp(0, 1)
    flesh = torch.lerp(torch.ones(3), torch.tensor([1.0, 0.72, 0.70]), colourful)
    if flat:
        # a drawn lip may be but a line, or one lip alone, with skin on both sides
        dark, red = (lips[order.argsort()[: 1 + len(lips) // 5]].median(0).values
                     for order in (lips.mean(1), lips[:, 1] - lips[:, 0]))  # fmt: skip
        white = (1.2 * light).clamp(max=0.98) * torch.ones(3)
        return MouthPalette(seam=0.55 * lip, cavity=0.45 * dark, tongue=0.85 * red, gum=0.75 * red, teeth=white)
    return MouthPalette(
        seam=(0.55 * lip).clamp(0, 1),
        cavity=(0.30 * inner * flesh).clamp(0, 1),
        tongue=(0.70 * lip + 0.02).clamp(0, 1),
        gum=(0.75 * lip).clamp(0, 1),
        teeth=teeth.clamp(0, 0.97),
    )


def paint_mouth(
    across: Tensor,
    down: Tensor,
    upper: Tensor,
    lower: Tensor,
    jaw: float,
    palette: MouthPalette,
    teeth: bool = True,
    flat: bool = False,
) -> Tensor:
    """Paint the inside of an open mouth.

    Args:
        across: (N,) pixel positions along the mouth, 0 at its middle.
        down: (N,) pixel positions across it, 0 where the closed lips meet; downward is positive.
        upper: (N,) `down` of the upper lip's inner edge above or below each pixel.
        lower: (N,) the same of the lower lip.
        jaw: how far the jaw has dropped.
        palette: the portrait's colours.
        teeth: False where the portrait shows its own.
        flat: whether the face is drawn in flat colours.

    Returns:
        (N, 3) colours 0..1.
    """
    if flat:
        return _paint_flat(across, down, jaw, palette, teeth)
    gap = (lower - upper).clamp(min=1e-4)
    depth = ((down - upper) / gap).clamp(0, 1)  # 0 at the upper lip .. 1 at the lower
    colour = palette.cavity[None] * (0.55 + 0.6 * depth[:, None])
    colour = _lay_tongue(colour, across, down, jaw, palette)
    if teeth:
        colour = _lay_teeth(colour, across, down, jaw, palette)
    # the upper lip's shadow, and darkness towards the corners
    shadow = 1 - 0.55 * torch.exp(-(down - upper).clamp(min=0) / 0.035)
    shadow *= 1 - 0.30 * torch.exp(-(lower - down).clamp(min=0) / 0.03)
    sides = 1 - 0.7 * ((across.abs() - 0.16) / 0.32).clamp(0, 1) ** 1.3
    return (colour * (shadow * sides)[:, None]).clamp(0, 1)


def _paint_flat(across: Tensor, down: Tensor, jaw: float, palette: MouthPalette, teeth: bool) -> Tensor:
    """(N, 3) colours as in a cartoon: one for the darkness, one for the tongue, one for a band of upper teeth."""
    tongue_top = LOWER_EDGE + 0.55 * jaw + 0.03 + 1.6 * across**2
    tongue = soft_step(down - tongue_top, FLAT_EDGE)[:, None]
    colour = torch.lerp(palette.cavity.expand(len(down), 3), palette.tongue.expand(len(down), 3), tongue)
    if not teeth:
        return colour
    rise = 0.25 * across**2 + 1.5 * (across.abs() - 0.22).clamp(min=0) ** 2  # to the lip, before the corners
    band = soft_step(UPPER_EDGE - rise - down, FLAT_EDGE)
    return torch.lerp(colour, palette.teeth.expand(len(down), 3), band[:, None])


def _tooth_profile(across: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Closeness of each position to its tooth's middle (0..1), and the tooth's index, counted from the front."""
    edges = torch.cumsum(torch.tensor((0.0, *TOOTH_WIDTHS)) * scale, 0)
    index = torch.bucketize(across.abs(), edges[1:-1])
    inner_edge, outer_edge = edges[index], edges[index + 1]
    middle, half = (inner_edge + outer_edge) / 2, (outer_edge - inner_edge) / 2
    return 1 - ((across.abs() - middle).abs() / half).clamp(0, 1), index


def _lay_teeth(colour: Tensor, across: Tensor, down: Tensor, jaw: float, palette: MouthPalette) -> Tensor:
    rows = (
        # edge position, direction of the tooth from its edge, tooth size, brightness
        (LOWER_EDGE + jaw, 1.0, 0.72, 0.74),
        (UPPER_EDGE, -1.0, 1.0, 1.0),
    )
    for edge, direction, scale, brightness in rows:
        centred, index = _tooth_profile(across, scale)
        arch = 0.25 * across**2  # the row curves up towards the corners
        short = torch.tensor([0.0, 0.010, 0.002, 0.012, 0.018])[index]  # lateral incisors are shorter
        rounding = 0.012 * (1 - centred) ** 3
        into = (down - (edge - arch if direction < 0 else edge - 0.5 * arch)) * direction - (short + rounding) * 0.8
        cover = soft_step(into, 0.018)
        gaps = 1 - 0.20 * torch.exp(-((centred / 0.16) ** 2))
        bulge = 0.86 + 0.14 * centred.clamp(0, 1) ** 0.5
        rise = (into / 0.2).clamp(0, 1)  # from the cutting edge to the gum
        shade = brightness * gaps * bulge * (1 - 0.18 * rise) * (1 - 0.10 * soft_step(0.02 - into, 0.03))
        tooth = palette.teeth[None] * shade[:, None]
        gum = soft_step(into - 0.19 * scale, 0.03)[:, None]
        tooth = tooth * (1 - gum) + 0.8 * palette.gum[None] * gum
        cover = (cover * (1 - ((across.abs() - 0.30) / 0.10).clamp(0, 1)))[:, None]
        colour = colour * (1 - cover) + tooth * cover
    return colour


def _lay_tongue(colour: Tensor, across: Tensor, down: Tensor, jaw: float, palette: MouthPalette) -> Tensor:
    top = LOWER_EDGE + 0.45 * jaw + 0.03 + 0.9 * across**2
    cover = (soft_step(down - top, 0.07) * (1 - ((across.abs() - 0.20) / 0.12).clamp(0, 1)))[:, None]
    groove = 1 - 0.15 * torch.exp(-((across / 0.02) ** 2))
    shade = (0.55 + 0.45 * ((down - top) / 0.12).clamp(0, 1)) * groove
    return colour * (1 - cover) + palette.tongue[None] * shade[:, None] * cover
