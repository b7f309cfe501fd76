"""One HTML page over all scores of a batch, the worst first, and beside it one page for each video."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from urllib.parse import quote

from ..evaluation.one import told_settings
from ..evaluation.options import CompareOptions
from ..evaluation.report.page import ARROW_TEXT, ARROWS, KEYS, OWN_KEYS, STYLE, number, to_html
from ..evaluation.result import ScoredRow
from ..evaluation.score_report import ScoreBook, environment
from ..evaluation.table import OWN, TABLE
from ..media.atomic import explain_write_errors, whole_file
from .jobs import BLOCKED, FAILED, Outcome
from .manifest import BatchJob

REPORT = "scores.html"  # no output of a job ends so
PAGES = "pages"  # folder of one page a video within the output folder
MOST_LISTED = 1000  # items of each kind, the worst; pages of many thousands would open slowly
MORE_STYLE = """
td.name a{color:#0369a1;text-decoration:none}td.name a:hover{text-decoration:underline}
tr.mean td{background:#f0f4f8;font-weight:600;border-bottom:2px solid var(--line)}tr.mean span{font-weight:400}
.low{background:#fde6e3}
"""


@dataclass(frozen=True)
class Listed:
    """One item of the page."""

    job: BatchJob
    values: Mapping[str, float] = field(default_factory=dict)
    problem: str = ""  # why nothing could be measured
    blocked: bool = False
    has_page: bool = False


class _Mean:
    """Mean and spread of numbers that come one after the other (Welford); infinite ones are counted apart."""

    def __init__(self) -> None:
        self.count, self.mean, self._squares, self.num_infinite = 0, 0.0, 0.0, 0

    def add(self, value: float) -> None:
        if not math.isfinite(value):
            self.num_infinite += 1
            return
        self.count += 1
        off = value - self.mean
        self.mean += off / self.count
        self._squares += off * (value - self.mean)

    @property
    def std(self) -> float | None:
        """Sample standard deviation."""
        return math.sqrt(self._squares / (self.count - 1)) if self.count > 1 else None


class _Group:
    """Items of one kind: the worst, and the means over all; memory does not grow beyond `MOST_LISTED`."""

    def __init__(self, alone: bool) -> None:
        self.table, self.keys = (OWN, OWN_KEYS) if alone else (TABLE, KEYS)
        self.alone, self.means, self.num = alone, {key: _Mean() for key in self.keys}, 0
        self._worst: list[tuple[float, int, Listed]] = []  # the least bad is the first
        self._number = itertools.count()

    def add(self, item: Listed) -> None:
        self.num += 1
        for key, mean in self.means.items():
            if key in item.values and not item.problem:
                mean.add(item.values[key])
        entry = (self._badness(item), -next(self._number), item)
        if len(self._worst) < MOST_LISTED:
            heapq.heappush(self._worst, entry)
        else:
            heapq.heappushpop(self._worst, entry)

    def _badness(self, item: Listed) -> float:
        if item.problem:
            return math.inf
        value = item.values.get(self.keys[0])
        better = self.table[self.keys[0]].better
        return math.inf if value is None else value if better == "lower" else -value

    @property
    def worst(self) -> list[Listed]:
        """The listed items, worst first; equally bad ones in the order in which they ended."""
        return [item for _, _, item in sorted(self._worst, key=lambda entry: entry[:2], reverse=True)]

    @property
    def columns(self) -> list[str]:
        """Metrics that some item has."""
        return [key for key, mean in self.means.items() if mean.count or mean.num_infinite]


class BatchReport:
    """Takes in score jobs as they end, and writes the page.

    Args:
        folder: of the results.
        manifest: its name, as it is shown.
    """

    def __init__(self, folder: Path, manifest: str) -> None:
        self._folder, self._manifest = folder, manifest
        self._groups = _Group(alone=False), _Group(alone=True)
        self._ended = {"measured": 0, "failed": 0, "skipped": 0}
        self._environment = environment()

    def add(self, job: BatchJob, outcome: Outcome) -> None:
        """Take in a score job that ended; its own page is made if it is not there, or older than its numbers."""
        blocked = outcome.status == BLOCKED
        if blocked or outcome.status == FAILED:
            item = Listed(job, problem=" ".join(outcome.reason.split()), blocked=blocked)
        else:
            item = self._measured(job)
        self._ended["skipped" if blocked else "failed" if item.problem else "measured"] += 1
        self._groups[_is_alone(job)].add(item)

    def write(self) -> Path | None:
        """Write the page over everything that was taken in; None if that was nothing."""
        if not any(group.num for group in self._groups):
            return None
        path = self._folder / REPORT
        with whole_file(path) as part:
            part.write_text("".join(self._html()), encoding="utf-8", newline="")
        return path

    def _measured(self, job: BatchJob) -> Listed:
        out = self._folder / job.out
        try:
            row = ScoredRow.from_json(out.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            return Listed(job, problem=f"its numbers in {job.out} cannot be read ({error})")
        page = self._folder / PAGES / _page(job)
        if not page.exists() or page.stat().st_mtime_ns < out.stat().st_mtime_ns:
            settings = told_settings(CompareOptions(**job.options), _is_alone(job))
            book = ScoreBook([row], settings, _is_alone(job), environment=self._environment)
            with explain_write_errors(page):
                page.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(page) as part:
                part.write_text(to_html(book), encoding="utf-8", newline="")
        return Listed(job, row.values, row.error or "", has_page=True)

    def _html(self) -> Iterator[str]:
        made_at = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        yield '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        yield '<meta name="viewport" content="width=device-width,initial-scale=1">'
        yield f"<title>PortraitTalk scores of {escape(self._manifest)}</title><style>{STYLE}{MORE_STYLE}</style></head>"
        yield f"<body><main><h1>PortraitTalk batch scores</h1><p class='sub'>{escape(self._manifest)}, {made_at}</p>"
        yield '<div class="tiles">'
        for word, count in self._ended.items():
            if count or word == "measured":
                bad = ' class="bad"' if word != "measured" else ""
                yield f'<div class="tile"><b{bad}>{count}</b><span>{word}</span></div>'
        yield "</div>"
        for group in self._groups:
            if group.num:
                yield from _table(group)
        yield from _definitions(self._groups)
        yield "</main></body></html>\n"


def _is_alone(job: BatchJob) -> bool:
    """Whether a job has no true video; a line that cannot be read counts by what it names."""
    return "target" not in job.files and not job.problem


def _page(job: BatchJob) -> str:
    return f"{Path(job.out).stem}.html"


def _table(group: _Group) -> Iterator[str]:
    kind = "Videos on their own, without ground truth" if group.alone else "Generated videos against true ones"
    yield f"<h2>{kind}</h2>"
    worst: dict[str, float] = {}
    if not group.columns:
        yield '<p class="soft">None of them could be measured.</p>'
    else:
        worst = _worst_values(group)
        order = escape(_short(group, group.keys[0]))
        listed = f"; the {len(group.worst)} worst of {group.num}" if len(group.worst) < group.num else ""
        marked = " The worst of each column is marked." if worst else ""
        yield f'<p class="soft">Worst first, by {order}{listed}.{marked} A name leads to that item’s own page.</p>'
    yield '<div class="card scroll"><table><thead><tr><th>item</th><th>line</th>'
    for key in group.columns:
        definition = group.table[key]
        unit = f'<br><span class="unit">{escape(definition.unit)}</span>' if definition.unit else ""
        yield f'<th title="{escape(ARROW_TEXT.get(definition.better, ""))}">{escape(_short(group, key))}'
        yield f"&nbsp;{ARROWS[definition.better]}{unit}</th>"
    yield "</tr></thead><tbody>"
    if group.columns:
        yield f'<tr class="mean"><td>mean ± std</td><td></td>{"".join(_mean_cells(group))}</tr>'
    for item in group.worst:
        yield from _row(group, item, worst)
    yield "</tbody></table></div>"


def _row(group: _Group, item: Listed, worst: Mapping[str, float]) -> Iterator[str]:
    name, note = escape(Path(item.job.out).stem or "no name"), ""
    if item.has_page:
        name = f'<a href="{PAGES}/{quote(_page(item.job))}">{name}</a>'
    if item.problem:
        word = "skipped" if item.blocked else "failed"
        note = f'<span class="pill no">{word}</span> <span class="bad">{escape(item.problem)}</span>'
    yield f'<tr><td class="name">{name}</td><td>{item.job.line}</td>'
    if note and not item.values:
        yield f'<td class="w" colspan="{max(1, len(group.columns))}">{note}</td></tr>'
        return
    for key in group.columns:
        value = item.values.get(key)
        mark = ' class="low"' if value is not None and value == worst.get(key) else ""
        yield f"<td{mark}>{number(value, group.table[key])}</td>"
    yield "</tr>"
    if note:
        yield f'<tr><td></td><td></td><td class="w" colspan="{len(group.columns)}">{note}</td></tr>'


def _mean_cells(group: _Group) -> Iterator[str]:
    for key in group.columns:
        mean, definition = group.means[key], group.table[key]
        text = number(mean.mean, definition) if mean.count else "∞"
        if mean.std is not None:
            text += f" <span>± {number(mean.std, definition)}</span>"
        if mean.num_infinite and mean.count:
            text += f'<br><span class="unit">{mean.num_infinite} infinite left out</span>'
        yield f"<td>{text}</td>"


def _worst_values(group: _Group) -> dict[str, float]:
    """Of each column in which one value is worse than another."""
    found = {}
    for key in group.columns:
        values = [item.values[key] for item in group.worst if key in item.values]
        better = group.table[key].better
        if better in ("higher", "lower") and len(set(values)) > 1:
            found[key] = min(values) if better == "higher" else max(values)
    return found


def _short(group: _Group, key: str) -> str:
    return group.table[key].title.split(" (")[0]


def _definitions(groups: tuple[_Group, ...]) -> Iterator[str]:
    shown = {key: group.table[key] for group in groups for key in group.columns}
    if not shown:
        return
    yield '<h2>What each number is</h2><div class="card scroll"><table><tbody>'
    for definition in shown.values():
        yield f'<tr><td class="name">{escape(definition.title)} {ARROWS[definition.better]}</td>'
        yield f'<td class="w">{escape(definition.text)}</td><td class="w soft">{escape(definition.source)}</td></tr>'
    yield '</tbody></table><p class="soft">↑ higher is better, ↓ lower is better, ≈ as the true video’s is best. std: '
    yield "sample standard deviation (n − 1) over the items that were measured. Each item’s page says how.</p></div>"
