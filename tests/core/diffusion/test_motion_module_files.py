import pytest
import torch
from motion_files import FULL, TINY, motion_tensors

from portraittalk_core.diffusion.motion_module_files import sort_motion_modules
from portraittalk_core.errors import InputError

LENGTHS = {"v1": 24, "v2": 32, "v3": 32, "animatelcm": 64}


@pytest.mark.parametrize("version", LENGTHS)
def test_version_is_known_by_names_and_shapes(version):
    tensors = motion_tensors(version)
    found = sort_motion_modules(tensors, "mine.ckpt", TINY)
    assert (found.version, found.length, found.widths) == (version, LENGTHS[version], TINY)
    assert found.has_middle == (version == "v2")
    assert found.tensors.keys() == tensors.keys()


def test_prefixes_and_the_rest_of_a_unet_do_not_matter():
    tensors = motion_tensors("v3")
    around = {f"module.{name}": tensor for name, tensor in tensors.items()}
    around |= {"module.conv_in.weight": torch.zeros(32, 4, 3, 3), "animatediff_config.x": torch.zeros(1)}
    assert sort_motion_modules(around, "x", TINY).tensors.keys() == tensors.keys()


def _without(part):
    return {name: tensor for name, tensor in motion_tensors("v3").items() if part not in name}


def _with(name, shape=(1,)):
    return motion_tensors("v3") | {name: torch.zeros(shape)}


def _sdxl():
    kept = _without("down_blocks.3.")
    return {name: tensor for name, tensor in kept.items() if not name.startswith("up_blocks.3.")}


LORA = "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.processor."


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (_sdxl, "for SDXL"),
        (lambda: {"down_blocks.0.temporal_attentions.0.norm.weight": torch.zeros(1)}, "HotshotXL"),
        (lambda: {f"{LORA}to_q_lora.down.weight": torch.zeros(4, 32)}, "LoRA does not work alone"),
        (lambda: _with("controlnet_cond_embedding.conv_in.weight"), "a ControlNet"),
        (lambda: _with("input_hint_block.0.weight"), "a ControlNet"),
        (lambda: _with("conv_in.weight", (32, 9, 3, 3)), "PIA"),
        (lambda: {"image_proj.proj.weight": torch.zeros(1)}, "holds no motion modules .it holds image_proj.proj.w"),
        (lambda: {"down_blocks.0.attentions.0.processor.to_q_lora.down.weight": torch.zeros(1)}, "no motion modules"),
        (dict, "it holds nothing"),
        (lambda: _without("up_blocks.2.motion_modules.1"), "at 19 places of the UNet, while SD1.5's has 20"),
        (lambda: _with("mid_block.motion_modules.1.temporal_transformer.norm.weight"), "at 21 places"),
        (lambda: _without("down_blocks.1.motion_modules.0.temporal_transformer.norm.weight"), "lacks down_blocks.1"),
        (
            lambda: _with(
                "up_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0."
                "attention_blocks.1.pos_encoder.pe",
                (1, 24, 128),
            ),
            "numbers its frames in more than one way",
        ),
    ],
)
def test_what_is_no_motion_module_for_sd15_is_refused(tensors, words):
    with pytest.raises(InputError, match=words) as error:
        sort_motion_modules(tensors(), "file.ckpt", TINY)
    assert "file.ckpt" in str(error.value) and "v3_sd15_mm.ckpt" in str(error.value)


def test_other_widths_are_refused_unless_any_will_do():
    with pytest.raises(InputError, match="blocks of 32, 64, 128, 128 channels, the UNet has 320, 640, 1280, 1280"):
        sort_motion_modules(motion_tensors("v3"), "toy.safetensors")
    assert sort_motion_modules(motion_tensors("v3"), "toy.safetensors", None).widths == TINY
    assert tuple(10 * width for width in TINY) == FULL
