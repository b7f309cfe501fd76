"""Cache of finished sections of a long job on disk, so that an interrupted job resumes from them.

Pictures are packed without loss, to a third of their bytes.

Shapes: B frames of a section, H and W pixels, h = H/8 and w = W/8.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError, MediaError, OutputError
from ..media.files import atomic_write, explain_write_errors
from ..media.lossless import pack, unpack

log = logging.getLogger(__name__)

LAYOUT = "2"  # of the files; another is not read
MANIFEST, SUFFIX = "manifest.json", ".safetensors"
MOST_DAYS, MOST_BYTES = 7.0, 4 * 1024**3  # what unfinished jobs may take, besides the one at work
KEY = re.compile(r"[0-9a-zA-Z_-]{8,128}")


@dataclass(frozen=True)
class Section:
    """Frames that were painted together."""

    first: int  # number of its first frame in the video
    pictures: Tensor  # (B, H, W, 3) uint8
    latents: Tensor | None  # (B, 4, h, w), as the painter gave them, bit for bit; None where it gave none
    batch: int  # frames at once from here on; less than before where memory was full

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def stop(self) -> int:
        """Frame number after the last one."""
        return self.first + len(self)


class Sections:
    """The finished sections of one job, one file each.

    Args:
        root: folder of all unfinished jobs; made when it is needed.
        key: of letters and digits; the same for jobs with the same result, and for no others.

    Raises:
        InputError: a key that is no name for a folder.
    """

    def __init__(self, root: Path, key: str) -> None:
        if not KEY.fullmatch(key):
            raise InputError(f"a job's key must be 8 to 128 letters and digits, not {key[:140]!r}.")
        self.root, self.key, self.folder = Path(root), key, Path(root) / key
        self.num_found = self.num_saved = 0  # sections read, and written, by this run
        self._parts: list[Sections] = []

    @property
    def summary(self) -> str:
        """Message on how many sections were resumed, those of its parts included; empty if none."""
        jobs = (self, *self._parts)
        num_found, num_saved = sum(job.num_found for job in jobs), sum(job.num_saved for job in jobs)
        return f"resumed: {num_found} of {num_found + num_saved} sections were finished already" if num_found else ""

    def part(self, number: int) -> Sections:
        """Sections of one of several jobs, such as faces, of which this one consists; removed with its own."""
        part = Sections(self.root, f"{self.key}-{number}")
        self._parts.append(part)
        return part

    def find(self, first: int, max_frames: int, exactly: bool = False) -> Section | None:
        """The cached section that begins with a frame; None if it is missing, damaged, or does not fit.

        Args:
            first: number of the frame.
            max_frames: frames that it may hold.
            exactly: whether it must hold as many.
        """
        path = self._path(first)
        if not path.is_file() or not self._fits():
            return None
        try:
            section = _read(path)
            if (
                section.first != first
                or not 1 <= len(section) <= max_frames
                or (exactly and len(section) != max_frames)
            ):
                raise MediaError(f"it holds frames {section.first} to {section.stop - 1}")
        except (MediaError, OSError) as error:
            log.warning("the finished section %s is not used, it is painted again: %s.", path, error)
            return None
        self.num_found += 1
        return section

    def save(self, section: Section) -> None:
        """Write a section atomically.

        Raises:
            OutputError: it cannot be written; the disk is full, for one.
        """
        content = _content(section)
        try:
            with explain_write_errors(self.folder):
                self._begin()
            with atomic_write(self._path(section.first)) as part:
                part.write_bytes(content)
        except OutputError as error:
            size = len(content) / 2**20
            raise OutputError(
                f"{error} It is a finished section, {size:.1f} MB, kept so that this job can be resumed; without "
                "resuming, none are kept."
            ) from error
        self.num_saved += 1

    def finish(self) -> None:
        """Remove all sections, and those of its parts: the job is finished."""
        for job in (self, *self._parts):
            _remove(job.folder)

    def _begin(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._fits():
            return
        _remove(self.folder)  # of another layout
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.folder / MANIFEST) as part:
            part.write_text(json.dumps({"layout": LAYOUT, "key": self.key}), encoding="utf-8")

    def _path(self, first: int) -> Path:
        return self.folder / f"{first:08}{SUFFIX}"

    def _fits(self) -> bool:
        return _manifest(self.folder) == {"layout": LAYOUT, "key": self.key}


def prune(root: Path, keep: str = "", days: float = MOST_DAYS, most_bytes: int = MOST_BYTES) -> None:
    """Remove abandoned unfinished jobs, the oldest first, beyond an age or a total size.

    Args:
        root: folder of all unfinished jobs.
        keep: key of a job that stays in any case, and so do those whose keys begin with it: its parts.
        days: older jobs go.
        most_bytes: what the others may take together.
    """
    if not Path(root).is_dir():
        return
    jobs = [f for f in Path(root).iterdir() if not (keep and f.name.startswith(keep)) and _is_ours(f)]
    total_bytes, oldest = 0, time.time() - 24 * 3600 * days
    for changed, size, folder in sorted(((*_age_and_size(folder), folder) for folder in jobs), reverse=True):
        total_bytes += size
        if changed < oldest or total_bytes > most_bytes:
            log.info("the unfinished job %s is removed (%d MB).", folder, size // 2**20)
            total_bytes -= size
            _remove(folder)


def _is_ours(folder: Path) -> bool:
    return not folder.is_symlink() and (_manifest(folder) or {}).get("key") == folder.name


def _age_and_size(folder: Path) -> tuple[float, int]:
    stats = []
    with contextlib.suppress(OSError):  # another run may have finished meanwhile
        for file in folder.iterdir():
            stats.append(file.stat())  # noqa: PERF401 - those read before an error count
    return max((stat.st_mtime for stat in stats), default=0.0), sum(stat.st_size for stat in stats)


def _manifest(folder: Path) -> dict | None:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) else None


def _remove(folder: Path) -> None:
    """Remove a job's files in a folder, and the folder if it is empty then."""
    try:
        for file in folder.iterdir() if folder.is_dir() else ():
            if file.suffix == SUFFIX:
                file.unlink(missing_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)  # last: without it the folder would be nobody's
        with contextlib.suppress(FileNotFoundError):
            folder.rmdir()
    except OSError as error:
        log.warning("cannot remove %s: %s.", folder, error)


