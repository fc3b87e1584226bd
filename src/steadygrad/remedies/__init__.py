"""Remedies: changes that may help a cause, explained, filled in with the run's own numbers, and tried."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from steadygrad.records import RemedySpec
from steadygrad.remedies.spec import CODES, format_spec, parse_spec


def install(specs: Sequence[RemedySpec], *, notes: list[tuple[RemedySpec, str]] | None = None) -> Callable[[], None]:
    """Put remedies in place for this process; returns what takes them back.

    See :func:`steadygrad.interventions.install`. An empty list imports nothing and needs no torch.
    """
    if not specs:
        return lambda: None
    from steadygrad.interventions import install as put

    return put(specs, notes=notes)


__all__ = ["CODES", "format_spec", "install", "parse_spec"]
