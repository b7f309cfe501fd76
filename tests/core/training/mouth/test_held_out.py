import torch

from portraittalk_core.media.audio import load_speech
from portraittalk_core.training.mouth.held_out import held_out_voices, judge_clips
from portraittalk_core.training.mouth.speech_corpus import HELD_OUT, SpokenClip
from portraittalk_core.training.mouth.synthesisers import FLITE
from portraittalk_core.training.mouth.trajectories import Phone, split_phones
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
    assert {voice.name for voice in held_out_voices()} == set(HELD_OUT)
