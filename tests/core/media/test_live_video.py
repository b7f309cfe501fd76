"""Where live pictures go."""

import io
import urllib.error
import urllib.request
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from portraittalk_core.errors import InputError, OutputError
from portraittalk_core.media.live_video import MjpegServer, open_live_output


def picture(red: int) -> torch.Tensor:
    return torch.tensor([red, 20, 30], dtype=torch.uint8).expand(48, 64, 3)


def get(url: str, host: str | None = None):
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    return urllib.request.urlopen(request, timeout=120)  # of a busy machine


def test_a_browser_sees_one_picture_after_the_other():
    with MjpegServer(0) as server:
        server.show(picture(200))
        stream = get(server.where + "stream")
        assert stream.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=frame"
        for red in (200, 100):
            server.show(picture(red)) if red != 200 else None
            lines = [stream.readline() for _ in range(4)]
            assert lines[:2] == [b"--frame\r\n", b"Content-Type: image/jpeg\r\n"]
            jpeg = stream.read(int(lines[2].split(b":")[1]))
            shown = np.asarray(Image.open(io.BytesIO(jpeg)))
            assert shown.shape == (48, 64, 3)
            assert abs(int(shown[20, 20, 0]) - red) < 6
            assert stream.readline() == b"\r\n"


def test_one_picture_and_the_page():
    with MjpegServer(0) as server:
        server.show(picture(90))
        assert b"/stream" in get(server.where).read()
        assert Image.open(io.BytesIO(get(server.where + "frame.jpg").read())).size == (64, 48)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(server.where + "etc/passwd")


def test_a_page_of_another_site_sees_nothing():
    with MjpegServer(0) as server:
        server.show(picture(90))
        with pytest.raises(urllib.error.HTTPError, match="403"):
            get(server.where + "frame.jpg", host=f"evil.example:{server.port}")
        assert get(server.where + "frame.jpg", host=f"localhost:{server.port}").status == 200


def test_the_server_listens_on_this_machine_only():
    with MjpegServer(0) as server:
        assert server._server.server_address[0] == "127.0.0.1"


def test_a_port_in_use_is_told():
    with MjpegServer(0) as server, pytest.raises(OutputError, match=rf"port {server.port} .* choose another one"):
        MjpegServer(server.port)


@pytest.mark.parametrize("name", ["/dev/video_none", "/dev/null"])
def test_what_is_no_video_device_is_told(name):
    with pytest.raises(OutputError, match="v4l2loopback"):
        open_live_output(name, 64, 48, Fraction(25))


def test_a_file_is_no_video_device(tmp_path, monkeypatch):
    with pytest.raises(InputError, match='"window", "http" or a video device'):
        open_live_output(str(tmp_path / "x.mp4"), 64, 48, Fraction(25))


def test_a_window_without_a_screen_is_told(monkeypatch):
    pytest.importorskip("tkinter")
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(OutputError, match="choose the live output http"):
        open_live_output("window", 64, 48, Fraction(25))
