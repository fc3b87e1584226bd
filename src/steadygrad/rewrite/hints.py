"""What a recorded run knows about its script, as far as a rewrite can use it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from steadygrad.history import History
from steadygrad.records import Json, OptimizerInfo, ParameterInfo, SiteInfo


@dataclass(frozen=True)
class Hints:
    """Lines are given as ``file:line``, with the file's base name, as findings have them. All of it may be missing.

    Attributes:
        argv: the script's own arguments: an option that was given there does not take its default.
        steps: optimizer steps of the run.
        optimizers: as built, in the order in which they were seen.
        parameters: the parameter table; ``optimizer`` is None for a tensor that no optimizer holds.
        sites: the modules that ran, in that order.
        sources: ``optimizer``, ``backward`` and ``clip``: the lines where they were seen.
        losses: what the loss functions were fed, one entry by call.
        origin: where the first non-finite value came from, with the operation.
        batch: statistics of the first batches: ``input_mean``, ``input_std`` and so on.
    """

    argv: tuple[str, ...] = ()
    steps: int = 0
    optimizers: tuple[OptimizerInfo, ...] = ()
    parameters: tuple[ParameterInfo, ...] = ()
    sites: tuple[SiteInfo, ...] = ()
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    losses: tuple[Json, ...] = ()
    origin: Json = field(default_factory=dict)
    batch: Mapping[str, float] = field(default_factory=dict)

    def moved(self, path: str, new_line: Callable[[int], int]) -> Hints:
        """The same hints after lines of a file have moved."""

        def move(place: str) -> str:
            name, line = split_place(place)
            return f"{name}:{new_line(line)}" if line and name == os.path.basename(path) else place

        sources = {what: tuple(move(place) for place in places) for what, places in self.sources.items()}
        origin = {**self.origin, "source": move(str(self.origin.get("source", "")))} if self.origin else {}
        losses = tuple({**loss, "site": move(str(loss.get("site", "")))} for loss in self.losses)
        return replace(self, sources=sources, origin=origin, losses=losses)


def split_place(place: str) -> tuple[str, int]:
    """``train.py:12`` in two parts; the line is 0 for a place that is none."""
    name, _, line = place.rpartition(":")
    return (os.path.basename(name), int(line)) if name and line.isdigit() else (place, 0)


def hints_of(history: History, *, argv: Sequence[str] = ()) -> Hints:
    """Collect what a run's history knows; ``argv`` is kept in the run's meta data, not in its history.

    >>> hints_of(History(), argv=["--lr", "0.1"]).argv
    ('--lr', '0.1')
    """
    sources: dict[str, tuple[str, ...]] = {}
    for fact in history.facts("source"):
        what, place = str(fact.data["what"]), str(fact.data["source"])
        sources[what] = (*sources.get(what, ()), place)
    origins = [fact.data for fact in history.facts("origin") if fact.data.get("found")]
    return Hints(
        argv=tuple(argv),
        steps=history.steps,
        optimizers=tuple(history.optimizers),
        parameters=tuple(history.parameters),
        sites=tuple(history.sites),
        sources=sources,
        losses=tuple(fact.data for fact in history.facts("loss-call")),
        origin=origins[0] if origins else {},
        batch=_first_batch(history),
    )


def _first_batch(history: History) -> dict[str, float]:
    """Batch statistics of the first sampled step that has them."""
    samples = history.main.samples.all() if history.main is not None else []
    return next((dict(detail.batch) for _, detail in samples if "input_std" in detail.batch), {})
