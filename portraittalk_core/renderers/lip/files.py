"""Opening of lip models from their files, which are known by their tensors; the paper's own files are written here.

Source: the layout of IP-LAP's public renderer_checkpoint.pth; `docs/design/lips.md` 4. Every file is read without
running anything inside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from ...checks import abbreviated, check_choice
from ...errors import InputError, MissingDependency
from ...media.tensor_file import save_tensors
from ...weights.catalog import SUFFIXES, recognise
from ...weights.crop_size import INPUT_SIZE, crop_size
from ...weights.headers import read_shapes, shortened
from ...weights.load import load_strict, read_metadata, read_tensors
from .contract import LipModel
from .iplap import IpLap
from .lip_model import LipPriors
from .model_base import LipNetworks
from .sizes import MAX_SIDE, LipConfig, LipSizes

LIPS, IPLAP, MUSETALK = "lips", "iplap", "musetalk"
LAYOUT = "portraittalk-lips-1"  # of our own files
CALLED = {
    LIPS: "a file of `portraittalk train lips`",
    IPLAP: "IP-LAP's renderer_checkpoint.pth",
    MUSETALK: "MuseTalk 1.5's unet.pth",
}
SOURCES = {
    LIPS: CALLED[LIPS],
    IPLAP: "renderer_checkpoint.pth, from the links in github.com/Weizhi-Zhong/IP_LAP (trained on LRS2: research use)",
    MUSETALK: "musetalkV15/unet.pth, from huggingface.co/TMElyralab/MuseTalk (MIT)",
}
_FIRST = {  # names by which a family is known; any of them
    LIPS: ("alignment.", "rendering."),
    IPLAP: ("flow_module.", "translation."),
}
_UNET_ENTRY, _UNET_CONTEXT = "conv_in.weight", "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
SPEECH_WIDTH = 384  # of whisper-tiny; instruct-pix2pix's UNets of eight channels read texts, 768 wide
_MUSETALK_15 = "v15"  # in the public name of its folder
_BESIDES = (r"^perceptual\.", r"^optimizer\.", rf"^{INPUT_SIZE}$")  # what training leaves in IP-LAP's file
_STAGES = (0, 3, 6, 9, 11)  # layers of the mel encoder where its width changes
_COUNTER = ".num_batches_tracked"


def family_of(names: Mapping[str, tuple[int, ...]]) -> str | None:
    """Which lip model a file with tensors of these names and shapes belongs to; None for other files."""
    for family, firsts in _FIRST.items():
        if any(name.startswith(firsts) for name in names):
            return family
    entry, context = names.get(_UNET_ENTRY, ()), names.get(_UNET_CONTEXT, (0, SPEECH_WIDTH))
    return MUSETALK if entry[1:2] == (8,) and context[1:2] == (SPEECH_WIDTH,) else None


def open_lip_model(
    path: Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    name: str | None = None,
    vae: Path | None = None,
    speech_encoder: Path | None = None,
) -> LipModel:
    """Open a lip model for inference.

    Args:
        path: its file under any name, or a folder with one such file among others, or in one of its own folders.
        device: of the networks.
        dtype: of their weights; flows and sums stay in float32.
        name: "lips", "iplap" or "musetalk", if it must be that one; None: whichever the file is of.
        vae: file of SD1.5's image autoencoder, for MuseTalk; None: the one beside its file.
        speech_encoder: file of whisper-tiny, for MuseTalk; None: the one beside its file.

    Raises:
        MissingDependency: no such file, or a package or file that it needs is not there.
        InputError: damaged, not whole, or of another model.
    """
    file = lip_file(path, name)
    names = _names(file)
    family = family_of(names)
    if family is None:
        raise InputError(f"{_refusal(file, names)} {_advice(name)}")
    if name not in (None, family):
        raise InputError(f"{file.name} is {CALLED[family]}, not {CALLED[name]}. {_advice(name)}")
    if family == MUSETALK:
        from .musetalk.files import open_musetalk

        return open_musetalk(file, device, dtype, vae=vae, speech_encoder=speech_encoder)
    tensors = read_tensors(file)
    with torch.device("meta"):  # no random weights that would be replaced at once
        empty = IpLap(_iplap_sizes(tensors, file)) if family == IPLAP else LipPriors(_config(file))
    return _filled(empty, tensors, file.name).for_inference(device, dtype)


def save_lip_model(model: LipPriors, path: Path, metadata: Mapping[str, str] | None = None) -> Path:
    """Write the paper's networks, with their sizes, as `open_lip_model` reads them.

    Args:
        model: the networks.
        path: of a safetensors file; what is there is replaced at the end.
        metadata: texts beside the sizes, such as what it was trained on.

    Raises:
        OutputError: the file cannot be written.
    """
    own = {"layout": LAYOUT, "config": json.dumps(asdict(model.config))}
    return save_tensors(model.state_dict(), path, {**(metadata or {}), **own})


def lip_file(path: Path, name: str | None = None) -> Path:
    """The file of a lip model: itself, or the one in a folder.

    Args:
        path: of a file or folder.
        name: of the model, if it must be that one.

    Raises:
        MissingDependency: it is not there.
        InputError: none or several in the folder.
    """
    path = Path(path)
    if name is not None:
        check_choice(name, tuple(CALLED), "a lip model")
    file = _file_in(path, name) if path.is_dir() else path
    if not file.is_file():
        raise MissingDependency(f"there is no file or folder {path}. {_advice(name)}")
    return file


def _file_in(folder: Path, name: str | None) -> Path:
    """The one file of a folder, or else of the folders in it, that is a lip model's."""
    shapes = {file: _header(file) for file in _weight_files(folder)}
    fitting = _fitting(shapes, name)
    if not fitting:
        shapes |= {file: _read_shapes(file) for file, names in shapes.items() if not names}  # old PyTorch files
        fitting = _fitting(shapes, name)
    if not fitting:
        inner = [file for part in sorted(folder.iterdir()) if part.is_dir() for file in _weight_files(part)]
        fitting = _fitting({file: _header(file) for file in inner}, name)
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        listed = ", ".join(str(file.relative_to(folder)) for file in fitting[:4])
        raise InputError(f"{folder} holds more than one lip model ({listed}); give one of the files by its path.")
    unread = [file.name for file, names in shapes.items() if not names]
    hint = f" {', '.join(unread[:3])} could not be read; download it again, if it is the one." if unread else ""
    raise InputError(f"{folder} holds no file of {name or ' or '.join(SOURCES)}.{hint} {_advice(name)}")


