"""One generated video against its true one: every metric that can be measured, in memory that does not grow.

Shapes: T frames of the comparison, at the generated video's rate.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError, MediaError
from ..face import topology as topo
from ..face.mesh.backends import MeshBackend
from ..progress import Progress
from ..types import as_fps
from .align import Offset, clip_loudness, find_offset
from .clip import FollowedClip, ScoredClip, follow_clip
from .face_scores import FaceScores, own_scores
from .identity_scores import IdentityWatch, Likeness, TargetWatch
from .network_scores import SYNC_FPS, SYNC_METRICS, Networks, PictureJudges, sync_scores
from .options import CompareOptions, Shift
from .picture_scores import CROP_PX, Box, Measured, PictureScores, PictureWatchers, compare_pictures
from .result import ScoredRow, curve
from .source import PictureSource, Steps, check_same_shape
from .table import TARGET_PREFIX

USUAL = 0.01  # share of frames whose box may stand out on each side of the crop
Over = Callable[[Iterable[Tensor]], Iterator[Tensor]]
Level = tuple[Tensor | None, str]  # loudness, or why there is none


def compare_clips(
    generated: Path | ScoredClip,
    target: Path | ScoredClip,
    options: CompareOptions | None = None,
    *,
    mesh: MeshBackend,
    likeness: Likeness | None = None,
    networks: Networks | None = None,
    name: str | None = None,
    on_progress: Progress | None = None,
) -> ScoredRow:
    """Measure a generated video against the true one.

    Both are read at the generated frame rate and compared by time from their first pictures on; generated pictures
    are scaled to the target's size. One picture of each is in memory, landmarks are on disk.

    Args:
        generated: video file, or pictures and sound.
        target: the same of the true one.
        options: how.
        mesh: an open face-mesh back end.
        likeness: what compares the generated face with a portrait.
        networks: of LPIPS, FID, FVD and LSE, those that are there.
        name: of the row; None takes the generated video's.
        on_progress: called with steps done and in all; may raise to stop.

    Raises:
        InputError: a file is not a video or holds no picture, different aspect ratios, or nothing is left to compare.
    """
    started, options = time.perf_counter(), options or CompareOptions()
    made, true = _opened(generated, target)
    fps, names = as_fps(made.pictures.fps), (made.pictures.name, true.pictures.name)
    likeness, networks = likeness or Likeness(), networks or Networks()
    progress = Steps(_num_steps((made, true), fps, options, networks), on_progress)
    watch, alike = IdentityWatch(likeness, float(fps)), TargetWatch(likeness, float(fps))
    watchers = PictureWatchers(PictureJudges(networks), alike)
    with ExitStack() as stack:
        ways = (made, lambda items: watch.over(progress.over(items))), (true, progress.over)
        followed = [_followed(clip, fps, mesh, options, over, stack) for clip, over in ways]
        levels = clip_loudness(made), clip_loudness(true)
        offset = find_offset(*followed, levels[0][0], levels[1][0])
        shift = _shift(*followed, offset, options)
        square, box = _face_boxes(followed[1], options)
        faces = FaceScores(*followed, shift, square[2] - square[0] if square else None)
        seen = compare_pictures((made, true), shift, box, faces.distance, options, watchers, progress)
        own = *_own(followed, levels), *_synced((made, true), followed, networks, progress.over), watch.result()
    values, missing = _joined(faces.result(), seen.result(), watchers.judges.result(), alike.result(), *own)
    return ScoredRow(
        *(name or names[0], *names),
        error=_faceless(*followed),
        values=values,
        missing=missing,
        counts=_counts(followed, shift, faces, seen, mesh.name),
        offset=offset,
        notes=tuple(_notes(made.pictures, true.pictures, offset, shift, box, options)),
        fps=float(fps),
        curves=faces.curves | _picture_curves(seen, watchers),
        worst=tuple(seen.worst),
        seconds_taken=time.perf_counter() - started,
    )


def _opened(*given: Path | ScoredClip) -> tuple[ScoredClip, ScoredClip]:
    made, true = (clip if isinstance(clip, ScoredClip) else ScoredClip.of_file(clip) for clip in given)
    check_same_shape(made.pictures, true.pictures, f"{made.pictures.name} and {true.pictures.name}")
    return made, true


def _followed(
    clip: ScoredClip, fps: Fraction, mesh: MeshBackend, options: CompareOptions, over: Over, stack: ExitStack
) -> FollowedClip:
    followed = follow_clip(clip.pictures, fps, mesh, options.face_index, _extra(fps, options), over)
    stack.callback(followed.store.close)
    return followed


def _own(followed: Iterable[FollowedClip], levels: Iterable[Level]) -> Iterator[Measured]:
    """What both videos have by themselves."""
    (made, true), (sound, true_sound) = followed, levels
    yield own_scores(made, *sound)
    yield _of_target(own_scores(true, *true_sound))


def _synced(
    clips: Iterable[ScoredClip], followed: Iterable[FollowedClip], networks: Networks, over: Over
) -> Iterator[Measured]:
    """LSE of both, each with its own sound."""
    made, true = (sync_scores(clip, face, networks, over) for clip, face in zip(clips, followed, strict=True))
    yield from (made, _of_target(true))


def _of_target(measured: Measured) -> Measured:
    """The same under the target's names."""
    return tuple({f"{TARGET_PREFIX}{metric}": found for metric, found in part.items()} for part in measured)


