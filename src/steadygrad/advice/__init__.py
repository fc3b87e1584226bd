"""Advice: remedies put into words with this run's numbers, and as lines to paste."""

from __future__ import annotations

from dataclasses import replace

from steadygrad.advice.numbers import steps_are_large
from steadygrad.advice.texts import TEXTS
from steadygrad.history import History
from steadygrad.records import Advice, Cause, Diagnosis
from steadygrad.view import View

#: Advice is given for the leading causes only, and the best remedies of each.
CAUSES = 2
REMEDIES = 2


def advise(history: History, diagnosis: Diagnosis) -> Diagnosis:
    """The diagnosis with advice for its leading causes. These are proposals: nothing here has been tried."""
    view = View(history)
    advice: list[Advice] = []
    for cause in diagnosis.causes[:CAUSES]:
        if cause.confidence < 0.4 and advice:
            break
        for code in ordered(view, cause)[:REMEDIES]:
            if all(a.remedy != code for a in advice):
                text = TEXTS[code](view, cause)
                advice.append(Advice(code, cause.code, text.why, text.risk, text.patch))
    return replace(diagnosis, advice=tuple(advice))


def ordered(view: View, cause: Cause) -> list[str]:
    """A cause's remedies, best first: where typical steps are far too large, no clip makes up for the rate."""
    remedies = list(cause.remedies)
    if steps_are_large(view) and {"clip-norm", "lower-lr"} <= set(remedies):
        remedies.sort(key=lambda code: code != "lower-lr")
    return remedies


__all__ = ["TEXTS", "advise"]
