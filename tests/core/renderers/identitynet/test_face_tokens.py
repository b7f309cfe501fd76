"""Face projections against diffusers' own."""

from __future__ import annotations

import pytest
import torch
from adapter_files import adapter_tensors

from portraittalk_core.renderers.identitynet.face_tokens import ProjectionInput, build_projection
from portraittalk_core.weights.load import load_strict

diffusers = pytest.importorskip("diffusers")
from diffusers.models import embeddings as theirs  # noqa: E402


def _ours(layout: str):
    tensors = adapter_tensors(layout)["image_proj"]
    return load_strict(build_projection(layout, tensors), tensors, layout), tensors


@pytest.mark.parametrize(("layout", "num_tokens"), [("faceid", 4), ("portrait", 16)])
def test_face_projection_matches_diffusers(layout, num_tokens):
    ours, tensors = _ours(layout)
    net = theirs.IPAdapterFaceIDImageProjection(512, 48, mult=2, num_tokens=num_tokens)
    renamed = {"ff.net.0.proj.weight": tensors["proj.0.weight"], "ff.net.0.proj.bias": tensors["proj.0.bias"]}
    renamed |= {"ff.net.2.weight": tensors["proj.2.weight"], "ff.net.2.bias": tensors["proj.2.bias"]}
    renamed |= {"norm.weight": tensors["norm.weight"], "norm.bias": tensors["norm.bias"]}
    net.load_state_dict(renamed)
    faces = torch.randn(3, 512)
    torch.testing.assert_close(ours(ProjectionInput(faces)), net(faces), atol=1e-6, rtol=0)


@pytest.mark.parametrize("layout", ["plus", "plusv2"])
def test_plus_projection_matches_diffusers(layout):
    ours, tensors = _ours(layout)
    net = _diffusers_plus(tensors)
    net.shortcut = layout == "plusv2"
    faces, states = torch.randn(2, 512), torch.randn(2, 7, 80)
    net.clip_embeds = states[:, None]
    expected = net(faces)
    torch.testing.assert_close(ours(ProjectionInput(faces, states)), expected.flatten(0, -3), atol=2e-6, rtol=0)


def _diffusers_plus(tensors):
    from diffusers.loaders.unet import UNet2DConditionLoadersMixin

    class Loader(UNet2DConditionLoadersMixin):
        pass

    return Loader()._convert_ip_adapter_image_proj_to_diffusers(dict(tensors), low_cpu_mem_usage=False)


def test_clip_plus_projection_matches_diffusers():
    ours, tensors = _ours("clip_plus")
    net = _diffusers_plus(tensors)
    states = torch.randn(2, 7, 80)
    torch.testing.assert_close(ours(ProjectionInput(clip_states=states)), net(states), atol=2e-6, rtol=0)


def test_plain_projection_matches_diffusers():
    ours, tensors = _ours("plain")
    net = _diffusers_plus(tensors)
    clip = torch.randn(2, 64)
    torch.testing.assert_close(ours(ProjectionInput(clip_embeds=clip)), net(clip), atol=1e-6, rtol=0)


def test_no_face_still_has_tokens():
    ours, tensors = _ours("faceid")
    nothing = ours(ProjectionInput(torch.zeros(1, 512)))
    hidden = torch.nn.functional.gelu(tensors["proj.0.bias"])
    flat = tensors["proj.2.weight"] @ hidden + tensors["proj.2.bias"]
    by_hand = torch.nn.functional.layer_norm(
        flat.reshape(1, 4, 48), (48,), tensors["norm.weight"], tensors["norm.bias"]
    )
    torch.testing.assert_close(nothing, by_hand, atol=1e-5, rtol=0)
    assert nothing.abs().mean() > 0.1
