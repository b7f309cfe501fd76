"""Mouth interior: cavity, tongue and two rows of teeth, lit per pixel in the mouth's own axes.

Where teeth end and how much light gets in was set beside real mouths (GRID speakers 1 and 4); `benchmarks mouth`
measures it on others. The outlines of teeth are drawn (`teeth`).

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
from .teeth import sample_teeth

# where things lie
UPPER_EDGE = 0.035  # the upper incisors end this far below the line where the closed lips meet
LOWER_EDGE, LOWER_DROP = -0.01, 0.5  # and the lower ones begin, jaw closed; of the jaw's way
LOWER_SHOWN = 0.13  # of the lower teeth above the lower lip, at most
LOWER_FROM, LOWER_WHOLE = 0.1, 0.26  # gaps from which the lower teeth begin to show, and show as they are
TONGUE_RISE, TONGUE_DROP, TONGUE_BEND = -0.02, 0.38, 0.7  # its top: from the lower edge, of its way, over aside²
# how light they are
DIM, LIT_BY = 0.7, 0.15  # what a closed mouth lacks of its light, and the gap by which most of it is back
SIDE_DARK, SIDE_FROM = 0.4, 0.24  # what is lost at the corners, and from where on
THROAT, THROAT_REACH = 0.8, 0.25  # light of the cavity below the upper lip, and where it is whole
UPPER_SHADOW, UPPER_REACH = 0.34, 0.03  # of the upper lip, and how far it reaches
LOWER_SHADOW, LOWER_REACH = 0.11, 0.03
LOWER_TONE = 0.88  # of the lower teeth, of the upper ones
# their colours, of those of the portrait's light, lips and skin
TEETH = (0.96, 0.91, 0.84)
TEETH_TINT = 0.5  # how much of the skin's hue teeth show
CAVITY, TONGUE, GUM = (0.8, 0.57, 0.53), (1.05, 0.87, 0.86), (0.75, 0.68, 0.68)
TONGUE_SKIN, GUM_SKIN = 0.1, 0.2
HAZE = (0.42, 0.25, 0.22)  # of the skin: red light that flesh throws where light is missing
COLOURFUL = 0.1  # difference of a lip's channels from which a portrait counts as coloured
# of a face in flat colours
FLAT_EDGE = 0.02  # how soft edges are
FLAT_UPPER, FLAT_LOWER = 0.085, 0.055  # where the teeth end, and the lower ones would begin


@dataclass(frozen=True)
class MouthPalette:
    """Colours of one portrait's mouth, RGB 0..1, each (…, 3)."""

    seam: Tensor  # the shadow between closed lips
    cavity: Tensor
    tongue: Tensor
    gum: Tensor
    teeth: Tensor
    haze: Tensor  # what the darkest place still shows


LAYERS = ("cavity", "tongue", "gum", "teeth", "haze")


