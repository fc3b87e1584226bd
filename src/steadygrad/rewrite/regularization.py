"""Weight decay, less or more of it, and penalties in the loss."""

from __future__ import annotations

import libcst as cst

from steadygrad.rewrite.constants import number
from steadygrad.rewrite.names import argument, receiver
from steadygrad.rewrite.rate import add_keyword, group_settings, scaled
from steadygrad.rewrite.script import Refused
from steadygrad.rewrite.task import Task, write

#: Optimizers whose ``weight_decay`` is the slope of a squared penalty, added to the gradient.
_COUPLED = ("SGD", "Adam", "RMSprop", "Adagrad", "Adadelta", "NAdam", "RAdam", "Adamax", "ASGD")


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
    if not found:
        raise Refused("no weight decay is written in this file")


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
