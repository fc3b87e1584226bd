"""Advice: remedies put into words with this run's numbers, and as lines to paste."""

from __future__ import annotations

from dataclasses import replace

from steadygrad.history import History
from steadygrad.records import Advice, Cause, Diagnosis
from steadygrad.remedies.catalogue import REMEDIES
from steadygrad.remedies.data import broadcast, summed
from steadygrad.remedies.initial import odd_biases
from steadygrad.remedies.numbers import steps_are_large
from steadygrad.view import View

#: Advice is given for the leading causes only, and the best remedies of each.
CAUSES_ADVISED = 2
REMEDIES_ADVISED = 2


def advise(history: History, diagnosis: Diagnosis) -> Diagnosis:
    """The diagnosis with advice for its leading causes. These are proposals: nothing here has been tried."""
    view = View(history)
    advice: list[Advice] = []
    for cause in diagnosis.causes[:CAUSES_ADVISED]:
        if cause.confidence < 0.4 and advice:
            break
        codes = ordered(view, cause)
        # One that has no value for this run is for another kind of run: a line search where nothing searches, say.
        codes = [code for code in codes if REMEDIES[code].values(view, cause)] or codes
        for code in codes[:REMEDIES_ADVISED]:
            if all(a.remedy != code for a in advice):
                text = REMEDIES[code].explain(view, cause)
                advice.append(Advice(code, cause.code, text.why, text.risk, text.patch))
    return replace(diagnosis, advice=tuple(advice))


def ordered(view: View, cause: Cause) -> list[str]:
    """A cause's remedies, best first for this run."""
    remedies = list(cause.remedies)
    first = _first(view, cause)
    return sorted(remedies, key=lambda code: code != first) if first in remedies else remedies


def _first(view: View, cause: Cause) -> str:
    """The remedy that this run's record asks for before the usual first one, if any."""
    if cause.code == "loss-misuse":
        return "mean-reduction" if summed(cause) else "match-shapes" if broadcast(cause) else ""
    if cause.code == "learning-rate-too-low" and REMEDIES["constant-lr"].values(view, cause):
        return "constant-lr"
    if cause.code == "long-recurrence" and any("shrinks" in e for e in cause.evidence):
        return "add-residual"
    if cause.code == "dying-relu" and odd_biases(view):
        return "reinit-kaiming"
    if cause.code in ("init-too-large", "init-too-small") and _squashes(view):
        return "reinit-xavier"
    if {"clip-norm", "lower-lr"} <= set(cause.remedies) and steps_are_large(view):
        return "lower-lr"  # where typical steps are far too large, no clip makes up for the rate
    return ""


def _squashes(view: View) -> bool:
    """Whether the model is one that Xavier's rule is made for."""
    recurrent = any(s.kind == "recurrent" for s in view.sites)
    relus = any(s.activation in ("relu", "leaky_relu", "elu", "gelu", "silu") for s in view.sites)
    return recurrent or view.has_attention or (not relus and any(s.activation == "tanh" for s in view.sites))
