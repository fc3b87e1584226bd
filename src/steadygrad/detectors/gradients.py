"""Exploding, vanishing and missing gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from steadygrad.detectors.base import Detector, at_least
from steadygrad.detectors.losses import has_stalled
from steadygrad.history import Array, StreamHistory
from steadygrad.online import largest
from steadygrad.records import SiteInfo, Symptom
from steadygrad.view import View
from steadygrad.wording import listed

# -- along depth and time -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DepthFlow:
    """The backward signal along the weighted sites: ``decades`` from output to input (negative: it shrinks)."""

    sites: list[SiteInfo]
    signal: Array
    decades: float
    steady: float  # share of the layers that push the same way


def depth_flow(view: View, sample: int) -> DepthFlow | None:
    """The backward signal by depth at one sample; None with fewer than three measured layers."""
    sites, signal = view.flow("signal", sample)
    keep = np.isfinite(signal) & (signal > 0)
    zeros = np.isfinite(signal) & (signal == 0)
    if zeros.any() and keep.any() and np.flatnonzero(zeros).max() < np.flatnonzero(keep).min():
        signal = np.where(zeros, 1e-38, signal)  # underflowed to zero on the way to the input
        keep = np.isfinite(signal)
    if keep.sum() < 3:
        return None
    chosen = [s for s, k in zip(sites, keep, strict=True) if k]
    logs = np.log10(signal[keep])
    third = max(1, len(logs) // 4)
    decades = float(np.median(logs[:third]) - np.median(logs[-third:]))
    steps = np.diff(logs)
    steady = float(np.mean(np.sign(steps) == -np.sign(decades))) if decades else 0.0
    return DepthFlow(chosen, signal[keep], decades, steady)


def time_decades(view: View) -> tuple[float, str, int]:
    """(decades from the last time step back to the first, site, time steps) of the strongest recurrent flow."""
    best = (0.0, "", 0)
    for fact in view.history.facts("time-flow"):
        flow = np.array([float(x) for x in fact.data.get("flow", [])])
        if len(flow) >= 8 and flow[-1] > 0:
            early = max(float(np.median(flow[: max(1, len(flow) // 8)])), 1e-38)
            decades = math.log10(early / float(flow[-1])) if math.isfinite(early) else math.inf
            if abs(decades) > abs(best[0]):
                best = (decades, view.sites[fact.data["site"]].name, len(flow))
    first, last, calls = (view.site(k) for k in ("signal_first", "signal_last", "calls"))
    for site in view.sites:
        if len(calls) and largest(calls[:, site.index]) >= 8 and _recurs(view, site):
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = np.log10(first[:, site.index] / last[:, site.index])
            ratio = ratio[np.isfinite(ratio)]
            for decades in (float(np.median(ratio)), float(ratio[0])) if len(ratio) else ():
                if abs(decades) > abs(best[0]):
                    best = (decades, site.name, int(largest(calls[:, site.index])))
    return best


def _recurs(view: View, site: SiteInfo) -> bool:
    """Whether one forward pass runs a site again and again.

    The evaluations of a closure and the micro-batches of a step run it many times too, each in a graph of its own.
    """
    seen = set(view.graph.get("parameters", ()))
    return bool(view.reused) or any(row not in seen for row in site.params)


# -- exploding ----------------------------------------------------------------------------------------------------


def _exploding(view: View) -> Iterator[Symptom]:
    """Silent on norms that are large but steady, on single outlier steps, and where the loss keeps improving."""
    for stream in view.streams:
        found = _over_steps(view, stream)
        if found is not None:
            yield found
    deep = depth_flow(view, 0) if view.samples else None
    if deep is not None and deep.decades > 3 and deep.steady > 0.6:
        worst = deep.sites[0]
        message = f"the gradient grows by a factor of 1e{deep.decades:.0f} from the output back to {worst.name}"
        evidence = {"decades": deep.decades, "layers": float(len(deep.sites))}
        yield Symptom("exploding-gradients", "critical", worst.name, 1, _last(view), evidence, message)
    decades, site, length = time_decades(view)
    if decades > 3:
        message = f"the gradient grows by a factor of 1e{decades:.0f} on its way back through {length} time steps of {site or 'the model'}"
        evidence = {"decades": decades, "time_steps": float(length)}
        yield Symptom("exploding-gradients", "critical", site, 1, _last(view), evidence, message)


def _last(view: View) -> int:
    return view.main.last_step if view.main is not None else 0


def _over_steps(view: View, stream: StreamHistory) -> Symptom | None:
    values, steps = stream.grad_norm.values(), stream.grad_norm.steps()
    shape = view.losses.get(stream.index)
    if len(values) < 4:
        return None
    opening = values[: max(1, min(20, len(values) // 5))]
    base = float(np.median(opening[opening > 0])) if (opening > 0).any() else 0.0
    if base <= 0:
        return None
    tail = float(np.median(values[-max(1, len(values) // 10) :]))
    peak = float(values.max())
    spoiled = stream.grad_norm.nonfinite > 0 or (shape is not None and shape.nonfinite > 0)
    improving = shape is not None and not spoiled and shape.end < 0.9 * shape.start
    sustained = tail > 100 * base and tail > 10 * float(opening.max())
    ran_away = spoiled and peak > 100 * base and (values > 10 * base).sum() >= 2
    if improving or not (sustained or ran_away):
        return None
    above = np.flatnonzero(values > 10 * float(opening.max()))
    onset = int(steps[above[0]]) if len(above) else stream.first_step
    location = _fastest_growing(view, stream)
    grown = max(tail, peak if spoiled else tail)
    message = f"the gradient norm grew from {base:.3g} to {grown:.3g}"
    evidence = {"start": base, "end": grown}
    return Symptom("exploding-gradients", "critical", location, onset, stream.last_step, evidence, message)


def _fastest_growing(view: View, stream: StreamHistory) -> str:
    """The parameter with the largest gradient at the peak, if one dominates."""
    peak = stream.peak_norms.copy()
    peak[~np.isfinite(peak)] = -1
    if not len(peak) or peak.max() <= 0:
        return ""
    share = peak.max() ** 2 / float((peak[peak > 0] ** 2).sum())
    return view.parameters[int(peak.argmax())].name if share > 0.5 else ""


# -- vanishing ----------------------------------------------------------------------------------------------------


def _vanishing(view: View) -> Iterator[Symptom]:
    """Silent when the whole gradient shrinks evenly (convergence) and when early layers keep learning."""
    flows = [f for f in (depth_flow(view, i) for i in range(len(view.samples))) if f is not None]
    if flows:
        decades = float(np.median([f.decades for f in flows]))
        start = flows[0]
        if min(decades, start.decades) < -3 and decades < -2 and start.steady > 0.6 and _starved(view, decades):
            first, last = start.sites[0].name, start.sites[-1].name
            shrinks = -min(decades, start.decades)
            message = f"the gradient shrinks by a factor of 1e{shrinks:.0f} from {last} back to {first}"
            evidence = {"decades": start.decades, "decades_median": decades, "layers": float(len(start.sites))}
            yield Symptom("vanishing-gradients", "critical", first, 1, _last(view), evidence, message)
    else:
        yield from _starved_layers(view)
    decades, site, length = time_decades(view)
    if decades < -4 and view.loss is not None and not view.interleaved and has_stalled(view.loss):
        message = f"the gradient shrinks by a factor of 1e{-decades:.0f} on its way back through {length} time steps of {site or 'the model'}"
        evidence = {"decades": decades, "time_steps": float(length)}
        yield Symptom("vanishing-gradients", "warning", site, 1, _last(view), evidence, message)


def _starved_layers(view: View) -> Iterator[Symptom]:
    """For nets of few modules (an RNN and a head): weights that stand still while later ones learn."""
    rows = [r for r in view.matrices if view.parameters[r].optimizer is not None]
    ratios = _median_ratios(view, rows)
    if len(rows) < 2 or len(ratios) < 2 or not np.isfinite(ratios).all() or not ratios[-1] > 1e-5:
        return
    still = [r for r, x in zip(rows, ratios, strict=True) if x < 1e-4 * ratios[-1]]
    zero = {r for s in view.streams for r in still if r < len(s.zero) and s.zero[r] + s.missing[r] >= s.measured}
    if still and still[0] == rows[0] and len(zero) < len(still):
        name = view.parameters[still[0]].name
        message = f"{name} moves {ratios[-1] / max(ratios[0], 1e-30):.0e} times less than {view.parameters[rows[-1]].name}: hardly any gradient reaches it"
        evidence = {"first": float(ratios[0]), "last": float(ratios[-1]), "layers": float(len(still))}
        yield Symptom("vanishing-gradients", "critical", name, 1, _last(view), evidence, message)


def _median_ratios(view: View, rows: list[int]) -> Array:
    columns = [view.update_ratio[:, r] for r in rows] if len(view.update_ratio) else []
    return np.array([np.median(c[np.isfinite(c)]) if np.isfinite(c).any() else np.nan for c in columns])


def _starved(view: View, decades: float) -> bool:
    """Early layers move far less than late ones; or the optimizer hides that by rescaling and the loss still stalls."""
    rows = [r for r in view.matrices if view.parameters[r].optimizer is not None]
    if len(rows) < 3:
        return False
    ratios = _median_ratios(view, rows)
    ratios = ratios[np.isfinite(ratios)]
    if not len(ratios):
        return False
    quarter = max(1, len(ratios) // 4)
    early, late = np.median(ratios[:quarter]), np.median(ratios[-quarter:])
    stalled = view.loss is not None and (has_stalled(view.loss) or view.loss.relative_drop < 0.1)
    return bool(not early > 0.1 * late or stalled)


# -- missing ------------------------------------------------------------------------------------------------------


def untrained(view: View) -> tuple[list[int], list[int], list[int]]:
    """Rows that (never receive a gradient, receive only zeros, are in no optimizer although the loss reaches them)."""
    never, zeros, outside = [], [], []
    fed = {int(r) for s in view.streams for r in np.flatnonzero(s.peak_norms > 0)}
    for stream in view.streams:
        if stream.measured < 10:
            continue
        for p in view.parameters[: len(stream.missing)]:
            if p.optimizer == stream.index and p.trainable and p.index not in fed:
                if stream.missing[p.index] == stream.measured:
                    never.append(p.index)
                elif stream.zero[p.index] + stream.missing[p.index] == stream.measured:
                    zeros.append(p.index)
    if view.streams and view.optimizer_type() != "manual update":
        outside = [p.index for p in view.parameters if p.optimizer is None and p.trainable and p.index in view.reached]
    return never, zeros, outside


def _zero(view: View) -> Iterator[Symptom]:
    """Silent on frozen parameters and on experts that get a gradient now and then."""
    never, zeros, outside = untrained(view)
    if zeros and _all_zero(view, zeros):
        zeros = []
    for rows, what, key in (
        (never, "never received a gradient", "without_gradient"),
        (outside, "is reached by the loss but is in no optimizer, so it is never updated", "in_no_optimizer"),
        (zeros, "received only zero gradients", "zero_gradient"),
    ):
        if rows:
            names = view.history.named(rows)
            message = f"{listed(names)} {what}" if len(rows) == 1 else f"{listed(names)}: each {what}"
            evidence = {key: float(len(rows)), "of": float(len(view.parameters))}
            yield Symptom(
                "zero-gradients", "critical", common_place(view, rows), 1, _last(view), evidence, message, len(rows)
            )


def _all_zero(view: View, zeros: list[int]) -> bool:
    """Only biases in front of a normalisation layer: their gradient is zero by construction."""
    return all(view.parameters[r].role in ("bias", "norm") for r in zeros)


def common_place(view: View, rows: list[int]) -> str:
    """The parameter, or the innermost module that holds all of them."""
    names = view.history.named(rows)
    if len(names) == 1:
        return names[0]
    parts = [n.split(".")[:-1] for n in names]
    common = []
    for column in zip(*parts, strict=False):
        if len(set(column)) != 1:
            break
        common.append(column[0])
    return ".".join(common) or names[0]


EXPLODING = Detector("exploding-gradients", _exploding, at_least(2))
VANISHING = Detector("vanishing-gradients", _vanishing, at_least(2))
ZERO = Detector("zero-gradients", _zero, at_least(10))
