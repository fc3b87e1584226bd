"""Weights that are tensors of the script's own: other random numbers where they are made."""

from __future__ import annotations

import math
from collections.abc import Sequence

import libcst as cst

from steadygrad.rewrite.names import argument, dotted
from steadygrad.rewrite.script import Refused
from steadygrad.rewrite.task import Task

#: What fills a tensor of a given shape.
_MADE = ("randn", "rand", "zeros", "ones")
#: Parameters of such names are no matrices that signals are multiplied with.
_OTHER = ("bias", "emb", "pos", "token")


def _factor(task: Task, rule: str, into: str, out: str) -> str:
    """By what normal numbers are multiplied for a matrix that is used as ``x @ w``."""
    if rule.startswith("kaiming"):
        gain = task.positive(math.sqrt(2))
        usual = math.isclose(gain, math.sqrt(2), rel_tol=1e-3)
        return f"(2 / {into}) ** 0.5" if usual else f"{'' if gain == 1 else f'{gain:g} * '}{into} ** -0.5"
    if rule.startswith("xavier"):
        gain = task.positive(1.0)
        return f"{'' if gain == 1 else f'{gain:g} * '}(2 / ({into} + {out})) ** 0.5"
    return f"{into} ** -0.5"


def plain_tensors(task: Task, rule: str) -> None:
    """``W = torch.randn(a, b) * 0.01`` in a script without modules: the factor."""
    for call in task.names.calls("randn"):
        sizes = [arg.value for arg in call.args if arg.keyword is None]
        product = task.script.parent(call)
        scale = None
        if isinstance(product, cst.BinaryOperation) and isinstance(product.operator, cst.Multiply):
            scale = product.right if product.left is call else product.left
        grows = "requires_grad" in task.script.source or "Parameter" in task.script.source
        line = task.place_line
        if len(sizes) == 2 and scale is not None and grows and (not line or task.script.line(call) == line):
            factor = _factor(task, rule, *(_operand(task, size) for size in sizes))
            task.script.replace(scale, factor)
            task.say(f"the weights are scaled by {factor}", call)
    if not task.said:
        raise Refused("the weights of this script are drawn in no way that was recognised")


def own_parameters(task: Task, rule: str) -> bool:
    """``self.w = nn.Parameter(torch.randn(a, b))`` in a module of the script's own; whether there was any."""
    found = False
    for call in task.names.calls("Parameter"):
        given, made = argument(call, "data", 0), _made(task, call)
        sizes = _sizes(made) if made is not None else ()
        if given is None or made is None or len(sizes) < 2 or not _is_matrix(task, call, sizes):
            continue
        shape = ", ".join(task.script.text(arg) for arg in made.args)
        if rule.startswith("orthogonal"):
            gain = task.positive(1.0)
            new = f"{task.names.spell('torch.empty')}({shape}){'' if gain == 1 else f', gain={gain:g}'}"
            text = f"{task.names.spell('torch.nn.init.orthogonal_')}({new})"
        else:
            factor = _factor(task, rule, *(_operand(task, size) for size in sizes[-2:]))
            text = f"{task.names.spell('torch.randn')}({shape}) * {factor}"
        task.script.replace_whole(given.value, text)
        task.say(f"{_target(task, call)} is drawn by {rule}", call)
        found = True
    return found


def _made(task: Task, call: cst.Call) -> cst.Call | None:
    """The one call that makes the numbers of a parameter."""
    inner = [c for c in task.script.find(cst.Call, call) if c is not call and task.names.short(c.func)]
    return inner[0] if len(inner) == 1 and task.names.short(inner[0].func) in _MADE else None


def _sizes(made: cst.Call) -> Sequence[cst.BaseExpression]:
    plain = [arg.value for arg in made.args if arg.keyword is None]
    if any(arg.star for arg in made.args):
        return ()
    if len(plain) == 1 and isinstance(plain[0], cst.Tuple | cst.List):
        return [element.value for element in plain[0].elements]
    return plain


def _target(task: Task, call: cst.Call) -> str:
    assign = task.script.statement(call)
    whole = isinstance(assign, cst.Assign) and assign.value is call
    return dotted(assign.targets[0].target) if isinstance(assign, cst.Assign) and whole else ""


def _is_matrix(task: Task, call: cst.Call, sizes: Sequence[cst.BaseExpression]) -> bool:
    """Whether this is a weight that the remedy means: by what the run saw of it, else by its name and sizes."""
    owner, target = task.script.enclosing(call, cst.ClassDef), _target(task, call)
    if owner is None or not target.startswith("self."):
        return False
    leaf, place = target.removeprefix("self."), task.spec.place
    if task.place_line and task.place_line != task.script.line(call):
        return False
    rows = [p for p in task.hints.parameters if (p.module_type, p.name.rpartition(".")[2]) == (owner.name.value, leaf)]
    if place and not task.place_line and (len(rows) != 1 or place not in (rows[0].module, rows[0].name)):
        return False
    if rows:
        return all(p.role == "weight" and len(p.shape) > 1 and p.shape[-2] > 1 for p in rows)
    return not any(word in leaf for word in _OTHER) and task.script.text(sizes[-2]) != "1"


def _operand(task: Task, size: cst.BaseExpression) -> str:
    return task.script.text(size) if isinstance(size, cst.Integer) else task.script.atom(size)
