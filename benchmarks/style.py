"""Evaluation of styles of real clips: clustering by speaker, and style transfer; tables, a map, a strip of frames."""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from portraittalk_core.engines.contract import whole_track
from portraittalk_core.engines.registry import open_engine
from portraittalk_core.errors import InputError
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.geometry import mouth_open
from portraittalk_core.media.audio import load_speech
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.style.extractor_files import BUILT_IN
from portraittalk_core.style.prior import Style, StylePrior
from portraittalk_core.style.reference import STATISTICS_SPREAD, in_style, named_style
from portraittalk_core.style.statistics import measure_statistics
from portraittalk_core.threads import one_torch_thread
from portraittalk_core.types import STYLE_STATISTICS, LandmarkTrack, Portrait, Speech

from .embedded import SPEECH, tiled_speech
from .lipsync_tables import Table, show
from .style_clips import (
    ClusterScores,
    StyleClip,
    cluster_by_extractor,
    cluster_by_statistics,
    cluster_by_traces,
    load_style_clips,
    reference_style,
    untrained,
)
from .style_plots import save_map, save_strip

PURPOSE = "how well styles of real clips are told apart, and whether motion made in them is ordered as they are"
SPEECH_S = 20
LIVELY = ("opening", "head_deg", "head_shift", "blink_rate", "brow")  # what makes a speaker lively, in spreads
SHAPE = tuple(
    STYLE_STATISTICS.index(name) for name in ("rest_opening", "smile")
)  # that show the face more than the style statistics
STRIP = {"calm": "calm", "plain": None, "lively": "lively"}
NUM_STRIP_FRAMES = 6  # frames of the strip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's options."""
    parser.add_argument("clips", metavar="FOLDER", type=Path, help="of videos, or of landmark tracks (.safetensors)")
    parser.add_argument("--sounds", metavar="FOLDER", type=Path, help="of NAME.wav; if not given, the clips' folder")
    parser.add_argument(
        "--extractor",
        metavar="FILE",
        type=Path,
        default=BUILT_IN,
        help="of `portraittalk train style`, or the built-in one",
    )
    parser.add_argument(
        "--table", metavar="CSV", type=Path, help="with columns file and speaker: who has several clips"
    )
    parser.add_argument("--leave-out", metavar="CLIP", nargs="*", default=(), help="clips that do not count, by name")
    parser.add_argument(
        "--recordings", metavar="N", type=int, default=3, help="draws of other recordings of each piece"
    )
    parser.add_argument("--audio-encoder", metavar="FILE", type=Path, help="Whisper tiny, for one that hears by it")
    parser.add_argument("--segment", metavar="S", type=float, default=1.5, help="how long segments are")
    parser.add_argument("--clusters-only", action="store_true", help="make no motion in the styles")
    parser.add_argument(
        "--portrait", metavar="PICTURE", type=Path, help="who speaks; if absent, a plain face, and no strip"
    )
    parser.add_argument("--speech", metavar="FILE", type=Path, default=SPEECH, help="what is said")
    parser.add_argument("--out", metavar="FOLDER", type=Path, default=Path("style_eval"), help="where pictures go")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, draw and print."""
    args.out.mkdir(parents=True, exist_ok=True)
    clips = [
        clip for clip in load_style_clips(args.clips, args.sounds, table=args.table) if clip.name not in args.leave_out
    ]
    with one_torch_thread():
        _cluster_styles(clips, args)
        if args.clusters_only:
            return 0
        portrait = _portrait(args.portrait)
        _transfer(clips, _speech(args.speech), plain_face() if portrait is None else portrait.landmarks)
        if portrait is not None:
            _strip(portrait, args)
    return 0


def _speech(path: Path) -> Speech:
    if path != SPEECH:
        return load_speech(path)
    with tempfile.TemporaryDirectory() as folder:  # longer, for blinks are rare
        return load_speech(tiled_speech(path, SPEECH_S, Path(folder) / "speech.wav"))


def _cluster_styles(clips: list[StyleClip], args: argparse.Namespace) -> None:
    results = {}
    for key, measure in _measures(args).items():
        try:
            results[key] = (
                measure(clips, args.segment),
                [measure(clips, args.segment, n) for n in range(args.recordings)],
            )
        except InputError as error:
            print(f"{key} is left out: {error}")
    header = ["style by", "clips", "segments", "accuracy", "95 %", "clips alike", "strength", "pairs' strength",
              "other recordings", "speaker by other clips", "… other recordings", "dealt by chance"]  # fmt: skip
    show(Table(f"nearest centroid, leave one out, segments of {args.segment:g} s", header,
               [_score_row(*scores) for scores in results.values()]))  # fmt: skip
    names = [clip.name for clip in clips]
    for key, (scores, _) in results.items():
        if key in ("manner", "extractor"):
            path = args.out / f"map_{key}.png"
            title = f"{scores.by}: {scores.accuracy:.0%} of segments lie nearest to their own clip's middle"
            print(f"{path}: {save_map(scores.points, scores.labels, names, title, path)}")


def _measures(args: argparse.Namespace) -> dict[str, Callable[..., ClusterScores]]:
    """What scores clips, a segment's length and a seed of other recordings, by a name."""
    from portraittalk_core.speech.encoders import load_speech_encoder
    from portraittalk_core.style.extractor import load_extractor

    extractor = load_extractor(args.extractor)
    encoder = load_speech_encoder(args.audio_encoder) if args.audio_encoder else None
    measures: dict[str, Callable[..., ClusterScores]] = {
        "manner": lambda *given: cluster_by_statistics(given[0], given[1], seed=_seed(given)),
        "motion": lambda *given: cluster_by_statistics(given[0], given[1], SHAPE, _seed(given)),
        "recording": cluster_by_traces,
    }
    # what it gains by training shows only beside one that has learnt nothing: recordings differ without any style
    for name, candidate in (("extractor", extractor), ("untrained", untrained(extractor))):
        sides = {"": "both", " face": "face", " sound": "sound"} if extractor.hears else {"": "face"}
        for ending, side in sides.items():
            measures[name + ending] = lambda *given, c=candidate, s=side: cluster_by_extractor(
                given[0], given[1], c, encoder, s, _seed(given)
            )
    return measures


