"""Remedies: changes that may help a cause, explained, filled in with the run's own numbers, and tried."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from steadygrad.records import RemedySpec
from steadygrad.remedies.advising import CAUSES_ADVISED, REMEDIES_ADVISED, advise
from steadygrad.remedies.base import Remedy, Text
from steadygrad.remedies.catalogue import FAMILIES, REMEDIES, TEXTS
from steadygrad.remedies.proposing import candidates
from steadygrad.remedies.refining import alike, nearby
from steadygrad.remedies.spec import CODES, format_spec, parse_spec


def install(specs: Sequence[RemedySpec], *, notes: list[tuple[RemedySpec, str]] | None = None) -> Callable[[], None]:
    """Put remedies in place for this process; returns what takes them back.

    See :func:`steadygrad.interventions.install`. An empty list imports nothing and needs no torch.
    """
    if not specs:
        return lambda: None
    from steadygrad.interventions import install as put

    return put(specs, notes=notes)


__all__ = [
    "CAUSES_ADVISED",
    "CODES",
    "FAMILIES",
    "REMEDIES",
    "REMEDIES_ADVISED",
    "TEXTS",
    "Remedy",
    "Text",
    "advise",
    "alike",
    "candidates",
    "format_spec",
    "install",
    "nearby",
    "parse_spec",
]
