"""Reading a run while it is being written: only what is new, in bounded memory."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steadygrad.figures import Chart, Series, draw
from steadygrad.history import History
from steadygrad.records import Diagnosis, StepRecord
from steadygrad.replay import answer
from steadygrad.store import Run


@dataclass(frozen=True, slots=True)
class Shown:
    """A run as it stands. ``version`` changes with everything else."""

    version: int
    meta: dict[str, Any]
    step: int
    latest: StepRecord | None
    diagnosis: Diagnosis
    charts: tuple[Chart, ...]
    final: bool  # the run has ended and has left its diagnosis


class Follower:
    """Follows one run folder. Safe to be asked by several threads.

    Args:
        folder: of a run, finished or going on.

    Raises:
        StoreError: there is no run, or it cannot be read (also from :meth:`now`).

    Example:
        >>> import tempfile
        >>> from steadygrad.store import Recorder
        >>> folder = Path(tempfile.mkdtemp())
        >>> with Recorder(folder, {"script": "train.py"}) as recorder:
        ...     recorder.step(StepRecord(1, loss=0.5, lr=0.1))
        >>> shown = Follower(folder).now()
        >>> shown.step, shown.latest.loss, shown.final
        (1, 0.5, False)
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._history = History()
        self._series = Series()
        self._position = 0
        self._latest: StepRecord | None = None
        self._shown: Shown | None = None
        self._lock = threading.Lock()
        Run(folder).close()  # says at once what is wrong with it

    def now(self) -> Shown:
        """The run as it stands; the very same object as before if nothing has been added."""
        with self._lock, Run(self.folder) as run:
            final = run.diagnosis()
            if self._shown is None or run.position() > self._position or (final is not None) > self._shown.final:
                self._read(run)
                self._shown = self._drawn(run, final)
            return self._shown

    def _read(self, run: Run) -> None:
        for event in run.events(after=self._position):
            self._position += 1
            self._history.add(event)
            if isinstance(event, StepRecord):
                self._series.add(event)
                self._latest = event
        self._history.parameters = list(run.parameters)
        self._history.sites = list(run.sites)
        self._history.optimizers = list(run.optimizers)

    def _drawn(self, run: Run, final: Diagnosis | None) -> Shown:
        diagnosis = final if final is not None else answer(self._history)
        charts = tuple(draw(run, series=self._series, diagnosis=diagnosis))
        version = self._shown.version + 1 if self._shown is not None else 1
        return Shown(version, run.meta, self._history.steps, self._latest, diagnosis, charts, final is not None)
