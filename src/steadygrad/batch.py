"""What goes into the model and the loss: scale, offset and evenness of inputs and targets, and what a loss was fed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steadygrad.stats import measurable

#: Statistics of inputs and targets are taken over at most this many elements.
LIMIT = 1 << 18


@np.errstate(all="ignore")
def describe(prefix: str, tensor: Tensor | None) -> dict[str, float]:
    """mean, std, max |x|, number of non-finite values and, for feature matrices, the spread of feature scales."""
    if tensor is None or not measurable(tensor) or tensor.numel() == 0 or not tensor.is_floating_point():
        return {}
    x = tensor.detach()
    flat = x.reshape(-1)[:: max(1, x.numel() // LIMIT)].float().cpu().numpy()
    finite = flat[np.isfinite(flat)] if not math.isfinite(float(flat.sum())) else flat
    bad = flat.size - finite.size
    found = {f"{prefix}_nonfinite": float(bad)}
    if finite.size:
        mean, peak = float(finite.mean()), max(float(finite.max()), -float(finite.min()))
        centred = finite - np.float32(mean)
        spread = math.sqrt(max(0.0, float(np.dot(centred, centred)) / finite.size))
        found |= {f"{prefix}_mean": mean, f"{prefix}_std": spread, f"{prefix}_max": peak}
    if x.dim() == 2 and x.shape[0] >= 8 and x.shape[1] >= 2 and not bad:
        found |= _features(prefix, x[:: max(1, x.numel() // LIMIT)].float().cpu().numpy())
    return found


def _features(prefix: str, x: NDArray[np.float32]) -> dict[str, float]:
    """Largest and smallest (non-constant) feature scale, and the largest |mean| in units of its own spread."""
    mean = x.mean(0)
    std = np.sqrt(np.square(x - mean).mean(0))
    varied = std > 1e-12
    scale = np.hypot(mean, std)[varied]
    if scale.size < 2:
        return {}
    return {
        f"{prefix}_feature_max": float(scale.max()),
        f"{prefix}_feature_min": float(scale.min()),
        f"{prefix}_feature_median": _lower_median(scale),
        f"{prefix}_offset": _lower_median(np.abs(mean[varied]) / std[varied]),
    }


def _lower_median(values: NDArray[np.float32]) -> float:
    middle = (values.size - 1) // 2
    return float(np.partition(values, middle)[middle])


@dataclass(slots=True)
class LossCall:
    """One call of a known loss function: its tensors, without their graphs, until the step ends."""

    name: str
    prediction: Tensor | None
    target: Tensor | None
    reduction: str
    out: Tensor | None
    site: str


def loss_call(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any, frame: FrameType | None) -> LossCall:
    """Note a loss call from its arguments and the user's frame that it came from."""
    prediction = args[0] if args else kwargs.get("input")
    target = args[1] if len(args) > 1 else kwargs.get("target")
    given = [t.detach() if isinstance(t, Tensor) and measurable(t) else None for t in (prediction, target, out)]
    site = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""
    return LossCall(name, given[0], given[1], str(kwargs.get("reduction", "mean")), given[2], site)


@torch.no_grad()
def inspect_loss(call: LossCall) -> dict[str, Any]:
    """What the loss function was fed: shapes, range, and whether the rows already are (log-)probabilities."""
    x = call.prediction
    assert x is not None
    facts: dict[str, Any] = {
        "name": call.name,
        "reduction": call.reduction,
        "site": call.site,
        "prediction_shape": list(x.shape),
        "target_shape": list(call.target.shape) if call.target is not None else [],
        "dtype": str(x.dtype).removeprefix("torch."),
    }
    if call.out is not None and call.out.numel() == 1:
        facts["value"] = float(call.out.detach())
    if not x.is_floating_point() or x.numel() == 0:
        return facts
    x = x.float()
    facts |= {"min": x.min().item(), "max": x.max().item(), "std": x.std(correction=0).item()}
    if x.dim() >= 2:
        classes = x.shape[1] if x.dim() > 1 else 1
        facts["classes"] = classes
        total = x.sum(1)
        facts["rows_sum_to_one"] = bool(((total - 1).abs() < 1e-3).all()) and facts["min"] >= 0
        facts["log_normalized"] = bool((torch.logsumexp(x, 1).abs() < 1e-2).all())
    facts |= _target_facts(call.target)
    return facts


def _target_facts(target: Tensor | None) -> dict[str, Any]:
    if target is None or target.numel() == 0 or target.is_complex():
        return {}
    t = target.detach().float()
    facts: dict[str, Any] = {"target_min": t.min().item(), "target_max": t.max().item(), "target_mean": t.mean().item()}
    if t.numel() > 1:
        facts["target_std"] = t.std(correction=0).item()
    return facts


def finite(value: float | None) -> bool:
    """NaN-safe: a missing value counts as finite."""
    return value is None or math.isfinite(value)
