"""The style extractor: a network from audio or expression features of a clip, or both, to a Gaussian prior.

Shapes: B clips, N features at 25 Hz, A and E numbers of an audio and an expression feature, D channels.
Source: SVP, section 3; sizes and names from StyleTalk (arXiv 2301.01081), as `docs/design/styles.md` 1 resolves them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from ..checks import check_finite, check_shape
from ..errors import InputError
from ..media.tensor_file import save_tensors
from ..progress import Progress
from ..weights.load import load_strict, read_metadata, read_tensors
from .discriminant import KIND, DiscriminantNet, DiscriminantSizes, read_discriminant_sizes
from .extractor_files import BUILT_IN, LAYOUT, SPREAD, VERSION, ExtractorSizes, check_extractor, read_extractor_sizes
from .features import NO_AUDIO, RATE_HZ, WIDTHS, StyleFeatures
from .prior import StylePrior

PADDED = -1e5  # added to a logit where there is no frame
MAX_WINDOWS = 16  # of a long clip that are looked at, evenly spread
MIN_FRAMES = RATE_HZ  # one second


class Branch(nn.Module):
    """Encoder of one modality: a linear layer, position encodings, and a post-norm transformer encoder with ReLU."""

    def __init__(self, features: int, sizes: ExtractorSizes) -> None:
        super().__init__()
        self.enter = nn.Linear(features, sizes.width)
        self.missing = nn.Parameter(torch.randn(sizes.width) * 0.02)  # stands for features that are not there
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                sizes.width, sizes.num_heads, sizes.feed_forward, sizes.dropout, batch_first=True
            )
            for _ in range(sizes.num_layers)
        )

    def forward(self, values: Tensor, present: Tensor, positions: Tensor, padding: Tensor | None) -> Tensor:
        """Tokens (B, N, D) of features (B, N, ·), their presence by clip (B,), positions (N, D) and padding (B, N)."""
        tokens = torch.where(present[:, None, None], self.enter(values), self.missing) + positions
        for layer in self.layers:
            tokens = layer(tokens, src_key_padding_mask=padding)
        return tokens


class CrossAttention(nn.Module):
    """Post-norm cross-attention with queries from expression and keys from audio, and a feed-forward layer."""

    def __init__(self, sizes: ExtractorSizes) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(sizes.width, sizes.num_heads, sizes.dropout, batch_first=True)
        self.norm1, self.norm2 = nn.LayerNorm(sizes.width), nn.LayerNorm(sizes.width)
        self.linear1 = nn.Linear(sizes.width, sizes.feed_forward)
        self.linear2 = nn.Linear(sizes.feed_forward, sizes.width)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, expression: Tensor, audio: Tensor, padding: Tensor | None) -> Tensor:
        """Tokens (B, N, D) of expression and audio tokens (B, N, D)."""
        attended, _ = self.attention(expression, audio, audio, key_padding_mask=padding, need_weights=False)
        expression = self.norm1(expression + self.dropout(attended))
        return self.norm2(expression + self.dropout(self.linear2(self.dropout(torch.relu(self.linear1(expression))))))


class StatisticsPool(nn.Module):
    """Attentive statistics pooling: weighted mean and variance over time with learnt frame weights.

    Source: SVP, equations 2 to 4 as reconstructed in `docs/design/styles.md` 2.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.logits = nn.Sequential(nn.Linear(width, width), nn.Mish(), nn.Linear(width, 1))

    def forward(self, frames: Tensor, padding: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean (B, D) and variance (B, D), float32, of frames (B, N, D); padding (B, N) true where there is none."""
        logits = self.logits(frames).squeeze(-1).float()
        if padding is not None:
            logits = logits + PADDED * padding
        return weighted_statistics(frames.float(), logits.softmax(1))


def weighted_statistics(frames: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (B, D) and variance (B, D) of frames (B, N, D) with weights (B, N) that sum to 1."""
    mean = torch.einsum("bn,bnd->bd", weights, frames)
    return mean, torch.einsum("bn,bnd->bd", weights, (frames - mean[:, None]).square())


class ExtractorNet(nn.Module):
    """The style extractor's network: two modality encoders, cross-attention, and attentive statistics pooling.

    A modality that a clip lacks is replaced, frame by frame, by a learnt vector; positions stay. Training leaves out
    the sound of some clips and the expression of others, so that either is enough.
    """

    def __init__(self, sizes: ExtractorSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.audio = Branch(sizes.audio_width, sizes)
        self.expression = Branch(sizes.expression_width, sizes)
        self.cross = CrossAttention(sizes)
        self.pool = StatisticsPool(sizes.width)
        table = sinusoids(sizes.num_positions, sizes.width)
        self.register_buffer("positions", table, persistent=False)

    def forward(
        self,
        audio: Tensor | None,
        expression: Tensor | None,
        padding: Tensor | None = None,
        present: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Mean and variance of the styles of a batch of clips.

        Args:
            audio: (B, N, A), N ≤ 256; None if no clip has sound.
            expression: (B, N, E); None if no clip shows a face.
            padding: (B, N) bool, true after a clip's end; None for clips of N frames.
            present: (B, 2) bool, whether each clip has sound and expression; None if it has what is not None.

        Returns:
            Mean (B, D) and variance (B, D), float32.

        Raises:
            InputError: neither is given, or the frames are too many.
        """
        features = expression if expression is not None else audio
        if features is None:
            raise InputError("a style needs a sound, an expression, or both; give one.")
        batch, count = features.shape[:2]
        sizes = self.sizes
        if count > sizes.num_positions:
            raise InputError(f"{count} frames are too many to look at together; {sizes.num_positions} at most.")
        if present is None:
            has_input = torch.tensor([audio is not None, expression is not None], device=features.device)
            present = has_input.expand(batch, -1)
        audio = features.new_zeros(batch, count, sizes.audio_width) if audio is None else audio
        expression = features.new_zeros(batch, count, sizes.expression_width) if expression is None else expression
        check_shape(audio, f"{batch} {count} {sizes.audio_width}", f"{sizes.audio} features")
        check_shape(expression, f"{batch} {count} {sizes.expression_width}", f"{sizes.expression} features")
        positions = self.positions[:count]
        audio_tokens = self.audio(audio, present[:, 0], positions, padding)
        expression_tokens = self.expression(expression, present[:, 1], positions, padding)
        return self.pool(self.cross(expression_tokens, audio_tokens, padding), padding)


def sinusoids(count: int, width: int) -> Tensor:
    """(count, width) sinusoidal position encodings: sine in even and cosine in odd columns.

    Source: Vaswani et al. 2017, section 3.5.
    """
    angles = torch.arange(count, dtype=torch.float64)[:, None] / 10_000 ** (
        torch.arange(0, width, 2, dtype=torch.float64) / width
    )
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1).float()


@dataclass(frozen=True, eq=False)
class StyleExtractor:
    """A trained extractor, ready for inference."""

    network: ExtractorNet | DiscriminantNet
    spread: Tensor  # (D,) deviation of the training set's means
    name: str = "style extractor"  # for messages
    identity: str = field(default="")  # part of the space's name; a hash of the weights if empty

    def __post_init__(self) -> None:
        check_finite(check_shape(self.spread, str(self.network.sizes.width), "the spread"), "the spread")
        if not self.identity:
            object.__setattr__(self, "identity", weights_mark(self.network.state_dict()))

    @property
    def sizes(self) -> ExtractorSizes | DiscriminantSizes:
        return self.network.sizes

    @property
    def hears(self) -> bool:
        """Whether it takes sound."""
        return self.sizes.audio != NO_AUDIO

    @property
    def space(self) -> str:
        """Name of the space of its styles."""
        return f"extractor:{self.identity}"

    @torch.no_grad()
    def prior(
        self,
        audio: StyleFeatures | None = None,
        expression: StyleFeatures | None = None,
        source: str = "clip",
        on_progress: Progress | None = None,
    ) -> StylePrior:
        """Style prior of a clip: mean and deviation over its windows.

        A clip of more than 256 frames is cut into up to 16 evenly spread windows; their Gaussians are combined
        as one (mean of the means; mean of the variances plus variance of the means).

        Args:
            audio: of the clip; None if it has no sound.
            expression: of the clip; None if it shows no face.
            source: what to call the style.
            on_progress: called with windows done and in all; may raise to stop.

        Raises:
            InputError: neither is given, they are other features than the extractor takes, or shorter than a second.
        """
        count = self._check(audio, expression, source)
        longest = self.sizes.num_positions
        number = min(-(-count // longest), MAX_WINDOWS)
        starts = [round((count - longest) * i / (number - 1)) for i in range(number)] if number > 1 else [0]
        gaussians = []
        for done, start in enumerate(starts, 1):
            cut = slice(start, min(start + longest, count))
            parts = [None if side is None else side.values[None, cut].to(self.device) for side in (audio, expression)]
            gaussians.append(tuple(part[0].cpu() for part in self.network(*parts)))
            if on_progress:
                on_progress(done, number)
        means, variances = (torch.stack(parts) for parts in zip(*gaussians, strict=True))
        variance = variances.mean(0) + means.var(0, correction=0)
        return StylePrior(means.mean(0), variance.sqrt(), self.spread, self.space, source)

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def _check(self, audio: StyleFeatures | None, expression: StyleFeatures | None, source: str) -> int:
        """Check the features and return the number of frames that both modalities have."""
        if not self.hears and expression is None:
            raise InputError(f"{self.name} sees and does not hear, and {source} shows no face; give a video with one.")
        sides = {self.sizes.audio: audio, self.sizes.expression: expression}
        for feature, side in sides.items():
            if side is not None and side.feature != feature:
                raise InputError(
                    f"{self.name} looks at {feature}, but {source} gives {side.feature}; make those instead."
                )
        lengths = [len(side) for side in sides.values() if side is not None]
        if not lengths:
            raise InputError(f"{source} gives neither sound nor expression; a style needs one of them.")
        if min(lengths) < MIN_FRAMES:
            raise InputError(f"{source} lasts {min(lengths) / RATE_HZ:.2f} s; a style needs 1 s at least.")
        return min(lengths)


def weights_mark(tensors: Mapping[str, Tensor]) -> str:
    """Hash of the weights: 12 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def new_extractor_net(sizes: ExtractorSizes | None = None, seed: int = 0) -> ExtractorNet:
    """An untrained extractor network.

    Raises:
        InputError: kinds of features that there are not, or of another width.
    """
    sizes = sizes or ExtractorSizes()
    for kind, width in ((sizes.audio, sizes.audio_width), (sizes.expression, sizes.expression_width)):
        if WIDTHS.get(kind, width) != width:
            raise InputError(f"{kind} features have {WIDTHS[kind]} numbers, not {width}.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ExtractorNet(sizes)


def warm_start(network: ExtractorNet, tensors: Mapping[str, Tensor], name: str) -> ExtractorNet:
    """Load StyleTalk's style encoder into the expression encoder and the pooling; other weights are unchanged.

    Args:
        network: over 64 expression coefficients, 256 channels wide.
        tensors: of `weights.style_files.styletalk_tensors`.
        name: of the file, for messages.

    Raises:
        InputError: the sizes differ.
    """
    was_training = network.training
    state = {**network.state_dict(), **tensors}
    return load_strict(network, state, name).train(was_training).requires_grad_(True)


def save_extractor(extractor: StyleExtractor, path: Path, metadata: Mapping[str, str] | None = None) -> Path:
    """Write an extractor as safetensors atomically, with its sizes in the metadata.

    Raises:
        OutputError: the file cannot be written.
    """
    tensors = {**extractor.network.state_dict(), SPREAD: extractor.spread}
    is_linear = isinstance(extractor.network, DiscriminantNet)
    weights = {name: tensor.half() if is_linear else tensor.float() for name, tensor in tensors.items()}
    texts = {"layout": LAYOUT, "version": VERSION, "sizes": extractor.sizes.to_json()}
    texts |= {"network": KIND} if is_linear else {}
    return save_tensors(weights, path, {**(metadata or {}), **texts})


def load_extractor(path: Path = BUILT_IN, device: torch.device | str = "cpu") -> StyleExtractor:
    """Read an extractor that `save_extractor` has written; without a path, that of the package.

    Raises:
        MissingDependency: no such file.
        InputError: damaged, of another version, or something else.
    """
    path = Path(path)
    tensors = read_tensors(path)
    network = _empty_network(tensors, read_metadata(path), path.name)
    for name, tensor in tensors.items():
        check_finite(tensor, f"{name} of {path.name}")
    spread = tensors.pop(SPREAD)
    load_strict(network, {name: tensor.float() for name, tensor in tensors.items()}, path.name)
    called = "the built-in style extractor" if path == BUILT_IN else path.name
    return StyleExtractor(network.to(device), spread.float(), called, weights_mark(tensors))


def _empty_network(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], name: str
) -> ExtractorNet | DiscriminantNet:
    check_extractor(tensors, metadata, name)
    if metadata.get("network") == KIND:
        return DiscriminantNet(read_discriminant_sizes(metadata, name))
    return new_extractor_net(read_extractor_sizes(tensors, metadata, name))
