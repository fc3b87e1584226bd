"""Residual connections, where the text shows that a value is replaced by one of the same shape."""

from __future__ import annotations

import math

import libcst as cst

from steadygrad.rewrite.models import Models
from steadygrad.rewrite.names import dotted, method
from steadygrad.rewrite.normalization import feeds_activation
from steadygrad.rewrite.script import Refused
from steadygrad.rewrite.task import Task, write

_CELLS = ("RNNCell", "GRUCell")


def add_residual(task: Task) -> None:
    """``h = h + scale * f(layer(h))`` in loops over equal layers, in blocks, and in recurrences written by hand."""
    given = task.positive(1.0) if task.spec.value else 0.0
    models = Models(task.script, task.names, task.training)
    for assign in task.script.find(cst.Assign):
        scale = _recurrent(task, models, assign) or _looped(task, models, assign)
        if scale:
            _add(task, assign.value, dotted(assign.targets[0].target), write(given) if given else scale)
        carried = "" if scale else _carried(task, assign)
        if carried:
            _add(task, assign.value, dotted(assign.targets[0].target), write(given) if given else carried)
    for call in task.script.find(cst.Call):
        block = _block_input(task, models, call)
        if block:
            _add(task, call, block, write(given) if given else _by_count(task))
    if not task.said:
        _by_form(task, models, write(given) if given else _by_count(task))
    if not task.said:
        raise Refused("no layer was found whose output certainly has the shape of its input")


def _add(task: Task, value: cst.BaseExpression, before: str, scale: str) -> None:
    task.script.replace(value, f"{before} + {scale} * {task.script.atom(value)}")
    task.say(f"{before} is added to what the layer makes of it", value)


def _by_count(task: Task) -> str:
    """Small enough that the branches together do not outgrow the shortcut: one over the root of their number."""
    square = [p for p in task.hints.parameters
              if p.role == "weight" and len(p.shape) >= 2 and p.shape[0] == p.shape[1]]  # fmt: skip
    return write(round(1 / math.sqrt(max(1, len(square))), 2)) if square else "0.1"


def _looped(task: Task, models: Models, assign: cst.Assign) -> str:
    """``x = relu(layer(x))`` for each of several equal layers with as many outputs as inputs."""
    name = dotted(assign.targets[0].target)
    for call in task.script.find(cst.Call, assign.value):
        layer = models.layer(call.func)
        applied = call.args and dotted(call.args[0].value) == name
        if (
            name
            and applied
            and _keeps_width(task, layer)
            and feeds_activation(task, call)
            and _is_all(task, assign, call)
        ):
            return _by_count(task)
    return ""


def _is_all(task: Task, assign: cst.Assign, call: cst.Call) -> bool:
    """Whether the value is just the activation of the layer, and no sum already."""
    return isinstance(assign.value, cst.Call) and not any(
        True for _ in task.script.find(cst.BinaryOperation, assign.value)
    )


def _keeps_width(task: Task, layer: cst.Call | None) -> bool:
    """Whether a layer is written with as many outputs as inputs, and keeps the size of images."""
    if layer is None or len(layer.args) < 2 or any(a.keyword is not None for a in layer.args[:2]):
        return False
    one, two = (task.script.text(arg.value) for arg in layer.args[:2])
    if one != two:
        return False
    kind = task.names.short(layer.func)
    if kind == "Linear":
        return True
    size = layer.args[2] if len(layer.args) > 2 else None
    text = task.script.text(layer)
    same = size is not None and task.script.text(size.value) in ("3", "kernel_size=3") and "padding=1" in text
    return kind in ("Conv1d", "Conv2d") and "stride" not in text and (same or 'padding="same"' in text)


def _block_input(task: Task, models: Models, call: cst.Call) -> str:
    """``return relu(self.fc(x))`` in the forward of a block that is no model by itself: the name of its input."""
    statement = task.script.statement(call)
    function, owner = task.script.function(call), task.script.enclosing(call, cst.ClassDef)
    if not isinstance(statement, cst.Return) or statement.value is not call or function is None:
        return ""
    if function.name.value != "forward" or owner in models.root_classes or len(function.params.params) != 2:
        return ""
    name = function.params.params[1].name.value
    inner = [c for c in task.script.find(cst.Call, call) if models.layer(c.func) is not None]
    only = inner[0] if len(inner) == 1 else None
    plain = only is not None and bool(only.args) and dotted(only.args[0].value) == name
    unchanged = sum(dotted(a.targets[0].target) == name for a in task.script.find(cst.Assign, function)) == 0
    if (
        only is not None
        and plain
        and unchanged
        and _keeps_width(task, models.layer(only.func))
        and feeds_activation(task, only)
    ):
        return name
    return ""


