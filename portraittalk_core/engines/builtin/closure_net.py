"""Convolutional network that hears where lips close and tuck: classes of speech sounds from a log-mel spectrogram.

The mouth network follows movement by regression, and takes what it doubts for half a movement; half a closure is none.
This one says how probable a closure is, every 10 ms, and closes the lips where it is probable enough.

Source: own design; temporal convolutions with dilation as in Bai, Kolter and Koltun, arXiv 1803.01271.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...speech.mel import NUM_MELS
from ...types import MOUTH_PARAMETERS
from .mouth_net import STRIDE, DilatedLayer

# sounds by what lips do, where they are alike to the ear: the first three close and tuck them, "" is silence
CLASSES = (
    "pb", "mβ", "fv", "", "td", "nɲŋ", "kɡ", "sz", "ʃʒç", "θð", "hʔx", "lʎɾrʁ", "ɹɚ", "jiɪeɨy", "wɥuʊɯoʏ", "ɛæ",
    "aɑɐʌɒɔ", "əɜøœɤ",
)  # fmt: skip
STOP, NASAL, LABIODENTAL, SILENT = range(4)
LAYERS = ((1, 1), (1, 1), (2, 2), (4, 4), (4, 4))  # dilation, and how many frames of 10 ms a layer looks ahead
ENTRY = 5  # frames of 10 ms that the first layer sees at once
DROPPED = 0.3  # share of what layers add that is left out in training, so that made voices are not learnt by heart
_OPENING, _RAISE, _TUCK, _PRESS = (MOUTH_PARAMETERS.index(name) for name in ("opening", "raise_upper", "tuck", "press"))

# probabilities at which lips begin to meet, and meet; at which the lower lip begins to tuck, and is tucked
MEETING, TUCKING = (0.0, 0.11), (0.05, 0.25)
SURE = (0.2, 0.6)  # by how much more probable a tuck than a closure begins to keep lips from pressing, and keeps them
TUCKED_OPENING = 0.16  # of the mouth network's opening: the lower lip stands at the edge of the upper teeth, no farther
TUCKED_RAISE = 0.4  # how far the upper lip is lifted there at least, so that the teeth are seen
APART = 0.45  # of the mouth network's opening: lips that it hears so far apart do not meet, however probable that is


class ClosureNet(nn.Module):
    """Normalised log-mel (B, M, 80) at 100 Hz to logits (B, M, classes) at 100 Hz, columns as CLASSES.

    Args:
        width: channels inside.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.width = width
        self.enter = nn.Conv1d(NUM_MELS, width, ENTRY, padding=ENTRY // 2)
        self.layers = nn.Sequential(*(DilatedLayer(width, dilation, ahead, DROPPED) for dilation, ahead in LAYERS))
        self.leave = nn.Conv1d(width, len(CLASSES), 1)

    def forward(self, mel: Tensor) -> Tensor:
        """The logits."""
        return self.leave(self.layers(F.gelu(self.enter(mel.transpose(1, 2))))).transpose(1, 2)

    def closing(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """(B, ceil(M / 2)) each at 50 Hz: how probable closed lips are 10 ms later, and a tucked lower lip."""
        probability = self(mel).softmax(-1)
        closed = probability[..., STOP] + probability[..., NASAL]
        closed = torch.cat([closed[:, 1:], closed[:, -1:]], 1)[:, ::STRIDE]
        tucked = F.max_pool1d(probability[:, None, :, LABIODENTAL], STRIDE + 1, STRIDE, 1)[:, 0]
        return closed, tucked


AHEAD_FRAMES = sum(ahead for _, ahead in LAYERS) + ENTRY // 2 + 1  # of 10 ms, that `closing` looks ahead


def with_closures(outputs: Tensor, closed: Tensor, tucked: Tensor, pressed: tuple[float, float]) -> Tensor:
    """A mouth network's outputs, with lips that press and tuck at least as much as is probable.

    Where a tuck is surer than a closure the lips do not press, and part no farther than a tucked lip does.

    Args:
        outputs: (T, 8) as OUTPUTS.
        closed: (T,) probability of closed lips, as of `ClosureNet.closing`; counts less, the wider the opening.
        tucked: (T,) probability that the lower lip is tucked.
        pressed: outputs of `press` at which lips begin to meet, and meet.

    Returns:
        (T, 8).
    """
    begin, full = pressed
    result = outputs.clone()
    meeting = closed * (1 - (outputs[:, _OPENING] / APART).clamp(0, 1))
    press = torch.maximum(outputs[:, _PRESS], begin + (full - begin) * _risen(meeting, MEETING))
    sure = _risen(tucked - closed, SURE)
    result[:, _PRESS] = torch.lerp(press, press.clamp(max=begin), sure)
    result[:, _OPENING] = torch.lerp(outputs[:, _OPENING], outputs[:, _OPENING].clamp(max=TUCKED_OPENING), sure)
    result[:, _RAISE] = torch.maximum(outputs[:, _RAISE], TUCKED_RAISE * sure)
    result[:, _TUCK] = torch.maximum(outputs[:, _TUCK], _risen(tucked, TUCKING))
    return result


def _risen(probability: Tensor, limits: tuple[float, float]) -> Tensor:
    low, high = limits
    return ((probability - low) / (high - low)).clamp(0, 1)
