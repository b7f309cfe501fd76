"""Writes the help pages in other languages below web/docs, from the English page and the texts of the locale.

python tools/make_help.py          writes them anew
python tools/make_help.py --check  says which are out of date, and ends with 1 if any is

Name, description, inputs and outputs are told in the language itself, by the texts of locales/. What follows on the
English page is appended as it is: messages are English in every language.
"""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "web" / "docs"
WIRE = "How to wire it"
TOLD = (WIRE, "Input", "Inputs", "Output", "Outputs")  # sections that the page tells in its language


@dataclass(frozen=True)
class Words:
    """The words of one language that no locale file holds.

    Attributes:
        wire, inputs, outputs: headings.
        more: heading of the part that stays English.
        default: before a default value.
        span, least: patterns of a range and of a lower bound.
        phrases: other ranges and defaults, by their English text.
        colon: between a name and its text.
        stops: brackets around range and default.
    """

    wire: str
    inputs: str
    outputs: str
    more: str
    default: str
    span: str
    least: str
    phrases: dict[str, str]
    colon: str = "："
    stops: str = "（）"


WORDS = {
    "ja": Words(
        wire="つなぎ方", inputs="入力", outputs="出力", more="くわしくは（英語）", default="既定値",
        span="{} ～ {}", least="{} 以上",
        phrases={
            "128 to 4096 pixels a side": "一辺 128 ～ 4096 ピクセル",
            "0.1 s or more": "0.1 秒以上", "1 s or more": "1 秒以上", "25 ms or more": "25 ミリ秒以上",
            "0 or more": "0 以上", "text": "テキスト", "empty": "空", "as in KSampler": "KSampler と同じ",
            "the files found, up to three folders deep": "見つかったファイル（3 階層まで）",
            "the files found": "見つかったファイル",
            "the first one": "最初のもの", "the first": "最初のもの", "on": "オン", "off": "オフ",
            "files in `models/ipadapter`": "`models/ipadapter` のファイル",
        },
    ),
    "ko": Words(
        wire="연결 방법", inputs="입력", outputs="출력", more="자세한 내용 (영어)", default="기본값",
        span="{} ~ {}", least="{} 이상",
        phrases={
            "128 to 4096 pixels a side": "한 변 128 ~ 4096픽셀",
            "0.1 s or more": "0.1초 이상", "1 s or more": "1초 이상", "25 ms or more": "25밀리초 이상",
            "0 or more": "0 이상", "text": "텍스트", "empty": "비어 있음", "as in KSampler": "KSampler와 같음",
            "the files found, up to three folders deep": "찾은 파일 (폴더 3단계까지)",
            "the files found": "찾은 파일",
            "the first one": "첫 번째", "the first": "첫 번째", "on": "켜짐", "off": "꺼짐",
            "files in `models/ipadapter`": "`models/ipadapter`의 파일",
        },
        colon=": ", stops="()",
    ),
    "zh": Words(
        wire="如何连接", inputs="输入", outputs="输出", more="更多说明（英文）", default="默认",
        span="{} 到 {}", least="{} 及以上",
        phrases={
            "128 to 4096 pixels a side": "每边 128 到 4096 像素",
            "0.1 s or more": "0.1 秒及以上", "1 s or more": "1 秒及以上", "25 ms or more": "25 毫秒及以上",
            "0 or more": "0 及以上", "text": "文本", "empty": "空", "as in KSampler": "与 KSampler 相同",
            "the files found, up to three folders deep": "找到的文件（最多三层文件夹）",
            "the files found": "找到的文件",
            "the first one": "第一个", "the first": "第一个", "on": "开", "off": "关",
            "files in `models/ipadapter`": "`models/ipadapter` 中的文件",
        },
    ),
}  # fmt: skip


def sections(page: str) -> dict[str, str]:
    """The text below each heading of a page, by heading."""
    parts = re.split(r"^## (.+)\n", page, flags=re.M)
    return {title: text.strip("\n") for title, text in zip(parts[1::2], parts[2::2], strict=True)}


def bounds(page: str) -> dict[str, str]:
    """What stands in brackets behind each input: its range and default."""
    told = sections(page)
    entries = re.split(r"^- ", told.get("Inputs", told.get("Input", "")), flags=re.M)[1:]
    found = (re.match(r"\*\*(\w+)\*\*(?: \((.*?)\))?: ", " ".join(entry.split())) for entry in entries)
    return {match[1]: match[2] or "" for match in found if match}


def translated(span: str, words: Words) -> str:
    """A range in another language; lists of options stay as the page shows them."""
    if span in words.phrases:
        return words.phrases[span]
    if match := re.fullmatch(r"(−?[\d.]+) to (−?[\d.]+)", span):
        return words.span.format(*match.groups())
    if match := re.fullmatch(r"(−?[\d.]+) and up", span):
        return words.least.format(match[1])
    return span


def brackets(span: str, words: Words) -> str:
    """Range and default of an input, in brackets; nothing where the English page says nothing."""
    if not span:
        return ""
    parts = []
    for part in span.split("; "):
        if part.startswith("default "):
            parts.append(f"{words.default} {translated(part.removeprefix('default '), words)}")
        else:
            parts.append(translated(part, words))
    return words.stops[0] + "; ".join(parts) + words.stops[1]


def page_of(english: str, texts: dict, words: Words) -> str:
    """A whole page in one language."""
    told, spans = sections(english), bounds(english)
    wires = re.match(r"(?:- .*\n?(?:  .*\n?)*)+", told[WIRE])
    lines = [f"# {texts['display_name']}", "", texts["description"], ""]
    if wires:
        lines += [f"## {words.wire}", "", wires[0].rstrip("\n"), ""]
    lines += [f"## {words.inputs}", ""]
    for key, text in texts["inputs"].items():
        name = f"**{text['name']}** `{key}`" if text["name"] != key else f"**{key}**"
        lines.append(f"- {name}{brackets(spans[key], words)}{words.colon}{text['tooltip']}")
    lines += ["", f"## {words.outputs}", ""]
    lines += [f"- **{text['name']}**{words.colon}{text['tooltip']}" for text in texts["outputs"].values()]
    after_wires = told[WIRE][wires.end() if wires else 0 :].strip("\n")
    rest = ({WIRE: after_wires} if after_wires else {}) | {k: text for k, text in told.items() if k not in TOLD}
    if rest:
        lines += ["", f"## {words.more}"]
    for title, text in rest.items():
        lines += ["", f"### {title}", "", text]
    return "\n".join(lines) + "\n"


def pages() -> dict[Path, str]:
    """All pages in other languages: their text by path."""
    found = {}
    for language, words in WORDS.items():
        texts = json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
        for path in sorted(DOCS.glob("*.md")):
            english = path.read_text(encoding="utf-8")
            found[DOCS / path.stem / f"{language}.md"] = page_of(english, texts[path.stem], words)
    return found


def main() -> int:
    """Write the pages, or say which differ."""
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
