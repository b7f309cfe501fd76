import dataclasses

import pytest
import torch
from toy_speech import write_speaking

from portraittalk_core.errors import InputError
from portraittalk_core.renderers.implicit.audio2exp.files import load_audio2exp
from portraittalk_core.renderers.implicit.contract import Keypoints
from portraittalk_core.renderers.implicit.files import open_keypoint_model, write_random_files
from portraittalk_core.training.audio2exp.config import (
    Audio2ExpTrainer,
    Audio2ExpTraining,
    load_audio2exp_config,
)
from portraittalk_core.training.audio2exp.losses import OutsideMouthLoss, outside_mouth, range_loss
from portraittalk_core.training.audio2exp.stage import train_audio2exp
from portraittalk_core.training.data.kept_keypoints import closed_expressions, keep_keypoints
from portraittalk_core.training.data.squares import fit_square
from portraittalk_core.training.data.video_clips import read_videos
from portraittalk_core.training.loop.checkpoints import load_checkpoint
from portraittalk_core.training.sync.network import SYNC_SIZES, SyncNetwork, load_sync, save_sync

pytest.importorskip("accelerate")
pytestmark = pytest.mark.usefixtures("one_thread")
QUICK = Audio2ExpTrainer(steps=4, batch_size=2, learning_rate=1e-3, save_every=2, sample_every=4)
LAYOUT = "face-vid2vid-15"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write_speaking(folder / "clips", ["a", "b"])
    write_random_files(folder / "renderer", LAYOUT)
    torch.manual_seed(0)
    save_sync(SyncNetwork(SYNC_SIZES["tiny"], 160), folder / "sync.safetensors", {})
    return folder


def config(files, out, **changes):
    paths = files / "clips", files / "renderer", files / "sync.safetensors"
    return Audio2ExpTraining(*paths, out, trainer=QUICK, **changes)


def content(path):
    kept = load_checkpoint(path)
    return {name: tensor.numpy().tobytes() for name, tensor in kept.tensors.items()}, kept.notes


def stop_at(step):
    def on_progress(done, total):
        if done == step:
            raise KeyboardInterrupt

    return on_progress


@pytest.mark.slow
def test_audio2exp_training_resumes_bit_for_bit_and_changes_one_layer_alone(files, tmp_path):
    whole = train_audio2exp(config(files, tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        train_audio2exp(config(files, tmp_path / "cut"), stop_at(2))
    cut = train_audio2exp(config(files, tmp_path / "cut"))
    assert cut.training.resumed_from == 2
    assert content(whole.training.checkpoint) == content(cut.training.checkpoint)
    assert whole.training.log.read_text() == cut.training.log.read_text()
    network, sync = load_audio2exp(whole.audio2exp), load_sync(files / "sync.safetensors")
    for name, tensor in sync.audio_encoder.state_dict().items():
        assert torch.equal(network.audio_encoder.state_dict()[name], tensor)
    assert network.out_fc.weight.any() and network.size.layout == LAYOUT and network.size.features == 160
    assert len(whole.training.samples) == 1


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"silent_target": "sync", "silence": 1.0}, {"train_audio_encoder": True}])
def test_audio2exp_trains_by_other_settings(files, tmp_path, changes):
    quick = dataclasses.replace(QUICK, steps=1, sample_every=0)
    result = train_audio2exp(dataclasses.replace(config(files, tmp_path, **changes), trainer=quick))
    tensors = load_checkpoint(result.training.checkpoint).part("weights")
    assert ("audio_encoder.fc1.fc.weight" in tensors) == ("train_audio_encoder" in changes)


@pytest.mark.slow
def test_audio2exp_moves_liveportrait_too(files, tmp_path):
    """Whose pictures are twice as large as its crops, and whose expression is added before the turn."""
    write_random_files(tmp_path / "liveportrait", "liveportrait-21")
    quick = dataclasses.replace(QUICK, steps=1, sample_every=1)
    settings = dataclasses.replace(config(files, tmp_path / "run"), renderer=tmp_path / "liveportrait", trainer=quick)
    result = train_audio2exp(settings)
    assert load_audio2exp(result.audio2exp).size.layout == "liveportrait-21"
    from PIL import Image

    assert Image.open(result.training.samples[0]).size == (3 * 128, 3 * 128)


