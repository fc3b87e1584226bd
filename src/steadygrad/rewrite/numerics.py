"""Numbers that break: half precision, and operations at the edge of their domain."""

from __future__ import annotations

import re
from collections.abc import Callable

import libcst as cst

from steadygrad.rewrite.constants import number
from steadygrad.rewrite.hints import split_place
from steadygrad.rewrite.names import argument, dotted, method, receiver
from steadygrad.rewrite.script import Refused
from steadygrad.rewrite.task import Task

_HALF = {"torch.float16", "torch.half", "torch.bfloat16"}
#: Settings of trainers that ask for half precision, and what to write instead.
_TRAINERS = {"mixed_precision": '"no"', "fp16": "False", "bf16": "False", "precision": "32"}
_AUTOCAST = ("torch.autocast", "torch.amp.autocast", "torch.cuda.amp.autocast", "torch.cpu.amp.autocast")


def full_precision(task: Task) -> None:
    """No autocast, and float32 wherever half precision is asked for."""
    script = task.script
    for call in script.find(cst.Call):
        if task.names.of(call.func) in _AUTOCAST or task.names.of(call.func).endswith("autocast_mode.autocast"):
            _disable(task, call)
        elif method(call) in ("half", "bfloat16") and not call.args and not task.names.of(call.func):
            assert isinstance(call.func, cst.Attribute)
            script.replace(call.func.attr, "float")
            task.say(f"{method(call)}() -> float()", call)
        else:
            _trainer(task, call)
    inside = {id(inner) for call in script.find(cst.Call) for inner in _disabled(task, call)}
    for node in script.find(cst.Attribute):
        if task.names.of(node) in _HALF and id(node) not in inside:
            script.replace(node.attr, "float32")
            task.say(f"{dotted(node)} -> float32", node)
    if not task.said:
        raise Refused("no half precision is asked for in this file")


def _disabled(task: Task, call: cst.Call) -> list[cst.CSTNode]:
    """What stands in an autocast's parentheses: its dtype no longer matters."""
    names = task.names.of(call.func)
    return list(task.script.find(cst.Attribute, call)) if names in _AUTOCAST else []


def _disable(task: Task, call: cst.Call) -> None:
    enabled = argument(call, "enabled")
    if enabled is not None:
        task.script.replace(enabled.value, "False")
    else:
        last = call.args[-1] if call.args else None
        end = task.script.span(last.value)[1] if last is not None else task.script.span(call)[1] - 1
        task.script.cut(end, end, f"{', ' if last is not None else ''}enabled=False")
    task.say("autocast is off", call)


def _trainer(task: Task, call: cst.Call) -> None:
    if dotted(call.func).rpartition(".")[2] not in ("Accelerator", "TrainingArguments", "Trainer", "Fabric"):
        return
    for name, off in _TRAINERS.items():
        given = argument(call, name)
        if given is not None and task.script.text(given.value) not in (off, "32", "None"):
            task.say(f"{name}={task.script.text(given.value)} -> {off}", call)
            task.script.replace(given.value, off)


# -- operations at the edge of their domain -------------------------------------------------------------------------

_EPS = "1e-7"
Guard = Callable[[Task, cst.BaseExpression], None]


def _with(code: str) -> Guard:
    return lambda task, x: task.script.around(x, "", code)


def _norm(task: Task, x: cst.BaseExpression) -> None:
    """Inside the parentheses that are there, or in new ones."""
    start, end = task.script.span(x)
    if not x.lpar:
        task.script.cut(start, start, "(")
    task.script.cut(end, end, f" + {_EPS}" if x.lpar else f" + {_EPS})")


_POSITIVE = _with(f".clamp_min({_EPS})")
#: Functions and methods of tensors, and how the value they are applied to is kept inside their domain.
_GUARDS: dict[str, Guard] = {
    **dict.fromkeys(("log", "log2", "log10", "rsqrt"), _POSITIVE),
    "log1p": _with(f".clamp_min(-1 + {_EPS})"),
    "sqrt": _with(".clamp_min(1e-12)"),
    **dict.fromkeys(("acos", "asin", "atanh"), _with(f".clamp(-1 + {_EPS}, 1 - {_EPS})")),
    "logit": _with(f".clamp({_EPS}, 1 - {_EPS})"),
    **dict.fromkeys(("exp", "expm1"), _with(".clamp(max=80.0)")),
    **dict.fromkeys(("sinh", "cosh"), _with(".clamp(-80.0, 80.0)")),
    **dict.fromkeys(("softmax", "log_softmax"), _with(".clamp_min(-1e9)")),
    **dict.fromkeys(("norm", "vector_norm"), _norm),
}
#: What is guarded in other lines too, where one of them failed and no line is asked for.
_NEIGHBOURS = ("log", "log2", "log10", "sqrt", "rsqrt", "exp")
#: Divisors that are never negative, by how they are written.
_NEVER_NEGATIVE = re.compile(
    r"norm|std|var\b|abs|exp|sqrt|sum|dist|len|count|total|denom|max|scale|square", re.IGNORECASE
)
#: Operations as autograd names them, and what they are written as.
_WRITTEN = {"div": "/", "reciprocal": "/", "true_divide": "/", "pow": "**", "linalg_vector_norm": "norm",
            "_softmax": "softmax", "_log_softmax": "log_softmax", "special_logit": "logit"}  # fmt: skip


