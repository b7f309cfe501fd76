"""The warp of filmed faces: every frame's own lower face bent to the new mouth, the mouth's inside steady over time.

Only what the new mouth moves is drawn: head, eyes and brows are the film's. Two thin-plate splines, one for what lies
above the line where the lips meet and one for what lies below, lead from the new landmarks back to the filmed ones, so
that nothing has to be inverted. Teeth and tongue stand where the face at rest has them on this frame's head, whatever
the filmed mouth does, and their colours follow the film's light slowly.

Shapes: G grid nodes, C control points.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ...face import topology as topo
from ...face.aperture import MOUTH, Aperture, Box, pixel_axes, pixel_box, pixel_centres, soft_step
from ...face.flat_colours import is_flat
from ...face.mouth_colours import CHEEKS, skin_colour, skin_light
from ...layers.thin_plate_spline import thin_plate_spline
from ...motion.turned_face import TurnedFace
from .filmed_lips import OPEN, parted_lips
from .lip_seam import lower_lip_share
from .mouth_interior import MouthPalette, make_palette, paint_mouth
from .own_inside import OwnInside

GRID = 48  # nodes a side
REACH = 0.3  # of the face's smaller side: how far outside the face its outline's motion fades
SPACING = 0.13  # inter-ocular distances between control points off the lips
CROWDED = 0.012  # inter-ocular distances: of control points as near as this, as on a turned cheek, one counts
STIFFNESS = 1e-3  # of the splines, against folds where landmarks tremble
EDGE_FADE = 0.12  # of the box's side: over which all motion fades at its edge
STILL = 0.02  # pixels that a landmark may move and still count as unmoved
SHARP_SIDE_PX = 400  # regions up to this size are sampled with cubic weights, against blur
LIGHT_S = 0.4  # time constant with which the mouth's colours follow the film's light
TEETH_LIGHT = 0.9  # of the light of a film's lightest teeth
LEAST_LIGHT = 0.75  # of a portrait's teeth: darker ones look ill
TONGUE_LIGHT = 0.75  # of the skin's: what is no lighter may be a tongue
TEETH_SEEN = 0.3  # of the skin's light: what is so much lighter than that is teeth
OWN_HUE = 0.7  # of the teeth's hue that is the film's: gleams are white
CORNERS = frozenset({61, 291, 76, 306, 62, 292, 78, 308})


class FilmedFace:
    """Draws one face of a film in the frames of one scene, in turn.

    Args:
        face: the face at rest, and in other poses.
        fps: frames per second.
        colours: (2, 3) of the film's teeth and of the dark behind them (`face.mouth_colours`); None: as of a portrait.
        own: the inside of an open mouth as a frame of the film shows it; None: it is painted.
    """

    def __init__(
        self, face: TurnedFace, fps: float, colours: Tensor | None = None, own: OwnInside | None = None
    ) -> None:
        self.face, self.colours, self.own = face, colours, own
        rest = face.rest[:, :2]
        eyes = [rest[list(corners)].mean(0) for corners in (topo.RIGHT_EYE_CORNERS, topo.LEFT_EYE_CORNERS)]
        self.controls = [_layer_controls(rest, float((eyes[1] - eyes[0]).norm()), layer) for layer in (0, 1)]
        aperture = Aperture.of(rest, MOUTH)
        self.closed_line = _meeting_line(aperture)
        self.follow = 1 - math.exp(-1 / (LIGHT_S * fps))
        self.palette: MouthPalette | None = None
        self.skin = torch.ones(3)  # colour 0..1
        self.flat = False  # whether the film is drawn in flat colours; the first frame tells
        line = torch.linspace(0, 1, GRID)
        edge = soft_step(torch.minimum(line, 1 - line) - EDGE_FADE / 2, EDGE_FADE)
        fade = (edge[:, None] * edge).flatten()[:, None]
        self.moving = fade[:, 0].nonzero()[:, 0]  # (M,) nodes that may move
        self.fade = fade[self.moving]  # (M, 1)
        self.unit_nodes = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).reshape(-1, 2)

    @torch.inference_mode()
    def draw(self, picture: Tensor, filmed: Tensor, target: Tensor, number: int | None = None) -> Tensor:
        """One frame with another mouth.

        Args:
            picture: (H, W, 3) uint8.
            filmed: (478, 3) its landmarks, pixels.
            target: (478, 3) where they go, on the same head.
            number: of the frame in the film, whose smiles the teeth follow; None: they stay with the head.

        Returns:
            (H, W, 3) uint8; far from the mouth the very values of `picture`.
        """
        self.follow_light(picture, filmed)
        moving = (target - filmed)[:, :2].norm(dim=1) > STILL
        if not moving.any():
            return picture
        height, width = picture.shape[:2]
        face = filmed[list(topo.FACE_OVAL), :2]
        reach = REACH * float((face.amax(0) - face.amin(0)).min())
        both = torch.cat([filmed[moving, :2], target[moving, :2]])
        low, high = (both.amin(0) - reach).floor(), (both.amax(0) + reach).ceil()
        x0, y0 = max(0, int(low[0])), max(0, int(low[1]))
        x1, y1 = min(width, int(high[0])), min(height, int(high[1]))
        if x1 - x0 < 2 or y1 - y0 < 2:
            return picture
        mouth, source = Aperture.of(target[:, :2], MOUTH), parted_lips(picture, filmed[:, :2])
        nodes = low + 0.5 + self.unit_nodes * (high - low - 1)
        layers = self._backward(source, target[:, :2], nodes, reach)  # (2, G, 2) displacements
        whole = (int(high[1] - low[1]), int(high[0] - low[0]))
        mixed = torch.lerp(layers[0], layers[1], lower_lip_share(*mouth.axes_of(nodes), mouth)[:, None])
        flow = F.interpolate(_planes(mixed), size=whole, mode="bilinear", align_corners=True)[0]
        top, left = y0 - int(low[1]), x0 - int(low[0])
        flow = flow[:, top : top + y1 - y0, left : left + x1 - x0].contiguous()
        box: Box = (x0, y0, x1, y1)
        self._part_layers(flow, layers, target, mouth, box, low, high)
        region = picture[y0:y1, x0:x1].permute(2, 0, 1).float().contiguous()
        warped = _sampled(region, flow)
        self._fill_mouth(warped, mouth, filmed, target, box, self.placed(filmed, number))
        out = picture.clone()
        out[y0:y1, x0:x1] = torch.stack(warped.add_(0.5).clamp_(0, 255).to(torch.uint8).unbind(), -1)
        return out

    def _backward(self, source: Tensor, target: Tensor, nodes: Tensor, reach: float) -> Tensor:
        """(2, G, 2) displacements from the new picture's nodes back into the filmed one, pixels; one a layer."""
        outline = target[list(topo.FACE_OVAL)][::2]
        outward = outline - outline.mean(0)
        anchors = outline + outward / outward.norm(dim=1, keepdim=True).clamp(min=1e-6) * reach
        unit = float((target[topo.LEFT_EYE_CORNERS[0]] - target[topo.RIGHT_EYE_CORNERS[0]]).norm().clamp(min=1.0))
        layers, nodes = torch.zeros(2, len(nodes), 2), nodes[self.moving]
        for layer, controls in zip(layers, self.controls, strict=True):
            at, ways = target[controls], (source - target)[controls]
            apart = torch.cdist(at, at) + torch.ones(len(at), len(at)).triu() * unit
            kept = apart.amin(1) > CROWDED * unit
            centres = torch.cat([at[kept], anchors])
            values = torch.cat([ways[kept], torch.zeros_like(anchors)])
            layer[self.moving] = thin_plate_spline(centres, values, nodes, STIFFNESS, unit) * self.fade
        return layers

    def _part_layers(
        self, flow: Tensor, layers: Tensor, target: Tensor, mouth: Aperture, box: Box, low: Tensor, high: Tensor
    ) -> None:
        """Blend the layers near the mouth at full resolution, for a sharp edge; in place."""
        near = pixel_box(target[[*MOUTH[0], *MOUTH[1]], :2], 0.2 * mouth.width, box)
        if near is None:
            return
        pixels = pixel_centres(near)
        grid = (pixels - low - 0.5) / (high - low - 1) * 2 - 1
        both = F.grid_sample(_planes(layers), grid.expand(2, -1, -1, -1), align_corners=True, padding_mode="border")
        rows, columns = _local(near, box)
        flow[:, rows, columns] = torch.lerp(both[0], both[1], lower_lip_share(*mouth.axes_on(*pixel_axes(near)), mouth))

    def placed(self, filmed: Tensor, number: int | None) -> Tensor:
        """(478, 2) landmarks of the face at rest on a frame's head (478, 3), in pixels, with what its mouth keeps."""
        slow = None if number is None or self.face.slow is None else self.face.slow[number : number + 1]
        return self.face.placed(self.face.rest[None], filmed[None], slow)[0, :, :2]

    def _fill_mouth(
        self, region: Tensor, mouth: Aperture, filmed: Tensor, target: Tensor, box: Box, placed: Tensor
    ) -> None:
        """Paint the cavity where the lips part, in place; darken the line where lips that were apart meet."""
        near = pixel_box(target[[*MOUTH[0], *MOUTH[1]], :2], 0.06 * mouth.width, box)
        if near is None:
            return
        axes = pixel_axes(near)
        u, v = mouth.axes_on(*axes)
        top, bottom = mouth.edge_heights(u)
        feather = max(1.2, 0.02 * mouth.width)
        open_share = ((bottom - top) / (1.5 * feather)).clamp(0, 1)
        rows, columns = _local(near, box)
        patch = region[:, rows, columns]
        was = Aperture.of(filmed[:, :2], MOUTH)
        parted = min(1.0, was.gap / (OPEN * was.width))
        closeness = torch.exp(-(((v - (top + bottom) / 2) / max(0.8, 0.014 * mouth.width)) ** 2))
        meeting = closeness * (1 - open_share) * (u.abs() < 0.49 * mouth.width)
        patch = torch.lerp(patch, self.palette.seam[:, None, None] * 255, 0.85 * parted * meeting)
        if mouth.gap >= 0.25 * feather:
            cover = soft_step(v - top, feather) * soft_step(bottom - v, feather) * open_share
            cover *= u.abs() < 0.5 * mouth.width
            # often less than half of the box
            inside = cover.flatten().nonzero()[:, 0]
            row, column = inside // len(axes[0]), inside % len(axes[0])
            places = torch.stack([axes[0][column], axes[1][row]], 1)
            heights = (plane.flatten()[inside] for plane in (v, top, bottom))
            before = patch[:, row, column]
            patch[:, row, column] = torch.lerp(
                before, self.inside(places, *heights, placed, target), cover.flatten()[inside]
            )
        region[:, rows, columns] = patch

    def inside(self, pixels: Tensor, v: Tensor, top: Tensor, bottom: Tensor, placed: Tensor, target: Tensor) -> Tensor:
        """(3, N) colours 0..255 inside the mouth, which stands with the head at rest on this frame's head.

        Args:
            pixels: (N, 2) positions.
            v: (N,) the same across the mouth.
            top: (N,) `v` of the upper lip's edge.
            bottom: (N,) `v` of the lower lip's edge.
            placed: (478, 2) landmarks of the face at rest on this frame's head, pixels.
            target: (478, 3) where they go.
        """
        if self.own is None:
            return self._painter(pixels, v, top, bottom, placed, target, teeth=True)(slice(None))
        behind = self._painter(pixels, v, top, bottom, placed, target, teeth=False)
        return self.own.colours(pixels, bottom - v, bottom - top, placed, self.skin, behind)

    def _painter(
        self, pixels: Tensor, v: Tensor, top: Tensor, bottom: Tensor, placed: Tensor, target: Tensor, *, teeth: bool
    ) -> Callable[[Tensor | slice], Tensor]:
        """What paints n of the places of `inside`, (3, n) colours 0..255; with or without `teeth`."""
        rest = Aperture.of(placed, MOUTH)
        unit = rest.width
        across, down = (x / unit for x in rest.axes_of(pixels))
        down = down - (self.closed_line[0] + across * self.closed_line[1] + across**2 * self.closed_line[2])
        drop = target[topo.CHIN, :2] - placed[topo.CHIN]
        jaw = float(rest.axes_of(drop + rest.origin)[1].clamp(min=0)) / unit
        axes = across, down, down - (v - top) / unit, down + (bottom - v) / unit

        def paint(at: Tensor | slice) -> Tensor:
            places = (axis[at] for axis in axes)
            return paint_mouth(*places, jaw=jaw, palette=self.palette, teeth=teeth, flat=self.flat).T * 255

        return paint

    def follow_light(self, picture: Tensor, filmed: Tensor) -> None:
        """Let the mouth's colours follow those of this frame's lips and cheeks, slowly."""
        if self.palette is None:
            self.flat = is_flat(picture, filmed)
        cheeks = _colours(picture, filmed, CHEEKS)
        now, skin = make_palette(_colours(picture, filmed, topo.LIPS), cheeks, self.flat), skin_colour(cheeks)
        if self.colours is not None and not self.flat:
            now = _as_filmed(now, *self.colours, skin_light(cheeks))
        if self.palette is not None:
            old = self.palette
            now = MouthPalette(**{name: torch.lerp(getattr(old, name), value, self.follow)
                                  for name, value in vars(now).items()})  # fmt: skip
            skin = torch.lerp(self.skin, skin, self.follow)
        self.palette, self.skin = now, skin


