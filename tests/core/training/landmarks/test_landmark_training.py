import dataclasses
import json

import numpy as np
import pytest
import torch
from toy_speech import write_speaking

from portraittalk_core.engines.contract import EngineFiles
from portraittalk_core.engines.landmark_generator.engine import load_landmark_generator
from portraittalk_core.engines.landmark_generator.network import LANDMARK_SIZES, LandmarkNet, save_landmark_net
from portraittalk_core.engines.registry import open_engine
from portraittalk_core.errors import InputError
from portraittalk_core.face.lip_points import CONTENT_POINTS, LIP_POINTS
from portraittalk_core.media.records import load_record, save_record
from portraittalk_core.media.tensor_file import save_tensors
from portraittalk_core.speech.wav2lip_mel import wav2lip_mel
from portraittalk_core.training.data.video_clips import SPEECH, TRACK, read_videos
from portraittalk_core.training.landmarks.config import LandmarkTrainer, LandmarkTraining, load_landmark_config
from portraittalk_core.training.landmarks.data import LandmarkWindows, read_clips
from portraittalk_core.training.landmarks.stage import landmark_losses, new_landmark_net, predict, train_landmarks
from portraittalk_core.training.loop.checkpoints import load_checkpoint
from portraittalk_core.types import LandmarkTrack, Speech, as_fps
from portraittalk_core.weights.load import read_tensors

