"""Evaluator: metrics of one video, reference-free or against its target.

Shapes: T frames of the comparison, at the generated video's rate.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from torch import Tensor

from ..errors import InputError, MediaError
from ..face.mesh.backends import MeshBackend, open_mesh
from ..metrics.registry import FACE_ENCODER, METRICS, TARGET_PREFIX, measured_metrics
from ..progress import Progress
from ..types import as_fps
from .align import MAX_OFFSET_S, Offset, find_offset, pair_frames
from .clip import ROUNDING, EvaluationClip, TrackedClip
from .compare import CROP_PX, FaceCrop, PairScores, face_crop, measure_pair
from .identity import IdentityReference, encoder_reference
from .meters import Measured
from .networks import Networks
from .options import EvaluationOptions, FramePairing
from .reference_free import CROP_FPS, measure_single, merged, single_curves
from .result import EvaluationResult, curve
from .setup import Setup
from .source import Steps, check_same_shape

IDENTITY_METRICS = frozenset(name for name, metric in METRICS.items() if FACE_ENCODER in metric.needs)


def evaluate(
    generated: Path | EvaluationClip,
    target: Path | EvaluationClip | None = None,
    options: EvaluationOptions | None = None,
    *,
    mesh: MeshBackend | None = None,
    identity: IdentityReference | None = None,
    networks: Networks | None = None,
    name: str | None = None,
    on_progress: Progress | None = None,
) -> EvaluationResult:
    """Measure the registry's metrics on a generated video, against the target if there is one.

    Both are sampled at the generated frame rate and compared by time from their first pictures on; generated pictures
    are scaled to the target's size. One picture of each is in memory, landmarks are on disk.

    Args:
        generated: video file, pictures and sound, or a landmark track.
        target: the same of the true one; None measures what needs no ground truth.
        options: how.
        mesh: an open face-mesh back end; None opens one for this call, where there are pictures.
        identity: what compares faces, and who the portrait shows; None: dlib's descriptor, without a portrait.
        networks: of LPIPS, FID, FVD and LSE, those that are there.
        name: of the result; None takes the generated video's.
        on_progress: called with steps done and in all; may raise to stop.

    Raises:
        InputError: a file is not a video or holds no picture, a track beside pictures, different aspect ratios, or
            nothing is left to compare.
    """
    started, options = time.perf_counter(), options or EvaluationOptions()
    sources = [generated] if target is None else [generated, target]
    clips = [clip if isinstance(clip, EvaluationClip) else EvaluationClip.of_file(clip) for clip in sources]
    _check_clips(clips)
    metrics = measured_metrics(target is None, options.metrics)
    with ExitStack() as files, _captured_warnings() as warnings:
        if mesh is None and clips[0].pictures is not None:
            mesh = files.enter_context(open_mesh())
        if identity is None:
            identity = IdentityReference() if mesh is None else encoder_reference(None, mesh)
        setup = Setup(options, metrics, mesh, identity, networks or Networks(), paired=target is not None)
        steps = Steps(_num_steps(clips, setup), on_progress)
        measure = _evaluate_single if target is None else _evaluate_pair
        result = measure(clips, setup, steps, files)
    network = identity.network if IDENTITY_METRICS & result.values.keys() else ""
    counts = result.counts | ({"face_encoder": network} if network else {})
    notes = (*result.notes, *_identity_notes(network, identity.note), *dict.fromkeys(warnings))
    seconds = time.perf_counter() - started
    return replace(result, name=name or result.name, counts=counts, notes=notes, seconds_taken=seconds)


def _identity_notes(network: str, note: str) -> Iterator[str]:
    if note:
        yield note
    if network:
        yield f"identity was measured by {network}; its numbers compare with those of the same network only"


def _check_clips(clips: list[EvaluationClip]) -> None:
    if len({clip.pictures is None for clip in clips}) > 1:
        raise InputError(
            "a landmark track can only be compared with another track; track the landmarks of the other video first."
        )
    check_same_shape([clip.name for clip in clips], *(clip.size for clip in clips))


def _evaluate_single(clips: list[EvaluationClip], setup: Setup, steps: Steps, files: ExitStack) -> EvaluationResult:
    (clip,) = clips
    scores = measure_single(clip, as_fps(clip.fps), setup.options.max_frames, setup, files, steps.over)
    tracked = scores.tracked
    if not len(tracked):
        raise MediaError(f"{clip.name} holds no picture; export it again.")
    faceless = f"no face was found in any of the {len(tracked)} frames"
    return EvaluationResult(
        clip.name,
        clip.name,
        None,
        error=None if tracked.valid.any() else faceless,
        values=scores.values,
        missing=scores.missing,
        counts={
            "num_frames": len(tracked),
            "num_frames_with_face": int(tracked.valid.sum()),
            "width": tracked.width,
            "height": tracked.height,
            **_common_counts(tracked, clip, setup),
        },
        fps=float(tracked.fps),
        curves=single_curves(tracked) | _shown_curves(scores.curves),
    )


def _evaluate_pair(clips: list[EvaluationClip], setup: Setup, steps: Steps, files: ExitStack) -> EvaluationResult:
    generated, target = clips
    fps, options = as_fps(generated.fps), setup.options
    max_frames = _num_tracked(fps, options)
    singles = [
        measure_single(clip, fps, max_frames, setup, files, steps.over, of_target=bool(k))
        for k, clip in enumerate(clips)
    ]
    tracked = tuple(single.tracked for single in singles)
    offset = find_offset(*tracked)
    pairing = pair_frames(*tracked, offset, options.align, options.max_frames)
    crop = face_crop(tracked[1], options)
    pair = measure_pair(tuple(clips), tracked, pairing, crop, setup, steps)
    results = [(single.values, single.missing) for single in singles]
    values, missing = merged((pair.values, pair.missing), results[0], _of_target(*results[1], results[0][1]))
    return EvaluationResult(
        generated.name,
        generated.name,
        target.name,
        error=_faceless(*tracked),
        values=values,
        missing=missing,
        counts=_pair_counts(tracked, pairing, pair) | _common_counts(tracked[0], generated, setup),
        offset=offset,
        notes=tuple(_notes(generated, target, offset, pairing, crop, options)),
        fps=float(fps),
        curves=_mouth_curves(tracked, pairing) | _shown_curves(_paired(singles[0].curves, pairing) | pair.curves),
        worst=pair.worst,
    )


def _of_target(values: Mapping[str, float], missing: Mapping[str, str], generated: Mapping[str, str]) -> Measured:
    """The target's values under prefixed names; reasons equal to the generated video's are left out."""
    reasons = {TARGET_PREFIX + name: reason for name, reason in missing.items() if generated.get(name) != reason}
    return {TARGET_PREFIX + name: value for name, value in values.items()}, reasons


def _faceless(*tracked: TrackedClip) -> str | None:
    without = [clip.name for clip in tracked if not clip.valid.any()]
    if not without:
        return None
    return f"no face was found in any frame of {' and '.join(without)}: only the pictures could be compared"


def _num_tracked(fps: Fraction, options: EvaluationOptions) -> int | None:
    """Maximum of frames to track: those compared, and a margin for the offset."""
    return None if options.max_frames is None else options.max_frames + math.ceil(MAX_OFFSET_S * float(fps))


def _num_steps(clips: list[EvaluationClip], setup: Setup) -> int:
    """Approximate number of pictures read in all passes."""
    fps, max_frames = as_fps(clips[0].fps), setup.options.max_frames
    tracked_s = math.inf if max_frames is None else max_frames / float(fps) + (MAX_OFFSET_S if len(clips) > 1 else 0)
    with_pictures = [clip for clip in clips if clip.pictures is not None]
    passes = [(clip, fps, tracked_s) for clip in with_pictures]
    if setup.crops_faces:
        passes += [(clip, CROP_FPS, tracked_s) for clip in with_pictures if clip.sound is not None]
    if len(with_pictures) > 1:
        shorter = min(with_pictures, key=lambda clip: clip.seconds)
        passes.append((shorter, fps, math.inf if max_frames is None else max_frames / float(fps)))
    limited = [min(clip.num_frames(rate), limit_s * float(rate)) for clip, rate, limit_s in passes]
    return sum(math.ceil(count - ROUNDING) for count in limited)


def _common_counts(tracked: TrackedClip, clip: EvaluationClip, setup: Setup) -> dict[str, int | str]:
    source = "given" if clip.pictures is None else setup.mesh.name
    return {"fps": f"{tracked.fps.numerator}/{tracked.fps.denominator}", "landmark_source": source}


def _pair_counts(
    tracked: tuple[TrackedClip, TrackedClip], pairing: FramePairing, pair: PairScores
) -> dict[str, int | str]:
    generated, target = tracked
    return {
        "num_frames": pairing.num_frames,
        "num_frames_with_face": pair.num_with_face,
        "num_frames_with_face_generated": int(generated.valid.sum()),
        "num_frames_with_face_target": int(target.valid.sum()),
        "num_identical_frames": pair.num_identical,
        "num_frames_left_over": max(len(generated), len(target)) - pairing.num_frames,
        "width": pair.size[0],
        "height": pair.size[1],
    }


def _mouth_curves(tracked: tuple[TrackedClip, TrackedClip], pairing: FramePairing) -> dict[str, list[float | None]]:
    starts = {"generated": pairing.generated_start, "target": pairing.target_start}
    return {
        f"mouth opening, {side}": curve(clip.curves.mouth_open[start : start + pairing.num_frames])
        for clip, (side, start) in zip(tracked, starts.items(), strict=True)
    }


def _paired(curves: Mapping[str, Tensor], pairing: FramePairing) -> dict[str, Tensor]:
    """The generated video's curves over the paired frames."""
    start = pairing.generated_start
    return {name: values[start : start + pairing.num_frames] for name, values in curves.items()}


