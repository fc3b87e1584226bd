"""What a search may cost, and who is told how it goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from steadygrad.trials.job import Attempt, Job


class Display(Protocol):
    """Shows how a search goes."""

    def say(self, text: str) -> None:
        """A phase begins."""

    def added(self, jobs: Sequence[Job]) -> None:
        """These jobs are going to run."""

    def progress(self, job: Job, steps: int, loss: float) -> None:
        """A job is so far."""

    def over(self, job: Job, attempt: Attempt, /) -> None:
        """A job is over."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a search may cost.

    Args:
        steps: of every trial; fewer where the script ends before.
        seeds: repetitions of the leaders, the first included.
        budget: seconds for everything; by default ten times the script's own time for these steps.
    """

    steps: int = 300
    seeds: int = 3
    jobs: int = 2
    budget: float | None = None
