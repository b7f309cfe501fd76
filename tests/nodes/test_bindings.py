"""Both bindings of the identity branches, ComfyUI's and diffusers', on the same random weights."""

from __future__ import annotations

import json
import subprocess

import pytest
import torch
from adapter_files import adapter_tensors, flat
from comfy_place import ROOT, comfy_environment, comfy_folder, comfy_python
from control_files import ldm_tensors, tiny_controlnet
from diffusers_denoise import (
    ANIMATE,
    FACE,
    MOVING,
    SIGMA,
    WINDOW,
    animate_tokens,
    control_of,
    looking_back,
    merged_lora,
    moving_diffusers,
    random_animate,
    styled_diffusers,
    through_diffusers,
)
from safetensors.torch import load_file, save_file
from style_files import style_attention
from tiny_unet import random_motion, tiny_unet

from portraittalk_core.diffusion.motion_modules import save_motion_modules
from portraittalk_core.diffusion.schedule import MOTION, schedule_sigmas
from portraittalk_core.renderers.animatenet.animate_net import save_animate_net
from portraittalk_core.renderers.animatenet.feature_attention import feature_branches
from portraittalk_core.renderers.identitynet.adapter import IdentityOptions, build_adapter
from portraittalk_core.renderers.identitynet.adapter_files import sort_adapter
from portraittalk_core.style.projection import save_style_attention

pytestmark = pytest.mark.comfy
pytest.importorskip("diffusers")

