"""Diagnosis of an installation: what is installed, what works, what is missing, and what to do about it."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from .. import __version__
from ..engines.contract import EngineSpec
from ..engines.registry import engine_specs
from ..errors import PortraitTalkError
from ..renderers.contract import RendererSpec
from ..renderers.registry import builder, open_renderer, renderer_specs
from ..weights.specs import FileSpec

PACKAGES = {  # import name: (name for pip, what misses it)
    "torch": ("torch", "everything"),
    "numpy": ("numpy", "everything"),
    "scipy": ("scipy", "everything"),
    "PIL": ("pillow", "reading pictures"),
    "av": ("av", "reading and writing sound and video"),
    "transformers": ("transformers", "mel spectrograms and speech encoders"),
    "safetensors": ("safetensors", "tracks and weights"),
    "einops": ("einops", "detecting and warping faces"),
    "kornia": ("kornia", "PSNR and SSIM"),
    "jinja2": ("jinja2", "reports of scores"),
    "mediapipe": ("mediapipe", "the face-mesh back ends solutions and tasks"),
    "matplotlib": ("matplotlib", "`portraittalk plot`"),
    "rich": ("rich", "progress bars and tables"),
}
MESH_BACKENDS = ("solutions", "tasks", "torch")
ENCODERS = {"libx264": "H.264 video", "aac": "AAC sound"}
FOLDERS_VARIABLE = "PORTRAITTALK_MODELS"
LOW_DISK_GB = 2.0
REINSTALL = "install PortraitTalk again; a part of it is missing"


@dataclass(frozen=True)
class Line:
    """One checked item: its state and advice."""

    name: str
    state: str
    ok: bool
    advice: str = ""  # what to do; empty where nothing needs doing


@dataclass(frozen=True)
class Section:
    """Checked items of one kind."""

    title: str
    lines: list[Line]


@dataclass(frozen=True)
class Diagnosis:
    """All checked items, by section."""

    sections: list[Section]

    def to_json(self) -> str:
        """A JSON object with one list per section, keyed by its title."""
        lines = {section.title: [dataclasses.asdict(line) for line in section.lines] for section in self.sections}
        return json.dumps(lines, indent=2, ensure_ascii=False)


def diagnose(model_folders: Iterable[Path] = ()) -> Diagnosis:
    """Run all checks; nothing that is missing or broken raises.

    Args:
        model_folders: folders to search for weight files besides the known ones.
    """
    return Diagnosis(
        [
            Section("Versions", versions()),
            Section("Machine", machine()),
            Section("Face landmarks", [mesh_backend(name) for name in MESH_BACKENDS]),
            Section("Who a face is", [face_descriptor()]),
            Section("Motion engines", [motion_engine(spec) for spec in engine_specs()]),
            Section("Renderers", [renderer(spec) for spec in renderer_specs()]),
            Section("Encoders", [encoder(name) for name in ENCODERS]),
            Section("Marked as AI-generated", [ai_mark_line()]),
            Section("Weight files (all optional)", weight_files(model_folders)),
        ]
    )


def versions() -> list[Line]:
    """Versions of this library, Python and the packages it uses."""
    lines = [Line("portraittalk", __version__, True), Line("python", platform.python_version(), True)]
    for module, (package, needed_for) in PACKAGES.items():
        advice = f"pip install {package}  (needed for {needed_for})"
        lines.append(_tried(package, lambda module=module, package=package: _version(module, package), advice))
    if "av" in sys.modules:
        lines.append(_tried("FFmpeg (inside av)", _ffmpeg_version, "pip install --force-reinstall av"))
    return lines


def machine() -> list[Line]:
    """Processor, accelerators and free disk."""
    threads = Line("CPU threads", str(os.cpu_count() or 1), True)
    return [threads, _tried("accelerator", _accelerators, "pip install torch"), disk(Path.cwd())]


def disk(folder: Path) -> Line:
    """Free space where videos would be written."""
    free_gb = shutil.disk_usage(folder).free / 1e9
    ok = free_gb >= LOW_DISK_GB
    return Line("free disk here", f"{free_gb:.1f} GB", ok, "" if ok else "free some space before making long videos")


def mesh_backend(name: str) -> Line:
    """Availability of a face-mesh back end, which is opened."""

    def opened() -> str:
        from ..face.mesh.landmarks import open_mesh

        with open_mesh(name) as mesh:
            return f"works ({mesh.name})" if mesh.name != name else "works"

    return _tried(name, opened, "")


def face_descriptor() -> Line:
    """Whether dlib's face descriptor, which comes with this package, works."""

    def described() -> str:
        import torch

        from ..face.identity.descriptor import descriptor_network
        from ..face.identity.descriptor_net import CHIP_PX

        descriptor_network()(torch.zeros(1, CHIP_PX, CHIP_PX, 3))
        return "works; ArcFace measures instead where InsightFace's buffalo_l is given"

    return _tried("dlib's face descriptor", described, REINSTALL)