def test_sync_network_of_other_rows_is_refused(files, tmp_path):
    save_sync(SyncNetwork(SYNC_SIZES["tiny"], 7), tmp_path / "sync.safetensors", {})
    with pytest.raises(InputError, match="hears rows of 7 channels, and log-mel rows have 160"):
        train_audio2exp(dataclasses.replace(config(files, tmp_path), sync=tmp_path / "sync.safetensors"))


def test_alpha_rises_over_the_first_half():
    settings = Audio2ExpTraining(*["x"] * 4)
    assert [settings.alpha_at(step, 100) for step in (1, 25, 50, 100)] == [0.02, 0.5, 1.0, 1.0]
    assert dataclasses.replace(settings, ramp=0.0).alpha_at(1, 100) == 1


def test_closed_expression_takes_away_what_goes_with_the_opening_and_nothing_else():
    draw = torch.Generator().manual_seed(0)
    opening = torch.rand(200, generator=draw)
    opening[:20] = 0.0  # shut
    rest, slope = torch.randn(15, 3, generator=draw), torch.randn(15, 3, generator=draw)
    other = torch.randn(200, generator=draw)
    other -= other.mean()
    centred = opening - opening.mean()
    other -= centred * (centred @ other) / (centred @ centred)  # does not go with the mouth
    brows = torch.zeros(15, 3)
    brows[3] = 1
    expression = rest + opening[:, None, None] * slope + other[:, None, None] * brows
    closed = closed_expressions(expression, opening, torch.ones(200, dtype=torch.bool))
    assert torch.allclose(closed, rest + other[:, None, None] * brows, atol=1e-4)


def test_kept_keypoints_are_those_of_the_renderer_and_found_once(files, tmp_path):
    model, _ = open_keypoint_model(files / "renderer")
    videos, ticks = read_videos(files / "clips", 5).videos, []
    kept = keep_keypoints(tmp_path, videos, model, lambda: ticks.append(0))
    assert len(ticks) == 4  # 30 frames of each, 16 at a time
    keep_keypoints(tmp_path, videos, model, lambda: ticks.append(0))
    assert len(ticks) == 4
    found, closed = kept.of(1, range(7, 12))
    expected = model.keypoints(torch.stack([(fit_square(videos[1].read(f), 64) + 1) / 2 for f in range(7, 12)]))
    assert isinstance(found, Keypoints) and closed.shape == (5, 15, 3)
    for name in ("canonical", "expression", "rotation_deg"):
        assert torch.allclose(getattr(found, name), getattr(expected, name), atol=1e-4)
    every = [kept.of(video, range(30)) for video in range(2)]
    low, high = kept.expression_limits()
    expressions = torch.cat([points.expression for points, _ in every])
    assert torch.equal(low, expressions.min(0).values) and torch.equal(high, expressions.max(0).values)
    away = torch.cat([shut - points.expression for points, shut in every]).abs()
    assert kept.mouth_spread() == pytest.approx(float(away.square().mean().sqrt()), rel=1e-4)


def test_expressions_count_beyond_the_limits_alone():
    low, high = -torch.ones(2, 3), torch.ones(2, 3)
    inside = torch.tensor([[[-1.0, 0, 1], [0.5, -0.5, 0.9]]])
    assert range_loss(inside, low, high, 0.5) == 0
    inside[0, 0, 2], inside[0, 1, 0] = 2.0, -1.5  # 2 and 1 spreads beyond
    assert float(range_loss(inside, low, high, 0.5)) == pytest.approx((4 + 1) / 6)


def test_mouth_does_not_count_outside_it():
    boxes = torch.tensor([[2.0, 3, 6, 5]])
    mask = outside_mouth(boxes, 8)
    assert mask.shape == (1, 1, 8, 8) and mask.sum() == 64 - 8 and not mask[0, 0, 3:5, 2:6].any()
    first = torch.rand(1, 3, 8, 8)
    second = first.clone()
    second[..., 3:5, 2:6] = 0
    assert OutsideMouthLoss(None)(first, second, boxes) == 0
    second[..., 0, 0] += 1
    assert OutsideMouthLoss(None)(first, second, boxes) > 0


@pytest.mark.parametrize(
    ("line", "message"), [('sync_loss = "cos"', "sync_loss"), ("ramp = 2.0", "ramp"), ('silent_target = "x"', "silent")]
)
def test_settings_are_checked(line, message, tmp_path):
    path = tmp_path / "audio2exp.toml"
    path.write_text(f'data = "a"\nrenderer = "b"\nsync = "c"\nout = "d"\n{line}\n')
    with pytest.raises(InputError, match=message):
        load_audio2exp_config(path)
