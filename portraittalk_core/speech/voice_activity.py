"""Voice activity detection: a network says where somebody speaks or sings, levels say exactly when.

The network (`voice_network`) tells a voice from music, noise and breath, but follows a phrase, not its words. The
levels of two bands follow every short silence within a phrase, but take any sound for a voice. What is active is both;
where noise hides the pauses, the network alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ..types import Speech
from .blocks import in_blocks, in_step
from .mel import HOP, band_levels
from .voice_network import WINDOW, LiveVoice, iterate_voice_probability

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
# of 10 ms: how far the activity of a moment looks back and ahead; averages and short gaps take 30
BEHIND, AHEAD = FLOOR_FRAMES + NOTE_FRAMES + 30, FLOOR_FRAMES + 30


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
    return activity_and_level(levels, speech, gate_db)[0]


def activity_and_level(levels: Tensor, speech: Speech, gate_db: float) -> tuple[Tensor, Tensor | None]:
    """`activity_of_levels`, and the level () in decibels of the clip's voice; None where there is no voice."""
    rows = torch.cat([rows for rows in _rows([levels], speech, gate_db, len(levels))])
    level, voice, _ = rows.unbind(1)
    counts = (voice > 0) & ((level > SILENT_DB) | (gate_db <= LOWEST_GATE_DB))
    if not counts.any():
        return torch.zeros_like(level), None
    loud = _quantile(level[counts], 0.95)
    return _activity(rows, loud, gate_db), loud


