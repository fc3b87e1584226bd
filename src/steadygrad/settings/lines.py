"""Lines of the user's file that do what a cause is about, where there is exactly one such line."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable

from steadygrad.settings.following import assignments, resolve
from steadygrad.settings.scopes import Scope, called, key

_SCHEDULES = ("LR", "WarmRestarts", "ReduceLROnPlateau")
_DRAWS = frozenset({"randn", "rand", "normal", "empty"})
_HALVES = frozenset({"float16", "half", "bfloat16"})


def _only(scope: Scope, nodes: Iterable[ast.stmt | ast.expr]) -> str:
    lines = {node.lineno for node in nodes}
    return f"{scope.file}:{lines.pop()}" if len(lines) == 1 else ""


def schedule_lines(scope: Scope) -> dict[str, str]:
    """Where the learning-rate schedule is built (or the rate is set by hand), and where it is stepped."""
    built = [n for n in ast.walk(scope.tree) if isinstance(n, ast.Assign | ast.Call) and _schedules(n)]
    holders = {
        ast.unparse(n.targets[0])
        for n in ast.walk(scope.tree)
        if isinstance(n, ast.Assign) and any(isinstance(b, ast.Call) and b is n.value for b in built)
    }
    steps = [
        n
        for n in ast.walk(scope.tree)
        if isinstance(n, ast.Call) and called(n) == "step" and ast.unparse(n.func).removesuffix(".step") in holders
    ]
    return {"schedule": _only(scope, built), "schedule_step": _only(scope, steps)}


def _schedules(node: ast.Assign | ast.Call) -> bool:
    if isinstance(node, ast.Call):
        return called(node).endswith(_SCHEDULES) and bool(node.args)
    target = node.targets[0]
    return isinstance(target, ast.Subscript) and key(target) == "lr" and not isinstance(node.value, ast.Constant)


def loss_line(scope: Scope) -> str:
    """The statement that computes what the present line calls ``backward`` on."""
    for call in scope.calls_at(scope.line):
        operand = call.func.value if isinstance(call.func, ast.Attribute) and call.func.attr == "backward" else None
        if operand is not None and call.args:  # ``accelerator.backward(loss)``
            operand = call.args[0]
        if isinstance(operand, ast.Name):
            body = scope.functions[0].body if scope.functions else scope.tree.body
            before = [n for n in assignments(body, operand.id) if n.lineno < scope.line]
            return scope.where(before[-1]) if before else ""
    return ""


def criterion_line(scope: Scope) -> str:
    """The line that builds the script's one loss module."""
    built = [n for n in ast.walk(scope.tree) if isinstance(n, ast.Call) and called(n).endswith("Loss")]
    return _only(scope, [n for n in built if not any(isinstance(a, ast.Call) for a in n.args)])


def step_line(scope: Scope) -> str:
    """The first call of a ``step`` after the present line, in the same function."""
    inside = scope.functions[0] if scope.functions else scope.tree
    steps = [n for n in ast.walk(inside) if isinstance(n, ast.Call) and called(n) == "step" and n.lineno > scope.line]
    return scope.where(min(steps, key=lambda n: n.lineno)) if steps else ""


def drawn_line(scope: Scope) -> str:
    """The statement that draws weights which belong to no module."""
    drawing = [n for n in ast.walk(scope.tree) if isinstance(n, ast.Assign | ast.Return | ast.Expr) and _draws(n)]
    return _only(scope, [n for n in drawing if _makes_parameters(n)] or drawing)


def _draws(statement: ast.stmt) -> bool:
    return any(isinstance(n, ast.Call) and called(n) in _DRAWS for n in ast.walk(statement))


def _makes_parameters(statement: ast.stmt) -> bool:
    marked = any(isinstance(n, ast.keyword) and n.arg == "requires_grad" for n in ast.walk(statement))
    calls = {called(n) for n in ast.walk(statement) if isinstance(n, ast.Call)}
    return marked or bool(calls & {"requires_grad_", "Parameter"})


def half_line(scope: Scope) -> str:
    """The line that chooses a number format of 16 bits: that of the model, where data is given one as well."""
    calls = [n for n in ast.walk(scope.tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    models = {_receiver(call) for call in calls if called(call) == "parameters"}
    return _only(scope, [c for c in calls if _receiver(c) in models and _halves(c)]) or _only(
        scope, _halves(scope.tree)
    )


def _receiver(call: ast.Call) -> str:
    return ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""


def _halves(tree: ast.AST) -> list[ast.expr]:
    """Where a format of 16 bits is named."""
    named = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr in _HALVES]
    written = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and n.value in ("float16", "bfloat16")]
    return [*named, *written]


def rate_line(scope: Scope) -> str:
    """Where the rate of an update by hand is set: ``lr`` in ``p -= lr * p.grad``."""
    found = set()
    for node in ast.walk(scope.tree):
        if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Sub) and isinstance(node.value, ast.BinOp):
            found.add(_factor(scope.at(node), node.value))
    return found.pop() if len(found) == 1 else ""


def _factor(scope: Scope, product: ast.BinOp) -> str:
    """The factor of a product that is a number, or a name for one."""
    if isinstance(product.op, ast.Mult):
        for side in (product.left, product.right):
            names = {n.id for n in ast.walk(side) if isinstance(n, ast.Name)}
            if isinstance(side, ast.Constant | ast.Name | ast.Subscript) or names in ({"args"}, {"cfg"}, {"config"}):
                return resolve(scope, side, 0)
    return ""


BESIDE_BACKWARD: dict[str, Callable[[Scope], str]] = {
    "loss": loss_line,
    "criterion": criterion_line,
    "step": step_line,
    "weights": drawn_line,
    "half": half_line,
    "rate": rate_line,
}
