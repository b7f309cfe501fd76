"""The motion engine of IP-LAP: speech and a few frames of a face to lip and jaw landmarks.

Source: W. Zhong et al., "Identity-Preserving Talking Face Generation with Landmark and Appearance Priors" (CVPR 2023),
§3.1, and its public weights landmarkgenerator_checkpoint.pth.

Shapes: F frames at 25 Hz, R reference faces, D channels of the network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...checks import check_range
from ...errors import InputError
from ...face import topology as topo
from ...face.lip_points import CONTENT_POINTS, LIP_POINTS, OPENING, POSE_POINTS
from ...motion.rig import SkinInterpolator, face_axes
from ...progress import Progress
from ...speech.wav2lip_mel import CHUNK_COLUMNS, CHUNK_LEAD, CHUNK_RATE, NUM_MELS, SILENCE, mel_chunks
from ...types import NUM_LANDMARKS, LandmarkTrack, Speech
from ..raw_engine import RawMotionEngine
from ..raw_motion import RawMotion
from .network import WINDOW, LandmarkNet, load_landmark_net
from .spec import SPEC

CROP_MARGIN_PX = 25.0  # around the points, as in the public inference (training had 5, of smaller pictures)
NUM_REFERENCES = 15
MIDDLE = WINDOW // 2  # the frame of a window that is kept
REACH = MIDDLE + CHUNK_LEAD  # chunks before its own index that a frame's window begins with
BATCH = 16  # frames predicted at once


@dataclass(frozen=True)
class FaceCrop:
    """Crop rectangle that maps to the network's unit square."""

    corner_px: Tensor  # (2,) float32, x and y of the upper left corner
    size_px: Tensor  # (2,) float32, width and height

    def to_unit(self, points_px: Tensor) -> Tensor:
        """(…, 2) pixels to the unit square."""
        return (points_px - self.corner_px) / self.size_px


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
            moved_px = (content - context.resting) * context.crop.size_px
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

    @torch.no_grad()
    def _pieces(self, context: _FaceContext, speech: Speech, total: int) -> Iterator[tuple[int, Tensor]]:
        """First frame and content (f, 57, 2) of each batch; each mel chunk is encoded once."""
        tokens = torch.empty(0, context.silence.shape[1], device=context.device)  # audio tokens, one a chunk
        quiet = torch.empty(0, dtype=torch.bool)
        for start in range(0, total, BATCH):
            stop = min(start + BATCH, total)
            chunks = mel_chunks(speech, start, stop)
            silent = (chunks == SILENCE).flatten(1).all(1)
            encoded = context.silence.repeat(len(chunks), 1)
            if not silent.all():
                encoded[~silent.to(context.device)] = self.net.encode_sound(chunks[~silent].to(context.device))
            tokens, quiet = torch.cat([tokens, encoded]), torch.cat([quiet, silent])
            first = stop - len(tokens)
            # the window of frame t is the chunks t − 4 .. t, of which the third has its middle in the frame's own
            window = torch.arange(start, stop)[:, None] + torch.arange(WINDOW) - REACH
            window = window.clamp(min=0) - first
            content = context.resting.repeat(stop - start, 1, 1)  # exactly, wherever nothing sounds
            sounding = ~quiet[window].all(1)
            if sounding.any():
                content[sounding] = context.content(tokens[window[sounding].to(context.device)])
            yield start, content
            tokens, quiet = tokens[-REACH:], quiet[-REACH:]


