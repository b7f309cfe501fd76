"""Files with random weights in the public layouts, for tests and measurements."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import Module

from ...checks import check_choice
from ...weights.crop_size import INPUT_SIZE
from .file_layouts import GENERATOR, LIVEPORTRAIT, RETARGETING, public_names
from .random_weights import random_model
from .spectral import unfolded

FORMS = ("safetensors", "torch")
PUBLIC_INPUT = 256
FACTOR = 3.0  # of weights over their norm, which folding takes away
CHECKPOINT = "random-checkpoint"


def public_tensors(
    model: Module, retargeting: Module | None = None, factor: float = 1.0
) -> dict[str, dict[str, Tensor]]:
    """Part → its tensors under the public names, spectral normalisation as old PyTorch files have it.

    Args:
        model: LivePortrait or FaceVid2Vid, built without spectral norm; also on the meta device.
        retargeting: LivePortrait's.
        factor: see `spectral.unfolded`.
    """
    networks = {name: network.state_dict() for name, network in model.named_children()}
    networks[GENERATOR] = unfolded(networks[GENERATOR], factor)
    if retargeting is not None:
        networks[RETARGETING] = retargeting.state_dict()
    return public_names(model.layout, networks)


def write_random_files(
    folder: Path, layout: str, size: str = "tiny", seed: int = 0, form: str = "safetensors"
) -> list[Path]:
    """Write the files of a model with random weights, as `random_model` makes it, and return their paths.

    Args:
        folder: is made if it is not there.
        layout: "liveportrait-21" or "face-vid2vid-15".
        size: "tiny" or "public".
        seed: of the weights.
        form: "safetensors": Kijai's five files, or one for face-vid2vid; "torch": LivePortrait's own five .pth files,
            or a .pth.tar as ControlTalk's.

    Raises:
        InputError: another layout, size or form.
    """
    check_choice(form, FORMS, "the form of random files")
    model, retargeting = random_model(layout, size, seed)
    parts = public_tensors(model, retargeting, FACTOR)
    extra = {} if model.input_size == PUBLIC_INPUT else {INPUT_SIZE: torch.tensor(model.input_size)}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if layout == LIVEPORTRAIT:
        parts["appearance_feature_extractor"] |= extra
        return [_write(folder / name, tensors, form) for name, tensors in parts.items()]
    if form == "torch":
        return [_write(folder / CHECKPOINT, {**parts, "epoch": 1, **extra}, form)]
    flat = {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}
    return [_write(folder / CHECKPOINT, flat | extra, form)]


def _write(path: Path, tensors: dict, form: str) -> Path:
    if form == "safetensors":
        from safetensors.torch import save_file

        path = path.with_name(f"{path.name}.safetensors")
        save_file({_flat(name): tensor.contiguous() for name, tensor in tensors.items()}, path)
        return path
    suffix = ".pth.tar" if path.name == CHECKPOINT else ".pth"
    path = path.with_name(path.name + suffix)
    if path.name.startswith(RETARGETING):
        nested: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            network, _, rest = name.partition(".")
            nested.setdefault(network, {})[f"module.{rest}"] = tensor
        tensors = nested
    torch.save(tensors, path)
    return path


def _flat(name: str) -> str:
    """Kijai's names of the small networks."""
    network, _, rest = name.partition(".")
    return f"{network}_module.{rest}" if network.startswith("retarget_") else name
