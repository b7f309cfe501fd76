"""The motion engine of IP-LAP: speech and a few frames of a face to lip and jaw landmarks.

Source: W. Zhong et al., "Identity-Preserving Talking Face Generation with Landmark and Appearance Priors" (CVPR 2023),
§3.1, and its public weights landmarkgenerator_checkpoint.pth.

Shapes: F frames at 25 Hz, R reference faces, D channels of the network.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from ...checks import check_range
from ...errors import InputError
from ...face.lip_points import CONTENT_POINTS, LIP_POINTS, POSE_POINTS
from ...motion.options import MotionOptions
from ...progress import Progress
from ...speech.wav2lip_mel import CHUNK_RATE
from ...types import NUM_LANDMARKS, LandmarkTrack, Speech
from ...weights.load import read_metadata
from ..raw_engine import RawMotionEngine, counted_in_frames
from ..raw_motion import RawMotion
from .crops import CROP_MARGIN_PX, face_crop, face_crops, reference_frames, unit_points
from .film import FilmedSpeaker, film_spans, film_windows
from .network import WINDOW, LandmarkNet, load_landmark_net
from .skin import skin_weights
from .sound import MIDDLE, silent_token, sound_windows
from .spec import SPEC

CROP_MARGIN = "crop_margin_px"  # in a trained file's metadata


class LandmarkGenerator(RawMotionEngine):
    """Motion engine that predicts lip and jaw landmarks with IP-LAP's landmark generator."""

    name = SPEC.name

    def __init__(self, net: LandmarkNet, crop_margin_px: float = CROP_MARGIN_PX) -> None:
        """Wrap a loaded network; see `load_landmark_generator`.

        Args:
            net: the network.
            crop_margin_px: how far the crop reaches beyond the face's points, 0..1000 pixels.
        """
        self.net = net
        self.crop_margin_px = check_range(crop_margin_px, 0, 1000, "crop_margin_px")

    def raw_motion(self, speech: Speech, reference: LandmarkTrack, on_progress: Progress | None = None) -> RawMotion:
        """Motion of a reference face that says `speech`.

        What moves is the difference to what the network shows for digital silence, not to the reference: so its idea of
        this face's lips and jaw, which is never quite right, stays out, and no sound is exactly no motion. Between lips
        and jaw the skin follows smoothly; depth does not change.

        Args:
            speech: the clip.
            reference: the face that is to say it, in its first frame; further frames only show the network more of it.
            on_progress: called with frames done and in all.

        Returns:
            ceil(25 · seconds) frames at 25 a second.

        Raises:
            InputError: the face lies outside the picture.
        """
        context = _FaceContext(self.net, reference, self.crop_margin_px)
        total = speech.num_frames(CHUNK_RATE)
        skin = skin_weights(reference.points_px[0])
        shift_px = torch.zeros(total, NUM_LANDMARKS, 3)
        for start, content in self._pieces(context, speech, total):
            stop = start + len(content)
            moved_px = (content - context.resting) * context.crop.size_px.float()
            shift_px[start:stop, :, :2] = torch.einsum("uc,fci->fui", skin, moved_px)
            if on_progress:
                on_progress(stop, total)
        return RawMotion(shift_px, CHUNK_RATE)

    def content(self, speech: Speech, reference: LandmarkTrack, on_progress: Progress | None = None) -> Tensor:
        """Predicted jaw and lip points, in the unit square of the crop around the reference's first frame.

        Args:
            speech: the clip.
            reference: see `raw_motion`.
            on_progress: called with frames done and in all.

        Returns:
            (F, 57, 2) float32 in the order of `lip_points.CONTENT_POINTS`, F = ceil(25 · seconds).

        Raises:
            InputError: the face lies outside the picture.
        """
        context = _FaceContext(self.net, reference, self.crop_margin_px)
        total = speech.num_frames(CHUNK_RATE)
        places = torch.empty(total, len(CONTENT_POINTS), 2)
        for start, piece in self._pieces(context, speech, total):
            places[start : start + len(piece)] = piece
            if on_progress:
                on_progress(start + len(piece), total)
        return places

    def film_spans(
        self,
        speech: Speech,
        film: LandmarkTrack,
        options: MotionOptions | None = None,
        scenes: Tensor | None = None,
        on_progress: Progress | None = None,
    ) -> Iterator[LandmarkTrack]:
        """A film's face with the mouth of a speech, predicted on each frame's own head; see `contract.MotionEngine`."""
        speaker = FilmedSpeaker(self.net, film, self.crop_margin_px, scenes)
        counted = counted_in_frames(on_progress, len(film))
        yield from film_spans(speaker, speech, options or MotionOptions(fps=film.fps), counted)

    def film_windows(self, speech: Speech, film: LandmarkTrack, scenes: Tensor | None = None) -> Iterator[Tensor]:
        """Lips and jaws of every frame's window, predicted together; see `contract.WindowEngine`."""
        return film_windows(FilmedSpeaker(self.net, film, self.crop_margin_px, scenes), speech)

    @torch.no_grad()
    def _pieces(self, context: _FaceContext, speech: Speech, total: int) -> Iterator[tuple[int, Tensor]]:
        """First frame and content (f, 57, 2) of each batch."""
        for start, windows, quiet in sound_windows(self.net, speech, total):
            content = context.resting.repeat(len(windows), 1, 1)  # exactly, wherever nothing sounds
            if not quiet.all():
                content[~quiet] = context.content(windows[~quiet.to(windows.device)])
            yield start, content


class _FaceContext:
    """Encodings of a reference face, and the predicted content for silence."""

    @torch.no_grad()
    def __init__(self, net: LandmarkNet, reference: LandmarkTrack, margin_px: float) -> None:
        self.net, weight = net, next(net.parameters())
        self.crop = face_crop(reference, 0, margin_px)
        crops, index = face_crops(reference, margin_px), reference_frames(reference)
        pose = unit_points(reference, crops, POSE_POINTS, torch.tensor([0]))
        self.pose = net.encode_pose(pose.to(weight))[:, None]  # (1, 1, D)
        frames, places = index.unique(return_inverse=True)
        faces = unit_points(reference, crops, LIP_POINTS, frames)
        self.references = net.encode_reference(faces.to(weight))[places][None]  # (1, R, D)
        self.silence = silent_token(net)
        self.resting = self.content(self.silence.expand(1, WINDOW, -1))[0]

    def content(self, sound: Tensor) -> Tensor:
        """(f, 57, 2) on the CPU of the windows' middle frames, from their (f, 5, D) audio tokens."""
        count = len(sound)
        content = self.net(sound, self.pose.expand(count, WINDOW, -1), self.references.expand(count, -1, -1))
        return content[:, MIDDLE].float().cpu()


def load_landmark_generator(path: Path) -> LandmarkGenerator:
    """The engine of the published landmarkgenerator_checkpoint.pth, or of a file of `portraittalk train landmarks`.

    The latter's crops are those that it was trained with.

    Raises:
        InputError: the file is damaged or of another network.
        MissingDependency: there is no such file.
    """
    net, margin_px = load_landmark_net(path), read_metadata(path).get(CROP_MARGIN)
    try:
        return LandmarkGenerator(net, CROP_MARGIN_PX if margin_px is None else float(margin_px))
    except ValueError as error:
        raise InputError(f"{Path(path).name} says its crops' margin is {margin_px!r}; train it again.") from error
