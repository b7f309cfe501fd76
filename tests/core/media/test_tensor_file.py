import json

import pytest
import torch

from portraittalk_core.errors import OutputError
from portraittalk_core.media.tensor_file import save_tensors


def test_saved_tensors_are_laid_out_as_safetensors_says(tmp_path):
    """The format: 8 bytes little-endian length of the header, JSON, then the values one after another."""
    turned = torch.arange(6, dtype=torch.float32).reshape(2, 3).T.requires_grad_(True)  # neither contiguous nor a leaf
    path = save_tensors(
        {"a": turned, "b": torch.tensor([7], dtype=torch.uint8)}, tmp_path / "x.safetensors", {"k": "v"}
    )
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    assert header["__metadata__"] == {"k": "v"}
    assert (header["a"]["dtype"], header["a"]["shape"]) == ("F32", [3, 2])
    start, stop = (end + offset for offset in header["a"]["data_offsets"])
    values = torch.frombuffer(bytearray(content[start:stop]), dtype=torch.float32)
    assert values.tolist() == [0, 3, 1, 4, 2, 5]
    assert content[end + header["b"]["data_offsets"][0]] == 7


def test_nothing_is_left_of_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(OutputError, match="does not exist"):
        save_tensors({"a": torch.zeros(1)}, tmp_path / "none" / "x.safetensors")
    assert list(tmp_path.iterdir()) == []
