"""Ranking of degraded copies of real clips by each metric: original, re-encoded, blurred, shifted in time."""

from __future__ import annotations

import argparse
import itertools
import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from portraittalk_core.checks import check_range
from portraittalk_core.errors import InputError
from portraittalk_core.evaluation.many import EvaluationTools, evaluate_many
from portraittalk_core.evaluation.networks import open_networks
from portraittalk_core.evaluation.options import EvaluationOptions
from portraittalk_core.evaluation.result import plain
from portraittalk_core.evaluation.samples import Sample
from portraittalk_core.face.mesh.landmarks import open_mesh
from portraittalk_core.media.files import atomic_write
from portraittalk_core.media.video_read import probe_video, read_pictures
from portraittalk_core.media.video_write import VideoWriter
from portraittalk_core.metrics.registry import METRICS, measured_metrics
from portraittalk_core.threads import one_torch_thread

from .lipsync_tables import Table, progress, show
from .ordering_claims import (
    BLURRED,
    FAULTS,
    KINDS,
    ORIGINAL,
    REENCODED,
    SHIFTED,
    Clip,
    Damage,
    Verdict,
    growing_means,
    judge,
)
from .ordering_plots import counted, save_growth, save_order

PURPOSE = "whether metrics rank re-encoded, blurred and shifted copies of real clips as they claim to"
LOSSLESS = 0  # crf


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's options."""
    parser.add_argument("--clips", metavar="VIDEO", type=Path, nargs="+", required=True, help="real ones, of faces")
    parser.add_argument("--seconds", metavar="X", type=float, default=3.0, help="of each, from its start")
    parser.add_argument("--out", metavar="DIR", type=Path, help="for copies, scores, ordering.json and pictures")
    parser.add_argument("--crf", type=int, default=30, help="of the re-encoded copy")
    parser.add_argument("--sigma", metavar="PX", type=float, default=2.0, help="of the blurred copy")
    parser.add_argument("--frames", metavar="N", type=int, default=3, help="by which the shifted copy is late")
    parser.add_argument("--quick", action="store_true", help="leave out milder and stronger copies")
    parser.add_argument("--metric-models", metavar="FOLDER", type=Path, help="with SyncNet, LPIPS, Inception or I3D")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Damage, score, print; 1 if a metric does not see what it claims to."""
    damage = Damage.around(args.crf, args.sigma, args.frames, not args.quick)
    check_range(args.seconds, 0.5, 600, "the seconds of each clip")
    networks = open_networks([args.metric_models] if args.metric_models else [])
    with ExitStack() as stack:
        stack.enter_context(one_torch_thread())
        folder = args.out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        tools = EvaluationTools(stack.enter_context(open_mesh()), networks=networks)
        clips = dict(score_clips(args.clips, args.seconds, damage, tools, folder))
    if not clips:
        raise InputError("none of the clips could be scored; give videos that show a face.")
    verdicts = judged(list(clips.values()), damage)
    show(order_table(verdicts, len(clips), damage))
    if damage.levels > 1:
        show(growth_table(verdicts, list(clips.values()), damage))
    _print_unmeasured(verdicts, list(clips.values()))
    if args.out:
        _save(args.out, clips, verdicts, damage)
    failed = {verdict.metric: verdict.failed for verdict in verdicts if verdict.failed}
    for metric, reasons in failed.items():
        print(f"{METRICS[metric].title} fails in what it claims: {', '.join(reasons)}")
    claiming = sum(bool(verdict.claim.sees) for verdict in verdicts)
    print(f"{claiming - len(failed)} of {claiming} metrics that claim to see a fault do, on {counted(len(clips))}")
    return 1 if failed or not claiming else 0


def blurred(picture: Tensor, sigma_px: float) -> Tensor:
    """Gaussian blur of a picture (H, W, 3) uint8 with replicated edges."""
    reach = math.ceil(4 * sigma_px)
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma_px) ** 2)
    taps = taps / taps.sum()
    planes = picture.permute(2, 0, 1)[:, None].float()  # channels as a batch: each is blurred by itself
    planes = F.conv2d(F.pad(planes, (reach, reach, 0, 0), mode="replicate"), taps.view(1, 1, 1, -1))
    planes = F.conv2d(F.pad(planes, (0, 0, reach, reach), mode="replicate"), taps.view(1, 1, -1, 1))
    return planes[:, 0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).contiguous()


def make_copies(clip: Path, seconds: float, damage: Damage, folder: Path) -> dict[tuple[str, int], Path]:
    """Write a clip's beginning and its damaged copies; all lossless but the re-encoded ones, all with its sound."""
    probe = probe_video(clip)
    width, height = probe.width // 2 * 2, probe.height // 2 * 2  # what H.264 can hold without a repeated row
    crfs = {(ORIGINAL, 0): LOSSLESS} | {(REENCODED, k): crf for k, crf in enumerate(damage.crf)}
    crfs |= {(fault, k): LOSSLESS for fault in (BLURRED, SHIFTED) for k in range(damage.levels)}
    folder.mkdir(parents=True, exist_ok=True)
    paths = {(kind, k): folder / f"{kind}_{k}.mp4" for kind, k in crfs}
    sound, late = clip if probe.has_sound else None, _DelayLine(max(damage.frames))
    with ExitStack() as stack:
        writers = {
            key: stack.enter_context(VideoWriter(paths[key], width, height, probe.fps, sound, crf, encoder_threads=1))
            for key, crf in crfs.items()
        }
        for picture in itertools.islice(read_pictures(clip, probe.fps), round(seconds * probe.fps)):
            cut = picture[:height, :width].contiguous()
            late.add(cut)
            for (kind, k), writer in writers.items():
                if kind == BLURRED:
                    writer.write(blurred(cut, damage.sigma_px[k]))
                else:
                    writer.write(late.by(damage.frames[k]) if kind == SHIFTED else cut)
    return paths


