import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.io import savemat
from torch import nn

from portraittalk_core.errors import InputError, MissingDependency
from portraittalk_core.weights.load import load_strict, read_metadata, read_tensors


def test_every_format_gives_the_same_tensors(tmp_path):
    weight = torch.arange(6.0).reshape(2, 3)
    save_file({"a.weight": weight}, tmp_path / "a.safetensors", {"made": "here"})
    torch.save({"state_dict": {"module.a.weight": weight}, "epoch": 3}, tmp_path / "a.pt")
    torch.save({"model": {"a": {"weight": weight}}}, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    savemat(tmp_path / "a.mat", {"a": weight.numpy()})
    for name in ("a.safetensors", "a.pt", "old.ckpt"):
        found = read_tensors(tmp_path / name)
        assert list(found) == ["a.weight"]
        torch.testing.assert_close(found["a.weight"], weight)
    torch.testing.assert_close(read_tensors(tmp_path / "a.mat")["a"], weight.float())
    assert read_metadata(tmp_path / "a.safetensors") == {"made": "here"}
    assert read_metadata(tmp_path / "a.pt") == {}


class Sneaky:
    def __reduce__(self):
        return (print, ("this must never run",))


def test_damaged_missing_and_sneaky_files_are_refused(tmp_path, capsys):
    (tmp_path / "cut.safetensors").write_bytes(b"\x40\0\0\0\0\0\0\0{")
    (tmp_path / "sneaky.pt").write_bytes(pickle.dumps(Sneaky()))
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    for name in ("cut.safetensors", "sneaky.pt", "empty.pt"):
        with pytest.raises(InputError, match=name):
            read_tensors(tmp_path / name)
    torch.save({"weight": Sneaky()}, tmp_path / "today.pt")
    with pytest.raises(InputError, match="holds more than tensors, and reading that could run code. Use a"):
        read_tensors(tmp_path / "today.pt")
    with pytest.raises(MissingDependency, match="absent"):
        read_tensors(tmp_path / "absent.pt")
    assert capsys.readouterr().out == ""


def test_fill_is_complete_or_says_what_is_wrong():
    tensors = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
    filled = load_strict(nn.Linear(3, 2), {**tensors, "optimizer.x": torch.zeros(1)}, "a.pt", (r"^optimizer\.",))
    assert torch.equal(filled.weight, torch.ones(2, 3))
    assert not filled.training
    assert not filled.weight.requires_grad
    cases = [
        ({"weight": tensors["weight"]}, "lacks bias"),
        ({**tensors, "more": torch.zeros(1)}, "also holds more"),
        ({**tensors, "weight": torch.ones(3, 3)}, r"weight \(3, 3\) instead of \(2, 3\)"),
    ]
    for wrong, message in cases:
        with pytest.raises(InputError, match=rf"a\.pt does not fit Linear.*{message}"):
            load_strict(nn.Linear(3, 2), wrong, "a.pt")


def test_half_precision_becomes_the_networks_own():
    tensors = {"weight": torch.ones(2, 3).half(), "bias": torch.from_numpy(np.zeros(2))}
    assert load_strict(nn.Linear(3, 2), tensors, "a.pt").weight.dtype == torch.float32
