"""The face of a portrait, and one face followed through a video, as MediaPipe's 478 landmarks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from fractions import Fraction

import torch
from torch import Tensor

from ...checks import beyond, check_choice, check_range
from ...errors import NoFaceError
from ...memory_map import release_memory
from ...options import option_of
from ...threads import one_torch_thread
from ...types import LandmarkTrack, Portrait
from ..choice import FaceChoice
from ..covered import mouth_covered
from ..eyes import lids_fit
from ..geometry import face_box_px, head_pose, interocular_px
from ..options import FaceOptions
from .backends import BACKENDS, MeshBackend, open_mesh
from .search import ORDERS, detect_any_way_up, detect_faces
from .tracking import Follower, Seen

log = logging.getLogger(__name__)

__all__ = ["BACKENDS", "ORDERS", "MeshBackend", "detect_faces", "find_portrait", "open_mesh", "track_faces"]

ON_MISSING = ("hold", "interpolate", "error")
MIN_INTEROCULAR_PX = 12.0
MAX_INDEX = 1000
ORDER_WORDS = {"size": "largest first", "left_to_right": "from left to right"}
MOST_LISTED = 8  # faces that a warning names
BLOCK = 256  # frames that are scaled at once
TURNED_DEG = 35.0  # of yaw, from which the far side of the face is mostly hidden
ROLLED_DEG = 60.0  # of roll, from which a picture was hardly meant to be so
STILL_FPS = Fraction(25)  # the rate that a portrait's one frame of landmarks is given


def find_portrait(
    picture: Tensor,
    face_index: int | FaceChoice | None = None,
    face_order: str = "size",
    source: str = "portrait",
    mesh: MeshBackend | None = None,
) -> Portrait:
    """The picture with the landmarks of one of its faces.

    Where there are several, a note of the log says which is taken; where nobody said which, a warning lists them.

    Args:
        picture: (H, W, 3) uint8.
        face_index: which face, 0 is the first of `face_order`; or what chooses it; None: the first.
        face_order: see `detect_faces`.
        source: what to call the picture in messages.
        mesh: an open back end; None opens one for this call.

    Raises:
        NoFaceError: no face, none of that index, or one too small to animate.
    """
    if mesh is None:
        with open_mesh() as opened:
            return find_portrait(picture, face_index, face_order, source, opened)
    is_named, face_index = face_index is not None, 0 if face_index is None else face_index
    _check_index(face_index)
    faces = detect_any_way_up(picture, mesh, face_order)
    height, width = picture.shape[:2]
    points_px = faces * torch.tensor([width, height, width], dtype=torch.float32)
    if not len(points_px):
        raise NoFaceError(
            f"no face was found in {source} ({width}×{height} pixels). Use a picture with one upright face, eyes and "
            "mouth visible, that fills at least a tenth of the picture's height; drawings must have a face's "
            "proportions."
        )
    index = face_index if isinstance(face_index, int) else face_index.index(points_px, width, height)
    if index is None or index >= len(points_px):
        raise NoFaceError(_no_such_face(points_px, face_index, face_order, source))
    face_px = points_px[index : index + 1]
    eyes_px = float(interocular_px(face_px)[0])
    if eyes_px < MIN_INTEROCULAR_PX:
        x0, y0, x1, y1 = face_box_px(face_px)[0].tolist()
        raise NoFaceError(
            f"the face in {source} is too small: it measures {x1 - x0:.0f}×{y1 - y0:.0f} of {width}×{height} pixels, "
            f"its eyes are {beyond(eyes_px, MIN_INTEROCULAR_PX, digits=0)} pixels apart, and {MIN_INTEROCULAR_PX:.0f} "
            "are needed. Use a picture that shows the face larger; enlarging this one adds no detail but is accepted."
        )
    landmarks = LandmarkTrack.from_px(face_px, width, height, STILL_FPS)
    if len(points_px) > 1:
        _tell_of_others(points_px, index if is_named else None, face_order, source)
    _warn_of_look(picture, landmarks, source)
    return Portrait(picture, landmarks, source)


def _tell_of_others(points_px: Tensor, named: int | None, order: str, source: str) -> None:
    """Note which of (F, 478, 3) faces was taken; where none was named, warn that it is the first and list them."""
    if named is not None:
        place = _place(points_px[named])
        log.info("face %d of the %d in %s is taken: %s.", named, len(points_px), source, place)
        return
    number, place = (option_of(FaceOptions, name).flag for name in ("face_index", "face"))
    more = len(points_px) - MOST_LISTED
    log.warning(
        "%s holds %d faces, and face 0 is taken, %s: %s%s. To take another one give its number (%s) or its place (%s).",
        source, len(points_px), ORDER_WORDS[order], _listed(points_px[:MOST_LISTED]),
        f"; and {more} more" if more > 0 else "", number, place,
    )  # fmt: skip


def _warn_of_look(picture: Tensor, landmarks: LandmarkTrack, source: str) -> None:
    """Warn of a face that can be animated, but not well."""
    _, yaw_deg, roll_deg = head_pose(landmarks).angles_deg[0].tolist()
    if abs(yaw_deg) > TURNED_DEG:
        log.warning(
            "the face in %s is turned aside by about %.0f°: what it hides is guessed, and the lips may not look right; "
            "a face that looks towards the viewer works best.",
            source,
            abs(yaw_deg),
        )
    if abs(roll_deg) > ROLLED_DEG:
        how = "stands upside down" if abs(roll_deg) > 135 else "lies on its side"
        log.warning("the face in %s %s; if that is not meant, turn the picture upright.", source, how)
    if not lids_fit(picture, landmarks.points_px[0]):
        log.warning("the eyes in %s are drawn larger than a face's: the warp renderer does not let them blink.", source)
    if mouth_covered(picture, landmarks.points_px[0]):
        log.warning(
            "the mouth in %s cannot be seen, something such as a mask, a hand or hair may cover it: the warp renderer "
            "moves only the jaw and paints no lips or teeth. A picture with a free mouth is needed for visible speech.",
            source,
        )


def track_faces(
    pictures: Iterable[Tensor],
    fps: Fraction,
    mesh: MeshBackend | None = None,
    face_index: int | FaceChoice = 0,
    face_order: str = "size",
    on_missing: str = "hold",
    source: str = "video",
    on_face: Callable[[Tensor, Tensor | None], None] | None = None,
) -> LandmarkTrack:
    """Follow one face through a video.

    Args:
        pictures: (H, W, 3) uint8, all of one size; none is kept.
        fps: frames per second of the pictures.
        mesh: an open back end; None opens one for this call.
        face_index: which face of the first picture that shows enough of them; or what chooses it.
        face_order: see `detect_faces`.
        on_missing: what to do with frames without the face: "hold" repeats the last position (before the first sight:
            the first), "interpolate" moves straight from the last to the next, "error" stops.
        source: what to call the video in messages.
        on_face: called with every picture and the face's (478, 3) landmarks in it, pixels, or None.

    Returns:
        One frame per picture; `valid` is False where the face was not seen.

    Raises:
        NoFaceError: the face is in no frame, or `on_missing` is "error" and it is missing somewhere.
    """
    check_choice(on_missing, ON_MISSING, "on_missing")
    _check_index(face_index)
    if mesh is None:
        with open_mesh() as opened:
            return track_faces(pictures, fps, opened, face_index, face_order, on_missing, source, on_face)
    follower = Follower(mesh, face_index, face_order)
    tracked = Seen()
    width = height = 0
    with one_torch_thread():
        for picture in pictures:
            height, width = picture.shape[:2]
            face = follower.see(picture)
            tracked.add(face)
            if on_face is not None:
                on_face(picture, face)
    if follower.is_turned:
        log.warning("the face in %s stands upside down; if that is not meant, turn the film upright.", source)
    valid = tracked.valid
    if not valid.any():
        raise NoFaceError(_never_seen(len(valid), face_index, follower.most, source))
    _check_seen(valid, fps if on_missing == "error" else None, source)
    points = tracked.filled(on_missing)
    size = torch.tensor([width, height, width], dtype=torch.float32)
    for part in points.split(BLOCK):
        part.div_(size)
        release_memory()
    return LandmarkTrack(points, valid, fps, width, height)


def _check_index(face_index: int | FaceChoice) -> None:
    if isinstance(face_index, int | float):
        check_range(face_index, 0, MAX_INDEX, "face_index")


def _never_seen(num_frames: int, face_index: int | FaceChoice, others_px: Tensor, source: str) -> str:
    """Message of a video that shows the face in no frame, and (F, 478, 3) others at once."""
    message = f"no face was found in any of the {num_frames} frames of {source}{_asked_for(face_index)}; "
    if not len(others_px):
        return message + "choose a video with an upright face that looks towards the camera."
    what = "number" if isinstance(face_index, int) else "place"
    return f"{message}what is seen at once is {_listed(others_px)}. Give the {what} of one of these."


def _check_seen(valid: Tensor, strict_fps: Fraction | None, source: str) -> None:
    """Raise where, with the film's rate given, a frame does not show the face."""
    if strict_fps is not None and not valid.all():
        first = int((~valid).int().argmax())
        raise NoFaceError(
            f"{source} shows no face in {int((~valid).sum())} of {len(valid)} frames, the first is frame {first} "
            f"({float(first / strict_fps):.2f} s); cut them out, or let them be filled in by hold or interpolate."
        )


