"""Standardising what the model is fed, by statistics of the training data."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import libcst as cst

from steadygrad.rewrite.models import Models
from steadygrad.rewrite.names import dotted, method, receiver
from steadygrad.rewrite.script import Refused, is_docstring
from steadygrad.rewrite.task import Task, write

#: Calls whose result has the axes of what they are applied to.
_KEEPS = ("unsqueeze", "float", "to", "transpose", "permute", "contiguous", "double", "cuda")


def standardize_input(task: Task) -> None:
    """Mean 0 and spread 1: right after the tensor is made, or in front of the model with the run's own numbers."""
    models = Models(task.script, task.names, task.training)
    if task.one_of("feature", "sample") == "sample":
        return _put_in_front(task, models, _by_itself, "of each sequence by itself")
    tensors = list(dict.fromkeys(_fed(task, models)))
    made = [(name, place) for name in tensors if (place := _made(task, name)) is not None]
    if made:
        return _after_creation(task, made)
    return _in_front(task, models)


# -- a tensor that holds the data -------------------------------------------------------------------------------


def _fed(task: Task, models: Models) -> Iterator[str]:
    """Variables that hold data the model is called with: directly, by index, or through a loader."""
    for call in _model_calls(task, models):
        if call.args:
            yield from _sources(task, call.args[0].value, call)
    for call in task.script.find(cst.Call):
        if dotted(call.func).rpartition(".")[2] == "TensorDataset" and call.args:
            yield dotted(call.args[0].value)


def _model_calls(task: Task, models: Models) -> Iterator[cst.Call]:
    """Calls of the model, those of a function's parameter that stands for it included."""
    names = {*models.roots, "model", "net"}
    for call in task.script.find(cst.Call):
        if dotted(call.func) in names and task.script.enclosing(call, cst.ClassDef) is None:
            yield call


def _sources(task: Task, node: cst.BaseExpression, call: cst.Call) -> Iterator[str]:
    """``X`` of ``model(X[idx])``, and of ``x = torch.stack([X[i:j] for ...]).unsqueeze(-1)`` before ``model(x)``."""
    if isinstance(node, cst.Subscript):
        yield dotted(node.value)
    elif isinstance(node, cst.Call) and method(node) in _KEEPS and not task.names.of(node.func):
        yield from _sources(task, receiver(node), call)
    elif isinstance(node, cst.Call) and task.names.short(node.func) == "stack" and node.args:
        listed = node.args[0].value
        if isinstance(listed, cst.ListComp) and isinstance(listed.elt, cst.Subscript):
            yield dotted(listed.elt.value)
    elif isinstance(node, cst.Name):
        yield node.value
        yield from _through_variable(task, node, call)


def _through_variable(task: Task, node: cst.Name, call: cst.Call) -> Iterator[str]:
    """The data behind a batch: the value assigned in the same loop."""
    function = task.script.function(call)
    for assign in task.script.find(cst.Assign):
        for target, value in _pairs(assign):
            mine = dotted(target) == node.value and not isinstance(value, cst.Name)
            if mine and task.script.function(assign) is function and task.script.loops(assign):
                yield from _sources(task, value, call)


def _pairs(assign: cst.Assign) -> Iterator[tuple[cst.BaseExpression, cst.BaseExpression]]:
    target, value = assign.targets[0].target, assign.value
    if isinstance(target, cst.Tuple) and isinstance(value, cst.Tuple) and len(target.elements) == len(value.elements):
        yield from ((t.value, v.value) for t, v in zip(target.elements, value.elements, strict=True))
    else:
        yield target, value


def _made(task: Task, name: str) -> cst.CSTNode | None:
    """The last statement outside of any loop that makes the tensor."""
    found = []
    for assign in task.script.find(cst.Assign):
        values = [v for t, v in _pairs(assign) if dotted(t) == name]
        if values and name and not task.script.loops(assign) and _is_data(task, values[0]):
            found.append(assign)
    functions = {task.script.function(a) for a in found}
    return found[-1] if found and len(functions) == 1 else None


