"""What a remedy is: words, lines to paste, and the values worth trying, all from one run's numbers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from steadygrad.records import Cause, RemedySpec
from steadygrad.remedies.fitting import always
from steadygrad.remedies.numbers import model_of
from steadygrad.view import View


@dataclass(frozen=True)
class Text:
    """One remedy in words."""

    why: str
    risk: str
    patch: str


def as_is(view: View, cause: Cause) -> list[str]:
    """The default value, once."""
    return [""]


@dataclass(frozen=True)
class Remedy:
    """One remedy. How it is applied to a running script is in :mod:`steadygrad.interventions`."""

    code: str
    purpose: str  # what it is for
    risk: str
    example: str  # as it is written on the command line
    words: Callable[[View, Cause], tuple[str, str]]  # why it should help this cause, and the lines a user would write
    values: Callable[[View, Cause], list[str]] = as_is  # best first; none where the cause gives no reason to try it
    fits: Callable[[View], bool] = always  # whether the run has what it changes
    changes_loss_scale: bool = False  # a loss with it and one without cannot be compared

    def explain(self, view: View, cause: Cause) -> Text:
        """Put it into words for this run."""
        why, patch = self.words(view, cause)
        model = model_of(view, cause.location)
        return Text(why, self.risk, re.sub(r"\bmodel(?=\.(parameters|modules)\(\))", lambda _: model, patch))

    def suited(self, view: View, cause: Cause) -> list[str]:
        """The values worth trying on this run, best first; none where the remedy does not apply to it."""
        return self.values(view, cause) if self.fits(view) else []

    def candidates(self, view: View, cause: Cause) -> list[RemedySpec]:
        """What to try, best first. A value may carry a place: ``relu@layers.1``."""
        found = []
        for text in self.suited(view, cause):
            value, _, place = text.partition("@")
            found.append(RemedySpec(self.code, value, place))
        return found
