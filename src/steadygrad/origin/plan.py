"""Which statements compute the loss: found in the source of the frame that called ``backward``, or of its callers.

Where a trainer calls ``backward`` on a loss that was handed to it, the frames that handed it on are looked at in turn.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from steadygrad.frames import foreign

#: How many callers are looked at: a trainer's hooks lie between its loop and torch.
_CALLERS = 16


@dataclass(frozen=True)
class Plan:
    """Statements to run again in a frame, and the expression that the loss is, or is part of, afterwards."""

    frame: FrameType
    statements: list[ast.stmt]
    loss: ast.expr

    @property
    def handed_in(self) -> bool:
        """Whether the frame's function was given, as an argument, what the loss is computed from."""
        code, needed = self.frame.f_code, _names(self.loss).union(*map(_names, self.statements))
        count = code.co_argcount + code.co_kwonlyargcount
        count += bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
        given = {*code.co_varnames[:count], *code.co_freevars}
        return any(_in_graph(_lookup(self.frame, name)) for name in given & needed)


def replay_plans(frame: FrameType, line: int) -> Iterator[Plan | str]:
    """What to run again, or why that cannot be told: of the frame itself, then of those that handed the loss to it."""
    plan = _plan(frame, line, None)
    yield plan
    for _ in range(_CALLERS):
        caller = frame.f_back
        if caller is None or (isinstance(plan, Plan) and not plan.handed_in):
            return
        frame = caller
        tree = None if foreign(frame.f_code.co_filename) else _function_source(frame)
        path = _statement_path(tree, frame.f_lineno) if tree is not None else []
        if path:
            names = sorted(name for name in _names(path[-1]) if _in_graph(_lookup(frame, name)))
            plan = _plan(frame, frame.f_lineno, ast.Tuple([ast.Name(name, ast.Load()) for name in names], ast.Load()))
            if isinstance(plan, Plan) and plan.statements:
                yield plan


def _plan(frame: FrameType, line: int, loss: ast.expr | None) -> Plan | str:
    tree = _function_source(frame)
    if tree is None:
        return "the source of the calling frame is not available"
    path = _statement_path(tree, line)
    loss = loss or (_backward_operand(path[-1]) if path else None)
    if loss is None:
        return "the statement that calls backward was not understood"
    before: list[ast.stmt] = []
    for parent, child in zip([tree, *path], path, strict=False):
        body = next((b for b in _bodies(parent) if any(s is child for s in b)), [])
        before.extend(body[: next((i for i, s in enumerate(body) if s is child), 0)])
    return Plan(frame, _slice(before, loss, frame), loss)


def surroundings(plan: Plan) -> dict[str, Any]:
    """The variables that a plan's statements see; one deleted since is had from a caller that calls it the same."""
    scope = {**plan.frame.f_globals, **plan.frame.f_locals}
    caller = plan.frame.f_back
    for _ in range(_CALLERS if plan.frame.f_code.co_name != "<module>" else 0):
        missing = {name for statement in plan.statements for name in _names(statement)} - scope.keys()
        if not missing or caller is None:
            break
        scope.update({name: caller.f_locals[name] for name in missing & caller.f_locals.keys()})
        caller = caller.f_back
    return scope


def graph_tensors(value: Any) -> list[Tensor]:
    """Tensors computed from parameters: the value itself, inside containers, or attributes of an object."""
    held = None if isinstance(value, Tensor | list | tuple | dict) else getattr(value, "__dict__", None)
    leaves = list(held.values()) if isinstance(held, dict) else tree_leaves(value)
    return [v for v in leaves if isinstance(v, Tensor) and v.grad_fn is not None]


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
    """Statements that enclose a line, outermost first; of several on one line that which calls ``backward``."""
    for body in _bodies(tree):
        there = [s for s in body if s.lineno <= line <= (s.end_lineno or s.lineno)]
        if there:
            statement = next((s for s in there if _backward_operand(s) is not None), there[0])
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
        elif isinstance(n, ast.Subscript | ast.Attribute) and isinstance(n.ctx, ast.Store):
            found |= {n.value.id} if isinstance(n.value, ast.Name) else set()
    return found


def _lookup(frame: FrameType, name: str) -> Any:
    return frame.f_locals.get(name, frame.f_globals.get(name))


def _in_graph(value: Any) -> bool:
    """Whether a variable's value was computed from parameters (rather than being data, a module or a number)."""
    if isinstance(value, nn.Module):
        return False
    if isinstance(value, Tensor):
        return value.grad_fn is not None
    return bool(graph_tensors(value))
