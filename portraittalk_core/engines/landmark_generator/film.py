"""The landmark generator on a film: lips and jaw are predicted on each frame's own head, not carried there.

Every frame sees the heads of its window as they were filmed, and fifteen faces of the film by how far their mouths are
open; what is predicted is placed in the frame's own crop.

Source: as `engine`, its public inference: windows of five frames whose middle one is kept. Beyond it: at both ends of
the film, and of its scenes, a window's frames repeat; the public code shows its third frame three times and leaves out
the last two.

Shapes: T frames of the film, F frames at 25 Hz, D channels of the network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ...face import topology as topo
from ...face.geometry import align
from ...face.lip_points import CONTENT_POINTS, LIP_POINTS, POSE_POINTS
from ...memory_map import mapped_tensor, release_memory
from ...motion.dub import resting_frame
from ...motion.options import MotionOptions
from ...motion.rig import WIDEST_GAP
from ...motion.smoothing import frame_times_s, one_euro_smoothing, sample_at
from ...motion.speaking_gate import speaking_gate
from ...motion.style_factors import own_smile, style_factors
from ...progress import Progress
from ...speech.voice_activity import voice_activity
from ...speech.wav2lip_mel import CHUNK_RATE
from ...types import LandmarkTrack, Speech
from .crops import face_crops, reference_frames, unit_points
from .network import WINDOW, LandmarkNet
from .skin import skin_weights
from .sound import MIDDLE, encoded_in_fives, silent_token, sound_windows

SPAN = 256  # frames whose landmarks are worked on at once
POINTS_AT_ONCE = 19  # that are smoothed over all of a scene
FULLY_OPEN = 0.9999  # a gate above it holds nothing back
# what tells where the head is, and what speech does not move
STILL = (*POSE_POINTS, *topo.RIGID, *topo.EYELIDS, *topo.RIGHT_IRIS, *topo.LEFT_IRIS)


class FilmedSpeaker:
    """A film's face, as the network sees it.

    Args:
        net: the network.
        film: T frames.
        margin_px: of the crops.
        scenes: (T,) number of each frame's scene; None: there are no cuts.
    """

    @torch.no_grad()
    def __init__(self, net: LandmarkNet, film: LandmarkTrack, margin_px: float, scenes: Tensor | None = None) -> None:
        self.net, self.film = net, film
        self.device, self.dtype = next(net.parameters()).device, next(net.parameters()).dtype
        self.crops = face_crops(film, margin_px)
        numbers = torch.zeros(len(film), dtype=torch.int64) if scenes is None else scenes
        # counted anew, rising: a film that runs backwards or again comes back to earlier scenes
        self.scenes = F.pad((numbers[1:] != numbers[:-1]).long(), (1, 0)).cumsum(0)
        count = -int(-len(film) * CHUNK_RATE // film.fps)  # rounded up
        # the film's frame that is shown in the middle of each at 25 Hz
        middles = (torch.arange(count).double() + 0.5) * float(film.fps / CHUNK_RATE)
        self.shown = middles.long().clamp(max=len(film) - 1)
        faces = unit_points(film, self.crops, LIP_POINTS, reference_frames(film))
        self.references = net.encode_reference(self._placed(faces))[None]  # (1, R, D)

    def __len__(self) -> int:
        """F."""
        return len(self.shown)

    def _placed(self, values: Tensor) -> Tensor:
        return values.to(self.device, self.dtype)

    @cached_property
    def rest(self) -> LandmarkTrack:
        """One frame: the film's face at rest."""
        return resting_frame(self.film)

    @cached_property
    def silence(self) -> Tensor:
        """(1, D) token of a chunk of digital silence."""
        return silent_token(self.net)

    def windows(self, frames: Tensor) -> Tensor:
        """(N, 5) frames at 25 Hz around some, those beyond the ends of their scene repeating its outermost ones."""
        around = frames[:, None] + torch.arange(WINDOW) - MIDDLE
        scenes = self.scenes[self.shown]
        first, last = torch.searchsorted(scenes, scenes[frames]), torch.searchsorted(scenes, scenes[frames], right=True)
        return torch.minimum(torch.maximum(around, first[:, None]), last[:, None] - 1)

    @torch.no_grad()
    def predict(self, frames: Tensor, sound: Tensor) -> Tensor:
        """(N, 5, 57, 2) predicted content of the windows of N frames at 25 Hz, each in its own frame's crop.

        Args:
            frames: (N,) numbers.
            sound: (N, 5, D) audio tokens of their windows.
        """
        window = self.windows(frames)
        unique_frames, back = window.unique(return_inverse=True)
        heads = unit_points(self.film, self.crops, POSE_POINTS, self.shown[unique_frames])
        pose = encoded_in_fives(self.net.encode_pose, self._placed(heads))[back]
        # one window at a time: as the public code, whose last bits these are then too
        windows = zip(sound[:, None], pose[:, None], strict=True)
        return torch.cat([self.net(*window, self.references) for window in windows]).cpu()

    def spoken(
        self, speech: Speech, on_progress: Progress | None = None, length: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Frames (N,) and the content of their windows (N, 5, 57, 2), batch by batch, for all F frames at 25 Hz.

        Args:
            speech: silence follows it.
            on_progress: called with frames at 25 Hz done and in all; may raise to stop.
            length: see `sound_windows`.
        """
        for start, sound, _ in sound_windows(self.net, speech, len(self), length):
            frames = torch.arange(start, start + len(sound))
            yield frames, self.predict(frames, sound)
            if on_progress:
                on_progress(start + len(sound), len(self))


def film_windows(speaker: FilmedSpeaker, speech: Speech) -> Iterator[Tensor]:
    """The predictions of every frame's window, on the film's picture, as the public inference draws them.

    No motion option counts. The clip may be longer than the film: its last frames hear what comes next.

    Yields:
        (n, 5, 57, 2) float64 pixels of consecutive frames, together T; each of a window's frames in its own place.
    """
    for frames, windows in speaker.spoken(speech, length=speech.waveform.numel()):
        yield speaker.crops[speaker.windows(frames)].to_px(windows)


def film_spans(
    speaker: FilmedSpeaker, speech: Speech, options: MotionOptions, on_progress: Progress | None = None
) -> Iterator[LandmarkTrack]:
    """Spans of a film's landmarks with the mouth of a speech.

    The skin between lips and jaw follows them; what tells where the head is stays the film's to the last bit, and so
    does all depth.

    Args:
        speaker: the film's face.
        speech: the clip; silence follows it.
        options: see `film_content`.
        on_progress: see `FilmedSpeaker.spoken`; called before the first span.

    Yields:
        Consecutive spans, together T frames.
    """
    film, content = speaker.film, film_content(speaker, speech, options, on_progress)
    skin = skin_weights(speaker.rest.points_px[0])
    skin[list(STILL)] = 0
    size = torch.tensor([film.width, film.height], dtype=torch.float32)
    for start in range(0, len(film), SPAN):
        part, placed = film.slice(start, start + SPAN), content[start : start + SPAN]
        points = part.points.clone()
        moved_px = placed - part.points_px[:, list(CONTENT_POINTS), :2]
        points[..., :2] += torch.einsum("uc,tci->tui", skin, moved_px) / size
        points[:, list(CONTENT_POINTS), :2] = placed / size
        yield replace(part, points=points)
        release_memory()


def film_content(
    speaker: FilmedSpeaker, speech: Speech, options: MotionOptions, on_progress: Progress | None = None
) -> Tensor:
    """Lips and jaw of a film's frames in pixels, with the motion options applied.

    At gain 1, smoothing 0 and while somebody speaks this is what the network predicts. Where the options hold the mouth
    back, it goes towards what the network predicts for silence on the same head.

    Args:
        speaker: the film's face.
        speech: the clip.
        options: gain, gate, style, smoothing and offset count.
        on_progress: see `FilmedSpeaker.spoken`.

    Returns:
        (T, 57, 2) float32.
    """
    speech = _fitted(speech, options.offset_ms, len(speaker))
    amount = spoken_amounts(speaker, speech, options)
    content = mapped_tensor(len(speaker), len(CONTENT_POINTS), 2)
    for frames, windows in speaker.spoken(speech, on_progress):
        generated, scaled = windows[:, MIDDLE].double(), amount[frames] != 1
        if scaled.any():
            quiet = speaker.predict(frames[scaled], speaker.silence.expand(int(scaled.sum()), WINDOW, -1))[:, MIDDLE]
            generated[scaled] = torch.lerp(
                quiet.double(), generated[scaled], amount[frames[scaled], None, None].double()
            )
        content[frames] = generated.float()
    placed = mapped_tensor(len(speaker.film), *content.shape[1:])
    for start in range(0, len(placed), SPAN):
        some = slice(start, start + SPAN)
        placed[some] = speaker.crops[some].to_px(_at_frames(content, speaker, some)).float()
        release_memory()
    return _steady(placed, speaker, options.smoothing)


def _fitted(speech: Speech, offset_ms: float, num_frames: int) -> Speech:
    """A speech moved in time, as long as some frames at 25 Hz."""
    before, length = round(offset_ms * speech.sample_rate / 1000), int(num_frames * speech.sample_rate / CHUNK_RATE)
    waveform = speech.waveform[max(0, -before) : max(0, length - before)]
    if before > 0 or len(waveform) < length:  # else of a long clip no copy
        waveform = F.pad(waveform, (min(max(0, before), length), length))[:length]
    return replace(speech, waveform=waveform.contiguous())


def spoken_amounts(speaker: FilmedSpeaker, speech: Speech, options: MotionOptions) -> Tensor:
    """(F,) how much of the speech's mouth shows: 0 is the mouth of silence, 1 the speech's, 2 exaggerates."""
    gate = speaking_gate(voice_activity(speech, options.silence_gate_db))
    opened = sample_at(gate, 100.0, frame_times_s(len(speaker), CHUNK_RATE))
    opening = style_factors(options, own_smile(speaker.rest)).opening
    opened = torch.where(opened > FULLY_OPEN, 1.0, opened)  # smoothing leaves it a rounding below
    return options.gains(len(speaker.film))[speaker.shown] * opened * opening


def _at_frames(content: Tensor, speaker: FilmedSpeaker, frames: slice) -> Tensor:
    """(N, …) float64 of some of the film's frames, from (F, …) at 25 Hz: linear in time within a scene."""
    film = speaker.film
    if film.fps == CHUNK_RATE:
        return content[frames].double()
    at = (frame_times_s(len(film), film.fps)[frames].double() * float(CHUNK_RATE) - 0.5).clamp(0, len(content) - 1)
    lower, share = at.floor().long(), at - at.floor()
    upper, scenes, own = (lower + 1).clamp(max=len(content) - 1), speaker.scenes[speaker.shown], speaker.scenes[frames]
    share = torch.where(scenes[lower] != own, 1.0, torch.where(scenes[upper] != own, 0.0, share))
    return torch.lerp(content[lower].double(), content[upper].double(), share[:, None, None])


def _parts_px(film: LandmarkTrack, frames: Tensor) -> tuple[Tensor, Tensor]:
    """(N, R, 3) what of some frames does not speak, and (N, 57, 1) the depth of what does, in pixels."""
    parts: list[tuple[Tensor, Tensor]] = []
    size = torch.tensor([film.width, film.height, film.width], dtype=torch.float32)
    for some in frames.split(SPAN):
        filmed = film.points[some] * size
        parts.append((filmed[:, list(topo.RIGID)], filmed[:, list(CONTENT_POINTS), 2:]))
        release_memory()
    fixed, depth = zip(*parts, strict=True)
    return torch.cat(fixed), torch.cat(depth)


def _steady(placed: Tensor, speaker: FilmedSpeaker, smoothing: float) -> Tensor:
    """(T, 57, 2) pixels, smoothed on the face at rest, so that neither the head's motion nor the crops' counts."""
    if smoothing <= 0:
        return placed
    film, rigid = speaker.film, list(topo.RIGID)
    rest = speaker.rest.points_px[0]
    corners = rest[list(topo.MOUTH_CORNERS)]
    unit = float(WIDEST_GAP * (corners[1] - corners[0]).norm())
    steady = placed.clone()
    for scene in speaker.scenes.unique().tolist():
        frames = torch.nonzero(speaker.scenes == scene).flatten()
        fixed, depth = _parts_px(film, frames)
        scale, rotation, shift = align(fixed, rest[rigid].expand(len(frames), -1, -1))
        for points in torch.arange(placed.shape[1]).split(POINTS_AT_ONCE):
            content = torch.cat([placed[frames[:, None], points].float(), depth[:, points]], 2)
            at_rest = scale[:, None, None] * content @ rotation.transpose(1, 2) + shift[:, None]
            smooth = one_euro_smoothing(at_rest.flatten(1) / unit, film.fps, smoothing).unflatten(1, (-1, 3)) * unit
            change = (smooth - at_rest) @ rotation / scale[:, None, None]
            steady[frames[:, None], points] += change[..., :2]
            release_memory()
    return steady
