"""NaN or Inf in loss, gradients, weights or inputs: where it came up first.

Fires when the loss or a gradient is not finite. Stays silent on a GradScaler's ordinary skipped steps while it finds
its scale; a scaler that keeps skipping is reported.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from steadygrad.detectors.base import Detector
from steadygrad.detectors.ranks import ranked, ranks_fact
from steadygrad.history import StreamHistory
from steadygrad.records import Symptom
from steadygrad.view import View
from steadygrad.wording import listed

#: A scaler halves its scale per skip; from 2**16 it needs at most this many skips in a row to reach any sane scale.
ORDINARY_SKIPS = 17


def _find(view: View) -> Iterator[Symptom]:
    seen = False
    for stream in view.streams:
        first = _first_bad_step(stream)
        if first is not None:
            seen = True
            yield _symptom(view, stream, first)
        elif len(stream.amp_skips) > max(ORDINARY_SKIPS, 0.1 * stream.amp_steps):
            yield _skipping(stream)
    if not seen:
        yield from _on_another_rank(view)


def _on_another_rank(view: View) -> Iterator[Symptom]:
    """What only another process of the same training has seen."""
    found = ranks_fact(view).get("nonfinite")
    if found is None or view.main is None:
        return
    origins = [f.data for f in view.history.facts("origin") if f.data.get("found")]
    gave = f": {origins[0]['op']} gave {origins[0]['result']} at {origins[0].get('source', '?')}" if origins else ""
    message = f"the loss became non-finite at step {found['step']} on {ranked(found['ranks'])} only{gave}"
    location = place(dict(origins[0])) if origins else ""
    evidence = {"steps": 1.0, "rank": float(found["ranks"][0])}
    yield Symptom("non-finite", "critical", location, found["step"], view.main.last_step, evidence, message)


def _first_bad_step(stream: StreamHistory) -> int | None:
    bad = stream.first_bad[stream.first_bad > 0]
    steps = [stream.loss.first_nonfinite, stream.grad_norm.first_nonfinite, int(bad.min()) if len(bad) else None]
    seen = [s for s in steps if s is not None]
    return min(seen) if seen else None


def _symptom(view: View, stream: StreamHistory, first: int) -> Symptom:
    origins = [f for f in view.history.facts("origin") if f.data.get("found") and f.step <= first + 1]
    bad = [int(r) for r in np.flatnonzero(stream.first_bad == first)]
    what = "the loss" if stream.loss.first_nonfinite == first else "a gradient"
    if origins:
        data = origins[0].data
        location = place(data)
        message = f"{what} became non-finite at step {first}: {data['op']} gave {data['result']} at {data.get('source', 'an unknown line')}"
    else:
        location = view.history.named(bad)[0] if 0 < len(bad) < len(view.parameters) else ""
        names = f" in {listed(view.history.named(bad))}" if bad else ""
        message = f"{what} became non-finite at step {first}{names if what != 'the loss' else ''}"
    elsewhere = ranks_fact(view).get("nonfinite")
    if elsewhere is not None and elsewhere["step"] <= first and 0 not in elsewhere["ranks"]:
        message += f"; it came from {ranked(elsewhere['ranks'])}, whose loss was not finite at step {elsewhere['step']}"
    count = max(1, stream.loss.nonfinite, stream.grad_norm.nonfinite)
    evidence = {"steps": float(count), "last_finite_loss": _last_finite(stream)}
    return Symptom("non-finite", "critical", location, first, stream.last_step, evidence, message, count)


def _skipping(stream: StreamHistory) -> Symptom:
    skips = len(stream.amp_skips)
    message = f"the GradScaler skipped {skips} of {stream.amp_steps} steps because gradients overflowed"
    evidence = {"skipped": float(skips), "steps": float(stream.amp_steps)}
    return Symptom("non-finite", "warning", "", stream.amp_skips[0], stream.amp_skips[-1], evidence, message, skips)


def place(data: object) -> str:
    """``module (file:line)`` of an origin, as far as known."""
    assert isinstance(data, dict)
    module, source = data.get("module") or "", data.get("source") or ""
    return f"{module} ({source})" if module and source else module or source


def _last_finite(stream: StreamHistory) -> float:
    recent = [v for _, v in stream.loss.tail if math.isfinite(v)] or [
        v for _, v in stream.loss.head if math.isfinite(v)
    ]
    return recent[-1] if recent else math.nan


NON_FINITE = Detector("non-finite", _find)