def _content(section: Section) -> bytes:
    from safetensors.torch import save

    parts = {"pictures": pack(section.pictures), "latents": section.latents}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in parts.items() if tensor is not None}
    numbers = {"first": section.first, "count": len(section), "batch": section.batch, "sum": _sum(tensors)}
    return save(tensors, {"layout": LAYOUT, **{name: str(number) for name, number in numbers.items()}})


def _read(path: Path) -> Section:
    """Read a section file.

    Raises:
        MediaError: it is damaged, or something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            # cloned: what safetensors gives may lie in the mapped file, which Windows then would not let us remove
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a dict
        numbers = {name: int(metadata[name]) for name in ("first", "count", "batch", "sum")}
        packed, latents = tensors["pictures"], tensors.get("latents")
    except (SafetensorError, KeyError, ValueError) as error:
        raise MediaError(f"it is damaged ({error})") from error
    if metadata.get("layout") != LAYOUT or numbers["sum"] != _sum(tensors):
        raise MediaError("its sum is not that of what was written")
    pictures, count = unpack(packed), numbers["count"]
    if len(pictures) != count or (latents is not None and len(latents) != count):
        raise MediaError("its shapes do not fit each other")
    return Section(numbers["first"], pictures, latents, numbers["batch"])


def _sum(tensors: dict[str, Tensor]) -> int:
    """CRC-32 of all bytes: after a power failure a file may have its full length, and yet be empty."""
    checksum = 0
    for name in sorted(tensors):
        checksum = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy(), checksum)
    return checksum
