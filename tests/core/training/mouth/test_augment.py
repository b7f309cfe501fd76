import numpy as np
import pytest

from portraittalk_core.media.audio import load_speech
from portraittalk_core.training.mouth.augment import CODECS, degrade, music_bed, through_codec, vary_effort


@pytest.fixture(scope="module")
def waveform(request) -> np.ndarray:
    return load_speech(request.config.rootpath / "samples" / "speech.wav").waveform[: 3 * 16000].numpy()


def test_degraded_speech_keeps_its_length_and_range(waveform):
    for seed in range(12):
        heard = degrade(waveform, np.random.default_rng(seed), babble=waveform[::-1].copy())
        assert heard.shape == waveform.shape
        assert heard.dtype == np.float32
        assert np.isfinite(heard).all()
        assert np.abs(heard).max() <= 1
        assert heard.std() > 1e-4


def test_same_seed_degrades_alike_and_another_one_otherwise(waveform):
    first, again, other = (degrade(waveform, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: f"{codec[1]}_{codec[2]}")
def test_codecs_do_not_shift_the_sound(waveform, codec):
    heard = through_codec(waveform, *codec)
    assert heard.shape == waveform.shape
    lags = range(-40, 41)
    fits = [np.dot(np.roll(heard, -lag), waveform) for lag in lags]
    assert abs(lags[int(np.argmax(fits))]) <= 8  # half a millisecond
    assert max(fits) / (np.linalg.norm(heard) * np.linalg.norm(waveform)) > 0.7


def test_effort_changes_loudness_over_time(waveform):
    louder = vary_effort(waveform, np.random.default_rng(0))
    frames = slice(0, len(waveform) // 4000 * 4000)
    before, after = (np.sqrt((x[frames].reshape(-1, 4000) ** 2).mean(1)) for x in (waveform, louder))
    gain_db = 20 * np.log10(after / before)
    assert 0.5 < gain_db.std() < 7


def test_music_is_no_silence():
    bed = music_bed(32000, np.random.default_rng(0))
    assert bed.shape == (32000,)
    assert bed.std() > 0.1
