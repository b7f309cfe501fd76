"""The lip renderers: the mouth of a film's face, or of a portrait that the warp moves, painted anew and pasted back.

References are encoded once; frames are read, cropped and sketched ahead in a thread, painted in batches on the device
of the networks, and pasted one at a time. Of the pictures no more than a few batches are in memory.
Shapes: B frames of a batch, N of them painted, S side of the networks' crops.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import InputError
from ...media.ahead import read_ahead
from ...motion.dub import presence
from ...types import Speech
from ..contract import Callbacks, Film, RenderJob
from ..implicit.interrupt import FrameProgress, reporting
from ..implicit.paste import Paster
from ..sections import Section
from ..warp.build import source_size
from . import public_inference
from .blend import Sharpener, blend_mask
from .contract import LipBatch, LipModel
from .crop import LipBoxes
from .footage import Footage, footage_of
from .frames import FrameBatch, FrameReader
from .inside import explained, inside_shares, tried_frames, trusted, wider
from .listening import sound_rows
from .options import MOUTH, OWN, SCRIPT, LipPaintOptions
from .policy import paint_weights, voice_gate
from .references import ReferenceFrames
from .warped_frames import WarpedFrames


class LipRenderer:
    """Renders films and portraits with a lip model.

    Args:
        model: the networks of a family.
        options: how it paints and pastes; None are the defaults.
        references: frames that were chosen before, instead of those of the options.
    """

    def __init__(
        self, model: LipModel, options: LipPaintOptions | None = None, references: ReferenceFrames | None = None
    ) -> None:
        self.model, self.references = model, references
        self.options = public_inference.options_of((options or LipPaintOptions()).with_usual(*model.usual))

    def windows_of(self, engine: object, film: Film, speech: Speech) -> Callable[[], Iterator[Tensor]] | None:
        """What `RenderJob.windows` of a dub must be for this renderer's `inference`.

        Raises:
            InputError: the engine predicts no windows.
        """
        return public_inference.windows_of(self.options, engine, film, speech)

    def output_size(self, job: RenderJob) -> tuple[int, int]:
        """Width and height: the source's."""
        return source_size(job)

    def render(self, job: RenderJob, callbacks: Callbacks | None = None) -> Iterator[Tensor]:
        """(H, W, 3) uint8 pictures; `on_progress` counts hundredths of frames, and may raise within one.

        Raises:
            InputError: the model hears the speech, and there is none; references that the film does not have.
        """
        callbacks = callbacks or Callbacks()
        progress = FrameProgress(callbacks.on_progress, job.num_frames)
        with reporting(self.model, progress):
            for picture in _LipJob(self, job, callbacks, progress).pictures():
                yield picture
                progress.frame()

    def contact_sheet(self, film: Film) -> tuple[ReferenceFrames, Tensor]:
        """The frames of a film that would be its references, and one picture (H, W, 3) uint8 of them all.

        Raises:
            InputError: the options name a frame that the film does not have, or that shows no face.
        """
        from .reading import reference_sheet

        return reference_sheet(*_prepared(self, footage_of(RenderJob.of_track(film, film.track))), self.options)

    def masks(self, job: RenderJob) -> Iterator[Tensor]:
        """(H, W) float 0..1, for every frame: how much of each pixel is painted."""
        yield from _LipJob(self, job, Callbacks(), FrameProgress(None, job.num_frames)).masks()


def _prepared(renderer: LipRenderer, footage: Footage) -> tuple[Footage, LipBoxes, Tensor]:
    """A footage, its boxes, and (T,) how much of each frame is painted."""
    options = renderer.options
    rule = replace(renderer.model.crop, fixed_point=options.inference != OWN)
    boxes = LipBoxes(footage.track, rule, options.crop_pad, footage.scenes)
    track, scenes = footage.track, footage.scenes
    if options.blend_of(rule.size) == MOUTH and isinstance(footage.source, Film):
        return footage, boxes, inside_shares(track, scenes, boxes.usable, options.max_yaw, footage.name)
    return footage, boxes, paint_weights(track, scenes, boxes.usable, options.max_yaw, footage.name)


