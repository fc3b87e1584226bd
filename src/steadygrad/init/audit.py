"""Scales of a model before any training: what its weights should do to activations and gradients, and what they do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from steadygrad.dryrun import Forward, calm, feed, tensors, undisturbed
from steadygrad.errors import InputError
from steadygrad.init.auto import Choice, plan
from steadygrad.init.follow import Flow, Following, Use
from steadygrad.init.weights import Weight, weights

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from rich.console import Group
    from rich.table import Table

#: A weight whose standard deviation is off its rule's by this factor is pointed out.
OFF = 2.0
#: A scale that changes by this factor from the first layer to the last is pointed out.
DRIFT = 100.0
NAN = math.nan


@dataclass(slots=True)
class Scale:
    """A layer at the start of training. Scales are root mean squares over the batch.

    ``forward`` is that of the layer's output; expected is ``rms(input) * sqrt(fan_in) * rms(weight)`` (and the bias).
    ``backward`` is that of the gradient at the layer's input, as far as it comes through this layer; expected is
    ``rms(gradient at its output) * sqrt(fan_out) * rms(weight)``. NaN where it is not defined: recurrent and attention
    layers are no single product.
    """

    name: str
    kind: str
    fan_in: float
    fan_out: float
    std: float
    rule: str = ""
    rule_std: float = NAN
    activation: str = "linear"
    forward: float = NAN
    forward_expected: float = NAN
    backward: float = NAN
    backward_expected: float = NAN

    @property
    def off(self) -> float:
        """The weight's standard deviation as a multiple of its rule's."""
        return self.std / self.rule_std if self.rule_std else NAN


@dataclass(frozen=True, slots=True)
class Audit:
    """The scales of a model's layers in the order of execution, and what is worth saying about them."""

    rows: tuple[Scale, ...]
    problems: tuple[str, ...] = field(default=())

    def table(self) -> Table:
        """The scales as a table for the terminal."""
        from steadygrad.init.view import audit_table

        return audit_table(self)

    def figure(self) -> go.Figure:
        """The scales over depth, on a logarithmic axis."""
        from steadygrad.init.view import audit_figure

        return audit_figure(self)

    def __rich__(self) -> Group:
        from rich.console import Group
        from rich.text import Text

        return Group(self.table(), Text("\n".join(self.problems) or "no scale is far from what it should be"))


def audit(
    model: nn.Module,
    batch: Any,
    *,
    loss: Callable[[Any], Tensor] | None = None,
    forward: Forward | None = None,
) -> Audit:
    """Measure the forward and backward scale of every layer on one batch, beside what its weights let expect.

    Nothing is trained and nothing stays changed: parameters, gradients, buffers, flags and random state are as before.
    Dropout is off, BatchNorm in the mode it is in.

    Args:
        model: any module.
        batch: what to call it on: a tensor, a mapping (keywords), or a tuple or list whose first is the input.
        loss: from the model's output to a scalar. By default the backward scale is that of a gradient of standard
            normal numbers at the output, which shows what the model does to gradients, whatever the loss.
        forward: ``forward(model, batch)``, where the model is called in another way.

    Returns:
        An :class:`Audit`: ``rows``, ``problems``, ``table()`` for rich, ``figure()`` for plotly.

    Raises:
        InputError: no weight was used, or nothing in the output can be differentiated.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> net = nn.Sequential(*(layer for _ in range(8) for layer in (nn.Linear(64, 64), nn.Sigmoid())))
        >>> result = audit(net, torch.randn(32, 64))
        >>> len(result.rows), "backward scale shrinks" in result.problems[-1]
        (8, True)
    """
    choices = {choice.name: choice for choice in plan(model, batch=batch, forward=forward)}
    measured = _Measure()
    with undisturbed(model), torch.enable_grad(), parametrize.cached():
        calm(model)
        with Flow(weights(model, frozen=True), Following("run"), measured.use):
            out = feed(model, batch, forward)
        _backward(out, loss)
    if not measured.rows:
        raise InputError("the model used no weight on this batch; give the whole model and its input")
    rows = [_with_choice(row, choices.get(row.name)) for row in measured.rows.values()]
    return Audit(tuple(rows), tuple(_problems(rows)))


def rms(tensor: Tensor) -> float:
    """Root mean square, in float64."""
    return float(tensor.detach().double().square().mean().sqrt())


