import math

import pytest
import torch

from portraittalk_core.errors import InputError, MediaError
from portraittalk_core.face.identity.embedding import FaceEmbedding, blend_faces, join_faces
from portraittalk_core.media.records import load_record, save_record


def axis(*at: int) -> torch.Tensor:
    rows = torch.zeros(len(at), 512)
    rows[range(len(at)), list(at)] = 1
    return rows


def test_embeddings_are_brought_to_length_one():
    faces = FaceEmbedding(3 * axis(0, 1))
    torch.testing.assert_close(faces.face_embeds, axis(0, 1))
    assert faces.weights.tolist() == [1, 1]


def test_average_is_weighted_and_of_length_one():
    mean = FaceEmbedding(axis(0, 1), torch.tensor([3.0, 4.0])).averaged()
    assert mean[:2].tolist() == pytest.approx([0.6, 0.8])
    assert float(mean.norm()) == pytest.approx(1)


def test_blend_goes_along_the_great_circle():
    a, b = FaceEmbedding(axis(0)), FaceEmbedding(axis(1))
    third = blend_faces(a, b, 1 / 3).averaged()
    assert third[:2].tolist() == pytest.approx([math.cos(math.pi / 6), math.sin(math.pi / 6)], abs=1e-6)
    torch.testing.assert_close(blend_faces(a, b, 0).averaged(), a.averaged())
    torch.testing.assert_close(blend_faces(a, b, 1).averaged(), b.averaged())
    torch.testing.assert_close(blend_faces(a, a, 0.5).averaged(), a.averaged())


def test_blend_mixes_clips_view_where_both_have_it():
    states = [torch.full((1, 5, 8), float(i)) for i in (0, 4)]
    a, b = (FaceEmbedding(axis(i), clip_states=s) for i, s in enumerate(states))
    torch.testing.assert_close(blend_faces(a, b, 0.25).clip_states, torch.ones(1, 5, 8))
    assert blend_faces(a, FaceEmbedding(axis(1)), 0.25).clip_states is None


def test_join_keeps_pictures_and_weights():
    joined = join_faces([FaceEmbedding(axis(0, 1), torch.tensor([1.0, 2.0])), FaceEmbedding(axis(2))])
    assert torch.equal(joined.face_embeds, axis(0, 1, 2)) and joined.weights.tolist() == [1, 2, 1]


def test_joining_nobody_is_refused():
    with pytest.raises(InputError, match="no face embedding to join"):
        join_faces([])


def test_record_comes_back(tmp_path):
    face = FaceEmbedding(torch.randn(2, 512), torch.tensor([1.0, 2.0]), clip_embeds=torch.randn(2, 16))
    back = load_record(FaceEmbedding, save_record(face, tmp_path / "a.safetensors"))
    for name in ("face_embeds", "weights", "clip_embeds"):
        torch.testing.assert_close(getattr(back, name), getattr(face, name))
    assert back.clip_states is None


def test_another_record_is_refused(tmp_path, astronaut):
    path = save_record(astronaut.landmarks, tmp_path / "a.safetensors")
    with pytest.raises(MediaError, match="holds a LandmarkTrack, not a FaceEmbedding"):
        load_record(FaceEmbedding, path)


NAN = float("nan")


@pytest.mark.parametrize(
    ("faces", "weights", "words"),
    [
        (torch.randn(2, 768), [], "not 768: these look like CLIP's"),
        (torch.randn(512), [], r"but have \(512,\)"),
        (torch.zeros(1, 512), [], "all zeros"),
        (torch.full((1, 512), NAN), [], "512 values of 512 that are NaN"),
        (torch.randn(2, 512), [1.0], "2 pictures need 2 weights"),
        (torch.randn(2, 512), [1.0, -1.0], "must be 0 or more"),
        (torch.randn(2, 512), [0.0, 0.0], "one above 0"),
        (torch.randn(2, 512), [NAN, 1.0], "NaN"),
    ],
)
def test_bad_embeddings_are_refused(faces, weights, words):
    with pytest.raises(InputError, match=words):
        FaceEmbedding(faces, torch.tensor(weights))


def test_faces_that_cancel_are_refused():
    with pytest.raises(InputError, match="cancel each other"):
        FaceEmbedding(torch.cat([axis(0), -axis(0)])).averaged()
    with pytest.raises(InputError, match="exact opposites"):
        blend_faces(FaceEmbedding(axis(0)), FaceEmbedding(-axis(0)), 0.5)


def test_clips_view_of_another_number_of_pictures_is_refused():
    with pytest.raises(InputError, match="must have 3 axes and 1 rows"):
        FaceEmbedding(axis(0), clip_states=torch.zeros(2, 5, 8))
