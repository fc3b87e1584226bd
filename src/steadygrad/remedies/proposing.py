"""Which remedies to try on a script, and in which order.

Every candidate has a score: the confidence of its cause, less for each remedy and each value that the cause would have
tried before it. So the best remedies of all likely causes come before the second values of the first one, and a weak
cause waits.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from steadygrad.history import History
from steadygrad.records import Candidate, Cause, Diagnosis, RemedySpec
from steadygrad.remedies.advising import ordered
from steadygrad.remedies.catalogue import REMEDIES
from steadygrad.remedies.spec import NO_OP, format_spec, parse_spec
from steadygrad.view import View

#: What a later remedy, and a later value of a remedy, are worth beside the first.
NEXT_REMEDY, NEXT_VALUE = 0.6, 0.62
#: Pairs that repair together what neither does alone: each activation has its own initialisation, and so on.
PARTNERS = {
    ("swap-activation", "reinit-kaiming"): 0.8,
    ("add-residual", "reinit-orthogonal"): 0.4,
    ("replace-batchnorm", "lower-lr:/3"): 0.5,
    ("loosen-clip", "lower-lr:/3"): 0.4,
    ("standardize-input", "lower-lr:/3"): 0.4,
    ("adaptive-optimizer", "clip-norm:1"): 0.3,
    ("guard-operation", "line-search"): 0.9,
}
#: ... and what the first remedies of the two leading causes are worth together.
BOTH = 0.6
#: Tried when the causes have had their turn: what helps most often, whatever the cause.
LAST_RESORTS = ("line-search", "lower-lr", "clip-norm", "adaptive-optimizer", "add-normalization")
SEED = 7


@dataclass(frozen=True)
class Scored:
    """A candidate and how promising it is."""

    score: float
    candidate: Candidate


def candidates(history: History, diagnosis: Diagnosis, *, limit: int = 14) -> list[Candidate]:
    """What to try, best first, with the two controls at the end.

    Args:
        history: the run of the script as it is.
        diagnosis: its ranked causes.
        limit: the number of candidates at most, controls included.
    """
    view = View(history)
    scored = [s for cause in diagnosis.causes for s in _for_cause(view, cause)]
    scored += list(_pairs(view, diagnosis.causes))
    if diagnosis.causes or diagnosis.symptoms:
        scored += list(_last_resorts(view))
    best: dict[tuple[RemedySpec, ...], Scored] = {}
    for each in sorted(scored, key=lambda s: -s.score):
        best.setdefault(each.candidate.specs, each)
    chosen = [_credited(s.candidate, diagnosis.causes) for s in best.values()][: max(1, limit - 2)]
    return [*chosen, Candidate((RemedySpec(NO_OP),), "", "the script as it is", NO_OP), _random(view, chosen)]


def _candidate(view: View, cause: Cause, *specs: RemedySpec) -> Candidate:
    why = " ".join(REMEDIES[s.code].explain(view, cause).why for s in specs)
    scale = any(REMEDIES[s.code].changes_loss_scale for s in specs)
    return Candidate(tuple(specs), cause.code, why, changes_loss_scale=scale)


def _credited(candidate: Candidate, causes: tuple[Cause, ...]) -> Candidate:
    """The candidate for the cause whose remedy it is: that which names it earliest, the likeliest among equals.

    Several causes may propose the same remedy. A lower rate may also calm a long recurrence; if it works, it speaks for
    a rate that was too high.
    """
    code = candidate.specs[0].code
    owners = [cause for cause in causes if code in cause.remedies]
    owner = min(owners, key=lambda cause: (cause.remedies.index(code), -cause.confidence), default=None)
    return candidate if owner is None else replace(candidate, cause=owner.code)


def _for_cause(view: View, cause: Cause) -> Iterator[Scored]:
    worth = cause.confidence
    for code in ordered(view, cause):
        specs = REMEDIES[code].candidates(view, cause)
        for turn, spec in enumerate(specs):
            yield Scored(worth * NEXT_VALUE**turn, _candidate(view, cause, spec))
        worth *= NEXT_REMEDY if specs else 1.0


def _pairs(view: View, causes: tuple[Cause, ...]) -> Iterator[Scored]:
    """Remedies that belong together, and the first remedies of the two leading causes."""
    if not causes:
        return
    lead = causes[0]
    for (first, second), worth in PARTNERS.items():
        one = REMEDIES[first].candidates(view, lead)
        other = parse_spec(second)
        if first in lead.remedies and one and REMEDIES[other.code].candidates(view, lead):
            yield Scored(lead.confidence * worth, _candidate(view, lead, one[0], other))
    if len(causes) > 1 and causes[1].confidence >= 0.4:
        one_spec, other_spec = (_first_spec(view, cause) for cause in causes[:2])
        if one_spec is not None and other_spec is not None and one_spec.code != other_spec.code:
            yield Scored(causes[1].confidence * BOTH, _candidate(view, lead, one_spec, other_spec))


def _first_spec(view: View, cause: Cause) -> RemedySpec | None:
    """What the cause would try first."""
    return next((s for code in ordered(view, cause) for s in REMEDIES[code].candidates(view, cause)), None)


def _last_resorts(view: View) -> Iterator[Scored]:
    nothing = Cause("", 0.0, "", ())
    for turn, code in enumerate(LAST_RESORTS):
        for spec in REMEDIES[code].candidates(view, nothing)[:1]:
            yield Scored(0.15 * NEXT_REMEDY**turn, _candidate(view, nothing, spec))


def _random(view: View, chosen: list[Candidate]) -> Candidate:
    """A remedy drawn without looking at the causes: what a guess would do."""
    taken = {spec.code for c in chosen for spec in c.specs}
    nothing = Cause("", 0.0, "", ())
    pool = [s for code in sorted(REMEDIES) if code not in taken for s in REMEDIES[code].candidates(view, nothing)[:1]]
    pool = pool or [RemedySpec("clip-norm", "1")]
    spec = random.Random(SEED).choice(pool)
    return Candidate(
        (spec,), "", f"{format_spec(spec)} drawn at random", "random", REMEDIES[spec.code].changes_loss_scale
    )
