"""What the loss curve shows: spikes, divergence, stalling, oscillation. All relative to the curve's own scatter."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from steadygrad.curve import LossShape, scatter
from steadygrad.detectors.base import Detector, at_least
from steadygrad.history import Array, Spike, StreamHistory
from steadygrad.records import Symptom
from steadygrad.view import View

MIN_STEPS = 30
#: Steps that belong to the beginning of a run, or to what a spike brought about.
SETTLED = 10
#: A spike is at least this much higher than anything that is none.
APART = 2
#: A loss that scatters by more than this share of its level says nothing by standing still: it may be all noise.
LEVEL_SCATTER = 0.3
#: Where the steps are of a usual size, this much scatter is enough: then a fault would show elsewhere as well.
SCATTER_OF_NOISE = 0.1
USUAL_STEPS = (1e-4, 1e-2)
#: Estimates that learn from themselves grow to their true size: where rewards are rare, many times the first one.
TARGETS_GROW = 100


def _needs_loss(view: View) -> str | None:
    if view.loss is None:
        seen = view.main is not None and view.main.loss.nonfinite > 0
        return "no loss was finite" if seen else "no loss was seen (backward was not called on a scalar)"
    return at_least(MIN_STEPS)(view)


def _not_adversarial(view: View) -> str | None:
    if view.interleaved:
        return "optimizers take turns (adversarial or multi-part training): such losses need not fall"
    return _needs_loss(view)


# -- spikes -------------------------------------------------------------------------------------------------------


def _spikes(view: View) -> Iterator[Symptom]:
    """Silent on noisy but stationary losses: a spike must stand out from every other value, and be rare."""
    for stream in view.streams:
        shape = view.losses.get(stream.index)
        if shape is None or stream.spike_count > max(8, 0.04 * stream.steps):
            continue
        chosen = set_apart([s for s in stream.spikes if is_outlier(s, stream, shape)], stream)
        if not chosen:
            continue
        worst = max(chosen, key=lambda s: s.loss - s.centre)
        times = worst.loss / worst.centre if worst.centre > 0 else math.inf
        message = f"the loss jumped to {worst.loss:.4g} at step {worst.step}, from about {worst.centre:.4g}"
        evidence = {"loss": worst.loss, "usual": worst.centre, "deviation": worst.deviation, "times": times}
        steps = [s.step for s in chosen]
        events = 1 + sum(b - a > SETTLED for a, b in itertools.pairwise(steps))  # a spike's aftershocks belong to it
        yield Symptom("loss-spike", "warning", "", steps[0], steps[-1], evidence, message, events)


def set_apart(chosen: list[Spike], stream: StreamHistory) -> list[Spike]:
    """None where smaller jumps lead up to these: the loss of small batches has a long tail, and its largest value is
    no event. What follows within a few steps of a spike belongs to it.
    """
    tail = [
        s.loss - s.centre
        for s in stream.spikes
        if s.step > stream.first_step + SETTLED and not any(0 <= s.step - c.step <= SETTLED for c in chosen)
    ]
    least = min((s.loss - s.centre for s in chosen), default=0.0)
    return chosen if least > APART * max(tail, default=0.0) else []


def is_outlier(spike: Spike, stream: StreamHistory, shape: LossShape) -> bool:
    """Far above the recent spread, well above the level, and above nearly everything since the start."""
    jump = spike.loss - spike.centre
    rows = [high for step, _, _, high in stream.loss.rows() if step > spike.step or step < spike.step - 1]
    others = np.array(rows) if rows else np.array([spike.centre])
    usual = np.percentile(others, 98) if len(others) > 20 else others.max()
    after = np.array([low for step, _, low, _ in stream.loss.rows() if step > spike.step])
    spread = np.percentile(others, 95) - np.percentile(others, 5)
    return bool(
        jump > 15 * spike.deviation
        and jump > 0.7 * abs(spike.centre)
        and spike.loss > 1.3 * usual
        and jump > 1.5 * spread
        and spike.step > stream.first_step + SETTLED
        and len(after) > 0
        and after.min() < 0.5 * (spike.loss + spike.centre)  # it came back; otherwise the loss diverged
    )


# -- divergence ---------------------------------------------------------------------------------------------------


def _diverging(view: View) -> Iterator[Symptom]:
    """Silent on warm-up bumps and signed losses; the loss must end well above its start, or above what it had held."""
    for stream in view.streams:
        shape = view.losses.get(stream.index)
        if shape is None or shape.lowest < 0:
            continue
        scale = max(abs(shape.start), 1e-12)
        level = shape.end / _allowed(view)
        rise = level - max(shape.start, shape.best)
        runaway = level > 3 * shape.start and rise > 4 * shape.noise
        risen = level > 1.5 * shape.start and level > 2.5 * shape.best and rise > 6 * shape.noise
        blown = shape.nonfinite > 0 and shape.worst > 10 * scale
        lost = shape.best < 0.6 * shape.start and level > 0.9 * shape.start and rise_from_best(shape) > 4
        relapsed = relapse_onset(stream, shape, allowed=_allowed(view))
        if not (runaway or risen or blown or lost or relapsed):
            continue
        onset = rise_onset(stream, shape) if runaway or risen or not relapsed else relapsed
        end = shape.worst if blown else shape.end
        best = f" (best {shape.best:.4g})" if shape.best < 0.99 * shape.start else ""
        message = f"the loss rose from {shape.start:.4g}{best} to {end:.4g}"
        if relapsed and end < shape.start:
            message = f"the loss had come down from {shape.start:.4g} to {shape.best:.4g}, left that level and ends at {end:.4g}"
        evidence = {"start": shape.start, "best": shape.best, "end": end}
        severity = "critical" if end > 10 * scale or blown else "warning"
        yield Symptom("diverging-loss", severity, "", onset, stream.last_step, evidence, message)


def _allowed(view: View) -> float:
    """By how much a loss may rise because its targets spread out. Without bound they do not: then they diverge too."""
    return view.target_growth**2 if 1 < view.target_growth <= TARGETS_GROW else 1.0


def rise_from_best(shape: LossShape) -> float:
    """How far the end lies above the best, in units of the scatter."""
    return (shape.end - shape.best) / max(shape.noise, 1e-12)


def relapse_onset(stream: StreamHistory, shape: LossShape, *, allowed: float = 1.0) -> int | None:
    """The step at which a loss left for good a level that it had held, tenfold and by much of what had been gained.

    Every value of a stretch of a tenth of the run is compared with nearly every value of the last quarter, so neither
    the scatter nor the height of the leap matters, and a cycle that comes back down does not count. A rise by
    ``allowed`` is none.
    """
    rows = np.array(list(stream.loss.rows()))
    if len(rows) < 60:
        return None
    steps, means, lows, highs = rows.T
    last = len(rows) - len(rows) // 4
    held = float(np.lib.stride_tricks.sliding_window_view(highs[:last], max(10, len(rows) // 10)).max(axis=1).min())
    floor, late = float(np.percentile(lows[last:], 5)) / allowed, float(np.median(means[last:])) / allowed
    if not (held > 0 and floor > 10 * held and late - held > 0.3 * (shape.start - held)):
        return None
    below = np.flatnonzero(means <= math.sqrt(held * floor))
    return int(steps[min(int(below[-1]) + 1, len(steps) - 1)])


def rise_onset(stream: StreamHistory, shape: LossShape) -> int:
    """First step from which the loss is above its start by more than noise and stays there.

    The noise is that of the steps before it was half of the way up, as a ratio: what has risen a thousandfold scatters a
    thousand times as much.
    """
    values, steps = stream.loss.values(), stream.loss.steps()
    level = max(shape.start, shape.best)
    limit = min(level + 3 * shape.noise, 0.5 * (shape.best + shape.worst))
    if shape.end > level > 0:
        limit = min(limit, math.sqrt(level * shape.end))
        limit = min(limit, level + 3 * scatter(values[: _left_for_good(values, limit)]))
    return int(steps[min(_left_for_good(values, limit), len(steps) - 1)])


def _left_for_good(values: Array, limit: float) -> int:
    """Where the values are above a limit and stay there: the index after the last one that is not."""
    below = np.flatnonzero(values <= limit)
    return int(below[-1]) + 1 if len(below) else 0


# -- stalling -----------------------------------------------------------------------------------------------------


def _stalled(view: View) -> Iterator[Symptom]:
    """Silent on converged runs (they moved first), on signed losses, and when training ended non-finite."""
    shape, stream = view.loss, view.main
    if shape is None or stream is None or shape.lowest < 0 or shape.nonfinite:
        return
    uninformed = view.uninformed
    if not has_stalled(shape) and shape.n >= 80 and shape.end > 0.965 * uninformed and len(view.streams) == 1:
        compared = "hardly better" if shape.end < 1.5 * uninformed else "far worse"
        message = f"after {shape.n} steps the loss ({shape.end:.4g}) is {compared} than a guess that ignores the input ({uninformed:.4g})"
        evidence = {"start": shape.start, "end": shape.end, "uninformed": uninformed}
        yield Symptom("stalled-loss", "warning", "", stream.first_step, stream.last_step, evidence, message)
    if not has_stalled(shape) or _may_be_noise(view, shape):
        return
    message = (
        f"the loss has not moved: {shape.start:.4g} at the start, {shape.end:.4g} after {shape.n} steps "
        f"(scatter {shape.noise:.2g})"
    )
    evidence = {"start": shape.start, "end": shape.end, "noise": shape.noise}
    yield Symptom("stalled-loss", "warning", "", stream.first_step, stream.last_step, evidence, message)


def _may_be_noise(view: View, shape: LossShape) -> bool:
    """Whether nothing speaks against data that holds no more than noise: steps of a usual size, taken in vain."""
    ratio = view.matrix_ratio[np.isfinite(view.matrix_ratio)]
    usual = len(ratio) > 0 and USUAL_STEPS[0] < float(np.median(ratio)) < USUAL_STEPS[1]
    return usual and shape.noise > SCATTER_OF_NOISE * abs(shape.early)


def has_stalled(shape: LossShape) -> bool:
    """No drop beyond scatter, and none worth the name relative to the level."""
    if shape.noise > LEVEL_SCATTER * abs(shape.early) or _drifts_down(shape):
        return False
    error = 1.25 * shape.noise / math.sqrt(max(1.0, min(shape.n, 640) / 10))
    drop = shape.start - min(shape.end, shape.best + shape.noise)
    return abs(shape.start - shape.end) < max(4 * error, 0.02 * abs(shape.start)) and drop < max(
        6 * error, 0.05 * abs(shape.start)
    )


def _drifts_down(shape: LossShape) -> bool:
    """The last quarter lies below the first by more than chance allows, whatever the single first value was."""
    error = 1.25 * shape.noise * math.sqrt(8 / max(8, shape.n))
    thrown = shape.early > shape.start + 2 * shape.noise  # back down from a bad start is no progress
    return not thrown and shape.early - shape.late > max(3 * error, 0.05 * abs(shape.early))


# -- oscillation --------------------------------------------------------------------------------------------------


def _oscillating(view: View) -> Iterator[Symptom]:
    """Silent on mini-batch noise: white noise has no memory, an overshooting optimizer alternates."""
    for stream in view.streams:
        shape = view.losses.get(stream.index)
        if shape is None or shape.n < 40 or shape.nonfinite:
            continue
        values = stream.loss.recent(128)
        if len(values) < 24:
            continue
        steps = np.diff(values)
        flips = float(np.mean(steps[1:] * steps[:-1] < 0))
        amplitude = float(np.median(np.abs(steps))) / max(abs(float(np.median(values))), 1e-12)
        alternates = flips > 0.85 and amplitude > 0.1
        if alternates:
            message = f"the loss alternates by {amplitude:.0%} of its level from step to step instead of falling"
            evidence = {"amplitude": amplitude, "sign_changes": flips}
            yield Symptom("oscillating-loss", "warning", "", stream.first_step, stream.last_step, evidence, message)


SPIKE = Detector("loss-spike", _spikes, _needs_loss)
DIVERGING = Detector("diverging-loss", _diverging, _not_adversarial)
STALLED = Detector("stalled-loss", _stalled, _not_adversarial)
OSCILLATING = Detector("oscillating-loss", _oscillating, _not_adversarial)