def motion_engine(spec: EngineSpec) -> Line:
    """Availability of a motion engine of the registry."""
    return method(spec.name, spec.files, spec.load, spec.open)


def renderer(spec: RendererSpec) -> Line:
    """Availability of a renderer of the registry."""
    return method(spec.name, spec.files, lambda: builder(spec), lambda: open_renderer(spec.name))


def method(name: str, files: Iterable[FileSpec], load: Callable[[], object], try_out: Callable[[], object]) -> Line:
    """Whether the modules of an engine or a renderer import; one that needs no file is tried out, too.

    Args:
        name: of the method.
        files: what it needs or may use; files that are there are listed with the weight files.
        load: imports it.
        try_out: builds it without any file.
    """
    needed = [file for file in files if file.needed]

    def loaded() -> str:
        load()
        if needed:
            return "ready for " + "; ".join(f"{file.source} ({file.flag})" for file in needed)
        try_out()
        return "works"

    return _tried(name, loaded, REINSTALL)


def encoder(name: str) -> Line:
    """Whether the FFmpeg inside PyAV can write with this encoder."""

    def opened() -> str:
        import av

        av.codec.Codec(name, "w")
        return "works"

    return _tried(f"{name} ({ENCODERS[name]})", opened, "pip install --force-reinstall av  (its wheel holds FFmpeg)")


def ai_mark_line() -> Line:
    """What the metadata of videos and pictures says, and how to switch it off."""
    from ..media.made_mark import COMPOSITE, VOCABULARY

    return Line("metadata of what is made", f"{VOCABULARY}{COMPOSITE}; --no-ai-mark leaves it out", True)


def weight_files(folders: Iterable[Path]) -> list[Line]:
    """Optional weight files in the given and the known folders, recognised by what is in them."""
    folders = [Path(folder).expanduser() for folder in (*folders, *known_folders())]
    absent = [folder for folder in folders if not folder.is_dir()]
    lines = [
        Line(str(folder), "a file, no folder" if folder.exists() else "no such folder", False, "check the path")
        for folder in absent
    ]

    def searched() -> str:
        from ..weights.catalog import find_weights

        kinds = {weights.path.resolve(): weights.kind for weights in find_weights(folders)}
        for path, kind in kinds.items():
            advice = "" if kind.used else "known, but this version does not use it"
            lines.append(Line(str(path), f"{kind.role} ({kind.source}; {kind.licence})", True, advice))
        if not folders:
            return f"in no folder; give one with --models FOLDER or in {FOLDERS_VARIABLE}"
        return f"{len(kinds)} recognised in {', '.join(map(str, folders))}"

    return [_tried("search", searched, REINSTALL), *lines]


def known_folders() -> list[Path]:
    """Default folders of weight files: those of PORTRAITTALK_MODELS, and the cache."""
    named = [Path(folder) for folder in os.environ.get(FOLDERS_VARIABLE, "").split(os.pathsep) if folder]
    cache = Path.home() / ".cache" / "portraittalk"
    return [*named, *([cache] if cache.is_dir() else [])]


def _tried(name: str, check: Callable[[], str], advice: str) -> Line:
    """Result of `check`; if it raises, the error's text, with `advice` unless the error was written for the user."""
    try:
        return Line(name, check(), True)
    except PortraitTalkError as error:
        return Line(name, "missing", False, str(error))
    except ModuleNotFoundError as error:
        return Line(name, "missing", False, advice or f"pip install {error.name}")
    except Exception as error:  # a broken installation can raise anything, and telling so is this module's work
        return Line(name, f"broken: {type(error).__name__}: {error}", False, advice)


def _version(module: str, package: str) -> str:
    importlib.import_module(module)
    return importlib.metadata.version(package)


def _ffmpeg_version() -> str:
    import av

    return getattr(av, "ffmpeg_version_info", "") or "libavcodec " + ".".join(
        str(part) for part in av.library_versions["libavcodec"]
    )


def _accelerators() -> str:
    import torch

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("Apple MPS")
    return ", ".join(names) or "none (not needed: the embedded engine and renderer run on the CPU)"
