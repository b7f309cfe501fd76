import pytest
import torch

from portraittalk_core.errors import InputError, MediaError
from portraittalk_core.media.lossless import pack, unpack


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 17, 33), (16, 64, 48), (2, 1, 1)])
def test_every_bit_comes_back(shape):
    pictures = torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(unpack(pack(pictures)), pictures)
    assert torch.equal(unpack(pack(pictures.transpose(1, 2))), pictures.transpose(1, 2))


def test_what_looks_like_a_picture_takes_half_the_bytes_at_most(astronaut):
    pictures = astronaut.picture[:256, :256].repeat(4, 1, 1, 1)
    assert len(pack(pictures)) < pictures.numel() / 2


def test_what_is_no_pictures_is_refused():
    for bad in (torch.zeros(1, 8, 8, 3), torch.zeros(0, 8, 8, 3, dtype=torch.uint8), torch.zeros(8, 8, 3)):
        with pytest.raises(InputError):
            pack(bad)
    whole = pack(torch.zeros(3, 16, 16, 3, dtype=torch.uint8))
    for bad in (torch.zeros(100, dtype=torch.uint8), whole[:40], whole[:0]):
        with pytest.raises(MediaError, match="the packed pictures are"):
            unpack(bad)
