"""Tables of a benchmark, printed with rich where it is installed, or as Markdown."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A table of text cells with a title."""

    title: str
    header: list[str]
    rows: list[list[str]]


def show(table: Table) -> None:
    """Print a table."""
    try:
        from rich.console import Console
        from rich.table import Table as RichTable
    except ImportError:
        print(to_markdown(table))
        return
    rich_table = RichTable(title=table.title, title_justify="left", title_style="bold")
    for number, name in enumerate(table.header):
        rich_table.add_column(name, justify="right" if number else "left")
    for row in table.rows:
        rich_table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 160).print(rich_table)


def to_markdown(table: Table) -> str:
    """The table as Markdown under its title."""
    lines = [table.header, ["---", *["---:"] * (len(table.header) - 1)], *table.rows]
    text = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"**{table.title}**\n\n{text if table.rows else 'None.'}\n"


def progress(text: str) -> None:
    """Show a one-line progress text on a terminal; an empty text clears it."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{text:78.78}" if text else f"\r{'':78}\r")
        sys.stderr.flush()
