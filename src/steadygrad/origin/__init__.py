"""Where a NaN was born: replay the failing step under tracing and name the first operation that made it.

The loss (or a gradient) is not finite and the optimizer has not stepped yet, so parameters and data are still those of
the failing step. The user's own statements that compute the loss are found in the source of the frame that called
``backward``: the assignments, walked backwards from the loss, whose values belong to the autograd graph. They are run
again with every tensor operation watched. Data is not loaded again; what is no part of the graph keeps its value.

On Linux and macOS the replay runs in a forked copy of the process, so nothing it does can reach the script. Where a
process cannot be forked (CUDA is initialised, Windows), nothing is replayed and the answer says so.
"""

from __future__ import annotations

import ast
import itertools
import os
from collections.abc import Sequence
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from steadygrad.naming import Registry
from steadygrad.origin.forked import in_forked_copy
from steadygrad.origin.plan import Plan, graph_tensors, replay_plans, surroundings
from steadygrad.origin.watch import OperationWatch, finite
from steadygrad.stats import measurable

__all__ = ["find_origin", "in_forked_copy"]

#: Frames whose statements are run again, at most: each in a copy of the process.
_REPLAYS = 4


def find_origin(
    what: str,
    frame: FrameType | None,
    line: int,
    rng: Tensor | None,
    registry: Registry,
    *,
    inputs: Sequence[tuple[Any, ...]] = (),
) -> dict[str, Any]:
    """Name the first operation with a non-finite result from finite inputs.

    Args:
        what: "loss" when the loss itself is not finite, "gradient" when only its gradient is.
        frame: the user's frame that called ``backward``, and ``line``: where.
        rng: the random state as the model was first called in the step.
        registry: names of parameters and modules.
        inputs: what the models were called with in the step, call by call.

    Returns:
        A JSON-ready dict. ``found`` tells whether an operation was named; if not, ``why`` says what stood in the way.
    """
    data: dict[str, Any] = {"what": what, "found": False}
    data |= _bad_parameters(registry)
    if data.get("parameter"):
        return data | {"why": "a parameter was already non-finite before this step"}
    if frame is None:
        return data | {"why": "backward was not called from Python code with a source"}
    if registry.sharded:
        return data | {"why": "the parameters are spread over several processes, and a copy of one cannot run alone"}
    if not hasattr(os, "fork") or torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return data | {"why": "the process cannot be forked here (CUDA is initialised or the platform has no fork)"}
    tried: list[dict[str, Any]] = []
    for plan in itertools.islice(replay_plans(frame, line), _REPLAYS):
        tried.append(_tried(what, plan, registry, Rerun(rng, inputs)))
        if tried[-1].get("found"):
            return data | tried[-1]
    return data | tried[0]


def _tried(what: str, plan: Plan | str, registry: Registry, rerun: Rerun) -> dict[str, Any]:
    if isinstance(plan, str):
        return {"why": plan}
    return in_forked_copy(lambda: _replay(what, plan, registry, rerun))


def _bad_parameters(registry: Registry) -> dict[str, Any]:
    for row, parameter in registry.living():
        if measurable(parameter) and not bool(torch.isfinite(parameter.detach()).all()):
            return {"parameter": registry.parameters[row].name}
    return {}


def _replay(what: str, plan: Plan, registry: Registry, rerun: Rerun) -> dict[str, Any]:
    scope, filename = surroundings(plan), plan.frame.f_code.co_filename
    rerun.install()
    watch = OperationWatch(registry)
    with torch._C._EnableTorchFunction(), torch.enable_grad():  # as the script ran it
        with watch:
            module = ast.fix_missing_locations(ast.Module(body=list(plan.statements), type_ignores=[]))
            exec(compile(module, filename, "exec"), scope)
            value = eval(compile(ast.fix_missing_locations(ast.Expression(plan.loss)), filename, "eval"), scope)
        losses = [t for v in (value if isinstance(value, tuple) else (value,)) for t in graph_tensors(v)]
        if what == "gradient" and finite(losses):
            return _replay_backward(losses[:1], registry)
    return watch.origin_of(losses) or {"why": "the replay of the step stayed finite"}


class Rerun:
    """Gives the models the very data of the failing step, also where the script augments it on the way in.

    ``encoder(augment(x))`` draws random numbers before the model is called. So the random state of the first call is
    restored at that call, and what was plain data then is handed in again. Lives in the forked copy only.
    """

    def __init__(self, rng: Tensor | None, inputs: Sequence[tuple[Any, ...]]) -> None:
        self._rng = rng
        self._inputs = list(inputs)
        self._inside = False

    def install(self) -> None:
        """Intercept every outermost module call from here on."""
        original = nn.Module.__call__

        def __call__(module: nn.Module, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
            if self._inside or isinstance(module, nn.modules.loss._Loss):
                return original(module, *args, **kwargs)
            self._inside = True
            try:
                return original(module, *self._given(args), **kwargs)
            finally:
                self._inside = False

        nn.Module.__call__ = __call__  # type: ignore[method-assign]

    def _given(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        if self._rng is not None:
            torch.set_rng_state(self._rng)
            self._rng = None
        before = self._inputs.pop(0) if self._inputs else ()
        if len(before) != len(args):
            return args
        return tuple(old if _is_data(new) and _is_data(old) else new for old, new in zip(before, args, strict=True))


def _is_data(value: Any) -> bool:
    return isinstance(value, Tensor) and not value.requires_grad


def _replay_backward(losses: list[Tensor], registry: Registry) -> dict[str, Any]:
    """Differentiate once more; anomaly mode (on in the copy) tells where each forward operation was called."""
    leaves = [p for _, p in registry.living() if p.requires_grad]
    watch = OperationWatch(registry)
    with watch:
        gradients = torch.autograd.grad([loss.sum() for loss in losses], leaves, allow_unused=True)
    found = watch.origin_of([g for g in gradients if g is not None])
    return found | {"backward": True} if found else {"why": "the replay of the backward pass stayed finite"}
