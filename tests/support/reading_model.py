"""A stand-in for keypoint models whose keypoints are affine functions of the crop, and an opening that a mesh can see.

`ReadingModel` averages the crop in 8 × 8 cells; every number of its expression is a weighted sum of those.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.mesh.backends import MeshBackend
from portraittalk_core.renderers.implicit.bridges import eye_ratios, lip_ratio
from portraittalk_core.renderers.implicit.contract import CropRule, Keypoints
from portraittalk_core.types import KEYPOINT_LAYOUTS

CELLS = 8
RULES = {
    "liveportrait-21": CropRule(2.3, -0.125, upright=True),
    "face-vid2vid-15": CropRule(1.4, 0.0, upright=False),
}
ANGLES, SHIFT = (4.0, -7.0, 2.0), (0.05, -0.1, 0.02)


class ReadingModel:
    """A `renderers.implicit.contract.KeypointModel` without networks."""

    def __init__(self, layout: str = "liveportrait-21", size: int = 32) -> None:
        self.layout, self.crop, self.input_size, self.output_size = layout, RULES[layout], size, size
        self.device, self.dtype = torch.device("cpu"), torch.float32
        draw = torch.Generator().manual_seed(7)
        count = KEYPOINT_LAYOUTS[layout]
        self.canonical = 0.4 * torch.randn(1, count, 3, generator=draw)
        self.weights = 0.1 * torch.randn(CELLS, CELLS, count, 3, generator=draw)
        self.batches: list[int] = []  # sizes of those that were read

    def expression(self, crops: Tensor) -> Tensor:
        """(B, K, 3) of (B, 3, S, S) crops."""
        cells = torch.nn.functional.adaptive_avg_pool2d(crops.mean(1, keepdim=True), CELLS)[:, 0]
        return torch.einsum("byx,yxkc->bkc", cells, self.weights)

    def keypoints(self, crops: Tensor) -> Keypoints:
        """As the contract says; head and size are those of every face."""
        count = len(crops)
        self.batches.append(count)
        return Keypoints(
            self.canonical.expand(count, -1, -1),
            torch.tensor([ANGLES]).expand(count, 3),
            torch.tensor([SHIFT]).expand(count, 3),
            torch.full((count,), 1.3 if self.layout == "liveportrait-21" else 1.0),
            self.expression(crops),
        )

    def place(self, keypoints: Keypoints) -> Tensor:
        """By the family's published formula, with scipy's rotations."""
        pitch, yaw, roll = keypoints.rotation_deg.double().numpy().T
        if self.layout == "liveportrait-21":
            turns = Rotation.from_euler("xyz", np.stack([pitch, yaw, roll], 1), degrees=True)
        else:
            turns = Rotation.from_euler("zyx", np.stack([roll, yaw, pitch], 1) * 3.14 / 180)
        turned = keypoints.canonical @ torch.from_numpy(turns.as_matrix()).float().mT + keypoints.expression
        shift = keypoints.translation * torch.tensor([1.0, 1.0, 0.0 if self.layout == "liveportrait-21" else 1.0])
        return keypoints.scale[:, None, None] * turned + shift[:, None]


class FaceReader(ReadingModel):
    """A model whose keypoints 19, 11 and 1 (14 for 19, if it has 15) move as a face mesh finds lips, eyes and brows.

    What it draws is a picture for `OpeningMesh`, its mouth as far open as keypoint 19 says.
    """

    def __init__(self, mesh: MeshBackend, layout: str = "liveportrait-21") -> None:
        super().__init__(layout, size=192)
        self.output_size, self.lip = 128, 19 if layout == "liveportrait-21" else 14
        self.canonical = torch.zeros_like(self.canonical)
        self._mesh = mesh

    def expression(self, crops: Tensor) -> Tensor:
        """(B, K, 3) of (B, 3, S, S) crops."""
        found = torch.zeros(len(crops), self.canonical.shape[1], 3)
        for number, crop in enumerate(crops):
            face = self._mesh.detect((255 * crop.permute(1, 2, 0)).round().to(torch.uint8))[:1]
            found[number, self.lip, 1] = lip_ratio(face)[0]
            found[number, 11, 1] = -eye_ratios(face).mean()
            brows = face[0, [105, 334], 1] - face[0, [33, 263], 1]
            found[number, 1, 1] = brows.mean() / (face[0, 33] - face[0, 263]).norm()
        return found

    def features(self, crop: Tensor) -> Tensor:
        """Nothing of the crop is shown."""
        return crop.new_zeros(1, 1)

    def render(self, features: Tensor, source: Tensor, driving: Tensor) -> Tensor:
        """(B, 3, 128, 128) blocks; the opening is keypoint 19's height over that of one that never moves."""
        heights = (driving[:, self.lip, 1] - driving[:, 5, 1]) / 1.3
        blocks = [block_picture(min(1.0, max(0.0, float(height)))) for height in heights]
        return torch.stack(blocks).permute(0, 3, 1, 2).float() / 255


class OpeningMesh:
    """Face-mesh stub: the face fills a red block, and its lips part as the block is green (0 shut .. 100 of 255)."""

    name = "openings"

    def detect(self, picture: Tensor) -> Tensor:
        """(F, 478, 3) of the block in a picture (H, W, 3) uint8."""
        height, width = picture.shape[:2]
        block = (picture[..., 0] > 140) & (picture[..., 2] < 100)
        rows, columns = block.nonzero().unbind(1)
        if len(rows) < 40:
            return torch.zeros(0, 478, 3)
        face = canonical_face().clone()  # which is shared
        corners = float((face[61] - face[291])[:2].norm())
        green = float(picture[..., 1][block].float().median())
        face[13, :2] = face[14, :2] = face[[13, 14], :2].mean(0)
        face[14, 1] += green / 100 * corners
        low = torch.tensor([float(columns.min()), float(rows.min())])
        extent = torch.tensor([float(columns.max()), float(rows.max())]) + 1 - low
        face_min, face_max = face[:468, :2].amin(0), face[:468, :2].amax(0)
        unit = float((extent / (face_max - face_min)).mean())  # one for both axes: ratios stay
        points = (face[:, :2] - face_min) * unit + low
        return (torch.cat([points, face[:, 2:] * unit], 1) / torch.tensor([width, height, width]))[None]

    def close(self) -> None:
        """Nothing to free."""

    def __enter__(self) -> OpeningMesh:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def block_picture(opening: float | None, left: int = 34, side: int = 128) -> Tensor:
    """(S, S, 3) uint8 that `OpeningMesh` sees a mouth of this opening in; None: no face."""
    picture = torch.full((side, side, 3), 230, dtype=torch.uint8)
    picture[..., 0] = 20
    if opening is not None:
        picture[30:100, left : left + 60] = torch.tensor([200, round(100 * opening), 20], dtype=torch.uint8)
    return picture
