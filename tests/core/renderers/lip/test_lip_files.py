"""Files of lip models: known by their tensors, loaded whole, or refused with what is wrong."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from portraittalk_core.errors import InputError, MissingDependency
from portraittalk_core.renderers.lip.files import open_lip_model, save_lip_model
from portraittalk_core.renderers.lip.random_files import random_lip_model, write_random_lip_files

KINDS = [("lips", "safetensors"), ("iplap", "safetensors"), ("iplap", "torch")]


def same(first, second):
    first, second = first.state_dict(), second.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def iplap(tmp_path):
    return write_random_lip_files(tmp_path / "ip", "iplap", form="torch")[0]


@pytest.fixture
def lips(tmp_path):
    return write_random_lip_files(tmp_path / "lips", "lips")[0]


def rewritten(path, change):
    """Let `change` alter the dict of tensors in a .pth file."""
    content = torch.load(path, weights_only=True)
    change(content["state_dict"])
    torch.save(content, path)
    return path


@pytest.mark.parametrize(("name", "form"), KINDS)
def test_a_file_is_loaded_whole_under_any_name(name, form, tmp_path):
    (path,) = write_random_lip_files(tmp_path, name, seed=3, form=form)
    renamed = path.rename(tmp_path / f"any{path.suffix}")
    for given in (renamed, tmp_path):
        model = open_lip_model(given, name=name)
        same(model, random_lip_model(name, seed=3))
        assert model.name == name and model.size == model.crop.size == 32
        assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert open_lip_model(renamed, dtype=torch.float16).dtype == torch.float16


@pytest.mark.parametrize("ablate", ["align", "align-mean", "lips", "audio"])
def test_our_own_file_carries_its_sizes(ablate, tmp_path):
    model = random_lip_model("lips", ablate=ablate, attn_scale=False, residual=False, blocks=1, crop_pad_px=5.0)
    path = save_lip_model(model, tmp_path / "own.safetensors", {"data": "GRID", "config": "not this"})
    opened = open_lip_model(path)
    assert opened.config == model.config and opened.crop.pad_px == 5
    same(opened, model)


def test_what_training_leaves_in_the_public_file_is_passed_over(iplap):
    content = torch.load(iplap, weights_only=True)
    content["state_dict"]["module.perceptual.model.network.0.weight"] = torch.zeros(64, 3, 3, 3)
    content["optimizer"] = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    torch.save(content, iplap)
    same(open_lip_model(iplap), random_lip_model("iplap"))


def test_the_public_file_has_no_size_and_is_taken_for_128(iplap):
    rewritten(iplap, lambda tensors: tensors.pop("module.input_size"))
    assert open_lip_model(iplap).size == 128


def test_a_file_of_an_old_pytorch_is_read(iplap):
    torch.save(torch.load(iplap, weights_only=True), iplap, _use_new_zipfile_serialization=False)
    for given in (iplap, iplap.parent):
        assert open_lip_model(given).size == 32


def test_counters_of_batch_norms_need_not_be_there(iplap):
    def without(tensors):
        for name in [name for name in tensors if name.endswith("num_batches_tracked")]:
            del tensors[name]

    same(open_lip_model(rewritten(iplap, without)), random_lip_model("iplap"))


def test_a_truncated_file_is_named(iplap, lips):
    for path in (iplap, lips):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(InputError, match=f"{path.name} cannot be read as a weight file"):
            open_lip_model(path)
    with pytest.raises(InputError, match=r"holds no file of .* renderer_checkpoint.pth could not be read"):
        open_lip_model(iplap.parent)
    with pytest.raises(InputError, match=r"random-lips.safetensors cannot be read as a weight file"):
        open_lip_model(lips.parent)


@pytest.mark.parametrize("lost", ["flow_module.conv_5.2.bias", "translation.audio_encoder.12.conv_block.1.running_var"])
def test_a_lost_tensor_is_named(iplap, lost):
    rewritten(iplap, lambda tensors: tensors.pop(f"module.{lost}"))
    with pytest.raises(InputError, match=f"renderer_checkpoint.pth does not fit IpLap: it lacks {lost}"):
        open_lip_model(iplap)


def test_half_a_file_is_named(iplap):
    def without(tensors):
        for name in [name for name in tensors if "translation." in name]:
            del tensors[name]

    with pytest.raises(InputError, match=r"is not whole: it lacks translation.audio_encoder.0.conv_block.0.weight"):
        open_lip_model(rewritten(iplap, without))


def test_numbers_that_are_none_and_other_shapes_are_named(iplap):
    name = "module.flow_module.conv_4.weight"
    rewritten(iplap, lambda tensors: tensors.update({name: tensors[name] * float("nan")}))
    with pytest.raises(InputError, match=r"NaN or infinite in flow_module.conv_4.weight"):
        open_lip_model(iplap)
    rewritten(iplap, lambda tensors: tensors.update({name: torch.zeros(2, 4, 5, 5)}))
    with pytest.raises(InputError, match=r"flow_module.conv_4.weight \(2, 4, 5, 5\) instead of \(2, 4, 7, 7\)"):
        open_lip_model(iplap)


def test_other_files_are_refused_by_name(tmp_path, iplap, lips):
    with pytest.raises(
        InputError, match=r"is IP-LAP's renderer_checkpoint.pth, not a file of `portraittalk train lips`"
    ):
        open_lip_model(iplap, name="lips")
    with pytest.raises(InputError, match=r"random-lips.safetensors is a file of `portraittalk .*, not MuseTalk 1.5's"):
        open_lip_model(lips, name="musetalk")
    generator = tmp_path / "landmarkgenerator_checkpoint.pth"
    tensors = {"mouse_keypoint_map.weight": (80, 512), "jaw_keypoint_map.weight": (34, 512)}
    tensors |= {"fusion_transformer.modality.weight": (4, 512)}
    torch.save({"state_dict": {f"module.{n}": torch.zeros(s) for n, s in tensors.items()}}, generator)
    with pytest.raises(InputError, match=r"generator_checkpoint.pth is no lip renderer, but speech to lip and jaw"):
        open_lip_model(generator)
    strange = tmp_path / "strange.safetensors"
    save_file({"one": torch.zeros(1)}, strange)
    with pytest.raises(
        InputError, match=r"strange.safetensors is no lip renderer, .* it holds one and so on. Give .*research"
    ):
        open_lip_model(strange)
    with pytest.raises(MissingDependency, match=r"no file or folder .*nowhere.*renderer_checkpoint.pth, from"):
        open_lip_model(tmp_path / "nowhere", name="iplap")
    with pytest.raises(InputError, match="a lip model must be one of lips, iplap, musetalk, not 'wav2lip'"):
        open_lip_model(lips, name="wav2lip")


def test_a_folder_holds_one_lip_model(tmp_path, iplap, lips):
    both = tmp_path / "both"
    both.mkdir()
    lips, iplap = (path.rename(both / path.name) for path in (lips, iplap))
    with pytest.raises(
        InputError, match=r"more than one lip model \(random-lips.safetensors, renderer_checkpoint.pth\)"
    ):
        open_lip_model(both)
    assert open_lip_model(both, name="iplap").name == "iplap"
    lips.unlink()
    with pytest.raises(InputError, match="holds no file of lips. Give a file of `portraittalk train lips`"):
        open_lip_model(both, name="lips")


BAD = {
    "another layout": ({"layout": "other"}, "does not say the sizes .*layout 'other' instead of portraittalk-lips-1"),
    "no config": ({"config": None}, "does not say the sizes"),
    "no json": ({"config": "{"}, "does not say the sizes"),
    "an unknown size": ({"config": {"depth": 3}}, "does not say the sizes .*depth"),
    "a size that cannot be": ({"config": {"wide": 30}}, "another version: `wide` .* multiple of 4, not 30"),
    "another size": ({"config": {"hidden": 16}}, r"other shapes: .*\(8, 15, 3, 3\) instead of \(16, 15, 3, 3\)"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_file_of_ours_with_a_wrong_config_is_told(fault, lips):
    change, message = BAD[fault]
    from safetensors import safe_open

    with safe_open(lips, "pt") as file:
        metadata = dict(file.metadata())
    if isinstance(change.get("config"), dict):
        change = {"config": json.dumps(json.loads(metadata["config"]) | change["config"])}
    metadata = {name: text for name, text in (metadata | change).items() if text is not None}
    save_file(load_file(lips), lips, metadata)
    with pytest.raises(InputError, match=message):
        open_lip_model(lips)
