import numpy as np
import pytest
import torch
import transformers

from portraittalk_core.errors import InputError, MissingDependency, ShapeError
from portraittalk_core.speech.encoders import (
    GivenFeatures,
    SpeechFeatures,
    features_from_tensor,
    load_speech_encoder,
    require_width,
)
from portraittalk_core.types import Speech

SIZES = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 96}
SMALL = {"conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
LARGE = {"feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True}
OLD_NAMES = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}


def noise(samples: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return (0.1 * torch.randn(samples, generator=generator) + 0.03).clamp(-1, 1)


def old_names(tensors: dict) -> dict:
    """As files of before 2023 name weight normalisation."""
    for new, old in OLD_NAMES.items():
        tensors = {name.replace(new, old): value for name, value in tensors.items()}
    return tensors


def by_transformers(network, waveform: torch.Tensor) -> torch.Tensor:
    extractor = transformers.Wav2Vec2FeatureExtractor()
    heard = extractor(waveform.numpy(), sampling_rate=16_000, return_tensors="pt").input_values
    with torch.no_grad():
        return network.eval()(heard).last_hidden_state[0]


@pytest.fixture(scope="module")
def hubert():
    torch.manual_seed(0)
    return transformers.HubertForCTC(transformers.HubertConfig(**SIZES, **SMALL, **LARGE)).eval()


@pytest.fixture(scope="module")
def hubert_file(hubert, tmp_path_factory):
    path = tmp_path_factory.mktemp("hubert") / "pytorch_model.bin"
    torch.save(hubert.state_dict(), path)  # with prefix "hubert." and lm_head
    return path


def test_hubert_matches_transformers(hubert, hubert_file):
    encoder = load_speech_encoder(hubert_file)
    waveform = noise(24_000)
    expected = by_transformers(hubert.hubert, waveform)
    features = encoder.encode(Speech(waveform))
    assert encoder.name == "hubert-128"
    assert features.rate_hz == 50
    torch.testing.assert_close(features.values, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("rename", [dict, old_names])
@pytest.mark.parametrize("family", ["Hubert", "Wav2Vec2"])
def test_every_layout_matches_transformers(family, large, rename, tmp_path):
    config = getattr(transformers, f"{family}Config")(**SIZES, **SMALL, **(LARGE if large else {}))
    torch.manual_seed(1)
    network = getattr(transformers, f"{family}Model")(config)
    prefix = {"Hubert": "", "Wav2Vec2": "wav2vec2."}[family]
    tensors = {prefix + name: value for name, value in rename(network.state_dict()).items()}
    torch.save({"state_dict": {**tensors, "lm_head.weight": torch.zeros(2, 2)}}, tmp_path / "encoder.pt")
    waveform = noise(8_000)
    encoder = load_speech_encoder(tmp_path / "encoder.pt")
    expected = by_transformers(network, waveform)
    torch.testing.assert_close(encoder.encode(waveform).values, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("samples", [400, 719, 720, 16_000, 320_000, 320_079, 320_080, 320_400, 321_000, 640_500])
def test_feature_count_follows_the_clip(hubert_file, samples):
    features = load_speech_encoder(hubert_file).encode(noise(samples))
    assert features.values.shape == ((samples - 80) // 320, 128)


def test_long_clip_is_normalised_whole_and_heard_in_chunks(hubert, hubert_file):
    waveform = noise(400_000) * torch.linspace(0.1, 1, 400_000)
    normal = ((waveform - waveform.mean()) / (waveform.var(correction=0) + 1e-7).sqrt()).float()
    with torch.no_grad():
        parts = [hubert.hubert(normal[None, a:b]).last_hidden_state[0] for a, b in ((0, 320_080), (320_000, 400_000))]
    features = load_speech_encoder(hubert_file).encode(waveform)
    torch.testing.assert_close(features.values, torch.cat(parts), atol=2e-5, rtol=0)


def test_short_tail_is_heard_with_what_went_before(hubert, hubert_file):
    waveform = noise(330_000)
    normal = (waveform - waveform.mean()) / (waveform.var(correction=0) + 1e-7).sqrt()
    with torch.no_grad():
        expected = hubert.hubert(normal[None, 160_000:]).last_hidden_state[0, 500:]
    features = load_speech_encoder(hubert_file).encode(waveform)
    torch.testing.assert_close(features.values[1000:], expected, atol=2e-5, rtol=0)


@pytest.fixture(scope="module")
def whisper():
    torch.manual_seed(2)
    size = {"d_model": 64, "encoder_layers": 2, "encoder_attention_heads": 1, "encoder_ffn_dim": 96}
    decoder = {"decoder_layers": 1, "decoder_attention_heads": 1, "decoder_ffn_dim": 64, "vocab_size": 51_865}
    return transformers.WhisperModel(transformers.WhisperConfig(**size, **decoder)).eval()


@pytest.fixture(scope="module")
def whisper_file(whisper, tmp_path_factory):
    path = tmp_path_factory.mktemp("whisper") / "model.bin"
    torch.save({f"model.{name}": value for name, value in whisper.state_dict().items()}, path)
    return path


def test_whisper_matches_transformers(whisper, whisper_file):
    waveform = noise(16_000 * 31)
    extractor = transformers.WhisperFeatureExtractor()
    windows = [w.numpy() for w in waveform.split(480_000)]
    mel = extractor(windows, sampling_rate=16_000, return_tensors="pt").input_features
    with torch.no_grad():
        expected = whisper.encoder(mel).last_hidden_state.flatten(0, 1)[: 31 * 50]
    features = load_speech_encoder(whisper_file).encode(waveform)
    assert features.name == "whisper-64"
    torch.testing.assert_close(features.values, expected, atol=2e-5, rtol=0)


def test_progress_counts_layers_and_may_interrupt(hubert_file):
    encoder = load_speech_encoder(hubert_file)
    told = []
    encoder.encode(noise(400_000), lambda done, total: told.append((done, total)))
    assert told == [(i, 18) for i in range(1, 19)]  # 2 chunks of 7 convolutions and 2 layers

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encoder.encode(noise(16_000), stop)
    encoder.encode(noise(16_000))
    assert len(told) == 18  # nobody listens any more


def test_encoder_rejects_a_clip_of_less_than_one_feature(hubert_file):
    with pytest.raises(InputError, match=r"399 samples.*at least 25 ms"):
        load_speech_encoder(hubert_file).encode(noise(399))


def test_loader_rejects_another_file(hubert, tmp_path):
    torch.save({"out_fn.weight": torch.zeros(2, 2)}, tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"other.pt is not a known speech encoder \(it holds out_fn"):
        load_speech_encoder(tmp_path / "other.pt")
    torch.save({"encoder.conv1.weight": torch.zeros(64, 80, 3)}, tmp_path / "half.pt")
    with pytest.raises(InputError, match="half.pt is not a complete Whisper encoder"):
        load_speech_encoder(tmp_path / "half.pt")
    with pytest.raises(MissingDependency, match="absent.bin"):
        load_speech_encoder(tmp_path / "absent.bin")


@pytest.mark.parametrize("part", ["encoder.layers.1.attention.k_proj.weight", "encoder.pos_conv_embed.conv.bias"])
def test_loader_rejects_an_incomplete_file(hubert, tmp_path, part):
    tensors = {name: value for name, value in hubert.state_dict().items() if name != f"hubert.{part}"}
    torch.save(tensors, tmp_path / "torn.bin")
    with pytest.raises(InputError, match=f"torn.bin .*lacks {part}"):
        load_speech_encoder(tmp_path / "torn.bin")


def test_loader_rejects_relatives_with_more_parts(hubert, tmp_path):
    more = {"hubert.encoder.layers.0.attention.gru_rel_pos_const": torch.zeros(1)}  # as WavLM has
    torch.save({**hubert.state_dict(), **more}, tmp_path / "wavlm.bin")
    with pytest.raises(InputError, match="gru_rel_pos_const"):
        load_speech_encoder(tmp_path / "wavlm.bin")


def test_features_from_tensor_shape():
    values = torch.randn(1, 7, 5, dtype=torch.float16)
    features = features_from_tensor(values, "core")
    np.testing.assert_array_equal(features.values.numpy(), values[0].float().numpy())
    assert torch.equal(features_from_tensor(values[0]).values, features.values)


@pytest.mark.parametrize("bad", [torch.zeros(2, 7, 5), torch.zeros(5), [1.0]])
def test_features_from_tensor_rejects_other_shapes(bad):
    with pytest.raises(ShapeError, match=r"core must be a tensor \(frames, channels\)"):
        features_from_tensor(bad, "core")


def test_features_from_tensor_rejects_nan_and_nothing():
    with pytest.raises(InputError, match="NaN"):
        features_from_tensor(torch.full((3, 2), torch.nan))
    with pytest.raises(InputError, match="no features"):
        features_from_tensor(torch.zeros(0, 8))


def test_require_width_names_fitting_encoders():
    features = SpeechFeatures(torch.zeros(3, 768), name="wav2vec2-base")
    assert require_width(features, 768, "an engine") is features.values
    with pytest.raises(InputError, match=r"audio2motion needs .*1024 channels \(hubert large.*wav2vec2-base has 768"):
        require_width(features, 1024, "audio2motion")


def test_given_features_stand_in_for_an_encoder_of_their_clip():
    features = features_from_tensor(torch.zeros(49, 8), "core")
    assert GivenFeatures(features).encode(noise(16_000)) is features
    with pytest.raises(InputError, match=r"core gives 49 features, but the clip of 2\.00 s has about 100"):
        GivenFeatures(features).encode(noise(32_000))
