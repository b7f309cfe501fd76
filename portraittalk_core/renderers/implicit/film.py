"""Films moved by keypoints: every frame is its own source, gets the new expression, and is pasted back.

Shapes: B frames of a batch, N of them with a face to draw, S side of the networks' crops.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...face.topology import FACE_OVAL
from ...media.tee import tee
from ...types import KeypointTrack, LandmarkTrack
from ..contract import Film, RenderJob
from ..paste import face_mask
from ..warp.build import warped_pictures
from .bridges import lip_displacements, lip_ratio
from .contract import Keypoints
from .crop import FaceCrop, FilmCrops
from .driving import MOTION, Driving, batches
from .extract import track_of
from .face_renderer import FaceRenderer
from .interrupt import FrameProgress
from .paste import Paster, crop_pictures, feathered_mask

JAW_DROP = 0.15  # of the face's height: room below a chin whose way is not known
FACE_FEATHER = 0.15  # of the face's size: width of the soft edge around a face whose head stays the film's


@dataclass(frozen=True)
class FilmBatch:
    """Consecutive frames of a film, with crops, keypoints and features of those that show the face."""

    first: int  # number of the first frame
    pictures: list[Tensor]  # B of (H, W, 3) uint8
    drawn: list[int]  # N positions within the batch
    crops: list[FaceCrop]  # N
    faces: Keypoints  # N; one of an earlier frame where N is 0
    features: Tensor | None  # (N, ...)
    motion: KeypointTrack  # B frames: the film's own; that of the face before where there is none


def film_pictures(
    renderer: FaceRenderer, job: RenderJob, driving: Driving, progress: FrameProgress
) -> Iterator[Tensor]:
    """The film's frames with moved faces; frames without a face are as they were filmed.

    Yields:
        (H, W, 3) uint8, or the networks' crops where the options say so.
    """
    film = _FilmRenderer(renderer, job.source, progress)
    kind, spans = driving.spans()
    if driving.driver is not None:
        yield from film.spoken(driving)
    elif kind is LandmarkTrack:
        yield from film.along_landmarks(job, driving.landmarks(spans, driving.resting_landmarks()))
    else:
        yield from film.along_keypoints(spans, driving)


class _FilmRenderer:
    """Renders one film, a batch of frames at a time.

    Args:
        renderer: with its model and options.
        film: the source.
        progress: counts the batches.
    """

    def __init__(self, renderer: FaceRenderer, film: Film, progress: FrameProgress) -> None:
        self._renderer, self._model, self._film, self._progress = renderer, renderer.model, film, progress
        self._options, self._size = renderer.options, renderer.options.batch_size
        self._crops = FilmCrops(film.track, self._model.crop, self._model.input_size, film.scenes)
        self._last: Keypoints | None = None
        self._place: FaceCrop | None = None  # of the last face

    def along_landmarks(self, job: RenderJob, spans: Iterator[LandmarkTrack]) -> Iterator[Tensor]:
        """Faces with the expression that is measured on the film's frames warped to new landmarks."""
        warped = None
        if self._options.bridge == "warp":
            for_warp, spans = tee(spans)
            warped = warped_pictures(replace(job, motion=for_warp))
        targets = (points for span in spans for points in span.points)
        for batch in self._batches():
            size = len(batch.pictures)
            target = torch.stack(list(itertools.islice(targets, size)))
            if warped is None:
                motion = self._opened(batch, target)
            else:
                motion = self._measured(batch, list(itertools.islice(warped, size)))
            yield from self._drawn(batch, motion, target)

    def along_keypoints(self, spans: Iterator[KeypointTrack], driving: Driving) -> Iterator[Tensor]:
        """Faces with the whole motion of a keypoint track."""
        tracks = None
        for batch in self._batches():
            tracks = tracks or batches(driving.keypoints(spans, batch.faces[:1]), self._size)
            yield from self._drawn(batch, next(tracks), head_moves=True)

    def spoken(self, driving: Driving) -> Iterator[Tensor]:
        """Faces whose own expression Audio2Exp edits."""
        read: deque[FilmBatch] = deque()

        def own_motion() -> Iterator[KeypointTrack]:
            for batch in self._batches():
                read.append(batch)
                yield batch.motion

        for track in driving.edited(own_motion()):
            yield from self._drawn(read.popleft(), track)

    def _batches(self) -> Iterator[FilmBatch]:
        pictures, first = self._film.pictures(), 0
        while taken := list(itertools.islice(pictures, self._size)):
            self._progress.begin(len(taken))
            yield self._encoded(first, taken)
            first += len(taken)

    @torch.no_grad()
    def _encoded(self, first: int, pictures: list[Tensor]) -> FilmBatch:
        valid = self._film.track.valid[first : first + len(pictures)]
        positions = torch.nonzero(valid).flatten().tolist()
        crops = [self._crops.of(first + at) for at in positions]
        previous, features = self._face_before(), None
        faces = previous
        if positions:
            cut = zip(positions, crops, strict=True)
            taken = torch.cat([crop.take(pictures[at], self._model.device) for at, crop in cut])
            faces = self._model.keypoints(taken)
            features = self._model.features(taken)
        order = valid.long().cumsum(0)  # 0: the face before
        track = track_of(Keypoints.cat([previous, faces]), self._model.layout, self._film.track.fps)
        motion = replace(track, **{name: getattr(track, name)[order] for name in MOTION}, valid=valid)
        self._last = faces[-1:]
        return FilmBatch(first, pictures, positions, crops, faces, features, motion)

    def _face_before(self) -> Keypoints:
        """The face of the last frame with one; before any, that of the first."""
        if self._last is None:
            index = int(self._film.track.valid.int().argmax())
            picture = next(itertools.islice(self._film.pictures(), index, None))
            self._place = self._crops.of(index)
            self._last = self._model.keypoints(self._place.take(picture, self._model.device))
        return self._last

    @torch.no_grad()
    def _measured(self, batch: FilmBatch, warped: list[Tensor]) -> KeypointTrack:
        """The batch's motion with the expression of its warped frames."""
        if not batch.drawn:
            return batch.motion
        at = list(zip(batch.drawn, batch.crops, strict=True))
        taken = torch.cat([crop.take(warped[number], self._model.device) for number, crop in at])
        expression = batch.motion.expression.clone()
        expression[batch.drawn] = self._model.keypoints(taken).expression.float().cpu()
        return replace(batch.motion, expression=expression)

    @torch.no_grad()
    def _opened(self, batch: FilmBatch, target: Tensor) -> KeypointTrack:
        """The batch's motion with lips as far open as in (B, 478, 3) landmarks, by the retargeting network."""
        if not batch.drawn:
            return batch.motion
        frames = [batch.first + at for at in batch.drawn]
        now, then = (
            lip_ratio(self._pixels(points)) for points in (self._film.track.points[frames], target[batch.drawn])
        )
        placed, retargeting = self._model.place(batch.faces), self._renderer.retargeting
        moved = [lip_displacements(retargeting, placed[n : n + 1], now[n : n + 1], then[n : n + 1])
                 for n in range(len(frames))]  # fmt: skip
        expression = batch.motion.expression.clone()
        expression[batch.drawn] += torch.cat(moved).float().cpu() / batch.motion.scale[batch.drawn, None, None]
        return replace(batch.motion, expression=expression)

    def _pixels(self, points: Tensor) -> Tensor:
        """(N, 478, 3) landmarks in pixels."""
        width, height = self._film.track.width, self._film.track.height
        return points * torch.tensor([width, height, width], dtype=torch.float32)

    def _drawn(
        self, batch: FilmBatch, motion: KeypointTrack, target: Tensor | None = None, head_moves: bool = False
    ) -> Iterator[Tensor]:
        """The pictures of a batch.

        Args:
            batch: of the film.
            motion: B frames.
            target: (B, 478, 3) landmarks of the moved faces, for their masks; None where they are not known.
            head_moves: whether more than the face changes.
        """
        pictures = self._rendered(batch, motion, target, head_moves)
        self._progress.end()
        yield from pictures

    @torch.no_grad()
    def _rendered(
        self, batch: FilmBatch, motion: KeypointTrack, target: Tensor | None, head_moves: bool
    ) -> list[Tensor]:
        in_picture = self._options.paste == "picture"
        rendered = self._faces(batch, motion)
        out = list(batch.pictures) if in_picture else [self._still(picture) for picture in batch.pictures]
        for number, (at, crop) in enumerate(zip(batch.drawn, batch.crops, strict=True)):
            self._place = crop
            if not in_picture:
                out[at] = crop_pictures(rendered[number : number + 1])[0]
                continue
            if target is not None and torch.equal(target[at], self._film.track.points[batch.first + at]):
                continue  # nothing is said there: it stays as it was filmed
            mask = None
            if not head_moves:
                mask = self._mask(batch.first + at, crop, None if target is None else target[at])
            colour = self._options.match_colour
            picture, side = batch.pictures[at], self._model.output_size
            paster = Paster(picture, crop, side, mask, colour, self._model.device)
            out[at] = next(iter(paster.paste(rendered[number : number + 1])))
        return out

    def _faces(self, batch: FilmBatch, motion: KeypointTrack) -> Tensor | None:
        """(N, 3, R, R) rendered faces."""
        if not batch.drawn:
            return None
        faces, source = batch.faces, self._model.place(batch.faces)
        moved = {name: getattr(motion, name)[batch.drawn].to(faces.expression) for name in MOTION}
        return self._renderer.pictures(batch.features, source, self._renderer.place(source, replace(faces, **moved)))

    def _mask(self, index: int, crop: FaceCrop, target: Tensor | None) -> Tensor:
        """(R, R) mask of the face: as it was filmed, and as it moves."""
        track, side = self._film.track, self._model.output_size
        shapes = track.points[index][None] if target is None else torch.stack([track.points[index], target])
        on_crop = crop.points_on_crop(self._pixels(shapes)) / crop.size
        if not bool(on_crop[:, list(FACE_OVAL)].isfinite().all()):
            return feathered_mask(side)
        if target is None:
            on_crop = torch.cat([on_crop, _with_open_jaw(on_crop)])
        return face_mask(on_crop, FACE_FEATHER, side) * feathered_mask(side)

    def _still(self, picture: Tensor) -> Tensor:
        """(R, R, 3) crop of a frame without a face, where the last one was."""
        if self._place is None:
            self._face_before()
        return crop_pictures(self._place.resized(self._model.output_size).take(picture))[0]


def _with_open_jaw(points: Tensor) -> Tensor:
    """(1, 478, 2) landmarks on a crop with the lower face drawn down."""
    down = points[..., 1]
    low, high = down.amin(), down.amax()
    share = ((down - (low + high) / 2) / ((high - low) / 2)).clamp(min=0)
    return torch.stack([points[..., 0], down + JAW_DROP * (high - low) * share], dim=-1)
