"""Diagnose a stored run: the same functions over the same records, hence the same answer as live."""

from __future__ import annotations

from steadygrad.detectors import detect
from steadygrad.diagnosis import diagnose
from steadygrad.history import History
from steadygrad.records import Diagnosis
from steadygrad.remedies import advise
from steadygrad.store import Run
from steadygrad.view import View


def load(run: Run) -> History:
    """The history of a stored run."""
    history = History()
    for event in run.events():
        history.add(event)
    history.parameters = list(run.parameters)
    history.sites = list(run.sites)
    history.optimizers = list(run.optimizers)
    return history


def replay(run: Run) -> Diagnosis:
    """Detectors and diagnosis over a stored run."""
    return answer(load(run))


def answer(history: History) -> Diagnosis:
    """The whole answer for what a history holds: symptoms, ranked causes, advice, checks not run."""
    view = View(history)
    return advise(history, diagnose(history, detect(history, view), view))
