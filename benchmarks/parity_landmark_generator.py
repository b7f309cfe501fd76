"""Parity of the landmark generator and its mel spectrogram with IP-LAP's public code, on random weights."""

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
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.lip_points import LIP_POINTS
from portraittalk_core.speech.wav2lip_mel import PAD_MODES, mel_filters, padded_length, wav2lip_mel
from portraittalk_core.types import LandmarkTrack, Speech

from .parity import PublicCode, run

PUBLIC = PublicCode("https://github.com/Weizhi-Zhong/IP_LAP", "models/landmark_generator.py")

STAND_INS = ("lws", "torchvision", "cv2")
NUM_REFERENCE_FRAMES = 40
WIDTH, HEIGHT = 640, 480


def measure(repo: Path) -> dict[str, float]:
    """Largest differences between the public network and sound code in `repo` and ours, and the size of their output.

    Args:
        repo: a copy of github.com/Weizhi-Zhong/IP_LAP.
    """
    torch.manual_seed(0)
    mel_filters()  # cached before stand-ins hide the package that computes them
    speech, track = buzzing_speech(), _track()
    with _public_code(repo) as models, torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        public_net = models.Landmark_generator(T=5, d_model=512, nlayers=4, nhead=4, dim_feedforward=1024, dropout=0.1)
        randomise(public_net)
        our_engine = load_landmark_generator(published(public_net.eval(), Path(folder)))
        results = _compare_networks(public_net, our_engine.net)
        for mode in PAD_MODES:
            sys.modules["librosa"].stft.pad_mode = mode
            expected = models.audio.melspectrogram(speech.waveform.numpy())
            actual = wav2lip_mel(speech, mode).double()
            results |= _difference(f"mel, {mode} padding", torch.from_numpy(expected), actual)
        sys.modules["librosa"].stft.pad_mode = "constant"
        for name, reference in (("one", track.slice(0, 1)), (f"{len(track)}", track)):
            expected = _public_inference(public_net, models.audio, speech, reference)
            actual = our_engine.content(speech, reference)[2:]  # public code repeats its third frame in the first two
            results |= _difference(f"clip, {name} reference(s)", expected, actual)
            results[f"clip, {name} reference(s): motion"] = float((expected - expected[:1]).abs().max())
    return results


def _difference(name: str, expected: Tensor, actual: Tensor) -> dict[str, float]:
    differs, largest = (expected - actual).abs().max(), expected.abs().max()
    return {f"{name}: difference": float(differs), f"{name}: size": float(largest)}


def buzzing_speech() -> Speech:
    """Two and a half seconds of speech-like sound: silence, then an amplitude-modulated buzz."""
    time = torch.arange(40_123) / 16_000
    buzz = sum(torch.sin(2 * torch.pi * 130 * k * time) / k for k in range(1, 25))
    swell = torch.sin(2 * torch.pi * 2 * time).clamp(min=0) + 0.02 * torch.randn(len(time))
    return Speech((0.1 * buzz * swell * (time > 0.4)).float(), "buzz")


def _track() -> LandmarkTrack:
    """A track of a face with a moving mouth that drifts to the picture's edge."""
    face = canonical_face() * 90 + torch.tensor([250.0, 200.0, 0.0])
    points = face.repeat(NUM_REFERENCE_FRAMES, 1, 1)
    points[:, 17, 1] += 20 * torch.rand(NUM_REFERENCE_FRAMES)
    points[..., 0] -= 4.3 * torch.arange(NUM_REFERENCE_FRAMES)[:, None]
    return LandmarkTrack.from_px(points, WIDTH, HEIGHT, Fraction(25))


def randomise(network: nn.Module) -> None:
    """Randomise weights that start at zero or one, scaled so that the sound affects the output."""
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif name.endswith((".bias", "running_mean")):
            tensor.normal_(0, 0.2)
        elif tensor.ndim > 1 and not name.endswith(".pe"):
            tensor.normal_(0, 1.4 * tensor[0].numel() ** -0.5)
        elif tensor.ndim == 1 and tensor.is_floating_point():
            tensor.uniform_(0.7, 1.3)


def published(network: nn.Module, folder: Path) -> Path:
    """Checkpoint file of the network in the public training's format."""
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


