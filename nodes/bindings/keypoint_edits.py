"""The edits of Edit Keypoints in their order: rate and length, another face, gains and head, another track."""

from __future__ import annotations

from dataclasses import replace

from ...portraittalk_core.motion import keypoint_edit
from ...portraittalk_core.motion.gain import gain_of_values
from ...portraittalk_core.motion.keypoint_options import KeypointEdit
from ...portraittalk_core.motion.keypoint_regions import MOUTH
from ...portraittalk_core.motion.keypoint_time import at_fps, of_length
from ...portraittalk_core.types import KeypointTrack


def edited(
    track: KeypointTrack,
    edit: KeypointEdit,
    *,
    length: tuple[float, int, str] = (0.0, 0, "ping-pong"),
    carried: tuple[KeypointTrack | None, str] = (None, "relative"),
    mixed: tuple[KeypointTrack | None, tuple[str, ...], float] = (None, (), 1.0),
    gain_curve: object | None = None,
) -> KeypointTrack:
    """A changed track.

    Args:
        track: T frames.
        edit: gains, head, blinks, smoothing.
        length: frame rate and number of frames, each 0 to keep the track's, and how a longer one goes on.
        carried: one frame of the face that is to move, None for none, and how the motion is carried over to it.
        mixed: another track, None for none, which parts of it are taken, and how much of them.
        gain_curve: numbers, one a frame, that multiply the mouth's gain; None for none.

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
        gains = edit.mouth_gain * gain_of_values(gain_curve, len(track))
        track = keypoint_edit.expression_gain(track, gains, MOUTH)
        edit = replace(edit, mouth_gain=1.0)
    track = keypoint_edit.edit_keypoints(track, edit)
    other, parts, share = mixed
    return track if other is None else _mixed(track, other, parts, share)


def _mixed(track: KeypointTrack, other: KeypointTrack, parts: tuple[str, ...], share: float) -> KeypointTrack:
    """A track with a share of some parts of another one, which is brought to its rate and length."""
    fitted = of_length(at_fps(other.check_layout(track.layout), track.fps), len(track))
    return keypoint_edit.blended(track, keypoint_edit.composed(track, fitted, parts), share)
