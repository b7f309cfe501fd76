"""JoyVASA's motion engine: speech to expression and head of LivePortrait's keypoints.

Source: X. Cao et al., "JoyVASA" (arXiv 2411.09209), and its public code (MIT).

Shapes: F frames at 25 Hz, T frames at the wanted rate, N frames of a window.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...motion.expression import timeline_of
from ...motion.gaze import directs_gaze
from ...motion.keypoint_edit import expression_gain, head_edit
from ...motion.keypoint_regions import LIVEPORTRAIT, MOUTH
from ...motion.options import MotionOptions
from ...progress import Progress
from ...speech.wave import HOP
from ...types import SPEECH_RATE_HZ, KeypointTrack, LandmarkTrack, Speech
from .files import EXPRESSION, MotionTemplate
from .network import MotionGenerator
from .options import JoyVasaOptions
from .sampling import Sampler
from .spec import SPEC

log = logging.getLogger(__name__)

RATE = Fraction(25)
SAMPLES = SPEECH_RATE_HZ // 25  # of a frame
LEAD = 1280  # samples of silence that the public code puts before the clip: 80 ms
REFLECTED = 20  # samples mirrored twice at both ends of a window, so that it has two features a frame
SPAN = 256  # frames of a span
LEAST_SCALE = 1e-3


class JoyVasa:
    """Motion engine whose spans are keypoint tracks of LivePortrait.

    Of `MotionOptions` it takes fps, mouth gain, head motion, offset and seed; the eyes are its own.
    """

    name = SPEC.name
    makes = LIVEPORTRAIT

    def __init__(
        self,
        network: MotionGenerator,
        hubert: nn.Module,
        template: MotionTemplate,
        options: JoyVasaOptions | None = None,
    ) -> None:
        """Build the engine of its parts; see `files`."""
        self.network, self.hubert, self.template = network, hubert, template
        self.options = options or JoyVasaOptions()

    def spans(
        self,
        speech: Speech,
        reference: LandmarkTrack | None = None,
        options: MotionOptions | None = None,
        on_progress: Progress | None = None,
    ) -> Iterator[KeypointTrack]:
        """Spans of a face that says `speech`; see `contract.MotionEngine`. The reference does not count."""
        options = options or MotionOptions()
        track = self.track(speech, options, on_progress)
        yield from (track.slice(start, min(start + SPAN, len(track))) for start in range(0, len(track), SPAN))

    def track(
        self, speech: Speech, options: MotionOptions | None = None, on_progress: Progress | None = None
    ) -> KeypointTrack:
        """The whole motion, as `spans` yields it piece by piece: 1 kB a frame."""
        options = options or MotionOptions()
        if timeline_of(options).shows:
            log.warning("the engine %s has expressions of its own: the emotion is left out.", self.name)
        if directs_gaze(options):
            log.warning("the engine %s has eyes of its own: the gaze that is asked for is left out.", self.name)
        count = speech.num_frames(options.fps)
        motion = self.template.in_units(self.motion(speech, options.seed, count, on_progress))
        if self.options.head_smoothing:
            motion[:, EXPRESSION:] = averaged(motion[:, EXPRESSION:], 1 - self.options.head_smoothing)
        frames = torch.arange(count, dtype=torch.float64)
        places = (2 * frames + 1) * (25 / (2 * float(options.fps))) - 0.5  # the middles of frames meet
        head = _between(motion[:, EXPRESSION:], places)
        expression = _between(motion[:, :EXPRESSION], places - options.offset_ms / 40)
        track = KeypointTrack(
            expression.unflatten(1, (-1, 3)),
            head[:, 4:].clamp(-180, 180),
            head[:, 1:4].contiguous(),
            head[:, 0].clamp(min=LEAST_SCALE),
            torch.ones(count, dtype=torch.bool),
            options.fps,
            LIVEPORTRAIT,
        )
        track = head_edit(track, float(options.head_motion))
        gains = options.gains(count)
        return track if bool((gains == 1).all()) else expression_gain(track, gains, MOUTH)

    @torch.no_grad()
    def motion(
        self, speech: Speech, seed: int = 0, num_frames: int | None = None, on_progress: Progress | None = None
    ) -> Tensor:
        """The network's own numbers, which `MotionTemplate.in_units` gives units.

        Args:
            speech: the clip.
            seed: of the noise.
            num_frames: of the video, for `on_progress` alone; None: ceil(25 · seconds).
            on_progress: called with frames done and in all, after every step; may raise to stop.

        Returns:
            (ceil(25 · seconds), 70) at 25 a second.
        """
        count = speech.num_frames(RATE)
        windows = -(-count // self.network.size.frames)
        sampler = Sampler(self.network, self.options.guidance, self.options.steps)
        total, done = windows * len(sampler), 0
        frames = num_frames or count

        def on_step() -> None:
            nonlocal done
            done += 1
            if on_progress:
                on_progress(frames * done // total, frames)

        generator = torch.Generator().manual_seed(seed)
        sounds = (self._sound(speech, window) for window in range(windows))
        predicted = [window.float().cpu() for window in sampler.windows(sounds, generator, on_step)]
        return torch.cat(predicted)[:count]

    def _sound(self, speech: Speech, window: int) -> Tensor:
        """(1, N, D) what the network hears in a window; silence before and after the clip."""
        length = self.network.size.frames * SAMPLES
        start = window * length - LEAD
        inside = speech.waveform[max(start, 0) : max(start + length, 0)]
        padding = max(-start, 0)
        wave = F.pad(inside, (padding, length - padding - len(inside)))[None]
        for _ in range(2):
            wave = F.pad(wave, (REFLECTED, REFLECTED), mode="reflect")
        device = self.network.start_motion_feat.device
        rows = self.hubert(wave.to(device)).last_hidden_state  # 50 a second
        return self.network.audio_feature_map(rows.unflatten(1, (-1, SAMPLES // HOP)).mean(2))


def averaged(values: Tensor, share: float) -> Tensor:
    """(F, C) exponential averages: each frame is `share` of its value and the rest of the average before it."""
    result = values.clone()
    for frame in range(1, len(values)):
        result[frame] = share * values[frame] + (1 - share) * result[frame - 1]
    return result


def _between(values: Tensor, places: Tensor) -> Tensor:
    """(T, C) values (F, C) at places between them, held outside."""
    at = places.clamp(0, len(values) - 1)
    lower = at.floor().long()
    upper = (lower + 1).clamp(max=len(values) - 1)
    return torch.lerp(values[lower], values[upper], (at - lower).float()[:, None])
