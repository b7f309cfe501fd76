"""Parity of the landmark generator on a film, and of its sketches and crops, with IP-LAP's own inference script.

The script itself runs, on random weights. Stand-ins give it the landmarks that ours gets too, keep what its networks
are given and make, and render nothing.
"""

from __future__ import annotations

import io
import os
import runpy
import subprocess
import sys
import tempfile
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock, patch

import numpy as np
import torch
from torch import Tensor, nn

from portraittalk_core.engines.landmark_generator.crops import unit_points
from portraittalk_core.engines.landmark_generator.engine import LandmarkGenerator, load_landmark_generator
from portraittalk_core.engines.landmark_generator.film import FilmedSpeaker, film_spans, spoken_amounts
from portraittalk_core.engines.landmark_generator.sound import MIDDLE
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.geometry import rotation_matrix
from portraittalk_core.face.lip_points import CONTENT_POINTS, LIP_POINTS, POSE_POINTS
from portraittalk_core.face.sketch import draw_sketch
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.speech.mel_iplap import mel_rows
from portraittalk_core.speech.wav2lip_mel import mel_filters
from portraittalk_core.types import LandmarkTrack, Speech

from .parity import PublicCode, run
from .parity_landmark_generator import Stft, buzzing_speech, published, randomise, slaney_filters

PUBLIC = PublicCode(
    "https://github.com/Weizhi-Zhong/IP_LAP", "inference_single.py", {"cv2": "opencv-contrib-python", "tqdm": "tqdm"}
)

NUM_FRAMES, WIDTH, HEIGHT, SIZE = 66, 640, 480, 128
STAND_INS = ("lws", "torchvision", "mediapipe", "mediapipe.framework", "mediapipe.framework.formats", "face_alignment")


def measure(repo: Path) -> dict[str, float]:
    """Largest differences between a film's landmarks, sketches and crops of the script in `repo` and ours.

    Args:
        repo: a copy of github.com/Weizhi-Zhong/IP_LAP.
    """
    torch.manual_seed(0)
    mel_filters()  # cached before stand-ins hide the package that computes them
    film = _film()
    waveform = buzzing_speech().waveform
    silence = int(film.seconds * Speech.sample_rate) - len(waveform)  # both hear it; the script cuts sound off hard
    speech = Speech(torch.nn.functional.pad(waveform, (0, silence)))
    with tempfile.TemporaryDirectory() as folder:
        theirs = _public_inference(repo, Path(folder), speech, film)
        engine = load_landmark_generator(Path(folder) / "landmarkgenerator_checkpoint.pth")
    return _compare(theirs, engine, speech, film)


@dataclass
class _Seen:
    """What the public script made and gave to its networks."""

    content: list[Tensor] = field(default_factory=list)  # (5, 2, 57) of each window, float64
    single: list[Tensor] = field(default_factory=list)  # … float32
    sketches: list[Tensor] = field(default_factory=list)  # (5, 3, 128, 128)
    mels: list[Tensor] = field(default_factory=list)  # (80, 16)
    references: tuple[Tensor, Tensor] | None = None  # 25 crops, BGR, and their sketches
    boxes: np.ndarray | None = None  # (T, 4) top, bottom, left, right
    chosen: list[int] = field(default_factory=list)  # frames of the references


def _compare(theirs: _Seen, engine: LandmarkGenerator, speech: Speech, film: LandmarkTrack) -> dict[str, float]:
    frames = torch.arange(MIDDLE, MIDDLE + len(theirs.content))  # the script shows its third frame three times
    boxes = torch.from_numpy(theirs.boxes).double()
    corner, size = boxes[:, [2, 0]], boxes[:, [3, 1]] - boxes[:, [2, 0]]
    results: dict[str, float] = {"frames": len(frames)}
    for name, kept in (("float32", theirs.single), ("float64", theirs.content)):
        net = engine.net.float() if name == "float32" else engine.net.double()  # in place, so one after the other
        speaker = FilmedSpeaker(net, film, engine.crop_margin_px)
        made = torch.cat([windows for _, windows in speaker.spoken(speech)])[frames].double()
        expected = torch.stack(kept).transpose(2, 3).double()
        largest = size[frames].amax(1)[:, None, None, None]
        results[f"{name}, windows: difference, pixels"] = float(((made - expected) * largest).abs().max())
        placed = expected[:, MIDDLE] * size[frames, None] + corner[frames, None]
        ours = speaker.crops[frames].to_px(made[:, MIDDLE])
        results[f"{name}, landmarks: difference, pixels"] = float((placed - ours).abs().max())
    rounding = (torch.stack(theirs.single).double() - torch.stack(theirs.content)).transpose(2, 3)
    results["the public code's own float32 from its float64, pixels"] = float((rounding * largest).abs().max())
    results["landmarks: moved, pixels"] = float((placed - placed[:1]).abs().max())
    results["crop: difference, pixels"] = float(
        torch.maximum((speaker.crops.corner_px - corner).abs(), (speaker.crops.size_px - size).abs()).max()
    )
    results |= _compare_track(speaker, speech, frames, placed)
    return results | _compare_inputs(theirs, speaker, speech, frames, size)


