"""Where a script sets a value that it hands to a call: the line of ``LR = 10.0`` behind ``SGD(..., lr=LR)``.

A finding about a rate points to the optimizer, but what has to be changed is a constant, a default of the command line
or an entry of a configuration. The source is only read, never run: names are followed through assignments, parameters
of the calling functions, ``argparse`` and dataclass defaults, dictionaries and imports. Where that leads to more than
one place, or to none, nothing is said.
"""

from __future__ import annotations

import ast
from types import FrameType

from steadygrad.settings.following import argument, assignments
from steadygrad.settings.scopes import Scope, called, key


def set_at(frame: FrameType | None, keyword: str, position: int = -1) -> str:
    """``file:line`` where the value is set that a frame's present call gets as ``keyword`` (or at a position).

    "" where it is written in the call itself, or cannot be told.
    """
    if frame is None:
        return ""
    try:
        scope = Scope.of(frame)
        found = argument(scope, scope.calls_at(frame.f_lineno), keyword, position)
        return found if found != f"{scope.file}:{frame.f_lineno}" else ""
    except (RecursionError, ValueError, AttributeError):  # source that is not what it seems: no place is better
        return ""


def schedule_at(frame: FrameType | None) -> str:
    """``file:line`` where the frame's file builds its one learning-rate schedule, or sets the rate by hand."""
    if frame is None:
        return ""
    scope = Scope.of(frame)
    lines = {n.lineno for n in ast.walk(scope.tree) if isinstance(n, ast.Assign | ast.Call) and _schedules(n)}
    return f"{scope.file}:{lines.pop()}" if len(lines) == 1 else ""


def loss_at(frame: FrameType | None) -> str:
    """``file:line`` of the statement that computes what the frame's present line calls ``backward`` on."""
    if frame is None:
        return ""
    scope = Scope.of(frame)
    for call in scope.calls_at(frame.f_lineno):
        operand = call.func.value if isinstance(call.func, ast.Attribute) and call.func.attr == "backward" else None
        if isinstance(operand, ast.Name):
            bodies = [f.body for f in scope.functions[:1]] or [scope.tree.body]
            before = [n for n in assignments(bodies[0], operand.id) if n.lineno < frame.f_lineno]
            return scope.where(before[-1]) if before else ""
    return ""


def drawn_at(frame: FrameType | None) -> str:
    """``file:line`` of the one statement in the frame's file that draws weights which belong to no module."""
    if frame is None:
        return ""
    scope = Scope.of(frame)
    statements = [n for n in ast.walk(scope.tree) if isinstance(n, ast.Assign | ast.Return | ast.Expr) and _draws(n)]
    lines = {n.lineno for n in statements}
    return f"{scope.file}:{lines.pop()}" if len(lines) == 1 else ""


def _draws(statement: ast.stmt) -> bool:
    """Random numbers, and a word that makes a parameter of them."""
    calls = {called(n) for n in ast.walk(statement) if isinstance(n, ast.Call)}
    marked = any(isinstance(n, ast.keyword) and n.arg == "requires_grad" for n in ast.walk(statement))
    marked = marked or bool(calls & {"requires_grad_", "Parameter"})
    return marked and bool(calls & {"randn", "rand", "normal", "empty"})


def _schedules(node: ast.Assign | ast.Call) -> bool:
    if isinstance(node, ast.Call):
        return called(node).endswith(("LR", "WarmRestarts", "ReduceLROnPlateau")) and bool(node.args)
    target = node.targets[0]
    return isinstance(target, ast.Subscript) and key(target) == "lr" and not isinstance(node.value, ast.Constant)
