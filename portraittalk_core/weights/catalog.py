"""Optional weight files: what each is for, its licence, and how it is known by its content, never by its name."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".task")
MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit

Shapes = dict[str, tuple[int, ...]]  # tensor name → shape


@dataclass(frozen=True)
class WeightFile:
    """One kind of file that users may have."""

    role: str  # what it does here
    source: str  # where it comes from
    licence: str
    folder: str  # of ComfyUI's models folder
    used: bool  # by this version; others are known but wait for their engine


@dataclass(frozen=True)
class FoundWeights:
    """A file and what it is."""

    path: Path
    kind: WeightFile

    def __str__(self) -> str:
        """One line for a person."""
        use = "" if self.kind.used else "; known, not used by this version"
        return f"{self.path}: {self.kind.role} ({self.kind.source}, {self.kind.licence}{use})"


LANDMARKER = WeightFile(
    "face landmarks for any mediapipe", "Google MediaPipe face_landmarker.task", "Apache-2.0", "portraittalk", True
)

_SD15_KEY = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"


def _has(shapes: Shapes, key: str, shape: tuple[int, ...]) -> bool:
    return shapes.get(key) == shape


KINDS: tuple[tuple[WeightFile, Callable[[Shapes], bool]], ...] = (
    (
        WeightFile("Stable Diffusion 1.5", "any SD1.5 checkpoint", "CreativeML OpenRAIL-M", "checkpoints", False),
        lambda s: _has(s, _SD15_KEY, (320, 768)),
    ),
    (
        WeightFile(
            "face identity adapter", "h94/IP-Adapter-FaceID", "research only, non-commercial", "ipadapter", False
        ),
        lambda s: _has(s, "ip_adapter.1.to_k_ip.weight", (320, 768)) and any("image_proj.proj." in k for k in s),
    ),
    (
        WeightFile("landmark ControlNet", "CrucibleAI/ControlNetMediaPipeFace", "OpenRAIL", "controlnet", False),
        lambda s: (
            any(k.endswith("input_hint_block.0.weight") and shape == (16, 3, 3, 3) for k, shape in s.items())
            and any(k.endswith("attn2.to_k.weight") and shape[1] == 768 for k, shape in s.items())
        ),
    ),
    (
        WeightFile("motion module", "guoyww/animatediff", "Apache-2.0", "animatediff_models", False),
        lambda s: any("motion_modules.0.temporal_transformer" in k for k in s) and not _has(s, _SD15_KEY, (320, 768)),
    ),
    (
        WeightFile("speech encoder", "facebook/hubert-large-ls960-ft", "Apache-2.0", "audio_encoders", False),
        lambda s: any("encoder.layers.23." in k for k in s) and any(k.endswith("masked_spec_embed") for k in s),
    ),
    (
        WeightFile("speech to face mesh", "ZJYang/AniPortrait audio2mesh.pt", "Apache-2.0", "portraittalk", False),
        lambda s: any(k.endswith("out_fn.weight") and shape == (1404, 512) for k, shape in s.items()),
    ),
)


def find_weights(folders: Iterable[Path]) -> list[FoundWeights]:
    """Every known weight file in some folders and the folders inside them; files of other kinds are passed over."""
    found = []
    for folder in folders:
        for path in sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()):
            kind = recognise(path)
            if kind is not None:
                found.append(FoundWeights(path, kind))
    return found


def recognise(path: Path) -> WeightFile | None:
    """What a file is, by the names and shapes of its tensors; None for an unknown or unreadable one.

    No tensor is read, and no code inside a pickle is run.
    """
    path = Path(path)
    if path.suffix.lower() == ".task":
        return LANDMARKER if _is_landmarker(path) else None
    shapes = _safetensors_shapes(path) if path.suffix.lower() == ".safetensors" else _pickle_shapes(path)
    return next((kind for kind, fits in KINDS if shapes and fits(shapes)), None)


def _is_landmarker(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as bundle:
            return "face_landmarks_detector.tflite" in bundle.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def _safetensors_shapes(path: Path) -> Shapes:
    """Of the file's header only: eight bytes that give its length, then JSON."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > MAX_HEADER_BYTES:
                return {}
            header = json.loads(file.read(length))
        return {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
    except (OSError, struct.error, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _pickle_shapes(path: Path) -> Shapes:
    import pickle

    import torch

    try:
        content = torch.load(path, map_location="meta", weights_only=True, mmap=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError):
        return {}
    return dict(_walk(content, ""))


def _walk(content: object, prefix: str) -> Iterable[tuple[str, tuple[int, ...]]]:
    """Tensors in nested dicts, by dotted name; a `state_dict` level adds no name."""
    if not isinstance(content, dict):
        return
    for name, value in content.items():
        if hasattr(value, "shape"):
            yield f"{prefix}{name}", tuple(value.shape)
        else:
            yield from _walk(value, prefix if name in ("state_dict", "model") else f"{prefix}{name}.")
