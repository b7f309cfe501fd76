import math

import numpy as np
import pytest
import torch
import transformers
from scipy.spatial.transform import Rotation
from torch import nn

from portraittalk_core.engines.audio2mesh import engine as audio2mesh
from portraittalk_core.engines.audio2mesh.engine import PosedFace, load_audio2mesh
from portraittalk_core.errors import InputError
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.types import LandmarkTrack, Speech, as_fps

SIZE = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 96}
SMALL = {"conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}


class Public(nn.Module):
    """The published network, put together from transformers' whole wav2vec 2.0."""

    def __init__(self) -> None:
        super().__init__()
        self.audio_encoder = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**SIZE, **SMALL))
        self.in_fn, self.out_fn = nn.Linear(64, 32), nn.Linear(32, 1404)

    @torch.no_grad()
    def predict(self, waveform: torch.Tensor) -> torch.Tensor:
        extractor = transformers.Wav2Vec2FeatureExtractor()
        heard = torch.from_numpy(extractor(waveform.numpy(), sampling_rate=16_000).input_values[0])[None]
        features = self.audio_encoder.feature_extractor(heard)
        frames = math.ceil(heard.shape[1] * 30 / 16_000)
        spread = nn.functional.interpolate(features, size=frames, mode="linear", align_corners=True)
        hidden, _ = self.audio_encoder.feature_projection(spread.transpose(1, 2))
        last = self.audio_encoder.encoder(hidden)[0]
        return self.out_fn(self.in_fn(last))[0].unflatten(-1, (468, 3))


@pytest.fixture
def public():
    torch.manual_seed(0)
    return Public().eval()


@pytest.fixture
def save(tmp_path):
    def write(network: nn.Module, **more: torch.Tensor):
        path = tmp_path / "audio2mesh.pt"
        torch.save({**network.state_dict(), **more}, path)
        return path

    return write


def clip(seconds: float) -> Speech:
    generator = torch.Generator().manual_seed(5)
    samples = round(16_000 * seconds)
    return Speech(0.1 * torch.randn(samples, generator=generator) * torch.linspace(0.2, 1, samples) + 0.02)


def canonical_track(width: int = 640, height: int = 480, angles=(10.0, -20.0, 5.0)) -> LandmarkTrack:
    turn = torch.from_numpy(Rotation.from_euler("xyz", angles, degrees=True).as_matrix()).float()
    points = canonical_face() @ turn.T * 80 + torch.tensor([300.0, 200.0, 0.0])
    return LandmarkTrack.from_px(points[None], width, height, as_fps(25))


@pytest.mark.parametrize("seconds", [0.025, 0.06, 1.0, 2.345])
def test_offsets_match_transformers(public, save, seconds):
    speech = clip(seconds)
    expected = public.predict(speech.waveform)
    offsets = load_audio2mesh(save(public)).offsets(speech)
    assert offsets.shape == (math.ceil(seconds * 30), 468, 3)
    torch.testing.assert_close(offsets, expected, atol=1e-5, rtol=0)


def test_long_clip_in_pieces_is_that_of_the_whole_where_attention_is_off(public, save, monkeypatch):
    for layer in public.audio_encoder.encoder.layers:
        nn.init.zeros_(layer.attention.out_proj.weight)
    nn.init.zeros_(public.audio_encoder.encoder.pos_conv_embed.conv.bias)
    public.audio_encoder.encoder.pos_conv_embed.conv.parametrizations.weight.original0.data.zero_()
    monkeypatch.setattr(audio2mesh, "MAX_SINGLE_PASS", 50)
    monkeypatch.setattr(audio2mesh, "SPAN", 30)
    monkeypatch.setattr(audio2mesh, "CONTEXT", 10)
    monkeypatch.setattr(audio2mesh, "BLOCK", 1000)
    speech = clip(4.1)
    offsets = load_audio2mesh(save(public)).offsets(speech)
    torch.testing.assert_close(offsets, public.predict(speech.waveform), atol=1e-5, rtol=0)


def test_no_displacement_is_exactly_no_motion(public, save):
    nn.init.zeros_(public.out_fn.weight)
    nn.init.zeros_(public.out_fn.bias)
    motion = load_audio2mesh(save(public)).raw_motion(clip(1.0), canonical_track())
    assert motion.rate == 30
    assert motion.shift_px.shape == (30, 478, 3)
    assert not motion.shift_px.any()


def test_irises_do_not_move(public, save):
    motion = load_audio2mesh(save(public)).raw_motion(clip(0.5), canonical_track())
    assert not motion.shift_px[:, 468:].any()
    assert (motion.shift_px[:, :468].abs().amax((0, 2)) > 0).all()


