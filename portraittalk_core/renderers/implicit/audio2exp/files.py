"""Files of Audio2Exp: ControlTalk's public lipControlNet.pt, and our own safetensors."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ....checks import check_choice, parse_whole
from ....errors import InputError
from ....speech.windows import ROWS
from ....types.keypoint_track import KEYPOINT_LAYOUTS
from ....weights.catalog import recognise
from ....weights.load import load_strict, read_metadata, read_tensors
from .network import Audio2Exp, Audio2ExpSize

KIND = "Audio2Exp"
MAX_ROWS = 500
FIRST, LAST = "audio_encoder.fc1.projection.weight", "out_fc.weight"
HEADS = tuple(f"audio_encoder.fc{number}.projection.weight" for number in (1, 2, 3, 4))
FREE = "Audio2Exp file (ControlTalk's lipControlNet.pt, or one of portraittalk train audio2exp)"


def load_audio2exp(path: Path) -> Audio2Exp:
    """The network of a file, in evaluation mode, on the CPU.

    The public file may have a level `state_dict` and names with `module.` in front. Which keypoints it moves follows
    from the number of its outputs, and from the metadata of our own files.

    Raises:
        MissingDependency: there is no such file.
        InputError: it is damaged, incomplete, or of another model; the text says which.
    """
    path = Path(path)
    tensors = read_tensors(path)
    return load_strict(Audio2Exp(_size(tensors, read_metadata(path), path)), tensors, path.name)


def save_audio2exp(path: Path, network: Audio2Exp, notes: dict[str, str] | None = None) -> None:
    """Write a network to safetensors, with its layout and the rows of a window in the metadata.

    Args:
        path: of the file.
        network: to be written.
        notes: more metadata, such as what it was trained on.
    """
    from safetensors.torch import save_file

    size = network.size
    metadata = {**(notes or {}), "kind": KIND, "layout": size.layout, "rows": str(size.rows)}
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    save_file(tensors, path, metadata)


def _size(tensors: dict[str, Tensor], metadata: dict[str, str], path: Path) -> Audio2ExpSize:
    """Sizes of a file's network, from the shapes of its tensors."""
    needed = (*HEADS, LAST)
    missing = [name for name in needed if name not in tensors or tensors[name].ndim != 2]
    if missing:
        raise InputError(_unfit(path, tensors, missing))
    numbers = len(tensors[LAST])
    by_count = {3 * count: layout for layout, count in KEYPOINT_LAYOUTS.items()}
    if numbers not in by_count:
        layouts = " or ".join(f"{count} ({layout})" for count, layout in by_count.items())
        raise InputError(
            f"{path.name} moves {numbers} numbers of an expression; {layouts} are known. It is another model."
        )
    layout = check_choice(
        metadata.get("layout", by_count[numbers]), tuple(KEYPOINT_LAYOUTS), f"the layout in {path.name}"
    )
    if layout != by_count[numbers]:
        raise InputError(
            f"{path.name} says that it is for {layout}, but has the {numbers} outputs of {by_count[numbers]}."
        )
    rows = parse_whole(metadata.get("rows", ROWS), f"the number of rows in {path.name}", 1, MAX_ROWS)
    inputs = tensors[FIRST].shape[1]
    if inputs % rows:
        raise InputError(
            f"{path.name} takes {inputs} numbers of speech, which are no {rows} rows; it is another model."
        )
    return Audio2ExpSize(layout, inputs // rows, rows, tuple(len(tensors[name]) for name in HEADS))


def _unfit(path: Path, tensors: dict[str, Tensor], missing: list[str]) -> str:
    """Why a file is no Audio2Exp."""
    if LAST in missing and any("audio_encoder" in name for name in tensors):
        return (
            f"{path.name} is ControlTalk's lip-sync network (audio_encoder.pt), which alone moves nothing; choose "
            "lipControlNet.pt, which contains it."
        )
    if LAST in tensors or any(name.startswith("audio_encoder.fc") for name in tensors):
        return f"{path.name} is an incomplete {FREE}: it lacks {missing[0]}; download it again."
    kind = recognise(path)
    return f"{path.name} is no {FREE}; it {f'is: {kind.role} ({kind.source})' if kind else 'is none that is known'}."
