"""The command `doctor`: diagnosis of this installation."""

from __future__ import annotations

import argparse
from pathlib import Path

from .arguments import Command, print_table

EXAMPLES = """examples:
  portraittalk doctor
  portraittalk doctor --models ~/ComfyUI/models --json"""


def doctor(args: argparse.Namespace) -> None:
    """Run all checks and print them."""
    from ..pipelines.doctor import diagnose

    diagnosis = diagnose(args.models or [])
    if args.json:
        print(diagnosis.to_json())
        return
    for section in diagnosis.sections:
        rows = [("ok" if line.ok else "!", line.name, line.state, line.advice) for line in section.lines]
        print_table(section.title, rows)


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", metavar="FOLDER", type=Path, action="append", help="look for weight files here too")
    parser.add_argument("--json", action="store_true", help="write JSON instead of tables")


COMMAND = Command(
    "doctor",
    "tell what is installed, which engines work, which weight files are known, and what to do",
    EXAMPLES,
    _add,
    doctor,
)
