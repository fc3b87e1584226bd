"""Initialisation: weights that start far too large, Xavier against Kaiming."""

from __future__ import annotations

import math

from torch import nn

from steadygrad import init
from steadygrad.clip import GlobalNorm
from steadygrad.lab import pictures
from steadygrad.lab.data import generator, regression, teacher
from steadygrad.lab.experiment import Arms, Condition, Experiment, Run, less_loss
from steadygrad.lab.training import best_rate, minibatches, mlp, steps, train, whole


def _std10(seed: int, scale: float) -> Arms:
    data = regression(seed)
    arms: Arms = {}
    for rule in ("std 10", "Kaiming"):
        for clip in (None, 10.0):
            model = mlp([10] + [16] * 9 + [1], nn.ReLU)
            if rule == "std 10":
                init.normal_(model, std=10.0, generator=generator(seed))
            else:
                init.auto_(model, generator=generator(seed))
            clipper = None if clip is None else GlobalNorm(clip)
            run = train(model, whole(data), steps(300, scale), lr=0.01, clip=clipper)
            run.numbers["variance"] = float(data[1].var())
            arms[rule + (", clipped at 10" if clip else "")] = run
    return arms


def _finite(arms: Arms, name: str) -> float:
    return float(all(math.isfinite(v) for v in arms[name].curves["loss"]))


def _learned(arms: Arms, name: str) -> float:
    """Variance of the target by the end loss, as a logarithm: above 0 something was learned."""
    last = arms[name].curves["loss"][-1]
    return math.log10(arms[name].numbers["variance"] / last) if math.isfinite(last) else -38.0


STD10 = Experiment(
    "std-10-weights",
    "Weights drawn with a standard deviation of 10",
    "Gradient clipping cures the explosion of a net whose weights start far too large.",
    "tutorial on vanishing and exploding gradients: weights of standard deviation 10, with and without clipping",
    _std10,
    (
        Condition(
            "to cure is to keep the loss finite", "finite runs, with clipping minus without",
            lambda arms: _finite(arms, "std 10, clipped at 10") - _finite(arms, "std 10"), 0.5, "share",
        ),
        Condition(
            "to cure is to learn anything", "target's variance / end loss, with clipping",
            lambda arms: _learned(arms, "std 10, clipped at 10"), 0.0,
        ),
    ),
    lambda runs: [
        pictures.curves(runs, caption="Clipped, the loss hardly leaves where it began: the cause is the init. Kaiming removes it."),
        pictures.curves(runs, curve="grad_norm", y="gradient norm before clipping", title="Gradient norm"),
    ],
    "Drawing the weights anew is the remedy: compare the two Kaiming curves, which need no clip.",
)  # fmt: skip


def _xavier(seed: int, scale: float) -> Arms:
    data = teacher(seed)
    arms: Arms = {}
    for depth in (3, 20):
        for rule in ("xavier", "kaiming"):

            def attempt(lr: float, depth: int = depth, rule: str = rule) -> Run:
                model = mlp([16] + [32] * (depth - 1) + [1], nn.ReLU)
                init.auto_(model, rule=rule, generator=generator(seed))
                return train(model, minibatches(data, 64, seed), steps(150, scale), lr=lr)

            arms[f"{rule.capitalize()}, {depth} layers"] = best_rate(attempt)
    return arms


XAVIER = Experiment(
    "xavier-vs-kaiming",
    "Xavier against Kaiming in ReLU nets",
    "Kaiming initialisation trains ReLU nets faster than Xavier.",
    "tutorial on vanishing and exploding gradients",
    _xavier,
    tuple(
        Condition(
            f"the net has {depth} layers", "end loss, Xavier / Kaiming",
            less_loss(f"Kaiming, {depth} layers", than=f"Xavier, {depth} layers"), math.log10(1.2),
        )
        for depth in (20, 3)
    ),
    lambda runs: [pictures.curves(runs, caption="Target of unit variance; the best of three rates for each.")],
    "Xavier loses a factor of 1.4 of the signal in each layer of ReLU: 1.4 to the power of the depth.",
)  # fmt: skip

EXPERIMENTS: tuple[Experiment, ...] = (STD10, XAVIER)