def _fitting(shapes: Mapping[Path, dict[str, tuple[int, ...]]], name: str | None) -> list[Path]:
    """Files of lip models; of MuseTalk's two versions, which no tensor tells apart, the one in the folder of 1.5."""
    families = {file: family_of(names) for file, names in shapes.items()}
    fitting = [file for file, family in families.items() if family and name in (None, family)]
    latest = [file for file in fitting if _MUSETALK_15 in str(Path(file.parent.name, file.name)).lower()]
    only_musetalk = len(fitting) > 1 and {families[file] for file in fitting} == {MUSETALK}
    return latest if only_musetalk and len(latest) == 1 else fitting


def _weight_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())


def _header(file: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a file's tensors; nothing for one that has no header, or a damaged one."""
    return {shortened(name.split(".")): shape for name, shape in read_shapes(file).items()}


def _read_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """As `_header`, but of tensors that are read; nothing for a damaged file."""
    try:
        return {name: tuple(tensor.shape) for name, tensor in read_tensors(file).items()}
    except InputError:
        return {}


def _names(file: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a file's tensors, from its header wherever it has one."""
    return _header(file) or {name: tuple(tensor.shape) for name, tensor in read_tensors(file).items()}


def _refusal(file: Path, names: Mapping[str, object]) -> str:
    kind = recognise(file)
    what = (
        f"{kind.role} ({kind.source})" if kind else f"something else: it holds {', '.join(list(names)[:3])} and so on"
    )
    return f"{file.name} is no lip renderer, but {what}."


def _advice(name: str | None) -> str:
    return f"Give {'; or '.join(SOURCES[key] for key in ([name] if name else SOURCES))}."


def _iplap_sizes(tensors: Mapping[str, Tensor], file: Path) -> LipSizes:
    def width(layer: str) -> int:
        weight = tensors.get(f"{layer}.weight")
        if weight is None or not weight.ndim:
            raise InputError(f"{file.name} is not whole: it lacks {layer}.weight; download it again.")
        return len(weight)

    return LipSizes(
        size=crop_size(tensors, file.name, LipSizes.size, MAX_SIDE),
        narrow=width("flow_module.conv1"),
        wide=width("flow_module.conv2"),
        hidden=width("flow_module.spade_layer_1.spade_layer_1.conv1"),
        audio=tuple(width(f"translation.audio_encoder.{i}.conv_block.0") for i in _STAGES),
    )


def _config(file: Path) -> LipConfig:
    """The sizes that one of our own files carries."""
    metadata = read_metadata(file)
    if metadata.get("layout") != LAYOUT:
        raise InputError(
            f"{file.name} does not say the sizes of its network, as files of `portraittalk train lips` do (layout "
            f"{abbreviated(metadata.get('layout', ''))} instead of {LAYOUT}); give the file that the training wrote."
        )
    try:
        content = json.loads(metadata["config"])
        return LipConfig(**{**content, "audio": tuple(content["audio"])})
    except InputError as error:
        raise InputError(f"{file.name} is of another version: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file.name} does not say the sizes of its network ({error}); train it again.") from error


def _filled(network: LipNetworks, tensors: dict[str, Tensor], source: str) -> LipNetworks:
    """The network with a file's numbers, for inference."""
    counters = {name: torch.zeros((), dtype=torch.long) for name in network.state_dict() if name.endswith(_COUNTER)}
    tensors = counters | tensors
    shapes = {name: tensor.to("meta") for name, tensor in tensors.items()}
    load_strict(network, shapes, source, _BESIDES)  # compares shapes only
    network.to_empty(device="cpu")
    return load_strict(network, tensors, source, _BESIDES)
