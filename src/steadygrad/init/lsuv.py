"""Layer-sequential unit-variance initialisation, in the order of execution and in a single forward pass."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from steadygrad.dryrun import Forward, calm, feed, undisturbed
from steadygrad.errors import InputError
from steadygrad.init.follow import Flow, Following, Use
from steadygrad.init.rules import Random, orthogonal_, positive
from steadygrad.init.weights import Weight, weights


@dataclass(frozen=True, slots=True)
class Scaled:
    """What LSUV did to a weight: standard deviation of its output before and after, and the rescalings it took."""

    name: str
    before: float
    after: float
    tries: int


def lsuv_(
    model: nn.Module,
    batch: Any,
    *,
    std: float = 1.0,
    tolerance: float = 0.1,
    max_tries: int = 10,
    orthonormal: bool = True,
    forward: Forward | None = None,
    generator: Random = None,
) -> list[Scaled]:
    """Scale each weight until its output has unit variance on this batch (Mishkin and Matas 2016).

    The model runs once. Where a weight is used for the first time, the layer is computed again with the rescaled
    weight until its output fits, and the run goes on from there: the order is that of execution, not of registration.
    Dropout is off meanwhile, BatchNorm as it was. Recurrent and attention layers are made orthonormal only, as LSUV is
    defined on the output of a linear map; so are parametrized weights (weight_norm), whose scale is a parameter.

    Args:
        model: the whole model.
        batch: what to call it on: a tensor, a mapping (keywords), or a tuple or list whose first element is the input.
        std: standard deviation to give every layer's output.
        tolerance: how far from ``std`` is close enough, as a share of it.
        max_tries: rescalings per weight at most.
        orthonormal: start from orthonormal weights and zero biases; False only rescales what is there.
        forward: ``forward(model, batch)``, where the model is called in another way.
        generator: where the random numbers come from; torch's global state by default.

    Returns:
        One row per weight that was scaled, in the order of execution. Flags, buffers, gradients and random state are as
        before; with an exception the weights are too.

    Raises:
        InputError: a setting out of range, a layer whose output is not finite or all equal, or nothing to scale.

    Example:
        >>> net = nn.Sequential(nn.Linear(10, 50), nn.ReLU(), nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, 2))
        >>> [row.name for row in lsuv_(net, torch.randn(256, 10)) if abs(row.after - 1) < 0.1]
        ['0.weight', '2.weight', '4.weight']
    """
    positive("std", std)
    positive("tolerance", tolerance)
    if max_tries < 1:
        raise InputError(f"max_tries must be at least 1, not {max_tries!r}")
    scaler = _Scaler(std, tolerance, max_tries)
    kept = [(p, p.detach().clone()) for p in model.parameters() if p.requires_grad]
    try:
        if orthonormal:
            orthogonal_(model, generator=generator)
        with undisturbed(model), torch.no_grad():
            calm(model)
            with Flow([w for w in weights(model) if _scalable(w)], Following("run"), scaler.scale):
                feed(model, batch, forward)
        if not scaler.rows:
            raise InputError("LSUV found no linear or convolutional weight in use; give the whole model and its input")
    except BaseException:
        with torch.no_grad():
            for parameter, value in kept:
                parameter.copy_(value)
        raise
    return scaler.rows


def _scalable(weight: Weight) -> bool:
    module = weight.module
    if isinstance(module, nn.RNNBase | nn.RNNCellBase | nn.MultiheadAttention):
        return False
    return module is None or not parametrize.is_parametrized(module, weight.attribute)


@dataclass
class _Scaler:
    std: float
    tolerance: float
    max_tries: int

    def __post_init__(self) -> None:
        self.rows: list[Scaled] = []
        self._done: set[int] = set()

    def scale(self, use: Use) -> Any:
        """Rescale a weight where it is used for the first time; later uses of a tied weight take it as it is."""
        out = use.call(use.args)
        if not use.is_product or id(use.weights[0].tensor) in self._done:
            return out
        weight, tries = use.weights[0], 0
        self._done.add(id(weight.tensor))
        first = now = self._spread(out, weight)
        while abs(now / self.std - 1) > self.tolerance and tries < self.max_tries:
            weight.tensor.mul_(self.std / now)
            out, tries = use.call(use.args), tries + 1
            now = self._spread(out, weight)
        self.rows.append(Scaled(weight.name, first, now, tries))
        return out

    def _spread(self, out: Tensor, weight: Weight) -> float:
        value = float(out.double().std())
        if not math.isfinite(value) or value == 0:
            kind = "all equal" if value == 0 else "not finite, or a single number"
            raise InputError(
                f"LSUV scales a layer by the spread of its output, and that of {weight.name} is {kind} ({value}); "
                "check the batch, and that the layers before it are not dead"
            )
        return value
