"""What a loss is fed: raw outputs, its mean, targets of the prediction's shape."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from steadygrad.rewrite.models import Models
from steadygrad.rewrite.names import argument, dotted, method, receiver
from steadygrad.rewrite.script import Refused
from steadygrad.rewrite.task import Task

_CLASSIFY = {"cross_entropy", "CrossEntropyLoss"}
_BINARY = {"binary_cross_entropy_with_logits", "BCEWithLogitsLoss"}
_LIKELIHOOD = {"nll_loss": "cross_entropy", "NLLLoss": "CrossEntropyLoss"}
_PLAIN_BINARY = {"binary_cross_entropy_with_logits": "binary_cross_entropy", "BCEWithLogitsLoss": "BCELoss"}
#: What the loss applies itself, or what takes from its input what it needs.
_SQUASHING = {"Softmax", "softmax", "Sigmoid", "sigmoid", "ReLU", "relu", "Tanh", "tanh"}
_HALF = re.compile(r"[<>]=?\s*0?\.5\b|\.round\(")


def loss_on_logits(task: Task) -> None:
    """Feed the loss raw outputs, or put the loss there that the outputs are made for."""
    compared = [call for value in _divergences(task) if (call := _softmax_behind(task, value)) is not None]
    for call in compared:
        _as_logarithm(task, call)
    if compared:
        return None
    losses = [(n, task.names.short(n)) for n in _mentions(task)]
    kinds = {name for _, name in losses}
    squashed = list(_squashed(task))
    if squashed and kinds & _BINARY and _is_read_as_probability(task) and _sigmoid_only(squashed):
        return _plain_binary(task, losses)
    if squashed and kinds & (_CLASSIFY | _BINARY):
        for node, name in squashed:
            _unwrap(task, node, name)
        return None
    shares = [call for call, name in squashed if name.lower() == "softmax"] or _only_softmax(task)
    if kinds & _LIKELIHOOD.keys() and shares:
        for call in shares:
            _as_logarithm(task, call)
        return None
    if kinds & _LIKELIHOOD.keys() and not list(task.names.calls("log_softmax", "LogSoftmax")):
        return _classify(task, losses)
    raise Refused("no activation before a loss that applies it itself was found")


def _mentions(task: Task) -> Iterator[cst.BaseExpression]:
    """Whole names, ``nn.functional.relu`` once, outside of imports."""
    inner = {id(part) for a in task.script.find(cst.Attribute) for part in (a.value, a.attr)}
    for node in task.script.nodes:
        if isinstance(node, cst.Name | cst.Attribute) and id(node) not in inner and not task.script.is_import(node):
            yield node


def _squashed(task: Task) -> Iterator[tuple[cst.Call, str]]:
    """Activations that make the model's output, or that are applied to it on the way to the loss."""
    models = Models(task.script, task.names, task.training)
    kept = _output_attributes(task, models)
    for call in task.script.find(cst.Call):
        name = task.names.short(call.func)
        if not name and method(call) in ("softmax", "sigmoid", "relu", "tanh") and not task.names.of(call.func):
            name = method(call)
        if dotted(call.func) in kept:
            if models.is_returned(call):
                yield call, kept[dotted(call.func)]
        elif name in _SQUASHING and (models.makes_output(call) or _feeds_loss(task, call)):
            yield call, name


def _output_attributes(task: Task, models: Models) -> dict[str, str]:
    """``self.softmax`` -> Softmax, for modules that are kept in an attribute."""
    found = {}
    for owner in models.root_classes:
        for assign in task.script.find(cst.Assign, owner):
            name = task.names.short(assign.value.func) if isinstance(assign.value, cst.Call) else ""
            if name in _SQUASHING:
                found[dotted(assign.targets[0].target)] = name
    return found


