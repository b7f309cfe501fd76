"""What lip models have in common: checks of what they get, equal references, the hidden half."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...checks import check_shape
from ...errors import InputError
from ...face.lip_points import LIP_POINTS
from .contract import LipBatch, References
from .options import USUAL
from .sizes import SKETCHES

MEL_SHAPE = "80 16"  # mels, columns
PAIRS_AT_ONCE = {"cpu": 8, "cuda": 64}  # of a frame and a reference, of 128 × 128 pixels, which go together
PAIR_PIXELS = 128 * 128


class LipNetworks(nn.Module):
    """Device and dtype of networks, and checks of their inputs."""

    size: int  # side of the crops
    usual: tuple[int, int] = USUAL  # references and lip references where no numbers are given

    @property
    def device(self) -> torch.device:
        """Where the networks compute."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(self.parameters()).dtype

    def for_inference(self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> LipNetworks:
        """Put the networks where they are to run; on the CPU, convolutions are faster with channels stored last."""
        self.to(device, dtype)
        if self.device.type == "cpu" and dtype == torch.float32:
            self.to(memory_format=torch.channels_last)
        return self.eval().requires_grad_(False)

    def with_share(self, features: object, share: float) -> object | None:  # noqa: ARG002 - as the contract has it
        """None: what is painted is not added to aligned references, see `LipModel`."""
        return None

    def at_once(self, num_frames: int) -> int:
        """References that go through the networks together with some frames, so that memory stays bounded."""
        return max(1, int(self._pairs_at_once / max(1, num_frames)))

    @property
    def frames_at_once(self) -> int:
        """Frames that go through the networks together, however many there are in a batch."""
        return max(1, int(self._pairs_at_once / 2))

    @property
    def _pairs_at_once(self) -> float:
        return PAIRS_AT_ONCE.get(self.device.type, 8) * PAIR_PIXELS / self.size**2

    def check_crops(self, crops: Tensor, name: str, shape: str = "N 3") -> Tensor:
        """Crops (N, 3, S, S) of the networks' own size, on their device and in their dtype.

        Raises:
            ShapeError: another shape or size.
        """
        return check_shape(crops, f"{shape} {self.size} {self.size}", name).to(self.device, self.dtype)

    def check_references(self, references: References) -> tuple[Tensor, Tensor]:
        """Pictures and sketches (N, 3, S, S).

        Raises:
            ShapeError: of another size.
            InputError: there are none.
        """
        if not len(references.pictures):
            raise InputError("a lip renderer needs at least one reference frame with a face; none was given.")
        pictures = self.check_crops(references.pictures, "reference pictures")
        sketches = self.check_crops(references.sketches, "sketches of references", f"{len(pictures)} 3")
        return pictures, sketches

    def check_sketches(self, batch: LipBatch) -> Tensor:
        """Sketches (B, 15, S, S) around every frame of a batch.

        Raises:
            ShapeError: of another shape or size.
        """
        count = len(batch.pictures)
        return self.check_crops(batch.sketches, "sketches of frames", f"{count} {SKETCHES} 3").flatten(1, 2)

    def check_points(self, points: Tensor | None, count: int, name: str) -> Tensor:
        """Landmarks (N, 131, 2) on the networks' device, float32.

        Raises:
            InputError: there are none.
            ShapeError: of another shape.
        """
        if points is None:
            raise InputError(f"this lip renderer warps lip references to landmarks, but {name} is None; give them.")
        return check_shape(points, f"{count} {len(LIP_POINTS)} 2", name).to(self.device, torch.float32)

    def check_mel(self, batch: LipBatch) -> Tensor:
        """Mel chunks (B, 80, 16) of a batch.

        Raises:
            InputError: there are none, or of another shape.
        """
        if batch.sound is None:
            raise InputError("this lip renderer hears mel chunks; give the speech too.")
        return check_shape(batch.sound, f"{len(batch.pictures)} {MEL_SHAPE}", "mel chunks").to(self.device, self.dtype)


def masked_half(pictures: Tensor) -> Tensor:
    """(B, 3, S, S) with black lower halves."""
    hidden = pictures.clone()
    hidden[..., pictures.shape[-2] // 2 :, :] = 0
    return hidden


def distinct(*stacks: Tensor) -> tuple[list[int], Tensor]:
    """Indices of references that differ, and how many equal ones each stands for.

    Args:
        stacks: (N, …) tensors, equal references being so in all of them.

    Returns:
        Indices of the first of each kind, and their counts (K,) float32.
    """
    firsts: list[int] = []
    counts: list[int] = []
    for i in range(len(stacks[0])):
        same = next((k for k, j in enumerate(firsts) if all(torch.equal(x[i], x[j]) for x in stacks)), None)
        if same is None:
            firsts.append(i)
            counts.append(1)
        else:
            counts[same] += 1
    return firsts, torch.tensor(counts, dtype=torch.float32)