def test_picture_of_a_displacement_matches_matrices():
    """MediaPipe's camera as 4×4 matrices in centimetres, on the pose that the track was made with."""
    width, height, size, middle = 640, 480, 80.0, np.array([300.0, 200.0])
    angles = (10.0, -20.0, 5.0)
    offsets = torch.randn(3, 468, 3, generator=torch.Generator().manual_seed(1))
    half_view = math.tan(math.radians(31.5))
    depth_cm = height / 2 / half_view / size * 6.302291
    flip = np.diag([1.0, -1.0, -1.0])  # y up, z to the viewer
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    pose = np.eye(4)
    pose[:3, :3] = flip @ turn @ flip
    pose[:3, 3] = [(middle[0] - 320) / size * 6.302291, -(middle[1] - 240) / size * 6.302291, -depth_cm]
    camera = np.zeros((4, 4))
    camera[0, 0], camera[1, 1], camera[3, 2] = height / width / half_view, -1 / half_view, -1

    def pictured(points: np.ndarray) -> np.ndarray:
        seen = np.concatenate([points, np.ones((len(points), 1))], 1) @ (camera @ pose).T
        return (seen[:, :2] / seen[:, 3:] + 1) / 2 * [width, height]

    rest = canonical_face()[:468].double().numpy() @ flip * 6.302291
    expected = np.stack([pictured(rest + moved) - pictured(rest) for moved in offsets.double().numpy()])
    shift = PosedFace(canonical_track(width, height, angles)).shift_px(offsets).numpy()
    # our pose is measured through a lens of 30 inter-ocular distances on a track without perspective
    np.testing.assert_allclose(shift[..., :2], expected, atol=0.03 * np.abs(expected).max())
    deeper = (offsets.double().numpy() @ flip @ turn.T)[..., 2] * size / 6.302291
    np.testing.assert_allclose(shift[..., 2], deeper, atol=0.03 * np.abs(deeper).max())


def test_displacements_scale_with_the_face():
    down = torch.zeros(1, 468, 3)
    down[0, 152, 1] = -1.0  # the chin, 1 cm
    small, large = (LandmarkTrack.from_px(canonical_face()[None] * s + 256, 512, 512, as_fps(25)) for s in (20.0, 40.0))
    moved = [PosedFace(track).shift_px(down)[0, 152, 1].item() for track in (small, large)]
    assert moved[0] == pytest.approx(20 / 6.302291, rel=0.05)
    assert moved[1] == pytest.approx(2 * moved[0], rel=0.1)


def test_progress_reaches_the_end_and_may_interrupt(public, save, monkeypatch):
    monkeypatch.setattr(audio2mesh, "MAX_SINGLE_PASS", 50)
    monkeypatch.setattr(audio2mesh, "SPAN", 30)
    monkeypatch.setattr(audio2mesh, "CONTEXT", 10)
    engine = load_audio2mesh(save(public))
    told = []
    engine.raw_motion(clip(3.0), canonical_track(), lambda done, total: told.append((done, total)))
    total = 1 + 3 * 9  # one block of statistics; 3 pieces of 7 convolutions and 2 layers
    assert told == [(i, total) for i in range(1, total + 1)]

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.offsets(clip(1.0), stop)
    engine.offsets(clip(1.0))
    assert len(told) == total


def test_silence_gives_finite_motion(public, save):
    motion = load_audio2mesh(save(public)).raw_motion(Speech(torch.zeros(16_000)), canonical_track())
    assert torch.isfinite(motion.shift_px).all()


def test_engine_rejects_short_speech_and_several_references(public, save):
    engine = load_audio2mesh(save(public))
    with pytest.raises(InputError, match="at least 25 ms"):
        engine.raw_motion(Speech(torch.zeros(399)), canonical_track())
    twice = canonical_track()
    twice = LandmarkTrack.from_px(twice.points_px.repeat(2, 1, 1), 640, 480, as_fps(25))
    with pytest.raises(InputError, match="one frame of landmarks, not 2"):
        engine.raw_motion(clip(1.0), twice)


def test_loader_knows_old_names_of_weight_normalisation(public, tmp_path):
    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    tensors = public.state_dict()
    for new, old in names.items():
        tensors = {name.replace(new, old): value for name, value in tensors.items()}
    torch.save(tensors | {"audio_encoder.masked_spec_embed": torch.zeros(64)}, tmp_path / "audio2mesh.pt")
    speech = clip(0.5)
    offsets = load_audio2mesh(tmp_path / "audio2mesh.pt").offsets(speech)
    torch.testing.assert_close(offsets, public.predict(speech.waveform), atol=1e-5, rtol=0)


def test_loader_rejects_other_files(public, save, tmp_path):
    torch.save({"in_fn.weight": torch.zeros(2, 2), "pose_map.weight": torch.zeros(2, 2)}, tmp_path / "a2p.pt")
    with pytest.raises(InputError, match="a2p.pt is not AniPortrait's audio2mesh.pt .*audio2pose"):
        load_audio2mesh(tmp_path / "a2p.pt")
    public.out_fn = nn.Linear(32, 204)
    with pytest.raises(InputError, match="moves 68 points; audio2mesh moves 468"):
        load_audio2mesh(save(public))


def test_loader_rejects_leftovers(public, save):
    with pytest.raises(InputError, match="also holds pose_map.weight"):
        load_audio2mesh(save(public, **{"pose_map.weight": torch.zeros(2)}))
