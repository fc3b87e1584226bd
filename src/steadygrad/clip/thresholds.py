"""Advice on a clipping threshold from gradient norms that were seen. Imports no torch.

Shapes legend: T = steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from steadygrad.errors import InputError
from steadygrad.wording import count

if TYPE_CHECKING:
    from steadygrad.records import OptimizerInfo
    from steadygrad.store import Run

Norms = NDArray[np.float64]

#: Fewer steps than this say too little: the advice is then the usual start.
ENOUGH = 20
#: The usual start; for recurrent networks a range.
USUAL, USUAL_RECURRENT = (1.0, 1.0), (1.0, 2.0)
#: A threshold that clips a smaller share of the steps hardly acts; one that clips a larger acts on ordinary steps.
IDLE, STRONG = 0.005, 0.5
#: Norms above this many medians are spikes, which the threshold is for, and do not move it.
SPIKE = 10.0
#: Optimizers whose update does not change when all gradients are scaled alike.
SCALE_FREE = ("Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad", "Adadelta", "Rprop", "Lion")


@dataclass(frozen=True)
class Level:
    """What one threshold would have done: share of steps clipped, and the median factor of those (1 where none)."""

    threshold: float
    clipped: float
    factor: float


@dataclass(frozen=True)
class ThresholdAdvice:
    """A threshold for clipping the global norm, and why. ``str()`` gives it as text.

    Attributes:
        threshold: proposed.
        clipped: share of the steps seen that it would have clipped; NaN where too few were seen.
        levels: the same for thresholds from far too small to far too large.
        reasons: sentences.
    """

    threshold: float
    clipped: float
    levels: tuple[Level, ...]
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        rows = [f"{level.threshold:>12.3g}{level.clipped:>12.1%}{level.factor:>12.3g}" for level in self.levels]
        table = [f"{'threshold':>12}{'clipped':>12}{'factor':>12}", *rows] if rows else []
        return "\n".join([f"max_norm={self.threshold:g}", *self.reasons, *table])


def advise(
    norms: Iterable[float] | Run | Path | str,
    *,
    recurrent: bool | None = None,
    lr: float | None = None,
    batch_size: int | None = None,
    optimizer: str | None = None,
    stream: int = 0,
) -> ThresholdAdvice:
    """Propose a threshold for :class:`GlobalNorm` from global gradient norms before any clip.

    The proposal is the usual start (1.0; 1.0 to 2.0 for recurrent networks) where that would clip some steps but not
    most, and otherwise the 90th percentile of the norms that are no spikes.

    Args:
        norms: of the steps, ``[T]``; or a stored run, or its folder, from which everything left out below is read.
        recurrent: whether the network is recurrent.
        lr: the learning rate, for what the threshold means for a step.
        batch_size: samples per step, for what another batch size would change.
        optimizer: its class name.
        stream: of a run with several optimizers, which.

    Raises:
        InputError: norms that are negative, not one-dimensional or none at all; a run without gradient norms.

    Example:
        >>> advice = advise([0.5, 0.6, 0.7, 0.8, 40.0] * 10)
        >>> advice.threshold, round(advice.clipped, 3)
        (1.0, 0.2)
    """
    if isinstance(norms, str | Path):
        from steadygrad.store import Run

        with Run(norms) as run:
            return advise(run, recurrent=recurrent, lr=lr, batch_size=batch_size, optimizer=optimizer, stream=stream)
    if _is_run(norms):
        run_norms, run_lr = _of_run(norms, stream)
        recurrent = _is_recurrent(norms) if recurrent is None else recurrent
        optimizer = _optimizer(norms.optimizers, stream) if optimizer is None else optimizer
        return _advise(run_norms, bool(recurrent), run_lr if lr is None else lr, batch_size, optimizer)
    return _advise(_array(norms), bool(recurrent), lr, batch_size, optimizer)


def _is_run(given: object) -> TypeGuard[Run]:
    return hasattr(given, "records") and hasattr(given, "parameters")


def _array(norms: Any) -> Norms:
    try:
        found = np.asarray(norms if hasattr(norms, "__array__") else list(norms), dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(
            f"advise() takes gradient norms or a stored run, got {type(norms).__name__}; "
            f"pass a list with one norm per step, or the folder of a run"
        ) from None
    if found.ndim != 1 or not len(found):
        raise InputError(f"advise() takes one norm per step, got an array of shape {found.shape}")
    if (found < 0).any():
        raise InputError(f"Norms are 0 or more, but one is {found.min():g}; are these losses?")
    return found


def _of_run(run: Run, stream: int) -> tuple[Norms, float | None]:
    """Gradient norms and the largest learning rate of one optimizer."""
    records = [record for record in run.records() if record.stream == stream]
    norms = [record.grad_norm for record in records if record.grad_norm is not None]
    if not norms:
        raise InputError(f"The run in {run.folder} holds no gradient norms of optimizer {stream}; was it watched?")
    rates = [record.lr for record in records if record.lr is not None]
    return _array(norms), max(rates, default=None)


def _is_recurrent(run: Run) -> bool:
    return any(parameter.role == "recurrent" for parameter in run.parameters)


def _optimizer(infos: tuple[OptimizerInfo, ...], stream: int) -> str | None:
    return next((info.type for info in infos if info.index == stream), None)


def _advise(
    norms: Norms, recurrent: bool, lr: float | None, batch_size: int | None, optimizer: str | None
) -> ThresholdAdvice:
    finite = norms[np.isfinite(norms) & (norms > 0)]
    usual = USUAL_RECURRENT if recurrent else USUAL
    if len(finite) < ENOUGH:
        seen = f"Only {count(len(finite), 'step')} had a finite gradient that is not zero, too few to judge by."
        return ThresholdAdvice(usual[0], float("nan"), (), (seen, _why_usual(recurrent), _why_tune()))
    threshold = _propose(finite, usual)
    level = _level(finite, threshold)
    levels = tuple(_level(finite, x) for x in _ladder(finite, threshold))
    reasons = [
        _what(finite, level),
        _why_usual(recurrent),
        *_bad_steps(norms),
        *_extremes(finite, optimizer),
        *_by_rate(threshold, lr, optimizer),
        *_by_batch(threshold, batch_size),
    ]
    return ThresholdAdvice(threshold, level.clipped, levels, tuple(reasons))


def _propose(norms: Norms, usual: tuple[float, float]) -> float:
    calm = norms[norms <= SPIKE * np.median(norms)]
    natural = _rounded(float(np.quantile(calm, 0.9)))
    start = min(max(natural, usual[0]), usual[1])
    return start if IDLE <= _level(norms, start).clipped <= STRONG else natural


def _level(norms: Norms, threshold: float) -> Level:
    above = norms[norms > threshold]
    factor = float(np.median(threshold / above)) if len(above) else 1.0
    return Level(threshold, len(above) / len(norms), factor)


def _ladder(norms: Norms, threshold: float) -> list[float]:
    """The proposal, a tenth of a typical norm, quantiles, and more than any."""
    steps = [float(np.median(norms)) / 10, *np.quantile(norms, [0.5, 0.9, 0.99]).tolist(), 1.1 * float(norms.max())]
    return sorted({threshold, *(x for x in map(_rounded, steps) if abs(x / threshold - 1) > 0.05)})


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")


def _what(norms: Norms, level: Level) -> str:
    middle, high, top = np.median(norms), np.quantile(norms, 0.99), norms.max()
    return (
        f"Of {len(norms)} steps (median norm {middle:.3g}, 99% below {high:.3g}, largest {top:.3g}) it would have "
        f"clipped {level.clipped:.1%}, those typically to {level.factor:.2g} of their size."
    )


def _why_usual(recurrent: bool) -> str:
    if recurrent:
        return (
            "1.0 to 2.0 is the usual range for recurrent networks: the gradient through time grows by products, so "
            "spikes are far above ordinary norms, and cutting them costs little."
        )
    return (
        "1.0 is the usual start: with a mean loss and a usual initialisation, norms are often near it once the first "
        "steps are over, so it acts on spikes. It is a start, not a law: norms depend on the model and on the loss."
    )


def _why_tune() -> str:
    return "Record norms for some hundred steps, then ask again: the threshold belongs above ordinary norms."


def _bad_steps(norms: Norms) -> list[str]:
    bad = int((~np.isfinite(norms)).sum())
    if not bad:
        return []
    return [f"{bad} steps had a norm of NaN or Inf. No threshold repairs these: skip them, and look for their cause."]


def _extremes(norms: Norms, optimizer: str | None) -> list[str]:
    top, middle = float(norms.max()), float(np.median(norms))
    if optimizer in SCALE_FREE:
        effect = f"with {optimizer} a constant factor cancels, so that only the ratio between steps is left to change"
    else:
        effect = "as if the learning rate were ten times smaller"
    return [
        f"Too large: above {top:.3g} it does nothing.",
        f"Too small: at {middle / 10:.2g} nearly every step is scaled to a tenth, {effect}; and because large and "
        f"small gradients then count alike, updates are biased at any rate (Koloskova et al., ICML 2023).",
    ]


def _by_rate(threshold: float, lr: float | None, optimizer: str | None) -> list[str]:
    if lr is None or optimizer in SCALE_FREE:
        return []
    return [
        f"At a learning rate of {lr:g}, a step of plain SGD moves the weights by at most {lr * threshold:.3g}: with a "
        f"larger rate, lower the threshold by the same factor to keep that."
    ]


def _by_batch(threshold: float, batch_size: int | None) -> list[str]:
    if batch_size is None:
        return []
    return [
        f"At four times the batch size ({4 * batch_size}), norms that are mostly noise halve: expect a threshold "
        f"between {threshold / 2:.2g} and {threshold:.2g}; at a quarter, up to {2 * threshold:.2g}. Measure again."
    ]
