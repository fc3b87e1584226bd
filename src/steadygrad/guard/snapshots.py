"""States of a training to go back to: in host memory, finite, and few enough to fit a budget."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from steadygrad.errors import InputError
from steadygrad.guard.copies import (
    copied,
    finite,
    local,
    optimizer_state,
    parameters,
    put_all_back,
    restore_optimizer,
    tensors_in,
)

_HOST = torch.device("cpu")


@dataclass
class Subject:
    """What a snapshot covers.

    Attributes:
        optimizers: their parameters, state and rates.
        models: their buffers.
        others: anything with ``state_dict`` and ``load_state_dict``: schedulers, a scaler, a clipper.
        options: whether the groups' options (rates) go back too. Not where somebody else's scheduler sets them.
    """

    optimizers: Sequence[Optimizer]
    models: Sequence[nn.Module] = ()
    others: Sequence[Any] = ()
    options: bool = True

    def tensors(self) -> list[Tensor]:
        """Parameters of the optimizers, then buffers of the models."""
        held = [p for optimizer in self.optimizers for p in parameters(optimizer)]
        return held + [buffer for model in self.models for buffer in model.buffers()]

    def capture(self) -> dict[str, Any]:
        """Everything as it is now, as plain data on the host."""
        return {
            "tensors": copied([t.detach() for t in self.tensors()], _HOST),
            "optimizers": [optimizer_state(optimizer, _HOST) for optimizer in self.optimizers],
            "others": [copied(other.state_dict(), _HOST) for other in self.others],
            "rng": random_state(),
        }

    def restore(self, kept: dict[str, Any], *, rng: bool) -> None:
        """Everything as it was then.

        Raises:
            InputError: it is the state of another training.
        """
        now = self.tensors()
        if [t.shape for t in kept["tensors"]] != [local(t.detach()).shape for t in now]:
            raise InputError(
                "the stored state has other parameters or buffers than this training: build it alike first"
            )
        put_all_back(now, kept["tensors"])
        for optimizer, state in zip(self.optimizers, kept["optimizers"], strict=True):
            restore_optimizer(optimizer, state, options=self.options)
        for other, state in zip(self.others, kept["others"], strict=True):
            other.load_state_dict(copied(state))
        if rng:
            set_random_state(kept["rng"])


def random_state() -> dict[str, Any]:
    """State of torch's generators, of those devices that are in use."""
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if in_use else []}


def set_random_state(state: dict[str, Any]) -> None:
    """The inverse of :func:`random_state`."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])


@dataclass
class Snapshot:
    """One state. ``extra`` is the guard's own part of it; ``tried``: trouble came again after going back to it."""

    step: int
    data: dict[str, Any]
    extra: dict[str, Any] = field(default_factory=dict)
    tried: bool = False

    def nbytes(self) -> int:
        """Bytes of its tensors."""
        return sum(t.numel() * t.element_size() for t in tensors_in(self.data))

    def is_finite(self) -> bool:
        """Whether parameters, buffers and optimizer state hold neither NaN nor Inf."""
        return finite(tensors_in([self.data["tensors"], self.data["optimizers"]]))


class Ring:
    """The latest snapshots, oldest first, within a budget of memory.

    Args:
        keep: how many at most.
        memory: bytes for all of them together.
    """

    def __init__(self, *, keep: int, memory: int) -> None:
        self.keep, self.memory = keep, memory
        self.held: list[Snapshot] = []
        #: Why there are none, where that is so; for a person to read.
        self.refused = ""

    def add(self, snapshot: Snapshot) -> bool:
        """Keep a snapshot, dropping the oldest. False: it is not finite, or too large by itself."""
        size = snapshot.nbytes()
        if size > self.memory:
            self.refused = f"a snapshot needs {size / 2**20:.0f} MiB, the budget is {self.memory / 2**20:.0f} MiB"
            return False
        if not snapshot.is_finite():
            return False
        self.held = self.held[max(0, len(self.held) + 1 - self.keep) :]
        while self.held and sum(s.nbytes() for s in self.held) + size > self.memory:
            del self.held[0]
        self.held.append(snapshot)
        return True

    def clear(self) -> None:
        """Drop all."""
        self.held = []

    def newest(self, step: int, *, untried: bool = False) -> Snapshot | None:
        """The newest from before a step, or else the oldest there is; of those only that have not been tried."""
        known = [s for s in self.held if not (untried and s.tried)] or self.held[:1]
        return next((s for s in reversed(known) if s.step <= step), known[0] if known else None)

    def take(self, step: int) -> Snapshot | None:
        """The newest untried one from before a step. Younger ones count as tried with it: the next is further back."""
        chosen = self.newest(step, untried=True)
        for snapshot in self.held:
            snapshot.tried = snapshot.tried or (chosen is not None and snapshot.step >= chosen.step)
        return chosen


def write(path: Path, state: dict[str, Any]) -> None:
    """Write a state so that a process killed meanwhile leaves the previous file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with fresh.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
