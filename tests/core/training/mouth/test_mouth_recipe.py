from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from portraittalk_core.engines.builtin.mouth_net import MouthNet
from portraittalk_core.errors import InputError
from portraittalk_core.training.mouth.config import load_mouth_config
from portraittalk_core.training.mouth.real_clips import real_batch, real_clips, real_loss
from portraittalk_core.training.mouth.speaker import SpeakerClip, at_frames
from portraittalk_core.training.mouth.speech_corpus import CorpusClip
from portraittalk_core.training.mouth.speech_text import make_phrase
from portraittalk_core.training.mouth.stage import MouthTraining, train_mouth
from portraittalk_core.training.mouth.trajectories import Sounds

CONFIG = 'out = "mouth.safetensors"\ncorpus = "corpus"\nneural_hours = 1.5\n'


def read(folder: Path, text: str):
    (folder / "mouth.toml").write_text(text, encoding="utf-8")
    return load_mouth_config(folder / "mouth.toml")


def test_a_recipe_is_read(tmp_path):
    text = CONFIG + 'videos = "grid"\nbegin = "builtin"\n[training]\nsteps = 7\nreal = 0.1\n'
    config = read(tmp_path, text)
    assert (config.out, config.videos) == (tmp_path / "mouth.safetensors", tmp_path / "grid")
    assert (config.hours, config.neural_hours, config.begin) == (10.0, 1.5, "builtin")
    assert (config.training.steps, config.training.real, config.training.width) == (7, 0.1, 96)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('begin = "mine"\n', "begin"),
        ("hours = 0.0\nneural_hours = 0.0\n", "add up to 0; at least 0.02"),
        ("neural_hours = -1.0\n", "neural_hours"),
        ('videos = "grid"\n', "videos and training.real go together"),
        ("[training]\nreal = 0.1\n", "videos and training.real go together"),
        ("[training]\nsteps = 0\n", r"training\.steps"),
        ("[training]\nlearning_rate = 5.0\n", r"training\.learning_rate"),
        ("epochs = 3\n", "unknown names: epochs"),
    ],
)
def test_a_wrong_recipe_is_refused(tmp_path, text, said):
    head = 'out = "mouth.safetensors"\ncorpus = "corpus"\n'
    with pytest.raises(InputError, match=said):
        read(tmp_path, head + text)


def real_clip(seed: int, fps: Fraction = Fraction(25), seconds: float = 3.0) -> SpeakerClip:
    """Lips that follow the middle bands, some frames late."""
    random = np.random.default_rng(seed)
    count = int(seconds * fps)
    lips = torch.from_numpy(np.convolve(random.normal(size=count + 4), np.ones(5) / 2, "valid")).float()
    frames = (torch.arange(int(seconds * 100) + 1) / 100 * float(fps)).long().clamp(max=count - 1)
    mel = 0.3 * torch.randn(len(frames), 80)
    mel[:, 20:60] += lips[frames][:, None]
    tracked = (lips - lips.mean()) / lips.std()
    return SpeakerClip(mel, tracked[:, None].expand(-1, 3), torch.ones(count, dtype=torch.bool), fps, f"clip {seed}")


def test_lips_that_follow_the_speaker_cost_nothing_whatever_their_size():
    clips = [real_clip(1), real_clip(2, Fraction(27))]
    mel, parts = real_batch(clips, 320, np.random.default_rng(0))
    assert mel.shape == (2, 320, 80)
    moments = torch.arange(160) / 50
    outputs = torch.zeros(2, 160, 8)
    for row, part in zip(outputs, parts, strict=True):
        at = (moments * float(part.fps) - 0.5).clamp(0, len(part.tracked) - 1)
        low = at.floor().long().clamp(max=len(part.tracked) - 2)
        row[:, :3] = 0.2 + 0.1 * torch.lerp(part.tracked[low], part.tracked[low + 1], (at - low)[:, None])
    total = sum((1.0, 0.6, 0.8))
    assert float(real_loss(outputs, parts)) < 0.1 * total
    assert float(real_loss(1 - 3 * outputs, parts)) > 1.9 * total  # the opposite
    assert float(real_loss(torch.rand(2, 160, 8), parts)) == pytest.approx(total, rel=0.4)
    assert float(real_loss(torch.zeros(2, 160, 8), parts)) == pytest.approx(total, rel=1e-3)  # still lips


def corpus_clip() -> CorpusClip:
    sounds = Sounds(("a", "m", "a"), np.array([0, 1.0, 1.2]), np.array([1.0, 1.2, 4.0]))
    return CorpusClip(torch.randn(401, 80) - 20, torch.full((401,), -20.0), sounds, "made")


def test_a_second_teacher_is_followed():
    def r(net: MouthNet) -> float:
        clip = real_clip(9)
        ours = at_frames(net(clip.mel[None])[0].detach(), clip)[:, 0]
        return float(torch.corrcoef(torch.stack([ours, clip.tracked[:, 0]]))[0, 1])

    real = [real_clip(seed, seconds=2.0) for seed in range(4)]
    settings = MouthTraining(steps=40, batch=1, segment=200, width=8, learning_rate=1e-2, real=1.0, real_batch=3)
    base = train_mouth([corpus_clip()], MouthTraining(steps=2, batch=2, segment=100, width=8))
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    taught = train_mouth([corpus_clip()], settings, base=base, real=real)
    assert r(taught) > max(0.5, r(base) + 0.3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items())


def test_a_folder_without_videos_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("no video", encoding="utf-8")
    (tmp_path / "broken.mpg").write_bytes(b"no video either")
    with pytest.raises(InputError, match="holds no videos with a face and speech"):
        real_clips(tmp_path, tmp_path / "corpus")


def test_phrases_begin_on_the_lips():
    phrases = [make_phrase(np.random.default_rng(seed)) for seed in range(200)]
    assert np.mean([phrase[0] in "pbmfvw" for phrase in phrases]) > 0.8
    assert all(2 <= len(phrase.split()) <= 7 for phrase in phrases)
