"""Which statements of the user's compute the loss: found in the source of the frame that called ``backward``."""

from __future__ import annotations

import ast
import inspect
import linecache
import textwrap
from types import FrameType
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves


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
