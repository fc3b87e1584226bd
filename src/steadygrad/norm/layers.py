"""Which BatchNorm layers a model has, which of them are frozen, and exact moments of what they are fed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from steadygrad.errors import InputError

BatchNorm = nn.modules.batchnorm._BatchNorm
Layers = Iterable[str | nn.Module]


def batchnorm_layers(model: nn.Module) -> dict[str, BatchNorm]:
    """Every BatchNorm layer by name, in registration order.

    Example:
        >>> list(batchnorm_layers(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))))
        ['1']
    """
    return {name: module for name, module in model.named_modules() if isinstance(module, BatchNorm)}


def frozen(layer: BatchNorm, model: nn.Module) -> bool:
    """Whether a layer is kept still: in evaluation mode within a training model, or with parameters that do not train.

    Example:
        >>> model = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3))
        >>> _ = model[0].eval()
        >>> [frozen(layer, model) for layer in model]
        [True, False]
    """
    parameters = list(layer.parameters(recurse=False))
    return (model.training and not layer.training) or (
        bool(parameters) and not any(p.requires_grad for p in parameters)
    )


def chosen(model: nn.Module, layers: Layers | None) -> dict[str, BatchNorm]:
    """The layers asked for, by name or as modules; without a choice those that keep running statistics and learn.

    Raises:
        InputError: a name or module that is no BatchNorm layer of the model, or none keeps running statistics.
    """
    every = batchnorm_layers(model)
    if layers is None:
        found = {name: layer for name, layer in every.items() if not frozen(layer, model)}
    else:
        names = {id(layer): name for name, layer in every.items()}
        found = {}
        for wanted in layers:
            name = wanted if isinstance(wanted, str) else names.get(id(wanted))
            if name is None or name not in every:
                raise InputError(f"{wanted!r} is no BatchNorm layer of this model; it has {', '.join(every) or 'none'}")
            found[name] = every[name]
    found = {name: layer for name, layer in found.items() if layer.running_mean is not None}
    if not found:
        raise InputError(
            "the model has no BatchNorm layer with running statistics that is not frozen"
            if layers is None
            else "none of these layers keeps running statistics (track_running_stats=False)"
        )
    return found


@dataclass
class Moments:
    """Count, mean and sum of squared deviations per channel, merged batch by batch (Chan, Golub and LeVeque 1983).

    Nothing large is ever subtracted from something large, so a mean of 1000 beside a variance of 1e-4 is no problem.
    """

    count: int = 0
    mean: Tensor | None = None
    deviations: Tensor | None = None

    @torch.no_grad()
    def add(self, values: Tensor) -> None:
        """Take in a batch of shape [N, C, ...]."""
        wide = torch.float32 if values.device.type == "mps" else torch.float64
        rows = values.detach().transpose(0, 1).flatten(1).to(wide)
        count, mean = rows.shape[1], rows.mean(1)
        deviations = (rows - mean[:, None]).square().sum(1)
        if self.mean is None or self.deviations is None:
            self.count, self.mean, self.deviations = count, mean, deviations
            return
        total, apart = self.count + count, mean - self.mean
        self.deviations = self.deviations + deviations + apart.square() * (self.count * count / total)
        self.mean = self.mean + apart * (count / total)
        self.count = total

    def result(self) -> tuple[Tensor, Tensor]:
        """Mean and variance per channel of all values seen; the variance is divided by their number."""
        if self.mean is None or self.deviations is None:
            raise InputError("no batch reached this layer, so it has no statistics")
        return self.mean, self.deviations / self.count
