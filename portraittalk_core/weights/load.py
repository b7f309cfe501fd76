"""Reading of weight files, and strict loading of their tensors into a network."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..errors import InputError, MissingDependency
from .headers import NAMELESS, check_sizes, nested_entries
from .plain_globals import plain_globals

Network = TypeVar("Network", bound=nn.Module)
MAX_NAMED = 6  # names in an error text


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a weight file by name, on the CPU, as they are stored.

    Knows safetensors, PyTorch's files and MATLAB 5. Nested names are joined by dots; levels that add nothing
    (`state_dict`, `model`, `module`) are dropped.

    Raises:
        MissingDependency: there is no such file.
        InputError: damaged, another format, or a pickle that wants to run code.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDependency(f"there is no weight file {path}; put it there, or choose another.")
    try:
        with path.open("rb") as file:
            start = file.read(9)
        if start[8:9] == b"{":
            from safetensors.torch import load_file

            tensors = load_file(path)
        else:
            check_sizes(path)
            tensors = _matlab_tensors(path) if start.startswith(b"MATLAB 5") else _torch_tensors(path, start)
    except InputError as error:
        raise InputError(
            f"{path.name} cannot be read as a weight file: {error}; choose another, or download it again."
        ) from error
    except Exception as error:  # damaged files make their readers raise anything
        if isinstance(error, UnpicklingError) and "weights_only" in str(error):
            raise InputError(
                f"{path.name} cannot be read as a weight file: it holds more than tensors, and reading that could run "
                "code. Use a .safetensors version of it."
            ) from error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path.name} cannot be read as a weight file ({reason}); download it again.") from error
    if not tensors:
        raise InputError(f"{path.name} holds no tensors; it is not a weight file.")
    return {_shortened(name): tensor for name, tensor in tensors.items()}


def read_metadata(path: Path) -> dict[str, str]:
    """Text metadata of a safetensors file; nothing for another one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError):
        return {}


def load_strict(network: Network, tensors: dict[str, Tensor], source: str, ignore: tuple[str, ...] = ()) -> Network:
    """Put tensors into a network and make it ready for inference.

    Args:
        network: of the right sizes.
        tensors: one for every parameter and buffer of the network.
        source: what to call the tensors in messages: a file name.
        ignore: regular expressions of names that the file may hold besides.

    Returns:
        The network, in evaluation mode, without gradients.

    Raises:
        InputError: names are missing, left over, or of another shape.
    """
    expected = network.state_dict()
    missing = [name for name in expected if name not in tensors]
    extra = [n for n in tensors if n not in expected and not any(re.search(pattern, n) for pattern in ignore)]
    shared = [name for name in expected if name in tensors]
    mismatched = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in shared
        if tensors[name].shape != expected[name].shape
    ]
    faults = (("lacks", missing), ("also holds", extra), ("has other shapes:", mismatched))
    problems = [f"{what} {_some(names)}" for what, names in faults if names]
    if problems:
        kind = type(network).__name__
        raise InputError(f"{source} does not fit {kind}: it {'; it '.join(problems)}. Is it a file of another model?")
    if broken := [name for name, _ in network.named_parameters() if not _is_finite(tensors[name])]:
        raise InputError(f"{source} holds numbers that are NaN or infinite in {_some(broken)}; download it again.")
    network.load_state_dict({name: tensors[name].to(expected[name].dtype) for name in shared})
    return network.eval().requires_grad_(False)


def _some(names: list[str]) -> str:
    return ", ".join(names[:MAX_NAMED]) + (f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else "")


def _shortened(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in NAMELESS)


def _torch_tensors(path: Path, start: bytes) -> dict[str, Tensor]:
    if not start.startswith((b"PK", b"\x80")):  # an archive, or a pickle of protocol 2 and later
        raise InputError("it is neither safetensors nor a file of PyTorch or MATLAB")
    with plain_globals():
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path) or None)
    return {".".join(names): value for names, value in nested_entries(content) if names and isinstance(value, Tensor)}


def _is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are; shapes without numbers are not looked into."""
    if tensor.is_meta or not tensor.is_floating_point() or not tensor.numel():
        return True
    numbers = tensor.float() if tensor.element_size() == 1 else tensor  # torch has no extremes of eight bits
    return all(torch.isfinite(end) for end in torch.aminmax(numbers))


def _matlab_tensors(path: Path) -> dict[str, Tensor]:
    import numpy as np
    from scipy.io import loadmat

    content = loadmat(path)
    numbers = {k: v for k, v in content.items() if isinstance(v, np.ndarray) and v.dtype.kind in "fiu"}
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in numbers.items()}
