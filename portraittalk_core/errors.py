"""Every error a user can cause, each saying what was wrong, the value received and what to do."""

from __future__ import annotations

from pathlib import Path


class PortraitTalkError(Exception):
    """Base of all errors this library raises on purpose; its text is written for the user."""


class InputError(PortraitTalkError, ValueError):
    """Something the user gave cannot be used: a value, a file's content, a combination."""


class ShapeError(InputError):
    """A tensor does not have the expected shape or dtype."""


class MediaError(InputError):
    """A media file cannot be read, or holds something other than expected."""


class MissingFileError(MediaError):
    """A file or folder that is to be read does not exist.

    Attributes:
        path: as it was given; None where nobody said.
    """

    def __init__(self, text: str, path: Path | None = None) -> None:
        super().__init__(text)
        self.path = path


class NoFaceError(InputError):
    """No usable face was found, or not the requested one."""


class OutputError(PortraitTalkError, OSError):
    """A result cannot be written: folder missing, not writable, disk full."""


class MissingDependency(PortraitTalkError, ImportError):
    """An optional package or weight file is absent; the text says how to get it."""