def _as_filmed(palette: MouthPalette, teeth: Tensor, dark: Tensor, light: Tensor) -> MouthPalette:
    """A palette with (3,) colours that the film itself shows, over the skin's light, which is `light` in this frame."""
    dark = dark * light
    haze = (dark.mean() / palette.cavity.mean().clamp(min=1e-3)).clamp(max=1)
    usual = palette.teeth.mean().clamp(min=1e-3)
    brightness = (TEETH_LIGHT * teeth.mean() * light / usual).clamp(min=LEAST_LIGHT) * usual
    is_teeth = OWN_HUE * ((teeth.mean() - TONGUE_LIGHT) / TEETH_SEEN).clamp(0, 1)
    hue = torch.lerp(palette.teeth / usual, teeth / teeth.mean().clamp(min=1e-3), is_teeth)
    return replace(palette, teeth=(brightness * hue).clamp(0, 1), cavity=dark.clamp(0, 1), haze=haze * palette.haze)


def _colours(picture: Tensor, points: Tensor, which: tuple[int, ...]) -> Tensor:
    """(N, 3) colours 0..1 of a picture at landmarks."""
    height, width = picture.shape[:2]
    at = points[list(which), :2].long()
    return picture[at[:, 1].clamp(0, height - 1), at[:, 0].clamp(0, width - 1)].float() / 255


