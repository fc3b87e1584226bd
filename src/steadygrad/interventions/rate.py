"""The learning rate: lower, higher, warmed up, decaying, held, or replaced by an adaptive rule.

The script's own rate is multiplied right before the update and put back after it, so schedulers see their own values.
A script that updates its weights itself has no rate to be found; its gradients are scaled instead, which is the same
for plain gradient descent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer
from torch.utils.weak import WeakTensorKeyDictionary

from steadygrad.interventions.report import Report
from steadygrad.interventions.stage import Stage
from steadygrad.records import RemedySpec
from steadygrad.values import Rate, positive, rate

Group = dict[str, Any]
#: Rules that have a scale of their own already.
ADAPTIVE = (torch.optim.Adam, torch.optim.AdamW, torch.optim.NAdam, torch.optim.RAdam, torch.optim.Adamax)


class HeldBack:
    """Settings of parameter groups changed for one step and put back after it."""

    def __init__(self, stage: Stage, change: Callable[[Optimizer, Group, int], dict[str, Any]]) -> None:
        self._change = change
        self._saved: list[tuple[Group, dict[str, Any]]] = []
        self._steps: WeakKeyDictionary[Optimizer, int] = WeakKeyDictionary()
        stage.before_step(self.begin)
        stage.after_step(self.end)
        stage.at_undo(self.restore)

    def begin(self, optimizer: Optimizer) -> None:
        """Change the settings."""
        self.restore()
        step = self._steps[optimizer] = self._steps.get(optimizer, 0) + 1
        for group in optimizer.param_groups:
            new = self._change(optimizer, group, step)
            self._saved.append((group, {key: group[key] for key in new}))
            group.update(new)

    def end(self, optimizer: Optimizer) -> None:
        """Put them back."""
        self.restore()

    def restore(self) -> None:
        """Put back what is still changed: after a step that raised, this is late."""
        while self._saved:
            group, old = self._saved.pop()
            group.update(old)


class Base:
    """The rate a script asked for before any schedule: of each optimizer's first group, when first seen.

    Of a schedule with a peak of its own (OneCycleLR), that peak.
    """

    def __init__(self) -> None:
        self._rates: WeakKeyDictionary[Optimizer, float] = WeakKeyDictionary()

    def of(self, optimizer: Optimizer) -> float:
        """The rate of the optimizer's first group."""
        if optimizer not in self._rates:
            group: Group = optimizer.param_groups[0]
            first: Any = group.get("max_lr", group.get("initial_lr", group["lr"]))
            self._rates[optimizer] = float(first)
        return self._rates[optimizer]


def _scaled(stage: Stage, report: Report, factor: Callable[[float, int], float], words: str) -> None:
    """Multiply every rate by ``factor(base rate, step)``, and the gradients of scripts without an optimizer."""
    base = Base()
    passes = [0]

    def change(optimizer: Optimizer, group: Group, step: int) -> dict[str, Any]:
        own = base.of(optimizer)
        by = factor(own, step)
        report.applied(words.format(own=f"{own:.3g}", new=f"{own * by:.3g}", name=type(optimizer).__name__))
        return {"lr": group["lr"] * by} if by != 1.0 else {}

    def seed() -> float:
        if not stage.by_hand:
            return 1.0
        passes[0] += 1
        report.applied("the gradients are scaled, since the script updates its weights itself")
        return factor(0.0, passes[0])

    HeldBack(stage, change)
    stage.seed(seed)


def _other_rate(default: str) -> Callable[[Stage, RemedySpec, Report], None]:
    def apply(stage: Stage, spec: RemedySpec, report: Report) -> None:
        wanted: Rate = rate(spec, default)
        _scaled(stage, report, lambda base, step: wanted.factor(base), "lr {own} -> {new} on {name}")

    return apply


lower_lr, raise_lr = _other_rate("/10"), _other_rate("x10")


def warmup(stage: Stage, spec: RemedySpec, report: Report) -> None:
    """A linear ramp up to the script's own rate."""
    steps = positive(spec, 100)
    _scaled(stage, report, lambda base, t: min(1.0, t / steps), f"lr ramps up over {steps:g} steps to {{own}}")


