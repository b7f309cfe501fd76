"""Parity of the lip renderers' networks with IP-LAP's and MuseTalk's public code, on files of random weights."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import torch
from torch import Tensor, nn

from portraittalk_core.renderers.lip.contract import LipBatch, References
from portraittalk_core.renderers.lip.files import open_lip_model
from portraittalk_core.renderers.lip.musetalk.model import with_positions
from portraittalk_core.renderers.lip.musetalk.speech import WhisperRows, open_whisper
from portraittalk_core.renderers.lip.random_files import write_random_lip_files
from portraittalk_core.types import Speech

from .parity import PublicCode, StandIn, compared, imported, run_all, timed

PUBLIC = PublicCode("https://github.com/Weizhi-Zhong/IP_LAP", "models/video_renderer.py", {"scipy": "scipy"})
MUSETALK = PublicCode("https://github.com/TMElyralab/MuseTalk", "musetalk/models/unet.py", {"diffusers": "diffusers"})
FRAMES, REFERENCES, SIDE = 2, 3, 128
LATENTS = "diffusers.models.autoencoders.vae.DiagonalGaussianDistribution"
MUSETALK_SIDE, SECONDS = 256, 31.3  # of crops; of a clip, over one window of whisper
UNET_CONFIG = {  # as musetalkV15/musetalk.json: SD1.4's with eight channels in, and whisper-tiny's width
    "in_channels": 8, "out_channels": 4, "sample_size": 64, "cross_attention_dim": 384, "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280], "layers_per_block": 2, "norm_num_groups": 32, "norm_eps": 1e-5,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "act_fn": "silu", "center_input_sample": False, "downsample_padding": 1, "flip_sin_to_cos": True, "freq_shift": 0,
    "mid_block_scale_factor": 1,
}  # fmt: skip


@torch.no_grad()
def measure(repo: Path) -> dict[str, float]:
    """Largest differences between the public code in `repo` and ours, and the size of what is compared; true sizes.

    Args:
        repo: a copy of github.com/Weizhi-Zhong/IP_LAP.
    """
    with (
        imported(repo, "models", ("librosa", "librosa.filters", "lws", "torchvision")),
        TemporaryDirectory() as folder,
    ):
        (path,) = write_random_lip_files(Path(folder), "iplap", "public", form="torch")
        code = importlib.import_module("models.video_renderer")
        with patch.object(code, "PerceptualLoss", _NoLoss):
            public = code.Renderer()
        state = torch.load(path, weights_only=True)["state_dict"]
        public.load_state_dict({name.removeprefix("module."): tensor for name, tensor in state.items()})
        public.eval()
        ours = open_lip_model(path)
    crops, sketches, references, drawn, mel = _inputs()
    features = ours.encode(References(references.flip(1), drawn.flip(1), references[:0], drawn[:0]))
    many = [x.expand(FRAMES, *x.shape) for x in (references, drawn)]
    warped = public.flow_module(*many, sketches)
    aligned = ours.flow_module(features, sketches.flatten(1, 2), at_once=2)
    results = {}
    for what, one, other in zip(("narrow", "wide", "picture"), warped, _parts(aligned), strict=True):
        results |= compared(f"aligned {what}", other, one)
    batch = LipBatch(crops.flip(1), sketches, mel)
    painted = timed("ours", lambda: ours.paint(features, batch).flip(1), FRAMES)
    expected = timed("public", lambda: public(crops[:, None], sketches, *many, mel[:, None, None])[0], FRAMES)
    return results | compared("picture", painted[0], expected[0]) | painted[1] | expected[1]


@torch.no_grad()
def measure_musetalk(repo: Path) -> dict[str, float]:
    """Largest differences between the public code in `repo` and ours, and the size of what is compared; true sizes.

    The public code draws latents from the autoencoder's distribution; here it takes their mean, as ours does.

    Args:
        repo: a copy of github.com/TMElyralab/MuseTalk.
    """
    for real in ("diffusers", "transformers"):  # which would take the stand-ins for the packages themselves
        importlib.import_module(real)
    transforms = StandIn("torchvision.transforms")
    transforms.Normalize = lambda mean, std: lambda x: (x - mean[0]) / std[0]
    torchvision = StandIn("torchvision")
    torchvision.transforms = transforms
    stand_ins = {"torchvision": torchvision, "torchvision.transforms": transforms, "librosa": StandIn("librosa")}
    with imported(repo, "musetalk", ()), patch.dict(sys.modules, stand_ins), TemporaryDirectory() as name:
        folder = Path(name)
        path, *_ = write_random_lip_files(folder, "musetalk", "public", form="torch")
        ours = open_lip_model(path)
        results = _hearingcompared(folder)
        (folder / "musetalk.json").write_text(json.dumps(UNET_CONFIG))
        public = importlib.import_module("musetalk.models.unet").UNet(
            str(folder / "musetalk.json"), str(path), device="cpu"
        )
        public.model.eval()
        ours.vae.save_pretrained(folder / "sd-vae")
        coder = importlib.import_module("musetalk.models.vae").VAE(str(folder / "sd-vae"))
        draw = torch.Generator().manual_seed(5)
        crops = torch.randint(0, 256, (FRAMES, MUSETALK_SIDE, MUSETALK_SIDE, 3), generator=draw).byte()
        rows = torch.randn(FRAMES, 50, 384, generator=draw)
        with patch(f"{LATENTS}.sample", lambda self: self.mean):
            latents = torch.cat([coder.get_latents_for_unet(crop.numpy()) for crop in crops])  # BGR
        pictures = crops.flip(3).permute(0, 3, 1, 2).float() / 255
        results |= compared("latents", ours.latents(pictures), latents)
        heard = public.pe(rows)
        results |= compared("rows with positions", with_positions(rows), heard)
        painted = public.model(latents, torch.tensor([0]), encoder_hidden_states=heard).sample
        results |= compared("painted latents", ours.unet(latents, 0, encoder_hidden_states=heard).sample, painted)
        decoded = torch.from_numpy(coder.decode_latents(painted).copy()).flip(3).permute(0, 3, 1, 2).float()
        found = ours.paint(None, LipBatch(pictures, pictures[:0], rows))
        return results | compared("picture, in grey levels", (found * 255).round(), decoded)


def _hearingcompared(folder: Path) -> dict[str, float]:
    """Rows of speech of both, of a clip longer than one window, from a random whisper-tiny."""
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

    torch.manual_seed(1)
    config = WhisperConfig(
        d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536, num_mel_bins=80,
        decoder_layers=1, decoder_attention_heads=6, decoder_ffn_dim=8, vocab_size=60, pad_token_id=0,
    )  # fmt: skip
    whisper = WhisperModel(config).eval()
    whisper.save_pretrained(folder / "whisper")
    WhisperFeatureExtractor(feature_size=80).save_pretrained(folder / "whisper")
    speech = Speech(torch.rand(int(SECONDS * 16000), generator=torch.Generator().manual_seed(2)) * 2 - 1)
    code = importlib.import_module("musetalk.utils.audio_processor")
    code.librosa.load = lambda *_, **__: (speech.waveform.numpy(), 16000)
    processor = code.AudioProcessor(str(folder / "whisper"))
    features, length = processor.get_audio_feature(str(folder))
    public = processor.get_whisper_chunk(features, "cpu", torch.float32, whisper, length, fps=25)
    rows = WhisperRows(open_whisper(folder / "whisper/model.safetensors", 384), speech, Fraction(25))
    return compared("rows of speech", rows.rows(range(len(public))), public)


def _parts(aligned: object) -> tuple[Tensor, Tensor, Tensor]:
    return aligned.narrow, aligned.wide, aligned.picture


def _inputs() -> tuple[Tensor, ...]:
    """BGR crops, sketches of frames, reference pictures and sketches, mel chunks."""
    draw = torch.Generator().manual_seed(5)
    crops, references = (torch.rand(count, 3, SIDE, SIDE, generator=draw) for count in (FRAMES, REFERENCES))
    sketches = (torch.rand(FRAMES, 5, 1, SIDE, SIDE, generator=draw) > 0.9) * torch.full((3, 1, 1), 224 / 255)
    drawn = (torch.rand(REFERENCES, 1, SIDE, SIDE, generator=draw) > 0.9) * torch.full((3, 1, 1), 224 / 255)
    mel = torch.rand(FRAMES, 80, 16, generator=draw) * 8 - 4
    return crops, sketches, references, drawn, mel


class _NoLoss(nn.Module):
    """In the place of the perceptual loss, whose network would have to be fetched."""

    def __init__(self, **_: object) -> None:
        super().__init__()

    def forward(self, *_: object, **__: object) -> Tensor:
        return torch.zeros(())


def main(args: Sequence[str] | None = None) -> int:
    """Compare with every copy that is named, of whichever repository it is."""
    return run_all(((PUBLIC, measure), (MUSETALK, measure_musetalk)), args)


if __name__ == "__main__":
    raise SystemExit(main())
