"""Learning rates: decays, composed schedules, warm-up, and the rate itself."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, StepLR

from steadygrad import init
from steadygrad.figures.style import PALETTE, blank, fit_log_axis
from steadygrad.lab import pictures
from steadygrad.lab.data import generator, regression, teacher, text, vocabulary
from steadygrad.lab.experiment import Arms, Condition, Experiment, Picture, less_loss
from steadygrad.lab.training import Batches, minibatches, mlp, steps, train, whole
from steadygrad.schedules import Constant, Cosine, Exponential, Schedule, ScheduledLR, Step, Warmup

# -- decays -------------------------------------------------------------------------------------------------------


def _decays(seed: int, scale: float) -> Arms:
    count = steps(400, scale)
    kinds: dict[str, Schedule] = {
        "constant": Constant(),
        "step": Step(max(1, count // 4), gamma=0.3),
        "exponential": Exponential(rate=4 / count),
        "cosine": Cosine(count),
    }
    x, y = teacher(seed)
    noisy = (x, y + 0.5 * torch.randn(y.shape, generator=generator(seed + 7)))
    arms: Arms = {}
    for case in ("noisy gradients", "whole data"):
        for name, schedule in kinds.items():
            model = mlp([16, 32, 32, 1], nn.Tanh)
            init.auto_(model, generator=generator(seed))
            stream = minibatches(noisy, 4, seed) if case == "noisy gradients" else whole((x, y))
            run = train(model, stream, count, lr=0.05, schedule=schedule)
            with torch.no_grad():
                run.numbers["end"] = float(F.mse_loss(model(x), y))
            arms[f"{name}, {case}"] = run
    return arms


def _decay_condition(name: str, case: str) -> Condition:
    label = "gradients are noisy (batches of 4)" if case == "noisy gradients" else "gradients are exact (whole data)"

    def effect(arms: Arms) -> float:
        return math.log10(arms[f"constant, {case}"].numbers["end"] / arms[f"{name}, {case}"].numbers["end"])

    return Condition(f"{label}, with {name} decay", f"end error, constant / {name}", effect, math.log10(1.1))


def _rate_curves(curves: dict[str, list[float]], *, log: bool = False) -> Picture:
    figure = blank(x="step", y="rate, as a factor", height=320, log=log)
    for index, (name, values) in enumerate(curves.items()):
        figure.add_scatter(
            x=list(range(len(values))), y=values, name=name, line={"color": PALETTE[index % len(PALETTE)], "width": 2}
        )
    if log:
        fit_log_axis(figure)
    return Picture("rates", "Learning rates", "As a factor of the base rate, step by step.", figure)


DECAYS = Experiment(
    "lr-decay",
    "Learning rate decays against a constant rate",
    "Decaying the learning rate (step, exponential, cosine) ends at a lower error than a constant rate.",
    "tutorial on decay, clipping and BatchNorm",
    _decays,
    tuple(
        _decay_condition(name, case)
        for case in ("noisy gradients", "whole data")
        for name in ("step", "exponential", "cosine")
    ),
    lambda runs: [
        pictures.curves(runs, arms=[a for a in next(iter(runs.values())) if "noisy" in a], window=20, caption="Batches of 4, noisy targets; means over 20 steps."),
        _rate_curves({
            "constant": [1.0] * 400, "step": [Step(100, gamma=0.3)(t) for t in range(400)],
            "exponential": [Exponential(rate=0.01)(t) for t in range(400)], "cosine": [Cosine(400)(t) for t in range(400)],
        }),
    ],
    "A decay averages noise away. Without noise a smaller rate is only slower.",
)  # fmt: skip


# -- cosine, then steps -------------------------------------------------------------------------------------------


def _composed(seed: int, scale: float) -> Arms:
    count = steps(300, scale)
    half = count // 2
    intended = Cosine(half) >> Step(max(1, half // 3), gamma=0.5)
    arms: Arms = {}
    for name in ("two schedulers by hand", "one composed schedule"):
        model = mlp([16, 32, 1], nn.Tanh)
        init.auto_(model, generator=generator(seed))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        drive = _by_hand(optimizer, half) if name == "two schedulers by hand" else _composed_by(optimizer, intended)
        rates: list[float] = []

        def watch(step: int, _: nn.Module, drive: Callable[[int], float] = drive, rates: list[float] = rates) -> None:
            rates.append(drive(step) / 0.1)

        run = train(model, minibatches(teacher(seed), 16, seed), count, optimizer=optimizer, watch=watch)
        run.curves["rate"] = rates
        run.curves["intended"] = [intended(t) for t in range(count)]
        arms[name] = run
    return arms


def _by_hand(optimizer: torch.optim.Optimizer, half: int) -> Callable[[int], float]:
    """As published: the cosine scheduler is stepped first, the step scheduler after it, both built at the start."""
    cosine = CosineAnnealingLR(optimizer, T_max=half)
    step = StepLR(optimizer, step_size=max(1, half // 3), gamma=0.5)

    def drive(at: int) -> float:
        if at:
            (cosine if at < half else step).step()
        return float(optimizer.param_groups[0]["lr"])

    return drive


def _composed_by(optimizer: torch.optim.Optimizer, schedule: Schedule) -> Callable[[int], float]:
    scheduler = ScheduledLR(optimizer, schedule)

    def drive(at: int) -> float:
        if at:
            scheduler.step()
        return float(optimizer.param_groups[0]["lr"])

    return drive


def _off(name: str) -> Callable[[Arms], float]:
    def effect(arms: Arms) -> float:
        run = arms[name]
        return -max(abs(a - b) for a, b in zip(run.curves["rate"], run.curves["intended"], strict=True))

    return effect


COMPOSED = Experiment(
    "cosine-then-step",
    "Cosine first, then steps",
    "Stepping two schedulers on one optimizer, one after the other, gives a composed schedule.",
    "tutorial on decay, clipping and BatchNorm",
    _composed,
    (
        Condition(
            "two schedulers are stepped by hand, as published", "largest deviation from the intended rate, as a share of the base rate",
            _off("two schedulers by hand"), -0.02, "share",
        ),
        Condition(
            "they are parts of one schedule", "largest deviation from the intended rate, as a share of the base rate",
            _off("one composed schedule"), -0.02, "share",
        ),
    ),
    lambda runs: [
        _rate_curves({
            "intended": next(iter(runs.values()))["one composed schedule"].curves["intended"],
            "two schedulers by hand": next(iter(runs.values()))["two schedulers by hand"].curves["rate"],
        }),
        pictures.curves(runs, window=20, caption="Means over 20 steps."),
    ],
    "Each of torch's schedulers multiplies the rate that it finds: after a cosine that is 0, and stays so.",
)  # fmt: skip


# -- warm-up ------------------------------------------------------------------------------------------------------


class Transformer(nn.Module):
    """A small causal transformer over characters."""

    def __init__(self, *, width: int = 32, layers: int = 3, norm_first: bool = True) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary(), width)
        self.place = nn.Parameter(torch.zeros(64, width))
        block = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, batch_first=True, norm_first=norm_first)
        self.blocks = nn.ModuleList(
            type(block)(width, 4, 4 * width, 0.0, batch_first=True, norm_first=norm_first) for _ in range(layers)
        )
        self.out = nn.Linear(width, vocabulary())

    def forward(self, x: Tensor) -> Tensor:
        """Logits of shape [batch, characters, length], as cross_entropy takes them."""
        length = x.shape[1]
        mask = torch.triu(torch.full((length, length), -math.inf), diagonal=1)
        h = self.embed(x) + self.place[:length]
        for block in self.blocks:
            h = block(h, src_mask=mask)
        logits: Tensor = self.out(h)
        return logits.transpose(1, 2)


def transformer(seed: int, *, norm_first: bool = True) -> Transformer:
    """Initialised by the rules of this library, from the seed."""
    model = Transformer(norm_first=norm_first)
    init.auto_(model, generator=generator(seed))
    return model


def prose(seed: int) -> Batches:
    """Endless random stretches of text: 8 of 24 characters."""
    g = generator(seed + 1)
    while True:
        yield text(g, batch=8, length=24)


def _warmup(seed: int, scale: float) -> Arms:
    count = steps(150, scale)
    arms: Arms = {}
    for kind, norm_first in (("post-norm", False), ("pre-norm", True)):
        for rate in (0.003, 0.015):
            for name, schedule in (
                ("no warm-up", Constant()),
                ("warm-up", Warmup(max(1, count // 3)) >> Constant()),
            ):
                model = transformer(seed, norm_first=norm_first)
                optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
                arms[f"{kind}, {rate:g}, {name}"] = train(
                    model, prose(seed), count, optimizer=optimizer, loss=F.cross_entropy, schedule=schedule
                )
    return arms


WARMUP = Experiment(
    "warmup-transformer",
    "Warm-up for a transformer",
    "A transformer needs warm-up.",
    "tutorial on decay, clipping and BatchNorm",
    _warmup,
    tuple(
        Condition(
            f"the transformer is {kind} and the rate is {rate:g}", "end loss, without / with warm-up",
            less_loss(f"{kind}, {rate:g}, warm-up", than=f"{kind}, {rate:g}, no warm-up"), math.log10(1.02),
        )
        for kind in ("post-norm", "pre-norm")
        for rate in (0.003, 0.015)
    ),
    lambda runs: [pictures.curves(runs, log=False, caption="AdamW; a third of the run is warm-up. Characters of English text.")],
    "At least 2 % of the end loss counts. A short run: what is spent on warm-up has not been earned back everywhere.",
)  # fmt: skip


# -- a lower rate -------------------------------------------------------------------------------------------------


def _lower(seed: int, scale: float) -> Arms:
    count = steps(150, scale)
    arms: Arms = {}
    for case in ("rate", "init"):
        for rate in (1.0, 0.03):
            model = mlp([10, 16, 16, 16, 1], nn.ReLU)
            init.auto_(model, generator=generator(seed))
            if case == "init":
                init.normal_(model, std=10.0, generator=generator(seed))
            x, y = regression(seed)
            run = train(model, whole((x, y)), count, lr=rate)
            run.numbers["variance"] = float(y.var())
            arms[f"{'suited init' if case == 'rate' else 'weights of std 10'}, rate {rate:g}"] = run
    return arms


def _lower_condition(name: str, case: str) -> Condition:
    def effect(arms: Arms) -> float:
        run = arms[f"{case}, rate 0.03"]
        return math.log10(run.numbers["variance"] / run.final())

    return Condition(name, "target's variance / end loss at the lower rate", effect, math.log10(2))


LOWER = Experiment(
    "lower-rate",
    "A lower learning rate",
    "A lower learning rate cures a diverging run.",
    "survey of gradient anomalies, tutorial on exploding gradients, remedies",
    _lower,
    (
        _lower_condition("the rate was the cause", "suited init"),
        _lower_condition("the init was the cause (weights of std 10)", "weights of std 10"),
    ),
    lambda runs: [pictures.curves(runs, caption="Diverged runs end at a cross.")],
    "A remedy belongs to a cause: with weights of std 10 no usable rate is low enough.",
)

EXPERIMENTS: tuple[Experiment, ...] = (DECAYS, COMPOSED, WARMUP, LOWER)
