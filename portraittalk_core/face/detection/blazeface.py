"""MediaPipe's two face detectors as torch networks, and the decoding of their outputs.

Written from the layer lists of the published models and from the options of MediaPipe's graphs; the weights come from
``weights/*.safetensors``, which ``tools/convert_face_mesh.py`` makes.

Shapes: B crops, A anchors, D detections. A detection is (x0, y0, x1, y1, six key points x y) with 0..1 across the crop;
key points 0 and 1 are the person's right and left eye.
Source: Bazarevsky et al., "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs", 2019, sections 3 and 4.2.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .boxes import suppression_groups

NMS_MIN_IOU = 0.3  # detections that overlap more than this are one face


class BlazeBlock(nn.Module):
    """Depthwise 3×3, pointwise 1×1, skip connection, activation; stride 2 pools the skip, new channels are 0 in it."""

    def __init__(self, num_in: int, num_out: int, stride: int = 1, prelu: bool = False) -> None:
        super().__init__()
        self.stride, self.num_new = stride, num_out - num_in
        self.depthwise = nn.Conv2d(num_in, num_in, 3, stride, padding=int(stride == 1), groups=num_in)
        self.pointwise = nn.Conv2d(num_in, num_out, 1)
        self.activation = nn.PReLU(num_out) if prelu else nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        inner, skip = x, x
        if self.stride == 2:  # TensorFlow's SAME padding: an even side gets its one row and column after, none before
            inner, skip = F.pad(x, (0, 1, 0, 1)), F.max_pool2d(x, 2)
        if self.num_new:
            skip = F.pad(skip, (0, 0, 0, 0, 0, self.num_new))
        return self.activation(self.pointwise(self.depthwise(inner)) + skip)


def _anchor_grid(cells: int, num_per_cell: int) -> Tensor:
    """(cells² · num_per_cell, 2) centres x, y in 0..1, row by row."""
    centres = (torch.arange(cells) + 0.5) / cells
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2).repeat_interleave(num_per_cell, dim=0)


class ShortRangeDetector(nn.Module):
    """The selfie detector: 128×128 pixels in, 896 anchors out."""

    side_px, min_score = 128, 0.5

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 5, 2)
        widths = [24, 24, 28, 32, 36, 42, 48, 56, 64, 72, 80, 88]
        pairs = zip(widths[:-1], widths[1:], strict=True)
        self.fine = nn.Sequential(*[BlazeBlock(a, b, 1 + (b in (32, 48))) for a, b in pairs])
        self.coarse = nn.Sequential(BlazeBlock(88, 96, 2), *[BlazeBlock(96, 96) for _ in range(4)])
        self.scores_fine, self.scores_coarse = nn.Conv2d(88, 2, 1), nn.Conv2d(96, 6, 1)
        self.boxes_fine, self.boxes_coarse = nn.Conv2d(88, 32, 1), nn.Conv2d(96, 96, 1)
        self.register_buffer("anchors", torch.cat([_anchor_grid(16, 2), _anchor_grid(8, 6)]), persistent=False)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Raw boxes (B, 896, 16) and score logits (B, 896) of crops (B, 3, 128, 128) in −1..1."""
        fine = self.fine(F.relu_(self.stem(F.pad(crops, (1, 2, 1, 2)))))
        coarse = self.coarse(fine)
        boxes = torch.cat([_by_anchor(self.boxes_fine(fine), 16), _by_anchor(self.boxes_coarse(coarse), 16)], dim=1)
        scores = torch.cat([_by_anchor(self.scores_fine(fine), 1), _by_anchor(self.scores_coarse(coarse), 1)], dim=1)
        return boxes, scores.squeeze(-1)


class _Separable(nn.Sequential):
    """Depthwise 3×3 then pointwise 1×1, no activation."""

    def __init__(self, num_in: int, num_out: int, stride: int = 1) -> None:
        super().__init__(nn.Conv2d(num_in, num_in, 3, stride, 1, groups=num_in), nn.Conv2d(num_in, num_out, 1))


class _Bottleneck(nn.Module):
    """Two separable convolutions through a narrow middle; with a skip connection where the shape stays."""

    def __init__(self, num_in: int, num_out: int, middle: int, stride: int = 1) -> None:
        super().__init__()
        self.skips = stride == 1
        self.squeeze, self.expand = _Separable(num_in, middle, stride), _Separable(middle, num_out)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.expand(F.relu_(self.squeeze(x)))
        return F.relu_(inner + x if self.skips else inner)


