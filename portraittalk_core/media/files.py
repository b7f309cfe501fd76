"""Paths and files: what is read exists and is sound or video, what is written appears whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import av
from av.container import InputContainer

from ..errors import MediaError, MissingFileError, OutputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

MIN_FREE_BYTES = 64 * 1024  # less than this holds no result worth starting for
_FULL = (errno.ENOSPC, errno.EDQUOT)
# Demuxers that read the named file and no other. Playlists (hls, dash, concat, sdp, imf, ...) are not among them, nor
# are single pictures and text, which FFmpeg would take for videos of a frame and for terminal recordings.
_DEMUXERS = (
    *("aac", "ac3", "aiff", "amr", "ape", "apng", "asf", "au", "av1", "avi", "caf", "dsf", "dts", "dtshd", "dv"),
    *("eac3", "flac", "flv", "gif", "gxf", "h263", "h264", "hevc", "ivf", "loas", "m4v", "matroska", "mjpeg", "mov"),
    *("mp3", "mpc", "mpc8", "mpeg", "mpegts", "mpegvideo", "mxf", "nistsphere", "nut", "obu", "ogg", "rm", "tak"),
    *("truehd", "tta", "voc", "vvc", "w64", "wav", "webm", "wtv", "wv", "yuv4mpegpipe"),
)
_OPEN_OPTIONS = {"format_whitelist": ",".join(_DEMUXERS), "protocol_whitelist": "file"}
_OPEN_OPTIONS["max_size"] = "32768"  # bytes of a WAV file's packet, not 4,096: ten minutes are read in half the time
_PLAYLIST = re.compile(
    r"\s*(#EXTM3U|ffconcat\b|\[playlist\]|v=0\s"
    r"|(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*"
    r"<(\w+:)?(MPD|asx|smil|playlist|AssetMap|CompositionPlaylist|SmoothStreamingMedia)\b)",
    re.IGNORECASE | re.DOTALL,
)
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*", b"%!PS", b"\xc5\xd0\xd3\xc6", b"8BPS")
_HEAD_BYTES = 4096  # of a file, from which its kind is told

_PART = re.compile(r"\.(?P<stem>.*)\.[0-9a-f]{8}\.part(?P<suffix>\.[^.]*)?")
_SWEEP_AGAIN_S = 60  # a folder is searched for leftovers at most so often
_OLD_S = 86_400  # where files cannot be locked, a part that nobody has written to for so long is a leftover
_swept_s: dict[Path, float] = {}  # folder: when it was last searched


def check_path(path: Path) -> os.stat_result:
    """What the system says of an existing file or folder, links followed.

    Raises:
        MissingFileError: it does not exist.
        MediaError: it is a loop of links, or the name cannot be one.
    """
    name = str(path).replace("\0", "\\0")
    try:
        return os.stat(path)
    except ValueError as error:  # the only one Python raises for a path itself
        raise MediaError(f"{name} is no name of a file: it holds characters that none can hold; correct it.") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFileError(f"{name} does not exist; check the path.", Path(path)) from error
    except OSError as error:
        what = {
            errno.ELOOP: "is a link that leads back to itself; give the file that is meant",
            errno.ENAMETOOLONG: "cannot exist: the name is too long; check the path",
        }.get(error.errno, f"cannot be read ({error.strerror or error}); check its permissions")
        raise MediaError(f"{name} {what}.") from error


def check_readable(path: Path) -> Path:
    """Check that a regular file is there with something in it and return its path.

    Raises:
        MediaError: missing, a folder, a pipe or device, empty, or not allowed to be read.
    """
    path = Path(path)
    status = check_path(path)
    if stat.S_ISDIR(status.st_mode):
        raise MediaError(f"{path} is a folder; give a file in it.")
    if not stat.S_ISREG(status.st_mode):  # whose reading may never end, or never begin
        raise MediaError(f"{path} is a pipe, socket or device, not a file; write its content to a file first.")
    if status.st_size == 0:
        raise MediaError(f"{path} is empty (0 bytes); export it again.")
    try:
        path.open("rb").close()
    except OSError as error:
        raise MediaError(f"{path} cannot be read ({error.strerror or error}); check its permissions.") from error
    return path


def is_hidden(path: Path) -> bool:
    """Whether a file's name begins with a dot, as those of unfinished files do; readers of folders leave it out."""
    return path.name.startswith(".")


