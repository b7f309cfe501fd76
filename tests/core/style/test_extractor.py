import math

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from portraittalk_core.errors import InputError
from portraittalk_core.style.extractor import (
    ExtractorNet,
    StatisticsPool,
    StyleExtractor,
    load_extractor,
    new_extractor_net,
    save_extractor,
    sinusoids,
    warm_start,
    weighted_statistics,
)
from portraittalk_core.style.extractor_files import ExtractorSizes, styletalk_tensors
from portraittalk_core.style.features import StyleFeatures
from portraittalk_core.weights.catalog import recognise
from portraittalk_core.weights.load import read_tensors

SMALL = ExtractorSizes(width=32, num_layers=2, num_heads=4, feed_forward=64)
TALK = ExtractorSizes(expression="3dmm", expression_width=64)  # StyleTalk's sizes


class StyleTalkLike(nn.Module):
    """Oracle with PyTorch's own encoder and StyleTalk's names: sequence first, mask added to the pooling's logits."""

    def __init__(self):
        super().__init__()
        self.increase_embed_dim = nn.Linear(64, 256)
        layer = nn.TransformerEncoderLayer(256, 8, 1024, 0.1, "relu")
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.aggregate_method = nn.Module()
        self.aggregate_method.W = nn.Sequential(nn.Linear(256, 256), nn.Mish(), nn.Linear(256, 1))
        self.pos_embed = nn.Module()
        table = [
            [(math.sin if j % 2 == 0 else math.cos)(i / 10_000 ** (2 * (j // 2) / 256)) for j in range(256)]
            for i in range(256)
        ]
        self.pos_embed.register_buffer("pos_table", torch.tensor([table]))

    def forward(self, values, padding=None):
        tokens = self.increase_embed_dim(values).transpose(0, 1)
        tokens = tokens + self.pos_embed.pos_table[:, : len(tokens)].transpose(0, 1)
        frames = self.encoder(tokens, src_key_padding_mask=padding).transpose(0, 1)
        logits = self.aggregate_method.W(frames).squeeze(-1)
        if padding is not None:
            logits = logits + padding.float() * -1e5
        return (logits.softmax(-1)[..., None] * frames).sum(1)


def styletalk_checkpoint(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        oracle = StyleTalkLike().eval()
        for parameter in oracle.parameters():  # biases and norms too
            parameter.data.add_(0.05 * torch.randn_like(parameter))
    return oracle, {f"style_encoder.{name}": tensor for name, tensor in oracle.state_dict().items()}


def seen_style(network, values, padding=None):
    """Our expression branch and pooling, without the cross attention that StyleTalk lacks."""
    given = torch.ones(len(values), dtype=torch.bool)
    frames = network.expression(values, given, network.positions[: values.shape[1]], padding)
    return network.pool(frames, padding)[0]


@pytest.mark.parametrize("masked", [False, True])
@torch.no_grad()
def test_expression_branch_and_pooling_match_styletalks(masked):
    oracle, checkpoint = styletalk_checkpoint()
    network = warm_start(new_extractor_net(TALK), styletalk_tensors(checkpoint, "a"), "a").eval()
    values = torch.randn(3, 40, 64, generator=torch.Generator().manual_seed(1))
    padding = torch.arange(40)[None] >= torch.tensor([[40], [25], [7]]) if masked else None
    assert torch.allclose(seen_style(network, values, padding), oracle(values, padding), atol=1e-5, rtol=0)


@torch.no_grad()
def test_styletalk_file_starts_only_what_it_has(tmp_path):
    oracle, checkpoint = styletalk_checkpoint()
    path = tmp_path / "styletalk_checkpoint.pth"
    torch.save({"model_state_dict": {**checkpoint, "content_encoder.ph_embedding.weight": torch.zeros(2, 2)}}, path)
    before = new_extractor_net(TALK)
    after = warm_start(new_extractor_net(TALK), styletalk_tensors(read_tensors(path), path.name), path.name)
    for name, tensor in before.audio.state_dict().items():
        assert torch.equal(after.audio.state_dict()[name], tensor)
    assert torch.equal(after.expression.enter.weight, oracle.increase_embed_dim.weight)
    assert all(p.requires_grad for p in after.parameters())
    assert recognise(path).role == "style encoder to train a style extractor from"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"style_encoder.increase_embed_dim.weight": torch.zeros(256, 80)}, "must have the shape"),
        ({"style_encoder.strange.weight": torch.zeros(1)}, "no style encoder of StyleTalk"),
    ],
)
def test_warm_start_rejects_other_encoders(change, message):
    with pytest.raises(InputError, match=message):
        styletalk_tensors({**styletalk_checkpoint()[1], **change}, "a.pth")
    with pytest.raises(InputError, match="no style encoder"):
        styletalk_tensors({"a": torch.zeros(1)}, "a.pth")


def test_warm_start_rejects_an_extractor_of_other_sizes():
    with pytest.raises(InputError, match="does not fit"):
        warm_start(new_extractor_net(SMALL), styletalk_tensors(styletalk_checkpoint()[1], "a.pth"), "a.pth")


def test_statistics_are_exact():
    frames = torch.tensor([[[0.0], [2.0]]])
    mean, variance = weighted_statistics(frames, torch.tensor([[0.5, 0.5]]))
    assert (float(mean), float(variance)) == (1.0, 1.0)
    mean, variance = weighted_statistics(frames, torch.tensor([[0.25, 0.75]]))
    assert (float(mean), float(variance)) == (1.5, 0.75)


@torch.no_grad()
def test_pooling_does_not_see_padding():
    pool = StatisticsPool(4)
    frames = torch.randn(1, 6, 4)
    padding = torch.tensor([[False] * 4 + [True] * 2])
    for whole, cut in zip(pool(frames, padding), pool(frames[:, :4]), strict=True):
        assert torch.allclose(whole, cut, atol=1e-6)


def cross_oracle(cross, seen, heard):
    """The cross attention by hand, a head at a time."""
    attention, width = cross.attention, seen.shape[-1]
    wq, wk, wv = attention.in_proj_weight.chunk(3)
    bq, bk, bv = attention.in_proj_bias.chunk(3)
    size, heads = width // attention.num_heads, []
    for h in range(attention.num_heads):
        part = slice(h * size, (h + 1) * size)
        q, k, v = seen @ wq[part].T + bq[part], heard @ wk[part].T + bk[part], heard @ wv[part].T + bv[part]
        heads.append((q @ k.transpose(1, 2) / math.sqrt(size)).softmax(-1) @ v)
    out = torch.cat(heads, -1) @ attention.out_proj.weight.T + attention.out_proj.bias
    seen = nn.functional.layer_norm(seen + out, (width,), cross.norm1.weight, cross.norm1.bias)
    inner = (seen @ cross.linear1.weight.T + cross.linear1.bias).clamp(min=0)
    out = inner @ cross.linear2.weight.T + cross.linear2.bias
    return nn.functional.layer_norm(seen + out, (width,), cross.norm2.weight, cross.norm2.bias)


@torch.no_grad()
def test_cross_attention_lets_expression_ask_and_sound_answer():
    cross = new_extractor_net(SMALL).eval().cross
    seen, heard = torch.randn(2, 2, 9, 32, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(cross(seen, heard, None), cross_oracle(cross, seen, heard), atol=1e-5)


@pytest.fixture(scope="module")
def network():
    return new_extractor_net(SMALL).eval()


def clip(count=40, batch=2):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(batch, count, 80, generator=generator), torch.randn(batch, count, 23, generator=generator)


@torch.no_grad()
def test_padding_changes_nothing(network):
    audio, expression = clip()
    padding = (torch.arange(40) >= 30).expand(2, -1)
    for whole, cut in zip(network(audio, expression, padding), network(audio[:, :30], expression[:, :30]), strict=True):
        assert torch.allclose(whole, cut, atol=1e-5)


@torch.no_grad()
def test_a_missing_side_is_not_looked_at(network):
    audio, expression = clip()
    only = torch.tensor([[True, False], [True, False]])
    mean, variance = network(audio, None)
    assert mean.shape == variance.shape == (2, 32)
    assert bool((variance >= 0).all())
    assert torch.allclose(network(audio, expression, present=only)[0], mean, atol=1e-6)
    assert not torch.allclose(network(audio, expression)[0], mean, atol=1e-3)
    assert torch.allclose(network(audio + 5, expression, present=~only)[0], network(None, expression)[0], atol=1e-6)


def test_network_rejects_nothing_and_too_much(network):
    with pytest.raises(InputError, match="a sound, an expression, or both"):
        network(None, None)
    with pytest.raises(InputError, match="300 frames are too many"):
        network(*clip(300, 1))
    with pytest.raises(InputError, match="log-mel features must have shape"):
        network(clip()[0][..., :79], None)


def side(values, feature):
    return StyleFeatures(values, feature)


def test_prior_of_a_long_clip_takes_its_windows_as_one_gaussian(network):
    generator = torch.Generator().manual_seed(4)
    expression = torch.randn(700, 23, generator=generator) + torch.linspace(-2, 2, 700)[:, None]
    extractor, told = StyleExtractor(network, torch.ones(32)), []
    prior = extractor.prior(None, side(expression, "landmarks"), "a.mp4", lambda *at: told.append(at))
    starts = [0, 222, 444]
    with torch.no_grad():
        windows = [network(None, expression[None, s : s + 256]) for s in starts]
    means, variances = (torch.cat([w[i] for w in windows]).double() for i in (0, 1))
    draws = torch.cat([  # of the mixture, by quantiles of each Gaussian
        m + v.sqrt() * torch.special.ndtri((torch.arange(4000).double()[:, None] + 0.5) / 4000)
        for m, v in zip(means, variances, strict=True)
    ])  # fmt: skip
    assert torch.allclose(prior.mean.double(), draws.mean(0), atol=1e-4)
    assert torch.allclose(prior.std.double(), draws.std(0), rtol=1e-2)
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert prior.space == extractor.space
    assert prior.source == "a.mp4"


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        ((None, None), "neither sound nor expression"),
        ((None, side(torch.zeros(40, 64), "3dmm")), "looks at landmarks, but a.mp4 gives 3dmm"),
        ((side(torch.zeros(24, 80), "log-mel"), None), "lasts 0.96 s"),
    ],
)
def test_prior_rejects_what_it_cannot_see(network, sides, message):
    with pytest.raises(InputError, match=message):
        StyleExtractor(network, torch.ones(32)).prior(*sides, "a.mp4")


