"""Residual connections: the input of a layer added to what its activation makes of it, where the shapes agree."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steadygrad.interventions.activation import HOLDERS, Activations
from steadygrad.interventions.rehearsal import Rehearsal, Site
from steadygrad.interventions.report import Report
from steadygrad.interventions.stage import Stage
from steadygrad.kinds import module_kind
from steadygrad.records import RemedySpec
from steadygrad.values import positive

#: A line whose activation runs this often in one forward is a recurrence.
RECURRENCE = 8
#: Activations of one shape, each made from the one before, are a stack where there are so many; so many operations of
#: autograd may lie between two of them.
STACK, BETWEEN = 3, 16


class Shortcuts:
    """``x + scale * f(W x)``: the product is noted where the layer runs, the sum made where its activation runs.

    In a recurrence written by hand, ``h = f(W x + U h)``, the state is carried on instead: ``h + scale * f(...)``.
    Where no layer's own input fits, because it was padded or multiplied with something else, the activation before it
    is added.
    """

    def __init__(self, stage: Stage, spec: RemedySpec, report: Report) -> None:
        self._stage, self._report = stage, report
        self._given = positive(spec, 0.0) if spec.value else 0.0
        self._entered: dict[int, tuple[Tensor, Tensor]] = {}  # id of a product -> (product, what it was made from)
        self._states: dict[Site, Tensor] = {}
        self._before: Tensor | None = None  # the activation that ran last in this forward
        self._turn = 0
        self._ran: set[int] = set()  # modules with weights of their own that ran since then
        self._layers: dict[Site, set[int]] = {}
        self._rehearsal = Rehearsal(stage)
        stage.on_output(self.layer)
        Activations(stage, tuple(HOLDERS), self.activation)
        stage.after_root(lambda model, out: self._forget())
        stage.on_input(self._begins)

    def _begins(self, model: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        self._forget()
        return args, kwargs

    def _forget(self) -> None:
        self._before, self._turn = None, 0
        self._entered.clear()
        self._states.clear()

    def layer(self, module: nn.Module, args: Any, out: Any) -> Any:
        """A module has run: a product, a normalisation of one, or a recurrent cell."""
        script = self._rehearsal.script
        x = args[0] if args else None
        if any(parameter is not None for parameter in module._parameters.values()):
            self._ran.add(id(module))
        if isinstance(module, nn.RNN) and script is not None and isinstance(x, Tensor):
            return self._unrolled(module, x, args, out)
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

    def _unrolled(self, module: nn.RNN, x: Tensor, args: Any, out: Any) -> Any:
        """``nn.RNN`` step by step, with its state carried on."""
        script = self._rehearsal.script
        assert script is not None
        plain = module.num_layers == 1 and not module.bidirectional and x.dim() == 3 and len(args) < 2
        if not script.learned or not plain:
            return None
        steps = x.unbind(1 if module.batch_first else 0)
        self._report.applied(f"the state of a recurrence of {len(steps)} steps is carried on")
        scale = self._scale(len(steps), recurrent=True)
        squash = torch.tanh if module.nonlinearity == "tanh" else torch.relu
        weights = dict(module.named_parameters())
        into, over = weights["weight_ih_l0"], weights["weight_hh_l0"]
        offset, shift = weights.get("bias_ih_l0"), weights.get("bias_hh_l0")
        state, states = x.new_zeros(len(steps[0]), module.hidden_size), []
        for frame in steps:
            drive = F.linear(frame, into, offset) + F.linear(state, over, shift)
            state = state + scale * squash(drive)
            states.append(state)
        return torch.stack(states, 1 if module.batch_first else 0), state.unsqueeze(0)

    def activation(self, name: str, original: Any, x: Tensor, args: Any, kwargs: Any) -> Any:
        """An activation runs: is its argument a product of something of the same shape?"""
        script = self._rehearsal.script
        product, before = self._entered.get(id(x), (None, None))
        out = original(x, *args, **kwargs)
        if script is None or not isinstance(out, Tensor) or isinstance(self._stage.modules[-1], nn.RNNBase):
            return out
        if product is x and before is not None:
            out = self._added(("layer",), before, out)
        else:
            is_module = module_kind(self._stage.modules[-1]) == "activation"
            new = out if is_module else self._carried(self._rehearsal.site(id(self._stage.modules[-1]), name)[:-1], out)
            out = self._stacked(x, out) if new is out else new
        self._before = out
        self._ran.clear()
        return out

    def _stacked(self, x: Tensor, out: Tensor) -> Tensor:
        script, before = self._rehearsal.script, self._before
        assert script is not None
        self._turn += 1
        site = ("stack", self._turn)
        if not script.learned:
            if before is not None and before.shape == out.shape and _made_from(x, before):
                script.keep(site, out)
            return out
        count = sum(known[0] == "stack" for known in script.order)
        if site not in script.order or site in script.outputs or count < STACK or before is None:
            return out
        if before.shape != out.shape:
            return out
        self._report.applied("each activation of a stack of one shape is added to the next")
        return before + self._scale(count) * out

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
            self._layers[site] = self._layers.get(site, set()) | self._ran
            return out
        turns = script.order.count(site)
        state = self._states.get(site)
        if turns < RECURRENCE or len(self._layers[site]) >= turns:  # each turn has a layer of its own: a stack
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
        return min(1.0, 6.0 / max(1, count)) if recurrent else 1 / math.sqrt(max(1, count))


def _made_from(x: Tensor, source: Tensor) -> bool:
    """Whether one tensor was computed from another, by few operations."""
    wanted, nodes = source.grad_fn, [x.grad_fn]
    for _ in range(BETWEEN):
        if wanted is None or wanted in nodes:
            break
        nodes = [inner for node in nodes if node is not None for inner, _ in node.next_functions][:BETWEEN]
    return wanted is not None and wanted in nodes


def add_residual(stage: Stage, spec: RemedySpec, report: Report) -> None:
    """A way past every layer whose output has the shape of its input."""
    Shortcuts(stage, spec, report)
