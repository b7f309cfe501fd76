"""Expression coefficients for a style extractor, from whichever model of faces or file of coefficients the user has.

Shapes: T frames, D numbers of an expression: 64 of a 3-D morphable model, or 52 blendshapes.
Source: SVP, section 3 (3DMM coefficients); `docs/design/styles.md` 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError, MissingDependency
from ..face.blendshapes import Blendshapes, has_blendshapes
from ..face.expression_fit import between, fit_expressions
from ..face.morphable import load_morphable
from ..face.morphable_files import BFM_FILE, BFM_INDEX_FILE
from ..face.reconstruction import is_reconstruction, load_reconstruction
from ..frame_rate import as_fps
from ..types import LandmarkTrack
from ..weights.headers import read_shapes
from ..weights.load import read_tensors
from .features import COEFFICIENTS, EXPRESSION_OF_257, EXPRESSION_WIDTHS, StyleFeatures, coefficient_features

MORPHABLE, BLENDSHAPES = "3dmm", "blendshapes"
KNOWN = (
    "a 3DMM encoder (Deep3DFaceRecon_pytorch's epoch_20.pth), MediaPipe's face_landmarker_v2_with_blendshapes.task, or "
    f"a folder with {BFM_FILE} and {BFM_INDEX_FILE}"
)
Look = Callable[[Tensor, Tensor], Tensor | None]
Fit = Callable[[Sequence[LandmarkTrack]], list[Tensor]]


@dataclass(frozen=True)
class ExpressionSource:
    """What measures expressions: in pictures, or from tracks alone."""

    feature: str  # "3dmm" or "blendshapes"
    name: str  # of the file or folder, for messages
    look: Look | None = None  # (D,) of a picture (H, W, 3) uint8 and landmarks (478, 3) px; None where nothing is seen
    fit: Fit | None = None  # (T, D) of each of one person's tracks


def open_expression_source(path: Path, device: torch.device | str = "cpu") -> ExpressionSource:
    """Open whatever measures expressions, known by its content.

    Raises:
        MissingDependency: no such file, or a package is not installed.
        InputError: it is something else.
    """
    path = Path(path)
    if path.is_dir():
        model = load_morphable(path / BFM_FILE, path / BFM_INDEX_FILE)
        if model.expression.shape[2] != COEFFICIENTS:
            raise InputError(f"{path} has {model.expression.shape[2]} expressions, not {COEFFICIENTS}; give {KNOWN}.")
        return ExpressionSource(MORPHABLE, path.name, fit=lambda tracks: fit_expressions(model, tracks))
    if not path.is_file():
        raise MissingDependency(f"there is no file or folder {path}; give {KNOWN}.")
    if has_blendshapes(path) or path.suffix == ".task":
        return ExpressionSource(BLENDSHAPES, path.name, Blendshapes(path).coefficients)
    if not is_reconstruction(read_shapes(path) or read_tensors(path)):
        raise InputError(f"{path.name} measures no expressions; give {KNOWN}.")
    network = load_reconstruction(path, device)

    def look(picture: Tensor, points_px: Tensor) -> Tensor:
        return network.coefficients(picture, points_px)[EXPRESSION_OF_257]

    return ExpressionSource(MORPHABLE, path.name, look)


def is_expression_source(path: Path) -> bool:
    """Whether `open_expression_source` opens a file or folder, as far as its header tells."""
    if path.is_dir():
        return (path / BFM_FILE).is_file() and (path / BFM_INDEX_FILE).is_file()
    return has_blendshapes(path) if path.suffix == ".task" else is_reconstruction(read_shapes(path))


class ExpressionRecorder:
    """Collects the expressions of a video's pieces while they are tracked.

    Args:
        source: what measures them.
    """

    def __init__(self, source: ExpressionSource) -> None:
        self.source = source
        self._rows: dict[int, list[Tensor | None]] = {}

    def begin(self, start: int) -> Callable[[Tensor, Tensor | None], None] | None:
        """Begin the piece from a frame on.

        Returns:
            What takes every frame, a picture (H, W, 3) uint8 and (478, 3) landmarks in pixels or None; None where the
            source looks at tracks alone.
        """
        if self.source.look is None:
            return None
        rows = self._rows[start] = []
        return lambda picture, face: rows.append(None if face is None else self.source.look(picture, face))

    def features(self, pieces: Sequence[tuple[int, LandmarkTrack]], name: str) -> tuple[StyleFeatures, ...]:
        """Style features of pieces that were tracked, by their first frames' numbers.

        Raises:
            InputError: the source saw nobody in a piece.
        """
        tracks = [track for _, track in pieces]
        if self.source.fit is not None:
            values = self.source.fit(tracks)
        else:
            values = [self._filled(start, name) for start, _ in pieces]
        parts = zip(values, tracks, strict=True)
        return tuple(coefficient_features(part, track.fps, self.source.feature, name) for part, track in parts)

    def _filled(self, start: int, name: str) -> Tensor:
        """(T, D) of a piece's frames, between the neighbours where nobody was seen."""
        rows = self._rows[start]
        valid_rows = [row for row in rows if row is not None]
        if not valid_rows:
            raise InputError(f"{self.source.name} sees no face in {name}; choose another video.")
        return between(torch.stack(valid_rows), torch.tensor([row is not None for row in rows]))


def read_coefficients(path: Path, fps: float = 25.0) -> StyleFeatures:
    """Style features of a file with one clip's coefficients, whose kind its width tells.

    Args:
        path: safetensors, PyTorch, MATLAB 5 or NumPy file with one array of (T, 64), (T, 257) or (T, 52).
        fps: of its frames.

    Raises:
        MissingDependency: no such file.
        InputError: no such array in it, or several.
    """
    path = Path(path)
    arrays = {"values": _numpy_array(path)} if path.suffix == ".npy" else read_tensors(path)
    widths = {COEFFICIENTS: MORPHABLE, 257: MORPHABLE, EXPRESSION_WIDTHS[BLENDSHAPES]: BLENDSHAPES}
    fitting = {name: array for name, array in arrays.items() if array.ndim == 2 and array.shape[1] in widths}
    if len(fitting) != 1:
        contents = ", ".join(f"{name} {tuple(array.shape)}" for name, array in list(arrays.items())[:4])
        raise InputError(
            f"{path.name} must hold one array of expression coefficients, (frames, 64) or (frames, 257) of a 3DMM or "
            f"(frames, 52) blendshapes, but it holds {contents or 'nothing'}."
        )
    ((_, values),) = fitting.items()
    return coefficient_features(values.float(), as_fps(fps), widths[values.shape[1]], path.name)


def _numpy_array(path: Path) -> Tensor:
    import numpy as np

    if not path.is_file():
        raise MissingDependency(f"there is no file {path}; give one with expression coefficients.")
    try:
        return torch.from_numpy(np.load(path, allow_pickle=False).astype(np.float32))
    except (
        ValueError,
        OSError,
        EOFError,
        MemoryError,
        SyntaxError,
        RecursionError,
        TypeError,
        AttributeError,
    ) as error:
        raise InputError(f"{path.name} is not a plain NumPy file ({error}); save the coefficients again.") from error
