"""Masks of what IdentityNet Sampler paints, and a MASK at the border to the core; no ComfyUI is needed."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from comfy_stub import PACK, nodes_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bindings():
    with nodes_of(ROOT):
        yield lambda name: importlib.import_module(f"{PACK}.nodes.bindings.{name}")


def test_masks_begin_anew_where_they_are_fewer_than_frames(bindings):
    masks = bindings("frame_masks").FrameMasks(torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1), (8, 8))
    assert masks.at(range(2, 7)).flatten().tolist() == [1, 0, 0.5, 1, 0]


@pytest.mark.parametrize("scale", [1, 2])
def test_a_portraits_mask_is_cut_as_the_portrait_is(bindings, scale):
    """The portrait is 8 by 4; its right half becomes the frames. A mask of twice its size says the same."""
    fits = importlib.import_module(f"{PACK}.portraittalk_core.face.fit")
    mask = torch.zeros(1, 4, 8)
    mask[..., 6:] = 1
    mask = mask.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    fit = fits.Fit(left=4, top=0, box_width=4, box_height=4, width=16, height=16)
    masks = bindings("frame_masks").FrameMasks(mask, (16, 16), fit, (4, 8))
    assert torch.equal(masks.at([0])[0, 0], torch.tensor([[0.0, 0, 1, 1]]).expand(4, 4))
    drafts, painted = torch.zeros(1, 16, 16, 3), torch.ones(1, 16, 16, 3)
    kept = masks.composite(painted, drafts, 0)[0, :, :, 0]
    assert torch.equal(kept[:, :6], torch.zeros(16, 6)) and torch.equal(kept[:, 10:], torch.ones(16, 6))


def test_a_mask_of_the_frames_size_is_theirs(bindings):
    fits = importlib.import_module(f"{PACK}.portraittalk_core.face.fit")
    mask = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(0))
    masks = bindings("frame_masks").FrameMasks(mask, (16, 16), fits.Fit(4, 0, 4, 4, 16, 16), (4, 8))
    assert torch.equal(masks.at([3])[0], mask)


@pytest.mark.parametrize(
    "given",
    [
        torch.tensor([[0.0, 1.0], [1.0, 0.0]]),
        torch.tensor([[[0, 255], [255, 0]]], dtype=torch.uint8),
        torch.tensor([[[[0.0, 1.0], [1.0, 0.0]]]]),
        np.array([[[False, True], [True, False]]]),
    ],
)
def test_masks_of_other_packs_are_taken(bindings, given):
    assert bindings("convert").to_mask_batch(given).tolist() == [[[0, 1], [1, 0]]]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (torch.zeros(2, 4, 4, 3), r"a MASK, \(masks, height, width\), is needed, not \(2, 4, 4, 3\)"),
        (torch.zeros(0, 4, 4), r"is needed, not \(0, 4, 4\)"),
        ("mask", "is needed, not str"),
        (torch.full((1, 2, 2), float("nan")), "4 values of 4 that are NaN or infinite"),
    ],
)
def test_what_is_no_mask_is_refused(bindings, given, words):
    with pytest.raises(ValueError, match=words):
        bindings("convert").to_mask_batch(given)
