"""Finds faces in pictures and follows one through a video, with interchangeable landmark back ends.

A back end sees one picture and returns the 478 landmarks of the faces in it. Everything else stands here: looking again
at padded, tiled and cropped versions where the first look fails, the order of several faces, frames without a face.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import check_choice, check_range
from ..errors import MissingDependency, NoFaceError
from ..types import NUM_LANDMARKS, LandmarkTrack, Portrait, check_picture
from .geometry import face_box_px, interocular_px

log = logging.getLogger(__name__)

BACKENDS = ("auto", "solutions", "tasks", "torch")
ORDERS = ("size", "left_to_right")
ON_MISSING = ("hold", "interpolate", "error")
MAX_FACES = 8
MIN_INTEROCULAR_PX = 12.0
LOOK_SIDE_PX = 512  # faces are looked at closely in a crop of about this size
SMALL = 0.4  # of the picture's smaller side: where no face is larger, there may be more of them
CROP = 2.0  # side of that crop over the face's larger side
SAME_SIZE = 0.9  # faces whose sizes differ by less count as equally large

Box = tuple[float, float, float, float]


class MeshBackend(Protocol):
    """A landmark detector."""

    name: str

    def detect(self, picture: Tensor) -> Tensor:
        """(F, 478, 3) landmarks, normalised as in `LandmarkTrack`, of the faces in a (H, W, 3) uint8 picture."""

    def close(self) -> None:
        """Free what it holds."""

    def __enter__(self) -> MeshBackend: ...

    def __exit__(self, *exc: object) -> None: ...


def open_mesh(backend: str = "auto", model_path: Path | None = None, max_faces: int = MAX_FACES) -> MeshBackend:
    """Open a landmark back end.

    Args:
        backend: "solutions" (mediapipe up to 0.10.21 with its own models), "tasks" (any mediapipe, with a
            face_landmarker.task file), "torch" (no mediapipe), or "auto": the first of these that works.
        model_path: the face_landmarker.task file; None looks for one in the known folders.
        max_faces: faces looked for in one picture.

    Raises:
        MissingDependency: the back end is not there; the text says how to get it.
        InputError: no such back end.
    """
    check_choice(backend, BACKENDS, "the face-mesh back end")
    names = [backend] if backend != "auto" else ["tasks" if model_path else "solutions", "tasks", "torch"]
    reasons = []
    for name in dict.fromkeys(names):
        try:
            return _BUILDERS[name](model_path, max_faces)
        except MissingDependency as error:
            reasons.append(f"- {name}: {error}")
    if backend != "auto":
        raise MissingDependency(reasons[0][2:])
    raise MissingDependency("no face-mesh back end works here:\n" + "\n".join(reasons))


def _solutions(model_path: Path | None, max_faces: int) -> MeshBackend:
    from .mesh_solutions import SolutionsMesh

    return SolutionsMesh(max_faces)


def _tasks(model_path: Path | None, max_faces: int) -> MeshBackend:
    from .mesh_tasks import TasksMesh

    return TasksMesh(model_path, max_faces)


def _torch(model_path: Path | None, max_faces: int) -> MeshBackend:
    try:
        from .mesh_torch import TorchMesh
    except ImportError as error:
        raise MissingDependency("this copy of PortraitTalk does not contain the torch face mesh.") from error
    return TorchMesh(max_faces=max_faces)


_BUILDERS: dict[str, Callable[[Path | None, int], MeshBackend]] = {
    "solutions": _solutions,
    "tasks": _tasks,
    "torch": _torch,
}


def detect_faces(picture: Tensor, mesh: MeshBackend, order: str = "size") -> Tensor:
    """All faces of a picture, each looked at closely.

    If a plain look finds none, the picture is padded (close-ups). If there are none or only small ones, overlapping
    tiles are searched for more, and what they show counts if it is found again at another scale.

    Args:
        picture: (H, W, 3) uint8.
        mesh: an open back end.
        order: "size" is largest first, faces within 10 % of each other's size from left to right; "left_to_right" goes
            by the face's middle.

    Returns:
        (F, 478, 3) normalised landmarks; F may be 0.
    """
    check_picture(picture, "the picture to search")
    check_choice(order, ORDERS, "the order of faces")
    height, width = picture.shape[:2]
    found = _look(picture, (0, 0, width, height), mesh)
    if not len(found):
        found = _look_padded(picture, mesh)
    close_up = [_look_closely(picture, face, mesh) for face in found]
    if not close_up or max(map(_size, close_up)) < SMALL * min(height, width):
        close_up += [face for face in _look_in_tiles(picture, mesh) if _is_sure(picture, face, mesh)]
    faces = _without_doubles(close_up)
    return _in_order(faces, order) / torch.tensor([width, height, width], dtype=torch.float32)


def find_portrait(
    picture: Tensor,
    face_index: int = 0,
    face_order: str = "size",
    source: str = "portrait",
    mesh: MeshBackend | None = None,
) -> Portrait:
    """The picture with the landmarks of one of its faces.

    Args:
        picture: (H, W, 3) uint8.
        face_index: which face, 0 is the first of `face_order`.
        face_order: see `detect_faces`.
        source: what to call the picture in messages.
        mesh: an open back end; None opens one for this call.

    Raises:
        NoFaceError: no face, none of that index, or one too small to animate.
    """
    if mesh is None:
        with open_mesh() as opened:
            return find_portrait(picture, face_index, face_order, source, opened)
    faces = detect_faces(picture, mesh, face_order)
    height, width = picture.shape[:2]
    points_px = faces * torch.tensor([width, height, width], dtype=torch.float32)
    chosen = points_px[_checked_index(points_px, face_index, face_order, source, (width, height)) :][:1]
    eyes_px = float(interocular_px(chosen)[0])
    if eyes_px < MIN_INTEROCULAR_PX:
        raise NoFaceError(
            f"the face in {source} is too small: its eyes are {eyes_px:.0f} pixels apart, at least "
            f"{MIN_INTEROCULAR_PX:.0f} are needed. Crop closer to the face or use a larger picture."
        )
    return Portrait(picture, LandmarkTrack.from_px(chosen, width, height, Fraction(25)), source)


def track_faces(
    pictures: Iterable[Tensor],
    fps: Fraction,
    mesh: MeshBackend | None = None,
    face_index: int = 0,
    face_order: str = "size",
    on_missing: str = "hold",
    source: str = "video",
) -> LandmarkTrack:
    """Follow one face through a video.

    Args:
        pictures: (H, W, 3) uint8, all of one size.
        fps: frames per second of the pictures.
        mesh: an open back end; None opens one for this call.
        face_index: which face of the first picture that shows enough of them.
        face_order: see `detect_faces`.
        on_missing: what to do with frames without the face: "hold" repeats the last position (before the first sight:
            the first), "interpolate" moves straight from the last to the next, "error" stops.
        source: what to call the video in messages.

    Returns:
        One frame per picture; `valid` is False where the face was not seen.

    Raises:
        NoFaceError: the face is in no frame, or `on_missing` is "error" and it is missing somewhere.
    """
    check_choice(on_missing, ON_MISSING, "on_missing")
    if mesh is None:
        with open_mesh() as opened:
            return track_faces(pictures, fps, opened, face_index, face_order, on_missing, source)
    follower = _Follower(mesh, face_index, face_order)
    frames: list[Tensor | None] = []
    width = height = 0
    for picture in pictures:
        height, width = picture.shape[:2]
        frames.append(follower.see(picture))
    seen = [i for i, frame in enumerate(frames) if frame is not None]
    if not seen:
        raise NoFaceError(
            f"no face was found in any of the {len(frames)} frames of {source}"
            + (f" (face {face_index} was asked for)" if face_index else "")
            + "; choose a video with an upright face that looks towards the camera."
        )
    if on_missing == "error" and len(seen) < len(frames):
        first = next(i for i, frame in enumerate(frames) if frame is None)
        raise NoFaceError(
            f"{source} shows no face in {len(frames) - len(seen)} of {len(frames)} frames, the first is frame {first} "
            f"({float(first / fps):.2f} s); cut them out, or choose hold or interpolate."
        )
    valid = torch.tensor([frame is not None for frame in frames])
    return LandmarkTrack.from_px(_filled(frames, seen, on_missing), width, height, fps, valid)


class _Follower:
    """Keeps looking where the face was; searches the whole picture when it is gone."""

    def __init__(self, mesh: MeshBackend, face_index: int, face_order: str) -> None:
        self.mesh, self.face_index, self.face_order = mesh, face_index, face_order
        self.last: Tensor | None = None  # (478, 3) pixels
        self.crop: Box | None = None

    def see(self, picture: Tensor) -> Tensor | None:
        """(478, 3) pixels of the face in the next picture, or None."""
        height, width = picture.shape[:2]
        found = self._look_where_it_was(picture) if self.last is not None else None
        if found is None:
            faces = detect_faces(picture, self.mesh, self.face_order)
            found = self._choose(faces * torch.tensor([width, height, width], dtype=torch.float32))
        if found is not None:
            self.last = found
        return found

    def _look_where_it_was(self, picture: Tensor) -> Tensor | None:
        # a crop that stays put while the face stays well inside it adds no jitter of its own
        wanted = _crop_box(self.last)
        if self.crop is None or _apart(self.crop, wanted) > 0.12:
            self.crop = wanted
        return _most_alike(_look(picture, self.crop, self.mesh), self.last)

    def _choose(self, faces: Tensor) -> Tensor | None:
        if self.last is not None:
            return _most_alike(faces, self.last, least=0.1)
        return faces[self.face_index] if self.face_index < len(faces) else None


def _look(picture: Tensor, box: Box, mesh: MeshBackend) -> Tensor:
    """(F, 478, 3) pixel landmarks found in a box of the picture, which may reach beyond its edges."""
    crop, (x0, y0), scale = _cut(picture, box)
    height, width = crop.shape[:2]
    faces = mesh.detect(crop)
    if not len(faces):
        return torch.zeros(0, NUM_LANDMARKS, 3)
    size = torch.tensor([width, height, width], dtype=torch.float32)
    return faces * size / scale + torch.tensor([x0, y0, 0.0])


def _cut(picture: Tensor, box: Box) -> tuple[Tensor, tuple[int, int], float]:
    """A box of the picture scaled to LOOK_SIDE_PX if it is another size, its corner, and the scale.

    Beyond the picture its edge pixels are repeated.
    """
    height, width = picture.shape[:2]
    x0, y0, x1, y1 = (round(v) for v in box)
    if (x0, y0, x1, y1) == (0, 0, width, height):
        crop = picture
    else:
        rows = torch.arange(y0, y1).clamp(0, height - 1)
        columns = torch.arange(x0, x1).clamp(0, width - 1)
        crop = picture[rows][:, columns]
    side = max(crop.shape[:2])
    scale = LOOK_SIDE_PX / side
    if 0.9 < scale < 1.6 or (scale < 1 and (x0, y0, x1, y1) == (0, 0, width, height)):
        return crop.contiguous(), (x0, y0), 1.0
    planes = crop.permute(2, 0, 1)[None].float()
    size = [max(2, round(crop.shape[0] * scale)), max(2, round(crop.shape[1] * scale))]
    scaled = F.interpolate(planes, size=size, mode="bilinear", antialias=scale < 1, align_corners=False)
    return scaled[0].permute(1, 2, 0).round().to(torch.uint8).contiguous(), (x0, y0), size[1] / crop.shape[1]


def _look_padded(picture: Tensor, mesh: MeshBackend) -> Tensor:
    """Close-ups: the detector wants to see what surrounds a face."""
    height, width = picture.shape[:2]
    for share in (0.25, 0.6):
        pad = share * max(height, width)
        found = _look(picture, (-pad, -pad, width + pad, height + pad), mesh)
        if len(found):
            return found
    return torch.zeros(0, NUM_LANDMARKS, 3)


def _look_in_tiles(picture: Tensor, mesh: MeshBackend) -> Tensor:
    """Small faces: half-overlapping tiles of 0.6, then of 0.35 of the smaller side."""
    height, width = picture.shape[:2]
    found: list[Tensor] = []
    for share in (0.6, 0.35):
        side = share * min(height, width)
        if side < 100:
            break
        for y in _starts(height, side):
            for x in _starts(width, side):
                found += list(_look(picture, (x, y, x + side, y + side), mesh))
    return _without_doubles(found)


def _starts(length: int, side: float) -> list[float]:
    count = max(1, -(-(length - side) // (side / 2)) + 1)
    return [i * (length - side) / max(count - 1, 1) for i in range(int(count))]


def _look_closely(picture: Tensor, face: Tensor, mesh: MeshBackend) -> Tensor:
    """The same face in a crop around it, so that precision does not depend on where in the picture it stands."""
    closer = _most_alike(_look(picture, _crop_box(face), mesh), face)
    return face if closer is None else closer


def _is_sure(picture: Tensor, face: Tensor, mesh: MeshBackend) -> bool:
    """Whether a face is seen again, point by point, in a closer and in a wider crop."""
    for crop in (1.5, 2.6):
        again = _most_alike(_look(picture, _crop_box(face, crop), mesh), face, least=0.5)
        if again is None:
            return False
        off_px = (again - face)[:, :2].norm(dim=1).mean()
        if off_px > 0.15 * interocular_px(face[None])[0]:
            return False
    return True


def _crop_box(face: Tensor, crop: float = CROP) -> Box:
    x0, y0, x1, y1 = face_box_px(face[None])[0].tolist()
    half = crop * max(x1 - x0, y1 - y0) / 2
    return (x0 + x1) / 2 - half, (y0 + y1) / 2 - half, (x0 + x1) / 2 + half, (y0 + y1) / 2 + half


def _apart(a: Box, b: Box) -> float:
    """Greatest difference of two boxes' edges over their side."""
    return max(abs(p - q) for p, q in zip(a, b, strict=True)) / max(a[2] - a[0], 1.0)


