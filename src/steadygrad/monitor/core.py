"""The monitor itself: receives what :mod:`steadygrad.attach` sees and emits records, tables and facts.

Shapes legend: P = parameters in the run's table, n = gradients of one optimizer.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from steadygrad import batch, stats
from steadygrad.calls import Guard, unguarded
from steadygrad.frames import is_stepping, user_frame
from steadygrad.monitor.clip_events import ClipEvents
from steadygrad.monitor.clipping import Clips
from steadygrad.monitor.gradients import Gradients, is_cleared
from steadygrad.monitor.ordinary import Ordinary
from steadygrad.monitor.sampling import Schedule
from steadygrad.monitor.scaling import Scaling
from steadygrad.monitor.state import ROOTS, Pending, Sink, Stream
from steadygrad.monitor.streams import Streams
from steadygrad.monitor.structure import Structure
from steadygrad.monitor.waiting import Waiting
from steadygrad.monitor.writing import Writer
from steadygrad.naming import Registry
from steadygrad.probes import Probe
from steadygrad.records import Amp, Fact

#: Backward calls without a step of any optimizer built, after which each backward is taken to be a step.
NEVER_STEPS = 64
#: Loss calls of one step that are remembered.
_LOSS_CALLS = 4


class Monitor:
    """Receives the events of :mod:`steadygrad.attach` and emits records, tables and facts to a sink.

    Args:
        sink: receives everything observed.
        every: sample detail every this many steps at first, and more rarely in long runs (see :class:`Schedule`).
        trace: on a non-finite loss or gradient, replay the step to find the operation it came from.
    """

    def __init__(self, sink: Sink, *, every: int = 10, trace: bool = True) -> None:
        self._sink = Waiting(sink)
        #: Hands on the steps that wait. To be called before what the sink has been given is looked at.
        self.hand_on = self._sink.hand_on
        self.registry = Registry(self._sink.parameters, self._sink.sites)
        self.compiled = False
        #: Runs what autograd calls back, so that an error of ours cannot reach the script. Set by the attachment.
        self.guard: Guard = unguarded
        self.probe: Probe | None = None
        self._schedule = Schedule(every)
        self._streams = Streams(self.registry, self._sink)
        self._structure = Structure(self._sink, self.registry, self._schedule, trace=trace)
        self._scaling = Scaling()
        self._writer = Writer(self._sink, self.registry, self._schedule, self._structure)
        self._gradients = Gradients(self.registry, self._streams, self._scaling, self._structure, self._schedule)
        self._pending = Pending()
        self.clips = ClipEvents(self._pending, self._schedule, self._structure)
        self.ordinary = Ordinary(self.registry, self._schedule, self._pending, self._writer.losses, self._sink)
        self._built = 0
        self._stepped: list[int] = []
        self._cycle: set[int] | None = None
        self._backwards_without_step = 0
        self._manual: Stream | None = None
        self._stepping: tuple[int, bool] | None = None  # the optimizer inside its step(), and whether by closure
        self._passing: Stream | None = None  # whose step that is, if it is recorded already

    @property
    def iteration(self) -> int:
        """The iteration being observed, from 1."""
        return self._schedule.iteration

    # -- forward ------------------------------------------------------------------------------------------------

    def forward_begins(self, root: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Probe | None:
        """An outermost module is called with gradients enabled. Returns the probe to feed on a sampled step."""
        self._close_manual()
        if not self.registry.knows(root) and self.registry.add_root(root, user_frame(3)):
            self._schedule.want_structure()
        pending = self._pending
        if not pending.roots:
            pending.rng = torch.get_rng_state()
        if len(pending.roots) < ROOTS:
            pending.roots.append(args or tuple(kwargs.values()))
        if not self._schedule.probed or self.compiled:
            return None
        if self.probe is None:
            self.probe = Probe(self.registry, self.guard)
        self._structure.note_autocast()
        return self.probe

    def compiling(self, target: Any, frame: FrameType | None) -> None:
        """``torch.compile`` was called: from now on only parameters are observed."""
        self.compiled = True
        if isinstance(target, nn.Module) and not self.registry.knows(target):
            self.registry.add_root(target, frame)
        self._structure.emit("compiled", {})

    def forward_ended(self) -> None:
        """The outermost module returned."""
        if self.probe is not None:
            self.ordinary.drew(self._pending.rng)
            self.probe.measure_outputs()
            self.registry.watch_functions = self.probe.functions_seen or self._schedule.iteration < 2

    def loss_called(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """A known loss function was evaluated while gradients are enabled."""
        if len(self._pending.loss_calls) < _LOSS_CALLS:
            self._pending.loss_calls.append(batch.loss_call(name, args, kwargs, out, user_frame(3)))

    @property
    def looks_at_losses(self) -> bool:
        """Whether loss calls are to be noted whole in this step."""
        return self._schedule.structural

    def loss_passed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A known loss function was evaluated in a step of which only its target is kept. Cannot fail."""
        if len(self._pending.targets) < _LOSS_CALLS:
            self._pending.targets.append(args[1] if len(args) > 1 else kwargs.get("target"))

    def saved_tensors_are_sealed(self) -> None:
        """The script packs away what operations save for their backward."""
        self._structure.sealed = True

    # -- backward -----------------------------------------------------------------------------------------------

    def backward_is_ordinary(self, root: Tensor, frame: FrameType | None) -> bool:
        """``backward`` was called on this tensor, and on others perhaps: whether it has been taken in the short way."""
        return self._stepping is None and self.ordinary.backward(root, frame)

    def backward_begins(self, roots: Sequence[Tensor], frame: FrameType | None) -> None:
        """``backward`` was called on these tensors (the loss, as a rule)."""
        self._close_manual()
        pending = self._pending
        if self._stepping is not None and self._stepping[1]:
            pending.clips = Clips()  # the optimizer evaluates its closure again: what was clipped is gone
        elif self._stepping is not None:
            self._stepping = None  # that step raised: it cannot be going on
            self._pass()
        pending.frame, pending.line = frame, frame.f_lineno if frame is not None else 0
        for stream in self._streams:
            if stream.uncleared is not None and is_cleared(stream.uncleared()):
                stream.uncleared = None
        loss = self._scaling.loss_behind(roots[0])
        value = self._writer.losses.add(pending, roots[0], loss, at_once=self._schedule.sampled)
        if self._schedule.sampled and value is not None:
            self._structure.note_source("backward", frame)
            if not self.compiled:
                self._structure.at_backward(roots, value, pending, optimizers=bool(self._built))
        if value is not None and not math.isfinite(value):
            self._structure.trace_origin("loss", pending)

    def backward_ended(self) -> None:
        """The backward pass returned."""
        if self._schedule.sampled and not self._scaling.active and not self.clips.by_call:
            for stream in self._streams:
                gradients, _ = self._streams.gradients(stream)
                if gradients and not stream.unreal:
                    self._pending.raw[stream.index] = float(torch.linalg.vector_norm(stats.norms(gradients)))
        if self._built == 0 or (self._backwards_without_step > NEVER_STEPS and not len(self._streams)):
            self._open_manual(None)

    def backward_counts(self) -> bool:
        """Count a backward pass, and say whether its end is to be told: not in an ordinary step of an optimizer."""
        self._backwards_without_step += 1
        return self._schedule.sampled or self._built == 0 or self._backwards_without_step > NEVER_STEPS

    def grad_begins(self, roots: Sequence[Tensor], inputs: Sequence[Tensor], frame: FrameType | None) -> bool:
        """``torch.autograd.grad`` is asked for gradients of leaf tensors: a training step only without optimizers."""
        if self._built or not all(t.requires_grad for t in inputs):
            return False
        self.backward_begins(roots, frame)
        return True

    def grad_ended(self, inputs: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
        """It returned these."""
        pairs = [(p, g) for p, g in zip(inputs, gradients, strict=True) if g is not None]
        self.registry.add_loose([p for p, _ in pairs], self._pending.frame)
        self._open_manual([(weakref.ref(p), g) for p, g in pairs])

    def scaled(self, loss: Any, out: Any, scaler: Any) -> None:
        """A GradScaler scaled a loss."""
        self.ordinary.stream = None
        self._scaling.scaled(loss, out, scaler)

    def scaler_begins(self, optimizer: Any) -> None:
        """``scaler.step(optimizer)`` was called."""
        self._scaling.step_is_open = True

    def scaler_ended(self, optimizer: Any) -> None:
        """It returned: without an optimizer step, if gradients were not finite."""
        if self._scaling.step_is_open:
            stream = self._streams.of(optimizer)
            if stream.index in self._stepped:
                self._close_iteration()
            self._emit(stream, Amp(self._scaling.scale, True))
            self._close_if_complete(stream)
        self._scaling.amp(None)

    def step_skipped(self, reason: str, recorded: bool) -> None:
        """The step that was to follow is not taken: its loss and gradients say nothing about the next one.

        Args:
            reason: why.
            recorded: it is the step recorded last, which the device skipped by itself.
        """
        if recorded:
            self._sink.fact(Fact("skipped-step", self._writer.latest, {"reason": reason, "recorded": True}))
        else:
            self._structure.emit("skipped-step", {"reason": reason})
            self._pending.clear()

    # -- the optimizer step -------------------------------------------------------------------------------------

    def optimizer_built(self, optimizer: Any) -> None:
        """An optimizer exists: backward calls are part of its steps, not steps themselves."""
        if not len(self._streams) and not self._pending.losses:  # what was called so far belongs to no step
            self.registry.start_anew([p for group in optimizer.param_groups for p in group["params"]])
            self._pending.clear()
            self.probe = None
        self._built += 1
        self._structure.note_source("optimizer", user_frame(3))

    def step_begins(self, optimizer: Any, closure: bool) -> None:
        """An optimizer is about to step."""
        if self._stepping is not None and self._stepping[0] != id(optimizer):
            if is_stepping(self._stepping[0]):
                return  # an optimizer inside an optimizer: the outer one's step is the step
            self._stepping = None  # that one was left by an exception
        self._pass()
        self._stepping = id(optimizer), closure
        if self._manual is not None:
            self._built += 1
            self._streams.adopt(self._manual, optimizer)
            self._manual = None
        stream = self._streams.of(optimizer)
        if stream.index in self._stepped:
            self._close_iteration()
        if self._schedule.sampled:
            self._streams.remember_weights(stream)
        if closure:
            return
        measured = self._pending.measured = self._gradients.measure(stream, optimizer, self._pending)
        if measured is not None and not measured.unusual and not self._schedule.sampled and not self._scaling.active:
            self._passing = stream  # what is left to see after the step is nothing that would be recorded
            self._emit(stream, None)

    def step_is_ordinary(self, optimizer: Any) -> bool:
        """An optimizer is about to step, without a closure: whether that is recorded already, the short way."""
        stream = self.ordinary.stream
        if self._stepping is not None or self._passing is not None or not self.ordinary.step(optimizer):
            return False
        self._stepping, self._passing = (id(optimizer), False), stream
        return True

    @property
    def steps_are_due(self) -> bool:
        """Whether steps have waited for long enough."""
        return self._sink.due

    def step_passed(self, optimizer: Any) -> bool:
        """An optimizer stepped: whether that is recorded already. Cannot fail."""
        if self._passing is None or self._stepping is None or self._stepping[0] != id(optimizer):
            return False
        self._stepping = None
        self._pass()
        return True

    def _pass(self) -> None:
        """The step recorded as it began is over; if it was left by an exception, that is found out later."""
        stream, self._passing = self._passing, None
        if stream is None:
            return
        self._backwards_without_step = 0
        if stream is not self.ordinary.stream or not self._schedule.pass_over():
            self._close_if_complete(stream)

    def step_ended(self, optimizer: Any, closure: bool) -> None:
        """The optimizer stepped."""
        if self._stepping is None or self._stepping[0] != id(optimizer):
            return
        self._stepping = None
        stream = self._streams.of(optimizer)
        if closure:
            self._pending.measured = self._gradients.measure(stream, optimizer, self._pending)
        self._end_step(stream)

    def _end_step(self, stream: Stream) -> None:
        self._backwards_without_step = 0
        if not stream.unreal:
            self._emit(stream, self._scaling.amp(stream.holder()))
            self._close_if_complete(stream)

    def _emit(self, stream: Stream, amp: Amp | None) -> None:
        self._writer.write(stream, self._pending, amp, self.probe)
        self._pending.clear()
        self.probe = None

    def _close_if_complete(self, stream: Stream) -> None:
        """An iteration ends when every optimizer of the previous one has stepped again."""
        self._stepped.append(stream.index)
        if self._cycle is not None and set(self._stepped) >= self._cycle:
            self._close_iteration()

    def _close_iteration(self) -> None:
        self._cycle = set(self._stepped)
        self._stepped = []
        self._schedule.advance()
        self.probe = None
        if not self._schedule.sampled:
            for stream in self._streams:
                stream.uncleared = None
        ordinary = not self._schedule.next_is_sampled and not self._scaling.active
        self.ordinary.stream = self._streams.sole(self._cycle) if ordinary else None

    # -- scripts that update parameters themselves --------------------------------------------------------------

    def _open_manual(self, functional: list[tuple[weakref.ref[Tensor], Tensor]] | None) -> None:
        """Gradients are there and the script will apply them itself: measure now, close when the next step begins."""
        stream = self._manual = self._streams.of(None)
        stream.functional = functional or []
        measured = self._pending.measured = self._gradients.measure(stream, None, self._pending)
        if measured is not None and not stream.functional and len(measured.rows):
            stream.keep_untouched(self.registry.reference(measured.steepest))
        if self._schedule.sampled:
            self._streams.remember_weights(stream)

    def _close_manual(self) -> None:
        stream, self._manual = self._manual, None
        if stream is not None and not stream.is_accumulating(at_most=NEVER_STEPS):
            self._emit(stream, None)
            stream.functional = []
            self._stepped.append(stream.index)
            self._close_iteration()

    def finish(self) -> None:
        """The script ended: close what is open."""
        self._close_manual()
        self.hand_on()