def make_palette(lips: Tensor, skin: Tensor, flat: bool = False) -> MouthPalette:
    """Fit the palette to a portrait's brightness and tint.

    Args:
        lips: (N, 3) pixels on the lips, 0..1.
        skin: (M, 3) pixels on the cheeks, 0..1.
        flat: whether the face is drawn in flat colours: teeth are white then, and the darkness is of the lips' colour.
    """
    lip, face = lips.median(0).values, skin.quantile(0.7, 0)
    light = face.mean().clamp(0.15, 0.95)
    if flat:
        # a drawn lip may be but a line, or one lip alone, with skin on both sides
        dark, red = (lips[order.argsort()[: 1 + len(lips) // 5]].median(0).values
                     for order in (lips.mean(1), lips[:, 1] - lips[:, 0]))  # fmt: skip
        white = (1.2 * light).clamp(max=0.98) * torch.ones(3)
        return MouthPalette(0.55 * lip, 0.45 * dark, 0.85 * red, 0.75 * red, white, torch.zeros(3))
    colourful = ((lip.max() - lip.min()) / COLOURFUL).clamp(0, 1)

    def hue(colour: tuple[float, float, float]) -> Tensor:  # in a grey photograph, all is grey
        of_colour = torch.tensor(colour)
        return torch.lerp(of_colour.mean().expand(3), of_colour, colourful)

    tint = 1 - TEETH_TINT + TEETH_TINT * face / face.mean().clamp(min=1e-3)
    return MouthPalette(
        seam=(0.55 * lip).clamp(0, 1),
        cavity=(hue(CAVITY) * lip).clamp(0, 1),
        tongue=(TONGUE_SKIN * face + hue(TONGUE) * lip).clamp(0, 1),
        gum=(GUM_SKIN * face + hue(GUM) * lip).clamp(0, 1),
        teeth=(hue(TEETH) * light * tint).clamp(0, 0.97),
        haze=(hue(HAZE) * face).clamp(0, 1),
    )


def paint_mouth(
    across: Tensor,
    down: Tensor,
    upper: Tensor,
    lower: Tensor,
    jaw: float,
    palette: MouthPalette,
    *,
    teeth: bool = True,
    flat: bool = False,
    unit_px: float = 96.0,
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
        unit_px: the mouth's width in pixels: smaller ones show smoother teeth.

    Returns:
        (N, 3) colours 0..1.
    """
    if flat:
        return _paint_flat(across, down, jaw, palette, teeth)
    aside, from_top, from_bottom = across.abs(), (down - upper).clamp(min=0), (lower - down).clamp(min=0)
    cavity, tongue, gum, tooth, haze = (getattr(palette, name)[:, None] for name in LAYERS)
    # the more the mouth opens, the more light gets in; least at its corners
    light = 1 - DIM * torch.exp((from_top + from_bottom) / -LIT_BY)
    light *= 1 - SIDE_DARK * ((aside - SIDE_FROM) / (0.5 - SIDE_FROM)).clamp(0, 1) ** 1.5
    shadow = 1 - UPPER_SHADOW * torch.exp(from_top / -UPPER_REACH)
    shadow *= (1 - LOWER_SHADOW * torch.exp(from_bottom / -LOWER_REACH)) * light
    dark = cavity * (light * (THROAT + (1 - THROAT) / THROAT_REACH * from_top.clamp(max=THROAT_REACH)))
    # lower teeth and tongue ride on the jaw, and the lower lip hides most of them
    drop = max(LOWER_DROP * jaw, float(lower.amax()) - LOWER_SHOWN - LOWER_EDGE)
    cover, tone = _tongue(across, down - LOWER_EDGE - TONGUE_DROP * drop)
    colour = torch.lerp(dark, tongue * (tone * shadow), cover)
    if teeth:
        rows = sample_teeth(across, UPPER_EDGE - down, down - LOWER_EDGE - drop, unit_px)
        parted = (float((lower - upper).amax()) - LOWER_FROM) / (LOWER_WHOLE - LOWER_FROM)
        rows[1, 0] *= min(1.0, max(0.0, parted))
        for (cover, bright, is_gum), tone in ((rows[1], LOWER_TONE), (rows[0], 1.0)):
            row = torch.lerp(tooth, gum, is_gum) * (tone * bright * shadow)
            colour = torch.lerp(colour, torch.maximum(row, dark), cover)
    return (colour + haze * (1 - light)).T.clamp(0, 1)


def _tongue(across: Tensor, below: Tensor) -> tuple[Tensor, Tensor]:
    """Cover 0..1 and light of the tongue, which fades into the throat, at positions below the lower teeth's edge."""
    into = below - TONGUE_RISE - TONGUE_BEND * across**2
    cover = soft_step(into - 0.02, 0.11) * (1 - soft_step(across.abs() - 0.31, 0.14))
    return cover, (0.78 + 2.0 * into.clamp(0, 0.16)) * (1 - 0.08 * torch.exp(-((across / 0.022) ** 2)))


def _paint_flat(across: Tensor, down: Tensor, jaw: float, palette: MouthPalette, teeth: bool) -> Tensor:
    """(N, 3) colours as in a cartoon: one for the darkness, one for the tongue, one for a band of upper teeth."""
    tongue_top = FLAT_LOWER + 0.55 * jaw + 0.03 + 1.6 * across**2
    tongue = soft_step(down - tongue_top, FLAT_EDGE)[:, None]
    colour = torch.lerp(palette.cavity.expand(len(down), 3), palette.tongue.expand(len(down), 3), tongue)
    if not teeth:
        return colour
    rise = 0.25 * across**2 + 1.5 * (across.abs() - 0.22).clamp(min=0) ** 2  # to the lip, before the corners
    band = soft_step(FLAT_UPPER - rise - down, FLAT_EDGE)
    return torch.lerp(colour, palette.teeth.expand(len(down), 3), band[:, None])
