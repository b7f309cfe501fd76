"""A score report as one HTML page that needs nothing beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape

from ...metrics.registry import MetricDefinition
from ..result import ScoredRow
from ..score_report import ScoreBook
from ..table import TARGET_PREFIX
from .plots import Chart, draw_chart

MOST_DETAILS = 24  # rows shown with plots and pictures: the worst of many; pictures of hundreds would not open
KEYS = ("adfd", "m_lmd", "f_lmd", "mouth_correlation", "lse_d", "lse_c", "psnr", "ssim", "lpips", "identity",
        "identity_to_target")  # fmt: skip
OWN_KEYS = ("sound_mouth_correlation", "sound_mouth_lag", "lse_d", "lse_c", "identity", "jitter", "change",
            "blink_rate", "head_std", "head_speed")  # fmt: skip
ARROWS = {"higher": "↑", "lower": "↓", "target": "≈", "neither": ""}
ARROW_TEXT = {"higher": "higher is better", "lower": "lower is better", "target": "as the true video's is best"}
STYLE = """
:root{--ink:#1f2933;--soft:#5f6c7b;--line:#e3e7ec;--paper:#fff;--ground:#f5f6f8;--mark:#c2410c;--cool:#0369a1}
*{box-sizing:border-box}body{margin:0;background:var(--ground);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif}
main{max-width:1240px;margin:0 auto;padding:28px 24px 60px}h1{font-size:26px;margin:0 0 2px}
h2{font-size:18px;margin:34px 0 10px}h3{font-size:16px;margin:0;overflow-wrap:anywhere}p{margin:6px 0}
.sub,.soft{color:var(--soft)}.soft{font-size:13px}.card{background:var(--paper);border:1px solid var(--line);
border-radius:10px;padding:16px 18px;margin:0 0 16px}.tiles{display:flex;flex-wrap:wrap;gap:12px;margin:18px 0 0}
.tile{background:var(--paper);border:1px solid var(--line);border-radius:10px;padding:10px 16px;min-width:128px}
.tile b{display:block;font-size:23px;font-weight:600;font-variant-numeric:tabular-nums;line-height:1.25}
.tile span{color:var(--soft);font-size:13px}.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:6px 10px;border-bottom:1px solid var(--line);white-space:nowrap}
th{font-weight:600;font-size:13px;color:var(--soft);vertical-align:bottom;white-space:normal}
tr:last-child td{border-bottom:0}
th:first-child,td:first-child{text-align:left}td.w,th.w{text-align:left;white-space:normal}
td.name{min-width:150px;max-width:280px;overflow-wrap:anywhere;white-space:normal}
.unit{color:var(--soft);font-size:12.5px}
.na{color:#a3acb8}.bad{color:#b42318}.pill{display:inline-block;border-radius:99px;padding:1px 9px;font-size:12.5px}
.pill.ok{background:#e3f4e7;color:#1c6b35}.pill.no{background:#fde6e3;color:#b42318}
.best td{background:#fafbfc}.head{display:flex;gap:12px;align-items:baseline;flex-wrap:wrap;margin-bottom:4px}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(440px,1fr));gap:10px 18px;margin:12px 0 4px}
.chart{width:100%;height:auto;display:block}.chart text{font-family:inherit;fill:#5f6c7b;font-size:11px}
.chart .t{font-size:12.5px;font-weight:600;fill:#1f2933}.chart .u{font-weight:400;fill:#5f6c7b;font-size:11px}
.chart .g{stroke:#e8ebef}.chart .m{stroke:#1f2933;stroke-dasharray:2 3;opacity:.55}.chart .n{fill:#fdf1b8;opacity:.8}
.frames{display:flex;flex-wrap:wrap;gap:14px;margin-top:12px}.frame{margin:0;flex:0 1 auto;max-width:100%}
.frame div{display:flex;gap:3px}.frame img{display:block;height:140px;max-width:50%;object-fit:contain;
border-radius:5px;background:#eceff2}.frame figcaption{font-size:12.5px;color:var(--soft);margin-top:3px;
max-width:420px}ul{margin:6px 0;padding-left:20px}details>summary{cursor:pointer;font-weight:600}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 16px;margin:0}dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}code{font-size:13px;background:#eef1f4;border-radius:4px;padding:0 4px}
@media print{body{background:#fff}.card,.tile{break-inside:avoid}}
"""


def to_html(book: ScoreBook) -> str:
    """The page."""
    return "".join(
        [
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            f"<title>PortraitTalk scores</title><style>{STYLE}</style></head><body><main>",
            *_top(book),
            *_summary(book),
            *_rows(book),
            *_details(book),
            *_unavailable(book),
            *_definitions(book),
            *_method(book),
            "</main></body></html>\n",
        ]
    )


def number(value: float | None, definition: MetricDefinition | None = None) -> str:
    """A value as it is shown: as many digits as its size can use."""
    if value is None:
        return '<span class="na">–</span>'
    if math.isinf(value):
        return "∞"
    if definition is not None and definition.unit in ("ms", "frames of 40 ms"):
        return f"{value + 0.0:.0f}".replace("-", "−")
    digits = 1 if abs(value) >= 100 else 2 if abs(value) >= 10 else 3
    text = f"{value:.{digits}f}"
    return (text.lstrip("-") if not float(text) else text).replace("-", "−")


def _top(book: ScoreBook) -> Iterator[str]:
    what = "videos on their own, without ground truth" if book.reference_free else "generated videos against true ones"
    yield f'<h1>PortraitTalk scores</h1><p class="sub">{what}, {escape(book.made_at)}</p><div class="tiles">'
    done = len(book.rows) - len(book.failed)
    yield _tile(str(len(book.rows)), ("video" if book.reference_free else "pair") + "s" * (len(book.rows) != 1))
    yield _tile(str(done), "measured")
    if book.failed:
        yield _tile(f'<span class="bad" style="font-size:inherit">{len(book.failed)}</span>', "failed")
    for name in [key for key in (OWN_KEYS if book.reference_free else KEYS) if key in book.columns][:4]:
        summary = book.summary(name)
        value = number(summary.mean, book.table[name]) if summary.num else "∞"
        yield _tile(value, f"{escape(_short(name, book))} {ARROWS[book.table[name].better]}")
    yield "</div>"


def _tile(value: str, label: str) -> str:
    return f'<div class="tile"><b>{value}</b><span>{label}</span></div>'


def _short(name: str, book: ScoreBook) -> str:
    own = name.removeprefix(TARGET_PREFIX)
    title = book.table[own].title.split(" (")[0]
    return title if name == own else f"{title}, target"


def _summary(book: ScoreBook) -> Iterator[str]:
    yield '<h2>Summary</h2><div class="card scroll"><table><thead><tr><th>metric</th><th></th><th>mean ± std</th>'
    target = not book.reference_free
    yield '<th class="w">unit</th><th>least … greatest</th><th>n</th>'
    yield ("<th>the target’s own</th>" if target else "") + "</tr></thead><tbody>"
    for name, definition in book.table.items():
        if name not in book.columns and TARGET_PREFIX + name not in book.columns:
            continue
        summary, own = book.summary(name), book.summary(TARGET_PREFIX + name)
        left_out = f' <span class="unit">({summary.num_infinite} infinite left out)</span>' * bool(summary.num_infinite)
        arrow = f'<span title="{ARROW_TEXT.get(definition.better, "")}">{ARROWS[definition.better]}</span>'
        ends = [number(value, definition) for value in (summary.least, summary.greatest)]
        span = " … ".join(ends) if summary.num > 1 else ""
        yield (
            f'<tr><td title="{escape(definition.text)}">{escape(definition.title)}</td><td>{arrow}</td>'
            f"<td><b>{_mean(summary.mean, summary.std, definition)}</b>{left_out}</td>"
            f'<td class="w unit">{escape(definition.unit)}</td><td class="unit">{span}</td><td>{summary.num}</td>'
            + (f"<td>{_mean(own.mean, own.std, definition) if own.num else ''}</td>" if target else "")
            + "</tr>"
        )
    yield '</tbody></table><p class="soft">↑ higher is better, ↓ lower is better, ≈ as the true video’s is best. '
    yield "std: sample standard deviation (n − 1) over rows.</p></div>"


def _mean(mean: float | None, std: float | None, definition: MetricDefinition) -> str:
    return number(mean, definition) + (f" ± {number(std, definition)}" if std is not None else "")


def _rows(book: ScoreBook) -> Iterator[str]:
    keys = [key for key in (OWN_KEYS if book.reference_free else KEYS) if key in book.columns]
    yield '<h2>Every row</h2><div class="card scroll"><table><thead><tr><th>name</th><th class="w">status</th>'
    yield "".join(f"<th>{escape(_short(key, book))} {ARROWS[book.table[key].better]}</th>" for key in keys)
    yield "<th>frames</th><th>with face</th>" + "<th>offset</th>" * (not book.reference_free) + "</tr></thead><tbody>"
    for index, row in enumerate(book.rows):
        mark = '<span class="pill no">failed</span>' if row.error else '<span class="pill ok">done</span>'
        yield f'<tr><td class="name"><a href="#row{index}">{escape(row.name)}</a></td><td class="w">{mark}</td>'
        yield "".join(f"<td>{number(row.values.get(key), book.table[key])}</td>" for key in keys)
        yield "".join(f"<td>{escape(str(row.counts.get(k, '')))}</td>" for k in ("num_frames", "num_frames_with_face"))
        yield ("" if book.reference_free else f"<td>{_offset(row)}</td>") + "</tr>"
        if row.error:
            yield f'<tr><td></td><td class="w bad" colspan="{len(keys) + 4}">{escape(row.error)}</td></tr>'
    yield "</tbody></table></div>"


def _offset(row: ScoredRow) -> str:
    if row.offset is None or row.offset.seconds is None:
        return number(None)
    ms = round(row.offset.seconds * 1000)
    return f"{'+' * (ms > 0)}{ms} ms".replace("-", "−")


def _details(book: ScoreBook) -> Iterator[str]:
    worth = [k for k, row in enumerate(book.rows) if row.curves or row.worst or row.notes]
    if not worth:
        return
    shown = set(worth)
    if len(worth) > MOST_DETAILS:
        key = "sound_mouth_correlation" if book.reference_free else "adfd"
        shown = set(sorted(worth, key=lambda k: book.rows[k].values.get(key, -1.0))[:MOST_DETAILS])
    yield "<h2>Over time</h2>"
    if len(shown) < len(worth):
        yield f'<p class="soft">The {len(shown)} rows that scored worst, of {len(worth)}.</p>'
    for k in sorted(shown):
        yield from _detail(book, book.rows[k], k)


def _detail(book: ScoreBook, row: ScoredRow, index: int) -> Iterator[str]:
    files = escape(row.generated) + (f" against {escape(row.target)}" if row.target else "")
    yield f'<section class="card" id="row{index}"><div class="head"><h3>{escape(row.name)}</h3>'
    yield f'<span class="soft">{files}</span></div>'
    if row.error:
        yield f'<p class="bad">{escape(row.error)}</p>'
    yield "".join(f'<p class="soft">{escape(note[:1].upper() + note[1:])}.</p>' for note in row.notes)
    charts = "".join(draw_chart(chart, row.fps) for chart in charts_of(row))
    if charts:
        yield f'<div class="charts">{charts}</div>'
    if row.worst:
        yield '<div class="frames">'
        for frame in row.worst:
            pictures = [(frame.generated, "generated"), (frame.target, "target")]
            images = "".join(
                f'<img src="data:image/jpeg;base64,{code}" alt="{side}">' for code, side in pictures if code
            )
            sides = "generated | target" if frame.target else "generated"
            caption = f"{frame.time_s:.2f} s, {sides}: {escape(frame.why)}"
            yield f'<figure class="frame"><div>{images}</div><figcaption>{caption}</figcaption></figure>'
        yield "</div>"
    yield "</section>"


def charts_of(row: ScoredRow) -> list[Chart]:
    """The panels of one row, those of which something is known."""
    marks = tuple(frame.time_s for frame in row.worst)
    panels = (
        ("Mouth opening", "of the eye distance",
         {"generated": "mouth opening, generated", "target": "mouth opening, target"}),
        ("Mouth distance", "% of the eye distance", {"": "mouth distance"}),
        ("ADFD, place", "1 = equal", {"": "ADFD place"}),
        ("ADFD, motion", "1 = equal, ½ unrelated", {"": "ADFD motion"}),
        ("PSNR", "dB", {"": "PSNR"}),
        ("SSIM", "1 = equal", {"": "SSIM"}),
        ("Mouth and sound", "standard deviations",
         {"mouth opening": "mouth, standardised", "sound level": "sound, standardised"}),
        ("Eye opening", "height / width", {"": "eye opening"}),
        ("Head speed", "degrees per second", {"": "head speed"}),
        ("Picture change", "levels of 255", {"": "picture change"}),
        ("Identity similarity", "1 = the same", {"": "identity"}),
        ("Identity similarity to the target", "1 = the same", {"": "identity to target"}),
    )  # fmt: skip
    made = []
    for title, unit, names in panels:
        curves = {name: row.curves[curve] for name, curve in names.items() if curve in row.curves}
        if curves:
            made.append(Chart(title, unit, curves, marks, shade=title != "PSNR"))
    return made


def _unavailable(book: ScoreBook) -> Iterator[str]:
    lacking = book.unavailable()
    if not lacking:
        return
    yield '<h2>Not available</h2><div class="card"><table><tbody>'
    for name, reasons in lacking.items():
        lines = []
        for reason, rows in reasons.items():
            everywhere = len(rows) == len(book.rows)
            who = "" if everywhere else f' <span class="soft">({escape(_listed(rows))})</span>'
            lines.append(escape(reason) + who)
        yield f'<tr><td>{escape(book.title(name))}</td><td class="w">{"<br>".join(lines)}</td></tr>'
    yield "</tbody></table></div>"


def _listed(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _definitions(book: ScoreBook) -> Iterator[str]:
    yield '<h2>What each number is</h2><div class="card scroll"><table><thead><tr><th>metric</th>'
    yield '<th class="w">range</th><th class="w">definition</th><th class="w">source</th></tr></thead><tbody>'
    for name in book.table:
        if name in book.columns or TARGET_PREFIX + name in book.columns:
            d = book.table[name]
            yield f'<tr><td class="name">{escape(d.title)} {ARROWS[d.better]}</td><td class="w">{escape(d.range)}</td>'
            yield f'<td class="w">{escape(d.text)}</td><td class="w soft">{escape(d.source)}</td></tr>'
    yield "</tbody></table></div>"


def _method(book: ScoreBook) -> Iterator[str]:
    yield '<h2>How it was measured</h2><div class="card"><dl>'
    sources = sorted({str(row.counts["landmark_source"]) for row in book.rows if "landmark_source" in row.counts})
    told = {"landmarks from": f"MediaPipe's mesh of 478 points, back end {', '.join(sources)}" if sources else "–"}
    told |= {name.replace("_", " "): str(value) for name, value in book.settings.items()}
    told |= dict(book.environment)
    yield "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in told.items())
    yield "</dl></div>"
