"""Compares the landmark generator and its mel spectrogram with IP-LAP's public code, on random weights."""

from __future__ import annotations

import sys
import tempfile
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock, patch

import numpy as np
import torch
from torch import Tensor, nn

from portraittalk_core.engines.landmark_generator.engine import load_landmark_generator
from portraittalk_core.engines.landmark_generator.points import CONTENT, POSE
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.speech.wav2lip_mel import PAD_MODES, mel_filters, padded_length, wav2lip_mel
from portraittalk_core.types import LandmarkTrack, Speech

from .parity import PublicCode, run

PUBLIC = PublicCode("https://github.com/Weizhi-Zhong/IP_LAP", "models/landmark_generator.py")

LACKING = ("lws", "torchvision", "cv2")
NUM_REFERENCE_FRAMES = 40
WIDTH, HEIGHT = 640, 480


def measure(repo: Path) -> dict[str, float]:
    """Largest differences between the public network and sound code in `repo` and ours, and the size of their output.

    Args:
        repo: a copy of github.com/Weizhi-Zhong/IP_LAP.
    """
    torch.manual_seed(0)
    mel_filters()  # made before stand-ins hide what makes them
    speech, track = _speech(), _track()
    with _public_code(repo) as models, torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        theirs = models.Landmark_generator(T=5, d_model=512, nlayers=4, nhead=4, dim_feedforward=1024, dropout=0.1)
        _randomise(theirs)
        ours = load_landmark_generator(_published(theirs.eval(), Path(folder)))
        found = _compare_networks(theirs, ours.net)
        for mode in PAD_MODES:
            sys.modules["librosa"].stft.pad_mode = mode
            expected = models.audio.melspectrogram(speech.waveform.numpy())
            found |= _told(f"mel, {mode} padding", torch.from_numpy(expected), wav2lip_mel(speech, mode).double())
        sys.modules["librosa"].stft.pad_mode = "constant"
        for name, reference in (("one", track.slice(0, 1)), (f"{len(track)}", track)):
            expected = _public_inference(theirs, models.audio, speech, reference)
            actual = ours.content(speech, reference)[2:]  # public code repeats its third frame in the first two
            found |= _told(f"clip, {name} reference(s)", expected, actual)
            found[f"clip, {name} reference(s): motion"] = float((expected - expected[:1]).abs().max())
    return found


def _told(name: str, expected: Tensor, actual: Tensor) -> dict[str, float]:
    differs, largest = (expected - actual).abs().max(), expected.abs().max()
    return {f"{name}: difference": float(differs), f"{name}: size": float(largest)}


def _speech() -> Speech:
    """Two and a half seconds: silence, then a buzz that swells and falls."""
    time = torch.arange(40_123) / 16_000
    buzz = sum(torch.sin(2 * torch.pi * 130 * k * time) / k for k in range(1, 25))
    swell = torch.sin(2 * torch.pi * 2 * time).clamp(min=0) + 0.02 * torch.randn(len(time))
    return Speech((0.1 * buzz * swell * (time > 0.4)).float(), "buzz")


def _track() -> LandmarkTrack:
    """A face that opens its mouth more and less while it drifts to the picture's edge."""
    face = canonical_face() * 90 + torch.tensor([250.0, 200.0, 0.0])
    points = face.repeat(NUM_REFERENCE_FRAMES, 1, 1)
    points[:, 17, 1] += 20 * torch.rand(NUM_REFERENCE_FRAMES)
    points[..., 0] -= 4.3 * torch.arange(NUM_REFERENCE_FRAMES)[:, None]
    return LandmarkTrack.from_px(points, WIDTH, HEIGHT, Fraction(25))


def _randomise(network: nn.Module) -> None:
    """Make nothing zero or one that training would change, and what is heard felt at the end."""
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif name.endswith((".bias", "running_mean")):
            tensor.normal_(0, 0.2)
        elif tensor.ndim > 1 and not name.endswith(".pe"):
            tensor.normal_(0, 1.4 * tensor[0].numel() ** -0.5)
        elif tensor.ndim == 1 and tensor.is_floating_point():
            tensor.uniform_(0.7, 1.3)


def _published(network: nn.Module, folder: Path) -> Path:
    """The network as its training saves it."""
    moments = {0: {"step": torch.tensor(1.0), "exp_avg": torch.ones(3)}}
    path = folder / "landmarkgenerator_checkpoint.pth"
    torch.save(
        {
            "state_dict": {f"module.{name}": tensor for name, tensor in network.state_dict().items()},
            "optimizer": {"state": moments, "param_groups": [{"lr": 1e-4, "params": [0]}]},
            "global_step": 610_000,
            "global_epoch": 1,
        },
        path,
    )
    return path


def _compare_networks(theirs: nn.Module, ours: nn.Module) -> dict[str, float]:
    mels, pose = 2 * torch.randn(3, 5, 1, 80, 16), torch.rand(3, 5, 2, 74)
    seen_pose, seen_content = torch.rand(3, 15, 2, 74), torch.rand(3, 15, 2, 57)
    expected = theirs(mels, pose, seen_pose, seen_content).unflatten(0, (3, 5)).transpose(2, 3)
    seen = torch.cat([seen_pose, seen_content], 3).transpose(2, 3)
    heard = ours.encode_sound(mels.flatten(0, 2)).unflatten(0, (3, 5))
    poses = ours.encode_pose(pose.flatten(0, 1).transpose(1, 2)).unflatten(0, (3, 5))
    references = ours.encode_reference(seen.flatten(0, 1)).unflatten(0, (3, 15))
    return _told("network", expected, ours(heard, poses, references))


