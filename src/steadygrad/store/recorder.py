"""The writing side of a run folder."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from steadygrad.errors import StoreError
from steadygrad.records import Diagnosis, Fact, Json, OptimizerInfo, ParameterInfo, SiteInfo, StepRecord
from steadygrad.store import schema
from steadygrad.store.lock import FolderLock
from steadygrad.store.summary import plain

_INSERT = {
    "meta": "INSERT OR REPLACE INTO meta VALUES (?, ?)",
    "parameters": "INSERT OR REPLACE INTO parameters VALUES (?, ?)",
    "sites": "INSERT OR REPLACE INTO sites VALUES (?, ?)",
    "optimizers": "INSERT OR REPLACE INTO optimizers VALUES (?, ?)",
    "layouts": "INSERT INTO layouts VALUES (?, ?)",
    "steps": "INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "facts": "INSERT INTO facts VALUES (?, ?, ?, ?)",
    "diagnosis": "INSERT OR REPLACE INTO diagnosis VALUES (1, ?)",
}


class Recorder:
    """Appends one run to a folder; at most one Recorder per folder at a time.

    Everything is buffered and written in one transaction every ``flush_steps`` steps or ``flush_seconds`` seconds,
    whichever comes first, so a killed process loses at most that much. Use it from one thread at a time. In a forked
    child (a data-loader worker) every method does nothing: the file belongs to the parent.

    Args:
        folder: created when missing. The files of an earlier run in it are kept under other names (``run.1.db``).
        meta: plain data about the run, e.g. ``script``, ``argv``, ``environment``. ``started`` (ISO 8601, UTC) is added
            unless given. The recorder itself keeps ``steps`` (highest step number), ``position`` (steps and facts
            written) and ``ended``.
        flush_steps: how many steps may be in memory only.
        flush_seconds: for how long; looked at when a step arrives.

    Raises:
        StoreError: the folder is in use by another run, cannot be written, has no room left, or has been removed; from
            any method. After that, turn recording off: all further calls but :meth:`close` raise it again.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> recorder = Recorder(Path(tempfile.mkdtemp()), {"script": "train.py"})
        >>> recorder.step(StepRecord(step=1, loss=0.5))
        >>> recorder.close()
    """

    def __init__(self, folder: Path, meta: Json, *, flush_steps: int = 256, flush_seconds: float = 2.0) -> None:
        self.folder = Path(folder)
        self._flush_steps, self._flush_seconds = flush_steps, flush_seconds
        self._pid = os.getpid()
        self._failure: StoreError | None = None
        self._pending: dict[str, list[schema.Row]] = {table: [] for table in _INSERT}
        self._emptied: set[str] = set()  # tables whose stored rows no longer hold
        self._layouts: dict[schema.Layout, int] = {}
        self._seq = self._steps = 0
        self._flushed = time.monotonic()
        self._lock: FolderLock | None = None
        self._db: sqlite3.Connection | None = None
        with self._writing():
            self._open()
        self.meta(**{"started": _now(), **meta, "steps": 0, "position": 0})
        self.flush()

    def parameters(self, table: Sequence[ParameterInfo]) -> None:
        """Store the parameter table. Rows of a later one replace them by index; an empty one takes all of them back."""
        self._table("parameters", table)

    def sites(self, table: Sequence[SiteInfo]) -> None:
        """Store the site table; rows are replaced by index, and taken back by an empty one."""
        self._table("sites", table)

    def optimizers(self, table: Sequence[OptimizerInfo]) -> None:
        """Store the optimizer table; rows are replaced by index. In ``hyper`` tuples become lists."""
        self._add("optimizers", *schema.info_rows(table))

    def step(self, record: StepRecord) -> None:
        """Append a step. Its vectors are copied, so the caller may reuse their memory."""
        layout = None if record.detail is None else self._layout(schema.layout_of(record.detail))
        self._add("steps", schema.step_row(self._next(), record, layout))
        self._steps = max(self._steps, record.step)
        if len(self._pending["steps"]) >= self._flush_steps or time.monotonic() - self._flushed > self._flush_seconds:
            self.flush()

    def fact(self, fact: Fact) -> None:
        """Append a fact, in order with the steps. ``data`` has to be plain data: tuples become lists, keys strings."""
        self._add("facts", (self._next(), fact.kind, int(fact.step), schema.dumps(fact.data)))

    def finding(self, event: Json) -> None:
        """Append one line to ``findings.jsonl`` at once; NaN and Inf are written as the strings "nan" and "inf"."""
        if self._mine():
            with self._writing(), (self.folder / schema.FINDINGS).open("a", encoding="utf-8") as log:
                log.write(schema.dumps(plain(event)) + "\n")

    def diagnosis(self, diagnosis: Diagnosis) -> None:
        """Store the diagnosis, instead of an earlier one, and flush."""
        self._add("diagnosis", (schema.dumps(asdict(diagnosis)),))
        self.flush()

    def meta(self, **updates: Any) -> None:
        """Add or replace facts about the run as a whole, e.g. ``exit_code=0``. Values have to be plain data."""
        self._add("meta", *((key, schema.dumps(value)) for key, value in updates.items()))

    def flush(self) -> None:
        """Write everything buffered in one transaction."""
        if not self._mine():
            return
        if self._pending["steps"] or self._pending["facts"]:
            self.meta(steps=self._steps, position=self._seq)
        with self._writing():
            self._check_still_there()
            self._write_pending()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Flush, note the time as ``ended``, and release the folder. Closing twice is harmless."""
        if self._db is None or not self._mine():
            return
        try:
            if self._failure is None:
                self.meta(ended=_now())
                self.flush()
                self._settle()
        finally:
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _mine(self) -> bool:
        return os.getpid() == self._pid

    def _next(self) -> int:
        self._seq += 1
        return self._seq

    def _layout(self, layout: schema.Layout) -> int:
        number = self._layouts.get(layout)
        if number is None:
            number = self._layouts[layout] = len(self._layouts) + 1
            self._add("layouts", (number, schema.dumps(layout)))
        return number

    def _add(self, table: str, *rows: schema.Row) -> None:
        if self._failure is not None:
            raise self._failure
        if self._mine():
            self._pending[table].extend(rows)

    def _table(self, name: str, table: Sequence[ParameterInfo] | Sequence[SiteInfo]) -> None:
        if not table:
            self._pending[name].clear()
            self._emptied.add(name)
        self._add(name, *schema.info_rows(table))

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(self.folder)
        _set_aside(self.folder)
        path = self.folder / schema.DATABASE
        # Manual transactions; the thread check is off because a trainer may close from another thread than it trains.
        self._db = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
        self._db.execute(f"PRAGMA page_size={schema.PAGE_SIZE}")
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA wal_autocheckpoint=256")  # keeps the log at some 4 MB
        # In WAL mode NORMAL survives a killed process whole, and a power cut minus the last transactions.
        self._db.execute("PRAGMA synchronous=NORMAL")
        marks = f"PRAGMA application_id={schema.APPLICATION_ID}; PRAGMA user_version={schema.SCHEMA_VERSION};"
        self._db.executescript(f"BEGIN; {schema.TABLES} {marks} COMMIT;")
        self._inode = path.stat().st_ino

    def _check_still_there(self) -> None:
        """A removed file goes on taking writes that nobody will ever read; only a look at its name tells."""
        path = self.folder / schema.DATABASE
        if path.stat().st_ino != self._inode:
            raise FileNotFoundError(f"{path} was replaced by another file")

    def _write_pending(self) -> None:
        if self._db is None:
            raise sqlite3.ProgrammingError("the recorder is closed")
        self._db.execute("BEGIN IMMEDIATE")
        for table in self._emptied:
            self._db.execute(f"DELETE FROM {table}")
        for table, rows in self._pending.items():
            if rows:
                self._db.executemany(_INSERT[table], rows)
        self._db.execute("COMMIT")
        self._emptied.clear()
        for rows in self._pending.values():
            rows.clear()

    def _settle(self) -> None:
        """Leave one plain file that can be copied and read from read-only media, unless a reader is in the way."""
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("PRAGMA busy_timeout=0")
                self._db.execute("PRAGMA journal_mode=DELETE")

    def _release(self) -> None:
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
        self._db = None
        if self._lock is not None:
            self._lock.release()
        self._lock = None

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        if self._failure is not None:
            raise self._failure
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            self._failure = StoreError(
                f"A run is recorded into a folder that stays writable, but writing to {self.folder} failed: {error}. "
                f"Free some space, check permissions and that the folder was not removed, or choose another with --out."
            )
            self._release()
            raise self._failure from error
        except StoreError as error:
            self._failure = error
            raise


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _set_aside(folder: Path) -> None:
    """Rename the files of an earlier run: nothing recorded is ever overwritten, and two runs never mix."""
    if not (folder / schema.DATABASE).exists():
        return
    number = 1
    while (folder / f"run.{number}.db").exists():
        number += 1
    (folder / "run.db-shm").unlink(missing_ok=True)  # rebuilt by the next reader
    for name, kept in (
        ("run.db-wal", f"run.{number}.db-wal"),  # holds what a killed run flushed last: has to move with its database
        ("run.db", f"run.{number}.db"),
        (schema.FINDINGS, f"findings.{number}.jsonl"),
        ("report.html", f"report.{number}.html"),
    ):
        if (folder / name).exists():
            (folder / name).rename(folder / kept)
