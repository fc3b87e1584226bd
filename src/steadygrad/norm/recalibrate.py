"""Running statistics of BatchNorm computed anew, exactly, over as much data as wanted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from steadygrad.dryrun import Forward, feed, undisturbed
from steadygrad.errors import InputError
from steadygrad.norm.layers import BatchNorm, Layers, Moments, chosen


@dataclass(frozen=True, slots=True)
class Recalibrated:
    """What recalibration did to a layer.

    ``shift`` is the largest move of a channel's mean, in standard deviations of the new statistics; ``ratio`` the
    largest factor, up or down, by which a channel's variance changed.
    """

    name: str
    samples: int
    shift: float
    ratio: float


def recalibrate(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    layers: Layers | None = None,
    limit: int | None = None,
    forward: Forward | None = None,
) -> list[Recalibrated]:
    """Set the running statistics of BatchNorm to those of the data, every sample with the same weight.

    What a layer sees while training is measured: the layers chosen normalise by their batch, as they do in training,
    and all else is in evaluation mode, dropout too. Needed after weights were averaged or changed (SWA, EMA, pruning),
    or where batches were small. ``torch.optim.swa_utils.update_bn`` gives every *batch* the same weight, wakes frozen
    layers, and leaves dropout on.

    Args:
        model: any module with BatchNorm layers.
        batches: an iterable of batches: tensors, mappings (keywords), or tuples or lists whose first is the input. They
            should be of the size used in training.
        layers: names or modules; by default all that are not frozen. A layer is frozen if it is in evaluation mode
            within a training model, or if its parameters do not train.
        limit: how many batches to use at most; None for all.
        forward: ``forward(model, batch)``, where the model is called in another way.

    Returns:
        One row per layer. Only ``running_mean`` and ``running_var`` of the layers chosen are changed, and these only
        when all batches have been read: after an exception the model is as it was. The variance is that of the
        population, divided by the number of values.

    Raises:
        InputError: no layer to recalibrate, no batches, or a batch with a single value per channel.

    Example:
        >>> model = nn.Sequential(nn.BatchNorm1d(1))
        >>> rows = recalibrate(model, [torch.full((100, 1), 0.0) , torch.full((25, 1), 5.0)])
        >>> model[0].running_mean.item(), model[0].running_var.item(), rows[0].samples
        (1.0, 4.0, 125)
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1 batch, or None for all; received {limit!r}")
    if isinstance(batches, Tensor):
        raise InputError("batches must be an iterable of batches, not one tensor; for a single batch give [batch]")
    found = chosen(model, layers)
    moments = {name: Moments() for name in found}
    with undisturbed(model), torch.no_grad(), _measuring(model, found, moments):
        number = 0
        for number, batch in enumerate(islice(batches, limit), start=1):
            _feed(model, batch, forward, number)
        if not number:
            raise InputError("batches is empty (or an iterator that was used up); the running statistics are as before")
    unused = [name for name, m in moments.items() if not m.count]
    if unused:
        raise InputError(f"no batch reached {', '.join(unused)}; leave them out with layers=[...]")
    return [_store(name, layer, moments[name]) for name, layer in found.items()]


def _feed(model: nn.Module, batch: Any, forward: Forward | None, number: int) -> None:
    try:
        feed(model, batch, forward)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise InputError(
            f"batch {number} has a single value per channel, of which no variance can be taken; "
            "leave it out (drop_last=True), or use larger batches"
        ) from error


@contextlib.contextmanager
def _measuring(model: nn.Module, found: dict[str, BatchNorm], moments: dict[str, Moments]) -> Iterator[None]:
    """The chosen layers in training mode with their averages held still, everything else in evaluation mode."""
    momenta = {name: layer.momentum for name, layer in found.items()}
    hooks = [layer.register_forward_pre_hook(_Reader(moments[name]), with_kwargs=True) for name, layer in found.items()]
    try:
        model.eval()
        for layer in found.values():
            layer.training, layer.momentum = True, 0.0
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for name, layer in found.items():
            layer.momentum = momenta[name]


class _Reader:
    """A hook that takes in what a layer is fed."""

    def __init__(self, moments: Moments) -> None:
        self._moments = moments

    def __call__(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._moments.add(args[0] if args else kwargs["input"])


@torch.no_grad()
def _store(name: str, layer: BatchNorm, moments: Moments) -> Recalibrated:
    mean, var = moments.result()
    assert layer.running_mean is not None
    assert layer.running_var is not None
    old_mean, old_var = layer.running_mean.to(mean), layer.running_var.to(var)
    shift = float(((mean - old_mean).abs() / (var + layer.eps).sqrt()).max())
    ratio = (var + layer.eps) / (old_var + layer.eps)
    layer.running_mean.copy_(mean)
    layer.running_var.copy_(var)
    return Recalibrated(name, moments.count, shift, float(torch.maximum(ratio, 1 / ratio).max()))
