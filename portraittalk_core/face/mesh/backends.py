"""The contract of landmark back ends, and how one is opened by its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from torch import Tensor

from ...checks import check_choice
from ...errors import MissingDependency

BACKENDS = ("auto", "solutions", "tasks", "torch")
MAX_FACES = 8


class MeshBackend(Protocol):
    """Stateless landmark detector: the same picture always gives the same points."""

    name: str

    def detect(self, picture: Tensor) -> Tensor:
        """(F, 478, 3) landmarks, normalised as in `LandmarkTrack`, of the faces in a (H, W, 3) uint8 picture."""

    def close(self) -> None:
        """Free its resources."""

    def __enter__(self) -> MeshBackend: ...

    def __exit__(self, *exc: object) -> None: ...


def open_mesh(backend: str = "auto", model_path: Path | None = None, max_faces: int = MAX_FACES) -> MeshBackend:
    """Open a landmark back end.

    Args:
        backend: "solutions" (mediapipe up to 0.10.21 with its own models), "tasks" (any mediapipe, with a
            face_landmarker.task file), "torch" (no mediapipe), or "auto": the first of these that works.
        model_path: the face_landmarker.task file; None looks for one in the known folders.
        max_faces: faces looked for in one picture.

    Raises:
        MissingDependency: the back end is not there; the text says how to get it.
        InputError: no such back end, or `model_path` is no such file.
    """
    check_choice(backend, BACKENDS, "the face-mesh back end")
    names = [backend] if backend != "auto" else ["tasks" if model_path else "solutions", "tasks", "torch"]
    reasons = {}
    for name in dict.fromkeys(names):
        try:
            return _BUILDERS[name](model_path, max_faces)
        except MissingDependency as error:
            reasons[name] = str(error)
    if backend != "auto":
        raise MissingDependency(reasons[backend])
    listed = "\n".join(f"- {name}: {reason}" for name, reason in reasons.items())
    raise MissingDependency(f"no face-mesh back end works here; do one of these:\n{listed}")


def _solutions(model_path: Path | None, max_faces: int) -> MeshBackend:
    from .solutions import SolutionsMesh

    return SolutionsMesh(max_faces)


def _tasks(model_path: Path | None, max_faces: int) -> MeshBackend:
    from .tasks import TasksMesh

    return TasksMesh(model_path, max_faces)


def _torch(model_path: Path | None, max_faces: int) -> MeshBackend:
    try:
        from .torch_backend import TorchMesh
    except ModuleNotFoundError as error:
        raise MissingDependency(f"this copy of PortraitTalk lacks its torch face mesh ({error}).") from error
    return TorchMesh(max_faces=max_faces)


_BUILDERS: dict[str, Callable[[Path | None, int], MeshBackend]] = {
    "solutions": _solutions,
    "tasks": _tasks,
    "torch": _torch,
}
