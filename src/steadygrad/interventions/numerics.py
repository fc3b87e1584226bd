"""Numbers that break: formats too narrow for them, and operations at the edge of their domain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steadygrad.frames import user_frame
from steadygrad.interventions.places import at_line
from steadygrad.interventions.report import Report
from steadygrad.interventions.stage import Stage
from steadygrad.records import RemedySpec
from steadygrad.values import one_of

HALF = (torch.float16, torch.bfloat16)
#: Functions that make a tensor of the dtype they are told.
MAKERS = (
    "tensor", "as_tensor", "zeros", "ones", "full", "empty", "rand", "randn", "arange", "linspace", "eye",
    "zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "set_default_dtype",
)  # fmt: skip


def full_precision(stage: Stage, spec: RemedySpec, report: Report) -> None:
    """No autocast, and float32 wherever the script asks for half precision."""

    def no_autocast(original: Any) -> Any:
        def __init__(context: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
            original(context, *args, **kwargs)
            if context._enabled:
                context._enabled = False
                report.applied("autocast is off")

        return __init__

    def single(original: Any) -> Any:
        def convert(*args: Any, **kwargs: Any) -> Any:
            wide = tuple(_widened(a, report) for a in args)
            return original(*wide, **{key: _widened(value, report) for key, value in kwargs.items()})

        return convert

    def unchanged(original: Any) -> Any:
        def stay(value: Any, *args: Any, **kwargs: Any) -> Any:
            report.applied("half precision is replaced by float32")
            return value.float()

        return stay

    stage.patch(torch.amp.autocast_mode.autocast, "__init__", no_autocast)
    for holder in (Tensor, nn.Module):
        for name in ("half", "bfloat16"):
            stage.patch(holder, name, unchanged)
        for name in ("to", "type"):
            stage.patch(holder, name, single)
    for name in MAKERS:
        stage.patch(torch, name, single)


def _widened(value: Any, report: Report) -> Any:
    if isinstance(value, torch.dtype) and value in HALF:
        report.applied("half precision is replaced by float32")
        return torch.float32
    return value


# -- operations at the edge of their domain -------------------------------------------------------------------------

EPS = 1e-7
#: exp beyond this is infinite in float32.
EXP_LIMIT = 80.0
Guarded = Callable[..., Any]


def _first(change: Callable[[Tensor], Tensor]) -> Callable[[Any], Guarded]:
    """Guard an operation by changing its first argument."""
    return lambda original: lambda x, *a, **k: original(change(x), *a, **k)


def _nonzero(x: Tensor) -> Tensor:
    """At least EPS from zero, with its sign."""
    return torch.where(x.abs() < EPS, torch.where(x < 0, -EPS, EPS).to(x.dtype), x)


def _division(original: Any) -> Guarded:
    def divide(a: Any, b: Any, *args: Any, **kwargs: Any) -> Any:
        return original(a, _nonzero(b) if isinstance(b, Tensor) and b.is_floating_point() else b, *args, **kwargs)

    return divide


def _divided_into(original: Any) -> Guarded:
    return lambda b, a: original(_nonzero(b) if b.is_floating_point() else b, a)


def _power(original: Any) -> Guarded:
    def power(base: Any, exponent: Any, *args: Any, **kwargs: Any) -> Any:
        whole = isinstance(exponent, int) or (
            isinstance(exponent, float) and exponent == int(exponent) and exponent > 0
        )
        if isinstance(base, Tensor) and base.is_floating_point() and not whole:
            base = base.abs().clamp_min(EPS)  # not cut off at 0, where it would have no slope to come back by
        return original(base, exponent, *args, **kwargs)

    return power


def _length(original: Any) -> Guarded:
    """A norm or distance whose slope at zero is finite."""

    def norm(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        return original(torch.where(x == 0, torch.full_like(x, EPS), x), *args, **kwargs)

    return norm


def _spread(original: Any) -> Guarded:
    """A standard deviation by way of its variance."""
    return lambda x, *a, **k: x.var(*a, **k).clamp_min(EPS * EPS).sqrt()


_positive = _first(lambda x: x.clamp_min(EPS))
_inside_one = _first(lambda x: x.clamp(-1 + EPS, 1 - EPS))
_bounded = _first(lambda x: x.clamp(max=EXP_LIMIT))
_bounded_both = _first(lambda x: x.clamp(-EXP_LIMIT, EXP_LIMIT))
_finite_rows = _first(lambda x: x.clamp_min(-1e9 if x.dtype == torch.float32 else torch.finfo(x.dtype).min / 2))

GUARDS: dict[str, Callable[[Any], Guarded]] = {
    "log": _positive, "log2": _positive, "log10": _positive, "log1p": _first(lambda x: x.clamp_min(-1 + EPS)),
    "sqrt": _first(lambda x: x.clamp_min(1e-12)), "rsqrt": _positive, "pow": _power, "__pow__": _power,
    "acos": _inside_one, "asin": _inside_one, "atanh": _inside_one, "logit": _first(lambda x: x.clamp(EPS, 1 - EPS)),
    "exp": _bounded, "expm1": _bounded, "sinh": _bounded_both, "cosh": _bounded_both,
    "reciprocal": _first(_nonzero), "div": _division, "true_divide": _division, "divide": _division,
    "__truediv__": _division, "__rtruediv__": _divided_into, "softmax": _finite_rows, "log_softmax": _finite_rows,
    "norm": _length, "std": _spread,
}  # fmt: skip
HOLDERS = (torch, Tensor, F)


OVERFLOWING = ("exp", "expm1", "sinh", "cosh", "pow", "__pow__")


class Guards:
    """Operations kept inside their domain where the user's code calls them, at one line or everywhere."""

    def __init__(self, stage: Stage, spec: RemedySpec, report: Report) -> None:
        self._stage, self._place, self._report = stage, spec.place, report
        self._wide = one_of(spec, "clamp", "float64") == "float64"
        self._busy = False
        for name, guard in GUARDS.items():
            if not self._wide or name in OVERFLOWING:
                for holder in HOLDERS:
                    stage.patch(holder, name, self._wrapped(guard))
        if not self._wide:
            for name in ("norm", "vector_norm"):
                stage.patch(torch.linalg, name, self._wrapped(_length))

    def _wrapped(self, guard: Callable[[Any], Guarded]) -> Callable[[Any], Any]:
        def make(original: Any) -> Any:
            guarded = _in_float64(original) if self._wide else guard(original)

            def operation(*args: Any, **kwargs: Any) -> Any:
                if self._busy or not self._meant(args):
                    return original(*args, **kwargs)
                self._busy = True
                try:
                    return guarded(*args, **kwargs)
                finally:
                    self._busy = False

            return operation

        return make

    def _meant(self, args: Any) -> bool:
        if not any(isinstance(a, Tensor) and a.is_floating_point() for a in args[:2]) or not self._stage.here():
            return False
        if user_frame(3) is None or not at_line(self._place, 4):
            return False
        how = "computed in float64" if self._wide else "kept inside its domain"
        self._report.applied(f"what can break {'at ' + self._place if self._place else 'in the script'} is {how}")
        return True


def _in_float64(original: Any) -> Guarded:
    """float64 holds what overflows float32; the result stays in float64, and so does what is made of it."""

    def double(*args: Any, **kwargs: Any) -> Any:
        wide = tuple(a.double() if isinstance(a, Tensor) and a.is_floating_point() else a for a in args)
        return original(*wide, **kwargs)

    return double


def guard_operation(stage: Stage, spec: RemedySpec, report: Report) -> None:
    """Keep logarithms, roots, quotients, powers and exponentials inside their domain."""
    Guards(stage, spec, report)
