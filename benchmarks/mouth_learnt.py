"""A mouth learnt from real ones: a small network from a place in the mouth to its colour, beside the skin and the lips.

Its inputs are where a pixel lies (across, also without its sign, down, from the upper and from the lower lip), how far
the jaw has dropped, how far the lips part and how wide they are, in widths of the resting mouth.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from portraittalk_core.face import topology as topo
from portraittalk_core.face.aperture import MOUTH, Aperture

from .mouth_clips import MouthClip

PIXELS = 160  # of every frame
INSIDE = 0.012  # of the mouth's width: nearer to a lip is not learnt
STEPS, BATCH, RATE = 3000, 2048, 3e-3
CHEEKS = (50, 280, 101, 330, 205, 425, 36, 266)


class LearntMouth:
    """The network, and the mean colour of what it learnt from, beside the skin's.

    Args:
        clips: to learn from.
    """

    def __init__(self, clips: Sequence[MouthClip]) -> None:
        torch.manual_seed(0)
        parts = [_samples(clip) for clip in clips]
        inputs, colours, skin, lips = (torch.cat(column) for column in zip(*parts, strict=True))
        self.mean_of_skin = (colours / skin.clamp(min=0.02)).mean(0)
        self.middle, self.spread = inputs.mean(0), inputs.std(0)
        widths = (inputs.shape[1], 32, 32)
        layers = [layer for a, b in zip(widths, widths[1:], strict=False) for layer in (nn.Linear(a, b), nn.SiLU())]
        self.net = nn.Sequential(*layers, nn.Linear(widths[-1], 6))
        adam = torch.optim.Adam(self.net.parameters(), RATE)
        for step in range(STEPS):
            chosen = torch.randint(len(inputs), (BATCH,))
            painted = self.colours(inputs[chosen], skin[chosen], lips[chosen])
            loss = (painted - colours[chosen]).square().mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
            adam.param_groups[0]["lr"] = RATE * (1 - step / STEPS)

    def colours(self, inputs: Tensor, skin: Tensor, lips: Tensor) -> Tensor:
        """(N, 3) colours 0..1 of (N, 8) places; skin and lips (N, 3) or (3,)."""
        of_skin, of_lips = self.net((inputs - self.middle) / self.spread).sigmoid().chunk(2, 1)
        return 1.2 * of_skin * skin + 0.8 * of_lips * lips


def features(across: Tensor, down: Tensor, from_top: Tensor, from_bottom: Tensor, jaw: float) -> Tensor:
    """(N, 8) inputs of a frame's pixels, each (N,); gap and width of the opening are those that the pixels show."""
    gap = (from_top + from_bottom).amax().expand_as(across)
    width = (across.amax() - across.amin()).expand_as(across)
    frame = torch.full_like(across, jaw)
    return torch.stack([across, across.abs(), down, from_top, from_bottom, frame, gap, width], 1)


def _samples(clip: MouthClip) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs (N, 8), colours, and skin and lips of the portrait (N, 3) of pixels inside a clip's mouths."""
    rest = Aperture.of(clip.rest[:, :2], MOUTH)
    skin, lips = portrait_colours(clip.portrait, clip.rest)
    random = torch.Generator().manual_seed(0)
    rows = []
    for picture, points in zip(clip.pictures, clip.targets, strict=True):
        found = places(clip, rest, points)
        if found is None:
            continue
        at, inputs = found
        chosen = torch.randint(len(at), (PIXELS,), generator=random)
        x, y = at[chosen].unbind(1)
        rows.append((inputs[chosen], picture[y, x].float() / 255))
    inputs, colours = (torch.cat(column) for column in zip(*rows, strict=True))
    return inputs, colours, skin.expand_as(colours), lips.expand_as(colours)


def places(clip: MouthClip, rest: Aperture, points: Tensor) -> tuple[Tensor, Tensor] | None:
    """Pixels (N, 2) inside the lips of a frame, as x and y, and their inputs (N, 8); None if there are hardly any."""
    mouth = Aperture.of(points[:, :2], MOUTH)
    low, high = points[list(topo.LIPS), :2].amin(0).long(), points[list(topo.LIPS), :2].amax(0).long() + 1
    grid = torch.meshgrid(torch.arange(low[0], high[0]), torch.arange(low[1], high[1]), indexing="xy")
    at = torch.stack(grid, -1).reshape(-1, 2)
    height, width = clip.portrait.shape[:2]
    at = at[((at >= 0) & (at < torch.tensor([width, height]))).all(1)]
    rigid = list(topo.RIGID)
    placed = torch.cat([clip.rest[:, :2], torch.ones(len(points), 1)], 1)
    head = torch.linalg.lstsq(placed[rigid].double(), points[rigid, :2].double()).solution.float()
    unmoved, unit = torch.linalg.inv(head[:2]), rest.width
    u, v = mouth.axes_of(at + 0.5)
    top, bottom = mouth.edge_heights(u)
    from_top, from_bottom = (v - top) / unit, (bottom - v) / unit
    inside = (from_top > INSIDE) & (from_bottom > INSIDE) & (u.abs() < 0.47 * mouth.width)
    if int(inside.sum()) < 20:
        return None
    home_u, home_v = rest.axes_of((at[inside] + 0.5 - head[2]) @ unmoved)
    line = _closed_line(rest)
    down = (home_v - line[0] - home_u * line[1] - home_u**2 * line[2]) / unit
    chin = (points[topo.CHIN, :2] - head[2]) @ unmoved - clip.rest[topo.CHIN, :2]
    jaw = float(rest.axes_of(chin + rest.origin)[1].clamp(min=0)) / unit
    return at[inside], features(home_u / unit, down, from_top[inside], from_bottom[inside], jaw)


def portrait_colours(picture: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """(3,) colours 0..1 of a portrait's lit skin and of its lips."""
    height, width = picture.shape[:2]
    skin, lips = (
        picture[at[:, 1].clamp(0, height - 1), at[:, 0].clamp(0, width - 1)].float() / 255
        for at in (points[list(group), :2].long() for group in (CHEEKS, topo.LIPS))
    )
    return skin.quantile(0.7, 0), lips.median(0).values


def _closed_line(rest: Aperture) -> Tensor:
    u = rest.upper[0]
    top, bottom = rest.edge_heights(u)
    basis = torch.stack([torch.ones_like(u), u, u * u], 1)
    meets = top + 0.45 * (bottom - top).clamp(min=0)
    return torch.linalg.lstsq(basis.double(), meets.double()[:, None]).solution[:, 0].float()
