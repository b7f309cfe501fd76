"""What an engine or a renderer needs: one row a file, for the doctor, error texts and docs."""

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

    @property
    def flag(self) -> str:
        """The command line's flag."""
        return "--" + self.option.replace("_", "-")
