import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from portraittalk_core.engines.builtin.closure_net import CLASSES, LABIODENTAL, NASAL, SILENT, STOP, ClosureNet
from portraittalk_core.engines.builtin.mouth_model import load_mouth, save_closures, save_mouth
from portraittalk_core.engines.builtin.mouth_net import MouthNet
from portraittalk_core.errors import InputError, MissingDependency
from portraittalk_core.training.closures import recordings, stage
from portraittalk_core.training.closures.config import ClosureTrainer, ClosureTraining, load_closure_config
from portraittalk_core.training.closures.labels import CLASS_OF, IGNORED, frame_classes
from portraittalk_core.training.closures.losses import labiodental_loss, without_edges
from portraittalk_core.training.closures.stage import fit_closures
from portraittalk_core.training.closures.vary import varied
from portraittalk_core.training.mouth.phones import SOUNDS
from portraittalk_core.training.mouth.speech_corpus import CorpusClip
from portraittalk_core.training.mouth.trajectories import Phone, Sounds, split_phones
from portraittalk_core.weights.load import read_metadata

QUIET_DB, LOUD_DB = -60.0, -20.0


def spoken(*phones: tuple[str, float, float]) -> Sounds:
    return split_phones([Phone(*phone) for phone in phones], "ipa")


def level(frames: int, *loud: tuple[int, int]) -> torch.Tensor:
    mel = torch.full((frames, 80), QUIET_DB)
    for start, end in loud:
        mel[start:end] = LOUD_DB
    return mel


def test_every_sound_has_one_class():
    assert set(CLASS_OF) == set(SOUNDS)
    assert sum(max(1, len(symbols)) for symbols in CLASSES) == len(SOUNDS)
    assert [CLASS_OF[s] for s in ("p", "b", "m", "f", "v", "")] == [STOP, STOP, NASAL, LABIODENTAL, LABIODENTAL, SILENT]


def test_lips_are_closed_until_the_burst_and_for_70_ms_before_it_after_silence():
    # silence, then a "p" that an aligner begins at its burst, 0.50 s, and whose breath lasts until 0.56
    classes = frame_classes(spoken(("", 0, 0.5), ("p", 0.5, 0.56), ("a", 0.56, 0.9)), level(100, (50, 90)))
    closed = (classes == STOP).nonzero().flatten().tolist()
    assert closed[-1] - closed[0] >= 7 and abs(closed[-1] - 50) <= 1
    assert (classes[: closed[0]] == SILENT).all()
    assert (classes[closed[-1] + 1 : 55] == IGNORED).all() and int(classes[60]) == CLASS_OF["a"]


def test_a_stop_between_vowels_is_closed_from_its_own_start():
    classes = frame_classes(spoken(("a", 0, 0.4), ("b", 0.4, 0.5), ("a", 0.5, 0.9)), level(90, (0, 40), (48, 90)))
    closed = (classes == STOP).nonzero().flatten().tolist()
    assert closed[0] == 40 and abs(closed[-1] - 48) <= 1


def test_a_pause_that_an_aligner_took_for_a_part_of_a_stop_has_no_class():
    classes = frame_classes(spoken(("a", 0, 0.4), ("b", 0.4, 0.8), ("a", 0.8, 1.2)), level(120, (0, 40), (79, 120)))
    closed = (classes == STOP).nonzero().flatten().tolist()
    assert abs(closed[-1] - 79) <= 1 and 0.08 <= (closed[-1] - closed[0]) / 100 <= 0.15  # as closures of people last
    assert (classes[40 : closed[0]] == IGNORED).all()


def test_varied_clips_keep_their_classes_in_step():
    sounds = spoken(("a", 0, 1), ("s", 1, 2), ("a", 2, 3))
    mel = level(300, (100, 200)) + torch.randn(300, 80)
    classes = frame_classes(sounds, mel)
    for seed in range(6):
        features, labels = varied(mel, classes, sounds, np.random.default_rng(seed))
        assert len(features) == len(labels)
        loud = features.float().mean(1)
        assert loud[labels == CLASS_OF["s"]].median() > loud[labels == CLASS_OF["a"]].median() + 1