def guard_operation(task: Task) -> None:
    """Keep an operation inside its domain where it failed, and its neighbours where no line is asked for."""
    task.one_of("clamp", "float64")
    line = task.place_line or _origin_line(task)
    if not line:
        raise Refused("the line of the operation is not known")
    operation = _operation(task)
    _guard_calls(task, line, operation)
    _guard_operators(task, line, operation)
    if not task.spec.place:
        _guard_neighbours(task, line, operation)
    if not task.said:
        raise Refused("no operation that could leave its domain was found there", line)


def _origin_line(task: Task) -> int:
    name, line = split_place(str(task.hints.origin.get("source", "")))
    return line if name == task.path.replace("\\", "/").rpartition("/")[2] else 0


def _operation(task: Task) -> str:
    """The failed operation as it is written; empty where the run does not know."""
    name = str(task.hints.origin.get("op", "")).removesuffix("_backward_data").removesuffix("_backward").rstrip("_")
    return _WRITTEN.get(name, name)


def _guard_calls(task: Task, line: int, operation: str) -> None:
    if operation in ("/", "**"):
        return
    names = [name for name in _GUARDS if name == operation] or list(_GUARDS)
    for call in task.script.find(cst.Call):
        if _covers(task, call, line) and _called(task, call) in names:
            _guard_call(task, call)


def _called(task: Task, call: cst.Call) -> str:
    """The function of torch's or the method that is called; not what belongs to other libraries."""
    return task.names.short(call.func) or (method(call) if not task.names.of(call.func) else "")


def _guard_call(task: Task, call: cst.Call) -> None:
    name = _called(task, call)
    x = call.args[0].value if task.names.short(call.func) and call.args else receiver(call)
    if task.spec.value != "float64":
        _GUARDS[name](task, x)
        task.say(f"{name} is kept inside its domain", call)
    elif task.script.enclosing(call, cst.ClassDef) is None:
        task.script.around(x, "", ".double()")
        task.say(f"{name} is computed in float64", call)
    else:
        raise Refused("float64 in a module would meet its float32 weights", task.script.line(call))


def _guard_neighbours(task: Task, line: int, operation: str) -> None:
    """An operation at the edge of its domain has neighbours that are next to leave theirs."""
    for call in task.script.find(cst.Call):
        done = _covers(task, call, line) and operation in ("", _called(task, call))
        if _called(task, call) in _NEIGHBOURS and not done and _is_trained(task, call):
            x = call.args[0].value if task.names.short(call.func) and call.args else receiver(call)
            if number(x) is None and "clamp" not in task.script.text(x):
                _guard_call(task, call)


def _is_trained(task: Task, call: cst.Call) -> bool:
    """In a module's forward or in a loop with a backward pass, rather than where data are made."""
    function = task.script.function(call)
    if task.script.enclosing(call, cst.ClassDef) is not None:
        return function is not None and function.name.value not in ("__init__", "__getitem__")
    return any(loop in task.script.loops(b) for b in task.training.backwards for loop in task.script.loops(call))


def _covers(task: Task, node: cst.CSTNode, line: int) -> bool:
    return task.script.line(node) <= line <= task.script.last_line(node) and not isinstance(
        task.script.statement(node), cst.BaseCompoundStatement
    )


def _guard_operators(task: Task, line: int, operation: str) -> None:
    for node in task.script.find(cst.BinaryOperation) if task.spec.value != "float64" else ():
        if not _covers(task, node, line):
            continue
        if isinstance(node.operator, cst.Divide) and operation in ("/", "") and number(node.right) is None:
            _guard_divisor(task, node.right)
        elif isinstance(node.operator, cst.Power) and operation in ("**", "") and not _is_whole(node.right):
            task.script.around(node.left, "", f".clamp_min({_EPS})")
            task.say("the base of the power is kept positive", node)


def _guard_divisor(task: Task, divisor: cst.BaseExpression) -> None:
    text = task.script.text(divisor)
    if isinstance(divisor, cst.Call) and dotted(divisor.func) in ("len", "int", "float", "math.sqrt", "max", "min"):
        return
    if _NEVER_NEGATIVE.search(text):
        task.script.around(divisor, "", f".clamp_min({_EPS})")
    else:
        where = task.names.spell("torch.where")
        task.script.around(divisor, f"{where}({task.script.atom(divisor)}.abs() < {_EPS}, {_EPS}, ", ")")
    task.say("the divisor is kept away from zero", divisor)


def _is_whole(exponent: cst.BaseExpression) -> bool:
    value = number(exponent)
    return value is not None and value > 0 and value == int(value)
