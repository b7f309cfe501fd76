"""A portrait that speaks while somebody speaks: sound in, pictures out, with a small delay."""

from __future__ import annotations

import queue
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..engines.builtin.live import LivePlanner
from ..motion.options import MotionOptions
from ..renderers.warp.build import portrait_renderer
from ..renderers.warp.renderer import PortraitRenderer
from ..threads import one_torch_thread
from ..types import SPEECH_RATE_HZ, LandmarkTrack, Portrait

PIECE = SPEECH_RATE_HZ // 50  # samples that are listened to at once, at most
WAITING_S = 0.2  # for sound, before looking whether anybody still looks
LATE_FRAMES = 1.5  # a frame that is later than that is dropped where the next one is ready


@dataclass(frozen=True)
class LiveReport:
    """What a live run did."""

    num_frames: int  # shown
    num_dropped: int  # frames that would have come too late
    seconds: float  # of sound
    latency_s: float  # from a frame's own moment in the sound to its being shown, median
    worst_latency_s: float  # 95th percentile

    @property
    def text(self) -> str:
        """One line for people."""
        return (
            f"{self.seconds:.1f} s, {self.num_frames} frames shown, {self.num_dropped} dropped; pictures come "
            f"{1e3 * self.latency_s:.0f} ms after the sound (95 % within {1e3 * self.worst_latency_s:.0f} ms)"
        )


def live(
    portrait: Portrait,
    sound: Iterable[Tensor],
    show: Callable[[Tensor], bool],
    options: MotionOptions | None = None,
    *,
    network: Path | None = None,
) -> LiveReport:
    """Show a portrait that says what is being heard, until the sound ends or nobody looks.

    Sound that is there earlier, such as a file's, is listened to at its own pace.

    Args:
        portrait: picture and landmarks of the face.
        sound: (N,) pieces at 16 kHz, as they arrive.
        show: shows an (H, W, 3) uint8 picture, and returns whether to go on.
        options: as of `LivePlanner`.
        network: a file that `portraittalk train mouth` wrote; None is the built-in one.

    Raises:
        MediaError: the sound cannot be read.
    """
    planner = LivePlanner(portrait.landmarks, options, network)
    renderer = portrait_renderer(portrait, breathes=planner.options.breath > 0)
    run = _Run(float(planner.options.fps), planner.latency_s, show)
    with one_torch_thread(), torch.inference_mode():
        list(renderer.render(portrait.landmarks))  # what is made once is made before anybody waits
        ear = _Ear(sound)
        try:
            for piece in ear.pieces():
                run.began_s = ear.began_s
                run.num_samples += 0 if piece is None else len(piece)
                if piece is not None and (track := planner.push(piece)) is not None and not run.frames(renderer, track):
                    return run.report()
            for track in planner.flush():
                run.frames(renderer, track)
        except KeyboardInterrupt:
            pass  # how a live run ends
        finally:
            ear.stop()
    return run.report()


class _Run:
    """Shows frames, and measures how late they are; those that would come later than `latency_s` says are dropped."""

    def __init__(self, fps: float, latency_s: float, show: Callable[[Tensor], bool]) -> None:
        self._fps, self._show = fps, show
        self._planned_s = latency_s + PIECE / SPEECH_RATE_HZ
        self._next = self._shown = self._dropped = 0
        self._latencies: deque[float] = deque(maxlen=10_000)  # of the last minutes
        self.began_s, self.num_samples = 0.0, 0

    def frames(self, renderer: PortraitRenderer, track: LandmarkTrack) -> bool:
        """Show a track's frames; False if nobody looks any more."""
        for index in range(len(track)):
            moment = (self._next + 0.5) / self._fps
            self._next += 1
            late = time.monotonic() - self.began_s - moment
            if index + 1 < len(track) and late > self._planned_s + LATE_FRAMES / self._fps:
                self._dropped += 1
                continue
            (picture,) = renderer.render(track.slice(index, index + 1))
            if not self._show(picture):
                return False
            self._shown += 1
            self._latencies.append(time.monotonic() - self.began_s - moment)
        return True

    def report(self) -> LiveReport:
        ordered = sorted(self._latencies) or [0.0]
        return LiveReport(
            self._shown, self._dropped, self.num_samples / SPEECH_RATE_HZ, statistics.median(ordered),
            ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))],
        )  # fmt: skip


class _Ear:
    """Reads sound in a thread of its own, and hands it on no earlier than it would be heard."""

    def __init__(self, sound: Iterable[Tensor]) -> None:
        self.began_s = time.monotonic()  # of the sound, once some has come
        self._pieces: queue.Queue[Tensor | BaseException | None] = queue.Queue(maxsize=1000)
        self._stopped = threading.Event()
        threading.Thread(target=self._listen, args=(sound,), name="live sound", daemon=True).start()

    def pieces(self) -> Iterable[Tensor | None]:
        """(N,) pieces; None where none came for a while."""
        while True:
            try:
                piece = self._pieces.get(timeout=WAITING_S)
            except queue.Empty:
                yield None
                continue
            waiting = [piece]
            while isinstance(waiting[-1], Tensor) and not self._pieces.empty():
                waiting.append(self._pieces.get())
            if tensors := [piece for piece in waiting if isinstance(piece, Tensor)]:
                yield torch.cat(tensors)
            if isinstance(waiting[-1], BaseException):
                raise waiting[-1]
            if waiting[-1] is None:
                return

    def stop(self) -> None:
        """Listen no more."""
        self._stopped.set()

    def _listen(self, sound: Iterable[Tensor]) -> None:
        num_samples = 0
        try:
            for block in sound:
                for piece in block.split(PIECE):
                    if self._stopped.is_set():
                        return
                    now = time.monotonic()
                    if num_samples == 0:
                        self.began_s = now
                    num_samples += len(piece)
                    due = self.began_s + num_samples / SPEECH_RATE_HZ
                    if due > now and self._stopped.wait(due - now):
                        return
                    self._put(piece)
            self._put(None)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            self._put(error)

    def _put(self, piece: Tensor | BaseException | None) -> None:
        while not self._stopped.is_set():
            try:
                self._pieces.put(piece, timeout=WAITING_S)
                return
            except queue.Full:
                continue
