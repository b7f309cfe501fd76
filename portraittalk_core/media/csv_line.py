"""Lines of CSV files that spreadsheets open, as text that they show and do not run."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What a spreadsheet takes for the start of a formula; the wide ones where the input method is Chinese or Japanese."""


def csv_line(cells: Iterable[object]) -> str:
    """One CSV line, with its line ending.

    A text that a spreadsheet would take for a formula, as a file called `=HYPERLINK(…).mp4` may be, gets an apostrophe
    before it. Numbers stay as they are, whatever their sign, and so does text that is a number, such as "-inf".

    Args:
        cells: numbers, text, or None for an empty cell.

    Source: OWASP, "CSV Injection".
    """
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([_harmless(cell) for cell in cells])
    return line.getvalue()


def _harmless(cell: object) -> object:
    if not isinstance(cell, str) or not cell.startswith(FORMULA_STARTS) or _is_number(cell):
        return cell
    return f"'{cell}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
