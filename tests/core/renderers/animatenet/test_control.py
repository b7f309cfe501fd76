import pytest
import torch
from control_files import ldm_tensors, tiny_controlnet
from safetensors.torch import save_file
from tiny_unet import tiny_unet

from portraittalk_core.diffusion.denoiser import Condition, Denoiser
from portraittalk_core.errors import InputError
from portraittalk_core.renderers.animatenet.control import ControlOptions, FrameControl, load_controlnet

pytest.importorskip("diffusers")
SIGMA = 2.0


@pytest.fixture
def cond():
    torch.manual_seed(5)
    return Condition(torch.randn(1, 7, 48), torch.randn(1, 7, 48), 3.0)


def hints_of(frames, height, width):
    """Frame 7's drawing is 7 tenths grey, and so on, with a stripe."""
    made = torch.stack([torch.full((3, height, width), 0.1 * frame) for frame in frames])
    made[:, :, 10:14] = 1.0
    return made


def denoised(x, cond, frames, options=None, network=None):
    control = FrameControl(network or tiny_controlnet(), hints_of, options)
    control.frames = frames
    return Denoiser(tiny_unet(), control=control)(x, SIGMA, cond)


@pytest.mark.parametrize("layout", ["ldm", "diffusers", "bare"])
def test_both_layouts_load_completely(layout, tmp_path):
    network, path = tiny_controlnet(), tmp_path / "control.safetensors"
    tensors = network.state_dict() if layout == "diffusers" else ldm_tensors(network)
    if layout == "bare":
        tensors = {name.removeprefix("control_model."): tensor for name, tensor in tensors.items()}
    save_file(tensors, path)
    loaded = load_controlnet(path)
    assert loaded.state_dict().keys() == network.state_dict().keys()
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    given = torch.randn(2, 4, 8, 8), torch.tensor(300.0), torch.randn(2, 7, 48), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        pairs = zip(loaded(*given, return_dict=False)[0], network(*given, return_dict=False)[0], strict=True)
        for found, expected in pairs:
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_control_matches_diffusers_own_way(cond):
    """As StableDiffusionControlNetPipeline does it: drawings twice, residuals into the UNet."""
    x = torch.randn(2, 4, 8, 8)
    unet, network = tiny_unet(), tiny_controlnet()
    rows = torch.cat([x, x]) / (1 + SIGMA**2) ** 0.5
    text = torch.cat([cond.positive.expand(2, -1, -1), cond.negative.expand(2, -1, -1)])
    timestep = torch.tensor(Denoiser(unet).timestep(SIGMA))
    drawn = hints_of([7, 3], 64, 64)
    with torch.no_grad():
        down, middle = network(rows, timestep, text, torch.cat([drawn, drawn]), 0.7, return_dict=False)
        added = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        positive, negative = unet(rows, timestep, text, **added).sample.chunk(2)
    expected = x - SIGMA * (negative + 3.0 * (positive - negative))
    found = denoised(x, cond, [7, 3], ControlOptions(0.7))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert (found - Denoiser(tiny_unet())(x, SIGMA, cond)).abs().max() > 0.1


def test_maps_weigh_what_is_added_place_by_place(cond):
    """Twice everywhere is twice the strength; nowhere is no control."""
    x = torch.randn(2, 4, 8, 8)

    def weighted(factor, strength):
        maps = lambda frames, h, w: torch.full((len(frames), 1, h, w), factor)  # noqa: E731
        control = FrameControl(tiny_controlnet(), hints_of, ControlOptions(strength), maps)
        control.frames = [7, 3]
        return Denoiser(tiny_unet(), control=control)(x, SIGMA, cond)

    torch.testing.assert_close(weighted(2.0, 0.4), denoised(x, cond, [7, 3], ControlOptions(0.8)), atol=1e-5, rtol=0)
    torch.testing.assert_close(weighted(0.0, 0.4), Denoiser(tiny_unet())(x, SIGMA, cond), atol=1e-5, rtol=0)


def test_every_frame_has_its_own_drawing(cond):
    x = torch.randn(2, 4, 8, 8)
    both, swapped = denoised(x, cond, [2, 9]), denoised(x.flip(0), cond, [9, 2])
    torch.testing.assert_close(both, swapped.flip(0), atol=1e-5, rtol=0)
    other = denoised(x, cond, [2, 5])
    torch.testing.assert_close(other[0], both[0], atol=1e-5, rtol=0)
    assert (other[1] - both[1]).abs().max() > 3e-4


@pytest.mark.parametrize(
    "options", [ControlOptions(0.0), ControlOptions(window=(1.0, 0.0)), ControlOptions(window=(9.0, 3.0))]
)
def test_idle_control_is_bit_equal_to_none(options, cond):
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(denoised(x, cond, [0, 1], options), Denoiser(tiny_unet())(x, SIGMA, cond))


def test_reuse_runs_the_network_every_second_step(cond):
    network, calls = tiny_controlnet(), []
    network.register_forward_hook(lambda *_: calls.append(1))
    control = FrameControl(network, hints_of, ControlOptions(reuse_every=2))
    control.frames = [0]
    denoiser = Denoiser(tiny_unet(), control=control)
    x = torch.randn(1, 4, 8, 8)
    for sigma in (5.0, 4.0, 3.0, 2.0, 1.0):
        denoiser(x, sigma, cond)
    assert len(calls) == 3
    control.frames = [1]
    denoiser(x, 1.0, cond)
    assert len(calls) == 4  # other frames are never held to old drawings


def wrong(change):
    tensors = ldm_tensors(tiny_controlnet())
    change(tensors)
    return tensors


LAST, MIDDLE = "control_model.input_blocks.10.0.in_layers.2.weight", "control_model.middle_block.0.in_layers.0.weight"
BAD = {
    "is no ControlNet": lambda: tiny_unet().state_dict(),
    "is a ControlNet for Stable Diffusion 2": lambda: tiny_controlnet(context=1024).state_dict(),
    "is not a complete ControlNet": lambda: wrong(lambda t: t.pop(LAST)),
    "reads drawings of 4 channels": lambda: wrong(
        lambda t: t.update({"control_model.input_hint_block.0.weight": torch.zeros(16, 4, 3, 3)})
    ),
    "lacks mid_block.resnets.0.norm1.weight": lambda: wrong(lambda t: t.pop(MIDDLE)),
}


@pytest.mark.parametrize("words", BAD)
def test_other_files_are_refused(words, tmp_path):
    save_file({name: tensor.contiguous() for name, tensor in BAD[words]().items()}, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match=words):
        load_controlnet(tmp_path / "x.safetensors")


def test_hints_of_another_size_are_refused(cond):
    control = FrameControl(tiny_controlnet(), lambda frames, h, w: torch.zeros(len(frames), 3, h, w + 8))
    with pytest.raises(InputError, match="hints must have shape"):
        Denoiser(tiny_unet(), control=control)(torch.randn(1, 4, 8, 8), SIGMA, cond)
