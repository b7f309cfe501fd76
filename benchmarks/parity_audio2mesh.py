"""Parity of the audio-to-mesh engine with AniPortrait's public code, on random weights."""

from __future__ import annotations

import importlib
import math
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock, patch

import torch
from torch import Tensor, nn

from portraittalk_core.engines.audio2mesh import engine as audio2mesh
from portraittalk_core.engines.audio2mesh.engine import AXES, CM_PER_INTEROCULAR, PosedFace, load_audio2mesh
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.geometry import rotation_matrix
from portraittalk_core.types import LandmarkTrack, Speech, as_fps

from .parity import PublicCode, compared, run

PUBLIC = PublicCode("https://github.com/Zejun-Yang/AniPortrait", "src/audio_models/model.py")

SECONDS = (0.7, 5.0, 29.9)
LONG_SECONDS = 45.0  # predicted in pieces
OUT_SPREAD_CM = 0.05  # of the random last layer: displacements of a few centimetres, as speech has them
STAND_INS = ("librosa",)
# The public matrix is applied transposed, so that what it divides by is not the depth but far·near/(far − near) times
# it: the public picture is smaller by 1 in 10,000. Ours divides by the depth.
PUBLIC_SHRINKS_BY = 10_000 / 9_999


def measure(repo: Path) -> dict[str, float]:
    """Largest differences between the public network and projection in `repo` and ours, and the size of their output.

    Args:
        repo: a copy of github.com/Zejun-Yang/AniPortrait.
    """
    importlib.import_module("transformers.models.wav2vec2.modeling_wav2vec2")  # it must not meet the stand-ins
    stand_ins = {name: MagicMock() for name in STAND_INS}
    results = {}
    with patch.dict(sys.modules, stand_ins), patch.object(sys, "path", [str(repo), *sys.path]), _folder() as folder:
        model = importlib.import_module("src.audio_models.model")
        sound = importlib.import_module("src.utils.audio_util")
        public_net = _public_network(model, folder)
        torch.save(public_net.state_dict(), folder / "audio2mesh.pt")
        our_engine = load_audio2mesh(folder / "audio2mesh.pt")
        prepare = _public_preparation(sound, folder)
        for seconds in SECONDS:
            speech = Speech(_noise(seconds))
            expected = _predict(public_net, prepare(speech))
            results |= compared(f"{seconds:g} s", our_engine.offsets(speech), expected)
        speech = Speech(_noise(LONG_SECONDS))
        expected = _predict(public_net, prepare(speech))
        results |= compared(f"{LONG_SECONDS:g} s in pieces", our_engine.offsets(speech), expected)
        with patch.object(audio2mesh, "MAX_SINGLE_PASS", math.inf):
            results |= compared(f"{LONG_SECONDS:g} s in one piece", our_engine.offsets(speech), expected)
        results |= compared("projection, px", *_projections(repo, expected[:50]))
    return results


def _public_network(model: ModuleType, folder: Path) -> nn.Module:
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor

    Wav2Vec2Config(return_dict=True).save_pretrained(folder)  # the defaults are wav2vec2-base-960h's sizes
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    torch.manual_seed(0)
    options = {"out_dim": 1404, "latent_dim": 512, "model_path": str(folder)}
    network = model.Audio2MeshModel({**options, "only_last_fetures": True, "from_pretrained": False})
    network.audio_encoder.set_attn_implementation(
        "eager"
    )  # which alone has the attentions that the public code asks for
    nn.init.normal_(network.out_fn.weight, std=OUT_SPREAD_CM)  # the public code starts at zero
    return network.eval()


def _public_preparation(sound: ModuleType, folder: Path):
    """The public audio preprocessing of a clip, with its file reader replaced by the stand-in."""

    def prepare(speech: Speech) -> dict:
        sound.librosa.load.return_value = (speech.waveform.numpy(), Speech.sample_rate)
        return sound.prepare_audio_feature("clip.wav", wav2vec_model_path=str(folder))

    return prepare


@torch.no_grad()
def _predict(public_net: nn.Module, prepared: dict) -> Tensor:
    waveform = torch.from_numpy(prepared["audio_feature"]).float()[None]
    return public_net.infer(waveform, prepared["seq_len"])[0].reshape(-1, 468, 3)


def _projections(repo: Path, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Landmark shifts (px) of a rotated canonical face by our projection and by the public one."""
    pose_util = importlib.import_module("src.utils.pose_util")
    width, height = 640, 480
    rotation = rotation_matrix(torch.tensor([[8.0, -15.0, 5.0]]))[0]
    points = canonical_face() @ rotation.T * 90 + torch.tensor([330.0, 210.0, 0.0])
    camera = PosedFace(LandmarkTrack.from_px(points[None], width, height, as_fps(25)))
    matrix = torch.eye(4, dtype=torch.float64)  # the pose that we found, in MediaPipe's axes and centimetres
    flip = torch.diag(torch.tensor(AXES, dtype=torch.float64))
    origin = camera.points[0] - canonical_face()[0].double() @ camera.rotation.T
    matrix[:3, :3], matrix[:3, 3] = flip @ camera.rotation @ flip, flip @ origin * CM_PER_INTEROCULAR
    at_rest = canonical_face()[:468].double() @ flip * CM_PER_INTEROCULAR
    moved = torch.cat([at_rest[None], at_rest + offsets]).numpy()
    projected = pose_util.project_points_with_trans(moved, [matrix.numpy()] * len(moved), (height, width))
    projected = torch.from_numpy(projected)
    return camera.shift_px(offsets)[..., :2], (projected[1:] - projected[:1]) * PUBLIC_SHRINKS_BY


def _noise(seconds: float) -> Tensor:
    """Amplitude-modulated noise with an offset, so that normalising matters."""
    generator = torch.Generator().manual_seed(1)
    time_s = torch.arange(round(seconds * Speech.sample_rate)) / Speech.sample_rate
    noise = torch.randn(len(time_s), generator=generator) * (0.05 + 0.1 * (6 * time_s).sin().square())
    return (noise + 0.02).clamp(-1, 1)


class _folder(tempfile.TemporaryDirectory):  # noqa: N801 - used like a function
    def __enter__(self) -> Path:
        return Path(super().__enter__())


if __name__ == "__main__":
    raise SystemExit(run(PUBLIC, measure))