LATER, LAST = (float(schedule_sigmas()[step]) for step in (400, 200))
MOVING_LATER = float(schedule_sigmas(MOTION)[300])
TOLERANCE = 1e-4
STEPS = {"sigmas": [SIGMA, LATER]}
MORE_STEPS = {"sigmas": [SIGMA, LATER, LAST]}
CASES = {
    "plain": {"identity": []},
    "face": {"identity": [FACE]},
    "face_lora": {"identity": [FACE], "lora": True},
    "lora_already": {"identity": [FACE], "lora": "twice"},
    "fp16": {"identity": [FACE], "dtype": "float16"},
    "bf16": {"identity": [FACE], "dtype": "bfloat16"},
    "split": {"identity": [FACE], "negative": "odd"},
    "control": {"identity": [FACE], "control": {"strengths": [0.7]}},
    "control_weighted": {"identity": [FACE], "control": {"strengths": [0.35], "weight": 2.0}},
    "control_later": {"identity": [FACE], "control": {"strengths": [0.7], "first": 24}},
    "control_twice": {"identity": [FACE], "control": {"strengths": [0.7, 0.4]}},
    "stock": {"identity": [FACE], "control": {"strengths": [0.7], "stock": 3}},
    "windows": {"identity": [], "control": {"strengths": [0.7]}, "window": True, "x": "long"},
    "windows_caching": {
        "identity": [],
        "control": {"strengths": [0.7], "caching": True},
        "window": True,
        "x": "long",
    },
    "control_lora": {"identity": [FACE], "control": {"strengths": [0.7], "lora": True}},
    "motion": {"identity": [FACE], "motion": {"strength": 0.9, "windows": WINDOW}, "sigma": MOVING},
    "motion_off": {"identity": [FACE], "motion": {"strength": 0.0, "windows": WINDOW}},
    "everything": {
        "identity": [FACE],
        "lora": True,
        "control": {"strengths": [0.7], "first": 5, "animate": {**ANIMATE, "follow": True, "features": 1.3}},
        "style": {"file": "trained", "frames": True, "first": 5},
        "motion": {"strength": 0.9, "windows": WINDOW},
        "sigma": MOVING,
        "x": "long",
    },
    "everything_reused": {
        "identity": [FACE],
        "lora": True,
        "control": {
            "strengths": [0.7],
            "first": 5,
            "reuse_every": 2,
            "animate": {**ANIMATE, "follow": True, "features": 1.3},
        },
        "motion": {"strength": 0.9, "windows": WINDOW},
        "sigma": MOVING,
        "sigmas": [MOVING, MOVING_LATER],
        "x": "long",
    },
    "tokens": {"identity": [FACE], "control": {"strengths": [0.7], "animate": ANIMATE}},
    "tokens_untrained": {
        "identity": [FACE],
        "control": {"strengths": [0.7], "animate": {**ANIMATE, "file": "untrained"}},
    },
    "tokens_off": {"identity": [FACE], "control": {"strengths": [0.7], "animate": {**ANIMATE, "tokens": [0, 0]}}},
    "tokens_split": {"identity": [], "negative": "odd", "control": {"strengths": [0.7], "animate": ANIMATE}},
    "tokens_twice": {"identity": [FACE], "control": {"strengths": [0.7, 0.4], "animate": ANIMATE}},
    "follow": {"identity": [FACE], "control": {"strengths": [0.7], "animate": {**ANIMATE, "follow": True}}},
    "features": {"identity": [FACE], "control": {"strengths": [0.7], "animate": {**ANIMATE, "features": 1.3}}},
    "looking_back": {"identity": [FACE], "control": {"strengths": [0.7], "animate": {**ANIMATE, "file": "looking"}}},
    "reuse_1": {"identity": [FACE], "control": {"strengths": [0.7]}, **STEPS},
    "reuse": {"identity": [FACE], "control": {"strengths": [0.7], "reuse_every": 2}, **STEPS},
    "reuse_again": {"identity": [FACE], "control": {"strengths": [0.7], "reuse_every": 2}, **MORE_STEPS},
    "reuse_split": {"identity": [], "negative": "odd", "control": {"strengths": [0.7], "reuse_every": 2}, **STEPS},
    "style": {"identity": [FACE], "style": {"file": "trained"}},
    "style_frames": {"identity": [FACE], "style": {"file": "trained", "frames": True, "first": 24}},
    "style_split": {"identity": [], "negative": "odd", "style": {"file": "trained", "frames": True}},
    "style_untrained": {"identity": [FACE], "style": {"file": "untrained"}},
    "style_off": {"identity": [FACE], "style": {"file": "trained", "strength": 0.0}},
    "style_fp16": {"identity": [FACE], "style": {"file": "trained"}, "dtype": "float16"},
    "misplaced": {"identity": [FACE], "misplaced": True},
    "cfg_one": {"identity": [FACE], "cfg": 1.0},
    "zero": {"identity": [{"strength": 0.0}]},
    "later": {"identity": [{"strength": 1.0, "start": 0.9}]},
    "twice": {"identity": [FACE, {"strength": 0.5}]},
    "layers": {"identity": [{"strength": 1.0, "layers": {"6": 0.0, "0": 2.0}}]},
    "clone": {"identity": [FACE], "clone": True},
    "guest": {"identity": [FACE], "foreign": "guest"},
}


@pytest.fixture(scope="module")
def inputs():
    torch.manual_seed(3)
    return {
        "x": torch.randn(3, 4, 8, 8) * SIGMA,
        "positive": torch.randn(1, 7, 48),
        "negative": torch.randn(1, 14, 48),
        "odd": torch.randn(1, 9, 48),  # ComfyUI does not join it with seven tokens: positive and negative run alone
        "tokens": torch.randn(2, 8, 48),
        "long": torch.randn(20, 4, 8, 8) * SIGMA,
        "last": torch.randn(1, 4, 8, 8),
        "styles": torch.randn(45, 8),
        "style_strengths": torch.rand(45) + 0.5,
        "points": torch.rand(45, 478, 3) * 0.3 + torch.rand(45, 1, 3) * 0.5,  # a face that jumps about
    }


