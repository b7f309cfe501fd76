"""Two videos, generated and true, become the numbers that compare them."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor

from ..checks import check_range
from ..errors import InputError, MediaError, MissingDependency
from ..face.mesh.landmarks import MeshBackend, open_mesh, track_faces
from ..metrics.adfd import ADFDResult, adfd
from ..metrics.landmark_distance import FACE_POINTS, lmd
from ..metrics.packages import KORNIA
from ..metrics.psnr import psnr
from ..metrics.ssim import ssim
from ..progress import Progress
from ..types import LandmarkTrack
from .source import PictureSource, Steps, check_same_shape, scaled_to

MIN_FRAMES = 2  # with a face in both videos; fewer show no motion


@dataclass(frozen=True)
class ScoreReport:
    """What was measured, on how much, and how; None where there was too little to measure on."""

    adfd: float | None  # 0..1, higher is better
    adfd_spatial: float | None
    adfd_motion: float | None
    mouth_landmark_distance: float | None  # M-LMD, percent of the inter-ocular distance, lower is better
    face_landmark_distance: float | None  # F-LMD, the same over 468 points
    mouth_landmark_distance_px: float | None  # pixels of the target
    face_landmark_distance_px: float | None
    psnr: float | None  # decibels, mean over frames that differ; infinite if none does; None without kornia
    ssim: float | None  # −1..1, mean over frames; None without kornia
    num_frames: int  # compared, by index
    num_frames_with_face: int  # of these, a face was seen in both
    num_identical_frames: int  # of these, the pictures are equal; left out of the PSNR mean unless all are
    num_frames_left_over: int  # not compared: the longer video's end, and what lies beyond max_frames
    width: int  # pixels compared, the target's
    height: int
    fps: str  # of the comparison, the generated video's
    landmark_source: str  # face-mesh back end, or "given"
    note: str  # what was done to make the two comparable
    over_time: ADFDResult | None = None  # the parts of ADFD frame by frame, NaN at frames without a face

    def values(self) -> dict[str, float | int | str | None]:
        """All numbers by name, without those frame by frame."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "over_time"}

    def to_json(self) -> str:
        """As JSON text; an infinite PSNR is written as "inf"."""
        values = {k: "inf" if isinstance(v, float) and math.isinf(v) else v for k, v in self.values().items()}
        return json.dumps(values, indent=2, ensure_ascii=False)


def score_videos(
    generated: Path | PictureSource,
    target: Path | PictureSource,
    *,
    mesh: MeshBackend | None = None,
    face_index: int = 0,
    max_frames: int | None = None,
    on_progress: Progress | None = None,
) -> ScoreReport:
    """Compare a generated video with the true one, frame by frame.

    The target is read at the generated video's frame rate; generated frames are scaled to the target's size; the longer
    video's end is left out. Frames without a face in either do not count for landmarks.

    Args:
        generated: video file or pictures.
        target: video file or pictures.
        mesh: an open face-mesh back end; None opens one for this call.
        face_index: which face, 0 is the largest.
        max_frames: compare at most so many frames from the start.
        on_progress: called with steps done and steps in all; may raise to stop.

    Raises:
        MediaError: a file is not a video, or holds no picture.
        InputError: their pictures have different aspect ratios.
        NoFaceError: one of them shows no face at all.
    """
    if mesh is None:
        with open_mesh() as opened:
            return score_videos(
                generated, target, mesh=opened, face_index=face_index, max_frames=max_frames, on_progress=on_progress
            )
    made, true = (v if isinstance(v, PictureSource) else PictureSource.of_file(v) for v in (generated, target))
    check_same_shape(made, true, f"{made.name} and {true.name}")
    fps = made.fps
    counts = [math.ceil(v.seconds * float(fps) - 0.02) for v in (made, true)]
    num_frames = max(1, min(counts))
    if max_frames is not None:
        num_frames = min(num_frames, int(check_range(max_frames, 1, 10**9, "max_frames")))
    progress = Steps(3 * num_frames, on_progress)
    pictures = _PictureScores()
    pairs = zip(made.read(fps), true.read(fps), strict=False)
    for a, b in progress.over(itertools.islice(pairs, num_frames)):
        pictures.add(scaled_to(a, (true.height, true.width)), b)
    if not pictures.count:
        raise MediaError(f"{made.name} and {true.name} have no picture in common; one of them holds none.")
    # the faces are followed in passes of their own, so that one picture at a time is in memory
    tracks = []
    for video in (made, true):
        frames = progress.over(itertools.islice(video.read(fps), num_frames))
        tracks.append(track_faces(frames, fps, mesh, face_index, source=video.name))
    note = []
    if (made.width, made.height) != (true.width, true.height):
        note.append(f"generated frames of {made.width}×{made.height} were scaled to {true.width}×{true.height}")
    if made.fps != true.fps:
        note.append(f"the target of {float(true.fps):g} fps was sampled at {float(fps):g} fps")
    seen = min(map(len, tracks))  # a file may hold fewer frames than it says
    left_over = max(max(counts) - num_frames, 0)
    report = _report(*(track.slice(0, seen) for track in tracks), mesh.name, "; ".join(note), left_over)
    return _with_pictures(report, pictures)


