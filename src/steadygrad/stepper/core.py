"""The stepper: from a loss to the next parameters, in the right order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from steadygrad import notices
from steadygrad.clip import Clipper, GlobalNorm
from steadygrad.errors import InputError
from steadygrad.guard.running import RunningStatistics
from steadygrad.guard.snapshots import Subject
from steadygrad.guard.verdict import Judge, Limits
from steadygrad.stepper.closures import step_with_closure
from steadygrad.stepper.replicas import Replicas
from steadygrad.stepper.result import Outcome, StepResult
from steadygrad.stepper.scaling import Scaling
from steadygrad.stepper.schedulers import Schedulers
from steadygrad.stepper.update import Update, parameters

ON_NONFINITE = ("skip", "raise", "zero")
ROLLED_BACK = "rolled back"


class Stepper:
    """One training step that is right: backward, unscale, clip, decide, step, schedule, clear, in this order.

    A step whose loss or gradient is not finite is taken not at all: parameters, optimizer state, step counts, clip
    statistics, schedulers and (with ``model``) BatchNorm's running statistics are bit for bit what they were. With a
    fused Adam, AdamW, SGD or Adagrad the clip is folded into the optimizer's kernel; many small tensors on the CPU are
    updated together, which gives the same bits in less time. The optimizer stays what it is: schedulers, hooks and
    checkpoints see the real one.

    Args:
        optimizer: one, or several that one loss trains. For a GAN make one stepper for each network.
        clip: a :class:`steadygrad.clip.Clipper`; None measures the norm and clips nothing.
        scaler: a ``torch.amp.GradScaler``.
        scheduler: one or several, stepped once for each step that is taken.
        accumulate: micro-batches per step. Each loss is divided by it, so a step has the gradient of their mean.
        on_nonfinite: ``"skip"`` the step, ``"raise"`` NonFiniteError, or ``"zero"`` the entries of the gradient that
            are NaN or Inf and step with the rest. A loss that is not finite is skipped then too. What overflows only
            because a scaler scaled it is skipped with all three.
        guard: a :class:`steadygrad.Guard`, which also judges spikes and escalates.
        model: the model as the loop calls it, or several. Needed for ``no_sync`` under DistributedDataParallel and
            FSDP2, for running statistics, and for names in errors.
        fold: whether fused optimizers may do the clip's scaling.
        defer: whether the device decides about a step without the host reading it, where that can be done. By default
            on accelerators. Schedulers are then stepped at once, and stepped back at the next step if the device did
            not take this one.

    Raises:
        InputError: an argument that cannot be used as given.

    Example:
        >>> import torch, steadygrad
        >>> model = torch.nn.Linear(4, 1)
        >>> optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        >>> stepper = steadygrad.Stepper(optimizer, clip=steadygrad.clip.GlobalNorm(1.0), accumulate=2)
        >>> results = [stepper.step(model(torch.ones(8, 4)).square().mean()) for _ in range(4)]
        >>> [result.stepped for result in results]
        [False, True, False, True]
        >>> stepper.step(model(torch.full((8, 4), float("nan"))).mean(), last=True).reason
        'non-finite loss'
        >>> stepper.steps, stepper.skipped
        (2, 1)
    """

    def __init__(
        self,
        optimizer: Optimizer | Sequence[Optimizer],
        *,
        clip: Clipper | None = None,
        scaler: GradScaler | None = None,
        scheduler: Any = None,
        accumulate: int = 1,
        on_nonfinite: str = "skip",
        guard: Judge | None = None,
        model: nn.Module | Iterable[nn.Module] | None = None,
        fold: bool = True,
        defer: bool | None = None,
    ) -> None:
        optimizers = _optimizers(optimizer)
        _check_options(clip, accumulate, on_nonfinite, guard)
        models = [] if model is None else [model] if isinstance(model, nn.Module) else list(model)
        names = {id(p): name for m in models for name, p in m.named_parameters()}
        schedulers = list(scheduler) if isinstance(scheduler, list | tuple) else [scheduler] if scheduler else []
        self.clip = clip if clip is not None else GlobalNorm(float("inf"))
        self.guard = guard
        self.accumulate = accumulate
        self._replicas = Replicas(models, accumulate)
        self._update = Update(
            optimizers,
            self.clip,
            Scaling(scaler),
            Schedulers(schedulers, optimizers),
            RunningStatistics(models),
            on_nonfinite=on_nonfinite,
            fold=fold,
            defer=defer,
            names=names,
        )
        self._on_nonfinite = on_nonfinite
        if guard is not None:
            scalers = [scaler] if scaler is not None and scaler.is_enabled() else []
            guard.bind(Subject(optimizers, models, [*schedulers, *scalers, self.clip]))
        self._steps = self._skipped = 0
        self._unsettled: tuple[Outcome, Any] | None = None
        self._restart()

    # -- what the user calls ------------------------------------------------------------------------------------

    def step(
        self, loss: Tensor | Callable[[], Tensor] | None = None, *, last: bool = False, batch: Any = None
    ) -> StepResult:
        """Give the loss of a batch; every ``accumulate`` calls the optimizer steps.

        Args:
            loss: a scalar to call ``backward`` on. Gradients that other backward passes left behind are cleared before
                the first of a step. None: take the gradients as they are, as after a ``backward`` of your own. A
                callable: a closure for optimizers that need one (L-BFGS); it returns the loss.
            last: step now, although fewer micro-batches have come (the end of an epoch). Their mean is used.
            batch: anything that tells this batch from others, e.g. its index. The guard's events name it.

        Returns:
            What was done. Nothing in it waits for the device until it is read.

        Raises:
            InputError: the loss is not a scalar, or does not depend on a parameter.
            NonFiniteError: with ``on_nonfinite="raise"``. Nothing was changed; the gradients are there to be looked at.
        """
        if loss is not None and not isinstance(loss, Tensor):
            return self._closure_step(_checked_closure(loss), batch)
        try:
            self._backward(loss, last)
            if self._count < self.accumulate and not last:
                return StepResult(self._mean())
            return self._finish(batch)
        except BaseException:
            self._update.scaling.hold()
            self._restart()
            raise

    @property
    def steps(self) -> int:
        """Optimizer steps taken. Reading it waits for the device."""
        self.settle()
        return self._steps

    @property
    def skipped(self) -> int:
        """Optimizer steps skipped. Reading it waits for the device."""
        self.settle()
        return self._skipped

    @property
    def fold_refused(self) -> str:
        """Why the latest clip was not folded into the optimizer's kernel; empty where it was, or nothing was to do."""
        return self._update.refused

    def settle(self) -> bool:
        """Wait for what the device decided about the latest step, and let schedulers and the guard know.

        Called by itself before the next step, and by everything here that has to know.

        Returns:
            Whether the guard has gone back to an earlier state.
        """
        if self._unsettled is None:
            return False
        (outcome, batch), self._unsettled = self._unsettled, None
        skipped = bool(outcome.reason)
        self._update.schedulers.settle(skipped=skipped)
        return self._count_and_report(outcome, batch)

    def state_dict(self) -> dict[str, Any]:
        """Step counts, clip statistics and the guard's state. Optimizer, scheduler and scaler are saved as ever.

        Micro-batches that have not led to a step are not part of it: save after a step.
        """
        self.settle()
        state = {"steps": self._steps, "skipped": self._skipped, "clip": self.clip.state_dict()}
        return state | ({"guard": self.guard.state_dict()} if self.guard is not None else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a stored state.

        Raises:
            InputError: it is not a stepper's.
        """
        if not {"steps", "skipped", "clip"} <= state.keys():
            raise InputError(f"not the state of a Stepper: it has {sorted(state)}, not steps, skipped and clip")
        self._unsettled = None
        self._steps, self._skipped = int(state["steps"]), int(state["skipped"])
        self.clip.load_state_dict(state["clip"])
        if self.guard is not None and "guard" in state:
            self.guard.load_state_dict(state["guard"])
        self._restart()
        self._update.running.keep()

    # -- inside -------------------------------------------------------------------------------------------------

    def _restart(self) -> None:
        """Forget the micro-batches so far."""
        self._count = 0
        self._total: Tensor | None = None
        self._replicas.next_reduces(self.accumulate == 1)

    def _mean(self) -> Tensor | None:
        return self._total if self._total is None or self._count == 1 else self._total / self._count

    def _clear(self) -> None:
        for optimizer in self._update.optimizers:
            optimizer.zero_grad()

    def _backward(self, loss: Tensor | None, last: bool) -> None:
        boundary = last or self._count + 1 >= self.accumulate
        if loss is not None:
            _check(loss)
            if self._count == 0 and any(p.grad is not None for p in parameters(self._update.optimizers)):
                self._clear()
            self._replicas.before_backward(boundary)
            part = loss if self.accumulate == 1 else loss / self.accumulate
            self._update.scaling.scaled(part).backward()  # type: ignore[no-untyped-call]
            value = loss.detach().reshape(()) if loss.dim() else loss.detach()
            self._total = value if self._total is None else self._total + value
        self._count += 1
        if boundary:
            self._complete()
        else:
            self._replicas.next_reduces(self._count + 1 == self.accumulate)

    def _complete(self) -> None:
        """What the last micro-batch was too late to know: that it is the last of its step, and of how many."""
        if self._count < self.accumulate:
            gradients = [p.grad for p in parameters(self._update.optimizers) if p.grad is not None]
            self._replicas.reduce_late(gradients)
            if gradients:
                torch._foreach_mul_(gradients, self.accumulate / self._count)

    def _finish(self, batch: Any) -> StepResult:
        if self.settle():
            notices.tell_skipped(ROLLED_BACK)
            self._update.scaling.hold()
            self._clear()
            result = StepResult(self._mean(), None, Outcome(reason=ROLLED_BACK))
            self._restart()
            return result
        loss = self._mean()
        loss = self._replicas.mean(loss) if loss is not None else None
        info, outcome = self._update.make(loss, *self._guarded())
        self._clear()
        self._restart()
        self._done(outcome, batch)
        return StepResult(loss, info, outcome)

    def _closure_step(self, closure: Callable[[], Tensor], batch: Any) -> StepResult:
        if self.accumulate > 1 or self._update.scaling.active or len(self._update.optimizers) > 1:
            raise InputError("a closure is evaluated by one optimizer: without a scaler, and with accumulate=1")
        limits, _ = self._guarded()
        error = self._on_nonfinite == "raise"
        loss, info, outcome = step_with_closure(self._update, closure, limits, error=error)
        self._done(outcome, batch)
        return StepResult(loss, info, outcome)

    def _guarded(self) -> tuple[Limits, Any]:
        return (Limits(), None) if self.guard is None else (self.guard.limits(), self.guard.damping())

    def _done(self, outcome: Outcome, batch: Any) -> None:
        if outcome.waiting:
            self._unsettled = outcome, batch
        else:
            self._count_and_report(outcome, batch)

    def _count_and_report(self, outcome: Outcome, batch: Any) -> bool:
        if outcome.reason:
            self._skipped += 1
        else:
            self._steps += 1
        if self.guard is None:
            return False
        went_back = self.guard.observe(outcome.found, outcome.reason, batch)
        if went_back:
            self._update.running.keep()
        return went_back


def _optimizers(given: Optimizer | Sequence[Optimizer]) -> list[Optimizer]:
    optimizers = [given] if isinstance(given, Optimizer) or not isinstance(given, Iterable) else list(given)
    if not optimizers or not all(isinstance(each, Optimizer) for each in optimizers):
        wrong = ", ".join(type(each).__name__ for each in optimizers) or "nothing"
        raise InputError(f"optimizer must be a torch.optim.Optimizer or several of them, not {wrong}")
    held = [id(p) for p in chain.from_iterable([parameters([each]) for each in optimizers])]
    if len(set(held)) < len(held) and len(optimizers) > 1:
        raise InputError("a parameter is in two of the optimizers: both would update it with one gradient")
    return optimizers


def _check_options(clip: object, accumulate: object, on_nonfinite: str, guard: object) -> None:
    if clip is not None and not isinstance(clip, Clipper):
        limit = clip if isinstance(clip, int | float) else 1.0
        raise InputError(f"clip must be a clipper, such as steadygrad.clip.GlobalNorm({limit}), not {clip!r}")
    if isinstance(accumulate, bool) or not isinstance(accumulate, int) or accumulate < 1:
        raise InputError(f"accumulate is the number of micro-batches of a step, 1 or more, not {accumulate!r}")
    if on_nonfinite not in ON_NONFINITE:
        raise InputError(f"on_nonfinite must be one of {', '.join(ON_NONFINITE)}, not {on_nonfinite!r}")
    if guard is not None and not hasattr(guard, "observe"):
        raise InputError(f"guard must be a guard, such as steadygrad.Guard(), not {guard!r}")


def _checked_closure(given: Callable[[], Tensor]) -> Callable[[], Tensor]:
    if not callable(given):
        raise InputError(
            f"step() takes the loss as a tensor, or a closure that returns it, not {given!r}; "
            f"leave out .item() and float(): a number has no gradient"
        )
    return given


def _check(loss: Tensor) -> None:
    if loss.numel() != 1:
        raise InputError(f"step() takes the scalar loss, not a tensor of shape {tuple(loss.shape)}; reduce it first")
    if not loss.requires_grad:
        raise InputError(
            "the loss does not depend on any parameter that requires a gradient: look for .item(), .detach(), "
            "numpy or torch.no_grad() between the model and the loss"
        )