@pytest.fixture(scope="module")
def through_comfy(inputs, tmp_path_factory):
    """Denoised latents of every case, made by ComfyUI's own Python."""
    comfyui = comfy_folder()
    folder = tmp_path_factory.mktemp("bindings")
    pack = folder / "pt_under_test"
    pack.symlink_to(ROOT, target_is_directory=True)
    save_file(tiny_unet().state_dict(), folder / "unet.safetensors")
    save_file(flat(adapter_tensors("faceid")), folder / "adapter.safetensors")
    save_file(ldm_tensors(tiny_controlnet()), folder / "control.safetensors")
    save_motion_modules(random_motion(), folder / "motion.safetensors")
    for name in ("trained", "untrained"):
        save_animate_net(random_animate(name == "trained"), folder / f"animate_{name}.safetensors")
    save_animate_net(random_animate(previous=True), folder / "animate_looking.safetensors")
    save_file(inputs, folder / "inputs.safetensors")
    for name in ("trained", "untrained"):
        save_style_attention(style_attention(trained=name == "trained"), folder / f"style_{name}.safetensors")
    cases = {name: {"sigma": SIGMA, "cfg": 3.5, **case} for name, case in CASES.items()}
    (folder / "cases.json").write_text(json.dumps(cases))
    script = ROOT / "tests" / "support" / "comfy_denoise.py"
    command = [comfy_python(comfyui), str(script), str(comfyui), str(pack), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=comfyui, env=comfy_environment())
    assert done.returncode == 0, done.stderr[-3000:]
    return load_file(folder / "denoised.safetensors") | json.loads((folder / "results.json").read_text())


@pytest.fixture
def adapter():
    return build_adapter(sort_adapter(flat(adapter_tensors("faceid")), "random"), "random")


def close(a, b):
    torch.testing.assert_close(a, b, atol=TOLERANCE, rtol=0)


def test_plain_sd15_is_the_same(through_comfy, adapter, inputs):
    close(through_comfy["plain"], through_diffusers(adapter, inputs))


@pytest.mark.parametrize("case", ["face", "layers", "twice"])
def test_a_face_is_the_same(case, through_comfy, adapter, inputs):
    options = [
        IdentityOptions(**{**values, "layers": {int(k): v for k, v in values.get("layers", {}).items()}})
        for values in CASES[case]["identity"]
    ]
    close(through_comfy[case], through_diffusers(adapter, inputs, *options))
    assert (through_comfy[case] - through_comfy["plain"]).abs().max() > 0.1


def test_the_middle_block_at_the_wrong_id_would_show(through_comfy, adapter, inputs):
    """Negative control: ComfyUI never calls ("middle", 1)."""
    right = through_diffusers(adapter, inputs, IdentityOptions(**FACE))
    assert (through_comfy["misplaced"] - right).abs().max() > 1e-3


def test_lora_of_the_adapter_is_the_same(through_comfy, adapter, inputs):
    unet = merged_lora(adapter)
    expected = through_diffusers(adapter, inputs, IdentityOptions(**FACE), unet=unet)
    close(through_comfy["face_lora"], expected)
    assert (through_comfy["face_lora"] - through_comfy["face"]).abs().max() > 1e-2


def test_the_positive_alone_is_the_same(through_comfy, adapter, inputs):
    close(through_comfy["cfg_one"], through_diffusers(adapter, inputs, IdentityOptions(**FACE), cfg=1.0))


@pytest.mark.parametrize(("case", "first"), [("control", 0), ("control_later", 24)])
def test_a_controlnet_with_a_drawing_a_frame_is_the_same(case, first, through_comfy, adapter, inputs):
    control = control_of(range(first, first + 3))
    close(through_comfy[case], through_diffusers(adapter, inputs, IdentityOptions(**FACE), control=control))
    assert (through_comfy[case] - through_comfy["face"]).abs().max() > 0.1


def test_without_windows_it_is_what_comfyuis_own_control_gives(through_comfy):
    close(through_comfy["stock"], through_comfy["control"])
    assert (through_comfy["control_later"] - through_comfy["control"]).abs().max() > 3e-4


def test_maps_weigh_what_is_added(through_comfy):
    close(through_comfy["control_weighted"], through_comfy["control"])  # half the strength, twice the weight


