"""Normalisation added between layers, or put in the place of BatchNorm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from steadygrad.interventions.places import chosen
from steadygrad.interventions.rehearsal import Rehearsal
from steadygrad.interventions.report import Report
from steadygrad.interventions.stage import Stage
from steadygrad.kinds import module_kind
from steadygrad.records import RemedySpec
from steadygrad.values import one_of

EPS = 1e-5


class Normalize:
    """Normalises the output of every hidden linear and convolutional layer."""

    def __init__(self, stage: Stage, spec: RemedySpec, report: Report) -> None:
        self._stage, self._place, self._report = stage, spec.place, report
        self._kind = one_of(spec, "layer", "batch")
        self._rehearsal = Rehearsal(stage)
        stage.on_output(self.change)

    def change(self, module: nn.Module, args: Any, out: Any) -> Tensor | None:
        """A module has run."""
        kind = module_kind(module)
        script = self._rehearsal.script
        if kind not in ("linear", "conv") or script is None or not isinstance(out, Tensor) or out.dim() < 2:
            return None
        site = (id(module),)
        if not script.learned:
            script.keep(site, out)
            return None
        root = self._stage.modules[0]
        if site == script.last or site in script.outputs or module not in chosen(root, self._place):
            return None
        self._report.applied(f"{self._kind} normalisation follows the hidden linear and convolutional layers")
        return normalized(out, self._kind, images=kind == "conv")


def normalized(out: Tensor, kind: str, *, images: bool) -> Tensor:
    """Mean 0 and variance 1 over each sample, or over the batch; without parameters, so nothing has to be trained."""
    if kind == "batch" and out.numel() > out.shape[1 if images else -1]:
        flat = out if images else out.reshape(-1, out.shape[-1])
        return F.batch_norm(flat, None, None, training=True, eps=EPS).view_as(out)
    return F.group_norm(out, 1, eps=EPS) if images else F.layer_norm(out, out.shape[-1:], eps=EPS)


def add_normalization(stage: Stage, spec: RemedySpec, report: Report) -> None:
    """Reset the scale after every hidden layer."""
    Normalize(stage, spec, report)


def groups_for(channels: int) -> int:
    """Groups of about eight channels; the channels are shared out evenly."""
    return max((g for g in range(1, channels + 1) if channels % g == 0 and channels // g >= 8), default=1)


def _left_out(report: Report) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """``nn.BatchNorm*d`` builds a module that does nothing."""

    def make(original: type[nn.Module]) -> type[nn.Module]:
        class Nothing(nn.Identity):
            """In the place of a BatchNorm."""

            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__()
                report.applied(f"{original.__name__} is left out")

        return Nothing

    return make


def replace_batchnorm(stage: Stage, spec: RemedySpec, report: Report) -> None:
    """``nn.BatchNorm*d`` builds a GroupNorm; with ``layer`` one of a single group, which on vectors is a LayerNorm."""
    kind = one_of(spec, "group", "layer", "none")

    def make(original: type[nn.Module]) -> type[nn.Module]:
        class Grouped(nn.GroupNorm):
            """A GroupNorm with BatchNorm's signature."""

            def __init__(
                self,
                num_features: int,
                eps: float = 1e-5,
                momentum: float | None = 0.1,
                affine: bool = True,
                *_: Any,
                **kwargs: Any,
            ) -> None:
                kwargs.pop("track_running_stats", None)
                groups = groups_for(num_features) if kind == "group" else 1
                super().__init__(groups, num_features, eps, affine, **kwargs)
                report.applied(f"{original.__name__} is built as GroupNorm{' of one group' if kind == 'layer' else ''}")

        return Grouped

    factory = make if kind != "none" else _left_out(report)
    for name in ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d"):
        stage.patch(nn, name, factory)
