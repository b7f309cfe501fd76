"""Voice activity detection: a network says where somebody speaks or sings, levels say exactly when.

The network (`voice_network`) tells a voice from music, noise and breath, but follows a phrase, not its words. The
levels of two bands follow every short silence within a phrase, but take any sound for a voice. What is active is both;
where noise hides the pauses, the network alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..types import Speech
from .mel import HOP, band_levels
from .voice_network import WINDOW, LiveVoice, voice_probability

SPEECH_BANDS_HZ = ((150.0, 1000.0), (1000.0, 3800.0))
LOWEST_GATE_DB = -80.0  # at this gate every sound counts as a voice
SILENT_DB = -65.0  # mel power below this is no speech at any gate
ABOVE_NOISE_DB = 7.0  # speech must rise above the steady noise by this much
FLOOR_FRAMES = 1000  # of 10 ms: noise is what remains between words within this reach
HANGOVER_FRAMES = 8  # of 10 ms: short gaps inside a word stay open
MASKED_DB, CLEAR_DB = 10.0, 20.0  # voices so far above the noise hide their pauses in it, and show them

CERTAIN, DOUBTFUL = 0.5, 0.1  # a voice is where the network is certain, and as long as it is not below doubt
MIN_CERTAIN = 4  # windows of 32 ms: one certain for less is a note or a click
BEFORE_FRAMES, AFTER_FRAMES = 40, 20  # of 10 ms: a voice may be there so long before and after the network hears it
BRIDGED = 8  # windows in doubt within a phrase that do not end it
LIVE_CERTAIN = 2  # windows that open the live gate, which cannot wait for four
NOTE_WINDOWS = 10  # of 32 ms: a voice certain for so long may hold a note,
NOTE_FRAMES, NOTE_DB = 300, 12.0  # of 10 ms: at most so long, and no quieter than so far below the voice


def voice_activity(speech: Speech, gate_db: float = -45.0) -> Tensor:
    """Voice activity of every 10 ms.

    The level is measured against the clip's own voices and noise, so neither loudness nor noise matters.

    Args:
        speech: the clip.
        gate_db: sound this far below the level of the clip's voices counts as silence, −80..0; at −80 every sound
            counts as a voice.

    Returns:
        (samples // 160 + 1,) 0..1, 100 a second.
    """
    return activity_of_levels(band_levels(speech, SPEECH_BANDS_HZ), speech, gate_db)


def activity_of_levels(levels: Tensor, speech: Speech, gate_db: float) -> Tensor:
    """`voice_activity` of a clip whose levels of `SPEECH_BANDS_HZ`, (M, 2) decibels at 100 a second, are known."""
    level = levels.amax(1)
    if gate_db <= LOWEST_GATE_DB:
        return _rises_above(level, (_quantile(level, 0.95) + gate_db).clamp(min=SILENT_DB))
    probability = voice_probability(speech)
    voice = _phrases(probability, MIN_CERTAIN)
    if not voice.any():
        return torch.zeros_like(level)
    at = torch.arange(len(level)) * HOP // WINDOW  # the window that holds the middle of each 10 ms
    at = at.clamp(max=len(voice) - 1)
    heard = voice[at] & (level > SILENT_DB)
    if not heard.any():
        return torch.zeros_like(level)
    loud, present, clear = _above_the_noise(level, heard, gate_db)
    reach = F.pad(voice[at].float()[None], (AFTER_FRAMES, BEFORE_FRAMES))
    near = F.max_pool1d(reach, BEFORE_FRAMES + AFTER_FRAMES + 1, 1)[0]
    held = _held_notes(_phrases(probability, NOTE_WINDOWS)[at], (clear == 1) & (level > loud - NOTE_DB))
    return present * torch.maximum(near, held)


def present_levels(levels: Tensor, heard: Tensor, gate_db: float) -> Tensor:
    """Where the levels of a voice stand above the noise, without asking the network again.

    Args:
        levels: (M, 2) decibels of `SPEECH_BANDS_HZ`, 100 a second.
        heard: (M,) bool: where the network hears a voice.
        gate_db: as of `voice_activity`.

    Returns:
        (M,) 0..1; 1 throughout where noise hides the pauses, 0 where no voice is heard.
    """
    level = levels.amax(1)
    if not heard.any():
        return torch.zeros_like(level)
    return _above_the_noise(level, heard, gate_db)[1]


def _above_the_noise(level: Tensor, heard: Tensor, gate_db: float) -> tuple[Tensor, Tensor, Tensor]:
    """The voice's level (), (M,) 0..1 where it is present, and (M,) 0..1 how clearly it stands above the noise."""
    loud = _quantile(level[heard], 0.95)
    floor = _noise_floor(level)
    clear = ((loud - floor - MASKED_DB) / (CLEAR_DB - MASKED_DB)).clamp(0, 1)
    present = _rises_above(level, torch.maximum(loud + gate_db, torch.minimum(floor + ABOVE_NOISE_DB, loud - 10)))
    return loud, 1 - clear * (1 - present), clear


def _rises_above(level: Tensor, threshold: Tensor) -> Tensor:
    """(M,) 0..1: where the level stands above a threshold, short gaps closed."""
    present = ((_average(level, 3) - threshold.clamp(min=SILENT_DB)) / 6 + 0.5).clamp(0, 1)
    closed = _widened(present, HANGOVER_FRAMES)
    # close gaps shorter than the hang, give back what that added at the outer edges
    closed = -_widened(-closed, HANGOVER_FRAMES)
    return torch.maximum(present, _average(closed, 5))


def _phrases(probability: Tensor, min_certain: int) -> Tensor:
    """(K,) bool: stretches that are not in doubt, or for a moment, of which some number of windows is certain."""
    hopeful = F.max_pool1d(F.pad((probability > DOUBTFUL).float()[None], (BRIDGED, BRIDGED)), BRIDGED + 1, 1)
    inside = -F.max_pool1d(-hopeful, BRIDGED + 1, 1)[0] > 0.5  # short gaps are closed
    begins = inside & ~F.pad(inside, (1, 0))[:-1]
    number = begins.long().cumsum(0)  # of the stretch, from 1
    certain = torch.bincount(number, weights=(inside & (probability > CERTAIN)).double())
    return inside & (certain[number] >= min_certain)


def _held_notes(voice: Tensor, loud: Tensor) -> Tensor:
    """(M,) 0 or 1: where a sound goes on without a break, as loud, that began as a voice: a singer's long note."""
    count = torch.arange(len(voice))
    last_voice = torch.where(voice, count, -1).cummax(0).values
    last_break = torch.where(loud | voice, -1, count).cummax(0).values
    return ((last_voice > last_break) & (count - last_voice <= NOTE_FRAMES)).float()


def _noise_floor(level: Tensor) -> Tensor:
    """(M,) level of the steady noise, which may change within the clip: the quietest 150 ms within 10 s.

    The higher of what lies before and after, so that a noise that sets in is followed at once.
    """
    reach = min(FLOOR_FRAMES, len(level))
    quietest = -F.max_pool1d(-_average(level, 15)[None], reach, 1)[0]  # of the windows that begin at 0, 1, …
    ends = quietest.new_ones(reach - 1)
    previous, following = torch.cat([quietest[0] * ends, quietest]), torch.cat([quietest, quietest[-1] * ends])
    return torch.maximum(previous, following)


def _quantile(level: Tensor, share: float) -> Tensor:
    return torch.quantile(level[:: max(1, len(level) // 100_000)], share)


def _widened(signal: Tensor, reach: int) -> Tensor:
    """(M,) the largest value within `reach` frames before and after each."""
    return F.max_pool1d(signal[None, None], 2 * reach + 1, 1, reach)[0, 0]


def _average(signal: Tensor, width: int) -> Tensor:
    padded = F.pad(signal[None, None], (width // 2, width // 2), mode="replicate")
    return F.avg_pool1d(padded, width, 1)[0, 0]


class LiveVoiceGate:
    """Whether somebody speaks, in sound that arrives in pieces of any size; the same in pieces as at once.

    It knows neither the clip's loudness nor what follows: it opens 64 ms after the network has become sure, and closes
    256 ms after the last sign of a voice.
    """

    def __init__(self) -> None:
        self._voice = LiveVoice()
        self._certain = 0  # windows in a row
        self._doubtful = BRIDGED  # windows in a row

    def push(self, waveform: Tensor) -> Tensor:
        """Process the next samples of a clip.

        Args:
            waveform: (N,) the next samples at 16 kHz, any number, −1..1.

        Returns:
            (K,) 0 or 1 for the windows of 512 samples that are now complete, 31.25 a second.

        Raises:
            ShapeError, InputError: another shape, or values that are not finite.
        """
        return torch.tensor([self._opened(value) for value in self._voice.push(waveform).tolist()])

    def _opened(self, probability: float) -> float:
        self._certain = self._certain + 1 if probability > CERTAIN else 0
        if self._certain >= LIVE_CERTAIN or (probability > DOUBTFUL and self._doubtful < BRIDGED):
            self._doubtful = 0
        else:
            self._doubtful = min(self._doubtful + 1, BRIDGED)
        return float(self._doubtful < BRIDGED)
