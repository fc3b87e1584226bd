"""What a schedule drives: the learning rate, as a torch scheduler, or any other number, such as a clip threshold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import Optimizer

from steadygrad.errors import InputError
from steadygrad.schedules.base import Schedule
from steadygrad.schedules.text import parse

Scheduled = Schedule | str


def _schedule(given: object) -> Schedule:
    if isinstance(given, str):
        return parse(given)
    if not isinstance(given, Schedule):
        raise InputError(
            f"a schedule is an object of steadygrad.schedules or its text, such as 'warmup(200) > cosine(800)', "
            f"not {type(given).__name__}"
        )
    return given


class ScheduledLR(LRScheduler):
    """Any schedule as a real ``torch.optim.lr_scheduler.LRScheduler``: ``lr = initial_lr * schedule(last_epoch)``.

    The rate is computed from the step count alone, never from the rate before. So it may be built before or after
    ``optimizer.load_state_dict``, resuming needs one integer, groups may be added on the way, and a second scheduler
    on the same optimizer replaces the first instead of multiplying with it. Call ``step()`` after each
    ``optimizer.step()``. Lightning (``"interval": "step"``) and the Hugging Face ``Trainer``
    (``optimizers=(optimizer, scheduler)``) take it as they take torch's own.

    Args:
        optimizer: its groups' ``initial_lr``, or else ``lr``, are the base rates. Tensor rates are supported.
        schedule: for all groups, or one for each; a schedule may be given as text.
        last_epoch: steps already made, less one; as in torch, only with an optimizer that has been scheduled before.

    Raises:
        InputError: no schedule, or their number is not that of the groups.

    Example:
        >>> import torch
        >>> from steadygrad.schedules import Cosine, ScheduledLR, Warmup
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
        >>> scheduler = ScheduledLR(optimizer, Warmup(4) >> Cosine(6))
        >>> rates = []
        >>> for _ in range(10):
        ...     rates += scheduler.get_last_lr()
        ...     optimizer.step()
        ...     scheduler.step()
        >>> [round(rate, 3) for rate in rates]
        [0.1, 0.2, 0.3, 0.4, 0.4, 0.373, 0.3, 0.2, 0.1, 0.027]
        >>> scheduler.state_dict()
        {'last_epoch': 10}
    """

    def __init__(
        self, optimizer: Optimizer, schedule: Scheduled | Iterable[Scheduled], *, last_epoch: int = -1
    ) -> None:
        several = isinstance(schedule, Iterable) and not isinstance(schedule, Schedule | str)
        given: list[object] = list(schedule) if several else [schedule]  # type: ignore[arg-type]
        self.schedules = [_schedule(each) for each in given]
        self._shared = not several
        if not isinstance(optimizer, Optimizer):
            raise InputError(f"ScheduledLR schedules a torch.optim.Optimizer, not {type(optimizer).__name__}")
        if several and len(self.schedules) != len(optimizer.param_groups):
            raise InputError(
                f"give one schedule for all groups or one for each: {len(self.schedules)} schedules for "
                f"{len(optimizer.param_groups)} groups"
            )
        super().__init__(optimizer, last_epoch)

    @property
    def base_lrs(self) -> list[float | Tensor]:
        """Rate of each group at factor 1: ``initial_lr``, which groups added later get from their ``lr``."""
        for group in self.optimizer.param_groups:
            rate = group["lr"]
            group.setdefault("initial_lr", rate.clone() if isinstance(rate, Tensor) else rate)
        return [group["initial_lr"] for group in self.optimizer.param_groups]

    @base_lrs.setter
    def base_lrs(self, rates: Sequence[float | Tensor]) -> None:
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["initial_lr"] = rate

    def get_lr(self) -> list[float | Tensor]:
        """Rate of each group at ``last_epoch``."""
        bases, t = self.base_lrs, max(0, self.last_epoch)
        schedules = self.schedules * len(bases) if self._shared else self.schedules
        if len(schedules) < len(bases):
            raise InputError(
                f"the optimizer has {len(bases)} groups by now, and there are schedules for {len(schedules)}; "
                f"append one to `schedules`"
            )
        return [base * schedule(t) for base, schedule in zip(bases, schedules, strict=False)]

    _get_closed_form_lr = get_lr

    def state_dict(self) -> dict[str, Any]:
        """The one integer: how many steps were made. The schedule itself is code, and not stored."""
        return {"last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state, also one of torch's own schedulers, and set the rates that belong to it.

        Raises:
            InputError: there is no count of steps in it.
        """
        made = state_dict.get("last_epoch")
        if not isinstance(made, int) or made < 0:
            raise InputError(f"the state of a schedule is {{'last_epoch': steps made}}, not {state_dict!r:.80}")
        self.last_epoch = made
        self._step_count = made + 1
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        self._last_lr = [
            group["lr"].clone() if isinstance(group["lr"], Tensor) else group["lr"]
            for group in self.optimizer.param_groups
        ]


