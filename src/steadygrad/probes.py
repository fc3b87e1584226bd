"""What sampled steps see inside the model: scale, dead and saturated units, and the backward signal, site by site.

Shapes legend: S = calls recorded in one step, M = sites.

Outputs are kept by reference until the forward ends and then measured together (see :mod:`steadygrad.stats`); the
backward signal is read by tensor hooks, because full backward hooks on modules break in-place activations. Nothing is
written to any tensor of the script, and no random number is drawn.
"""

from __future__ import annotations

import contextlib
import math
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode, _pop_mode_temporarily

from steadygrad import stats
from steadygrad.calls import Call, Guard, RecurrentCall, batchnorm_numbers, first_tensor, on_gradient, version
from steadygrad.frames import user_frame
from steadygrad.kinds import ACTIVATION_TYPES
from steadygrad.naming import Registry
from steadygrad.records import SITE_STATS, Vector

#: References kept beyond what autograd keeps anyway; more than this is measured at once and let go.
DEFERRED_BYTES = 64 << 20
#: Outputs and signals larger than this are measured on an evenly strided sample of about this many elements.
SAMPLE = 1 << 13
#: |input| beyond which the slope is under 3% of its maximum.
FLAT_TAIL = {"sigmoid": 5.0, "tanh": 2.5}
#: Sites whose backward signal says nothing that their neighbours with weights do not say. (Functional activations are
#: kept: in a recurrence written by hand they are the only sites.)
_UNHOOKED = frozenset({"norm", "dropout", "embedding"})
_RELU_LIKE = frozenset({"relu"})
_FAST_PATHS = (nn.TransformerEncoder, nn.TransformerEncoderLayer, nn.MultiheadAttention)

FUNCTIONS: dict[Any, str] = {
    F.relu: "relu", F.relu_: "relu", torch.relu: "relu", torch.relu_: "relu", Tensor.relu: "relu", Tensor.relu_: "relu",
    F.relu6: "relu", F.leaky_relu: "leaky_relu", F.elu: "elu", F.selu: "selu", F.gelu: "gelu", F.silu: "silu",
    F.softplus: "softplus", F.sigmoid: "sigmoid", torch.sigmoid: "sigmoid", Tensor.sigmoid: "sigmoid",
    Tensor.sigmoid_: "sigmoid", F.tanh: "tanh", torch.tanh: "tanh", Tensor.tanh: "tanh", Tensor.tanh_: "tanh",
}  # fmt: skip


