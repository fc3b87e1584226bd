"""The optimizers of a run, and the script's own update rule where there is none."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

from steadygrad import stats
from steadygrad.frames import user_frame
from steadygrad.monitor.details import weights_before
from steadygrad.monitor.state import Rows, Sink, Stream
from steadygrad.naming import Registry
from steadygrad.records import OptimizerInfo

MANUAL = "manual update"


class Streams:
    """Numbers optimizers in the order in which they first step, and finds what each of them trains."""

    def __init__(self, registry: Registry, sink: Sink) -> None:
        self._registry = registry
        self._sink = sink
        self._streams: dict[int, Stream] = {}
        self._table: list[OptimizerInfo] = []

    def __iter__(self) -> Iterator[Stream]:
        return iter(self._streams.values())

    def __len__(self) -> int:
        return len(self._table)

    def of(self, optimizer: Any) -> Stream:
        """The stream of an optimizer; of the script's own updates for None."""
        stream = self._streams.get(id(optimizer))
        if stream is None or (stream.optimizer is not None and stream.optimizer() is not optimizer):
            stream = self._rebuilt(optimizer) or Stream(len(self._table), _kind(optimizer), _ref(optimizer))
            self._streams[id(optimizer)] = stream
            if stream.index == len(self._table):
                self._table.append(describe_optimizer(stream.index, optimizer))
                self._sink.optimizers(self._table)
        return stream

    def _rebuilt(self, optimizer: Any) -> Stream | None:
        """Some scripts build their optimizer anew for every epoch: the stream of one that is gone goes on."""
        rows = [self._registry.index_of(p) for p in _held(optimizer)]
        for key, stream in list(self._streams.items()):
            gone = stream.optimizer is not None and stream.optimizer() is None
            if gone and stream.kind == _kind(optimizer) and stream.rows.tolist() == rows:
                del self._streams[key]
                stream.optimizer, stream.ids = _ref(optimizer), ()
                return stream
        return None

    def sole(self, indices: set[int]) -> Stream | None:
        """The stream with the one number there is, if it is an optimizer's."""
        found = [s for s in self if s.index in indices and s.optimizer is not None] if len(indices) == 1 else []
        return found[0] if found else None

    def adopt(self, stream: Stream, optimizer: Any) -> None:
        """What looked like the script's own update was an optimizer built before we looked."""
        if stream.steps == 0 and id(optimizer) not in self._streams:
            self._streams = {key: other for key, other in self._streams.items() if other is not stream}
            stream.optimizer, stream.kind, stream.ids, stream.functional = _ref(optimizer), _kind(optimizer), (), []
            self._streams[id(optimizer)] = stream
            self._table[stream.index] = describe_optimizer(stream.index, optimizer)
            self._sink.optimizers(self._table)

    def parameters(self, stream: Stream) -> list[Tensor]:
        """What the stream trains; its ``rows`` are brought up to date."""
        if stream.optimizer is None:
            return self._manual_parameters(stream)
        optimizer = stream.holder()
        if optimizer is None:  # it is gone: what it trained may be another one's by now
            return []
        parameters = _held(optimizer)
        ids = tuple(map(id, parameters))
        if ids != stream.ids:
            self._registry.add_loose(parameters, user_frame(3))
            decays = [float(g.get("weight_decay") or 0.0) for g in optimizer.param_groups for _ in g["params"]]
            self._registry.assign(parameters, stream.index, decays)
            rows = [self._registry.index_of(p) for p in parameters]
            stream.unreal = any(p.is_meta or row is None for p, row in zip(parameters, rows, strict=True))
            stream.sharded = any(map(stats.sharded, parameters))
            stream.ids, stream.rows = ids, np.array([0 if row is None else row for row in rows], dtype=np.int64)
            stream.in_order = rows == list(range(len(rows)))
            stream.group = main_group(optimizer)
        return parameters

    def _manual_parameters(self, stream: Stream) -> list[Tensor]:
        if stream.functional:
            living = [p for ref, _ in stream.functional if (p := ref()) is not None]
        else:
            living = [p for _, p in self._registry.living() if p.requires_grad and p.is_leaf and p.grad is not None]
        ids = tuple(map(id, living))
        if ids != stream.ids:
            self._registry.assign(living, stream.index, [0.0] * len(living))
            stream.ids, stream.unreal = ids, any(p.is_meta for p in living)
        stream.rows = np.array([self._registry.index_of(p) for p in living], dtype=np.int64)
        return living

    def remember_weights(self, stream: Stream) -> None:
        """Keep what the coming update will be measured against."""
        parameters = self.parameters(stream)
        if stream.sharded:
            parameters = [stats.local(p) for p in parameters]
        if parameters and not stream.unreal:
            stream.weights = weights_before(parameters, stream.rows)

    def gradients(self, stream: Stream) -> tuple[list[Tensor], Rows]:
        """The gradients that exist, and their rows."""
        parameters = self.parameters(stream)
        if not parameters:
            return [], stream.rows[:0]
        if stream.functional:
            return [g for ref, g in stream.functional if ref() is not None], stream.rows
        found = [p.grad for p in parameters]
        present = [g for g in found if g is not None]
        if stream.sharded:
            present = [stats.local(g) for g in present]
        if len(present) == len(found):
            return present, stream.rows
        return present, stream.rows[np.array([g is not None for g in found], dtype=bool)]


def rate(stream: Stream) -> float | None:
    """The learning rate of the optimizer's main group."""
    optimizer = stream.holder()
    return float(optimizer.param_groups[stream.group].get("lr", math.nan)) if optimizer is not None else None


def main_group(optimizer: Any) -> int:
    """The parameter group with the most numbers: biases are often the first, with a rate or a warm-up of their own."""
    sizes = [sum(p.numel() for p in group["params"]) for group in optimizer.param_groups]
    return sizes.index(max(sizes))


def _held(optimizer: Any) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]] if optimizer is not None else []


def _ref(optimizer: Any) -> weakref.ref[Any] | None:
    return weakref.ref(optimizer) if optimizer is not None else None


def _kind(optimizer: Any) -> str:
    return type(optimizer).__name__ if optimizer is not None else MANUAL


def describe_optimizer(index: int, optimizer: Any) -> OptimizerInfo:
    """Class name and scalar hyper-parameters."""
    if optimizer is None:
        return OptimizerInfo(index, MANUAL, {})
    group = optimizer.param_groups[main_group(optimizer)]
    hyper = {k: v for k, v in group.items() if k != "params" and isinstance(v, int | float | bool | str | tuple | list)}
    hyper["groups"] = len(optimizer.param_groups)
    return OptimizerInfo(index, type(optimizer).__name__, hyper)
