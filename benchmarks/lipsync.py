"""Lip-sync correlation of the built-in engine on real clips, with baselines in the same run.

Also its speed from sound to landmarks, and that its memory does not grow with the clip.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from portraittalk_core.engines.builtin.engine import plan_motion
from portraittalk_core.engines.builtin.mouth import predict_mouth
from portraittalk_core.errors import InputError
from portraittalk_core.face.geometry import interocular_px, jaw_drop, mouth_open, mouth_width
from portraittalk_core.media.csv_line import csv_line
from portraittalk_core.metrics.landmark_distance import MOUTH_POINTS
from portraittalk_core.metrics.lip_sync import MIN_FRAMES, affine_error, lip_correlation, shift_error
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.motion.rig import plan_landmarks
from portraittalk_core.speech.mel import log_mel
from portraittalk_core.types import LandmarkTrack

from . import lipsync_speed
from .lipsync_baselines import Prediction, Predictor, Ridge, find_rhubarb, rhubarb_predictors, simple_predictors
from .lipsync_clips import Clip, in_one_pose, load_clips, neutral_face
from .lipsync_grid import closures_table, load_grid
from .lipsync_tables import Table, progress, show, to_markdown
from .lipsync_training import fitted_table, held_out_table, live

PURPOSE = "how well lips follow speech on a folder of real clips, beside baselines; --speed: how fast, in what memory"
OURS, OURS_LIVE, OURS_DRAWN = "ours, curves", "ours, live", "ours, drawn on a neutral face"
FAILED = 0.2  # r at the best lag; a single clip's r below about this may be chance

MUST_BEST, MUST_ZERO, MUST_WORST, MUST_JAW, MUST_CPU = 0.45, 0.42, 0.10, 0.40, 0.02
GOAL_BEST, GOAL_ZERO, GOAL_WORST, GOAL_JAW, GOAL_CPU = 0.53, 0.54, 0.35, 0.45, 0.005


@dataclass(frozen=True)
class Row:
    """Scores of one predictor on one clip; None where it predicts nothing."""

    clip: str
    predictor: str
    r_best: float | None  # gap, best lag within ±2 frames
    lag: int | None  # frames the prediction is moved later there
    r_zero: float | None  # gap
    r_jaw: float | None  # jaw drop, zero lag
    r_width: float | None  # mouth width, zero lag
    gap_error: float  # inter-ocular distances, after the clip's best scale and offset
    cpu: float  # processor seconds per second of sound, mel included


@dataclass(frozen=True)
class LandmarkRow:
    """Mean distance of 40 mouth landmarks from the true ones on one clip, in inter-ocular distances."""

    clip: str
    fitted: float  # after the clip's best scale of all shifts and offset of each landmark
    fitted_still: float  # the same of a mouth that does not move
    plain: float  # as the engine draws it from the clip's most closed frame
    plain_still: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's options."""
    parser.add_argument("--clips", type=Path, metavar="FOLDER", help="<clip>.mp4, <clip>.wav, gt/<clip>.npz if known")
    parser.add_argument("--out", type=Path, metavar="FILE", help=".md: the tables; .csv: every clip and predictor")
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="the mouth network's weights, not those in the box"
    )
    parser.add_argument("--rhubarb", metavar="PATH", help="Rhubarb Lip Sync's executable (else sought on PATH)")
    parser.add_argument("--speakers", type=Path, metavar="FILE", help="JSON of clip: speaker, or CSV of file, speaker")
    parser.add_argument(
        "--trained-on", nargs="*", default=[], metavar="PREFIX", help="beginnings of clips ours was trained on"
    )
    parser.add_argument("--landmarks", action="store_true", help="also the mouth landmarks' error (tracks the videos)")
    parser.add_argument("--tracks", type=Path, metavar="FOLDER", help="where to keep tracked faces for the next run")
    parser.add_argument(
        "--grid", type=Path, metavar="FOLDER", help="closures on aligned words: GRID's .align and sounds"
    )
    parser.add_argument("--failures", action="store_true", help=f"list the clips on which ours has r below {FAILED}")
    parser.add_argument("--speed", action="store_true", help="speed and memory on 60 and 600 s of speech")
    parser.add_argument("--held-out", action="store_true", help="synthesised speakers that no training heard")
    parser.add_argument("--fit", action="store_true", help="the gain of fitting to the other speakers of the clips")
    parser.add_argument("--measure-speed", type=int, help=argparse.SUPPRESS)  # what a child process does
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print, write, and return 1 if a must is missed."""
    if args.measure_speed:
        return lipsync_speed.run_child(args.measure_speed)
    if not (args.clips or args.speed or args.held_out or args.grid):
        _shout("nothing to measure: give --clips FOLDER, --grid FOLDER, or --speed.")
        return 2
    torch.set_num_threads(1)
    tables, rows, missed = [], [], 0
    if args.clips:
        try:
            clips = load_clips(args.clips, args.speakers, args.landmarks, args.tracks, _shout)
        except InputError as error:
            _shout(str(error))
            return 2
        rows = measure(clips, predictors_for(clips, args.rhubarb, args.weights))
        trained_on = tuple(args.trained_on)
        goals, missed = _goals(rows, trained_on)
        tables += [*_summaries(rows, trained_on), goals, _by_clip(rows, clips, trained_on)]
        tables += [fitted_table(clips, args.weights)] if args.fit else []
        tables += [_failures(rows, clips, args.weights)] if args.failures else []
        if args.landmarks:
            tables.append(_landmark_table([landmark_error(clip, args.weights) for clip in clips]))
    if args.grid:
        try:
            tables.append(closures_table(load_grid(args.grid), args.weights, args.landmarks, args.tracks))
        except InputError as error:
            _shout(str(error))
            return 2
    if args.held_out:
        tables.append(held_out_table(args.weights))
    if args.speed:
        table, too_slow = lipsync_speed.measure_in_children()
        tables += [table, lipsync_speed.live_table()]
        missed += too_slow
    for table in tables:
        show(table)
    if args.out:
        _write(args.out, tables, rows)
    return int(missed > 0)


def predictors_for(clips: list[Clip], rhubarb: str | None = None, weights: Path | None = None) -> list[Predictor]:
    """All available predictors; those that are not are reported on stderr."""
    predictors = simple_predictors()
    executable = find_rhubarb(rhubarb)
    if executable:
        predictors += rhubarb_predictors(executable)
    else:
        what = f"{rhubarb} is no executable" if rhubarb else "there is no rhubarb on PATH"
        _shout(f"RHUBARB IS NOT MEASURED: {what}. Get Rhubarb Lip Sync 1.13 or later and give --rhubarb PATH.")
    if len({clip.speaker for clip in clips}) > 1:
        predictors.append(Ridge(clips).predictor())
    else:
        _shout("RIDGE REGRESSION IS NOT MEASURED: it needs clips of at least two speakers (see --speakers).")
    return [*predictors, *our_predictors(weights)]


def our_predictors(weights: Path | None = None) -> list[Predictor]:
    """Predictors of the built-in engine: its mouth curves, live ones, and the lips of a neutral face."""
    network = (weights,) if weights else ()

    def curves(clip: Clip) -> Prediction:
        mouth = predict_mouth(clip.speech, MotionOptions(fps=clip.fps), *network)
        return Prediction(mouth.parting, mouth.width, mouth.jaw)

    def landmark_lips(clip: Clip) -> Prediction:
        track = speak(clip, neutral_face(), weights)
        return Prediction(mouth_open(track), mouth_width(track), jaw_drop(track))

    return [
        Predictor(OURS, curves),
        Predictor(OURS_LIVE, lambda clip: live(clip, weights)),
        Predictor(OURS_DRAWN, landmark_lips),
    ]


def speak(clip: Clip, reference: LandmarkTrack, weights: Path | None = None) -> LandmarkTrack:
    """The landmark track of a face that speaks a clip, without head motion and blinks."""
    options = MotionOptions(fps=clip.fps, head_motion=0, blink_rate=0)
    return plan_landmarks(plan_motion(clip.speech, reference, options, *((weights,) if weights else ())))


def measure(clips: list[Clip], predictors: list[Predictor]) -> list[Row]:
    """Scores of every predictor on every clip, after a warm-up on the first clip."""
    rows = []
    for predictor in predictors:
        predictor.predict(clips[0])
        for number, clip in enumerate(clips, 1):
            progress(f"{predictor.name}: {number}/{len(clips)} {clip.name}")
            rows.append(score(clip, predictor))
    progress("")
    return rows


def score(clip: Clip, predictor: Predictor) -> Row:
    """Scores of one predictor on one clip."""
    started = lipsync_speed.processor_s()
    prediction = predictor.predict(clip)
    cpu = (lipsync_speed.processor_s() - started) / clip.speech.seconds
    num = min(len(prediction.gap), len(clip))  # the sound may be a frame longer than the video
    valid = clip.valid[:num]

    def correlate(predicted: torch.Tensor | None, true: torch.Tensor) -> float | None:
        return None if predicted is None else lip_correlation(predicted[:num], true[:num], valid).r_zero

    error = affine_error(prediction.gap[:num], clip.gap[:num], valid)
    if predictor.constant:
        return Row(clip.name, predictor.name, None, None, None, None, None, error, cpu)
    correlation = lip_correlation(prediction.gap[:num], clip.gap[:num], valid)
    jaw = correlate(prediction.gap if prediction.jaw is None else prediction.jaw, clip.jaw)
    width = correlate(prediction.width, clip.width)
    r_best, lag, r_zero = correlation.r_best, correlation.lag, correlation.r_zero
    return Row(clip.name, predictor.name, r_best, lag, r_zero, jaw, width, error, cpu)


def landmark_error(clip: Clip, weights: Path | None = None) -> LandmarkRow:
    """Landmark error of the built-in engine's lips on the clip's most closed frame, poses aligned."""
    valid_gap = torch.where(clip.valid, clip.gap, torch.inf)[: len(clip.track)]
    closed = int(valid_gap.argmin())
    reference = clip.track.slice(closed, closed + 1)
    track = speak(clip, reference, weights)
    num = min(len(track), len(clip.track))
    lips, rest = list(MOUTH_POINTS), reference.points_px[0].double()
    unit = float(interocular_px(rest[None])[0])
    true = ((in_one_pose(clip.track, rest)[:num] - rest)[:, lips, :2]) / unit
    ours = (track.points_px[:num].double() - rest)[:, lips, :2] / unit
    valid, still = clip.valid[:num], torch.zeros_like(true)
    return LandmarkRow(
        clip.name,
        fitted=shift_error(ours, true, valid),
        fitted_still=shift_error(still, true, valid),
        plain=float((ours - true)[valid].norm(dim=-1).mean()),
        plain_still=float(true[valid].norm(dim=-1).mean()),
    )


def _summaries(rows: list[Row], trained_on: tuple[str, ...]) -> list[Table]:
    unseen_rows = [row for row in rows if not row.clip.startswith(trained_on)]
    num, num_others = (len({row.clip for row in part}) for part in (rows, unseen_rows))
    tables = [_summary(f"All {num} clips (mean / median)", rows)]
    if 0 < num_others < num:
        left_out = (
            f"the {num - num_others} named {' '.join(f'{name}*' for name in trained_on)}, whose speakers ours may know"
        )
        tables.append(_summary(f"{num_others} clips: without {left_out}", unseen_rows))
    return tables


def _summary(title: str, rows: list[Row]) -> Table:
    header = ["predictor", "r, ±2 frames", "r, zero lag", "worst r, zero lag", "jaw r", "width r", "gap error"]
    body = []
    for name in dict.fromkeys(row.predictor for row in rows):
        predictor_rows = [row for row in rows if row.predictor == name]
        columns = ("r_best", "r_zero", "r_jaw", "r_width")
        both = [_both(getattr(row, column) for row in predictor_rows) for column in columns]
        worst = _number(min((row.r_zero for row in predictor_rows if row.r_zero is not None), default=None))
        cpu = f"{statistics.mean(row.cpu for row in predictor_rows):.4f}"
        body.append([name, *both[:2], worst, *both[2:], _both(row.gap_error for row in predictor_rows), cpu])
    return Table(title, [*header, "CPU s per s"], body)


def _goals(rows: list[Row], trained_on: tuple[str, ...]) -> tuple[Table, int]:
    """Our scores on unseen speakers against the targets of `docs/design/lipsync.md` 1, and the number missed."""
    all_own = [row for row in rows if row.predictor in (OURS, OURS_DRAWN)]
    unknown = [row for row in all_own if not row.clip.startswith(trained_on)] or all_own
    curve_rows, landmark_rows = ([row for row in unknown if row.predictor == name] for name in (OURS, OURS_DRAWN))
    mean = statistics.mean
    targets = [
        ("r, ±2 frames, mean", mean(row.r_best for row in curve_rows), MUST_BEST, GOAL_BEST),
        ("r, zero lag, mean", mean(row.r_zero for row in curve_rows), MUST_ZERO, GOAL_ZERO),
        ("r, zero lag, worst clip", min(row.r_zero for row in curve_rows), MUST_WORST, GOAL_WORST),
        ("jaw r, zero lag, mean, of the jaw curve", mean(row.r_jaw for row in curve_rows), MUST_JAW, GOAL_JAW),
        ("jaw r, zero lag, mean, of the drawn chin", mean(row.r_jaw for row in landmark_rows), MUST_JAW, GOAL_JAW),
        ("CPU s per s of sound", -mean(row.cpu for row in curve_rows), -MUST_CPU, -GOAL_CPU),  # less is better
    ]
    body, missed = [], 0
    for name, reached, must, goal in targets:
        missed += reached < must
        verdict = "goal met" if reached >= goal else "must met" if reached >= must else "MUST NOT MET"
        body.append([name, f"{abs(reached) if must < 0 else reached:.4g}", f"{abs(must):g}", f"{abs(goal):g}", verdict])
    title = f"Ours ({OURS.removeprefix('ours, ')}) on {len(curve_rows)} clips of speakers not trained on"
    return Table(title, ["asked", "reached", "must", "goal", ""], body), missed


def _by_clip(rows: list[Row], clips: list[Clip], trained_on: tuple[str, ...]) -> Table:
    rivals = [name for name in dict.fromkeys(row.predictor for row in rows) if name not in (OURS, "constant")]
    header = ["clip", "s", "r ±2", "lag", "r zero", "jaw r", "gap error", *(f"{name}: r ±2" for name in rivals)]
    row_of = {(row.clip, row.predictor): row for row in rows}
    body = []
    for clip in clips:
        our_row = row_of[clip.name, OURS]
        marks = "*" * clip.name.startswith(trained_on) + "°" * clip.measured
        numbers = [our_row.r_best, our_row.lag, our_row.r_zero, our_row.r_jaw, our_row.gap_error]
        rival_numbers = [_number(row_of[clip.name, name].r_best) for name in rivals]
        body.append([clip.name + marks, f"{clip.speech.seconds:.1f}", *map(_number, numbers), *rival_numbers])
    title = f"Ours ({OURS.removeprefix('ours, ')}) clip by clip (* speaker may be known to ours, ° truth measured here)"
    return Table(title, header, body)


def _failures(rows: list[Row], clips: list[Clip], weights: Path | None) -> Table:
    body = []
    for clip in clips:
        of_clip = [row for row in rows if row.clip == clip.name and row.r_best is not None]
        our_row = next(row for row in of_clip if row.predictor == OURS)
        if our_row.r_best < FAILED:
            rivals = [row for row in of_clip if not row.predictor.startswith("ours")]
            body.append(
                [clip.name, _number(our_row.r_best), *_notes(clip, max(rivals, key=lambda row: row.r_best), weights)]
            )
    return Table(
        f"Clips on which ours has r below {FAILED} at the best lag", ["clip", "r ±2", "best other", "notes"], body
    )


def _notes(clip: Clip, rival: Row, weights: Path | None) -> tuple[str, str]:
    gap, num_valid = clip.gap[clip.valid], int(clip.valid.sum())
    parts = [f"{part:.2f}" for part in _by_thirds(clip, weights)]
    notes = [f"{num_valid} frames, r in each third {' '.join(parts)}"] * bool(parts)
    pause_db = _above_pauses_db(clip)
    notes += [f"speech stands only {pause_db:.0f} dB above its pauses"] * (pause_db < 30)
    notes += ["no predictor does better than chance"] * (rival.r_best < FAILED)
    notes += [f"face unseen in {len(clip) - num_valid}"] * (num_valid < len(clip))
    notes += [f"lips move little, gap varies by {float(gap.std()):.3f}"] * (float(gap.std()) < 0.04)
    notes += [f"never closes, least gap {float(gap.min()):.3f}"] * (float(gap.min()) > 0.03)
    return f"{_number(rival.r_best)} {rival.predictor}", "; ".join(notes)


def _by_thirds(clip: Clip, weights: Path | None) -> list[float]:
    """Correlation at the best lag in each third of a clip."""
    opening = our_predictors(weights)[0].predict(clip).gap
    num = min(len(opening), len(clip))
    parts = [slice(i * num // 3, (i + 1) * num // 3) for i in range(3)]
    if any(int(clip.valid[part].sum()) < 2 * MIN_FRAMES for part in parts):
        return []
    return [lip_correlation(opening[part], clip.gap[part], clip.valid[part]).r_best for part in parts]


def _above_pauses_db(clip: Clip) -> float:
    """Dynamic range in dB: the 95th percentile of the level above its 10th."""
    level = log_mel(clip.speech).mean(1)
    return float(level.quantile(0.95) - level.quantile(0.1))


def _landmark_table(rows: list[LandmarkRow]) -> Table:
    names = ("fitted", "fitted_still", "plain", "plain_still")
    body = [[row.clip, *(_number(getattr(row, name)) for name in names)] for row in rows]
    body.append(["mean / median", *(_both(getattr(row, name) for row in rows) for name in names)])
    title = "Mouth landmarks, mean distance from the true ones in inter-ocular distances, after aligning the pose"
    header = ["clip", "ours, fitted to the clip", "still, fitted", "ours, as drawn", "still, as is"]
    return Table(title, header, body)


def _both(values: Iterable[float | None]) -> str:
    numbers = [value for value in values if value is not None]
    return f"{_number(statistics.mean(numbers))} / {_number(statistics.median(numbers))}" if numbers else "–"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _write(path: Path, tables: list[Table], rows: list[Row]) -> None:
    if path.suffix == ".csv":
        cells = [list(Row.__dataclass_fields__), *(asdict(row).values() for row in rows)]
        path.write_text("".join(map(csv_line, cells)), encoding="utf-8", newline="")
    else:
        path.write_text("\n".join(map(to_markdown, tables)), encoding="utf-8")


def _shout(text: str) -> None:
    sys.stderr.write(f"\n*** {text}\n")
