"""Writes the help pages in other languages below web/docs, from the English pages, the locales and tools/help.

python tools/make_help.py            writes them anew
python tools/make_help.py --check    says which are out of date, and ends with 1 if any is
python tools/make_help.py --missing  prints the English texts that a language lacks, as JSON to be filled in

The English page is the source: a page in another language has the same headings, lists and tables in the same order.
Name, description, inputs and outputs are told by the texts of locales/; every other text by tools/help/<language>.json,
which gives the translation of each paragraph, list entry and table cell by its English text. Quoted messages stay
English, as the program says them. `{Load Image}` in a translation is the name that the node has in that language.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "web" / "docs"
WORDS = Path(__file__).parent / "help"
LANGUAGES = ("ja", "ko", "zh")
WIRE, WRONG = "How to wire it", "If something is wrong"
INPUTS, OUTPUTS = ("Input", "Inputs"), ("Output", "Outputs")
RULE = "|---|---|"


def locale_of(language: str) -> dict[str, dict]:
    """This pack's texts in one language, by node."""
    return json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))


ENGLISH = locale_of("en")


@dataclass(frozen=True)
class Block:
    """One piece of a page: a title, heading, paragraph, list entry or row of a table.

    Attributes:
        kind: "title", "heading", "paragraph", "entry", "row" or "rule" (below the head of a table).
        text: the text in one line, without its mark; of a row with the bars between its cells.
        section: the heading that it stands below; empty before the first.
    """

    kind: str
    text: str
    section: str


def blocks(page: str) -> Iterator[Block]:
    """The pieces of a page in their order."""
    section = ""
    for part in re.split(r"\n\s*\n|\n(?=- |\||#)", page.strip()):
        text = " ".join(part.split())
        if text.startswith("# "):
            yield Block("title", text.removeprefix("# "), section)
        elif text.startswith("## "):
            section = text.removeprefix("## ")
            yield Block("heading", section, section)
        elif text.startswith("- "):
            yield Block("entry", text.removeprefix("- "), section)
        elif text == RULE:
            yield Block("rule", text, section)
        elif text.startswith("|"):
            yield Block("row", text.strip("| "), section)
        else:
            yield Block("paragraph", text, section)


@dataclass(frozen=True)
class Words:
    """What one language says.

    Attributes:
        default: before a default value.
        span, least: patterns of a range and of a lower bound.
        colon: between a name and its text.
        brackets: around range and default.
        nodes: names of ComfyUI's own nodes by their English name.
        texts: translations by their English text.
        locale: this pack's locale file.
    """

    default: str
    span: str
    least: str
    colon: str
    brackets: str
    nodes: dict[str, str]
    texts: dict[str, str]
    locale: dict[str, dict]

    @cached_property
    def names(self) -> dict[str, str]:
        """Names of nodes in this language, by their English names."""
        return self.nodes | {ENGLISH[key]["display_name"]: texts["display_name"] for key, texts in self.locale.items()}

    def text(self, english: str) -> str:
        """The translation of a text; the text itself where there is none."""
        told = f"{{{english}}}" if english in self.names else self.texts.get(english, english)
        return re.sub(r"\{(.+?)\}", lambda match: self.names[match[1]], told)


def words_of(language: str) -> Words:
    """The words of a language, from its two files."""
    told = json.loads((WORDS / f"{language}.json").read_text(encoding="utf-8"))
    return Words(**told, locale=locale_of(language))


def bounds(page: str) -> dict[str, str]:
    """What stands in brackets behind each input: its range and default."""
    entries = (block.text for block in blocks(page) if block.kind == "entry" and block.section in INPUTS)
    found = (re.match(r"\*\*(\w+)\*\*(?: \((.*?)\))?: ", entry) for entry in entries)
    return {match[1]: match[2] or "" for match in found if match}


def translated_span(span: str, words: Words) -> str:
    """A range in another language; lists of options stay as the page shows them."""
    if match := re.fullmatch(r"(−?[\d.]+) to (−?[\d.]+)", span):
        return words.span.format(*match.groups())
    if match := re.fullmatch(r"(−?[\d.]+) and up", span):
        return words.least.format(match[1])
    return words.text(span)


def brackets(span: str, words: Words) -> str:
    """Range and default of an input, in brackets; nothing where the English page says nothing."""
    if not span:
        return ""
    parts = []
    for part in span.split("; "):
        if part.startswith("default "):
            parts.append(f"{words.default} {translated_span(part.removeprefix('default '), words)}")
        else:
            parts.append(translated_span(part, words))
    return words.brackets[0] + "; ".join(parts) + words.brackets[1]


