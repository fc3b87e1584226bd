"""Watches over a training: skips bad steps, damps, goes back to a good state, and stops before it is ruined."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steadygrad.guard.events import Event
    from steadygrad.guard.ladder import Budget, Guard
    from steadygrad.guard.spikes import SpikeTest

_HOME = {"Budget": "ladder", "Event": "events", "Guard": "ladder", "SpikeTest": "spikes"}
__all__ = ["Budget", "Event", "Guard", "SpikeTest"]


def __getattr__(name: str) -> Any:
    """Import on first use: the events are also read where torch is not installed."""
    if name in _HOME:
        return getattr(import_module(f"steadygrad.guard.{_HOME[name]}"), name)
    raise AttributeError(f"module 'steadygrad.guard' has no attribute {name!r}")
