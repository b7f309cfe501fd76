"""Networks of keypoint models: against their published sizes, closed forms and direct formulas."""

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch import nn
from torch.nn.functional import conv2d

from portraittalk_core.errors import InputError
from portraittalk_core.renderers.implicit.blocks import coordinate_grid
from portraittalk_core.renderers.implicit.dense_motion import DenseMotion, keypoint_gaussians, motion_shifts
from portraittalk_core.renderers.implicit.facevid2vid.head_estimator import Bottleneck
from portraittalk_core.renderers.implicit.facevid2vid.keypoint_detector import Shrink, mean_places, smoothing_filter
from portraittalk_core.renderers.implicit.facevid2vid.model import FaceVid2Vid
from portraittalk_core.renderers.implicit.liveportrait.model import LivePortrait
from portraittalk_core.renderers.implicit.liveportrait.motion_extractor import ResponseNorm
from portraittalk_core.renderers.implicit.liveportrait.retargeting import LivePortraitRetargeting, RetargetingSizes
from portraittalk_core.renderers.implicit.networks import FaceNetworks
from portraittalk_core.renderers.implicit.random_files import public_tensors
from portraittalk_core.renderers.implicit.random_weights import TINY, random_model, randomised
from portraittalk_core.renderers.implicit.sizes import ImplicitSizes
from portraittalk_core.renderers.implicit.spade import Spade, SpadeBlock, SpadeGenerator, conv_of_repeated

SHAPE = 4, 8, 6  # D, H, W
TINY_SIZES = ImplicitSizes(15, **TINY)
PUBLISHED = {  # file: its tensors, and the parameters among them
    "appearance_feature_extractor": (107, 836_224),
    "motion_extractor": (212, 28_118_728),
    "warping_module": (97, 45_529_829),
    "spade_generator": (182, 55_365_388),
    "generator": (386, 100_988_176),
    "kp_detector": (75, 41_940_047),
    "he_estimator": (402, 30_254_838),
}
NO_PARAMETERS = ("running_mean", "running_var", "num_batches_tracked", "weight_u", "weight_v", "down.weight")


@pytest.fixture(scope="module")
def public():
    """Tensors of every public file, without numbers."""
    with torch.device("meta"):
        return public_tensors(LivePortrait()) | public_tensors(FaceVid2Vid())


@pytest.mark.parametrize("part", PUBLISHED)
def test_tensors_and_parameters_are_as_many_as_in_the_public_file(part, public):
    own = [tensor for name, tensor in public[part].items() if not name.endswith(NO_PARAMETERS)]
    assert (len(public[part]), sum(tensor.numel() for tensor in own)) == PUBLISHED[part]


def test_some_shapes_are_those_of_the_public_files(public):
    warping, generator = public["warping_module"], public["spade_generator"]
    assert warping["dense_motion_network.mask.weight"].shape == (22, 142, 7, 7, 7)
    assert warping["dense_motion_network.occlusion.weight"].shape == (1, 2272, 7, 7)
    assert generator["conv_img.0.weight"].shape == (12, 64, 3, 3)
    assert generator["up_1.conv_s.weight_orig"].shape == (64, 256, 1, 1)
    assert generator["up_1.conv_s.weight_u"].shape == (64,) and generator["up_1.conv_s.weight_v"].shape == (256,)
    assert public["appearance_feature_extractor"]["second.weight"].shape == (512, 256, 1, 1)
    assert public["kp_detector"]["down.weight"].shape == (3, 1, 13, 13)
    assert public["generator"]["decoder.conv_img.weight"].shape == (3, 64, 3, 3)


def test_the_small_networks_have_the_layers_of_the_public_file():
    shapes = {name: tuple(t.shape) for name, t in LivePortraitRetargeting(RetargetingSizes()).state_dict().items()}
    widths = {
        "retarget_shoulder": (126, 128, 128, 64, 65),
        "retarget_mouth": (65, 128, 128, 64, 63),
        "retarget_eye": (66, 256, 256, 128, 128, 64, 63),
    }
    for network, layers in widths.items():
        for i, (a, b) in enumerate(zip(layers, layers[1:], strict=False)):
            assert shapes.pop(f"{network}.mlp.{2 * i}.weight") == (b, a)
            assert shapes.pop(f"{network}.mlp.{2 * i}.bias") == (b,)
    assert not shapes


def test_a_grid_runs_from_the_first_voxel_to_the_last():
    grid = coordinate_grid(*SHAPE, "cpu")
    assert grid.shape == (*SHAPE, 3)
    assert grid[0, 0, 0].tolist() == [-1, -1, -1] and grid[-1, -1, -1].tolist() == [1, 1, 1]
    assert torch.equal(grid[2, 3, :, 0], torch.linspace(-1, 1, 6))  # x along the width
    assert torch.equal(grid[2, :, 3, 1], torch.linspace(-1, 1, 8))
    assert torch.equal(grid[:, 2, 3, 2], torch.linspace(-1, 1, 4))
    assert coordinate_grid(1, 2, 2, "cpu")[0, 0, 0].tolist() == [-1, -1, 0]


