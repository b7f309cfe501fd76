"""Portrait of the command line: picture, and landmarks of the selected face."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .arguments import named_face, open_chosen_mesh

if TYPE_CHECKING:
    from ..face.choice import FaceChoice
    from ..types import Portrait


def portrait_from(args: argparse.Namespace) -> Portrait:
    """Read `--portrait` and detect the face that `--face-index` or `--face` selects.

    Raises:
        NoFaceError: there is no such face.
    """
    return portraits_from(args, [named_face(args)])[0]


def portraits_from(args: argparse.Namespace, faces: list[int | FaceChoice | None]) -> list[Portrait]:
    """Read `--portrait` and detect some of its faces.

    Raises:
        NoFaceError: one of them is not there.
    """
    from ..face.mesh.landmarks import find_portrait
    from ..media.image import load_picture

    picture = load_picture(args.portrait)
    with open_chosen_mesh(args) as mesh:
        how = {"face_order": args.face_order, "source": args.portrait.name}
        return [find_portrait(picture, face, mesh=mesh, **how) for face in faces]
