"""One video, with its true one or without, becomes a score report of a single row."""

from __future__ import annotations

from dataclasses import replace

from ..face.mesh.backends import MeshBackend
from ..progress import Progress
from .clip import ScoredClip
from .compare import compare_clips
from .identity_scores import Likeness
from .many import _warnings
from .network_scores import Networks
from .options import CompareOptions
from .reference_free import score_alone
from .score_report import ScoreBook, environment


def score_one(
    generated: ScoredClip,
    target: ScoredClip | None,
    options: CompareOptions,
    *,
    mesh: MeshBackend,
    likeness: Likeness | None = None,
    networks: Networks | None = None,
    on_progress: Progress | None = None,
) -> ScoreBook:
    """Measure everything that can be measured.

    Args:
        generated: what was made.
        target: what it should be; None measures what needs no ground truth.
        options: how.
        mesh: an open face-mesh back end.
        likeness: what compares the face with a portrait.
        networks: of LPIPS, FID, FVD and LSE, those that are there.
        on_progress: called with steps done and in all; may raise to stop.

    Returns:
        A book of one row, as `report.write_report` takes it.

    Raises:
        InputError: a file is not a video or holds no picture, or pictures of different aspect ratios.
    """
    tools = {"mesh": mesh, "likeness": likeness, "networks": networks, "on_progress": on_progress}
    with _warnings() as heard:
        if target is None:
            row = score_alone(generated, options, **tools)
        else:
            row = compare_clips(generated, target, options, **tools)
    row = replace(row, notes=(*row.notes, *dict.fromkeys(heard)))
    return ScoreBook([row], told_settings(options, target is None), target is None, environment=environment())


def told_settings(options: CompareOptions, alone: bool) -> dict[str, object]:
    """What a report says it was measured with; `alone` without a true video."""
    told: dict[str, object] = {"face": options.face_index, "at most frames": options.max_frames or "all"}
    if alone:
        return told
    told |= {"aligned": f"a leading offset was {'taken out' if options.align else 'told, not taken out'}"}
    if options.crop == "face":
        return told | {"pictures": "face crop", "face crop margin": options.margin}
    return told | {"pictures": "whole frames"}
