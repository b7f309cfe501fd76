"""Networks of lip renderers: against published sizes, closed forms and direct formulas."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch.nn.functional import conv2d, interpolate, leaky_relu

from portraittalk_core.errors import InputError, ShapeError
from portraittalk_core.face.lip_points import NOSE
from portraittalk_core.renderers.implicit.random_weights import randomised
from portraittalk_core.renderers.lip.blocks import (
    AdaIN,
    Spade,
    SpadeLayer,
    batch_normed,
    mel_layers,
    normalised,
    resized_grid,
    sampled,
    sampling_grid,
)
from portraittalk_core.renderers.lip.contract import LipBatch, References
from portraittalk_core.renderers.lip.crop import LipBoxes
from portraittalk_core.renderers.lip.iplap import IpLap
from portraittalk_core.renderers.lip.lip_model import LipFeatures, LipPriors
from portraittalk_core.renderers.lip.model_base import distinct
from portraittalk_core.renderers.lip.nearest import nearest_lips
from portraittalk_core.renderers.lip.random_files import TINY, random_lip_model
from portraittalk_core.renderers.lip.rendering import AudioAttention
from portraittalk_core.renderers.lip.sizes import LipConfig, LipSizes
from portraittalk_core.types import LandmarkTrack

PUBLISHED = {"flow_module": (68, 8_146_019), "translation": (184, 10_817_216)}  # tensors, parameters
SHAPES = {
    "flow_module.conv1.weight": (32, 6, 7, 7),
    "flow_module.conv2.weight": (256, 32, 3, 3),
    "flow_module.spade_layer_4.spade_layer_2.gamma.weight": (64, 256, 3, 3),
    "flow_module.conv_4.weight": (2, 64, 7, 7),
    "flow_module.conv_5.2.weight": (1, 32, 7, 7),
    "translation.conv1.weight": (32, 18, 7, 7),
    "translation.spade_1.spade_layer_1.conv1.weight": (256, 256, 3, 3),
    "translation.adain_2.adain_layer_1.mlp_shared.0.weight": (128, 512),
    "translation.audio_encoder.12.conv_block.0.weight": (512, 512, 1, 1),
    "translation.conv_last.weight": (3, 64, 7, 7),
}
SIDE, FRAMES = TINY["size"], 2
FAMILIES = ("lips", "iplap")


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def references(count: int = 3, lips: int = 2, seed: int = 1) -> References:
    some = draw(seed)
    stacks = [torch.rand(n, 3, SIDE, SIDE, generator=some) for n in (count, count, lips, lips)]
    return References(*stacks)


def batch(frames: int = FRAMES, seed: int = 2) -> LipBatch:
    some = draw(seed)
    pictures = torch.rand(frames, 3, SIDE, SIDE, generator=some)
    sketches = torch.rand(frames, 5, 3, SIDE, SIDE, generator=some)
    return LipBatch(pictures, sketches, torch.rand(frames, 80, 16, generator=some) * 8 - 4)


def frame_of(whole: LipBatch, i: int) -> LipBatch:
    return LipBatch(whole.pictures[i : i + 1], whole.sketches[i : i + 1], whole.sound[i : i + 1])


@pytest.fixture(scope="module", params=FAMILIES)
def model(request):
    return random_lip_model(request.param, seed=4)


def test_tensors_and_parameters_are_as_many_as_in_the_public_file():
    with torch.device("meta"):
        network = IpLap()
    found = {n: (len(m.state_dict()), sum(p.numel() for p in m.parameters())) for n, m in network.named_children()}
    assert found == PUBLISHED
    tensors = network.state_dict()
    assert {name: tuple(tensors[name].shape) for name in SHAPES} == SHAPES
    assert not {"translation.conv1.bias", "translation.conv2.bias", "translation.conv_last.bias"} & set(tensors)


def test_a_mel_chunk_becomes_one_place_or_nine():
    widths = (2, 3, 4, 5, 6)
    chunk = torch.zeros(2, 1, 80, 16)
    assert mel_layers(widths)(chunk).shape == (2, 6, 1, 1)
    assert mel_layers(widths, whole=False)(chunk).shape == (2, 5, 3, 3)


def test_a_grid_counts_from_the_first_pixel_to_the_last_and_a_flow_in_pixels():
    flow = torch.zeros(1, 2, 5, 9)
    grid = sampling_grid(flow)
    torch.testing.assert_close(grid[0, 3, :, 0], torch.linspace(-1, 1, 9))
    torch.testing.assert_close(grid[0, :, 3, 1], torch.linspace(-1, 1, 5))
    flow[:, 0], flow[:, 1] = 3, -2
    moved = sampling_grid(flow) - grid
    torch.testing.assert_close(moved[0, 2, 2], torch.tensor([3 * 2 / 8, -2 * 2 / 4]))


def test_it_is_the_grid_that_is_resized():
    flow = torch.rand(1, 2, 8, 8, generator=draw()) * 4
    grid = sampling_grid(flow)
    half = resized_grid(grid, (4, 4))
    pairs = grid.reshape(1, 4, 2, 4, 2, 2).mean((2, 4))  # halving by bilinear interpolation is the mean of four
    torch.testing.assert_close(half, pairs)
    assert resized_grid(grid, (8, 8)) is grid
    flows = sampling_grid(interpolate(flow, scale_factor=0.5, mode="bilinear") / 2)  # of a resized flow
    assert (half - flows).abs().max() > 0.05


def test_pictures_are_sampled_from_the_edges_of_pixels_and_black_outside():
    """Coordinate -1 is the first pixel's outer edge where it samples, its centre where the grid is made."""
    picture = torch.rand(1, 2, 8, 6, generator=draw(3))
    grid = sampling_grid(torch.randn(1, 2, 8, 6, generator=draw(4)) * 3)
    at = ((grid[0].numpy() + 1) * [6, 8] - 1) / 2  # x, y in pixels
    for channel, found in zip(picture[0].numpy(), sampled(picture, grid)[0], strict=True):
        expected = map_coordinates(np.pad(channel, 9), at[..., ::-1].reshape(-1, 2).T + 9, order=1)
        np.testing.assert_allclose(found.numpy().ravel(), expected, atol=1e-5)


