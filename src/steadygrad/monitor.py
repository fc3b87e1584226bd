"""Decides when to look, looks, and turns each optimizer step into one record.

Every step costs a norm per parameter (shared with the script's own ``clip_grad_norm_`` where it clips) and one host
read. Sampled steps also measure parameters and modules. All observation happens without gradient tracking, without
random numbers and without writing to any tensor of the script.

Shapes legend: P = parameters in the run's table, n = parameters of one optimizer.
"""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from steadygrad import batch, graph, stats
from steadygrad.naming import Registry, user_frame
from steadygrad.online import Spread
from steadygrad.probes import Probe, first_tensor
from steadygrad.records import (
    NO_GRADIENT,
    Amp,
    Clip,
    Detail,
    Fact,
    OptimizerInfo,
    ParameterInfo,
    SiteInfo,
    StepRecord,
    Vector,
)
from steadygrad.timeflow import active_share, flow_through_time, output_gradient

#: Structure (graph, recurrence, loss inputs) is looked at on the first sampled steps and then ever more rarely.
STRUCTURE_STEPS = frozenset({1, 2, 3, 10, 30, 100, 300, 1000, 3000, 10_000})
EARLY_STEPS = frozenset({1, 2, 3, 5})
#: Backward calls without a step of any optimizer built, after which each backward is taken to be a step.
NEVER_STEPS = 64


_DENSE = (Tensor,)


class Sink(Protocol):
    """Where records go."""

    def parameters(self, table: list[ParameterInfo]) -> None: ...
    def sites(self, table: list[SiteInfo]) -> None: ...
    def optimizers(self, table: list[OptimizerInfo]) -> None: ...
    def step(self, record: StepRecord) -> None: ...
    def fact(self, fact: Fact) -> None: ...


@dataclass
class Stream:
    """One optimizer (or the script's own update rule) and what is remembered of it between steps."""

    index: int
    optimizer: weakref.ref[Any] | None
    ids: tuple[int, ...] = ()
    rows: np.ndarray[Any, Any] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    steps: int = 0
    spread: Spread = field(default_factory=Spread)
    weights: Weights | None = None
    #: The parameter with the largest gradient of the last step, while it is to be seen whether it gets cleared.
    uncleared: weakref.ref[Tensor] | None = None
    functional: list[tuple[weakref.ref[Tensor], Tensor]] = field(default_factory=list)


@dataclass
class Weights:
    """Parameters as they were before an update, on sampled steps."""

    parameters: list[Tensor]
    rows: np.ndarray[Any, Any]
    before: stats.Snapshot
    norms: Tensor


@dataclass
class Pending:
    """What the current step has shown so far."""

    losses: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    roots: list[tuple[Any, ...]] = field(default_factory=list)
    rng: Tensor | None = None
    loss_calls: list[batch.LossCall] = field(default_factory=list)
    data: list[Tensor] = field(default_factory=list)
    clip: Clip | None = None
    clip_norms: list[tuple[tuple[int, ...], Tensor]] = field(default_factory=list)
    raw: dict[int, float] = field(default_factory=dict)  # stream -> gradient norm as backward left it
    frame: FrameType | None = None
    line: int = 0
    flags: list[str] = field(default_factory=list)
    measured: Measured | None = None


@dataclass
class Measured:
    """The gradients of one step before any clip: ``gradients`` and their table rows, norms, and the global norm."""

    gradients: list[Tensor]
    rows: np.ndarray[Any, Any]
    norms: Vector
    total: float
    scale: float  # what the gradients must be multiplied with to undo clipping and loss scaling
    unusual: bool