def _picture_curves(seen: PictureScores, watchers: PictureWatchers) -> dict[str, list[float | None]]:
    curves = {"PSNR": curve(seen.psnr), "SSIM": curve(seen.ssim), "identity to target": watchers.faces.curve()}
    return {name: values for name, values in curves.items() if any(value is not None for value in values)}


def _joined(*parts: Measured) -> Measured:
    values: dict[str, float] = {}
    missing: dict[str, str] = {}
    for measured, lacking in parts:
        values |= measured
        for name, reason in lacking.items():  # what neither video has is said once
            if missing.get(name.removeprefix(TARGET_PREFIX)) != reason:
                missing[name] = reason
    return values, missing


def _faceless(made: FollowedClip, true: FollowedClip) -> str | None:
    without = [clip.name for clip in (made, true) if not clip.valid.any()]
    if not without:
        return None
    return f"no face was found in any frame of {' and '.join(without)}: only the pictures could be compared"


def _extra(fps: object, options: CompareOptions) -> int | None:
    """Frames to be followed: some more than are compared, for the offset."""
    return None if options.max_frames is None else options.max_frames + math.ceil(0.5 * float(fps))


def _length(source: PictureSource, fps: object, options: CompareOptions) -> int:
    return max(1, min(math.ceil(source.seconds * float(fps) - 0.02), _extra(fps, options) or 10**9))


def _num_steps(clips: tuple[ScoredClip, ScoredClip], fps: Fraction, options: CompareOptions, networks: Networks) -> int:
    """Pictures that are looked at in all passes, about."""
    made, true = clips
    passes = [(made, fps), (true, fps), (made, fps)]
    if not networks.missing(SYNC_METRICS):
        passes += [(clip, SYNC_FPS) for clip in clips if clip.sound is not None]
    return sum(_length(clip.pictures, rate, options) for clip, rate in passes)


def _shift(made: FollowedClip, true: FollowedClip, offset: Offset, options: CompareOptions) -> Shift:
    lag = offset.frames(made.fps) if options.align else 0
    starts = max(lag, 0), max(-lag, 0)
    count = min(len(made) - starts[0], len(true) - starts[1], options.max_frames or 10**9)
    if count < 1:
        if not len(made) or not len(true):
            raise MediaError(f"{made.name} and {true.name} have no picture in common; one of them holds none.")
        raise InputError(
            f"{made.name} ({made.seconds:.2f} s) and {true.name} ({true.seconds:.2f} s) have no picture in common once "
            f"the offset of {offset.seconds:.2f} s is taken out; compare them without --align."
        )
    return Shift(*starts, count)


