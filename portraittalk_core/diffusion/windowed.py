"""Denoising of a long video section in overlapping windows, fused at every step; each window has its own control hints.

Shapes: T frames of a section, O of them finished already, L frames of a window, h and w latent pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..checks import check_choice, check_range
from ..errors import InputError
from .denoiser import Condition, Denoiser
from .windows import fuse, static_windows, weights_of

MODES = ("chunked", "sliding")
SECTION_WINDOWS = 4  # windows in a section of "sliding": what is in memory does not grow with the video


@dataclass(frozen=True)
class VideoOptions:
    """Window length, overlap and fusion of long videos."""

    mode: str = "chunked"  # the last frames of a chunk begin the next; or "sliding": overlapping windows, fused
    length: int = 16  # frames of a window, all that the network takes at once
    overlap: int = 4  # frames that neighbours share
    fusing: str = "pyramid"  # weights in a window of "sliding", see `windows.window_weights`

    def __post_init__(self) -> None:
        check_choice(self.mode, MODES, "mode")
        check_range(self.length, 1, 256, "the window's length")
        if not 0 <= self.overlap < self.length:
            raise InputError(
                f"an overlap of {self.overlap} does not fit windows of {self.length}; take 0 to {self.length - 1}."
            )

    @property
    def section(self) -> int:
        """Number of frames that are denoised together."""
        if self.mode == "chunked":
            return self.length
        return self.length + (SECTION_WINDOWS - 1) * (self.length - self.overlap)


class WindowedDenoiser:
    """denoiser(x, sigma, cond) → denoised over a section of a video.

    Args:
        denoiser: of one window; its control, if any, gets the window's frame numbers.
        first: number of the section's first frame in the video.
        options: windows and how they are fused.
        fixed: (O, 4, h, w) clean latents of the first frames, which stay as they are; None for none.
    """

    def __init__(self, denoiser: Denoiser, first: int, options: VideoOptions, fixed: Tensor | None = None) -> None:
        self.denoiser, self.first, self.options, self.fixed = denoiser, first, options, fixed
        self._weights: tuple[int, Sequence[range], list[Tensor]] | None = None

    def __call__(self, x: Tensor, sigma: float, cond: Condition) -> Tensor:
        """Denoised latents (T, 4, h, w) of noisy latents."""
        windows, weights = self._windows(x)
        if len(windows) == 1:
            denoised = self._window(x, windows[0], sigma, cond)
        else:
            denoised = fuse((self._window(x, w, sigma, cond) for w in windows), windows, weights, len(x))
        if self.fixed is not None:
            self.fixed = self.fixed.to(denoised)  # a copy at every step would make the host wait
            denoised[: len(self.fixed)] = self.fixed
        return denoised

    def _window(self, x: Tensor, window: range, sigma: float, cond: Condition) -> Tensor:
        frames = range(self.first + window.start, self.first + window.stop)
        self.denoiser.batch.frames = frames
        if self.denoiser.control is not None:
            self.denoiser.control.frames = frames
        return self.denoiser(x[window.start : window.stop], sigma, cond)

    def _windows(self, x: Tensor) -> tuple[Sequence[range], list[Tensor]]:
        if self._weights is None or self._weights[0] != len(x):
            windows = static_windows(len(x), self.options.length, self.options.overlap)
            weights = weights_of(windows, len(x), self.options.fusing, self.options.overlap)
            self._weights = (len(x), windows, [weight.to(x.device) for weight in weights])
        return self._weights[1:]
