"""Dubbing of a track: the mouth of a new speech on a filmed face, whose head, eyes and brows stay."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from ..checks import check_choice
from ..errors import InputError
from ..face import topology as topo
from ..face.geometry import eye_axis, turned_aside
from ..memory_map import extended, mapped_tensor, release_memory
from ..motion.options import STILL, MotionOptions
from ..progress import Progress
from ..types import LandmarkTrack, Speech
from .dub_options import FILM_ENDS
from .rig import FaceRig, SkinInterpolator, face_axes, make_rig
from .slow_mouth import HANDLES, handles_of, slow_part
from .smoothing import smooth_step
from .turned_face import TurnedFace

TURNED_COUNTS = 0.5  # how much a turned head speaks against a frame as the face at rest, beside its lips' gap
BLOCK = 512  # frames whose landmarks are looked at at once
FADE_S = 0.12  # within which the mouth goes over to that of a frame that stays as it is
SPAN = 256  # frames that are turned at once


class Engine(Protocol):
    """A motion engine, see `engines.contract.MotionEngine`."""

    def spans(
        self, speech: Speech, reference: LandmarkTrack, options: MotionOptions | None, on_progress: Progress | None
    ) -> Iterator[LandmarkTrack]:
        """Consecutive pieces of the speaking face's landmarks."""


def film_order(num_frames: int, num_speech_frames: int, film_end: str) -> Tensor:
    """(T,) int64 numbers of a film's frames, as they follow each other where the speech is longer than the film.

    Args:
        num_frames: of the film.
        num_speech_frames: that the speech lasts.
        film_end: see `DubOptions`.

    Returns:
        T is `num_speech_frames`, or `num_frames` where that is more, or where the film is to end.
    """
    check_choice(film_end, FILM_ENDS, "film_end")
    at = torch.arange(num_frames if film_end == "cut" else max(num_frames, num_speech_frames))
    if film_end == "loop":
        return at % num_frames
    if film_end == "ping-pong":
        at = at % max(1, 2 * num_frames - 2)  # neither end is shown twice
        return torch.minimum(at, 2 * num_frames - 2 - at)
    return at.clamp(max=num_frames - 1)


@dataclass(frozen=True)
class Fitted:
    """Speech fitted to a video's length."""

    speech: Speech
    cut_s: float  # of it that is left out, because the video ends before
    rest_s: float  # of the video in which nobody speaks any more


def fit_speech(speech: Speech, num_frames: int, fps: Fraction) -> Fitted:
    """Trim speech to a video's length, or pad it with silence.

    Args:
        speech: the clip.
        num_frames: of the video.
        fps: of the video.
    """
    num_samples = int(num_frames * speech.sample_rate / fps)
    spare = speech.waveform.numel() - num_samples
    waveform = extended(speech.waveform, num_samples).contiguous()
    # less than a frame is no difference
    seconds = spare / speech.sample_rate if abs(spare) * fps >= speech.sample_rate else 0.0
    return Fitted(replace(speech, waveform=waveform), max(0.0, seconds), max(0.0, -seconds))


def dub_track(
    driving: LandmarkTrack,
    speech: Speech,
    options: MotionOptions,
    engine: Engine,
    on_progress: Progress | None = None,
    scenes: Tensor | None = None,
    absolute: bool = True,
) -> LandmarkTrack:
    """Track of a filmed face with the mouth of a new speech.

    Lips, chin and the cheeks between them are the speech's, on the film's own head; eyes, brows, nose and the head's
    motion are the film's, to the last bit. Frames in which the face was not seen stay as they are.

    Args:
        driving: the film's landmarks, T frames; they set the frame rate.
        speech: what is to be said, of any length; after its end the mouth rests closed.
        options: of the mouth; head motion, blinks and fps do not count.
        engine: what moves the mouth.
        on_progress: as the engine calls it; may raise to stop.
        scenes: (T,) number of each frame's scene: each has a face at rest of its own. None: there are no cuts.
        absolute: whether an engine that can (`engines.contract.FilmEngine`) predicts the mouth on every frame; else it
            moves the face at rest, as that of a portrait.

    Returns:
        T frames on the same picture. Beside frames that stay as they are, the mouth goes over from one to the other.

    Raises:
        InputError: the engine makes keypoints instead of landmarks.
    """
    if getattr(engine, "makes", "landmarks") != "landmarks":  # see `engines.contract`
        raise InputError(
            f"a film's face is landmarks, and the engine {engine.name} makes keypoints; choose another one."
        )
    fitted = fit_speech(speech, len(driving), driving.fps).speech
    mouth_only = replace(options, fps=driving.fps, **STILL)
    scenes = torch.zeros(len(driving), dtype=torch.int64) if scenes is None else scenes
    faces = None
    if absolute and hasattr(engine, "film_spans"):
        mouths = engine.film_spans(fitted, driving, mouth_only, scenes, on_progress)
    else:
        faces = _SceneFaces(driving, scenes)
        mouths = _carried_mouths(faces, engine.spans(fitted, faces.first, mouth_only, on_progress))
    weights, points = presence(driving.valid, scenes, driving.fps), mapped_tensor(*driving.points.shape)
    start = 0
    for mouth in mouths:
        stop = start + len(mouth)
        filmed, weight = driving.points[start:stop], weights[start:stop, None, None]
        points[start:stop] = torch.where(weight == 1, mouth.points, torch.lerp(filmed, mouth.points, weight))
        start = stop
        release_memory()
    if faces is not None:
        _keep_slow(points, weights, faces)
    return replace(driving, points=points)


