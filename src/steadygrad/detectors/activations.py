"""Dead and saturated units, and activation scales that drift with depth."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from steadygrad.detectors.base import Detector
from steadygrad.records import Symptom
from steadygrad.view import View
from steadygrad.wording import listed

DEAD_SHARE = 0.6
SATURATED_SHARE = 0.5


def _compiled(view: View) -> str | None:
    if view.history.facts("compiled"):
        return "the model is compiled: modules are not observed, so that its graphs stay whole"
    return None if view.samples and view.sites else "no module was seen running (no nn.Module, or no sampled step)"


def _needs(*kinds: str) -> str:
    return f"no {' or '.join(kinds)} activation in the model"


def _dead_missing(view: View) -> str | None:
    why = _compiled(view)
    if why is None and not np.isfinite(view.site("dead_units")).any():
        return _needs("ReLU")
    if why is None and 0 < view.batch.get("batch_size", 64) < 8:
        return "batches of fewer than 8 samples cannot show that a unit is always off"
    return why


def dead_layers(view: View) -> list[tuple[int, float, float]]:
    """(site, dead share at the start, typical dead share later) of layers with many dead units, in forward order."""
    matrix = view.site("dead_units")
    found = []
    for site in view.sites:
        column = matrix[:, site.index]
        column = column[np.isfinite(column)]
        if len(column) >= 2:
            late = float(np.median(column[len(column) // 2 :]))
            if late >= DEAD_SHARE:
                found.append((site.index, float(column[0]), late))
    return found


def _dead(view: View) -> Iterator[Symptom]:
    """Silent on ordinary ReLU sparsity: a dead unit is off for every sample of the batch, in most batches."""
    layers = dead_layers(view)
    if not layers:
        return
    index, before, share = max(layers, key=lambda row: row[2])
    drop = view.loss.relative_drop if view.loss is not None else 0.0
    if share < 0.95 and (drop > 0.6 or (drop > 0.3 and share - before < 0.3 and before < 0.9)):
        return
    first = _first_at(view, index, "dead_units", DEAD_SHARE)
    names = [view.label(index), *(view.label(i) for i, _, _ in layers if i != index)]
    message = f"{share:.0%} of the units of {names[0]} are zero for every sample"
    message += f"; likewise in {listed(names[1:])}" if names[1:] else ""
    evidence = {"share": share, "share_at_start": before, "layers": float(len(layers))}
    severity = "critical" if share > 0.95 else "warning"
    yield Symptom("dead-units", severity, view.place(index), first, _last(view), evidence, message, len(layers))


def _last(view: View) -> int:
    return view.main.last_step if view.main is not None else 0


def _first_at(view: View, site: int, key: str, limit: float) -> int:
    column = view.site(key)[:, site]
    above = np.flatnonzero(column >= limit)
    return int(view.sample_steps[above[0]]) if len(above) else 1


def _saturated_missing(view: View) -> str | None:
    why = _compiled(view)
    return _needs("sigmoid", "tanh") if why is None and not np.isfinite(view.site("saturated")).any() else why


#: Activations that are flat on both sides.
SQUASHING = ("sigmoid", "tanh")


def saturated_layers(view: View) -> list[tuple[int, float, float]]:
    """(site, share at the start, typical share) of hidden sigmoid/tanh sites whose inputs lie in the flat tails.

    In forward order, those that were saturated before any update first: the others may be their victims.
    """
    matrix = view.site("saturated")
    last_weight = max((s.index for s in view.weighted_sites), default=-1)
    found = []
    for site in view.sites:
        column = matrix[:, site.index]
        column = column[np.isfinite(column)]
        if len(column) >= 2 and site.index < last_weight:  # what follows the last weights is an output, not a unit
            share = float(np.median(column))
            if share >= SATURATED_SHARE:
                found.append((site.index, float(column[0]), share))
    return sorted(found, key=lambda row: row[1] < SATURATED_SHARE)


def _saturated(view: View) -> Iterator[Symptom]:
    """Silent on logits, linear outputs and the output sigmoid, and where the loss falls well all the same."""
    layers = saturated_layers(view)
    if not layers:
        return
    if view.loss is not None and view.loss.relative_drop > 0.6:
        return
    index, before, share = layers[0]
    names = [view.label(i) for i, _, _ in layers]
    message = f"{share:.0%} of the inputs of {names[0]} lie in the flat tails of {view.sites[index].activation}"
    message += f"; likewise in {listed(names[1:])}" if names[1:] else ""
    evidence = {"share": share, "share_at_start": before, "layers": float(len(layers))}
    first = _first_at(view, index, "saturated", SATURATED_SHARE)
    yield Symptom("saturated-units", "warning", view.place(index), first, _last(view), evidence, message, len(layers))


def scale_decades(view: View, sample: int = 0) -> tuple[float, float, list[str]]:
    """(decades the activation scale changes from first to last layer, share of layers that agree, names)."""
    sites, scale = view.flow("out_rms", sample)
    keep = np.isfinite(scale) & (scale > 0)
    if keep.sum() < 4:
        return 0.0, 0.0, []
    logs = np.log10(scale[keep])
    decades = float(logs[-1] - logs[0])
    steps = np.diff(logs)
    return (
        decades,
        float(np.mean(np.sign(steps) == np.sign(decades))),
        [s.name for s, k in zip(sites, keep, strict=True) if k],
    )


def _drift(view: View) -> Iterator[Symptom]:
    """Silent on residual streams that grow slowly and on normalised networks: several decades, layer after layer."""
    decades, agree, names = scale_decades(view)
    if abs(decades) < 3 or agree < 0.8:
        return
    word = "grows" if decades > 0 else "shrinks"
    message = f"the activation scale {word} by a factor of 1e{abs(decades):.0f} from {names[0]} to {names[-1]}"
    evidence = {"decades": decades, "layers": float(len(names))}
    yield Symptom("activation-drift", "warning", names[-1], 1, _last(view), evidence, message)


DEAD = Detector("dead-units", _dead, _dead_missing)
SATURATED = Detector("saturated-units", _saturated, _saturated_missing)
DRIFT = Detector("activation-drift", _drift, _compiled)
