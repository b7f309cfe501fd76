"""Distances of dlib's face descriptor: one person's faces, other people's, and dlib itself on the same upright faces.

Source of the rule that faces closer than 0.6 are one person's: dlib's dnn_face_recognition_ex.cpp.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from portraittalk_core.face.identity.descriptor import SAME_PERSON, describe, distance, face_chip
from portraittalk_core.face.mesh.backends import MeshBackend, open_mesh
from portraittalk_core.face.mesh.landmarks import track_faces
from portraittalk_core.face.mesh.search import detect_faces
from portraittalk_core.face.scenes import other_people
from portraittalk_core.face.topology import LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS
from portraittalk_core.media.video_read import probe_video, read_pictures
from portraittalk_core.types import LandmarkTrack

PURPOSE = "same-person and other-person distances of dlib's descriptor on clips, and dlib's own numbers beside ours"
SCENE_FRAMES = 24  # of a film that is taken for a scene
TIMES = (0.1, 0.5, 0.9)  # of a clip, where a face is described
MAX_DIFFERENCE = 1e-3  # of one of the 128 numbers, from dlib's


@dataclass(frozen=True)
class Face:
    """One described face."""

    clip: str
    person: str
    chip: Tensor  # (150, 150, 3) uint8
    descriptor: Tensor  # (128,)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the benchmark."""
    parser.add_argument("--table", type=Path, required=True, help="CSV with columns file (from its folder) and speaker")
    parser.add_argument("--dlib", type=Path, help="dlib_face_recognition_resnet_model_v1.dat: dlib runs beside ours")
    parser.add_argument(
        "--scenes", action="store_true", help="also: each film as a scene, by the shape of the face, too"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Describe, compare and print; 1 if dlib's numbers are others."""
    with open_mesh("torch") as mesh:
        faces = [face for clip, person in clips(args.table) for face in faces_of(clip, person, mesh)]
        scenes = [scene_of(clip, person, mesh) for clip, person in clips(args.table)] if args.scenes else []
    print(f"{len(faces)} faces of {len({face.person for face in faces})} people\n")
    print("| faces | pairs | least | median | most | on the wrong side of 0.6 | cosine, least to most |")
    print("|---|---|---|---|---|---|---|")
    for line in table(faces):
        print(line)
    if scenes:
        print("\n" + mistaken(scenes))
    return 0 if args.dlib is None else beside_dlib(faces, args.dlib)


def clips(path: Path) -> Iterator[tuple[Path, str]]:
    """Films of the table, and who they show."""
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["file"].endswith(".mp4"):
                yield path.parent / row["file"], row["speaker"]


def faces_of(clip: Path, person: str, mesh: MeshBackend) -> Iterator[Face]:
    """The largest face at some times of a film."""
    probe = probe_video(clip)
    for share in TIMES:
        picture = next(read_pictures(clip, probe.fps, first=int(share * probe.seconds * probe.fps)), None)
        found = () if picture is None else detect_faces(picture, mesh)
        if len(found):
            face_px = found[0] * torch.tensor([picture.shape[1], picture.shape[0], picture.shape[1]])
            yield Face(clip.stem, person, face_chip(picture, face_px), describe(picture, face_px[None])[0])


def table(faces: list[Face]) -> Iterator[str]:
    """Rows of a Markdown table: pairs of one film, of one person, of two people."""
    groups: dict[str, list[tuple[float, float]]] = {
        "one person, one film": [],
        "one person, two films": [],
        "two people": [],
    }
    for a, b in itertools.combinations(faces, 2):
        kind = (
            "two people" if a.person != b.person else f"one person, {'one film' if a.clip == b.clip else 'two films'}"
        )
        cosine = float(torch.cosine_similarity(a.descriptor, b.descriptor, dim=0))
        groups[kind].append((float(distance(a.descriptor, b.descriptor)), cosine))
    for kind, pairs in groups.items():
        if pairs:
            far, cosines = torch.tensor(pairs).T
            wrong = int(((far < SAME_PERSON) == (kind == "two people")).sum())
            numbers = f"{far.min():.3f} | {far.median():.3f} | {far.max():.3f} | {wrong} ({wrong / len(far):.1%})"
            yield f"| {kind} | {len(far)} | {numbers} | {cosines.min():.3f} to {cosines.max():.3f} |"


def scene_of(clip: Path, person: str, mesh: MeshBackend) -> tuple[str, Tensor, Tensor]:
    """Whom a film shows, (N, 478, 3) landmarks in pixels of some of its first frames, and (128,) of the straightest."""
    fps = probe_video(clip).fps
    pictures = list(itertools.islice(read_pictures(clip, fps), 0, 2 * SCENE_FRAMES, 2))
    track = track_faces(iter(pictures), fps, mesh, 0, on_missing="interpolate", source=clip.name)
    frames = torch.nonzero(track.valid).flatten()
    right, left = (track.points_px[frames][:, list(eye)].mean(1) for eye in (RIGHT_EYE_CORNERS, LEFT_EYE_CORNERS))
    straightest = int(frames[((left - right)[:, 2].abs() / (left - right).norm(dim=1)).argmin()])
    found = describe(pictures[straightest], track.points_px[straightest][None])[0]
    return person, track.points_px[frames], found


def mistaken(scenes: list[tuple[str, Tensor, Tensor]]) -> str:
    """How often two films are mistaken for one person's, or for two people's, by shape and by descriptor."""
    wrong, count = dict.fromkeys(itertools.product(("shape", "descriptor"), (True, False)), 0), {True: 0, False: 0}
    for (one, a, first), (other, b, second) in itertools.combinations(scenes, 2):
        same, numbers = one == other, torch.tensor([0] * len(a) + [1] * len(b))
        differs = bool(other_people(LandmarkTrack.from_px(torch.cat([a, b]), 1000, 1000, Fraction(25)), numbers).any())
        count[same] += 1
        wrong["shape", same] += differs == same
        wrong["descriptor", same] += (float(distance(first, second)) >= SAME_PERSON) == same
    return "\n".join(
        f"films as scenes, by {by}: {wrong[by, True]} of {count[True]} of one person and {wrong[by, False]} of "
        f"{count[False]} of two people are mistaken"
        for by in ("shape", "descriptor")
    )


def beside_dlib(faces: list[Face], weights: Path) -> int:
    """Print how far our numbers are from dlib's on the same chips; 1 if too far. Needs `pip install dlib-bin`."""
    import dlib

    model = dlib.face_recognition_model_v1(str(weights))
    worst = max(
        float((face.descriptor - torch.tensor(list(model.compute_face_descriptor(face.chip.numpy())))).abs().max())
        for face in faces
    )
    print(
        f"\ndlib {dlib.__version__} on the same {len(faces)} upright faces: largest difference of a number {worst:.1e}"
    )
    return int(worst > MAX_DIFFERENCE)
