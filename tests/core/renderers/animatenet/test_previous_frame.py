"""The last finished frame in the ControlNet: nothing untrained, a convolution of its latents once trained."""

import pytest
import torch
from control_files import tiny_controlnet

from portraittalk_core.errors import InputError
from portraittalk_core.renderers.animatenet.animate_net import (
    bind_animate,
    extended,
    load_animate_net,
    new_animate_net,
    save_animate_net,
)
from portraittalk_core.renderers.animatenet.previous_frame import previous_placements

pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def controlnet():
    return tiny_controlnet()


def trained(controlnet):
    net = new_animate_net(controlnet, previous=True)
    draw = torch.Generator().manual_seed(4)
    for weight in net.previous_proj.parameters():
        weight.data.normal_(std=0.3, generator=draw)
    return net.eval().requires_grad_(False)


@torch.no_grad()
def residuals(controlnet, net, previous, rows=4, frames=2):
    draw = torch.Generator().manual_seed(1)
    points, placed = torch.rand(frames, 478, 2, generator=draw), torch.rand(frames, 6, generator=draw)
    latents, text = torch.randn(rows, 4, 8, 8, generator=draw), torch.randn(rows, 7, 48, generator=draw)
    hints = torch.rand(rows, 3, 64, 64, generator=draw)
    with bind_animate(controlnet, net, lambda _: (points, placed), lambda: range(frames)) as tokens:
        tokens.previous = previous
        return controlnet(latents, torch.tensor(400), text, hints, return_dict=False)[1]


def test_untrained_last_frame_is_bit_equal_to_none_and_a_trained_one_is_a_convolution(controlnet):
    previous = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    plain = residuals(controlnet, new_animate_net(controlnet), None)
    assert torch.equal(residuals(controlnet, new_animate_net(controlnet, previous=True), previous), plain)
    net = trained(controlnet)
    assert torch.equal(residuals(controlnet, net, None), plain)  # where no frame is known
    shown = residuals(controlnet, net, previous)
    added = torch.nn.functional.conv2d(previous, net.previous_proj.weight, net.previous_proj.bias, padding=1)
    by_hand = controlnet.conv_in.register_forward_hook(lambda _, __, out: out + torch.cat([added, added]))
    try:
        torch.testing.assert_close(shown, residuals(controlnet, new_animate_net(controlnet), None), atol=1e-5, rtol=0)
    finally:
        by_hand.remove()
    assert (shown - plain).abs().max() > 1e-3
    same = residuals(controlnet, net, previous[:1])  # one frame for all rows
    torch.testing.assert_close(same, residuals(controlnet, net, previous[:1].expand(2, -1, -1, -1)), atol=1e-4, rtol=0)
    assert torch.equal(residuals(controlnet, new_animate_net(controlnet), None), plain)  # nothing stays bound


def test_latents_of_another_size_or_number_are_refused(controlnet):
    net = trained(controlnet)
    for shape in ((2, 4, 4, 4), (3, 4, 8, 8)):
        with pytest.raises(InputError, match="no previous frames of 4 rows"):
            residuals(controlnet, net, torch.zeros(shape))


def test_file_remembers_the_last_frame_and_an_older_net_gets_new_parts(controlnet, tmp_path):
    net = trained(controlnet)
    read = load_animate_net(save_animate_net(net, tmp_path / "net.safetensors"))
    assert all(torch.equal(read.state_dict()[name], tensor) for name, tensor in net.state_dict().items())
    old = new_animate_net(controlnet, seed=3)
    before = {name: tensor.clone() for name, tensor in old.state_dict().items()}
    new = extended(old, controlnet, features=True, previous=True)
    assert len(new.features) == 16 and not new.previous_proj.weight.any()
    assert all(torch.equal(new.state_dict()[name], tensor) for name, tensor in before.items())
    assert extended(read, controlnet, previous=True).previous_proj.weight.any()  # what has learnt stays
    tensors = net.state_dict() | {"previous_proj.weight": torch.zeros(32, 3, 3, 3)}
    from safetensors.torch import save_file

    save_file(tensors, tmp_path / "broken.safetensors")
    with pytest.raises(InputError, match="previous_proj.weight has the shape"):
        load_animate_net(tmp_path / "broken.safetensors")


def test_placements_are_those_of_the_frame_before():
    start, placed = torch.full((6,), 9.0), torch.arange(18.0).view(3, 6)
    assert torch.equal(previous_placements(start, placed), torch.stack([start, placed[0], placed[1]]))
