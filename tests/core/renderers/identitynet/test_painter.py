import copy
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from adapter_files import adapter_tensors, flat
from control_files import tiny_controlnet
from sd15_files import make_checkpoint
from style_files import style_attention

from portraittalk_core.diffusion.checkpoint import load_sd15
from portraittalk_core.diffusion.denoiser import Condition
from portraittalk_core.diffusion.samplers import SamplerOptions
from portraittalk_core.diffusion.sites import SITES
from portraittalk_core.errors import InputError
from portraittalk_core.renderers.animatenet.animate_net import AnimateOptions, new_animate_net, track_conditions
from portraittalk_core.renderers.animatenet.control import FrameControl
from portraittalk_core.renderers.animatenet.feature_attention import FeatureControl
from portraittalk_core.renderers.animatenet.hints import track_hints
from portraittalk_core.renderers.identitynet.adapter import IdentityOptions, build_adapter, identity_branches
from portraittalk_core.renderers.identitynet.adapter_files import sort_adapter
from portraittalk_core.renderers.identitynet.painter import (
    AnimateConditioning,
    Animation,
    DiffusersPainter,
    PaintOptions,
)
from portraittalk_core.style.attention import FrameStyles, StyleConditioning
from portraittalk_core.types import LandmarkTrack

pytest.importorskip("diffusers")

pytestmark = pytest.mark.slow  # together they take ten seconds and more

OPTIONS = PaintOptions(SamplerOptions(steps=2, denoise=0.6, seed=1), batch=3)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("sd15") / "tiny.safetensors", text=False)


@pytest.fixture(scope="module")
def kept(file):
    return load_sd15(file)


@pytest.fixture
def sd15(kept):
    """As if it were read anew."""
    return copy.deepcopy(kept)


@pytest.fixture
def cond():
    torch.manual_seed(2)
    return Condition(torch.randn(1, 7, 48), torch.randn(1, 7, 48), 2.0)


@pytest.fixture
def branches():
    adapter = build_adapter(sort_adapter(flat(adapter_tensors("faceid")), "random"), "random")
    keys = [site.adapter_key for site in SITES]
    torch.manual_seed(3)
    made = identity_branches(adapter, torch.randn(2, 4, 48), keys, IdentityOptions())
    return {index: [branch] for index, branch in made.items()}


@pytest.fixture
def frames():
    torch.manual_seed(4)
    return torch.rand(3, 3, 64, 64).movedim(1, -1)


def test_frames_keep_their_place_whatever_the_batch(sd15, cond, branches, frames):
    painter = DiffusersPainter(sd15, cond, branches, OPTIONS)
    together = painter.paint(frames).frames
    alone = torch.cat([painter.paint(frame[None]).frames for frame in frames])
    torch.testing.assert_close(together, alone, atol=2e-4, rtol=0)
    assert together.shape == frames.shape and together.min() >= 0 and together.max() <= 1


def test_equal_frames_stay_equal(sd15, cond, branches, frames):
    """One noise for all: what does not move does not flicker."""
    painter = DiffusersPainter(sd15, cond, branches, OPTIONS)
    made = painter.paint(frames[:1].repeat(3, 1, 1, 1)).frames
    torch.testing.assert_close(made[1], made[0], atol=2e-4, rtol=0)
    torch.testing.assert_close(made[2], made[0], atol=2e-4, rtol=0)


def test_encoding_is_diffusers_mean_scaled(sd15, cond, frames):
    with torch.no_grad():
        expected = sd15.vae.encode(frames.movedim(-1, 1) * 2 - 1).latent_dist.mean * 0.18215
    found = DiffusersPainter(sd15, cond, {}, OPTIONS).encode(frames)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_denoise_zero_leaves_frames_alone(sd15, cond, frames):
    still = replace(OPTIONS, sampling=replace(OPTIONS.sampling, denoise=0.0))
    made = DiffusersPainter(sd15, cond, {}, still).paint(frames)
    assert made.frames is frames and made.latents is None


def test_a_run_leaves_the_unet_and_the_branches_as_they_were(sd15, cond, branches, frames):
    before = list(sd15.unet.attn_processors.values())
    DiffusersPainter(sd15, cond, branches, OPTIONS).paint(frames)
    assert list(sd15.unet.attn_processors.values()) == before
    assert not any(branch._cache for chosen in branches.values() for branch in chosen)


def overflowing(sd15):
    """Far beyond fp16 between two layers of the time embedding, finite in fp32."""
    first, second = sd15.unet.time_embedding.linear_1, sd15.unet.time_embedding.linear_2
    with torch.no_grad():
        first.weight.mul_(200)
        first.bias.add_(60_000)
        second.weight.fill_(1.0)
    return sd15


def test_overflow_in_fp16_is_done_again_in_fp32(file, cond, branches, frames):
    sd15 = overflowing(load_sd15(file, dtype=torch.float16))
    painter = DiffusersPainter(sd15, cond, branches, OPTIONS)
    assert not torch.isfinite(painter._sample_once(painter.encode(frames[:1]), None)).all()
    assert torch.isfinite(painter.paint(frames[:1]).frames).all()
    assert next(sd15.unet.parameters()).dtype == torch.float16


def test_values_that_are_no_numbers_are_told(sd15, kept, cond, frames):
    with torch.no_grad():
        sd15.unet.conv_out.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="values that are not numbers, in fp32 too"):
        DiffusersPainter(sd15, cond, {}, OPTIONS).paint(frames)
    whole = copy.deepcopy(kept)
    with torch.no_grad():
        whole.vae.decoder.conv_out.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="the VAE gives values that are not numbers"):
        DiffusersPainter(whole, cond, {}, OPTIONS).paint(frames)


