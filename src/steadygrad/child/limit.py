"""Ends a script after so many optimizer steps, whatever its own loop would go on to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from torch.optim.optimizer import register_optimizer_step_post_hook

from steadygrad.records import StepRecord

#: A run in which nothing is wrong yet goes on by this factor before it is asked again.
GROWTH = 1.5


class StepsReached(SystemExit):
    """Leaves the script as ``sys.exit()`` does: ``finally`` blocks run, no traceback is shown, the exit code is 0."""

    def __init__(self) -> None:
        super().__init__(0)


class StepLimit:
    """Counts the steps of the busiest optimizer and leaves the script once there are enough.

    The exception is raised from a hook that torch calls after every optimizer step, put in place after everybody
    else's: the step is complete. A script that updates its parameters by itself has no such step; there the records of
    the observer are counted, which may come a few steps late.

    Args:
        steps: the number of steps.
        extend: go on up to this many while nothing is found; by default not at all.
        gravest: asked at ``steps``, and again after half as many more each time, for the gravest severity of what was
            found so far, "" for nothing. What is found later and is no more than a warning may pass, as where targets
            move: it has to be there the next time as well.
    """

    def __init__(self, steps: int, *, extend: int = 0, gravest: Callable[[], str] = lambda: "critical") -> None:
        self.steps, self._extend, self._gravest = steps, extend, gravest
        self.reached = False
        self._asked = self._warned = False
        self._by_optimizer: Counter[int] = Counter()
        self._by_record: Counter[int] = Counter()
        self._hook: Any = None

    def install(self) -> None:
        """Begin to count. Call it once all other hooks are in place."""
        self._hook = register_optimizer_step_post_hook(self._stepped)

    def remove(self) -> None:
        """Let the script go on for as long as it likes."""
        if self._hook is not None:
            self._hook.remove()
        self._hook = None

    def count(self, record: StepRecord) -> None:
        """Take a step's record; leaves the script if it has had its steps and uses no optimizer of torch."""
        self._by_record[record.stream] += 1
        if self._hook is not None and not self._by_optimizer:
            self._leave_if_enough(self._by_record[record.stream])

    def _stepped(self, optimizer: Any, *_: object) -> None:
        self._by_optimizer[id(optimizer)] += 1
        self._leave_if_enough(self._by_optimizer[id(optimizer)])

    def _leave_if_enough(self, steps: int) -> None:
        if steps < self.steps:
            return
        if self.steps < self._extend and not self._is_settled():
            self.steps = min(self._extend, int(self.steps * GROWTH))
            return
        self.reached = True
        raise StepsReached

    def _is_settled(self) -> bool:
        found = self._gravest()
        sure = found == "critical" or self._warned or not self._asked
        self._asked, self._warned = True, bool(found)
        return self._warned and sure
