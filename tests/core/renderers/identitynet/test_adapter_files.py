import pytest
import torch
from adapter_files import TINY, adapter_tensors, flat

from portraittalk_core.errors import InputError
from portraittalk_core.renderers.identitynet.adapter_files import LAYOUTS, sort_adapter


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_is_known_by_its_tensors(layout):
    found = sort_adapter(flat(adapter_tensors(layout)), f"ip-adapter-{layout}_sd15.bin")
    assert found.layout == layout
    assert set(found.projection) == set(adapter_tensors(layout)["image_proj"])
    assert len(found.sites) == 32
    assert len(found.lora) == (256 if layout in ("faceid", "plus", "plusv2") else 0)


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("ip-adapter-faceid-plusv2_sd15.bin", "plusv2"),
        ("ip-adapter-faceid-plus_sd15.bin", "plus"),
        ("FaceID_Plus_V2.safetensors", "plusv2"),
        ("mine.bin", "plus"),
    ],
)
def test_only_the_name_tells_plus_from_plusv2(name, layout):
    assert sort_adapter(flat(adapter_tensors("plus")), name).layout == layout


def test_names_of_third_parties_are_known():
    nested = adapter_tensors("faceid")
    renamed = {f"image_proj_model.{k}": t for k, t in nested["image_proj"].items()}
    renamed |= {f"adapter_modules.{k}": t for k, t in nested["ip_adapter"].items()}
    assert sort_adapter(renamed, "x").layout == "faceid"


def _without(part):
    return {name: tensor for name, tensor in flat(adapter_tensors("faceid")).items() if not name.startswith(part)}


def _sdxl():
    numbers = {str(2 * i + 1): 8 for i in range(70)}
    return flat(adapter_tensors("faceid", numbers, 2048))


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (_sdxl, "is an adapter for SDXL .* 2048 wide"),
        (lambda: flat(adapter_tensors("faceid", context=1024)), "is an adapter for Stable Diffusion 2 "),
        (lambda: _without("image_proj"), "no identity adapter: it lacks image_proj"),
        (lambda: _without("ip_adapter"), "no identity adapter: it lacks ip_adapter"),
        (lambda: _without("ip_adapter.31."), "at 15 places of the UNet, while SD1.5 has 16"),
        (lambda: _without("ip_adapter.31.to_v"), "at 16 places"),
        (lambda: flat(adapter_tensors("faceid")) | {"lora_unet_x": torch.zeros(1)}, "also holds 1 other tensors"),
        (lambda: flat(adapter_tensors("faceid")) | {"ip_adapter.1.to_z": torch.zeros(1)}, "no SD1.5 adapter has"),
        (lambda: _without("image_proj.proj.2"), "in a way that is not known here"),
        (
            lambda: flat(adapter_tensors("faceid")) | {"image_proj.proj.0.weight": torch.zeros(1024, 1280)},
            "wants face embeddings of 1280 numbers",
        ),
        (
            lambda: {"model.diffusion_model.x": torch.zeros(1)},
            "it lacks image_proj and ip_adapter",
        ),
    ],
)
def test_what_is_no_adapter_for_sd15_is_refused(tensors, words):
    with pytest.raises(InputError, match=words) as error:
        sort_adapter(tensors(), "file.bin")
    assert "file.bin" in str(error.value) and "ip-adapter-faceid_sd15.bin" in str(error.value)


def test_true_sizes_are_known():
    from adapter_files import FULL

    assert FULL["31"] == 1280 and FULL["1"] == 320 and FULL.keys() == TINY.keys()
