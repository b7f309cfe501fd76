"""Every text that says where LivePortrait's weights are says the same."""

from __future__ import annotations

import re
from pathlib import Path

from portraittalk_core.weights import repositories

ROOT = Path(__file__).parents[3]
TEXTS = ("README.md", "docs/**/*.md", "web/docs/**/*.md", "locales/**/*.json", "workflows/*.json", "subgraphs/*.json",
         "nodes/**/*.py", "portraittalk_core/**/*.py", "tools/**/*.py", "tools/help/*.json")  # fmt: skip


def test_liveportraits_repository_has_one_name_everywhere():
    named: dict[str, set[str]] = {}
    for pattern in TEXTS:
        for path in ROOT.glob(pattern):
            for found in re.findall(r"\b[\w.-]+/LivePortrait(?:_safetensors)?\b", path.read_text(encoding="utf-8")):
                named.setdefault(found, set()).add(path.name)
    assert set(named) == {repositories.LIVEPORTRAIT, repositories.LIVEPORTRAIT_SAFETENSORS}, named
    assert "PortraitTalkLoadKeypointRenderer.md" in named[repositories.LIVEPORTRAIT]
    assert {"controltalk.md", "weights.md", "index.md"} <= named[repositories.LIVEPORTRAIT]