def _overlap(a: Tensor, b: Tensor) -> Tensor:
    """(A, B) intersection over union of (A, 4) and (B, 4) boxes."""
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(-1), (b[:, 2:] - b[:, :2]).prod(-1)
    return shared / (area_a[:, None] + area_b[None] - shared).clamp(min=1e-6)


def _most_alike(faces: Tensor, face: Tensor, least: float = 0.3) -> Tensor | None:
    if not len(faces):
        return None
    overlap = _overlap(face_box_px(faces), face_box_px(face[None]))[:, 0]
    best = int(overlap.argmax())
    return faces[best] if overlap[best] >= least else None


def _without_doubles(faces: list[Tensor]) -> Tensor:
    kept: list[Tensor] = []
    for face in sorted(faces, key=lambda f: -_size(f)):
        if not kept or float(_overlap(face_box_px(torch.stack(kept)), face_box_px(face[None])).max()) < 0.4:
            kept.append(face)
    return torch.stack(kept) if kept else torch.zeros(0, NUM_LANDMARKS, 3)


def _size(face: Tensor) -> float:
    x0, y0, x1, y1 = face_box_px(face[None])[0].tolist()
    return max(x1 - x0, y1 - y0)


def _in_order(faces: Tensor, order: str) -> Tensor:
    def middle(face: Tensor) -> float:
        return float(face[:, 0].mean())

    if order == "left_to_right":
        ordered = sorted(faces, key=middle)
    else:
        ordered, rest = [], sorted(faces, key=lambda f: -_size(f))
        while rest:  # groups of about equal size, each from left to right
            group = [face for face in rest if _size(face) >= SAME_SIZE * _size(rest[0])]
            rest = rest[len(group) :]
            ordered += sorted(group, key=middle)
    return torch.stack(ordered) if len(faces) else faces


