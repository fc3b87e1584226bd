"""Clippers made of clippers: thresholds that follow a schedule, and one after another."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from steadygrad.clip.base import Clipper, ScalingClipper, WrappingClipper, ratio
from steadygrad.clip.gradients import Gradients
from steadygrad.clip.info import ClipInfo
from steadygrad.errors import InputError


class Chain(Clipper):
    """One clipper after another, each on what the one before it left.

    Where all members scale whole tensors by their L2 norms, the gradients are read once and scaled once, however many
    members there are.

    Args:
        *clippers: at least one.
        error_if_nonfinite: raise instead of reporting NaN or Inf.

    Raises:
        InputError: no clipper, or something that is none.

    Example:
        >>> from steadygrad.clip import GlobalNorm, Value
        >>> weight = torch.zeros(2, requires_grad=True)
        >>> weight.grad = torch.tensor([30.0, 0.75])
        >>> info = Chain(Value(1.0), GlobalNorm(1.0))([weight])
        >>> [round(x, 4) for x in weight.grad.tolist()]
        [0.8, 0.6]
    """

    def __init__(self, *clippers: Clipper, error_if_nonfinite: bool = False) -> None:
        if not clippers:
            raise InputError("Chain needs at least one clipper; GlobalNorm(1.0) is the usual one")
        for clipper in clippers:
            if not isinstance(clipper, Clipper):
                raise InputError(f"Chain takes clippers such as GlobalNorm(1.0), got {type(clipper).__name__}")
        asked = error_if_nonfinite or any(clipper.error_if_nonfinite for clipper in clippers)
        super().__init__(error_if_nonfinite=asked)
        self.clippers = clippers

    @property
    def foldable(self) -> bool:
        """Whether every member's effect is one factor."""
        return self._at_once and all(clipper.foldable for clipper in self.clippers)

    @property
    def _at_once(self) -> bool:
        return all(isinstance(c, ScalingClipper) and c.p == 2.0 for c in self.clippers)

    def _measure(self, gradients: Gradients, factor: float) -> ClipInfo:
        first = self.clippers[0]._measure(gradients, factor)
        stages = [first]
        if not self._at_once:
            # What the later members do is known once the earlier ones have acted: filled in by apply.
            unknown = torch.full_like(first.norm_before, math.nan)
            coefficient = unknown.to(torch.float32, copy=True)
            clipped = first.clipped.clone()
            return replace(
                first, norm_after=unknown, coefficient=coefficient, clipped=clipped, coefficients=None,
                _plan=(stages, factor),
            )  # fmt: skip
        for clipper in self.clippers[1:]:
            assert isinstance(clipper, ScalingClipper)
            stages.append(clipper.decide(gradients, stages[-1].norms_after, factor, first.non_finite))
        return _joined(stages, factor)

    def _apply(self, gradients: Gradients, info: ClipInfo) -> None:
        if self._at_once:
            super()._apply(gradients, info)
            return
        stages, factor = info._plan
        self.clippers[0]._apply(gradients, stages[0])
        for clipper in self.clippers[1:]:
            stages.append(clipper._measure(gradients, factor))
            clipper._apply(gradients, stages[-1])
            info.clipped.logical_or_(stages[-1].clipped)
        info.norm_after.copy_(stages[-1].norm_after)
        info.coefficient.copy_(ratio(stages[-1].norm_after, info.norm_before))

    def commit(self, info: ClipInfo) -> None:
        """Commit each member's own part."""
        for clipper, stage in zip(self.clippers, info._plan[0], strict=True):
            clipper.commit(stage)

    def state_dict(self) -> dict[str, Any]:
        """The members' states, by position; empty where none has any."""
        states = {str(i): clipper.state_dict() for i, clipper in enumerate(self.clippers)}
        return {i: state for i, state in states.items() if state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a stored state."""
        if state.keys() != self.state_dict().keys():
            raise InputError(
                f"This Chain has state for members {sorted(self.state_dict())}, but got {sorted(state)}; "
                f"build it of the clippers it was saved with"
            )
        for i, part in state.items():
            self.clippers[int(i)].load_state_dict(part)


def _joined(stages: list[ClipInfo], factor: float) -> ClipInfo:
    """One result of several scalings."""
    first, last = stages[0], stages[-1]
    coefficient, coefficients = first.coefficient, first.coefficients
    single = all(stage.coefficients is None for stage in stages)
    for stage in stages[1:]:
        if single:
            coefficient = coefficient * stage.coefficient
        else:
            before = torch.ones_like(first.norms, dtype=torch.float32) * _of(coefficient, coefficients)
            coefficients = before * _of(stage.coefficient, stage.coefficients)
    return replace(
        first,
        norm_after=last.norm_after,
        coefficient=coefficient if single else ratio(last.norm_after, first.norm_before),
        coefficients=None if single else coefficients,
        clipped=torch.stack([stage.clipped for stage in stages]).any(),
        _plan=(stages, factor),
    )


def _of(coefficient: Tensor, coefficients: Tensor | None) -> Tensor:
    return coefficient if coefficients is None else coefficients


Schedule = Callable[[Any], float] | Mapping[int, float]


class Scheduled(WrappingClipper):
    """A clipper whose threshold is multiplied by a factor that changes during training: loose early, strict late.

    Args:
        clipper: any clipper; its own threshold is the one at a factor of 1.
        schedule: a callable that gives the factor for the number of completed steps (0 at the first), or a mapping from
            the first step of each phase to its factor: ``{0: 5.0, 1000: 1.0}``.
        by: ``"step"``, or ``"lr"``: the schedule is given the optimizer's current learning rate (its first group's)
            in place of the step.
        optimizer: the optimizer to read the rate of; needed with ``by="lr"``.
        error_if_nonfinite: raise instead of reporting NaN or Inf.

    Steps that were not finite do not count.

    Raises:
        InputError: a schedule that is neither, phases that do not begin at 0, a factor below 0 or NaN, ``by="lr"``
            without an optimizer.

    Example:
        >>> from steadygrad.clip import GlobalNorm
        >>> clipper, weight = Scheduled(GlobalNorm(1.0), {0: 5.0, 2: 1.0}), torch.zeros(1, requires_grad=True)
        >>> for _ in range(3):
        ...     weight.grad = torch.full((1,), 10.0)
        ...     info = clipper([weight])
        ...     print(round(float(weight.grad), 3))
        5.0
        5.0
        1.0
    """

    def __init__(
        self,
        clipper: Clipper,
        schedule: Schedule,
        *,
        by: Literal["step", "lr"] = "step",
        optimizer: torch.optim.Optimizer | None = None,
        error_if_nonfinite: bool = False,
    ) -> None:
        super().__init__(clipper, error_if_nonfinite=error_if_nonfinite)
        if by not in ("step", "lr"):
            raise InputError(f"by must be 'step' or 'lr', got {by!r}; a schedule by phase is a mapping from steps")
        if (by == "lr") != (optimizer is not None):
            raise InputError(f"by='lr' needs an optimizer and by='step' takes none, got by={by!r}, {optimizer=}")
        self._schedule = _phases(schedule) if isinstance(schedule, Mapping) else schedule
        if not callable(self._schedule):
            raise InputError(f"schedule must be a callable or a mapping from steps to factors, got {schedule!r}")
        self._optimizer = optimizer
        self._step = 0
        self._last: _Later | None = None

    @property
    def step(self) -> int:
        """The number of completed steps. Waits for the last one to be decided."""
        if self._last is not None:
            self._step += not self._last.read()
            self._last = None
        return self._step

    def factor(self) -> float:
        """What the threshold is multiplied by at the next step."""
        at = self.step if self._optimizer is None else float(self._optimizer.param_groups[0]["lr"])
        found = float(self._schedule(at))
        if not found >= 0:
            raise InputError(f"A schedule of thresholds gives factors of 0 or more, but this one gave {found} at {at}")
        return found

    def _measure(self, gradients: Gradients, factor: float) -> ClipInfo:
        return self.clipper._measure(gradients, factor * self.factor())

    def commit(self, info: ClipInfo) -> None:
        """Count the step, unless it was not finite, and commit the clipper inside."""
        self.clipper.commit(info)
        if self._optimizer is None:
            self._step, self._last = self.step, _Later(info.non_finite)

    def state_dict(self) -> dict[str, Any]:
        """The step, and the state of the clipper inside."""
        return {"step": self.step, "clipper": self.clipper.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a stored state."""
        if state.keys() != {"step", "clipper"}:
            raise InputError(f"The state of Scheduled has 'step' and 'clipper', but this one has {sorted(state)}")
        self.clipper.load_state_dict(state["clipper"])
        self._step, self._last = int(state["step"]), None


class _Later:
    """A flag on the device, copied to the host behind the work that is queued, and waited for only when it is read."""

    def __init__(self, flag: Tensor) -> None:
        self._done: torch.cuda.Event | None = None
        if flag.device.type == "cuda":
            self._copy = torch.empty(flag.shape, dtype=flag.dtype, device="cpu", pin_memory=True)
            self._copy.copy_(flag, non_blocking=True)
            self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._done.record()
        else:
            self._copy = flag

    def read(self) -> bool:
        if self._done is not None:
            self._done.synchronize()
        return bool(self._copy.cpu().numpy())


def _phases(phases: Mapping[int, float]) -> Callable[[Any], float]:
    starts = sorted(phases)
    if not starts or starts[0] != 0:
        raise InputError(f"Phases are a mapping from their first step, the first of which is 0; got {dict(phases)}")
    return lambda at: phases[max(start for start in starts if start <= at)]
