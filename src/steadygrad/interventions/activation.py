"""Exchanging activations, whether they are modules, functions or methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from steadygrad.interventions.places import at_line, inside, is_line
from steadygrad.interventions.rehearsal import Rehearsal
from steadygrad.interventions.report import Report
from steadygrad.interventions.stage import Stage
from steadygrad.records import RemedySpec
from steadygrad.values import one_of

#: Where each activation can be called from. torch's activation modules call one of these.
HOLDERS: dict[str, tuple[tuple[Any, str], ...]] = {
    "relu": ((F, "relu"), (F, "relu_"), (torch, "relu"), (torch, "relu_"), (Tensor, "relu"), (Tensor, "relu_")),
    "sigmoid": ((torch, "sigmoid"), (F, "sigmoid"), (Tensor, "sigmoid"), (Tensor, "sigmoid_"), (torch, "sigmoid_")),
    "tanh": ((torch, "tanh"), (F, "tanh"), (Tensor, "tanh"), (Tensor, "tanh_"), (torch, "tanh_")),
    "leaky_relu": ((F, "leaky_relu"),),
    "elu": ((F, "elu"),),
    "gelu": ((F, "gelu"),),
    "silu": ((F, "silu"),),
    "softplus": ((F, "softplus"),),
    "relu6": ((F, "relu6"), (F, "hardtanh")),
    "softsign": ((F, "softsign"),),
    "hardsigmoid": ((F, "hardsigmoid"),),
}
NEW: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "softplus": F.softplus,
    "identity": lambda x: x,
}
FLAT = ("sigmoid", "tanh", "softsign", "hardsigmoid")
ONE_SIDED = ("relu", "relu6")


class Activations:
    """Every call of an activation: ``treat(name, site-wise decision)`` may return another result."""

    def __init__(self, stage: Stage, names: tuple[str, ...], treat: Callable[[str, Any, Any, Any, Any], Any]) -> None:
        self._stage, self._treat = stage, treat
        self._busy = False
        stage.watch_modules()
        for name in names:
            for holder, attribute in HOLDERS[name]:
                stage.patch(holder, attribute, self._wrapped(name))

    def _wrapped(self, name: str) -> Callable[[Any], Any]:
        def make(original: Any) -> Any:
            def activation(x: Any, *args: Any, **kwargs: Any) -> Any:
                if self._busy or not isinstance(x, Tensor) or not self._stage.here():
                    return original(x, *args, **kwargs)
                self._busy = True  # some of them call one another
                try:
                    return self._treat(name, original, x, args, kwargs)
                finally:
                    self._busy = False

            return activation

        return make


class Swap:
    """Another activation in the hidden layers, or at one place."""

    def __init__(self, stage: Stage, spec: RemedySpec, report: Report) -> None:
        self._stage, self._spec, self._report = stage, spec, report
        self._name = one_of(spec, *NEW)
        self._new = NEW[self._name]
        self._at_output = self._name == "softplus"  # for what has to be positive: inside, others serve better
        old = {"leaky_relu": ONE_SIDED, "softplus": ONE_SIDED, "identity": (*ONE_SIDED, *FLAT)}.get(
            self._name, (*FLAT, *ONE_SIDED)
        )
        self._rehearsal = Rehearsal(stage)
        Activations(stage, tuple(n for n in old if n != self._name), self.treat)

    def treat(self, name: str, original: Any, x: Tensor, args: Any, kwargs: Any) -> Any:
        """One call of an activation."""
        if self._stage.root is None:
            return self._bare(name, original, x, args, kwargs)
        site = self._rehearsal.site(id(self._stage.modules[-1]), name)
        script = self._rehearsal.script
        if script is None:
            return original(x, *args, **kwargs)
        if not script.learned:
            out = original(x, *args, **kwargs)
            script.keep(site, out)
            return out
        if self._at_output and not script.outputs:
            self._report.refused("no such activation makes an output")
        if not self._meant(name) or ((site in script.outputs) != self._at_output and not self._spec.place):
            return original(x, *args, **kwargs)
        self._report.applied(f"{name} is replaced by {self._name}")
        return self._new(x)

    def _meant(self, name: str) -> bool:
        place = self._spec.place
        if not place:
            return True
        if is_line(place):
            return at_line(place, 4)
        function = place.partition(":")[2].partition("#")[0]
        root = self._stage.modules[0]
        own = next((n for n, m in root.named_modules() if m is self._stage.modules[-1]), None)
        return own is not None and inside(own, place) and function in ("", name)

    def _bare(self, name: str, original: Any, x: Tensor, args: Any, kwargs: Any) -> Any:
        """A script of plain tensors, without modules. There a sigmoid may make the output."""
        hidden = not self._stage.by_module and x.requires_grad and name in (*ONE_SIDED, "tanh")
        if hidden and at_line(self._spec.place, 4):
            self._report.applied(f"{name} is replaced by {self._name}")
            return self._new(x)
        return original(x, *args, **kwargs)


def swap_activation(stage: Stage, spec: RemedySpec, report: Report) -> None:
    """Another activation: ReLU where sigmoid and tanh saturate, leaky ReLU where ReLU dies, none on an output."""
    Swap(stage, spec, report)