def toy_clip(seed: int) -> CorpusClip:
    """Sounds that each fill bands of their own."""
    random, names, phones, at = np.random.default_rng(seed), ("a", "m", "s", "f"), [], 0.0
    for symbol in random.choice(names, 20):
        length = float(random.uniform(0.1, 0.2))
        phones.append(Phone(str(symbol), at, at + length))
        at += length
    mel = torch.full((int(at * 100) + 1, 80), QUIET_DB)
    for phone in phones:
        band = 20 * names.index(phone.symbol)
        mel[round(phone.start_s * 100) : round(phone.end_s * 100), band + 4 : band + 16] = LOUD_DB
    mel += torch.from_numpy(random.normal(0, 1, mel.shape)).float()
    return CorpusClip(mel, mel.mean(1), split_phones(phones, "ipa"), "toy")


@pytest.mark.slow
def test_training_hears_closures_in_clips_it_does_not_know(monkeypatch):
    from portraittalk_core.engines.builtin.mouth_net import measure_mel

    monkeypatch.setattr(stage, "POOL", 16)
    trainer = ClosureTrainer(steps=45, batch=5, segment=100, width=8, learning_rate=1e-2)
    clips = [toy_clip(seed) for seed in range(6)]
    net, clip = fit_closures(clips[:4], clips[4:], trainer), toy_clip(9)
    closed, tucked = net.closing(measure_mel(clip.mel).normalise(clip.mel)[None])
    classes = frame_classes(clip.sounds, clip.mel)[::2]
    for probability, number in ((closed, NASAL), (tucked, LABIODENTAL)):
        inside = probability[0, : len(classes)][classes == number].mean()
        assert inside > 2 * probability[0, : len(classes)][classes == CLASS_OF["a"]].mean()


def test_teaching_f_and_v_keeps_how_the_other_classes_share_the_rest():
    known, logits = torch.randn(2, 30, len(CLASSES))
    classes = torch.tensor([LABIODENTAL, STOP, CLASS_OF["a"]]).repeat(10)
    logits.requires_grad_(True)
    for _ in range(300):
        labiodental_loss(logits, known, classes).backward()
        with torch.no_grad():
            logits -= 3 * logits.grad
        logits.grad = None
    probability = logits.detach().softmax(1)
    tucked = probability[:, LABIODENTAL]
    assert tucked[classes == LABIODENTAL].min() > 0.8 and tucked[classes != LABIODENTAL].max() < 0.2
    others = [number for number in range(len(CLASSES)) if number != LABIODENTAL]
    shares = probability[:, others] / probability[:, others].sum(1, keepdim=True)
    torch.testing.assert_close(shares, known[:, others].softmax(1), rtol=0, atol=0.1)


def test_where_a_tuck_begins_and_ends_nothing_is_taught():
    f, a, s = LABIODENTAL, CLASS_OF["a"], CLASS_OF["s"]
    classes = torch.tensor([[a, a, s, f, f, f, f, a, a]])
    assert without_edges(classes).tolist() == [[a, a, IGNORED, IGNORED, f, f, IGNORED, IGNORED, a]]
    assert without_edges(torch.tensor([[a, s, s]])).tolist() == [[a, s, s]]


def test_recordings_are_aligned_by_the_words_beside_them(tmp_path, monkeypatch):
    # a stand-in for pocketsphinx, which hears "up" in every sound
    def phone(name, start, duration):
        return SimpleNamespace(name=name, start=start, duration=duration)

    class Words(list):
        name = "up"

    class Decoder:
        def __init__(self, **_):
            self.words = []

        set_align_text = lambda self, text: self.words.append(text)  # noqa: E731
        set_alignment = start_utt = end_utt = lambda self: None
        process_raw = lambda self, samples, full_utt: None  # noqa: E731
        hyp = lambda self: object()  # noqa: E731
        get_alignment = lambda self: [Words([phone("AH", 20, 15), phone("P", 35, 10)])]  # noqa: E731

    monkeypatch.setitem(sys.modules, "pocketsphinx", SimpleNamespace(Decoder=Decoder))
    for name in ("a", "b"):
        wavfile.write(
            tmp_path / f"{name}.wav", 16000, np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
        )
        (tmp_path / f"{name}.txt").write_text("Up!", encoding="utf-8")
    wavfile.write(tmp_path / "no_words.wav", 16000, np.ones(16000, np.float32))
    wavfile.write(tmp_path / "not_utf8.wav", 16000, np.ones(16000, np.float32))
    (tmp_path / "not_utf8.txt").write_bytes(b"\xff\xfeup")
    done = []
    (clip,) = recordings.aligned_recordings(tmp_path, lambda *counts: done.append(counts))
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert len(clip.mel) == 201 and clip.sounds.symbols == ("ʌ", "p", "ʌ", "p")
    np.testing.assert_allclose(clip.sounds.start_s, [0.205, 0.355, 1.205, 1.355], atol=1e-6)
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(MissingDependency, match="pip install pocketsphinx"):
        recordings.aligned_recordings(tmp_path)


