"""Initial weights: another rule where the script draws them, or a loop that draws them again."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from steadygrad.rewrite.constants import number
from steadygrad.rewrite.models import CONV, LINEAR, Models
from steadygrad.rewrite.names import argument, dotted, method, receiver
from steadygrad.rewrite.script import Refused
from steadygrad.rewrite.task import Task
from steadygrad.rewrite.tensors import own_parameters, plain_tensors

_DRAWS = ("normal_", "uniform_", "constant_", "ones_", "trunc_normal_", "eye_", "xavier_normal_", "xavier_uniform_",
          "kaiming_normal_", "kaiming_uniform_", "orthogonal_", "sparse_", "zeros_")  # fmt: skip
#: The bias of one layer, not of whichever layer a loop is at.
_NAMED_BIAS = re.compile(r"^self\..*\bbias$")
#: Conditions that only matrices meet.
_MATRIX = re.compile(r"dim\(\) *(>|>=|==) *[12]|ndim|len\(.*shape\)")
_RECURRENT = ("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell")


@dataclass(frozen=True)
class Rule:
    """A function of ``torch.nn.init`` with its settings, in which ``{w}`` stands for the weight."""

    name: str
    settings: str = ""

    def of(self, weight: str, name: str = "") -> str:
        """How it is called for a weight, under its own name or another."""
        given = [part for part in (weight, self.settings.replace("{w}", weight)) if part]
        return f"{name or self.name}({', '.join(given)})"


def reinit_kaiming(task: Task) -> None:
    """Variance 2 / fan_in, which keeps the scale through ReLU layers."""
    if task.spec.value == "bias":
        return _biases(task)
    gain = task.positive(math.sqrt(2))
    if math.isclose(gain, math.sqrt(2), rel_tol=1e-3):
        _redraw(task, Rule("kaiming_normal_", 'nonlinearity="relu"'))
    elif gain == 1.0:
        _redraw(task, Rule("kaiming_normal_", 'nonlinearity="linear"'))
    else:
        _redraw(task, Rule("normal_", f"std={gain:g} / {{w}}[0].numel() ** 0.5"))
    return None


def reinit_xavier(task: Task) -> None:
    """Variance 2 / (fan_in + fan_out)."""
    gain = task.positive(1.0)
    _redraw(task, Rule("xavier_normal_", f"gain={gain:g}" if gain != 1.0 else ""))


def reinit_orthogonal(task: Task) -> None:
    """Orthogonal rows or columns."""
    if re.search(r"\.half\(\)|float16", task.script.source):
        raise Refused("torch has no orthogonal matrices in half precision")
    gain = task.positive(1.0)
    _redraw(task, Rule("orthogonal_", f"gain={gain:g}" if gain != 1.0 else ""))


def _redraw(task: Task, rule: Rule) -> None:
    models = Models(task.script, task.names, task.training)
    if not models.roots and not models.classes:
        return plain_tensors(task, rule.name)
    draws = [(call, weight) for call, weight in _draws(task) if _is_meant(task, call, weight)]
    if not draws and not task.place_line and _clear_biases(task):
        return None
    if draws and not any(_mixes_embeddings(task, call) for call, _ in draws):
        for call, weight in draws:
            _another_rule(task, call, weight, rule)
        _clear_biases(task)
        return None
    own = own_parameters(task, rule.name)
    others = _kinds(task) or any(task.names.calls(*_RECURRENT))
    return None if own and not others else _loop(task, rule)


# -- where the script draws them --------------------------------------------------------------------------------


def _draws(task: Task) -> Iterator[tuple[cst.CSTNode, str]]:
    """Statements that fill a weight: ``nn.init.f_(w, ...)``, ``w.data.normal_(0, 1)``, ``w.data = ...``."""
    for call in task.script.find(cst.Call):
        full = task.names.of(call.func)
        if full.startswith("torch.nn.init.") and full.rpartition(".")[2] in _DRAWS and call.args:
            weight = task.script.text(call.args[0].value)
            if _is_weight(task, call, weight):
                yield call, weight
        elif (
            method(call) in ("normal_", "uniform_", "fill_")
            and not full
            and isinstance(task.script.parent(call), cst.Expr)
        ):
            weight = task.script.text(receiver(call)).removesuffix(".data")
            if _is_weight(task, call, weight):
                yield call, weight
    for assign in task.script.find(cst.Assign):
        target = dotted(assign.targets[0].target)
        if target.endswith((".weight.data", ".weight_hh.data")):
            yield assign, target.removesuffix(".data")


def _is_weight(task: Task, call: cst.Call, text: str) -> bool:
    """A matrix, by its name or because a condition around says that it has two axes."""
    last = text.rpartition(".")[2]
    if "bias" in last or re.search(r"\bbias", text):
        return False
    if "weight" in last or last.startswith("W"):
        return True
    return any(_MATRIX.search(task.script.text(test)) for test in _tests(task, call))


def _tests(task: Task, node: cst.CSTNode) -> Iterator[cst.BaseExpression]:
    """Conditions that hold where a node is run."""
    inner = node
    for above in task.script.ancestors(node):
        if isinstance(above, cst.If) and inner is above.body:
            yield above.test
        inner = above


def _is_meant(task: Task, node: cst.CSTNode, weight: str) -> bool:
    """Whether the remedy's place, a line or a module, means this draw."""
    line, place = task.place_line, task.spec.place
    if line:
        return task.script.line(node) <= line <= task.script.last_line(node)
    if not place or not weight.startswith("self."):
        return True
    own = weight.removeprefix("self.").removesuffix(".weight")
    return own in place or place.endswith(own)


