"""The voice activity network against the public model's answers, in pieces, and on bad input."""

from pathlib import Path

import numpy as np
import pytest
import torch

from portraittalk_core.errors import InputError, MissingDependency, ShapeError
from portraittalk_core.media.audio import load_speech
from portraittalk_core.speech import voice_network
from portraittalk_core.speech.voice_network import LiveVoice, load_voice_network, spectra, voice_probability
from portraittalk_core.types import Speech

SAMPLE = Path(__file__).parents[3] / "samples" / "speech.wav"

# What silero_vad.onnx of the silero-vad 6.2.3 wheel answers in onnxruntime 1.31 to `heard()`: fed 512 samples at a time
# with the 64 before them, its state carried over, sr 16000, the last window filled with zeros.
PUBLIC = """
0.0111 0.0149 0.0078 0.0058 0.0053 0.0310 0.1463 0.0955 0.6729 0.8182 0.8789 0.8613 0.9253 0.9675 0.9706 0.9895
0.9918 0.9921 0.9941 0.9913 0.9905 0.9900 0.9910 0.9713 0.7170 0.1749 0.0512 0.0239 0.0395 0.2792 0.9928 0.9991
0.9996 0.9993 0.9998 0.9998 0.9994 0.9996 0.9999 0.9999 0.9999 0.9999 0.9998 0.9998 1.0000 1.0000 1.0000 1.0000
1.0000 1.0000 1.0000 0.9999 0.9998 0.9999 0.9999 1.0000 1.0000 1.0000 1.0000 1.0000 1.0000 1.0000 1.0000 1.0000
0.9999 0.9999 0.9999 0.9999 1.0000 0.9983 0.9995 0.9999 0.9998 0.9993 0.9987 0.9987 0.9997 0.9992 0.9996 0.9999
1.0000 1.0000 0.9998 0.9999 0.9996 0.9961 0.6445 0.1030 0.6755 0.9856 0.9999 1.0000 1.0000 1.0000 0.9987 0.9961
0.9937 0.9889 0.9805 0.9626 0.9590 0.9683 0.9441 0.9385 0.9104 0.8802 0.7979 0.7615 0.7129 0.7149 0.6255 0.7015
0.5905 0.6034 0.5668 0.6255 0.6124 0.5655 0.5045 0.5675 0.5607 0.5337 0.5949 0.4526 0.4169
"""


def heard() -> torch.Tensor:
    """Three seconds of the sample, then one of loud noise."""
    noise = np.random.RandomState(0).uniform(-0.5, 0.5, 16_000).astype(np.float32)
    return torch.cat([load_speech(SAMPLE).waveform[:48_000], torch.from_numpy(noise)])


def test_the_answers_are_those_of_the_public_model():
    expected = torch.tensor([float(value) for value in PUBLIC.split()])
    torch.testing.assert_close(voice_probability(Speech(heard())), expected, rtol=0, atol=1e-4)


def test_spectra_are_fourier_transforms_of_windows_and_of_their_mirrored_end():
    window = torch.randn(1, 576, generator=torch.Generator().manual_seed(0))
    mirrored = np.pad(window[0].numpy().astype(np.float64), (0, 64), mode="reflect")
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(256) / 256)
    expected = [np.abs(np.fft.rfft(mirrored[start : start + 256] * hann)) for start in range(0, 512, 128)]
    np.testing.assert_allclose(spectra(window)[0].T.numpy(), np.array(expected), atol=1e-4)


@pytest.mark.parametrize("size", [1, 511, 512, 5000])
def test_a_live_voice_answers_in_pieces_what_it_answers_at_once(size, monkeypatch):
    monkeypatch.setattr(voice_network, "BLOCK", 7)  # windows: blocks that end within the clip
    sound = heard()[: 8000 if size == 1 else None]
    live = LiveVoice()
    pieces = torch.cat([live.push(piece) for piece in sound.split(size)])
    assert len(pieces) == len(sound) // 512
    torch.testing.assert_close(pieces, voice_probability(Speech(sound))[: len(pieces)], rtol=0, atol=1e-5)


@pytest.mark.parametrize("count", [1, 511, 512, 513])
def test_a_clip_shorter_than_a_window_has_an_answer(count):
    assert len(voice_probability(Speech(torch.full((count,), 0.1)))) == -(-count // 512)


@pytest.mark.parametrize("gain", [1e-3, 1e-2])
def test_a_voice_in_a_very_quiet_clip_is_heard(gain):
    quiet, loud = (voice_probability(Speech(g * load_speech(SAMPLE).waveform)) for g in (gain, 1.0))
    assert ((quiet > 0.5) == (loud > 0.5)).float().mean() > 0.95


def test_silence_at_any_level_holds_no_voice():
    noise = torch.randn(16_000, generator=torch.Generator().manual_seed(0))
    assert all(voice_probability(Speech(gain * noise)).max() < 0.3 for gain in (0.0, 1e-6, 1e-4))


def test_what_a_live_voice_cannot_hear_is_refused():
    with pytest.raises(InputError, match="finite"):
        LiveVoice().push(torch.tensor([0.0, float("nan")]))
    with pytest.raises(ShapeError, match="waveform"):
        LiveVoice().push(torch.zeros(2, 512))


def test_damaged_and_missing_weights_are_named(tmp_path, monkeypatch):
    load_voice_network.cache_clear()
    path = tmp_path / "voice_activity.safetensors"
    monkeypatch.setattr(voice_network, "WEIGHTS", path)
    with pytest.raises(MissingDependency, match="voice_activity.safetensors"):
        load_voice_network()
    path.write_bytes(b"x")
    with pytest.raises(InputError, match="damaged"):
        load_voice_network()


def test_memory_does_not_grow_with_the_clip():
    sound = load_speech(SAMPLE).waveform
    short, long = (_largest_tensor(Speech(sound.repeat(times))) for times in (3, 20))  # 23 s and 154 s
    assert long <= 1.1 * short


def _largest_tensor(speech: Speech) -> int:
    """Bytes of the largest tensor that any operation on a clip makes, views of its sound apart."""
    from torch.utils._python_dispatch import TorchDispatchMode

    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            made = function(*args, **(kwargs or {}))
            if isinstance(made, torch.Tensor) and made.data_ptr() != speech.waveform.data_ptr():
                largest = max(largest, made.numel() * made.element_size())
            return made

    with Watch():
        voice_probability(speech)
    return largest
