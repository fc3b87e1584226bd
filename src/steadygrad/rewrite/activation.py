"""Exchanging activations, as modules, functions, methods, or handed over by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import libcst as cst

from steadygrad.rewrite.models import Models
from steadygrad.rewrite.names import dotted, method, receiver
from steadygrad.rewrite.script import Refused
from steadygrad.rewrite.task import Task

#: name -> (class, function)
WAYS = {
    "relu": ("torch.nn.ReLU", "torch.relu"),
    "leaky_relu": ("torch.nn.LeakyReLU", "torch.nn.functional.leaky_relu"),
    "elu": ("torch.nn.ELU", "torch.nn.functional.elu"),
    "gelu": ("torch.nn.GELU", "torch.nn.functional.gelu"),
    "silu": ("torch.nn.SiLU", "torch.nn.functional.silu"),
    "tanh": ("torch.nn.Tanh", "torch.tanh"),
    "softplus": ("torch.nn.Softplus", "torch.nn.functional.softplus"),
    "identity": ("torch.nn.Identity", ""),
}
#: What makes outputs, rather than what lies between layers.
_AT_OUTPUT = ("softplus", "identity")
_MODULES = {"Sigmoid": "sigmoid", "Tanh": "tanh", "Softsign": "softsign", "Hardsigmoid": "hardsigmoid",
            "ReLU": "relu", "ReLU6": "relu6"}  # fmt: skip
_FUNCTIONS = ("sigmoid", "tanh", "softsign", "hardsigmoid", "relu", "relu_", "relu6")
_FLAT = ("sigmoid", "tanh", "softsign", "hardsigmoid")
_ONE_SIDED = ("relu", "relu6")
#: Functions that are methods of tensors too.
_METHODS = ("relu", "tanh", "sigmoid")


def swap_activation(task: Task) -> None:
    """Another activation in the hidden layers, or at one line."""
    new = task.one_of(*WAYS)
    old = _ONE_SIDED if new == "leaky_relu" else (*_FLAT, *_ONE_SIDED)
    models = Models(task.script, task.names, task.training)
    line = task.place_line
    place = "" if line else task.spec.place
    found = False
    for node, name in list(_occurrences(task)):
        wanted = name in old and name != new and (not line or task.script.line(node) == line)
        kept = bool(place) and ":" not in place and place not in _FUNCTIONS  # in an attribute or a list: it is named
        right_end = line or kept or models.is_output(node) == (new in _AT_OUTPUT)
        if wanted and right_end and (not place or _is_at(task, node, place)):
            _swap(task, node, name, new)
            found = True
    if not found:
        raise Refused(
            "no such activation was found in the hidden layers" + (f" at {task.spec.place}" if line or place else "")
        )


def _occurrences(task: Task) -> Iterator[tuple[cst.BaseExpression, str]]:
    """Every use of an activation: a call that builds or applies it, or its bare name handed to something."""
    called = {id(call.func) for call in task.script.find(cst.Call)}
    inner = {id(a.value) for a in task.script.find(cst.Attribute)}
    for node in task.script.nodes:
        if isinstance(node, cst.Call):
            name = applied(task, node)
            if name:
                yield node, name
        elif isinstance(node, cst.Name | cst.Attribute) and id(node) not in called and id(node) not in inner:
            name = name_of(task, node)
            if name and not task.script.is_import(node):
                yield node, name


def applied(task: Task, call: cst.Call) -> str:
    """The activation that a call builds or applies, else empty."""
    name = name_of(task, call.func)
    if name:
        return name
    plain = method(call) in _METHODS and not call.args and not task.names.of(call.func)
    return method(call) if plain else ""


def name_of(task: Task, node: cst.CSTNode) -> str:
    """The activation that a name stands for, else empty."""
    full = task.names.of(node)
    last = full.rpartition(".")[2]
    if full.startswith("torch.nn.") and last in _MODULES:
        return _MODULES[last]
    return last.removesuffix("_") if full.startswith("torch.") and last in _FUNCTIONS else ""


def _swap(task: Task, node: cst.BaseExpression, old: str, new: str) -> None:
    script, module = task.script, WAYS[new][0]
    target = node.func if isinstance(node, cst.Call) else node
    is_module = task.names.of(target).rpartition(".")[2] in _MODULES
    if is_module:
        given = [arg for arg in node.args if _is_inplace(arg) and new != "tanh"] if isinstance(node, cst.Call) else []
        kept = ", ".join(script.text(arg) for arg in given) if new in ("relu", "leaky_relu", "elu", "silu") else ""
        script.replace(node, task.names.spell(module) + (f"({kept})" if isinstance(node, cst.Call) else ""))
    elif new == "identity":
        if not isinstance(node, cst.Call):
            raise Refused("the function is handed over by name here", script.line(node))
        given_value = node.args[0].value if node.args else receiver(node)
        script.replace(node, script.atom(given_value) if not node.args else script.text(given_value))
    elif isinstance(node, cst.Call) and not task.names.of(node.func):
        _swap_method(task, node, new)
    else:
        script.replace(target, _spelled(task, target, new))
    task.say(f"{old} -> {new}", node)


def _is_inplace(arg: cst.Arg) -> bool:
    return arg.keyword is not None and arg.keyword.value == "inplace"


def _swap_method(task: Task, call: cst.Call, new: str) -> None:
    """``x.tanh()`` stays a method where the new one is one too."""
    assert isinstance(call.func, cst.Attribute)
    if new in _METHODS:
        task.script.replace(call.func.attr, new)
    else:
        task.script.replace(call, f"{task.names.spell(WAYS[new][1])}({task.script.text(receiver(call))})")


def _spelled(task: Task, target: cst.BaseExpression, new: str) -> str:
    """A function of the same module, ``F.relu`` for ``F.sigmoid``, where there is one."""
    beside = dotted(target).rpartition(".")[0]
    if beside and task.names.of(target).startswith("torch.nn.functional."):
        return f"{beside}.{new}"
    return task.names.spell(WAYS[new][1])


def _is_at(task: Task, node: cst.BaseExpression, place: str) -> bool:
    """Whether a module's dotted name may mean this: by the class around it, or the attribute it is kept in."""
    dotted_place, _, function = place.partition(":")
    if place in _FUNCTIONS:  # called in the model itself
        dotted_place, function = "", place
    function = function.partition("#")[0]
    if function:
        return function in (applied(task, node) if isinstance(node, cst.Call) else "") and _in_class(
            task, node, dotted_place
        )
    parts = [part for part in dotted_place.split(".") if not part.isdigit()]
    last = dotted_place.rpartition(".")[2]
    statement = task.script.statement(node)
    kept = dotted(statement.targets[0].target).removeprefix("self.") if isinstance(statement, cst.Assign) else ""
    if last.isdigit() and int(last) not in _positions(task, node):
        return False
    return (kept.rpartition(".")[2] == parts[-1]) if parts else not kept.startswith("self.")


def _in_class(task: Task, node: cst.BaseExpression, name: str) -> bool:
    """Whether this is written in the class of the module of that name; the model itself has none."""
    owner = task.script.enclosing(node, cst.ClassDef)
    if not name:
        return owner in Models(task.script, task.names, task.training).root_classes
    types = {site.name: site.type for site in task.hints.sites}
    return owner is not None and owner.name.value == types.get(name, owner.name.value)


def _positions(task: Task, node: cst.BaseExpression) -> Sequence[int]:
    """The index of an element in the call or list that it is written in; after a starred one it may be a larger."""
    holder = task.script.parent(node)
    outer = task.script.parent(holder) if holder is not None else None
    held = list(outer.args) if isinstance(outer, cst.Call) else list(getattr(outer, "elements", ()))
    if holder not in held:
        return ()
    at = held.index(holder)
    starred = any(isinstance(e, cst.StarredElement) or getattr(e, "star", "") for e in held[:at])
    return range(at, 10_000) if starred and at == len(held) - 1 else (at,)