def _feeds_loss(task: Task, call: cst.Call) -> bool:
    """Directly the first argument of a loss, or the variable that is."""
    wanted = _CLASSIFY | _BINARY
    arg = task.script.parent(call)
    outer = task.script.parent(arg) if isinstance(arg, cst.Arg) else None
    if isinstance(outer, cst.Call) and outer.args[0] is arg:
        return _is_loss(task, outer, wanted)
    statement = task.script.statement(call)
    if isinstance(statement, cst.Assign) and statement.value is call:
        name, function = dotted(statement.targets[0].target), task.script.function(call)
        users = [c for c in task.script.find(cst.Call) if c.args and dotted(c.args[0].value) == name]
        return any(_is_loss(task, c, wanted) and task.script.function(c) is function for c in users)
    return False


def _is_loss(task: Task, call: cst.Call, wanted: set[str]) -> bool:
    """A loss function, or a variable that holds a loss module."""
    if task.names.short(call.func) in wanted:
        return True
    kept = (a.value for a in task.script.find(cst.Assign) if dotted(a.targets[0].target) == dotted(call.func))
    return any(isinstance(v, cst.Call) and task.names.short(v.func) in wanted for v in kept)


def _sigmoid_only(squashed: list[tuple[cst.Call, str]]) -> bool:
    return all(name.lower() == "sigmoid" for _, name in squashed)


def _is_read_as_probability(task: Task) -> bool:
    """``model(x) > 0.5``: the output is used as a probability elsewhere, so the loss is changed instead."""
    return bool(_HALF.search(task.script.source))


def _plain_binary(task: Task, losses: list[tuple[cst.BaseExpression, str]]) -> None:
    """The same loss for probabilities, since the outputs are used as such elsewhere."""
    for node, name in losses:
        if name in _PLAIN_BINARY:
            call = task.script.parent(node)
            if isinstance(call, cst.Call) and argument(call, "pos_weight") is not None:
                raise Refused("pos_weight has no place in a loss of probabilities", task.script.line(node))
            _rename(task, node, _PLAIN_BINARY[name])


def _divergences(task: Task) -> Iterator[cst.BaseExpression]:
    """What ``kl_div`` compares with its target: it wants logarithms."""
    made = {dotted(a.targets[0].target) for a in task.script.find(cst.Assign)
            if isinstance(a.value, cst.Call) and task.names.short(a.value.func) == "KLDivLoss"}  # fmt: skip
    for call in task.script.find(cst.Call):
        if (task.names.short(call.func) == "kl_div" or dotted(call.func) in made - {""}) and call.args:
            yield call.args[0].value


def _softmax_behind(task: Task, value: cst.BaseExpression) -> cst.Call | None:
    """The softmax that an expression is, or that the variable was given."""
    given = [value] if isinstance(value, cst.Call) else [
        a.value for a in task.script.find(cst.Assign) if dotted(a.targets[0].target) == dotted(value) != ""
    ]  # fmt: skip
    calls = (call for call in given if isinstance(call, cst.Call))
    return next((c for c in calls if "softmax" in (task.names.short(c.func).lower(), method(c))), None)


def _only_softmax(task: Task) -> list[cst.Call]:
    """The one softmax of a script, wherever it is built."""
    calls = task.script.find(cst.Call)
    found = [call for call in calls if "softmax" in (task.names.short(call.func).lower(), method(call))]
    return found if len(found) == 1 else []


def _as_logarithm(task: Task, call: cst.Call) -> None:
    """nll_loss wants the logarithms of what softmax gives."""
    made = [a.value for a in task.script.find(cst.Assign) if dotted(a.targets[0].target) == dotted(call.func) != ""]
    function = made[0].func if made and isinstance(made[0], cst.Call) else call.func  # kept in an attribute
    if task.names.short(function) in ("softmax", "Softmax"):
        _rename(task, function, "LogSoftmax" if task.names.short(function)[0].isupper() else "log_softmax")
    elif isinstance(function, cst.Attribute):
        task.script.replace(function.attr, "log_softmax")  # a method of a tensor
        task.say("softmax -> log_softmax", call)


def _classify(task: Task, losses: list[tuple[cst.BaseExpression, str]]) -> None:
    """nll_loss of raw outputs is meant to be cross_entropy."""
    for node, name in losses:
        if name in _LIKELIHOOD:
            _rename(task, node, _LIKELIHOOD[name])


