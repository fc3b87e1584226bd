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
import os
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from steadygrad.naming import Registry
from steadygrad.origin.forked import in_forked_copy
from steadygrad.origin.plan import replay_plan
from steadygrad.origin.watch import OperationWatch, finite
from steadygrad.stats import measurable

__all__ = ["find_origin", "in_forked_copy"]


def find_origin(
    what: str, frame: FrameType | None, line: int, rng: Tensor | None, registry: Registry
) -> dict[str, Any]:
    """Name the first operation with a non-finite result from finite inputs.

    Args:
        what: "loss" when the loss itself is not finite, "gradient" when only its gradient is.
        frame: the user's frame that called ``backward``, and ``line``: where.
        rng: the random state before the step's forward.
        registry: names of parameters and modules.

    Returns:
        A JSON-ready dict. ``found`` tells whether an operation was named; if not, ``why`` says what stood in the way.
    """
    data: dict[str, Any] = {"what": what, "found": False}
    data |= _bad_parameters(registry)
    if data.get("parameter"):
        return data | {"why": "a parameter was already non-finite before this step"}
    if frame is None:
        return data | {"why": "backward was not called from Python code with a source"}
    if not hasattr(os, "fork") or torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return data | {"why": "the process cannot be forked here (CUDA is initialised or the platform has no fork)"}
    plan = replay_plan(frame, line)
    if isinstance(plan, str):
        return data | {"why": plan}
    return data | in_forked_copy(lambda: _replay(what, frame, plan, rng, registry))


def _bad_parameters(registry: Registry) -> dict[str, Any]:
    for row, parameter in registry.living():
        if measurable(parameter) and not bool(torch.isfinite(parameter.detach()).all()):
            return {"parameter": registry.parameters[row].name}
    return {}


def _replay(what: str, frame: FrameType, plan: tuple[list[ast.stmt], ast.expr], rng: Tensor | None,
            registry: Registry) -> dict[str, Any]:  # fmt: skip
    statements, loss = plan
    scope = {**frame.f_globals, **frame.f_locals}
    filename = frame.f_code.co_filename
    if rng is not None:
        torch.set_rng_state(rng)
    watch = OperationWatch(registry)
    with torch._C._EnableTorchFunction(), torch.enable_grad():  # as the script ran it
        with watch:
            module = ast.fix_missing_locations(ast.Module(body=list(statements), type_ignores=[]))
            exec(compile(module, filename, "exec"), scope)
            value = eval(compile(ast.fix_missing_locations(ast.Expression(loss)), filename, "eval"), scope)
        if what == "gradient" and finite(value):
            return _replay_backward(value, registry)
    return watch.origin_of([value]) or {"why": "the replay of the step stayed finite"}


def _replay_backward(loss: Tensor, registry: Registry) -> dict[str, Any]:
    """Differentiate once more; anomaly mode (on in the copy) tells where each forward operation was called."""
    leaves = [p for _, p in registry.living() if p.requires_grad]
    watch = OperationWatch(registry)
    with watch:
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    found = watch.origin_of([g for g in gradients if g is not None])
    return found | {"backward": True} if found else {"why": "the replay of the backward pass stayed finite"}
