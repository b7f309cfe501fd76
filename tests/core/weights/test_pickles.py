"""Pickles of other people: a training's settings are passed over, arrays are read, and nothing in a file is run."""

import argparse
import collections
import pathlib
import pickle
import pickletools

import numpy as np
import pytest
import torch

from portraittalk_core.errors import InputError, MissingDependency
from portraittalk_core.weights.headers import read_shapes
from portraittalk_core.weights.load import read_tensors
from portraittalk_core.weights.pickled_arrays import read_pickled_arrays

ran = []


def run(*words: object) -> None:
    ran.append(words)


class Sneaky:
    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments

    def __reduce__(self):
        return (run, ("this must never run",))


@pytest.fixture(autouse=True)
def nothing_runs():
    ran.clear()
    yield
    assert not ran


def settings(**more) -> argparse.Namespace:
    return argparse.Namespace(data_root=pathlib.PurePosixPath("data"), n_motions=100, lr=1e-4, mode="train", **more)


@pytest.mark.parametrize("zipped", [True, False])
def test_the_settings_of_a_training_are_passed_over(zipped, tmp_path):
    content = {"args": settings(), "model": {"w": torch.arange(3.0)}, "iter": 2}
    torch.save(content, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(pickle.UnpicklingError):  # as the file is without the list
        torch.load(tmp_path / "m.pt", weights_only=True)
    assert list(read_tensors(tmp_path / "m.pt")) == ["w"]
    assert read_tensors(tmp_path / "m.pt")["w"].tolist() == [0, 1, 2]
    if zipped:
        assert read_shapes(tmp_path / "m.pt") == {"w": (3,)}
    with pytest.raises(pickle.UnpicklingError):  # and after it was read
        torch.load(tmp_path / "m.pt", weights_only=True)


def test_the_published_names_of_paths_are_passed_over(tmp_path):
    if isinstance(pathlib.Path("."), pathlib.PosixPath):
        torch.save({"args": argparse.Namespace(root=pathlib.Path("a/b")), "w": torch.zeros(1)}, tmp_path / "m.pt")
        assert list(read_tensors(tmp_path / "m.pt")) == ["w"]


@pytest.mark.parametrize("inside", [lambda: settings(x=Sneaky()), Sneaky, lambda: collections.Counter("ab")])
def test_settings_that_would_run_or_look_up_more_are_refused(inside, tmp_path):
    torch.save({"args": inside(), "w": torch.zeros(1)}, tmp_path / "m.pt")
    try:
        assert list(read_tensors(tmp_path / "m.pt")) == ["w"]  # Counter is on PyTorch's own list
    except InputError as error:
        assert "m.pt cannot be read as a weight file: it holds more than tensors" in str(error)
    assert isinstance(inside(), collections.Counter) or read_shapes(tmp_path / "m.pt") == {}


ARRAYS = {
    "mean": np.arange(63, dtype=np.float32) / 7,
    "table": np.arange(6.0).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big end": np.arange(3, dtype=">f4"),
    "whole": np.arange(4, dtype=np.int64),
    "flags": np.array([True, False]),
    "half": np.float16([1.5, 2]),
    "empty": np.zeros((0, 3), np.float32),
    "least": np.float32(0.25),
    "most": np.float64(-7.125),
    "number": 2.5,
    "count": 3,
    "rows": np.array(4.0),
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_are_those_of_the_unpickler(protocol, tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(ARRAYS, protocol))
    found = read_pickled_arrays(tmp_path / "a.pkl")
    assert list(found) == list(ARRAYS)
    for name, expected in ARRAYS.items():
        assert found[name].shape == np.shape(expected)
        np.testing.assert_array_equal(found[name], expected)
        assert found[name].dtype.isnative


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_both_of_numpys_addresses_are_known(module, tmp_path):
    written = pickle.dumps({"a": np.arange(3.0)}, 2)
    old = next(name for name in (b"numpy._core.multiarray", b"numpy.core.multiarray") if name in written)
    (tmp_path / "a.pkl").write_bytes(written.replace(old, module.encode()))
    assert read_pickled_arrays(tmp_path / "a.pkl")["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
@pytest.mark.parametrize(
    "content",
    [
        {"a": Sneaky()}, Sneaky(), {"a": [Sneaky()]}, {"a": np.array([Sneaky()], dtype=object)},
        {"a": pathlib.Path("x")},
        {"a": np.array(["text"])}, {"a": np.zeros(2, "M8[s]")}, {"a": "text"}, {"a": None}, {"a": True}, [np.zeros(2)],
        {1: np.zeros(2)}, {"a": {"b": np.zeros(2)}}, {"a": eval}, {"a": torch.zeros(2)},
    ],
    ids=lambda content: str(content)[:30],
)  # fmt: skip
def test_whatever_is_no_array_is_refused(content, protocol, tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(InputError, match=r"a\.pkl"):
        read_pickled_arrays(tmp_path / "a.pkl")


def test_a_name_that_could_run_code_is_told(tmp_path):
    for protocol in (2, 4):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a": eval}, protocol))
        with pytest.raises(InputError, match="it names .*builtin.*eval, and looking that up could run code"):
            read_pickled_arrays(tmp_path / "a.pkl")


def test_damaged_pickles_are_refused(tmp_path):
    whole = pickle.dumps({"a": np.arange(50.0), "b": np.float32(1)}, 4)
    for length in range(len(whole)):
        (tmp_path / "cut.pkl").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cut\.pkl"):
            read_pickled_arrays(tmp_path / "cut.pkl")
    generator = np.random.default_rng(0)
    for _ in range(300):
        bad = bytearray(whole)
        for place in generator.integers(0, len(bad), 3):
            bad[place] = generator.integers(256)
        (tmp_path / "bad.pkl").write_bytes(bad)
        try:
            read_pickled_arrays(tmp_path / "bad.pkl")
        except InputError as error:
            assert "bad.pkl" in str(error)
    with pytest.raises(MissingDependency, match="no file"):
        read_pickled_arrays(tmp_path / "absent.pkl")


def test_an_array_must_have_its_bytes(tmp_path):
    whole = pickle.dumps({"a": np.arange(3, dtype=np.uint8)}, 2)
    assert whole.count(b"K\x03\x85") == 1  # the shape (3,)
    (tmp_path / "a.pkl").write_bytes(whole.replace(b"K\x03\x85", b"K\x09\x85"))
    with pytest.raises(InputError, match=r"an array of shape \(9,\) has 3 bytes"):
        read_pickled_arrays(tmp_path / "a.pkl")


def test_every_step_that_arrays_need_is_listed_and_no_other():
    """The steps that look up or call without a name of ours are none of those that are taken."""
    from portraittalk_core.weights import pickled_arrays as reader

    source = pathlib.Path(reader.__file__).read_text(encoding="utf-8")
    for step in ("INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER"):
        assert step in {code.name for code in pickletools.opcodes}
        assert f'"{step}"' not in source
