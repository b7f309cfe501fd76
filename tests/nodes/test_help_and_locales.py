"""Help pages and translations cover exactly the nodes' inputs and outputs; no ComfyUI is needed."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
PACK = "portraittalk_with_stub"
NODES = (
    "PortraitTalkAudioToLandmarks",
    "PortraitTalkLoadMotionEngine",
    "PortraitTalkLandmarksFromVideo",
    "PortraitTalkPreviewLandmarks",
    "PortraitTalkSaveLandmarks",
    "PortraitTalkLoadLandmarks",
    "PortraitTalkRenderPortrait",
    "PortraitTalkLoadFaceEmbedding",
    "PortraitTalkBlendFaces",
    "PortraitTalkLoadIdentityAdapter",
    "PortraitTalkAnimateNetControl",
    "PortraitTalkIdentityNetSampler",
    "PortraitTalkVExpress",
    "PortraitTalkLoadKeypointRenderer",
    "PortraitTalkKeypointsFromVideo",
    "PortraitTalkLandmarksToKeypoints",
    "PortraitTalkAudio2Exp",
    "PortraitTalkAudioToKeypoints",
    "PortraitTalkEditKeypoints",
    "PortraitTalkRenderKeypoints",
    "PortraitTalkSaveKeypoints",
    "PortraitTalkLoadKeypoints",
    "PortraitTalkStylePrior",
    "PortraitTalkBlendStyles",
    "PortraitTalkSaveStyle",
    "PortraitTalkLoadStyle",
    "PortraitTalkCropFace",
    "PortraitTalkPasteFace",
    "PortraitTalkADFDScore",
    "PortraitTalkCompareVideos",
    "PortraitTalkScoreWithoutReference",
)
LANGUAGES = ("en", "zh", "ja", "ko")
# names from the paper
SAME_EVERYWHERE = ("PortraitTalkAudioToLandmarks", "PortraitTalkIdentityNetSampler", "PortraitTalkADFDScore")
SAME_EVERYWHERE += ("PortraitTalkAnimateNetControl", "PortraitTalkStylePrior")
SAME_EVERYWHERE += ("PortraitTalkAudio2Exp", "PortraitTalkAudioToKeypoints")
OWN_SCRIPT = {"zh": r"[\u4e00-\u9fff]", "ja": r"[\u3040-\u30ff]", "ko": r"[\uac00-\ud7a3]"}
AS_IN_KSAMPLER = ["as in KSampler"]  # instead of ComfyUI's own lists
NO_LIMIT = 2**53  # the page does not print a seed's end


class Socket:
    """Stub of an input or output that records its arguments."""

    def __init__(self, key: str, **options: object) -> None:
        self.id, self.options, self.extra_dict = key, options, None


class Kind:
    """Stub of io.Image, io.Float, a custom type, …"""

    Input = Output = Socket


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


def stubs() -> dict[str, ModuleType]:
    """Stub modules that the nodes import from ComfyUI at the top of their files."""
    names = (
        "Audio",
        "Boolean",
        "ClipVision",
        "Combo",
        "Conditioning",
        "ControlNet",
        "Float",
        "Image",
        "Int",
        "Latent",
        "Mask",
        "Model",
    )
    kinds = dict.fromkeys((*names, "MultiType", "String", "Vae", "Video"), Kind)
    other_names = {
        "Custom": lambda name: Kind,
        "ComfyNode": object,
        "Schema": Schema,
        "Hidden": SimpleNamespace(unique_id=0, dynprompt=1),
    }
    latest, folders, pack = (ModuleType(name) for name in ("comfy_api.latest", "folder_paths", PACK))
    latest.io, latest.ui, latest.ComfyExtension = SimpleNamespace(**kinds, **other_names), None, object
    folders.folder_names_and_paths, folders.models_dir = {}, "no such folder"
    folders.get_input_directory = folders.get_output_directory = lambda: "no such folder"
    folders.get_filename_list = lambda kind: []
    pack.__path__ = [str(ROOT)]
    comfy, samplers = ModuleType("comfy"), ModuleType("comfy.samplers")
    samplers.KSampler = SimpleNamespace(SAMPLERS=AS_IN_KSAMPLER, SCHEDULERS=AS_IN_KSAMPLER)
    other_names = {f"comfy.{name}": ModuleType(f"comfy.{name}") for name in ("model_management", "sample")}
    comfy.samplers = samplers
    other_names |= {"comfy": comfy, "comfy.samplers": samplers, "comfy_api": ModuleType("comfy_api"), PACK: pack}
    return other_names | {"comfy_api.latest": latest, "folder_paths": folders}


@pytest.fixture(scope="module")
def schemas() -> Iterator[dict[str, Schema]]:
    """The nodes' own schemas, by node id."""
    with pytest.MonkeyPatch.context() as patch:
        for name, module in stubs().items():
            patch.setitem(sys.modules, name, module)
        all_schemas = [node.define_schema() for node in importlib.import_module(f"{PACK}.nodes").NODES]
        yield {schema.node_id: schema for schema in all_schemas}
    for name in [name for name in sys.modules if name.startswith(f"{PACK}.")]:
        del sys.modules[name]


