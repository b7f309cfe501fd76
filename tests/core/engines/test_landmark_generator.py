import math

import numpy as np
import pytest
import torch
from torch import nn

from portraittalk_core.engines.contract import EngineFiles
from portraittalk_core.engines.landmark_generator import sound as module
from portraittalk_core.engines.landmark_generator.engine import (
    LandmarkGenerator,
    face_crop,
    load_landmark_generator,
    reference_frames,
    skin_weights,
)
from portraittalk_core.engines.landmark_generator.network import LandmarkNet
from portraittalk_core.engines.registry import open_engine
from portraittalk_core.errors import InputError, MissingDependency
from portraittalk_core.face import topology as topo
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.lip_points import CONTENT_POINTS, INNER_LIPS, JAW_POINTS, LIP_POINTS, POSE_POINTS
from portraittalk_core.speech.wav2lip_mel import wav2lip_mel
from portraittalk_core.types import LandmarkTrack, Speech, as_fps

RATE = 16000


def track_of(points: torch.Tensor, width: int = 640, height: int = 480) -> LandmarkTrack:
    return LandmarkTrack.from_px(points, width, height, as_fps(25))


@pytest.fixture
def face() -> torch.Tensor:
    return canonical_face() * 100 + torch.tensor([300.0, 200.0, 0.0])


@pytest.fixture
def reference(face) -> LandmarkTrack:
    return track_of(face[None])


@pytest.fixture(scope="module")
def net() -> LandmarkNet:
    """Random weights, none of them zero or one that training would change."""
    generator = torch.Generator().manual_seed(0)
    network = LandmarkNet().eval().requires_grad_(False)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2, generator=generator)
        elif name.endswith(("bias", "running_mean")):
            tensor.normal_(0, 0.2, generator=generator)
        elif tensor.is_floating_point() and tensor.ndim > 1 and not name.endswith(".pe"):
            tensor.normal_(0, 1.4 / math.sqrt(tensor[0].numel()), generator=generator)
        elif tensor.ndim == 1:
            tensor.uniform_(0.7, 1.3, generator=generator)
    return network