def test_gaussians_are_of_the_distance_in_three_dimensions():
    keypoints = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(1)) - 0.5
    offset = coordinate_grid(*SHAPE, "cpu") - keypoints[:, :, None, None, None]
    expected = torch.exp(-0.5 * offset.square().sum(-1) / 0.01)
    torch.testing.assert_close(keypoint_gaussians(keypoints, SHAPE), expected, rtol=1e-5, atol=1e-7)


def test_equal_keypoints_look_straight_whatever_the_weights():
    motion = randomised(DenseMotion(TINY_SIZES), 3)
    volume, points = torch.randn(1, 4, 4, 16, 16), torch.rand(1, 15, 3) - 0.5
    deformation, visible = motion(volume, points, points)
    torch.testing.assert_close(deformation[0], coordinate_grid(4, 16, 16, "cpu"))
    assert visible.shape == (1, 1, 16, 16) and visible.min() > 0 and visible.max() < 1
    assert not motion_shifts(points, points).any()


def test_keypoints_that_all_move_move_all_but_the_background():
    motion = randomised(DenseMotion(TINY_SIZES), 3)
    nn.init.zeros_(motion.mask.weight)
    nn.init.zeros_(motion.mask.bias)  # all sixteen motions weigh the same
    step = torch.tensor([0.2, -0.1, 0.05])
    source = torch.rand(1, 15, 3) - 0.5
    deformation, _ = motion(torch.randn(1, 4, 4, 16, 16), source, source + step)
    expected = coordinate_grid(4, 16, 16, "cpu") - 15 / 16 * step  # looks where the source was
    torch.testing.assert_close(deformation[0], expected)


def test_volumes_are_sampled_as_the_public_weights_were_trained():
    """Coordinate -1 is the first voxel's outer edge where it samples, its centre where grids are made."""
    from portraittalk_core.renderers.implicit.dense_motion import _sampled

    volume = torch.randn(1, 2, 4, 8, 6, generator=torch.Generator().manual_seed(2))
    grid = torch.rand(3, 4, 8, 6, 3, generator=torch.Generator().manual_seed(3)) * 2.4 - 1.2
    sizes = np.array([6, 8, 4])
    at = ((grid.numpy() + 1) * sizes - 1) / 2  # x, y, z in voxels
    for i, taken in enumerate(_sampled(volume, grid)):
        for channel in range(2):
            places = at[i][..., ::-1].reshape(-1, 3).T
            expected = map_coordinates(np.pad(volume[0, channel].numpy(), 2), places + 2, order=1)
            np.testing.assert_allclose(taken[channel].numpy().ravel(), expected, atol=1e-5)


def test_one_volume_serves_all_faces_of_a_batch():
    model, _ = random_model("face-vid2vid-15")
    crop = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(4))
    points = torch.rand(3, 15, 3, generator=torch.Generator().manual_seed(5)) - 0.5
    volume = model.features(crop)
    together = model.render(volume, points[:1], points)
    alone = torch.cat([model.render(volume, points[:1], one[None]) for one in points])
    repeated = model.render(volume.expand(3, -1, -1, -1, -1), points[:1].expand(3, -1, -1), points)
    assert together.shape == (3, 3, 64, 64) and together.min() >= 0 and together.max() <= 1
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together, repeated, rtol=1e-4, atol=1e-5)
    assert (together[0] - together[1]).abs().mean() > 1e-3  # keypoints matter


