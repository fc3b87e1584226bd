"""Standardising what a model is called with."""

from __future__ import annotations

import math
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from steadygrad.interventions.report import Report
from steadygrad.interventions.stage import Stage
from steadygrad.records import RemedySpec
from steadygrad.values import one_of

#: Statistics are gathered over at most this many batches and samples, then kept.
BATCHES, SAMPLES = 10, 2000
#: Inputs within these bounds are of a size that layers are made for.
LARGE, SMALL, OFFSET = 3.0, 0.1, 3.0
#: Fewer values than these may be coefficients rather than data.
SEVERAL = 8
#: A spread below this share of the mean is rounding.
TINY = 1e-6


class Scale:
    """Mean and spread of one argument, by feature."""

    def __init__(self, x: Tensor) -> None:
        self.features = feature_axis(x)
        self._batches, self._count = 0, 0
        self._sum = self._squares = torch.zeros(x.shape[self.features], dtype=torch.float64, device=x.device)
        self.learn(x)
        self.wanted = self._off(x)

    def learn(self, x: Tensor) -> None:
        """Take a training batch in, while there are few."""
        if self._batches >= BATCHES or self._count >= SAMPLES:
            return
        rows = self._rows(x).double()
        rows = rows[torch.isfinite(rows).all(1)]
        self._batches += 1
        self._count += len(rows)
        self._sum = self._sum + rows.sum(0)
        self._squares = self._squares + rows.square().sum(0)

    def _rows(self, x: Tensor) -> Tensor:
        return x.detach().movedim(self.features, -1).reshape(-1, x.shape[self.features])

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation; features that never change are left at their size."""
        mean = self._sum / max(1, self._count)
        variance = (self._squares / max(1, self._count) - mean.square()).clamp_min(0)
        tiny = variance <= 1e-10 * (mean.square() + 1e-30)
        return mean, torch.where(tiny, torch.ones_like(variance), variance).sqrt()

    def _off(self, x: Tensor) -> bool:
        """Whether some features are of a size or an offset that layers are not made for."""
        rows = self._rows(x).double()
        std, mean = torch.std_mean(rows, dim=0, correction=0)
        size = (std.square() + mean.square()).sqrt()
        live = size[std > 0]
        if not len(live):
            return False
        uneven = live.numel() > 1 and bool(live.max() > 30 * live.min())
        offset = float((mean.abs() / std.clamp_min(1e-30))[std > 0].median())
        return uneven or offset > OFFSET or bool(live.max() > LARGE) or bool(live.max() < SMALL)

    def __call__(self, x: Tensor) -> Tensor:
        """Standardise."""
        mean, std = self.moments()
        shape = [1] * x.dim()
        shape[self.features] = -1
        return ((x - mean.to(x).reshape(shape)) / std.to(x).reshape(shape)).to(x.dtype)


def feature_axis(x: Tensor) -> int:
    """Channels of images ``[N, C, H, W]``, else the last axis."""
    return 1 if x.dim() >= 4 else x.dim() - 1


class Standardize:
    """Standardises the floating-point arguments of root models whose size or offset is off."""

    def __init__(self, stage: Stage, report: Report, *, by_sample: bool) -> None:
        self._stage, self._report, self._by_sample = stage, report, by_sample
        self._scales: WeakKeyDictionary[nn.Module, dict[str, Scale]] = WeakKeyDictionary()
        stage.on_input(self.change)

    @torch.no_grad()
    def change(self, model: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """A root model is called."""
        scales = self._scales.setdefault(model, {})
        new = tuple(self._changed(scales, str(i), value) for i, value in enumerate(args))
        return new, {key: self._changed(scales, key, value) for key, value in kwargs.items()}

    def _changed(self, scales: dict[str, Scale], key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return (
                {k: self._changed(scales, f"{key}.{k}", v) for k, v in value.items()} if type(value) is dict else value
            )
        if type(value) in (list, tuple):
            return type(value)(self._changed(scales, f"{key}.{i}", v) for i, v in enumerate(value))
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.dim() < 2 or value.requires_grad:
            return value
        if not value.numel() or value.layout != torch.strided or value.is_meta:
            return value
        scale = scales.get(key)
        if scale is None:
            scale = scales[key] = Scale(value)
        elif self._stage.training_forward:
            scale.learn(value)
        if not scale.wanted or value.shape[scale.features] != len(scale.moments()[0]):
            return value
        if self._by_sample:
            return self._of_itself(value)
        mean, std = scale.moments()
        self._report.applied(
            f"input standardised: mean {float(mean.mean()):.3g}, std {math.sqrt(float(std.square().mean())):.3g}"
        )
        return scale(value)

    def _of_itself(self, x: Tensor) -> Tensor:
        """A sequence whose level wanders says more by how it moves than by where it is."""
        along = [axis for axis in range(1, x.dim()) if axis != feature_axis(x)]
        if not along:
            return x
        self._report.applied("each sequence is standardised by itself")
        std, mean = torch.std_mean(x, dim=along, correction=0, keepdim=True)
        return (x - mean) / (std + TINY * mean.abs() + torch.finfo(x.dtype).tiny)


def standardize_input(stage: Stage, spec: RemedySpec, report: Report) -> None:
    """Mean 0, spread 1: by feature, with the statistics of the first training batches; or each sequence by itself."""
    by_sample = one_of(spec, "feature", "sample") == "sample"
    Standardize(stage, report, by_sample=by_sample)
    if not by_sample:
        _Products(stage, report)


class _Products:
    """In scripts without modules: data that is multiplied with weights, as matrices or entry by entry."""

    def __init__(self, stage: Stage, report: Report) -> None:
        self._stage, self._report = stage, report
        self._scales: dict[tuple[int, int], Scale] = {}
        stage.watch_modules()
        for name in ("matmul", "mm"):
            stage.patch(torch, name, self._from_the_left)
            stage.patch(Tensor, name, self._from_the_left)
        stage.patch(Tensor, "__matmul__", self._from_the_left)
        stage.patch(torch.nn.functional, "linear", self._from_the_left)
        for holder, name in ((Tensor, "__mul__"), (Tensor, "mul"), (torch, "mul")):
            stage.patch(holder, name, self._entry_by_entry)

    def _from_the_left(self, original: Any) -> Any:
        def product(x: Any, w: Any, *args: Any, **kwargs: Any) -> Any:
            matrix = self._meets(x, w) and x.dim() == 2
            return original(self._changed(x, w) if matrix else x, w, *args, **kwargs)

        return product

    def _entry_by_entry(self, original: Any) -> Any:
        def product(a: Any, b: Any, *args: Any, **kwargs: Any) -> Any:
            if self._meets(a, b) and _weighs(b, a):
                a = self._changed(a, b)
            elif self._meets(b, a) and _weighs(a, b):
                b = self._changed(b, a)
            return original(a, b, *args, **kwargs)

        return product

    def _meets(self, x: Any, w: Any) -> bool:
        """Whether data meets a weight, outside of modules."""
        if self._stage.modules or not isinstance(x, Tensor) or not isinstance(w, Tensor) or not self._stage.here():
            return False
        weight = w.is_leaf and w.requires_grad
        return weight and not x.requires_grad and x.is_floating_point() and x.dim() in (1, 2) and not x.is_meta

    @torch.no_grad()
    def _changed(self, x: Tensor, w: Tensor) -> Tensor:
        single = x.dim() == 1
        rows = x.unsqueeze(1) if single else x
        key = (id(w), rows.shape[1])
        scale = self._scales.get(key)
        if scale is None:
            scale = self._scales[key] = Scale(rows)
        if not scale.wanted:
            return x
        self._report.applied("the data that meets the weights is standardised")
        return scale(rows).squeeze(1) if single else scale(rows)


def _weighs(w: Tensor, x: Tensor) -> bool:
    """One weight for a variable of many values, or one for each feature."""
    return (w.numel() == 1 and x.numel() >= SEVERAL) or (x.dim() == 2 and w.dim() == 1 and len(w) == x.shape[1])
