"""The portrait of a command line: its picture, and the landmarks of the chosen face."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .arguments import open_asked_mesh

if TYPE_CHECKING:
    from ..types import Portrait


def find_asked_portrait(args: argparse.Namespace) -> Portrait:
    """The face of `--portrait` that `--face-index` chooses.

    Raises:
        NoFaceError: there is no such face.
    """
    from ..face.mesh.landmarks import find_portrait
    from ..media.image import load_picture

    picture = load_picture(args.portrait)
    with open_asked_mesh(args) as mesh:
        return find_portrait(picture, args.face_index, args.face_order, source=args.portrait.name, mesh=mesh)
