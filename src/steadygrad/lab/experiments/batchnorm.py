"""BatchNorm: on or off, by batch size, in training and in evaluation mode."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from steadygrad import init, norm
from steadygrad.lab import pictures
from steadygrad.lab.data import digits, generator
from steadygrad.lab.experiment import Arms, Condition, Experiment, Picture, Run, Runs, less_loss
from steadygrad.lab.training import best_rate, minibatches, mlp, steps, train


def _net(activation: Callable[[], nn.Module], seed: int, *, normed: bool, factor: float = 1.0) -> nn.Sequential:
    body = mlp([64] + [32] * 6 + [10], activation, norm=normed)
    init.auto_(body, generator=generator(seed))
    with torch.no_grad():
        for weight in init.weights(body):
            weight.tensor.mul_(factor)
    return nn.Sequential(nn.Flatten(), *body)


def _onoff(seed: int, scale: float) -> Arms:
    pair, _ = digits(seed)
    arms: Arms = {}
    cases: dict[str, tuple[Callable[[], nn.Module], float]] = {
        "ReLU, suited init": (nn.ReLU, 1.0), "ReLU, weights x0.3": (nn.ReLU, 0.3), "sigmoid": (nn.Sigmoid, 1.0),
    }  # fmt: skip
    for case, (activation, factor) in cases.items():
        for normed in (False, True):

            def attempt(
                lr: float,
                activation: Callable[[], nn.Module] = activation,
                factor: float = factor,
                normed: bool = normed,
            ) -> Run:
                model = _net(activation, seed, normed=normed, factor=factor)
                return train(model, minibatches(pair, 64, seed), steps(100, scale), lr=lr, loss=F.cross_entropy)

            arms[f"{case}{', BatchNorm' if normed else ''}"] = best_rate(attempt, (0.3, 0.1))
    return arms


ONOFF = Experiment(
    "batchnorm",
    "BatchNorm on and off",
    "BatchNorm keeps gradients alive, so that deep nets learn faster.",
    "tutorials on exploding gradients, and on decay, clipping and BatchNorm",
    _onoff,
    tuple(
        Condition(
            label, "end loss, without / with BatchNorm", less_loss(f"{case}, BatchNorm", than=case), math.log10(1.2)
        )
        for label, case in (
            ("the activation is sigmoid", "sigmoid"),
            ("weights start too small (ReLU, 0.3 times)", "ReLU, weights x0.3"),
            ("the init is right already (ReLU)", "ReLU, suited init"),
        )
    ),
    lambda runs: [pictures.curves(runs, caption="Digits, seven layers; the better of two rates for each.")],
)  # fmt: skip

_SIZES = (2, 4, 8, 32)


def _sizes(seed: int, scale: float) -> Arms:
    pair, (x, y) = digits(seed)
    arms: Arms = {}
    for size in _SIZES:
        for normed in (False, True):
            model = nn.Sequential(nn.Flatten(), *mlp([64, 32, 32, 10], nn.ReLU, norm=normed))
            init.auto_(model, generator=generator(seed))
            run = train(
                model, minibatches(pair, size, seed), steps(600, scale), lr=0.005 * size**0.5, loss=F.cross_entropy
            )
            model.eval()
            with torch.no_grad():
                run.numbers["test"] = float(F.cross_entropy(model(x), y))
            if normed:
                norm.recalibrate(model, [pair[0][:512]])
                with torch.no_grad():
                    run.numbers["recalibrated"] = float(F.cross_entropy(model(x), y))
            arms[f"{'BatchNorm' if normed else 'none'}, batches of {size}"] = run
    return arms


def _penalty(arms: Arms, size: int) -> float:
    with_norm, without = (arms[f"{n}, batches of {size}"].numbers["test"] for n in ("BatchNorm", "none"))
    return math.log10(with_norm / without)


def _hurts(size: int) -> Condition:
    what = "test loss with / without BatchNorm, relative to batches of 32"
    return Condition(
        f"batches are of {size}", what, lambda arms: _penalty(arms, size) - _penalty(arms, 32), math.log10(1.1)
    )


def _size_pictures(runs: Runs) -> Sequence[Picture]:
    def points(arm: str, number: str = "test") -> list[tuple[float, list[float]]]:
        return [(s, [a[f"{arm}, batches of {s}"].numbers[number] for a in runs.values()]) for s in _SIZES]

    lines = {
        "without BatchNorm": points("none"),
        "with BatchNorm": points("BatchNorm"),
        "with BatchNorm, recalibrated": points("BatchNorm", "recalibrated"),
    }
    caption = "Evaluation mode, 600 steps at a rate that grows with the root of the batch size."
    title = "Test loss over the batch size"
    return [pictures.sweep(lines, x="batch size", y="test loss", title=title, caption=caption, log_y=False)]


SIZES = Experiment(
    "batchnorm-batch-size",
    "BatchNorm and small batches",
    "Small batches hurt BatchNorm.",
    "tutorial on decay, clipping and BatchNorm, rules of thumb",
    _sizes,
    tuple(_hurts(size) for size in _SIZES[:-1]),
    _size_pictures,
    "At least 10 % more test loss than batches of 32 give, both against the same net without BatchNorm, counts as hurt.",
)

EXPERIMENTS: tuple[Experiment, ...] = (ONOFF, SIZES)
