"""Cache key of a sampler job, stable across restarts of ComfyUI, so that an interrupted job is resumed."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from fractions import Fraction

import torch
from torch import Tensor

from ...portraittalk_core import __version__
from ...portraittalk_core.cache_key import cache_key
from ...portraittalk_core.renderers.sections import LAYOUT, Sections, prune
from . import paths

log = logging.getLogger(__name__)

# inputs that the painted frames do not depend on, or that are hashed by their own content
NOT_PAINTED = ("keep_frames", "crf", "ai_mark", "fps", "resume", "audio")
Add = Callable[[str], None]


def sections_of(  # noqa: PLR0913 - one parameter a kind of input
    models: tuple,
    conditioning: tuple,
    inputs: object,
    node_id: str | None,
    nodes,
    not_painted: tuple[str, ...] = NOT_PAINTED,
) -> Sections | None:
    """The store of a job's finished sections; None where none can be written.

    Args:
        models: MODEL and VAE, or another node's networks.
        conditioning: positive and negative.
        inputs: the node's other inputs, a dataclass.
        node_id: of the node in the prompt.
        nodes: ComfyUI's DynamicPrompt.
        not_painted: inputs of the node that do not change what is painted.
    """
    root = paths.unfinished_folder()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        log.warning("cannot make %s, so that this job could not be resumed: %s.", root, error)
        return None
    if not os.access(root, os.W_OK):
        log.warning("%s is not writable, so that this job could not be resumed.", root)
        return None
    key = job_key(models, conditioning, inputs, node_id, nodes, not_painted)
    prune(root, keep=key)
    return Sections(root, key)


def job_key(  # noqa: PLR0913 - as `sections_of`
    models: tuple,
    conditioning: tuple,
    inputs: object,
    node_id: str | None,
    nodes,
    not_painted: tuple[str, ...] = NOT_PAINTED,
) -> str:
    """SHA-256 of everything that the painted frames depend on; see `sections_of`.

    Tensors go by their content. Weights go by the nodes that made them, all their inputs, and the files named there:
    what is in memory is patched or not, whole or in part, as it happens.
    """
    digest = hashlib.sha256()

    def add(text: str) -> None:
        digest.update(f"{text}\0".encode("utf-8", "surrogatepass"))

    add(f"{LAYOUT} {__version__} {torch.__version__} {_comfyui_version()}")
    for model in models:
        add(_machine(model))
    add("" if node_id is None or nodes is None else traced(nodes.get_node, node_id, not_painted))
    put(add, conditioning)
    for field in dataclasses.fields(inputs):
        value = getattr(inputs, field.name)
        if field.name == "portrait" and getattr(value, "ndim", 0) == 4:
            value = value[:1]  # of a batch, the first moves
        if field.name not in not_painted:
            add(field.name)
            put(add, value)
    return digest.hexdigest()


def traced(get_node: Callable[[str], Mapping], node_id: str, without: tuple[str, ...] = ()) -> str:
    """SHA-256 of a node and its ancestors: kinds, inputs, and the files named there, but not node numbers.

    Args:
        get_node: gives a node {"class_type", "inputs"} by its number.
        node_id: of the last.
        without: inputs of the last that do not matter.
    """
    digests: dict[str, str] = {}

    def digest(number: str, without: tuple[str, ...] = ()) -> str:
        if number not in digests:
            node = get_node(number)
            inputs = {name: describe(value) for name, value in node.get("inputs", {}).items() if name not in without}
            description = [node.get("class_type"), inputs]
            digests[number] = cache_key(description, default=lambda value: type(value).__name__)
        return digests[number]

    def describe(value: object) -> list:
        if _is_link(value):
            return ["from", digest(value[0]), value[1]]
        return ["is", value, [stamp for text in _texts(value) for stamp in paths.stamps(text)]]

    return digest(node_id, without)


def _is_link(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and type(value[1]) in (int, float)


def _texts(value: object) -> list[str]:
    """All texts nested in a value: each may name a file."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [text for inner_value in inner for text in _texts(inner_value)]


def put(add: Add, value: object) -> None:
    """Hash a value by its content; of what is no plain value, tensor or dataclass, its kind alone."""
    if value is None or isinstance(value, bool | int | float | str | bytes | range | Fraction):
        add(f"{type(value).__name__} {value!r}")
    elif isinstance(value, Tensor):
        add(_tensor_digest(value))
    elif isinstance(value, Mapping):
        add(f"{{{len(value)}")
        for name in sorted(value, key=str):
            add(str(name))
            put(add, value[name])
    elif isinstance(value, list | tuple):
        add(f"[{len(value)}")
        for item in value:
            put(add, item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        add(type(value).__name__)
        put(add, {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init})
    else:
        add(type(value).__name__)


def _tensor_digest(tensor: Tensor) -> str:
    kind = f"{tensor.dtype} {tuple(tensor.shape)}"
    try:
        content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    except (RuntimeError, TypeError, NotImplementedError):  # another pack's own kind of tensor
        return kind
    return f"{kind} {hashlib.sha256(content).hexdigest()}"


def _machine(model: object) -> str:
    """Device and precision of a MODEL or VAE: frames of one do not continue those of another bit for bit."""
    device = getattr(model, "load_device", None) or getattr(model, "device", None)
    name = torch.cuda.get_device_name(device) if getattr(device, "type", "") == "cuda" else ""
    dtype = model.model_dtype() if hasattr(model, "model_dtype") else getattr(model, "vae_dtype", None)
    return f"{device} {name} {dtype}"


def _comfyui_version() -> str:
    try:
        from comfyui_version import __version__ as comfyui
    except ImportError:
        return ""
    return comfyui