def test_controls_chain(through_comfy, adapter, inputs):
    together = control_of(range(3), 0.7 + 0.4)  # the same network twice: what it adds is added up
    close(through_comfy["control_twice"], through_diffusers(adapter, inputs, IdentityOptions(**FACE), control=together))


def test_every_window_has_its_own_frames_drawings(through_comfy, adapter, inputs):
    """Windows of eight, begun at 0, 6 and 12: where no two overlap, a frame is what its window alone gives."""
    for window, alone in ((range(8), range(6)), (range(6, 14), range(8, 12)), (range(12, 20), range(14, 20))):
        window_inputs = {**inputs, "x": inputs["long"][list(window)]}
        expected = through_diffusers(adapter, window_inputs, control=control_of(window))
        rows = [frame - window.start for frame in alone]
        close(through_comfy["windows"][list(alone)], expected[rows])


def test_windows_do_not_depend_on_where_comfyui_keeps_the_pictures(through_comfy):
    close(through_comfy["windows_caching"], through_comfy["windows"])


def test_a_control_lora_is_the_same(through_comfy):
    """One that holds all weights of the ControlNet, so that it takes nothing from the UNet."""
    close(through_comfy["control_lora"], through_comfy["control"])


def test_our_windows_inside_others_name_the_videos_frames(through_comfy):
    assert through_comfy["nested"] == [[30, 31, 32, 33], [33, 34, 35, 36]]


def test_motion_modules_are_the_same(through_comfy, adapter, inputs):
    close(through_comfy["motion"], moving_diffusers(adapter, inputs, tiny_unet()))
    assert torch.equal(through_comfy["motion_off"], through_comfy["face"])


def test_everything_together_is_the_same(through_comfy, adapter, inputs):
    """Face, LoRA, ControlNet, tokens, placement, features, style, motion modules and windows, over twenty frames."""
    long_inputs, control = {**inputs, "x": inputs["long"]}, control_of([0])
    branches = feature_branches(random_animate().features, control.features, 1.3)
    with animate_tokens(control, inputs, following=True):
        expected = moving_diffusers(adapter, long_inputs, merged_lora(adapter), control, branches, style=True)
    close(through_comfy["everything"], expected)


def test_everything_reused_in_every_window_is_the_same(through_comfy, adapter, inputs):
    long_inputs, control = {**inputs, "x": inputs["long"]}, control_of([0], reuse_every=2)
    branches = feature_branches(random_animate().features, control.features, 1.3)
    sigmas = (MOVING, MOVING_LATER)
    with animate_tokens(control, inputs, following=True):
        expected = moving_diffusers(adapter, long_inputs, merged_lora(adapter), control, branches, sigmas)
    close(through_comfy["everything_reused"], expected)
    windows = len(through_comfy["rows"]["everything"])
    assert len(through_comfy["rows"]["everything_reused"]) == windows == 3  # at the second step nothing runs


def test_a_style_is_the_same(through_comfy, adapter, inputs):
    close(through_comfy["style"], styled_diffusers(adapter, inputs, IdentityOptions(**FACE)))
    assert (through_comfy["style"] - through_comfy["face"]).abs().max() > 0.1


def test_a_style_of_every_frame_is_the_same(through_comfy, adapter, inputs):
    later = styled_diffusers(adapter, inputs, IdentityOptions(**FACE), frames=range(24, 27))
    close(through_comfy["style_frames"], later)
    assert (through_comfy["style_frames"] - through_comfy["style"]).abs().max() > 1e-2
    odd_inputs = {**inputs, "negative": inputs["odd"]}
    close(through_comfy["style_split"], styled_diffusers(adapter, odd_inputs, frames=range(3)))


def test_an_untrained_style_and_none_are_bit_equal(through_comfy):
    for case in ("style_untrained", "style_off"):
        assert torch.equal(through_comfy[case], through_comfy["face"]), case


def test_a_style_in_half_precision_is_near(through_comfy):
    assert (through_comfy["style_fp16"] - through_comfy["style"]).abs().max() < 0.1
    assert (through_comfy["style_fp16"] - through_comfy["fp16"]).abs().max() > 0.1


