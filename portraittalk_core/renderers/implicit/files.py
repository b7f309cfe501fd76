"""Opening of keypoint models from their public files, which are known by their tensors; files with random weights.

Layouts: `file_layouts`. Every file is read without running anything inside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from ...checks import check_choice
from ...errors import InputError, MissingDependency
from ...types.keypoint_track import KEYPOINT_LAYOUTS
from ...weights.catalog import SUFFIXES, recognise
from ...weights.crop_size import INPUT_SIZE, crop_size
from ...weights.headers import read_shapes, shortened
from ...weights.load import load_strict, read_tensors
from .contract import KeypointModel, Retargeting
from .facevid2vid.model import FaceVid2Vid
from .file_layouts import (
    COUNTER,
    DETECTOR,
    ENCODER,
    ESTIMATOR,
    EXTRACTOR,
    FACEVID2VID,
    GENERATOR,
    LAYOUTS,
    LIVEPORTRAIT,
    RETARGETING,
    WARPING,
    detector_sizes,
    estimator_sizes,
    extractor_sizes,
    generator_sizes,
    network_tensors,
    retargeting_sizes,
    sorted_names,
)
from .liveportrait.model import LivePortrait
from .liveportrait.retargeting import LivePortraitRetargeting
from .random_files import write_random_files
from .random_weights import random_model
from .sizes import ImplicitSizes
from .spectral import folded

__all__ = ["open_keypoint_model", "random_model", "write_random_files"]

INNER_FOLDERS = ("base_models", "retargeting_models")  # of LivePortrait's own download
PUBLIC_WIDTH, PUBLIC_MIDDLE = 64, 6  # of face-vid2vid's generator
PICTURE_NETWORKS = ENCODER, WARPING, GENERATOR
MAX_SIDE = 4096  # of a crop
_READABLE = (*SUFFIXES, ".tar")
_SADTALKER = "kp_extractor."  # in SadTalker's files of version 0.0.2

Part = tuple[dict[str, Tensor], str]  # tensors and name of their file


@dataclass
class _Found:
    """Parts of the files that were given, by layout."""

    parts: dict[str, dict[str, Part]] = field(default_factory=dict)
    input_size: int = 256
    passed_over: dict[Path, str] = field(default_factory=dict)  # files of a folder that might have been meant; why not


def open_keypoint_model(
    paths: Path | Sequence[Path],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    layout: str | None = None,
    input_size: int | None = None,
) -> tuple[KeypointModel, Retargeting | None]:
    """Open a keypoint model for inference.

    Args:
        paths: a folder, or files in any order and under any name. Of a folder, files that belong to no keypoint model
            are passed over.
        device: of the networks.
        dtype: float32, float16 or bfloat16, of encoder, warping and generator; keypoints are read in float32 in any
            case, for bfloat16 would shift them by half a pixel from frame to frame.
        layout: "liveportrait-21" or "face-vid2vid-15"; None: the one that the files are of.
        input_size: side of the crops; None: what the files say, else 256. Public face-vid2vid runs at 256 or 512.

    Returns:
        The model, and its stitching and retargeting; None where the family, or the folder, has none.

    Raises:
        MissingDependency: no such file or folder.
        InputError: a network is missing, given twice, damaged, or of another model.
    """
    given = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    if layout is not None:
        check_choice(layout, tuple(LAYOUTS), "the layout of a keypoint model")
    found = _read(given, layout)
    chosen = _chosen(found, layout, given)
    parts = found.parts[chosen]
    files = {name: parts.get(name, parts.get("generator", ({}, "")))[1] for name in _networks_of(chosen)}
    networks = network_tensors(chosen, {name: tensors for name, (tensors, _) in parts.items()})
    networks[GENERATOR] = folded(networks[GENERATOR], files[GENERATOR])
    size = input_size or found.input_size
    with torch.device("meta"):  # no random weights that would be replaced at once
        model, retargeting = _empty(chosen, networks, files, size)
    for name, network in model.named_children():
        _fill(network, networks[name], files[name], device, dtype if name in PICTURE_NETWORKS else torch.float32)
    if retargeting is not None:
        _fill(retargeting, networks[RETARGETING], files[RETARGETING], device, torch.float32)
    return model.eval(), retargeting and retargeting.eval()


def _networks_of(layout: str) -> tuple[str, ...]:
    return (*PICTURE_NETWORKS, *((EXTRACTOR, RETARGETING) if layout == LIVEPORTRAIT else (DETECTOR, ESTIMATOR)))


def _empty(
    layout: str, networks: Mapping[str, Mapping[str, Tensor]], files: Mapping[str, str], input_size: int
) -> tuple[LivePortrait | FaceVid2Vid, LivePortraitRetargeting | None]:
    """Networks of the sizes of the tensors, without numbers."""
    sizes = generator_sizes(networks, files)
    if layout == FACEVID2VID:
        detector = detector_sizes(networks[DETECTOR], files[DETECTOR])
        estimator = estimator_sizes(networks[ESTIMATOR], files[ESTIMATOR])
        counts = sizes.num_keypoints, detector.num_keypoints, estimator.num_keypoints
        _check_counts(layout, counts, files)
        _check_middle(sizes, files[GENERATOR])
        return FaceVid2Vid(sizes, detector, estimator, input_size=input_size), None
    extractor = extractor_sizes(networks[EXTRACTOR], files[EXTRACTOR])
    counts = [sizes.num_keypoints, extractor.num_keypoints]
    retargeting = None
    if RETARGETING in networks:
        small = retargeting_sizes(networks[RETARGETING], files[RETARGETING])
        counts.append(small.num_keypoints)
        retargeting = LivePortraitRetargeting(small)
    _check_counts(layout, counts, files)
    return LivePortrait(sizes, extractor, input_size=input_size), retargeting


def _check_counts(layout: str, counts: Sequence[int], files: Mapping[str, str]) -> None:
    if set(counts) != {KEYPOINT_LAYOUTS[layout]}:
        names = ", ".join(dict.fromkeys(name for name in files.values() if name))
        raise InputError(
            f"{names} have {', '.join(map(str, sorted(set(counts))))} keypoints; {LAYOUTS[layout].called}'s networks "
            f"have {KEYPOINT_LAYOUTS[layout]}. Give files that belong together."
        )


def _check_middle(sizes: ImplicitSizes, source: str) -> None:
    if sizes.width == PUBLIC_WIDTH and sizes.num_middle != PUBLIC_MIDDLE:
        raise InputError(
            f"{source} has {sizes.num_middle} blocks G_middle in its decoder; face-vid2vid's generator has "
            f"{PUBLIC_MIDDLE}. Give the checkpoint that was trained with all of them (G_mid_full)."
        )


def _fill(
    network: nn.Module, tensors: dict[str, Tensor], source: str, device: torch.device | str, dtype: torch.dtype
) -> None:
    """Give a network its numbers, for inference."""
    counters = {name: torch.zeros((), dtype=torch.long) for name in network.state_dict() if name.endswith(COUNTER)}
    tensors = counters | tensors
    load_strict(network, {name: tensor.to("meta") for name, tensor in tensors.items()}, source)  # compares shapes only
    network.to_empty(device="cpu")
    load_strict(network, tensors, source).to(device, dtype)


def _files(given: Sequence[Path]) -> Iterator[tuple[Path, bool]]:
    """Given files, and weight files in given folders; with each, whether it was given by its own path."""
    for path in given:
        if path.is_dir():
            for folder in (path, *(path / inner for inner in INNER_FOLDERS)):
                inside = sorted(folder.iterdir()) if folder.is_dir() else []
                yield from ((file, False) for file in inside if file.suffix.lower() in _READABLE and file.is_file())
        elif path.is_file():
            yield path, True
        else:
            raise MissingDependency(f"there is no file or folder {path}. {_advice()}")


def _read(given: Sequence[Path], wanted: str | None) -> _Found:
    """Parts of all files."""
    found = _Found()
    for path, asked_for in _files(given):
        is_onnx = path.suffix.lower() == ".onnx"
        names = {} if is_onnx else {shortened(name.split(".")): shape for name, shape in read_shapes(path).items()}
        if not names and asked_for and not is_onnx:
            names = read_tensors(path)  # says what is wrong with it; old PyTorch files are read only so
        elif not names and not is_onnx:
            try:
                names = read_tensors(path)
            except InputError as error:
                found.passed_over[path] = str(error)
                continue
        layouts = sorted_names(names)
        reason = _refusal(path, names, layouts)
        if reason and asked_for:
            raise InputError(f"{reason} {_advice(wanted)}")
        if reason and any(name.startswith(_SADTALKER) for name in names):
            found.passed_over[path] = reason
        if not reason and (wanted is None or wanted in layouts):
            _add(found, path, layouts)
        elif not reason and asked_for:
            other = " and ".join(LAYOUTS[key].called for key in layouts)
            raise InputError(f"{path.name} belongs to {other}, not to {LAYOUTS[wanted].called}. {_advice(wanted)}")
    return found


def _refusal(path: Path, names: Mapping[str, object], layouts: Mapping[str, object]) -> str:
    """Why a file is none of a keypoint model; empty if it is one."""
    if any(name.startswith(_SADTALKER) for name in names):
        return (
            f"{path.name} is SadTalker's file of version 0.0.2: it has no he_estimator, the network that reads head "
            "pose and expression from pictures, so no face can be followed with it. Take SadTalker's "
            "facevid2vid_00189-model.pth.tar or ControlTalk's checkpoint."
        )
    if layouts:
        return ""
    if path.suffix.lower() == ".onnx":
        return (
            f"{path.name} is an ONNX network, such as InsightFace's detectors or LivePortrait's landmark.onnx; they "
            "are not needed here, because faces are found with the face mesh."
        )
    kind = recognise(path)
    what = f"{kind.role} ({kind.source})" if kind else f"something else: it holds {', '.join(list(names)[:3])}, …"
    return f"{path.name} is no network of a keypoint model, but {what}."


def _add(found: _Found, path: Path, layouts: Mapping[str, Mapping[str, Mapping[str, str]]]) -> None:
    tensors = read_tensors(path)
    found.input_size = crop_size(tensors, path.name, found.input_size, MAX_SIDE)
    for layout, parts in layouts.items():
        known = found.parts.setdefault(layout, {})
        for part, names in parts.items():
            if part in known:
                raise InputError(
                    f"{path.name} and {known[part][1]} both hold {LAYOUTS[layout].called}'s {part}; give the files by "
                    "their paths, one of the two only."
                )
            known[part] = {plain: tensors[name] for plain, name in names.items() if plain != INPUT_SIZE}, path.name


def _chosen(found: _Found, wanted: str | None, given: Sequence[Path]) -> str:
    """The layout to open."""
    missing = {
        key: [name for name in layout.names(only_needed=True) if name not in found.parts.get(key, {})]
        for key, layout in LAYOUTS.items()
    }
    whole = [key for key in ([wanted] if wanted else LAYOUTS) if not missing[key]]
    if len(whole) > 1:
        raise InputError(
            f"{', '.join(map(str, given))} holds {' and '.join(LAYOUTS[key].called for key in whole)}; say which of "
            "the two, or give its files by their paths."
        )
    if whole:
        _check_optional(found, whole[0])
        return whole[0]
    begun = [wanted] if wanted else sorted(found.parts, key=lambda key: len(missing[key])) or list(LAYOUTS)[:1]
    layout = LAYOUTS[begun[0]]
    hints = "".join(f" {hint}" for hint in list(found.passed_over.values())[:3])
    raise InputError(
        f"{layout.called}'s {', '.join(missing[begun[0]])} is missing in what was given "
        f"({', '.join(map(str, given))}).{hints} {_advice(begun[0])}"
    )


def _check_optional(found: _Found, layout: str) -> None:
    """Check that no file of a folder was to be a part that a model can do without, but cannot be read."""
    for part in LAYOUTS[layout].names():
        broken = [reason for path, reason in found.passed_over.items() if path.name.startswith(part)]
        if part not in found.parts[layout] and broken:
            raise InputError(broken[0])


def _advice(layout: str | None = None) -> str:
    parts = [
        f"{LAYOUTS[key].called}'s {', '.join(LAYOUTS[key].names())} from {LAYOUTS[key].source}"
        for key in ([layout] if layout else LAYOUTS)
    ]
    return f"Give the folder or the files with {'; or '.join(parts)}."