def _keep_slow(points: Tensor, weights: Tensor, faces: _SceneFaces) -> None:
    """Move mouths (T, 478, 3) so that what lasts of their shape is the film's, in place; (T,) `weights` as in a dub."""
    driving = faces.driving
    size = torch.tensor([driving.width, driving.height, driving.width], dtype=torch.float32)
    everywhere = torch.ones(len(points), dtype=torch.bool)
    spoken = slow_part(faces.spoken.flatten(1), everywhere, float(driving.fps)).unflatten(1, (-1, 3))
    for start in range(0, len(points), SPAN):
        for begin, end in _within_scenes(faces.scenes, start, min(start + SPAN, len(points))):
            reference, share, turned = faces.at_rest(int(faces.scenes[begin]))
            if turned.slow is None:
                continue
            span, axes = slice(begin, end), face_axes(reference.points_px[0])[0]
            moves = turned.moves(turned.slow[span] - spoken[span] @ axes, driving.px_of(span)) * share[:, None] / size
            points[span] += torch.where(driving.valid[span, None, None], moves * weights[span, None, None], 0.0)
        release_memory()


def _carried_mouths(faces: _SceneFaces, spoken_spans: Iterator[LandmarkTrack]) -> Iterator[LandmarkTrack]:
    """Spans of the film's face with the mouth of its face at rest, which the engine lets speak."""
    start = 0
    for spoken in spoken_spans:
        for begin, end in _within_scenes(faces.scenes, start, start + len(spoken)):
            speaking = faces.speaking(spoken.slice(begin - start, end - start), begin)
            yield with_mouth(faces.driving.slice(begin, end), speaking, *faces.at_rest(int(faces.scenes[begin])))
        start += len(spoken)


class _SceneFaces:
    """The face at rest in every scene, and the speaking face on it."""

    def __init__(self, driving: LandmarkTrack, scenes: Tensor) -> None:
        self.driving, self.scenes = driving, scenes
        valid_scenes = scenes[driving.valid]
        self._first = int(valid_scenes[0]) if len(valid_scenes) else 0
        self._rigs: dict[int, FaceRig] = {}
        self._scene, self._face = -1, (self.first, mouth_share(self.first), TurnedFace(self.first))
        self.spoken = torch.zeros(len(driving), len(HANDLES), 3)  # by which its mouth's handles depart, in its axes

    @property
    def first(self) -> LandmarkTrack:
        """One frame: the face at rest in the first scene that shows it, on which the engine lets it speak."""
        return self._at_rest(self._first)

    def at_rest(self, scene: int) -> tuple[LandmarkTrack, Tensor, TurnedFace]:
        """A scene's face at rest, its (478,) mouth mask, and it turned."""
        if scene != self._scene:
            reference = self._at_rest(scene)
            turned = TurnedFace.of_film(self.driving, reference, self.scenes == scene)
            self._scene, self._face = scene, (reference, mouth_share(reference), turned)
        return self._face

    def speaking(self, spoken: LandmarkTrack, first: int) -> LandmarkTrack:
        """Frames of the speaking face, from a number on, on their scene's face at rest."""
        axes, _, unit = face_axes(self.first.points_px[0])
        departed = handles_of(spoken.points_px) - handles_of(self.first.points_px)
        self.spoken[first : first + len(spoken)] = departed @ axes.T / unit
        return self._carried(spoken, int(self.scenes[first]))

    def _at_rest(self, scene: int) -> LandmarkTrack:
        return resting_face(self.driving, self.scenes, scene)

    def _carried(self, spoken: LandmarkTrack, scene: int) -> LandmarkTrack:
        """What a face says, on the same or another face in another scene."""
        if scene == self._first:
            return spoken
        for number in (self._first, scene):
            if number not in self._rigs:
                self._rigs[number] = make_rig(self._at_rest(number))
        source, target = self._rigs[self._first], self._rigs[scene]
        axes, origin, unit = face_axes(self.first.points_px[0])
        displacement = (spoken.points_px - origin) @ axes.T / unit - source.rest - source.close
        placed = target.to_px(target.rest + target.close + displacement)
        return LandmarkTrack.from_px(placed, spoken.width, spoken.height, spoken.fps)


