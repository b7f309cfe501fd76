import numpy as np
import pytest
import torch
from tiny_vexpress import randomise

from portraittalk_core.errors import InputError, ShapeError
from portraittalk_core.renderers.vexpress.audio_projection import (
    AudioProjection,
    AudioSizes,
    audio_tokens,
    features_around,
)


def written_out(net, features):
    """The perceiver with plain torch functions, one frame at a time."""

    def normed(x, norm):
        return (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt() * norm.weight + (
            norm.bias
        )

    rows = []
    for heard in features:
        states = (heard + net.pos_emb.weight) @ net.proj_in.weight.T + net.proj_in.bias
        tokens = net.latents[0]
        for look, think in net.layers:
            mine = normed(tokens, look.norm2)
            both = torch.cat([normed(states, look.norm1), mine])
            q, kv = mine @ look.to_q.weight.T, both @ look.to_kv.weight.T
            k, v = kv[:, : kv.shape[1] // 2], kv[:, kv.shape[1] // 2 :]
            heads = []
            for at in range(0, q.shape[1], 64):
                part = slice(at, at + 64)
                heads.append(torch.softmax(q[:, part] @ k[:, part].T / 8, 1) @ v[:, part])
            tokens = tokens + torch.cat(heads, 1) @ look.to_out.weight.T
            inner = torch.nn.functional.gelu(normed(tokens, think[0]) @ think[1].weight.T)
            tokens = tokens + inner @ think[3].weight.T
        rows.append(normed(tokens @ net.proj_out.weight.T + net.proj_out.bias, net.norm_out))
    return torch.stack(rows)


def test_projection_matches_plain_torch():
    net = randomise(AudioProjection(AudioSizes(24, 32, 48, 128, 2)), 1)
    features = torch.randn(3, 10, 24, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(net(features), written_out(net, features), rtol=1e-4, atol=1e-5)


def test_projection_has_the_public_files_names_and_size():
    net = AudioProjection()
    names = {name: tuple(t.shape) for name, t in net.state_dict().items()}
    assert sum(t.numel() for t in net.parameters()) == 29_524_224
    assert names["latents"] == (1, 5, 768) and names["pos_emb.weight"] == (10, 768)
    assert names["layers.3.0.to_kv.weight"] == (1536, 768) and names["layers.3.1.3.weight"] == (768, 3072)
    assert {"proj_in.bias", "proj_out.bias", "norm_out.weight", "layers.0.0.norm2.bias"} <= names.keys()
    assert net(torch.zeros(2, 10, 768)).shape == (2, 5, 768)


def test_features_around_a_frame_are_its_own_and_two_frames_either_side():
    num_frames = 5
    features = torch.arange(1.0, 2 * num_frames + 1)[:, None]  # two a frame already
    around = features_around(features, num_frames)
    assert around.shape == (num_frames, 10, 1)
    assert around[0, :, 0].tolist() == [0, 0, 0, 0, 1, 2, 3, 4, 5, 6]
    assert around[2, :, 0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert around[4, :, 0].tolist() == [5, 6, 7, 8, 9, 10, 0, 0, 0, 0]


def test_features_are_resampled_linearly_with_ends_held():
    features = torch.randn(37, 3, generator=torch.Generator().manual_seed(4))
    around = features_around(features, 11)
    at = (np.arange(22) + 0.5) * 37 / 22 - 0.5  # middles of new steps on the old ones
    for column in range(3):
        expected = np.interp(at, np.arange(37), features[:, column].numpy())
        got = torch.cat([around[:, 4, column][:, None], around[:, 5, column][:, None]], 1).flatten()
        np.testing.assert_allclose(got.numpy(), expected, atol=1e-5)


def test_tokens_do_not_depend_on_the_batch():
    net = randomise(AudioProjection(AudioSizes(8, 16, 8, 64, 1)), 1)
    features = torch.randn(30, 8, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(audio_tokens(net, features, 7, batch=2), net(features_around(features, 7)))


def test_bad_features_are_refused():
    with pytest.raises(ShapeError, match="speech features"):
        features_around(torch.zeros(1, 4, 8), 3)
    with pytest.raises(InputError, match="0 features"):
        features_around(torch.zeros(0, 8), 3)
    with pytest.raises(ShapeError, match="around frames"):
        AudioProjection(AudioSizes(8, 16, 8, 64, 1))(torch.zeros(2, 9, 8))
    with pytest.raises(InputError, match="heads"):
        AudioProjection(AudioSizes(inner=70))
