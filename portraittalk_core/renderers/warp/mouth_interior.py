"""Mouth interior: cavity, tongue and two rows of teeth, lit per pixel in the mouth's own axes.

Where teeth end and how much light gets in was set beside real mouths (GRID speakers 1 and 4); `benchmarks mouth`
measures it on others. The outlines of teeth are drawn (`teeth`).

Upper teeth hang from the skull, lower teeth and tongue ride on the jaw. Where the portrait itself shows the inside of
the mouth, its own teeth are used (`open_mouth`) and the painting is only behind them; but not the few rows of them that
a narrow smile shows (`narrow_smile`). In a face that is drawn in flat colours the inside is flat too: darkness, one
band of teeth, a tongue.

Unit of all lengths here: the width of the resting mouth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...face.aperture import Array, soft_steps
from ...face.mouth_colours import skin_colour, skin_light
from .teeth import BELOW, sample_teeth

# where things lie
UPPER_EDGE = 0.035  # the upper incisors end this far below the line where the closed lips meet
LOWER_EDGE, LOWER_DROP = -0.01, 0.5  # and the lower ones begin, jaw closed; of the jaw's way
LOWER_SHOWN = 0.13  # of the lower teeth above the lower lip, at most
LOWER_FROM, LOWER_WHOLE = 0.1, 0.26  # gaps from which the lower teeth begin to show, and show as they are
TONGUE_RISE, TONGUE_DROP, TONGUE_BEND = -0.02, 0.38, 0.7  # its top: from the lower edge, of its way, over aside²
TOOTH_FROM = -BELOW  # beyond a row's edge there is nothing of it
# how light they are
DIM, LIT_BY = 0.7, 0.15  # what a closed mouth lacks of its light, and the gap by which most of it is back
SIDE_DARK, SIDE_FROM = 0.4, 0.24  # what is lost at the corners, and from where on
THROAT, THROAT_REACH = 0.8, 0.25  # light of the cavity below the upper lip, and where it is whole
UPPER_SHADOW, UPPER_REACH = 0.34, 0.03  # of the upper lip, and how far it reaches
LOWER_SHADOW, LOWER_REACH = 0.11, 0.03
LOWER_TONE = 0.88  # of the lower teeth, of the upper ones
TONGUE_LIGHT, TONGUE_LIT, TONGUE_REACH = 0.78, 1.9, 0.16  # at its top, what it gains downward, and how far
TONGUE_GROOVE, TONGUE_GROOVE_WIDTH = 0.05, 0.045
TONGUE_DEEP, DEEP_FROM, DEEP_WHOLE = 0.3, 0.26, 0.42  # what it lacks in a wide mouth, and the gaps of which
# their colours, of those of the portrait's light, lips and skin
TEETH = (0.96, 0.91, 0.84)
TEETH_TINT = 0.5  # how much of the skin's hue teeth show
CAVITY, TONGUE, GUM = (0.8, 0.57, 0.53), (1.04, 0.86, 0.85), (0.75, 0.68, 0.68)
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
    lip, face, light = lips.median(0).values, skin_colour(skin), skin_light(skin)
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
    places = [place.numpy() for place in (across, down, upper, lower)]
    colours = {name: getattr(palette, name).numpy()[:, None] for name in LAYERS}
    if flat:
        painted = _paint_flat(*places[:2], jaw, colours, teeth)
    else:
        painted = _paint(*places, jaw, colours, unit_px if teeth else None)
    return torch.from_numpy(painted).T


def light_inside(gap: Array) -> Array:
    """Share of the light that gets into a mouth, where it is open by (N,) `gap`, of its width at rest."""
    return 1 - DIM * np.exp(gap * np.float32(-1 / LIT_BY))


def _paint(
    across: Array, down: Array, upper: Array, lower: Array, jaw: float, colours: dict[str, Array], unit_px: float | None
) -> Array:
    """(3, N) `paint_mouth` of a lit mouth; without teeth where `unit_px` is None."""
    aside, squared = np.abs(across), across * across
    from_top, from_bottom = np.maximum(down - upper, 0), np.maximum(lower - down, 0)
    # the more the mouth opens, the more light gets in; least at its corners
    light = light_inside(from_top + from_bottom)
    outside = np.clip((aside - SIDE_FROM) * np.float32(1 / (0.5 - SIDE_FROM)), 0, 1)
    light *= 1 - SIDE_DARK * outside * np.sqrt(outside)
    shadow = 1 - UPPER_SHADOW * np.exp(from_top * np.float32(-1 / UPPER_REACH))
    shadow *= 1 - LOWER_SHADOW * np.exp(from_bottom * np.float32(-1 / LOWER_REACH))
    shadow *= light
    dark = THROAT + np.minimum(from_top, THROAT_REACH) * np.float32((1 - THROAT) / THROAT_REACH)
    dark = colours["cavity"] * (dark * light)
    # lower teeth and tongue ride on the jaw, and the lower lip hides most of them
    drop = max(LOWER_DROP * jaw, float(lower.max(initial=-1)) - LOWER_SHOWN - LOWER_EDGE)
    cover, tone = _tongue(aside, squared, down - np.float32(LOWER_EDGE + TONGUE_DROP * drop))
    gap = float((lower - upper).max(initial=0))
    tone *= 1 - TONGUE_DEEP * min(1.0, max(0.0, (gap - DEEP_FROM) / (DEEP_WHOLE - DEEP_FROM)))
    colour = dark + (colours["tongue"] * (tone * shadow) - dark) * cover
    if unit_px is not None:
        parted = (gap - LOWER_FROM) / (LOWER_WHOLE - LOWER_FROM)
        into = (down - np.float32(LOWER_EDGE + drop), UPPER_EDGE - down)
        for row, place, tone, shown in zip((1, 0), into, (LOWER_TONE, 1.0), (min(1.0, parted), 1.0), strict=True):
            if shown <= 0:
                continue
            # only where its teeth are
            at = np.flatnonzero(place > TOOTH_FROM)
            cover, bright, gum = sample_teeth(row, aside[at], place[at], unit_px)
            teeth = colours["teeth"] + (colours["gum"] - colours["teeth"]) * gum
            teeth *= tone * bright * shadow[at]
            under = colour[:, at]
            colour[:, at] = under + (np.maximum(teeth, dark[:, at]) - under) * (cover * np.float32(shown))
    colour += colours["haze"] * (1 - light)
    return np.clip(colour, 0, 1, out=colour)


def _tongue(aside: Array, squared: Array, below: Array) -> tuple[Array, Array]:
    """Cover 0..1 and light of the tongue, which fades into the throat, at positions below the lower teeth's edge."""
    into = below - TONGUE_RISE - TONGUE_BEND * squared
    cover = soft_steps(into - 0.02, 0.11) * (1 - soft_steps(aside - 0.31, 0.14))
    groove = 1 - TONGUE_GROOVE * np.exp(squared * np.float32(-1 / TONGUE_GROOVE_WIDTH**2))
    return cover, (TONGUE_LIGHT + TONGUE_LIT * np.clip(into, 0, TONGUE_REACH)) * groove


def _paint_flat(across: Array, down: Array, jaw: float, colours: dict[str, Array], teeth: bool) -> Array:
    """(3, N) colours as in a cartoon: one for the darkness, one for the tongue, one for a band of upper teeth."""
    squared = across * across
    tongue = soft_steps(down - np.float32(FLAT_LOWER + 0.55 * jaw + 0.03) - 1.6 * squared, FLAT_EDGE)
    colour = colours["cavity"] + (colours["tongue"] - colours["cavity"]) * tongue
    if not teeth:
        return colour
    rise = 0.25 * squared + 1.5 * np.square(np.maximum(np.abs(across) - 0.22, 0))  # to the lip, before the corners
    band = soft_steps(FLAT_UPPER - rise - down, FLAT_EDGE)
    return colour + (colours["teeth"] - colour) * band
