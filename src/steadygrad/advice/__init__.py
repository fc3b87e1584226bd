"""Advice: remedies put into words with this run's numbers, and as lines to paste."""

from __future__ import annotations

from dataclasses import replace

from steadygrad.advice.texts import TEXTS
from steadygrad.history import History
from steadygrad.records import Advice, Diagnosis
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
        for code in cause.remedies[:REMEDIES]:
            if all(a.remedy != code for a in advice):
                text = TEXTS[code](view, cause)
                advice.append(Advice(code, cause.code, text.why, text.risk, text.patch))
    return replace(diagnosis, advice=tuple(advice))


__all__ = ["TEXTS", "advise"]
