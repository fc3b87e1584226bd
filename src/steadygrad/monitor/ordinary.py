"""The short way through an ordinary step.

Between two samples nearly every step is alike: a known model, one loss, at most one clip, and the one optimizer there
is. Its loss, its gradient norms and its learning rate are all there is to know of it. Here they are taken in as few
operations as will do: what runs once in a step runs with cold caches, so that the way through the whole monitor costs
several times as much, whichever part of it is left out.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from steadygrad.monitor.losses import Losses
from steadygrad.monitor.sampling import Schedule
from steadygrad.monitor.state import ROOTS, Pending, Stream
from steadygrad.monitor.waiting import Passed, Waiting
from steadygrad.naming import Registry
from steadygrad.patching import modes_are_active

_random_state = torch.default_generator.get_state
_CLIP = inspect.unwrap(torch.nn.utils.clip_grad_norm_).__code__
#: So many forward passes in a row that drew no random number show that the model draws none.
STILL = 3


class Ordinary:
    """Takes in the events of a step while ``stream`` says whose it is; None where steps have to be looked at in full.

    Every method says whether it took the event. If not, or if it raised, nothing has been changed, and the monitor
    takes the event the long way.
    """

    def __init__(
        self, registry: Registry, schedule: Schedule, pending: Pending, losses: Losses, waiting: Waiting
    ) -> None:
        self.stream: Stream | None = None
        self._still = 0.0  # forward passes seen to draw no random number; -inf once one did
        self._registry = registry
        self._schedule = schedule
        self._pending = pending
        self._losses = losses
        self._waiting = waiting

    def forward(self, root: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """An outermost module is called with gradients enabled."""
        if self.stream is None or not self._registry.knows(root) or modes_are_active():
            return False
        pending = self._pending
        if not pending.roots and self._still < STILL:
            pending.rng = _random_state()
        if len(pending.roots) < ROOTS:
            pending.roots.append(args or tuple(kwargs.values()))
        return True

    def drew(self, before: Tensor | None) -> None:
        """A forward pass ended that began with this random state. One that draws nothing is replayed without it.

        To copy the state is a tenth of what an ordinary step costs.
        """
        same = before is not None and torch.equal(before, _random_state())
        self._still = self._still + 1 if same else -math.inf

    def backward(self, root: Tensor, frame: FrameType | None) -> bool:
        """The one backward pass of a step begins, from a plain loss that is a finite number on the CPU."""
        pending = self._pending
        if self.stream is None or pending.losses or not pending.clips.is_empty or frame is None or modes_are_active():
            return False
        if type(root) is not Tensor or root.dim() or not root.is_cpu or not root.is_floating_point():
            return False
        line = frame.f_lineno
        site = frame.f_code.co_filename, line
        value = root.item()
        if not math.isfinite(value) or self._losses.is_divided(site):
            return False
        pending.losses[site] = [value]
        pending.frame, pending.line = frame, line
        return True

    def total_norm(self, gradients: list[Tensor], norm_type: float, error: object, foreach: object) -> Tensor | None:
        """The total norm as torch computes it, or None."""
        if self.stream is None or torch.is_grad_enabled() or norm_type != 2.0 or error or foreach is False:
            return None
        return self._pending.clips.quick_total(gradients)

    def clipped(self, parameters: Sequence[Tensor], max_norm: Any, total: Any) -> bool:
        """A clip is about to scale by that total norm: it has been done here, to the bit."""
        if self.stream is None or torch.is_grad_enabled():
            return False
        at_once = sys._getframe(3).f_code is _CLIP  # beyond guard and hook: it has just asked for the norm
        return self._pending.clips.scaled_here(parameters, float(max_norm), total, at_once=at_once)

    def step(self, optimizer: Any) -> bool:
        """The optimizer is about to step. What is left to see after that is nothing that would be recorded."""
        stream, pending = self.stream, self._pending
        if stream is None or optimizer is None or stream.holder() is not optimizer or modes_are_active():
            return False
        if len(pending.losses) != 1 or pending.flags or stream.unreal or stream.sharded:
            return False
        ((loss,),) = pending.losses.values()
        known = self._norms(stream, optimizer)
        if known is None or not self._is_usual(stream, loss, known[1]):
            return False
        norms, total = known
        rate = float(optimizer.param_groups[stream.group].get("lr", math.nan))
        size, clip = len(self._registry.parameters), pending.clips.summary
        rows = None if stream.in_order and len(stream.rows) == size else stream.rows
        passed = Passed(self._schedule.iteration, stream.index, loss, rate, total, clip, norms, rows, size)
        self._note(stream, passed)  # from here on nothing raises
        pending.clear()
        return True

    def _note(self, stream: Stream, passed: Passed) -> None:
        stream.spread.take(passed.loss)
        stream.steepness.take(passed.grad_norm)
        stream.steps += 1
        self._losses.latest = passed.loss
        self._waiting.passed(passed)

    def _norms(self, stream: Stream, optimizer: Any) -> tuple[Tensor, float] | None:
        """Norms of the gradients of all that the optimizer holds, before the clip if there was one; and their total."""
        clips, groups = self._pending.clips, optimizer.param_groups
        if not clips.settle() or sum([len(group["params"]) for group in groups]) != len(stream.ids):
            return None
        if not clips.is_empty:
            return clips.single(stream.ids)
        parameters = [p for group in groups for p in group["params"]]
        if tuple(map(id, parameters)) != stream.ids:
            return None
        return clips.measured([p.grad for p in parameters])

    @staticmethod
    def _is_usual(stream: Stream, loss: float, total: float) -> bool:
        spread, steepness = stream.spread, stream.steepness
        return math.isfinite(total) and not spread.unusual(loss) and not steepness.unusual(total)
