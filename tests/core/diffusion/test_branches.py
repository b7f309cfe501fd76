"""The diffusers binding against diffusers' own IP-Adapter, on a tiny UNet of SD1.5's topology."""

from __future__ import annotations

import pytest
import torch
from adapter_files import adapter_tensors, flat
from tiny_unet import tiny_unet

from portraittalk_core.diffusion.branches import bind
from portraittalk_core.diffusion.denoiser import Condition, Denoiser
from portraittalk_core.diffusion.sites import SITES
from portraittalk_core.renderers.identitynet.adapter import IdentityOptions, build_adapter, identity_branches
from portraittalk_core.renderers.identitynet.adapter_files import sort_adapter
from portraittalk_core.renderers.identitynet.adapter_lora import kohya_lora

diffusers = pytest.importorskip("diffusers")
KEYS = [site.adapter_key for site in SITES]


@pytest.fixture
def adapter():
    return build_adapter(sort_adapter(flat(adapter_tensors("faceid")), "random.bin"), "random.bin")


@pytest.fixture
def cond():
    torch.manual_seed(5)
    return Condition(torch.randn(1, 7, 48), torch.randn(1, 7, 48), 3.5)


def theirs(unet, x, sigma, cond, tokens, scale, tensors):
    """Denoised latents by diffusers' own adapter code."""
    unet._load_ip_adapter_weights([{k: dict(v) for k, v in tensors.items()}], low_cpu_mem_usage=False)
    for processor in unet.attn_processors.values():
        if hasattr(processor, "scale"):
            processor.scale = [scale]

    class Given(torch.nn.Module):
        def forward(self, embeds):
            return embeds

    unet.encoder_hid_proj = Given()
    rows = torch.cat([x, x]) / (1 + sigma**2) ** 0.5
    text = torch.cat([cond.positive.expand(len(x), -1, -1), cond.negative.expand(len(x), -1, -1)])
    faces = tokens.repeat_interleave(len(x), 0)[:, None]
    timestep = torch.tensor(Denoiser(unet).timestep(sigma))
    noise = unet(rows, timestep, text, added_cond_kwargs={"image_embeds": [faces]}).sample
    positive, negative = noise.chunk(2)
    return x - sigma * (negative + cond.cfg * (positive - negative))


def ours(unet, x, sigma, cond, branches):
    with bind(unet, {index: [branch] for index, branch in branches.items()}) as batch:
        return Denoiser(unet, batch)(x, sigma, cond)


def test_adapter_matches_diffusers(adapter, cond):
    unet, x, sigma = tiny_unet(), torch.randn(2, 4, 8, 8) * 3, 2.7
    tokens = torch.randn(2, 8, 48)  # of two references
    branches = identity_branches(adapter, tokens, KEYS, IdentityOptions(strength=0.8))
    found = ours(unet, x, sigma, cond, branches)
    expected = theirs(tiny_unet(), x, sigma, cond, tokens, 0.8, adapter_tensors("faceid"))
    torch.testing.assert_close(found, expected, atol=5e-5, rtol=0)
    plain = ours(unet, x, sigma, cond, {})
    assert (found - plain).abs().max() > 0.1


@pytest.mark.slow
def test_each_site_of_the_table_is_where_diffusers_has_it(adapter, cond):
    """One site at a time: a swapped row of the table cannot hide behind the others."""
    unet, x, sigma = tiny_unet(), torch.randn(1, 4, 8, 8), 1.0
    tokens = torch.randn(2, 4, 48)
    for site in SITES:
        tensors = adapter_tensors("faceid")
        for key in KEYS:
            if key != site.adapter_key:
                tensors["ip_adapter"][f"{key}.to_v_ip.weight"] = torch.zeros_like(
                    tensors["ip_adapter"][f"{key}.to_v_ip.weight"]
                )
        only = identity_branches(
            adapter, tokens, KEYS, IdentityOptions(layers={i: float(i == site.index) for i in range(16)})
        )
        assert list(only) == [site.index]
        expected = theirs(tiny_unet(), x, sigma, cond, tokens, 1.0, tensors)
        torch.testing.assert_close(ours(unet, x, sigma, cond, only), expected, atol=5e-5, rtol=0)


def test_zero_strength_is_bit_equal_to_no_adapter(adapter, cond):
    unet, x = tiny_unet(), torch.randn(2, 4, 8, 8)
    none = identity_branches(adapter, torch.randn(2, 4, 48), KEYS, IdentityOptions(strength=0))
    assert not none
    assert torch.equal(ours(unet, x, 2.0, cond, none), ours(unet, x, 2.0, cond, {}))
    torch.testing.assert_close(ours(unet, x, 2.0, cond, {}), Denoiser(unet)(x, 2.0, cond), atol=1e-5, rtol=0)


