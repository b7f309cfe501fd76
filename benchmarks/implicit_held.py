"""Faces whose mouths move while their heads stand still, for the keypoints of `implicit_small`.

A clip's reference frame is warped to its own mouths and to those of another clip, the latter also further open. That is
what the bridge from landmarks shows to the estimator, and no clip of a living head does: there a mouth opens on a head
that moves too.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from portraittalk_core.face import topology as topo
from portraittalk_core.face.geometry import align, interocular_px
from portraittalk_core.media.image import save_picture
from portraittalk_core.media.records import save_record
from portraittalk_core.renderers.contract import RenderJob
from portraittalk_core.renderers.warp.build import warped_pictures
from portraittalk_core.training.data.video_clips import FRAMES, MARKER, TRACK, VideoClip, read_list, read_videos
from portraittalk_core.types import LandmarkTrack, Portrait

TRAIN = "train.txt"
MOST_CLIPS, HELD_CLIPS = 100, 35  # of a speaker, evenly chosen: that learn as they are, and that are warped
MOUTHS = 12  # of the clip itself, and as many of another one
EXAGGERATED = (1.0, 1.3, 1.6)  # how far another's mouths go beyond their own
FOLDERS = ("held", "held_again")  # below the clips; twice, so that a third of what keypoints learn from is held
BALANCED, LIST = "balanced.txt", "held.txt"


def by_speaker(names: Sequence[str], most: int) -> list[str]:
    """At most so many evenly spread names of each speaker, the folder that a name begins with."""
    chosen = []
    for speaker in sorted({name.partition("/")[0] for name in names}):
        own = sorted(name for name in names if name.startswith(f"{speaker}/"))
        step = -(-len(own) // most)
        chosen += own[::step]
    return chosen


def write_held_clips(clips: Path, seed: int) -> Path:
    """Write held clips below the prepared ones, a list of balanced clips, and one of both kinds; returns the latter.

    Args:
        clips: of tools/prepare_grid.py.
        seed: of what is chosen.
    """
    names = by_speaker(sorted(read_list(clips / TRAIN)), MOST_CLIPS)
    warped, draw = by_speaker(names, HELD_CLIPS), random.Random(seed)
    videos = {video.name: video for video in read_videos(clips, 1, frozenset(warped)).videos}
    lines = list(names)
    for name, video in videos.items():
        track, pictures = _held(video, videos[draw.choice(sorted(videos))], draw)
        for folder in FOLDERS:
            place = clips / folder / name
            (place / FRAMES).mkdir(parents=True, exist_ok=True)
            for number, picture in enumerate(pictures):
                save_picture(picture, place / FRAMES / f"{number:06d}.png")
            save_record(track, place / TRACK)
            (place / MARKER).write_text('{"dropped": "", "reference": 0}')
            lines.append(f"{folder}/{name}")
    (clips / BALANCED).write_text("".join(f"{name}\n" for name in names))
    (clips / LIST).write_text("".join(f"{line}\n" for line in lines))
    return clips / LIST


def _held(video: VideoClip, other: VideoClip, draw: random.Random) -> tuple[LandmarkTrack, list[Tensor]]:
    """Landmarks and pictures (H, W, 3) uint8 of a clip's reference frame at rest, and with moved mouths."""
    rest, rest_px = video.track.slice(video.reference, video.reference + 1), _at_rest(video)
    theirs = _at_rest(other)
    scale = draw.choice(EXAGGERATED) * float(interocular_px(rest_px)[0] / interocular_px(theirs)[0])
    carried = rest_px + scale * (_on_head(other, theirs, draw) - theirs)
    points = torch.cat([rest_px, _on_head(video, rest_px, draw), carried]).float()
    track = LandmarkTrack.from_px(points, rest.width, rest.height, rest.fps)
    picture = ((video.read(video.reference) + 1) * 127.5).round().byte().permute(1, 2, 0).contiguous()
    return track, list(warped_pictures(RenderJob.of_track(Portrait(picture, rest, video.name), track)))


def _at_rest(video: VideoClip) -> Tensor:
    return video.track.points_px[video.reference : video.reference + 1].double()


def _on_head(video: VideoClip, rest_px: Tensor, draw: random.Random) -> Tensor:
    """(N, 478, 3) some landmarks of a clip on the head of (1, 478, 3) others."""
    frames = video.track.valid.nonzero()[:, 0].tolist()
    points = video.track.points_px[draw.sample(frames, min(MOUTHS, len(frames)))].double()
    rigid = list(topo.RIGID)
    scale, turn, shift = align(points[:, rigid], rest_px[:, rigid].expand(len(points), -1, -1))
    return scale[:, None, None] * points @ turn.mT + shift[:, None]
