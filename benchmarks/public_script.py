"""IP-LAP's own inference script, run beside ours: on the same pictures, landmarks and sound, by random networks.

Stand-ins give it what its detectors would find, and keep what its networks are given and make, and what it shows.
"""

from __future__ import annotations

import importlib
import io
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock, patch

import numpy as np
import torch
from torch import Tensor, nn

from portraittalk_core.engines.landmark_generator.crops import face_crops
from portraittalk_core.renderers.lip.public_inference import BROWS, JAW
from portraittalk_core.speech.wav2lip_mel import mel_filters
from portraittalk_core.types import LandmarkTrack, Speech

from .parity import PublicCode
from .parity_landmark_generator import Stft, published, randomise, slaney_filters

PUBLIC = PublicCode(
    "https://github.com/Weizhi-Zhong/IP_LAP", "inference_single.py", {"cv2": "opencv-contrib-python", "tqdm": "tqdm"}
)
STAND_INS = ("lws", "torchvision", "mediapipe", "mediapipe.framework", "mediapipe.framework.formats", "face_alignment")
FIRST = 2  # number of the first window's frame, which is shown for those before it too
FPS = 25


@dataclass
class Kept:
    """What the public script made and gave to its networks."""

    content: list[Tensor] = field(default_factory=list)  # (5, 2, 57) of each window, float64
    single: list[Tensor] = field(default_factory=list)  # … float32
    sketches: list[Tensor] = field(default_factory=list)  # (5, 3, 128, 128)
    mels: list[Tensor] = field(default_factory=list)  # (80, 16)
    references: tuple[Tensor, Tensor] | None = None  # 25 crops, BGR, and their sketches
    faces: list[Tensor] = field(default_factory=list)  # (3, 128, 128) crops of frames, BGR
    painted: list[Tensor] = field(default_factory=list)  # (3, 128, 128) BGR 0..1
    boxes: np.ndarray | None = None  # (T, 4) top, bottom, left, right
    chosen: list[int] = field(default_factory=list)  # frames of the references
    shown: list[np.ndarray] = field(default_factory=list)  # (H, W, 3) uint8 RGB
    times_s: list[float] = field(default_factory=list)  # processor time when each was shown

    @property
    def seconds_a_frame(self) -> float:
        """Of the frames behind the first one, which is shown three times."""
        return (self.times_s[-1] - self.times_s[FIRST]) / max(1, len(self.times_s) - FIRST - 1)


@dataclass(frozen=True)
class Given:
    """What the script is given.

    `renderer` makes its second network of the package `models`, in a renderer's place; the first one is random, kept
    in the folder as landmarkgenerator_checkpoint.pth, and `tame` may change its weights before.
    """

    folder: Path  # where it works
    film: LandmarkTrack  # T frames
    pictures: Sequence[np.ndarray]  # T of (H, W, 3) uint8 BGR
    speech: Speech
    renderer: Callable[[ModuleType, Kept], nn.Module]
    tame: Callable[[nn.Module], None] = lambda network: None


@torch.no_grad()
def run_script(repo: Path, given: Given) -> Kept:
    """Run inference_single.py of a copy of IP-LAP, and keep what it does."""
    mel_filters()  # cached before stand-ins hide the package that computes them
    kept = Kept()
    with ExitStack() as stack:
        models = _enter_public_code(stack, repo, given, kept)
        network = models.Landmark_generator(T=5, d_model=512, nlayers=4, nhead=4, dim_feedforward=1024, dropout=0.1)
        randomise(network)
        given.tame(network)
        published(network, given.folder)
        if not (given.folder / "renderer_checkpoint.pth").exists():
            torch.save({"state_dict": {}}, given.folder / "renderer_checkpoint.pth")
        models.Landmark_generator = _keeping(models.Landmark_generator, kept)
        made = given.renderer(models, kept)
        models.Renderer = lambda: made
        stack.enter_context(redirect_stdout(io.StringIO()))
        stack.enter_context(redirect_stderr(io.StringIO()))
        state = runpy.run_path(str(repo / "inference_single.py"))
    kept.boxes, kept.chosen = state["boxes"], state["ref_img_idx"]
    return kept


def true_renderer(models: ModuleType, kept: Kept) -> nn.Module:
    """The script's own renderer, which also keeps what it is given and paints; without its perceptual loss."""
    with patch.object(importlib.import_module("models.video_renderer"), "PerceptualLoss", _NoLoss):
        renderer = models.Renderer()
    whole = renderer.forward

    def forward(*given: Tensor) -> tuple:
        _keep_given(kept, *given)
        made = whole(*given)
        kept.painted.append(made[0][0])
        return made

    renderer.forward = forward
    return renderer


def no_renderer(_: ModuleType, kept: Kept) -> nn.Module:
    """In the place of the script's renderer: keeps what it is given and shows nothing."""

    class Nothing(nn.Module):
        def forward(self, face: Tensor, *given: Tensor) -> tuple:
            _keep_given(kept, face, *given)
            return torch.zeros(1, *face.shape[-3:]), None, None, None

    return Nothing()


def _keep_given(kept: Kept, face: Tensor, sketches: Tensor, pictures: Tensor, drawn: Tensor, mel: Tensor) -> None:
    kept.faces.append(face[0, 0])
    kept.sketches.append(sketches[0])
    kept.mels.append(mel.flatten(0, -3)[0])
    kept.references = (pictures[0], drawn[0])


class _NoLoss(nn.Module):
    """In the place of the perceptual loss, whose network would have to be fetched."""

    def __init__(self, **_: object) -> None:
        super().__init__()

    def forward(self, *_: object, **__: object) -> Tensor:
        return torch.zeros(())