def rows_of(network, run) -> list[int]:
    """Rows of every pass of a network while `run` runs."""
    rows = []
    hook = network.register_forward_pre_hook(lambda _, given, options: rows.append(len(given[0])), with_kwargs=True)
    try:
        run()
    finally:
        hook.remove()
    return rows


@pytest.mark.parametrize(("cfg", "rows"), [(1.0, 3), (1.01, 6), (2.0, 6)])
def test_only_cfg_one_takes_a_single_pass(sd15, cond, branches, frames, cfg, rows):
    """Between 1 and 2 both are needed: negative + cfg · (positive − negative)."""
    painter = DiffusersPainter(sd15, replace(cond, cfg=cfg), branches, OPTIONS)
    assert rows_of(sd15.unet, lambda: painter.paint(frames)) == [rows] * 2


def test_four_steps_of_lcm_are_four_passes(sd15, cond, frames):
    fast = PaintOptions(SamplerOptions("lcm", "sgm_uniform", 4, denoise=0.5), batch=3)
    painter = DiffusersPainter(sd15, replace(cond, cfg=1.0), {}, fast)
    assert rows_of(sd15.unet, lambda: painter.paint(frames)) == [3] * 4


# ---- an AnimateNet inside of the ControlNet ----


@pytest.fixture(scope="module")
def controlnet():
    return tiny_controlnet()


@pytest.fixture(scope="module")
def track():
    points = torch.rand(3, 478, 3, generator=torch.Generator().manual_seed(3)) * 0.5 + 0.25
    return LandmarkTrack(points, torch.ones(3, dtype=torch.bool), Fraction(25), 64, 64)


def told_by(controlnet, track, trained=True, **options) -> Animation:
    net = new_animate_net(controlnet, features=True).requires_grad_(False)
    if trained:
        for name, weight in net.named_parameters():
            if "to_v_" in name:
                weight.data.normal_(std=0.5, generator=torch.Generator().manual_seed(9))
    features = options.pop("features", 0.0)
    kind = FeatureControl if features else FrameControl
    told = AnimateConditioning(net, track_conditions(track), AnimateOptions(**options), features)
    return Animation(kind(controlnet, track_hints(track)), conditioning=told)


def painted_by(sd15, cond, frames, animation):
    return DiffusersPainter(copy.deepcopy(sd15), cond, {}, OPTIONS, animation).paint(frames).latents


def test_tokens_and_features_change_frames_only_as_strong_as_they_are(sd15, cond, frames, controlnet, track):
    plain = painted_by(sd15, cond, frames, Animation(FrameControl(controlnet, track_hints(track))))
    off = {"landmarks": 0.0, "placement": 0.0}

    def made(**options):
        return painted_by(sd15, cond, frames, told_by(controlnet, track, **options))

    assert torch.equal(made(trained=False), plain)
    assert torch.equal(made(trained=False, features=1.0), plain)
    assert torch.equal(made(**off), plain)
    for one in ({"placement": 0.0}, {"landmarks": 0.0}, {**off, "features": 1.0}):
        assert (made(**one) - plain).abs().max() > 1e-3


def test_nothing_of_an_animate_net_stays_bound(sd15, cond, frames, controlnet, track):
    animation = told_by(controlnet, track, features=1.0)
    before = [list(network.attn_processors.values()) for network in (controlnet, sd15.unet)]
    DiffusersPainter(sd15, cond, {}, OPTIONS, animation).paint(frames)
    assert [list(network.attn_processors.values()) for network in (controlnet, sd15.unet)] == before
    assert animation.control.features.maps == ()


def test_an_animate_net_needs_its_control(controlnet, track):
    told = told_by(controlnet, track).conditioning
    with pytest.raises(InputError, match="inside of a ControlNet"):
        Animation(conditioning=told)
    with pytest.raises(InputError, match="FeatureControl"):
        Animation(FrameControl(controlnet, track_hints(track)), conditioning=replace(told, features=1.0))


def styled(rows: int = 3, strength: float = 1.0) -> Animation:
    styles = torch.randn(rows, 8, generator=torch.Generator().manual_seed(6))
    return Animation(style=StyleConditioning(style_attention(), FrameStyles(styles, torch.full((rows,), strength))))


def test_a_style_changes_frames_and_off_changes_nothing(sd15, cond, branches, frames):
    painter = DiffusersPainter(sd15, cond, branches, OPTIONS)
    plain = painter.paint(frames).latents
    painter.animation = styled(strength=0.0)
    assert torch.equal(painter.paint(frames).latents, plain)
    painter.animation = styled()
    assert not torch.allclose(painter.paint(frames).latents, plain, atol=1e-2)


def test_a_style_that_changes_over_time_belongs_to_frames_not_to_batches(sd15, cond, frames):
    painter = DiffusersPainter(sd15, cond, {}, OPTIONS, styled())
    together = painter.paint(frames).latents
    later = painter.paint(frames[1:], first=1).latents
    torch.testing.assert_close(later, together[1:], atol=2e-4, rtol=0)
    assert not torch.allclose(painter.paint(frames[1:], first=0).latents, later, atol=1e-3)


def test_a_checkpoint_without_vae_is_refused(tmp_path, cond):
    bare = load_sd15(make_checkpoint(tmp_path / "bare.safetensors", text=False, vae=False))
    with pytest.raises(InputError, match="holds no VAE"):
        DiffusersPainter(bare, cond, {}, OPTIONS)