class Monitor:
    """Receives the events of :mod:`steadygrad.attach` and emits records, tables and facts to a sink.

    Args:
        sink: receives everything observed.
        every: sample detail every this many steps at first; about 2% of the run so far once that is longer.
        trace: on a non-finite loss or gradient, replay the step to find the operation it came from.
    """

    def __init__(self, sink: Sink, *, every: int = 10, trace: bool = True) -> None:
        self.registry = Registry(sink.parameters, sink.sites)
        self.compiled = False
        self._sink = sink
        self._every = every
        self._trace = trace
        self._streams: dict[int, Stream] = {}
        self._optimizers: list[OptimizerInfo] = []
        self._built = 0
        self._iteration = 1
        self._stepped: list[int] = []
        self._cycle: set[int] | None = None
        self._next_sample = 1
        self._pending = Pending()
        self._last_losses: dict[tuple[str, int], list[float]] = {}
        self._scaled: dict[int, tuple[weakref.ref[Tensor], Tensor]] = {}
        self._scale = math.nan
        self._scaler_open = False
        self._backwards_without_step = 0
        self._manual: Stream | None = None
        self._traced = 0
        self._structure_due = False
        self._autocast = ""
        self._sources: set[tuple[str, str]] = set()
        self.probe: Probe | None = None
        self._begin_iteration()

    # -- what attach needs to decide quickly --------------------------------------------------------------------

    @property
    def iteration(self) -> int:
        """The iteration being observed, from 1."""
        return self._iteration

    @property
    def sampling(self) -> bool:
        """Whether this iteration is observed in detail."""
        return self._sampled

    def _begin_iteration(self) -> None:
        n = self._iteration
        self._sampled = n in EARLY_STEPS or n >= self._next_sample
        if n >= self._next_sample:
            self._next_sample = n + max(self._every, n // 50) - (1 if n == 1 else 0)
        self._structural = self._sampled and n in STRUCTURE_STEPS
        self.probe = None

    # -- forward ------------------------------------------------------------------------------------------------

    def forward_begins(self, root: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Probe | None:
        """An outermost module is called with gradients enabled. Returns the probe to feed on a sampled step."""
        self._close_manual()
        if not self.registry.knows(root):
            self.registry.add_root(root, user_frame(3))
            self._structure_due = True
        pending = self._pending
        if not pending.roots:
            pending.rng = torch.get_rng_state()
        if len(pending.roots) < 8:
            pending.roots.append(args or tuple(kwargs.values()))
        if not self._sampled or self.compiled:
            return None
        if self.probe is None:
            self.probe = Probe(self.registry)
        self._note_autocast()
        return self.probe

    def _note_autocast(self) -> None:
        for device in ("cpu", "cuda") if not self._autocast else ():
            if torch.is_autocast_enabled(device):
                self._autocast = str(torch.get_autocast_dtype(device)).removeprefix("torch.")
                self._sink.fact(Fact("half-precision", self._iteration, {"dtype": self._autocast}))

    def compiling(self, target: Any, frame: FrameType | None) -> None:
        """``torch.compile`` was called: from now on only parameters are observed."""
        self.compiled = True
        if isinstance(target, nn.Module) and not self.registry.knows(target):
            self.registry.add_root(target, frame)
        self._sink.fact(Fact("compiled", self._iteration, {}))

    def forward_ended(self) -> None:
        """The outermost module returned."""
        if self.probe is not None:
            self.probe.measure_outputs()

    def loss_called(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """A known loss function was evaluated while gradients are enabled."""
        if len(self._pending.loss_calls) < 4:
            frame = user_frame(3)
            site = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else ""
            call = batch.loss_call(name, args, kwargs, out, site)
            if call is not None:
                self._pending.loss_calls.append(call)

    # -- backward -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def backward_begins(self, roots: Sequence[Tensor], frame: FrameType | None) -> None:
        """``backward`` was called on these tensors (the loss, as a rule)."""
        self._close_manual()
        pending = self._pending
        pending.frame, pending.line = frame, frame.f_lineno if frame is not None else 0
        for stream in self._streams.values():
            if stream.uncleared is not None and _is_cleared(stream.uncleared()):
                stream.uncleared = None
        value = self._loss_value(roots)
        site = (frame.f_code.co_filename, frame.f_lineno) if frame is not None else ("", 0)
        pending.losses.setdefault(site, []).append(value)
        if self._sampled:
            self._note_source("backward", frame)
            self._note_structure(roots, value)
        if not math.isfinite(value):
            self._trace_origin("loss")

    def _loss_value(self, roots: Sequence[Tensor]) -> float:
        root = roots[0]
        scaled = self._scaled.pop(id(root), None)
        if scaled is not None and scaled[0]() is root:
            root = scaled[1]
        self._scaled.clear()
        return float(root.detach().sum())

    def backward_ended(self) -> None:
        """The backward pass returned."""
        self._backwards_without_step += 1
        if self._sampled and math.isnan(self._scale):
            for stream in self._streams.values():
                gradients, _ = self._gradients(stream)
                if gradients:
                    self._pending.raw[stream.index] = float(torch.linalg.vector_norm(stats.norms(gradients)))
        if self._built == 0 or (self._backwards_without_step > NEVER_STEPS and not self._optimizers):
            self._open_manual(None)

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

    def _note_structure(self, roots: Sequence[Tensor], value: float) -> None:
        if self.compiled:
            return
        if self._structural or self._structure_due:
            self._structure_due = False
            facts = graph.walk(roots)
            self._register_leaves(facts)
            self._emit_graph(facts)
        if not self._pending.roots:
            self._pending.data = graph.data_inputs(graph.walk(roots))
        for call in self._pending.loss_calls if self._structural else ():
            self._sink.fact(Fact("loss-call", self._iteration, batch.inspect_loss(call) | {"loss": value}))

    def _register_leaves(self, facts: graph.GraphFacts) -> None:
        leaves = [leaf for leaf in facts.leaves.values() if leaf.is_leaf]
        unknown = [leaf for leaf in leaves if self.registry.index_of(leaf) is None]
        if unknown:
            self.registry.refresh()
            # Beside an optimizer, a plain tensor that requires grad is an input to differentiate by, not a parameter.
            loose = [leaf for leaf in unknown if isinstance(leaf, nn.Parameter) or not self._built]
            self.registry.add_loose(loose, self._pending.frame)

    def _emit_graph(self, facts: graph.GraphFacts) -> None:
        index = {key: self.registry.index_of(leaf) for key, leaf in facts.leaves.items()}
        rows = {key: row for key, row in index.items() if row is not None}
        self._sink.fact(
            Fact(
                "graph",
                self._iteration,
                {
                    "nodes": facts.nodes,
                    "truncated": facts.truncated,
                    "ops": dict(facts.ops),
                    "chain": facts.chain,
                    "norms": facts.norms,
                    "parameters": list(rows.values()),
                    "shortest": [facts.shortest[k] for k in rows],
                    "longest": [facts.longest[k] for k in rows],
                    "uses": [facts.uses[k] for k in rows],
                    "readers": [facts.readers.get(k, "") for k in rows],
                    "broadcast": facts.broadcast,
                },
            )
        )

    # -- loss scaling -------------------------------------------------------------------------------------------

    def scaled(self, loss: Any, out: Any, scaler: Any) -> None:
        """A GradScaler scaled a loss: remember the loss itself."""
        self._scale = float(scaler.get_scale())
        if isinstance(loss, Tensor) and isinstance(out, Tensor):
            self._scaled[id(out)] = (weakref.ref(out), loss.detach())

    def scaler_begins(self, optimizer: Any) -> None:
        """``scaler.step(optimizer)`` was called."""
        self._scaler_open = True

    def scaler_ended(self, optimizer: Any) -> None:
        """It returned: without an optimizer step, if gradients were not finite."""
        if self._scaler_open:
            self._emit(self._stream(optimizer), Amp(self._scale, True))
            self._close_if_complete(self._stream(optimizer))
        self._scaler_open = False

    # -- clipping -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def total_norm(self, gradients: list[Tensor], norm_type: float, args: Any, kwargs: Any) -> Tensor | None:
        """The total norm as torch computes it, kept so that the step need not compute it again. None: not ours to do."""
        error, foreach = (*args, kwargs.get("error_if_nonfinite", False), kwargs.get("foreach"))[:2]
        if float(norm_type) != 2.0 or error or foreach is False or not gradients:
            return None
        first = gradients[0]
        if not all(type(g) in _DENSE and g.dtype == first.dtype and g.device == first.device for g in gradients):
            return None
        norms = torch.stack(torch._foreach_norm(gradients, 2.0))
        self._pending.clip_norms.append((tuple(map(id, gradients)), norms))
        return torch.linalg.vector_norm(norms, 2.0)

    def clipped(self, parameters: Sequence[Tensor], max_norm: float, total: Tensor) -> bool:
        """``clip_grad_norm_`` is about to scale. True: by exactly 1, so that the pass over the gradients can be saved."""
        norm = float(total)
        if self._sampled:
            self._note_source("clip", user_frame(3))
        coefficient = min(1.0, max_norm / (norm + 1e-6)) if math.isfinite(norm) else math.nan
        earlier = self._pending.clip
        if earlier is None:
            self._pending.clip = Clip("norm", max_norm, norm, coefficient)
        else:  # one call per parameter group: the joint norm, and the strongest scaling
            joint = math.hypot(earlier.norm, norm)
            self._pending.clip = Clip("norm", max_norm, joint, min(earlier.coefficient, coefficient))
        return math.isfinite(norm) and norm * (1 + 1e-5) + 1e-5 < max_norm

    @torch.no_grad()
    def value_clipped(self, parameters: Sequence[Tensor], limit: float) -> None:
        """``clip_grad_value_`` is about to clamp: measure the gradients before it."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        if gradients:
            if self._sampled:
                self._note_source("clip", user_frame(3))
            rows = stats.norms(gradients)
            self._pending.clip_norms.append((tuple(map(id, gradients)), rows))
            self._pending.clip = Clip("value", limit, float(torch.linalg.vector_norm(rows)), math.nan)

    # -- the optimizer step -------------------------------------------------------------------------------------

    def optimizer_built(self, optimizer: Any) -> None:
        """An optimizer exists: backward calls are part of its steps, not steps themselves."""
        self._built += 1
        self._note_source("optimizer", user_frame(3))

    def _note_source(self, what: str, frame: FrameType | None) -> None:
        """Remember, once, the line of the user's code that does something a finding may point to."""
        if frame is not None and len(self._sources) < 64:
            source = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
            if (what, source) not in self._sources:
                self._sources.add((what, source))
                self._sink.fact(Fact("source", self._iteration, {"what": what, "source": source}))

    @torch.no_grad()
    def step_begins(self, optimizer: Any, closure: bool) -> None:
        """An optimizer is about to step."""
        stream = self._stream(optimizer)
        if stream.index in self._stepped:
            self._close_iteration()
        if self._sampled:
            self._remember_weights(stream)
        if not closure:
            self._pending.measured = self._measure(stream, optimizer)

    @torch.no_grad()
    def step_ended(self, optimizer: Any, closure: bool) -> None:
        """The optimizer stepped."""
        stream = self._stream(optimizer)
        if closure:
            self._pending.measured = self._measure(stream, optimizer)
        self._backwards_without_step = 0
        self._scaler_open = False
        amp = Amp(self._scale, _found_inf(optimizer)) if not math.isnan(self._scale) else None
        self._emit(stream, amp)
        self._close_if_complete(stream)

    def _remember_weights(self, stream: Stream) -> None:
        parameters = self._parameters_of(stream)
        norms = stats.norms(parameters)
        stream.weights = Weights(parameters, stream.rows, stats.snapshot(parameters), norms)

    def _close_if_complete(self, stream: Stream) -> None:
        """An iteration ends when every optimizer of the previous one has stepped again."""
        self._stepped.append(stream.index)
        if self._cycle is not None and set(self._stepped) >= self._cycle:
            self._close_iteration()

    def _close_iteration(self) -> None:
        self._cycle = set(self._stepped)
        self._stepped = []
        self._iteration += 1
        self._begin_iteration()
        for stream in self._streams.values():
            if not self._sampled:
                stream.uncleared = None

    def _measure(self, stream: Stream, optimizer: Any) -> Measured:
        """Norms before the update; the origin of anything non-finite is looked for here, before it spreads."""
        gradients, rows = self._gradients(stream)
        norms, scale = self._norms(gradients, optimizer)
        total = float(torch.linalg.vector_norm(norms)) if len(gradients) else 0.0
        if not math.isfinite(total):
            norms = stats.safe_norms(gradients) * scale
            total = float(torch.linalg.vector_norm(norms)) if len(gradients) else 0.0
        self._note_hand_made_clip(stream, total)
        vector = np.full(len(self.registry.parameters), NO_GRADIENT, dtype=np.float32)
        vector[rows] = norms.float().cpu().numpy()
        losses = [v for values in self._pending.losses.values() for v in values]
        if not math.isfinite(total) and all(map(math.isfinite, losses)) and math.isnan(self._scale):
            self._trace_origin("gradient")
        loss = losses[0] if losses else math.nan
        unusual = bool(losses) and stream.spread.unusual(loss) and stream.spread.count >= stream.spread.warmup
        stream.spread.add(loss)
        return Measured(gradients, rows, vector, total, scale, unusual or not math.isfinite(total))

    def _note_hand_made_clip(self, stream: Stream, total: float) -> None:
        """Gradients that shrank between backward and step were clipped by the script's own code."""
        raw = self._pending.raw.get(stream.index, math.nan)
        if self._pending.clip is None and math.isfinite(raw) and 0 < total < 0.99 * raw:
            self._pending.clip = Clip("by hand", total, raw, total / raw)

    def _norms(self, gradients: list[Tensor], optimizer: Any) -> tuple[Tensor, float]:
        """L2 norms before clipping and loss scaling, and the factor that undoes both."""
        pending = self._pending
        fused_scale = getattr(optimizer, "grad_scale", None)
        scale = 1.0 / float(fused_scale) if isinstance(fused_scale, Tensor) else 1.0
        ids = tuple(map(id, gradients))
        unscaled = math.isnan(self._scale)
        if unscaled and pending.clip_norms and pending.clip_norms[-1][0] == ids:
            kept = pending.clip_norms[-1][1]
            coefficient = pending.clip.coefficient if pending.clip is not None else 1.0
            return kept, 1.0 / coefficient if coefficient > 0 else 1.0
        norms = stats.norms(gradients) * scale
        if unscaled and len(pending.clip_norms) > 0:
            known = {i: n for held, values in pending.clip_norms for i, n in zip(held, values.tolist(), strict=True)}
            exact = [known.get(i, float(n)) for i, n in zip(ids, norms.tolist(), strict=True)]
            return torch.tensor(exact, dtype=norms.dtype, device=norms.device), 1.0
        if pending.clip is not None and pending.clip.kind == "norm" and pending.clip.coefficient > 0:
            if not unscaled and len(gradients) and self._clipped_while_scaled(norms):
                pending.flags.append("clip-before-unscale")
            scale /= pending.clip.coefficient
            norms = norms / pending.clip.coefficient
        return norms, scale

    def _clipped_while_scaled(self, norms: Tensor) -> bool:
        """Whether the norm seen by the clip was still multiplied by the loss scale."""
        clip = self._pending.clip
        assert clip is not None
        before = float(torch.linalg.vector_norm(norms)) / clip.coefficient
        return self._scale > 16 and before > 0 and clip.norm > 0.5 * self._scale * before

    def _gradients(self, stream: Stream) -> tuple[list[Tensor], np.ndarray[Any, Any]]:
        parameters = self._parameters_of(stream)
        if stream.functional:
            return [g for ref, g in stream.functional if ref() is not None], stream.rows
        found = [p.grad for p in parameters if p.grad is not None]
        if len(found) == len(parameters):
            return found, stream.rows
        mask = np.fromiter((p.grad is not None for p in parameters), dtype=bool, count=len(parameters))
        return found, stream.rows[mask]

    def _parameters_of(self, stream: Stream) -> list[Tensor]:
        optimizer = stream.optimizer() if stream.optimizer is not None else None
        if optimizer is None:
            return self._manual_parameters(stream)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        ids = tuple(map(id, parameters))
        if ids != stream.ids:
            self.registry.add_loose(parameters, user_frame(3))
            decays = [float(g.get("weight_decay") or 0.0) for g in optimizer.param_groups for _ in g["params"]]
            self.registry.assign(parameters, stream.index, decays)
            stream.ids = ids
            stream.rows = np.array([self.registry.index_of(p) for p in parameters], dtype=np.int64)
        return parameters

    def _stream(self, optimizer: Any) -> Stream:
        stream = self._streams.get(id(optimizer))
        if stream is None or (stream.optimizer is not None and stream.optimizer() is not optimizer):
            stream = Stream(len(self._optimizers), weakref.ref(optimizer) if optimizer is not None else None)
            self._streams[id(optimizer)] = stream
            self._optimizers.append(describe_optimizer(stream.index, optimizer))
            self._sink.optimizers(self._optimizers)
        return stream

    # -- scripts that update parameters themselves --------------------------------------------------------------

    def _open_manual(self, functional: list[tuple[weakref.ref[Tensor], Tensor]] | None) -> None:
        """Gradients are there and the script will apply them itself: measure now, close when the next step begins."""
        stream = self._manual = self._stream(None)
        stream.functional = functional or []
        with torch.no_grad():
            self._pending.measured = self._measure(stream, None)
            if self._sampled:
                self._remember_weights(stream)

    def _close_manual(self) -> None:
        stream, self._manual = self._manual, None
        if stream is not None:
            with torch.no_grad():
                self._emit(stream, None)
            stream.functional = []
            self._stepped.append(stream.index)
            self._close_iteration()

    def _manual_parameters(self, stream: Stream) -> list[Tensor]:
        if stream.functional:
            living = [p for ref, _ in stream.functional if (p := ref()) is not None]
        else:
            living = [p for _, p in self.registry.living() if p.requires_grad and p.grad is not None]
        ids = tuple(map(id, living))
        if ids != stream.ids:
            self.registry.assign(living, stream.index, [0.0] * len(living))
            stream.ids = ids
        stream.rows = np.array([self.registry.index_of(p) for p in living], dtype=np.int64)
        return living

    def finish(self) -> None:
        """The script ended: close what is open."""
        self._close_manual()

    # -- records ------------------------------------------------------------------------------------------------

    def _emit(self, stream: Stream, amp: Amp | None) -> None:
        stream.steps += 1
        pending, measured = self._pending, self._pending.measured
        losses = pending.losses or self._last_losses
        loss = sum(sum(values) / len(values) for values in losses.values()) if losses else None
        if stream.uncleared is not None and self._sampled:
            pending.flags.append("stale-gradient")
        skipped = amp is not None and amp.skipped
        detail = None
        if measured is not None and (self._sampled or measured.unusual) and not skipped:
            detail = self._detail(stream, measured)
        self._sink.step(
            StepRecord(
                step=self._iteration,
                stream=stream.index,
                loss=loss,
                lr=self._rate(stream),
                grad_norm=measured.total if measured is not None and not skipped else None,
                clip=pending.clip,
                amp=amp,
                norms=measured.norms if measured is not None and not skipped else None,
                detail=detail,
                flags=tuple(pending.flags),
            )
        )
        self._watch_clearing(stream, measured)
        self._last_losses = losses
        self._pending = Pending()
        self.probe = None

    def _watch_clearing(self, stream: Stream, measured: Measured | None) -> None:
        """Remember the largest gradient: a later backward shows whether it was cleared in between."""
        stream.uncleared = None
        if measured is not None and measured.gradients and not stream.functional and self._next_is_sampled():
            norms = measured.norms[measured.rows]
            if math.isfinite(float(norms.sum())) and norms.max() > 0:
                row = int(measured.rows[int(norms.argmax())])
                parameter = self.registry.tensor(row)
                stream.uncleared = weakref.ref(parameter) if parameter is not None else None

    def _next_is_sampled(self) -> bool:
        n = self._iteration + 1
        return self._sampled or n in EARLY_STEPS or n >= self._next_sample

    def _rate(self, stream: Stream) -> float | None:
        optimizer = stream.optimizer() if stream.optimizer is not None else None
        return float(optimizer.param_groups[0].get("lr", math.nan)) if optimizer is not None else None

    def _detail(self, stream: Stream, measured: Measured) -> Detail:
        parameters = self._parameter_detail(stream, measured)
        sites = self.probe.measure() if self.probe is not None and self._sampled else {}
        if self.probe is not None and self._structural:
            self._recurrence(self.probe)
        return Detail(parameters, sites, self._batch())

    def _parameter_detail(self, stream: Stream, measured: Measured) -> dict[str, Vector]:
        gradients, rows, scale = measured.gradients, measured.rows, measured.scale
        size = len(self.registry.parameters)
        vectors: dict[str, Vector] = {}

        def put(key: str, where: Any, values: Any) -> None:
            vectors[key] = np.full(size, np.nan, dtype=np.float32)
            vectors[key][where] = values

        counts = np.array([max(1, g.numel()) for g in gradients], dtype=np.float64)
        l1, l2, total, peak, zeros = stats.moments(gradients).cpu().numpy().T
        l1, l2, peak, mean = l1 * scale, l2 * scale, peak * scale, total * scale / counts
        put("grad_l1", rows, l1)
        put("grad_mean", rows, mean)
        put("grad_std", rows, np.sqrt(np.maximum(0.0, l2**2 / counts - mean**2)))
        put("grad_max", rows, peak)
        put("grad_zeros", rows, zeros / counts)
        weights, stream.weights = stream.weights, None
        if weights is not None:
            put("weight_norm", weights.rows, weights.norms.cpu().numpy())
            put("update_norm", weights.rows, stats.change(weights.before, weights.parameters).cpu().numpy())
        return vectors

    def _batch(self) -> dict[str, float]:
        pending = self._pending
        found: dict[str, float] = {}
        inputs = [first_tensor(args) for args in pending.roots] or list(pending.data)
        if inputs and inputs[0] is not None and inputs[0].dim() > 0:
            found["batch_size"] = float(inputs[0].shape[0])
        for tensor in inputs:
            found |= {k: v for k, v in batch.describe("input", tensor).items() if k not in found}
        for call in pending.loss_calls:
            found |= {k: v for k, v in batch.describe("target", call.target).items() if k not in found}
        return found

    def _recurrence(self, probe: Probe) -> None:
        for seen in probe.recurrent[:4]:
            output = seen.output
            if not isinstance(output, Tensor):
                continue
            grad = output_gradient(seen.module, output, seen.call.grad, seen.hidden_grad)
            if grad is not None:
                flow = flow_through_time(seen.module, seen.args, grad)
                data = {"site": seen.site, "type": type(seen.module).__name__, "steps": len(flow), "flow": flow}
                data["active"] = active_share(seen.module, grad)
                self._sink.fact(Fact("time-flow", self._iteration, data))

    def _trace_origin(self, what: str) -> None:
        """Replay this step under tracing, once or twice in a run."""
        if not self._trace or self._traced >= 2:
            return
        self._traced += 1
        self._note_bad_batch()
        from steadygrad.origin import find_origin

        data = find_origin(what, self._pending.frame, self._pending.line, self._pending.rng, self.registry)
        self._sink.fact(Fact("origin", self._iteration, data))


    def _note_bad_batch(self) -> None:
        """Data that is itself not finite needs no replay to be blamed."""
        given = [("input", first_tensor(args)) for args in self._pending.roots]
        given += [("target", call.target) for call in self._pending.loss_calls]
        given += [("input", tensor) for tensor in self._pending.data]
        for what, tensor in given:
            found = batch.describe(what, tensor) if tensor is not None and not tensor.requires_grad else {}
            if found.get(f"{what}_nonfinite"):
                count = int(found[f"{what}_nonfinite"])
                self._sink.fact(Fact("bad-batch", self._iteration, {"what": f"{count} values of the {what}"}))
                return


def _is_cleared(parameter: Tensor | None) -> bool:
    grad = parameter.grad if parameter is not None else None
    if grad is None or grad.layout != torch.strided or not grad.numel():
        return True
    return not bool(grad.reshape(-1)[:: max(1, grad.numel() // 4096)].any())


def _found_inf(optimizer: Any) -> bool:
    """Whether a fused optimizer was told to skip by its GradScaler."""
    flag = getattr(optimizer, "found_inf", None)
    return isinstance(flag, Tensor) and float(flag) > 0


def describe_optimizer(index: int, optimizer: Any) -> OptimizerInfo:
    """Class name and scalar hyper-parameters."""
    if optimizer is None:
        return OptimizerInfo(index, "manual update", {})
    group = optimizer.param_groups[0]
    hyper = {k: v for k, v in group.items() if k != "params" and isinstance(v, int | float | bool | str | tuple | list)}
    hyper["groups"] = len(optimizer.param_groups)
    return OptimizerInfo(index, type(optimizer).__name__, hyper)