def _rename(task: Task, node: cst.BaseExpression, new: str) -> None:
    base = dotted(node).rpartition(".")[0]
    where = "torch.nn.functional" if new[0].islower() else "torch.nn"
    task.say(f"{dotted(node)} -> {new}", node)
    task.script.replace(node, f"{base}.{new}" if base else task.names.spell(f"{where}.{new}"))


def _unwrap(task: Task, call: cst.Call, name: str) -> None:
    """Take an activation away: the last element of a Sequential, or the call around what it is applied to."""
    script = task.script
    if name[0].isupper() and task.names.short(call.func) == name:
        _drop_element(task, call)
    elif task.names.of(call.func) or dotted(call.func).startswith("self."):
        value = call.args[0].value
        script.replace(call, script.text(value) if not call.lpar else f"({script.text(value)})")
    else:
        start, end = script.span(receiver(call))[1] + len(receiver(call).rpar), script.span(call)[1]
        script.cut(start, end)
    task.say(f"{name} is left out: the loss applies it, or needs what it takes away", call)


def _drop_element(task: Task, call: cst.Call) -> None:
    arg = task.script.parent(call)
    outer = task.script.parent(arg) if isinstance(arg, cst.Arg) else None
    if not isinstance(outer, cst.Call) or len(outer.args) < 2:
        raise Refused("the activation is no element of a Sequential here", task.script.line(call))
    task.script.cut(task.script.span(outer.args[-2].value)[1], task.script.span(call)[1])


def mean_reduction(task: Task) -> None:
    """The mean in place of a sum over the batch."""
    found = False
    for call in task.script.find(cst.Call):
        given = argument(call, "reduction")
        if given is not None and isinstance(given.value, cst.SimpleString) and given.value.raw_value == "sum":
            task.script.replace(given.value, '"mean"')
            task.say('reduction="sum" -> "mean"', call)
            found = True
        averaged = argument(call, "size_average")
        if averaged is not None and dotted(averaged.value) == "False":
            task.script.replace(averaged.value, "True")
            task.say("size_average=False -> True", call)
            found = True
    if not found:
        raise Refused('no loss with reduction="sum" is written in this file')


def match_shapes(task: Task) -> None:
    """Give the target the prediction's shape where one axis of length 1 makes the difference."""
    paired = {"mse_loss", "MSELoss", "l1_loss", "L1Loss", "smooth_l1_loss", "SmoothL1Loss", "huber_loss", "HuberLoss"}
    method_ = _shape_method(task)
    found = False
    for call in task.script.find(cst.Call):
        target = argument(call, "target", 1)
        if target is not None and len(call.args) >= 2 and _is_loss(task, call, paired):
            if not _is_trained_on(task, call):
                continue
            task.script.replace(target.value, f"{task.script.atom(target.value)}.{method_}")
            task.say("the target is given the prediction's shape", call)
            found = True
    if not found:
        raise Refused("the loss that compares prediction and target was not found")


def _is_trained_on(task: Task, call: cst.Call) -> bool:
    """A call that the run has seen with shapes that differ, by its line where that is known."""
    lines = {int(str(f["site"]).rpartition(":")[2]) for f in _mismatched(task) if f.get("site")}
    return not lines or task.script.line(call) in lines


def _mismatched(task: Task) -> list[dict[str, object]]:
    shapes = [
        (dict(f), list(f.get("prediction_shape", [])), list(f.get("target_shape", []))) for f in task.hints.losses
    ]
    return [f for f, one, two in shapes if one and two and one != two]


def _shape_method(task: Task) -> str:
    """``unsqueeze(-1)`` or ``squeeze(-1)``, from the shapes that the run saw."""
    for fact in _mismatched(task):
        one, two = fact["prediction_shape"], fact["target_shape"]
        assert isinstance(one, list) and isinstance(two, list)
        if one == [*two, 1]:
            return "unsqueeze(-1)"
        if two == [*one, 1]:
            return "squeeze(-1)"
    raise Refused("the run saw no loss whose target lacks one axis of its prediction")
