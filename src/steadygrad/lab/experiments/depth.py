"""Depth and activation: sigmoid against ReLU, what makes gradients vanish or explode, leaky units, shortcuts."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steadygrad import init
from steadygrad.lab import pictures
from steadygrad.lab.data import Pair, generator, regression, teacher
from steadygrad.lab.experiment import Arms, Condition, Experiment, Run, Runs, less_loss, number_ratio
from steadygrad.lab.training import best_rate, grad_norm, minibatches, mlp, steps, train, whole


def signals(model: nn.Module, data: Pair) -> list[float]:
    """Root mean square of the gradient at the output of every linear layer, first to last."""
    found: list[float] = []

    def measure(grad: Tensor) -> None:
        found.append(float(grad.double().square().mean().sqrt()))

    def listen(_: nn.Module, __: object, out: Any) -> None:
        out.register_hook(measure)

    hooks = [m.register_forward_hook(listen) for m in model.modules() if isinstance(m, nn.Linear)]
    model.zero_grad()
    torch.autograd.backward(F.mse_loss(model(data[0]), data[1]))
    for hook in hooks:
        hook.remove()
    return found[::-1]


def median_profile(runs: Runs, arms: Sequence[str], curve: str = "signal") -> dict[str, list[float]]:
    """Layer by layer the median over seeds."""
    return {
        arm: [statistics.median(v) for v in zip(*(seed[arm].curves[curve] for seed in runs.values()), strict=True)]
        for arm in arms
    }


# -- sigmoid against ReLU -----------------------------------------------------------------------------------------


def _sigmoid_relu(seed: int, scale: float) -> Arms:
    data = regression(seed)
    arms: Arms = {}
    for suited in (False, True):
        for name, activation in (("sigmoid", nn.Sigmoid), ("ReLU", nn.ReLU)):
            torch.manual_seed(seed)
            model = mlp([10] * 10 + [1], activation)
            if suited:
                init.auto_(model, generator=generator(seed))
            start = signals(model, data)
            run = train(model, whole(data), steps(500, scale), lr=0.01)
            run.curves["signal"] = start
            arms[f"{name}, {'suited' if suited else 'default'} init"] = run
    return arms


SIGMOID_RELU = Experiment(
    "sigmoid-vs-relu",
    "Sigmoid against ReLU in ten layers",
    "A ten-layer net with ReLU learns, one with sigmoid does not, because sigmoid's gradients vanish.",
    "tutorial on vanishing and exploding gradients: ten layers of width 10, SGD 0.01, 500 epochs",
    _sigmoid_relu,
    (
        Condition(
            "both have PyTorch's default init, as published", "end loss, sigmoid / ReLU",
            less_loss("ReLU, default init", than="sigmoid, default init"), math.log10(1.5),
        ),
        Condition(
            "the init suits the activation", "end loss, sigmoid / ReLU",
            less_loss("ReLU, suited init", than="sigmoid, suited init"), math.log10(1.5),
        ),
    ),
    lambda runs: [
        pictures.curves(runs, title="Loss", caption="The target's variance is about 10: a loss of 10 is having learned nothing."),
        pictures.layers(
            median_profile(runs, list(next(iter(runs.values())))), name="signal", y="gradient at the layer's output",
            title="Backward signal before training",
            caption="Root mean square by layer, from the input (left) to the output. A slope is a factor per layer.",
        ),
    ],
    "With the default init the ReLU net's gradient vanishes too: its weights are 0.41 times what ReLU needs.",
)  # fmt: skip


# -- five conditions ----------------------------------------------------------------------------------------------


def _net(depth: int, activation: Callable[[], nn.Module], seed: int, *, factor: float = 1.0) -> nn.Sequential:
    """Width 32, initialised by the rule for the activation, times a factor."""
    model = mlp([16] + [32] * (depth - 1) + [1], activation)
    init.auto_(model, generator=generator(seed))
    with torch.no_grad():
        for weight in init.weights(model):
            weight.tensor.mul_(factor)
    return model


def _measured(model: nn.Module, data: Pair, *, lr: float = 0.0, count: int = 0) -> Run:
    """The backward signal by layer and the gradient norm, after training for some steps."""
    run = train(model, whole(data), count, lr=lr) if count else Run()
    found = signals(model, data)
    sound = all(math.isfinite(s) for s in found) and found[0] > 0
    fade = found[-1] / found[0] if sound else 1.0  # a net that blew up did not vanish
    run.numbers = {"fade": fade, "grad_norm": grad_norm(model)}
    run.curves["signal"] = found
    return run


def _vanishing(seed: int, scale: float) -> Arms:
    data, count = teacher(seed, columns=16), steps(40, scale)
    far = (100 * data[0] + 50, data[1])
    return {
        "sigmoid, 3 layers": _measured(_net(3, nn.Sigmoid, seed), data),
        "sigmoid, 10 layers": _measured(_net(10, nn.Sigmoid, seed), data),
        "ReLU, 10 layers": _measured(_net(10, nn.ReLU, seed), data),
        "ReLU, weights 0.3 times": _measured(_net(10, nn.ReLU, seed, factor=0.3), data),
        "tanh, 10 layers": _measured(_net(10, nn.Tanh, seed), data),
        "tanh, inputs x100": _measured(_net(10, nn.Tanh, seed), far),
        "tanh, trained at 0.01": _measured(_net(10, nn.Tanh, seed), data, lr=0.01, count=count),
        "tanh, trained at 0.5": _measured(_net(10, nn.Tanh, seed), data, lr=0.5, count=count),
    }


def _fades(name: str, bad: str, good: str) -> Condition:
    return Condition(name, "how much weaker the signal arrives", number_ratio("fade", bad, good), 1.0)


VANISHING = Experiment(
    "vanishing-conditions",
    "Five conditions for vanishing gradients",
    "Gradients vanish through depth, activation, initialisation, feature distribution and learning rate.",
    "tutorial on vanishing and exploding gradients, one condition at a time",
    _vanishing,
    (
        _fades("the net is deep (sigmoid, 10 layers against 3)", "sigmoid, 10 layers", "sigmoid, 3 layers"),
        _fades("the activation saturates (sigmoid against ReLU)", "sigmoid, 10 layers", "ReLU, 10 layers"),
        _fades("weights start too small (0.3 times)", "ReLU, weights 0.3 times", "ReLU, 10 layers"),
        _fades("features are badly scaled (100 times, shifted; tanh)", "tanh, inputs x100", "tanh, 10 layers"),
        _fades("the rate is too high (0.5 against 0.01; tanh)", "tanh, trained at 0.5", "tanh, trained at 0.01"),
    ),
    lambda runs: [
        pictures.layers(
            median_profile(runs, [a for a in next(iter(runs.values())) if "0.5" not in a]), name="signal", y="gradient at the layer's output",
            title="Backward signal", caption="Root mean square by layer, from the input (left) to the output.",
        )
    ],
    "Effects are tenfold or more, or they do not count. Too high a rate made the signal of this net grow instead.",
)  # fmt: skip


def _exploding(seed: int, scale: float) -> Arms:
    data, count = teacher(seed, columns=16), steps(20, scale)
    return {
        "ReLU, 10 layers": _measured(_net(10, nn.ReLU, seed), data),
        "tanh, 3 layers": _measured(_net(3, nn.Tanh, seed), data),
        "tanh, 20 layers": _measured(_net(20, nn.Tanh, seed), data),
        "ReLU x3, 3 layers": _measured(_net(3, nn.ReLU, seed, factor=3), data),
        "ReLU x3, 10 layers": _measured(_net(10, nn.ReLU, seed, factor=3), data),
        "tanh x3, 10 layers": _measured(_net(10, nn.Tanh, seed, factor=3), data),
        "ReLU, inputs x100": _measured(_net(10, nn.ReLU, seed), (100 * data[0], data[1])),
        "ReLU, trained at 0.01": _measured(_net(10, nn.ReLU, seed), data, lr=0.01, count=count),
        "ReLU, trained at 1": _measured(_net(10, nn.ReLU, seed), data, lr=1.0, count=count),
    }


def _peak(arms: Arms, name: str) -> float:
    """The largest finite gradient norm on the way; 1e38 once it was not finite."""
    values = [*arms[name].curves.get("grad_norm", []), arms[name].numbers["grad_norm"]]
    return max(v if math.isfinite(v) else 1e38 for v in values)


def _grows(name: str, bad: str, good: str) -> Condition:
    def effect(arms: Arms) -> float:
        return math.log10(_peak(arms, bad) / max(_peak(arms, good), 1e-38))

    return Condition(name, "gradient norm, how many times larger", effect, 1.0)


EXPLODING = Experiment(
    "exploding-conditions",
    "Five conditions for exploding gradients",
    "Gradients explode through depth, activation, initialisation, feature distribution and learning rate.",
    "tutorials on vanishing and on exploding gradients, one condition at a time",
    _exploding,
    (
        _grows("the net is deep, with the right init (20 layers against 3)", "tanh, 20 layers", "tanh, 3 layers"),
        _grows("the net is deep and weights are too large (10 layers against 3)", "ReLU x3, 10 layers", "ReLU x3, 3 layers"),
        _grows("the activation has no bound (ReLU against tanh, weights 3 times)", "ReLU x3, 10 layers", "tanh x3, 10 layers"),
        _grows("weights start too large (3 times)", "ReLU x3, 10 layers", "ReLU, 10 layers"),
        _grows("features are badly scaled (100 times)", "ReLU, inputs x100", "ReLU, 10 layers"),
        _grows("the rate is too high (1 against 0.01)", "ReLU, trained at 1", "ReLU, trained at 0.01"),
    ),
    lambda runs: [
        pictures.layers(
            median_profile(runs, [a for a in next(iter(runs.values())) if "trained" not in a]), name="signal",
            y="gradient at the layer's output", title="Backward signal before training",
            caption="Root mean square by layer, from the input (left) to the output.",
        )
    ],
    "Depth alone does nothing when each layer keeps the scale; it raises what each layer does to the power of the depth.",
)  # fmt: skip


# -- leaky units --------------------------------------------------------------------------------------------------

_LEAKY: dict[str, Callable[[], nn.Module]] = {
    "ReLU": nn.ReLU, "LeakyReLU": lambda: nn.LeakyReLU(0.1), "PReLU": nn.PReLU,
}  # fmt: skip


def _dead(model: nn.Module, x: Tensor) -> float:
    """Share of hidden units whose activation passes no gradient for any sample: outputs of 0 throughout."""
    shares: list[Tensor] = []
    h = x
    with torch.no_grad():
        for layer in model.children():
            h = layer(h)
            if not isinstance(layer, nn.Linear):
                shares.append((h.abs().amax(0) == 0).float())
    return float(torch.cat(shares).mean())


def _leaky(seed: int, scale: float) -> Arms:
    data = teacher(seed)
    arms: Arms = {}
    for case, shift in (("healthy start", 0.0), ("biases at -2", -2.0)):
        for name, activation in _LEAKY.items():

            def attempt(lr: float, activation: Callable[[], nn.Module] = activation, shift: float = shift) -> Run:
                model = _net(4, activation, seed)
                _shift(model, shift)
                run = train(model, minibatches(data, 64, seed), steps(200, scale), lr=lr)
                run.numbers["dead"] = _dead(model, data[0])
                return run

            arms[f"{name}, {case}"] = best_rate(attempt, (0.1, 0.03))
    return arms


@torch.no_grad()
def _shift(model: nn.Module, bias: float) -> None:
    """Give all hidden units this bias."""
    for layer in list(model.children())[:-1]:
        if isinstance(layer, nn.Linear):
            layer.bias.fill_(bias)


def _leaky_condition(name: str, case: str) -> Condition:
    label = "units start out dead (biases at -2)" if case == "biases at -2" else "units are alive at the start"
    effect = less_loss(f"{name}, {case}", than=f"ReLU, {case}")
    return Condition(f"{label} (with {name})", f"end loss, ReLU / {name}", effect, math.log10(1.2))


LEAKY = Experiment(
    "leaky-relu",
    "LeakyReLU and PReLU",
    "LeakyReLU and PReLU learn where ReLU's units die.",
    "tutorial on vanishing and exploding gradients, remedies",
    _leaky,
    tuple(
        _leaky_condition(name, case) for case in ("biases at -2", "healthy start") for name in ("LeakyReLU", "PReLU")
    ),
    lambda runs: [
        pictures.curves(runs, caption="Four layers, target of unit variance, the best of two rates for each.")
    ],
)


# -- shortcuts ----------------------------------------------------------------------------------------------------


class _Block(nn.Module):
    def __init__(self, width: int, *, shortcut: bool) -> None:
        super().__init__()
        self.linear, self.shortcut = nn.Linear(width, width), shortcut

    def forward(self, x: Tensor) -> Tensor:
        """ReLU and a layer, on top of the input if there is a shortcut."""
        out: Tensor = self.linear(F.relu(x))
        return x + out if self.shortcut else out


def _residual(seed: int, scale: float) -> Arms:
    data = teacher(seed)
    arms: Arms = {}
    for depth in (2, 40):
        for shortcut in (False, True):

            def attempt(lr: float, depth: int = depth, shortcut: bool = shortcut) -> Run:
                model = _stack(depth, seed, shortcut=shortcut)
                return train(model, minibatches(data, 64, seed), steps(150, scale), lr=lr)

            label = f"{depth} layers, {'shortcuts' if shortcut else 'plain'}"
            arms[label] = best_rate(attempt, (0.03, 0.01, 0.003, 0.001))
    return arms


def _stack(depth: int, seed: int, *, shortcut: bool) -> nn.Sequential:
    blocks = [_Block(32, shortcut=shortcut) for _ in range(depth)]
    model = nn.Sequential(nn.Linear(16, 32), *blocks, nn.Linear(32, 1))
    g = generator(seed)
    init.kaiming_(model, generator=g)
    init.kaiming_([model[0], model[-1]], nonlinearity="linear", generator=g)
    if shortcut:
        init.residual_([b.linear for b in blocks], branches=depth, std=1 / 16**0.5, generator=g)
    return model


RESIDUAL = Experiment(
    "residual",
    "Residual connections",
    "Residual connections at least halve the loss of a deep net.",
    "tutorial on vanishing and exploding gradients, remedies",
    _residual,
    tuple(
        Condition(
            f"the net has {depth} layers", "end loss, plain / with shortcuts",
            less_loss(f"{depth} layers, shortcuts", than=f"{depth} layers, plain"), math.log10(2),
        )
        for depth in (40, 2)
    ),
    lambda runs: [pictures.curves(runs, caption="Both nets start from the init that suits them, and use the best of four rates.")],
    "The plain net has the right init too: its signal does not vanish, but it is hard to learn with all the same.",
)  # fmt: skip

EXPERIMENTS: tuple[Experiment, ...] = (SIGMOID_RELU, VANISHING, EXPLODING, LEAKY, RESIDUAL)