@pytest.mark.parametrize("with_mouth", [False, True])
def test_a_training_writes_what_the_engine_opens(tmp_path, monkeypatch, with_mouth):
    monkeypatch.setattr(stage, "POOL", 4)
    monkeypatch.setattr(stage, "make_corpus", lambda *_: [])
    monkeypatch.setattr(stage, "load_corpus", lambda _: [toy_clip(0)])
    save_mouth(MouthNet(8), tmp_path / "me.safetensors", {"data": "mine"})
    (tmp_path / "c.toml").write_text(
        'out = "c.safetensors"\ncorpus = "corpus"\n' + 'mouth = "me.safetensors"\n' * with_mouth
        + "[trainer]\nsteps = 1\nbatch = 1\nwidth = 4\nema_decay = 0\n", encoding="utf-8"
    )  # fmt: skip
    result = stage.train_closures(load_closure_config(tmp_path / "c.toml"))
    opened = load_mouth(result.closures)
    assert (opened.closures.width, opened.width) == (4, 8 if with_mouth else load_mouth().width)
    card = json.loads(read_metadata(result.closures)["card"])
    assert json.loads(card["mouth"] if with_mouth else '{"data": "mine"}') == {"data": "mine"}
    assert (card["closures"] if with_mouth else card)["steps"] == 1


def test_a_network_is_taught_further_from_a_file_that_holds_one(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "POOL", 4)
    monkeypatch.setattr(stage, "make_corpus", lambda *_: [])
    monkeypatch.setattr(stage, "load_corpus", lambda _: [toy_clip(0)])
    base, given = ClosureNet(4).eval(), tmp_path / "before" / "closures.safetensors"
    given.parent.mkdir()
    save_closures(base, given, {"data": "before"})
    trainer = ClosureTrainer(steps=1, batch=1, learning_rate=1e-6, ema_decay=0, seed=1)
    settings = ClosureTraining(tmp_path / "c.safetensors", tmp_path, base=given, trainer=trainer)
    result = load_mouth(stage.train_closures(settings).closures).closures
    torch.testing.assert_close(result.leave.weight, base.leave.weight, rtol=0, atol=1e-3)  # goes on from there
    card = json.loads(read_metadata(settings.out)["card"])
    assert (card["width"], json.loads(card["base"])) == (4, {"data": "before"})
    save_mouth(MouthNet(8), given, {})
    with pytest.raises(InputError, match="holds no closure network"):
        stage.train_closures(settings)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("hours = 0\nneural_hours = 0", "add up to 0"),
        ("[trainer]\nrecorded = 1.5", "recorded"),
        ("ours = 1", "ours"),
        ('mouth = "c.safetensors"', "mouth is read from .*choose another name or folder for out"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path, setting, told):
    path = tmp_path / "closures.toml"
    (tmp_path / "c.safetensors").touch()
    path.write_text(f'out = "c.safetensors"\ncorpus = "corpus"\n{setting}\n', encoding="utf-8")
    with pytest.raises(InputError, match=told):
        load_closure_config(path)


def test_a_network_is_written_as_safetensors(tmp_path):
    with pytest.raises(InputError, match=r"the name of a \.safetensors file, not .c\.wav"):
        ClosureTraining(tmp_path / "c.wav", tmp_path)
