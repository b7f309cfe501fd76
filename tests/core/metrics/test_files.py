import hashlib
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from portraittalk_core.errors import InputError
from portraittalk_core.metrics.files import (
    ALEXNET,
    I3D,
    I3D_FILES,
    INCEPTION,
    LPIPS_HEADS,
    SYNCNET,
    find_metric_files,
    lpips_heads,
    recognise_metric_file,
    with_batch_counts,
)
from portraittalk_core.metrics.networks.load import load_i3d

# names and shapes as the published files have them; those that are asked for, and some others
FILES = {
    SYNCNET: {
        "netcnnlip.0.weight": (96, 3, 5, 7, 7),
        "netcnnlip.0.bias": (96,),
        "netcnnaud.0.weight": (64, 1, 3, 3),
        "netfcaud.3.weight": (1024, 512),
        "netfclip.3.weight": (1024, 512),
    },
    ALEXNET: {
        "features.0.weight": (64, 3, 11, 11),
        "features.10.weight": (256, 256, 3, 3),
        "classifier.6.bias": (1000,),
    },
    LPIPS_HEADS: {f"lin{i}.model.1.weight": (1, c, 1, 1) for i, c in enumerate((64, 192, 384, 256, 256))},
    INCEPTION: {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Mixed_7c.branch1x1.conv.weight": (320, 2048, 1, 1),
        "fc.weight": (1008, 2048),
    },
}
KINDS_OF_FILES = ("zip", "legacy", "safetensors")


def write(path, shapes, how="zip"):
    tensors = {name: torch.zeros(shape) for name, shape in shapes.items()}
    if how == "safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=how == "zip")
    return path


class Script(torch.nn.Module):
    """Takes what FVD's I3D takes."""

    def forward(self, x, rescale: bool, resize: bool, return_features: bool):
        if return_features:
            return torch.nn.functional.avg_pool3d(x, [16, 224, 224]).flatten(1).repeat(1, 134)[:, :400]
        return x


class Flat(torch.nn.Module):
    """Like StyleGAN's Inception: of pictures, not clips."""

    def forward(self, x, return_features: bool):
        return torch.nn.functional.avg_pool2d(x, [2, 2]) if return_features else x


@pytest.mark.parametrize("how", KINDS_OF_FILES)
@pytest.mark.parametrize("role", FILES)
def test_files_are_recognised_by_what_they_hold(tmp_path, role, how):
    assert recognise_metric_file(write(tmp_path / "whatever.bin", FILES[role], how)).role == role


def test_torchscript_is_recognised_by_its_digest_alone(tmp_path, monkeypatch, caplog):
    for name, module in (("a.pt", Script()), ("b.pt", Script()), ("c.pt", Flat())):
        torch.jit.script(module).save(str(tmp_path / name))
    assert recognise_metric_file(tmp_path / "a.pt") is None  # whatever words are in it
    content = (tmp_path / "a.pt").read_bytes()
    monkeypatch.setitem(I3D_FILES, hashlib.sha256(content).hexdigest(), len(content))
    (tmp_path / "b.pt").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # as long, one bit apart
    assert recognise_metric_file(tmp_path / "a.pt").role == I3D
    assert recognise_metric_file(tmp_path / "b.pt") is None
    assert find_metric_files([tmp_path]) == {I3D: tmp_path / "a.pt"}
    assert "c.pt is a TorchScript program, but not FVD's I3D" in caplog.text and "a.pt" not in caplog.text


def test_a_program_with_the_key_words_is_never_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.jit, "load", lambda *_args, **_options: pytest.fail("a program was loaded"))
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/code/__torch__.py", "def forward(x): return_features = conv3d(x)")
    assert find_metric_files([tmp_path]) == {}
    with pytest.raises(InputError, match="holds nothing that is known"):
        load_i3d(tmp_path / "a.pt")


def test_other_files_are_not_recognised(tmp_path):
    torchvisions = FILES[INCEPTION] | {"fc.weight": (1000, 2048)}  # other weights under the same names
    assert recognise_metric_file(write(tmp_path / "a.pth", torchvisions)) is None
    vgg = {f"lin{i}.model.1.weight": (1, c, 1, 1) for i, c in enumerate((64, 128, 256, 512, 512))}
    assert recognise_metric_file(write(tmp_path / "b.pth", vgg)) is None
    assert recognise_metric_file(write(tmp_path / "c.pth", FILES[SYNCNET] | {"netfcaud.3.weight": (512, 512)})) is None
    for name, content in (("d.pth", b"\x80\x02nonsense"), ("e.pth", b""), ("f.pt", b"PK\x03\x04 broken")):
        (tmp_path / name).write_bytes(content)
        assert recognise_metric_file(tmp_path / name) is None
    assert recognise_metric_file(tmp_path / "none.pth") is None


@pytest.mark.parametrize("how", KINDS_OF_FILES)
def test_damaged_files_are_passed_over(tmp_path, how):
    whole = write(tmp_path / "whole.pth", FILES[LPIPS_HEADS], how).read_bytes()
    for cut in range(1, len(whole), 97):
        (tmp_path / "cut.pth").write_bytes(whole[:cut])
        recognise_metric_file(tmp_path / "cut.pth")  # must not raise


def test_a_pickle_that_wants_to_run_code_is_not_read(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"x": Bomb()}, tmp_path / "bomb.pth", _use_new_zipfile_serialization=False)
    assert recognise_metric_file(tmp_path / "bomb.pth") is None
    assert not (tmp_path / "ran").exists()


def test_find_takes_the_first_of_each_role_in_all_folders(tmp_path):
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    first = write(tmp_path / "a" / "deep" / "x.model", FILES[SYNCNET], "legacy")
    write(tmp_path / "b" / "y.pth", FILES[SYNCNET])
    heads = write(tmp_path / "b" / "alex.pth", FILES[LPIPS_HEADS])
    (tmp_path / "b" / "note.txt").write_text("nothing")
    assert find_metric_files([tmp_path / "a", tmp_path / "b", tmp_path / "absent"]) == {
        SYNCNET: first,
        LPIPS_HEADS: heads,
    }


def test_heads_come_in_the_order_of_layers():
    tensors = {f"lin{i}.1.weight": torch.full((1, 2, 1, 1), float(i)) for i in (4, 0, 2, 3, 1)}
    assert [head.tolist() for head in lpips_heads(tensors)] == [[i, i] for i in range(5)]


def test_batch_counts_are_added_where_they_lack():
    old = {"1.running_mean": torch.zeros(3), "2.running_mean": torch.zeros(3), "2.num_batches_tracked": torch.tensor(7)}
    found = with_batch_counts(old)
    assert (int(found["1.num_batches_tracked"]), int(found["2.num_batches_tracked"])) == (0, 7)
    assert len(found) == 4 and len(old) == 3