def decay_schedule(stage: Stage, spec: RemedySpec, report: Report) -> None:
    """Half a cosine down to a hundredth of the script's own rate."""
    steps = positive(spec, 1000)

    def factor(base: float, t: int) -> float:
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (t - 1) / steps)))

    _scaled(stage, report, factor, f"lr falls from {{own}} along a cosine of {steps:g} steps")


def constant_lr(stage: Stage, spec: RemedySpec, report: Report) -> None:
    """The rate each group was built with, whatever a schedule makes of it."""
    first: dict[int, Any] = {}

    def change(optimizer: Optimizer, group: Group, step: int) -> dict[str, Any]:
        own: Any = first.setdefault(id(group), group.get("initial_lr", group["lr"]))
        if group["lr"] == own:
            return {}
        report.applied(f"the schedule is left out: lr stays {float(own):.3g}")
        return {"lr": own}

    HeldBack(stage, change)


def line_search(stage: Stage, spec: RemedySpec, report: Report) -> None:
    """A step length that satisfies the strong Wolfe conditions, where LBFGS would take a fixed one."""

    def change(optimizer: Optimizer, group: Group, step: int) -> dict[str, Any]:
        if not isinstance(optimizer, torch.optim.LBFGS) or group["line_search_fn"]:
            return {}
        report.applied("LBFGS searches along its direction for the length of its step")
        return {"line_search_fn": "strong_wolfe"}

    HeldBack(stage, change)


@dataclass
class Moments:
    """Adam's running averages of one tensor's gradient."""

    mean: Tensor
    square: Tensor
    step: int = 0


class Adaptive:
    """Adam's update under the script's own optimizer object: its groups, its schedule, its weight decay.

    Kingma and Ba (2015), algorithm 1, with beta 0.9 and 0.999.
    """

    def __init__(self, stage: Stage, report: Report, lr: float) -> None:
        self._stage, self._report, self._lr = stage, report, lr
        self._base = Base()
        self._moments: MutableMapping[Tensor, Moments] = WeakTensorKeyDictionary()
        self._hidden: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def update(self, optimizer: Optimizer) -> None:
        """Update by Adam, and hide the gradients from the script's own rule."""
        if self._stage.closure:
            return self._report.refused("the optimizer's step is given a closure")
        if isinstance(optimizer, ADAPTIVE):
            return self._report.refused(f"{type(optimizer).__name__} is adaptive already")
        self._report.applied(f"{type(optimizer).__name__} updates as Adam with lr {self._lr:g} does")
        base = self._base.of(optimizer)
        for group in optimizer.param_groups:
            lr = self._lr * (group["lr"] / base if base > 0 else 1.0)
            for parameter in group["params"]:
                grad = parameter.grad
                if grad is not None:
                    self._adam(parameter, grad.to_dense(), lr, group.get("weight_decay", 0.0))
                    self._hidden.append((parameter, grad))
                    parameter.grad = None
        return None

    def _adam(self, parameter: Tensor, grad: Tensor, lr: float, decay: float) -> None:
        if decay:
            grad = grad.add(parameter, alpha=decay)
        state = self._moments.get(parameter)
        if state is None:
            state = self._moments[parameter] = Moments(torch.zeros_like(parameter), torch.zeros_like(parameter))
        state.step += 1
        state.mean.lerp_(grad, 1 - 0.9)
        state.square.mul_(0.999).addcmul_(grad, grad, value=1 - 0.999)
        size = (state.square / (1 - 0.999**state.step)).sqrt_().add_(1e-8)
        parameter.addcdiv_(state.mean, size, value=-lr / (1 - 0.9**state.step))

    def reveal(self, optimizer: Optimizer) -> None:
        """The gradients are there again for whoever logs them."""
        while self._hidden:
            parameter, grad = self._hidden.pop()
            parameter.grad = grad


def adaptive_optimizer(stage: Stage, spec: RemedySpec, report: Report) -> None:
    """Adam's update rule in place of plain gradient descent's."""
    rule = Adaptive(stage, report, positive(spec, 1e-3))
    stage.at_step(rule.update)
    stage.after_step(rule.reveal)