@dataclass
class _Measure:
    rows: dict[str, Scale] = field(default_factory=dict)

    def use(self, use: Use) -> Any:
        """Measure the first use of a weight; a recurrent or tied one may be used again."""
        fresh = [w for w in use.weights if w.name not in self.rows]
        if not fresh:
            return use.call(use.args)
        for weight in fresh:
            value = weight.read()
            spread = float(value.double().std(correction=0))
            kind = type(weight.module).__name__.removeprefix("Parametrized").removeprefix("NonDynamicallyQuantizable")
            self.rows[weight.name] = Scale(weight.name, kind, weight.fans.fan_in, weight.fans.fan_out, spread)
        if use.is_product:
            return self._product(use, use.weights[0])
        out = use.call(use.args)
        found = tensors(out)
        for weight in fresh[-1:] if found else []:
            self.rows[weight.name].forward = rms(found[0])
        return out

    def _product(self, use: Use, weight: Weight) -> Any:
        """The input goes in under another name, so that its gradient is what comes back through this layer alone."""
        row, size = self.rows[weight.name], rms(weight.read())
        at = next((i for i, a in enumerate(use.args) if _is_input(a, weight)), None)
        if at is None:
            return use.call(use.args)
        given = use.args[at]
        alias = given.view_as(given) if given.requires_grad else given.detach().requires_grad_()
        out = use.call((*use.args[:at], alias, *use.args[at + 1 :]))
        spread = rms(given) * math.sqrt(weight.fans.fan_in) * size
        row.forward, row.forward_expected = rms(out), math.hypot(spread, _bias(weight))

        def at_output(grad: Tensor) -> None:
            row.backward_expected = rms(grad) * math.sqrt(weight.fans.fan_out) * size

        def at_input(grad: Tensor) -> None:
            row.backward = rms(grad)

        out.register_hook(at_output)
        alias.register_hook(at_input)
        return out


def _is_input(value: Any, weight: Weight) -> bool:
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.dim() < 2:
        return False
    return value.data_ptr() != weight.read().data_ptr()


def _bias(weight: Weight) -> float:
    biases = [getattr(weight.module, name, None) for name in weight.biases]
    return math.hypot(0.0, *(rms(b) for b in biases if isinstance(b, Tensor)))


def _backward(out: Any, loss: Callable[[Any], Tensor] | None) -> None:
    roots = [t for t in (tensors(out) if loss is None else [loss(out)]) if t.requires_grad]
    if not roots:
        raise InputError("nothing in the model's output can be differentiated; is it wrapped in no_grad or detached?")
    seeds: list[Tensor | None] = [None]
    if loss is None:
        generator = torch.Generator().manual_seed(0)
        seeds = [torch.randn(t.shape, generator=generator).to(t.device, t.dtype) for t in roots]
    torch.autograd.backward(roots, seeds)


def _with_choice(row: Scale, choice: Choice | None) -> Scale:
    if choice is not None:
        row.rule, row.rule_std, row.activation = choice.rule, choice.std, choice.activation
    return row


def _problems(rows: list[Scale]) -> list[str]:
    # A gradient travels from the last layer to the first.
    forward, backward = [r.forward for r in rows], [r.backward for r in reversed(rows)]
    return [*_off_rule(rows), *_drift("forward", forward), *_drift("backward", backward)]


def _off_rule(rows: list[Scale]) -> Iterator[str]:
    """Weights far from the deviation that their rule gives: one by one, or where there are many all together."""
    off = [row for row in rows if row.rule_std > 0 and not 1 / OFF <= row.off <= OFF]
    if len(off) >= 4:
        low, high = min(row.off for row in off), max(row.off for row in off)
        yield (
            f"{len(off)} of {len(rows)} weights have a standard deviation of {low:.2g} to {high:.2g} times that of "
            f"their rules; the first is {off[0].name}"
        )
        return
    for row in off:
        yield (
            f"{row.name} has a standard deviation of {row.std:.3g}, {row.off:.2g} times that of its rule "
            f"({row.rule}, {row.rule_std:.3g})"
        )


def _drift(what: str, scales: list[float]) -> Iterator[str]:
    """A scale that grows or shrinks from layer to layer, in the order of travel."""
    known = [s for s in scales if not math.isnan(s)]
    if any(not math.isfinite(s) or s == 0 for s in known):
        yield f"the {what} scale is zero or infinite in some layer"
    elif len(known) > 2 and not 1 / DRIFT <= known[-1] / known[0] <= DRIFT:
        whole = known[-1] / known[0]
        word = "grows" if whole > 1 else "shrinks"
        each = whole ** (1 / (len(known) - 1))
        yield f"the {what} scale {word} by {each:.2g} per layer, {whole:.2g} over {len(known)} layers"
