"""The time of a search: how much there is, what a trial takes, and how many more there is time for."""

from __future__ import annotations

import math
import time
from statistics import median

from steadygrad.trials.settings import Settings

#: The whole search takes no more than this many times the script's own time, unless a budget is given ...
TIMES = 10.0
#: ... or this many seconds, which even a script of a moment may cost.
AT_LEAST = 15.0
#: Of a budget, the control takes no more than this share.
CONTROL_SHARE = 0.2


class Clock:
    """Runs from when it is made.

    Args:
        settings: the budget, the seeds, and how many trials run at a time.
        repeated: how many scripts are run again with each further seed, when all candidates have been tried.

    Example:
        >>> clock = Clock(Settings(seeds=3, jobs=2, budget=100.0), repeated=4)
        >>> clock.alone = 1.0
        >>> clock.lasted(2.0)
        >>> clock.trial, clock.reserve, clock.affordable(least=5)
        (2.0, 8.0, 91)
    """

    def __init__(self, settings: Settings, *, repeated: int) -> None:
        self._started = time.monotonic()
        self._settings = settings
        self._repeats = (settings.seeds - 1) * repeated
        self._lasted: list[float] = []
        #: Seconds that the script itself takes for the steps of a trial, without observation.
        self.plain = 0.0
        #: Seconds of the control, which had the machine for itself.
        self.alone = 0.0

    def lasted(self, seconds: float) -> None:
        """A trial ran to its end, beside others."""
        self._lasted.append(seconds)

    @property
    def trial(self) -> float:
        """What a trial takes: as long as the control at first, longer where trials are in each other's way."""
        return max(self.alone, median(self._lasted) if self._lasted else 0.0)

    @property
    def seconds(self) -> float:
        """Since the search began."""
        return time.monotonic() - self._started

    @property
    def control_deadline(self) -> float:
        """When the control has to end, by ``time.monotonic()``."""
        return self._started + (self._settings.budget or math.inf) * CONTROL_SHARE

    @property
    def deadline(self) -> float:
        """When the search has to end, by ``time.monotonic()``."""
        return self._started + (self._settings.budget or max(AT_LEAST, TIMES * self.plain))

    @property
    def left(self) -> float:
        """Seconds until then; negative afterwards."""
        return self.deadline - time.monotonic()

    @property
    def reserve(self) -> float:
        """Seconds that the repetitions will take."""
        return self.trial * self._repeats / self._settings.jobs

    def affordable(self, *, least: int) -> int:
        """How many candidates there is time for, when the best are to be repeated as well; so many in any case."""
        runs = self.left * self._settings.jobs / max(0.1, self.trial) - self._repeats
        return max(least, int(runs))