class _Level(nn.Module):
    """One scale of the way down, and the 1×1 convolution that carries its features over to the way up."""

    def __init__(self, num_in: int, width: int, middle: int, num_blocks: int, lateral: int) -> None:
        super().__init__()
        rest = [_Bottleneck(width, width, middle) for _ in range(num_blocks)]
        self.blocks = nn.Sequential(_Bottleneck(num_in, width, middle, 2), *rest)
        self.lateral = nn.Conv2d(width, lateral, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.blocks(x)
        return x, F.relu_(self.lateral(x))


class FullRangeDetector(nn.Module):
    """The back-camera detector, for small and distant faces: 192×192 pixels in, 2304 anchors out."""

    side_px, min_score = 192, 0.6

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2, 1)
        self.first = nn.Sequential(_Bottleneck(32, 32, 8), _Bottleneck(32, 32, 8))
        shapes = [(32, 64, 16, 2, 48), (64, 128, 32, 2, 64), (128, 192, 48, 2, 96), (192, 384, 96, 3, 96)]
        self.down = nn.ModuleList([_Level(*shape) for shape in shapes])
        self.up = nn.ModuleList(
            [
                nn.Sequential(_Bottleneck(96, 96, 48), _Bottleneck(96, 96, 48), nn.Conv2d(96, 64, 1), nn.ReLU()),
                nn.Sequential(_Bottleneck(64, 64, 32), _Bottleneck(64, 64, 32), nn.Conv2d(64, 48, 1), nn.ReLU()),
                nn.Sequential(_Bottleneck(48, 48, 24)),
            ]
        )
        self.scores = nn.Sequential(nn.Conv2d(48, 4, 1), nn.Conv2d(4, 4, 3, 2, 1, groups=4))
        self.boxes = nn.Sequential(nn.Conv2d(48, 64, 1), nn.Conv2d(64, 64, 3, 2, 1, groups=64))
        self.register_buffer("anchors", _anchor_grid(48, 1), persistent=False)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Raw boxes (B, 2304, 16) and score logits (B, 2304) of crops (B, 3, 192, 192) in −1..1."""
        x = self.first(F.relu_(self.stem(crops)))
        laterals = []
        for level in self.down:
            x, lateral = level(x)
            laterals.append(lateral)
        x = laterals.pop()
        for merge in self.up:
            x = merge(laterals.pop() + F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
        boxes, scores = _depth_to_space(self.boxes(x)), _depth_to_space(self.scores(x))
        return _by_anchor(boxes, 16), _by_anchor(scores, 1).squeeze(-1)


def _by_anchor(features: Tensor, size: int) -> Tensor:
    return rearrange(features, "b (n size) h w -> b (h w n) size", size=size)


def _depth_to_space(features: Tensor) -> Tensor:
    """Sub-pixels to pixels: TensorFlow numbers the four sub-pixels first, torch's pixel_shuffle last."""
    return rearrange(features, "b (down across c) h w -> b c (h down) (w across)", down=2, across=2)


def decode(boxes: Tensor, logits: Tensor, detector: ShortRangeDetector | FullRangeDetector) -> Tensor:
    """Detections (D, 16) of one crop's raw boxes (A, 16) and logits (A,), best first, overlapping ones averaged."""
    scores = logits.clamp(-100, 100).sigmoid()
    keep = (scores >= detector.min_score) & (boxes[:, 2:4] >= 0).all(dim=1)
    raw, centres, scores = boxes[keep] / detector.side_px, detector.anchors[keep], scores[keep]
    middle, half = raw[:, :2] + centres, raw[:, 2:4] / 2
    points = raw[:, 4:].reshape(-1, 6, 2) + centres[:, None]
    return merge_overlapping(torch.cat([middle - half, middle + half, points.flatten(1)], dim=1), scores)


def merge_overlapping(detections: Tensor, scores: Tensor) -> Tensor:
    """Weighted non-maximum suppression: each group around a best detection becomes its score-weighted mean.

    Args:
        detections: (D, 4 + …), boxes x0, y0, x1, y1 first.
        scores: (D,) in 0..1.

    Returns:
        (fewer, 4 + …), best first.
    """
    order = scores.argsort(descending=True, stable=True)
    detections, scores = detections[order], scores[order]
    merged = []
    for group in suppression_groups(detections[:, :4], NMS_MIN_IOU):
        weights = scores[group, None]
        merged.append((detections[group] * weights).sum(0) / weights.sum())
    return torch.stack(merged) if merged else detections