def _seed(given: tuple) -> int | None:
    return given[2] if len(given) > 2 else None


def _score_row(scores: ClusterScores, recordings: list[ClusterScores]) -> list[str]:
    count, (low, high) = len(scores.labels.unique()), scores.bounds
    speaker, chance, pieces = scores.speaker
    others = [f"{statistics.fmean(values):.1%}" if recordings else "" for values in (
        [other.accuracy for other in recordings], [other.speaker[0] for other in recordings])]  # fmt: skip
    by_others = f"{speaker:.1%} of {pieces} ({chance:.1%})" if pieces else ""
    return [scores.by, str(count), str(len(scores.labels)), f"{scores.accuracy:.1%}", f"{low:.0%} to {high:.0%}",
            f"{scores.by_clip:.1%}", f"{scores.strength:.2f}", f"{scores.pairwise:.2f}", others[0], by_others,
            others[1] if pieces else "", f"{scores.shuffled:.1%} (1/{count})"]  # fmt: skip


def plain_face() -> LandmarkTrack:
    """One frame of the canonical face as a track."""
    points = canonical_face()
    points = torch.cat([points, points[:1].expand(478 - len(points), -1)])
    return LandmarkTrack.from_px(100 * points[None] + torch.tensor([256.0, 256, 0]), 512, 512, MotionOptions().fps)


def spoken(speech: Speech, reference: LandmarkTrack, style: Style | None) -> LandmarkTrack:
    """The landmark track of a face that speaks in a style, by the built-in engine."""
    return in_style(lambda options: whole_track(open_engine(), speech, reference, options), MotionOptions(), style)