def test_extractor_comes_back_from_its_file(network, tmp_path):
    made = StyleExtractor(network, torch.rand(32))
    back = load_extractor(save_extractor(made, tmp_path / "a.safetensors", {"steps": "3"}))
    audio = side(clip()[0][0], "log-mel")
    assert recognise(tmp_path / "a.safetensors").role == "style extractor"
    assert back.space == made.space
    assert back.sizes == SMALL
    assert torch.equal(back.prior(audio).mean, made.prior(audio).mean)
    assert torch.equal(back.spread, made.spread)
    other = StyleExtractor(new_extractor_net(SMALL, seed=1), torch.rand(32))
    assert other.space != made.space


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "7"}, "of version 7; this release reads version 1"),
        ({"layout": "animatenet"}, "is no style extractor"),
        ({"sizes": "{"}, "does not tell its sizes"),
        ({"sizes": '{"width": 33}'}, "do not share 33 channels"),
        ({"spread": None}, "lacks spread"),
        ({"spread": torch.full((32,), float("nan"))}, "NaN"),
        ({"pool.logits.0.bias": None}, "does not fit ExtractorNet: it lacks pool.logits.0.bias"),
        ({"kind": "StylePrior"}, "but a style"),
    ],
)
def test_load_rejects_other_files(network, tmp_path, change, message):
    tensors = {**network.state_dict(), "spread": torch.ones(32)}
    metadata = {"layout": "style_extractor", "version": "1", "sizes": SMALL.to_json()}
    for name, value in change.items():
        (tensors if name in tensors else metadata)[name] = value
    kept = {name: value for name, value in tensors.items() if value is not None}
    save_file(kept, tmp_path / "a.safetensors", metadata)
    with pytest.raises(InputError, match=message):
        load_extractor(tmp_path / "a.safetensors")


def test_sizes_of_features_are_held():
    with pytest.raises(InputError, match="landmarks features have 23 numbers, not 22"):
        new_extractor_net(ExtractorSizes(expression_width=22))
    assert sum(p.numel() for p in ExtractorNet(ExtractorSizes()).parameters()) > 5_000_000
    assert sinusoids(3, 4)[0].tolist() == [0.0, 1.0, 0.0, 1.0]