def _checked_index(points_px: Tensor, index: int, order: str, source: str, size: tuple[int, int]) -> int:
    check_range(index, 0, 1000, "face_index")
    if not len(points_px):
        raise NoFaceError(
            f"no face was found in {source} ({size[0]}×{size[1]}). Use a picture with one upright face, eyes and mouth "
            "visible, that fills at least a tenth of the picture's height; drawings must have a face's proportions."
        )
    if index >= len(points_px):
        boxes = face_box_px(points_px)
        faces = "; ".join(
            f"{i}: {b[2] - b[0]:.0f}×{b[3] - b[1]:.0f} pixels around ({(b[0] + b[2]) / 2:.0f}, {(b[1] + b[3]) / 2:.0f})"
            for i, b in enumerate(boxes.tolist())
        )
        how = "largest first" if order == "size" else "from left to right"
        raise NoFaceError(
            f"face_index is {index}, but {source} holds {len(points_px)} face{'s' * (len(points_px) > 1)} "
            f"({how}): {faces}. Choose one of these."
        )
    return index


def _filled(frames: list[Tensor | None], seen: list[int], on_missing: str) -> Tensor:
    points = torch.stack([frames[i] for i in seen])
    at, known = torch.arange(len(frames)), torch.tensor(seen)
    after = torch.searchsorted(known, at).clamp(max=len(seen) - 1)
    before = (torch.searchsorted(known, at, right=True) - 1).clamp(min=0)
    if on_missing != "interpolate":
        return points[before]
    span = (known[after] - known[before]).clamp(min=1)
    share = ((at - known[before]) / span).clamp(0, 1)[:, None, None]
    return torch.lerp(points[before], points[after], share.float())
