"""JoyVASA's two files with tiny networks of random weights, as its training program writes them."""

from __future__ import annotations

import argparse
import math
import pathlib
import pickle
from pathlib import Path

import numpy as np
import torch
from tiny_hubert import tiny_hubert

WIDTH, LAYERS, FRAMES, PREVIOUS, STEPS, MOTION = 16, 2, 20, 4, 6, 70
TEMPLATE_ENDS = {"scale": 1, "t": 3, "pitch": 1, "yaw": 1, "roll": 1}


def decoder(width: int = WIDTH, layers: int = LAYERS) -> torch.nn.TransformerDecoder:
    """PyTorch's own decoder, of which the public code is made."""
    layer = torch.nn.TransformerDecoderLayer(width, 8, 4 * width, activation="gelu", batch_first=True)
    return torch.nn.TransformerDecoder(layer, layers)


def cosine_betas(steps: int = STEPS) -> torch.Tensor:
    """(steps,) of Nichol and Dhariwal's cosine schedule (arXiv 2102.09672), equation 17."""
    time = torch.arange(steps + 1) / steps
    bars = torch.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - bars[1:] / bars[:-1]).clamp(1e-4, 0.999)


def schedule(steps: int = STEPS) -> dict[str, torch.Tensor]:
    """The file's numbers of a schedule; place 0 is the clean motion."""
    betas = torch.cat([torch.zeros(1), cosine_betas(steps)])
    alphas = 1 - betas
    bars = alphas.log().cumsum(0).exp()
    before = torch.cat([bars[:1], bars[:-1]])
    inflex = torch.where(betas > 0, (1 - before) / (1 - bars).clamp(min=1e-12) * betas, 0.0).sqrt()
    values = {
        "betas": betas,
        "alphas": alphas,
        "alpha_bars": bars,
        "sigmas_flex": betas.sqrt(),
        "sigmas_inflex": inflex,
    }
    return {f"diffusion_sched.{name}": value for name, value in values.items()}


def tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    """Every tensor of the motion generator's file."""
    hubert = tiny_hubert(large=False, seed=seed)
    torch.manual_seed(seed)
    parts = {
        "denoising_net.feature_proj.": torch.nn.Linear(MOTION, WIDTH),
        "denoising_net.diff_step_map.0.": torch.nn.Linear(WIDTH, WIDTH),
        "denoising_net.diff_step_map.2.": torch.nn.Linear(WIDTH, WIDTH),
        "denoising_net.motion_dec.0.": torch.nn.Linear(WIDTH, WIDTH // 2),
        "denoising_net.motion_dec.2.": torch.nn.Linear(WIDTH // 2, MOTION),
        "denoising_net.transformer.": decoder(),
        "audio_feature_map.": torch.nn.Linear(64, WIDTH),
        "audio_encoder.": hubert,
    }
    found = {prefix + name: value for prefix, part in parts.items() for name, value in part.state_dict().items()}
    found |= {
        "start_audio_feat": torch.randn(1, PREVIOUS, WIDTH),
        "start_motion_feat": torch.randn(1, PREVIOUS, MOTION),
        "null_audio_feat": torch.randn(1, 1, WIDTH),
        "denoising_net.TE.pe": torch.zeros(
            1, 501, WIDTH
        ),  # of another length than the steps, as the public code drops it
        "denoising_net.PE.pe": torch.zeros(1, 600, WIDTH),
        "denoising_net.alignment_mask": ~torch.eye(PREVIOUS + FRAMES, dtype=torch.bool),
    }
    return found | schedule()


def template(seed: int = 0) -> dict[str, np.ndarray]:
    """What the template's pickle holds."""
    generator = np.random.default_rng(seed)
    found = {
        "mean_exp": generator.normal(0, 0.01, 63).astype(np.float32),
        "std_exp": generator.uniform(0.005, 0.02, 63).astype(np.float32),
    }
    for name, count in TEMPLATE_ENDS.items():
        least = {"scale": 1.0, "t": -0.1}.get(name, -20.0)
        most = {"scale": 1.5, "t": 0.1}.get(name, 20.0)
        found |= {f"min_{name}": np.full(count, least, np.float32), f"max_{name}": np.full(count, most, np.float32)}
        found |= {f"mean_{name}": np.zeros(count, np.float32), f"std_{name}": np.ones(count, np.float32)}
    return found


def write_joyvasa(folder: Path, seed: int = 0, **changes: torch.Tensor | None) -> Path:
    """Both files in a folder; the path of the generator. `changes` replace tensors, None leaves them out."""
    values = {name: value for name, value in (tensors(seed) | changes).items() if value is not None}
    settings = argparse.Namespace(n_motions=FRAMES, fps=25, pad_mode="zero", data_root=pathlib.PurePosixPath("data"))
    torch.save({"args": settings, "model": values, "iter": 7}, folder / "motion_generator.pt")
    (folder / "motion_template.pkl").write_bytes(pickle.dumps(template(seed), 4))
    return folder / "motion_generator.pt"
