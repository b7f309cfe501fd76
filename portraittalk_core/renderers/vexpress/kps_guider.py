"""Keypoint guider: features of keypoint drawings that are added after the UNet's first convolution.

Source: V-Express (Wang et al. 2024), section 3.2, after ControlNet's embedding of its condition;
`docs/design/vexpress.md` 1.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from ...checks import check_shape

WIDTHS = (16, 32, 96, 256)  # of the public file


class KpsGuider(nn.Module):
    """Convolutions, three of them with stride 2; the output layer is initialised to zero.

    Args:
        out: channels behind the UNet's first convolution.
        widths: of the stack.
    """

    def __init__(self, out: int = 320, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for narrow, wide in pairwise(widths):
            self.blocks.append(nn.Conv2d(narrow, narrow, 3, padding=1))
            self.blocks.append(nn.Conv2d(narrow, wide, 3, padding=1, stride=2))
        self.conv_out = nn.Conv2d(widths[-1], out, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def forward(self, drawings: Tensor) -> Tensor:
        """(B, out, H/8, W/8) of drawings (B, 3, H, W) float 0..1."""
        x = check_shape(drawings, "B 3 H W", "drawings of key points")
        for layer in (self.conv_in, *self.blocks):
            x = nn.functional.silu(layer(x))
        return self.conv_out(x)
