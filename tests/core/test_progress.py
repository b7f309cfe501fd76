"""The callback of long work is declared once."""

from pathlib import Path

import portraittalk_core

CORE = Path(portraittalk_core.__file__).parent


def test_progress_is_declared_in_one_file():
    said = [p for p in CORE.rglob("*.py") if "Callable[[int, int], None]" in p.read_text(encoding="utf-8")]
    assert [path.relative_to(CORE).as_posix() for path in said] == ["progress.py"]
