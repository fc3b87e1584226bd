"""Clipping: direction, threshold, phases, accumulation, what it does to the norm, and what it is confused with."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steadygrad import init
from steadygrad.clip import Clipper, GlobalNorm, Scheduled, Value
from steadygrad.figures.style import LIMIT, PALETTE, blank, fit_log_axis
from steadygrad.lab import pictures
from steadygrad.lab.data import generator, teacher, text, vocabulary
from steadygrad.lab.experiment import Arms, Condition, Experiment, Picture, Run, Runs, less_loss, log_ratio
from steadygrad.lab.training import Batches, grad_norm, minibatches, mlp, steps, train


class CharRNN(nn.Module):
    """Embedding, one plain recurrent layer, and an output for every character."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary(), width)
        self.rnn = nn.RNN(width, width, batch_first=True)
        self.out = nn.Linear(width, vocabulary())

    def forward(self, x: Tensor) -> Tensor:
        """Logits of shape [batch, characters, length], as cross_entropy takes them."""
        logits: Tensor = self.out(self.rnn(self.embed(x))[0])
        return logits.transpose(1, 2)


def char_rnn(seed: int, *, spread: float = 1.3) -> CharRNN:
    """Recurrent weights orthogonal times ``spread``: above 1, gradients grow through time."""
    model = CharRNN()
    init.auto_(model, generator=generator(seed))
    with torch.no_grad():
        model.rnn.get_parameter("weight_hh_l0").mul_(spread)
    return model


def prose(seed: int, *, batch: int = 8, length: int = 24) -> Batches:
    """Endless random stretches of text."""
    g = generator(seed + 1)
    while True:
        yield text(g, batch=batch, length=length)


# -- by value, by norm --------------------------------------------------------------------------------------------


def _flat(model: nn.Module) -> Tensor:
    return torch.cat([p.grad.double().flatten() for p in model.parameters() if p.grad is not None])


def angle(a: Tensor, b: Tensor) -> float:
    """Angle between two vectors in degrees."""
    a, b = a / a.norm(), b / b.norm()
    return math.degrees(2 * math.atan2(float((a - b).norm()), float((a + b).norm())))


def _direction(seed: int, scale: float) -> Arms:
    model, batches = char_rnn(seed), prose(seed)
    for _ in range(steps(20, scale)):
        x, y = next(batches)
        model.zero_grad()
        torch.autograd.backward(F.cross_entropy(model(x), y))
    whole = _flat(model)
    arms: Arms = {}
    for share in (0.001, 0.01, 0.1, 0.5):
        limit = float(whole.abs().quantile(1 - share))
        for name, clip in (("by value", Value(limit)), ("by norm", GlobalNorm(float(whole.norm()) * share))):
            kept = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
            clip(model)
            run = Run(numbers={"angle": angle(whole, _flat(model)), "share": share})
            for parameter, grad in zip(model.parameters(), kept, strict=True):
                parameter.grad = grad
            arms[f"{name}, {share:g}"] = run
    return arms


def _angle_condition(share: float) -> Condition:
    def effect(arms: Arms) -> float:
        return arms[f"by value, {share:g}"].numbers["angle"] - arms[f"by norm, {share:g}"].numbers["angle"]

    return Condition(f"{share:.1%} of the entries are cut", "degrees, value minus norm", effect, 5.0, "difference")


DIRECTION = Experiment(
    "clip-direction",
    "Clipping by value and by norm",
    "Clipping by value turns the gradient away from its direction (by over 5 degrees), clipping by norm keeps it.",
    "tutorials on gradient clipping and on exploding gradients",
    _direction,
    tuple(_angle_condition(share) for share in (0.01, 0.1, 0.5)),
    lambda runs: [
        pictures.sweep(
            {
                way: [(s, [a[f"{way}, {s:g}"].numbers["angle"] for a in runs.values()]) for s in (0.001, 0.01, 0.1, 0.5)]
                for way in ("by value", "by norm")
            },
            x="share of entries that clipping by value cuts", y="degrees from the raw gradient", log_y=False,
            title="Change of direction",
            caption="Gradient of a recurrent net on text. By norm, the same share of the norm is kept; the angle is 0.",
        )
    ],
)  # fmt: skip


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


# -- phases of training -------------------------------------------------------------------------------------------


