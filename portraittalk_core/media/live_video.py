"""Where live pictures go: a window, a video device, or a browser on this machine."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Protocol, Self

from torch import Tensor

from ..errors import InputError, MissingDependency, OutputError

HOST = "127.0.0.1"  # nobody but this machine can look
DEFAULT_PORT = 8190
JPEG_QUALITY = 90
BOUNDARY = "frame"
PATIENCE_S = 5.0  # a browser is told after that long that nothing comes
PAGE = b"""<!doctype html><title>PortraitTalk live</title>
<style>body{margin:0;background:#111;display:grid;place-items:center;height:100vh}img{max-width:100vw;max-height:100vh}
</style><img src="/stream" alt="the speaking portrait">"""


class LiveOutput(Protocol):
    """Shows pictures one after the other."""

    where: str  # for people

    def show(self, picture: Tensor) -> bool:
        """Show an (H, W, 3) uint8 picture; False if nobody looks any more."""

    def close(self) -> None:
        """Release what is held."""


def open_live_output(name: str, width: int, height: int, fps: Fraction, port: int = DEFAULT_PORT) -> LiveOutput:
    """Open an output by name.

    Args:
        name: "window", "http" (MJPEG for browsers and OBS), or a video device such as /dev/video2.
        width: of the pictures, pixels.
        height: of the pictures.
        fps: frames per second.
        port: of "http"; 0 takes any free one.

    Raises:
        InputError: no such output.
        OutputError, MissingDependency: it cannot be opened.
    """
    if name == "window":
        return Window()
    if name == "http":
        return MjpegServer(port)
    if name.startswith("/dev/"):
        return VideoDevice(Path(name), width, height, fps)
    raise InputError(f'the live output must be "window", "http" or a video device such as /dev/video2, not {name!r}.')


class MjpegServer:
    """Serves the newest picture as MJPEG to browsers and OBS on this machine: /, /stream and /frame.jpg.

    Raises:
        OutputError: the port cannot be used.
    """

    def __init__(self, port: int = DEFAULT_PORT) -> None:
        self._jpeg, self._number, self._closed = b"", 0, False
        self._changed = threading.Condition()
        try:
            self._server = _Server((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise OutputError(
                f"port {port} of {HOST} cannot be used ({error}); choose another one, or 0 for any."
            ) from error
        self._server.pictures = self
        self.port = self._server.server_address[1]
        self.where = f"http://{HOST}:{self.port}/"
        threading.Thread(target=self._server.serve_forever, name="live video", daemon=True).start()

    def show(self, picture: Tensor) -> bool:
        """Make an (H, W, 3) uint8 picture the newest one."""
        from PIL import Image

        file = BytesIO()
        Image.fromarray(picture.numpy()).save(file, "JPEG", quality=JPEG_QUALITY)
        with self._changed:
            self._jpeg, self._number = file.getvalue(), self._number + 1
            self._changed.notify_all()
        return True

    def newest(self, after: int) -> tuple[int, bytes]:
        """Number and JPEG of the newest picture, once there is one later than number `after`; none after 5 s."""
        with self._changed:
            self._changed.wait_for(lambda: self._number > after or self._closed, PATIENCE_S)
            return (self._number, self._jpeg) if self._number > after and not self._closed else (after, b"")

    def close(self) -> None:
        """End all streams, and the server."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    pictures: MjpegServer


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # noqa: N802 - http.server's name
        # a page of another site whose name points at this machine must not see the pictures
        host = self.headers.get("Host", "")
        if (host.rpartition(":")[0] or host) not in (HOST, "localhost"):
            self.send_error(403, "only this machine may look")
            return
        send = {"/": self._page, "/stream": self._stream, "/frame.jpg": self._frame}.get(self.path)
        if send is None:
            self.send_error(404)
            return
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the browser has gone
            send()

    @property
    def _pictures(self) -> MjpegServer:
        return self.server.pictures

    def _page(self) -> None:
        self._begin("text/html; charset=utf-8", len(PAGE))
        self.wfile.write(PAGE)

    def _frame(self) -> None:
        _, jpeg = self._pictures.newest(0)
        if not jpeg:
            self.send_error(503, "no picture yet")
            return
        self._begin("image/jpeg", len(jpeg))
        self.wfile.write(jpeg)

    def _stream(self) -> None:
        self._begin(f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        number, jpeg = self._pictures.newest(0)
        while jpeg:
            head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            self.wfile.write(head.encode() + jpeg + b"\r\n")
            number, jpeg = self._pictures.newest(number)

    def _begin(self, kind: str, length: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Write nothing."""


class VideoDevice:
    """A video device that other programs read as a camera, such as v4l2loopback's (Linux).

    Raises:
        OutputError: there is no such device, or it takes no pictures.
    """

    def __init__(self, path: Path, width: int, height: int, fps: Fraction) -> None:
        import av

        advice = "make one with `sudo modprobe v4l2loopback`, and give its path"
        try:
            if not stat.S_ISCHR(os.stat(path).st_mode):
                raise OutputError(f"{path} is no video device; {advice}.")
        except OSError as error:
            raise OutputError(f"{path} cannot be used ({error.strerror}); {advice}.") from error
        try:
            self._container = av.open(str(path), "w", format="v4l2")
            self._stream = self._container.add_stream("rawvideo", rate=fps)
            self._stream.width, self._stream.height, self._stream.pix_fmt = width // 2 * 2, height // 2 * 2, "yuv420p"
            self._container.start_encoding()
        except (av.FFmpegError, ValueError) as error:
            raise OutputError(f"{path} takes no pictures ({error}); {advice}.") from error
        self.where = str(path)

    def show(self, picture: Tensor) -> bool:
        """Write an (H, W, 3) uint8 picture, cut to even sides."""
        import av

        even = picture[: self._stream.height, : self._stream.width].contiguous().numpy()
        frame = av.VideoFrame.from_ndarray(even, format="rgb24")
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except av.FFmpegError as error:
            raise OutputError(f"{self.where} takes no more pictures ({error}).") from error
        return True

    def close(self) -> None:
        """Release the device."""
        self._container.close()


class Window:
    """A window on this machine's screen.

    Raises:
        MissingDependency: Python has no Tk.
        OutputError: there is no screen.
    """

    where = "a window"

    def __init__(self) -> None:
        try:
            import tkinter
        except ImportError as error:
            raise MissingDependency(
                "a window needs Tk, which this Python lacks; install python3-tk, or choose the live output http."
            ) from error
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError as error:
            raise OutputError(f"no window can be opened ({error}); choose the live output http.") from error
        self._root.title("PortraitTalk live")
        self._label = tkinter.Label(self._root, borderwidth=0)
        self._label.pack()
        self._picture: object | None = None
        self._is_open = True
        self._root.protocol("WM_DELETE_WINDOW", self._leave)
        self._root.bind("<Escape>", lambda _: self._leave())

    def show(self, picture: Tensor) -> bool:
        """Show an (H, W, 3) uint8 picture; False once the window has been closed, or Escape pressed."""
        import tkinter

        if self._is_open:
            height, width = picture.shape[:2]
            data = b"P6 %d %d 255\n" % (width, height) + picture.contiguous().numpy().tobytes()
            self._picture = tkinter.PhotoImage(data=data, format="PPM")  # which Tk does not keep itself
            self._label.configure(image=self._picture)
            self._root.update()
        return self._is_open

    def close(self) -> None:
        """Close the window."""
        self._root.destroy()

    def _leave(self) -> None:
        self._is_open = False