def _compare_track(speaker: FilmedSpeaker, speech: Speech, frames: Tensor, placed: Tensor) -> dict[str, float]:
    """The dub's own track, in the frames in which somebody speaks: in pauses its mouth rests."""
    options = MotionOptions(smoothing=0.0, silence_gate_db=-80.0)
    points = torch.cat([span.points_px for span in film_spans(speaker, speech, options)])
    spoken = spoken_amounts(speaker, speech, options)[frames] == 1
    differs = (points[frames][:, list(CONTENT_POINTS), :2].double() - placed).abs().amax((1, 2))
    return {"track: frames in speech": int(spoken.sum()), "track: difference, pixels": float(differs[spoken].max())}


def _compare_inputs(
    theirs: _Seen, speaker: FilmedSpeaker, speech: Speech, frames: Tensor, size: Tensor
) -> dict[str, float]:
    """What the renderer is given: sketches of windows and references, and mel rows."""
    film, around = speaker.film, speaker.windows(frames).flatten()
    poses = unit_points(film, speaker.crops, POSE_POINTS, around)
    whole = torch.cat([poses, torch.stack(theirs.single).transpose(2, 3).flatten(0, 1)], 1)
    chosen = torch.tensor(theirs.chosen)
    faces = unit_points(film, speaker.crops, LIP_POINTS, chosen)
    pairs = {
        "sketches": (draw_sketch(whole, SIZE, size[around]), torch.cat(theirs.sketches)),
        "reference sketches": (draw_sketch(faces, SIZE, size[chosen]), theirs.references[1]),
    }
    results = {f"{name}: difference, grey levels": 255 * float((a - b).abs().max()) for name, (a, b) in pairs.items()}
    rows = mel_rows(speech, film.fps)[frames]
    return {**results, "mel rows: difference": float((rows - torch.stack(theirs.mels)).abs().max())}


def _film() -> LandmarkTrack:
    """A face that speaks, nods, turns, comes near, and leaves the picture a little."""
    time = torch.arange(NUM_FRAMES)[:, None] / 25.0
    face = canonical_face() * 110
    points = face.repeat(NUM_FRAMES, 1, 1)
    points[:, 17, 1] += 12 * torch.rand(NUM_FRAMES)
    points += 0.3 * torch.randn(points.shape)
    turn = rotation_matrix(torch.cat([8 * torch.sin(5 * time), 20 * torch.sin(2 * time), 6 * torch.cos(3 * time)], 1))
    grown = (points @ turn.transpose(1, 2)) * (1 + 0.2 * torch.sin(time))[..., None]
    way = torch.cat([300 + 190 * torch.sin(time), 220 + 20 * torch.cos(4 * time), 0 * time], 1)
    return LandmarkTrack.from_px(grown + way[:, None], WIDTH, HEIGHT, Fraction(25))


class _FaceMesh:
    """In the place of MediaPipe's: the film's landmarks in turn; the script goes through the film twice."""

    def __init__(self, film: LandmarkTrack) -> None:
        self._points, self._next = film.points.tolist(), 0

    def __call__(self, **_: object) -> _FaceMesh:
        return self

    def __enter__(self) -> _FaceMesh:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def process(self, _: np.ndarray) -> SimpleNamespace:
        points = self._points[self._next % len(self._points)]
        self._next += 1
        face = SimpleNamespace(landmark=[SimpleNamespace(x=x, y=y, z=z) for x, y, z in points])
        return SimpleNamespace(multi_face_landmarks=[face])


