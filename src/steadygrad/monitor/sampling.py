"""When to look closely: a fixed schedule, so that the same script is sampled at the same steps every time."""

from __future__ import annotations

import sys
from bisect import bisect_right

#: Structure (graph, recurrence, loss inputs) is looked at on the first sampled step from each of these on.
STRUCTURE_STEPS = (1, 2, 3, 10, 30, 100, 300, 1000, 3000, 10_000, sys.maxsize)
EARLY_STEPS = frozenset({1, 2, 3, 5})
#: Until then modules are probed at every sampled step, later at every other one: they cost as much as all the rest.
PROBED_UNTIL = 60
#: A long run is sampled again after ``every`` (10 at most) of these parts of the run so far, a quarter by default: the
#: cost of samples is logarithmic in the steps.
PARTS = 40
#: Steps observed in full after an unusual one.
CLOSE_UPS = 3


class Schedule:
    """Counts iterations and says which are observed in detail.

    Every ``every`` of them at first; in a long run, by default, the next after a quarter of the run so far. ``probed``
    ones are those of them that look into modules as well. A ``close_up`` is observed in full because a step before it
    was unusual.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        self._next_sample = 1
        self._due = False
        self._looks = 0
        self._samples = 0
        self._close_until = 0
        self.iteration = 0
        self.sampled = self.structural = self.probed = self.close_up = False
        self.advance()

    def advance(self) -> None:
        """Begin the next iteration."""
        n = self.iteration = self.iteration + 1
        self.sampled = n in EARLY_STEPS or n >= self._next_sample
        if n >= self._next_sample:
            self._next_sample = n + max(self._every, n * min(self._every, 10) // PARTS) - (1 if n == 1 else 0)
        self.structural = self.sampled and n >= STRUCTURE_STEPS[self._looks]
        if self.structural:
            self._looks = bisect_right(STRUCTURE_STEPS, n)
        if self.sampled:
            self._samples += 1
        self.probed = self.sampled and (n <= PROBED_UNTIL or self._samples % 2 == 0 or self.structural)
        self.close_up = n <= self._close_until and not self.sampled
        self.sampled |= self.close_up
        self.probed |= self.close_up

    def look_closely(self) -> None:
        """This step is unusual: observe the next ones in full."""
        self._close_until = self.iteration + CLOSE_UPS

    def want_structure(self) -> None:
        """Something new has been met: look at the structure of the next sampled backward."""
        self._due = True

    def take_structure(self) -> bool:
        """Whether structure is to be looked at now."""
        due, self._due = self.structural or self._due, False
        return due

    def pass_over(self) -> bool:
        """Begin the next iteration, if neither it nor the one after it is observed in detail; say whether."""
        n = self.iteration + 1
        if self._is_looked_at(n) or self._is_looked_at(n + 1):
            return False
        self.iteration = n
        return True

    @property
    def next_is_sampled(self) -> bool:
        """Whether this iteration or the next one is observed in detail."""
        return self.sampled or self._is_looked_at(self.iteration + 1)

    def _is_looked_at(self, n: int) -> bool:
        return n in EARLY_STEPS or n >= self._next_sample or n <= self._close_until