@pytest.mark.parametrize("case", ["tokens", "follow", "features"])
def test_animate_nets_own_modules_are_the_same(case, through_comfy, adapter, inputs):
    control = control_of(range(3))
    branches = feature_branches(random_animate().features, control.features, 1.3) if case == "features" else None
    with animate_tokens(control, inputs, following=case == "follow"):
        expected = through_diffusers(adapter, inputs, IdentityOptions(**FACE), control=control, more=branches)
    close(through_comfy[case], expected)
    baseline = "control" if case == "tokens" else "tokens"
    assert (through_comfy[case] - through_comfy[baseline]).abs().max() > 10 * TOLERANCE


def test_the_last_finished_frame_is_the_same(through_comfy, adapter, inputs):
    """An AnimateNet trained with previous = true: the frame's latents in the ControlNet, its placement as tokens."""
    control = control_of(range(3))
    with looking_back(control, inputs):
        close(
            through_comfy["looking_back"], through_diffusers(adapter, inputs, IdentityOptions(**FACE), control=control)
        )
    assert (through_comfy["looking_back"] - through_comfy["tokens"]).abs().max() > 10 * TOLERANCE


def test_a_painter_that_looks_back_shows_each_batch_the_last_frame_of_the_one_before(through_comfy, inputs):
    """A video begins with the draft of its first frame. Finished frames are not painted once more."""
    looked = through_comfy["looked_back"]
    assert looked["frames"] == [2, 2] and looked["overlap"] == 2
    shown, scale = torch.tensor(looked["shown"]), 0.18215  # between a LATENT and what SD1.5 sees
    torch.testing.assert_close(shown[0], scale * inputs["x"][:1])
    torch.testing.assert_close(shown[1], scale * torch.tensor(looked["last"]))


def test_tokens_in_calls_apart_are_the_same(through_comfy, adapter, inputs):
    control = control_of(range(3))
    with animate_tokens(control, inputs):
        expected = through_diffusers(adapter, {**inputs, "negative": inputs["odd"]}, control=control)
    close(through_comfy["tokens_split"], expected)


def test_tokens_reach_both_of_two_controls_that_share_a_network(through_comfy, adapter, inputs):
    control = control_of(range(3), 0.7 + 0.4)
    with animate_tokens(control, inputs):
        expected = through_diffusers(adapter, inputs, IdentityOptions(**FACE), control=control)
    close(through_comfy["tokens_twice"], expected)


@pytest.mark.parametrize("case", ["tokens_untrained", "tokens_off"])
def test_tokens_that_do_nothing_are_bit_equal_to_none(case, through_comfy):
    assert torch.equal(through_comfy[case], through_comfy["control"])


def test_an_interrupted_run_leaves_the_controlnet_as_it_was(through_comfy):
    assert through_comfy["interrupted"] == {"stopped": True, "hooks": 2}  # the two that the test itself hung in


def test_a_batch_that_is_denoised_outlives_an_interrupt_only_where_it_is_kept(through_comfy):
    cancelled = through_comfy["cancelled"]
    assert cancelled["True"] == {"frames": 2, "decoded": 2, "pending": True, "steps": [1, 2]}
    assert cancelled["False"] == {"frames": 0, "decoded": 0, "pending": False, "steps": [1, 2]}


def test_positive_and_negative_share_a_run_of_the_controlnet(through_comfy):
    assert through_comfy["rows"]["control"] == [6]  # three frames, twice
    assert sorted(through_comfy["rows"]["tokens_split"]) == [3, 3]


@pytest.mark.parametrize("case", ["reuse_1", "reuse", "reuse_again", "reuse_split"])
def test_what_is_reused_is_the_same(case, through_comfy, adapter, inputs):
    face = [IdentityOptions(**FACE)] if CASES[case]["identity"] else []
    case_inputs = {**inputs, "negative": inputs[CASES[case].get("negative", "negative")]}
    every = CASES[case]["control"].get("reuse_every", 1)
    control = control_of(range(3), reuse_every=every)
    expected = through_diffusers(adapter, case_inputs, *face, control=control, sigmas=CASES[case]["sigmas"])
    close(through_comfy[case], expected)
    runs = {"reuse_1": [6, 6], "reuse": [6], "reuse_again": [6, 6], "reuse_split": [3, 3]}[case]
    assert through_comfy["rows"][case] == runs