def score_tracks(generated: LandmarkTrack, target: LandmarkTrack, landmark_source: str = "given") -> ScoreReport:
    """Compare two landmark tracks, frame by frame; picture scores are None.

    Raises:
        InputError: their frame rates or the shapes of their pictures differ.
    """
    if generated.fps != target.fps:
        raise InputError(
            f"tracks of {float(generated.fps):g} and {float(target.fps):g} fps cannot be compared frame by frame; "
            "make both at the same rate."
        )
    check_same_shape(generated, target, "the two tracks")
    count = min(len(generated), len(target))
    left = max(len(generated), len(target)) - count
    return _report(generated.slice(0, count), target.slice(0, count), landmark_source, "", left)


class _PictureScores:
    def __init__(self) -> None:
        self.count = self.num_identical = 0
        self.psnr: list[float] = []
        self.ssim: list[float] = []
        self.note = ""  # why there are none

    def add(self, generated: Tensor, target: Tensor) -> None:
        identical = torch.equal(generated, target)
        self.count, self.num_identical = self.count + 1, self.num_identical + identical
        if self.note:
            return
        try:
            self.psnr.append(psnr(generated, target))
            self.ssim.append(1.0 if identical else ssim(generated, target))
        except MissingDependency:  # the landmarks do without it
            self.note = f"PSNR and SSIM not available: needs {KORNIA}"


def _report(
    generated: LandmarkTrack, target: LandmarkTrack, landmark_source: str, note: str, left_over: int
) -> ScoreReport:
    both = generated.valid & target.valid
    values: dict[str, float | None] = dict.fromkeys(
        (
            "adfd",
            "adfd_spatial",
            "adfd_motion",
            "mouth_landmark_distance",
            "face_landmark_distance",
            "mouth_landmark_distance_px",
            "face_landmark_distance_px",
        )
    )
    over_time = None
    if int(both.sum()) >= MIN_FRAMES:
        size = torch.tensor([target.width, target.height], dtype=torch.float64)
        made, true = (t.points[both, :, :2].double() * size for t in (generated, target))
        score = adfd(made[:, : len(FACE_POINTS)], true[:, : len(FACE_POINTS)], (target.height, target.width))
        over_time = _spread(score, both)
        values |= {"adfd": score.score, "adfd_spatial": score.spatial, "adfd_motion": score.motion}
        for name in ("mouth", "face"):
            values[f"{name}_landmark_distance"] = float(lmd(made, true, points=name, norm="interocular").mean())
            values[f"{name}_landmark_distance_px"] = float(lmd(made, true, points=name).mean())
    else:
        note = "; ".join(filter(None, [note, f"fewer than {MIN_FRAMES} frames show the face in both"]))
    return ScoreReport(
        **values,
        psnr=None,
        ssim=None,
        num_frames=len(target),
        num_frames_with_face=int(both.sum()),
        num_identical_frames=0,
        num_frames_left_over=left_over,
        width=target.width,
        height=target.height,
        fps=f"{generated.fps.numerator}/{generated.fps.denominator}",
        landmark_source=landmark_source,
        note=note,
        over_time=over_time,
    )


def _spread(score: ADFDResult, used: Tensor) -> ADFDResult:
    """Put the frames that were used back to their places; a step belongs to the last frame before it ends."""
    frames = used.nonzero()[:, 0]
    spatial = torch.full((len(used),), torch.nan, dtype=torch.float64)
    motion = torch.full((len(used) - 1,), torch.nan, dtype=torch.float64)
    spatial[frames] = score.spatial_per_frame
    motion[frames[1:] - 1] = score.motion_per_frame
    return replace(score, spatial_per_frame=spatial, motion_per_frame=motion)


def _with_pictures(report: ScoreReport, pictures: _PictureScores) -> ScoreReport:
    report = replace(report, num_identical_frames=pictures.num_identical)
    if pictures.note:
        return replace(report, note="; ".join(filter(None, [report.note, pictures.note])))
    finite = [value for value in pictures.psnr if not math.isinf(value)]
    return replace(
        report,
        psnr=sum(finite) / len(finite) if finite else math.inf,
        ssim=sum(pictures.ssim) / len(pictures.ssim),
    )
