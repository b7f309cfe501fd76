"""Denoising through diffusers with the random weights and inputs that `comfy_denoise` uses through ComfyUI."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from fractions import Fraction

import torch
from comfy_denoise import hints_of
from control_files import tiny_controlnet
from style_files import style_attention
from tiny_unet import random_motion, tiny_unet

from portraittalk_core.diffusion.branches import bind
from portraittalk_core.diffusion.denoiser import Condition, Denoiser
from portraittalk_core.diffusion.motion_modules import bind_motion
from portraittalk_core.diffusion.schedule import MOTION, schedule_sigmas
from portraittalk_core.diffusion.sites import SITES
from portraittalk_core.diffusion.windowed import VideoOptions, WindowedDenoiser
from portraittalk_core.renderers.animatenet.animate_net import (
    AnimateOptions,
    bind_animate,
    new_animate_net,
    track_conditions,
)
from portraittalk_core.renderers.animatenet.control import ControlOptions
from portraittalk_core.renderers.animatenet.feature_attention import FeatureControl
from portraittalk_core.renderers.animatenet.head_placement import follow, place, placements
from portraittalk_core.renderers.identitynet.adapter import IdentityOptions, identity_branches
from portraittalk_core.style.attention import FrameStyles, StyleRun, bind_style
from portraittalk_core.types import LandmarkTrack

SIGMA = float(schedule_sigmas()[600])  # one that ComfyUI, which rounds to whole timesteps, has too
MOVING = float(schedule_sigmas(MOTION)[500])  # of the motion modules' own levels
WINDOW = {"length": 8, "overlap": 2}
FACE = {"strength": 0.8}
ANIMATE = {"file": "trained", "tokens": [0.8, 1.2]}  # AnimateNet, and how strongly it acts


def random_animate(trained: bool = True, previous: bool = False):
    """An AnimateNet with feature attention, whose values are random or, untrained, zero."""
    net = new_animate_net(tiny_controlnet(), features=True, previous=previous)
    draw = torch.Generator().manual_seed(9)
    for name, weight in net.named_parameters():
        if trained and ".to_v_" in name:
            weight.data.normal_(std=2.0 if "features" in name else 0.5, generator=draw)
    if previous:
        net.previous_proj.weight.data.normal_(std=0.3, generator=draw)
    return net.eval().requires_grad_(False)


@contextmanager
def looking_back(control, inputs):
    """Context in which a ControlNet also sees the last finished frame, and where the head stood before each frame."""
    track = track_of(inputs)
    own = placements(track)
    conditions, net = track_conditions(track, torch.cat([own[:1], own[:-1]])), random_animate(previous=True)
    options = AnimateOptions(*ANIMATE["tokens"])
    with bind_animate(control.network, net, conditions, lambda: control.frames, options) as tokens:
        tokens.previous = inputs["last"]
        yield


@contextmanager
def styled(unet, inputs, batch, frames=False):
    """A UNet with style attention to the styles of `inputs`: one for every frame, or the first for all."""
    count = len(inputs["styles"]) if frames else 1
    styles = FrameStyles(inputs["styles"][:count], inputs["style_strengths"][:count])
    with bind_style(unet, StyleRun(style_attention(), styles, batch)):
        yield


def through_diffusers(adapter, inputs, *all_options, cfg=3.5, unet=None, control=None, more=None, sigmas=(SIGMA,)):
    unet = unet or tiny_unet()
    keys = [site.adapter_key for site in SITES]
    together: dict = {site.index: [] for site in SITES}
    for options in all_options:
        for index, branch in identity_branches(adapter, inputs["tokens"], keys, options).items():
            together[index].append(branch)
    for index, branch in (more or {}).items():
        together[index].append(branch)
    with bind(unet, together) as batch:
        cond = Condition(inputs["positive"], inputs["negative"], cfg)
        denoiser = Denoiser(unet, batch, control)
        return [denoiser(inputs["x"] * (sigma / SIGMA), sigma, cond) for sigma in sigmas][-1]


def merged_lora(adapter):
    """The tiny UNet with the adapter's LoRA in its weights, by hand."""
    unet = tiny_unet()
    with torch.no_grad():
        for name, tensor in adapter.lora.items():
            if ".down." in name:
                number, part = name.split(".")[0], name.split(".")[1].removeprefix("to_").removesuffix("_lora")
                place = list(unet.attn_processors)[int(number)].removesuffix(".processor")
                weight = unet.get_parameter(f"{place}.to_{part}{'.0' if part == 'out' else ''}.weight")
                weight += adapter.lora[name.replace(".down.", ".up.")] @ tensor
    return unet


def styled_diffusers(adapter, inputs, *options, frames=None):
    """Denoised through diffusers with a style; `frames` numbers the samples where each frame has its own."""
    keys = [site.adapter_key for site in SITES]
    all_branches = [identity_branches(adapter, inputs["tokens"], keys, option) for option in options]
    together = {site.index: [branches[site.index] for branches in all_branches] for site in SITES}
    unet = tiny_unet()
    with bind(unet, together) as batch, styled(unet, inputs, batch, frames is not None):
        batch.frames = frames or ()
        return Denoiser(unet, batch)(inputs["x"], SIGMA, Condition(inputs["positive"], inputs["negative"], 3.5))


def moving_diffusers(adapter, inputs, unet, control=None, more=None, sigmas=(MOVING,), style=False):
    """Denoised through diffusers with a face, motion modules and windows, at the noise level MOVING."""
    keys = [site.adapter_key for site in SITES]
    branches = identity_branches(adapter, inputs["tokens"], keys, IdentityOptions(**FACE))
    cond = Condition(inputs["positive"], inputs["negative"], 3.5)
    window = min(WINDOW["length"], len(inputs["x"]))
    together = {index: [branch] for index, branch in branches.items()}
    for index, branch in (more or {}).items():
        together[index].append(branch)
    with ExitStack() as bound:
        batch = bound.enter_context(bind(unet, together))
        bound.enter_context(bind_motion(unet, random_motion(), window, 0.9))
        if style:
            bound.enter_context(styled(unet, inputs, batch, frames=True))
        denoiser = Denoiser(unet, batch, control, MOTION)
        windowed = WindowedDenoiser(denoiser, 5, VideoOptions("sliding", **WINDOW))
        return [windowed(inputs["x"] * (sigma / MOVING), sigma, cond) for sigma in sigmas][-1]


def control_of(frames, strength=0.7, reuse_every=1):
    control = FeatureControl(tiny_controlnet(), hints_of, ControlOptions(strength, reuse_every=reuse_every))
    control.frames = list(frames)
    return control


def track_of(inputs, following=False):
    points = inputs["points"]
    track = LandmarkTrack(points, torch.ones(len(points), dtype=torch.bool), Fraction(25), 400, 400)
    targets = placements(track)
    return place(track, follow(targets[0], targets, 0.02)) if following else track


def animate_tokens(control, inputs, following=False):
    """Context in which a ControlNet attends to landmark and placement tokens."""
    conditions = track_conditions(track_of(inputs, following))
    options = AnimateOptions(*ANIMATE["tokens"])
    return bind_animate(control.network, random_animate(), conditions, lambda: control.frames, options)