def input_entry(block: Block, texts: dict, span: str, words: Words) -> str:
    """An entry of the list of inputs, told by the locale."""
    key = re.match(r"\*\*(\w+)\*\*", block.text)[1]
    name = texts["inputs"][key]["name"]
    shown = f"**{name}** `{key}`" if name != key else f"**{key}**"
    return f"- {shown}{brackets(span, words)}{words.colon}{texts['inputs'][key]['tooltip']}"


def connection(block: Block) -> tuple[str, str, str] | None:
    """The sockets of an entry such as `**audio**, **fps** ← Load Video`, its arrow and the rest; None of others."""
    is_wire = block.kind == "entry" and block.section == WIRE
    match = re.fullmatch(r"(\*\*[\w-]+\*\*(?:, \*\*[\w-]+\*\*)*) ([←→]) (.*)", block.text) if is_wire else None
    return match and match.groups()


def wire_entry(block: Block, texts: dict, words: Words) -> str:
    """An entry of the list of connections: sockets by their names in this language, then what is said of them."""
    sockets, arrow, rest = connection(block)
    names = {key: text["name"] for key, text in texts["inputs"].items()}
    node = next(node for node, other in words.locale.items() if other is texts)
    names |= {text["name"]: texts["outputs"][number]["name"] for number, text in ENGLISH[node]["outputs"].items()}
    shown = re.sub(r"\*\*(.+?)\*\*", lambda match: f"**{names[match[1]]}**", sockets)
    return f"- {shown} {arrow} {words.text(rest)}"


def row(block: Block, text: Callable[[str], str]) -> str:
    """A row of a table: messages stay English, every other cell is translated."""
    first, rest = (cell.strip() for cell in block.text.split("|", 1))
    if not (block.section == WRONG and first.startswith("*")):
        first = text(first)
    return f"| {first} | {text(rest)} |"


def texts_used(page: str) -> set[str]:
    """The English texts of a page that tools/help must translate."""
    used = set()
    outputs = [block for block in blocks(page) if block.section in OUTPUTS and block.kind == "row"][1:]
    for block in blocks(page):
        if wire := connection(block):
            used.add(wire[2])
        elif block.kind == "row" and block not in outputs:
            row(block, lambda text: used.add(text) or text)
        elif block.kind in ("heading", "paragraph") or (block.kind == "entry" and block.section not in INPUTS):
            used.add(block.text)
    return used


def page_of(english: str, texts: dict, words: Words) -> str:
    """A whole page in one language."""
    spans, told, lines, before = bounds(english), iter(texts["outputs"].values()), [], ""
    for block in blocks(english):
        head = block.kind == "row" and before != "row"
        if block.kind == "title":
            line = f"# {texts['display_name']}"
        elif block.kind == "heading":
            line = f"## {words.text(block.text)}"
        elif block.kind == "entry" and block.section in INPUTS:
            line = input_entry(block, texts, spans[re.match(r"\*\*(\w+)\*\*", block.text)[1]], words)
        elif connection(block):
            line = wire_entry(block, texts, words)
        elif block.kind == "entry":
            line = f"- {words.text(block.text)}"
        elif block.kind == "row" and block.section in OUTPUTS and not head:
            output = next(told)
            line = f"| **{output['name']}** | {output['tooltip']} |"
        elif block.kind == "row":
            line = row(block, words.text)
        else:
            line = block.text if block.kind == "rule" else words.text(block.text)
        kind = "row" if block.kind == "rule" else block.kind
        lines += [line] if kind == before and kind in ("entry", "row") or not lines else ["", line]
        before = kind
    return "\n".join(lines) + "\n"


def pages() -> dict[Path, str]:
    """All pages in other languages: their text by path."""
    found = {}
    for language in LANGUAGES:
        words = words_of(language)
        for path in sorted(DOCS.glob("*.md")):
            english = path.read_text(encoding="utf-8")
            found[DOCS / path.stem / f"{language}.md"] = page_of(english, words.locale[path.stem], words)
    return found


def missing() -> dict[str, dict[str, str]]:
    """The English texts that a language lacks, by language, each with nothing for it."""
    used = dict.fromkeys(text for path in sorted(DOCS.glob("*.md")) for text in sorted(texts_used(path.read_text())))
    words = {language: words_of(language) for language in LANGUAGES}
    return {
        language: {text: "" for text in used if text not in told.texts | told.names} for language, told in words.items()
    }


def main() -> int:
    """Write the pages, or say what differs or lacks."""
    if "--missing" in sys.argv:
        json.dump(missing(), sys.stdout, indent=2, ensure_ascii=False)
        return 0
    old = {
        path: text for path, text in pages().items() if not path.exists() or path.read_text(encoding="utf-8") != text
    }
    if "--check" in sys.argv:
        sys.stdout.writelines(f"{path.relative_to(ROOT)} is out of date: python tools/make_help.py\n" for path in old)
        return int(bool(old))
    for path, text in old.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
