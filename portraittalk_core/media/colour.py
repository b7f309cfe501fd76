"""Conversion of HDR and wide-gamut video to the BT.709 of ordinary screens.

The FFmpeg in PyAV has no filter for it (zscale, libplacebo).

Source: Rec. ITU-R BT.2100 (PQ and HLG), BT.2390 (tone mapping), BT.2408 (reference white), BT.1886 (SDR displays).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

# FFmpeg's numbers of transfer functions and primaries (ITU-T H.273)
PQ, HLG = 16, 18
BT709, UNSPECIFIED, BT2020, P3_DCI, P3_D65 = 1, 2, 9, 11, 12

WHITE_NITS = 203.0  # of HDR's reference white, which becomes about the white of SDR
PEAK_NITS = 1000.0  # of the display that HLG is meant for, and of PQ that says nothing
HIGHEST_NITS = 10_000.0
DISPLAY_GAMMA = 2.4  # of SDR
SYSTEM_GAMMA = 1.2  # of HLG at 1000 cd/m²

D65 = (0.3127, 0.3290)
CHROMATICITIES = {  # of red, green and blue
    BT709: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    BT2020: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    P3_D65: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
HLG_LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)

FULL = 255 * 256  # the white that FFmpeg makes of a video's in 16 bits
STEPS = 16_384  # of the tables below, over the square root of light
ROWS = 64  # of a picture converted at once, for the processor's cache


@dataclass(frozen=True)
class Encoding:
    """How a video's numbers mean light: transfer function and primaries by their numbers in H.273, and peak."""

    transfer: int
    primaries: int
    peak_nits: float = PEAK_NITS  # brightest light in it; of HDR

    @property
    def name(self) -> str:
        """Its name in messages; empty where it is ordinary video."""
        if self.transfer in (PQ, HLG):
            return "HDR (PQ)" if self.transfer == PQ else "HDR (HLG)"
        return {BT2020: "of wide gamut (BT.2020)", P3_DCI: "of wide gamut (P3)", P3_D65: "of wide gamut (P3)"}.get(
            self.primaries, ""
        )


def to_bt709(pixels: np.ndarray, encoding: Encoding) -> np.ndarray:
    """Convert a picture to BT.709.

    Colours outside its gamut are clipped; bright light is compressed, with its hue, so that highlights keep their
    drawing.

    Args:
        pixels: (H, W, 3) uint16 R'G'B', 0..FULL.
        encoding: what they mean; one with a `name`.

    Returns:
        (H, W, 3) uint8 R'G'B' for an SDR display.
    """
    tables = _tables(encoding)
    out = np.empty(pixels.shape, np.uint8)
    for start in range(0, len(pixels), ROWS):
        light = tables.light[pixels[start : start + ROWS]]
        if encoding.transfer == HLG:
            scene = np.maximum(light @ HLG_LUMINANCE, 1e-9)
            light *= (PEAK_NITS * scene ** np.float32(SYSTEM_GAMMA - 1))[..., None]
        light = np.maximum(light @ tables.matrix.T, 0)
        greatest = light.max(-1)
        share = np.minimum(np.sqrt(greatest * (1 / tables.peak_nits)), 1)
        light *= tables.gain[(share * (STEPS - 1) + 0.5).astype(np.int32)][..., None]
        level = np.minimum(np.sqrt(light), 1) * (STEPS - 1) + 0.5
        out[start : start + ROWS] = tables.signal[level.astype(np.int32)]
    return out


def eetf(nits: np.ndarray, peak_nits: float, white_nits: float = WHITE_NITS) -> np.ndarray:
    """BT.2390's tone curve: light of up to `peak_nits` on a display that reaches `white_nits`; both in cd/m²."""
    if peak_nits <= white_nits:
        return np.minimum(nits, white_nits)
    top, white = pq_signal(np.array([peak_nits, white_nits]))
    signal, white = np.minimum(pq_signal(nits) / top, 1), white / top
    knee = 1.5 * white - 0.5
    t = np.clip((signal - knee) / (1 - knee), 0, 1)
    bent = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * white
    return pq_light(np.where(signal < knee, signal, bent) * top)


_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def pq_light(signal: np.ndarray) -> np.ndarray:
    """Light in cd/m² of PQ signals 0..1 (BT.2100, table 4)."""
    root = np.asarray(signal, np.float64) ** (1 / _M2)
    return HIGHEST_NITS * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1)


def pq_signal(nits: np.ndarray) -> np.ndarray:
    """PQ signals 0..1 of light in cd/m²."""
    root = (np.asarray(nits, np.float64) / HIGHEST_NITS) ** _M1
    return ((_C1 + _C2 * root) / (1 + _C3 * root)) ** _M2


def hlg_scene(signal: np.ndarray) -> np.ndarray:
    """Scene light 0..1 of HLG signals 0..1 (BT.2100, table 5)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    signal = np.asarray(signal, np.float64)
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)


def gamut_matrix(primaries: int) -> np.ndarray:
    """(3, 3) from linear RGB of other primaries, white D65, to BT.709's."""
    return np.linalg.inv(_to_xyz(CHROMATICITIES[BT709])) @ _to_xyz(CHROMATICITIES[primaries])


def _to_xyz(chromaticities: tuple) -> np.ndarray:
    corners = np.array([(x / y, 1, (1 - x - y) / y) for x, y in chromaticities]).T
    white = np.array([D65[0] / D65[1], 1, (1 - D65[0] - D65[1]) / D65[1]])
    return corners * np.linalg.solve(corners, white)


@dataclass(frozen=True)
class _Tables:
    light: np.ndarray  # (65536,) float32: cd/m² of a signal, of HLG scene light
    matrix: np.ndarray  # (3, 3) float32
    peak_nits: float
    gain: np.ndarray  # (STEPS,) float32 from cd/m² to parts of SDR's white, by √(light / peak)
    signal: np.ndarray  # (STEPS,) uint8 by √light


@functools.lru_cache(maxsize=8)
def _tables(encoding: Encoding) -> _Tables:
    signal = np.minimum(np.arange(65_536) / FULL, 1)
    hdr = encoding.transfer in (PQ, HLG)
    peak_nits = encoding.peak_nits if hdr else WHITE_NITS
    if encoding.transfer == PQ:
        light = pq_light(signal)
    elif encoding.transfer == HLG:
        light = hlg_scene(signal)
    else:
        light = WHITE_NITS * signal**DISPLAY_GAMMA
    primaries = P3_D65 if encoding.primaries == P3_DCI else encoding.primaries
    if primaries not in CHROMATICITIES:
        primaries = BT2020
    steps = np.arange(STEPS) / (STEPS - 1)
    nits = np.maximum(peak_nits * steps**2, 1e-6)
    return _Tables(
        light.astype(np.float32),
        gamut_matrix(primaries).astype(np.float32),
        peak_nits,
        (eetf(nits, peak_nits) / nits / WHITE_NITS).astype(np.float32),
        np.round(255 * steps ** (2 / DISPLAY_GAMMA)).astype(np.uint8),
    )