class _LipJob:
    """One job of a lip renderer."""

    def __init__(self, renderer: LipRenderer, job: RenderJob, callbacks: Callbacks, progress: FrameProgress) -> None:
        self._model, self._options = renderer.model, renderer.options
        self._sections, self._progress, self._references = callbacks.sections, progress, renderer.references
        options, model = self._options, self._model
        public_inference.check_job(job, options)
        self._is_public, self._is_script = options.inference != OWN, options.inference == SCRIPT
        self._footage, self._boxes, self._weights = _prepared(renderer, footage_of(job))
        track, scenes = self._footage.track, self._footage.scenes
        self._blend, self._shares = options.blend_of(model.crop.size), None
        if self._blend == MOUTH and isinstance(self._footage.source, Film):
            self._shares, self._weights = self._weights, presence(track.valid, scenes, track.fps)
        gate = voice_gate(job.speech, len(track), job.fps, options.voice_gate)
        self._sound = sound_rows(model, job.speech, len(track), job.fps, gate, self._is_public)
        windows = job.windows() if self._is_public else None
        self._reader = FrameReader(
            self._footage, self._boxes, self._weights, gate, options.batch_size, model.needs_sketches, windows,
            shares=self._shares,
        )  # fmt: skip
        self._sharpener = Sharpener(options.sharpen, float(job.fps))
        self._scene = int(scenes[0])
        self._warped = WarpedFrames(self._footage) if self._blend == MOUTH else None
        self._features: Any = None
        self._shift = torch.zeros(3, 1, 1)  # of the colours of what is painted

    def pictures(self) -> Iterator[Tensor]:
        """All frames; of the public script's, the third stands for the first two."""
        first = self._first_shown
        for number, picture in enumerate(self._drawn()):
            yield from itertools.repeat(picture, first + 1 if number == first else int(number > first))

    @property
    def _first_shown(self) -> int:
        return min(public_inference.FIRST_SHOWN, len(self._footage) - 1) if self._is_script else 0

    def _drawn(self) -> Iterator[Tensor]:
        self._try()
        with closing(read_ahead(self._reader.batches(self._sections))) as batches:
            for batch in batches:
                self._progress.begin(len(batch.pictures))
                painted = self._finished(batch) if batch.finished is not None else self._painted(batch)
                self._progress.end()
                for at, picture in enumerate(batch.pictures):
                    yield self._pasted(batch, at, painted) if at in batch.shapes else picture

    def _try(self) -> None:
        """Paint some of the film's own frames, and leave insides of mouths to the warp where that goes badly."""
        if self._shares is None or not self._model.needs_references or not bool((self._shares >= 1).any()):
            return
        chosen = self._chosen()
        frames = tried_frames(self._footage, self._shares, chosen)
        known = explained(self._model, self._encoded(), self._sound, self._footage, self._boxes, frames)
        trial, self._features = known
        if not trusted(trial, wider(self._footage, chosen), self._footage.name):
            self._shares.zero_()
        elif trial is not None:
            self._shift = torch.tensor(trial.shift)[:, None, None]

    def masks(self) -> Iterator[Tensor]:
        """What is pasted of all frames."""
        self._try()
        track = self._footage.track
        pictures = itertools.repeat(None) if self._warped is None else self._footage.pictures()
        for index, picture in zip(range(len(track)), pictures, strict=False):
            mask, weight = torch.zeros(track.height, track.width), float(self._weights[index])
            if weight > 0:
                mask = self._reader.share(index) * self._whole_mask(index)
                if picture is not None:  # what the warp moves is new too
                    bent = self._warped.picture(index, picture, self._reader.shape(index))
                    mask = torch.maximum(mask, (bent != picture).any(-1).float())
                mask = weight * mask
            self._reader.forget(index)
            yield mask

    def _whole_mask(self, index: int) -> Tensor:
        """(H, W) of what is pasted of a frame's crop."""
        track, box = self._footage.track, self._boxes[index]
        if self._is_script:
            filmed_px = self._filmed_px(max(index, self._first_shown))
            return public_inference.outline_mask(filmed_px, track.width, track.height).float() / 255
        mask, own = torch.zeros(track.height, track.width), self._mask(index, self._reader.shape(index))
        placed = F.interpolate(own[None, None], box.size_px[::-1], mode="bilinear", align_corners=False)[0, 0]
        mask[box.top : box.bottom, box.left : box.right] = placed.clamp(0, 1)
        return mask

    def _filmed_px(self, index: int) -> Tensor:
        """(478, 3) landmarks of a frame in pixels, as they are filmed."""
        return self._footage.track.px_of(index)

    def _mask(self, index: int, shape: Tensor) -> Tensor:
        """(S, S) over a frame's crop; `shape` are the (478, 3) landmarks that are painted there."""
        shapes = torch.stack([self._footage.track.points[index], shape])
        points, options = self._boxes.points01(index, shapes), self._options
        return blend_mask(points, self._model.crop.size, self._blend, options.feather)

    def _finished(self, batch: FrameBatch) -> Tensor:
        return _as_floats(batch.finished.pictures)[batch.drawn]

    @torch.no_grad()
    def _painted(self, batch: FrameBatch) -> Tensor:
        """(N, 3, S, S) painted crops, rounded to 255 levels as they are kept."""
        side = self._model.crop.size
        crops = torch.zeros(len(batch.pictures), side, side, 3, dtype=torch.uint8)
        if batch.drawn:
            model = self._model
            frames = [batch.first + at for at in batch.drawn]
            placed = {"device": model.device, "dtype": model.dtype}
            lips = LipBatch(
                batch.crops.to(**placed),
                batch.sketches.to(**placed) if batch.sketches is not None else batch.crops.new_empty(0),
                None if self._sound is None else self._sound(frames).to(model.device),
                batch.points,
            )
            painted = painted_halving(model, self._encoded(), lips)
            levels = painted.float() * 255 if self._is_public else (painted.float() * 255).round()
            crops[batch.drawn] = levels.clamp(0, 255).byte().permute(0, 2, 3, 1).cpu()
        if self._sections is not None:
            self._sections.save(Section(batch.first, crops, None, self._reader.batch_size))
        return _as_floats(crops)[batch.drawn]

    def _encoded(self) -> Any:
        """Features of the references, which are read when they are first needed."""
        if self._features is None and self._model.needs_references:
            from .reading import references_of

            weights = self._weights if self._shares is None else self._shares
            references = references_of(self._footage, self._boxes, weights, self._options, self._chosen())
            self._features = self._model.encode(references)
        return self._features

    def _chosen(self) -> ReferenceFrames | None:
        """The frames that are references; None for a portrait, which is its own."""
        if self._references is None and isinstance(self._footage.source, Film):
            from .reading import chosen_frames

            weights = self._weights if self._shares is None else self._shares
            self._references = chosen_frames(self._footage, weights, self._options)
        return self._references

    @torch.no_grad()
    def _pasted(self, batch: FrameBatch, at: int, painted: Tensor) -> Tensor:
        """(H, W, 3) uint8: the picture at a position of a batch, with its crop of the N painted ones (N, 3, S, S)."""
        index, options, side = batch.first + at, self._options, self._model.crop.size
        number = batch.drawn.index(at) if at in batch.drawn else None
        scene = int(self._footage.scenes[index])
        if scene != self._scene:
            self._scene = scene
            self._sharpener.restart()
        picture, box, weight = batch.pictures[at], self._boxes[index], float(self._weights[index])
        filmed = picture
        if self._warped is not None:
            picture = self._warped.picture(index, picture, batch.shapes[at])
        if number is None:
            pasted = picture
        elif self._is_script:
            pasted = public_inference.pasted(picture, painted[number], box, self._filmed_px(index))
        else:
            mask = batch.shares[number] * self._mask(index, batch.shapes[at])
            shifted = (painted[number] + self._shift * mask).clamp(0, 1)
            crop = self._sharpener.sharpen(shifted, batch.crops[number], mask)
            paster = Paster(picture, box.crop(side), side, mask, options.match_colour, "cpu", options.sharpen)
            pasted = next(iter(paster.paste(crop[None])))
        return pasted if weight >= 1 else torch.lerp(filmed.float(), pasted.float(), weight).round().byte()


