"""What the report says about trials, as plain values that the template only has to place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from steadygrad.trials.job import title
from steadygrad.trials.judge import Standing
from steadygrad.trials.result import FixResult
from steadygrad.trials.words import cost, gain, headline, loss_of, outcome, patch_state, state

__all__ = ["Row", "cost", "diff_lines", "gain", "headline", "outcome", "patch_state", "rows", "title"]

VERDICTS = {
    "fixed": "A fix was found",
    "nothing-to-fix": "Nothing to fix",
    "no-fix-found": "No fix was found",
    "unknown": "Not known",
}
_TONES = {"good": "healthy", "fair": "warning", "bad": "critical", "nothing": ""}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table of trials."""

    name: str
    why: str
    cause: str
    loss: str
    gain: str
    seeds: int
    state: str
    tone: str
    chosen: bool = False
    works: bool = False


def rows(result: FixResult) -> Iterator[Row]:
    """The control, then every candidate, best first."""
    if result.control:
        text, kind = state(result.control[0])
        yield Row(
            "the script as it is", "", "", loss_of(result.control[0]), "", len(result.control), text, _TONES[kind]
        )
    for standing in result.standings:
        yield _row(result, standing)


def _row(result: FixResult, standing: Standing) -> Row:
    text, kind = state(standing.first)
    return Row(
        name=title(standing.candidate),
        why=standing.candidate.why,
        cause=standing.candidate.cause if standing.candidate.kind == "remedy" else standing.candidate.kind,
        loss=loss_of(standing.first),
        gain=gain(result, standing) if standing.works else "",
        seeds=len(standing.results),
        state=text,
        tone=_TONES[kind],
        chosen=result.is_recommended(standing),
        works=standing.works,
    )


def diff_lines(diff: str) -> list[tuple[str, str]]:
    """A unified diff by line, each with its class: added, removed, place or nothing."""
    kinds = {"+": "added", "-": "removed", "@": "place"}
    return [
        ("place" if line.startswith(("+++", "---")) else kinds.get(line[:1], ""), line) for line in diff.splitlines()
    ]
