"""The variational network that turns speech features into expression coefficients of a 3-D face model.

Source: GeneFace++ (arXiv 2305.00787) and Real3D-Portrait (arXiv 2401.08503), whose public weights it reads. Only what
inference uses is here: conditions, prior flow and decoder. The convolutions are not dilated, as in the weights' own
code and unlike in the papers.

Shapes: B batch, F frames at 50 Hz (a multiple of 8), T = F/2 frames at 25 Hz, Z = T/4 latent steps, D feature channels,
C condition channels, H hidden channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import InputError
from ...speech.pitch import coarse_pitch
from ...weights.load import load_strict, read_tensors

NUM_EXPRESSIONS = 64
LATENTS, LATENT_STEP = 16, 4  # channels; frames at 25 Hz a latent step covers
FRAME_STEP = 2 * LATENT_STEP  # frames at 50 Hz a latent step covers
NUM_COUPLINGS, NUM_LAYERS = 4, 4
FLOW_HIDDEN, FLOW_KERNEL = 64, 3
DECODER_HIDDEN, DECODER_KERNEL = 256, 5
PITCH_ROWS = 300  # of the look-up table; coarse pitch uses 1..255
# frames at 50 Hz beyond which nothing is felt: the flow reaches 16 latent steps, everything else less than 4 more
REACH = 24 * FRAME_STEP
# the encoder serves training alone; an optimiser's state is none of the network's business
IGNORED = (r"^vae\.encoder\.", r"^optimizer")


@dataclass(frozen=True)
class ExpressionSize:
    """Variant of a published expression network."""

    features: int = 1024  # D
    pitch: bool = True  # conditions on pitch and blinks besides the features
    mouth_amp: bool = True  # conditions on how wide the mouth opens
    eye_amp: bool = False  # conditions on how wide the eyes open

    @property
    def channels(self) -> int:
        """C: 128 with pitch, 64 without."""
        return 128 if self.pitch else 64


class GatedConvolutions(nn.Module):
    """Four residual convolutions with gates that a condition shifts (WaveNet without dilation)."""

    def __init__(self, hidden: int, kernel: int, channels: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.in_layers = nn.ModuleList(
            nn.Conv1d(hidden, 2 * hidden, kernel, padding=kernel // 2) for _ in range(NUM_LAYERS)
        )
        widths = [2 * hidden] * (NUM_LAYERS - 1) + [hidden]  # the last layer has nothing to pass on
        self.res_skip_layers = nn.ModuleList(nn.Conv1d(hidden, width, 1) for width in widths)
        self.cond_layer = nn.Conv1d(channels, 2 * hidden * NUM_LAYERS, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, H, T) and (B, C, T) to (B, H, T)."""
        total = torch.zeros_like(x)
        shifts = self.cond_layer(condition).chunk(NUM_LAYERS, 1)
        for layer, mix, shift in zip(self.in_layers, self.res_skip_layers, shifts, strict=True):
            value, gate = (layer(x) + shift).chunk(2, 1)
            mixed = mix(value.tanh() * gate.sigmoid())
            if mixed.shape[1] > self.hidden:
                x = x + mixed[:, : self.hidden]
            total = total + mixed[:, -self.hidden :]
        return total


class Coupling(nn.Module):
    """Additive coupling layer of a normalising flow: shifts half of the channels by a function of the other half."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pre = nn.Conv1d(LATENTS // 2, FLOW_HIDDEN, 1)
        self.enc = GatedConvolutions(FLOW_HIDDEN, FLOW_KERNEL, channels)
        self.post = nn.Conv1d(FLOW_HIDDEN, LATENTS // 2, 1)

    def inverse(self, z: Tensor, condition: Tensor) -> Tensor:
        identity, transformed = z.chunk(2, 1)
        return torch.cat([identity, transformed - self.post(self.enc(self.pre(identity), condition))], 1)


class PriorFlow(nn.Module):
    """Normalising flow from Gaussian noise to latents, conditioned on speech."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # channel flips stand at the odd places; they hold no weights
        layers = [layer for _ in range(NUM_COUPLINGS) for layer in (Coupling(channels), nn.Identity())]
        self.flows = nn.ModuleList(layers)

    def inverse(self, z: Tensor, condition: Tensor) -> Tensor:
        """(B, 16, Z) noise to latents under (B, C, Z)."""
        for coupling in reversed(self.flows[::2]):
            z = coupling.inverse(z.flip(1), condition)
        return z


