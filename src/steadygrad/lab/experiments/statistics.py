"""Mean and standard deviation of the gradient, reported at every step of a run that goes wrong."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from steadygrad import init
from steadygrad.lab import pictures
from steadygrad.lab.data import generator, teacher
from steadygrad.lab.experiment import Arms, Condition, Experiment, Run
from steadygrad.lab.training import minibatches, mlp, steps, train
from steadygrad.schedules import Constant, Geometric, Schedule

#: A quantity gives the alarm when it is this many times its smallest running mean so far.
ALARM = 5.0
#: An alarm this many steps before that of the loss is early.
EARLY = 5


def _statistics(seed: int, scale: float) -> Arms:
    """A rate that grows from 0.01 to 3, so that the run diverges; and one that stays at 0.01."""
    count = steps(200, scale)
    rising = Geometric(count, start=1 / 300, end=1.0)
    return {
        "rising rate": _watched(seed, count, rising),
        "steady rate": _watched(seed, count, Constant(value=1 / 300)),
    }


def _watched(seed: int, count: int, schedule: Schedule) -> Run:
    model = mlp([16, 32, 32, 1], nn.ReLU)
    init.auto_(model, generator=generator(seed))
    mean: list[float] = []
    spread: list[float] = []

    def watch(_: int, watched: nn.Module) -> None:
        every: Tensor = torch.cat([p.grad.flatten() for p in watched.parameters() if p.grad is not None]).double()
        mean.append(abs(float(every.mean())))
        spread.append(float(every.std()))

    run = train(model, minibatches(teacher(seed), 32, seed), count, lr=3.0, schedule=schedule, watch=watch)
    for name, values in (("gradient mean", mean), ("gradient std", spread)):
        run.curves[name] = values + [math.nan] * (count - len(values))
    return run


def alarm(values: list[float], window: int = 5) -> int:
    """The first step whose value is over :data:`ALARM` times the smallest running mean before it; the end if none is."""
    means = pictures.smooth(values, window)
    for step in range(window, len(values)):
        if not values[step] <= ALARM * min(means[window - 1 : step], default=math.inf):
            return step
    return len(values)


def _ahead(curve: str) -> Condition:
    """Early means EARLY steps or more before the loss, and no alarm in the steady run."""

    def effect(arms: Arms) -> float:
        rising, steady = arms["rising rate"].curves, arms["steady rate"].curves
        quiet = alarm(steady[curve]) == len(steady[curve])
        return float(quiet and alarm(rising["loss"]) - alarm(rising[curve]) >= EARLY)

    what = "seeds with an early alarm and no false one"
    return Condition(f"it is the {curve} that is watched", what, effect, 0.5, "share")


STATISTICS = Experiment(
    "gradient-statistics",
    "Mean and standard deviation of the gradient",
    "Reported regularly, the gradient's mean and standard deviation warn of a divergence 5 steps or more before the loss does.",
    "tutorial on decay, clipping and BatchNorm",
    _statistics,
    tuple(_ahead(curve) for curve in ("gradient std", "gradient mean")),
    lambda runs: [
        pictures.curves(runs, curve=curve, name=curve.replace(" ", "-"), title=curve.capitalize(), y=y, caption=caption)
        for curve, y, caption in (
            ("loss", "loss", "The rate grows from 0.01 to 3 until the run diverges."),
            ("gradient std", "standard deviation", "Over all entries of all gradients."),
            ("gradient mean", "|mean|", "Over all entries of all gradients."),
        )
    ],
    f"The alarm is {ALARM:g} times the smallest running mean so far. The standard deviation jumps with the loss, in the same batch; the mean crosses 0 and gives the alarm at nothing.",
)  # fmt: skip

EXPERIMENTS: tuple[Experiment, ...] = (STATISTICS,)
