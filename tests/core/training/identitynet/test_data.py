import dataclasses

import pytest
import torch
from PIL import Image
from toy_faces import PEOPLE, toy_data, write_people

from portraittalk_core.errors import InputError
from portraittalk_core.face.identity.embedding import FaceEmbedding
from portraittalk_core.media.records import load_record
from portraittalk_core.training.data.squares import fit_square
from portraittalk_core.training.identitynet.data import FaceData, read_people


def test_batches_show_everybody_once_and_pair_with_another_picture():
    data = toy_data(10, 5)
    marked = FaceData(
        [dataclasses.replace(p, face_embed=torch.full((512,), float(i))) for i, p in enumerate(data.pictures)]
    )
    shown = [marked.batch(number, 2, 7, 64) for number in range(5)]
    assert sorted(index for batch in shown for index in batch.indices) == list(range(10))
    for batch in shown:
        for index, face in zip(batch.indices, batch.face_embeds[:, 0].int().tolist(), strict=True):
            assert face != index and marked.pictures[face].person == marked.pictures[index].person
    again, other = marked.batch(3, 2, 7, 64), marked.batch(3, 2, 8, 64)
    assert again.indices == shown[3].indices and torch.equal(again.face_embeds, shown[3].face_embeds)
    assert other.indices != again.indices or not torch.equal(other.face_embeds, again.face_embeds)


def test_a_single_picture_is_paired_with_itself():
    data = toy_data(10, 1, PEOPLE[:1])
    assert torch.equal(data.batch(0, 2, 0, 64).face_embeds[0], data.pictures[0].face_embed)


def test_the_middle_square_is_taken():
    picture = torch.zeros(3, 100, 300)
    picture[:, :, 100:200] = 1
    assert torch.equal(fit_square(picture, 100), torch.ones(3, 100, 100))
    assert torch.allclose(fit_square(picture, 64), torch.ones(3, 64, 64), atol=1e-6)


class FakeEncoder:
    """Embeds by the mean colour; sees no face in black pictures."""

    def __init__(self) -> None:
        self.seen, self.closed = [], False

    def encode(self, pictures, names, masks=None):
        self.seen += names
        if pictures[0].float().mean() < 1:
            raise InputError("no face was found")
        draw = torch.Generator().manual_seed(int(pictures[0].float().mean()))
        return type("Encoded", (), {"embedding": FaceEmbedding(torch.randn(1, 512, generator=draw))})

    def close(self):
        self.closed = True


def test_embeddings_are_computed_once_and_kept(tmp_path):
    folder, encoder = write_people(tmp_path, records=False, captions=True), FakeEncoder()
    seen = []
    first, report = read_people(folder, lambda: encoder, lambda *now: seen.append(now))
    assert (report.people, report.pictures, report.dropped) == (2, 4, ())
    assert len(encoder.seen) == 4 and encoder.closed and seen == [(i, 4) for i in range(1, 5)]
    kept = load_record(FaceEmbedding, folder / "anna" / "0.png.embedding.safetensors")
    assert torch.equal(kept.averaged(), first.pictures[0].face_embed)
    again, _ = read_people(folder, lambda: pytest.fail("must not be needed"))
    assert again.fingerprint() == first.fingerprint()
    assert {p.caption for p in first.pictures} == {"a photo of anna", "a photo of bruno"}
    assert first.pictures[0].read().shape == (3, 128, 128)


def test_what_cannot_be_used_is_told(tmp_path):
    folder = write_people(tmp_path)
    Image.new("RGB", (128, 128)).save(folder / "anna" / "black.png")
    Image.new("RGB", (32, 32)).save(folder / "anna" / "small.png")
    (folder / "bruno" / "broken.jpg").write_bytes(b"no picture")
    data, report = read_people(folder, FakeEncoder)
    assert report.pictures == len(data) == 4
    told = dict(report.dropped)
    assert set(told) == {"anna/black.png", "anna/small.png", "bruno/broken.jpg"}
    assert "no face" in told["anna/black.png"] and "32×32" in told["anna/small.png"]


def test_a_folder_without_people_is_refused(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        read_people(tmp_path / "none", FakeEncoder)
    with pytest.raises(InputError, match="no sub-folder with pictures"):
        read_people(tmp_path, FakeEncoder)
    (tmp_path / "anna").mkdir()
    Image.new("RGB", (128, 128)).save(tmp_path / "anna" / "black.png")
    with pytest.raises(InputError, match="none of the 1 pictures.*no face"):
        read_people(tmp_path, FakeEncoder)
