"""AniPortrait's motion engine: speech to displacements of MediaPipe's face mesh, applied to any face.

Source: H. Wei, Z. Yang, Z. Wang, "AniPortrait" (arXiv 2403.17694), section 3.1, and its public weights audio2mesh.pt.

Shapes: F frames at 30 Hz, D feature channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor, nn

from ...errors import InputError
from ...face.canonical import canonical_face
from ...face.geometry import head_pose, rotation_matrix
from ...face.topology import NUM_MESH_POINTS
from ...progress import Progress
from ...speech.encoders import counted
from ...speech.wave import HOP, WINDOW, clip_normalisation, num_wave_features
from ...types import NUM_LANDMARKS, LandmarkTrack, Speech
from ..raw_engine import RawMotionEngine
from ..raw_motion import RawMotion
from .network import MeshNet, load_mesh_net
from .spec import SPEC

RATE = Fraction(30)  # frames per second
SPAN, CONTEXT = 600, 150  # frames of a long clip predicted at once (20 s), and context before and after them (5 s)
MAX_SINGLE_PASS = SPAN + 2 * CONTEXT  # frames of the longest clip that is predicted in one piece
BLOCK = 16_000  # steps of the first convolution whose statistics are gathered at once: 5 s
# The network's displacements are in centimetres on MediaPipe's canonical face model, whose eyes' middles (corners 33,
# 133 and 263, 362 at x = ±4.445859, ±1.856432) are this far apart; ours has that distance as its unit. Beside the pose
# matrices of MediaPipe itself on 27 clips of different people: 6.2 to 6.8, median 6.36; turned by 5° at most.
CM_PER_INTEROCULAR = 4.445859 + 1.856432
AXES = (1.0, -1.0, -1.0)  # MediaPipe's y points up and its z to the viewer; ours down and away
VERTICAL_VIEW_DEG = 63.0  # of MediaPipe's camera, which AniPortrait pictures the mesh with
NEAREST = 0.25  # of the face's distance: no point comes closer to the camera than this


class Audio2Mesh(RawMotionEngine):
    """Motion engine that predicts mesh displacements with AniPortrait's audio2mesh."""

    name = SPEC.name

    def __init__(self, net: MeshNet) -> None:
        """Wrap a loaded network; see `network.load_mesh_net`."""
        self.net = net

    def offsets(self, speech: Speech, on_progress: Progress | None = None) -> Tensor:
        """Displacements of the mesh vertices from the resting face.

        A clip of up to 30 s is predicted in one piece, as the public code does it. Of a longer one, the normalisations
        over time and the features' places are those of the whole clip, but attention sees pieces of 20 s with 5 s more
        on each side instead of all of it, so that memory does not grow with the clip.

        Args:
            speech: the clip.
            on_progress: called with layers done and in all.

        Returns:
            (F, 468, 3) centimetres on MediaPipe's canonical face: x to the viewer's right, y up, z to the viewer;
            F = ceil(30 · seconds).

        Raises:
            InputError: shorter than 25 ms.
        """
        result = torch.empty(speech.num_frames(RATE), NUM_MESH_POINTS, 3)
        for start, piece in self._pieces(speech, on_progress):
            result[start : start + len(piece)] = piece
        return result

    def raw_motion(self, speech: Speech, reference: LandmarkTrack, on_progress: Progress | None = None) -> RawMotion:
        """Landmark displacements of a reference face that says `speech`, at 30 frames a second; the irises do not move.

        The public code adds the displacements to the reference's own metric mesh. Here they are added to the canonical
        face in the reference's pose, and how that moves in the picture is carried over to the reference's landmarks.

        Args:
            speech: the clip.
            reference: one frame: the face that is to say it.
            on_progress: called with layers done and in all.

        Raises:
            InputError: more than one reference frame, or speech shorter than 25 ms.
        """
        if len(reference) != 1:
            raise InputError(f"the reference must be one frame of landmarks, not {len(reference)}.")
        camera = PosedFace(reference)
        shift_px = torch.zeros(speech.num_frames(RATE), NUM_LANDMARKS, 3)
        for start, piece in self._pieces(speech, on_progress):
            shift_px[start : start + len(piece), :NUM_MESH_POINTS] = camera.shift_px(piece)
        return RawMotion(shift_px, RATE)

    @torch.no_grad()
    def _pieces(self, speech: Speech, on_progress: Progress | None) -> Iterator[tuple[int, Tensor]]:
        """First frame and displacements (f, 468, 3) of each span."""
        clip = _Clip(speech, self.net.audio_encoder)
        total = speech.num_frames(RATE)
        span = total if total <= MAX_SINGLE_PASS else SPAN
        starts = range(0, total, span)
        layers = [*clip.convolutions, *self.net.audio_encoder.encoder.layers]
        with counted(layers, clip.num_blocks + len(starts) * len(layers), on_progress):
            clip.gather()
            for start in starts:
                stop = min(start + span, total)
                low, high = max(start - CONTEXT, 0), min(stop + CONTEXT, total)
                moved = self.net(clip.features(low, high, total))
                yield start, moved[start - low : stop - low].float().cpu()