def _public_inference(theirs: nn.Module, audio: ModuleType, speech: Speech, track: LandmarkTrack) -> Tensor:
    """(F − 2, 57, 2): what the public script makes of a clip with 0.2 s of silence after it, from its third frame on.

    The script itself runs on import and wants videos; this says the same with its network and its sound code.
    """
    wave = np.pad(speech.waveform.numpy(), (0, padded_length(speech.waveform.numel()) - speech.waveform.numel()))
    mel = torch.from_numpy(audio.melspectrogram(wave)).float()
    starts = [int(index * 80.0 / 25) for index in range(mel.shape[1])]
    chunks = [mel[:, start : start + 16] for start in starts if start + 16 <= mel.shape[1]]
    crops = [_unit_points(points, track.width, track.height) for points in track.points.numpy()]
    lips = [float(np.linalg.norm(points[0, :2] - points[17, :2])) for points in track.points.numpy()]
    ranked = sorted(range(len(lips)), key=lambda index: lips[index])
    chosen = [ranked[int(place)] for place in torch.linspace(0, len(ranked) - 1, steps=15)]
    seen = torch.stack([crops[index] for index in chosen])[None]
    pose = crops[0][None, None, :, :74].expand(1, 5, 2, 74)
    made = []
    for start in range(speech.num_frames(Fraction(25)) - 2):
        mels = torch.stack([chunks[max(0, index - 2)] for index in range(start, start + 5)])[None, :, None]
        made.append(theirs(mels, pose, seen[..., :74], seen[..., 74:])[2].T)
    return torch.stack(made)


def _unit_points(points: np.ndarray, width: int, height: int) -> Tensor:
    """(2, 131) of (478, 3) normalised landmarks, as the public script crops and scales them."""
    seen = points[[*POSE, *CONTENT], :2].astype(np.float64)
    x1, x2 = max(seen[:, 0].min() - 25 / width, 0), min(seen[:, 0].max() + 25 / width, 1)
    y1, y2 = max(seen[:, 1].min() - 25 / height, 0), min(seen[:, 1].max() + 25 / height, 1)
    left, right, top, bottom = int(x1 * width), int(x2 * width), int(y1 * height), int(y2 * height)
    x, y = (seen[:, 0] * width - left) / (right - left), (seen[:, 1] * height - top) / (bottom - top)
    return torch.from_numpy(np.stack([x, y])).float()


def slaney_filters(rate: int, fft_size: int, n_mels: int, fmin: float, fmax: float) -> np.ndarray:
    """(n_mels, fft_size / 2 + 1) triangles of equal area on Slaney's scale: even up to 1 kHz, then by ratio."""

    def to_hz(mel: np.ndarray) -> np.ndarray:
        return np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((mel - 15) / 27))

    ends = [hz * 3 / 200 if hz < 1000 else 15 + 27 * np.log(hz / 1000) / np.log(6.4) for hz in (fmin, fmax)]
    edges = to_hz(np.linspace(*ends, n_mels + 2))
    bins = np.arange(fft_size // 2 + 1) * rate / fft_size
    return np.stack(
        [
            2 / (high - low) * np.clip(np.minimum((bins - low) / (peak - low), (high - bins) / (high - peak)), 0, None)
            for low, peak, high in zip(edges[:-2], edges[1:-1], edges[2:], strict=True)
        ]
    )


class _Stft:
    """What librosa.stft does here, by NumPy."""

    def __init__(self) -> None:
        self.pad_mode = "constant"

    def __call__(self, y: np.ndarray, n_fft: int, hop_length: int, win_length: int) -> np.ndarray:
        padded = np.pad(y, n_fft // 2, mode=self.pad_mode)
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(win_length) / win_length)
        starts = range(0, len(padded) - n_fft + 1, hop_length)
        return np.stack([np.fft.rfft(window * padded[start : start + n_fft]) for start in starts], 1)


class _public_code:  # noqa: N801 - used like a function
    """The repository's `models` package, on the CPU, with stand-ins for what it imports but this machine lacks."""

    def __init__(self, repo: Path) -> None:
        self.repo = repo
        librosa, filters = ModuleType("librosa"), ModuleType("librosa.filters")
        librosa.stft, librosa.filters, filters.mel = _Stft(), filters, slaney_filters
        stand_ins = {name: MagicMock(spec=ModuleType, __path__=[]) for name in LACKING}
        modules = {**stand_ins, "librosa": librosa, "librosa.filters": filters}
        self.patches = (patch.dict(sys.modules, modules), patch.object(Tensor, "cuda", lambda tensor: tensor))

    def __enter__(self) -> ModuleType:
        for each in self.patches:
            each.start()
        sys.path.insert(0, str(self.repo))
        return import_module("models")

    def __exit__(self, *exc: object) -> None:
        sys.path.remove(str(self.repo))
        for each in self.patches:
            each.stop()  # also forgets every module that was imported meanwhile


if __name__ == "__main__":
    raise SystemExit(run(PUBLIC, measure))
