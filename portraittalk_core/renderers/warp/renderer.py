"""Portrait animation by a landmark track: two-layer warp, procedural mouth interior, lid shading.

Contract of every renderer: (portrait, track) → iterator of pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import InputError
from ...face import topology as topo
from ...face.aperture import LEFT_EYE, MOUTH, RIGHT_EYE, Aperture, Box, pixel_axes, pixel_box, soft_steps
from ...face.flat_colours import is_flat
from ...face.mouth_colours import CHEEKS
from ...types import LandmarkTrack, Portrait
from .background import background_at, kept_motion
from .composite import Composite
from .cutout import Cutout
from .eyes import Eyes
from .field import MotionField, grid_nodes
from .flow import STILL_PX, FlowGrid, Span, overlay
from .head_zone import HeadZone, head_zone
from .lid_painter import LidPainter
from .lip_seam import lower_lip_share
from .mouth_interior import make_palette
from .mouth_painter import MouthPainter
from .narrow_smile import lips_around_teeth
from .open_mouth import SHOWS_TEETH, OpenMouth, look_into, on_lip_edges
from .packed import FINE_PIXELS, PackedPicture, colours_of, pixels_of, write_pixels
from .painters import FramePose, Painter, painted_parts, within
from .parallax import Parallax
from .sampler import bilinear_sampler
from .shoulders import Shoulders
from .turn_limit import TurnLimit

REACH = 0.45  # of the smaller side of the face box: how far outside the face the picture may still move
SHARP_SIDE_PX = 320  # regions up to this size are sampled from a picture twice as fine, against blur
LIP_RIM = 0.028  # of the mouth's width: how far inside parted lips their texture begins
BATCH = 8  # frames whose motion fields are solved together
MOVED_LID = 0.04  # of an eye's opening: a lid that has moved less needs no second layer
BESIDE_MOUTH, BESIDE_EYE = 0.1, 0.2  # of an opening's width: how far around it the layers part at full resolution


@dataclass(frozen=True)
class PartedFlow:
    """Where the pixels of a frame came from, in steps of `packed`: smooth, and sharp at the edges of mouth and lids."""

    nodes: Tensor  # (2, G, G)
    parts: list[tuple[Span, Tensor]]  # parts of the box, and (2, h, w) of their pixels
    painted: list[Span]  # parts that painters may change


Mover = Callable[[Tensor, Tensor], Tensor]
"""Displacements (B, G, 2) in pixels of a field's nodes from landmarks (B, 478, 2) in pixels and heads (B, 3, 2)."""


