"""What a guard did, for people and for the run record. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

#: Called with every event of every guard of this process: an observed run records them.
listeners: list[Callable[[Event], None]] = []


@dataclass(frozen=True)
class Event:
    """One act of a guard.

    Attributes:
        action: ``skip``, ``damp``, ``rollback``, ``accept``, ``stop``, or ``no-snapshot``.
        step: of the guard, from 1; skipped steps count.
        reason: what was wrong, e.g. ``"loss spike"``.
        loss, norm: of the step; None where unknown.
        batch: as it was given to the stepper.
        data: more, by action: limits, the step gone back to, the batches left out by that, the file written.
    """

    action: str
    step: int
    reason: str = ""
    loss: float | None = None
    norm: float | None = None
    batch: Any = None
    data: dict[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As numbers and text, to be stored."""
        batch = {} if self.batch is None else {"batch": _storable(self.batch)}
        numbers = {"loss": self.loss, "norm": self.norm}
        more = {name: _storable(value) for name, value in self.data.items()}
        return {"action": self.action, "reason": self.reason} | numbers | batch | more

    def __str__(self) -> str:
        parts = [f"step {self.step}: {self.action}"]
        if self.reason:
            parts.append(f" ({self.reason}{_value(self)})")
        if self.batch is not None:
            parts.append(f", batch {self.batch}")
        if self.action == "rollback":
            parts.append(f", back to step {self.data['to_step']}, {self.data['left_out']} batches left out")
        if self.action in ("no-snapshot", "damp", "accept", "stop") and "why" in self.data:
            parts.append(f": {self.data['why']}")
        return "".join(parts)


def _value(event: Event) -> str:
    value = event.loss if "loss" in event.reason else event.norm
    return f" {value:.4g}" if value is not None and "non-finite" not in event.reason else ""


def _storable(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_storable(item) for item in value]
    return value if isinstance(value, int | float | str | bool) or value is None else str(value)
