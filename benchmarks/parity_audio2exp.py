"""Parity of Audio2Exp with ControlTalk's public code, on random weights of the public size."""

from __future__ import annotations

import importlib
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock, patch

import torch
from torch import Tensor, nn

from portraittalk_core.renderers.implicit.audio2exp.driver import Audio2ExpDriver
from portraittalk_core.renderers.implicit.audio2exp.files import load_audio2exp
from portraittalk_core.renderers.implicit.audio2exp.network import Audio2Exp
from portraittalk_core.speech.windows import ROWS, window_start
from portraittalk_core.types import KeypointTrack, Speech

from .parity import PublicCode, run

PUBLIC = PublicCode("https://github.com/NetEase-Media/ControlTalk", "model.py")

STAND_INS = ("render", "torchvision", "torchvision.models")  # which its model.py imports and this does not use
ALPHAS = (0.0, 0.7, 1.0, 2.0)
FRAMES, SECONDS = 60, 4.0
POINTS = 15
OUT_SPREAD = 0.02  # of the random last layer, which the public code starts at zero
HUBERT = {  # HuBERT large with two layers
    "hidden_size": 1024, "num_hidden_layers": 2, "num_attention_heads": 16, "intermediate_size": 4096,
    "feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True,
}  # fmt: skip


def measure(repo: Path) -> dict[str, float]:
    """Largest differences between the public Audio2Exp in `repo` and ours, and the size of what it adds.

    Args:
        repo: a copy of github.com/NetEase-Media/ControlTalk.
    """
    importlib.import_module("transformers.models.hubert.modeling_hubert")  # it must not meet the stand-ins
    stand_ins = {name: MagicMock() for name in STAND_INS}
    with patch.dict(sys.modules, stand_ins), patch.object(sys, "path", [str(repo), *sys.path]):
        model = importlib.import_module("model")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        public = _public_network(model, folder)
        torch.save(
            {"state_dict": {f"module.{k}": v for k, v in public.state_dict().items()}}, folder / "lipControlNet.pt"
        )
        ours = load_audio2exp(folder / "lipControlNet.pt")
        counts = {"parameters": sum(p.numel() for p in ours.parameters()), "keys": len(ours.state_dict())}
        return counts | _network(public, ours) | _clip(public, folder)


def _public_network(model: ModuleType, folder: Path) -> nn.Module:
    """Its network with random weights; the sound's half comes from a file of the lip-sync network."""
    torch.manual_seed(0)
    sound = model.AudioEncoder().state_dict()
    torch.save(
        {f"module.model.audio_encoder.{name}": value for name, value in sound.items()}, folder / "audio_encoder.pt"
    )
    network = model.lipControlNet(str(folder / "audio_encoder.pt")).eval().requires_grad_(False)
    nn.init.normal_(network.out_fc.weight, std=OUT_SPREAD)
    nn.init.normal_(network.out_fc.bias, std=OUT_SPREAD)
    return network


@torch.no_grad()
def _network(public: nn.Module, ours: Audio2Exp) -> dict[str, float]:
    generator = torch.Generator().manual_seed(1)
    expression = 0.05 * torch.randn(FRAMES, POINTS, 3, generator=generator)
    windows = torch.randn(FRAMES, ROWS, 1024, generator=generator)
    results = {}
    for alpha in ALPHAS:
        expected = public(expression, windows, alpha)
        results |= _compared(f"alpha {alpha:g}", ours(expression, windows, alpha), expected, expression)
    return results


@torch.no_grad()
def _clip(public: nn.Module, folder: Path) -> dict[str, float]:
    """A clip driven by our driver, and by the public network as its inference.py says, in the frames that it has."""
    from transformers import HubertConfig, HubertModel

    torch.manual_seed(2)
    hubert = HubertModel(HubertConfig(**HUBERT)).eval()
    torch.save(hubert.state_dict(), folder / "pytorch_model.bin")
    driver = Audio2ExpDriver.open(folder / "lipControlNet.pt", folder)
    generator = torch.Generator().manual_seed(3)
    clip = Speech(0.1 * torch.randn(round(SECONDS * 16_000), generator=generator).clamp(-3, 3))
    quiet = Speech(1e-4 * torch.randn(24_000, generator=generator))
    count = round(SECONDS * 25)
    still = torch.zeros(count, 3)
    expression = 0.05 * torch.randn(count, POINTS, 3, generator=generator)
    valid = torch.ones(count, dtype=torch.bool)
    base = KeypointTrack(expression, still, still, torch.ones(count), valid, Fraction(25), "face-vid2vid-15")
    (made,) = driver.drive([base], clip, 0.7, silence=quiet)
    padded = torch.nn.functional.pad(
        clip.waveform, (0, 320 * (window_start(count - 1, Fraction(25)) + ROWS) + 80 - len(clip.waveform))
    )
    rows = hubert(((padded - clip.waveform.mean()) / (clip.waveform.var(correction=0) + 1e-7).sqrt())[None])
    silent = hubert(_normal(quiet.waveform)).last_hidden_state[0, :ROWS]
    windows = torch.stack([rows.last_hidden_state[0, int(i * 50 / 25) :][:ROWS] for i in range(count)])
    shut = public(expression, silent.expand(count, -1, -1), 1.0)
    return _compared("a clip with its silent pass", made.expression, public(shut, windows, 0.7), expression)


def _normal(waveform: Tensor) -> Tensor:
    from transformers import Wav2Vec2FeatureExtractor

    return Wav2Vec2FeatureExtractor()(waveform.numpy(), sampling_rate=16_000, return_tensors="pt").input_values


def _compared(what: str, actual: Tensor, expected: Tensor, start: Tensor) -> dict[str, float]:
    difference = float((actual - expected).abs().max())
    return {f"{what}: difference": difference, f"{what}: added": float((expected - start).abs().max())}


if __name__ == "__main__":
    raise SystemExit(run(PUBLIC, measure))
