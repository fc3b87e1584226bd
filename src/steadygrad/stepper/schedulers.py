"""Learning-rate schedulers, stepped once for every step that was taken, and for no other."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from steadygrad.errors import InputError


class Schedulers:
    """The schedulers of a stepper.

    Args:
        schedulers: objects with ``step()``, ``state_dict()`` and ``load_state_dict()``.
        optimizers: whose groups they change.

    Raises:
        InputError: one of them needs a metric, or cannot step.
    """

    def __init__(self, schedulers: Sequence[Any], optimizers: Sequence[Optimizer]) -> None:
        for scheduler in schedulers:
            if isinstance(scheduler, ReduceLROnPlateau):
                raise InputError("ReduceLROnPlateau steps on a metric: step it yourself, after your evaluation")
            if not callable(getattr(scheduler, "step", None)):
                raise InputError(f"scheduler must have a step() method, which {type(scheduler).__name__} has not")
        self.members = list(schedulers)
        self._optimizers = optimizers
        self._before: list[Any] | None = None

    def step(self) -> None:
        """One step was taken."""
        for scheduler in self.members:
            scheduler.step()

    def step_provisionally(self) -> None:
        """One step was probably taken: what the device decides about it may have to be undone."""
        if self.members:
            self._before = [copy.deepcopy(s.state_dict()) for s in self.members]
            self._options = [_options(group) for o in self._optimizers for group in o.param_groups]
            self.step()

    def settle(self, *, skipped: bool) -> None:
        """The device's decision is known."""
        before, self._before = self._before, None
        if not skipped or before is None:
            return
        for scheduler, state in zip(self.members, before, strict=True):
            scheduler.load_state_dict(state)
        groups = [group for o in self._optimizers for group in o.param_groups]
        for group, options in zip(groups, self._options, strict=True):
            group.update(options)


def _options(group: dict[str, Any]) -> dict[str, Any]:
    return {name: copy.deepcopy(value) for name, value in group.items() if name != "params"}
