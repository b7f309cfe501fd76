import re

import pytest
import torch
from diffusers import MotionAdapter, UNetMotionModel
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from motion_files import FULL, TINY, module_tensors, motion_tensors, waves
from safetensors.torch import save_file
from tiny_unet import tiny_unet
from torch import nn

from portraittalk_core.diffusion.motion_module_files import sort_motion_modules
from portraittalk_core.diffusion.motion_modules import (
    MotionModule,
    MotionModules,
    bind_motion,
    insertion_points,
    load_motion_modules,
    new_motion_modules,
    positions,
    save_motion_modules,
)
from portraittalk_core.errors import InputError
from portraittalk_core.weights.load import read_metadata, read_tensors

FRAMES, WIDTH = 6, 64


def in_diffusers(name):
    """Diffusers' name of a tensor, or None for positions, which it makes itself."""
    if "pos_encoder" in name:
        return None
    name = name.replace(".temporal_transformer", "").replace("temporal_transformer.", "")
    name = re.sub(r"attention_blocks\.([01])", lambda m: f"attn{int(m[1]) + 1}", name)
    name = re.sub(r"norms\.([01])", lambda m: f"norm{int(m[1]) + 1}", name)
    return name.replace("ff_norm", "norm3")


def renamed(tensors):
    return {in_diffusers(name): tensor for name, tensor in tensors.items() if in_diffusers(name)}


@pytest.fixture
def pair():
    """Our module and diffusers', with equal weights."""
    ours = MotionModule(WIDTH)
    drawn = module_tensors("m", WIDTH, 32, torch.Generator().manual_seed(3))
    ours.load_state_dict({name.removeprefix("m."): tensor for name, tensor in drawn.items()})
    theirs = AnimateDiffTransformer3D(
        8, WIDTH // 8, WIDTH, positional_embeddings="sinusoidal", num_positional_embeddings=32
    )
    theirs.load_state_dict(renamed(ours.state_dict()) | {"transformer_blocks.0.pos_embed.pe": waves(32, WIDTH)})
    return ours.eval(), theirs.eval()


@pytest.fixture
def clip():
    """Two clips whose frames differ in mean and spread."""
    torch.manual_seed(0)
    x = torch.randn(2 * FRAMES, WIDTH, 5, 4)
    return x * torch.linspace(0.2, 3, 2 * FRAMES)[:, None, None, None] + torch.arange(2.0 * FRAMES)[:, None, None, None]


@torch.no_grad()
def test_module_matches_diffusers_with_the_joint_norm(pair, clip):
    ours, theirs = pair
    ours.norm_joint = True
    expected = theirs(clip, num_frames=FRAMES)
    torch.testing.assert_close(ours(clip, FRAMES), expected, rtol=1e-5, atol=1e-5)
    ours.norm_joint = False
    assert (ours(clip, FRAMES) - expected).abs().max() > 0.1
    ours.norm_joint = True
    one_by_one = torch.cat([theirs(frame[None], num_frames=1) for frame in clip])
    torch.testing.assert_close(ours(clip, 1), one_by_one, rtol=1e-5, atol=1e-5)
    ours.norm_joint = False
    torch.testing.assert_close(ours(clip, 1), one_by_one, rtol=1e-5, atol=1e-5)


class NormOfEachFrame(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def forward(self, x):
        return torch.stack([self.norm(frame) for frame in x.unbind(2)], 2)


@torch.no_grad()
def test_module_matches_diffusers_whose_norm_sees_one_frame(pair, clip):
    ours, theirs = pair
    theirs.norm = NormOfEachFrame(theirs.norm)
    torch.testing.assert_close(ours(clip, FRAMES), theirs(clip, num_frames=FRAMES), rtol=1e-5, atol=1e-5)


def test_positions_match_the_formula():
    torch.testing.assert_close(positions(32, 320), waves(32, 320), rtol=0, atol=1e-5)
    assert positions(24, 8).shape == (1, 24, 8)


@torch.no_grad()
def test_strength_scales_what_is_added(pair, clip):
    module, _ = pair
    assert module(clip, FRAMES, 0) is clip
    added = module(clip, FRAMES) - clip
    torch.testing.assert_close(module(clip, FRAMES, 0.25), clip + 0.25 * added)
    torch.testing.assert_close(module(clip, FRAMES, torch.tensor(0.25)), clip + 0.25 * added)


@torch.no_grad()
def test_clips_do_not_see_each_other(pair, clip):
    module, _ = pair
    alone = module(clip[:FRAMES], FRAMES)
    torch.testing.assert_close(module(clip, FRAMES)[:FRAMES], alone)
    changed = torch.cat([clip[:FRAMES], clip[FRAMES:] + 1])
    torch.testing.assert_close(module(changed, FRAMES)[:FRAMES], alone)


@torch.no_grad()
@pytest.mark.parametrize("norm_joint", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_linear_layers_get_tokens_in_one_piece(pair, clip, norm_joint, layout):
    module, _ = pair
    module.norm_joint = norm_joint
    seen = []
    for part in module.modules():
        if isinstance(part, nn.Linear):
            part.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].is_contiguous()))
    module(clip.to(memory_format=layout), FRAMES)
    assert seen == [True] * 12


