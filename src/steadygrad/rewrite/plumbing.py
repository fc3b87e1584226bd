"""Gradients cleared once for each update."""

from __future__ import annotations

import libcst as cst

from steadygrad.rewrite.names import dotted, method, receiver
from steadygrad.rewrite.task import Task
from steadygrad.rewrite.training import Step


def zero_grad(task: Task) -> None:
    """Clear gradients once for each update."""
    if _uncalled(task):
        return None
    training = task.training
    if not training.optimizers and not training.steps and training.updates():
        return _zero_by_hand(task)
    steps = training.need_steps()
    for step in [step for step in steps if not _is_cleared(task, step)] or steps:
        _clear(task, step)
    return None


def _clears(task: Task, step: Step) -> list[cst.Call]:
    """Where a step's optimizer is cleared already."""
    calls = (call for call in task.script.find(cst.Call) if method(call) == "zero_grad")
    return [call for call in calls if task.script.text(receiver(call)) == step.optimizer]


def _is_cleared(task: Task, step: Step) -> bool:
    """Whether that stands beside the step: another optimizer's gradients are those that pile up."""
    here = task.script.block(task.script.statement(step.call))
    return any(task.script.block(task.script.statement(call)) is here for call in _clears(task, step))


def _uncalled(task: Task) -> bool:
    """``optimizer.zero_grad`` without parentheses does nothing."""
    found = [e for e in task.script.find(cst.Expr) if dotted(e.value).endswith(".zero_grad")]
    for expression in found:
        task.script.replace(expression.value, f"{task.script.text(expression.value)}()")
        task.say("zero_grad is called", expression)
    return bool(found)


def _clear(task: Task, step: Step) -> None:
    """Before the backward pass where each one is followed by a step, else after the step."""
    script, clear = task.script, f"{step.optimizer}.zero_grad()"
    backward = task.training.backward_of(step)
    together = script.block(script.statement(backward)) is script.block(script.statement(step.call))
    if step.closure or together:
        script.before(backward, clear)
        task.say("gradients are cleared before each backward pass", backward)
        around = [loop.body for loop in script.loops(step.call)[1:]]
        for call in _clears(task, step):  # once per epoch: moved here
            if script.block(script.statement(call)) in around:
                script.delete(call)
    else:
        script.after(step.call, clear)
        task.say("gradients are cleared after each step", step.call)


def _zero_by_hand(task: Task) -> None:
    for update in task.training.updates():
        owner = _owner(update)
        task.script.after(update, f"{owner}.grad.zero_()")
        task.say(f"the gradient of {owner} is cleared after its update", update)


def _owner(update: cst.CSTNode) -> str:
    stack: list[cst.CSTNode] = [update]
    while stack:
        node = stack.pop(0)
        if isinstance(node, cst.Attribute) and node.attr.value == "grad":
            return dotted(node.value)
        stack += node.children
    raise AssertionError("an update reads a gradient")
