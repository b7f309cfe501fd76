"""Files that an engine or a renderer needs: one row a file, for the doctor, error texts and docs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FileSpec:
    """A file or folder that a user may have."""

    option: str  # field of the method's options; its flag follows from it
    source: str  # what it is and where it comes from
    licence: str
    folder: str  # of ComfyUI's models folder
    needed: bool = True  # False: the method works without it, but does less
    size: str = ""  # about, of the published file
    names: str = ""  # of the files, where they are fixed
    note: str = ""  # how to obtain it, where that takes more than a download

    @property
    def flag(self) -> str:
        """The command line's flag."""
        return "--" + self.option.replace("_", "-")

    @property
    def advice(self) -> str:
        """What it is and what to do to have it, as the end of a sentence."""
        terms = ", ".join(part for part in (self.note, self.licence, self.size) if part)
        place = f"put {self.names or 'it'} into models/{self.folder} and choose it, or give it with {self.flag}"
        return f"{self.source} ({terms}): {place}"