def test_windows_and_rows_that_do_not_fit_are_refused(pair, clip):
    module, _ = pair
    with pytest.raises(InputError, match="window of 33 frames does not fit .* knows 1 to 32"):
        module(torch.zeros(33, WIDTH, 1, 1), 33)
    with pytest.raises(InputError, match="12 rows are not whole clips of 5 frames"):
        module(clip, 5)
    with pytest.raises(InputError, match="motion module input"):
        module(clip[:, :32], FRAMES)


@pytest.mark.parametrize(
    ("version", "params"), [("v1", 417_137_600), ("v2", 453_209_280), ("v3", 417_137_600), ("animatelcm", 417_137_600)]
)
def test_names_and_shapes_are_those_of_diffusers_adapter(version, params):
    with torch.device("meta"):
        ours = MotionModules(version=version)
        theirs = MotionAdapter(use_motion_mid_block=version == "v2")
    expected = {name: tensor.shape for name, tensor in theirs.state_dict().items() if "pos_embed" not in name}
    assert {name: tensor.shape for name, tensor in renamed(ours.state_dict()).items()} == expected
    assert sum(parameter.numel() for parameter in ours.parameters()) == params
    length = {"v1": 24, "animatelcm": 64}.get(version, 32)
    waved = {tensor.shape[1] for name, tensor in ours.state_dict().items() if name.endswith("pos_encoder.pe")}
    assert waved == {length} == {ours.length}


def test_diffusers_own_files_are_known():
    with torch.device("meta"):
        theirs, ours = MotionAdapter(motion_max_seq_length=32), MotionModules(version="v2")
    found = sort_motion_modules(theirs.state_dict(), "diffusion_pytorch_model.safetensors")
    assert found.version == "v2"
    assert {name: t.shape for name, t in found.tensors.items()} == {
        name: t.shape for name, t in ours.state_dict().items()
    }


@pytest.mark.parametrize("version", ["v1", "v2", "v3", "animatelcm"])
def test_files_are_read_and_written(tmp_path, version):
    public = motion_tensors(version)
    torch.save({"epoch": 1, "state_dict": {f"module.{k}": t for k, t in public.items()}}, tmp_path / "mm.ckpt")
    modules = load_motion_modules(tmp_path / "mm.ckpt", widths=TINY)
    assert (modules.version, modules.widths, modules.training) == (version, TINY, False)
    held = modules.state_dict()
    assert all(torch.equal(held[name], tensor) for name, tensor in public.items())
    extra = held.keys() - public.keys()
    assert len(extra) == (40 if version == "animatelcm" else 0)
    assert all(torch.allclose(held[name], waves(64, held[name].shape[2]), atol=1e-5) for name in extra)
    written = save_motion_modules(modules, tmp_path / "own.safetensors", {"step": "7"})
    assert all(torch.equal(public[name], tensor) for name, tensor in read_tensors(written).items())
    assert read_tensors(written).keys() == public.keys()
    told = {"version": version, "length": str(modules.length), "betas": "linear", "step": "7"}
    assert read_metadata(written) == told and modules.betas == "linear"  # public files say nothing of it


def test_half_precision_files_are_widened(tmp_path):
    save_file({name: t.half() for name, t in motion_tensors("v3").items()}, tmp_path / "mm.safetensors")
    modules = load_motion_modules(tmp_path / "mm.safetensors", widths=None)
    assert {tensor.dtype for tensor in modules.state_dict().values()} == {torch.float32}


def test_incomplete_files_are_refused(tmp_path):
    tensors = motion_tensors("v3")
    del tensors["up_blocks.3.motion_modules.2.temporal_transformer.proj_out.bias"]
    save_file(tensors, tmp_path / "cut.safetensors")
    with pytest.raises(InputError, match="cut.safetensors does not fit .* lacks up_blocks.3.motion_modules.2"):
        load_motion_modules(tmp_path / "cut.safetensors", widths=TINY)
    with pytest.raises(InputError, match="the UNet has 320, 640, 1280, 1280"):
        load_motion_modules(tmp_path / "cut.safetensors")


