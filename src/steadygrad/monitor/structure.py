"""Facts about the run rather than about a step: its graph, its loss calls, recurrence, and where a NaN was born."""

from __future__ import annotations

from collections.abc import Sequence
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from steadygrad import batch, graph, settings
from steadygrad.frames import place, script_frame
from steadygrad.monitor.sampling import Schedule
from steadygrad.monitor.state import Pending, Sink
from steadygrad.naming import Registry
from steadygrad.probes import Probe
from steadygrad.records import Fact
from steadygrad.timeflow import active_share, flow_through_time, output_gradient

_TRACES = 2
_SOURCES = 64


class Structure:
    """Emits facts to the sink, most of them once."""

    def __init__(self, sink: Sink, registry: Registry, schedule: Schedule, *, trace: bool) -> None:
        self._sink = sink
        self._registry = registry
        self._schedule = schedule
        self._traces_left = _TRACES if trace else 0
        self._autocast = ""
        self._sources: set[tuple[str, str]] = set()
        #: What operations saved is packed away by the script's own code (checkpointing, offloading): not ours to fetch.
        self.sealed = False

    def emit(self, kind: str, data: dict[str, Any]) -> None:
        """Send a fact of this iteration."""
        self._sink.fact(Fact(kind, self._schedule.iteration, data))

    def note_autocast(self) -> None:
        """Whether the forward pass runs in half precision."""
        for device in ("cpu", "cuda") if not self._autocast else ():
            if torch.is_autocast_enabled(device):
                self._autocast = str(torch.get_autocast_dtype(device)).removeprefix("torch.")
                self.emit("half-precision", {"dtype": self._autocast})

    def note_source(self, what: str, frame: FrameType | None) -> None:
        """Remember, once, the line of the user's code that does something a finding may point to."""
        if frame is not None and len(self._sources) < _SOURCES:
            own = script_frame(frame)
            source = place(own)
            if (what, source) not in self._sources:
                self._sources.add((what, source))
                self.emit("source", {"what": what, "source": source, **settings.places(what, frame, own)})

    def at_backward(self, roots: Sequence[Tensor], value: float, pending: Pending, *, optimizers: bool) -> None:
        """Look at the graph of a loss and at what the loss functions were fed."""
        wanted = self._schedule.take_structure()
        if wanted and not self._registry.sharded:  # there the graph ends in whole weights, made for this one step
            facts = graph.walk(roots)
            self._register_leaves(facts, pending.frame, optimizers)
            self._emit_graph(facts)
        if not pending.roots and not self.sealed:
            pending.data = graph.data_inputs(graph.walk(roots))
        for call in (c for c in pending.loss_calls if c.prediction is not None):
            self.emit("loss-call", batch.inspect_loss(call) | {"loss": value})

    def _register_leaves(self, facts: graph.GraphFacts, frame: FrameType | None, optimizers: bool) -> None:
        leaves = [leaf for leaf in facts.leaves.values() if leaf.is_leaf]
        unknown = [leaf for leaf in leaves if self._registry.index_of(leaf) is None]
        if unknown:
            self._registry.refresh()
            # Beside an optimizer, a plain tensor that requires grad is an input to differentiate by, not a parameter.
            loose = [leaf for leaf in unknown if isinstance(leaf, nn.Parameter) or not optimizers]
            self._registry.add_loose(loose, frame)

    def _emit_graph(self, facts: graph.GraphFacts) -> None:
        index = {key: self._registry.index_of(leaf) for key, leaf in facts.leaves.items()}
        rows = {key: row for key, row in index.items() if row is not None}
        data = {
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
        }
        self.emit("graph", data)

    def recurrence(self, probe: Probe) -> None:
        """How the gradient travelled through time in this step's recurrent modules."""
        for seen in probe.recurrent[:4]:
            output = seen.output
            if not isinstance(output, Tensor):
                continue
            grad = output_gradient(seen.module, output, seen.call.grad, seen.hidden_grad)
            if grad is not None:
                flow = flow_through_time(seen.module, seen.args, grad)
                data = {"site": seen.site, "type": type(seen.module).__name__, "steps": len(flow), "flow": flow}
                data["active"] = active_share(seen.module, grad)
                self.emit("time-flow", data)

    def trace_origin(self, what: str, pending: Pending) -> None:
        """Replay this step under tracing, once or twice in a run."""
        if self._traces_left <= 0:
            return
        self._traces_left -= 1
        self._note_bad_batch(pending)
        from steadygrad.origin import find_origin

        data = find_origin(what, pending.frame, pending.line, pending.rng, self._registry, inputs=pending.roots)
        self.emit("origin", data)

    def _note_bad_batch(self, pending: Pending) -> None:
        """Data that is itself not finite needs no replay to be blamed. A loss may make its targets of predictions."""
        given = [("input", leaf) for leaf in tree_leaves(pending.roots) if isinstance(leaf, Tensor)]
        given += [("input", tensor) for tensor in pending.data]
        given += [("target", target) for target in pending.all_targets()]
        for what, tensor in given:
            found = batch.describe(what, tensor) if not tensor.requires_grad else {}
            if found.get(f"{what}_nonfinite"):
                count = int(found[f"{what}_nonfinite"])
                self.emit("bad-batch", {"what": f"{count} value{'s' * (count != 1)} of the {what}"})
                return
