"""Landmark back end in torch alone: MediaPipe's published networks with the weights in this package.

Pictures go through the same steps as in MediaPipe's face landmark graph: a letterboxed detector input, a square that
is half as large again as the face and turned with the eyes, the mesh network on it, and, in video, the next square from
the points just found.

Licence of the networks' weights: Apache-2.0, Google LLC (see NOTICE).
"""

from __future__ import annotations

import hashlib
import math
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...errors import InputError, MissingDependency
from ...threads import one_torch_thread
from ...types import NUM_LANDMARKS, check_picture
from ..detection.blazeface import FullRangeDetector, ShortRangeDetector, decode
from ..detection.boxes import box_iou
from ..topology import LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS
from .attention_mesh import CROP_PX, AttentionMesh

MIN_PRESENCE = 0.5  # a crop with a lower score holds no face
ROI_MARGIN = 1.5  # a region's side over the longer side of its face's box
MIN_SAME_FACE_IOU = 0.5  # regions that overlap more than this are of one face
WEIGHTS = Path(__file__).parents[1] / "weights"
SUBPIXELS = 32  # positions between two pixels; MediaPipe's crops are sampled so, and its networks see rounded bytes

SHA256 = {
    "blazeface_short_range.safetensors": "eb8f2fcde1a19ef8f8d6e96e68826e98e4cd4cf75f211a614412992d152a224f",
    "blazeface_full_range.safetensors": "655f9a645b6c1b36570470ff3dad3b828a134c1d707e305dff8dd1b623d1f86a",
    "attention_mesh.safetensors": "6617895bf7bfb32a6e39875b4367f7f62de71866d289a50820e62846d63383b2",
}


FILES = {
    ShortRangeDetector: "blazeface_short_range.safetensors",
    FullRangeDetector: "blazeface_full_range.safetensors",
    AttentionMesh: "attention_mesh.safetensors",
}


class Roi(NamedTuple):
    """A square region of a picture, turned clockwise by `angle`."""

    x: float  # centre, pixels
    y: float
    side: float  # pixels
    angle: float  # radians


@cache
def _network(kind: type[nn.Module], name: str) -> nn.Module:
    """The network `kind` with the weights of the file `name`; read and checked once per process."""
    from safetensors.torch import load

    path = WEIGHTS / name
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256[name]:
        raise InputError(f"the face mesh weights {path} are damaged (another SHA-256); install this package again.")
    network = kind()
    network.load_state_dict({k: v.float() if v.is_floating_point() else v.long() for k, v in load(content).items()})
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # a third faster


def network(kind: type[ShortRangeDetector | FullRangeDetector | AttentionMesh]) -> nn.Module:
    """One of the package's networks, ready to be used."""
    return _network(kind, FILES[kind])


class TorchMesh:
    """Finds faces and their 478 points in pictures, on the processor, without any package but torch."""

    name = "torch"

    def __init__(self, video: bool = False, max_faces: int = 8) -> None:
        """Make a detector.

        Args:
            video: pictures follow each other: look for a face first where it was last.
            max_faces: the most faces to return.

        Raises:
            MissingDependency: the weights that come with this package are not there.
        """
        if max_faces < 1:
            raise InputError(f"max_faces must be at least 1, not {max_faces}.")
        missing = [name for name in SHA256 if not (WEIGHTS / name).is_file()]
        if missing:
            raise MissingDependency(f"{WEIGHTS} lacks the weights {', '.join(missing)}; install this package again.")
        self.video, self.max_faces = video, max_faces
        self._rois: list[Roi] = []
        self._size: tuple[int, ...] = ()

    def __enter__(self) -> TorchMesh:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Clear the tracked regions; the networks stay cached for the next detector."""
        self._rois = []

    @torch.no_grad()
    def detect(self, picture: Tensor) -> Tensor:
        """Points (F, 478, 3) of the faces in a picture (H, W, 3) uint8, normalised like LandmarkTrack; F may be 0."""
        check_picture(picture, "picture")
        with one_torch_thread():
            return self._detect(picture)

    def _detect(self, picture: Tensor) -> Tensor:
        if not self.video or self._size != picture.shape:
            self._rois, self._size = [], tuple(picture.shape)
        rois = self._rois
        if len(rois) < self.max_faces:
            rois = (rois + _not_among(detect_rois(picture)[: self.max_faces], rois))[: self.max_faces]
        points_px = mesh_in_rois(picture, rois)
        if self.video:
            self._rois = [roi_from_points(points) for points in points_px]
        height, width = picture.shape[:2]
        return points_px / torch.tensor([width, height, width])


def detect_rois(picture: Tensor) -> list[Roi]:
    """Square regions around the faces of a picture (H, W, 3) uint8, best first.

    MediaPipe's face mesh has the short-range detector only; here the full-range one looks again where that finds none.
    Measured on portraits shrunk onto a 1024 px photograph: of 23 faces 80 px wide 10 are found instead of none, of 24
    faces 60 px wide 6, and no more false ones; below about 60 px a picture has to be searched in tiles.
    """
    return _rois_seen_by(ShortRangeDetector, "blazeface_short_range.safetensors", picture) or _rois_seen_by(
        FullRangeDetector, "blazeface_full_range.safetensors", picture
    )


def _rois_seen_by(kind: type[nn.Module], name: str, picture: Tensor) -> list[Roi]:
    detector = _network(kind, name)
    height, width = picture.shape[:2]
    full = Roi(width / 2, height / 2, max(width, height), 0.0)
    crop = cut(picture, full, detector.side_px, replicate=False) / 127.5 - 1
    boxes, logits = detector(crop[None])
    left, top = full.x - full.side / 2, full.y - full.side / 2
    rois: list[Roi] = []
    for detection in (decode(boxes[0], logits[0], detector).double() * full.side).tolist():
        x0, y0, x1, y1, right_eye_x, right_eye_y, left_eye_x, left_eye_y = detection[:8]
        angle = math.atan2(left_eye_y - right_eye_y, left_eye_x - right_eye_x)
        side = ROI_MARGIN * max(x1 - x0, y1 - y0)
        rois += _not_among([Roi(left + (x0 + x1) / 2, top + (y0 + y1) / 2, side, angle)], rois)
    return rois


def roi_from_points(points_px: Tensor) -> Roi:
    """The square region for the next picture, from a face's points (478, 3) in pixels."""
    (x0, y0), (x1, y1) = points_px[:, :2].amin(0).tolist(), points_px[:, :2].amax(0).tolist()
    across = (points_px[LEFT_EYE_CORNERS[1]] - points_px[RIGHT_EYE_CORNERS[0]]).tolist()
    side = ROI_MARGIN * max(x1 - x0, y1 - y0)
    return Roi((x0 + x1) / 2, (y0 + y1) / 2, side, math.atan2(across[1], across[0]))


