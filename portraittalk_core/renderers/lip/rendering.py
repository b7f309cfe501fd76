"""Rendering: the hidden half of a face is painted, guided by aligned references, lips and sound.

Shapes: B frames, M lip references, S side of a crop, n and w channels at full and at half size.
Sources: W. Zhong et al. 2023, section 3.2 and the public file (`translation`); J. Wu et al., "Talking Face Generation
with Lip and Identity Priors", section 3.2.2; W. Shi et al. 2016 (PixelShuffle); `docs/design/lips.md` 2, 3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, leaky_relu, scaled_dot_product_attention

from .alignment import Aligned
from .blocks import SLOPE, AdaIN, PictureEncoder, ResBlock, Spade, mel_layers, start_as_identity
from .sizes import SKETCH_CHANNELS, LipConfig, LipSizes

LAST_SLOPE = 0.01  # of the leaky ReLU before the last convolution
SHARE = 0.1  # of what is painted, where it is added: else the first steps spoil the picture, and learning shuts it off


class Translation(PictureEncoder):
    """IP-LAP's rendering, which hears one vector a frame."""

    def __init__(self, sizes: LipSizes) -> None:
        super().__init__(3 + SKETCH_CHANNELS, sizes, bias=False)
        self.audio_encoder = mel_layers(sizes.audio)
        self.spade_1 = Spade(sizes.wide, sizes.wide, sizes.hidden)
        self.adain_1 = AdaIN(sizes.wide, sizes.audio[-1])
        self.pixel_suffle_1 = nn.PixelShuffle(2)
        self.spade_2 = Spade(sizes.middle, sizes.narrow, sizes.hidden)
        self.adain_2 = AdaIN(sizes.middle, sizes.audio[-1])
        self.spade_4 = Spade(sizes.middle, 3, sizes.hidden)
        self.conv_last = nn.Conv2d(sizes.middle, 3, 7, padding=3, bias=False)

    def forward(self, masked: Tensor, sketches: Tensor, aligned: Aligned, mel: Tensor) -> Tensor:
        """(B, 3, S, S) pictures in 0..1.

        Args:
            masked: (B, 3, S, S) with black lower halves.
            sketches: (B, 15, S, S).
            aligned: references.
            mel: (B, 80, 16).
        """
        _, x = self.encode(torch.cat([masked, sketches], 1))
        heard = self.audio_encoder(mel[:, None]).flatten(1)
        x = self.adain_1(self.spade_1(x, self.spade_1.maps(aligned.wide.to(x))), heard)
        x = self.pixel_suffle_1(x)
        x = self.adain_2(self.spade_2(x, self.spade_2.maps(aligned.narrow.to(x))), heard)
        x = self.spade_4(x, self.spade_4.maps(aligned.picture.to(x)))
        return torch.sigmoid(self.conv_last(leaky_relu(x, LAST_SLOPE)))


class LipFusion(nn.Module):
    """The multi-reference lip module: features of a frame and of every lip reference, fused; their mean.

    The convolution of both together is computed for each alone, so that the references' half of it is computed once.
    """

    def __init__(self, config: LipConfig) -> None:
        super().__init__()
        self.encoder = PictureEncoder(6, config)  # E_l
        self.fuse = nn.Conv2d(2 * config.wide, config.wide, 3, padding=1)
        self.blocks = nn.Sequential(*(ResBlock(config.wide) for _ in range(config.blocks)))
        start_as_identity(self.fuse, self.blocks)  # learning begins where it would without lips

    def encode(self, lips: Tensor, sketches: Tensor) -> Tensor:
        """(1|B, M, w, S/2, S/2) of lips and their sketches (1|B, M, 3, S, S)."""
        _, wide = self.encoder.encode(torch.cat([lips, sketches], 2).flatten(0, 1))
        share = conv2d(wide, self.fuse.weight[:, wide.shape[1] :], padding=1)
        return share.unflatten(0, lips.shape[:2])

    def forward(self, frames: Tensor, lips: Tensor, at_once: int = 0) -> Tensor:
        """(B, w, S/2, S/2) of the frames' features in the same shape and of `encode`'s; a few lips at a time."""
        own = conv2d(frames, self.fuse.weight[:, : frames.shape[1]], self.fuse.bias, padding=1)[:, None]
        total = 0.0
        for part in lips.split(at_once or lips.shape[1], 1):
            both = own + part
            total = total + self.blocks(both.flatten(0, 1)).unflatten(0, both.shape[:2]).sum(1)
        return total / lips.shape[1]


