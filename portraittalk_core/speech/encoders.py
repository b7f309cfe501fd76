"""Pretrained speech encoders: HuBERT, wav2vec 2.0 and Whisper, for clips of any length, 50 features a second.

Shapes: F frames at 50 Hz, D feature channels, N samples.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..checks import check_finite, check_shape
from ..errors import InputError, MissingDependency, ShapeError
from ..progress import Progress
from ..types import SPEECH_RATE_HZ, Speech
from ..weights.load import load_strict, read_tensors
from .wave import HOP, WINDOW, as_speech, chunks, clip_normalisation, num_wave_features, piece

FEATURE_RATE_HZ = 50.0
WHISPER_WINDOW = 30 * SPEECH_RATE_HZ
HEAD_WIDTH = 64  # channels of an attention head, in every published size
CONV_KERNELS, CONV_STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
GIVEN_TOLERANCE = 10  # frames by which features made elsewhere may be fewer or more than the clip asks for

FIRST_CONV = "feature_extractor.conv_layers.0.conv.weight"
PREFIXES = {"hubert.": "hubert", "wav2vec2.": "wav2vec2", "": "hubert"}  # HuBERT's pre-trained files name no prefix
HEADS = (r"^(lm_head|classifier|projector|quantizer|project_hid|project_q|final_proj)\.", r"^masked_spec_embed$")
SIZES = {
    "hubert": {768: "base", 1024: "large", 1280: "xlarge"},
    "wav2vec2": {768: "base", 1024: "large"},
    "whisper": {384: "tiny", 512: "base", 768: "small", 1024: "medium", 1280: "large"},
}
KINDS = "HuBERT (facebook/hubert-large-ls960-ft), wav2vec 2.0 (facebook/wav2vec2-base-960h), Whisper (openai/whisper-…)"


@dataclass(frozen=True)
class SpeechFeatures:
    """Features of a clip by a speech encoder."""

    values: Tensor  # (F, D) float32
    rate_hz: float = FEATURE_RATE_HZ
    name: str = "speech encoder"  # what to call the encoder in messages
    start_s: float = WINDOW / 2 / SPEECH_RATE_HZ  # time that the first feature is about

    def __post_init__(self) -> None:
        check_finite(check_shape(self.values, "F D", f"the features of {self.name}"), f"the features of {self.name}")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def width(self) -> int:
        """Number of channels, D."""
        return self.values.shape[1]


class WaveEncoder:
    """HuBERT or wav2vec 2.0, on the waveform itself.

    Source: Hsu et al. 2021 (arXiv 2106.07447); Baevski et al. 2020 (arXiv 2006.11477).
    """

    def __init__(self, network: nn.Module, name: str) -> None:
        """Wrap `transformers`' network of either kind."""
        self.network, self.name = network, name

    @torch.no_grad()
    def encode(self, speech: Speech | Tensor, on_progress: Progress | None = None) -> SpeechFeatures:
        """Features of a whole clip: (samples − 80) // 320 of them.

        The clip as a whole is normalised to mean 0 and variance 1, then encoded in chunks of 20 s (and 80 samples, as
        the last feature reaches further than its hop). A last chunk under 2 s is encoded with the 10 s before it. The
        base sizes normalise their first convolution over time: they do so within each chunk.

        Args:
            speech: the clip, or its waveform (N,) at 16 kHz.
            on_progress: called with layers done and in all.

        Raises:
            InputError: shorter than one feature (25 ms).
        """
        speech = as_speech(speech)
        values = torch.empty(num_wave_features(speech), self.network.config.hidden_size)
        done = 0
        for hidden in self.stream(speech, on_progress=on_progress):
            values[done : done + len(hidden)] = hidden
            done += len(hidden)
        return SpeechFeatures(values, name=self.name)

    @torch.no_grad()
    def stream(
        self,
        speech: Speech | Tensor,
        silence: int = 0,
        normalisation: tuple[Tensor, Tensor] | None = None,
        on_progress: Progress | None = None,
    ) -> Iterator[Tensor]:
        """Features of a clip chunk by chunk, so that memory need not hold them all.

        Args:
            speech: the clip, or its waveform (N,) at 16 kHz.
            silence: samples of digital silence that follow the clip and do not count for its normalisation.
            normalisation: offset and gain of another clip, see `clip_normalisation`; None: this one's.
            on_progress: called with layers done and in all.

        Yields:
            (f, D) float32 features on the CPU, together (N + silence − 80) // 320.
        """
        speech = as_speech(speech)
        centre, gain = normalisation or clip_normalisation(speech.waveform)
        device = next(self.network.parameters()).device
        pieces = list(chunks(speech.waveform.numel() + silence))
        layers = [*self.network.feature_extractor.conv_layers, *self.network.encoder.layers]
        with counted(layers, len(pieces) * len(layers), on_progress):
            for input_start, output_start, stop in pieces:
                chunk = (piece(speech.waveform, input_start, stop) - centre) * gain
                hidden = self.network(chunk[None].to(device)).last_hidden_state[0]
                yield hidden[(output_start - input_start) // HOP :].float().cpu()


class WhisperEncoder:
    """Whisper's encoder, on log-mel spectrograms of 30 s.

    Source: Radford et al. 2022 (arXiv 2212.04356).
    """

    def __init__(self, network: nn.Module, name: str) -> None:
        """Wrap `transformers`' encoder."""
        from transformers import WhisperFeatureExtractor

        self.network, self.name = network, name
        self.spectrogram = WhisperFeatureExtractor(feature_size=network.config.num_mel_bins)

    @torch.no_grad()
    def encode(self, speech: Speech | Tensor, on_progress: Progress | None = None) -> SpeechFeatures:
        """Features of a whole clip: one for every started 20 ms.

        It is encoded in windows of 30 s, the last filled with silence, as in training; each window's spectrogram is
        normalised by itself.

        Args:
            speech: the clip, or its waveform (N,) at 16 kHz.
            on_progress: called with layers done and in all.
        """
        speech = as_speech(speech)
        samples = speech.waveform.numel()
        count = -(-samples // HOP)
        device = next(self.network.parameters()).device
        starts = range(0, samples, WHISPER_WINDOW)
        layers = [self.network.conv1, self.network.conv2, *self.network.layers]
        values = torch.empty(count, self.network.config.d_model)
        with counted(layers, len(starts) * len(layers), on_progress):
            for start in starts:
                window = speech.waveform[start : start + WHISPER_WINDOW].numpy()
                mel = self.spectrogram(window, sampling_rate=SPEECH_RATE_HZ, return_tensors="pt").input_features
                first = start // HOP
                hidden = self.network(mel.to(device)).last_hidden_state[0][: count - first]
                values[first : first + len(hidden)] = hidden.cpu()
        return SpeechFeatures(values, name=self.name, start_s=0.0)


SpeechEncoder = WaveEncoder | WhisperEncoder


class GivenFeatures:
    """Precomputed features, in the place of an encoder."""

    def __init__(self, features: SpeechFeatures) -> None:
        """Keep the features of one clip."""
        self.features, self.name = features, features.name

    def encode(self, speech: Speech | Tensor, on_progress: Progress | None = None) -> SpeechFeatures:
        """The features, if their number fits this clip.

        Raises:
            InputError: too many or too few for the clip.
        """
        expected = as_speech(speech).waveform.numel() / HOP
        if abs(len(self.features) - expected) > GIVEN_TOLERANCE:
            raise InputError(
                f"{self.name} gives {len(self.features)} features, but the clip of {expected / FEATURE_RATE_HZ:.2f} s "
                f"has about {expected:.0f}; give features and sound of the same clip."
            )
        if on_progress:
            on_progress(1, 1)
        return self.features


def load_speech_encoder(path: Path, device: torch.device | str = "cpu") -> SpeechEncoder:
    """The encoder that a weight file holds, recognised by the names and shapes of its tensors.

    Args:
        path: state dict of a `transformers` model (.safetensors, .bin or .pt), with or without the task's head.
        device: where it is to compute.

    Raises:
        MissingDependency: no such file, or `transformers` is not installed.
        InputError: the file is damaged or holds something else.
    """
    path = Path(path)
    tensors = read_tensors(path)
    if "encoder.conv1.weight" in tensors:
        encoder: SpeechEncoder = _whisper(tensors, path.name)
    else:
        prefix = next((p for p in PREFIXES if p + FIRST_CONV in tensors), None)
        if prefix is None:
            names = ", ".join(list(tensors)[:3])
            raise InputError(f"{path.name} is not a known speech encoder (it holds {names}, …). Choose: {KINDS}.")
        family = PREFIXES[prefix]
        network = wave_network(without_prefix(tensors, prefix), path.name, family)
        encoder = WaveEncoder(network, _called(family, network.config.hidden_size))
    encoder.network.to(device)
    return encoder


def features_from_tensor(values: Tensor, name: str = "audio encoder output") -> SpeechFeatures:
    """Speech features of a precomputed tensor, such as ComfyUI's AUDIO_ENCODER_OUTPUT.

    Args:
        values: (F, D) or (1, F, D), 50 a second.
        name: of the encoder, for messages.

    Raises:
        InputError: another shape, no frames, or values that are not finite.
    """
    if not isinstance(values, Tensor) or not (values.ndim == 2 or (values.ndim == 3 and len(values) == 1)):
        received = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ShapeError(f"the features of {name} must be a tensor (frames, channels) of one clip, not {received}.")
    flat = values.reshape(values.shape[-2:]).detach().float().cpu()
    if not flat.numel():
        raise InputError(f"{name} gives no features (shape {tuple(values.shape)}); give a clip with speech in it.")
    return SpeechFeatures(flat, name=name)


def require_width(features: SpeechFeatures, width: int, engine: str) -> Tensor:
    """(F, D) features, if their number of channels is the one that an engine was trained on.

    Raises:
        InputError: another number; the text names encoders of the right one.
    """
    if features.width != width:
        fitting = [f"{family} {sizes[width]}" for family, sizes in SIZES.items() if width in sizes]
        raise InputError(
            f"{engine} needs a speech encoder with {width} channels ({' or '.join(fitting) or 'of its own'}); "
            f"{features.name} has {features.width}. Choose the encoder that the engine was trained with."
        )
    return features.values


def without_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with a prefix, named without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


@contextlib.contextmanager
def counted(layers: Iterable[nn.Module], total: int, on_progress: Progress | None) -> Iterator[None]:
    """Report after every layer how many of `total` were run."""
    done = 0

    def report(*_: object) -> None:
        nonlocal done
        done += 1
        on_progress(min(done, total), total)

    handles = [layer.register_forward_hook(report) for layer in layers] if on_progress else []
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def wave_network(tensors: dict[str, Tensor], source: str, family: str = "wav2vec2") -> nn.Module:
    """`transformers`' HuBERT or wav2vec 2.0 with the sizes of some tensors, and filled with them.

    Args:
        tensors: named as in `transformers`, without prefix; both namings of weight normalisation are known.
        source: what to call them in messages: a file name.
        family: "hubert" or "wav2vec2".

    Raises:
        InputError: they are of another network.
    """
    classes = _transformers()
    make_config = classes.HubertConfig if family == "hubert" else classes.Wav2Vec2Config
    make_network = classes.HubertModel if family == "hubert" else classes.Wav2Vec2Model
    with torch.device("meta"):  # no random weights that would be replaced at once
        network = make_network(make_config(**_wave_sizes(tensors, source, family)))
    network.to_empty(device="cpu")
    return load_strict(network, _renamed(tensors, network.state_dict()), source, ignore=HEADS)


def _wave_sizes(tensors: dict[str, Tensor], source: str, family: str) -> dict[str, object]:
    """Configuration of a network, from the names and shapes of its tensors."""
    convs = [FIRST_CONV.replace("0", str(i)) for i in range(len(CONV_KERNELS))]
    position = next((n for n in tensors if re.search(r"pos_conv_embed\.conv\..*(weight_v|original1)$", n)), None)
    feed = "encoder.layers.0.feed_forward.intermediate_dense.weight"
    missing = [name for name in (*convs, feed) if name not in tensors]
    if position is None or missing or any(tensors[name].ndim != 3 for name in (*convs, position)):
        absent = (missing or ["the convolution that tells positions"])[0]
        raise InputError(f"{source} is not a complete speech encoder (it lacks {absent}). Choose: {KINDS}.")
    inner, width = tensors[feed].shape
    if width % HEAD_WIDTH:
        raise InputError(f"{source} has {width} channels; speech encoders have a multiple of {HEAD_WIDTH}.")
    in_layers = "feature_extractor.conv_layers.1.layer_norm.weight" in tensors
    sizes: dict[str, object] = {
        "hidden_size": width,
        "num_hidden_layers": _count(tensors, r"^encoder\.layers\.(\d+)\."),
        "num_attention_heads": width // HEAD_WIDTH,
        "intermediate_size": inner,
        "conv_dim": tuple(tensors[name].shape[0] for name in convs),
        "conv_kernel": CONV_KERNELS,
        "conv_stride": CONV_STRIDES,
        "conv_bias": "feature_extractor.conv_layers.0.conv.bias" in tensors,
        "feat_extract_norm": "layer" if in_layers else "group",
        "do_stable_layer_norm": in_layers,  # in every published size, the two go together
        "num_conv_pos_embeddings": tensors[position].shape[2],
        "num_conv_pos_embedding_groups": width // tensors[position].shape[1],
        "apply_spec_augment": False,
        "mask_time_prob": 0.0,
        "mask_feature_prob": 0.0,
    }
    if family == "hubert":
        sizes["feat_proj_layer_norm"] = "feature_projection.layer_norm.weight" in tensors
    return sizes


def _renamed(tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weight normalisation's length and direction under the names that this version of PyTorch has for them."""
    pairs = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
    renamed = {}
    for name, value in tensors.items():
        aliases = [name.replace(a, b) for pair in pairs.items() for a, b in (pair, pair[::-1]) if name.endswith(a)]
        renamed[next((alias for alias in aliases if name not in expected and alias in expected), name)] = value
    return renamed


def _whisper(tensors: dict[str, Tensor], source: str) -> WhisperEncoder:
    classes = _transformers()
    from transformers.models.whisper.modeling_whisper import WhisperEncoder as Network

    body = without_prefix(tensors, "encoder.")
    needed = ("embed_positions.weight", "layers.0.fc1.weight")
    missing = [name for name in needed if name not in body]
    if missing or body["conv1.weight"].ndim != 3:
        raise InputError(f"{source} is not a complete Whisper encoder (it lacks {missing or 'mel channels'}).")
    width, mels = body["conv1.weight"].shape[:2]
    positions, expected = len(body["embed_positions.weight"]), WHISPER_WINDOW // HOP
    if width % HEAD_WIDTH or positions != expected:
        raise InputError(f"{source} has {width} channels and {positions} positions; Whisper has n · 64 and {expected}.")
    config = classes.WhisperConfig(
        d_model=width,
        encoder_layers=_count(body, r"^layers\.(\d+)\."),
        encoder_attention_heads=width // HEAD_WIDTH,
        encoder_ffn_dim=len(body["layers.0.fc1.weight"]),
        num_mel_bins=mels,
        max_source_positions=positions,
    )
    with torch.device("meta"):
        network = Network(config)
    network.to_empty(device="cpu")
    return WhisperEncoder(load_strict(network, body, source), _called("whisper", width))


def _called(family: str, width: int) -> str:
    return f"{family}-{SIZES[family].get(width, width)}"


def _count(tensors: dict[str, Tensor], pattern: str) -> int:
    return len({match[1] for name in tensors if (match := re.match(pattern, name))})


def _transformers() -> object:
    try:
        import transformers
    except ImportError as error:
        raise MissingDependency("speech encoders need transformers: pip install transformers") from error
    return transformers
