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
import inspect
import json
import linecache
import math
import os
import select
import signal
import sys
import textwrap
import time
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from steadygrad.frames import user_frame
from steadygrad.naming import Registry

TIMEOUT_SECONDS = 20.0
#: Operations that only pass values on: they are never the origin.
_PASSIVE = ("detach", "view", "expand", "t", "transpose", "permute", "alias", "clone", "_to_copy", "select", "slice",
            "unsqueeze", "squeeze", "cat", "stack", "reshape", "_unsafe_view", "as_strided", "copy_", "empty", "where",
            "full_like", "empty_like", "lift_fresh", "split", "unbind", "index", "masked_fill", "masked_fill_", "fill_",
            "full", "ones", "zeros", "scalar_tensor", "new_full")  # fmt: skip


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
    if not hasattr(os, "fork") or torch.cuda.is_initialized():
        return data | {"why": "the process cannot be forked here (CUDA is initialised or the platform has no fork)"}
    plan = replay_plan(frame, line)
    if isinstance(plan, str):
        return data | {"why": plan}
    return data | in_forked_copy(lambda: _replay(what, frame, plan, rng, registry))


def _bad_parameters(registry: Registry) -> dict[str, Any]:
    for row, parameter in registry.living():
        if parameter.is_floating_point() and parameter.layout == torch.strided and parameter.device.type != "meta":
            if not bool(torch.isfinite(parameter.detach()).all()):
                return {"parameter": registry.parameters[row].name}
    return {}


# -- what to run again --------------------------------------------------------------------------------------------


def replay_plan(frame: FrameType, line: int) -> tuple[list[ast.stmt], ast.expr] | str:
    """The statements to run again and the expression of the loss, or why there is none."""
    tree = _function_source(frame)
    if tree is None:
        return "the source of the calling frame is not available"
    path = _statement_path(tree, line)
    loss = _backward_operand(path[-1]) if path else None
    if loss is None:
        return "the statement that calls backward was not understood"
    before: list[ast.stmt] = []
    for parent, child in zip([tree, *path], path, strict=False):
        body = next((b for b in _bodies(parent) if any(s is child for s in b)), [])
        before.extend(body[: next((i for i, s in enumerate(body) if s is child), 0)])
    return _slice(before, loss, frame), loss


def _function_source(frame: FrameType) -> ast.AST | None:
    """Syntax tree of the frame's function or module, with line numbers of the file."""
    try:
        if frame.f_code.co_name == "<module>":
            lines, start = linecache.getlines(frame.f_code.co_filename), 1
        else:
            lines, start = inspect.getsourcelines(frame.f_code)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, SyntaxError, TypeError, IndentationError):
        return None
    ast.increment_lineno(tree, start - 1)
    function = tree.body[0] if start > 1 or frame.f_code.co_name != "<module>" else tree
    return function if tree.body else None


def _bodies(node: ast.AST) -> list[list[ast.stmt]]:
    found = [getattr(node, name, None) for name in ("body", "orelse", "finalbody")]
    found += [handler.body for handler in getattr(node, "handlers", [])]
    return [b for b in found if isinstance(b, list)]


def _statement_path(tree: ast.AST, line: int) -> list[ast.stmt]:
    """Statements that enclose a line, outermost first."""
    for body in _bodies(tree):
        for statement in body:
            if statement.lineno <= line <= (statement.end_lineno or statement.lineno):
                return [statement, *_statement_path(statement, line)]
    return []


def _backward_operand(statement: ast.stmt) -> ast.expr | None:
    for node in ast.walk(statement):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "backward":
            if node.args and isinstance(node.func.value, ast.Name | ast.Attribute):
                owner = ast.unparse(node.func.value)
                if owner in ("torch.autograd", "autograd", "accelerator", "fabric", "self"):
                    return node.args[0]
            return _unscaled(node.func.value)
    return None


def _unscaled(value: ast.expr) -> ast.expr:
    """``scaler.scale(loss).backward()`` is about ``loss``."""
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr == "scale":
        return value.args[0] if value.args else value
    return value


