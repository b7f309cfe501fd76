"""Whose face the command line paints: several pictures, how they count, a blend, with or without background."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from portraittalk_core.errors import InputError
from portraittalk_core.face.identity.embedding import FaceEmbedding, blend_faces
from portraittalk_core.renderers.contract import Callbacks
from portraittalk_core.renderers.identitynet import diffusers_backend
from portraittalk_core.renderers.identitynet.diffusers_backend import DiffusersBackend
from portraittalk_core.renderers.identitynet.options import IdentityNetOptions
from portraittalk_core.renderers.identitynet.painter import Animation, DiffusersPainter, PaintOptions
from portraittalk_core.renderers.repaint import repainted

FILES = {"checkpoint": Path("sd"), "identity_adapter": Path("id"), "face_models": Path("models")}


def face_of(name: str) -> torch.Tensor:
    return torch.randn(512, generator=torch.Generator().manual_seed(sum(map(ord, name))))


class Encoder:
    """Describes a picture by its name."""

    def __init__(self, *_):
        self.masks = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def encode(self, pictures, names, weights=None, masks=None, crop_px=0):
        type(self).masks = masks
        shares = torch.empty(0) if weights is None else torch.tensor(weights)
        return SimpleNamespace(embedding=FaceEmbedding(torch.stack([face_of(n) for n in names]), shares), crops=[])


@pytest.fixture
def described(monkeypatch):
    """Embedding and way of combining that the adapter gets."""
    monkeypatch.setattr(diffusers_backend, "FaceEncoder", Encoder)
    monkeypatch.setattr(diffusers_backend, "find_face_models", lambda _: None)
    monkeypatch.setattr(diffusers_backend, "load_picture", lambda _: torch.zeros(64, 64, 3, dtype=torch.uint8))
    adapter = SimpleNamespace(tokens=lambda embedding, combine: (embedding, combine))

    def tokens(**options):
        return DiffusersBackend(IdentityNetOptions(**FILES, device="cpu", **options))._face_tokens(None, adapter)

    return tokens


def test_pictures_count_by_their_weights_and_are_combined_as_told(described):
    embedding, combine = described(faces=(Path("a"), Path("b")), face_weights=(3.0, 1.0), combine="concat")
    expected = torch.nn.functional.normalize(
        3 * torch.nn.functional.normalize(face_of("a"), dim=0) + torch.nn.functional.normalize(face_of("b"), dim=0),
        dim=0,
    )
    torch.testing.assert_close(embedding.averaged(), expected)
    assert combine == "concat" and Encoder.masks is None


def test_blend_leads_from_one_person_to_the_other(described):
    faces = {"faces": (Path("a"),), "blend_with": (Path("c"),)}
    a, c = (FaceEmbedding(face_of(name)[None]) for name in "ac")
    for amount in (0.0, 0.3, 1.0):
        embedding, _ = described(**faces, blend_amount=amount)
        torch.testing.assert_close(embedding.averaged(), blend_faces(a, c, amount).averaged())
        assert float(embedding.averaged() @ c.averaged()) == pytest.approx(
            float(torch.cos((1 - amount) * torch.acos(a.averaged() @ c.averaged()))), abs=1e-3
        )


def test_background_is_removed_by_the_mask_of_the_person(described, monkeypatch):
    from portraittalk_core.face.identity import background

    monkeypatch.setattr(background, "person_mask", lambda images: images.mean(1) + 0.25)
    described(faces=(Path("a"), Path("b")), remove_background=True)
    assert [mask.shape for mask in Encoder.masks] == [(64, 64)] * 2 and all((m == 0.25).all() for m in Encoder.masks)


BAD = {
    "`face_weights` has 1 numbers for 2 `faces`": {"faces": (Path("a"), Path("b")), "face_weights": (1.0,)},
    "`face_weights` are all 0": {"faces": (Path("a"),), "face_weights": (0.0,)},
    "face_weights must be at least 0": {"faces": (Path("a"),), "face_weights": (-1.0,)},
    "`per_frame` paints one frame at a time; leave `batch_size`": {"per_frame": True, "batch_size": 2},
    "`per_frame` paints one frame after the other": {"per_frame": True, "motion_module": Path("m")},
}


@pytest.mark.parametrize("message", BAD)
def test_options_that_cannot_be_are_refused(message):
    with pytest.raises(InputError, match=message):
        IdentityNetOptions(**FILES, **BAD[message])


def test_blend_needs_an_adapter():
    with pytest.raises(InputError, match="`blend_with` needs `identity_adapter`"):
        IdentityNetOptions(checkpoint=Path("sd"), blend_with=(Path("a"),))


@pytest.mark.parametrize("per_frame", [True, False])
def test_frame_by_frame_each_begins_with_the_finished_one_before_it(per_frame):
    """The sampler adds 1 to the latents; a picture's latents are its brightness."""
    painter, started = _painter(per_frame), []

    def sampled(latents, *_):
        started.append(float(latents.mean()))
        return latents + 1

    painter._sampled = sampled
    painter.encode = lambda frames: (255 * frames).mean((1, 2, 3)).round().view(-1, 1, 1, 1).expand(-1, 4, 2, 2)
    painter._decoded = decoded
    list(repainted((torch.full((16, 16, 3), n, dtype=torch.uint8) for n in (10, 50, 90)), 3, painter, Callbacks()))
    assert started == ([10, 11, 12] if per_frame else [10, 50, 90])


def decoded(latents):
    from portraittalk_core.renderers.identitynet.painter import Painted

    return Painted(torch.zeros(len(latents), 16, 16, 3), latents)


def _painter(per_frame):
    sd15 = SimpleNamespace(vae=object(), unet=None)
    return DiffusersPainter(sd15, None, {}, PaintOptions(per_frame=per_frame), Animation())