def normed(x):
    centred = x - x.mean((2, 3), keepdim=True)
    return centred / (centred.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()


@pytest.mark.parametrize("decoder", ["iplap", "spade"])
def test_spade_is_its_formula_for_every_reference_of_every_frame(decoder):
    block = randomised(Spade(5, 3, 4, decoder), 6).eval()
    x, modulation = torch.randn(6, 5, 8, 8, generator=draw()), torch.randn(2, 3, 8, 8, generator=draw(1))
    found = block(x, block.maps(modulation))
    for i in range(6):
        y, picture = x[i : i + 1], modulation[i // 3 : i // 3 + 1]  # three references a frame
        for layer, conv in ((block.spade_layer_1, block.conv_1), (block.spade_layer_2, block.conv_2)):
            hidden = conv2d(picture, layer.conv1.weight, layer.conv1.bias, padding=1)  # no ReLU
            gamma = conv2d(hidden, layer.gamma.weight, layer.gamma.bias, padding=1)
            beta = conv2d(hidden, layer.beta.weight, layer.beta.bias, padding=1)
            norm = layer.norm
            even = (
                normed(y)
                if norm is None
                else (y - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + 1e-5).sqrt()
            )
            y = conv2d(leaky_relu(even * (1 + gamma) + beta, 0.2), conv.weight, conv.bias, padding=1)
        y = y + x[i : i + 1] if decoder == "spade" else y
        torch.testing.assert_close(found[i : i + 1], y, rtol=1e-4, atol=1e-5)


def test_colour_of_a_part_is_lost_in_instance_norm_and_kept_in_batch_norm():
    """Two pictures whose mouths have colours .2 and .8, and which show nothing else."""
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 4:, 2:6] = 1
    x, modulation = torch.cat([0.2 * mask, 0.8 * mask]), torch.zeros(2, 3, 8, 8)
    for decoder, is_kept in (("iplap", False), ("spade", True)):
        layer = Spade(1, 3, 4, decoder).spade_layer_1.requires_grad_(False)
        torch.nn.init.zeros_(layer.conv1.bias)
        first, second = layer(x, layer.maps(modulation))
        assert torch.allclose(first, second, atol=0.01) is not is_kept


@pytest.mark.parametrize("size", [(3, 5), (8, 8)])
def test_two_convolutions_without_a_relu_between_are_one_but_for_the_edges(size):
    layer = randomised(SpadeLayer(4, 2, 16), 9)
    assert layer._is_cheaper_composed and not SpadeLayer(4, 16, 4)._is_cheaper_composed
    picture = torch.randn(2, 2, *size, generator=draw())
    hidden = conv2d(picture, layer.conv1.weight, layer.conv1.bias, padding=1)
    expected = [conv2d(hidden, m.weight, m.bias, padding=1) for m in (layer.gamma, layer.beta)]
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            gain, offset = layer.maps(picture)
        torch.testing.assert_close(gain - 1, expected[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(offset, expected[1], rtol=1e-4, atol=1e-5)
    layer.gamma.weight.mul_(2)  # as a step of training
    expected = conv2d(hidden, layer.gamma.weight, layer.gamma.bias, padding=1)
    with torch.inference_mode():
        torch.testing.assert_close(layer.maps(picture)[0] - 1, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_norms_do_not_depend_on_how_pixels_are_stored(grad, layout):
    x = (torch.randn(2, 5, 6, 4, generator=draw()) * 3 + 20).contiguous(memory_format=layout)
    kept = x.clone()
    with torch.set_grad_enabled(grad):
        found = normalised(x)
    torch.testing.assert_close(found, normed(x), rtol=1e-4, atol=1e-4)
    assert torch.equal(x, kept) and found.stride() == x.stride()


def test_adain_is_its_formula():
    block = randomised(AdaIN(4, 6), 7)
    x, vector = torch.randn(2, 4, 8, 8, generator=draw()), torch.randn(2, 6, generator=draw(1))
    y = x
    for layer, conv in ((block.adain_layer_1, block.conv_1), (block.adain_layer_2, block.conv_2)):
        hidden = (vector @ layer.mlp_shared[0].weight.T + layer.mlp_shared[0].bias).clamp(min=0)
        gamma, beta = (hidden @ m.weight.T + m.bias for m in (layer.mlp_gamma, layer.mlp_beta))
        y = normed(y) * (1 + gamma[..., None, None]) + beta[..., None, None]
        y = conv2d(leaky_relu(y, 0.2), conv.weight, conv.bias, padding=1)
    torch.testing.assert_close(block(x, vector), y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("residual", [True, False])
def test_attention_is_the_papers_formula(scaled, residual):
    config = LipConfig(**TINY, attention=8, attn_scale=scaled, residual=residual)
    block = randomised(AudioAttention(config), 8)
    x, mel = torch.randn(2, 16, 4, 4, generator=draw()), torch.randn(2, 80, 16, generator=draw(1))
    heard = block.tokens(block.audio_encoder(mel[:, None])).flatten(2).double()  # (B, A, 9)
    assert heard.shape[2] == 9
    flat = x.flatten(2).double()

    def projected(layer, y):
        return np.einsum("oi,bip->bop", layer.weight[:, :, 0, 0].double(), y) + layer.bias.double().numpy()[:, None]

    queries, keys, values = projected(block.to_q, flat), projected(block.to_k, heard), projected(block.to_v, heard)
    products = np.einsum("bcp,bck->bpk", queries, keys) / (8**0.5 if scaled else 1)
    shares = np.exp(products - products.max(2, keepdims=True))
    shares /= shares.sum(2, keepdims=True)
    expected = np.einsum("bpk,bck->bcp", shares, values) + (flat.numpy() if residual else 0)
    np.testing.assert_allclose(block(x, mel).flatten(2).numpy(), expected, rtol=1e-4, atol=1e-4)


def direct_alignment(network, pictures, sketches, drawn):
    """The formula of the aligned picture and the narrow features for one frame, reference by reference, in NumPy."""
    sums = [0.0, 0.0, 0.0]
    small = drawn[..., ::2, ::2]
    for picture, sketch in zip(pictures, sketches, strict=True):
        narrow, wide = network.encode(torch.cat([picture, sketch])[None])
        x = network.spade_layer_1(wide, network.spade_layer_1.maps(small))
        x = network.spade_layer_2(x, network.spade_layer_2.maps(small))
        x = torch.nn.functional.pixel_shuffle(x, 2)
        x = network.spade_layer_4(x, network.spade_layer_4.maps(drawn))
        flow, weight = network.conv_4(x)[0].double().numpy(), network.conv_5(x)[0, 0].double().numpy()
        rows, columns = np.mgrid[:SIDE, :SIDE]
        places = [(2 * (i + f) / (SIDE - 1) - 1 + 1) * SIDE / 2 - 0.5 for i, f in ((rows, flow[1]), (columns, flow[0]))]
        for k, stack in enumerate((picture, narrow[0])):
            warped = [map_coordinates(np.pad(c, 40), np.array(places) + 40, order=1) for c in stack.double().numpy()]
            sums[k] = sums[k] + np.array(warped) * weight
        sums[2] = sums[2] + weight
    return sums[0] / (sums[2] + 1e-5), sums[1] / (sums[2] + 1e-5)


def test_aligned_references_are_the_weighted_mean_of_the_warped():
    network, given, whole = random_lip_model("iplap", seed=5), references(), batch(1)
    drawn = whole.sketches.flatten(1, 2)
    features = network.flow_module.encode_references(given.pictures[None], given.sketches[None])
    found = network.flow_module(features, drawn, at_once=2)
    picture, narrow = direct_alignment(network.flow_module, given.pictures, given.sketches, drawn)
    np.testing.assert_allclose(found.picture[0].numpy(), picture, atol=1e-4)
    np.testing.assert_allclose(found.narrow[0].numpy(), narrow, atol=1e-4)
    assert found.wide.shape == (1, 16, SIDE // 2, SIDE // 2) and found.wide.abs().max() > 0.1


def test_fusions_are_the_convolution_of_both_features_together():
    network = random_lip_model("lips", seed=5)
    some = draw(6)
    ours, theirs = torch.randn(1, 16, 16, 16, generator=some), torch.randn(1, 16, 16, 16, generator=some)
    alignment = network.alignment
    expected = alignment.blocks(alignment.fuse(torch.cat([theirs, ours], 1)))  # reference first, then the frame
    torch.testing.assert_close(alignment.fused(alignment.entry(theirs)[:, None], ours)[0], expected)
    lips, pictures, sketches = network.rendering.lips, *(torch.rand(1, 3, 3, SIDE, SIDE, generator=some) for _ in "ab")
    encoded = [lips.encoder.encode(torch.cat([p, s])[None])[1] for p, s in zip(pictures[0], sketches[0], strict=True)]
    each = [lips.blocks(lips.fuse(torch.cat([ours, one], 1))) for one in encoded]
    for at_once in (0, 2):
        found = lips(ours, lips.encode(pictures, sketches), at_once)
        torch.testing.assert_close(found, sum(each) / 3, rtol=1e-4, atol=1e-5)


def test_training_can_start_as_the_public_alignment():
    public, ours = random_lip_model("iplap", seed=5).flow_module, random_lip_model("lips", seed=6).alignment
    ours.start_from(public)
    given, frames = references(), torch.rand(2, 16, SIDE // 2, SIDE // 2, generator=draw(7))
    drawn = batch().sketches.flatten(1, 2)
    expected = public(public.encode_references(given.pictures[None], given.sketches[None]), drawn)
    found = ours(ours.encode_references(given.pictures[None], given.sketches[None]), drawn, frames)
    for name in ("picture", "narrow", "wide"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-5)
    other = LipPriors(LipConfig(**{**TINY, "narrow": 2}, attention=4)).alignment
    with pytest.raises(InputError, match=r"other sizes \(conv1.weight, .*keep `narrow`, `wide` and `hidden`"):
        other.start_from(public)


def test_frames_do_not_see_each_other_and_references_may_go_one_by_one(model, monkeypatch):
    whole, given = batch(), references()
    together = model.paint(model.encode(given), whole)
    assert together.shape == (FRAMES, 3, SIDE, SIDE) and together.dtype == torch.float32
    assert together.min() >= 0 and together.max() <= 1 and together.std() > 1e-3
    monkeypatch.setattr(type(model), "at_once", lambda *_: 1)
    features = model.encode(given)
    alone = torch.cat([model.paint(features, frame_of(whole, i)) for i in range(FRAMES)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_memory_is_bounded_by_the_number_that_goes_together(model, monkeypatch):
    flow = model.flow_module if model.name == "iplap" else model.alignment
    seen = []
    flow.conv_4.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    monkeypatch.setattr("portraittalk_core.renderers.lip.model_base.PAIRS_AT_ONCE", {"cpu": 4 / 16})
    model.paint(model.encode(references(5)), batch())
    assert seen == [4, 4, 2]  # two references of two frames, as 4 / 16 pairs of 128 pixels are four of 32
    seen.clear()
    assert model.paint(model.encode(references(1)), batch(3)).shape[0] == 3
    assert seen == [2, 1]  # a batch of any size goes through in parts


def changed(model, given: References, whole: LipBatch, other_given: References, other: LipBatch) -> float:
    first = model.paint(model.encode(given), whole)
    return float((first - model.paint(model.encode(other_given), other)).abs().max())


def test_the_hidden_half_is_not_looked_at_and_everything_else_is(model):
    given, whole, other = references(), batch(), batch(seed=9)
    hidden = whole.pictures.clone()
    hidden[:, :, SIDE // 2 :] = other.pictures[:, :, SIDE // 2 :]
    sketches, sound = whole.sketches, whole.sound
    assert changed(model, given, whole, given, LipBatch(hidden, sketches, sound)) == 0
    upper = whole.pictures.clone()
    upper[:, :, SIDE // 2 - 1] = 1
    for part in (
        LipBatch(upper, sketches, sound),
        LipBatch(whole.pictures, other.sketches, sound),
        LipBatch(whole.pictures, sketches, other.sound),
    ):
        assert changed(model, given, whole, given, part) > 1e-4
    assert changed(model, given, whole, references(seed=8), whole) > 1e-4


ABLATED = {"align": "pictures", "lips": "lips", "audio": "sound"}


@pytest.mark.parametrize("ablate", ABLATED)
def test_an_ablated_part_is_not_looked_at(ablate):
    model = random_lip_model("lips", seed=4, ablate=ablate)
    given, other, whole = references(), references(seed=8), batch()
    changes = {
        "pictures": (References(other.pictures, other.sketches, given.lips, given.lip_sketches), whole),
        "lips": (References(given.pictures, given.sketches, other.lips, other.lip_sketches), whole),
        "sound": (given, LipBatch(whole.pictures, whole.sketches, batch(seed=9).sound)),
    }
    for part, (others, frames) in changes.items():
        difference = changed(model, given, whole, others, frames)
        assert difference == 0 if part == ABLATED[ablate] else difference > 1e-4
    assert model.sound == ("none" if ablate == "audio" else "mel")
    if ablate == "audio":
        assert model.paint(model.encode(given), LipBatch(whole.pictures, whole.sketches, None)).shape[0] == FRAMES


def test_the_other_reading_of_no_alignment_is_the_mean_of_references_as_they_are():
    model, given, whole = random_lip_model("lips", seed=4, ablate="align-mean"), references(4), batch()
    same = References(
        *(torch.cat([x, x[:1]]) for x in (given.pictures, given.sketches)), given.lips, given.lip_sketches
    )
    for refs in (given, same):  # an equal reference counts twice
        features = model.encode(refs)
        painted = model(whole.pictures, whole.sketches.flatten(1, 2), features, whole.sound)
        torch.testing.assert_close(painted.aligned, refs.pictures.mean(0).expand(FRAMES, -1, -1, -1))


def test_what_is_painted_is_added_to_the_aligned_references():
    given, whole = references(), batch()
    new = LipPriors(LipConfig(**TINY, attention=8, keep_references=True))
    assert not new.rendering.conv_last.weight.any() and not new.rendering.conv_last.bias.any()
    model = random_lip_model("lips", seed=4, keep_references=True)
    features, drawn, pictures = model.encode(given), whole.sketches.flatten(1, 2), []
    with torch.no_grad():
        model.rendering.conv_last.weight.zero_()
        for bias in (0.0, 1.0, 500.0):
            model.rendering.conv_last.bias.fill_(bias)
            made = model(whole.pictures, drawn, features, whole.sound)
            pictures.append(made.picture)
    kept = torch.cat([whole.pictures[:, :, : SIDE // 2], made.aligned[:, :, SIDE // 2 :]], 2)
    torch.testing.assert_close(pictures[0], kept)
    torch.testing.assert_close(pictures[1], (kept + np.tanh(0.1)).clamp(max=1))  # a tenth is taken
    assert bool((pictures[2] == 1).all())
    model.rendering.conv_last.bias.fill_(1.0)
    for share in (0.0, 0.5):  # of the painting, as a trial on the film's own mouths says
        made = model(whole.pictures, drawn, model.with_share(features, share), whole.sound)
        torch.testing.assert_close(made.picture, (kept + share * np.tanh(0.1)).clamp(max=1))
    assert random_lip_model("lips", seed=4).with_share(features, 0.0) is None


def test_a_frame_from_nose_to_chin_holds_the_mouth_in_its_lower_half():
    """Flows at half size, and a box around the nose: its middle is the nose's base, and speech does not move it."""
    model = LipPriors(LipConfig(**TINY, attention=8, keep_references=True, half_flow=True, framing="nose-to-chin"))
    with pytest.raises(InputError, match="`framing` of a lip renderer"):
        LipConfig(framing="mouth")
    points = torch.full((2, 478, 3), 0.5)
    points[:, list(NOSE), 0] = torch.linspace(0.45, 0.55, len(NOSE))
    points[:, list(NOSE), 1] = torch.linspace(0.4, 0.5, len(NOSE))
    points[:, 2, 1] = 0.49
    points[1, 152, 1] = 0.9  # the jaw drops
    track = LandmarkTrack(points, torch.ones(2, dtype=torch.bool), Fraction(25), 1000, 1000)
    first, second = (LipBoxes(track, replace(model.crop, pad_px=0.0, pad_share=0.6))[at] for at in (0, 1))
    assert first == second
    # the nose's 100 pixels, 0.6 of them on each side, and 0.75 more below
    sides = (first.left, first.right, first.bottom, (first.top + first.bottom) / 2)
    assert np.abs(np.subtract(sides, (390, 610, 635, 490))).max() <= 1
    whole = batch()
    with torch.no_grad():
        made = model.eval()(whole.pictures, whole.sketches.flatten(1, 2), model.encode(references()), whole.sound)
    assert made.aligned.shape == whole.pictures.shape and model.usual == (25, 5)


def test_equal_references_are_warped_once_and_weigh_as_many():
    model, one, whole = random_lip_model("iplap", seed=4), references(1), batch()
    many = References(*(torch.cat([x] * 25) for x in (one.pictures, one.sketches)), one.lips, one.lip_sketches)
    features = model.encode(many)
    assert features.pictures.shape[1] == 1 and features.counts.tolist() == [25]
    assert features.entry.data_ptr() == features.wide.data_ptr()  # not held twice
    drawn = whole.sketches.flatten(1, 2)
    stacked = model.flow_module.encode_references(many.pictures.flip(1)[None], many.sketches.flip(1)[None])  # BGR
    found, expected = model.flow_module(features, drawn), model.flow_module(stacked, drawn)
    for name in ("picture", "narrow", "wide"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-5)
    assert distinct(torch.tensor([3, 1, 3, 2, 1]))[0] == [0, 1, 3]


def test_each_frame_is_painted_from_the_references_whose_mouths_are_drawn_most_alike():
    """As if those were all there are; equal references count as one of them."""
    model = random_lip_model("lips", seed=4)
    six, frames = references(6), batch(3)
    sketches = six.sketches * 0.2
    for frame, (first, second) in enumerate(((4, 1), (0, 5), (2, 3))):  # equal to the frame's own, nearly, and others
        sketches[first] = frames.sketches[frame, 2]
        sketches[second] = 0.9 * frames.sketches[frame, 2]
    six = replace(six, sketches=sketches)
    model.config = replace(model.config, nearest=2)
    given = model.encode(
        replace(six, pictures=six.pictures[[0, 0, 1, 2, 3, 4, 5]], sketches=sketches[[0, 0, 1, 2, 3, 4, 5]])
    )
    both = model.encode(six)
    painted = model.paint(both, frames)
    model.config = replace(model.config, nearest=0)
    for frame, pair in enumerate(([1, 4], [0, 5], [2, 3])):
        alone = model.encode(replace(six, pictures=six.pictures[pair], sketches=sketches[pair]))
        assert torch.allclose(painted[frame], model.paint(alone, frame_of(frames, frame))[0], atol=1e-5)
    assert len(given.drawn) == 6 and not torch.allclose(
        painted, model.paint(replace(both, drawn=None), frames), atol=1e-3
    )


def test_each_frame_has_the_lip_references_that_are_drawn_most_alike():
    """As if those were all there are; what is drawn beside lips does not count."""
    model, four, frames = random_lip_model("lips", seed=4), references(3, lips=4), batch(2)
    side, box = model.size, torch.zeros(1, 1, model.size, model.size)
    box[..., side * 5 // 8 : side * 7 // 8, side // 4 : side * 3 // 4] = 1  # around lips
    drawn = frames.sketches[:, 2] * box
    lip_sketches = torch.stack([0.2 * four.lip_sketches[0] * box[0], drawn[1], drawn[0], 0.9 * drawn[0]])
    four = replace(four, lips=four.lips * box, lip_sketches=lip_sketches)
    model.config = replace(model.config, nearest_lips=1)
    several = model.encode(four)
    painted = model.paint(several, frames)
    model.config = replace(model.config, nearest_lips=0)
    for frame, nearest in enumerate((2, 1)):
        own = replace(four, lips=four.lips[[nearest]], lip_sketches=lip_sketches[[nearest]])
        assert torch.allclose(painted[frame], model.paint(model.encode(own), frame_of(frames, frame))[0], atol=1e-5)
    assert not torch.allclose(painted, model.paint(several, frames), atol=1e-3)  # from all of them


def test_lips_that_guide_reach_the_picture_without_the_fusion():
    """Of the nearest lip reference alone, at full size: a pixel's colour changes what is painted around it."""
    model, whole = random_lip_model("lips", seed=4, lip_guide=True, nearest_lips=1), batch(1)
    for parameter in model.rendering.lips.parameters():
        parameter.zero_()  # the fusion tells nothing of them
    given = references(lips=2)
    given.lip_sketches[:] = torch.stack([whole.sketches[0, 2], torch.zeros_like(whole.sketches[0, 2])])
    painted = model.paint(model.encode(given), whole)
    other, row, column = given.lips.clone(), SIDE // 2 + 3, SIDE // 2 - 5
    other[0, :, row, column] += 1
    difference = (model.paint(model.encode(replace(given, lips=other)), whole) - painted).abs().amax((0, 1))
    assert difference[row, column] > 10 * difference[: SIDE // 4].max() and difference[row, column] > 1e-4
    other[0] = given.lips[0]
    other[1] += 1
    assert torch.equal(model.paint(model.encode(replace(given, lips=other)), whole), painted)
    without = random_lip_model("lips", seed=4, lip_guide=True, ablate="lips")
    assert without.rendering.spade_3.spade_layer_1.conv1.weight.shape[1] == 6
    assert model.rendering.spade_3.spade_layer_1.conv1.weight.shape[1] == 9


def test_windows_choose_their_own_nearest_lips():
    """Each window of a batch has other lip references."""
    lines = torch.zeros(2, 3, 200)  # 10 rows of 20 places
    lines[0, 0, 105], lines[0, 1, 107], lines[0, 2, 109] = 1, 1, 1
    lines[1, 0, 66], lines[1, 1, 68], lines[1, 2, 70] = 1, 1, 1
    frames = torch.zeros(2, 200)
    frames[0, 107], frames[1, 70] = 1, 1
    frames[:, 190] = 9  # a chin
    assert nearest_lips(lines, frames, 1).tolist() == [[1], [2]]
    assert nearest_lips(lines[:1], frames[:1], 2).shape == (1, 2)


def test_a_convolution_and_its_norm_are_one_where_nothing_is_learnt():
    some = draw(3)
    convolution, norm = torch.nn.Conv2d(3, 4, 3, stride=2, padding=1), torch.nn.BatchNorm2d(4)
    for tensor in (*norm.parameters(), norm.running_mean, norm.running_var):
        tensor.data.copy_(torch.rand(4, generator=some) + 0.5)
    x = torch.randn(2, 3, 9, 7, generator=some)
    expected = norm.eval()(convolution(x))
    with torch.no_grad():
        assert torch.allclose(batch_normed(convolution, norm, x), expected, atol=1e-6)
    norm.train()
    assert batch_normed(convolution, norm, x).mean((0, 2, 3)).tolist() == pytest.approx(norm.bias.tolist(), abs=1e-5)


def test_learning_begins_where_it_would_without_lips():
    """New networks paint the same whatever the lip references show, and as the ablated ones do."""
    sizes = {**TINY, "ablate": "none"}
    torch.manual_seed(0)
    whole, without = LipPriors(LipConfig(**sizes)).eval(), LipPriors(LipConfig(**{**sizes, "ablate": "lips"})).eval()
    without.load_state_dict({name: whole.state_dict()[name] for name in without.state_dict()})
    painted = whole.paint(whole.encode(references()), batch())
    assert torch.allclose(painted, without.paint(without.encode(references()), batch()), atol=1e-6)


@pytest.mark.parametrize("decoder", ["iplap", "spade"])
def test_training_gives_every_frame_its_own_references_and_gradients_to_every_weight(decoder):
    model, given, whole = LipPriors(LipConfig(**TINY, attention=8, decoder=decoder)), references(), batch()
    randomised(model, 4).requires_grad_(True)
    drawn = whole.sketches.flatten(1, 2)
    stacks = (given.pictures, given.sketches, given.lips, given.lip_sketches)
    own = [x.expand(FRAMES, *x.shape) for x in stacks]
    features = LipFeatures(model.references(*own[:2]), model.lips(*own[2:]))
    painted = model(whole.pictures, drawn, features, whole.sound)
    expected = model.paint(model.encode(given), whole)
    torch.testing.assert_close(painted.picture.detach(), expected, rtol=1e-4, atol=1e-5)
    (painted.picture.square().sum() + painted.aligned.square().sum()).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_paints_nearly_the_same(dtype):
    fine, coarse = (random_lip_model("iplap", seed=4).to(kind) for kind in (torch.float32, dtype))
    whole, given = batch(), references()
    found = coarse.paint(coarse.encode(given), whole)
    difference = (found - fine.paint(fine.encode(given), whole)).abs().mean()
    assert found.dtype == torch.float32 and 0 < difference < (0.01 if dtype == torch.float16 else 0.05)


def test_the_paper_runs_at_256_as_well():
    config = LipConfig(size=256, narrow=2, wide=8, hidden=4, audio=(2, 2, 2, 2, 4), attention=4)
    model = randomised(LipPriors(config), 3)
    pictures = torch.rand(1, 3, 256, 256, generator=draw())
    features = model.encode(References(pictures, pictures, pictures, pictures))
    mel = torch.zeros(1, 80, 16)
    assert model.paint(features, LipBatch(pictures, pictures.expand(5, -1, -1, -1)[None], mel)).shape == pictures.shape
    assert model.crop.size == 256 and len(set(model.crop.points)) == 131


def test_what_does_not_fit_is_told():
    model, given, whole = random_lip_model("lips"), references(), batch()
    features = model.encode(given)
    with pytest.raises(InputError, match="at least one reference frame with a face; none was given"):
        model.encode(References(*[x[:0] for x in (given.pictures, given.sketches)], given.lips, given.lip_sketches))
    with pytest.raises(InputError, match="at least one lip reference; none was given"):
        model.encode(References(given.pictures, given.sketches, given.lips[:0], given.lip_sketches[:0]))
    with pytest.raises(InputError, match="hears mel chunks; give the speech"):
        model.paint(features, LipBatch(whole.pictures, whole.sketches, None))
    large = torch.zeros(1, 3, 2 * SIDE, 2 * SIDE)
    with pytest.raises(ShapeError, match=r"face crops must have shape \(N, 3, 32, 32\), but has \(1, 3, 64, 64\)"):
        model.paint(features, LipBatch(large, whole.sketches[:1], whole.sound[:1]))
    with pytest.raises(ShapeError, match=r"sketches of frames must have shape \(2, 5, 3, 32, 32\)"):
        model.paint(features, LipBatch(whole.pictures, whole.sketches[:1], whole.sound))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 127}, "`size` of a lip renderer must be even, not 127"),
        ({"size": 4096}, "`size` of a lip renderer must lie between 16 and 1024"),
        ({"wide": 30}, "`wide` of a lip renderer must be a multiple of 4, not 30"),
        ({"narrow": 2.5}, "`narrow` of a lip renderer must be a whole number, not 2.5"),
        ({"audio": (1, 2)}, "`audio` of a lip renderer must be five widths, not 2"),
        ({"decoder": "unet"}, "`decoder` of a lip renderer must be one of iplap, spade, not .*unet"),
        ({"ablate": "mouth"}, "`ablate` of a lip renderer must be one of none, align, align-mean, lips, audio"),
    ],
)
def test_sizes_that_cannot_be_are_told(wrong, message):
    with pytest.raises(InputError, match=message):
        LipConfig(**wrong)


def test_the_defaults_are_those_of_the_public_file():
    assert LipSizes() == LipSizes(128, 32, 256, 256, (32, 64, 128, 256, 512))
