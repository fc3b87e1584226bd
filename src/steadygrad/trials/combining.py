"""Remedies that work by themselves, tried together."""

from __future__ import annotations

from collections.abc import Sequence

from steadygrad.records import Candidate
from steadygrad.remedies import FAMILIES

#: Pairs tried, at most.
COMBINED = 2


def pairs(best: Candidate, able: Sequence[Candidate]) -> list[Candidate]:
    """The best remedy with each of the next best that does something else.

    Args:
        best: what works best.
        able: all that works, best first.
    """
    return [joined(best, other) for other in able if not families(other) & families(best)][:COMBINED]


def families(candidate: Candidate) -> set[str]:
    """The families of its remedies: two of one family do the same thing twice."""
    codes = {spec.code for spec in candidate.specs}
    return {family for family, members in FAMILIES.items() if any(remedy.code in codes for remedy in members)}


def joined(first: Candidate, second: Candidate) -> Candidate:
    """Two candidates as one, for the cause of the first."""
    why = f"{first.why} {second.why}"
    scale = first.changes_loss_scale or second.changes_loss_scale
    return Candidate((*first.specs, *second.specs), first.cause, why, changes_loss_scale=scale)