class _Clip:
    """Convolutional features of a clip, computed for any span of frames."""

    def __init__(self, speech: Speech, encoder: nn.Module) -> None:
        self.waveform, self.count = speech.waveform, num_wave_features(speech)
        self.centre, self.gain = clip_normalisation(self.waveform)
        first, *self.later_layers = encoder.feature_extractor.conv_layers
        self.conv, self.norm, self.activation = first.conv, first.layer_norm, first.activation
        self.convolutions = [first.conv, *self.later_layers]
        self.kernel, self.stride = self.conv.kernel_size[0], self.conv.stride[0]
        self.steps = (self.waveform.numel() - self.kernel) // self.stride + 1
        self.num_blocks = -(-self.steps // BLOCK)

    def gather(self) -> None:
        """Mean and standard deviation of every channel of the first convolution over the clip, for its normalisation.

        A first pass gathers them in blocks; a group is one channel in every published network.
        """
        total = torch.zeros(self.conv.out_channels, dtype=torch.float64)
        square = total.clone()
        for start in range(0, self.steps, BLOCK):
            stop = min(start + BLOCK, self.steps)
            values = self._first(start * self.stride, (stop - 1) * self.stride + self.kernel).cpu().double()
            total += values.sum(1)
            square += values.square().sum(1)
        mean = total / self.steps
        deviation = (square / self.steps - mean.square()).clamp(min=0).add(self.norm.eps).sqrt()
        weight, bias = self.norm.weight.double().cpu(), self.norm.bias.double().cpu()
        device = self.norm.weight.device
        self.factor = (weight / deviation).float()[:, None].to(device)
        self.term = (bias - mean * weight / deviation).float()[:, None].to(device)

    def features(self, low: int, high: int, total: int) -> Tensor:
        """(high − low, D) features at frames low..high-1 of `total`, between which the clip's features are spread.

        The first frame has the first feature, the last frame the last one. Positions are in single precision, as
        PyTorch's own interpolation has them.
        """
        scale = torch.tensor(self.count - 1.0) / max(total - 1, 1) if total > 1 else torch.tensor(0.0)
        place = torch.arange(low, high, dtype=torch.float32) * scale
        lower = place.floor().long().clamp(max=self.count - 1)
        upper = (lower + 1).clamp(max=self.count - 1)
        first, last = int(lower[0]), int(upper[-1])
        features = self._convolved(first, last)
        share = (place - lower)[:, None].to(features.device)
        return (1 - share) * features[lower - first] + share * features[upper - first]

    def _convolved(self, first: int, last: int) -> Tensor:
        """(last − first + 1, D) features first..last."""
        values = self._first(first * HOP, last * HOP + WINDOW)
        values = self.activation(values * self.factor + self.term)[None]
        for layer in self.later_layers:
            values = layer(values)
        return values[0].T

    def _first(self, start: int, stop: int) -> Tensor:
        """(channels, steps) first convolution of samples start..stop-1."""
        piece = (self.waveform[start:stop] - self.centre) * self.gain
        return self.conv(piece[None, None].to(self.norm.weight.device))[0]


class PosedFace:
    """The canonical face in the pose of a reference, under MediaPipe's camera."""

    def __init__(self, reference: LandmarkTrack) -> None:
        """Measure the pose of the reference's one frame."""
        pose = head_pose(reference)
        self.rotation = rotation_matrix(pose.angles_deg.double())[0]
        self.scale = float(pose.scale[0])  # pixels per inter-ocular distance
        self.focal_px = reference.height / 2 / math.tan(math.radians(VERTICAL_VIEW_DEG / 2))
        self.distance = self.focal_px / self.scale
        between_eyes = torch.cat([pose.translation[0, :2].double(), torch.tensor([self.distance]).double()])
        self.points = canonical_face()[:NUM_MESH_POINTS].double() @ self.rotation.T + between_eyes

    def shift_px(self, offsets: Tensor) -> Tensor:
        """Displacements of the reference's landmarks in pixels, from displacements of the mesh.

        Args:
            offsets: (F, 468, 3) centimetres on MediaPipe's canonical face.

        Returns:
            (F, 468, 3) pixels, z on x's scale; exactly zero for no displacement.
        """
        turn = (torch.diag(torch.tensor(AXES)).double() / CM_PER_INTEROCULAR) @ self.rotation.T
        travel = (offsets @ turn.float()).float()
        moved = self._project(self.points.float() + travel) - self._project(self.points.float())
        return torch.cat([moved, travel[..., 2:] * self.scale], -1)

    def _project(self, points: Tensor) -> Tensor:
        depth = points[..., 2:].clamp(min=NEAREST * self.distance)
        return self.focal_px * points[..., :2] / depth


def load_audio2mesh(path: Path, device: torch.device | str = "cpu") -> Audio2Mesh:
    """The engine in AniPortrait's weight file audio2mesh.pt; see `network.load_mesh_net`."""
    return Audio2Mesh(load_mesh_net(path, device))
