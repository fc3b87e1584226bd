"""Symptoms: what is observably wrong in a run. One module per family; each rule says when it stays silent.

A detector looks at a :class:`~steadygrad.view.View` of the whole run so far and yields symptoms. It holds no state, so
the live answer and the answer replayed from a stored run are the same by construction.
"""

from __future__ import annotations

from collections.abc import Iterator

from steadygrad.detectors import activations, batchnorm, clipping, gradients, losses, nonfinite, ranks, updates
from steadygrad.detectors.base import Detector
from steadygrad.history import History
from steadygrad.records import NotRun, Symptom
from steadygrad.view import View

DETECTORS: tuple[Detector, ...] = (
    nonfinite.NON_FINITE,
    gradients.EXPLODING,
    gradients.VANISHING,
    gradients.ZERO,
    losses.SPIKE,
    losses.DIVERGING,
    losses.STALLED,
    losses.OSCILLATING,
    activations.DEAD,
    activations.SATURATED,
    activations.DRIFT,
    updates.OVERSIZED,
    updates.UNDERSIZED,
    batchnorm.UNRELIABLE,
    clipping.INEFFECTIVE,
    ranks.REPLICA_DRIFT,
)


def detect(history: History, view: View | None = None) -> list[Symptom]:
    """All symptoms of a run so far, critical ones first, then by first step.

    A rule of ours that fails is noted in ``view.failures`` and does not take the others' findings with it.
    """
    view = view or View(history)
    return sorted(_find(view), key=lambda s: (s.severity != "critical", s.first_step, s.code, s.location))


def _find(view: View) -> Iterator[Symptom]:
    for detector in DETECTORS:
        try:
            if view.history.steps and detector.missing(view) is None:
                yield from list(detector.find(view))
        except Exception as error:
            view.failures.append(failure(detector.code, error))


def failure(code: str, error: Exception) -> NotRun:
    """What to say of a check of ours that raised."""
    return NotRun(code, f"this check itself failed ({type(error).__name__}: {error}); please report it")


def checks_not_run(view: View) -> list[NotRun]:
    """Checks that could not be made on this run, and why."""
    failed = {f.check for f in view.failures}
    missing = ((d.code, d.missing(view)) for d in DETECTORS if d.code not in failed)
    return [NotRun(code, why) for code, why in missing if why is not None] + view.failures


__all__ = ["DETECTORS", "Detector", "checks_not_run", "detect", "failure"]
