"""Sampling of a window's motion: all steps of the diffusion with noise, or fewer without.

Source: Ho et al., DDPM (arXiv 2006.11239), equations 6 and 7, for a network that predicts the motion itself; Song et
al., DDIM (arXiv 2010.02502), equation 12 with σ = 0; Ho and Salimans, classifier-free guidance (arXiv 2207.12598).

Shapes: N frames of a window, P frames before it, M numbers of a frame's motion, D channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .network import MotionGenerator


@dataclass(frozen=True)
class Sampler:
    """Samples one window after another."""

    network: MotionGenerator
    guidance: float  # how much more than without sound; 1 is as the sound has it
    steps: int = 0  # of the diffusion; 0 takes all, with noise

    def __len__(self) -> int:
        """Number of steps of a window."""
        return self.network.size.steps if self.steps == 0 else min(self.steps, self.network.size.steps)

    def windows(
        self, sounds: Iterator[Tensor], generator: torch.Generator, on_step: Callable[[], None] | None = None
    ) -> Iterator[Tensor]:
        """(N, M) motion of each window, which goes on from the one before.

        Args:
            sounds: (1, N, D) of `audio_feature_map` for each window.
            generator: of the noise, on the CPU, so that a seed gives the same motion on every device. All windows begin
                with the same noise.
            on_step: called after each step; may raise to stop.
        """
        net, size = self.network, self.network.size
        motion, sound_before = net.start_motion_feat, net.start_audio_feat
        noise = None
        for sound in sounds:
            if noise is None:
                noise = torch.randn(1, size.frames, size.motion, generator=generator)
            silent = net.null_audio_feat.expand_as(sound)
            both = torch.cat([torch.cat([sound_before, said], 1) for said in (silent, sound)])
            window = self._window(motion, net.denoising_net.audio_attention(both), noise, generator, on_step)
            motion, sound_before = window[:, -size.previous :], sound[:, -size.previous :]
            yield window[0]

    def _window(
        self,
        before: Tensor,
        audio_attention: list[Tensor],
        noise: Tensor,
        generator: torch.Generator,
        on_step: Callable[[], None] | None,
    ) -> Tensor:
        """(1, N, M) from (1, P, M) motion before it and each layer's cross-attention, without audio and with it."""
        x, times = noise.to(before.device), self.times()
        for step, following in zip(times, [*times[1:], 0], strict=True):
            both = torch.cat([before, x], 1).expand(2, -1, -1)
            denoised = self.network.denoising_net(both, audio_attention, step)[:, -x.shape[1] :]
            unconditional, conditional = denoised.split(1)
            clean = unconditional + self.guidance * (conditional - unconditional)
            x = self._jump(x, clean, step, following) if self.steps else self._step(x, clean, step, generator)
            if on_step:
                on_step()
        return x

    def times(self) -> list[int]:
        """Numbers of the steps that are taken, falling."""
        return torch.linspace(self.network.size.steps, 1, len(self)).round().int().tolist()

    def _step(self, x: Tensor, clean: Tensor, step: int, generator: torch.Generator) -> Tensor:
        """One step back, with noise, but the last."""
        schedule = self.network.diffusion_sched
        alpha, bar, before = schedule.alphas[step], schedule.alpha_bars[step], schedule.alpha_bars[step - 1]
        mean = ((1 - before) * alpha.sqrt() * x + (1 - alpha) * before.sqrt() * clean) / (1 - bar)
        if step == 1:
            return mean
        return mean + schedule.sigmas_inflex[step] * torch.randn(x.shape, generator=generator).to(x.device)

    def _jump(self, x: Tensor, clean: Tensor, step: int, following: int) -> Tensor:
        """Back to another step without noise."""
        bars = self.network.diffusion_sched.alpha_bars
        noise = (x - bars[step].sqrt() * clean) / (1 - bars[step]).sqrt()
        return bars[following].sqrt() * clean + (1 - bars[following]).sqrt() * noise
