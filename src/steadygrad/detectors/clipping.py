"""Clipping that does too much."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from steadygrad.detectors.base import Detector
from steadygrad.history import StreamHistory
from steadygrad.records import Symptom
from steadygrad.view import View

STRONG = 0.05


def _missing(view: View) -> str | None:
    return None if any(s.clip.calls for s in view.streams) else "the script does not clip gradients"


def choking(view: View, stream: StreamHistory) -> float | None:
    """Median coefficient of a clip that is active on nearly every step by a large factor, else None."""
    clip = stream.clip
    if clip.calls < 8:
        return None
    if clip.kind == "value":
        median = _value_strength(view, stream)
        return median if median is not None and median < STRONG else None
    values = clip.coefficient.values()
    median = float(np.median(values)) if len(values) else 1.0
    return median if clip.active > 0.95 * clip.calls and median < STRONG else None


def _value_strength(view: View, stream: StreamHistory) -> float | None:
    """For clipping by value: the most the clipped gradient's norm can be, relative to its norm before."""
    numel = sum(int(np.prod(p.shape)) for p in view.parameters if p.optimizer == stream.index)
    norms = stream.grad_norm.values()
    typical = float(np.median(norms)) if len(norms) else 0.0
    return stream.clip.threshold * np.sqrt(numel) / typical if typical > 0 else None


def _ineffective(view: View) -> Iterator[Symptom]:
    """Silent when clipping acts on part of the steps, and when the loss falls well all the same."""
    for stream in view.streams:
        strength, shape = choking(view, stream), view.losses.get(stream.index)
        if strength is None or (shape is not None and shape.relative_drop > 0.5):
            continue
        message = f"clipping at {stream.clip.threshold:.3g} scales nearly every step down, typically to {strength:.2g} of its size"
        evidence = {
            "threshold": stream.clip.threshold,
            "coefficient": strength,
            "active": stream.clip.active / stream.clip.calls,
        }
        place = view.set_at("clip", "max_norm", "clip_value")
        yield Symptom("ineffective-clipping", "warning", place, stream.first_step, stream.last_step, evidence, message)


INEFFECTIVE = Detector("ineffective-clipping", _ineffective, _missing)