_INDEXED = re.compile(r"(\w+)\[(\d+)\]")


class Driver:
    """Drives one number by a schedule: ``value = base * schedule(steps made)``, from before the first step on.

    In an optimizer the number is a key of every parameter group (``"weight_decay"``, ``"momentum"``, ``"betas[0]"``),
    each group with its own base. Anywhere else it is an attribute, such as a clipper's ``max_norm``. For the learning
    rate use :class:`ScheduledLR`, which trainers know.

    Args:
        target: an optimizer, or any object.
        name: the key or attribute; ``name[i]`` for an item of a tuple.
        schedule: or its text.

    Raises:
        InputError: the target has no such number.

    Example:
        >>> import torch
        >>> from steadygrad.schedules import Driver, Linear
        >>> optimizer = torch.optim.AdamW([torch.zeros(1)], weight_decay=0.1)
        >>> driver = Driver(optimizer, "weight_decay", Linear(10, start=0, end=1))
        >>> for _ in range(5):
        ...     optimizer.step()
        ...     driver.step()
        >>> optimizer.param_groups[0]["weight_decay"], driver.state_dict()
        (0.05, {'last_step': 5})
    """

    def __init__(self, target: Any, name: str, schedule: Scheduled) -> None:
        self.target, self.name, self.schedule = target, name, _schedule(schedule)
        self.last_step = 0
        indexed = _INDEXED.fullmatch(name)
        self._key: str = indexed[1] if indexed else name
        self._index = int(indexed[2]) if indexed else None
        self._bases: dict[int, float] = {}
        self._drive()

    @property
    def values(self) -> list[float]:
        """The number as it is now, of each parameter group; of another object, a single one."""
        return [self._get(holder) for holder in self._holders()]

    def step(self) -> None:
        """Count a step and set the number for the next."""
        self.last_step += 1
        self._drive()

    def state_dict(self) -> dict[str, Any]:
        """How many steps were made, and nothing else."""
        return {"last_step": self.last_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state, and set the number that belongs to it."""
        self.last_step = int(state_dict["last_step"])
        self._drive()

    def _holders(self) -> list[Any]:
        return list(self.target.param_groups) if isinstance(self.target, Optimizer) else [self.target]

    def _base(self, position: int, holder: Any) -> float:
        """Kept in the group, as ``initial_lr`` is, so that a resumed optimizer brings it along."""
        if isinstance(holder, dict):
            return float(holder.setdefault(f"initial_{self.name}", self._get(holder)))
        return self._bases.setdefault(position, self._get(holder))

    def _get(self, holder: Any) -> float:
        try:
            held = holder[self._key] if isinstance(holder, dict) else getattr(holder, self._key)
            value = held if self._index is None else held[self._index]
            return float(value)
        except (KeyError, AttributeError, TypeError, ValueError, IndexError):
            raise InputError(
                f"{type(self.target).__name__} has no number called {self.name!r} to drive; it has "
                f"{', '.join(_numbers(holder)) or 'none'}"
            ) from None

    def _set(self, holder: Any, value: float) -> None:
        if self._index is not None:
            held = list(holder[self._key] if isinstance(holder, dict) else getattr(holder, self._key))
            held[self._index] = value
            whole: Any = tuple(held)
        else:
            whole = value
        if isinstance(holder, dict):
            holder[self._key] = whole
        else:
            setattr(holder, self._key, whole)

    def _drive(self) -> None:
        factor = self.schedule(self.last_step)
        for position, holder in enumerate(self._holders()):
            self._set(holder, self._base(position, holder) * factor)


def _numbers(holder: Any) -> Iterable[str]:
    held = holder if isinstance(holder, dict) else vars(holder) if hasattr(holder, "__dict__") else {}
    return [str(k) for k, v in held.items() if isinstance(v, int | float) and not isinstance(v, bool)]
