"""Parity of JoyVASA's engine with its public code, on random weights of the public size."""

from __future__ import annotations

import argparse
import functools
import pathlib
import pickle
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock, patch

import numpy as np
import torch
from torch import Tensor, nn

from portraittalk_core.engines.contract import EngineFiles
from portraittalk_core.engines.registry import open_engine
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.types import KeypointTrack, Speech

from .parity import PublicCode, run

PUBLIC = PublicCode("https://github.com/jdh-algo/JoyVASA", "src/modules/dit_talking_head.py")

STAND_INS = ("cv2", "yaml", "librosa", "pykalman", "tyro", "rich", "rich.progress", "rich.console")
SECONDS = (0.6, 5.3)  # one window, and two of which the second goes on from the first
GUIDANCE, SEED, FPS = 2.8, 7, 25
SIZE = {"motion_feat_dim": 70, "n_motions": 100, "n_prev_motions": 10, "feature_dim": 256, "n_diff_steps": 50}
PARTS = {"expression": "exp", "scale": "scale", "translation": "t"}
ANGLES = ("pitch", "yaw", "roll")


def measure(repo: Path) -> dict[str, float]:
    """Largest differences between the public motion sequences of `repo` and ours, and how far they move.

    Args:
        repo: a copy of github.com/jdh-algo/JoyVASA.
    """
    import_module("transformers.models.hubert.modeling_hubert")  # it must not meet the stand-ins
    stand_ins = {name: MagicMock() for name in STAND_INS}
    stand_ins["rich.progress"].track = lambda frames, **_: frames
    results: dict[str, float] = {}
    with patch.dict(sys.modules, stand_ins), patch.object(sys, "path", [str(repo), *sys.path]):
        wrapper = import_module("src.live_portrait_wmg_wrapper")
        network, template = _public_network(), _template()
        with tempfile.TemporaryDirectory() as name:
            engine = open_engine(EngineFiles(_published(network, template, Path(name))))
        for smooth in (False, True):
            for seconds in SECONDS:
                clip = _clip(seconds)
                stand_ins["librosa"].load.return_value = (clip.waveform.numpy(), Speech.sample_rate)
                torch.manual_seed(SEED)
                expected = _public_motion(wrapper, network, template, smooth)
                ours = type(engine)(engine.network, engine.hubert, engine.template, _options(engine, smooth))
                track = ours.track(clip, MotionOptions(fps=FPS, seed=SEED))
                results |= _compared(f"{seconds:g} s{', smoothed' if smooth else ''}", track, expected)
    return results


def _options(engine: object, smooth: bool) -> object:
    return type(engine.options)(guidance=GUIDANCE, head_smoothing=0.99 if smooth else 0.0)


def _public_network() -> nn.Module:
    """Its motion generator with HuBERT base, both with random weights, on the CPU."""
    from transformers import HubertConfig

    hubert, common = import_module("src.modules.hubert"), import_module("src.modules.common")
    module = import_module("src.modules.dit_talking_head")
    torch.manual_seed(0)
    encoder = hubert.HubertModel(
        HubertConfig(attn_implementation="eager")
    )  # the only one with the attentions it asks for
    on_cpu = functools.partial(common.enc_dec_mask, device="cpu")
    with (
        patch.object(hubert.HubertModel, "from_pretrained", lambda _: encoder),
        patch.object(module, "enc_dec_mask", on_cpu),
    ):
        return module.DitTalkingHead(device="cpu", audio_model="hubert_zh", **SIZE).eval().requires_grad_(False)


def _template() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(1)
    values = {"mean_exp": generator.normal(0, 0.01, 63), "std_exp": generator.uniform(0.005, 0.02, 63)}
    ends = {"scale": (1, 1.0, 1.6), "t": (3, -0.2, 0.2)} | {name: (1, -25.0, 25.0) for name in ANGLES}
    for name, (count, least, most) in ends.items():
        values |= {f"min_{name}": np.full(count, least), f"max_{name}": np.full(count, most)}
    return {name: value.astype(np.float32) for name, value in values.items()}


def _published(network: nn.Module, template: dict[str, np.ndarray], folder: Path) -> Path:
    """Both files, as the public training writes them."""
    settings = argparse.Namespace(**SIZE, fps=FPS, pad_mode="zero", data_root=pathlib.Path("data"))
    path = folder / "motion_generator_hubert_chinese.pt"
    torch.save({"args": settings, "model": network.state_dict(), "iter": 20_000}, path)
    (folder / "motion_template.pkl").write_bytes(pickle.dumps(template))
    return path


def _public_motion(wrapper: object, network: nn.Module, template: dict, smooth: bool) -> list[dict[str, np.ndarray]]:
    """The public code's own sequence of motion."""
    unit = Speech.sample_rate / FPS
    public = SimpleNamespace(
        device="cpu", fps=FPS, n_motions=SIZE["n_motions"], n_prev_motions=SIZE["n_prev_motions"], audio_unit=unit,
        n_audio_samples=round(unit * SIZE["n_motions"]), pad_mode="zero", use_indicator=True, motion_generator=network,
        templete_dict={name: torch.from_numpy(value) for name, value in template.items()},
    )  # fmt: skip
    asked = SimpleNamespace(
        audio="clip.wav", cfg_mode="incremental", cfg_cond=None, cfg_scale=GUIDANCE, is_smooth_motion=smooth
    )
    return wrapper.LivePortraitWrapper.gen_motion_sequence(public, asked)["motion"]


def _compared(what: str, track: KeypointTrack, expected: list[dict[str, np.ndarray]]) -> dict[str, float]:
    frames = expected[: len(track)]
    found = {ours: np.stack([frame[theirs] for frame in frames]) for ours, theirs in PARTS.items()}
    found["rotation_deg"] = np.stack([np.concatenate([frame[name].ravel() for name in ANGLES]) for frame in frames])
    results = {f"{what}: frames": len(track), f"{what}: frames of the public code": len(expected)}
    for name, values in found.items():
        theirs = torch.from_numpy(values).float().reshape(getattr(track, name).shape)
        results[f"{what}: {name}, difference"] = float((getattr(track, name) - theirs).abs().max())
        results[f"{what}: {name}, motion"] = float((theirs - theirs[:1]).abs().max())
    return results


def _clip(seconds: float) -> Speech:
    """Amplitude-modulated noise."""
    generator = torch.Generator().manual_seed(3)
    time_s: Tensor = torch.arange(round(seconds * Speech.sample_rate)) / Speech.sample_rate
    noise = torch.randn(len(time_s), generator=generator) * (0.02 + 0.1 * (6 * time_s).sin().square())
    return Speech(noise.clamp(-1, 1))


if __name__ == "__main__":
    raise SystemExit(run(PUBLIC, measure))
