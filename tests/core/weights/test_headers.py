import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.io import savemat

from portraittalk_core.errors import InputError
from portraittalk_core.weights import headers
from portraittalk_core.weights.headers import read_shapes
from portraittalk_core.weights.load import load_strict, read_tensors

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


def archive_of(path, sizes):
    """An archive whose members inflate to so many zeros."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, size in sizes.items():
            archive.writestr(name, bytes(size))
    return path


class Touched(Exception):
    pass


@pytest.fixture
def untouched(monkeypatch):
    """Nothing may be unpacked."""

    def load(*_args, **_options):
        raise Touched

    monkeypatch.setattr(torch, "load", load)
    monkeypatch.setattr(headers, "MAX_MEMBERS", 20)
    monkeypatch.setattr(headers, "MAX_PICKLE_STEPS", 5000)


def pickled(count: int) -> bytes:
    """A pickle of so many empty dicts, each thrown away."""
    return b"\x80\x02" + b"}0" * count + b"N."


BOMBS = {
    "inflates": lambda path: archive_of(path, {"a/data.pkl": 100, "a/data/0": 100_000_000}),
    "long list": lambda path: archive_of(path, {"a/data.pkl": 9_000_000}),
    "many members": lambda path: archive_of(path, {"a/data.pkl": 1} | {f"a/data/{k}": 0 for k in range(20)}),
    "old and long": lambda path: path.write_bytes(pickled(3000)),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_what_would_fill_the_memory_is_refused_unread(kind, tmp_path, untouched):
    BOMBS[kind](tmp_path / "x.pt")
    with pytest.raises(InputError, match=r"x\.pt cannot be read as a weight file: it"):
        read_tensors(tmp_path / "x.pt")
    assert read_shapes(tmp_path / "x.pt") == {}


@pytest.mark.parametrize("start", [b"RIFF\x24\0\0\0WAVE", b"\x89PNG\r\n\x1a\n", b"<html>not found</html>"])
def test_a_file_of_another_kind_is_told_as_one(start, tmp_path):
    (tmp_path / "x.pt").write_bytes(start + bytes(100))
    with pytest.raises(InputError, match=r"x\.pt cannot be read as a weight file: it is neither safetensors nor"):
        read_tensors(tmp_path / "x.pt")


@pytest.mark.slow
def test_a_matlab_file_that_grows_is_refused_unread(tmp_path, monkeypatch):
    savemat(tmp_path / "x.mat", {"a": np.zeros((5000, 5000))}, do_compression=True)
    monkeypatch.setattr("scipy.io.loadmat", lambda *_args, **_options: pytest.fail("it was unpacked"))
    with pytest.raises(InputError, match="it would grow from 0.2 MB to 200 MB"):
        read_tensors(tmp_path / "x.mat")


def test_dicts_that_hold_each_other_end(tmp_path):
    content = {"w": torch.zeros(1)}
    for _ in range(15):
        content = {name: content for name in "abcd"}
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(InputError, match="nested more than 16 levels deep, or holds more than"):
        read_tensors(tmp_path / "x.pt")
    for _ in range(20):
        content = {"a": content}
    torch.save(content, tmp_path / "x.pt")
    assert read_shapes(tmp_path / "x.pt") == {}


@pytest.mark.parametrize("old", [True, False])
def test_weights_of_usual_kinds_are_let_through(old, tmp_path):
    torch.save({"state_dict": TENSORS | {"big": torch.zeros(1000, 1000)}, "epoch": 3}, tmp_path / "x.pt",
               _use_new_zipfile_serialization=not old)  # fmt: skip
    found = read_tensors(tmp_path / "x.pt")
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == SHAPES | {"big": (1000, 1000)}


def test_a_file_without_tensors_is_no_weight_file(tmp_path):
    save_file({}, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="x.safetensors holds no tensors"):
        read_tensors(tmp_path / "x.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused(value):
    network = torch.nn.Linear(3, 2)
    tensors = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    tensors["weight"][1, 2] = value
    with pytest.raises(InputError, match="x holds numbers that are NaN or infinite in weight"):
        load_strict(network, tensors, "x")


class Scripted(torch.nn.Module):
    """A program with weights, as TorchScript keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))

    def forward(self, x):
        return x * self.weight


@pytest.mark.parametrize("name", ["x.pt", "x.ckpt", "x.bin"])
def test_a_program_is_never_loaded(name, tmp_path, monkeypatch):
    torch.jit.script(Scripted()).save(str(tmp_path / name))
    monkeypatch.setattr(torch.jit, "load", lambda *_args, **_options: pytest.fail("a program was loaded"))
    assert read_shapes(tmp_path / name) == {}
    with pytest.raises(InputError, match="it is a program"):
        read_tensors(tmp_path / name)