def _slice(before: list[ast.stmt], loss: ast.expr, frame: FrameType) -> list[ast.stmt]:
    """The statements, in order, that recompute the values of the graph which the loss is made of."""
    needed, kept = _names(loss), []
    for statement in reversed(before):
        written = _written(statement)
        wanted = {name for name in written & needed if _in_graph(_lookup(frame, name))}
        if wanted:
            kept.append(statement)
            needed |= _names(statement)
    return kept[::-1]


def _names(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def _written(node: ast.AST) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom):
        return set()
    found = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    for n in ast.walk(node):  # preds.append(x), out[i] = x
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and isinstance(n.func.value, ast.Name):
            if n.func.attr in ("append", "extend", "insert", "add_", "mul_", "update"):
                found.add(n.func.value.id)
        elif isinstance(n, ast.Subscript) and isinstance(n.ctx, ast.Store) and isinstance(n.value, ast.Name):
            found.add(n.value.id)
    return found


def _lookup(frame: FrameType, name: str) -> Any:
    return frame.f_locals.get(name, frame.f_globals.get(name))


def _in_graph(value: Any) -> bool:
    """Whether a variable's value was computed from parameters (rather than being data, a module or a number)."""
    if isinstance(value, nn.Module):
        return False
    if isinstance(value, Tensor):
        return value.grad_fn is not None
    if isinstance(value, list | tuple | dict):
        return any(isinstance(v, Tensor) and v.grad_fn is not None for v in tree_leaves(value))
    held = getattr(value, "__dict__", None)
    return isinstance(held, dict) and any(isinstance(v, Tensor) and v.grad_fn is not None for v in held.values())


# -- running it again ---------------------------------------------------------------------------------------------


def _replay(what: str, frame: FrameType, plan: tuple[list[ast.stmt], ast.expr], rng: Tensor | None,
            registry: Registry) -> dict[str, Any]:  # fmt: skip
    statements, loss = plan
    scope = {**frame.f_globals, **frame.f_locals}
    filename = frame.f_code.co_filename
    if rng is not None:
        torch.set_rng_state(rng)
    watch = OperationWatch(registry)
    with torch.enable_grad():
        with watch:
            module = ast.fix_missing_locations(ast.Module(body=list(statements), type_ignores=[]))
            exec(compile(module, filename, "exec"), scope)
            value = eval(compile(ast.fix_missing_locations(ast.Expression(loss)), filename, "eval"), scope)
        if what == "gradient" and _finite(value):
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


def _forward_place(node: Any) -> dict[str, Any]:
    """The user's line that called the forward operation of a backward node (kept by anomaly mode)."""
    metadata = getattr(node, "metadata", {}) if node is not None else {}
    found: dict[str, Any] = {}
    if node is not None:
        found["op"] = node.name().split("Backward")[0].lower()
    for entry in reversed(metadata.get("traceback_", [])):
        if "site-packages/torch" not in entry and '/steadygrad/' not in entry and "File \"" in entry:
            path, line = entry.split('"')[1], entry.split("line ")[1].split(",")[0]
            return found | {"source": f"{os.path.basename(path)}:{int(line)}", "code": entry.split("\n")[1].strip()}
    return found


