"""Writes the generated tables of docs/: weights, metrics, engines, renderers and options, as the code declares them.

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

# the checkout's own, also where none is installed
from portraittalk_core.batch import manifest  # noqa: E402
from portraittalk_core.engines.registry import ENGINES  # noqa: E402
from portraittalk_core.face.options import FaceOptions  # noqa: E402
from portraittalk_core.media.options import WriteOptions  # noqa: E402
from portraittalk_core.metrics.files import METRIC_KINDS  # noqa: E402
from portraittalk_core.metrics.registry import measured_metrics  # noqa: E402
from portraittalk_core.motion.options import MotionOptions  # noqa: E402
from portraittalk_core.options import Option, options_of  # noqa: E402
from portraittalk_core.renderers.animatenet.options import AnimateNetOptions  # noqa: E402
from portraittalk_core.renderers.identitynet.options import IdentityNetOptions  # noqa: E402
from portraittalk_core.renderers.implicit.options import ImplicitOptions  # noqa: E402
from portraittalk_core.renderers.registry import renderer_specs  # noqa: E402
from portraittalk_core.renderers.vexpress.options import VExpressRendererOptions  # noqa: E402
from portraittalk_core.style.options import StyleUse  # noqa: E402
from portraittalk_core.weights.catalog import KINDS, WeightFile  # noqa: E402
from portraittalk_core.weights.specs import FileSpec  # noqa: E402

METRIC_FLAG = "--metric-models FOLDER"
OWN_LICENCE = "your own"  # licence of what the user's own training makes
LARGE = 2**31  # no range is shown that reaches so far


def weights_table() -> str:
    """Table of optional weight files: purpose, source, size, licence, folder."""
    kinds = [*KINDS, *METRIC_KINDS]
    rows = [_weight_row(kind) for kind in kinds if kind.used and kind.licence != OWN_LICENCE]
    return _table(("what for", "file", "size", "licence", "folder in `models/`", "option"), rows)


def own_weights_table() -> str:
    """Table of weight files that this project's own training writes."""
    kinds = [kind for kind in KINDS if kind.licence == OWN_LICENCE]
    rows = [(k.role, _code(k.source), k.size, _code(k.folder), _code(k.flag)) for k in kinds]
    return _table(("what for", "made by", "size", "folder in `models/`", "option"), rows)


def metrics_table() -> str:
    """Table of the metrics of a score report."""
    rows = [
        (_code(m.name), m.title, m.unit, m.better, m.source, ", ".join(m.needs) or "nothing")
        for m in measured_metrics(reference_free=False).values()
    ]
    return _table(("name", "metric", "unit", "better", "source", "needs"), rows)


def renderers_table() -> str:
    """Table of the renderers that come with this package."""
    rows = [(_code(s.name), s.title, ", ".join(sorted(s.sources, reverse=True)), _files(s.files))
            for s in renderer_specs()]  # fmt: skip
    return _table(("renderer", "what it does", "draws a", "files"), rows)


def engines_table() -> str:
    """Table of the motion engines that come with this package."""
    return _table(("engine", "what it is", "files"), [(_code(s.name), s.title, _files(s.files)) for s in ENGINES])


def manifest_table() -> str:
    """Table of the manifest's option columns for each job."""
    shared = list(manifest.columns_of(*manifest.KINDS[manifest.TALK]))
    rows = [("`talk`", ", ".join(map(_code, shared)))]
    for spec in renderer_specs(manifest.PORTRAIT):
        if extra_columns := [name for name in manifest.job_options("talk", spec.name) if name not in shared]:
            rows.append((f"`talk`, renderer `{spec.name}`", ", ".join(map(_code, extra_columns))))
    dubbed = [name for name in manifest.job_options(manifest.DUB) if name not in manifest.job_options(manifest.TALK)]
    without = ", ".join(map(_code, manifest.OF_PORTRAITS))
    more = f", and {', '.join(map(_code, dubbed))}" if dubbed else ""
    rows.append(("`dub`", f"as `talk`, without {without}{more}"))
    rows.append(("`score`", ", ".join(map(_code, manifest.job_options("score")))))
    return _table(("job", "columns of options"), rows)


def options_table(*kinds: type, without: type | None = None) -> str:
    """Table of the options of some dataclasses, without those of another one."""
    excluded = set() if without is None else {option.name for option in options_of(without)}
    rows: dict[str, tuple[str, ...]] = {}  # a flag that two of them have is the first one's
    for option in (option for kind in kinds for option in options_of(kind)):
        if option.shared and option.name not in excluded:
            rows.setdefault(option.flag, _option_row(option))
    return _table(("option", "meaning", "range", "default"), rows.values())


def _option_row(option: Option) -> tuple[str, ...]:
    choices = ", ".join(map(_code, option.choices))
    bounded = option.low is not None and option.high is not None and option.high <= LARGE
    ends = f"{option.low:g} to {option.high:g}" if bounded else ""
    value = option.default
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    default = "" if value is None or isinstance(value, bool) or value == () else shown
    meaning = option.help.rstrip(".")
    return _code(option.flag), f"leave this out: {meaning}" if value is True else meaning, choices or ends, default


def _files(files: Iterable[FileSpec]) -> str:
    return "; ".join(f"{_code(f.flag)} {f.source}{'' if f.needed else ' (optional)'}" for f in files) or "none"


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
    "manifest options": ("formats.md", manifest_table),
    "engines": ("engines.md", engines_table),
    "renderers": ("index.md", renderers_table),
    "talk options": ("index.md", lambda: options_table(MotionOptions, StyleUse, FaceOptions, WriteOptions)),
    "identitynet options": ("identitynet.md", lambda: options_table(IdentityNetOptions, without=AnimateNetOptions)),
    "animatenet options": ("animatenet.md", lambda: options_table(AnimateNetOptions)),
    "keypoint options": ("controltalk.md", lambda: options_table(ImplicitOptions)),
    "vexpress options": ("styles.md", lambda: options_table(VExpressRendererOptions)),
}


def filled(page: str, name: str, table: str) -> str:
    """A page's text with a table inserted between its marks.

    Raises:
        ValueError: the page lacks a mark.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    head, begin_mark, rest = page.partition(begin)
    _, end_mark, tail = rest.partition(end)
    if not begin_mark or not end_mark:
        raise ValueError(f"the page lacks {begin} or {end}")
    return f"{head}{begin}\n{table}\n{end}{tail}"


def pages() -> dict[Path, str]:
    """Expected text of every page with generated tables."""
    texts: dict[Path, str] = {}
    for name, (file, make) in TABLES.items():
        path = ROOT / "docs" / file
        texts[path] = filled(texts.get(path) or path.read_text(encoding="utf-8"), name, make())
    return texts


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
