"""Dubbing by V-Express: the face of every scene of a film is painted as a square crop, and pasted back.

Shapes: T frames of the film, F of a scene, S the side of the painted crops.
Source: this project's own; V-Express (Wang et al. 2024) knows portraits.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...errors import InputError
from ...face.crop import CropOptions, FaceCrop, plan_face_crop
from ...layers.temporal import check_frames
from ...motion.dub import fit_speech, resting_index
from ...progress import Progress
from ...style.attention import FrameStyles
from ...types import LandmarkTrack, Speech
from ..contract import Film
from ..paste import PasteOptions, paste_frames
from .audio_projection import audio_tokens
from .head_keypoints import key_points
from .options import VExpressOptions
from .pipeline import Painting, VExpressModels, audio_features


@dataclass(frozen=True)
class Shot:
    """Consecutive frames of one scene that show the face."""

    start: int
    stop: int
    reference: int  # the most frontal frame with closed lips, whose picture V-Express refers to


def paint_film(
    film: Film,
    track: LandmarkTrack,
    speech: Speech,
    models: VExpressModels,
    options: VExpressOptions,
    on_progress: Progress | None = None,
) -> Iterator[Tensor]:
    """Render a film whose face says something else.

    Every scene is painted by itself, with one of its own frames as the reference, so that no window reaches over a cut.
    Head and eyes are the film's key points.

    Args:
        film: whose frames outside of the face stay as they are, and those that do not show it.
        track: of the film's T frames, on its pictures.
        speech: what is said, from the first frame on; after its end there is silence.
        models: of `pipeline.load_models`.
        options: width and height are the crop's.
        on_progress: called with layers and frames done and in all; may raise to stop.

    Returns:
        An iterator of T (H, W, 3) uint8 frames.

    Raises:
        InputError: a crop that is not square, or something given does not fit the rest.
    """
    if options.width != options.height:
        raise InputError(
            f"the face of a film is painted as a square; `width` {options.width} and `height` {options.height} differ."
        )
    check_frames(options.length, models.networks.motion.length)
    shots = film_shots(film)
    plans = [plan_face_crop(track.slice(s.start, s.stop), CropOptions(size=options.width)) for s in shots]
    counted = _Counted(models, options, shots, on_progress)
    fitted = fit_speech(speech, len(track), track.fps).speech
    return _painted(film, list(zip(shots, plans, strict=True)), audio_features(models, fitted, counted.whole), counted)


def film_shots(film: Film) -> list[Shot]:
    """The scenes of a film, without those that do not show the face."""
    scenes = torch.zeros(len(film.track), dtype=torch.long) if film.scenes is None else film.scenes
    cuts = (torch.nonzero(scenes[1:] != scenes[:-1]).flatten() + 1).tolist()
    shots = []
    for start, stop in itertools.pairwise([0, *cuts, len(scenes)]):
        shot = film.track.slice(start, stop)
        if shot.valid.any():
            shots.append(Shot(start, stop, start + resting_index(shot)))
    return shots


@dataclass(frozen=True)
class _Counted:
    """The paintings of all shots, with their progress counted together."""

    models: VExpressModels
    options: VExpressOptions
    shots: Sequence[Shot]
    on_progress: Progress | None

    @property
    def total(self) -> int:
        """Units of progress of all shots."""
        return sum(Painting(self.models, self.options, s.stop - s.start, None).total for s in self.shots)

    @property
    def whole(self) -> Painting:
        """A painting that stands for all of them while nothing is painted yet."""
        return self._painting(self.models, sum(s.stop - s.start for s in self.shots), 0)

    def of(self, number: int) -> Painting:
        """The painting of a shot, with the style of its own frames."""
        shot = self.shots[number]
        previous = sum(Painting(self.models, self.options, s.stop - s.start, None).total for s in self.shots[:number])
        return self._painting(_styled(self.models, shot), shot.stop - shot.start, previous)

    def _painting(self, models: VExpressModels, num_frames: int, previous: int) -> Painting:
        report, total = self.on_progress, self.total
        on_progress = None if report is None else lambda done, _: report(previous + done, total)
        return Painting(models, self.options, num_frames, on_progress)


def _styled(models: VExpressModels, shot: Shot) -> VExpressModels:
    """The models with the style of a shot's frames; one style for all frames stays as it is."""
    style = models.style
    if style is None or len(style.styles.styles) == 1:
        return models
    part = slice(shot.start, shot.stop)
    return replace(models, style=replace(style, styles=FrameStyles(style.styles.styles[part],
                                                                   style.styles.strengths[part])))  # fmt: skip


@torch.no_grad()
def _painted(
    film: Film, shots: Sequence[tuple[Shot, FaceCrop]], features: Tensor, counted: _Counted
) -> Iterator[Tensor]:
    """The film's frames with painted faces, from the audio features (N, D) of all of it."""
    models = counted.models
    references = _reference_crops(film, shots)
    encoded = [models.coder.encode(crop) for crop in references]
    if models.load_to_device is not None:
        models.load_to_device()
    audio = audio_tokens(models.networks.projection, features, len(film.track))
    pictures, num_shown = film.pictures(), 0
    for number, (shot, plan) in enumerate(shots):
        yield from itertools.islice(pictures, shot.start - num_shown)
        points = key_points(plan.track_on_crop(), models.networks.guider_points)
        crops = counted.of(number).decoded(encoded[number], points, audio[shot.start : shot.stop])
        yield from paste_frames(itertools.islice(pictures, shot.stop - shot.start), crops, plan, PasteOptions("face"))
        num_shown = shot.stop
    yield from pictures


def _reference_crops(film: Film, shots: Sequence[tuple[Shot, FaceCrop]]) -> list[Tensor]:
    """(S, S, 3) uint8 crop of every shot's reference frame.

    Raises:
        InputError: the film has become shorter since it was tracked.
    """
    by_frame = {shot.reference: (number, shot, plan) for number, (shot, plan) in enumerate(shots)}
    crops: dict[int, Tensor] = {}
    for index, picture in enumerate(film.pictures()):
        if index in by_frame:
            number, shot, plan = by_frame[index]
            crops[number] = plan.crop(picture, index - shot.start)
        if len(crops) == len(shots):
            break
    return [crops[number] for number in range(len(shots))]