class _FaceContext:
    """Encodings of a reference face, and the predicted content for silence."""

    @torch.no_grad()
    def __init__(self, net: LandmarkNet, reference: LandmarkTrack, margin_px: float) -> None:
        self.net, self.device = net, next(net.parameters()).device
        self.crop = face_crop(reference, 0, margin_px)
        pose = self.crop.to_unit(reference.points_px[0, list(POSE_POINTS), :2])
        self.pose = net.encode_pose(pose[None].to(self.device))[:, None]  # (1, 1, D)
        index = reference_frames(reference)
        frames, places = index.unique(return_inverse=True)
        faces = [
            face_crop(reference, int(t), margin_px).to_unit(reference.points_px[t, list(LIP_POINTS), :2])
            for t in frames
        ]
        self.references = net.encode_reference(torch.stack(faces).to(self.device))[places][None]  # (1, R, D)
        self.silence = net.encode_sound(torch.full((1, NUM_MELS, CHUNK_COLUMNS), SILENCE, device=self.device))
        self.resting = self.content(self.silence.expand(1, WINDOW, -1))[0]

    def content(self, sound: Tensor) -> Tensor:
        """(f, 57, 2) on the CPU of the windows' middle frames, from their (f, 5, D) audio tokens."""
        count = len(sound)
        content = self.net(sound, self.pose.expand(count, WINDOW, -1), self.references.expand(count, -1, -1))
        return content[:, MIDDLE].float().cpu()


def face_crop(reference: LandmarkTrack, frame: int, margin_px: float = CROP_MARGIN_PX) -> FaceCrop:
    """The crop around one frame's face: what the network's points span and a margin, in whole pixels of the picture.

    Raises:
        InputError: nothing of the face lies in the picture.
    """
    points = reference.points_px[frame, list(LIP_POINTS), :2].double()
    ends = torch.tensor([reference.width, reference.height], dtype=torch.float64)
    low = torch.minimum((points.amin(0) - margin_px).clamp(min=0), ends).floor()
    high = torch.minimum((points.amax(0) + margin_px).clamp(min=0), ends).floor()
    if not bool((high > low).all()):
        (left, top), (right, bottom) = points.amin(0).tolist(), points.amax(0).tolist()
        raise InputError(
            f"the reference's face lies at x {left:.0f}..{right:.0f}, y {top:.0f}..{bottom:.0f}, outside its picture "
            f"of {reference.width}×{reference.height}; use landmarks of this picture."
        )
    return FaceCrop(low.float(), (high - low).float())


def reference_frames(reference: LandmarkTrack) -> Tensor:
    """(15,) reference frames: from the most closed mouth to the most open one, in equal steps of rank."""
    upper, lower = (reference.points[:, point, :2] for point in OPENING)
    order = (upper - lower).norm(dim=1).argsort(stable=True)
    return order[torch.linspace(0, len(reference) - 1, NUM_REFERENCES).long()]


def skin_weights(points_px: Tensor) -> Tensor:
    """Skinning weights: how much each landmark follows each predicted point.

    Args:
        points_px: (478, 3) of the face at rest.

    Returns:
        (478, 57) weights: 1 for a moved point itself; the lips' middle rings follow the outer and the inner one by how
        near they lie; other skin lies smoothly between the lips, the jaw, and the still upper face.
    """
    axes, origin, unit = face_axes(points_px)
    rest = (points_px - origin) @ axes.T / unit
    identity = torch.zeros(NUM_LANDMARKS, len(CONTENT_POINTS))
    identity[list(CONTENT_POINTS), torch.arange(len(CONTENT_POINTS))] = 1
    lips = identity.clone()
    for rings in (topo.UPPER_LIP_RINGS, topo.LOWER_LIP_RINGS):
        for chain in zip(*rings, strict=True):
            steps = (rest[list(chain[1:])] - rest[list(chain[:-1])]).norm(dim=1)
            shares = steps.cumsum(0) / steps.sum().clamp(min=1e-6)
            for point, share in zip(chain[1:-1], shares[:-1], strict=True):
                lips[point] = torch.lerp(identity[chain[0]], identity[chain[-1]], share)
    weights = SkinInterpolator(rest).spread_over(lips, identity)
    weights[list(CONTENT_POINTS)] = identity[list(CONTENT_POINTS)]
    return weights


def load_landmark_generator(path: Path) -> LandmarkGenerator:
    """The engine of a published landmarkgenerator_checkpoint.pth.

    Raises:
        InputError: the file is damaged or of another network.
        MissingDependency: there is no such file.
    """
    return LandmarkGenerator(load_landmark_net(path))
