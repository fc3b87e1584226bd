"""The threshold of clipping by norm: its sweep, what it does to the norm, and its bond with rate and batch size."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from steadygrad.clip import GlobalNorm
from steadygrad.figures.style import LIMIT, PALETTE, blank, fit_log_axis
from steadygrad.lab import pictures
from steadygrad.lab.experiment import Arms, Condition, Experiment, Picture, Runs, less_loss, log_ratio
from steadygrad.lab.experiments.clipping import char_rnn, prose
from steadygrad.lab.training import steps, train

# -- threshold ----------------------------------------------------------------------------------------------------

THRESHOLDS = {"SGD": (0.001, 0.03, 0.3, 1.0, 3.0, 1000.0), "Adam": (0.001, 0.03, 1.0, 1000.0)}


def _threshold(seed: int, scale: float) -> Arms:
    arms: Arms = {}
    count = steps(100, scale)
    for name in ("SGD", "Adam"):
        for threshold in (*THRESHOLDS[name], None):
            model = char_rnn(seed)
            optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), lr=0.7)
            if name == "Adam":
                optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
            clip = None if threshold is None else GlobalNorm(threshold)
            label = "no clipping" if threshold is None else f"{threshold:g}"
            arms[f"{name}, {label}"] = train(
                model, prose(seed), count, optimizer=optimizer, loss=F.cross_entropy, clip=clip
            )
    return arms


def _same(a: str, b: str) -> Callable[[Arms], float]:
    """Minus the distance of two end losses, as a share."""
    return lambda arms: -abs(10 ** log_ratio(arms[a].final(), arms[b].final()) - 1)


def _thresholds_of(runs: Runs, name: str) -> list[tuple[float, list[float]]]:
    return [(t, [min(a[f"{name}, {t:g}"].final(), 10.0) for a in runs.values()]) for t in THRESHOLDS[name]]


THRESHOLD = Experiment(
    "threshold-sweep",
    "The clip threshold from too small to too large",
    "A threshold that is too small stops learning.",
    "tutorial on gradient clipping",
    _threshold,
    (
        Condition(
            "the optimizer is SGD", "end loss, threshold 0.001 / 1.0",
            less_loss("SGD, 1", than="SGD, 0.001"), math.log10(1.2),
        ),
        Condition(
            "the optimizer is Adam", "end loss, threshold 0.001 / 1.0",
            less_loss("Adam, 1", than="Adam, 0.001"), math.log10(1.2),
        ),
    ),
    lambda runs: [
        pictures.sweep(
            {name: _thresholds_of(runs, name) for name in ("SGD", "Adam")},
            x="threshold", y="end loss", log_y=False, title="End loss over the threshold",
            caption="Characters of English text, loss in nats; losses above 10 are drawn at 10. Adam divides by the scale of "
            "its gradients, so a threshold that cuts every step changes next to nothing.",
        )
    ],
    "Adam divides out whatever factor is common to all steps: only the relative size of steps matters to it.",
)  # fmt: skip

TOO_LARGE = Experiment(
    "threshold-too-large",
    "A clip threshold that is never reached",
    "A threshold that is too large does nothing.",
    "tutorial on gradient clipping",
    _threshold,
    tuple(
        Condition(
            f"the optimizer is {name}", "distance of the end losses, threshold 1000 and no clipping",
            _same(f"{name}, 1000", f"{name}, no clipping"), -0.01, "share",
        )
        for name in ("SGD", "Adam")
    ),
    lambda runs: [
        pictures.curves(
            runs, arms=["SGD, no clipping", "SGD, 1000", "SGD, 1", "Adam, no clipping", "Adam, 1000", "Adam, 1"],
            log=False, caption="The curve at a threshold of 1000 covers the one without clipping.",
        )
    ],
    shared="threshold-sweep",
)  # fmt: skip


def _norms(runs: Runs) -> list[Picture]:
    run = next(iter(runs.values()))["SGD, 0.3"]
    figure = blank(x="step", y="gradient norm (L2)", log=True, height=360)
    at = list(range(len(run.curves["grad_norm"])))
    for curve, name, color in (
        ("grad_norm", "before clipping", PALETTE[0]),
        ("clipped_norm", "after clipping", PALETTE[2]),
    ):
        figure.add_scatter(x=at, y=run.curves[curve], name=name, line={"color": color, "width": 1.6})
    figure.add_hline(y=0.3, line={"color": LIMIT, "width": 1.4, "dash": "dash"})
    fit_log_axis(figure)
    caption = "One seed. The dashed line is the threshold; clipping acts where the curve before it is above."
    return [Picture("gradient-norm", "Gradient norm before and after clipping", caption, figure)]


def _bounded(arms: Arms) -> float:
    run = arms["SGD, 0.3"]
    above = [a for b, a in zip(run.curves["grad_norm"], run.curves["clipped_norm"], strict=True) if b > 0.3]
    return sum(abs(a / 0.3 - 1) < 1e-4 for a in above) / max(1, len(above))


NORMS = Experiment(
    "gradient-norm",
    "The gradient norm before and after clipping",
    "Clipping by norm leaves a gradient at the threshold where it was above, and unchanged where it was below.",
    "tutorial on decay, clipping and BatchNorm: norms on a logarithmic axis with the threshold",
    _threshold,
    (
        Condition(
            "the norm was above the threshold", "steps that end at the threshold (1e-4)", _bounded, 0.999, "share"
        ),
        Condition(
            "the norm was below the threshold", "steps that are unchanged",
            lambda arms: sum(
                a == b
                for a, b in zip(
                    arms["SGD, 1000"].curves["clipped_norm"], arms["SGD, 1000"].curves["grad_norm"], strict=True
                )
            ) / len(arms["SGD, 1000"].curves["grad_norm"]),
            0.999, "share",
        ),
    ),
    _norms,
    shared="threshold-sweep",
)  # fmt: skip


# -- threshold, rate, batch ---------------------------------------------------------------------------------------

_GRID = (0.03, 0.1, 0.3, 1.0, 2.0, 5.0)
_RATES = ("0.3", "3")


def _rules(seed: int, scale: float) -> Arms:
    arms: Arms = {}
    for rate in _RATES:
        for threshold in _GRID:
            arms[f"rate {rate}, threshold {threshold:g}"] = train(
                char_rnn(seed),
                prose(seed),
                steps(80, scale),
                lr=float(rate),
                loss=F.cross_entropy,
                clip=GlobalNorm(threshold),
            )
    for batch in (2, 32):
        run = train(char_rnn(seed), prose(seed, batch=batch), steps(40, scale), lr=0.1, loss=F.cross_entropy)
        finite = [v for v in run.curves["grad_norm"] if math.isfinite(v)]
        run.numbers["norm"] = sorted(finite)[len(finite) // 2]
        arms[f"batch of {batch}"] = run
    return arms


def _best_threshold(arms: Arms, rate: str) -> float:
    return min(_GRID, key=lambda t: arms[f"rate {rate}, threshold {t:g}"].final())


def _threshold_picture(runs: Runs) -> Picture:
    def points(rate: str) -> list[tuple[float, list[float]]]:
        return [(t, [min(a[f"rate {rate}, threshold {t:g}"].final(), 10.0) for a in runs.values()]) for t in _GRID]

    return pictures.sweep(
        {f"rate {rate}": points(rate) for rate in _RATES},
        x="threshold", y="end loss", log_y=False, title="End loss over the threshold, at two rates",
        caption="Recurrent net on text, SGD; losses above 10 are drawn at 10.",
    )  # fmt: skip


RULES = Experiment(
    "threshold-and-rate",
    "The threshold against rate and batch size",
    "A higher rate, or a larger batch, wants a lower threshold.",
    "tutorial on decay, clipping and BatchNorm, rules of thumb",
    _rules,
    (
        Condition(
            "the rate is 10 times higher", "best threshold, at rate 0.3 / at rate 3",
            lambda arms: math.log10(_best_threshold(arms, "0.3") / _best_threshold(arms, "3")), math.log10(2),
        ),
        Condition(
            "the batch is 16 times larger", "median gradient norm, batch of 2 / batch of 32",
            lambda arms: math.log10(arms["batch of 2"].numbers["norm"] / arms["batch of 32"].numbers["norm"]),
            math.log10(1.1),
        ),
    ),
    lambda runs: [_threshold_picture(runs)],
    "With SGD and a clip that always acts, only rate times threshold matters.",
)  # fmt: skip


def _recommended(rate: str) -> Condition:
    def effect(arms: Arms) -> float:
        best, ours = (min(arms[f"rate {rate}, threshold {t:g}"].final() for t in ts) for ts in (_GRID, (1.0, 2.0)))
        return log_ratio(best, ours)

    return Condition(f"the rate is {rate}", "end loss, best threshold / 1.0 to 2.0", effect, -math.log10(1.05))


RNN_THRESHOLD = Experiment(
    "rnn-threshold",
    "Clip thresholds for recurrent nets",
    "For recurrent nets a threshold of 1.0 to 2.0 is as good as any (within 5 % of the loss).",
    "tutorial on decay, clipping and BatchNorm",
    _rules,
    tuple(_recommended(rate) for rate in _RATES),
    lambda runs: [_threshold_picture(runs)],
    "A threshold without a rate is no recommendation.",
    shared="threshold-and-rate",
)

EXPERIMENTS: tuple[Experiment, ...] = (THRESHOLD, TOO_LARGE, NORMS, RULES, RNN_THRESHOLD)
