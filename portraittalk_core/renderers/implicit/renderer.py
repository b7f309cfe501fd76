"""The renderers with implicit keypoints: a portrait, or every frame of a film, moved by keypoints and pasted back.

The source is encoded once; frames are rendered in batches on the networks' device, and cross to the CPU once a batch.
Shapes: B frames of a batch, S side of the networks' crops, R of the pictures they render.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ...motion.keypoint_edit import carry
from ...types import KeypointTrack, Portrait
from ..contract import Callbacks, Film, RenderJob
from ..warp.build import source_size
from .contract import Keypoints
from .crop import crop_of
from .driving import Driving, batches
from .extract import keypoint_track_of_film, keypoints_of_picture, track_of
from .face_renderer import FaceRenderer
from .film import film_pictures
from .interrupt import FrameProgress, reporting
from .paste import Paster, crop_pictures


class ImplicitRenderer(FaceRenderer):
    """Renders portraits and films with a keypoint model; see `FaceRenderer` for its arguments."""

    def output_size(self, job: RenderJob) -> tuple[int, int]:
        """Width and height: the source's, or those of the networks' crop."""
        if self.options.paste == "crop":
            return self.model.output_size, self.model.output_size
        return source_size(job)

    def render(self, job: RenderJob, callbacks: Callbacks | None = None) -> Iterator[Tensor]:
        """(H, W, 3) uint8 pictures; `on_progress` counts hundredths of frames, and may raise within one.

        Raises:
            InputError: motion of another family, an Audio2Exp without speech, or a face that cannot be cropped.
        """
        progress = FrameProgress((callbacks or Callbacks()).on_progress, job.num_frames)
        driving = Driving(self, job, progress.part)
        with reporting(self.model, progress):
            if isinstance(job.source, Film):
                pictures = film_pictures(self, job, driving, progress)
            else:
                pictures = self._portrait(job, driving, progress)
            for picture in pictures:
                yield picture
                progress.frame()

    def motion_of(self, film: Film, portrait: Portrait) -> KeypointTrack:
        """A film's motion on a portrait, from the portrait's own keypoints on.

        Args:
            film: of the driving face; where it is not seen, motion is interpolated.
            portrait: that takes the motion over.
        """
        track = keypoint_track_of_film(
            self.model, film.pictures(), film.track, on_missing="interpolate", scenes=film.scenes
        )
        face, _ = keypoints_of_picture(self.model, portrait.picture, portrait.landmarks.points_px[0])
        return carry(track, track_of(face, self.model.layout, track.fps))

    def _portrait(self, job: RenderJob, driving: Driving, progress: FrameProgress) -> Iterator[Tensor]:
        face, features, source, paster = self._encoded(job)
        for batch in batches(driving.of_portrait(face), self.options.batch_size):
            progress.begin(len(batch))
            pictures = self._rendered(face, features, source, batch, paster)
            progress.end()
            yield from pictures

    @torch.no_grad()
    def _encoded(self, job: RenderJob) -> tuple[Keypoints, Tensor, Tensor, Paster | None]:
        """Keypoints, appearance features and placed keypoints of the portrait, and what pastes into it."""
        model, portrait = self.model, job.source
        crop = crop_of(portrait.landmarks.points_px[0], model.crop, model.input_size)
        taken = crop.take(portrait.picture, model.device)
        face, features = model.keypoints(taken), model.features(taken)
        paster = None
        if self.options.paste == "picture":
            colour = self.options.match_colour
            paster = Paster(portrait.picture, crop, model.output_size, None, colour, model.device)
        return face, features, model.place(face), paster

    @torch.no_grad()
    def _rendered(
        self, face: Keypoints, features: Tensor, source: Tensor, batch: KeypointTrack, paster: Paster | None
    ) -> list[Tensor]:
        rendered = self.pictures(features, source, self.place(source, face.with_motion(batch)))
        return list(paster.paste(rendered)) if paster is not None else crop_pictures(rendered)
