"""BatchNorm looked into: what its running statistics say, what a batch says, and what follows from the difference."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from steadygrad.dryrun import Forward, feed, tensors, undisturbed
from steadygrad.errors import InputError
from steadygrad.norm.layers import BatchNorm, Moments, batchnorm_layers, frozen

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from rich.console import Group
    from rich.table import Table

#: Fewer values per channel than this give statistics with noise of over a quarter of a standard deviation.
FEW = 16
#: Means this many running standard deviations apart, or variances this factor apart, are far.
FAR_SHIFT, FAR_RATIO = 0.5, 2.0
#: Outputs in training and evaluation mode that differ by this share of their size.
GAP = 0.2
#: Values of the input kept for the picture of distributions, per layer.
KEPT = 1 << 14


@dataclass(frozen=True, slots=True, eq=False)
class LayerStatistics:
    """One BatchNorm layer on one batch. Tensors are per channel, in float64.

    ``shift`` is (batch mean - running mean) in running standard deviations, ``ratio`` batch variance by running
    variance; both are NaN where the layer keeps no running statistics. ``sample`` and ``channels`` are values of the
    layer's input and the channel of each.
    """

    name: str
    samples: int
    rows: int
    momentum: float | None
    training: bool
    frozen: bool
    eps: float
    batch_mean: Tensor
    batch_var: Tensor
    running_mean: Tensor
    running_var: Tensor
    gamma: Tensor
    beta: Tensor
    sample: Tensor
    channels: Tensor

    @property
    def shift(self) -> Tensor:
        """How far the batch mean is from the running mean, in running standard deviations."""
        return (self.batch_mean - self.running_mean) / (self.running_var + self.eps).sqrt()

    @property
    def ratio(self) -> Tensor:
        """Batch variance as a multiple of the running variance."""
        return (self.batch_var + self.eps) / (self.running_var + self.eps)

    def normalised(self, *, running: bool) -> Tensor:
        """The sample of the input as normalised, before gamma and beta, in evaluation or in training mode."""
        mean, var = (self.running_mean, self.running_var) if running else (self.batch_mean, self.batch_var)
        return (self.sample - mean[self.channels]) / (var[self.channels] + self.eps).sqrt()


@dataclass(frozen=True, slots=True)
class Inspection:
    """Every BatchNorm layer in the order of execution, the train/eval gap, and what is worth a warning.

    ``gap`` is the root mean square of (output in training mode - output in evaluation mode) as a share of the latter's
    size; only BatchNorm differs between the two. NaN where the batch is too small for training mode.
    """

    layers: tuple[LayerStatistics, ...]
    gap: float
    warnings: tuple[str, ...]

    def table(self) -> Table:
        """One row per layer."""
        from steadygrad.norm.view import inspection_table

        return inspection_table(self)

    def figure(self, layer: str | None = None) -> go.Figure:
        """Distributions before and after a layer (the first by default), and its channels' statistics."""
        from steadygrad.norm.view import layer_figure

        named = {found.name: found for found in self.layers}
        if layer is not None and layer not in named:
            raise InputError(f"no BatchNorm layer {layer!r} ran; there are {', '.join(named)}")
        return layer_figure(self.layers[0] if layer is None else named[layer])

    def __rich__(self) -> Group:
        from rich.console import Group

        from steadygrad.norm.view import inspection_text

        return Group(self.table(), inspection_text(self))


def inspect(model: nn.Module, batch: Any, *, forward: Forward | None = None) -> Inspection:
    """Compare what BatchNorm layers hold with what a batch gives them, and training with evaluation mode.

    The model runs on the batch once in each mode, dropout off in both; frozen layers stay in evaluation mode. Weights,
    running statistics, flags and random state are as before.

    Args:
        model: any module with BatchNorm layers.
        batch: one batch as in training: a tensor, a mapping (keywords), or a tuple or list whose first is the input.
        forward: ``forward(model, batch)``, where the model is called in another way.

    Returns:
        An :class:`Inspection`: ``layers``, ``gap``, ``warnings``, ``table()`` for rich, ``figure(layer)`` for plotly.

    Raises:
        InputError: no BatchNorm layer ran.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
        >>> result = inspect(model, torch.randn(64, 4))
        >>> result.warnings[0]
        '1: running statistics are still those of construction (mean 0, variance 1)'
    """
    reader = _Reader(model)
    evaluated = _run(model, batch, forward, (), None)
    awake = [layer for layer in reader.names if not frozen(layer, model)]
    trained = None
    try:
        trained = _run(model, batch, forward, awake, reader)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        reader.seen.clear()
        _run(model, batch, forward, (), reader)
    if not reader.seen:
        raise InputError("no BatchNorm layer ran on this batch; the model may have none, or use them elsewhere")
    layers = tuple(_statistics(model, reader.names[layer], layer, *seen) for layer, seen in reader.seen.items())
    gap = math.nan if trained is None else _gap(trained, evaluated)
    warnings = [f"{layer.name}: {said}" for layer in layers for said in _warnings(layer, model)]
    if gap > GAP:
        warnings.append(f"outputs in training and evaluation mode differ by {gap:.0%} of their size; see recalibrate()")
    return Inspection(layers, gap, tuple(warnings))


