"""The contract of a detector."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from steadygrad.records import Symptom
from steadygrad.view import View


def always(_: View) -> None:
    """A check that every run allows."""
    return


@dataclass(frozen=True)
class Detector:
    """One rule: its code, how it finds symptoms, and what a run must have for it to mean anything.

    ``missing`` returns None when the check can be made, otherwise the reason why not, for ``checks_not_run``.
    """

    code: str
    find: Callable[[View], Iterator[Symptom]]
    missing: Callable[[View], str | None] = always


def at_least(steps: int) -> Callable[[View], str | None]:
    """The check needs this many steps."""

    def missing(view: View) -> str | None:
        seen = view.main.steps if view.main is not None else 0
        return None if seen >= steps else f"needs {steps} steps, the run had {seen}"

    return missing
