"""Optimizers and penalties: badly scaled features, L1 and L2."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steadygrad import init
from steadygrad.lab import pictures
from steadygrad.lab.data import Pair, digits, generator, teacher
from steadygrad.lab.experiment import Arms, Condition, Experiment, Run, less_loss
from steadygrad.lab.training import best_rate, minibatches, mlp, steps, train, whole

# -- bad scaling --------------------------------------------------------------------------------------------------

_OPTIMIZERS: dict[str, tuple[Callable[..., torch.optim.Optimizer], tuple[float, ...]]] = {
    "SGD": (torch.optim.SGD, (0.1, 0.01, 0.001, 1e-4, 1e-5)),
    "RMSProp": (torch.optim.RMSprop, (0.03, 0.01, 0.003)),
    "Adam": (torch.optim.Adam, (0.03, 0.01, 0.003)),
}


def _stretched(data: Pair) -> Pair:
    """Every feature in another unit: from a hundredth to a hundred."""
    x, y = data
    return x * torch.logspace(-2, 2, x.shape[1]), y


def _scaling(seed: int, scale: float) -> Arms:
    count = steps(150, scale)
    arms: Arms = {}
    for case, data in (("badly scaled", _stretched(teacher(seed))), ("standardised", teacher(seed))):
        for name, (build, rates) in _OPTIMIZERS.items():

            def attempt(lr: float, data: Pair = data, build: Callable[..., torch.optim.Optimizer] = build) -> Run:
                model = mlp([16, 32, 32, 1], nn.ReLU)
                init.auto_(model, generator=generator(seed))
                return train(model, minibatches(data, 64, seed), count, optimizer=build(model.parameters(), lr=lr))

            arms[f"{name}, {case}"] = best_rate(attempt, rates)
    return arms


SCALING = Experiment(
    "adaptive-optimizers",
    "Adam and RMSProp under bad scaling",
    "Adam and RMSProp learn where SGD fails.",
    "tutorial on exploding gradients, remedies",
    _scaling,
    tuple(
        Condition(
            f"features are {case}, with {name}", f"end loss, SGD / {name}, each at its best rate",
            less_loss(f"{name}, {case}", than=f"SGD, {case}"), math.log10(1.2),
        )
        for case in ("badly scaled", "standardised")
        for name in ("RMSProp", "Adam")
    ),
    lambda runs: [pictures.curves(runs, caption="Badly scaled: features from a hundredth to a hundred. Best of 3 to 5 rates.")],
)  # fmt: skip


# -- L1, L2 -------------------------------------------------------------------------------------------------------

_PENALTIES: dict[str, tuple[Callable[[Tensor], Tensor] | None, tuple[float, ...]]] = {
    "none": (None, (0.0,)),
    "L1": (lambda w: w.abs().sum(), (1e-4, 1e-3, 1e-2)),
    "L2": (lambda w: w.square().sum(), (1e-4, 1e-3, 1e-2)),
}


def _penalty(measure: Callable[[Tensor], Tensor] | None, strength: float) -> Callable[[nn.Module], Tensor] | None:
    if measure is None:
        return None
    return lambda model: strength * torch.stack([measure(w.tensor) for w in init.weights(model)]).sum()


def _penalties(seed: int, scale: float) -> Arms:
    """Overfitting on 100 digits, the strength chosen on 100 others; and weights that start three times too large."""
    arms: Arms = {}
    for name, (measure, strengths) in _PENALTIES.items():
        fitted = [_fitted(seed, scale, _penalty(measure, s)) for s in strengths]
        arms[f"{name}, 100 samples"] = min(fitted, key=lambda run: run.numbers["validation"])
        model = mlp([16] + [32] * 6 + [1], nn.ReLU)
        init.auto_(model, generator=generator(seed))
        with torch.no_grad():
            for weight in init.weights(model):
                weight.tensor.mul_(3)
        arms[f"{name}, weights x3"] = train(
            model, whole(teacher(seed)), steps(60, scale), lr=0.001, penalty=_penalty(measure, 1e-2)
        )
    return arms


def _fitted(seed: int, scale: float, penalty: Callable[[nn.Module], Tensor] | None) -> Run:
    """100 digits, 30 of them with a random label."""
    (x, y), (x_test, y_test) = digits(seed)
    noisy = y.clone()
    noisy[:30] = torch.randint(0, 10, (30,), generator=generator(seed + 3))
    model = nn.Sequential(nn.Flatten(), *mlp([64, 128, 10], nn.ReLU))
    init.auto_(model, generator=generator(seed))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    run = train(
        model,
        whole((x[:100], noisy[:100])),
        steps(200, scale),
        optimizer=optimizer,
        loss=F.cross_entropy,
        penalty=penalty,
    )
    with torch.no_grad():
        run.numbers["validation"] = float(F.cross_entropy(model(x[100:200]), y[100:200]))
        run.numbers["test"] = float((model(x_test).argmax(1) != y_test).float().mean())
    return run


def _test_ratio(name: str) -> Callable[[Arms], float]:
    def effect(arms: Arms) -> float:
        return math.log10(arms["none, 100 samples"].numbers["test"] / arms[f"{name}, 100 samples"].numbers["test"])

    return effect


PENALTIES = Experiment(
    "l1-l2",
    "L1 and L2 regularisation",
    "L1 and L2 regularisation help: against overfitting, and against exploding gradients.",
    "survey of gradient anomalies, tutorial on exploding gradients, remedies",
    _penalties,
    (
        *(
            Condition(
                f"the trouble is overfitting, with {name}", f"share of wrong digits, without / with {name}", _test_ratio(name), math.log10(1.05)
            )
            for name in ("L1", "L2")
        ),
        *(
            Condition(
                f"the trouble is weights that start too large, with {name}", f"end loss, without / with {name}",
                less_loss(f"{name}, weights x3", than="none, weights x3"), math.log10(1.1),
            )
            for name in ("L1", "L2")
        ),
    ),
    lambda runs: [
        pictures.curves(runs, arms=[a for a in next(iter(runs.values())) if "x3" in a], caption="Weights three times too large."),
        pictures.curves(
            runs, arms=[a for a in next(iter(runs.values())) if "samples" in a], name="overfitting",
            title="Training loss on 100 digits", caption="The strength of each penalty is the best of three on 100 other digits.",
        ),
    ],
    "A penalty pulls at weights a little at every step; an explosion at the start takes one.",
)  # fmt: skip

EXPERIMENTS: tuple[Experiment, ...] = (SCALING, PENALTIES)