class _DelayLine:
    """Delay line of pictures; before the stream's beginning, its first picture."""

    def __init__(self, max_delay: int) -> None:
        self._max_delay, self._pictures = max_delay, []

    def add(self, picture: Tensor) -> None:
        self._pictures = [*(self._pictures or [picture] * self._max_delay), picture][-self._max_delay - 1 :]

    def by(self, frames: int) -> Tensor:
        return self._pictures[-1 - frames]


def score_clips(
    paths: Sequence[Path], seconds: float, damage: Damage, tools: EvaluationTools, folder: Path
) -> Iterator[tuple[str, Clip]]:
    """Names and scores of every clip's copies against their original, as `portraittalk score` measures them.

    A clip of which a copy cannot be scored, such as one without a face, is reported and left out.

    Raises:
        InputError: two clips of one name.
        MediaError: one that cannot be read.
    """
    names = [path.stem for path in paths]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"two clips are named {twice[0]}; rename one.")
    for number, path in enumerate(paths, 1):
        progress(f"clip {number} of {len(paths)}: {path.name} is copied")
        copies = make_copies(path, seconds, damage, folder / "copies" / path.stem)
        items = [Sample(f"{path.stem}, {kind} {k}", copy, copies[ORIGINAL, 0]) for (kind, k), copy in copies.items()]

        def on_progress(done: int, total: int, number: int = number, path: Path = path) -> None:
            progress(f"clip {number} of {len(paths)}: {path.name} is scored, {done / total:.0%}")

        rows = evaluate_many(items, EvaluationOptions(num_worst=0), tools, folder, on_progress)
        progress("")
        if broken := [row for row in rows if row.error]:
            print(f"{path.name} is left out: {broken[0].name} cannot be scored: {broken[0].error}")
            continue
        yield path.stem, dict(zip(copies, rows, strict=True))


def judged(clips: Sequence[Clip], damage: Damage) -> list[Verdict]:
    """Verdicts on all metrics that could be measured."""
    verdicts = (judge(metric, clips, damage.levels) for metric in measured_metrics(reference_free=False))
    return [verdict for verdict in verdicts if verdict]