def test_reuse_is_not_exact(through_comfy):
    assert (through_comfy["reuse"] - through_comfy["reuse_1"]).abs().max() > 10 * TOLERANCE


def test_positive_and_negative_apart_are_the_same(through_comfy, adapter, inputs):
    expected = through_diffusers(adapter, {**inputs, "negative": inputs["odd"]}, IdentityOptions(**FACE))
    close(through_comfy["split"], expected)


def test_a_lora_that_is_there_already_is_not_applied_again(through_comfy):
    close(through_comfy["lora_already"], through_comfy["face_lora"])


@pytest.mark.parametrize(("case", "tolerance"), [("fp16", 0.02), ("bf16", 0.2)])
def test_half_precision_is_near(case, tolerance, through_comfy):
    size = through_comfy["face"].abs().mean()
    assert 0 < (through_comfy[case] - through_comfy["face"]).abs().mean() < tolerance * size


def test_what_is_not_sd15_is_refused_by_name(through_comfy):
    errors = through_comfy["refused"]
    assert "the MODEL is SDXL, but IdentityNet needs an SD1.5 checkpoint" in errors["SDXL"]
    assert "the MODEL is Stable Diffusion 2, but" in errors["SD2"]
    assert "an inpainting checkpoint (9 input channels)" in errors["inpainting"]
    assert "an InstructPix2Pix checkpoint (8 input channels)" in errors["pix2pix"]
    assert "the adapter's tokens are 768 wide, the MODEL attends to 1280" in errors["width"]


def test_controls_of_other_kinds_are_refused_by_name(through_comfy):
    errors = through_comfy["refused"]
    assert "the CONTROL_NET is for Stable Diffusion 2; use one for SD1.5" in errors["control SD2"]
    assert "the CONTROL_NET is for SDXL; use one for SD1.5" in errors["control SDXL"]
    assert "the CONTROL_NET is a T2IAdapter; use a ControlNet for SD1.5" in errors["adapter"]
    assert "connect control_net, or set animate_net to none" in errors["animate alone"]
    assert "AnimateNet's keys at 1 are (32, 48), the ControlNet's are (32, 40)" in errors["animate wide"]
    assert "is not built as SD1.5's" in errors["animate strange"]
    assert "animate right" not in errors


def test_overflow_in_fp16_is_done_again_in_fp32_once(through_comfy):
    painted = through_comfy["painted"]
    assert painted["sound"] == {"runs": 1, "finite": True, "frames": 2, "batch": 2}
    assert painted["overflow"] == {"runs": 2, "finite": True, "frames": 2, "batch": 2}
    assert painted["broken"]["runs"] == 2
    assert "values that are not numbers, in fp32 too" in painted["broken"]["error"]


def test_a_full_memory_halves_the_batch_once(through_comfy):
    painted = through_comfy["painted"]
    assert painted["full"] == {"runs": 3, "finite": True, "frames": 2, "batch": 1}
    assert "not enough memory for 1 frames at once either; lower width and height" in painted["too full"]["error"]


@pytest.mark.parametrize("case", ["zero", "later"])
def test_an_idle_face_is_bit_equal_to_none(case, through_comfy):
    assert torch.equal(through_comfy[case], through_comfy["plain"])


def test_a_clone_is_bit_equal(through_comfy):
    assert torch.equal(through_comfy["clone"], through_comfy["face"])


def test_another_packs_callback_acts_beside_ours(through_comfy):
    difference = (through_comfy["guest"] - through_comfy["face"]).abs().max()
    assert difference > 1e-3
    assert (through_comfy["guest"] - through_comfy["plain"]).abs().max() > 1e-3
