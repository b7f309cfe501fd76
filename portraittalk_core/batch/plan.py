"""Topological order of a manifest's jobs: jobs that make files come before the jobs that read them.

It is kept on disk once it is large, so that memory does not grow with the manifest.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..errors import InputError, OutputError
from .manifest import BatchJob, is_file, not_there, read_manifest

SHOWN_LINES = 6  # of a circle
PART_STEM = 40  # letters of an output's name in that of a half-written file, see `media.files`
CALLED = {"generated": "video", "target": "true video"}  # columns
TABLES = """
create table makers (name text primary key, out text, line int, good int);
create table needs (line int, name text);
create table levels (line int primary key, level int);
create table unmade (line int primary key, why text);
create index needs_line on needs (line);
create table circle (line int primary key, told text)
"""


class BatchPlan:
    """Dependency graph of a manifest's jobs, as a context manager.

    Args:
        manifest: see `manifest.read_manifest`.
        folder: of the results, by which inputs are known that other lines make.

    Raises:
        InputError: the manifest cannot be read, lacks a column, has one that is not known, two outputs of one name, or
            no job.
        OutputError: the plan does not fit on the disk of the temporary folder; every method may say so.
    """

    def __init__(self, manifest: Path, folder: Path) -> None:
        self.manifest, self.folder = Path(manifest), Path(os.path.realpath(folder))
        with _explained():
            self._store = sqlite3.connect("")
        try:
            with _explained():
                self._store.executescript(TABLES)
            self.total = self._read_jobs()  # number of jobs
            self.depth = self._assign_levels()  # number of levels
        except BaseException:
            self._store.close()
            raise

    def __enter__(self) -> BatchPlan:
        return self

    def __exit__(self, *exc: object) -> None:
        self._store.close()

    def jobs(self, level: int) -> Iterator[BatchJob]:
        """The jobs of a level, in the manifest's order; they depend on lower levels only."""
        for job in read_manifest(self.manifest, self.folder):
            if self._level(job.line) == level:
                yield self._with_makers(job) if job.needs and not job.problem else job

    def mark_unmade(self, job: BatchJob) -> None:
        """Mark a job's output as not made; jobs of higher levels that depend on it are blocked."""
        why = "was skipped too" if job.unmade else "failed"
        self._change("insert or ignore into unmade values (?, ?)", job.line, why)

    def is_output(self, stem: str) -> bool:
        """Whether some output's name, without its ending, is `stem`, or begins so where that has 40 letters."""
        if not stem.isprintable():  # no output is called so
            return False
        first = stem.casefold() + ("." if len(stem) < PART_STEM else "")
        return bool(self._fetch_one("select 1 from makers where name >= ? and name < ?", first, f"{first}\U0010ffff"))

    def _fetch_one(self, question: str, *values: object) -> tuple | None:
        with _explained():
            return self._store.execute(question, values).fetchone()

    def _change(self, order: str, *values: object) -> int:
        """Change the store; returns how many rows changed."""
        with _explained():
            return self._store.execute(order, values).rowcount

    def _read_jobs(self) -> int:
        count = 0
        for job in read_manifest(self.manifest, self.folder):
            count += 1
            name = job.out.casefold()  # two such names are one file on some systems
            maker = self._fetch_one("select line, good from makers where name = ?", name)
            if maker and maker[1] and not job.problem:
                raise InputError(
                    f"{self.manifest}: lines {maker[0]} and {job.line} both have the output {job.out}; one would "
                    "overwrite the other. Give each line an out name of its own."
                )
            if not maker or not job.problem:
                values = (name, job.out, job.line, not job.problem)
                self._change("insert or replace into makers values (?, ?, ?, ?)", *values)
            for need in () if job.problem else job.needs:
                self._change("insert into needs values (?, ?)", job.line, need.name.casefold())
        if not count:
            raise InputError(f"{self.manifest} names no job below its first line.")
        return count

    def _assign_levels(self) -> int:
        """Assign levels to lines with dependencies: one above the highest line that each depends on."""
        self._change("delete from needs where name not in (select name from makers)")
        depth = 1
        while self._change(
            "insert into levels select distinct line, ? from needs where line not in (select line from levels)"
            " and line not in (select n.line from needs n join makers m on m.name = n.name"
            " where m.line in (select line from needs) and m.line not in (select line from levels))",
            depth,
        ):
            depth += 1
        with _explained():
            circular = self._store.execute(
                "select line, name from needs where line not in (select line from levels) order by line"
            ).fetchall()
        for line, name in circular:
            self._record_cycle(line, name)
        return depth

    def _record_cycle(self, line: int, name: str) -> None:
        """Record the dependency cycle that a line without a level is in, or waits for."""
        path = [line]
        while name is not None:
            maker = self._fetch_one("select line from makers where name = ?", name)[0]
            if maker in path:
                path = path[path.index(maker) :]
                break
            path.append(maker)
            row = self._fetch_one(
                "select name from needs where line = ? and name in (select name from makers where line in"
                " (select line from needs) and line not in (select line from levels))",
                maker,
            )
            if row is None:
                return
            name = row[0]
        if path == [line]:
            problem = "it needs its own output"
        else:
            lines = [str(number) for number in (*path, path[0])]
            lines = lines if len(lines) <= SHOWN_LINES else [*lines[: SHOWN_LINES - 1], "…", lines[-1]]
            problem = f"lines need each other's outputs in a circle ({' → '.join(lines)})"
        problem += "; take one of them out, or give it a file that is there"
        self._change("insert or ignore into circle values (?, ?)", line, problem)

    def _level(self, line: int) -> int:
        row = self._fetch_one("select level from levels where line = ?", line)
        return row[0] if row else 0

    def _with_makers(self, job: BatchJob) -> BatchJob:
        """Resolve a job's dependencies to the lines that make them; a file that is absent and not made is a problem."""
        if cycle := self._fetch_one("select told from circle where line = ?", job.line):
            return replace(job, problem=cycle[0])
        needs, absent, files = [], [], dict(job.files)
        for need in job.needs:
            row = self._fetch_one("select out, line from makers where name = ?", need.name.casefold())
            if row:
                files[need.column] = self.folder / row[0]
                needs.append(need)
                if why := self._fetch_one("select why from unmade where line = ?", row[1]):
                    what = f"its {CALLED.get(need.column, need.column)} {row[0]}"
                    return replace(job, unmade=f"{what} was not made (line {row[1]} {why[0]})")
            elif not is_file(job.files[need.column]):
                absent.append(f"{not_there(need.column, job.files[need.column])}, and no line makes it")
        return replace(job, files=files, needs=tuple(needs), problem="; ".join(absent) or None)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Convert errors of the store to an OutputError; its one cause outside this program is the temporary folder."""
    try:
        yield
    except sqlite3.OperationalError as error:
        places = (os.environ.get("SQLITE_TMPDIR"), os.environ.get("TMPDIR"), "/var/tmp")  # as SQLite looks for it
        named = next((place for place in places if place and os.path.isdir(place)), tempfile.gettempdir())
        raise OutputError(
            f"the plan of a long manifest is kept in the temporary folder ({named}), which does not take it ({error}); "
            "free some space there, set TMPDIR to a folder with more, or split the manifest."
        ) from error
