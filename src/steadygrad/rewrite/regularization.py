"""Weight decay, less or more of it, and penalties in the loss."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from steadygrad.rewrite.constants import number
from steadygrad.rewrite.names import argument, dotted, method, receiver
from steadygrad.rewrite.rate import add_keyword, group_settings, scaled
from steadygrad.rewrite.script import Refused
from steadygrad.rewrite.task import Task, write
from steadygrad.values import Rate

#: Optimizers whose ``weight_decay`` is the slope of a squared penalty, added to the gradient.
_COUPLED = ("SGD", "Adam", "RMSprop", "Adagrad", "Adadelta", "NAdam", "RAdam", "Adamax", "ASGD")

#: How the size of a weight is written in a penalty.
_SIZES = ("pow", "square", "norm", "abs")


def reduce_weight_decay(task: Task) -> None:
    """Less weight decay in every group."""
    wanted = task.rate("/100") if task.spec.value != "0" else None
    found = False
    for built in task.training.need_optimizers():
        given = argument(built.call, "weight_decay")
        places = [e.value for e in group_settings(built, "weight_decay")] + ([given.value] if given else [])
        for node in places:
            if number(node) == 0.0:
                continue
            found = True
            if wanted is None:
                task.change(node, lambda old: 0.0, "0.0", "weight decay")
            else:
                scaled(task, node, wanted, None, "weight decay")
        if not places and built.type == "AdamW":
            found = True
            value = 0.0 if wanted is None else wanted.value * 0.01 if wanted.relative else wanted.value
            add_keyword(task, built.call, "weight_decay", write(value))
    by_hand = wanted is None or wanted.relative
    if not (by_hand and _reduce_penalties(task, wanted)) and not found:
        raise Refused("no weight decay is written in this file")


def _reduce_penalties(task: Task, wanted: Rate | None) -> bool:
    """The coefficients of penalties on the weights that the script adds to its loss; whether there were any."""
    terms = list(dict.fromkeys(term for penalty in _penalties(task) for term in _read(task, penalty)))
    for term in terms:
        coefficient = _coefficient(task, term)
        if coefficient is None:
            size = "0.0" if wanted is None else write(wanted.value)
            task.script.around(term, f"{size} * ", "")
            task.say(f"the penalty is multiplied by {size}", term)
        elif wanted is None:
            task.change(coefficient, lambda old: 0.0, "0.0", "coefficient of the penalty")
        else:
            scaled(task, coefficient, wanted, None, "coefficient of the penalty")
    return bool(terms)


def _penalties(task: Task) -> Iterator[cst.BaseExpression | str]:
    """``sum(w.square().sum() for w in model.parameters())``; the variable in which a loop over them gathers it."""
    for call in task.script.find(cst.Call):
        inner = call.args[0].value if len(call.args) == 1 and dotted(call.func) == "sum" else None
        if not isinstance(inner, cst.GeneratorExp | cst.ListComp):
            continue
        if _walks(task, inner.for_in.iter) and _measures(task, inner.elt, inner.for_in.target):
            yield call
    for loop in task.script.find(cst.For):
        for line in task.script.find(cst.AugAssign, loop) if _walks(task, loop.iter) else ():
            if isinstance(line.operator, cst.AddAssign) and _measures(task, line.value, loop.target):
                yield dotted(line.target)


def _walks(task: Task, iterated: cst.BaseExpression) -> bool:
    """Over parameters."""
    return any(method(call) in ("parameters", "named_parameters") for call in task.script.find(cst.Call, iterated))


def _measures(task: Task, term: cst.CSTNode, target: cst.CSTNode) -> bool:
    """Whether a term is the size of the weight that a loop is at, not of its gradient or of its distance to another."""
    own = {name.value for name in task.script.find(cst.Name, target)}
    powers = (b.left for b in task.script.find(cst.BinaryOperation, term) if isinstance(b.operator, cst.Power))
    calls = [call for call in task.script.find(cst.Call, term) if isinstance(call.func, cst.Attribute)]
    sizes = [receiver(call) for call in calls if method(call) in _SIZES]
    given = [call.args[0].value for call in calls if method(call) in _SIZES and call.args]
    return any(dotted(node) in own for node in (*powers, *sizes, *given))


def _read(task: Task, penalty: cst.BaseExpression | str) -> Iterator[cst.BaseExpression]:
    """Where a penalty is used in a sum: itself, or the variable that holds it."""
    if not isinstance(penalty, str):
        assign = task.script.parent(penalty)
        if not isinstance(assign, cst.Assign):
            yield from [penalty] if _added(task, penalty) else []
            return
        penalty = dotted(assign.targets[0].target)
    yield from (n for n in task.script.find(cst.Name) if n.value == penalty and _added(task, n))


def _added(task: Task, term: cst.BaseExpression) -> bool:
    """Whether it is one term of a sum, perhaps with a coefficient."""
    above = task.script.parent(term)
    while isinstance(above, cst.BinaryOperation) and isinstance(above.operator, cst.Multiply):
        above = task.script.parent(above)
    adds = isinstance(above, cst.BinaryOperation) and isinstance(above.operator, cst.Add)
    return adds or (isinstance(above, cst.AugAssign) and above.target is not term)


def _coefficient(task: Task, term: cst.BaseExpression) -> cst.BaseExpression | None:
    """What a term is multiplied by."""
    product = task.script.parent(term)
    if not isinstance(product, cst.BinaryOperation) or not isinstance(product.operator, cst.Multiply):
        return None
    return product.right if product.left is term else product.left


def l2_regularization(task: Task) -> None:
    """A squared penalty on the weights: weight decay where the rule adds it to the gradient."""
    size = task.positive(1e-4)
    for built in task.training.need_optimizers():
        given = argument(built.call, "weight_decay")
        if built.type not in _COUPLED or group_settings(built, "weight_decay"):
            return _penalty(task, f"{write(size / 2)} * sum(p.square().sum() for p in {{}} if p.dim() > 1)")
        if given is not None:
            task.change(
                given.value, lambda old: old + size, f"{task.script.atom(given.value)} + {write(size)}", "weight decay"
            )
        else:
            add_keyword(task, built.call, "weight_decay", write(size))
    return None


def l1_regularization(task: Task) -> None:
    """A penalty on the absolute values of the weights."""
    _penalty(task, f"{write(task.positive(1e-5))} * sum(p.abs().sum() for p in {{}} if p.dim() > 1)")


def _penalty(task: Task, term: str) -> None:
    """Add a term to the loss right before its backward pass."""
    for step in task.training.need_steps():
        backward = task.training.backward_of(step)
        source = receiver(backward) if isinstance(backward.func, cst.Attribute) else None
        loss = source.args[0].value if isinstance(source, cst.Call) and source.args else source
        if not isinstance(loss, cst.Name):
            raise Refused("the loss is no plain variable here: add the penalty to it", task.script.line(backward))
        term_here = term.format(task.training.parameters(step))
        task.script.before(backward, f"{loss.value} = {loss.value} + {term_here}")
        task.say("the penalty is added to the loss", backward)