def locale(language: str) -> dict:
    return json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))


def texts_of(schema: Schema) -> dict:
    """A schema's texts in the form of ComfyUI's locale files."""
    outputs = enumerate(schema.outputs)
    return {
        "display_name": schema.display_name,
        "description": schema.description,
        "inputs": {s.id: {"name": s.id, "tooltip": s.options["tooltip"]} for s in schema.inputs},
        "outputs": {str(i): {"name": s.options["display_name"], "tooltip": s.options["tooltip"]} for i, s in outputs},
    }


def shape(tree: object) -> object:
    """Keys alone, without the texts."""
    return {key: shape(value) for key, value in tree.items()} if isinstance(tree, dict) else None


def leaves(tree: dict) -> Iterator[str]:
    for value in tree.values():
        yield from leaves(value) if isinstance(value, dict) else [value]


def page(node: str) -> str:
    return (ROOT / "web" / "docs" / f"{node}.md").read_text(encoding="utf-8")


def rows(text: str) -> list[list[str]]:
    """The cells of all table rows of a page."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def inputs_told(text: str) -> dict[str, tuple[str, str]]:
    """Range and default of each input in a page's list of inputs; empty where the page gives none."""
    section = re.search(r"^## Inputs?\n(.*?)(?=^## |\Z)", text, re.S | re.M)[1]
    found = {}
    for entry in re.split(r"^- ", section, flags=re.M)[1:]:
        match = re.match(r"\*\*(\w+)\*\*(?: \((.*?)\))?: \S", " ".join(entry.split()))
        span, _, default = (match[2] or "").replace("; default ", "\n").partition("\n")
        found[match[1]] = ("", span.removeprefix("default ")) if span.startswith("default ") else (span, default)
    return found