class PortraitRenderer:
    """Renders one portrait in poses near its own.

    Args:
        portrait: the picture and its face's landmarks.
        reach_px: distance outside the face at which all motion has faded; None takes 0.45 of the face's smaller side.
        covered: whether something hides the mouth, so that the lips do not part; see `face.covered`.
        blinks: whether the lids can close; see `face.eyes`.
        background_px: distance over which motion fades where a background with lines begins; None lets it fade with
            the distance from the face, whatever is there.
        cutout: people and background of the picture: the head moves before a background that stays, whatever
            `background_px` says; None warps both together.
        breathes: whether the shoulders of a portrait that was cut out may rise.
    """

    def __init__(
        self,
        portrait: Portrait,
        reach_px: float | None = None,
        *,
        covered: bool = False,
        blinks: bool = True,
        background_px: float | None = None,
        cutout: Cutout | None = None,
        breathes: bool = False,
    ) -> None:
        self.picture, self.covered, self.blinks = portrait.picture.contiguous(), covered, blinks
        self.source = portrait.landmarks.points_px[0, :, :2].contiguous()
        height, width = self.picture.shape[:2]
        low, high = self.source.amin(0), self.source.amax(0)
        reach = reach_px or REACH * float((high - low).min())
        zone = None if cutout is None else head_zone(self.source, cutout.mask, background_px or reach)
        chest = Shoulders.of(self.source, width, height) if breathes and cutout is not None else None
        around = self._around(reach, zone, cutout)
        around = around if chest is None else chest.around(around, SHARP_SIDE_PX - 2)
        box = pixel_box(around, 0, (0, 0, width, height))
        if box is None:
            raise InputError(f"the face of {portrait.source} lies outside the picture; choose another face or picture.")
        self.box: Box = box
        x0, y0, x1, y1 = box
        region = self.picture[y0:y1, x0:x1].permute(2, 0, 1)[None].float()
        self.fine = 2 if max(x1 - x0, y1 - y0) <= SHARP_SIDE_PX else 1
        if self.fine > 1:
            region = F.interpolate(region, scale_factor=self.fine, mode="bicubic").clamp(0, 255)
        self.region = region.contiguous()  # planes are sampled twice as fast as colours side by side
        self.composite = None if cutout is None else Composite(cutout, self.picture, box, self.fine)
        self.packed = _packed(self.region[0], box) if self.composite is None else self.composite.people
        self.grid = FlowGrid(y1 - y0, x1 - x0)
        self.corner = torch.tensor([x0, y0], dtype=torch.float32)
        self._colours_at = bilinear_sampler(self.region, box)
        self.painted = torch.zeros(3, y1 - y0, x1 - x0)  # of one frame
        self.together = BATCH if (y1 - y0) * (x1 - x0) <= FINE_PIXELS else 1  # frames that are looked up together
        lips, inside, was_open = self._lips()
        kept = None if background_px is None or cutout else self._kept_beside(background_px)
        carried = None if zone is None else zone.carried(grid_nodes(box).reshape(-1, 2))
        self.flat = is_flat(self.picture, self.source)
        self.field = MotionField(lips, box, reach, was_open, self.covered, kept, carried)
        self.nodes = self.field.nodes[0, :, 0], self.field.nodes[:, 0, 1]  # x of their columns, y of their rows
        self.eyes = tuple(Aperture.of(self.source, chains) for chains in (RIGHT_EYE, LEFT_EYE))
        self.movers: list[Mover] = []
        self.mouth = None if covered else self._mouth(inside, was_open)
        self.lids = LidPainter(self.source, self.field.lids, self._colours_at, box)
        self.painters: list[Painter] = [self.lids, *([self.mouth] if self.mouth else [])]
        if blinks and (eyes := Eyes(self.region, box, portrait.landmarks.points_px[0])).shown:
            self.painters.insert(0, eyes)
        self.rising = None if chest is None else chest.share(grid_nodes(box).reshape(-1, 2), box)[:, None]
        self.chest, self.turns, self.parallax = chest, TurnLimit(portrait), Parallax(portrait.landmarks.points_px[0])

    def _around(self, reach: float, zone: HeadZone | None, cutout: Cutout | None) -> Tensor:
        """(2, 2) the corners around all that may move, pixels."""
        oval = self.source[list(topo.FACE_OVAL)]
        corners = torch.stack([oval.amin(0) - reach, oval.amax(0) + reach])
        box = None if zone is None else zone.box(cutout.mask, reach)
        if box is None:
            return corners
        low, high = torch.tensor(box).view(2, 2)
        return torch.stack([torch.minimum(corners[0], low), torch.maximum(corners[1], high)])

    def render(
        self, track: LandmarkTrack, transparent: bool = False, on_mask: Callable[[Tensor], None] | None = None
    ) -> Iterator[Tensor]:
        """The portrait in every frame of `track`.

        Args:
            track: on a picture of the portrait's shape.
            transparent: of a portrait that was cut out: leave its background away.
            on_mask: called before each picture with (H, W) uint8, 255 on people; everywhere, if none were cut out.

        Yields:
            (H, W, 3) uint8 pictures of the portrait's size, T of them; where `transparent`, (H, W, 4), RGB and alpha.

        Raises:
            InputError: the track belongs to a picture of another shape.
        """
        height, width = self.picture.shape[:2]
        check_same_shape(track, width, height)
        scale = torch.tensor([width, height, width], dtype=torch.float32)
        together = min(self.together, len(track))
        pixels = torch.empty(together, *self.painted.shape[1:], dtype=torch.int32)
        for start in range(0, len(track), BATCH):
            with torch.inference_mode():
                turned = self.turns.limited(track.points[start : start + BATCH] * scale)
                targets = self.parallax.softened(turned)
                heads = self.field.head_motion(targets)
                if not self.blinks:
                    targets = self.field.with_resting_lids(targets, heads)
                targets, shut = self.lids.held_open(targets, heads)
                others = [mover(targets, heads) for mover in self.movers]
                if self.chest is not None and track.shoulders is not None:
                    others.append(self.chest.way_px(track.shoulders[start : start + BATCH])[:, None] * self.rising)
                layers = self.field.backward(targets, heads, others)
                if self.composite is not None:
                    self.composite.prepare(layers[:, 0])  # both agree but in lips and eyes
                spans = self.grid.spans(self._moves(layers, targets))
                # what is small first, for all frames: it takes half the time while no large planes come between
                poses = [FramePose.of(*frame) for frame in zip(targets, heads, shut, strict=True)]
                layers = (layers - self.corner[:, None, None]) * self.packed.steps
                flows = [self._flow_of(*frame) for frame in zip(poses, layers, strict=True)]
            for at in range(0, len(poses), together):
                some = slice(at, at + together)
                edges = self._draw(pixels, poses[some], flows[some], spans, transparent)
                for drawn, edge in zip(pixels, edges, strict=False):
                    picture = self._put_into_picture(drawn, spans)
                    mask = self._mask(edge) if transparent or on_mask is not None else None
                    if on_mask is not None:
                        on_mask(mask)
                    yield torch.cat([picture, mask[..., None]], -1) if transparent else picture

    def _moves(self, layers: Tensor, targets: Tensor) -> Tensor:
        """(GRID, GRID) bool: the nodes that move in some frames, before the background, and all of the face.

        Args:
            layers: (B, 2, 2, GRID, GRID) backward maps, pixels.
            targets: (B, 478, 2) landmarks, pixels.
        """
        nodes = self.field.nodes
        moves = (layers - nodes.permute(2, 0, 1)).abs_().amax((0, 1, 2)) > STILL_PX
        if self.fine > 1:
            moves.fill_(True)  # what is sampled finer differs a little from the picture, even where it stays
        if self.composite is not None:
            moves &= ~self.composite.outside_nodes()
        points = torch.cat([targets.flatten(0, 1), self.source])
        return moves | ((nodes > points.amin(0)) & (nodes < points.amax(0))).all(-1)

    @torch.inference_mode()
    def _draw(
        self, pixels: Tensor, poses: list[FramePose], flows: list[PartedFlow], spans: list[Span], transparent: bool
    ) -> list[Tensor | None]:
        """Draw the box of some frames.

        Each step for all of them, which takes three quarters of the time: what it needs stays near.

        Args:
            pixels: (frames or more, h, w) int32, of which that many are drawn, in place.
            poses: the faces.
            flows: where their pixels came from.
            spans: what moves of the box.
            transparent: see `render`.

        Returns:
            What `_mask` needs of each frame.
        """
        self._look_up(flows, spans, pixels)
        frames = list(zip(pixels, poses, flows, strict=False))
        edges = [None if self.composite is None else self.composite.draw(drawn, transparent) for drawn, *_ in frames]
        for drawn, pose, flow in frames:
            self._paint(drawn, replace(pose, came_from=partial(self._came_from, flow)), flow.painted)
        return edges

    def _came_from(self, flow: PartedFlow, part: Span) -> Tensor:
        """(2, rows, columns) where pixels of a part of the box came from, pixels of the box."""
        came_from = self.grid.at(flow.nodes, part)
        overlay(came_from, part, flow.parts)
        return came_from.div_(self.packed.steps)

    def _paint(self, pixels: Tensor, pose: FramePose, parts: list[Span]) -> None:
        """Let all painters paint over parts of (h, w) pixels, in place."""
        for rows, columns in parts:
            colours_of(pixels[rows, columns], out=self.painted[:, rows, columns])
        for painter in self.painters:
            painter.paint(self.painted, pose)
        for rows, columns in parts:
            pixels[rows, columns] = pixels_of(self.painted[:, rows, columns])

    @torch.inference_mode()
    def _put_into_picture(self, pixels: Tensor, spans: list[Span]) -> Tensor:
        """(H, W, 3) uint8 the portrait with (h, w) `pixels` in its spans."""
        x0, y0, x1, y1 = self.box
        is_whole = spans == [self.grid.whole] and (y1 - y0, x1 - x0) == self.picture.shape[:2]
        out = torch.empty_like(self.picture) if is_whole else self.picture.clone()
        for rows, columns in spans:
            part = pixels[rows, columns]
            if self.composite is not None:
                self.composite.put_back(part, rows, columns)
            write_pixels(part, out, y0 + rows.start, x0 + columns.start)
        return out

    def _flow_of(self, pose: FramePose, layers: Tensor) -> PartedFlow:
        """Where pixels came from, in steps of `packed`, from (2, 2, G, G) backward maps in the same unit."""
        openings = [(MOUTH, pose.mouth, lower_lip_share, BESIDE_MOUTH)]
        for chains, eye, rest in zip((RIGHT_EYE, LEFT_EYE), pose.eyes, self.eyes, strict=True):
            if abs(eye.gap - rest.gap) > MOVED_LID * rest.gap:
                openings.append((chains, eye, _open_eye_share, BESIDE_EYE))
        shares = [share(*opening.axes_on(*self.nodes), opening) for _, opening, share, _ in openings]
        lower = shares[0] if len(shares) == 1 else torch.stack(shares).amax(0)
        parts = []
        for chains, opening, share, beside in openings:
            # at full resolution, for a sharp edge
            box = pixel_box(pose.points[[*chains[0], *chains[1]]], beside * opening.width, self.box)
            if box is not None:
                part = within(box, self.box)
                upper, beneath = self.grid.at(layers, part)
                lower_part = share(*opening.axes_on(*pixel_axes(box)), opening)
                parts.append((part, torch.lerp(upper, beneath, lower_part)))
        painted = [within(part, self.box) for part in painted_parts(pose, self.box)]
        return PartedFlow(torch.lerp(layers[0], layers[1], lower), parts, painted)

    def _look_up(self, flows: list[PartedFlow], spans: list[Span], pixels: Tensor) -> None:
        """Look (frames, h, w) int32 pixels up where their flow leads, in place; outside the spans they are at rest.

        Band by band: what one frame fetches from the memory the next ones find near.
        """
        wide = [self.grid.widened(flow.nodes) for flow in flows]
        for index, rows in enumerate(self.grid.bands):
            columns = next((span[1] for span in spans if span[0].start <= rows.start < span[0].stop), slice(0, 0))
            for beside in (slice(0, columns.start), slice(columns.stop, self.grid.width)):
                pixels[: len(flows), rows, beside] = self.packed.still[rows, beside]
            for flow, out, of_frame in zip(flows, pixels, wide, strict=False):
                came_from = self.grid.band(index, of_frame)
                overlay(came_from, (rows, self.grid.whole[1]), flow.parts)
                self.packed.at(came_from[..., columns], out=out[rows, columns])

    def _mask(self, edge: Tensor | None) -> Tensor:
        """(H, W) uint8 where a frame shows people, from what `Composite.draw` returned."""
        if edge is None:
            return torch.full(self.picture.shape[:2], 255, dtype=torch.uint8)
        return self.composite.alpha(edge)

    def _kept_beside(self, background_px: float) -> Tensor | None:
        """(GRID, GRID, 2, 2) what is kept of the motion beside the head, where a background has lines."""
        nodes = grid_nodes(self.box)
        background = background_at(self.picture, self.source[list(topo.FACE_OVAL)], nodes)
        return None if background is None else kept_motion(background, nodes, background_px)

    def _lips(self) -> tuple[Tensor, OpenMouth | None, bool]:
        """(478, 2) landmarks with the lips where they truly end, what is seen in the mouth, whether lips are apart."""
        mouth = Aperture.of(self.source, MOUTH)
        if self.covered:
            return _parted_lips(self.source, mouth), None, False
        if mouth.gap > SHOWS_TEETH * mouth.width:
            lips = on_lip_edges(self._colours_at, self.source)
            return lips, look_into(self._colours_at, lips), True
        narrow = lips_around_teeth(self._colours_at, self.source)
        return (_parted_lips(self.source, mouth), None, False) if narrow is None else (narrow, None, True)

    def _mouth(self, inside: OpenMouth | None, was_open: bool) -> MouthPainter:
        palette = make_palette(self._colours(topo.LIPS), self._colours(CHEEKS), self.flat)
        return MouthPainter(self.source, palette, inside, self._colours_at, self.flat, self.box, was_open)

    def _colours(self, points: tuple[int, ...]) -> Tensor:
        """(N, 3) colours 0..1 of the portrait at landmarks."""
        height, width = self.picture.shape[:2]
        at = self.source[list(points)].long()
        return self.picture[at[:, 1].clamp(0, height - 1), at[:, 0].clamp(0, width - 1)].float() / 255


