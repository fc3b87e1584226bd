"""Parameters that nothing trains: given to the optimizer, or connected to the loss again."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from steadygrad.rewrite.models import is_module_class
from steadygrad.rewrite.names import dotted, method, receiver
from steadygrad.rewrite.script import Refused
from steadygrad.rewrite.task import Task
from steadygrad.rewrite.training import Built


def attach_parameters(task: Task) -> None:
    """Give the optimizer what it lacks, or take away what cuts the graph."""
    if task.one_of("optimizer", "reconnect") == "reconnect":
        _reconnect(task)
        return
    done = [_register_lists(task), *(attach(task) for attach in (_whole_model, _replaced_layers, _other_models))]
    if not any(done):
        raise Refused("no parameters that the optimizer lacks were found; what the run saw untrained: "
                      + (", ".join(forgotten(task)[:4]) or "none"))  # fmt: skip


def forgotten(task: Task) -> list[str]:
    """Parameters that no optimizer held in the run."""
    return [p.name for p in task.hints.parameters if p.trainable and p.optimizer is None]


def _register_lists(task: Task) -> bool:
    """Modules in a plain list or dict of a module belong into nn.ModuleList or nn.ModuleDict."""
    found = False
    for assign in task.script.find(cst.Assign):
        kind = _container(task, assign)
        if kind:
            found = True
            name = task.names.spell(f"torch.nn.{kind}")
            task.script.replace(assign.value, f"{name}({_listed(task, assign.value)})")
            task.say(f"{task.script.text(assign.targets[0].target)} is an nn.{kind}", assign)
    return found


def _listed(task: Task, value: cst.BaseExpression) -> str:
    return "" if isinstance(value, cst.List) and not value.elements else task.script.text(value)


def _container(task: Task, assign: cst.Assign) -> str:
    """ModuleList or ModuleDict for an attribute that holds modules plainly, else empty."""
    target, value = assign.targets[0].target, assign.value
    owner = task.script.enclosing(assign, cst.ClassDef)
    if not dotted(target).startswith("self.") or owner is None or not is_module_class(owner):
        return ""
    if isinstance(value, cst.List) and not value.elements:
        appended = [c for c in task.script.find(cst.Call, owner) if method(c) == "append"
                    and task.script.text(receiver(c)) == dotted(target) and c.args]  # fmt: skip
        return "ModuleList" if any(_makes_module(task, c.args[0].value) for c in appended) else ""
    if isinstance(value, cst.List):
        return "ModuleList" if any(_makes_module(task, e.value) for e in value.elements) else ""
    if isinstance(value, cst.ListComp):
        return "ModuleList" if _makes_module(task, value.elt) else ""
    if isinstance(value, cst.Dict):
        entries = [e for e in value.elements if isinstance(e, cst.DictElement)]
        return "ModuleDict" if any(_makes_module(task, e.value) for e in entries) else ""
    return "ModuleDict" if isinstance(value, cst.DictComp) and _makes_module(task, value.value) else ""


def _makes_module(task: Task, value: cst.BaseExpression) -> bool:
    """Whether an expression builds a module: one of torch's, or of a class of this file."""
    if not isinstance(value, cst.Call):
        return False
    name = task.names.of(value.func)
    own = {c.name.value for c in task.script.find(cst.ClassDef) if is_module_class(c)}
    return (name.startswith("torch.nn.") and name.rpartition(".")[2][0].isupper()) or dotted(value.func) in own


def _whole_model(task: Task) -> bool:
    """``model.head.parameters()`` where the rest of the model is meant to be trained too."""
    lacking = forgotten(task)
    found = False
    for built in task.training.need_optimizers():
        given = built.call.args[0].value if built.call.args else None
        if isinstance(given, cst.Call) and method(given) == "parameters" and lacking:
            held = receiver(given)
            root = dotted(held).partition(".")[0]
            if isinstance(held, cst.Attribute) and root not in ("self", "") and not _split(task, root):
                task.script.replace(held, root)
                task.say(f"the optimizer holds all of {root}", built.call)
                found = True
    return found


def _split(task: Task, root: str) -> bool:
    """Whether several optimizers share one model."""
    texts = [task.script.text(b.call) for b in task.training.optimizers]
    return sum(f"{root}." in text for text in texts) > 1


def _replaced_layers(task: Task) -> bool:
    """``net.fc = nn.Linear(...)`` after the optimizer was built: the new layer is given to it."""
    found = False
    for built in task.training.need_optimizers():
        root = _model_of(task, built)
        for assign in task.script.find(cst.Assign):
            target = task.script.text(assign.targets[0].target)  # may end in an index: net.head[1]
            later = task.script.line(assign) > task.script.line(built.call)
            here = task.script.function(assign) is task.script.function(built.call)
            if (
                root
                and built.name
                and later
                and here
                and target.startswith(f"{root}.")
                and _makes_module(task, assign.value)
            ):
                task.script.after(assign, f'{built.name}.add_param_group({{"params": {target}.parameters()}})')
                task.say(f"{target} is given to {built.name}", assign)
                found = True
    return found