def _by_form(task: Task, models: Models, scale: str) -> None:
    """Where the text does not show the shapes: what a loop over layers makes of its own value, and equal blocks.

    Both can only be run in a row because each puts out what the next takes in.
    """
    for loop in task.script.find(cst.For):
        layer = dotted(loop.target)
        for assign in task.script.find(cst.Assign, loop.body):
            name = dotted(assign.targets[0].target)
            calls = (c for c in task.script.find(cst.Call, assign.value) if c.args and dotted(c.func) == layer)
            fed = next((c for c in calls if name and _reads(task, c.args[0].value, name)), None)
            if fed is not None and feeds_activation(task, fed) and _is_all(task, assign, fed):
                _add(task, assign.value, name, scale)
    for owner in models.classes:
        if not task.said and owner not in models.root_classes and _is_repeated(task, owner.name.value):
            _around_block(task, owner, scale)


def _reads(task: Task, node: cst.BaseExpression, name: str) -> bool:
    return any(read.value == name for read in task.script.find(cst.Name, node))


def _is_repeated(task: Task, name: str) -> bool:
    """Whether objects of a class are built in a comprehension, one after the other."""
    made = (c for c in task.script.find(cst.Call) if dotted(c.func) == name)
    return any(task.script.enclosing(c, cst.ListComp, cst.GeneratorExp) is not None for c in made)


def _around_block(task: Task, owner: cst.ClassDef, scale: str) -> None:
    """``return h`` in the forward of a block: its input is added, which must still be what it was given."""
    forward = next((f for f in task.script.find(cst.FunctionDef, owner) if f.name.value == "forward"), None)
    returns = list(task.script.find(cst.Return, forward)) if forward is not None else []
    if forward is None or len(returns) != 1 or len(forward.params.params) < 2:
        return
    name, value = forward.params.params[1].name.value, returns[0].value
    kept = all(dotted(a.targets[0].target) != name for a in task.script.find(cst.Assign, forward))
    if kept and isinstance(value, cst.Name | cst.Call) and dotted(value) != name:
        _add(task, value, name, scale)


def _recurrent(task: Task, models: Models, assign: cst.Assign) -> str:
    """``h = cell(x[t], h)`` and ``h = tanh(x[t] @ W + h @ U)`` in a loop over time: 6 over the number of its turns.

    The products may be layers: ``h = tanh(self.inp(x[t]) + self.rec(h))``.
    """
    name = dotted(assign.targets[0].target)
    turns = _turns(task, assign)
    if not name or not isinstance(assign.value, cst.Call):
        return ""
    layer = models.layer(assign.value.func)
    is_cell = layer is not None and task.names.short(layer.func) in _CELLS
    text = task.script.text(assign.value)
    layers = [c for c in task.script.find(cst.Call, assign.value) if c.args and dotted(c.func).startswith("self.")]
    through = any(dotted(c.args[0].value) == name for c in layers)
    squashed = {task.names.short(assign.value.func), method(assign.value)} & {"tanh", "relu"}
    is_own = bool(squashed) and ("@" in text or through)
    reads = any(node.value == name for node in task.script.find(cst.Name, assign.value))
    if turns is None or not reads or not (is_cell or is_own):
        return ""
    return f"6 / {task.script.atom(turns)}"


def _turns(task: Task, assign: cst.Assign) -> cst.BaseExpression | None:
    """How often the loop around a statement runs: the last argument of its range."""
    loop = next((f for f in task.script.loops(assign) if isinstance(f, cst.For)), None)
    counted = loop is not None and isinstance(loop.iter, cst.Call) and dotted(loop.iter.func) == "range"
    return loop.iter.args[-1].value if counted and loop is not None and isinstance(loop.iter, cst.Call) else None


def _carried(task: Task, assign: cst.Assign) -> str:
    """``h = new`` after ``new = tanh(... h ...)`` in a loop over time."""
    name, turns = dotted(assign.targets[0].target), _turns(task, assign)
    if turns is None or not name or not isinstance(assign.value, cst.Name):
        return ""
    for other in task.script.find(cst.Assign):
        made = dotted(other.targets[0].target) == assign.value.value and isinstance(other.value, cst.Call)
        same = task.script.block(other) is task.script.block(assign)
        is_tanh = "tanh" in (task.names.short(getattr(other.value, "func", None)), method(other.value))
        if made and same and is_tanh and any(n.value == name for n in task.script.find(cst.Name, other.value)):
            return f"6 / {task.script.atom(turns)}"
    return ""