def files_below(folder: Path, name: str | None = None) -> list[Path]:
    """Files of a folder and its sub-folders, in order; linked folders are searched too, each once.

    Args:
        folder: where.
        name: only files of this name; None finds all.
    """
    found, seen = [], set()
    for root, folders, names in os.walk(folder, followlinks=True):
        place = os.path.realpath(root)
        if place in seen:  # a link to a folder above, or a second one to the same
            folders.clear()
            continue
        seen.add(place)
        found += [Path(root, file) for file in names if name in (None, file)]
    return sorted(found)


def open_media(path: Path) -> InputContainer:
    """Open a sound or video file for reading. No other file is opened for it, and no address.

    Raises:
        MediaError: missing, empty, a playlist, or not a file that FFmpeg reads.
    """
    path = check_readable(path)
    try:
        # With "file:" no name is taken for an address, whatever colons it holds.
        return av.open(f"file:{path}", metadata_errors="replace", options=_OPEN_OPTIONS)
    except (av.FFmpegError, OSError, ValueError) as error:
        refused = getattr(error, "errno", None) == errno.EINVAL  # a demuxer that is not in the list
        why = "of a format that is not read" if refused else getattr(error, "strerror", None) or str(error)
        raise MediaError(f"{path} {_not_media(path, why)}.") from error


