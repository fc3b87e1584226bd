"""Residual connections: the input of a layer added to what its activation makes of it, where the shapes agree."""

from __future__ import annotations

import math
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from steadygrad.interventions.activation import HOLDERS, Activations
from steadygrad.interventions.rehearsal import Rehearsal, Site
from steadygrad.interventions.report import Report
from steadygrad.interventions.stage import Stage
from steadygrad.interventions.values import positive
from steadygrad.naming import module_kind
from steadygrad.records import RemedySpec

#: A line whose activation runs this often in one forward is a recurrence.
RECURRENCE = 8


class Shortcuts:
    """``x + scale * f(W x)``: the product is noted where the layer runs, the sum made where its activation runs.

    In a recurrence written by hand, ``h = f(W x + U h)``, the state is carried on instead: ``h + scale * f(...)``.
    """

    def __init__(self, stage: Stage, spec: RemedySpec, report: Report) -> None:
        self._stage, self._report = stage, report
        self._given = positive(spec, 0.0) if spec.value else 0.0
        self._entered: dict[int, tuple[Tensor, Tensor]] = {}  # id of a product -> (product, what it was made from)
        self._states: dict[Site, Tensor] = {}
        self._shortcuts: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
        self._rehearsal = Rehearsal(stage)
        stage.on_output(self.layer)
        Activations(stage, tuple(HOLDERS), self.activation)
        stage.after_root(lambda model, out: self._forget())
        stage.on_input(self._begins)

    def _begins(self, model: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        self._forget()
        return args, kwargs

    def _forget(self) -> None:
        self._entered.clear()
        self._states.clear()

    def layer(self, module: nn.Module, args: Any, out: Any) -> Tensor | None:
        """A module has run: a product, a normalisation of one, or a recurrent cell."""
        script = self._rehearsal.script
        x = args[0] if args else None
        if script is None or not isinstance(out, Tensor) or not isinstance(x, Tensor):
            return None
        if isinstance(module, nn.RNNCell | nn.GRUCell) and len(args) > 1 and isinstance(args[1], Tensor):
            return self._cell(module, args[1], out)
        kind = module_kind(module)
        if kind in ("linear", "conv") and x.shape == out.shape and out is not x:
            self._entered[id(out)] = (out, x)
        elif kind == "norm" and id(x) in self._entered:
            self._entered[id(out)] = (out, self._entered[id(x)][1])
        return None

    def _cell(self, module: nn.Module, state: Tensor, out: Tensor) -> Tensor | None:
        script = self._rehearsal.script
        assert script is not None
        site = ("cell", id(module))
        if not script.learned:
            script.keep(site, out)
            return None
        self._report.applied("the recurrent state is carried on")
        return state + self._scale(script.order.count(site), recurrent=True) * out

    def activation(self, name: str, original: Any, x: Tensor, args: Any, kwargs: Any) -> Any:
        """An activation runs: is its argument a product of something of the same shape?"""
        script = self._rehearsal.script
        product, before = self._entered.get(id(x), (None, None))
        out = original(x, *args, **kwargs)
        if script is None or not isinstance(out, Tensor):
            return out
        if product is x and before is not None:
            return self._added(("layer",), before, out)
        if module_kind(self._stage.modules[-1]) == "activation":
            return out
        return self._carried(self._rehearsal.site(id(self._stage.modules[-1]), name)[:-1], out)

    def _added(self, site: Site, before: Tensor, out: Tensor) -> Tensor:
        script = self._rehearsal.script
        assert script is not None
        if not script.learned:
            script.keep(site, out)
            return out
        self._report.applied("the input of each layer of the same shape is added to its activation")
        return before + self._scale(script.order.count(site)) * out

    def _carried(self, site: Site, out: Tensor) -> Tensor:
        script = self._rehearsal.script
        assert script is not None
        if not script.learned:
            script.keep(site, out)
            return out
        turns = script.order.count(site)
        state = self._states.get(site)
        if turns < RECURRENCE:
            return out
        self._report.applied(f"the state of a recurrence of {turns} steps is carried on")
        new = self._scale(turns, recurrent=True) * out
        if state is not None and state.shape == new.shape:
            new = state + new
        self._states[site] = new
        return new

    def _scale(self, count: int, *, recurrent: bool = False) -> float:
        """Small enough that the branches together do not outgrow the shortcut."""
        if self._given:
            return self._given
        return 3.0 / max(3, count) if recurrent else 1 / math.sqrt(max(1, count))


def add_residual(stage: Stage, spec: RemedySpec, report: Report) -> None:
    """A way past every layer whose output has the shape of its input."""
    Shortcuts(stage, spec, report)
