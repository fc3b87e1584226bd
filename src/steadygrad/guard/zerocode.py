"""A guard for scripts nobody has changed: every optimizer's step is judged before it is taken.

It sits where torch calls the optimizer's own code, inside of its hooks: whoever observes steps sees a skipped one like
any other. What a script does around its steps cannot be seen from there, and is said in :data:`UNSEEN`.
"""

from __future__ import annotations

import functools
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer

from steadygrad.clip.gradients import collect, scale
from steadygrad.errors import GuardStopError
from steadygrad.guard.copies import finite, parameters
from steadygrad.guard.damping import damped
from steadygrad.guard.ladder import Guard
from steadygrad.guard.losses import Losses
from steadygrad.guard.running import RunningStatistics
from steadygrad.guard.snapshots import Subject
from steadygrad.guard.verdict import NONFINITE_GRADIENT, OVERFLOW, Found
from steadygrad.patching import Patch, given_closure, wrap

#: What a guard outside of the script cannot know or put back.
UNSEEN = (
    "the position of the data loader (after going back, the batches that come next are used)",
    "schedulers and loss scalers (they go on as if every step had been taken)",
    "what else the script keeps, such as averaged weights and counters",
)
_T = TypeVar("_T")


class _Watched:
    """One optimizer, its guard, and the normalisation layers that belong to it."""

    def __init__(self, optimizer: Optimizer, guard: Guard, layers: list[nn.Module]) -> None:
        self.guard = guard
        held = {id(p) for p in parameters(optimizer)}
        own = [m for m in layers if any(id(p) in held for p in m.parameters(recurse=False))]
        self.running = RunningStatistics(own)
        # Scripts may build optimizers again and again: neither they nor their snapshots are kept alive from here.
        guard.bind(Subject([weakref.proxy(optimizer)], own, options=False))
        weakref.finalize(optimizer, guard.ring.clear)


