"""One video by itself: what can be told without its ground truth."""

from __future__ import annotations

import math
import time
from pathlib import Path

from torch import Tensor

from ..errors import MediaError
from ..face.mesh.backends import MeshBackend
from ..progress import Progress
from ..types import as_fps
from .align import clip_loudness
from .clip import FollowedClip, ScoredClip, follow_clip
from .face_scores import level_per_frame, own_scores
from .identity_scores import IdentityWatch, Likeness
from .network_scores import SYNC_FPS, SYNC_METRICS, Networks, sync_scores
from .options import CompareOptions
from .result import ScoredRow, curve
from .source import Steps


def score_alone(
    video: Path | ScoredClip,
    options: CompareOptions | None = None,
    *,
    mesh: MeshBackend,
    likeness: Likeness | None = None,
    networks: Networks | None = None,
    name: str | None = None,
    on_progress: Progress | None = None,
) -> ScoredRow:
    """Measure a video without its ground truth: sync with its own sound, jitter, blinks, head motion, identity.

    Args:
        video: file, or pictures and sound.
        options: face index and number of frames count here.
        mesh: an open face-mesh back end.
        likeness: what compares the face with a portrait.
        networks: SyncNet, if it is there.
        name: of the row; None takes the video's.
        on_progress: called with steps done and in all; may raise to stop.

    Raises:
        MediaError: not a video, or without a picture.
    """
    started, options = time.perf_counter(), options or CompareOptions()
    clip = video if isinstance(video, ScoredClip) else ScoredClip.of_file(video)
    fps = as_fps(clip.pictures.fps)
    length = max(1, min(math.ceil(clip.pictures.seconds * float(fps) - 0.02), options.max_frames or 10**9))
    watch = IdentityWatch(likeness or Likeness(), float(fps))
    networks = networks or Networks()
    synced = not networks.missing(SYNC_METRICS) and clip.sound is not None
    steps = Steps(length + synced * math.ceil(length / fps * SYNC_FPS), on_progress)
    followed = follow_clip(
        clip.pictures, fps, mesh, options.face_index, options.max_frames, lambda items: watch.over(steps.over(items))
    )
    try:
        if not len(followed):
            raise MediaError(f"{clip.pictures.name} holds no picture; export it again.")
        level, silent_because = clip_loudness(clip)
        values, missing = own_scores(followed, level, silent_because)
        sync, no_sync = sync_scores(clip, followed, networks, steps.over)
        identity, lacking = watch.result()
        curves = own_curves(followed, level) | ({"identity": watch.curve()} if identity else {})
    finally:
        followed.store.close()
    return ScoredRow(
        name or clip.pictures.name,
        clip.pictures.name,
        None,
        error=None if followed.valid.any() else f"no face was found in any of the {len(followed)} frames",
        values=values | sync | identity,
        missing=missing | no_sync | lacking,
        counts=_counts(followed, mesh.name),
        fps=float(fps),
        curves=curves,
        seconds_taken=time.perf_counter() - started,
    )


def own_curves(clip: FollowedClip, level: Tensor | None) -> dict[str, list[float | None]]:
    """What a report draws over time of one video."""
    turn = clip.angles_deg[1:] - clip.angles_deg[:-1]
    found = {
        "mouth, standardised": clip.mouth_open.double(),
        "eye opening": clip.eye_open.double(),
        "head speed": turn.double().norm(dim=1) * float(clip.fps),
        "picture change": clip.change,
    }
    if level is not None:
        found["sound, standardised"] = _standard(level_per_frame(level, len(clip), float(clip.fps)))
    found["mouth, standardised"] = _standard(found["mouth, standardised"])
    return {name: curve(values) for name, values in found.items() if len(values) and not values.isnan().all()}


def _standard(values: Tensor) -> Tensor:
    known = values[~values.isnan()]
    if len(known) < 2:
        return values
    return (values - known.mean()) / known.std().clamp(min=1e-9)


def _counts(clip: FollowedClip, mesh: str) -> dict[str, int | str]:
    return {
        "num_frames": len(clip),
        "num_frames_with_face": int(clip.valid.sum()),
        "width": clip.width,
        "height": clip.height,
        "fps": f"{clip.fps.numerator}/{clip.fps.denominator}",
        "landmark_source": mesh,
    }
