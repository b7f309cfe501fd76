"""Compositing of moving people over a background that stays, only where their edges pass.

Inside the people a frame is the warped picture itself, outside it is the portrait; between them, the pixels that an
edge of the mask may reach are composited.

Shapes: h, w the box of pixels that may move; N pixels of an edge.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...face.aperture import Box
from ...face.segmentation.person import grown
from .cutout import Cutout
from .field import GRID
from .packed import PackedPicture, colours_of, mask_of, pixels_of

CELLS = 2 * GRID - 1  # a side, into which pixels are sorted
STRETCH = 0.75  # of a cell's distance to the next: how far from a cell's source its pixels' may lie; at rest half
WHOLE = 0.999  # of the mask
LEAST_MASK = 0.02  # below which a pixel has no colours of its own


class Composite:
    """A portrait's people and background in the box of pixels that may move.

    Args:
        cutout: of the whole picture.
        picture: (H, W, 3) uint8.
        box: which pixels may move.
        fine: how many times finer than the picture the people are sampled.
    """

    def __init__(self, cutout: Cutout, picture: Tensor, box: Box, fine: int = 1) -> None:
        x0, y0, x1, y1 = box
        self.mask = cutout.mask
        colours = picture[y0:y1, x0:x1].permute(2, 0, 1).float()
        mask = (255 * cutout.mask[None, y0:y1, x0:x1]).round()
        background = cutout.background[:, y0:y1, x0:x1]
        # rounded so that people and background together are the picture's very bytes
        people = (colours - (1 - mask / 255) * background - 0.5).ceil()
        planes = torch.cat([torch.minimum(people, mask).clamp(min=0), mask])  # colours times the mask, and the mask
        if fine > 1:
            planes = F.interpolate(planes[None], scale_factor=fine, mode="bicubic")[0].round()
        self.people = PackedPicture(planes.clamp(0, 255).to(torch.uint8), y1 - y0, x1 - x0)
        self.background = background.reshape(3, -1)
        self.still = pixels_of(colours)
        self.box = box
        self._bound(cutout.mask[y0:y1, x0:x1], fine)

    def _bound(self, mask: Tensor, fine: int) -> None:
        """Keep the least and the most of the mask near every pixel, as far as from one cell to the next."""
        height, width = mask.shape
        self.rows, self.columns = (
            ((torch.arange(n) + 0.5) / n * (CELLS - 1)).round().long() for n in (height, width)
        )  # the cell of every pixel
        radius = int(STRETCH * max(height, width) / (CELLS - 1)) + fine  # finer people were sampled from pixels around
        most, least = grown(mask[None, None], radius), 1 - grown(1 - mask[None, None], radius)
        self.bounds = torch.cat([most, least], 1)
        cells = [torch.linspace(0, n - 1, CELLS).round().long() for n in (height, width)]
        self.outside = most[0, 0][cells[0][:, None], cells[1]] == 0  # where nothing has shown people yet
        self.needed, self.edge = torch.zeros(CELLS, CELLS, dtype=torch.bool), None

    def prepare(self, came_from: Tensor) -> None:
        """Find which pixels need compositing in some frames; those that earlier frames needed are kept.

        Args:
            came_from: (B, 2, GRID, GRID) (x, y) in portrait pixels where each node came from.
        """
        x0, y0, x1, y1 = self.box
        at = F.interpolate(came_from, size=(CELLS, CELLS), mode="bilinear", align_corners=True)
        at = at.permute(0, 2, 3, 1)
        grid = (at - torch.tensor([x0, y0])) / torch.tensor([x1 - x0, y1 - y0]) * 2 - 1
        sampled = F.grid_sample(
            self.bounds.expand(len(at), -1, -1, -1), grid, mode="nearest", padding_mode="border", align_corners=False
        )
        whole = (sampled[:, 1] >= WHOLE).all(0)
        outside = (sampled[:, 0] == 0).all(0) & self.outside
        needed = (~whole & ~outside) | self.needed
        if self.edge is not None and torch.equal(needed, self.needed) and torch.equal(outside, self.outside):
            return
        self.needed, self.outside = needed, outside
        self.edge = self._at_pixels(needed).flatten().nonzero().flatten()
        self.behind = self.background.index_select(1, self.edge)
        # bits that keep a frame's pixels, and the portrait's pixels outside: `torch.where` takes ten times as long
        self.keep = -self._at_pixels((~outside).to(torch.int32))
        self.rest = self.still & ~self.keep

    def outside_nodes(self) -> Tensor:
        """(GRID, GRID) bool: the nodes of a motion field around which all is as in the portrait."""
        shown = F.max_pool2d((~self.outside)[None].float(), 3, stride=2, padding=1)[0]
        return shown == 0

    def _at_pixels(self, nodes: Tensor) -> Tensor:
        """(h, w) what the cell of every pixel says."""
        return nodes.index_select(1, self.columns).index_select(0, self.rows)

    def draw(self, pixels: Tensor, transparent: bool) -> Tensor:
        """Composite the people's edges in place.

        Args:
            pixels: (h, w) int32, the people as they were looked up.
            transparent: whether the background is left away: soft edges then have the people's own colours.

        Returns:
            (N,) 0..255 the mask at the edge's pixels.
        """
        flat = pixels.view(-1)
        edge = flat.index_select(0, self.edge)
        colours, mask = colours_of(edge), mask_of(edge)
        if transparent:
            colours = (colours * (255 / mask.clamp(min=255 * LEAST_MASK))).clamp_(0, 255)
        else:
            colours.addcmul_(self.behind, 1 - mask / 255).clamp_(0, 255)
        flat.index_copy_(0, self.edge, pixels_of(colours))
        return mask

    def put_back(self, pixels: Tensor, rows: slice, columns: slice) -> None:
        """Give int32 pixels, a part of the box, the portrait's own outside, in place."""
        pixels.bitwise_and_(self.keep[rows, columns]).bitwise_or_(self.rest[rows, columns])

    def alpha(self, mask: Tensor) -> Tensor:
        """(H, W) uint8 of the whole picture, from what `draw` returned."""
        x0, y0, x1, y1 = self.box
        alpha = (255 * self.mask).round().to(torch.uint8)
        inner = self.keep.to(torch.uint8).view(-1)  # 255 inside the people, 0 outside, whatever was there at rest
        inner[self.edge] = mask.round().clamp(0, 255).to(torch.uint8)
        alpha[y0:y1, x0:x1] = inner.view(y1 - y0, x1 - x0)
        return alpha
