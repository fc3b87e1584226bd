"""How a cause is argued: evidence for and against, each with a weight, combined into a confidence.

Weights are probabilities that the evidence alone would settle the matter. Independent pieces combine as "at least one
of them is right" (noisy or); evidence against scales the result down the same way. So no single number decides, every
confidence can be read back from the sentences beside it, and adding a rule does not upset the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from steadygrad.records import Cause, Symptom
from steadygrad.view import View


@dataclass
class Argument:
    """The case for one cause, while it is being made."""

    code: str
    location: str = ""
    weights: list[float] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    doubts: list[float] = field(default_factory=list)
    objections: list[str] = field(default_factory=list)

    def add(self, weight: float, reason: str) -> None:
        """Evidence for; of no weight, it is not worth saying."""
        if weight > 0:
            self.weights.append(min(0.99, weight))
            self.reasons.append(reason)

    def doubt(self, weight: float, objection: str) -> None:
        """Evidence against; likewise."""
        if weight > 0:
            self.doubts.append(min(0.99, weight))
            self.objections.append(objection)

    @property
    def confidence(self) -> float:
        """Between 0 and 0.99."""
        return (1 - math.prod(1 - w for w in self.weights)) * math.prod(1 - d for d in self.doubts)

    def cause(self, remedies: Sequence[str]) -> Cause:
        """The finished cause."""
        order = sorted(range(len(self.reasons)), key=lambda i: -self.weights[i])
        return Cause(
            code=self.code,
            confidence=round(self.confidence, 3),
            location=self.location,
            evidence=tuple(self.reasons[i] for i in order),
            against=tuple(self.objections),
            remedies=tuple(remedies),
        )


@dataclass(frozen=True)
class Findings:
    """What a cause may look at: the view, and which symptoms were found."""

    view: View
    symptoms: tuple[Symptom, ...]

    def has(self, *codes: str) -> bool:
        """Whether any of these symptoms was found."""
        return any(s.code in codes for s in self.symptoms)

    def first(self, code: str) -> Symptom | None:
        """The first symptom of a code."""
        return next((s for s in self.symptoms if s.code == code), None)

    @property
    def learning(self) -> bool:
        """The loss fell well below its start and stayed there."""
        shape = self.view.loss
        return shape is not None and not shape.nonfinite and shape.relative_drop > 0.3

    @property
    def poor(self) -> bool:
        """The loss kept most of its first value over a run long enough to tell (signed and adversarial losses aside)."""
        shape = self.view.loss
        if shape is None or shape.nonfinite or self.view.signed_loss or self.view.interleaved:
            return False
        return shape.n >= 80 and shape.relative_drop < 0.3

    @property
    def trouble(self) -> bool:
        """Anything at all was found wrong."""
        return bool(self.symptoms)


@dataclass(frozen=True)
class CauseRule:
    """One cause: its code, how it is argued, what may help, and which causes it explains away when it holds."""

    code: str
    argue: Callable[[Findings, Argument], None]
    remedies: tuple[str, ...]
    explains: tuple[str, ...] = ()


def ramp(value: float, low: float, high: float) -> float:
    """0 below ``low``, 1 above ``high``, linear in the logarithm between; NaN gives 0."""
    if not value > low:
        return 0.0
    return min(1.0, math.log(value / low) / math.log(high / low))