def _model_of(task: Task, built: Built) -> str:
    """The one model whose parameters an optimizer is given, all or those that are not frozen."""
    given = built.call.args[0].value if built.call.args else None
    calls = [c for c in task.script.find(cst.Call, given) if method(c) == "parameters"] if given is not None else []
    return dotted(receiver(calls[0])) if len(calls) == 1 else ""


def _other_models(task: Task) -> bool:
    """Models that no optimizer was given: the run names their parameters after their variables."""
    built = task.training.need_optimizers()[-1]
    held = task.script.text(built.call)
    found = False
    for root in dict.fromkeys(name.partition(".")[0] for name in forgotten(task) if "." in name):
        made = [a for a in task.script.find(cst.Assign) if dotted(a.targets[0].target) == root]
        visible = [a for a in made if task.script.function(a) is task.script.function(built.call)]
        if visible and built.name and f"{root}." not in held:
            task.script.after(built.call, f'{built.name}.add_param_group({{"params": {root}.parameters()}})')
            task.say(f"{root} is given to {built.name}", built.call)
            found = True
    return found


# -- what cuts the graph ----------------------------------------------------------------------------------------


def _reconnect(task: Task) -> None:
    line = task.place_line
    cuts = [c for c in _cuts(task) if not line or task.script.line(c) == line]
    if not cuts:
        raise Refused("nothing that cuts the graph was found", _decorated(task))
    if len({id(task.script.function(c)) for c in cuts}) > 1:
        lines = ", ".join(str(task.script.line(c)) for c in cuts)
        raise Refused(f"the graph may be cut at one of the lines {lines}")
    for cut in cuts:  # several in one function are one way to the loss
        _mend(task, cut)
        task.say("the graph is no longer cut here", cut)


def _mend(task: Task, cut: cst.CSTNode) -> None:
    if isinstance(cut, cst.WithItem):
        task.script.replace(cut, f"{task.names.spell('contextlib.nullcontext')}()")
        return
    assert isinstance(cut, cst.Call | cst.Attribute)
    kept = receiver(cut) if isinstance(cut, cst.Call) else cut.value
    start, end = task.script.span(kept)[1], task.script.span(cut)[1]
    task.script.cut(start + len(kept.rpar), end)


def _decorated(task: Task) -> int:
    """The line of a decorator that cuts the graph: whoever else calls the function may count on it. 0 for none."""
    for decorator in task.script.find(cst.Decorator):
        name = decorator.decorator.func if isinstance(decorator.decorator, cst.Call) else decorator.decorator
        function = task.script.enclosing(decorator, cst.FunctionDef)
        if dotted(name).endswith("no_grad") and function is not None and _in_module(task, function):
            return task.script.line(decorator)
    return 0


def _cuts(task: Task) -> Iterator[cst.CSTNode]:
    """``detach()``, ``.data`` and ``no_grad`` on the way to the loss, as far as the text tells."""
    for call in task.script.find(cst.Call):
        if method(call) == "detach" and not call.args and _is_on_the_way(task, call):
            yield call
    for attribute in task.script.find(cst.Attribute):
        if (
            attribute.attr.value == "data"
            and _is_on_the_way(task, attribute)
            and not dotted(attribute).startswith("self.")
        ):
            yield attribute
    for item in task.script.find(cst.WithItem):
        function = task.script.function(item)
        name = dotted(item.item.func) if isinstance(item.item, cst.Call) else ""
        if name.endswith("no_grad") and function is not None and _in_module(task, function):
            yield item


def _in_module(task: Task, function: cst.FunctionDef) -> bool:
    owner = task.script.enclosing(function, cst.ClassDef)
    quiet = ("__init__", "reset_parameters", "update", "sample", "generate", "predict", "act")
    return owner is not None and is_module_class(owner) and function.name.value not in quiet


def _is_on_the_way(task: Task, call: cst.Call | cst.Attribute) -> bool:
    """In a module's forward, or in the value that a loss without gradients is made of; not where it is logged."""
    statement = task.script.statement(call)
    function = task.script.function(call)
    stored = isinstance(statement, cst.Assign) and dotted(statement.targets[0].target).startswith("self.")
    if function is not None and _in_module(task, function):
        return not stored and isinstance(statement, cst.Assign | cst.Return)
    if not isinstance(statement, cst.Assign):
        return False
    names = {dotted(receiver(b)) for b in task.training.backwards if isinstance(b.func, cst.Attribute)}
    return dotted(statement.targets[0].target) in names and _lacks_gradients(task, statement)


def _lacks_gradients(task: Task, statement: cst.Assign) -> bool:
    """Whether the optimizer stepped after this loss holds a model that it does not reach."""
    loss = dotted(statement.targets[0].target)
    for step in task.training.steps:
        backward = task.training.backward_of(step)
        built = next((b for b in task.training.optimizers if b.name == step.optimizer), None)
        if dotted(receiver(backward)) == loss and built is not None:
            return _model_of(task, built) not in ("",) and f"{_model_of(task, built)}(" not in task.script.text(
                statement
            )
    return False
