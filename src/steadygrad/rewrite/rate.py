"""The learning rate: another number, or a rule that adapts it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import libcst as cst

from steadygrad.rewrite.constants import number
from steadygrad.rewrite.names import argument, dotted
from steadygrad.rewrite.script import Refused
from steadygrad.rewrite.task import Task, write
from steadygrad.rewrite.training import Built
from steadygrad.values import Rate

#: torch's default rate by class, where it is not 1e-3.
_DEFAULTS = {"RMSprop": 0.01, "Adagrad": 0.01, "ASGD": 0.01, "Rprop": 0.01, "LBFGS": 1.0, "Adadelta": 1.0,
             "Adamax": 0.002, "NAdam": 0.002, "Muon": 1e-3, "Adafactor": 0.01}  # fmt: skip
#: Position of ``lr`` after the parameters.
_LR = 1
#: Schedulers that write a rate of their own over the optimizer's, and the arguments that hold it.
_OWN_RATES = {"OneCycleLR": ("max_lr",), "CyclicLR": ("base_lr", "max_lr")}
_ADAPTIVE = ("Adam", "AdamW", "NAdam", "RAdam", "Adamax")


def lower_lr(task: Task) -> None:
    """A smaller learning rate."""
    _other_rate(task, task.rate("/10"))


def raise_lr(task: Task) -> None:
    """A larger learning rate."""
    _other_rate(task, task.rate("x10"))


def _other_rate(task: Task, wanted: Rate) -> None:
    if not task.training.optimizers and task.training.updates():
        return _by_hand(task, wanted)
    for i, built in enumerate(task.training.need_optimizers()):
        if not _has_own_peak(task, built):
            _scale_built(task, built, wanted, _base(task, built, i))
    return _scale_schedules(task, wanted)


def _has_own_peak(task: Task, built: Built) -> bool:
    """Whether a schedule writes its own rates over the optimizer's."""
    schedules = task.names.calls(*_OWN_RATES)
    return any(bool(call.args) and bool(built.name) and dotted(call.args[0].value) == built.name for call in schedules)


def _base(task: Task, built: Built, index: int) -> float | None:
    """The rate of an optimizer's first group, as the run saw it or as it is written; not that of a warm-up's start."""
    hyper = task.hints.optimizers[index].hyper if index < len(task.hints.optimizers) else {}
    known = hyper.get("initial_lr", hyper.get("lr"))
    if isinstance(known, int | float) and task.hints.optimizers[index].type == built.type:
        return float(known)
    given = next((arg.value for arg in [*group_settings(built, "lr"), argument(built.call, "lr", _LR)] if arg), None)
    if given is None:
        return _DEFAULTS.get(built.type, 1e-3)
    constant = task.constants.find(given)
    return number(constant.node) if constant is not None else None


def group_settings(built: Built, name: str) -> list[cst.DictElement]:
    """Entries of the parameter groups that are written out in an optimizer's first argument."""
    groups = built.call.args[0].value if built.call.args else None
    elements = groups.elements if isinstance(groups, cst.List | cst.Tuple) else ()
    return [
        entry
        for element in elements
        for entry in (element.value.elements if isinstance(element.value, cst.Dict) else ())
        if isinstance(entry, cst.DictElement)
        and isinstance(entry.key, cst.SimpleString)
        and entry.key.evaluated_value == name
    ]


def scaled(task: Task, node: cst.BaseExpression, wanted: Rate, base: float | None, what: str) -> None:
    """Multiply a number, or the expression that gives it."""
    if wanted.relative:
        shown = f"{task.script.factor(node)} / {1 / wanted.value:g}" if wanted.value < 1 else ""
        otherwise = shown or f"{task.script.factor(node)} * {wanted.value:g}"
    else:
        otherwise = write(wanted.value)
    if isinstance(node, cst.Name) and _is_in_schedule(task, node.value):
        task.say(f"{what}: {node.value} -> {otherwise}", node)
        task.script.replace(node, otherwise)
        return
    task.change(node, lambda old: _new(wanted, old, base), otherwise, what)


def _is_in_schedule(task: Task, name: str) -> bool:
    """Whether a constant also stands in the function of a schedule, by which the rate is multiplied."""
    shapes = [given.value for call in task.names.calls("LambdaLR", "MultiplicativeLR")
              if (given := argument(call, "lr_lambda", 1)) is not None]  # fmt: skip
    called = {dotted(shape) for shape in shapes if dotted(shape)}
    functions = [f for f in task.script.find(cst.FunctionDef) if f.name.value in called]
    return any(read.value == name for body in (*shapes, *functions) for read in task.script.find(cst.Name, body))


def _new(wanted: Rate, old: float, base: float | None) -> float:
    """What becomes of a rate, where the first one of the script is ``base``: the others keep their relation to it."""
    if not wanted.relative and (not base or old == base):
        return wanted.value
    return _tidy(old * wanted.factor(base or 0.0))


def _tidy(value: float) -> float:
    """A third of 0.05 as a person writes it: 0.017."""
    return value if f"{value:.4g}" == f"{value:.8g}" else float(f"{value:.2g}")


def _scale_built(task: Task, built: Built, wanted: Rate, base: float | None) -> None:
    given = argument(built.call, "lr", _LR)
    for entry in group_settings(built, "lr"):
        scaled(task, entry.value, wanted, base, "learning rate of a group")
    if given is not None:
        scaled(task, given.value, wanted, base, "learning rate")
    elif not any(arg.star == "**" for arg in built.call.args):
        old = _DEFAULTS.get(built.type, 1e-3)
        add_keyword(task, built.call, "lr", write(_new(wanted, old, base)))
    else:
        raise Refused("the rate is among keyword arguments given as a dictionary", task.script.line(built.call))