class ByHand:
    """The published network in NumPy, from its tensors and the paper, one window at a time."""

    def __init__(self, network: LandmarkNet) -> None:
        self.given = {name: tensor.double().numpy() for name, tensor in network.state_dict().items()}

    def unit(self, name: str, x: np.ndarray, stride, margin: int, residual: bool, last: bool) -> np.ndarray:
        weight, bias = (self.given[f"{name}.conv_block.0.{part}"] for part in ("weight", "bias"))
        gain, shift, mean, var = (
            self.given[f"{name}.conv_block.1.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        )
        across = x.ndim - 1
        padded = np.pad(x, ((0, 0), *[(margin, margin)] * across))
        views = np.lib.stride_tricks.sliding_window_view(padded, weight.shape[2:], tuple(range(1, x.ndim)))
        views = views[(slice(None), *[slice(None, None, s) for s in np.broadcast_to(stride, across)])]
        over = tuple(range(1, 2 + across))
        made = np.tensordot(weight, views, (over, (0, *range(1 + across, 1 + 2 * across))))
        tall = (-1, *[1] * across)
        made = (made + bias.reshape(tall) - mean.reshape(tall)) / np.sqrt(var.reshape(tall) + 1e-5)
        made = made * gain.reshape(tall) + shift.reshape(tall)
        if residual:
            made = made + x
        return np.tanh(made) if last else np.maximum(made, 0)

    def encode(self, name: str, x: np.ndarray, plan: list, last_residual: bool = False) -> np.ndarray:
        """`plan` has every unit's stride, or "=" for a repetition; two units to 512 channels follow."""
        for i, stride in enumerate(plan):
            same = stride == "="
            x = self.unit(f"{name}.{i}", x, 1 if same else stride, 1, same, False)
        x = self.unit(f"{name}.{len(plan)}", x, 1, 0, False, False)
        x = self.unit(f"{name}.{len(plan) + 1}", x, 1, 0, last_residual, True)
        return self.norm("Norm", x.reshape(512))

    def norm(self, name: str, x: np.ndarray) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * self.given[f"{name}.weight"] + self.given[f"{name}.bias"]

    def linear(self, name: str, x: np.ndarray, part: slice = slice(None)) -> np.ndarray:
        return x @ self.given[f"{name}weight"][part].T + self.given[f"{name}bias"][part]

    def layer(self, name: str, x: np.ndarray) -> np.ndarray:
        query, key, value = (
            self.linear(f"{name}.self_attn.in_proj_", x, slice(512 * i, 512 * i + 512)) for i in range(3)
        )
        heads = []
        for i in range(4):
            own = slice(128 * i, 128 * i + 128)
            score = np.exp(query[:, own] @ key[:, own].T / math.sqrt(128))
            heads.append(score / score.sum(1, keepdims=True) @ value[:, own])
        x = self.norm(f"{name}.norm1", x + self.linear(f"{name}.self_attn.out_proj.", np.concatenate(heads, 1)))
        hidden = np.maximum(self.linear(f"{name}.linear1.", x), 0)
        return self.norm(f"{name}.norm2", x + self.linear(f"{name}.linear2.", hidden))

    def run(self, chunks: np.ndarray, poses: np.ndarray, faces: np.ndarray) -> np.ndarray:
        """(5, 80, 16), (5, 74, 2) and (R, 131, 2) to (5, 57, 2)."""
        rest = [2, "=", "="] * 4
        mel_plan = [1, "=", "=", (3, 1), "=", "=", 3, "=", "=", (3, 2), "="]
        sound = np.stack([self.encode("mel_encoder", chunk[None], mel_plan) for chunk in chunks])
        pose_plan = [1, 1, "=", "=", *rest, 2, "=", "="]
        pose = np.stack([self.encode("pose_encoder", points.T, pose_plan, True) for points in poses])
        seen = np.stack([self.encode("ref_encoder", f.T, [1, 2, "=", "=", *rest, 2, "="]) for f in faces])
        kinds = self.given["fusion_transformer.modality.weight"]
        place = np.array(
            [[(math.cos if d % 2 else math.sin)(t / 10000 ** (d // 2 / 256)) for d in range(512)] for t in range(5)]
        )
        tokens = np.concatenate([seen + kinds[3], sound + place + kinds[2], pose + place + kinds[1]])
        for i in range(4):
            tokens = self.layer(f"fusion_transformer.transformer_encoder.layers.{i}", tokens)
        jaw, lips = self.linear("jaw_keypoint_map.", tokens[-5:]), self.linear("mouse_keypoint_map.", tokens[-10:-5])
        return np.concatenate([jaw, lips], 1).reshape(5, 57, 2)


def test_network_matches_the_network_by_hand(net):
    generator = torch.Generator().manual_seed(1)
    chunks = 2 * torch.randn(5, 80, 16, generator=generator)
    poses, faces = torch.rand(5, 74, 2, generator=generator), torch.rand(3, 131, 2, generator=generator)
    content = net(net.encode_sound(chunks)[None], net.encode_pose(poses)[None], net.encode_reference(faces)[None])[0]
    expected = ByHand(net).run(chunks.double().numpy(), poses.double().numpy(), faces.double().numpy())
    assert content.shape == expected.shape
    assert np.abs(np.diff(expected, axis=0)).max() > 0.1
    assert np.abs(content.numpy() - expected).max() < 1e-5


def test_network_has_the_published_tensors(net):
    assert len(net.state_dict()) == 435
    assert sum(p.numel() for p in net.parameters()) == 13_724_394


def sound(seconds: float = 0.8, quiet: float = 0.0) -> Speech:
    loud = 0.2 * torch.randn(int(RATE * seconds), generator=torch.Generator().manual_seed(2))
    return Speech(torch.cat([torch.zeros(int(RATE * quiet)), loud]))


@pytest.mark.parametrize("batch", [16, 3])
def test_content_is_the_middle_of_every_frames_own_window(net, face, monkeypatch, batch):
    monkeypatch.setattr(module, "BATCH", batch)
    speech, engine = sound(0.5, quiet=0.3), LandmarkGenerator(net)
    points = face.repeat(4, 1, 1)
    points[:, 17, 1] += torch.tensor([5.0, 30.0, 0.0, 12.0])
    points[1:] *= 0.9
    track = track_of(points)
    mel = wav2lip_mel(Speech(torch.nn.functional.pad(speech.waveform, (0, 4000))))
    chunks = [mel[:, int(3.2 * k) : int(3.2 * k) + 16] for k in range(24)]
    units = [face_crop(track, t).to_unit(points[t, :, :2]) for t in range(4)]
    # by the drop of point 17, frames 2, 0, 3, 1; fifteen steps from the first to the last rank, rounded down
    seen = torch.stack([units[t][list(LIP_POINTS)] for t in [2] * 5 + [0] * 5 + [3] * 4 + [1]])
    pose = net.encode_pose(units[0][list(POSE_POINTS)].repeat(5, 1, 1))
    for t, actual in enumerate(engine.content(speech, track)):
        heard = net.encode_sound(torch.stack([chunks[max(0, p - 2)] for p in range(t - 2, t + 3)]))
        expected = net(heard[None], pose[None], net.encode_reference(seen)[None])[0, 2]
        assert (actual - expected).abs().max() < 2e-5, t


def test_silence_is_exactly_no_motion(net, reference):
    motion = LandmarkGenerator(net).raw_motion(sound(0.4, quiet=0.6), reference)
    moved = motion.shift_px.abs().amax((1, 2))
    assert motion.rate == 25
    assert not moved[:10].any()  # the window of frame 10 hears the sound at 600 ms first: columns up to 600 ms, ± 25 ms
    assert moved[10:].min() > 1


def test_a_network_that_ignores_sound_is_exactly_no_motion(net, reference):
    deaf = LandmarkNet()
    deaf.load_state_dict(net.state_dict())
    nn.init.zeros_(deaf.jaw_keypoint_map.weight)
    nn.init.zeros_(deaf.mouse_keypoint_map.weight)
    assert not LandmarkGenerator(deaf.eval()).raw_motion(sound(), reference).shift_px.any()


class Chewing(nn.Module):
    """Moves every point by a tenth of the crop's width and a fifth of its height while it hears anything."""

    def __init__(self) -> None:
        super().__init__()
        self.none = nn.Parameter(torch.zeros(1))

    def encode_sound(self, chunks):
        return (chunks > -4).flatten(1).any(1)[:, None].float()

    def encode_pose(self, points):
        return torch.zeros(len(points), 1)

    encode_reference = encode_pose

    def forward(self, heard, pose, references):
        return 0.5 + heard[..., None] * torch.tensor([0.1, 0.2]).expand(len(heard), 5, len(CONTENT_POINTS), 2)


def test_motion_is_scaled_by_the_crop_and_carried_over_the_skin(face, reference):
    motion = LandmarkGenerator(Chewing()).raw_motion(sound(), reference)
    seen = face[list(LIP_POINTS), :2]
    low, high = (seen.amin(0) - 25).floor(), (seen.amax(0) + 25).floor()
    expected = torch.tensor([0.1, 0.2]) * (high - low)
    shift = motion.shift_px[10]
    assert torch.allclose(shift[list(CONTENT_POINTS), :2], expected.expand(57, 2), atol=1e-3)
    assert torch.allclose(shift[list(topo.LIPS), :2], expected.expand(len(topo.LIPS), 2), atol=1e-3)
    skin_of_chin = shift[[18, 199, 200, 175], :2]
    assert torch.allclose(skin_of_chin, expected.expand(4, 2), rtol=0.1)
    assert shift[[topo.FOREHEAD_TOP, topo.NOSE_TIP, *topo.RIGID]].abs().max() < 0.1
    assert not shift[[*topo.EYELIDS, *topo.RIGHT_IRIS, *topo.LEFT_IRIS]].any()
    assert not motion.shift_px[..., 2].any()


def test_a_dropping_jaw_takes_the_skin_along_evenly(face):
    """Only the jaw moves: points from the lower lip down to the chin follow more and more."""
    jaw = torch.tensor([point in JAW_POINTS for point in CONTENT_POINTS]).float()
    follow = skin_weights(face) @ jaw
    assert follow[[17, 18, 200, 199, 175, 152]].diff().min() > 0
    assert float(follow[17]) == 0
    assert float(follow[152]) == 1
    assert follow.min() > -0.15
    assert follow.max() < 1.1


def test_middle_rings_of_the_lips_lie_between_the_outer_and_the_inner(face):
    weights = skin_weights(face)
    inner = weights @ torch.tensor([point in INNER_LIPS for point in CONTENT_POINTS]).float()
    for rings in (topo.UPPER_LIP_RINGS, topo.LOWER_LIP_RINGS):
        along = torch.stack([inner[list(ring)] for ring in rings])
        assert (along[0] == 0).all()
        assert (along[3] == 1).all()
        assert along.diff(dim=0).min() >= 0


@pytest.mark.parametrize("move", [(0.0, 0.0), (-200.0, -140.0), (330.0, 250.0)])
def test_crop_spans_the_points_and_a_margin_within_the_picture(face, move):
    moved = face + torch.tensor([*move, 0.0])
    crop = face_crop(track_of(moved[None]), 0, 25)
    x, y = (moved[list(LIP_POINTS), axis].double().numpy() for axis in (0, 1))
    left, right = int(max(x.min() - 25, 0)), int(min(x.max() + 25, 640))
    top, bottom = int(max(y.min() - 25, 0)), int(min(y.max() + 25, 480))
    assert crop.corner_px.tolist() == [left, top]
    assert crop.size_px.tolist() == [right - left, bottom - top]
    assert torch.equal(crop.to_unit(torch.tensor([[left, top], [right, bottom]])), torch.tensor([[0.0, 0], [1, 1]]))


def test_a_face_outside_the_picture_is_refused(net, face):
    away = track_of(face[None] + torch.tensor([2000.0, 0, 0]))
    with pytest.raises(InputError, match="x 21.*640×480"):
        LandmarkGenerator(net).raw_motion(sound(), away)


def test_references_are_quantiles_of_the_mouths_opening(face):
    order = np.random.default_rng(0).permutation(30)
    points = face.repeat(30, 1, 1)
    points[:, 17, 1] += torch.from_numpy(order).float()
    ranks = [int(rank) for rank in np.linspace(0, 29, 15)]
    assert order[reference_frames(track_of(points))].tolist() == ranks
    assert reference_frames(track_of(points[:1])).tolist() == [0] * 15


@pytest.mark.parametrize("samples", [1, 640, 641, 5000])
def test_engine_speaks_the_shortest_clips(net, reference, samples):
    motion = LandmarkGenerator(net).raw_motion(Speech(0.1 * torch.ones(samples)), reference)
    assert len(motion) == math.ceil(samples / 640)


def test_progress_tells_every_batch_and_may_interrupt(reference):
    told = []
    engine = LandmarkGenerator(Chewing())
    engine.raw_motion(sound(2), reference, lambda *now: told.append(now))
    assert told == [(16, 50), (32, 50), (48, 50), (50, 50)]

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.raw_motion(sound(2), reference, stop)


def test_files_load_as_published_and_others_are_refused(net, reference, tmp_path):
    path, tensors = tmp_path / "any.pth", net.state_dict()
    training = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-4}]}
    named = {f"module.{name}": tensor for name, tensor in tensors.items()}
    torch.save({"state_dict": named, "optimizer": training, "global_step": 5, "global_epoch": 1}, path)
    expected = LandmarkGenerator(net).content(sound(0.1), reference)
    assert torch.equal(load_landmark_generator(path).content(sound(0.1), reference), expected)
    assert open_engine(EngineFiles(path)).name == LandmarkGenerator.name
    torch.save({"state_dict": {n: t for n, t in tensors.items() if n != "Norm.bias"}}, path)
    with pytest.raises(InputError, match="any.pth.*LandmarkNet.*lacks Norm.bias"):
        load_landmark_generator(path)
    torch.save({"state_dict": {**tensors, "flow_module.a": torch.ones(1)}}, path)
    with pytest.raises(InputError, match="also holds flow_module.a"):
        load_landmark_generator(path)
    with pytest.raises(MissingDependency, match="none.pth"):
        load_landmark_generator(tmp_path / "none.pth")


@pytest.mark.parametrize("margin", [-1.0, math.nan, 5000])
def test_margins_outside_the_range_are_refused(margin):
    with pytest.raises(InputError, match="crop_margin_px"):
        LandmarkGenerator(Chewing(), margin)
