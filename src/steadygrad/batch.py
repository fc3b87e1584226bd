"""What goes into the model and the loss: scale, offset and evenness of inputs and targets, and what a loss was fed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from steadygrad.stats import measurable

#: Statistics of inputs and targets are taken over at most this many elements.
LIMIT = 1 << 20


@torch.no_grad()
def describe(prefix: str, tensor: Tensor | None) -> dict[str, float]:
    """mean, std, max |x|, number of non-finite values and, for feature matrices, the spread of feature scales."""
    if tensor is None or not measurable(tensor) or tensor.numel() == 0 or not tensor.is_floating_point():
        return {}
    x = tensor.detach()
    flat = x.reshape(-1)
    flat = flat[:: max(1, flat.numel() // LIMIT)].float()
    finite = torch.isfinite(flat)
    bad = flat.numel() - int(finite.sum())
    if bad:
        flat = flat[finite]
    found = {f"{prefix}_nonfinite": float(bad)}
    if flat.numel():
        std, mean = torch.std_mean(flat, correction=0)
        found |= {f"{prefix}_mean": mean.item(), f"{prefix}_std": std.item(), f"{prefix}_max": flat.abs().max().item()}
    if x.dim() == 2 and x.shape[0] >= 8 and x.shape[1] >= 2 and not bad:
        found |= _features(prefix, x.float())
    return found


def _features(prefix: str, x: Tensor) -> dict[str, float]:
    """Largest and smallest (non-constant) feature scale, and the largest |mean| in units of its own spread."""
    std, mean = torch.std_mean(x, dim=0, correction=0)
    scale = (mean.square() + std.square()).sqrt()
    used = scale[std > 1e-12]
    if used.numel() < 2:
        return {}
    offset = (mean.abs() / std.clamp_min(1e-12))[std > 1e-12]
    return {
        f"{prefix}_feature_max": used.max().item(),
        f"{prefix}_feature_min": used.min().item(),
        f"{prefix}_feature_median": used.median().item(),
        f"{prefix}_offset": offset.median().item(),
    }


@dataclass
class LossCall:
    """One call of a known loss function: its tensors, without their graphs, until the step ends."""

    name: str
    prediction: Tensor
    target: Tensor | None
    reduction: str
    out: Tensor | None
    site: str


def loss_call(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any, frame: FrameType | None
) -> LossCall | None:
    """Note a loss call from its arguments and the user's frame that it came from."""
    prediction = args[0] if args else kwargs.get("input")
    target = args[1] if len(args) > 1 else kwargs.get("target")
    if not isinstance(prediction, Tensor) or not measurable(prediction):
        return None
    target = target.detach() if isinstance(target, Tensor) and measurable(target) else None
    out = out.detach() if isinstance(out, Tensor) and measurable(out) else None
    site = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""
    return LossCall(name, prediction.detach(), target, str(kwargs.get("reduction", "mean")), out, site)


@torch.no_grad()
def inspect_loss(call: LossCall) -> dict[str, Any]:
    """What the loss function was fed: shapes, range, and whether the rows already are (log-)probabilities."""
    x = call.prediction.detach()
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
