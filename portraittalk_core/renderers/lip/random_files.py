"""Lip models with random weights, for tests and measurements, and their files in the public layouts."""

from __future__ import annotations

from pathlib import Path

import torch

from ...checks import check_choice
from ...media.tensor_file import save_tensors
from ...weights.crop_size import INPUT_SIZE
from ..implicit.random_weights import randomised
from .contract import LipModel
from .files import IPLAP, LIPS, MUSETALK, save_lip_model
from .iplap import IpLap
from .lip_model import LipPriors
from .model_base import LipNetworks
from .sizes import LipConfig, LipSizes

SIZES = ("tiny", "public")
NAMES = (LIPS, IPLAP, MUSETALK)
TINY = {"size": 32, "narrow": 4, "wide": 16, "hidden": 8, "audio": (2, 4, 8, 8, 16)}
TINY_ATTENTION = 8
FLOW_PX = 4.0  # about, of random flows
FORMS = ("safetensors", "torch")


def random_lip_model(name: str, size: str = "tiny", seed: int = 0, **config: object) -> LipModel:
    """A lip model with random weights and running statistics, ready for inference.

    It paints no mouth, but its pictures change with everything that a mouth depends on.

    Args:
        name: "lips", "iplap" or "musetalk".
        size: "tiny": crops of 32 pixels (MuseTalk 64), milliseconds a picture; "public": of the public files.
        seed: of the weights.
        config: fields of `LipConfig`, for "lips", such as `ablate`.

    Raises:
        InputError: another name or size.
        MissingDependency: a package is not there; MuseTalk's needs diffusers.
    """
    check_choice(name, NAMES, "a lip model")
    check_choice(size, SIZES, "the size of a random lip model")
    if name == MUSETALK:
        from .musetalk.random_files import random_musetalk

        return random_musetalk(size, seed)
    tiny = TINY if size == "tiny" else {}
    if name == IPLAP:
        return _tamed(randomised(IpLap(LipSizes(**tiny)), seed))
    attention = {"attention": TINY_ATTENTION} if tiny else {}
    return _tamed(randomised(LipPriors(LipConfig(**{**tiny, **attention, **config})), seed))


def write_random_lip_files(
    folder: Path, name: str, size: str = "tiny", seed: int = 0, form: str = "safetensors"
) -> list[Path]:
    """Write the files of a model with random weights, as `random_lip_model` makes it, and return their paths.

    Args:
        folder: is made if it is not there.
        name: "lips", "iplap" or "musetalk"; the last with an image autoencoder beside it.
        size: "tiny" or "public".
        seed: of the weights.
        form: "safetensors", or "torch": for IP-LAP's and MuseTalk's as they are published.

    Raises:
        InputError: another name, size or form.
        OutputError: a file cannot be written.
    """
    check_choice(form, FORMS, "the form of random files")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if name == MUSETALK:
        from .musetalk.random_files import write_random_musetalk

        return write_random_musetalk(folder, size, seed, form)
    model = random_lip_model(name, size, seed)
    if name == LIPS:
        return [save_lip_model(model, folder / "random-lips.safetensors")]
    tensors = dict(model.state_dict())
    if model.size != LipSizes.size:
        tensors[INPUT_SIZE] = torch.tensor(model.size)
    if form == "safetensors":
        return [save_tensors(tensors, folder / "random-iplap.safetensors")]
    path = folder / "renderer_checkpoint.pth"
    wrapped = {f"module.{name}": tensor for name, tensor in tensors.items()}  # as of DataParallel
    torch.save({"state_dict": wrapped, "optimizer": None, "global_step": 1, "global_epoch": 1}, path)
    return [path]


@torch.no_grad()
def _tamed(model: LipNetworks) -> LipNetworks:
    """Flows of some pixels."""
    for name, module in model.named_modules():
        if name.endswith("conv_4"):
            module.weight *= FLOW_PX * model.size / LipSizes.size
    return model.for_inference()
