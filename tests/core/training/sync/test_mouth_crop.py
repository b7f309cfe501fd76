import torch
from torch.nn.functional import interpolate
from toy_puppet import landmarks, motion

from portraittalk_core.metrics.points68 import to_68
from portraittalk_core.training.sync.mouth_crop import crop_mouths, mouth_boxes


def test_box_follows_the_rule_of_the_public_code():
    points = landmarks(motion(3, 0))[..., :2] * 200
    boxes = mouth_boxes(points)
    for box, own in zip(boxes.tolist(), to_68(points), strict=True):
        top, left, right = own[29, 1].item(), own[48, 0].item(), own[54, 0].item()
        radius = int(1.1 * max(own[:17, 1].max().item() - top, right - left) / 2)
        middle = (left + right) / 2
        expected = [middle - 1.25 * radius, top, middle + 1.25 * radius, top + 2.25 * radius]
        assert box == [round(value) for value in expected]
        assert box[1] < own[48:, 1].min() and box[3] > own[48:, 1].max()  # the mouth is inside


def test_crop_matches_slice_and_torchs_interpolation():
    pictures = torch.rand(2, 3, 40, 50, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[5, 7, 25, 30], [11, 3, 31, 39]]).float()
    crops = crop_mouths(pictures, boxes, 16)
    for picture, crop, (x0, y0, x1, y1) in zip(pictures, crops, boxes.int().tolist(), strict=True):
        cut = picture[None, :, y0:y1, x0:x1]
        assert torch.allclose(crop, interpolate(cut, (16, 16), mode="bilinear", align_corners=True)[0], atol=1e-5)


def test_crop_repeats_the_edge_and_passes_gradients():
    pictures = torch.zeros(1, 3, 8, 8)
    pictures[..., -1] = 1
    pictures.requires_grad_(True)
    crop = crop_mouths(pictures, torch.tensor([[6.0, 0, 12, 8]]), 6)
    assert torch.allclose(crop[..., 1:], torch.ones(()), atol=1e-5)
    crop.sum().backward()
    assert pictures.grad[..., -1].min() > 0 and not pictures.grad[..., :5].any()
