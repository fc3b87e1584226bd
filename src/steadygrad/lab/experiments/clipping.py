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
from steadygrad.figures.style import blank
from steadygrad.lab import pictures
from steadygrad.lab.data import generator, teacher, text, vocabulary
from steadygrad.lab.experiment import Arms, Condition, Experiment, Picture, Run, Runs, less_loss
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


EXPERIMENTS: tuple[Experiment, ...] = (DIRECTION, DYNAMIC, ACCUMULATION, ADAMW)