def _not_media(path: Path, why: str) -> str:
    """What a file that cannot be opened as sound or video is, and what to give instead."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    text = _as_text(head)
    if _PLAYLIST.match(text):
        return "is a playlist of other files, which are not opened; give the sound or video file itself"
    if text:
        return "is text, not a sound or video file; give a file such as a WAV, MP3 or MP4"
    if head.startswith(_PICTURES) or head[8:12] == b"WEBP":
        return "is a picture, not a sound or video file; give a file such as a WAV, MP3 or MP4"
    return f"is not a sound or video file that can be read ({why}); it may be damaged or of another kind"


def _as_text(head: bytes) -> str:
    """The beginning of a file as text, empty where it is none."""
    try:
        text = head.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError as error:
        if len(head) < _HEAD_BYTES or error.start < len(head) - 3:  # else only the last letter is cut
            return ""
        text = head[: error.start].decode("utf-8", "replace")
    return "" if any(ord(letter) < 32 and letter not in "\t\n\r\f\x1b" for letter in text) else text


def make_folder(folder: Path) -> Path:
    """Make a folder, and those that it lies in, where they are not there yet; gives it.

    Raises:
        OutputError: it cannot be made.
    """
    with explain_write_errors(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder)


def check_writable(path: Path) -> Path:
    """Check that a file can be made at `path`, before long work begins, and return it.

    Raises:
        OutputError: the folder is missing, not writable or on a full disk, or `path` is no place for a file.
    """
    path = Path(path)
    if "\0" in str(path):
        raise OutputError(f"cannot write {str(path)!r}: a name cannot hold a NUL; choose another.")
    with explain_write_errors(path):  # a name that is too long raises at the first access
        if path.is_dir():
            raise OutputError(f"cannot write {path}: it is a folder; give a file name.")
        if path.exists() and not path.is_file():
            raise OutputError(f"cannot write {path}: it is a device or pipe; give the name of a file.")
        if not path.parent.is_dir():
            raise OutputError(f"cannot write {path}: the folder {path.parent} does not exist; make it first.")
        if not os.access(path.parent, os.W_OK):
            raise OutputError(f"cannot write {path}: the folder {path.parent} is not writable; choose another.")
        disk = shutil.disk_usage(path.parent)
        if disk.total and disk.free < MIN_FREE_BYTES:  # what is no disk, such as /proc, has no size
            raise OSError(errno.ENOSPC, "no space left")
    return path


class PartFile:
    """A new empty file beside a target, with its suffix, to be written and then renamed to it.

    It is locked while its process lives. What is left of a process that was killed is removed when another one writes
    into the same folder.

    Raises:
        OutputError: the folder does not take a new file.
    """

    def __init__(self, target: Path) -> None:
        self.target = check_writable(target)
        remove_leftovers(self.target.parent)
        with explain_write_errors(self.target):
            self.path, self._lock = _new_part(self.target)

    def __enter__(self) -> PartFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()

    def finish(self) -> None:
        """Give the file its final name.

        Raises:
            OutputError: the system does not let it.
        """
        with explain_write_errors(self.target):
            os.replace(self.path, self.target)
        self.remove()

    def remove(self) -> None:
        """Remove the file unless it has its final name."""
        lock, self._lock = self._lock, None
        try:
            self.path.unlink(missing_ok=True)
        finally:
            if lock is not None:
                os.close(lock)


def remove_leftovers(folder: Path) -> None:
    """Remove the unfinished files of killed processes from a folder, at most once a minute."""
    folder, now_s = folder.absolute(), time.monotonic()
    if now_s - _swept_s.get(folder, -math.inf) < _SWEEP_AGAIN_S:
        return
    _swept_s[folder] = now_s
    for path, _ in unfinished_files(folder):
        with contextlib.suppress(OSError):
            _remove_unused(path)


def unfinished_files(folder: Path) -> list[tuple[Path, str]]:
    """Unfinished files in a folder, each with the first letters of its final name; none where there is no folder."""
    try:
        with os.scandir(folder) as entries:
            matches = [(Path(entry.path), _PART.fullmatch(entry.name)) for entry in entries]
    except OSError:
        return []
    return [(path, match["stem"]) for path, match in matches if match and path.is_file() and not path.is_symlink()]


def _new_part(target: Path) -> tuple[Path, int | None]:
    """An empty file for a target, and the descriptor that keeps it locked, None where files are not locked."""
    while True:
        part = target.with_name(f".{target.stem[:40]}.{secrets.token_hex(4)}.part{target.suffix}")
        # Not tempfile: its files are readable by their owner only, and so would be the result.
        lock = os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        if fcntl is None:  # Windows renames no file that is open
            os.close(lock)
            return part, None
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if part.exists():
            return part, lock
        os.close(lock)  # somebody took it for a leftover before it was locked


def _remove_unused(part: Path) -> None:
    """Remove an unfinished file if no process has it locked."""
    if not stat.S_ISREG(part.lstat().st_mode):
        return
    if fcntl is None:
        if time.time() - part.stat().st_mtime > _OLD_S:
            part.unlink()
        return
    lock = os.open(part, os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        part.unlink()
    except BlockingIOError:
        pass  # its writer lives
    except OSError:
        if time.time() - part.stat().st_mtime > _OLD_S:
            part.unlink()
    finally:
        os.close(lock)


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Context of a temporary file that is renamed to `path` at the end, or removed on an error.

    Raises:
        OutputError: the file cannot be written.
    """
    with PartFile(Path(path)) as part:
        with explain_write_errors(path):
            yield part.path
        part.finish()


def disk_full_message(path: Path) -> str:
    """Message about a full disk with its free space; a quota may be what is full."""
    try:
        free = shutil.disk_usage(Path(path).parent).free
    except OSError:
        return "the disk is full"
    return f"the disk is full ({free / 2**20:.1f} MB are free in {Path(path).resolve().parent})"


@contextlib.contextmanager
def explain_write_errors(path: Path) -> Iterator[None]:
    """Convert write errors of the system or of FFmpeg for `path` to an OutputError that says what to do."""
    try:
        yield
    except OutputError:
        raise
    except (OSError, av.FFmpegError) as error:
        if error.errno in _FULL:
            raise OutputError(
                f"cannot write {path}: {disk_full_message(path)}; free some space or choose another."
            ) from error
        if error.errno == errno.ENAMETOOLONG:
            raise OutputError(f"cannot write {path}: the name is too long; choose a shorter one.") from error
        if error.errno in (errno.EEXIST, errno.ENOTDIR):
            raise OutputError(
                f"cannot write {path}: there is a file where a folder is needed; choose another name."
            ) from error
        raise OutputError(f"cannot write {path}: {error.strerror or error}.") from error
