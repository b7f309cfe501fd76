"""The diffusion transformer that turns speech into motion of implicit keypoints.

Source: X. Cao et al., "JoyVASA" (arXiv 2411.09209), and what its public code makes of it: the names of the tensors, and
sizes that the paper leaves open. Each frame attends to the sound of its own time alone. Attention to one place is that
place, so what the layers take from the sound is one linear map of it, the same for every step of the diffusion.

Shapes: B batch, N frames of a window, P frames before it, M numbers of a frame's motion, D channels, L layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NUM_HEADS = 8
HUBERT_WIDTH = 768


@dataclass(frozen=True)
class GeneratorSize:
    """Sizes of the network; the defaults are those of the public code's training."""

    motion: int = 70  # M: 63 of the expression, scale, 3 of the translation, pitch, yaw, roll
    frames: int = 100  # N
    previous: int = 10  # P
    width: int = 256  # D
    layers: int = 8  # L
    feed: int = 1024  # channels between the two maps of a layer
    steps: int = 500  # of the diffusion
    audio_width: int = HUBERT_WIDTH  # channels of the speech encoder


class Layer(nn.Module):
    """A layer of a transformer's decoder, normalised after each part."""

    def __init__(self, size: GeneratorSize) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(size.width, NUM_HEADS, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(size.width, NUM_HEADS, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(size.width, size.feed), nn.Linear(size.feed, size.width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(size.width) for _ in range(3))

    def audio_attention(self, audio: Tensor) -> Tensor:
        """(B, P + N, D) cross-attention to the audio of the same frame."""
        attention, width = self.multihead_attn, audio.shape[-1]
        values = F.linear(audio, attention.in_proj_weight[2 * width :], attention.in_proj_bias[2 * width :])
        return attention.out_proj(values)

    def forward(self, x: Tensor, audio_attention: Tensor) -> Tensor:
        """(B, P + N, D) motion, and its cross-attention to audio, to (B, P + N, D)."""
        x = self.norm1(x + self.self_attn(x, x, x, need_weights=False)[0])
        x = self.norm2(x + audio_attention)
        return self.norm3(x + self.linear2(F.gelu(self.linear1(x))))


class Transformer(nn.Module):
    """The layers, under the name that the files have for them."""

    def __init__(self, size: GeneratorSize) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(size) for _ in range(size.layers))


class Denoiser(nn.Module):
    """Noisy motion, and its cross-attention to audio, to the motion without noise."""

    def __init__(self, size: GeneratorSize) -> None:
        super().__init__()
        width = size.width
        self.feature_proj = nn.Linear(size.motion, width)
        self.diff_step_map = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.transformer = Transformer(size)
        self.motion_dec = nn.Sequential(nn.Linear(width, width // 2), nn.GELU(), nn.Linear(width // 2, size.motion))
        self.register_buffer("places", waves(size.previous + size.frames, width), persistent=False)
        self.register_buffer("times", waves(size.steps + 1, width), persistent=False)

    def audio_attention(self, audio: Tensor) -> list[Tensor]:
        """For each layer (B, P + N, D), from (B, P + N, D) audio; the same in every step."""
        return [layer.audio_attention(audio) for layer in self.transformer.layers]

    def forward(self, motion: Tensor, audio_attention: list[Tensor], step: int) -> Tensor:
        """(B, P + N, M) motion of which the last N frames are noisy, of one step, to (B, P + N, M)."""
        x = self.feature_proj(motion) + self.places + self.diff_step_map(self.times[step])
        for layer, attention in zip(self.transformer.layers, audio_attention, strict=True):
            x = layer(x, attention)
        return self.motion_dec(x)


class Schedule(nn.Module):
    """How much signal and noise each step has; the numbers are the file's."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        for name in ("betas", "alphas", "alpha_bars", "sigmas_flex", "sigmas_inflex"):
            self.register_buffer(name, torch.zeros(steps + 1))


class MotionGenerator(nn.Module):
    """Everything of JoyVASA's file but the speech encoder."""

    def __init__(self, size: GeneratorSize | None = None) -> None:
        super().__init__()
        self.size = size = size or GeneratorSize()
        self.audio_feature_map = nn.Linear(size.audio_width, size.width)
        self.start_audio_feat = nn.Parameter(torch.zeros(1, size.previous, size.width))
        self.start_motion_feat = nn.Parameter(torch.zeros(1, size.previous, size.motion))
        self.null_audio_feat = nn.Parameter(torch.zeros(1, 1, size.width))
        self.denoising_net = Denoiser(size)
        self.diffusion_sched = Schedule(size.steps)


def waves(count: int, width: int) -> Tensor:
    """(count, width) sines and cosines of places, of wavelengths from 2π to 20,000 π, in turn.

    Source: Vaswani et al., "Attention is all you need" (arXiv 1706.03762), section 3.5.
    """
    places = torch.arange(count, dtype=torch.float)[:, None]
    rates = torch.exp(torch.arange(0, width, 2).float() * (-math.log(10_000.0) / width))
    return torch.stack([torch.sin(places * rates), torch.cos(places * rates)], 2).flatten(1)[:, :width]