def _transfer(clips: list[StyleClip], speech: Speech, face: LandmarkTrack) -> None:
    """Rank correlation of generated style statistics with the references', for the same speech and face."""
    styles = [reference_style(clip) for clip in clips]
    middles = [replace(style, std=torch.zeros_like(style.std), noise=0.0) for style in styles]
    targets = torch.stack([style.mean for style in styles])
    mean_statistics, draw_statistics = (_generated_statistics(group, speech, face) for group in (middles, styles))
    columns = [STYLE_STATISTICS.index(name) for name in LIVELY]
    lively = (targets[:, columns] / torch.tensor(STATISTICS_SPREAD)[columns]).sum(1)
    thirds = dict(zip(("calm third", "middle", "lively"), lively.argsort().tensor_split(3), strict=True))
    rows = []
    for column, name in enumerate(STYLE_STATISTICS):
        pairs = [
            f"{float(targets[t, column].mean()):.3g} → {float(mean_statistics[t, column].mean()):.3g}"
            for t in thirds.values()
        ]
        measured = (mean_statistics[:, column], draw_statistics[:, column])
        ranks = [f"{rank_correlation(targets[:, column], values):.3f}" for values in measured]
        rows.append([name, *ranks, *pairs])
    header = ["statistic", "rank r", "rank r of one draw", *(f"{name}: wanted → made" for name in thirds)]
    title = f"{len(clips)} references, the same {float(speech.seconds):.0f} s of speech, the same face"
    show(Table(title, header, rows))
    print("calm to lively:", ", ".join(clips[int(i)].name for i in lively.argsort()))


def _generated_statistics(styles: list[StylePrior], speech: Speech, face: LandmarkTrack) -> Tensor:
    """(V, 11) style statistics of motion generated in each style."""
    return torch.stack([measure_statistics(spoken(speech, face, style)).mean(0) for style in styles])


def rank_correlation(first: Tensor, second: Tensor) -> float:
    """Spearman's rank correlation, equal values sharing their rank."""
    from scipy.stats import spearmanr

    return float(spearmanr(first.numpy(), second.numpy()).statistic)


def _portrait(path: Path | None) -> Portrait | None:
    from portraittalk_core.face.mesh.landmarks import find_portrait
    from portraittalk_core.media.image import load_picture

    return None if path is None else find_portrait(load_picture(path), source=path.name)


def _strip(portrait: Portrait, args: argparse.Namespace) -> None:
    """Write a strip of the same sentence in three styles, at the same times."""
    speech = load_speech(args.speech)
    tracks = {
        name: spoken(speech, portrait.landmarks, None if preset is None else named_style(preset))
        for name, preset in STRIP.items()
    }
    frames = key_frames(tracks["plain"])
    rows = {name: _pictures(portrait, track, frames) for name, track in tracks.items()}
    path, fps = args.out / "strip.png", float(tracks["plain"].fps)
    save_strip(rows, [frame / fps for frame in frames], "the same sentence, the same moments", path)
    print(f"{path}: {', '.join(STRIP)}")


def key_frames(track: LandmarkTrack) -> list[int]:
    """Key frames in order: of each part of the clip the one with the widest mouth; of every third part, the closed."""
    parts = torch.arange(len(track)).tensor_split(NUM_STRIP_FRAMES)
    opening = mouth_open(track)
    return [int(part[opening[part].argmin() if n % 3 == 2 else opening[part].argmax()]) for n, part in enumerate(parts)]


def _pictures(portrait: Portrait, track: LandmarkTrack, frames: list[int]) -> list[Tensor]:
    """Rendered crops of the face in some frames."""
    from portraittalk_core.renderers.warp.build import needed_reach_px
    from portraittalk_core.renderers.warp.renderer import PortraitRenderer

    picked = LandmarkTrack(track.points[frames], track.valid[frames], track.fps, track.width, track.height)
    renderer = PortraitRenderer(portrait, needed_reach_px(portrait, track))
    points = portrait.landmarks.points_px[0, :, :2]
    low, high = points.amin(0), points.amax(0)
    side, middle = 1.25 * float((high - low).max()), (low + high) / 2
    x, y = (max(int(c - side / 2), 0) for c in middle.tolist())
    return [picture[y : y + round(side), x : x + round(side)].clone() for picture in renderer.render(picked)]
