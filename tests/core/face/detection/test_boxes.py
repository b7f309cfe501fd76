import numpy as np
import pytest
import torch

from portraittalk_core.face.detection.boxes import box_iou, suppress, suppression_groups


def test_box_iou_closed_form():
    one, others = (
        torch.tensor([[0.0, 0, 2, 2]]),
        torch.tensor([[1.0, 1, 3, 3], [2, 2, 4, 4], [0, 0, 2, 2], [1, 1, 1, 1]]),
    )
    assert torch.allclose(box_iou(one, others), torch.tensor([[1 / 7, 0, 1, 0]]))
    assert torch.allclose(box_iou(one, others, end=1), torch.tensor([[4 / 14, 1 / 17, 1, 1 / 9]]))  # 3×3 pixels, 1×1


def test_suppression_of_pixel_boxes():
    boxes = torch.tensor([[0, 0, 9, 9], [0, 0, 9, 8], [20, 20, 29, 29], [0, 5, 9, 14]]).float()
    assert suppress(boxes, 0.4, end=1).tolist() == [0, 2, 3]  # the last shares a third
    assert suppress(boxes, 0.3, end=1).tolist() == [0, 2]
    assert suppress(torch.zeros(0, 4), 0.4).tolist() == []


def area_of_union(one, two) -> float:
    """By counting the cells of a fine grid."""
    at = np.arange(0, 130, 0.5) + 0.25
    inside = [((at > b[0]) & (at < b[2]))[:, None] & ((at > b[1]) & (at < b[3])) for b in (one, two)]
    return (inside[0] & inside[1]).sum() / (inside[0] | inside[1]).sum()


@pytest.mark.parametrize("most", [0.1, 0.3, 0.6])
def test_suppression_keeps_what_no_better_kept_box_overlaps(most):
    draw = np.random.default_rng(3)
    low = draw.integers(0, 80, (60, 2))
    boxes = np.concatenate([low, low + draw.integers(5, 45, (60, 2))], 1)
    kept = []
    for number, box in enumerate(boxes):
        if all(area_of_union(box, boxes[other]) <= most for other in kept):
            kept.append(number)
    assert suppress(torch.from_numpy(boxes).float(), most).tolist() == kept
    groups = suppression_groups(torch.from_numpy(boxes).float(), most)
    assert sorted(torch.cat(groups).tolist()) == list(range(60))
    for group in groups:
        assert all(area_of_union(boxes[group[0]], boxes[other]) > most for other in group[1:])


def test_a_box_without_area_is_kept_and_suppresses_nothing():
    boxes = torch.tensor([[5.0, 5, 5, 5], [0, 0, 10, 10], [5, 5, 5, 5]])
    assert suppress(boxes, 0.0).tolist() == [0, 1, 2]