def _compare_networks(public_net: nn.Module, our_net: nn.Module) -> dict[str, float]:
    mels, pose = 2 * torch.randn(3, 5, 1, 80, 16), torch.rand(3, 5, 2, 74)
    reference_pose, reference_content = torch.rand(3, 15, 2, 74), torch.rand(3, 15, 2, 57)
    expected = public_net(mels, pose, reference_pose, reference_content).unflatten(0, (3, 5)).transpose(2, 3)
    reference_points = torch.cat([reference_pose, reference_content], 3).transpose(2, 3)
    sound_tokens = our_net.encode_sound(mels.flatten(0, 2)).unflatten(0, (3, 5))
    poses = our_net.encode_pose(pose.flatten(0, 1).transpose(1, 2)).unflatten(0, (3, 5))
    references = our_net.encode_reference(reference_points.flatten(0, 1)).unflatten(0, (3, 15))
    return _difference("network", expected, our_net(sound_tokens, poses, references))


def _public_inference(public_net: nn.Module, audio: ModuleType, speech: Speech, track: LandmarkTrack) -> Tensor:
    """(F − 2, 57, 2): the public script's output on a clip with 0.2 s of silence after it, from its third frame on.

    The script itself runs on import and needs videos; this repeats it with its network and its sound code.
    """
    wave = np.pad(speech.waveform.numpy(), (0, padded_length(speech.waveform.numel()) - speech.waveform.numel()))
    mel = torch.from_numpy(audio.melspectrogram(wave)).float()
    starts = [int(index * 80.0 / 25) for index in range(mel.shape[1])]
    chunks = [mel[:, start : start + 16] for start in starts if start + 16 <= mel.shape[1]]
    crops = [_unit_points(points, track.width, track.height) for points in track.points.numpy()]
    lips = [float(np.linalg.norm(points[0, :2] - points[17, :2])) for points in track.points.numpy()]
    ranked = sorted(range(len(lips)), key=lambda index: lips[index])
    indices = [ranked[int(place)] for place in torch.linspace(0, len(ranked) - 1, steps=15)]
    reference_points = torch.stack([crops[index] for index in indices])[None]
    pose = crops[0][None, None, :, :74].expand(1, 5, 2, 74)
    outputs = []
    for start in range(speech.num_frames(Fraction(25)) - 2):
        mels = torch.stack([chunks[max(0, index - 2)] for index in range(start, start + 5)])[None, :, None]
        outputs.append(public_net(mels, pose, reference_points[..., :74], reference_points[..., 74:])[2].T)
    return torch.stack(outputs)


def _unit_points(points: np.ndarray, width: int, height: int) -> Tensor:
    """(2, 131) of (478, 3) normalised landmarks, as the public script crops and scales them."""
    points_xy = points[list(LIP_POINTS), :2].astype(np.float64)
    x1, x2 = max(points_xy[:, 0].min() - 25 / width, 0), min(points_xy[:, 0].max() + 25 / width, 1)
    y1, y2 = max(points_xy[:, 1].min() - 25 / height, 0), min(points_xy[:, 1].max() + 25 / height, 1)
    left_px, right_px, top_px, bottom_px = int(x1 * width), int(x2 * width), int(y1 * height), int(y2 * height)
    x = (points_xy[:, 0] * width - left_px) / (right_px - left_px)
    y = (points_xy[:, 1] * height - top_px) / (bottom_px - top_px)
    return torch.from_numpy(np.stack([x, y])).float()


def slaney_filters(rate: int, fft_size: int, n_mels: int, fmin: float, fmax: float) -> np.ndarray:
    """(n_mels, fft_size / 2 + 1) area-normalised triangular filters on Slaney's mel scale."""

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


class Stft:
    """NumPy version of librosa.stft, as far as the public code uses it."""

    def __init__(self) -> None:
        self.pad_mode = "constant"

    def __call__(self, y: np.ndarray, n_fft: int, hop_length: int, win_length: int) -> np.ndarray:
        padded = np.pad(y, n_fft // 2, mode=self.pad_mode)
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(win_length) / win_length)
        starts = range(0, len(padded) - n_fft + 1, hop_length)
        return np.stack([np.fft.rfft(window * padded[start : start + n_fft]) for start in starts], 1)


class _public_code:  # noqa: N801 - used like a function
    """Context with the repository's `models` package on the CPU, its missing imports replaced by stand-ins."""

    def __init__(self, repo: Path) -> None:
        self.repo = repo
        librosa, filters = ModuleType("librosa"), ModuleType("librosa.filters")
        librosa.stft, librosa.filters, filters.mel = Stft(), filters, slaney_filters
        stand_ins = {name: MagicMock(spec=ModuleType, __path__=[]) for name in STAND_INS}
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