@pytest.mark.parametrize("times", [1, 2, 3, 4])
def test_a_convolution_of_repeated_pixels_needs_no_repetition(times):
    draw = torch.Generator().manual_seed(9)
    x, weight = torch.randn(2, 3, 4, 5, generator=draw), torch.randn(6, 3, 3, 3, generator=draw)
    bias = torch.randn(6, generator=draw)
    expected = conv2d(x.repeat_interleave(times, 2).repeat_interleave(times, 3), weight, bias, padding=1)
    torch.testing.assert_close(conv_of_repeated(x, weight, bias, times), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("times", [1, 2])
def test_spade_is_its_formula(times):
    spade = randomised(Spade(5, 3, 4), 6)
    x, small = torch.randn(2, 5, 8, 8), torch.randn(2, 3, 8 // times, 8 // times)
    features = small.repeat_interleave(times, 2).repeat_interleave(times, 3)
    hidden = conv2d(features, spade.mlp_shared[0].weight, spade.mlp_shared[0].bias, padding=1).clamp(min=0)
    gamma = conv2d(hidden, spade.mlp_gamma.weight, spade.mlp_gamma.bias, padding=1)
    beta = conv2d(hidden, spade.mlp_beta.weight, spade.mlp_beta.bias, padding=1)
    centred = x - x.mean((2, 3), keepdim=True)
    normed = centred / (centred.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(spade(x, small), normed * (1 + gamma) + beta)


def test_a_block_has_a_learnt_shortcut_only_where_channels_change():
    same = SpadeBlock(16, 16, TINY_SIZES, spectral_norm=False)
    other = SpadeBlock(16, 8, TINY_SIZES, spectral_norm=False)
    assert same.conv_s is None and same.norm_s is None
    assert other.conv_s.bias is None and other.conv_0.out_channels == 8


@pytest.mark.parametrize("upscale", [1, 2])
def test_a_generator_makes_pictures_of_its_size(upscale):
    sizes = ImplicitSizes(21, **TINY, upscale=upscale)
    picture = randomised(SpadeGenerator(sizes), 7)(torch.randn(2, 32, 8, 8))
    assert picture.shape == (2, 3, 32 * upscale, 32 * upscale)


def test_spectral_norm_is_for_training_and_holds_the_norm_at_one():
    generator = SpadeGenerator(TINY_SIZES, spectral_norm=True)
    for _ in range(3):  # each pass in training mode is a step of power iteration
        generator(torch.randn(1, 32, 8, 8)).sum().backward()
    largest = torch.linalg.svdvals(generator.up_0.conv_0.weight.detach().flatten(1))[0]
    assert largest == pytest.approx(1, abs=0.2)
    assert not any("parametrizations" in name for name, _ in SpadeGenerator(TINY_SIZES).named_parameters())


def test_a_response_norm_is_its_formula():
    norm = randomised(ResponseNorm(4), 8)
    x = torch.randn(2, 5, 6, 4)
    strength = np.linalg.norm(x.numpy().reshape(2, 30, 4), axis=1)
    relative = torch.from_numpy(strength / (strength.mean(1, keepdims=True) + 1e-6))[:, None, None]
    torch.testing.assert_close(norm(x), norm.gamma * x * relative + norm.beta + x)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_bottleneck_is_its_formula(stride):
    block = randomised(Bottleneck(8, stride), 10)
    x = torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(11))

    def normed(y, i):
        norm = getattr(block, f"norm{i}")
        flat = (y - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + 1e-5).sqrt()
        return flat * norm.weight[:, None, None] + norm.bias[:, None, None]

    y = normed(conv2d(x, block.conv1.weight, block.conv1.bias), 1).clamp(min=0)
    y = normed(conv2d(y, block.conv2.weight, block.conv2.bias, padding=1)[..., ::stride, ::stride], 2).clamp(min=0)
    y = normed(conv2d(y, block.conv3.weight, block.conv3.bias), 3)
    skip = x
    if stride == 2:
        skip = normed(conv2d(x[..., ::2, ::2], block.skip.weight, block.skip.bias), 4)
    torch.testing.assert_close(block(x), (y + skip).clamp(min=0))


def test_a_keypoint_is_the_mean_place_of_its_heat():
    logits = torch.full((1, 2, *SHAPE), -100.0)
    logits[0, 0, 1, 2, 3] = logits[0, 1, 0, 7, 5] = logits[0, 1, 3, 7, 5] = 100
    x, y, z = (np.linspace(-1, 1, n) for n in (6, 8, 4))
    np.testing.assert_allclose(mean_places(logits)[0], [[x[3], y[2], z[1]], [1, 1, 0]], atol=1e-6)
    logits = torch.zeros(1, 1, 1, 1, 2)
    logits[..., 1] = 0.1  # softmax at the temperature .1: e against 1
    assert float(mean_places(logits)[0, 0, 0]) == pytest.approx(np.tanh(0.5), abs=1e-6)


def test_pictures_are_smoothed_before_they_shrink():
    kernel = smoothing_filter(4)
    line = np.exp(-0.5 * (np.arange(-6, 7) / 1.5) ** 2)
    np.testing.assert_allclose(kernel, np.outer(line, line) / line.sum() ** 2, atol=1e-7)
    picture = torch.rand(1, 3, 32, 32)
    expected = conv2d(picture, kernel.expand(3, 1, -1, -1), padding=6, groups=3)[..., ::4, ::4]
    torch.testing.assert_close(Shrink(4)(picture), expected)
    assert torch.equal(Shrink(1)(picture), picture)


def test_a_crop_that_cannot_be_halved_often_enough_is_refused():
    with pytest.raises(InputError, match="multiple of 32, not 40"):
        FaceNetworks(TINY_SIZES, 40)
    with pytest.raises(InputError, match="upscale of a generator"):
        ImplicitSizes(15, upscale=3)


@pytest.mark.parametrize("layout", ["liveportrait-21", "face-vid2vid-15"])
def test_random_models_differ_by_seed_alone(layout):
    first, _ = random_model(layout, seed=1)
    same, _ = random_model(layout, seed=1)
    other, _ = random_model(layout, seed=2)
    weights = [dict(model.named_parameters()) for model in (first, same, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(weights[0]["spade_generator.fc.weight"], weights[2]["spade_generator.fc.weight"])
    assert not first.training and not any(p.requires_grad for p in first.parameters())
