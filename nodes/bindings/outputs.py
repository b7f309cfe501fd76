"""Names of new files in ComfyUI's output folder.

A name is written into links, pages and shells, and the folder may move to Windows: what one of them would read in
another way is refused, and so is a link that leads out of the folder.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import folder_paths

from ...portraittalk_core.checks import abbreviated
from ...portraittalk_core.errors import InputError
from ...portraittalk_core.media.files import explain_write_errors
from .paths import SUFFIX, validated

TOKEN = re.compile(r"%([A-Za-z][^%/\\]*)%")
CLOCK = {"year": "%Y", "month": "%m", "day": "%d", "hour": "%H", "minute": "%M", "second": "%S", "date": "%Y-%m-%d"}
# parts of %date:yyyy-MM-dd%, as ComfyUI's page writes them: strftime's sign, and whether leading zeros go
DATE_PARTS = {"yyyy": ("%Y", False), "yy": ("%y", False)} | {
    letters: (sign, len(letters) == 1)
    for letter, sign in {"M": "%m", "d": "%d", "h": "%H", "m": "%M", "s": "%S"}.items()
    for letters in (2 * letter, letter)
}
DATE_PART = re.compile("|".join(DATE_PARTS))
FORBIDDEN = re.compile('[<>:"|?*\\\\$`%\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]')
RESERVED = re.compile(r"(con|prn|aux|nul|conin|conout|(com|lpt)[0-9¹²³])(\..*)?", re.IGNORECASE)  # of Windows
MOST_BYTES = 180  # of a part of a name, before number and suffix


def new_output(prefix: str, suffix: str = SUFFIX, size: tuple[int, int] | None = None) -> tuple[Path, str, str]:
    """Path for the next numbered file in the output folder, its name, and its folder within the output folder.

    Args:
        prefix: folder and beginning of the name, with tokens such as %date:yyyy-MM-dd% and %year%.
        suffix: of the file.
        size: width and height, for %width% and %height%; None where there are none.

    Raises:
        InputError: the name is empty, would be read otherwise elsewhere, or leads out of the output folder.
        OutputError: its folder cannot be made.
    """
    parts = _parts(prefix, size)
    output = Path(folder_paths.get_output_directory())
    if not _leads_into(output.joinpath(*parts[:-1]), output):
        raise InputError(
            f"filename_prefix {abbreviated(prefix)} leads out of ComfyUI's output folder by a link; choose a folder "
            "that lies in it."
        )
    with explain_write_errors(output.joinpath(*parts)):
        saved = folder_paths.get_save_image_path("/".join(parts), str(output))
    file = f"{saved[1]}_{saved[2]:05}_{suffix}"
    return Path(saved[0]) / file, file, saved[3]


def valid_prefix(prefix: str | None) -> bool | str:
    """The result of a node's `validate_inputs` for its filename_prefix; None is one that another node gives."""
    return prefix is None or validated(lambda: _parts(prefix, (0, 0)))


def _leads_into(folder: Path, root: Path) -> bool:
    try:
        return folder.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # links in a circle
        return False


def _parts(prefix: str, size: tuple[int, int] | None) -> list[str]:
    """Folders and name of a prefix, its tokens filled in."""
    text = _filled(prefix, size).replace(os.sep, "/")
    parts = [part for part in text.split("/") if part]
    if text.startswith("/") or not parts:
        raise InputError(
            f"filename_prefix must be a name within ComfyUI's output folder, such as landmarks/take, not "
            f"{abbreviated(prefix)}."
        )
    for part in parts:
        problem = _problem(part)
        if problem:
            raise InputError(f"filename_prefix {abbreviated(prefix)}: {problem}; choose a plain name.")
    return parts


def _problem(part: str) -> str:
    """Why a part of a name cannot be used; empty if it can."""
    bad = FORBIDDEN.search(part)
    if bad:
        return f"{bad[0]!r} has another meaning in a browser, a shell or on Windows"
    if part.startswith((".", "~", " ", "-")) or part.endswith((".", " ")):
        return f"{part!r} begins or ends with a sign that is hidden, dropped or read otherwise elsewhere"
    if RESERVED.fullmatch(part):
        return f"{part!r} is a device on Windows"
    if len(part.encode()) > MOST_BYTES:
        return f"a part of it has {len(part.encode())} bytes, and {MOST_BYTES} are the most"
    return ""


def _filled(prefix: str, size: tuple[int, int] | None) -> str:
    """The prefix with its tokens filled in, all of one moment."""
    now = time.localtime()

    def value(match: re.Match) -> str:
        name = match[1]
        if name in CLOCK:
            return time.strftime(CLOCK[name], now)
        if name.startswith("date:"):
            return DATE_PART.sub(lambda part: _date_part(part[0], now), name.removeprefix("date:"))
        if size is not None and name in ("width", "height"):
            return str(size[name == "height"])
        tokens = "%date:yyyy-MM-dd%, " + ", ".join(f"%{token}%" for token in CLOCK)
        raise InputError(f"filename_prefix holds {match[0]}, which this node does not know; it knows {tokens}.")

    return TOKEN.sub(value, prefix)


def _date_part(letters: str, now: time.struct_time) -> str:
    sign, short = DATE_PARTS[letters]
    text = time.strftime(sign, now)
    return text.lstrip("0") or "0" if short else text