class ZeroCode:
    """Guards every optimizer that this process steps. Use :func:`install`."""

    def __init__(self, guard: Guard, say: Callable[[str], None]) -> None:
        self._first: Guard | None = guard
        self._settings_of = guard
        self._say = say
        self._losses = Losses()
        self._layers: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self._watched: weakref.WeakKeyDictionary[Optimizer, _Watched] = weakref.WeakKeyDictionary()
        self._undo: list[Callable[[], None]] = []
        self._inside = False
        self._live = True
        self._hook = Optimizer.profile_hook_step
        #: Every guard there is, one for each optimizer.
        self.guards = [guard]

    # -- installation -------------------------------------------------------------------------------------------

    def install(self) -> None:
        """Put everything in place."""
        self._losses.install()
        self._undo.append(self._losses.remove)
        for patch in (
            Patch(_NormBase, "__init__", vars(_NormBase)["__init__"], wrap(_NormBase.__init__, self._layer_built)),
            Patch(Optimizer, "profile_hook_step", vars(Optimizer)["profile_hook_step"], staticmethod(self._hooked)),
        ):
            patch.put()
            self._undo.append(patch.undo)
        for kind in _hooked_classes(Optimizer):  # built before us
            self._undo.append(self._rehook(kind))

    def remove(self) -> None:
        """Take everything away. Classes that were hooked meanwhile keep their hooks, with nothing of ours in them."""
        self._live = False
        while self._undo:
            self._undo.pop()()
        for kind in _hooked_classes(Optimizer):
            inner = getattr(getattr(kind.step, "__wrapped__", None), "_unguarded", None)
            if inner is not None:
                _set_step(kind, Optimizer.profile_hook_step(inner))

    def _rehook(self, kind: type[Optimizer]) -> Callable[[], None]:
        before = kind.step
        _set_step(kind, Optimizer.profile_hook_step(getattr(before, "__wrapped__", before)))
        return lambda: _set_step(kind, before)

    def _hooked(self, func: Any) -> Any:
        return self._hook(self._guarded(func))

    def _layer_built(self, original: Any) -> Any:
        def __init__(layer: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
            original(layer, *args, **kwargs)
            if self._live:
                self._layers.add(layer)

        return __init__

    # -- at each step -------------------------------------------------------------------------------------------

    def _guarded(self, func: Any) -> Any:
        @functools.wraps(func)
        def step(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            if not self._live or self._inside or torch.compiler.is_compiling():
                return func(optimizer, *args, **kwargs)
            self._inside = True  # a subclass may call the step of its base
            try:
                run = functools.partial(func, optimizer, *args, **kwargs)
                with_closure = given_closure((optimizer, *args), kwargs)
                return self._closure_step(optimizer, run) if with_closure else self._plain_step(optimizer, run)
            finally:
                self._inside = False

        step._unguarded = func  # type: ignore[attr-defined]
        return step

    def _plain_step(self, optimizer: Optimizer, run: Callable[[], Any]) -> Any:
        judged = self._ours(self._judge, optimizer)
        if judged is None:
            return run()
        watched, found, reason = judged
        if reason and reason != OVERFLOW:  # an overflow is the scaler's: its optimizer knows
            watched.running.restore()
            self._ours(_observe, watched, found, reason)
            return None
        damping = watched.guard.damping()
        if damping is not None:
            factor = min(1.0, damping.norm / (found.norm + 1e-6))
            with torch.no_grad():
                scale(collect(parameters(optimizer)), torch.tensor(factor))
        with damped(optimizer, damping):
            out = run()
        watched.running.keep()
        self._ours(_observe, watched, found, reason)
        return out

    def _closure_step(self, optimizer: Optimizer, run: Callable[[], Any]) -> Any:
        watched, subject = self._ours(self._of, optimizer), Subject([optimizer])
        before = self._ours(subject.capture) if watched is not None else None
        out = run()
        if watched is not None and before is not None:
            self._ours(self._closure_ended, optimizer, watched, lambda: subject.restore(before, rng=False), out)
        return out

    def _closure_ended(self, optimizer: Optimizer, watched: _Watched, undo: Callable[[], None], out: Any) -> None:
        given = out.detach() if isinstance(out, Tensor) else out
        loss = float(given) if isinstance(given, Tensor | float | int) else None
        self._losses.take()
        found = Found(_measured(optimizer)[0], loss)
        reason = watched.guard.limits().reason(found)
        if reason or not finite([p.detach() for p in parameters(optimizer)]):
            undo()
            watched.running.restore()
            reason = reason or NONFINITE_GRADIENT
        else:
            watched.running.keep()
        _observe(watched, found, reason)

    def _ours(self, work: Callable[..., _T], *args: Any) -> _T | None:
        """Run our own code: its errors are said once and never reach the script, but for the one that is meant to."""
        try:
            return work(*args)
        except GuardStopError:
            raise
        except Exception as error:
            self._give_up(f"{type(error).__name__}: {error}")
            return None

    def _judge(self, optimizer: Optimizer) -> tuple[_Watched, Found, str] | None:
        watched = self._of(optimizer)
        if watched is None:
            return None
        norm, non_finite = _measured(optimizer)
        divisor = getattr(optimizer, "grad_scale", None)  # a scaler left it to the kernel to unscale
        norm /= float(divisor) if isinstance(divisor, Tensor) else 1.0
        found = Found(norm, self._loss(), non_finite)
        flag = getattr(optimizer, "found_inf", None)
        overflow = isinstance(flag, Tensor) and float(flag) > 0
        return watched, found, OVERFLOW if overflow else watched.guard.limits().reason(found)

    def _loss(self) -> float | None:
        """The loss; of several processes none, since it differs among them: reduced gradients are the same for all."""
        loss = self._losses.take()
        return None if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1 else loss

    def _of(self, optimizer: Optimizer) -> _Watched | None:
        found = self._watched.get(optimizer)
        if found is None and _is_local(optimizer):
            self._give_up("gradients are split over processes in a way that each would decide about alone")
        elif found is None:
            guard, self._first = self._first, None
            if guard is None:
                guard = self._settings_of.another()
                self.guards.append(guard)
            found = self._watched[optimizer] = _Watched(optimizer, guard, list(self._layers))
        return found

    def _give_up(self, why: str) -> None:
        self._live = False
        self._say(f"the guard is off, the training goes on: {why}")

    # -- at the end ---------------------------------------------------------------------------------------------

    def as_fact(self) -> dict[str, Any]:
        """What was done and what could not be seen, to be stored with the run."""
        steps = [guard.step for guard in self.guards]
        return {"steps": steps, "said": self.summary(), "unseen": list(UNSEEN)}

    def summary(self) -> list[str]:
        """What was done, and where it was more than nothing, what could not be seen from outside."""
        events = [event for guard in self.guards for event in guard.events]
        done = Counter(event.action for event in events)
        if not done:
            return ["guard: every step was taken"]
        reasons = Counter(event.reason for event in events if event.action == "skip")
        why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        words = {"damp": "damped", "rollback": "went back", "accept": "accepted a new level", "stop": "stopped",
                 "no-snapshot": "could not keep a snapshot"}  # fmt: skip
        rest = [f"{word} {done[action]}x" for action, word in words.items() if done[action]]
        line = "guard: " + ", ".join([f"skipped {done['skip']} step{'s' * (done['skip'] != 1)} ({why})", *rest])
        return [line, f"guard: not seen or put back from outside the script: {'; '.join(UNSEEN)}"]


def _observe(watched: _Watched, found: Found, reason: str) -> None:
    if watched.guard.observe(found, reason):
        watched.running.keep()


@torch.no_grad()
def _measured(optimizer: Optimizer) -> tuple[float, bool]:
    """Norm of all gradients, and whether any is not finite. Not by a clipper: observers would take it for a clip."""
    gradients = collect(parameters(optimizer))
    each, flag = gradients.norms()
    total, bad = gradients.joint(each, flag=flag)
    return float(total), bool(bad)


def _is_local(optimizer: Optimizer) -> bool:
    """Whether each process holds pieces of the gradients that torch does not know as such."""
    flat = any(type(p).__name__ == "FlatParameter" or hasattr(p, "_is_flat_param") for p in parameters(optimizer))
    return flat or "deepspeed" in sys.modules


def _to_stderr(message: str) -> None:
    print(f"steadygrad: {message}", file=sys.stderr, flush=True)


def _hooked_classes(base: type[Optimizer]) -> Iterator[type[Optimizer]]:
    for kind in base.__subclasses__():
        if "step" in vars(kind) and getattr(kind.step, "hooked", False):
            yield kind
        yield from _hooked_classes(kind)


def _set_step(kind: type[Optimizer], step: Any) -> None:
    step.hooked = True
    kind.step = step  # type: ignore[method-assign]


def install(guard: Guard, *, say: Callable[[str], None] = _to_stderr) -> ZeroCode:
    """Guard every optimizer that this process steps from now on, until ``remove()`` is called on the result.

    Each optimizer gets a guard of its own, the first one ``guard``, the others with the same settings.

    Args:
        guard: what to do. Steps are not told apart by batch here, so its events name none.
        say: told once if the guard has to switch itself off.

    Example:
        >>> import torch
        >>> from steadygrad import Guard
        >>> installed = install(Guard())
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> optimizer = torch.optim.SGD([weight], lr=0.1)
        >>> (weight * float("nan")).sum().backward()
        >>> optimizer.step()
        >>> weight.tolist(), installed.summary()[0]
        ([1.0, 1.0], 'guard: skipped 1 step (1 non-finite loss)')
        >>> installed.remove()
    """
    installed = ZeroCode(guard, say)
    installed.install()
    return installed
