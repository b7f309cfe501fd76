"""Writes the generated tables of docs/: weights from the catalogue, metrics from the registry.

python tools/make_docs.py            writes them
python tools/make_docs.py --check    only compares; exit code 1 where a page is not what the code says
A table stands between the lines `<!-- begin NAME -->` and `<!-- end NAME -->`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from portraittalk_core.evaluation.table import TABLE  # noqa: E402 - the checkout's own, also where none is installed
from portraittalk_core.metrics.files import METRIC_KINDS  # noqa: E402
from portraittalk_core.weights.catalog import KINDS, WeightFile  # noqa: E402

METRIC_FLAG = "--metric-models FOLDER"
WHERE_MADE = "your own"  # licence of what the user's own training makes


def weights_table() -> str:
    """Every optional weight file: what for, whose, size, licence, where it goes."""
    kinds = [*KINDS, *METRIC_KINDS]
    rows = [_weight_row(kind) for kind in kinds if kind.used and kind.licence != WHERE_MADE]
    return _table(("what for", "file", "size", "licence", "folder in `models/`", "option"), rows)


def own_weights_table() -> str:
    """Files that this project's own training makes."""
    rows = [(k.role, _code(k.source), k.size, _code(k.folder), _code(k.flag)) for k in KINDS if k.licence == WHERE_MADE]
    return _table(("what for", "made by", "size", "folder in `models/`", "option"), rows)


def metrics_table() -> str:
    """Every number of a score report."""
    rows = [
        (_code(m.name), m.title, m.unit, m.better, m.source, ", ".join(m.needs) or "nothing") for m in TABLE.values()
    ]
    return _table(("name", "metric", "unit", "better", "source", "needs"), rows)


def _weight_row(kind: WeightFile) -> tuple[str, ...]:
    flag = kind.flag or (METRIC_FLAG if kind in METRIC_KINDS else "")
    role = f"{kind.role}; {kind.note}" if kind.note else kind.role
    return role, kind.source, kind.size, kind.licence, _code(kind.folder), _code(flag)


def _code(text: str) -> str:
    return f"`{text}`" if text else "–"


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    unique = dict.fromkeys(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)
    lines = [tuple(heading), ("---",) * len(heading), *unique]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


TABLES: dict[str, tuple[str, Callable[[], str]]] = {  # name: (page below docs/, what makes it)
    "weights": ("weights.md", weights_table),
    "own weights": ("weights.md", own_weights_table),
    "metrics": ("scores.md", metrics_table),
}


def filled(page: str, name: str, table: str) -> str:
    """A page's text with a table between its marks.

    Raises:
        ValueError: the page lacks a mark.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the page lacks {begin} or {end}")
    return f"{before}{begin}\n{table}\n{end}{after}"


def pages() -> dict[Path, str]:
    """Every page with generated tables, as it ought to be."""
    made: dict[Path, str] = {}
    for name, (file, make) in TABLES.items():
        path = ROOT / "docs" / file
        made[path] = filled(made.get(path) or path.read_text(encoding="utf-8"), name, make())
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Write or compare the pages; 1 if one differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a page is out of date")
    args = parser.parse_args(argv)
    stale = [path for path, text in pages().items() if path.read_text(encoding="utf-8") != text]
    for path in stale:
        if args.check:
            sys.stderr.write(f"{path.relative_to(ROOT)} is out of date; run: python tools/make_docs.py\n")
        else:
            path.write_text(pages()[path], encoding="utf-8")
    return 1 if args.check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
