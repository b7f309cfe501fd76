"""Pictures of a person to a FaceEmbedding, by the two files of InsightFace's buffalo_l that users have.

Source: Deng et al. 2019, "ArcFace"; the scaling of pixels as InsightFace does it for this file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...checks import check_finite, check_shape
from ...errors import InputError, MissingDependency, NoFaceError, ShapeError
from ...progress import Progress
from ..detection.scrfd import DetectedFace, FaceDetector
from .arcface_crop import TEMPLATE_PX, face_mask, norm_crop
from .embedding import FaceEmbedding
from .models import FaceModelFiles, find_face_models, scales_itself

__all__ = ["EncodedFaces", "FaceEncoder", "FaceModelFiles", "find_face_models"]

log = logging.getLogger(__name__)

INSTALL = (
    "onnxruntime is not installed; run: pip install onnxruntime "
    "(onnxruntime-gpu for NVIDIA and onnxruntime-directml for Windows serve too)."
)
# best first; what else onnxruntime offers compiles for minutes, or cannot run a detector of any picture size
PROVIDERS = ("CUDAExecutionProvider", "ROCMExecutionProvider", "DmlExecutionProvider", "CPUExecutionProvider")
# the default measures every algorithm anew for each size of picture
PROVIDER_OPTIONS = {"CUDAExecutionProvider": {"cudnn_conv_algo_search": "HEURISTIC"}}
CROP_PX = 256  # of the upright face, for the eye and for CLIP
MAX_NAMED = 5  # pictures named in an error text


@dataclass(frozen=True)
class EncodedFaces:
    """Embedding, crops and detections of pictures of a person, N of which show the face."""

    embedding: FaceEmbedding  # of N pictures
    crops: list[Tensor]  # N of (S, S, 3) uint8, the face upright
    faces: list[DetectedFace]  # N, places in their pictures
    sizes: list[tuple[int, int]]  # N heights and widths of those pictures
    indices: list[int]  # numbers of those pictures among all that were given
    skipped: list[str]  # the others: name and reason

    @property
    def masks(self) -> list[Tensor]:
        """N of (H, W) float 0..1: where the face is in its picture."""
        return [face_mask(face.points, *size) for face, size in zip(self.faces, self.sizes, strict=True)]


class FaceEncoder:
    """Face detector and ArcFace recogniser, open; use it in a with statement, or close it.

    Args:
        files: from `find_face_models`.
        providers: of onnxruntime, best first; None takes those of this machine.

    Raises:
        MissingDependency: onnxruntime is not installed.
        InputError: a file cannot be opened, or a provider is not there.
    """

    def __init__(self, files: FaceModelFiles, providers: Sequence[str] | None = None) -> None:
        self.files = files
        available = choose_providers(providers)
        self._detector: FaceDetector | None = FaceDetector(open_onnx(files.detector, available), files.detector.name)
        self._recogniser = open_onnx(files.recogniser, available)
        self._middle, self._range = (0.0, 1.0) if scales_itself(files.recogniser) else (127.5, 127.5)

    def encode(
        self,
        pictures: Sequence[Tensor],
        names: Sequence[str] | None = None,
        weights: Sequence[float] | Tensor | None = None,
        masks: Sequence[Tensor | None] | None = None,
        face_index: int = 0,
        crop_px: int = TEMPLATE_PX,
        on_progress: Progress | None = None,
    ) -> EncodedFaces:
        """Find the face in every picture and describe it; pictures without it are left out with a warning.

        Args:
            pictures: each (H, W, 3) uint8.
            names: of the pictures, for messages.
            weights: how much each picture counts, 0 or more; None is all alike.
            masks: where the person is, each (H, W) 0..1 or None: all else becomes black before the face is looked for;
                if none is found so, the picture is taken as it is.
            face_index: which face of a picture, 0 is the largest.
            crop_px: side of the upright faces that are returned, a multiple of 112 or 128.
            on_progress: called with pictures done and pictures in all, several times for each; may raise to stop.

        Raises:
            NoFaceError: no picture shows the face.
            InputError: something given is not as it should be.
        """
        names = list(names or (f"picture {i + 1} of {len(pictures)}" for i in range(len(pictures))))
        shares = _checked(pictures, names, weights, masks, face_index)
        report = on_progress or (lambda *_: None)
        embeds, crops, faces, indices, skipped = [], [], [], [], []
        for number, (picture, name) in enumerate(zip(pictures, names, strict=True)):
            searched, detected = self._find(
                picture, masks[number] if masks else None, name, lambda done=number: report(done, len(pictures))
            )
            if len(detected) <= face_index:
                reason = f"only {len(detected)} faces, not a number {face_index}" if detected else "no face was found"
                skipped.append(f"{name}: {reason}")
                log.warning("%s is left out: %s", name, reason)
                continue
            face = detected[face_index]
            embeds.append(self._describe(norm_crop(searched, face.points)))
            crops.append(norm_crop(searched, face.points, crop_px))
            faces.append(face)
            indices.append(number)
        report(len(pictures), len(pictures))
        if not indices:
            raise NoFaceError(
                f"no face can be used: {'; '.join(skipped[:MAX_NAMED])}{'; …' if len(skipped) > MAX_NAMED else ''}. "
                "Take a picture that shows the whole face from the front, not too dark and not turned over."
            )
        embedding = FaceEmbedding(torch.stack(embeds), shares[indices])
        sizes = [tuple(pictures[number].shape[:2]) for number in indices]
        return EncodedFaces(embedding, crops, faces, sizes, indices, skipped)

    def _find(
        self, picture: Tensor, mask: Tensor | None, name: str, on_look: Callable[[], None]
    ) -> tuple[Tensor, list[DetectedFace]]:
        """The picture, masked or whole, and its face detections."""
        if self._detector is None:
            raise InputError("this face encoder is closed; open another.")
        if mask is not None:
            masked = (picture * mask.clamp(0, 1)[..., None]).round().to(torch.uint8)
            if detected := self._detector.detect(masked, on_look):
                return masked, detected
            log.warning("%s shows no face within its mask; the whole picture is used", name)
        return picture, self._detector.detect(picture, on_look)

    def _describe(self, crop: Tensor) -> Tensor:
        """(512,) ArcFace embedding of an aligned face (112, 112, 3); one at a time, as some files take no more."""
        blob = ((crop.float() - self._middle) / self._range).permute(2, 0, 1)[None].contiguous().numpy()
        entry = self._recogniser.get_inputs()[0].name
        return torch.from_numpy(self._recogniser.run(None, {entry: blob})[0].copy()).float().reshape(-1)

    def close(self) -> None:
        """Free the networks."""
        self._detector = self._recogniser = None

    def __enter__(self) -> FaceEncoder:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def choose_providers(requested: Sequence[str] | None = None) -> list[str]:
    """Execution providers of onnxruntime, best first and the CPU last.

    Raises:
        MissingDependency: onnxruntime is not installed.
        InputError: one that is wanted is not there.
    """
    available = _onnxruntime().get_available_providers()
    if requested is None:
        return [name for name in PROVIDERS if name in available]
    if absent := [name for name in requested if name not in available]:
        raise InputError(f"onnxruntime offers {', '.join(available)} here, not {', '.join(absent)}.")
    return [*(name for name in requested if name != PROVIDERS[-1]), PROVIDERS[-1]]


def open_onnx(path: Path, providers: Sequence[str]) -> object:
    """An onnxruntime session that logs errors only and does not spin its threads while it waits.

    Raises:
        MissingDependency: onnxruntime is not installed.
        InputError: the file cannot be opened.
    """
    onnxruntime = _onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # det_10g states output sizes for pictures of 640 only, a warning at every other
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_mem_pattern = "DmlExecutionProvider" not in providers  # which DirectML cannot do
    try:
        return onnxruntime.InferenceSession(
            str(path), options, providers=[(name, PROVIDER_OPTIONS.get(name, {})) for name in providers]
        )
    except Exception as error:  # onnxruntime has a dozen classes of its own
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{path} cannot be opened ({reason}); if it is not complete, fetch it again.") from error


def _onnxruntime() -> object:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependency(INSTALL) from error
    return onnxruntime


def _checked(
    pictures: Sequence[Tensor],
    names: Sequence[str],
    weights: Sequence[float] | Tensor | None,
    masks: Sequence[Tensor | None] | None,
    face_index: int,
) -> Tensor:
    """Validate the arguments and return the weights (N,)."""
    if not len(pictures):
        raise InputError("there is no picture to find a face in.")
    for what, values in (("names", names), ("weights", weights), ("masks", masks)):
        if values is not None and len(values) != len(pictures):
            raise InputError(f"{len(pictures)} pictures need as many {what}, not {len(values)}.")
    if isinstance(face_index, bool) or not isinstance(face_index, int) or face_index < 0:
        raise InputError(f"the face is chosen by 0 (the largest), 1, 2 and so on, not by {face_index!r}.")
    for picture, name, mask in zip(pictures, names, masks or [None] * len(pictures), strict=True):
        check_shape(picture, "H W 3", name)
        if picture.dtype != torch.uint8 or not picture.numel():
            raise ShapeError(f"{name} must be uint8 and not empty, not {picture.dtype} of {tuple(picture.shape)}.")
        if mask is None:
            continue
        if not isinstance(mask, Tensor) or mask.shape != picture.shape[:2]:
            size = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
            raise ShapeError(f"the mask of {name} must have its size {tuple(picture.shape[:2])}, not {size}.")
        check_finite(mask.float(), f"the mask of {name}")
    shares = torch.ones(len(pictures)) if weights is None else torch.as_tensor(weights, dtype=torch.float32)
    if check_finite(shares, "the weights of the pictures").min() < 0:
        raise InputError(f"the weights of the pictures must be 0 or more, not {shares.tolist()}.")
    return shares
