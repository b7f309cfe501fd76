"""Video in as a stream of pictures, video out as H.264 with sound; memory does not grow with length."""

from __future__ import annotations

from .video_read import VideoProbe, probe_video, read_pictures
from .video_write import Sound, VideoWriter

__all__ = ["Sound", "VideoProbe", "VideoWriter", "probe_video", "read_pictures"]
