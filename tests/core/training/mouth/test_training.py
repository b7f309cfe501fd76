import dataclasses
import shutil

import numpy as np
import pytest
import torch

from portraittalk_core.engines.builtin.mouth_net import MouthNet, measure_mel
from portraittalk_core.errors import InputError
from portraittalk_core.training.mouth.phones import SOUNDS
from portraittalk_core.training.mouth.speaker import (
    SpeakerClip,
    SpeakerFit,
    check_length,
    fit_speaker,
    held_back_gain,
    lip_r,
    video_files,
)
from portraittalk_core.training.mouth.speech_corpus import CorpusClip, load_corpus, make_corpus
from portraittalk_core.training.mouth.stage import MouthTraining, prepare, train_mouth
from portraittalk_core.training.mouth.trajectories import Phone, split_phones
from portraittalk_core.types import as_fps

TINY = MouthTraining(steps=150, batch=8, segment=200, width=12, learning_rate=5e-3)
NAMES = ("a", "m", "i", "u", "s", "f")


def toy_clip(seed: int) -> CorpusClip:
    """Sounds that each fill bands of their own, as plainly as can be."""
    random = np.random.default_rng(seed)
    phones, at = [], 0.0
    for symbol in random.choice(NAMES, 24):
        length = float(random.uniform(0.08, 0.2))
        phones.append(Phone(str(symbol), at, at + length))
        at += length
    mel = torch.full((int(at * 100) + 1, 80), -60.0)
    for phone in phones:
        band = 12 * NAMES.index(phone.symbol)
        mel[round(phone.start_s * 100) : round(phone.end_s * 100), band : band + 12] = -20
    mel += torch.from_numpy(random.normal(0, 1, mel.shape)).float()
    return CorpusClip(mel, torch.full((len(mel),), -20.0), split_phones(phones, "ipa"), "toy")


def opening_r(net: MouthNet, clip: CorpusClip) -> float:
    example = prepare(clip)
    said = net(example.mel.float()[None])[0, :, 0].detach()
    return float(torch.corrcoef(torch.stack([said, example.targets[: len(said), 0]]))[0, 1])


@pytest.fixture(scope="module")
def trained() -> MouthNet:
    return train_mouth([toy_clip(seed) for seed in range(8)], TINY)


def test_training_learns_what_it_has_not_heard(trained):
    torch.manual_seed(0)
    untrained, held_out = MouthNet(12).eval(), toy_clip(99)
    assert opening_r(trained, held_out) > 0.9
    assert opening_r(trained, held_out) > opening_r(untrained, held_out) + 0.2


def test_training_is_repeatable_and_another_seed_is_another_network():
    clips, short = [toy_clip(0)], dataclasses.replace(TINY, steps=3)
    first, again = (train_mouth(clips, short).late.weight for _ in range(2))
    other = train_mouth(clips, dataclasses.replace(short, seed=1)).late.weight
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_training_can_be_stopped():
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_mouth([toy_clip(0)], TINY, stop)


def speaker_clip(seed: int) -> SpeakerClip:
    """A speaker who opens wide on s and closes on a: unlike anybody else."""
    clip = toy_clip(seed)
    loud = clip.mel[:, 48:60].mean(1) - clip.mel[:, :12].mean(1)
    frames = torch.arange(len(loud) // 4) * 4 + 2
    seen = loud[frames, None].expand(-1, 3)
    seen = (seen - seen.mean(0)) / seen.std(0)
    mel = measure_mel(clip.mel).normalise(clip.mel)
    return SpeakerClip(mel, seen, torch.ones(len(seen), dtype=torch.bool), as_fps(25), f"clip {seed}")


@pytest.mark.slow
def test_fitting_to_a_speaker_helps_on_held_back_parts(trained):
    clips, fit = [speaker_clip(seed) for seed in (1, 2, 3)], SpeakerFit(steps=60, batch=4, segment_s=1.5, folds=2)
    gains = held_back_gain(trained, clips, fit)
    assert len(gains) == 6
    before, after = (np.mean([getattr(gain, name) for gain in gains]) for name in ("before", "after"))
    assert after > before + 0.2
    fitted = fit_speaker(trained, clips, fit)
    assert lip_r(fitted, speaker_clip(4)) > lip_r(trained, speaker_clip(4)) + 0.2
    assert not any(p.requires_grad for p in fitted.parameters())


@pytest.mark.slow
def test_what_cannot_be_seen_is_kept(trained):
    clip = speaker_clip(1)
    fitted = fit_speaker(trained, [clip], SpeakerFit(steps=60, batch=4, segment_s=1.5))
    before, after = (net(clip.mel[None])[0, :, 3:] for net in (trained, fitted))
    assert (before - after).abs().mean() < 0.12


def test_too_little_video_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"for 3 s; 20 s are needed"):
        check_length([speaker_clip(1).part(0, 75)])
    with pytest.raises(InputError, match="is not a folder"):
        video_files(tmp_path / "none")
    with pytest.raises(InputError, match="holds no video"):
        video_files(tmp_path)


def test_an_empty_corpus_is_refused():
    with pytest.raises(InputError, match="empty"):
        load_corpus([])


needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="eSpeak NG is not installed")


@needs_espeak
def test_corpus_is_synthesised_kept_and_read_back(tmp_path, monkeypatch):
    from portraittalk_core.training.mouth import speech_corpus

    monkeypatch.setattr(speech_corpus, "CLIPS_PER_SHARD", 3)
    speech_corpus._write_shard(tmp_path / "a.safetensors", 5, 0, {"espeak": 1.0})
    clips = load_corpus([tmp_path / "a.safetensors"])
    assert len(clips) >= 1
    for clip in clips:
        assert set(clip.sounds.symbols) <= set(SOUNDS)
        assert clip.mel.shape[1] == 80
        assert len(clip.level) == len(clip.mel)
        assert clip.targets.shape == (len(clip.mel), 7)
        # the level tells where somebody speaks; vowels must lie there
        vowels = [i for i, s in enumerate(clip.sounds.symbols) if SOUNDS[s].vowel]
        middles = [int(50 * (clip.sounds.start_s[i] + clip.sounds.end_s[i])) for i in vowels]
        middles = [m for m in middles if m < len(clip.level)]
        assert clip.level[middles].float().mean() > clip.level.float().mean() + 3


@needs_espeak
def test_corpus_goes_on_where_it_was_stopped(tmp_path):
    (tmp_path / "speech_0_0000.safetensors").write_bytes(b"kept")
    assert make_corpus(tmp_path, 0.02) == [tmp_path / "speech_0_0000.safetensors"]
    assert (tmp_path / "speech_0_0000.safetensors").read_bytes() == b"kept"
