"""Stub of ComfyUI for tests of node schemas: every input and output records its arguments."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

PACK = "portraittalk_with_recording_stub"
AS_IN_KSAMPLER = ["as in KSampler"]  # instead of ComfyUI's own lists
TYPES = "Audio Boolean ClipVision Combo Conditioning ControlNet Float Image Int Latent Mask Model MultiType String Vae"


class Socket:
    """Stub of an input or output, with its type, its id and its arguments."""

    type = ""

    def __init__(self, key: str, **options: object) -> None:
        self.id, self.options, self.extra_dict = key, options, None

    @property
    def advanced(self) -> bool:
        """Whether it is marked so."""
        return bool((self.extra_dict or {}).get("advanced"))


def kind(name: str) -> type:
    """Stub of io.Image, io.Float, a custom type, …"""
    socket = type(name, (Socket,), {"type": name})
    return type(name, (), {"Input": socket, "Output": socket})


class Autogrow:
    """Stub of io.Autogrow, newer ComfyUI's."""

    @staticmethod
    def TemplatePrefix(*of: object) -> tuple:
        """What grows; nothing looks at it."""
        return of

    @staticmethod
    def Input(key: str, template: object, **options: object) -> Socket:  # noqa: ARG004 - as ComfyUI's
        """An input that grows, as one."""
        return Socket(key, **options)


@dataclass
class Schema:
    """Stub of io.Schema, with the fields of newer ComfyUI."""

    node_id: str
    display_name: str
    category: str
    description: str
    inputs: list
    outputs: list
    search_aliases: list = field(default_factory=list)
    hidden: list = field(default_factory=list)
    is_output_node: bool = False


def stub_modules(root: Path, grows: bool = False) -> dict[str, ModuleType]:
    """Stub modules that the nodes of the tree at `root` import from ComfyUI at the top of their files.

    Args:
        root: of the pack.
        grows: stand for a newer ComfyUI, whose inputs can grow.
    """
    latest, folders, pack = (ModuleType(name) for name in ("comfy_api.latest", "folder_paths", PACK))
    other_names = {
        "Custom": kind,
        "ComfyNode": object,
        "Schema": Schema,
        "Hidden": SimpleNamespace(unique_id=0, dynprompt=1),
    }
    if grows:
        other_names["Autogrow"] = Autogrow
    kinds = {name: kind(name) for name in (*TYPES.split(), "Video")}
    latest.io, latest.ui = SimpleNamespace(**kinds, **other_names), None
    latest.ComfyExtension = object
    folders.folder_names_and_paths, folders.models_dir = {}, "no such folder"
    folders.get_input_directory = folders.get_output_directory = lambda: "no such folder"
    folders.get_filename_list = lambda kind: []
    pack.__path__ = [str(root)]
    comfy = {f"comfy.{name}": ModuleType(f"comfy.{name}") for name in ("model_management", "sample", "samplers")}
    comfy["comfy.samplers"].KSampler = SimpleNamespace(SAMPLERS=AS_IN_KSAMPLER, SCHEDULERS=AS_IN_KSAMPLER)
    comfy["comfy"] = ModuleType("comfy")
    comfy["comfy"].samplers = comfy["comfy.samplers"]
    return comfy | {
        "comfy_api": ModuleType("comfy_api"), "comfy_api.latest": latest, "folder_paths": folders, PACK: pack
    }  # fmt: skip


@contextmanager
def nodes_of(root: Path, grows: bool = False) -> Iterator[ModuleType]:
    """The package `nodes` of the tree at `root`, imported with the stub; see `stub_modules`."""
    with pytest.MonkeyPatch.context() as patch:
        for name, module in stub_modules(root, grows).items():
            patch.setitem(sys.modules, name, module)
        try:
            yield importlib.import_module(f"{PACK}.nodes")
        finally:
            for name in [name for name in sys.modules if name.startswith(f"{PACK}.")]:
                del sys.modules[name]


def inputs_of(root: Path) -> dict[str, list[dict]]:
    """All inputs of all nodes of the tree at `root`, by node id."""
    with nodes_of(root) as nodes:
        return {schema.node_id: [described(socket) for socket in schema.inputs]
                for schema in (node.define_schema() for node in nodes.NODES)}  # fmt: skip


def described(socket: Socket) -> dict:
    """An input as plain JSON."""
    simple = {key: value for key, value in socket.options.items() if isinstance(value, (str, int, float, list))}
    simple = {key: value for key, value in simple.items() if key != "types"}  # of MultiType
    return {"id": socket.id, "type": socket.type, "advanced": socket.advanced, **simple}