def order_table(verdicts: Sequence[Verdict], num_clips: int, damage: Damage) -> Table:
    """Table of means, order and claim for each metric."""
    middle = damage.levels // 2
    damage_text = f"crf {damage.crf[middle]}, blur {damage.sigma_px[middle]:g} px, {damage.frames[middle]} frames late"
    header = ["metric", *KINDS, "order", "not worse than the one before", "claims to see", "holds", "clips"]
    rows = []
    for verdict in verdicts:
        wrong = ", ".join(second for _, second in verdict.out_of_order)
        claim = ", ".join(verdict.claim.sees) or "none of them"
        holds = ("no" if verdict.broken else "yes") if verdict.claim.sees else "–"
        clips = f"{verdict.clips_as_claimed}/{verdict.num_clips}" if verdict.claim.sees else "–"
        means = [_number(verdict.means[kind]) for kind in KINDS]
        rows.append([_title(verdict.metric), *means, "no" if wrong else "yes", wrong or "–", claim, holds, clips])
    title = (
        f"{counted(num_clips)}: original > re-encoded > blurred > shifted? "
        f"({damage_text}; Δ: distance from the true video's)"
    )
    return Table(title, header, rows)


def growth_table(verdicts: Sequence[Verdict], clips: Sequence[Clip], damage: Damage) -> Table:
    """Table of the means of growing degradations for each metric, and whether they are monotonic."""
    header = ["metric", *(f"{fault} {_list(damage.strengths(fault))}" for fault in FAULTS)]
    rows = []
    for verdict in verdicts:
        cells = []
        for fault in FAULTS:
            means = growing_means(verdict.metric, clips, fault, damage.levels)[1:]
            claimed = " *" if fault in verdict.claim.sees else ""
            word = "grows" if verdict.grows[fault] else "does not"
            cells.append(f"{' → '.join(map(_number, means))} {word}{claimed}")
        rows.append([_title(verdict.metric), *cells])
    return Table(
        "growing faults: is each worse than the one before, and the mildest than none? (*: claimed)", header, rows
    )


def _title(metric: str) -> str:
    definition = METRICS[metric]
    return f"{definition.title.partition(' (')[0]}{' Δ' if definition.better == 'target' else ''}"


def _number(value: float) -> str:
    if math.isinf(value):
        return "∞"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _print_unmeasured(verdicts: Sequence[Verdict], clips: Sequence[Clip]) -> None:
    reasons: dict[str, list[str]] = {}
    for metric in measured_metrics(reference_free=False).keys() - {verdict.metric for verdict in verdicts}:
        missing = next((row.missing[metric] for clip in clips for row in clip.values() if metric in row.missing), "")
        reasons.setdefault(missing or "not measured on these clips", []).append(METRICS[metric].title)
    for reason, titles in sorted(reasons.items()):
        print(f"{', '.join(sorted(titles))}: {reason}")
    if blind := [_title(verdict.metric) for verdict in verdicts if not verdict.claim.sees]:
        print(f"claim to see none of the three: {', '.join(blind)}")


def _save(folder: Path, clips: Mapping[str, Clip], verdicts: Sequence[Verdict], damage: Damage) -> None:
    content = {
        "damage": asdict(damage),
        "clips": {
            name: {f"{kind} {k}": {m: plain(v) for m, v in row.values.items()} for (kind, k), row in clip.items()}
            for name, clip in clips.items()
        },
        "metrics": [
            asdict(verdict) | {"means": {k: plain(v) for k, v in verdict.means.items()}, "failed": verdict.failed}
            for verdict in verdicts
        ],
    }
    with atomic_write(folder / "ordering.json") as part:
        part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    paths = [folder / "ordering.json", save_order(verdicts, clips, damage, folder / "ordering.png")]
    if damage.levels > 1:
        paths.append(save_growth(verdicts, clips, damage, folder / "growing.png"))
    print("\n".join(map(str, paths)))
