import numpy as np
import torch

from portraittalk_core.media.audio import load_speech
from portraittalk_core.training.mouth.held_out import held_out_voices, judge_clips, with_short_pauses
from portraittalk_core.training.mouth.kokoro import HELD_OUT_SPEAKER, SPEAKERS
from portraittalk_core.training.mouth.speech_corpus import HELD_OUT
from portraittalk_core.training.mouth.synthesisers import FLITE, Utterance
from portraittalk_core.training.mouth.trajectories import Phone, split_phones
from portraittalk_core.training.mouth.vary_voice import SpokenClip
from portraittalk_core.types import Speech

# what flite says in the sample's first 2.8 seconds, and when each sound ends (flite -psdur)
PHONES = """pau:0.177 hh:0.276 ax:0.328 l:0.591 ow:0.714 pau:0.926 dh:0.983 ih:1.068 s:1.140 p:1.220 ao:1.356 r:1.456
t:1.554 r:1.609 ax:1.644 t:1.680 hh:1.725 ae:1.798 z:1.874 l:2.003 er:2.131 n:2.186 d:2.231 t:2.291 ax:2.325 s:2.452
p:2.528 iy:2.630 k:2.710 pau:2.819"""


def sample_clip(request, silence_s: float = 1.0) -> SpokenClip:
    waveform = load_speech(request.config.rootpath / "samples" / "speech.wav").waveform[: round(2.8 * 16000)]
    ends = [(name, float(end)) for name, end in (entry.split(":") for entry in PHONES.split())]
    ends[-1] = ("pau", 2.8 + silence_s)
    starts = [0.0, *(end for _, end in ends)]
    phones = [Phone(name, start, end) for (name, end), start in zip(ends, starts, strict=False)]
    padded = torch.cat([waveform, torch.zeros(round(silence_s * 16000))])
    return SpokenClip(Speech(padded), split_phones(phones, "english"), FLITE[0])


def test_a_known_voice_is_judged_well_and_a_shuffled_one_badly(request):
    clip = sample_clip(request)
    score = judge_clips("slt", [clip])
    assert score.opening > 0.7
    assert score.jaw > 0.7
    assert score.silence > 0.95
    assert score.num_bilabials == 2
    backwards = SpokenClip(Speech(clip.speech.waveform.flip(0)), clip.sounds, clip.voice)
    assert judge_clips("backwards", [backwards]).jaw < 0.3


def test_held_out_speakers_are_left_out_of_the_corpus():
    assert {voice.name for voice in held_out_voices()} == {*HELD_OUT, HELD_OUT_SPEAKER}
    assert HELD_OUT_SPEAKER not in SPEAKERS


def test_short_pauses_are_cut_between_utterances():
    times = np.arange(16000) / 16000
    tone = Speech(torch.from_numpy(0.3 * np.sin(2 * np.pi * 300 * times) * (times > 0.2) * (times < 0.7)).float())
    phones = (Phone("pau", 0, 0.2), Phone("aa", 0.2, 0.7), Phone("pau", 0.7, 1.0))
    (clip,) = with_short_pauses([Utterance(tone, phones, FLITE[0])] * 5, np.random.default_rng(0))
    assert clip.sounds.symbols == ("ɑ", "") * 4
    lengths = clip.sounds.end_s - clip.sounds.start_s
    assert np.all((lengths[1::2] >= 0.1) & (lengths[1::2] <= 0.2))
    np.testing.assert_allclose(lengths[::2], 0.5, atol=1e-3)
    heard = clip.speech.waveform.numpy()
    for start, end in zip(clip.sounds.start_s[1::2], clip.sounds.end_s[1::2], strict=True):
        assert not heard[round(start * 16000) + 2 : round(end * 16000) - 2].any()
