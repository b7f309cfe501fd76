"""SyncNet v2: embeddings (1024) of five frames of a mouth and of a fifth of a second of sound.

Shapes: B windows.
Source: Chung and Zisserman 2016, "Out of time"; layer sizes and names as its published file has them (102 tensors).
"""

from __future__ import annotations

from torch import Tensor, nn

from ...checks import check_shape

WIDTH = 1024  # of both outputs
NUM_FRAMES, CROP_PX = 5, 224
NUM_CEPSTRA, NUM_COLUMNS = 13, 20  # columns of 10 ms


def _joined(conv: nn.Module, norm: type[nn.Module], *extra: nn.Module) -> list[nn.Module]:
    return [conv, norm(conv.out_channels), nn.ReLU(), *extra]


def _sound(cin: int, cout: int, kernel: int | tuple[int, int] = 3, padding: int = 1, *extra: nn.Module) -> list:
    return _joined(nn.Conv2d(cin, cout, kernel, padding=padding), nn.BatchNorm2d, *extra)


def _sight(cin: int, cout: int, kernel: tuple, stride: int, padding: int, pool: int | None = None) -> list:
    """One layer; `pool` is the padding of the pooling after it, None for no pooling."""
    conv = nn.Conv3d(cin, cout, kernel, (1, stride, stride), (0, padding, padding))
    pooling = [] if pool is None else [nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, pool, pool))]
    return _joined(conv, nn.BatchNorm3d, *pooling)


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, WIDTH))


class SyncNet(nn.Module):
    """The lip and the sound encoder; `load_syncnet` loads their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_sound(1, 64, 3, 1, nn.Identity()),  # the file counts a pooling of 1×1 here
            *_sound(64, 192, 3, 1, nn.MaxPool2d(3, (1, 2))),
            *_sound(192, 384),
            *_sound(384, 256),
            *_sound(256, 256, 3, 1, nn.MaxPool2d(3, 2)),
            *_sound(256, 512, (5, 4), 0),
        )
        self.netfcaud = _head()
        self.netfclip = _head()
        self.netcnnlip = nn.Sequential(
            *_sight(3, 96, (5, 7, 7), 2, 0, pool=0),
            *_sight(96, 256, (1, 5, 5), 2, 1, pool=1),
            *_sight(256, 256, (1, 3, 3), 1, 1),
            *_sight(256, 256, (1, 3, 3), 1, 1),
            *_sight(256, 256, (1, 3, 3), 1, 1, pool=0),
            *_sight(256, 512, (1, 6, 6), 1, 0),
        )

    def lips(self, frames: Tensor) -> Tensor:
        """Windows of frames to features.

        Args:
            frames: (B, 3, 5, 224, 224), BGR 0..255.

        Returns:
            (B, 1024).
        """
        check_shape(frames, f"B 3 {NUM_FRAMES} {CROP_PX} {CROP_PX}", "the frames for SyncNet")
        return self.netfclip(self.netcnnlip(frames).flatten(1))

    def sound(self, cepstra: Tensor) -> Tensor:
        """Windows of sound to features.

        Args:
            cepstra: (B, 1, 13, 20).

        Returns:
            (B, 1024).
        """
        check_shape(cepstra, f"B 1 {NUM_CEPSTRA} {NUM_COLUMNS}", "the cepstra for SyncNet")
        return self.netfcaud(self.netcnnaud(cepstra).flatten(1))