class Probe:
    """Records one step's calls; :meth:`measure` turns them into one M-vector per statistic."""

    def __init__(self, registry: Registry, guard: Guard) -> None:
        self._registry = registry
        self._guard = guard
        self._watch = FunctionWatch(self, guard)
        self._calls: list[Call] = []
        self._unmeasured: list[Call] = []
        self._with_grad: list[Call] = []
        self._bytes = 0
        self._stack: list[nn.Module] = []
        self._functions: dict[tuple[int, str], tuple[int, int, int]] = {}  # -> (count, line, modules met so far)
        self._met: set[int] = set()
        self.running = False
        self.functions_seen = False
        self.batchnorms: list[tuple[int, dict[str, float]]] = []
        self.recurrent: list[RecurrentCall] = []

    @contextlib.contextmanager
    def observing(self) -> Iterator[None]:
        """While the model's forward runs."""
        self.running = True
        try:
            with self._watch if self._registry.watch_functions else contextlib.nullcontext():
                yield
        finally:
            self.running = False

    def unwatched(self, module: nn.Module) -> contextlib.AbstractContextManager[Any]:
        """Torch's transformer layers take their fast path in evaluation, but not while functions are being watched."""
        depth = torch._C._len_torch_function_stack()
        if module.training or not isinstance(module, _FAST_PATHS) or not depth:
            return contextlib.nullcontext()
        on_top = torch._C._get_function_stack_at(depth - 1) is self._watch
        return _pop_mode_temporarily() if on_top else contextlib.nullcontext()

    def enter(self, module: nn.Module) -> None:
        """A module inside the model is about to run."""
        self._stack.append(module)
        self._met.add(id(module))

    def leave(self, module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        """It ran: remember its first tensor output. Called under the guard: our own look is no call of the script."""
        self._stack.pop()
        tensor = out if isinstance(out, Tensor) else first_tensor(out)
        if tensor is None or not tensor.is_floating_point() or (self._calls and self._calls[-1].out is tensor):
            return
        if not stats.measurable(tensor):
            return
        index = self._registry.site(module)
        info = self._registry.sites[index]
        before = first_tensor(args)
        before = before if before is not None and stats.measurable(before) else None
        call = self._record(index, info.activation or info.kind, module, before, tensor)
        if info.kind == "norm" and isinstance(module, _BatchNorm) and module.training and before is not None:
            self.batchnorms.append((index, batchnorm_numbers(module, before)))
        elif info.kind == "recurrent" and type(module) in (nn.RNN, nn.LSTM, nn.GRU) and before is not None:
            self.recurrent.append(RecurrentCall(call, args, out, guard=self._guard))

    def abandon(self) -> None:
        """The module raised: forget that it was entered."""
        self._stack.pop()

    def function(self, name: str, before: Any, out: Any) -> None:
        """A functional activation ran inside the innermost module."""
        module = self._stack[-1] if self._stack else None
        if module is None or type(module).__name__ in ACTIVATION_TYPES or not isinstance(out, Tensor):
            return
        if not out.is_floating_point() or not stats.measurable(out):
            return
        key = (id(module), name)
        frame = user_frame(3)
        count, line, met = self._functions.get(key, (-1, -1, -1))
        here = frame.f_lineno if frame is not None else 0
        if line != here or met != len(self._met):  # otherwise: the same line again with the same weights, a recurrence
            count += 1
        self._functions[key] = (count, here, len(self._met))
        self.functions_seen = True
        label = name if count == 0 else f"{name}#{min(count, 63)}"
        index = self._registry.site(module, label)
        seen = before if isinstance(before, Tensor) and stats.measurable(before) else None
        self._record(index, name, module, seen, out)

    def _record(self, site: int, kind: str, module: nn.Module, before: Tensor | None, out: Tensor) -> Call:
        call = Call(site, kind, module, before, out)
        self._calls.append(call)
        self._unmeasured.append(call)
        if out.requires_grad and self._hooked(site):
            on_gradient(out, lambda grad: self.keep_grad(call, grad), self._guard)
        self._bytes += out.numel() * out.element_size()
        if self._bytes > DEFERRED_BYTES:
            self.measure_outputs()
        return call

    def _hooked(self, site: int) -> bool:
        info = self._registry.sites[site]
        return info.kind not in _UNHOOKED and not (info.kind == "activation" and info.type in ACTIVATION_TYPES)

    @torch.no_grad()
    def measure_outputs(self) -> None:
        """Measure the outputs kept so far and let them go."""
        calls, self._unmeasured, self._bytes = self._unmeasured, [], 0
        fresh = [c for c in calls if version(c.out) == c.version]
        if fresh:
            host = stats.moments([c.out for c in fresh], SAMPLE).tolist()
            for call, (_, l2, total, peak, zeros) in zip(fresh, host, strict=True):
                n = max(1, call.numel)
                call.seen = {
                    "out_rms": l2 / math.sqrt(n), "out_mean": total / n, "out_max": peak, "out_zeros": zeros / n,
                }  # fmt: skip
            self._measure_inputs(fresh)
            self._measure_units(fresh)
        for call in calls:
            call.before = None
            call.out = _EMPTY

    def _measure_inputs(self, calls: list[Call]) -> None:
        """A module's input is, as a rule, the output of another one."""
        rms_of = {id(c.out): c.seen["out_rms"] for c in calls}
        unknown = {
            id(c.before): c.before
            for c in calls
            if c.before is not None and id(c.before) not in rms_of and c.before.is_floating_point()
        }
        tensors = list(unknown.values())
        thin = [t if t.numel() <= SAMPLE else stats.thinned(t, SAMPLE) for t in tensors]
        for tensor, part, norm in zip(tensors, thin, stats.norms(thin).tolist(), strict=True):
            rms_of[id(tensor)] = norm / math.sqrt(max(1, part.numel()))
        for call in calls:
            if id(call.before) in rms_of:
                call.seen["in_rms"] = rms_of[id(call.before)]

    def _measure_units(self, calls: list[Call]) -> None:
        rectified = [c for c in calls if c.kind in _RELU_LIKE and c.out.dim() >= 2 and c.numel]
        if rectified:
            for call, share in zip(rectified, stats.dead_shares([c.out for c in rectified]), strict=True):
                call.seen["dead_units"] = share
        for kind, limit in FLAT_TAIL.items():
            squashed = [
                (c, c.before)
                for c in calls
                if c.kind == kind and c.before is not None and version(c.before) == c.before_version
            ]
            shares = stats.shares_beyond([before for _, before in squashed], limit, SAMPLE)
            for (call, _), share in zip(squashed, shares, strict=True):
                call.seen["saturated"] = share

    def keep_grad(self, call: Call, grad: Tensor) -> None:
        """Called back by autograd: small gradients are measured together later, large ones at once."""
        self._bytes += grad.numel() * grad.element_size()
        call.grad = grad.detach()
        self._with_grad.append(call)
        if self._bytes > DEFERRED_BYTES:
            self._measure_grads()

    def _measure_grads(self) -> None:
        calls, self._with_grad, self._bytes = self._with_grad, [], 0
        grads = [c.grad for c in calls if c.grad is not None]
        thin = [g if g.numel() <= SAMPLE else stats.thinned(g, SAMPLE) for g in grads]
        for call, grad, part, norm in zip(calls, grads, thin, stats.norms(thin).tolist(), strict=True):
            call.seen["signal"] = norm * math.sqrt(grad.numel() / max(1, part.numel()))
            if call.kind != "recurrent":
                call.grad = None

    @np.errstate(over="ignore")  # an output of 1e300 is Inf in float32, and may be
    def measure(self) -> dict[str, Vector]:
        """One M-vector per statistic over all calls of each site; NaN where it was not measured."""
        self.measure_outputs()
        self._measure_grads()
        vectors = {key: np.full(len(self._registry.sites), np.nan, dtype=np.float32) for key in SITE_STATS}
        by_site: dict[int, list[Call]] = {}
        for call in self._calls:
            by_site.setdefault(call.site, []).append(call)
        for site, calls in by_site.items():
            vectors["calls"][site] = len(calls)
            for key, value in _combined(calls).items():
                vectors[key][site] = value
        for site, numbers in self.batchnorms:
            for key, value in numbers.items():
                vectors[key][site] = value
        return vectors


def _combined(calls: list[Call]) -> dict[str, float]:
    """A site's numbers over all its calls in the step."""
    seen = dict(calls[0].seen)
    if len(calls) > 1:
        for key in {k for c in calls for k in c.seen}:
            seen[key] = _COMBINE[key]([c.seen[key] for c in calls if key in c.seen])
    signals = [c.seen["signal"] for c in calls if "signal" in c.seen]
    if signals:
        seen |= {"signal_first": signals[0], "signal_last": signals[-1]}
    return seen


def _rms(values: list[float]) -> float:
    return math.sqrt(sum(v * v for v in values) / len(values))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


_COMBINE: dict[str, Callable[[list[float]], float]] = {
    "out_rms": _rms, "in_rms": _rms, "signal": _rms, "out_mean": _mean, "out_zeros": _mean, "out_max": max,
    "dead_units": min, "saturated": _mean,
}  # fmt: skip
_EMPTY = torch.empty(0)


class FunctionWatch(TorchFunctionMode):
    """Sees functional activations (``F.relu``, ``x.tanh()``) while the model runs on a sampled step."""

    def __init__(self, probe: Probe, guard: Guard) -> None:
        super().__init__()
        self._probe = weakref.proxy(probe)  # no cycle: what a probe holds must go when the step ends
        self._guard = guard

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = FUNCTIONS.get(func) or FUNCTIONS.get(getattr(func, "__wrapped__", None))  # a remedy may wrap it
        if name is not None:
            before = args[0] if args else None
            inplace = isinstance(before, Tensor) and out is before
            self._guard(self._probe.function, name, None if inplace else before, out)
        return out
