"""Deinterlacing: fields that were filmed one after the other become pictures."""

from __future__ import annotations

from fractions import Fraction

import av
from av.filter import Graph

# One picture a frame; only frames marked as interlaced, in the order of fields that they are marked with.
BWDIF = "mode=send_frame:parity=auto:deint=interlaced"


class Deinterlacer:
    """Turns a stream of decoded frames into progressive ones; progressive frames pass unchanged.

    Until the first interlaced frame there is no delay, after it one of a frame.
    """

    def __init__(self) -> None:
        self.seen = False  # an interlaced frame
        self._graph: Graph | None = None
        self._kind: tuple | None = None
        self._base = Fraction(1)

    def feed(self, frame: av.VideoFrame | None) -> list[av.VideoFrame]:
        """Take the next frame, None at the end, and return those that are finished."""
        finished = []
        kind = frame and (frame.width, frame.height, frame.format.name)
        if self._graph is not None and kind != self._kind:
            finished = self._pushed(None)
            self._graph = None
        if frame is None:
            return finished
        self.seen = self.seen or frame.interlaced_frame
        if not self.seen:
            return [frame]
        if self._graph is None:
            self._open(frame, kind)
        return finished + self._pushed(frame)

    def _open(self, frame: av.VideoFrame, kind: tuple) -> None:
        graph = Graph()
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        )
        bwdif, sink = graph.add("bwdif", BWDIF), graph.add("buffersink")
        source.link_to(bwdif)
        bwdif.link_to(sink)
        graph.configure()
        self._graph, self._kind, self._base = graph, kind, Fraction(frame.time_base)

    def _pushed(self, frame: av.VideoFrame | None) -> list[av.VideoFrame]:
        self._graph.push(frame)
        finished = []
        while True:
            try:
                picture = self._graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return finished
            if picture.pts is not None:  # which bwdif counts in halves, to have room for both fields
                picture.pts = round(picture.pts * Fraction(picture.time_base) / self._base)
            picture.time_base = self._base
            finished.append(picture)