def mesh_in_rois(picture: Tensor, rois: list[Roi]) -> Tensor:
    """Points (F, 478, 3) in pixels of the picture (H, W, 3) uint8, of those regions that hold a face."""
    if not rois:
        return torch.zeros(0, NUM_LANDMARKS, 3)
    crops = torch.stack([cut(picture, roi, CROP_PX, replicate=True) for roi in rois]) / 255
    points, presence = _network(AttentionMesh, "attention_mesh.safetensors")(crops)
    faces = [_to_picture(points[i], roi) for i, roi in enumerate(rois) if presence[i] >= MIN_PRESENCE]
    return torch.stack(faces) if faces else torch.zeros(0, NUM_LANDMARKS, 3)


def _to_picture(points: Tensor, roi: Roi) -> Tensor:
    """(478, 3) in pixels of the picture, from pixels of the crop."""
    scale = roi.side / CROP_PX
    cos, sin = math.cos(roi.angle) * scale, math.sin(roi.angle) * scale
    x, y, z = (points - torch.tensor([CROP_PX / 2, CROP_PX / 2, 0.0])).unbind(-1)
    return torch.stack([cos * x - sin * y + roi.x, sin * x + cos * y + roi.y, scale * z], dim=-1)


def _not_among(rois: list[Roi], existing: list[Roi]) -> list[Roi]:
    """Those of `rois` that overlap none of the `existing` ones."""
    if not rois or not existing:
        return rois
    overlap = box_iou(_boxes(rois), _boxes(existing)).amax(dim=1)
    return [roi for roi, iou in zip(rois, overlap.tolist(), strict=True) if iou <= MIN_SAME_FACE_IOU]


def _boxes(rois: list[Roi]) -> Tensor:
    """(N, 4) x0, y0, x1, y1 of the regions as if none was turned."""
    return torch.tensor([[r.x - r.side / 2, r.y - r.side / 2, r.x + r.side / 2, r.y + r.side / 2] for r in rois])


def cut(picture: Tensor, roi: Roi, num_px: int, replicate: bool) -> Tensor:
    """A region of a picture, sampled bilinearly and rounded to whole grey levels.

    Args:
        picture: (H, W, 3) uint8.
        roi: may reach over the picture's edge.
        num_px: side of the result.
        replicate: repeat the edge's pixels outside the picture; else it is black there.

    Returns:
        (3, num_px, num_px) float, 0..255.
    """
    height, width = picture.shape[:2]
    steps = (torch.arange(num_px, dtype=torch.float64) / num_px - 0.5) * roi.side
    cos, sin = math.cos(roi.angle), math.sin(roi.angle)
    x = ((cos * steps - sin * steps[:, None] + roi.x) * SUBPIXELS).round_().int()
    y = ((sin * steps + cos * steps[:, None] + roi.y) * SUBPIXELS).round_().int()
    flat, total = picture.reshape(-1, 3), torch.zeros(num_px * num_px, 3)
    for row, row_weight in _neighbours(y, height, replicate):
        for column, column_weight in _neighbours(x, width, replicate):
            pixels = flat.index_select(0, (row * width + column).reshape(-1))
            total.addcmul_(pixels.float(), (row_weight * column_weight).reshape(-1, 1))
    return (total / SUBPIXELS**2 + 0.5).floor_().reshape(num_px, num_px, 3).permute(2, 0, 1)


def _neighbours(positions: Tensor, size: int, replicate: bool) -> list[tuple[Tensor, Tensor]]:
    """The pixels before and after each position (in sub-pixels) along one axis, with their weights."""
    lower = positions // SUBPIXELS
    weight = (positions - lower * SUBPIXELS).float()
    neighbours = [(lower, SUBPIXELS - weight), (lower + 1, weight)]
    if not replicate:
        neighbours = [(at, share * ((at >= 0) & (at < size))) for at, share in neighbours]
    return [(at.clamp(0, size - 1), share) for at, share in neighbours]
