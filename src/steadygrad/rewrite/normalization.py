"""Normalisation put between layers, or in the place of BatchNorm."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

import libcst as cst

from steadygrad.rewrite.activation import applied, name_of
from steadygrad.rewrite.constants import number
from steadygrad.rewrite.models import CONV, LINEAR, Models
from steadygrad.rewrite.names import argument, dotted, method, receiver
from steadygrad.rewrite.script import Refused
from steadygrad.rewrite.task import Task

_BATCH = ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm")
_SEQUENCES = ("Embedding", "RNN", "LSTM", "GRU", "MultiheadAttention", "TransformerEncoderLayer")
_ACTIVATION_CLASS = re.compile(r"(ReLU|ELU|Tanh|Sigmoid|SiLU|Mish|Softplus|Hardswish)")


def replace_batchnorm(task: Task) -> None:
    """GroupNorm with about eight channels in a group, or all in one; or nothing."""
    kind = task.one_of("group", "layer", "none")
    found, left_out = False, kind == "none"
    for call in task.names.calls(*_BATCH):
        found = True
        if left_out:
            task.script.replace(call, f"{_beside(task, call, 'Identity')}()")
            task.say(f"{task.names.short(call.func)} is left out", call)
            continue
        channels = argument(call, "num_features", 0)
        if channels is None:
            raise Refused("its channels were not found", task.script.line(call))
        groups = _groups(task, channels.value) if kind == "group" else "1"
        kept = [
            task.script.text(a) for n in ("eps", "affine", "device", "dtype") if (a := argument(call, n)) is not None
        ]
        text = ", ".join([groups, task.script.text(channels.value), *kept])
        task.script.replace(call, f"{_beside(task, call, 'GroupNorm')}({text})")
        task.say(f"{task.names.short(call.func)} -> GroupNorm", call)
    for node in _bare(task):
        raise Refused("BatchNorm is handed over as a class here", task.script.line(node))
    if not found:
        raise Refused("no BatchNorm is built in this file")


def _bare(task: Task) -> Iterator[cst.CSTNode]:
    called = {id(c.func) for c in task.script.find(cst.Call)}
    for node in task.script.nodes:
        bare = isinstance(node, cst.Attribute) and task.names.short(node) in _BATCH and id(node) not in called
        if bare and not _in_check(task, node):
            yield node


def _in_check(task: Task, node: cst.CSTNode) -> bool:
    """``isinstance(m, nn.BatchNorm2d)`` builds nothing."""
    call = task.script.enclosing(node, cst.Call)
    return call is not None and dotted(call.func) == "isinstance"


def _beside(task: Task, call: cst.Call, name: str) -> str:
    base = dotted(call.func).rpartition(".")[0]
    return f"{base}.{name}" if base else task.names.spell(f"torch.nn.{name}")


def _groups(task: Task, channels: cst.BaseExpression) -> str:
    """The most groups of at least eight channels that share them out evenly."""
    value, seen = number(channels), _seen_channels(task)
    if value is not None or len(seen) == 1:
        size = int(value) if value is not None else min(seen)
        return str(max((g for g in range(1, size + 1) if size % g == 0 and size // g >= 8), default=1))
    c = task.script.atom(channels)
    if seen and all(size % 8 == 0 for size in seen):
        return f"{c} // 8"
    return f"next(g for g in range(max(1, {c} // 8), 0, -1) if {c} % g == 0)"


def _seen_channels(task: Task) -> set[int]:
    """Over how many channels the run saw a BatchNorm."""
    rows = {row.index: row.shape for row in task.hints.parameters}
    held = (rows.get(row, ()) for site in task.hints.sites if "BatchNorm" in site.type for row in site.params)
    return {shape[0] for shape in held if shape}


# -- added ------------------------------------------------------------------------------------------------------


def add_normalization(task: Task) -> None:
    """Reset the scale after every hidden layer that an activation follows."""
    if task.one_of("layer", "batch") == "batch" and any(task.names.calls(*_SEQUENCES)):
        raise Refused("BatchNorm mixes the steps of a sequence: use layer")
    models = Models(task.script, task.names, task.training)
    done = [_in_sequence(task, models, call) for call in task.script.find(cst.Call) if models.is_sequence(call)]
    done += [_appended(task)]
    done += [_applied_layer(task, models, call) for call in task.script.find(cst.Call)]
    if not any(done):
        raise Refused("no layer with an activation after it was found")


def _in_sequence(task: Task, models: Models, sequence: cst.Call) -> bool:
    """``nn.Sequential(nn.Linear(4, 8), nn.ReLU(), ...)``: a layer and its activation side by side."""
    found = False
    for arg, following in pairwise(sequence.args) if not _is_indexed(task, sequence) else ():
        norm = _norm_for(task, arg.value)
        hidden = _is_activation(task, following.value) and not models.makes_output(following.value)
        if norm and hidden:
            end = task.script.span(arg.value)[1]
            task.script.cut(end, end, f", {norm}")
            task.say(f"{norm} follows {task.script.text(arg.value)}", arg.value)
            found = True
    return found


def _is_indexed(task: Task, sequence: cst.Call) -> bool:
    """``model[2].bias`` elsewhere in the script: a layer put in between would shift what the numbers mean."""
    statement = task.script.statement(sequence)
    name = dotted(statement.targets[0].target) if isinstance(statement, cst.Assign) else ""
    return bool(name) and any(dotted(s.value) == name for s in task.script.find(cst.Subscript))


def _is_activation(task: Task, node: cst.BaseExpression) -> bool:
    short = task.names.short(node.func) if isinstance(node, cst.Call) else ""
    return bool(_ACTIVATION_CLASS.search(short))


def _norm_for(task: Task, node: cst.BaseExpression) -> str:
    """A normalisation for what a layer puts out, where its width is written."""
    if not isinstance(node, cst.Call) or task.names.short(node.func) not in (*LINEAR, *CONV):
        return ""
    is_conv = task.names.short(node.func) in CONV
    width = argument(node, "out_channels" if is_conv else "out_features", 1)
    if width is None:
        return ""
    text = task.script.text(width.value)
    if task.spec.value == "batch":
        axes = task.names.short(node.func)[-2:] if is_conv else "1d"
        return f"{_beside(task, node, f'BatchNorm{axes}')}({text})"
    return (
        f"{_beside(task, node, 'GroupNorm')}(1, {text})" if is_conv else f"{_beside(task, node, 'LayerNorm')}({text})"
    )


def _appended(task: Task) -> bool:
    """``layers.append(nn.Linear(...))`` before ``layers.append(nn.ReLU())``, and ``layers += [...]``."""
    found = False
    appends = [c for c in task.script.find(cst.Call) if method(c) == "append" and len(c.args) == 1]
    for one, two in pairwise(appends):
        same = task.script.text(receiver(one)) == task.script.text(receiver(two))
        beside = task.script.block(task.script.statement(one)) is task.script.block(task.script.statement(two))
        norm = _norm_for(task, one.args[0].value)
        if same and beside and norm and _is_activation(task, two.args[0].value):
            task.script.after(one, f"{task.script.text(receiver(one))}.append({norm})")
            task.say(f"{norm} follows", one)
            found = True
    for listed in task.script.find(cst.List):
        for left, right in pairwise(listed.elements):
            norm = _norm_for(task, left.value)
            if norm and _is_activation(task, right.value):
                end = task.script.span(left.value)[1]
                task.script.cut(end, end, f", {norm}")
                task.say(f"{norm} follows {task.script.text(left.value)}", left.value)
                found = True
    return found


def _applied_layer(task: Task, models: Models, call: cst.Call) -> bool:
    """``F.relu(self.fc(x))`` and ``self.fc(x).tanh()``: the layer's result is normalised in between."""
    kind = models.kind(models.layer(call.func))
    if not kind or not feeds_activation(task, call):
        return False
    text, callee = task.script.text(call), task.script.text(call.func)
    if task.spec.value == "batch":
        new = f"{task.names.spell('torch.nn.functional.batch_norm')}({text}, None, None, training=True)"
    elif kind == "conv":
        new = f"{task.names.spell('torch.nn.functional.group_norm')}({text}, 1)"
    else:
        new = f"{task.names.spell('torch.nn.functional.layer_norm')}({text}, ({callee}.out_features,))"
    task.script.replace(call, new)
    task.say(f"the output of {callee} is normalised", call)
    return True


def feeds_activation(task: Task, call: cst.Call) -> bool:
    """Whether a layer's result goes straight into an activation."""
    above = task.script.parent(call)
    if isinstance(above, cst.Attribute):
        outer = task.script.parent(above)
        return isinstance(outer, cst.Call) and outer.func is above and bool(applied(task, outer))
    outer = task.script.parent(above) if isinstance(above, cst.Arg) else None
    if not isinstance(outer, cst.Call) or outer.args[0] is not above:
        return False
    last = dotted(outer.func).rpartition(".")[2].lower()
    known = ("relu", "gelu", "silu", "elu", "tanh", "sigmoid", "leaky_relu", "act", "activation")
    return bool(name_of(task, outer.func)) or last.rstrip("0123456789_") in known
