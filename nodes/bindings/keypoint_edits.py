"""The edits of Edit Keypoints in their order: rate and length, another face, gains and head, another track."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ...portraittalk_core.errors import InputError
from ...portraittalk_core.face.mesh.landmarks import find_portrait
from ...portraittalk_core.motion import keypoint_edit
from ...portraittalk_core.motion.gain import gain_of_values
from ...portraittalk_core.motion.keypoint_options import KeypointEdit
from ...portraittalk_core.motion.keypoint_regions import KEYPOINTS_OF_REGIONS, MOUTH, ExpressionBasis
from ...portraittalk_core.motion.keypoint_time import at_fps, of_length
from ...portraittalk_core.renderers.implicit.bridges import measured_basis
from ...portraittalk_core.types import KeypointTrack
from . import convert
from .curves import frame_values

if TYPE_CHECKING:
    from .keypoints import KeypointNetworks


def edited(
    track: KeypointTrack,
    edit: KeypointEdit,
    *,
    length: tuple[float, int, str] = (0.0, 0, "ping-pong"),
    carried: tuple[KeypointTrack | None, str] = (None, "relative"),
    mixed: tuple[KeypointTrack | None, tuple[str, ...], float] = (None, (), 1.0),
    gain_curve: object | None = None,
    basis: ExpressionBasis | None = None,
) -> KeypointTrack:
    """A changed track.

    Args:
        track: T frames.
        edit: gains, head, blinks, smoothing.
        length: frame rate and number of frames, each 0 to keep the track's, and how a longer one goes on.
        carried: one frame of the face that is to move, None for none, and how the motion is carried over to it.
        mixed: another track, None for none, which parts of it are taken, and how much of them.
        gain_curve: numbers, one a frame, or a CURVE, that multiply the mouth's gain; None for none.
        basis: regions of the networks, where the layout's keypoints are not known by name.

    Raises:
        InputError: a track of another layout, or numbers out of range.
    """
    fps, num_frames, end = length
    track = at_fps(track, fps) if fps else track
    track = of_length(track, num_frames, end) if num_frames else track
    source, mode = carried
    if source is not None:
        track = keypoint_edit.carry(track, keypoint_edit.first_seen(source), mode=mode)
    if gain_curve is not None:
        gains = edit.mouth_gain * gain_of_values(frame_values(gain_curve, len(track)), len(track))
        track = keypoint_edit.expression_gain(track, gains, MOUTH, basis=basis)
        edit = replace(edit, mouth_gain=1.0)
    track = keypoint_edit.edit_keypoints(track, edit, basis)
    return track if mixed[0] is None else _mixed(track, *mixed, basis)


def _mixed(
    track: KeypointTrack, other: KeypointTrack, parts: tuple[str, ...], share: float, basis: ExpressionBasis | None
) -> KeypointTrack:
    """A track with a share of some parts of another one, which is brought to its rate and length."""
    fitted = of_length(at_fps(other.check_layout(track.layout), track.fps), len(track))
    return keypoint_edit.blended(track, keypoint_edit.composed(track, fitted, parts, basis), share)


def basis_of(networks: KeypointNetworks | None, portrait: object | None) -> ExpressionBasis | None:
    """Regions of networks' keypoints as measured on a portrait; None where no networks are connected, or none need it.

    Raises:
        InputError: there is no portrait to measure on.
    """
    from .progress import face_mesh

    if networks is None or networks.model.layout in KEYPOINTS_OF_REGIONS:
        return None
    if portrait is None:
        raise InputError(
            f"which keypoints of {networks.model.layout} move the mouth must be measured on a face; connect a portrait."
        )
    with face_mesh() as mesh:
        face = find_portrait(convert.to_portrait(portrait), 0, source="the portrait", mesh=mesh)
    with networks.on_device() as model:
        return measured_basis(model, face)