def _mixes_embeddings(task: Task, call: cst.CSTNode) -> bool:
    """Whether a draw fills embeddings as well, whose scale does not follow from their fans."""
    return any("Embedding" in task.script.text(test) for test in _tests(task, call))


def _another_rule(task: Task, node: cst.CSTNode, weight: str, rule: Rule) -> None:
    name = task.names.spell(f"torch.nn.init.{rule.name}")
    if isinstance(node, cst.Call) and task.names.of(node.func):
        base = dotted(node.func).rpartition(".")[0]
        name = f"{base}.{rule.name}" if base else name
    task.script.replace(node, rule.of(weight, name))
    task.say(f"{weight} is drawn by {rule.name}", node)


def _clear_biases(task: Task) -> bool:
    """Named biases that are set to a constant start at zero, as the remedy does."""
    found = []
    for call in task.names.calls("constant_"):
        value = argument(call, "val", 1)
        far = value is not None and (number(value.value) or 0.0) != 0.0
        if value is not None and far and _NAMED_BIAS.search(task.script.text(call.args[0].value)):
            found.append((call, value))
    for call, value in found:
        task.script.replace(value.value, "0.0")
        task.say(f"{task.script.text(call.args[0].value)} starts at zero", call)
    return bool(found)


# -- a loop that draws them again -------------------------------------------------------------------------------


def _loop(task: Task, rule: Rule) -> None:
    """Right before the optimizer is built, when all that the script does to the weights is done."""
    built = task.training.need_optimizers()[0].call
    roots = list(dict.fromkeys(_models_of(task, built)))
    only = task.spec.place and not task.place_line
    if not roots or (only and len(roots) > 1):
        raise Refused("the model was not found where the optimizer is built", task.script.line(built))
    if only:
        return _one_layer(task, roots[0], built, rule)
    root = roots[0] if len(roots) == 1 else f"{task.names.spell('torch.nn.ModuleList')}([{', '.join(roots)}])"
    if any(task.names.calls(*_RECURRENT)):
        return _named_loop(task, root, built, rule)
    kinds = _kinds(task)
    if not kinds and task.hints.parameters:
        raise Refused("its weights are in no linear or convolutional layer", task.script.line(built))
    _layer_loop(task, root, built, rule, kinds or ["Linear"])
    task.say(f"the weights of {' and '.join(roots)} are drawn anew by {rule.name}", built)
    return None


def _layer_loop(task: Task, root: str, built: cst.Call, rule: Rule, kinds: list[str]) -> None:
    """Over all layers of these kinds; their biases are cleared, but for the last one's: it may hold what is known."""
    layer, layers, init = task.names.fresh("layer"), task.names.fresh("drawn"), task.names.spell("torch.nn.init")
    types = ", ".join(task.names.spell(f"torch.nn.{k}") for k in kinds)
    unit = task.script.indent
    task.script.before(
        built,
        f"{layers} = [m for m in {root}.modules() if isinstance(m, {types if len(kinds) == 1 else f'({types})'})]",
        f"for {layer} in {layers}:",
        f"{unit}{init}.{rule.of(f'{layer}.weight')}",
        f"{unit}if {layer}.bias is not None and {layer} is not {layers}[-1]:",
        f"{unit}{unit}{init}.zeros_({layer}.bias)",
        *_embeddings(task, root, layer, rule.name),
    )


def _kinds(task: Task) -> list[str]:
    """Layers that the script builds itself, or that the run saw."""
    seen = {p.module_type for p in task.hints.parameters}
    return [k for k in (*LINEAR[:1], *CONV) if k in seen or any(task.names.calls(k))]


def _one_layer(task: Task, root: str, built: cst.Call, rule: Rule) -> None:
    """Only the layer that the remedy is meant for."""
    layer, init = _path(task, root), task.names.spell("torch.nn.init")
    has_bias = any(p.module and layer.endswith(_written(p.module)) and p.role == "bias" for p in task.hints.parameters)
    drawn = f"{init}.{rule.of(f'{layer}.weight')}"
    task.script.before(built, drawn, *([f"{init}.zeros_({layer}.bias)"] if has_bias else []))
    task.say(f"the weight of {layer} is drawn anew by {rule.name}", built)