def painted_halving(model: LipModel, features: Any, batch: LipBatch) -> Tensor:
    """(B, 3, S, S) painted crops; where they do not fit into the device's memory together, in halves.

    Raises:
        InputError: not even one fits.
    """
    try:
        return model.paint(features, batch)
    except torch.cuda.OutOfMemoryError as error:
        count = len(batch.pictures)
        if count == 1:
            raise InputError(
                f"the memory of {model.device} does not hold one frame of {model.crop.size}² pixels; take fewer "
                "`references`, another `device`, or close what else uses it."
            ) from error
    torch.cuda.empty_cache()
    halves = slice(0, count // 2), slice(count // 2, count)
    given = batch.pictures, batch.sketches, batch.sound, batch.points
    parts = (LipBatch(*(_part(values, at, count) for values in given)) for at in halves)
    return torch.cat([painted_halving(model, features, part) for part in parts])


def _part(values: Tensor | None, at: slice, count: int) -> Tensor | None:
    """Some frames of a batch's tensor; what is not there, or holds no frames, as it is."""
    return values if values is None or len(values) != count else values[at]


def _as_floats(crops: Tensor) -> Tensor:
    """(B, 3, S, S) float 0..1 of (B, S, S, 3) uint8."""
    return crops.permute(0, 3, 1, 2).float() / 255
