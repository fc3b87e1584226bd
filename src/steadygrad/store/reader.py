"""The reading side of a run folder."""

from __future__ import annotations

import contextlib
import heapq
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from steadygrad.errors import StoreError
from steadygrad.records import Diagnosis, Fact, OptimizerInfo, ParameterInfo, SiteInfo, StepRecord
from steadygrad.store import schema

# Rows are fetched in short reads of this many, so that memory stays bounded and no long read blocks the writer's log.
_CHUNK = 64


class Run:
    """A stored run, opened read-only; it may still be written meanwhile, each call sees what is flushed by then.

    Args:
        path: the run folder, or a ``run.db`` inside one.

    Raises:
        StoreError: there is no run, the file is damaged or of another version; from any method.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from steadygrad.store import Recorder
        >>> folder = Path(tempfile.mkdtemp())
        >>> Recorder(folder, {"script": "train.py"}).close()
        >>> with Run(folder) as run:
        ...     run.meta["script"], list(run.records()), run.diagnosis()
        ('train.py', [], None)
    """

    def __init__(self, path: Path | str) -> None:
        path = Path(path)
        self.path = path / schema.DATABASE if path.is_dir() else path
        self.folder = self.path.parent
        if not self.path.is_file():
            raise StoreError(
                f"A stored run is a folder with a {schema.DATABASE}, but {path} has none. "
                f"Give the folder that `steadygrad run` named, or list them with `steadygrad list`."
            )
        self._layouts: dict[int, schema.Layout] = {}
        with self._reading():
            self._db = _connect(self.path)
        try:
            self._check_version()
        except StoreError:
            self._db.close()
            raise

    @property
    def meta(self) -> dict[str, Any]:
        """Plain data about the run as a whole, as given to the recorder."""
        return {key: json.loads(value) for key, value in self._all("SELECT key, value FROM meta")}

    @property
    def parameters(self) -> tuple[ParameterInfo, ...]:
        """The parameter table, in order of index."""
        return tuple(schema.parameter_info(text) for (text,) in self._all("SELECT info FROM parameters ORDER BY idx"))

    @property
    def sites(self) -> tuple[SiteInfo, ...]:
        """The site table, in order of first execution."""
        return tuple(schema.site_info(text) for (text,) in self._all("SELECT info FROM sites ORDER BY idx"))

    @property
    def optimizers(self) -> tuple[OptimizerInfo, ...]:
        """The optimizer table."""
        return tuple(schema.optimizer_info(text) for (text,) in self._all("SELECT info FROM optimizers ORDER BY idx"))

    def position(self) -> int:
        """The number of steps and facts stored so far; give it as ``after`` to read only what is added later."""
        rows = self._all("SELECT value FROM meta WHERE key = 'position'")
        return int(rows[0][0]) if rows else 0

    def records(self, *, after: int = 0) -> Iterator[StepRecord]:
        """All steps in the order of writing, read as they are asked for. Vectors are read-only."""
        return (record for _, record in self._steps(after, self.position()))

    def facts(self, *, after: int = 0) -> Iterator[Fact]:
        """All facts in the order of writing."""
        return (fact for _, fact in self._facts(after, self.position()))

    def events(self, *, after: int = 0) -> Iterator[StepRecord | Fact]:
        """Steps and facts together in the exact order of writing: replaying them repeats the live run."""
        end = self.position()  # one end for both, or a fact written meanwhile could be passed over
        merged: Iterator[tuple[int, StepRecord | Fact]] = heapq.merge(
            self._steps(after, end), self._facts(after, end), key=lambda event: event[0]
        )
        return (event for _, event in merged)

    def findings(self) -> list[dict[str, Any]]:
        """The lines of ``findings.jsonl``; a last line cut short by a kill is left out."""
        log = self.path.with_name(self.path.name.replace("run", "findings", 1)).with_suffix(".jsonl")
        if not log.is_file():
            return []
        found = []
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def diagnosis(self) -> Diagnosis | None:
        """The diagnosis stored last; None when the run was killed before there was one."""
        rows = self._all("SELECT body FROM diagnosis")
        return schema.diagnosis_from(rows[0][0]) if rows else None

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _log(self) -> Path:
        return self.path.with_name(self.path.name + "-wal")

    def _steps(self, after: int, end: int) -> Iterator[tuple[int, StepRecord]]:
        count = 0
        for seq, *row in self._chunks(f"SELECT seq, {schema.STEP_COLUMNS} FROM steps", after, end):
            with self._reading():
                record = schema.step_record(tuple(row), self._layout)
            count += 1
            yield seq, record
        # SQLite notices most damage, but where an inner page is hit it can come back with fewer rows and no error.
        facts = self._all("SELECT count(*) FROM facts WHERE seq > ? AND seq <= ?", after, end)[0][0]
        if count + facts < end - after:
            raise _damaged(self.path, f"{end - after - count - facts} of {end} steps are gone")

    def _facts(self, after: int, end: int) -> Iterator[tuple[int, Fact]]:
        for seq, kind, step, data in self._chunks("SELECT seq, kind, step, data FROM facts", after, end):
            yield seq, Fact(kind, step, json.loads(data))

    def _chunks(self, query: str, after: int, end: int) -> Iterator[schema.Row]:
        while rows := self._all(f"{query} WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT {_CHUNK}", after, end):
            yield from rows
            after = rows[-1][0]

    def _layout(self, number: int) -> schema.Layout:
        if number not in self._layouts:
            stored = self._all("SELECT id, spec FROM layouts")
            self._layouts = {key: schema.layout_from(spec) for key, spec in stored}
        return self._layouts[number]

    def _all(self, query: str, *values: int) -> list[schema.Row]:
        with self._reading():
            return self._db.execute(query, values).fetchall()

    def _check_version(self) -> None:
        application, version = self._all("PRAGMA application_id")[0][0], self._all("PRAGMA user_version")[0][0]
        if application != schema.APPLICATION_ID:
            raise StoreError(
                f"A stored run is a database written by SteadyGrad, but {self.path} is not one "
                f"(application id {application:#x}). Give the folder that `steadygrad run` named."
            )
        if version != schema.SCHEMA_VERSION:
            raise StoreError(
                f"This SteadyGrad reads run files of version {schema.SCHEMA_VERSION}, but {self.path} has version "
                f"{version}. Read it with the SteadyGrad that wrote it, or record the run again."
            )
        if self.path.stat().st_size % schema.PAGE_SIZE and not self._log().exists():
            raise _damaged(self.path, "its last page is incomplete")

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, KeyError, ValueError) as error:
            raise _damaged(self.path, str(error)) from error


def _damaged(path: Path, why: str) -> StoreError:
    return StoreError(
        f"A stored run is a readable SQLite file, but reading {path} failed: {why}. "
        f"It may be damaged or cut short: copy it again from where it was written, or record the run again."
    )


def _connect(path: Path) -> sqlite3.Connection:
    """Open read-only; a finished file on read-only media needs to be told that nobody is writing it."""
    uri = path.resolve().as_uri()
    connection = sqlite3.connect(f"{uri}?mode=ro", uri=True, timeout=5.0, check_same_thread=False)
    try:
        connection.execute("PRAGMA application_id").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        if path.with_name(path.name + "-wal").exists():
            raise
        connection = sqlite3.connect(f"{uri}?mode=ro&immutable=1", uri=True, check_same_thread=False)
    return connection
