"""A tokenizer of CLIP's structure with invented words."""

from __future__ import annotations

import json
from pathlib import Path


def write_tokenizer(folder: Path, pairs: int = 48894) -> Path:
    """256 letters, the same at a word's end, pairs of them, begin and end."""
    folder.mkdir(parents=True)
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(c) for c in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    ends = [f"{letter}</w>" for letter in letters]
    merges = [(a, b) for a in letters for b in ends][:pairs]
    words = [*letters, *ends, *(a + b for a, b in merges), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}), "utf-8")
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    return folder
