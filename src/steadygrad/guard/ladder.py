"""The guard: skip, damp, go back, stop. Each rung is tried before the next, and none more often than its budget."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steadygrad.errors import GuardStopError, InputError
from steadygrad.guard import events
from steadygrad.guard.events import Event
from steadygrad.guard.snapshots import Ring, Snapshot, Subject, write
from steadygrad.guard.spikes import SpikeTest
from steadygrad.guard.verdict import NONFINITE, OVERFLOW, Damping, Found, Limits

_EVENTS_KEPT = 10_000


@dataclass(frozen=True)
class Budget:
    """How often each rung may be used.

    Attributes:
        skips: bad steps skipped within ``span`` steps before a stronger measure is taken. Single bad batches among
            good ones are well skipped; this is for when they come in a row.
        span: see ``skips``.
        damps, rollbacks: uses within ``horizon`` steps.
        horizon: steps without trouble after which a use is forgotten.
    """

    skips: int = 5
    span: int = 20
    damps: int = 1
    rollbacks: int = 2
    horizon: int = 2000


class Guard:
    """Watches over a training from within its steps: ``Stepper(optimizer, guard=Guard())``.

    A step is bad when loss or gradient are not finite, or when one of them is far above its recent good values
    (:class:`~steadygrad.guard.spikes.SpikeTest`). Bad steps are skipped. When they come too often:

    1. *damp*: for a while rates are ``damped_lr`` times what they are, the gradient is clipped to its recent median
       norm, and finite steps are taken whatever their loss;
    2. *roll back*: parameters, optimizer state, schedulers, scaler and clip statistics become what they were at a
       snapshot from before the trouble. The data goes on, so the batches since then are left out, as was done by hand
       for PaLM (Chowdhery et al. 2022, section 5.1);
    3. *stop*: the newest good state from before the trouble is restored and written to ``folder``, and
       :class:`steadygrad.errors.GuardStopError` is raised. With ``exhausted="accept"``, finite spikes become the new
       normal instead.

    Args:
        factor: deviations above the recent median that make a loss or a gradient norm bad.
        window: good steps that are remembered for that.
        warmup: good steps before anything finite is called bad.
        budget: how often each rung may be used.
        damped_lr: rate while damping, as a share.
        damped_steps: steps that a damping lasts.
        snapshot_every: steps between snapshots. Each costs a copy of parameters and optimizer state to host memory.
        keep: snapshots kept.
        memory: bytes for all snapshots. Where not one fits, there is no going back, and an event says so.
        restore_rng: whether going back also restores torch's random state. Off by default: where batches are drawn
            from it, the same bad ones would come again.
        exhausted: ``"stop"`` or ``"accept"``.
        folder: where to write the state before stopping; None writes nothing.
        on_event: called with each :class:`~steadygrad.guard.events.Event`.

    Raises:
        InputError: an argument out of range.

    Example:
        >>> import torch, steadygrad
        >>> model = torch.nn.Linear(4, 1)
        >>> guard = steadygrad.Guard(warmup=10)
        >>> stepper = steadygrad.Stepper(torch.optim.SGD(model.parameters(), lr=0.01), guard=guard, model=model)
        >>> for step in range(30):
        ...     x = torch.ones(8, 4) * (1e4 if step == 20 else 1.0)
        ...     result = stepper.step((model(x) - 1).square().mean(), batch=step)
        >>> [(event.action, event.reason, event.batch) for event in guard.events]
        [('skip', 'loss spike', 20)]
    """

    def __init__(
        self,
        *,
        factor: float = 6.0,
        window: int = 128,
        warmup: int = 20,
        budget: Budget | None = None,
        damped_lr: float = 0.1,
        damped_steps: int = 20,
        snapshot_every: int = 100,
        keep: int = 3,
        memory: int = 4 << 30,
        restore_rng: bool = False,
        exhausted: str = "stop",
        folder: Path | str | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        self._settings = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        _check(self._settings)
        self.budget = budget if budget is not None else Budget()
        self.loss = SpikeTest(window=window, warmup=warmup, factor=factor)
        self.norm = SpikeTest(window=window, warmup=warmup, factor=factor, log=True, floor=1.5)  # e ** 1.5 = 4.5 times
        self.ring = Ring(keep=keep, memory=memory)
        self.events: deque[Event] = deque(maxlen=_EVENTS_KEPT)
        self._damped = damped_lr, damped_steps
        self._every, self._restore_rng, self._exhausted = snapshot_every, restore_rng, exhausted
        self._folder = Path(folder) if folder is not None else None
        self._on_event = on_event
        self._subject: Subject | None = None
        self.step = 0
        self._damping_left = 0
        self._next_snapshot = 1
        self._bad: list[int] = []  # bad steps since the last measure that was stronger than skipping
        self._used: dict[str, list[int]] = {"damp": [], "rollback": []}
        self._batches: deque[tuple[int, Any]] = deque(maxlen=keep * snapshot_every)

    # -- what a stepper asks ------------------------------------------------------------------------------------

    def bind(self, subject: Subject) -> None:
        """Say what snapshots cover. A stepper does that for itself.

        Raises:
            InputError: the guard watches over another training already.
        """
        if self._subject is not None:
            raise InputError("this guard watches over another stepper already: make one for each")
        self._subject = subject

    def limits(self) -> Limits:
        """Above these the coming step is bad. While damping only what is not finite is."""
        return Limits() if self._damping_left else Limits(self.loss.limit(), self.norm.limit())

    def damping(self) -> Damping | None:
        """How much gentler the coming step is to be."""
        if not self._damping_left:
            return None
        usual = self.norm.median()
        return Damping(self._damped[0], usual if usual > 0 else math.inf)

    def observe(self, found: Found, reason: str, batch: Any = None) -> bool:
        """Take note of a step that was taken, or skipped for a ``reason``; go back or stop where that is due.

        Returns:
            Whether the training is now in an earlier state.

        Raises:
            GuardStopError: every rung has been used up.
        """
        self.step += 1
        if batch is not None:
            self._batches.append((self.step, batch))
        if reason == OVERFLOW:
            return False
        if not reason:
            self._good(found)
            return False
        self._tell("skip", found, reason, batch, limit=self._limit(reason))
        self._bad = [step for step in self._bad if step > self.step - self.budget.span] + [self.step]
        return len(self._bad) > self.budget.skips and self._escalate(found, reason, batch)

    # -- good steps ---------------------------------------------------------------------------------------------

    def _good(self, found: Found) -> None:
        limits = Limits(self.loss.limit(), self.norm.limit())
        if not limits.reason(found):  # a damped step may be above them: it must not teach the tests
            self.norm.add(found.norm)
            if found.loss is not None:
                self.loss.add(found.loss)
        if self._damping_left:
            self._damping_left -= 1
        elif self._subject is not None and self.step >= self._next_snapshot and not self.ring.refused:
            trouble = bool(self._bad) and self._bad[-1] > self.step - self._margin
            if not trouble:
                self._take_snapshot(self._subject)

    @property
    def _margin(self) -> int:
        """Steps around a bad one that are not trusted: damage may be older than what showed it."""
        return self.budget.span // 2

    def _take_snapshot(self, subject: Subject) -> None:
        self._next_snapshot = self.step + self._every
        self.ring.add(Snapshot(self.step, subject.capture(), {"loss": self.loss.state_dict()}))
        if self.ring.refused:
            self._tell("no-snapshot", why=self.ring.refused)

    # -- rungs --------------------------------------------------------------------------------------------------

    def _escalate(self, found: Found, reason: str, batch: Any) -> bool:
        first, self._bad = self._bad[0], []
        if self._may("damp", self.budget.damps):
            self._damping_left = self._damped[1]
            why = f"{self._damped[1]} steps at {self._damped[0]:g} times the rate, clipped to {self.norm.median():.3g}"
            self._tell("damp", found, reason, batch, why=why)
            return False
        if self.ring.held and self._may("rollback", self.budget.rollbacks):
            self._roll_back(first, found, reason, batch)
            return True
        if self._exhausted == "accept" and reason not in NONFINITE:
            self._accept(found, reason, batch)
            return False
        raise self._stopped(first, found, reason, batch)

    def _may(self, rung: str, budget: int) -> bool:
        used = self._used[rung] = [step for step in self._used[rung] if step > self.step - self.budget.horizon]
        if len(used) >= budget:
            return False
        used.append(self.step)
        return True

    def _go_back(self, snapshot: Snapshot) -> None:
        assert self._subject is not None, "snapshots are of something"
        self._subject.restore(snapshot.data, rng=self._restore_rng)
        self.loss.load_state_dict(snapshot.extra["loss"])
        self._damping_left = 0

    def _before(self, first: int) -> int:
        """The last step to be trusted where a row of bad ones began at ``first``."""
        # A damping that came shortly before was the first answer to this same trouble.
        earlier = [step for step in self._used["damp"] if step > first - 2 * (self._damped[1] + self.budget.span)]
        return min([first, *earlier]) - self._margin

    def _roll_back(self, first: int, found: Found, reason: str, batch: Any) -> None:
        snapshot = self.ring.take(self._before(first))
        assert snapshot is not None
        self._go_back(snapshot)
        batches = [b for step, b in self._batches if step > snapshot.step]
        left_out = self.step - snapshot.step
        self._tell("rollback", found, reason, batch, to_step=snapshot.step, left_out=left_out, batches=batches)

    def _accept(self, found: Found, reason: str, batch: Any) -> None:
        self.loss.load_state_dict({"values": []})
        self.norm.load_state_dict({"values": []})
        self._tell("accept", found, reason, batch, why="the new level is taken as normal")

    def _stopped(self, first: int, found: Found, reason: str, batch: Any) -> GuardStopError:
        # Older states did not help, so the newest from before the trouble is the one to keep.
        snapshot = self.ring.newest(self._before(first))
        if snapshot is not None:
            self._go_back(snapshot)
        path = self._folder / "guard-state.pt" if self._folder is not None else None
        kept = f"; the state of step {snapshot.step} is restored" if snapshot is not None else ""
        written = f" and written to {path}" if path is not None else ""
        if path is not None:
            self.save(path)
        why = f"skipping, damping and going back did not help{kept}{written}"
        self._tell("stop", found, reason, batch, why=why)
        return GuardStopError(f"training stopped at step {self.step} after a {reason}: {why}")

    def _limit(self, reason: str) -> float | None:
        if reason in NONFINITE:
            return None
        return self.loss.limit() if "loss" in reason else self.norm.limit()

    def _tell(self, action: str, found: Found | None = None, reason: str = "", batch: Any = None, **data: Any) -> None:
        loss, norm = (found.loss, found.norm) if found is not None else (None, None)
        event = Event(action, self.step, reason, loss, norm, batch, data)
        self.events.append(event)
        for listener in [*events.listeners, *([self._on_event] if self._on_event is not None else [])]:
            listener(event)

    # -- keeping ------------------------------------------------------------------------------------------------

    def another(self) -> Guard:
        """A guard with the same settings, for another training."""
        return Guard(**self._settings)

    def state_dict(self) -> dict[str, Any]:
        """Statistics, budgets and the place on the ladder. Snapshots are only part of what :meth:`save` writes."""
        return {
            "step": self.step,
            "damping_left": self._damping_left,
            "next_snapshot": self._next_snapshot,
            "bad": list(self._bad),
            "used": {rung: list(steps) for rung, steps in self._used.items()},
            "loss": self.loss.state_dict(),
            "norm": self.norm.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a stored state.

        Raises:
            InputError: it is not a guard's.
        """
        _check_parts(state, self.state_dict().keys(), "this is not the state of a Guard")
        self.step, self._damping_left = int(state["step"]), int(state["damping_left"])
        self._next_snapshot = int(state["next_snapshot"])
        self._bad = list(state["bad"])
        self._used = {rung: list(steps) for rung, steps in state["used"].items()}
        self.loss.load_state_dict(state["loss"])
        self.norm.load_state_dict(state["norm"])

    def save(self, path: Path | str) -> None:
        """Write the whole training: parameters, buffers, optimizers, schedulers, scaler, clip, random state, snapshots.

        The file is replaced in one piece, so a process killed meanwhile leaves the previous one.

        Raises:
            InputError: no stepper has this guard.
        """
        if self._subject is None:
            raise InputError("nothing to save: give the guard to a Stepper first")
        ring = [vars(snapshot) for snapshot in self.ring.held]
        write(Path(path), {"training": self._subject.capture(), "guard": self.state_dict(), "ring": ring})

    def load(self, path: Path | str) -> None:
        """Continue from a file that :meth:`save` wrote, random state included.

        Raises:
            InputError: no stepper has this guard, or the file is of another training.
        """
        import torch

        if self._subject is None:
            raise InputError("nothing to load into: give the guard to a Stepper first")
        state = torch.load(path, map_location="cpu", weights_only=True)
        _check_parts(state, {"training", "guard", "ring"}, f"{path} was not written by Guard.save")
        self._subject.restore(state["training"], rng=True)
        self.load_state_dict(state["guard"])
        self.ring.held = [Snapshot(**snapshot) for snapshot in state["ring"]]


def _check_parts(state: object, parts: Set[str], otherwise: str) -> None:
    missing = parts - (state.keys() if isinstance(state, dict) else set())
    if missing:
        raise InputError(f"{otherwise}: it has no {', '.join(sorted(missing))}")


def _check(settings: dict[str, Any]) -> None:
    rules = {
        "factor": 0.0, "window": 1, "warmup": 1, "damped_steps": 1, "snapshot_every": 1, "keep": 1, "memory": 0,
    }  # fmt: skip
    for name, least in rules.items():
        if not settings[name] >= least:
            raise InputError(f"{name} must be at least {least}, not {settings[name]!r}")
    if not 0 < settings["damped_lr"] <= 1:
        raise InputError(f"damped_lr is a share of the rate, above 0 and up to 1, not {settings['damped_lr']!r}")
    if settings["warmup"] > settings["window"]:
        raise InputError(f"warmup ({settings['warmup']}) must fit into the window ({settings['window']})")
    if settings["exhausted"] not in ("stop", "accept"):
        raise InputError(f"exhausted must be stop or accept, not {settings['exhausted']!r}")