@cache
def spoken() -> str:
    """All fixed parts of the texts in the nodes and the core, one a line."""
    files = [path for folder in ("nodes", "portraittalk_core") for path in (ROOT / folder).rglob("*.py")]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in files]
    constants = (node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return "\n".join(value for value in constants if isinstance(value, str))


def test_the_nodes_are_these(schemas):
    assert tuple(schemas) == NODES
    assert {path.stem for path in (ROOT / "web" / "docs").glob("*.md")} == set(NODES)


def test_help_in_other_languages_is_what_page_and_locale_say():
    """Every input with its range, by the words of the locale; what the locale lacks follows in English."""
    command = [sys.executable, "tools/make_help.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert not done.stdout and done.returncode == 0, done.stdout + done.stderr
    assert {path.relative_to(ROOT / "web" / "docs").as_posix() for path in (ROOT / "web" / "docs").glob("*/*.md")} == {
        f"{node}/{language}.md" for node in NODES for language in OWN_SCRIPT
    }


@pytest.mark.parametrize("language", OWN_SCRIPT)
@pytest.mark.parametrize("node", NODES)
def test_help_in_other_languages_tells_of_everything(schemas, node, language):
    text = (ROOT / "web" / "docs" / node / f"{language}.md").read_text(encoding="utf-8")
    own, texts = re.split(r"^### ", text, maxsplit=1, flags=re.M)[0], locale(language)[node]
    assert text.startswith(f"# {texts['display_name']}\n") and re.search(OWN_SCRIPT[language], own)
    for socket in schemas[node].inputs:
        tip = texts["inputs"][socket.id]["tooltip"]
        named = [line for line in own.splitlines() if f"**{socket.id}**" in line or f"`{socket.id}`" in line]
        line = next(line for line in named if line.endswith(tip))
        low_and_high = [f"{socket.options[end]:g}".replace("-", "−") for end in ("min", "max") if end in socket.options]
        assert all(number in line for number in low_and_high if float(number.replace("−", "-")) < NO_LIMIT), line
    assert all(f"**{output['name']}**" in own for output in texts["outputs"].values())
    messages = [row for row in page(node).splitlines() if re.match(r"\| \*[^*]", row)]  # English in every language
    assert messages and all(row in text for row in messages)


def test_english_is_what_the_nodes_say(schemas):
    assert locale("en") == {node: texts_of(schema) for node, schema in schemas.items()}


@pytest.mark.parametrize("language", LANGUAGES)
def test_locale_has_every_text_and_no_unknown_ones(schemas, language):
    texts = locale(language)
    assert shape(texts) == shape({node: texts_of(schema) for node, schema in schemas.items()})
    assert all(text.strip() for text in leaves(texts))
    # to the page's translator, vue-i18n, these are commands
    assert not [text for text in leaves(texts) if re.search(r"[{}@|]", text)]


@pytest.mark.parametrize("language", OWN_SCRIPT)
def test_locale_is_translated(language):
    english = locale("en")
    for node, texts in locale(language).items():
        names = {"description": texts["description"], "display_name": texts["display_name"]}
        if node in SAME_EVERYWHERE:
            assert names.pop("display_name") == english[node]["display_name"]
        tips = [text["tooltip"] for kind in ("inputs", "outputs") for text in texts[kind].values()]
        for text in (*names.values(), *tips):
            assert re.search(OWN_SCRIPT[language], text), f"{language} {node}: {text}"


@pytest.mark.parametrize("node", NODES)
def test_help_tells_of_every_input_with_range_and_default(schemas, node):
    entries = inputs_told(page(node))
    for socket in schemas[node].inputs:
        span, default = entries.pop(socket.id)
        options = socket.options
        if "min" in options:
            low, high = (f"{options[end]:g}".replace("-", "−") for end in ("min", "max"))
            assert span == (f"{low} to {high}" if options["max"] < NO_LIMIT else f"{low} and up")
        if "default" in options:
            value = options["default"]
            value = {True: "on", False: "off"}[value] if isinstance(value, bool) else value
            value = value if isinstance(value, str) else f"{value:g}".replace("-", "−")
            assert default == (value or "empty")
        if socket.options.get("options"):
            assert span == ", ".join(socket.options["options"])
    assert not entries, "the page tells of inputs that the node lacks"


@pytest.mark.parametrize("node", NODES)
def test_help_fits_into_the_side_panel(node):
    """It is 300 pixels wide: a third column, or a line of code longer than this, is cut off."""
    text = page(node)
    assert not [cells for cells in rows(text) if len(cells) > 2]
    fenced = "\n".join(re.findall(r"^```.*?\n(.*?)^```", text, re.S | re.M)).splitlines()
    assert not [line for line in fenced if len(line) > 40]


@pytest.mark.parametrize("node", NODES)
def test_help_says_what_it_is_how_to_wire_it_and_what_comes_out(schemas, node):
    text = page(node)
    assert text.startswith(f"# {schemas[node].display_name}\n")
    assert "\n## How to wire it\n" in text
    named = {cells[0] for cells in rows(text)}
    assert {f"**{socket.options['display_name']}**" for socket in schemas[node].outputs} <= named


@pytest.mark.parametrize("node", NODES)
def test_help_quotes_messages_that_exist(node):
    messages = spoken()
    cells = [cells[0] for cells in rows(page(node)) if len(cells) == 2]
    quoted = [message for cell in cells for message in re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", cell)]
    assert quoted
    for message in quoted:
        parts = [part.strip() for part in message.split("…") if part.strip()]
        assert all(part in messages for part in parts), message
