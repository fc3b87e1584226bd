"""The run folder: what a watched run leaves on disk, and how to read it back.

A folder ``steadygrad-runs/<script>-<time>/`` holds ``run.db`` (SQLite: one row per step, facts, tables, the diagnosis)
and ``findings.jsonl`` (one line per finding, as it happens). :class:`Recorder` appends, :class:`Run` reads, also while
the run is going on or after it was killed. Nothing here needs torch.

Example:
    >>> import tempfile
    >>> from pathlib import Path
    >>> from steadygrad.records import StepRecord
    >>> from steadygrad.store import Recorder, Run
    >>> folder = Path(tempfile.mkdtemp())
    >>> with Recorder(folder, {"script": "train.py"}) as recorder:
    ...     recorder.step(StepRecord(step=1, loss=float("nan")))
    >>> with Run(folder) as run:
    ...     [record.loss for record in run.records()]
    [nan]
"""

from steadygrad.store.listing import RUNS_FOLDER, RunSummary, list_runs, new_run_folder
from steadygrad.store.reader import Run
from steadygrad.store.recorder import Recorder
from steadygrad.store.schema import SCHEMA_VERSION
from steadygrad.store.summary import JSON_SCHEMA, plain, to_json

__all__ = [
    "JSON_SCHEMA",
    "RUNS_FOLDER",
    "SCHEMA_VERSION",
    "Recorder",
    "Run",
    "RunSummary",
    "list_runs",
    "new_run_folder",
    "plain",
    "to_json",
]
