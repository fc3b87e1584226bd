"""LSUV, which needs a batch: written before the loop, with data that can be told from the text to be the model's."""

from __future__ import annotations

import libcst as cst

from steadygrad.rewrite.models import Models
from steadygrad.rewrite.names import dotted
from steadygrad.rewrite.script import Refused
from steadygrad.rewrite.task import Task

#: Rows that are enough to measure a scale.
_ROWS = 256


def reinit_lsuv(task: Task) -> None:
    """``init.lsuv_(model, batch)`` right before the training loop."""
    if task.spec.place:
        raise Refused("LSUV scales all layers, in the order in which they run")
    models = Models(task.script, task.names, task.training)
    for call in task.script.find(cst.Call):
        loops = task.script.loops(call)
        if dotted(call.func) in models.roots and len(call.args) == 1 and loops and _is_trained(task, loops[0]):
            batch = _batch(task, call.args[0].value, loops)
            if batch:
                lsuv = task.names.spell("steadygrad.init.lsuv_", "from steadygrad import init")
                task.script.before(loops[-1], f"{lsuv}({dotted(call.func)}, {batch})")
                task.say("every layer's output is scaled to variance 1 on a first batch", loops[-1])
                return
    raise Refused("it needs a batch before the loop: call steadygrad.init.lsuv_(model, batch) there")


def _is_trained(task: Task, loop: cst.For | cst.While) -> bool:
    return any(loop in task.script.loops(backward) for backward in task.training.backwards)


def _batch(task: Task, value: cst.BaseExpression, loops: list[cst.For | cst.While]) -> str:
    """A batch as it can be written before the loop: rows of the data, or the loader's first."""
    made_inside = {name for loop in loops for name in _bound(task, loop)}
    if isinstance(value, cst.Subscript) and dotted(value.value) and dotted(value.value) not in made_inside:
        return f"{dotted(value.value)}[:{_ROWS}]"
    name = dotted(value)
    if name and name not in made_inside:
        return name
    for loop in loops:
        source = loop.iter if isinstance(loop, cst.For) and name in _names(loop.target) else None
        if isinstance(source, cst.Call) and dotted(source.func) == "enumerate" and source.args:
            source = source.args[0].value
        if isinstance(source, cst.Name) and source.value not in made_inside:
            return f"next(iter({source.value}))"
    return ""


def _bound(task: Task, loop: cst.For | cst.While) -> set[str]:
    """Names that get their value inside a loop."""
    found = _names(loop.target) if isinstance(loop, cst.For) else set()
    for assign in task.script.find(cst.Assign, loop):
        found |= {name for target in assign.targets for name in _names(target.target)}
    return found


def _names(target: cst.BaseExpression) -> set[str]:
    if isinstance(target, cst.Tuple | cst.List):
        return {name for element in target.elements for name in _names(element.value)}
    return {dotted(target)} - {""}
