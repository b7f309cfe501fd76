"""Edits of the person or of the background: the rest of every frame stays as it was."""

from types import SimpleNamespace

import pytest
import torch

from portraittalk_core.errors import InputError
from portraittalk_core.renderers.identitynet import edit
from portraittalk_core.renderers.identitynet.edit import KeptDenoiser
from portraittalk_core.renderers.identitynet.painter import Animation, DiffusersPainter, Painted, PaintOptions


def left_half(images):
    """A person on the left half of every picture (B, 3, H, W)."""
    mask = torch.zeros(images.shape[0], *images.shape[2:])
    mask[..., : images.shape[3] // 2] = 1
    return mask


@pytest.mark.parametrize(("name", "painted"), [("background", slice(8, 16)), ("person", slice(8)), ("all", slice(16))])
def test_only_what_is_edited_changes(monkeypatch, name, painted):
    monkeypatch.setattr(edit, "person_mask", left_half)
    painter = DiffusersPainter(SimpleNamespace(vae=object(), unet=None), None, {}, PaintOptions(edit=name), Animation())
    painter.encode = lambda frames: frames.mean((1, 2, 3)).view(-1, 1, 1, 1).expand(-1, 4, 2, 2)
    painter._sampled = lambda latents, *_: latents
    painter._decoded = lambda latents: Painted(torch.ones(len(latents), 16, 16, 3), latents)
    frames = torch.full((2, 16, 16, 3), 0.25)
    expected = frames.clone()
    expected[:, :, painted] = 1
    assert torch.equal(painter.paint(frames).frames, expected)


def test_sampler_sees_what_stays_at_every_step():
    known, weights = torch.full((1, 4, 2, 2), 5.0), left_half(torch.zeros(1, 3, 16, 16))[:, None]
    weights[..., 8:12] = 0.5  # a soft edge: a quarter of the pixels of the right latents
    denoised = KeptDenoiser(lambda x, sigma, _: x * sigma, known, weights)(torch.ones(1, 4, 2, 2), 2.0, None)
    assert torch.equal(denoised[0, 0], torch.tensor([[5.0, 2.75], [5.0, 2.75]]))


def test_finished_frames_of_a_chunk_are_no_edits(monkeypatch):
    painter = DiffusersPainter(SimpleNamespace(vae=object(), unet=None), None, {}, PaintOptions(), Animation())
    painter._kept = (torch.full((2, 4, 2, 2), 5.0), torch.ones(2, 1, 16, 16))
    held = painter._with_kept(lambda x, sigma, _: x, torch.zeros(3, 4, 2, 2))
    assert held(torch.full((3, 4, 2, 2), 7.0), 1.0, None)[:, 0, 0, 0].tolist() == [7.0, 5.0, 5.0]


def test_unknown_edit_is_refused():
    with pytest.raises(InputError, match="edit must be one of all, person, background"):
        PaintOptions(edit="hat")