def _is_data(task: Task, value: cst.BaseExpression) -> bool:
    """Whether a value is a tensor of data rather than a model or a list."""
    text = task.script.text(value)
    makes = ("tensor(", "from_numpy(", "rand", "linspace(", ".float()", "stack(", "cat(", "FloatTensor(")
    return any(part in text for part in makes) or isinstance(value, cst.Name | cst.BinaryOperation)


def _after_creation(task: Task, made: list[tuple[str, cst.CSTNode]]) -> None:
    """The first one, which the training is fed with, gives the statistics; the others are treated alike."""
    first, place = made[0]
    axes = "0" if _by_feature(task) else ""
    tiny = ".clamp_min(1e-6)"
    others = [(name, where) for name, where in made[1:] if name != first and _is_split(first, name)]
    if not others:
        task.script.after(place, f"{first} = ({first} - {first}.mean({axes})) / {first}.std({axes}){tiny}")
        task.say(f"{first} is standardised", place)
        return
    mean, std = task.names.fresh("mean"), task.names.fresh("std")
    last = max([place, *(where for _, where in others)], key=task.script.line)
    names = [first, *(name for name, _ in others)]
    lines = [f"{mean}, {std} = {first}.mean({axes}), {first}.std({axes}){tiny}"]
    task.script.after(last, *lines, *(f"{name} = ({name} - {mean}) / {std}" for name in names))
    task.say(f"{', '.join(names)} are standardised by the statistics of {first}", last)


def _is_split(first: str, other: str) -> bool:
    """``x_test`` beside ``x_train``: the same data in parts."""
    return first[:1].lower() == other[:1].lower()


def _by_feature(task: Task) -> bool:
    """Tables are standardised by feature; images and series as a whole."""
    kinds = [site.kind for site in task.hints.sites if site.kind in ("linear", "conv", "recurrent")]
    if kinds:
        return kinds[0] == "linear"
    words = ("Conv", "GRU(", "LSTM(", "RNN(")
    return not any(word in task.script.source for word in words)


# -- in front of the model ----------------------------------------------------------------------------------------


def _in_front(task: Task, models: Models) -> None:
    """With the mean and the spread that the run has measured, where one pair of numbers will do."""
    mean, std = task.hints.batch.get("input_mean"), task.hints.batch.get("input_std")
    if mean is None or not std or _by_feature(task):
        raise Refused("the tensor that holds the data was not found: standardise what the model is fed")
    numbers = f"- {write(float(f'{mean:.3g}'))}) / {write(float(f'{std:.3g}'))}"
    _put_in_front(task, models, lambda x: f"({x} {numbers}", "of this run")


def _by_itself(x: str) -> str:
    return f"({x} - {x}.mean(1, keepdim=True)) / ({x}.std(1, keepdim=True) + 1e-6)"


def _put_in_front(task: Task, models: Models, standardised: Callable[[str], str], whose: str) -> None:
    """At the beginning of the model's forward, or where it is called."""
    for owner in models.root_classes:
        forward = next((f for f in task.script.find(cst.FunctionDef, owner) if f.name.value == "forward"), None)
        if forward is not None and len(forward.params.params) > 1 and models.classes:
            name = forward.params.params[1].name.value
            first = _first_statement(forward)
            task.script.before(first, f"{name} = {standardised(name)}")
            task.say(f"{name} is standardised with the mean and spread {whose}", first)
            return
    calls = [c for c in _model_calls(task, models) if c.args]
    if not calls:
        raise Refused("the calls of the model were not found")
    for call in calls:
        value = call.args[0].value
        task.script.replace(value, standardised(task.script.atom(value)))
        task.say(f"the input is standardised with the mean and spread {whose}", call)


def _first_statement(function: cst.FunctionDef) -> cst.CSTNode:
    """The first statement after the docstring."""
    rows = [row for row in function.body.body if isinstance(row, cst.BaseStatement)]
    first = rows[0]
    if isinstance(first, cst.SimpleStatementLine) and is_docstring(first) and len(rows) > 1:
        first = rows[1]
    return first.body[0] if isinstance(first, cst.SimpleStatementLine) else first