class AudioAttention(nn.Module):
    """Cross-attention of pixels to nine places of a mel chunk."""

    def __init__(self, config: LipConfig) -> None:
        super().__init__()
        self.audio_encoder = mel_layers(config.audio, whole=False)  # E_a, cut where it has 3 × 3 places
        self.tokens = nn.Conv2d(config.audio[3], config.audio[4], 1)
        self.to_q = nn.Conv2d(config.wide, config.attention, 1)
        self.to_k = nn.Conv2d(config.audio[4], config.attention, 1)
        self.to_v = nn.Conv2d(config.audio[4], config.wide, 1)
        self.scale = config.attention**-0.5 if config.attn_scale else 1.0
        self.residual = config.residual

    def forward(self, x: Tensor, mel: Tensor) -> Tensor:
        """(B, w, h, h) features and (B, 80, 16) mel chunks to (B, w, h, h)."""
        tokens = self.tokens(self.audio_encoder(mel[:, None]))  # (B, A, 3, 3)
        queries, keys, values = (
            y.flatten(2).transpose(1, 2) for y in (self.to_q(x), self.to_k(tokens), self.to_v(tokens))
        )
        heard = scaled_dot_product_attention(queries, keys, values, scale=self.scale)
        heard = heard.transpose(1, 2).reshape(x.shape)
        return x + heard if self.residual else heard


class Rendering(PictureEncoder):
    """The paper's rendering M_r; its own encoder is that of the masked frame and the sketches."""

    def __init__(self, config: LipConfig) -> None:
        super().__init__(3 + SKETCH_CHANNELS, config)
        self.lips = LipFusion(config) if config.has_lips else None
        self.sound = AudioAttention(config) if config.has_sound else None
        self.spade_1 = Spade(config.wide, 2 * config.wide, config.hidden, config.decoder)
        self.shuffle = nn.PixelShuffle(2)
        self.spade_2 = Spade(config.middle, 2 * config.narrow, config.hidden, config.decoder)
        pictures = 3 if config.lip_guide and config.has_lips else 2  # that guide the last block
        self.spade_3 = Spade(config.middle, 3 * pictures, config.hidden, config.decoder)
        self.keeps = config.keep_references and config.ablate != "align"  # else there are none to keep
        self.conv_last = nn.Conv2d(config.middle, 3, 7, padding=3)
        if self.keeps:  # learning begins with the aligned references themselves
            nn.init.zeros_(self.conv_last.weight)
            nn.init.zeros_(self.conv_last.bias)

    def forward(
        self,
        masked: Tensor,
        sketches: Tensor,
        guide: Aligned,
        lips: Tensor | None,
        mel: Tensor | None,
        at_once: int = 0,
        share: float = 1.0,
        base: Tensor | None = None,
    ) -> Tensor:
        """(B, 3, S, S) pictures in 0..1.

        Args:
            masked: (B, 3, S, S) with black lower halves.
            sketches: (B, 15, S, S).
            guide: of the frames' visible halves and of references, concatenated: 6, 2n and 2w channels; pictures have
                three more, of lip references, where `lip_guide` is on.
            lips: of `LipFusion.encode`; None where the lip module is ablated.
            mel: (B, 80, 16); None where sound is ablated.
            at_once: lips that are fused together; 0: all.
            share: of what is painted, where it is added to `base`.
            base: (B, 3, S, S) pictures that what is painted is added to; None: aligned references.
        """
        base = guide.picture[:, 3:6] if base is None else base
        if self.keeps and share == 0:
            return _joined(masked, base)
        _, x = self.encode(torch.cat([masked, sketches], 1))
        if self.lips is not None:
            x = self.lips(x, lips, at_once)
        if self.sound is not None:
            x = self.sound(x, mel)
        x = self.shuffle(self.spade_1(x, self.spade_1.maps(guide.wide.to(x))))
        x = self.spade_2(x, self.spade_2.maps(guide.narrow.to(x)))
        x = self.spade_3(x, self.spade_3.maps(guide.picture.to(x)))
        if not self.keeps:
            return torch.sigmoid(self.conv_last(leaky_relu(x, LAST_SLOPE)))
        made = self.conv_last(leaky_relu(x, SLOPE))
        return (_joined(masked, base) + share * torch.tanh(SHARE * made)).clamp(0, 1)


def _joined(masked: Tensor, base: Tensor) -> Tensor:
    """(B, 3, S, S) visible upper halves above the lower halves of other pictures."""
    joined, half = masked.clone(), masked.shape[-2] // 2
    joined[..., half:, :] = base[..., half:, :].to(masked)
    return joined