class OperationWatch(TorchDispatchMode):
    """Follows non-finite values from the operation that made them to every result they reach.

    A mask of -inf that a softmax turns into zeros is no fault; so values are followed, and only what reaches the loss
    counts. A constant (a mask written with -inf) is no origin; the operation that makes NaN of it is.
    """

    def __init__(self, registry: Registry) -> None:
        super().__init__()
        self._registry = registry
        self._tainted: dict[int, tuple[Tensor, dict[str, Any] | None]] = {}
        self._first: dict[str, Any] | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        bad = [t for t in _float_tensors(out) if not _finite(t)]
        if bad:
            origin = self._origin(func.overloadpacket.__name__, _float_tensors((args, kwargs)), bad[0], args)
            self._first = self._first or origin
            for tensor in bad:
                self._tainted[id(tensor)] = (tensor, origin)
        return out

    def _origin(self, name: str, inputs: list[Tensor], out: Tensor, args: Any) -> dict[str, Any] | None:
        held = [self._tainted[id(t)] for t in inputs if id(t) in self._tainted and self._tainted[id(t)][0] is t]
        inherited = next((origin for _, origin in held if origin is not None), None)
        if inherited is not None or name in _PASSIVE:
            return inherited
        spoiled = [t for t in inputs if not _finite(t)]
        if spoiled and (bool(torch.isnan(torch.cat([t.flatten() for t in spoiled])).any()) or not _has_nan(out)):
            return None  # a constant passed on: the data itself, or a mask
        return self._describe(name, inputs, out, args)

    def origin_of(self, values: list[Tensor]) -> dict[str, Any] | None:
        """Where the first non-finite one of these values came from."""
        for value in values:
            entry = self._tainted.get(id(value))
            if entry is not None and entry[1] is not None:
                return entry[1]
        return self._first

    def _describe(self, name: str, inputs: list[Tensor], out: Tensor, args: Any) -> dict[str, Any]:
        frame = user_frame(3)
        node = torch._C._current_autograd_node()
        found: dict[str, Any] = {"found": True, "op": name, "inputs": _ranges(inputs)}
        found["dtype"] = str(out.dtype).removeprefix("torch.")
        found["result"] = "nan" if _has_nan(out) else "inf"
        found["scalars"] = [a for a in tree_leaves(args) if isinstance(a, int | float) and not isinstance(a, bool)][:4]
        if frame is not None:
            path = frame.f_code.co_filename
            found["source"] = f"{os.path.basename(path)}:{frame.f_lineno}"
            found["code"] = linecache.getline(path, frame.f_lineno).strip()
        found["module"] = self._module()
        return found | _forward_place(node) if node is not None else found

    def _module(self) -> str:
        """Name of the innermost module whose forward is on the Python stack."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            names = frame.f_code.co_varnames
            owner = frame.f_locals.get(names[0]) if frame.f_code.co_name == "forward" and names else None
            if isinstance(owner, nn.Module) and self._registry.knows(owner):
                return self._registry.name_of(owner)
            frame = frame.f_back
        return ""


def _float_tensors(value: Any) -> list[Tensor]:
    return [t for t in tree_leaves(value) if isinstance(t, Tensor) and (t.is_floating_point() or t.is_complex())]


def _finite(value: Any) -> bool:
    return all(bool(torch.isfinite(t).all()) for t in _float_tensors(value) if t.numel())


def _has_nan(tensor: Tensor) -> bool:
    return bool(torch.isnan(tensor).any())


def _ranges(inputs: list[Tensor]) -> list[dict[str, Any]]:
    """Shape and range of each input, for the evidence."""
    found = []
    for tensor in inputs[:4]:
        flat = tensor.detach().float()
        finite = flat[torch.isfinite(flat)]
        row: dict[str, Any] = {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
        row["nonfinite"] = int(flat.numel() - finite.numel())
        if finite.numel():
            row |= {"min": float(finite.min()), "max": float(finite.max()), "absmin": float(finite.abs().min())}
        found.append(row)
    return found


# -- a copy of the process ----------------------------------------------------------------------------------------


def in_forked_copy(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run ``work`` in a forked child and return its JSON-ready answer; a child that hangs is ended and said so."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads: as torch's own data loader does
        child = os.fork()
    if child == 0:
        _child(work, write)
    os.close(write)
    try:
        answer = _read_all(read, time.monotonic() + TIMEOUT_SECONDS)
    finally:
        os.close(read)
        with_signal = signal.SIGKILL
        try:
            os.kill(child, with_signal)
        except ProcessLookupError:
            pass
        os.waitpid(child, 0)
    if not answer:
        return {"why": f"the replay did not finish within {TIMEOUT_SECONDS:.0f} s"}
    result: dict[str, Any] = json.loads(answer)
    return result


def _child(work: Callable[[], dict[str, Any]], write: int) -> None:
    """Never returns."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        with torch.autograd.set_detect_anomaly(True, check_nan=False):
            answer = work()
    except BaseException as error:
        answer = {"why": f"the replay raised {type(error).__name__}: {error}"[:300]}
    try:
        os.write(write, json.dumps(_jsonable(answer)).encode())
    finally:
        os._exit(0)


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _jsonable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _read_all(descriptor: int, deadline: float) -> bytes:
    chunks = []
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([descriptor], [], [], left)[0]:
            break
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)
    return b""
