"""Advice: which remedies apply to a run, put into words with its numbers, and as lines to paste."""

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
    """The diagnosis with advice for its leading causes, and of every cause the remedies that apply to this run.

    These are proposals: nothing here has been tried.
    """
    view = View(history)
    causes = tuple(replace(cause, remedies=tuple(suited(view, cause))) for cause in diagnosis.causes)
    advice: list[Advice] = []
    for cause in causes[:CAUSES_ADVISED]:
        if cause.confidence < 0.4 and advice:
            break
        for code in cause.remedies[:REMEDIES_ADVISED]:
            if all(a.remedy != code for a in advice):
                text = REMEDIES[code].explain(view, cause)
                advice.append(Advice(code, cause.code, text.why, text.risk, text.patch))
    return replace(diagnosis, causes=causes, advice=tuple(advice))


def suited(view: View, cause: Cause) -> list[str]:
    """A cause's remedies that apply to this run, best first: a line search is for runs in which something searches."""
    return [code for code in ordered(view, cause) if REMEDIES[code].suited(view, cause)]


def ordered(view: View, cause: Cause) -> list[str]:
    """A cause's remedies, best first for this run."""
    remedies = list(cause.remedies)
    first = _first(view, cause)
    return sorted(remedies, key=lambda code: code != first) if first in remedies else remedies


def _first(view: View, cause: Cause) -> str:
    """The remedy that this run's record asks for before the usual first one, if any."""
    if cause.code == "loss-misuse":
        return "mean-reduction" if summed(cause) else "match-shapes" if broadcast(cause) else ""
    if cause.code == "learning-rate-too-low" and REMEDIES["constant-lr"].suited(view, cause):
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