def _shown_curves(curves: Mapping[str, Tensor]) -> dict[str, list[float | None]]:
    """The metrics' curves by their names in reports."""
    return {METRICS[name].curve: curve(values) for name, values in curves.items() if METRICS[name].curve}


def _notes(
    generated: EvaluationClip,
    target: EvaluationClip,
    offset: Offset,
    pairing: FramePairing,
    crop: FaceCrop,
    options: EvaluationOptions,
) -> Iterator[str]:
    sizes = [f"{width}×{height}" for width, height in (generated.size, target.size)]
    if sizes[0] != sizes[1]:
        yield f"generated frames of {sizes[0]} were scaled to {sizes[1]}"
    if generated.fps != target.fps:
        yield f"the target of {float(target.fps):g} fps was sampled at {float(generated.fps):g} fps"
    if abs(generated.seconds - target.seconds) > 1.5 / float(generated.fps):
        lengths = f"{generated.seconds:.2f} s, the target {target.seconds:.2f} s"
        yield f"the generated video lasts {lengths}: the longer end is left out"
    yield from _offset_notes(generated, offset, pairing)
    if crop.cuts:
        box = crop.square
        at = f"{box[0]:.0f}, {box[1]:.0f} to {box[2]:.0f}, {box[3]:.0f}"
        yield (
            f"PSNR and SSIM see the face only: one square ({at} of {sizes[1]}) around all places of the target's face "
            f"oval and {options.margin:g} of its size beyond, the same in both, scaled to {CROP_PX}×{CROP_PX}"
        )
    elif options.crop == "face":
        yield "the target shows no face to crop: PSNR and SSIM see the whole frame"


def _offset_notes(generated: EvaluationClip, offset: Offset, pairing: FramePairing) -> Iterator[str]:
    taken = pairing.generated_start - pairing.target_start
    if taken:
        side = "generated" if taken > 0 else "target"
        yield f"the first {abs(taken)} frames of the {side} video were left out to take its offset out (--align)"
    elif offset.frames(generated.fps):
        late = "late" if offset.seconds > 0 else "early"
        yield (
            f"the generated video comes {abs(offset.seconds) * 1000:.0f} ms {late} (found by {offset.by}); this was "
            "left as it is and counts in every number; --align takes it out"
        )
    if offset.note:
        yield f"about the offset: {offset.note}"


class _WarningTexts(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage().rstrip(". "))


@contextmanager
def _captured_warnings() -> Iterator[list[str]]:
    """Collect the library's warnings, such as of a truncated file, for the report."""
    logger, handler = logging.getLogger(__package__.rpartition(".")[0]), _WarningTexts()
    logger.addHandler(handler)
    try:
        yield handler.texts
    finally:
        logger.removeHandler(handler)