pytest.importorskip("accelerate")
pytestmark = pytest.mark.usefixtures("one_thread")
QUICK = LandmarkTrainer(steps=4, batch_size=4, learning_rate=1e-3, save_every=2, sample_every=4)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Two puppets whose mouth is as far open as their tone is loud."""
    return write_speaking(tmp_path_factory.mktemp("clips"), ["a", "b"])


@pytest.fixture(scope="module")
def windows(clips) -> LandmarkWindows:
    return LandmarkWindows(read_clips(clips, read_videos(clips, 5).videos, 3.0)[0])


def config(clips, out, trainer=QUICK, **changes):
    return LandmarkTraining(clips, out, size="tiny", crop_pad=3.0, trainer=dataclasses.replace(trainer, **changes))


def content(path):
    kept = load_checkpoint(path)
    return {name: tensor.numpy().tobytes() for name, tensor in kept.tensors.items()}, kept.notes


def test_losses_match_numpy():
    generator = torch.Generator().manual_seed(0)
    predicted, true = (torch.rand(3, 5, 57, 2, generator=generator) for _ in range(2))
    a, b = predicted.double().numpy(), true.double().numpy()
    moves = (np.diff(a, axis=1) - np.diff(b, axis=1)).reshape(3 * 4, 114)
    places, velocities = landmark_losses(predicted, true)
    assert float(places) == pytest.approx(np.abs(a - b).mean(), rel=1e-5)
    assert float(velocities) == pytest.approx(np.linalg.norm(moves, axis=1).mean(), rel=1e-4)


def test_windows_hold_their_own_crops_and_speech_and_other_faces(clips, windows):
    """Against the track and the sound themselves: 30 frames a clip, 26 windows each, all once in an epoch."""
    assert len(windows) == 52
    track = load_record(LandmarkTrack, clips / "a" / TRACK)
    points = track.points_px[:, list(LIP_POINTS), :2].double().numpy()
    low, high = np.floor(np.maximum(points.min(1) - 3, 0)), np.floor(np.minimum(points.max(1) + 3, 128))
    unit = (points - low[:, None]) / (high - low)[:, None]
    waveform = read_tensors(clips / "a" / SPEECH)["waveform"]
    mel = wav2lip_mel(Speech(torch.nn.functional.pad(waveform, (0, 4000))))
    starts = []
    for number in range(13):
        batch = windows.batch(number, 4, 7)
        for at in range(4):
            pose = batch.pose[at].numpy()
            own = [t for t in range(26) if np.abs(pose - unit[t : t + 5, :74]).max() < 1e-5]
            if not own:
                continue  # of the other puppet
            (start,) = own
            starts.append(start)
            assert np.abs(batch.content[at].numpy() - unit[start : start + 5, 74:]).max() < 1e-5
            for f in range(5):
                first = int(max(0, start + f - 2) * 3.2)
                assert torch.equal(batch.sound[at, f], mel[:, first : first + 16])
            seen = np.abs(batch.references[at].numpy()[:, None] - unit[None]).max((2, 3)) < 1e-5
            chosen = seen.argmax(1)
            assert seen.any(1).all()
            assert len(set(chosen)) == 15
            assert not set(chosen) & set(range(start, start + 5))
    assert sorted(starts) == list(range(26))


@pytest.mark.slow
def test_training_resumes_bit_for_bit_and_writes_an_engine(clips, tmp_path):
    whole = train_landmarks(config(clips, tmp_path / "whole"))
    train_landmarks(config(clips, tmp_path / "cut", steps=2))
    cut = train_landmarks(config(clips, tmp_path / "cut"))
    assert cut.training.resumed_from == 2
    assert content(whole.training.checkpoint) == content(cut.training.checkpoint)
    assert whole.training.log.read_text() == cut.training.log.read_text()
    assert len(whole.training.samples) == 1
    engine = load_landmark_generator(whole.network)
    assert engine.crop_margin_px == 3
    assert engine.net.sizes.channels == 32
    assert open_engine(EngineFiles(whole.network)).name == "landmark_generator"
    begins = new_landmark_net(LandmarkTraining(clips, tmp_path / "more", base=whole.network))
    assert torch.equal(begins.jaw_keypoint_map.weight, engine.net.jaw_keypoint_map.weight)


@pytest.mark.slow
def test_a_toy_learns_to_listen(clips, windows, tmp_path):
    """A puppet's mouth is as far open as its tone is loud; with another window's tone it follows that, not its head."""
    learner = LandmarkTrainer(steps=90, batch_size=4, learning_rate=5e-3, save_every=500, sample_every=0,
                              ema_decay=0.9)  # fmt: skip
    result = train_landmarks(config(clips, tmp_path / "run", learner))
    losses = [json.loads(line)["l1"] for line in result.training.log.read_text().splitlines()]
    assert np.mean(losses[-5:]) < 0.1 * np.mean(losses[:5])
    assert result.score.l1 < result.score.resting_l1
    net, batch = load_landmark_generator(result.network).net, windows.batch(0, len(windows), 3)
    places = [CONTENT_POINTS.index(point) for point in (13, 14)]  # of the inner lips

    def gaps(content: torch.Tensor) -> np.ndarray:
        upper, lower = (content[:, 2, place, 1] for place in places)
        return (lower - upper).numpy()

    with torch.no_grad():
        own, other = predict(net, batch), predict(net, dataclasses.replace(batch, sound=batch.sound.roll(17, 0)))
    true = gaps(batch.content)
    assert np.corrcoef(gaps(own), true)[0, 1] > 0.8
    assert np.corrcoef(gaps(other), np.roll(true, 17))[0, 1] > 0.8
    assert np.corrcoef(gaps(other), true)[0, 1] < 0.5


def test_clips_that_cannot_be_used_are_named(clips, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    track = load_record(LandmarkTrack, clips / "a" / TRACK)
    for name, changed in (("a", track.slice(0, 12)), ("b", dataclasses.replace(track, fps=as_fps(30)))):
        save_record(changed, tmp_path / name / TRACK)
        save_tensors({"waveform": torch.zeros(9000)}, tmp_path / name / SPEECH)
        (tmp_path / name / "done.json").write_text((clips / "a" / "done.json").read_text())
    with pytest.raises(InputError, match=r"a: its face is seen in 12 frames; 20 are needed; b: it was prepared at 30"):
        train_landmarks(config(tmp_path, tmp_path.parent / "run_none"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('size = "huge"', "size"),
        ("crop_pad = -1", "crop_pad"),
        ("speed = 1", "unknown names: speed"),
        ('base = "x.pth"\nsize = "tiny"', "base has a size of its own"),
    ],
)
def test_settings_are_checked(line, message, tmp_path):
    path = tmp_path / "landmarks.toml"
    path.write_text(f'data = "clips"\nout = "run"\n{line}\n')
    with pytest.raises(InputError, match=message):
        load_landmark_config(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"sizes": "[]"}, "sizes of its network"),
        ({"sizes": '{"channels": 32, "num_heads": 5}'}, "sizes of its network"),
        ({"crop_margin_px": "wide"}, "crops' margin is 'wide'"),
        ({"crop_margin_px": "nan"}, "crops' margin is 'nan'"),
    ],
)
def test_files_that_say_nonsense_of_themselves_are_refused(metadata, message, tmp_path):
    path = save_landmark_net(LandmarkNet(LANDMARK_SIZES["tiny"]), tmp_path / "x.safetensors", metadata)
    with pytest.raises(InputError, match=message):
        load_landmark_generator(path)