def _packed(region: Tensor, box: Box) -> PackedPicture:
    """A picture (3, H, W) of 0..255, at the size of a box or finer, that nobody was cut out of."""
    planes = region.round().to(torch.uint8)
    x0, y0, x1, y1 = box
    return PackedPicture(torch.cat([planes, torch.full_like(planes[:1], 255)]), y1 - y0, x1 - x0)


def _parted_lips(source: Tensor, mouth: Aperture) -> Tensor:
    """(478, 2) landmarks with the inner lip contours of a mouth that is open by a little moved onto the lips.

    A landmark lies a pixel or two off the true edge; without this, a rim of teeth sticks to the closing lips.
    """
    onto = LIP_RIM * mouth.gap / SHOWS_TEETH
    moved = source.clone()
    moved[list(MOUTH[0][1:-1])] -= onto * mouth.across
    moved[list(MOUTH[1][1:-1])] += onto * mouth.across
    return moved


def _open_eye_share(u: Tensor, v: Tensor, eye: Aperture) -> Tensor:
    """(h, w) weight 0..1 of the lower layer at (u, v), each (h, w): from the upper lid's edge to below the eye."""
    along, down = u.numpy(), v.numpy()
    top, bottom = eye.edges_at(along)
    aside = np.abs(along)
    sideways = 1 - soft_steps(aside - np.float32(0.62 * eye.width), 0.22 * eye.width)
    beneath = 1 - soft_steps(down - bottom - np.float32(0.35 * eye.width), 0.5 * eye.width)
    edge = 1 + np.float32(0.5) * np.maximum(aside - np.float32(0.5 * eye.width), 0)
    return torch.from_numpy(soft_steps((down - top) / edge, 1.0) * sideways * beneath)


def check_same_shape(track: LandmarkTrack, width: int, height: int) -> None:
    """Check that a track was made on a picture of this shape (within 1 %).

    Raises:
        InputError: with both sizes.
    """
    if abs(track.width * height - track.height * width) > 0.01 * track.height * width:
        raise InputError(
            f"the landmark track was made for a picture of {track.width}×{track.height}, the portrait is "
            f"{width}×{height}: their shapes differ, so the landmarks would not fit. Crop the portrait to "
            f"{track.width}:{track.height} or make the track on this portrait."
        )
