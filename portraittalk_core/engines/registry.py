"""All motion engines by name: opened by the content of a weight file, or by name where they need none.

Imports no torch, so that ``--help`` can list engines without waiting for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ..errors import InputError, MissingDependency
from ..weights.catalog import KINDS, FoundWeights, WeightFile, find_weights, recognise
from .audio2mesh.spec import SPEC as AUDIO2MESH
from .audio2motion.spec import SPEC as AUDIO2MOTION
from .builtin.spec import SPEC as BUILT_IN
from .contract import EngineFiles, EngineSpec, MotionEngine
from .joyvasa.spec import SPEC as JOYVASA
from .landmark_generator.spec import SPEC as LANDMARK_GENERATOR

ENGINES: tuple[EngineSpec, ...] = (BUILT_IN, AUDIO2MESH, AUDIO2MOTION, LANDMARK_GENERATOR, JOYVASA)

_registered: dict[str, EngineSpec] = {spec.name: spec for spec in ENGINES}


def register(spec: EngineSpec) -> EngineSpec:
    """Register an external engine, for the command line, doctor, error texts and nodes.

    Its weight file, if it has one, is recognised by `spec.kinds`, whose `engine` must be the spec's name.

    Raises:
        InputError: another engine has this name.
    """
    if _registered.setdefault(spec.name, spec) is not spec:
        raise InputError(f"there is a motion engine called {spec.name} already; give yours another name.")
    return spec


def engine_specs() -> tuple[EngineSpec, ...]:
    """Every engine, ours first."""
    return tuple(_registered.values())


def engine_spec(name: str) -> EngineSpec:
    """The engine of a name.

    Raises:
        InputError: there is none; the text lists them.
    """
    if name not in _registered:
        raise InputError(f"there is no motion engine called {name}. Choose one of: {', '.join(_registered)}.")
    return _registered[name]


def nameable_engines() -> list[str]:
    """Names of the engines that need no file, so that a name is enough to open them."""
    return [spec.name for spec in engine_specs() if not spec.needed_files]


def open_engine(files: EngineFiles | str | None = None) -> MotionEngine:
    """The engine that a file holds, or that a name stands for.

    Args:
        files: the weights, and what else the engine needs; a path or a name as text; None is the built-in engine.
            `files.weights` may be a name, too, where there is no such file.

    Raises:
        InputError: the file is of another family; the text says which.
        MissingDependency: a file is missing; the text says where from.
    """
    files = EngineFiles(Path(files)) if isinstance(files, str) else files
    if files is None or files.weights is None:
        return BUILT_IN.open(files)
    weights = Path(files.weights)
    if not weights.is_file():
        return _open_named(str(weights), files)
    kind = recognise(weights, _kinds())
    if kind is None or not kind.engine:
        content = f"is: {kind.role} ({kind.source})" if kind else "is none that is known"
        raise InputError(f"{weights.name} is not a motion engine; it {content}. Choose one of: {_choices()}.")
    return engine_spec(kind.engine).open(replace(files, weights=weights))


def find_engines(folders: Iterable[Path]) -> list[FoundWeights]:
    """The motion engines in some folders."""
    return [weights for weights in find_weights(folders, _kinds()) if weights.kind.engine]


def _open_named(name: str, files: EngineFiles) -> MotionEngine:
    spec = _registered.get(name)
    if spec is None:
        raise MissingDependency(
            f"there is no motion engine file {name}; put it there, or choose another. Known engines: {_choices()}."
        )
    if spec.needed_files:
        raise MissingDependency(f"the engine {name} is opened by its file: {spec.needed_files[0].advice}.")
    return spec.open(replace(files, weights=None))


def _kinds() -> tuple[WeightFile, ...]:
    """Kinds of weight files to recognise, those of external engines first."""
    return (*(kind for spec in engine_specs() for kind in spec.kinds), *KINDS)


def _choices() -> str:
    """Every engine for an error text: files by title, the rest by name."""
    return ", ".join(spec.title if spec.files else spec.name for spec in engine_specs())
