"""Help pages and translations cover exactly the nodes' inputs and outputs; no ComfyUI is needed."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from comfy_stub import Schema, nodes_of

ROOT = Path(__file__).parents[2]
NODES = (
    "PortraitTalkAudioToLandmarks",
    "PortraitTalkGazeAndBreath",
    "PortraitTalkLoadMotionEngine",
    "PortraitTalkLandmarksFromVideo",
    "PortraitTalkPreviewLandmarks",
    "PortraitTalkSaveLandmarks",
    "PortraitTalkLoadLandmarks",
    "PortraitTalkRenderPortrait",
    "PortraitTalkLoadFaceEmbedding",
    "PortraitTalkBlendFaces",
    "PortraitTalkPersonMask",
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
    "PortraitTalkLoadLipRenderer",
    "PortraitTalkSelectReferences",
    "PortraitTalkDubLips",
    "PortraitTalkSeveralSpeakers",
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
NO_LIMIT = 2**53  # the page does not print a seed's end


@pytest.fixture(scope="module")
def schemas() -> Iterator[dict[str, Schema]]:
    """The nodes' own schemas, by node id."""
    with nodes_of(ROOT, grows=True) as nodes:
        yield {schema.node_id: schema for schema in (node.define_schema() for node in nodes.NODES)}


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


def translated_page(node: str, language: str) -> str:
    return (ROOT / "web" / "docs" / node / f"{language}.md").read_text(encoding="utf-8")


@cache
def translations(language: str) -> dict[str, str]:
    """What tools/help says for each English text."""
    return json.loads((ROOT / "tools" / "help" / f"{language}.json").read_text(encoding="utf-8"))["texts"]


@cache
def untranslated() -> dict[str, dict[str, str]]:
    """The English texts that tools/help lacks, by language."""
    command = [sys.executable, "tools/make_help.py", "--missing"]
    return json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def pieces(text: str) -> list[tuple[str, str]]:
    """The headings, paragraphs, list entries and table cells of a page, each with its kind."""
    found = []
    for line in text.splitlines():
        if heading := re.match(r"(#+) (.*)", line):
            found.append(heading.groups())
        elif line.startswith("|"):
            found += [("cell", cell) for cell in line.strip("|").split("|") if cell.strip("-")]
        elif line.startswith("- "):
            found.append(("entry", line))
        elif line and (not found or found[-1][0] != "end"):  # goes on from the line before
            kind, before = found.pop() if found and found[-1][0] in ("entry", "paragraph") else ("paragraph", "")
            found.append((kind, f"{before} {line}"))
        elif line:
            found.append(("paragraph", line))
        if not line:
            found.append(("end", ""))
    return [piece for piece in found if piece[0] != "end"]


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
    """Every input with its range, by the words of the locale; all else by tools/help."""
    command = [sys.executable, "tools/make_help.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert not done.stdout and done.returncode == 0, done.stdout + done.stderr
    assert {path.relative_to(ROOT / "web" / "docs").as_posix() for path in (ROOT / "web" / "docs").glob("*/*.md")} == {
        f"{node}/{language}.md" for node in NODES for language in OWN_SCRIPT
    }


@pytest.mark.parametrize("language", OWN_SCRIPT)
def test_every_text_of_the_help_is_translated_and_none_is_left_over(language):
    """The English page is the source: what is new there must be translated, what is gone there must go here."""
    assert not untranslated()[language]
    english = " ".join(" ".join(page(node).split()) for node in NODES)
    assert not [text for text in translations(language) if text not in english]


@pytest.mark.parametrize("language", OWN_SCRIPT)
def test_translations_keep_code_links_and_numbers(language):
    exact = r"`[^`]+`|\]\(\S+?\)|[\w.-]+\.(?:bin|pth|pt|onnx|zip|safetensors|model)\b|huggingface\.co/[\w./-]+\w"
    for english, text in translations(language).items():
        for pattern in (exact, r"\d+"):
            assert not set(re.findall(pattern, english, re.A)) - set(re.findall(pattern, text, re.A)), text


@pytest.mark.parametrize("language", OWN_SCRIPT)
@pytest.mark.parametrize("node", NODES)
def test_help_in_other_languages_tells_of_everything(schemas, node, language):
    text, texts = translated_page(node, language), locale(language)[node]
    assert text.startswith(f"# {texts['display_name']}\n")
    for socket in schemas[node].inputs:
        tip = texts["inputs"][socket.id]["tooltip"]
        named = [line for line in text.splitlines() if f"**{socket.id}**" in line or f"`{socket.id}`" in line]
        line = next(line for line in named if line.endswith(tip))
        low_and_high = [f"{socket.options[end]:g}".replace("-", "−") for end in ("min", "max") if end in socket.options]
        assert all(number in line for number in low_and_high if float(number.replace("−", "-")) < NO_LIMIT), line
    assert all(f"**{output['name']}**" in text for output in texts["outputs"].values())
    messages = [row.split(" | ")[0] for row in page(node).splitlines() if re.match(r"\| \*[^*]", row)]
    assert messages and all(f"{message} | " in text for message in messages)  # English in every language


@pytest.mark.parametrize("language", OWN_SCRIPT)
def test_emphasis_in_other_languages_is_not_shown_as_asterisks(language):
    """CommonMark: a mark between punctuation within and a letter without opens or closes nothing; CJK has no spaces."""
    for _, text in (piece for node in NODES for piece in pieces(translated_page(node, language))):
        plain = f" {re.sub('`[^`]*`', 'code', text)} "
        spans = list(re.finditer(r"(.)(\*+)([^*]+)\2(?=(.))", plain))
        assert sum(len(span[2]) for span in spans) * 2 == plain.count("*"), text
        for span in spans:
            assert not (span[1].isalnum() and not span[3][0].isalnum()), text
            assert not (span[4].isalnum() and not span[3][-1].isalnum()), text


@pytest.mark.parametrize("language", OWN_SCRIPT)
@pytest.mark.parametrize("node", NODES)
def test_help_in_other_languages_has_the_structure_of_the_english_page(node, language):
    assert [kind for kind, _ in pieces(translated_page(node, language))] == [kind for kind, _ in pieces(page(node))]


@pytest.mark.parametrize("language", OWN_SCRIPT)
@pytest.mark.parametrize("node", NODES)
def test_help_is_in_one_language(schemas, node, language):
    """No piece of a page is left in English but what is English in every language: messages, code, options, names."""
    values = {value for socket in schemas[node].inputs for value in socket.options.get("options") or ()}
    values |= {socket.options["default"] for socket in schemas[node].inputs if "default" in socket.options}
    for kind, text in pieces(translated_page(node, language))[1:]:
        told = re.sub(r"`[^`]*`|(?<!\*)\*[^*]+\*(?!\*)|\b[\w.]+[/_.][\w./-]+", "", text)
        assert re.search(OWN_SCRIPT[language], told) or len(re.findall(r"[A-Za-z]+", told)) <= 5, text
        for value in sorted((str(value) for value in values), key=len, reverse=True):
            told = told.replace(value, "")
        assert not re.search(r"(?:\b[a-z]{2,}[ ,;]+){2}[a-z]{2,}", told), f"{kind}: {text}"


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
