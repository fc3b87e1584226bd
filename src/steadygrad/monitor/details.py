"""What a sampled step says beyond its norms: statistics of gradients, weights and updates.

Shapes legend: P = parameters in the run's table, n = gradients of one optimizer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from steadygrad import batch, stats
from steadygrad.calls import model_input
from steadygrad.monitor.state import Measured, Pending, Rows, Weights
from steadygrad.records import Vector


def weights_before(parameters: list[Tensor], rows: Rows) -> Weights:
    """Keep what the update will be measured against."""
    return Weights(parameters, rows, stats.snapshot(parameters))


@np.errstate(all="ignore")
def parameter_detail(size: int, measured: Measured, weights: Weights | None) -> dict[str, Vector]:
    """One P-vector per parameter statistic; NaN where it was not measured."""
    vectors: dict[str, Vector] = {}

    def put(key: str, where: Any, values: Any) -> None:
        vectors[key] = np.full(size, np.nan, dtype=np.float32)
        vectors[key][where] = values

    rows, scale = measured.rows, measured.scale
    counts = np.array([max(1, g.numel()) for g in measured.gradients], dtype=np.float64)
    l1, l2, total, peak, zeros = stats.moments(measured.gradients).numpy().T
    l1, l2, peak, mean = l1 * scale, l2 * scale, peak * scale, total * scale / counts
    put("grad_l1", rows, l1)
    put("grad_mean", rows, mean)
    put("grad_std", rows, np.sqrt(np.maximum(0.0, l2**2 / counts - mean**2)))
    put("grad_max", rows, peak)
    put("grad_zeros", rows, zeros / counts)
    if weights is not None:
        put("weight_norm", weights.rows, weights.before.norms.numpy())
        put("update_norm", weights.rows, stats.change(weights.before, weights.parameters).numpy())
    return vectors


def batch_detail(pending: Pending) -> dict[str, float]:
    """Scale and offset of what went into the model and the loss."""
    found: dict[str, float] = {}
    inputs = [model_input(args) for args in pending.roots] or list(pending.data)
    if inputs and inputs[0] is not None and inputs[0].dim() > 0:
        found["batch_size"] = float(inputs[0].shape[0])
    for tensor in inputs:
        found |= {k: v for k, v in batch.describe("input", tensor).items() if k not in found}
    for target in pending.all_targets():
        found |= {k: v for k, v in batch.describe("target", target).items() if k not in found}
    return found