def test_insertion_points_are_those_of_the_design():
    points = insertion_points("v2")
    blocks = {side: [p.block[1] for p in points if p.block[0] == side] for side in ("input", "middle", "output")}
    assert blocks == {"input": [1, 2, 4, 5, 7, 8, 10, 11], "middle": [0], "output": list(range(12))}
    ldm = {point.name: point.ldm for point in points}
    assert ldm["down_blocks.0.motion_modules.1"] == "input_blocks.2.1"
    assert ldm["down_blocks.3.motion_modules.0"] == "input_blocks.10.0"
    assert ldm["mid_block.motion_modules.0"] == "middle_block.1"
    assert ldm["up_blocks.0.motion_modules.2"] == "output_blocks.2.0"
    assert ldm["up_blocks.3.motion_modules.2"] == "output_blocks.11.1"
    assert [p for p in points if p.block[0] != "middle"] == list(insertion_points("v3"))
    with torch.device("meta"):
        modules = MotionModules(version="v2")
    assert [modules.at(point).width for point in points] == [FULL[point.level] for point in points]
    names = {name.split(".temporal_transformer")[0] for name in modules.state_dict()}
    assert names == {point.name for point in points} and len(points) == 21
    assert {point.diffusers for point in points} <= {name for name, _ in tiny_unet().named_modules()}


def inputs(frames, clips=1):
    torch.manual_seed(1)
    return torch.randn(clips * frames, 4, 8, 8), torch.tensor(500), torch.randn(clips * frames, 5, 48)


@torch.no_grad()
@pytest.mark.parametrize("version", ["v2", "v3"])
def test_bound_unet_matches_diffusers_motion_unet(version):
    unet, public = tiny_unet(), motion_tensors(version)
    modules = MotionModules(TINY, version, norm_joint=True)
    modules.load_state_dict(public)
    theirs = UNetMotionModel(
        sample_size=8,
        block_out_channels=TINY,
        cross_attention_dim=48,
        num_attention_heads=8,
        motion_num_attention_heads=8,
        use_motion_mid_block=version == "v2",
    ).eval()
    plain = {name: tensor for name, tensor in theirs.state_dict().items() if name.endswith("pos_embed.pe")}
    theirs.load_state_dict({**unet.state_dict(), **renamed(public), **plain})
    x, timestep, text = inputs(FRAMES, 2)
    expected = theirs(x.unflatten(0, (2, FRAMES)).transpose(1, 2), timestep, text)[0]
    expected = expected.transpose(1, 2).flatten(0, 1)
    before = unet(x, timestep, text)[0]
    with bind_motion(unet, modules, FRAMES):
        torch.testing.assert_close(unet(x, timestep, text)[0], expected, rtol=1e-4, atol=1e-4)
    assert (expected - before).abs().max() > 0.1
    assert torch.equal(unet(x, timestep, text)[0], before)


@torch.no_grad()
def test_modules_that_are_off_or_new_add_nothing():
    unet, modules = tiny_unet(), MotionModules(TINY)
    modules.load_state_dict(motion_tensors("v3"))
    x, timestep, text = inputs(FRAMES)
    before = unet(x, timestep, text)[0]
    with bind_motion(unet, modules, FRAMES, strength=0):
        assert torch.equal(unet(x, timestep, text)[0], before)
    with bind_motion(unet, new_motion_modules(TINY), FRAMES):
        assert torch.equal(unet(x, timestep, text)[0], before)
    with bind_motion(unet, modules, FRAMES):
        assert not torch.allclose(unet(x, timestep, text)[0], before)


def test_binding_ends_with_an_error_and_keeps_half_precision():
    unet, modules = tiny_unet().bfloat16(), new_motion_modules(TINY)
    x, timestep, text = inputs(2)
    with torch.no_grad(), bind_motion(unet, modules, 2):
        assert unet(x.bfloat16(), timestep, text.bfloat16())[0].dtype == torch.bfloat16
    with pytest.raises(RuntimeError, match="stop"), bind_motion(unet, modules, 2):
        raise RuntimeError("stop")
    assert not any(module._forward_hooks for module in unet.modules())


def test_gradients_reach_every_module():
    unet, modules = tiny_unet(), MotionModules(TINY, "v2")
    modules.load_state_dict(motion_tensors("v2"))
    with bind_motion(unet, modules, 2):
        unet(*inputs(2))[0].square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in modules.parameters())


def test_binding_refuses_what_does_not_fit():
    unet = tiny_unet()
    with pytest.raises(InputError, match="window of 25 frames"), bind_motion(unet, MotionModules(TINY, "v1"), 25):
        pass
    with (
        pytest.raises(InputError, match="the UNet has .32, 64, 128, 128."),
        bind_motion(unet, MotionModules((32, 64, 64, 64)), 2),
    ):
        pass
    with pytest.raises(InputError, match="version must be one of v1, v2, v3, animatelcm, not 'v4'"):
        MotionModules(TINY, "v4")
    with pytest.raises(InputError, match="four blocks, not of 3"):
        MotionModules((32, 64, 128))


def test_noise_levels_of_a_training_stay_with_the_file(tmp_path):
    path = save_motion_modules(new_motion_modules(TINY, betas="scaled_linear"), tmp_path / "own.safetensors")
    assert load_motion_modules(path, widths=TINY).betas == "scaled_linear"
    with pytest.raises(InputError, match="betas must be one of linear, scaled_linear"):
        MotionModules(TINY, betas="cosine")