def _within_scenes(scenes: Tensor, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Stretches of the frames start..stop-1 that lie within one scene each."""
    cuts = (torch.nonzero(scenes[start + 1 : stop] != scenes[start : stop - 1]).flatten() + start + 1).tolist()
    yield from pairwise([start, *cuts, stop])


def presence(valid: Tensor, scenes: Tensor, fps: Fraction) -> Tensor:
    """(T,) weight of the new mouth: 0 in frames that stay as they are, 1 from a short while beside them on.

    Args:
        valid: (T,) bool: False where a frame stays as it is.
        scenes: (T,) number of each frame's scene; over a cut nothing fades.
        fps: frames per second.
    """
    steps = math.ceil(FADE_S * fps)
    weight = torch.full((len(valid),), steps + 1.0)
    for at in range(-steps, steps + 1):  # a frame's neighbours within its scene
        target_frames = slice(max(0, at), max(0, len(valid) + min(0, at)))
        source_frames = slice(max(0, -at), max(0, len(valid) - max(0, at)))
        hidden = ~valid[source_frames] & (scenes[source_frames] == scenes[target_frames])
        weight[target_frames] = torch.where(
            hidden, weight[target_frames].clamp(max=float(abs(at))), weight[target_frames]
        )
    return weight / (steps + 1)


def with_mouth(
    driving: LandmarkTrack,
    spoken: LandmarkTrack,
    reference: LandmarkTrack,
    share: Tensor | None = None,
    turned: TurnedFace | None = None,
    slow: Tensor | None = None,
) -> LandmarkTrack:
    """The mouth of one track on the head of another.

    Args:
        driving: T frames.
        spoken: the same face speaking without moving its head, T frames or more, on the same picture.
        reference: one frame: the face in the pose of `spoken`.
        share: (478,) of `mouth_share(reference)`, to save making it again for every span.
        turned: the face of `reference` in other poses; None: it is rigid but for the mouth.
        slow: (T, H, 3) what the mouth does for longer, see `TurnedFace.placed`; None: nothing.

    Returns:
        T frames.
    """
    share = (mouth_share(reference) if share is None else share)[:, None]
    turned = turned or TurnedFace(reference)
    size = torch.tensor([driving.width, driving.height, driving.width], dtype=torch.float32)
    points = driving.points.clone()
    for start in range(0, len(driving), SPAN):
        span = slice(start, start + SPAN)
        filmed_px, spoken_px = driving.points_px[span], spoken.points_px[span]
        placed = turned.placed(spoken_px, filmed_px, None if slow is None else slow[span])
        moves = (share > 0) & driving.valid[span, None, None]
        points[span] = torch.where(moves, torch.lerp(filmed_px, placed, share) / size, points[span])
    return replace(driving, points=points)


def resting_frame(track: LandmarkTrack) -> LandmarkTrack:
    """The most frontal frame with closed lips, as a track of one frame."""
    best = resting_index(track)
    return track.slice(best, best + 1)


def resting_face(track: LandmarkTrack, scenes: Tensor, scene: int) -> LandmarkTrack:
    """`resting_frame` of one scene.

    Args:
        track: T frames.
        scenes: (T,) number of each frame's scene.
        scene: which one.
    """
    best = resting_index(track, scenes == scene)
    return track.slice(best, best + 1)


def resting_index(track: LandmarkTrack, among: Tensor | None = None) -> int:
    """Number of the most frontal frame with closed lips.

    Args:
        track: T frames.
        among: (T,) bool: frames of which one is meant; None: all.
    """
    costs = []
    for start in range(0, len(track), BLOCK):
        costs.append(_unrest(track.slice(start, start + BLOCK).points_px))
        release_memory()
    cost, valid = torch.cat(costs), track.valid
    if among is not None:
        cost, valid = cost.masked_fill(~among, torch.inf), valid & among
    if valid.any():
        cost = cost.masked_fill(~valid, torch.inf)
    return int(cost.argmin())


def _unrest(points: Tensor) -> Tensor:
    """(T,) how far the lips are open and the head is turned, of (T, 478, 3) pixels; in eye distances."""
    between = eye_axis(points)
    gap = (points[:, topo.INNER_LIP_TOP] - points[:, topo.INNER_LIP_BOTTOM]).norm(dim=1)
    return gap / between.norm(dim=1).clamp(min=1e-6) + TURNED_COUNTS * turned_aside(between)


def mouth_share(reference: LandmarkTrack) -> Tensor:
    """(478,) mouth mask: 1 on lips and chin, 0 on eyes, brows and nose, between on the cheeks.

    Args:
        reference: one frame.
    """
    points = reference.points_px[0]
    axes, origin, unit = face_axes(points)
    rest = (points - origin) @ axes.T / unit
    height = rest[list(topo.MOUTH_CORNERS), 1].mean()
    chin = smooth_step((rest[:, 1] - height) / (rest[topo.CHIN, 1] - height))
    lips = torch.ones_like(rest)
    share = SkinInterpolator(rest).spread_over(lips, chin[:, None].expand(-1, 3))[:, 0].clamp(0, 1)
    share[[*topo.RIGID, *topo.EYELIDS, *topo.RIGHT_IRIS, *topo.LEFT_IRIS]] = 0
    return share
