"""Finds InsightFace's buffalo_l among a user's files by what they hold, and says why others do not serve."""

from __future__ import annotations

import itertools
import mmap
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import MissingDependency
from ...weights.headers import Shapes, parts, read_shapes
from .arcface_crop import TEMPLATE_PX

PACK = Path("models", "buffalo_l")  # below InsightFace's folder
DETECTOR, RECOGNISER = "det_10g.onnx", "w600k_r50.onnx"
SOURCE = "https://github.com/deepinsight/insightface/releases/tag/v0.7"
LICENCE = "non-commercial research only"

OTHER_SPACE = "its embeddings lie in another space than the FaceID adapters were trained on"
# parts of names that give a file of the same interface away
REFUSED = {
    "antelopev2": f"it belongs to antelopev2: {OTHER_SPACE}",
    "glintr100": f"it is the recogniser of antelopev2: {OTHER_SPACE}",
    "scrfd_10g_bnkps": "it is the detector of antelopev2, whose pack does not serve",
    "mbf": f"it is a MobileFaceNet, such as buffalo_s has: {OTHER_SPACE}",
}
CONVOLUTIONS = 53  # of w600k_r50, an IResNet-50; glintr100 of antelopev2, an IResNet-100, has 103
FIRST_NODES = 8  # among which a graph that scales its pixels itself has Sub and Mul


@dataclass(frozen=True)
class FaceModelFiles:
    """The two files of buffalo_l that are needed."""

    detector: Path
    recogniser: Path


def find_face_models(folders: Path | Sequence[Path]) -> FaceModelFiles:
    """Detector and recogniser in some folders and the folders inside them, such as models/insightface.

    Raises:
        MissingDependency: one is not there; the text says what to put where, and why files that are there do not serve.
    """
    folders = [Path(folders)] if isinstance(folders, str | Path) else [Path(folder) for folder in folders]
    files: dict[str, list[Path]] = {DETECTOR: [], RECOGNISER: []}
    reasons = []
    for path in itertools.chain.from_iterable(_onnx_files(folder) for folder in folders):
        shapes = read_shapes(path)
        role = _role(shapes, path.name.lower())
        if reason := _refusal(path, role, shapes):
            reasons.append(f"{path} does not serve: {reason}.")
        elif role:
            files[role].append(path)
    missing = [name for name, paths in files.items() if not paths]
    if missing:
        place = (folders[0] if folders else Path("models", "insightface")) / PACK
        lines = [
            f"InsightFace's buffalo_l is needed to tell who a face is, and {' and '.join(missing)} cannot be found.",
            *reasons,
            *(f"Put it at {place / name}" for name in missing),
            f"It is in buffalo_l.zip of {SOURCE} ({LICENCE}).",
            "dlib's descriptor, which comes with this package, has other numbers and cannot stand for it.",
        ]
        raise MissingDependency("\n".join(lines))
    best = {name: min(paths, key=lambda p, n=name: p.name.lower() != n) for name, paths in files.items()}
    return FaceModelFiles(best[DETECTOR], best[RECOGNISER])


def scales_itself(path: Path) -> bool:
    """Whether a recogniser takes pixels 0..255, as those from MXNet do; others take −1..1."""
    return {"Sub", "Mul"} <= set(itertools.islice(_operators(path), FIRST_NODES))


def _onnx_files(folder: Path) -> Iterator[Path]:
    """ONNX files of a folder in a fixed order; links to folders are followed, once each."""
    visited = set()
    for directory, inside, names in os.walk(folder.parent if folder.is_file() else folder, followlinks=True):
        real = os.path.realpath(directory)
        if real in visited:
            inside.clear()
            continue
        visited.add(real)
        inside.sort()
        yield from (Path(directory, name) for name in sorted(names) if name.lower().endswith(".onnx"))


def _role(shapes: Shapes, name: str) -> str | None:
    """Which of the two a graph is, by its inputs and outputs; sizes that are not fixed are 0."""
    sizes = list(shapes.values())
    if any(len(s) == 4 and s[1:] == (3, TEMPLATE_PX, TEMPLATE_PX) for s in sizes):
        return RECOGNISER if any(len(s) == 2 and s[1] == 512 for s in sizes) else None
    if not any(len(s) == 4 and s[1] == 3 for s in sizes):
        return None
    outputs = [s for s in sizes if len(s) in (2, 3)]
    widths = Counter(s[-1] for s in outputs)
    if all(widths[width] == 3 for width in (1, 4, 10)):
        return DETECTOR
    # a file that leaves even these open is known by its name alone
    return DETECTOR if len(sizes) == 10 and not any(widths[w] for w in widths if w) and name == DETECTOR else None


def _refusal(path: Path, role: str | None, shapes: Shapes) -> str | None:
    name = path.name.lower()
    if not role:
        reason = "it is another network" if shapes else f"it is not a complete ONNX file ({path.stat().st_size} bytes)"
        return reason if name in (DETECTOR, RECOGNISER) else None
    label = f"{path.parent.name}/{name}".lower() if name not in (DETECTOR, RECOGNISER) else name
    for part, reason in REFUSED.items():
        if part in label and (role == RECOGNISER or part != "mbf"):
            return reason
    if role == RECOGNISER:
        count = sum(operator == "Conv" for operator in _operators(path))
        if count > CONVOLUTIONS:
            return f"it has {count} convolutions, {RECOGNISER} has {CONVOLUTIONS}; it may be glintr100: {OTHER_SPACE}"
    return None


def _operators(path: Path) -> Iterator[str]:
    """Kinds of the nodes of an ONNX graph, in order.

    Source: onnx.proto: model.graph is field 7, graph.node 1, node.op_type 4.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for graph in parts(content, (0, len(content)), 7):
            for node in parts(content, graph, 1):
                for span in parts(content, node, 4):
                    yield content[slice(*span)].decode()
