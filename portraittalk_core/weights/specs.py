"""What an engine or a renderer needs from outside the package: one record a file, read by every text about it.

Imports no torch, so that ``--help`` can tell of files without waiting for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class FileSpec:
    """One file, or one folder of files, that users bring."""

    role: str  # what it does here
    source: str  # where it comes from
    licence: str
    folder: str  # of ComfyUI's models folder
    size: str  # about, of the published file; "unknown" is not told
    flag: str = field(default="", kw_only=True)  # of the command line; empty has none
    names: str = field(default="", kw_only=True)  # of the files, where they are fixed
    note: str = field(default="", kw_only=True)  # how to obtain it, where that takes more than a download
    optional: bool = field(default=False, kw_only=True)  # what needs it works without it, too

    @property
    def terms(self) -> str:
        """Licence, size and how to obtain it, for parentheses."""
        return ", ".join(part for part in (self.note, self.licence, self.size) if part not in ("", "unknown"))

    @property
    def advice(self) -> str:
        """What to do to have it, as the end of a sentence."""
        where = f"put {self.names or 'it'} into models/{self.folder} and choose it"
        given = f", or give it with {self.flag}" if self.flag else ""
        return f"the {self.role} {self.source} ({self.terms}): {where}{given}"