def iterate_activity(levels: Iterable[Tensor], speech: Speech, gate_db: float, loud: Tensor) -> Iterator[Tensor]:
    """`voice_activity` of a clip in blocks, the voice's level being known; the first comes after half a minute.

    Args:
        levels: blocks of (M, 2) decibels of `SPEECH_BANDS_HZ`, 100 a second.
        speech: the clip.
        gate_db: as of `voice_activity`.
        loud: () decibels, the voice's level.

    Yields:
        (n,) 0..1, together M.
    """
    rows = _rows(levels, speech, gate_db, len(speech.waveform) // HOP + 1)
    return in_blocks(lambda piece: _activity(piece, loud, gate_db), rows, BEHIND, AHEAD, least=2 * FLOOR_FRAMES)


def _rows(levels: Iterable[Tensor], speech: Speech, gate_db: float, count: int) -> Iterator[Tensor]:
    """Blocks of (n, 3), 100 a second: the level in decibels, and 0 or 1 for a voice, and for one that may hold a note.

    Args:
        levels: blocks of (M, 2) decibels.
        speech: the clip.
        gate_db: at the lowest one the network is not asked: all counts as a voice.
        count: M.
    """
    if gate_db <= LOWEST_GATE_DB:
        for block in levels:
            yield F.pad(block.amax(1, keepdim=True), (0, 2), value=1.0)
        return
    for block, voice in in_step(levels, _at_frames(_voices(iterate_voice_probability(speech)), count)):
        yield torch.cat([block.amax(1, keepdim=True), voice], 1)


def _activity(rows: Tensor, loud: Tensor, gate_db: float) -> Tensor:
    """(M,) 0..1 of (M, 3) rows as of `_rows`, `loud` () being the voice's level in decibels."""
    level, voice, note = rows.unbind(1)
    if gate_db <= LOWEST_GATE_DB:
        return _rises_above(level, (loud + gate_db).clamp(min=SILENT_DB))
    present, clear = _above_the_noise(level, loud, gate_db)
    reach = F.pad(voice[None], (AFTER_FRAMES, BEFORE_FRAMES))
    extended = F.max_pool1d(reach, BEFORE_FRAMES + AFTER_FRAMES + 1, 1)[0]
    notes = _held_notes(note > 0, (clear == 1) & (level > loud - NOTE_DB))
    return present * torch.maximum(extended, notes)


def _voices(probability: Iterable[Tensor]) -> Iterator[Tensor]:
    """Blocks of (n, 2) 0 or 1 for windows of 32 ms: a voice, and one that may hold a note."""
    phrases, buffered = (PhraseStream(MIN_CERTAIN), PhraseStream(NOTE_WINDOWS)), [torch.empty(0), torch.empty(0)]
    for block in itertools.chain(probability, [None]):
        buffered = [torch.cat([old, phrase.push(block)]) for old, phrase in zip(buffered, phrases, strict=True)]
        count = min(len(voice) for voice in buffered)
        yield torch.stack([voice[:count] for voice in buffered], 1)
        buffered = [voice[count:] for voice in buffered]


def _at_frames(windows: Iterable[Tensor], count: int) -> Iterator[Tensor]:
    """(n, …) rows for `count` frames of 10 ms from those of windows of 32 ms: each is its middle's."""
    done = answered = 0  # windows, frames
    for block in windows:
        if not len(block):
            continue
        until = min(-(-(done + len(block)) * WINDOW // HOP), count)
        yield block[torch.arange(answered, until) * HOP // WINDOW - done]
        done, answered, last = done + len(block), until, block[-1:]
    if answered < count:
        yield last.expand(count - answered, *last.shape[1:])


def present_levels(levels: Tensor, voiced: Tensor, gate_db: float) -> Tensor:
    """Where the levels of a voice stand above the noise, without asking the network again.

    Args:
        levels: (M, 2) decibels of `SPEECH_BANDS_HZ`, 100 a second.
        voiced: (M,) bool: where the network hears a voice.
        gate_db: as of `voice_activity`.

    Returns:
        (M,) 0..1; 1 throughout where noise hides the pauses, 0 where no voice is heard.
    """
    level = levels.amax(1)
    if not voiced.any():
        return torch.zeros_like(level)
    return _above_the_noise(level, _quantile(level[voiced], 0.95), gate_db)[0]


def _above_the_noise(level: Tensor, loud: Tensor, gate_db: float) -> tuple[Tensor, Tensor]:
    """(M,) 0..1 where a voice of level `loud` () is present, and (M,) 0..1 how clearly it stands above the noise."""
    floor = _noise_floor(level)
    clear = ((loud - floor - MASKED_DB) / (CLEAR_DB - MASKED_DB)).clamp(0, 1)
    present = _rises_above(level, torch.maximum(loud + gate_db, torch.minimum(floor + ABOVE_NOISE_DB, loud - 10)))
    return 1 - clear * (1 - present), clear


def _rises_above(level: Tensor, threshold: Tensor) -> Tensor:
    """(M,) 0..1: where the level stands above a threshold, short gaps closed."""
    present = ((_average(level, 3) - threshold.clamp(min=SILENT_DB)) / 6 + 0.5).clamp(0, 1)
    closed = _widened(present, HANGOVER_FRAMES)
    # close gaps shorter than the hang, give back what that added at the outer edges
    closed = -_widened(-closed, HANGOVER_FRAMES)
    return torch.maximum(present, _average(closed, 5))


def _phrases(probability: Tensor, min_certain: int) -> Tensor:
    """(K,) bool: stretches that are not in doubt, or for a moment, of which some number of windows is certain."""
    inside = _inside(probability)
    begins = inside & ~F.pad(inside, (1, 0))[:-1]
    number = begins.long().cumsum(0)  # of the stretch, from 1
    certain = torch.bincount(number, weights=(inside & (probability > CERTAIN)).double())
    return inside & (certain[number] >= min_certain)


def _inside(probability: Tensor) -> Tensor:
    """(K,) bool: what is not in doubt, short gaps closed."""
    hopeful = F.max_pool1d(F.pad((probability > DOUBTFUL).float()[None], (BRIDGED, BRIDGED)), BRIDGED + 1, 1)
    return -F.max_pool1d(-hopeful, BRIDGED + 1, 1)[0] > 0.5


class PhraseStream:
    """`_phrases` of probabilities that come in blocks; a phrase is answered when it is certain, or has ended."""

    def __init__(self, min_certain: int) -> None:
        self._min_certain = min_certain
        self._held, self._done = torch.empty(0), 0  # from shortly before the last phrase; how many are answered

    def push(self, probability: Tensor | None) -> Tensor:
        """(n,) 0 or 1 for the next windows that are decided, from (K,) probabilities; None: there are no more."""
        if probability is None:
            return _phrases(self._held, self._min_certain)[self._done :].float()
        self._held = torch.cat([self._held, probability])
        until = max(len(self._held) - BRIDGED, self._done)
        inside = _inside(self._held)[:until]
        begins = int((~inside).nonzero()[-1]) + 1 if not inside.all() else 0  # of the phrase that goes on
        if int((inside & (self._held[:until] > CERTAIN))[begins:].sum()) < self._min_certain:
            until = max(begins, self._done)
        answer = _phrases(self._held, self._min_certain)[self._done : until].float()
        cut = max(0, min(begins, until) - 2 * BRIDGED)
        self._held, self._done = self._held[cut:], until - cut
        return answer


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
