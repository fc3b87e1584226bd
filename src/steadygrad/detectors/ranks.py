"""Several processes of one training whose models ought to be the same and are not.

Fires when weights that were equal on all ranks differ at a later step, by more than rounding can. Stays silent on
sharded models and on processes that train different models, whose weights never were equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from steadygrad.detectors.base import Detector
from steadygrad.records import Symptom
from steadygrad.view import View


def ranks_fact(view: View) -> dict[str, Any]:
    """What the ranks of the training know together; empty for a process that trains alone."""
    fact = view.history.fact("ranks")
    return dict(fact.data) if fact is not None else {}


def ranked(ranks: Sequence[int]) -> str:
    """``rank 2``, or ``ranks 1, 2``."""
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"


def _find(view: View) -> Iterator[Symptom]:
    drift = ranks_fact(view).get("drift")
    if drift is None or view.main is None:
        return
    whose = f" (rank {drift['rank']} is furthest off)" if "rank" in drift else ""
    if drift["from_start"]:
        words = "the ranks get the same gradients but started from different weights: broadcast them from rank 0"
    else:
        words = f"the ranks' weights were equal and are {drift['relative']:.2g} apart at step {drift['step']}{whose}"
    evidence = {"relative": float(drift["relative"]), "ranks": float(ranks_fact(view)["world"])}
    yield Symptom("replica-drift", "warning", drift["parameter"], drift["step"], view.main.last_step, evidence, words)


def _missing(view: View) -> str | None:
    """A process that trains alone has no replicas: nothing is missing then."""
    absent = ranks_fact(view).get("missing", [])
    return f"{ranked(absent)} left no summary in the run folder" if absent else None


REPLICA_DRIFT = Detector("replica-drift", _find, _missing)
