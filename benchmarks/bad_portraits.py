"""Portraits of the bad-input benchmark: faces that look aside, are half hidden, leave the picture or are not alone.

Every one is made to speak by the warp and by the renderers of implicit keypoints, with tiny random weights; the same is
done with films of such faces, which `dub` gives another speech.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from .bad_films import KEYPOINTS, SPEECH, Frame, Make, face, turned, with_hand

FACEVID2VID, FACEVID2VID_LAYOUT = "facevid2vid_files", "face-vid2vid-15"
FOLDERS = {"liveportrait": KEYPOINTS, "facevid2vid": FACEVID2VID}
RENDERERS = ("warp", *FOLDERS)
FILMS = ("two_faces.mp4", "turned.mp4", "hand.mp4", "leaves.mp4", "faceless.mp4")  # of `odd_films`


def odd_portraits() -> dict[str, Make]:
    """What makes each picture, by its name; `portrait.png` lies beside it."""
    made: dict[str, Callable[[Frame], Frame]] = {
        "turned_30.png": lambda picture: turned(picture, 30),
        "turned_45.png": lambda picture: turned(picture, 45),
        "profile.png": lambda picture: turned(picture, 60),
        "half_hidden.png": half_hidden,
        "hand.png": with_hand,
        "two_faces.png": lambda picture: np.concatenate([picture, picture[:, ::-1]], 1),
        "leaving.png": lambda picture: picture[:, picture.shape[1] * 2 // 5 :],
        "faceless.png": lambda picture: np.full_like(picture, 120),
    }
    return {name: _written(make) for name, make in made.items()}


def half_hidden(picture: Frame) -> Frame:
    """The portrait with a grey wall before its right half."""
    covered = picture.copy()
    covered[:, picture.shape[1] // 2 :] = 90
    return covered


def keypoint_files() -> dict[str, Make]:
    """Random weights of the family that `bad_films` does not make."""
    from portraittalk_core.renderers.implicit.files import write_random_files

    def make(path: Path) -> None:
        path.mkdir()
        write_random_files(path, FACEVID2VID_LAYOUT)

    return {FACEVID2VID: make}


def words_of_portraits() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Name and words of every case."""
    for renderer in RENDERERS:
        for portrait in odd_portraits():
            name = f"talk portrait {portrait} with {renderer}"
            yield name, ("talk", f"--portrait={portrait}", *_rest(renderer))
    for film in FILMS:  # the others are dubbed in `bad_films`
        yield f"dub film {film} with facevid2vid", ("dub", f"--video={film}", *_rest("facevid2vid"))


def _rest(renderer: str) -> tuple[str, ...]:
    of_files = (f"--keypoints-folder={FOLDERS[renderer]}", "--device=cpu") if renderer in FOLDERS else ()
    return f"--speech={SPEECH}", "--out=out/o.mp4", f"--renderer={renderer}", *of_files


def _written(make: Callable[[Frame], Frame]) -> Make:
    def write(path: Path) -> None:
        from PIL import Image

        Image.fromarray(np.ascontiguousarray(make(face(path)))).save(path)

    return write