def _dynamic(seed: int, scale: float) -> Arms:
    count = steps(120, scale)
    half = {0: 4.0, count // 2: 0.25}
    clips: dict[str, Callable[[], Clipper]] = {
        "constant": lambda: GlobalNorm(1.0),
        "loose, then strict": lambda: Scheduled(GlobalNorm(1.0), half),
        "strict, then loose": lambda: Scheduled(GlobalNorm(1.0), {0: 0.25, count // 2: 4.0}),
    }
    arms: Arms = {}
    for rate, label in ((0.7, "rate 0.7"), (3.0, "rate 3")):
        for name, build in clips.items():
            arms[f"{name}, {label}"] = train(
                char_rnn(seed), prose(seed), count, lr=rate, loss=F.cross_entropy, clip=build()
            )
    return arms


DYNAMIC = Experiment(
    "dynamic-threshold",
    "A threshold that follows the phase of training",
    "A threshold that is loose early and strict late beats a constant one.",
    "tutorial on gradient clipping",
    _dynamic,
    tuple(
        Condition(
            f"the rate is {rate}", "end loss, constant / loose, then strict",
            less_loss(f"loose, then strict, rate {rate}", than=f"constant, rate {rate}"), math.log10(1.02),
        )
        for rate in ("3", "0.7")
    ),
    lambda runs: [pictures.curves(runs, log=False, caption="Constant: 1.0. Loose is 4.0, strict 0.25; they change half-way.")],
    "With SGD a strict threshold late is a smaller rate late: what helps is the decay, by whatever name.",
)  # fmt: skip


# -- accumulation -------------------------------------------------------------------------------------------------


#: Nets and batches per seed, of which the median is taken.
DRAWS = 15


def _accumulation(seed: int, scale: float) -> Arms:
    del scale
    return {
        f"{way}, {case}": Run(numbers={"angle": statistics.median(angles)})
        for case, outlier in (("one outlier", 20.0), ("alike", 1.0))
        for way, angles in zip(
            _WAYS, zip(*(_angles(DRAWS * seed + d, outlier) for d in range(DRAWS)), strict=True), strict=True
        )
    }


_WAYS = ("once per step", "once per micro-batch")


def _angles(seed: int, outlier: float) -> list[float]:
    """Degrees between the gradient of one large batch and the accumulated one, for both ways to clip."""
    x, y = teacher(seed, rows=64)
    y = torch.where(torch.arange(64)[:, None] < 16, outlier * y, y)
    model = mlp([16, 32, 32, 1], nn.ReLU)
    init.auto_(model, generator=generator(seed))
    model.zero_grad()
    torch.autograd.backward(F.mse_loss(model(x), y))
    whole, limit = _flat(model), 0.5 * grad_norm(model)
    found = []
    for way in _WAYS:
        model.zero_grad()
        for part, target in zip(torch.split(x, 16), torch.split(y, 16), strict=True):
            torch.autograd.backward(F.mse_loss(model(part), target) / 4)
            if way == "once per micro-batch":
                GlobalNorm(limit)(model)
        GlobalNorm(limit)(model)
        found.append(angle(whole, _flat(model)))
    return found


def _accumulation_condition(case: str) -> Condition:
    label = "one micro-batch is an outlier" if case == "one outlier" else "micro-batches are alike"

    def effect(arms: Arms) -> float:
        wrong, right = (arms[f"{way}, {case}"].numbers["angle"] for way in reversed(_WAYS))
        return wrong - right

    return Condition(label, "degrees off the large batch's gradient, micro-batch minus step", effect, 2.0, "difference")


def _accumulation_picture(runs: Runs) -> list[Picture]:
    figure = blank(x="", y="degrees off the large batch's gradient", height=340)
    names = list(next(iter(runs.values())))
    figure.add_box(
        x=[name for name in names for _ in runs], y=[a[name].numbers["angle"] for name in names for a in runs.values()],
        boxpoints="all", line={"color": "#3d7fd9"},
    )  # fmt: skip
    caption = "Every seed is a dot. Clipped once per step, accumulation gives the gradient of one large batch exactly."
    return [Picture("angles", "Direction after clipping", caption, figure)]


ACCUMULATION = Experiment(
    "clip-accumulation",
    "Clipping with gradient accumulation",
    "Clipping after every micro-batch, not once per optimizer step, turns the gradient (by over 2 degrees).",
    "tutorial on gradient clipping",
    _accumulation,
    tuple(_accumulation_condition(case) for case in ("one outlier", "alike")),
    _accumulation_picture,
    "Clipping the growing sum after each micro-batch weighs the later ones more.",
)


# -- AdamW and outliers -------------------------------------------------------------------------------------------


def _adamw(seed: int, scale: float) -> Arms:
    data, count = teacher(seed), steps(200, scale)
    arms: Arms = {}
    for case in ("ordinary batches", "one corrupt batch"):
        for clip in (False, True):
            model = mlp([16, 32, 32, 1], nn.ReLU)
            init.auto_(model, generator=generator(seed))
            optimizer = torch.optim.AdamW(model.parameters(), lr=0.003)
            stream = _corrupted(minibatches(data, 32, seed), count // 2 if case != "ordinary batches" else -1)
            clipper = GlobalNorm(1.0) if clip else None
            run = train(model, stream, count, optimizer=optimizer, clip=clipper)
            arms[f"{'clipped at 1' if clip else 'AdamW alone'}, {case}"] = run
    return arms


def _corrupted(batches: Batches, at: int) -> Batches:
    for step, (x, y) in enumerate(batches):
        yield x, (y * 1e4 if step == at else y)


ADAMW = Experiment(
    "adamw-and-clipping",
    "AdamW in place of clipping",
    "AdamW bounds its steps by itself, so clipping on top of it gains nothing (no more than 10 % of the loss).",
    "tutorials on gradient clipping, and on decay, clipping and BatchNorm: clipping shown together with AdamW",
    _adamw,
    tuple(
        Condition(
            label, "end loss, clipped / AdamW alone",
            less_loss(f"AdamW alone, {case}", than=f"clipped at 1, {case}"), -math.log10(1.1),
        )
        for label, case in (("batches are sound", "ordinary batches"), ("one batch is corrupt", "one corrupt batch"))
    ),
    lambda runs: [
        pictures.curves(runs, caption="In the middle of one of the runs, a batch comes with targets 10000 times too large.")
    ],
    "AdamW does not touch gradients: an outlier stays in its second moment, and for hundreds of steps everything is too slow.",
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

EXPERIMENTS: tuple[Experiment, ...] = (
    DIRECTION, THRESHOLD, TOO_LARGE, NORMS, DYNAMIC, ACCUMULATION, ADAMW, RULES, RNN_THRESHOLD,
)  # fmt: skip
