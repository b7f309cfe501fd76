"""Runs the command line: ``python -m portraittalk_core``."""

from __future__ import annotations

from .cli.main import console

if __name__ == "__main__":
    raise SystemExit(console())
