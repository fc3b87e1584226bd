"""Faults to inject into a training: to see what happens, and whether a guard holds.

>>> faults = Faults(seed=0, rates={"spike": 0.2, "nan-loss": 0.2})
>>> [faults.at(step) for step in range(6)]
['', '', 'spike', '', '', 'nan-loss']
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from steadygrad.errors import InputError

#: What can go wrong with a step, and what is done to make it so.
KINDS = {
    "nan-gradient": "one entry of one gradient becomes NaN",
    "inf-gradient": "one entry of one gradient becomes Inf",
    "nan-loss": "the loss becomes NaN, and all gradients with it",
    "inf-loss": "the loss becomes Inf, while its gradient stays finite",
    "spike": "the loss, and so its gradient, is multiplied by a large factor",
    "corrupt-batch": "a tenth of the batch's numbers become huge",
    "nan-batch": "one number of the batch becomes NaN",
}


class Faults:
    """Decides for every step whether it fails and how, from seed and step alone: the same again after a restart.

    Args:
        seed: of the decisions.
        rates: share of steps that fail, by kind (see :data:`KINDS`). Their sum is at most 1.
        size: factor of spikes, and magnitude of corrupt numbers.

    Raises:
        InputError: an unknown kind, or rates that do not add up.
    """

    def __init__(self, *, seed: int = 0, rates: Mapping[str, float], size: float = 1e4) -> None:
        unknown = set(rates) - set(KINDS)
        if unknown:
            raise InputError(f"unknown faults: {', '.join(sorted(unknown))}; known are {', '.join(KINDS)}")
        if min(rates.values(), default=0) < 0 or sum(rates.values()) > 1:
            raise InputError(f"rates are shares of the steps, 0 or more and at most 1 together, not {dict(rates)}")
        self.seed, self.size = seed, size
        self._kinds = list(rates)
        self._ends = np.cumsum([rates[kind] for kind in self._kinds])

    def _draw(self, step: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, step])

    def at(self, step: int) -> str:
        """The kind of fault of a step; empty for most."""
        number = self._draw(step).random()
        found = int(np.searchsorted(self._ends, number, side="right"))
        return self._kinds[found] if found < len(self._kinds) else ""

    def batch(self, step: int, batch: Tensor) -> Tensor:
        """The batch as the model gets it: itself, or a spoiled copy."""
        kind = self.at(step)
        if kind not in ("corrupt-batch", "nan-batch"):
            return batch
        spoiled = batch.clone()
        flat = spoiled.view(-1)
        count = 1 if kind == "nan-batch" else max(1, flat.numel() // 10)
        where = torch.from_numpy(self._draw(step).choice(flat.numel(), count, replace=False)).to(batch.device)
        flat[where] = math.nan if kind == "nan-batch" else self.size
        return spoiled

    def loss(self, step: int, loss: Tensor, parameters: Iterable[Tensor] = ()) -> Tensor:
        """The loss to call ``backward`` on: itself, or one that is wrong or has a wrong gradient.

        Args:
            step: decides whether, and which.
            loss: a scalar.
            parameters: one of them gets the bad gradient, where the fault is one of gradients.
        """
        kind = self.at(step)
        if kind == "nan-loss":
            return loss * math.nan
        if kind == "inf-loss":
            return loss + math.inf
        if kind == "spike":
            return loss * self.size
        if kind in ("nan-gradient", "inf-gradient"):
            trainable = [p for p in parameters if p.requires_grad]
            chosen = trainable[int(self._draw(step).integers(len(trainable)))]
            return loss + 0.0 * _spoiled(chosen, math.nan if kind == "nan-gradient" else math.inf)
        return loss


def _spoiled(parameter: Tensor, value: float) -> Tensor:
    """A finite number whose gradient with respect to the parameter has one bad entry."""
    number: Tensor = _BadEntry.apply(parameter, value)  # type: ignore[no-untyped-call]
    return number


class _BadEntry(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, parameter: Tensor, value: float) -> Tensor:
        """Any finite number."""
        ctx.value, ctx.like = value, parameter  # type: ignore[attr-defined]
        return parameter.new_zeros(())

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *_: Tensor) -> tuple[Tensor, None]:
        """Zeros, and the bad entry."""
        gradient = torch.zeros_like(ctx.like)  # type: ignore[attr-defined]
        gradient.view(-1)[0] = ctx.value  # type: ignore[attr-defined]
        return gradient, None
