import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.io import savemat

from portraittalk_core.weights.headers import read_shapes

TENSORS = {"a.weight": torch.zeros(3, 4), "b": torch.zeros(5, dtype=torch.float16), "c": torch.zeros(())}
SHAPES = {"a.weight": (3, 4), "b": (5,), "c": ()}


def number(value: int) -> bytes:
    low, rest = value & 127, value >> 7
    return bytes([low | 128]) + number(rest) if rest else bytes([low])


def part(field: int, content: bytes | int) -> bytes:
    """One protobuf field, by the rules of the encoding's specification."""
    if isinstance(content, int):
        return number(field << 3) + number(content)
    return number(field << 3 | 2) + number(len(content)) + content


def onnx_value(name: str, sizes: list[int | str]) -> bytes:
    dims = b"".join(part(1, part(1, s) if isinstance(s, int) else part(2, s.encode())) for s in sizes)
    return part(1, name.encode()) + part(2, part(1, part(1, 1) + part(2, dims)))


def onnx_file(inputs: dict, outputs: dict) -> bytes:
    graph = part(1, b"node") + part(2, b"name") + part(5, b"\0" * 300)
    graph += b"".join(part(11, onnx_value(*value)) for value in inputs.items())
    graph += b"".join(part(12, onnx_value(*value)) for value in outputs.items())
    return part(1, 7) + part(2, b"pytorch") + part(7, graph) + part(8, part(2, 11))


def test_safetensors_header(tmp_path):
    save_file(TENSORS, tmp_path / "x", metadata={"format": "pt"})
    assert read_shapes(tmp_path / "x") == SHAPES


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: {"state_dict": t}, lambda t: {"state_dict": {"model": t}}])
def test_checkpoint_names_do_not_depend_on_its_wrapping(tmp_path, wrap):
    torch.save(wrap(TENSORS) | {"epoch": 3}, tmp_path / "x")
    assert read_shapes(tmp_path / "x") == SHAPES


def test_nested_checkpoint_gives_dotted_names(tmp_path):
    torch.save({"image_proj": {"w": torch.zeros(2)}, "ip_adapter": {"1.k": torch.zeros(3)}}, tmp_path / "x")
    assert read_shapes(tmp_path / "x") == {"image_proj.w": (2,), "ip_adapter.1.k": (3,)}


def test_checkpoint_is_not_loaded_into_memory(tmp_path, monkeypatch):
    torch.save(TENSORS, tmp_path / "x")
    seen = {}
    real = torch.load
    monkeypatch.setattr(torch, "load", lambda *args, **options: seen.update(options) or real(*args, **options))
    read_shapes(tmp_path / "x")
    assert seen == {"map_location": "meta", "weights_only": True, "mmap": True}


def test_matlab_variables(tmp_path):
    savemat(tmp_path / "x.mat", {"idBase": np.zeros((7, 3)), "one": np.zeros((1, 4), np.float32)})
    assert read_shapes(tmp_path / "x.mat") == {"idBase": (7, 3), "one": (1, 4)}


def test_onnx_inputs_and_outputs(tmp_path):
    (tmp_path / "x").write_bytes(onnx_file({"input.1": ["batch", 3, 112, 112]}, {"683": [1, 512]}))
    assert read_shapes(tmp_path / "x") == {"input.1": (0, 3, 112, 112), "683": (1, 512)}


def test_archive_members(tmp_path):
    with zipfile.ZipFile(tmp_path / "x", "w") as archive:
        archive.writestr("net.tflite", b"12345")
    assert read_shapes(tmp_path / "x") == {"net.tflite": (5,)}


class Danger:
    def __reduce__(self):
        return (pytest.fail, ("code inside a pickle was run",))


def test_code_inside_a_checkpoint_is_not_run(tmp_path):
    torch.save({"w": Danger()}, tmp_path / "zip")
    (tmp_path / "old").write_bytes(pickle.dumps(Danger()))
    assert read_shapes(tmp_path / "zip") == read_shapes(tmp_path / "old") == {}


def test_damaged_files_hold_nothing(tmp_path):
    save_file(TENSORS, tmp_path / "x")
    torch.save(TENSORS, tmp_path / "y")
    whole = [(tmp_path / name).read_bytes() for name in "xy"] + [onnx_file({"a": [1]}, {})]
    damaged = [b"", b"\x08", b"hello", struct.pack("<Q", 2**62) + b"{", struct.pack("<Q", 90_000_000) + b"{}"]
    damaged += [content[: len(content) // 2] for content in whole[:2]] + [struct.pack("<Q", 4) + b"{\xff\xff}"]
    damaged += [whole[2][:6] + b"\xff" * 40, b"\x08\x07\x3b\x3b", b"MATLAB 5.0 MAT-file"]
    for content in damaged:
        (tmp_path / "d").write_bytes(content)
        assert read_shapes(tmp_path / "d") == {}
    assert read_shapes(tmp_path / "none") == {}
