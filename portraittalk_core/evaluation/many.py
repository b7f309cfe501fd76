"""Many videos scored one after the other: what is finished is kept, what is broken does not stop the rest."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from .. import __version__
from ..cache_key import cache_key, file_digest
from ..errors import MissingDependency, OutputError, PortraitTalkError
from ..face.mesh.backends import MeshBackend
from ..media.atomic import explain_write_errors, whole_file
from ..metrics.packages import found_packages
from ..progress import Progress
from .compare import compare_clips
from .identity_scores import Likeness
from .items import ScoreItem
from .network_scores import Networks
from .options import CompareOptions
from .reference_free import score_alone
from .result import ScoredRow

log = logging.getLogger(__name__)

VERSION = 2  # of what a row means: counted up when a number changes, so that old rows are measured anew
ROWS = "rows"  # folder of finished rows within the output folder
STEPS = 1000  # of progress, for each item


@dataclass(frozen=True)
class BatchTools:
    """What is opened once for all items."""

    mesh: MeshBackend
    # of a portrait, or of none; None: no face encoder was given
    open_likeness: Callable[[Path | None], Likeness] | None = None
    networks: Networks = field(default_factory=Networks)
    told: Mapping[str, object] = field(default_factory=dict)  # whatever else the numbers depend on, for the key


def score_items(
    items: Sequence[ScoreItem],
    options: CompareOptions,
    tools: BatchTools,
    folder: Path | None = None,
    on_progress: Progress | None = None,
    on_row: Callable[[ScoredRow, bool], None] | None = None,
) -> list[ScoredRow]:
    """Score every item.

    Args:
        items: pairs, or videos without a target.
        options: of all of them.
        tools: what is open.
        folder: finished rows are kept here and not measured again as long as both files, the options and this
            program's version stay the same; None keeps nothing.
        on_progress: called with thousandths of items done and in all; may raise to stop.
        on_row: called with every row, and whether it had been kept from before.

    Returns:
        One row an item; those that could not be measured say why.

    Raises:
        MissingDependency: a package that all of them need is absent.
        OutputError: rows cannot be kept.
    """
    rows = []
    for number, item in enumerate(items):
        key = None if folder is None or item.problem else row_key(item, options, tools)
        row = _kept(folder, key, item) if key else None
        fresh = row is None
        if row is None:
            row = _scored(item, options, tools, _part_of(on_progress, number, len(items)))
            if key and not row.error:
                _keep(row, folder, key)
        rows.append(row)
        if on_progress:
            on_progress((number + 1) * STEPS, len(items) * STEPS)
        if on_row:
            on_row(row, not fresh)
    return rows


def row_key(item: ScoreItem, options: CompareOptions, tools: BatchTools) -> str | None:
    """32 digits: the same for the same files (by content), options, back end and version; None if a file is missing."""
    try:
        files = [None if path is None else file_digest(path) for path in (item.generated, item.target, item.portrait)]
    except OSError:
        return None
    told = [__version__, VERSION, files, asdict(options), tools.mesh.name, tools.networks.files, dict(tools.told)]
    told += [sorted(found_packages())]
    return cache_key(told)[:32]


def _kept(folder: Path, key: str, item: ScoreItem) -> ScoredRow | None:
    path = folder / ROWS / f"{key}.json"
    try:
        row = ScoredRow.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        log.warning("the row kept in %s cannot be used and is measured again (%s).", path, error)
        return None
    target = None if item.target is None else item.target.name
    return replace(row, name=item.name, generated=item.generated.name, target=target)


def _keep(row: ScoredRow, folder: Path, key: str) -> None:
    path = folder / ROWS / f"{key}.json"
    with explain_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part:
        part.write_text(row.to_json(), encoding="utf-8")


def _scored(item: ScoreItem, options: CompareOptions, tools: BatchTools, on_progress: Progress | None) -> ScoredRow:
    failed = ScoredRow(item.name, item.generated.name, None if item.target is None else item.target.name)
    if item.problem:
        return replace(failed, error=item.problem)
    try:
        with _warnings() as heard:
            likeness = _likeness(item, tools)
            more = {"mesh": tools.mesh, "name": item.name, "likeness": likeness, "on_progress": on_progress}
            more["networks"] = tools.networks
            if item.target is None:
                row = score_alone(item.generated, options, **more)
            else:
                row = compare_clips(item.generated, item.target, options, **more)
    except (MissingDependency, OutputError):
        raise
    except PortraitTalkError as error:
        return replace(failed, error=str(error))
    except (OSError, RuntimeError, ValueError, MemoryError) as error:
        log.debug("%s could not be scored", item.name, exc_info=True)
        return replace(failed, error=f"{type(error).__name__}: {error}")
    return replace(row, notes=(*row.notes, *dict.fromkeys(heard)))


def _likeness(item: ScoreItem, tools: BatchTools) -> Likeness:
    return Likeness(portrait=item.portrait) if tools.open_likeness is None else tools.open_likeness(item.portrait)


def _part_of(on_progress: Progress | None, number: int, count: int) -> Progress | None:
    if on_progress is None:
        return None
    return lambda done, total: on_progress(number * STEPS + STEPS * done // max(total, 1), count * STEPS)


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage().rstrip(". "))


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """What the library warns of meanwhile, such as a file that breaks off: a report has to hold it."""
    logger, handler = logging.getLogger(__package__.rpartition(".")[0]), _Heard()
    logger.addHandler(handler)
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)