def _asked_for(face_index: int | FaceChoice) -> str:
    if isinstance(face_index, int):
        return f" (face {face_index} was asked for, counting from 0)" if face_index else ""
    return f" ({face_index})"


def _no_such_face(points_px: Tensor, face_index: int | FaceChoice, order: str, source: str) -> str:
    faces = _listed(points_px)
    holds = "1 face" if len(points_px) == 1 else f"{len(points_px)} faces"
    if not isinstance(face_index, int):
        return (
            f"no face was found {face_index} in {source}, which holds {holds}: {faces}. Give a place of one of these."
        )
    holds = f"{holds} ({ORDER_WORDS[order]})"
    return f"face_index is {face_index}, but {source} holds {holds}: {faces}. Choose one of these numbers."


def _listed(faces_px: Tensor) -> str:
    """Numbers and places of (F, 478, 3) faces."""
    return "; ".join(f"{i}: {_place(face_px)}" for i, face_px in enumerate(faces_px))


def _place(face_px: Tensor) -> str:
    """Size and centre of one (478, 3) face."""
    x0, y0, x1, y1 = face_box_px(face_px[None])[0].tolist()
    return f"{x1 - x0:.0f}×{y1 - y0:.0f} pixels around ({(x0 + x1) / 2:.0f}, {(y0 + y1) / 2:.0f})"
