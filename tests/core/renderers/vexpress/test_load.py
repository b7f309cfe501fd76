import pytest
import torch
from tiny_vexpress import public_files as contents
from tiny_vexpress import tiny_vexpress

from portraittalk_core.diffusion.motion_modules import MotionModules
from portraittalk_core.errors import InputError, MissingDependency
from portraittalk_core.renderers.vexpress.audio_projection import AudioProjection
from portraittalk_core.renderers.vexpress.kps_guider import KpsGuider
from portraittalk_core.renderers.vexpress.load import PARTS, load_vexpress, part_of
from portraittalk_core.renderers.vexpress.unet import build_reading_unet, build_reference_net


@pytest.fixture(scope="module")
def networks():
    return tiny_vexpress()


def written(folder, files):
    for name, tensors in files.items():
        torch.save({key: tensor.half() for key, tensor in tensors.items()}, folder / name)
    return folder


def test_parts_are_told_by_their_names(networks):
    assert {part: file for file, tensors in contents(networks).items() for part in [part_of(tensors)]} == PARTS
    assert part_of({"conv_in.weight": torch.zeros(1)}) is None and part_of({}) is None


@pytest.mark.slow
def test_public_layout_is_loaded_whole(networks, tmp_path):
    written(tmp_path, contents(networks))
    (tmp_path / "motion_module.bin").rename(tmp_path / "renamed.pth")
    torch.save({"other": torch.zeros(1)}, tmp_path / "something.bin")  # a folder may hold more
    made = load_vexpress([tmp_path])
    for name in ("unet", "motion", "reference", "guider", "projection"):
        mine, given = getattr(made, name).state_dict(), getattr(networks, name).state_dict()
        assert mine.keys() == given.keys()
        for key, tensor in mine.items():
            assert torch.equal(tensor, given[key].half().float()), key
        assert not any(p.requires_grad for p in getattr(made, name).parameters())
    assert load_vexpress([tmp_path], dtype=torch.bfloat16).guider.conv_in.weight.dtype == torch.bfloat16


@pytest.mark.slow
def test_unets_own_motion_modules_do(networks, tmp_path):
    files = contents(networks)
    files["denoising_unet.bin"] |= files.pop("motion_module.bin")
    made = load_vexpress([written(tmp_path, files)])
    key = "mid_block.motion_modules.0.temporal_transformer.proj_out.weight"
    assert torch.equal(made.motion.state_dict()[key], networks.motion.state_dict()[key].half().float())


@pytest.mark.parametrize("lacking", PARTS.values())
def test_a_missing_part_is_named(networks, tmp_path, lacking):
    files = contents(networks)
    files["denoising_unet.bin"] = networks.unet.state_dict()  # without motion modules
    del files[lacking]
    with pytest.raises(InputError, match=f"{lacking} from huggingface.co/tk93/V-Express"):
        load_vexpress([written(tmp_path, files)])


def test_strange_files_are_refused(networks, tmp_path):
    written(tmp_path, contents(networks))
    strange = tmp_path / "strange.bin"
    torch.save({"other": torch.zeros(1)}, strange)
    with pytest.raises(InputError, match="strange.bin is no file of V-Express's"):
        load_vexpress([tmp_path, strange])
    with pytest.raises(InputError, match="both hold V-Express's guider"):
        load_vexpress([tmp_path, tmp_path / "v_kps_guider.bin"])
    with pytest.raises(
        MissingDependency, match="nothing.bin; V-Express's denoising_unet.bin, .* are at huggingface.co"
    ):
        load_vexpress([tmp_path / "nothing.bin"])


LOST = {
    "denoising_unet.bin": "mid_block.attentions.0.transformer_blocks.0.attn1_5.to_v.weight",
    "reference_net.bin": "up_blocks.3.attentions.2.proj_in.bias",
    "v_kps_guider.bin": "blocks.3.bias",
    "audio_projection.bin": "layers.0.1.3.weight",
    "motion_module.bin": "mid_block.motion_modules.0.temporal_transformer.proj_out.bias",
}


@pytest.mark.slow
@pytest.mark.parametrize(("file", "name"), LOST.items())
def test_a_file_that_is_not_whole_is_refused(networks, tmp_path, file, name):
    files = contents(networks)
    files["denoising_unet.bin"] = networks.unet.state_dict()
    files[file] = {key: tensor for key, tensor in files[file].items() if key != name}
    with pytest.raises(InputError, match="lacks"):
        load_vexpress([written(tmp_path, files)])


def test_motion_modules_without_a_middle_are_refused(networks, tmp_path):
    files = contents(networks)
    keep = {n: t for n, t in files["motion_module.bin"].items() if not n.startswith("mid_block")}
    files |= {"denoising_unet.bin": networks.unet.state_dict(), "motion_module.bin": keep}
    with pytest.raises(InputError, match="middle"):
        load_vexpress([written(tmp_path, files)])


def test_true_sizes_are_those_of_the_public_files():
    """The files' sizes in half precision, as the hub tells them (`docs/design/vexpress.md` 5), to 1 %."""
    with torch.device("meta"):
        made = {
            "reference": build_reference_net(),
            "unet": build_reading_unet()[0],
            "motion": MotionModules(version="v2"),
            "guider": KpsGuider(),
            "projection": AudioProjection(),
        }
    taken = {name: 2 * sum(tensor.numel() for tensor in net.state_dict().values()) for name, net in made.items()}
    taken["unet"] += taken["motion"]  # the public UNet's file holds motion modules of its own, which are replaced
    public = {"unet": 2.73e9, "reference": 1.72e9, "motion": 909e6, "guider": 2.18e6, "projection": 59.1e6}
    assert taken == pytest.approx(public, rel=0.01)
