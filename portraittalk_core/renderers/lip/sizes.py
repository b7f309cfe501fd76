"""Sizes of the networks that paint mouths; the defaults are those of IP-LAP's public file and of the paper."""

from __future__ import annotations

from dataclasses import dataclass

from ...checks import check_choice, check_range
from ...errors import InputError

SKETCHES = 5  # drawn frames around the one to be painted
SKETCH_CHANNELS = 3 * SKETCHES
ABLATIONS = ("none", "align", "align-mean", "lips", "audio")
FACE, NOSE_TO_CHIN = FRAMINGS = ("face", "nose-to-chin")
IPLAP_DECODER, SPADE_DECODER = DECODERS = ("iplap", "spade")
MIN_SIDE, MAX_SIDE = 16, 1024  # of crops
MAX_WIDTH = 65536


@dataclass(frozen=True)
class LipSizes:
    """Of the layers that IP-LAP's networks and the paper's share."""

    size: int = 128  # side of the crops
    narrow: int = 32  # channels at full size
    wide: int = 256  # channels at half the size
    hidden: int = 256  # of the maps that scale and shift features
    audio: tuple[int, ...] = (32, 64, 128, 256, 512)  # of the mel encoder's stages; the last is of what is heard

    def __post_init__(self) -> None:
        _check_whole(self.size, MIN_SIDE, MAX_SIDE, "size")
        if self.size % 2:
            raise InputError(f"`size` of a lip renderer must be even, not {self.size}.")
        for name in ("narrow", "wide", "hidden"):
            _check_whole(getattr(self, name), 1, MAX_WIDTH, name)
        if self.wide % 4:
            raise InputError(f"`wide` of a lip renderer must be a multiple of 4, not {self.wide}.")
        if len(self.audio) != 5:
            raise InputError(f"`audio` of a lip renderer must be five widths, not {len(self.audio)}.")
        for width in self.audio:
            _check_whole(width, 1, MAX_WIDTH, "audio")

    @property
    def middle(self) -> int:
        """Channels at full size after half-size features were shuffled into it."""
        return self.wide // 4


@dataclass(frozen=True)
class LipConfig(LipSizes):
    """Of the paper's renderer, which its file carries.

    Source: J. Wu et al., "Talking Face Generation with Lip and Identity Priors", sections 3.2.1, 3.2.2 and
    4.3 to 4.5; `docs/design/lips.md` 3.
    """

    blocks: int = 2  # residual blocks where features of two encoders are fused
    attention: int = 256  # channels of queries, keys and values
    attn_scale: bool = True  # products over the root of the channels; the paper's formula has no such divisor
    residual: bool = True  # what is heard is added to the features, instead of replacing them
    keep_references: bool = False  # ours: what is painted is added to the aligned references
    half_flow: bool = False  # ours: flows are told at half the size, for about half the work
    framing: str = FACE  # ours besides the whole face: nose-to-chin, whose mouth has more of the crop's pixels
    usual_references: int = 25  # how many it paints with where no number is given; IP-LAP's
    usual_lips: int = 5  # and lip references
    nearest: int = 0  # ours: each frame is painted from so many references, whose mouths are most alike; 0: from all
    nearest_lips: int = 0  # ours: and from so many lip references; 0: from all
    lip_guide: bool = False  # ours: lip references guide the last block as well, at full size
    lip_warp: bool = False  # ours: warped to the frame's landmarks before they guide; what is painted is added to them
    decoder: str = IPLAP_DECODER  # SPADE blocks: IP-LAP's; spade: SPADE's own, with batch norm and a shortcut
    ablate: str = "none"  # align: no references; align-mean: their unwarped mean; lips: no lip references; audio
    crop_pad_px: float = 25.0  # around the face, as it was trained
    crop_pad_share: float = 0.0  # and of the longer side of the landmarks' box

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.ablate, ABLATIONS, "`ablate` of a lip renderer")
        check_choice(self.decoder, DECODERS, "`decoder` of a lip renderer")
        check_choice(self.framing, FRAMINGS, "`framing` of a lip renderer")
        if self.lip_warp and not self.lip_guide:
            raise InputError("`lip_warp` of a lip renderer warps the pictures of `lip_guide`; turn that on too.")
        for name in ("usual_references", "usual_lips"):
            _check_whole(getattr(self, name), 1, 100, name)
        for name in ("nearest", "nearest_lips"):
            _check_whole(getattr(self, name), 0, 100, name)
        _check_whole(self.blocks, 0, 64, "blocks")
        _check_whole(self.attention, 1, MAX_WIDTH, "attention")
        check_range(self.crop_pad_px, 0, 1000, "`crop_pad_px` of a lip renderer")
        check_range(self.crop_pad_share, 0, 2, "`crop_pad_share` of a lip renderer")

    @property
    def has_lips(self) -> bool:
        """Whether there is a lip module."""
        return self.ablate != "lips"

    @property
    def has_sound(self) -> bool:
        """Whether sound is heard."""
        return self.ablate != "audio"


def _check_whole(value: object, low: int, high: int, name: str) -> None:
    check_range(value, low, high, f"`{name}` of a lip renderer")
    if not isinstance(value, int):
        raise InputError(f"`{name}` of a lip renderer must be a whole number, not {value!r}.")
