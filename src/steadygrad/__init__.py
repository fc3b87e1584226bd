"""SteadyGrad keeps neural-network training stable: watch any PyTorch script, name what is wrong, where and why.

>>> import steadygrad
>>> steadygrad.__version__
'0.1.0'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steadygrad.errors import GuardStopError, InputError, NonFiniteError, SteadyGradError, StoreError
    from steadygrad.guard import Guard
    from steadygrad.stepper import Stepper
    from steadygrad.store import Run
    from steadygrad.watching import Watch, watch

__version__ = "0.1.0"
__all__ = [
    "Guard",
    "GuardStopError",
    "InputError",
    "NonFiniteError",
    "Run",
    "SteadyGradError",
    "Stepper",
    "StoreError",
    "Watch",
    "__version__",
    "watch",
]

_HOME = {
    "Guard": "steadygrad.guard",
    "GuardStopError": "steadygrad.errors",
    "InputError": "steadygrad.errors",
    "NonFiniteError": "steadygrad.errors",
    "Run": "steadygrad.store",
    "SteadyGradError": "steadygrad.errors",
    "Stepper": "steadygrad.stepper",
    "StoreError": "steadygrad.errors",
    "Watch": "steadygrad.watching",
    "watch": "steadygrad.watching",
}

#: The treatments: modules that come with ``import steadygrad``, when they are first used.
_TREATMENTS = frozenset({"clip", "faults", "init", "norm", "recipes", "schedules"})


def __getattr__(name: str) -> Any:
    """Import on first use, so that reading a stored run needs no torch."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name in _TREATMENTS:
        return import_module(f"steadygrad.{name}")
    raise AttributeError(f"module 'steadygrad' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
