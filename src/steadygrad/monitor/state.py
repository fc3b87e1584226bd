"""What the monitor remembers: of each optimizer between its steps, and of the current step.

Shapes legend: P = parameters in the run's table, n = gradients of one optimizer.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steadygrad import batch, stats
from steadygrad.monitor.clipping import Clips
from steadygrad.online import Spread
from steadygrad.records import Fact, OptimizerInfo, ParameterInfo, SiteInfo, StepRecord, Vector

Rows = NDArray[np.int64]
Site = tuple[str, int]  # a file and a line in it


#: Module calls of one step that are remembered.
ROOTS = 8


class Sink(Protocol):
    """Where records go."""

    def parameters(self, table: list[ParameterInfo]) -> None:
        """The parameter table, whole, whenever it changed."""

    def sites(self, table: list[SiteInfo]) -> None:
        """The site table, whole, whenever it changed."""

    def optimizers(self, table: list[OptimizerInfo]) -> None:
        """The optimizer table, whole, whenever it changed."""

    def step(self, record: StepRecord) -> None:
        """One optimizer step."""

    def fact(self, fact: Fact) -> None:
        """Something seen once."""


@dataclass
class Weights:
    """Parameters as they were before an update, on sampled steps."""

    parameters: list[Tensor]
    rows: Rows
    before: stats.Snapshot


@dataclass
class Stream:
    """One optimizer (or the script's own update rule) and what is remembered of it between steps."""

    index: int
    kind: str
    optimizer: weakref.ref[Any] | None
    ids: tuple[int, ...] = ()
    rows: Rows = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    in_order: bool = False  # these are the first rows of the table, in their order
    group: int = 0  # of the optimizer's parameter groups, the one whose rate is recorded
    unreal: bool = False  # holds parameters without numbers (the meta device)
    sharded: bool = False  # holds parameters of which this process has a part: that part is measured
    steps: int = 0
    spread: Spread = field(default_factory=Spread)  # of the loss
    steepness: Spread = field(default_factory=Spread)  # of the gradient norm
    weights: Weights | None = None
    #: The parameter with the largest gradient of the last step, while it is to be seen whether it gets cleared.
    uncleared: weakref.ref[Tensor] | None = None
    #: For updates by hand: the parameter with the largest gradient, and its values when backward returned.
    untouched: tuple[weakref.ref[Tensor], Tensor] | None = None
    merged: int = 0  # backward passes in a row without an update
    functional: list[tuple[weakref.ref[Tensor], Tensor]] = field(default_factory=list)

    def keep_untouched(self, reference: weakref.ref[Tensor]) -> None:
        """Remember a parameter's values, to see later whether the script has updated it."""
        parameter = reference()
        self.untouched = (reference, _thinned(parameter)) if parameter is not None else None

    def is_untouched(self) -> bool:
        """Whether that parameter still has those values."""
        kept, self.untouched = self.untouched, None
        parameter = kept[0]() if kept is not None else None
        return kept is not None and parameter is not None and torch.equal(_thinned(parameter), kept[1])

    def is_accumulating(self, *, at_most: int) -> bool:
        """Whether nothing has been updated since: one more backward pass adds to the same gradients."""
        same = self.is_untouched() and self.merged < at_most
        self.merged = self.merged + 1 if same else 0
        return self.merged > 0

    def holder(self) -> Any:
        """The optimizer, or None: gone, or the script updates by itself."""
        return self.optimizer() if self.optimizer is not None else None


def _thinned(parameter: Tensor) -> Tensor:
    return stats.thinned(stats.local(parameter)).clone()


@dataclass
class Measured:
    """The gradients of one step before any clip: ``gradients`` and their table rows, norms, and the global norm."""

    gradients: list[Tensor]
    rows: Rows
    norms: Vector
    total: float
    scale: float | NDArray[np.float64]  # what the gradients must be multiplied with to undo clipping and loss scaling
    unusual: bool

    @property
    def steepest(self) -> int:
        """Row of the parameter with the largest gradient."""
        return int(self.rows[int(self.norms[self.rows].argmax())])


class Pending:
    """What the current step has shown so far. There is one, cleared after each step."""

    losses: dict[Site, list[float]]  # by the line that called backward
    divisors: dict[Site, float]  # of lines that do so several times a step
    #: Losses that a device has yet to say, and where each of them belongs.
    unread: list[tuple[list[float], int, Tensor]]
    roots: list[tuple[Any, ...]]
    rng: Tensor | None
    loss_calls: list[batch.LossCall]
    targets: list[Any]  # what loss functions were given, where the calls are not kept
    data: list[Tensor]
    clips: Clips
    raw: dict[int, float]  # stream -> gradient norm as backward left it
    frame: FrameType | None
    line: int
    flags: list[str]
    measured: Measured | None

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin the next step."""
        self.losses, self.divisors, self.raw = {}, {}, {}
        self.unread, self.roots, self.loss_calls, self.targets, self.data, self.flags = [], [], [], [], [], []
        self.rng, self.frame, self.measured, self.line = None, None, None, 0
        self.clips = Clips()

    def fetch(self) -> list[float]:
        """Read what is still on a device, all of it at once, so that the host waits for it once in a step.

        Returns:
            The losses among it.
        """
        arrived: list[float] = []
        clip = self.clips.unread()
        if self.unread or clip:
            host = stats.on_host([*(loss for *_, loss in self.unread), *clip])
            for (values, position, _), loss in zip(self.unread, host, strict=False):
                values[position] = float(loss)
                arrived.append(values[position])
            if clip:
                self.clips.arrived(host[len(arrived) :])
            self.unread.clear()
        self.clips.read()
        return arrived

    def all_targets(self) -> list[Tensor]:
        """Targets of the step's loss calls."""
        kept = [*(call.target for call in self.loss_calls), *self.targets]
        return [t.detach() for t in kept if isinstance(t, Tensor) and stats.measurable(t)]