def _meeting_line(rest: Aperture) -> Tensor:
    """(3,) down = c0 + c1·across + c2·across², where the lips at rest meet, in units of the mouth's width."""
    u = rest.upper[0]
    top, bottom = rest.edge_heights(u)
    meets = (top + 0.45 * (bottom - top).clamp(min=0)) / rest.width
    across = u / rest.width
    basis = torch.stack([torch.ones_like(u), across, across * across], 1)
    return torch.linalg.lstsq(basis.double(), meets.double()[:, None]).solution[:, 0].float()


def _layer_controls(points: Tensor, unit: float, layer: int) -> list[int]:
    """Indices of a layer's control landmarks: its lip, then others at a minimum spacing; nearest to the lips first."""
    upper, lower = ({i for ring in rings for i in ring} for rings in (topo.UPPER_LIP_RINGS, topo.LOWER_LIP_RINGS))
    required = (upper if layer == 0 else lower) | CORNERS
    hidden = (lower if layer == 0 else upper) - CORNERS
    if layer == 1:  # the skin between nose and upper lip lies above the seam
        between = (points[:, 0] > points[61, 0]) & (points[:, 0] < points[291, 0])
        between &= (points[:, 1] > points[2, 1]) & (points[:, 1] < points[13, 1])
        hidden = hidden | (set(torch.nonzero(between).flatten().tolist()) - set(topo.FACE_OVAL))
    hidden = hidden | {*topo.EYELIDS, *topo.RIGHT_IRIS, *topo.LEFT_IRIS}
    controls = sorted(required)
    for point in (*topo.FACE_OVAL, *topo.RIGID, *range(topo.NUM_MESH_POINTS)):
        if point in hidden or point in controls:
            continue
        if float((points[controls] - points[point]).norm(dim=1).min()) > SPACING * unit:
            controls.append(point)
    return controls


def _planes(nodes: Tensor) -> Tensor:
    """(…, G, 2) values at nodes as (N, 2, GRID, GRID)."""
    return nodes.reshape(-1, GRID, GRID, 2).permute(0, 3, 1, 2).contiguous()


def _sampled(region: Tensor, flow: Tensor) -> Tensor:
    """(3, h, w) colours of a region displaced by (2, h, w) pixels."""
    height, width = region.shape[1:]
    ys, xs = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    grid = torch.stack([(flow[0] + xs) * (2 / width) - 1, (flow[1] + ys[:, None]) * (2 / height) - 1], -1)
    mode = "bicubic" if max(height, width) <= SHARP_SIDE_PX else "bilinear"
    return F.grid_sample(region[None], grid[None], mode=mode, padding_mode="border", align_corners=False)[0]


def _local(near: Box, box: Box) -> tuple[slice, slice]:
    return slice(near[1] - box[1], near[3] - box[1]), slice(near[0] - box[0], near[2] - box[0])