def _face_boxes(true: FollowedClip, options: CompareOptions) -> tuple[Box | None, Box | None]:
    """One square around all places of the target's face, and the box that pictures are cut to; None: none."""
    seen = true.valid.nonzero()[:, 0]
    if not len(seen):
        return None, None
    low, high = [], []
    for _, track in true.blocks(seen):
        oval = track.points_px[:, list(topo.FACE_OVAL), :2].double()
        low.append(oval.amin(1))
        high.append(oval.amax(1))
    low, high = torch.cat(low), torch.cat(high)
    least, most = torch.quantile(low, USUAL, 0), torch.quantile(high, 1 - USUAL, 0)
    face = float((high - low).amax(1).median())
    side = float((most - least).max()) + 2 * options.margin * face
    left, top = ((least + most) / 2 - side / 2).tolist()
    square = (left, top, left + side, top + side)
    return square, square if options.crop == "face" else None


def _counts(
    followed: Iterable[FollowedClip], shift: Shift, faces: FaceScores, pictures: PictureScores, mesh: str
) -> dict[str, int | str]:
    made, true = followed
    return {
        "num_frames": shift.count,
        "num_frames_with_face": faces.num_both,
        "num_frames_with_face_generated": int(made.valid.sum()),
        "num_frames_with_face_target": int(true.valid.sum()),
        "num_identical_frames": pictures.num_identical,
        "num_frames_left_over": max(len(made), len(true)) - shift.count,
        "width": pictures.size[0],
        "height": pictures.size[1],
        "fps": f"{made.fps.numerator}/{made.fps.denominator}",
        "landmark_source": mesh,
    }


def _notes(
    made: PictureSource,
    true: PictureSource,
    offset: Offset,
    shift: Shift,
    box: Box | None,
    options: CompareOptions,
) -> Iterator[str]:
    if (made.width, made.height) != (true.width, true.height):
        yield f"generated frames of {made.width}×{made.height} were scaled to {true.width}×{true.height}"
    if made.fps != true.fps:
        yield f"the target of {float(true.fps):g} fps was sampled at {float(made.fps):g} fps"
    if abs(made.seconds - true.seconds) > 1.5 / float(made.fps):
        lengths = f"{made.seconds:.2f} s, the target {true.seconds:.2f} s"
        yield f"the generated video lasts {lengths}: the longer end is left out"
    yield from _offset_notes(made, offset, shift)
    if box is not None:
        at = f"{box[0]:.0f}, {box[1]:.0f} to {box[2]:.0f}, {box[3]:.0f}"
        yield (
            f"PSNR and SSIM see the face only: one square ({at} of {true.width}×{true.height}) around all places of "
            f"the target's face oval and {options.margin:g} of its size beyond, the same in both, scaled to "
            f"{CROP_PX}×{CROP_PX}"
        )
    elif options.crop == "face":
        yield "the target shows no face to crop: PSNR and SSIM see the whole frame"


def _offset_notes(made: PictureSource, offset: Offset, shift: Shift) -> Iterator[str]:
    taken = shift.made - shift.true
    if taken:
        side = "generated" if taken > 0 else "target"
        yield f"the first {abs(taken)} frames of the {side} video were left out to take its offset out (--align)"
    elif offset.frames(made.fps):
        late = "late" if offset.seconds > 0 else "early"
        yield (
            f"the generated video comes {abs(offset.seconds) * 1000:.0f} ms {late} (told by {offset.by}); this was "
            "left as it is and counts in every number; --align takes it out"
        )
    if offset.note:
        yield f"about the offset: {offset.note}"