def _public_inference(repo: Path, folder: Path, speech: Speech, film: LandmarkTrack) -> _Seen:
    """Run the script on a film of noise with the track's landmarks."""
    import cv2

    seen = _Seen()
    writer = cv2.VideoWriter(str(folder / "film.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25, (WIDTH, HEIGHT))
    for _ in range(len(film)):
        writer.write((torch.rand(HEIGHT, WIDTH, 3) * 255).byte().numpy())
    writer.release()
    with ExitStack() as stack:
        models = _enter_public_code(stack, repo, folder, film, speech)
        network = models.Landmark_generator(T=5, d_model=512, nlayers=4, nhead=4, dim_feedforward=1024, dropout=0.1)
        randomise(network)
        published(network, folder)
        torch.save({"state_dict": {}}, folder / "renderer_checkpoint.pth")
        models.Landmark_generator = _keeping(models.Landmark_generator, seen)
        models.Renderer = lambda: _NoRenderer(seen)
        stack.enter_context(redirect_stdout(io.StringIO()))
        stack.enter_context(redirect_stderr(io.StringIO()))
        state = runpy.run_path(str(repo / "inference_single.py"))
    seen.boxes, seen.chosen = state["boxes"], state["ref_img_idx"]
    return seen


def _enter_public_code(stack: ExitStack, repo: Path, folder: Path, film: LandmarkTrack, speech: Speech) -> ModuleType:
    """Make the script's imports and arguments for as long as the stack lasts; its package `models`."""
    stand_ins = {name: MagicMock(spec=ModuleType, __path__=[]) for name in STAND_INS}
    stand_ins["mediapipe.framework.formats"].landmark_pb2 = None
    pen = lambda thickness, **_: SimpleNamespace(color=(224, 224, 224), thickness=thickness)  # noqa: E731 - MediaPipe's
    stand_ins["mediapipe"].solutions = SimpleNamespace(
        face_mesh=SimpleNamespace(FaceMesh=_FaceMesh(film)), drawing_utils=SimpleNamespace(DrawingSpec=pen)
    )
    contour = np.random.default_rng(0).uniform(0, 60, (68, 2))
    stand_ins["face_alignment"].FaceAlignment = lambda *_, **__: SimpleNamespace(get_landmarks=lambda _: [contour])
    stand_ins["face_alignment"].LandmarksType = SimpleNamespace(_2D=0)
    librosa, filters = ModuleType("librosa"), ModuleType("librosa.filters")
    librosa.stft, librosa.filters, filters.mel = Stft(), filters, slaney_filters
    librosa.core = SimpleNamespace(load=lambda *_, **__: (speech.waveform.numpy(), speech.sample_rate))
    stack.enter_context(patch.dict(sys.modules, {**stand_ins, "librosa": librosa, "librosa.filters": filters}))
    arguments = ["inference_single.py", "--input", "film.avi", "--audio", "speech.wav", "--output_dir", "out"]
    arguments += ["--landmark_gen_checkpoint_path", "landmarkgenerator_checkpoint.pth"]
    arguments += ["--renderer_checkpoint_path", "renderer_checkpoint.pth"]
    for target, name, value in (
        (Tensor, "cuda", lambda tensor, *_, **__: tensor),
        (torch.cuda, "is_available", lambda: False),
        (sys, "argv", arguments),
        (sys, "path", [str(repo), *sys.path]),
        (subprocess, "call", lambda *_, **__: 0),
    ):
        stack.enter_context(patch.object(target, name, value))
    before = os.getcwd()
    os.chdir(folder)
    stack.callback(os.chdir, before)
    return import_module("models")


def _keeping(network: type[nn.Module], seen: _Seen) -> type[nn.Module]:
    """The network, which also keeps what it predicts, and computes it in double precision besides."""

    class Keeping(network):
        def forward(self, *given: Tensor) -> Tensor:
            seen.single.append(super().forward(*given))
            self.double()
            seen.content.append(super().forward(*(tensor.double() for tensor in given)))
            self.float()
            return seen.single[-1]

    return Keeping


class _NoRenderer(nn.Module):
    """In the place of the script's renderer: keeps what it is given and shows nothing."""

    def __init__(self, seen: _Seen) -> None:
        super().__init__()
        self.seen = seen

    def forward(self, face: Tensor, sketches: Tensor, pictures: Tensor, drawn: Tensor, mel: Tensor) -> tuple:
        self.seen.sketches.append(sketches[0])
        self.seen.mels.append(mel.flatten(0, -3)[0])
        self.seen.references = (pictures[0], drawn[0])
        return torch.zeros(1, *face.shape[-3:]), None, None, None


if __name__ == "__main__":
    raise SystemExit(run(PUBLIC, measure))