def _keeping(network: type[nn.Module], kept: Kept) -> type[nn.Module]:
    """The network, which also keeps what it predicts, and computes it in double precision besides."""

    class Keeping(network):
        def forward(self, *given: Tensor) -> Tensor:
            kept.single.append(super().forward(*given))
            self.double()
            kept.content.append(super().forward(*(tensor.double() for tensor in given)))
            self.float()
            return kept.single[-1]

    return Keeping


class _FaceMesh:
    """In the place of MediaPipe's: the film's landmarks in turn; the script goes through the film twice."""

    def __init__(self, film: LandmarkTrack) -> None:
        self._points, self._next = film.points, 0

    def __call__(self, **_: object) -> _FaceMesh:
        return self

    def __enter__(self) -> _FaceMesh:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def process(self, _: np.ndarray) -> SimpleNamespace:
        points = self._points[self._next % len(self._points)].tolist()
        self._next += 1
        face = SimpleNamespace(landmark=[SimpleNamespace(x=x, y=y, z=z) for x, y, z in points])
        return SimpleNamespace(multi_face_landmarks=[face])


class _Outlines:
    """In the place of the detector of 68 landmarks: the mesh's own at the same places, for a frame's crop."""

    def __init__(self, film: LandmarkTrack) -> None:
        self._film, self._corners, self._next = film, face_crops(film).corner_px, FIRST

    def get_landmarks(self, _: np.ndarray) -> list[np.ndarray]:
        """[(68, 2)] in pixels of the crop; of those behind the brows nothing is used."""
        count = len(self._film)
        at = self._next % (2 * count)  # the film runs backwards and forwards
        at, self._next = min(at, 2 * count - 1 - at), self._next + 1
        points_px = self._film.points_px[at, list(JAW + BROWS), :2].double() - self._corners[at]
        return [np.pad(points_px.numpy(), ((0, 68 - len(points_px)), (0, 0)))]


class _Reader:
    """In the place of OpenCV's reader of films."""

    def __init__(self, pictures: Sequence[np.ndarray]) -> None:
        self._pictures = iter(pictures)

    def __call__(self, _: str) -> _Reader:
        return self

    def get(self, _: int) -> float:
        return FPS

    def read(self) -> tuple[bool, np.ndarray | None]:
        picture = next(self._pictures, None)
        return picture is not None, None if picture is None else picture.copy()

    def release(self) -> None:
        pass


class _Writer:
    """In the place of OpenCV's writer of films: keeps what is shown beside the sketch."""

    def __init__(self, kept: Kept, width: int) -> None:
        self._kept, self._width = kept, width

    def __call__(self, *_: object) -> _Writer:
        return self

    def write(self, picture: np.ndarray) -> None:
        self._kept.shown.append(picture[:, self._width :, ::-1].copy())
        self._kept.times_s.append(time.process_time())

    def release(self) -> None:
        pass


def _enter_public_code(stack: ExitStack, repo: Path, given: Given, kept: Kept) -> ModuleType:
    """Make the script's imports and arguments for as long as the stack lasts; its package `models`."""
    cv2 = importlib.import_module("cv2")
    (given.folder / "film.avi").touch()
    arguments = ["inference_single.py", "--input", "film.avi", "--audio", "speech.wav", "--output_dir", "out"]
    arguments += ["--landmark_gen_checkpoint_path", "landmarkgenerator_checkpoint.pth"]
    arguments += ["--renderer_checkpoint_path", "renderer_checkpoint.pth"]
    stack.enter_context(patch.dict(sys.modules, _stand_ins(given)))
    for target, name, value in (
        (Tensor, "cuda", lambda tensor, *_, **__: tensor),
        (torch.cuda, "is_available", lambda: False),
        (cv2, "VideoCapture", _Reader(given.pictures)),
        (cv2, "VideoWriter", _Writer(kept, given.film.width)),
        (sys, "argv", arguments),
        (sys, "path", [str(repo), *sys.path]),
        (subprocess, "call", lambda *_, **__: 0),
    ):
        stack.enter_context(patch.object(target, name, value))
    before = os.getcwd()
    os.chdir(given.folder)
    stack.callback(os.chdir, before)
    return importlib.import_module("models")


def _stand_ins(given: Given) -> dict[str, ModuleType]:
    """Modules in the place of what the script imports and this project does not need."""
    stand_ins = {name: MagicMock(spec=ModuleType, __path__=[]) for name in STAND_INS}
    stand_ins["mediapipe.framework.formats"].landmark_pb2 = None
    pen = lambda thickness, **_: SimpleNamespace(color=(224, 224, 224), thickness=thickness)  # noqa: E731 - MediaPipe's
    stand_ins["mediapipe"].solutions = SimpleNamespace(
        face_mesh=SimpleNamespace(FaceMesh=_FaceMesh(given.film)), drawing_utils=SimpleNamespace(DrawingSpec=pen)
    )
    stand_ins["face_alignment"].FaceAlignment = lambda *_, **__: _Outlines(given.film)
    stand_ins["face_alignment"].LandmarksType = SimpleNamespace(_2D=0)
    librosa, filters = ModuleType("librosa"), ModuleType("librosa.filters")
    librosa.stft, librosa.filters, filters.mel = Stft(), filters, slaney_filters
    librosa.core = SimpleNamespace(load=lambda *_, **__: (given.speech.waveform.numpy(), given.speech.sample_rate))
    return {**stand_ins, "librosa": librosa, "librosa.filters": filters}