class _Reader:
    """A hook that takes statistics and a sample of what each BatchNorm layer is fed first."""

    def __init__(self, model: nn.Module) -> None:
        self.names = {layer: name for name, layer in batchnorm_layers(model).items()}
        self.seen: dict[BatchNorm, tuple[Tensor, Moments]] = {}

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if isinstance(layer, BatchNorm) and layer not in self.seen:
            value, moments = args[0] if args else kwargs["input"], Moments()
            moments.add(value)
            self.seen[layer] = (value.detach().clone(), moments)


def _run(
    model: nn.Module, batch: Any, forward: Forward | None, awake: Iterable[BatchNorm], reader: _Reader | None
) -> list[Tensor]:
    """Outputs with these layers in training mode and everything else in evaluation mode."""
    hooks = []
    if reader is not None:
        hooks = [layer.register_forward_pre_hook(reader, with_kwargs=True) for layer in reader.names]
    try:
        with undisturbed(model), torch.no_grad():
            model.eval()
            for layer in awake:
                layer.training = True
            return tensors(feed(model, batch, forward))
    finally:
        for hook in hooks:
            hook.remove()


def _gap(trained: list[Tensor], evaluated: list[Tensor]) -> float:
    apart = sum(float((a.double() - b.double()).square().sum()) for a, b in zip(trained, evaluated, strict=True))
    size = sum(float(b.double().square().sum()) for b in evaluated)
    return math.sqrt(apart / size) if size else math.nan


def _statistics(model: nn.Module, name: str, layer: BatchNorm, value: Tensor, moments: Moments) -> LayerStatistics:
    mean, var = moments.result()
    unknown = torch.full_like(mean, math.nan)
    per_channel = value.numel() // value.shape[1]
    channels = torch.arange(value.shape[1], device=value.device).repeat_interleave(per_channel)
    flat = value.transpose(0, 1).reshape(-1)
    thin = slice(None, None, max(1, flat.numel() // KEPT) | 1)

    def read(tensor: Tensor | None, default: Tensor) -> Tensor:
        return default if tensor is None else tensor.detach().to(mean.dtype).clone()

    return LayerStatistics(
        name=name,
        samples=moments.count,
        rows=value.shape[0],
        momentum=layer.momentum,
        training=layer.training,
        frozen=frozen(layer, model),
        eps=layer.eps,
        batch_mean=mean,
        batch_var=var,
        running_mean=read(layer.running_mean, unknown),
        running_var=read(layer.running_var, unknown),
        gamma=read(layer.weight, torch.ones_like(mean)),
        beta=read(layer.bias, torch.zeros_like(mean)),
        sample=flat[thin].to(mean.dtype),
        channels=channels[thin],
    )


def _warnings(layer: LayerStatistics, model: nn.Module) -> Iterator[str]:
    if layer.samples == 1:
        yield "a single value per channel: training mode raises an error"
    elif layer.samples == 2:
        yield "two values per channel: in training mode every output is -1 or +1 whatever the input"
    elif layer.samples < FEW:
        noise = 1 / math.sqrt(layer.samples)
        yield f"{layer.samples} values per channel: the batch mean is noisy by {noise:.2f} standard deviations"
    if layer.frozen and model.training:
        yield "frozen: in evaluation mode within a training model"
    elif layer.training and not model.training:
        yield "in training mode within a model that is in evaluation mode"
    if layer.momentum is not None and layer.momentum >= 0.5:
        kept = f"{1 - layer.momentum:.0%}"
        yield f"momentum {layer.momentum:g} keeps {kept} of the old value; in torch it is the share of the new one"
    constant = int((layer.batch_var <= layer.eps * 1e-3).sum())
    if constant and layer.samples > 1:
        yield f"{constant} of {len(layer.batch_var)} channels are constant on this batch"
    yield from _drift(layer)


def _drift(layer: LayerStatistics) -> Iterator[str]:
    if layer.running_mean.isnan().all():
        return
    if not layer.running_mean.any() and bool((layer.running_var == 1).all()):
        yield "running statistics are still those of construction (mean 0, variance 1)"
        return
    # A few values differ from any truth by chance, so that much is allowed for.
    allowed = FAR_SHIFT + 2 / math.sqrt(layer.samples)
    shift = float(layer.shift.abs().median())
    ratio = float(layer.ratio.log().abs().median().exp())
    if shift > allowed:
        yield f"batch means are {shift:.1f} running standard deviations from the running means (median channel)"
    if ratio > FAR_RATIO and layer.samples >= FEW:
        yield f"batch and running variances differ by a factor of {ratio:.1f} (median channel)"