def test_outside_of_its_window_it_is_bit_equal_to_no_adapter(adapter, cond):
    unet, x, tokens = tiny_unet(), torch.randn(2, 4, 8, 8), torch.randn(2, 4, 48)
    late = identity_branches(adapter, tokens, KEYS, IdentityOptions(), window=(1.0, 0.0))
    silent = identity_branches(adapter, tokens, KEYS, IdentityOptions(), window=(-1.0, -2.0))
    assert torch.equal(ours(unet, x, 2.0, cond, late), ours(unet, x, 2.0, cond, silent))
    assert not torch.equal(ours(unet, x, 0.9, cond, late), ours(unet, x, 0.9, cond, silent))


def test_binding_leaves_the_unet_as_it_was(adapter, cond):
    unet, x = tiny_unet(), torch.randn(1, 4, 8, 8)
    before = Denoiser(unet)(x, 2.0, cond)
    ours(unet, x, 2.0, cond, identity_branches(adapter, torch.randn(2, 4, 48), KEYS, IdentityOptions()))
    assert torch.equal(Denoiser(unet)(x, 2.0, cond), before)


def test_positive_alone_takes_the_face_and_negative_alone_does_not(adapter, cond):
    unet, x, tokens = tiny_unet(), torch.randn(2, 4, 8, 8), torch.randn(2, 4, 48)
    branches = identity_branches(adapter, tokens, KEYS, IdentityOptions())
    both = ours(unet, x, 2.0, cond, branches)
    parts = []
    for labels, text in (((0,), cond.positive), ((1,), cond.negative)):
        with bind(unet, {i: [b] for i, b in branches.items()}) as batch:
            parts.append(Denoiser(unet, batch)._noise(x, 2.0, text.expand(2, -1, -1), labels))
    noise = parts[1] + cond.cfg * (parts[0] - parts[1])
    torch.testing.assert_close(both, x - 2.0 * noise, atol=1e-4, rtol=0)


def test_denoised_is_the_clean_image_for_a_perfect_network(cond):
    """x − sigma·noise, with the network's input scaled by 1/sqrt(1 + sigma²) and the right timestep."""
    clean, noise = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    alphas = diffusers.DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod
    at = 400
    sigma = float(((1 - alphas[at]) / alphas[at]) ** 0.5)
    noisy_vp = alphas[at] ** 0.5 * clean + (1 - alphas[at]) ** 0.5 * noise

    class Perfect(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1))

        def forward(self, rows, timestep, text, return_dict):
            torch.testing.assert_close(rows, noisy_vp, atol=1e-4, rtol=0)
            assert abs(float(timestep) - at) < 0.01
            return (noise,)

    denoised = Denoiser(Perfect())(clean + sigma * noise, sigma, Condition(cond.positive))
    torch.testing.assert_close(denoised, clean, atol=1e-4, rtol=0)


def test_texts_of_different_length_are_joined_without_change():
    unet, x = tiny_unet(), torch.randn(1, 4, 8, 8)
    torch.manual_seed(1)
    short, long = torch.randn(1, 7, 48), torch.randn(1, 14, 48)
    found = Denoiser(unet)(x, 2.0, Condition(short, long, 3.0))
    noise = [Denoiser(unet)._noise(x, 2.0, text, (0,)) for text in (short, long)]
    torch.testing.assert_close(found, x - 2.0 * (noise[1] + 3.0 * (noise[0] - noise[1])), atol=1e-4, rtol=0)


def test_lora_names_reach_all_attentions_of_diffusers(adapter):
    """Merged by hand into W + up·down, every weight of every attention changes, and by the right amount."""
    unet = tiny_unet()
    weights = {name.replace(".", "_"): p for name, p in unet.named_parameters() if ".attn" in name and p.ndim == 2}
    renamed = kohya_lora(adapter.lora)
    reached = set()
    for name in renamed:
        if "lora_down" in name:
            place = name.removeprefix("lora_unet_").removesuffix(".lora_down.weight")
            change = renamed[name.replace("lora_down", "lora_up")] @ renamed[name]
            assert weights[f"{place}_weight"].shape == change.shape
            reached.add(f"{place}_weight")
    assert reached == weights.keys() and len(renamed) == 256
