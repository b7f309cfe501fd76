"""A step of everything together: nothing makes the host wait, and no Linear of a motion module copies its input."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import torch
from adapter_files import adapter_tensors, flat
from control_files import tiny_controlnet
from tiny_unet import random_motion, tiny_unet
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from portraittalk_core.diffusion.branches import bind
from portraittalk_core.diffusion.denoiser import Condition, Denoiser
from portraittalk_core.diffusion.motion_modules import bind_motion
from portraittalk_core.diffusion.schedule import MOTION
from portraittalk_core.diffusion.sites import SITES
from portraittalk_core.diffusion.windowed import VideoOptions, WindowedDenoiser
from portraittalk_core.renderers.animatenet.control import ControlOptions, FrameControl
from portraittalk_core.renderers.identitynet.adapter import IdentityOptions, build_adapter, identity_branches
from portraittalk_core.renderers.identitynet.adapter_files import sort_adapter

pytest.importorskip("diffusers")
FRAMES, LENGTH, OVERLAP = 14, 8, 2
READS = ("_local_scalar_dense", "nonzero", "is_nonzero", "item", "equal")


class NoWaiting(TorchDispatchMode):
    """Refuses what makes a host wait for its device: reading values, and copies between memories.

    The device is "meta", which holds no values at all: to read one fails there by itself.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert not name.startswith(READS), f"{func} reads a value"
        out = func(*args, **(kwargs or {}))
        if name in ("_to_copy", "copy_", "index_put_", "index"):
            seen = {tensor.device.type for tensor in _tensors((args, out)) if tensor.ndim}
            assert len(seen) <= 1, f"{func} goes between {' and '.join(sorted(seen))}"
        return out


def _tensors(value):
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for one in value:
            yield from _tensors(one)


def shades(frames, height, width):
    return torch.stack([torch.full((3, height, width), 0.02 * frame) for frame in frames])


def around(frames, height, width):
    return torch.full((len(frames), 1, height, width), 1.5)


class Stack:
    """UNet, face, ControlNet with maps, motion, windows, finished frames."""

    def __init__(self, device="cpu", cfg=3.0, mode="sliding", reuse=1):
        adapter = build_adapter(sort_adapter(flat(adapter_tensors("faceid")), "random.bin"), "random.bin").to(device)
        keys = [site.adapter_key for site in SITES]
        faces = identity_branches(adapter, torch.randn(2, 4, 48), keys, IdentityOptions())
        self.unet, self.motion = tiny_unet().to(device), random_motion().to(device)
        self.network = tiny_controlnet().to(device)
        self.control = FrameControl(self.network, shades, ControlOptions(reuse_every=reuse), around)
        self.branches, self.video = {i: [b] for i, b in faces.items()}, VideoOptions(mode, LENGTH, OVERLAP)
        self.cond = Condition(torch.randn(1, 7, 48), torch.randn(1, 7, 48), cfg)
        self.x = torch.randn(FRAMES if mode == "sliding" else LENGTH, 4, 8, 8, device=device)
        self.fixed = torch.randn(OVERLAP, 4, 8, 8)
        self._open = ExitStack()

    def __enter__(self):
        batch = self._open.enter_context(bind(self.unet, self.branches))
        self._open.enter_context(bind(self.network, {}, batch))
        self._open.enter_context(bind_motion(self.unet, self.motion, LENGTH))
        inner = Denoiser(self.unet, batch, self.control, MOTION)
        return WindowedDenoiser(inner, 0, self.video, self.fixed)

    def __exit__(self, *error):
        self._open.close()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["chunked", "sliding"])
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_a_step_never_waits_for_the_device(mode, cfg):
    """The first step makes what is kept; from then on, nothing."""
    stack = Stack("meta", cfg, mode)
    with stack as denoiser:
        denoiser(stack.x, 5.0, stack.cond)
        with NoWaiting():
            assert denoiser(stack.x, 2.0, stack.cond).shape == stack.x.shape


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: x.cpu(),
        lambda x: x.tolist(),
        lambda x: bool((x > 0).any()),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: torch.zeros(3).to(x),
        lambda x: torch.ones(14, 1) + x[:, 0, 0].copy_(torch.zeros(14, 8)),
    ],
)
def test_the_guard_sees_what_waits(read):
    with pytest.raises((AssertionError, RuntimeError, NotImplementedError)), NoWaiting():
        read(torch.randn(14, 4, 8, 8, device="meta"))


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_linear_layers_of_motion_modules_get_one_piece(cfg):
    stack, seen = Stack(cfg=cfg, mode="chunked"), []
    for part in stack.motion.modules():
        if isinstance(part, nn.Linear):
            part.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].is_contiguous()))
    with stack as denoiser:
        denoiser(stack.x, 2.0, stack.cond)
    assert len(seen) == 12 * 20 and all(seen)


@pytest.mark.slow
def test_windows_of_a_step_keep_their_own_drawings_and_residuals():
    """Drawings are made once for each window, and with reuse the network runs in every second step."""
    stack, drawn, calls = Stack(reuse=2), [], []
    stack.control.hints = lambda frames, h, w: drawn.append(tuple(frames)) or shades(frames, h, w)
    stack.network.register_forward_hook(lambda *_: calls.append(1))
    with stack as denoiser:
        for sigma in (5.0, 4.0, 3.0):
            denoiser(stack.x, sigma, stack.cond)
    assert drawn == [tuple(range(8)), tuple(range(6, 14))]
    assert len(calls) == 2 * 2
    stack.control.clear_cache()
    assert not stack.control._residual_cache and not stack.control._hint_cache and not stack.control._factors


def test_nothing_is_kept_for_a_second_step_without_reuse():
    stack = Stack()
    with stack as denoiser:
        denoiser(stack.x, 2.0, stack.cond)
    assert not stack.control._residual_cache