def _path(task: Task, root: str) -> str:
    """``model.blocks[0].fc`` for the place ``blocks.0.fc``, or for ``model.blocks.0.fc``."""
    place = task.spec.place.removesuffix(".weight").removesuffix(".bias")
    own = root.rpartition(".")[2]
    written = _written(place)
    return (
        f"{root}{written}"
        if written.startswith("[")
        else written
        if place.startswith(f"{own}.")
        else f"{root}.{written}"
    )


def _written(name: str) -> str:
    parts = (f"[{part}]" if part.isdigit() else f".{part}" for part in name.split("."))
    return "".join(parts).removeprefix(".")


def _biases(task: Task) -> None:
    """Only the biases start at zero: where the script sets them, else before the optimizer is built."""
    place = task.spec.place.rpartition(".")[2]
    for call in task.names.calls("constant_"):
        value, text = argument(call, "val", 1), task.script.text(call.args[0].value) if call.args else ""
        if value is not None and _NAMED_BIAS.search(text) and (not place or f".{place}." in text):
            task.script.replace(value.value, "0.0")
            task.say(f"{text} starts at zero", call)
    if task.said:
        return
    built = task.training.need_optimizers()[0].call
    roots = list(dict.fromkeys(_models_of(task, built)))
    if len(roots) != 1 or not task.spec.place or task.place_line:
        raise Refused("the model was not found where the optimizer is built", task.script.line(built))
    layer = _path(task, roots[0])
    task.script.before(built, f"{task.names.spell('torch.nn.init')}.zeros_({layer}.bias)")
    task.say(f"the bias of {layer} starts at zero", built)


def _models_of(task: Task, built: cst.Call) -> Iterator[str]:
    """The models whose parameters an optimizer is given, as they are written there."""
    for call in _calls_behind(task, built):
        if method(call) in ("parameters", "named_parameters") and dotted(receiver(call)) not in ("", "self"):
            owner = dotted(receiver(call))
            yield ".".join(owner.split(".")[: 2 if owner.startswith("self.") else 1])


def _calls_behind(task: Task, built: cst.Call) -> Iterator[cst.Call]:
    """Calls in what an optimizer is given, also where that has been put into a variable before."""
    yield from task.script.find(cst.Call, built)
    given = dotted(built.args[0].value) if built.args else ""
    for assign in task.script.find(cst.Assign):
        if given and dotted(assign.targets[0].target) == given:
            yield from task.script.find(cst.Call, assign.value)


def _embeddings(task: Task, root: str, layer: str, rule: str) -> list[str]:
    """Rows of length about 1, where the rule is not one for ReLU alone."""
    if not rule.startswith("xavier") or not any(task.names.calls("Embedding")):
        return []
    unit, init = task.script.indent, task.names.spell("torch.nn.init")
    return [
        f"for {layer} in {root}.modules():",
        f"{unit}if isinstance({layer}, {task.names.spell('torch.nn.Embedding')}):",
        f"{unit}{unit}{init}.normal_({layer}.weight, std={layer}.embedding_dim ** -0.5)",
    ]


def _named_loop(task: Task, root: str, built: cst.Call, rule: Rule) -> None:
    """Models with recurrent layers: their matrices by name, those through time orthogonal."""
    name, p, init = task.names.fresh("name"), task.names.fresh("weight"), task.names.spell("torch.nn.init")
    unit = task.script.indent
    has_embedding = any(task.names.calls("Embedding"))
    emb = ' and "emb" not in name'.replace("name", name) if has_embedding else ""
    task.script.before(
        built,
        f"for {name}, {p} in {root}.named_parameters():",
        f'{unit}if "weight_hh" in {name}:',
        f"{unit}{unit}{init}.orthogonal_({p})",
        f"{unit}elif {p}.dim() > 1{emb}:",
        f"{unit}{unit}{init}.{rule.of(p)}",
        *(_named_embeddings(task, p, f"{init}.normal_") if emb and rule.name.startswith("xavier") else []),
        *([f'{unit}elif "bias" in {name}:', f"{unit}{unit}{init}.zeros_({p})"] if _drawn_biases(task) else []),
    )
    task.say(f"the weights of {root} are drawn anew by {rule.name}", built)


def _named_embeddings(task: Task, p: str, normal: str) -> list[str]:
    return [
        f"{task.script.indent}elif {p}.dim() > 1:",
        f"{task.script.indent * 2}{normal}({p}, std={p}.shape[1] ** -0.5)",
    ]


def _drawn_biases(task: Task) -> bool:
    """Whether biases of recurrent layers began as large as signals; the remedy clears them as well."""
    return any(p.role == "bias" and "bias_hh" in p.name and p.init_rms > 1 for p in task.hints.parameters)