def add_keyword(task: Task, call: cst.Call, name: str, text: str) -> None:
    """Append a keyword argument to a call."""
    task.say(f"{name}={text} is given", call)
    last = call.args[-1] if call.args else None
    end = task.script.span(last)[1] if last is not None else task.script.span(call)[1] - 1
    task.script.cut(end, end, f"{', ' if last is not None else ''}{name}={text}")


def _scale_schedules(task: Task, wanted: Rate) -> None:
    """Rates that a schedule of the script's own writes over the optimizer's."""
    for call in task.names.calls(*_OWN_RATES):
        for name in _OWN_RATES[task.names.short(call.func)]:
            given = argument(call, name)
            if given is not None:
                scaled(task, given.value, wanted, None, name)
    for assign in task.training.hand_set_rates():
        _scale_hand_set(task, assign, wanted)


def _scale_hand_set(task: Task, assign: cst.Assign, wanted: Rate) -> None:
    """``group["lr"] = peak * f(step)`` follows ``peak``, if that was changed for the optimizer."""
    read = list(task.script.find(cst.Name, assign.value))
    held = [n for b in task.training.optimizers if (n := argument(b.call, "lr", _LR)) is not None]
    if any(dotted(n.value) == name.value for n in held for name in read):
        return
    if task.constants.find(assign.value) is not None or wanted.relative:
        scaled(task, assign.value, wanted, None, "learning rate set by hand")
        return
    raise Refused("the rate is set by hand here, from other numbers than the optimizer's", task.script.line(assign))


def _by_hand(task: Task, wanted: Rate) -> None:
    """``w -= lr * w.grad``: the factor beside the gradient."""
    rates = [rate for update in task.training.updates() for rate in _rates(update)]
    if not rates:
        raise Refused("the script updates its weights itself, by no rate that could be found",
                      task.script.line(task.training.updates()[0]))  # fmt: skip
    for rate in rates:
        scaled(task, rate, wanted, None, "learning rate")


def _rates(update: cst.CSTNode) -> Iterator[cst.BaseExpression]:
    """What a gradient is multiplied by in an update."""
    stack = [update]
    while stack:
        node = stack.pop()
        if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Multiply):
            sides = (node.left, node.right), (node.right, node.left)
            for side, other in sides:
                if isinstance(other, cst.Attribute) and other.attr.value == "grad" and _plain(side):
                    yield side.expression if isinstance(side, cst.UnaryOperation) else side
        if isinstance(node, cst.Arg) and node.keyword is not None and node.keyword.value == "alpha":
            yield node.value.expression if isinstance(node.value, cst.UnaryOperation) else node.value
        stack += node.children


def _plain(node: cst.BaseExpression) -> bool:
    return isinstance(node, cst.Name | cst.Attribute | cst.Float | cst.Integer | cst.UnaryOperation | cst.Subscript)


def line_search(task: Task) -> None:
    """``line_search_fn="strong_wolfe"`` for LBFGS."""
    searching = [built for built in task.training.need_optimizers() if built.type == "LBFGS"]
    if not searching:
        raise Refused("no LBFGS is built in this file")
    for built in searching:
        given = argument(built.call, "line_search_fn", 7)
        if given is None:
            add_keyword(task, built.call, "line_search_fn", '"strong_wolfe"')
        elif task.script.text(given.value) == "None":
            task.script.replace(given.value, '"strong_wolfe"')
            task.say("LBFGS searches for the length of its step", built.call)


# -- another rule -----------------------------------------------------------------------------------------------


def adaptive_optimizer(task: Task) -> None:
    """Adam in place of plain gradient descent; what Adam does not take is left out."""
    lr = task.positive(1e-3)
    for built in task.training.need_optimizers():
        if built.type in _ADAPTIVE:
            raise Refused(f"{built.type} is adaptive already", task.script.line(built.call))
        if any(step.closure for step in task.training.steps):
            raise Refused("the step is given a closure, which Adam would call once", task.script.line(built.call))
        _as_adam(task, built, lr)
    for call in task.names.calls(*_OWN_RATES):
        raise Refused("the schedule holds a rate of its own: give it one for Adam", task.script.line(call))


def _as_adam(task: Task, built: Built, lr: float) -> None:
    call, script = built.call, task.script
    if any(arg.star for arg in call.args) or group_settings(built, "lr"):
        raise Refused("its settings are not written out here", script.line(call))
    kept = [script.text(call.args[0]), f"lr={write(lr)}"]
    decay = argument(call, "weight_decay")
    kept += [script.text(decay)] if decay is not None else []
    name = task.names.spell("torch.optim.Adam")
    task.say(f"{built.type} -> Adam with a rate of {write(lr)}", call)
    if script.line(call) == script.last_line(call):
        script.replace(call, f"{name}({', '.join(kept)})")
        return
    script.replace(call.func, name)
    _rewrite_arguments(task, call, kept)


def _rewrite_arguments(task: Task, call: cst.Call, kept: list[str]) -> None:
    """A call over several lines keeps its first argument as it is written."""
    start, end = task.script.span(call.args[0])[1], task.script.span(call)[1] - 1
    tail = task.script.source[start:end]
    closing = tail[len(tail.rstrip()) :]
    separator = ", " if math.isclose(len(closing), 0) else "," + (closing + task.script.indent)
    task.script.cut(start, end, "".join(f"{separator}{text}" for text in kept[1:]) + ("," if closing else "") + closing)