class Decoder(nn.Module):
    """Latents to expression coefficients, four frames from each step."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pre_net = nn.Sequential(nn.ConvTranspose1d(LATENTS, DECODER_HIDDEN, LATENT_STEP, LATENT_STEP))
        self.wn = GatedConvolutions(DECODER_HIDDEN, DECODER_KERNEL, channels)
        self.out_proj = nn.Conv1d(DECODER_HIDDEN, NUM_EXPRESSIONS, 1)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        """(B, 16, Z) and (B, C, T) to (B, 64, T)."""
        return self.out_proj(self.wn(self.pre_net(z), condition))


class Vae(nn.Module):
    """Prior flow and decoder of the variational autoencoder."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.g_pre_net = nn.Sequential(
            nn.Conv1d(channels, channels, 2 * LATENT_STEP, LATENT_STEP, padding=LATENT_STEP // 2)
        )
        self.prior_flow = PriorFlow(channels)
        self.decoder = Decoder(channels)

    def forward(self, condition: Tensor, noise: Tensor) -> Tensor:
        """(B, C, T) and (B, 16, Z) to (B, 64, T)."""
        return self.decoder(self.prior_flow.inverse(noise, self.g_pre_net(condition)), condition)


class ExpressionNet(nn.Module):
    """Speech features (and pitch) at 50 Hz to expression coefficients at 25 Hz."""

    def __init__(self, size: ExpressionSize | None = None) -> None:
        super().__init__()
        self.size = size or ExpressionSize()
        channels = self.size.channels
        self.blink_embed = nn.Embedding(2, channels)
        self.mel_encoder = _condition_encoder(self.size.features, channels)
        if self.size.pitch:
            self.pitch_embed = nn.Embedding(PITCH_ROWS, channels)
            self.pitch_encoder = _condition_encoder(channels, channels)
            parts = 3 + self.size.mouth_amp + self.size.eye_amp
            self.cond_proj = nn.Linear(parts * channels, channels)
        if self.size.mouth_amp:
            self.mouth_amp_embed = nn.Parameter(torch.zeros(channels))
        if self.size.eye_amp:
            self.eye_amp_embed = nn.Parameter(torch.zeros(channels))
        self.vae = Vae(channels)

    def condition(self, features: Tensor, f0: Tensor, blink: Tensor, mouth_amp: float, eye_amp: float) -> Tensor:
        """(B, F, D) features, (B, F) Hz, (B, F) long 0 or 1, two amplitudes: (B, C, F/2)."""
        if not self.size.pitch:  # this variant averages pairs of frames
            return self.mel_encoder(F.avg_pool1d(features.mT, 2))
        audio = self.mel_encoder(features[:, ::2].mT)
        pitch = self.pitch_encoder(self.pitch_embed(coarse_pitch(f0[:, ::2])).mT)
        parts = [audio, pitch, self.blink_embed(blink[:, ::2]).mT]
        if self.size.mouth_amp:
            parts.append((mouth_amp * self.mouth_amp_embed)[None, :, None].expand_as(audio))
        if self.size.eye_amp:
            parts.append((eye_amp * self.eye_amp_embed)[None, :, None].expand_as(audio))
        return self.cond_proj(torch.cat(parts, 1).mT).mT

    def forward(self, condition: Tensor, noise: Tensor) -> Tensor:
        """(B, C, T) condition and (B, 16, T/4) noise to (B, T, 64) coefficients."""
        return self.vae(condition, noise).mT


def load_expression_net(path: Path) -> ExpressionNet:
    """Read GeneFace++'s ``audio2motion_vae`` or Real3D-Portrait's ``audio2secc_vae``.

    Raises:
        MissingDependency: there is no such file.
        InputError: a file of another model or variant.
    """
    return net_of_tensors(read_tensors(path), path.name)


def net_of_tensors(tensors: dict[str, Tensor], source: str) -> ExpressionNet:
    """The expression network of a weight file's tensors; its variant follows from their names."""
    tensors = _without_weight_norm(tensors)
    first = tensors.get("mel_encoder.0.weight")
    if first is None or first.ndim != 3:
        raise InputError(f"{source} does not fit ExpressionNet: it lacks mel_encoder.0.weight. Is it another model?")
    size = ExpressionSize(
        first.shape[1], "pitch_embed.weight" in tensors, "mouth_amp_embed" in tensors, "eye_amp_embed" in tensors
    )
    return load_strict(ExpressionNet(size), tensors, source, IGNORED)


def _condition_encoder(features: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(features, channels, 3, padding=1, bias=False),
        nn.BatchNorm1d(channels),
        nn.GELU(),
        nn.Conv1d(channels, channels, 3, padding=1, bias=False),
    )


def _without_weight_norm(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors with weight normalisation folded into weights g · v/‖v‖ (both of PyTorch's namings)."""
    merged = dict(tensors)
    for length_end, direction_end in (
        (".weight_g", ".weight_v"),
        (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
    ):
        for name in [name for name in merged if name.endswith(length_end)]:
            stem = name.removesuffix(length_end)
            if stem + direction_end in merged:
                length, direction = merged.pop(name).float(), merged.pop(stem + direction_end).float()
                norm = direction.norm(dim=tuple(range(1, direction.ndim)), keepdim=True)
                merged[f"{stem}.weight"] = direction * (length / norm)
    return merged
