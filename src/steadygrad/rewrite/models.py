"""Modules as they are written: which class is the model, what a layer's name stands for, where outputs are made."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from steadygrad.rewrite.names import Names, dotted, method, receiver
from steadygrad.rewrite.script import Script
from steadygrad.rewrite.training import Training

LINEAR = ("Linear", "Bilinear", "LazyLinear")
CONV = ("Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d")


def is_module_class(owner: cst.ClassDef) -> bool:
    """Whether a class says that it is a module."""
    return any(dotted(base.value).endswith(("Module", "Sequential")) for base in owner.bases)


class Models:
    """The modules of a script."""

    def __init__(self, script: Script, names: Names, training: Training) -> None:
        self._script, self._names = script, names
        self.classes = [c for c in script.find(cst.ClassDef) if is_module_class(c)]
        self.roots = list(dict.fromkeys(self._trained(training)))
        made = dict(self._assignments())
        self._root_calls = [made[root] for root in self.roots if root in made]
        built = {dotted(call.func) for value in self._root_calls for call in script.find(cst.Call, value)}
        inner = {dotted(call.func) for c in self.classes for call in script.find(cst.Call, c)}
        tops = [c for c in self.classes if c.name.value in built] or self.classes
        self.root_classes = [c for c in tops if c.name.value not in inner] or tops

    def _trained(self, training: Training) -> Iterator[str]:
        """Variables whose parameters an optimizer is given."""
        for built in training.optimizers:
            for call in self._script.find(cst.Call, built.call):
                if method(call) in ("parameters", "named_parameters"):
                    yield dotted(receiver(call)).partition(".")[0]
        for call in self._script.find(cst.Call):
            if method(call) == "parameters" and isinstance(receiver(call), cst.Name):
                yield dotted(receiver(call))

    def _assignments(self) -> Iterator[tuple[str, cst.BaseExpression]]:
        for assign in self._script.find(cst.Assign):
            for target in assign.targets:
                yield dotted(target.target), assign.value

    # -- layers -------------------------------------------------------------------------------------------------

    def layer(self, callee: cst.BaseExpression) -> cst.Call | None:
        """The call that builds what is called here: ``nn.Linear(4, 8)`` for ``self.fc`` or a loop's variable."""
        owner = self._script.enclosing(callee, cst.ClassDef)
        if owner is None:
            return None
        name = dotted(callee)
        if isinstance(callee, cst.Subscript):
            return self._element(owner, dotted(callee.value))
        if name.startswith("self."):
            value = self._attribute(owner, name)
            return value if isinstance(value, cst.Call) else None
        loop = next(
            (f for f in self._script.ancestors(callee) if isinstance(f, cst.For) and dotted(f.target) == name), None
        )
        if loop is None:
            return None
        iterated = loop.iter.value if isinstance(loop.iter, cst.Subscript) else loop.iter
        return self._element(owner, dotted(iterated))

    def _attribute(self, owner: cst.ClassDef, name: str) -> cst.BaseExpression | None:
        for assign in self._script.find(cst.Assign, owner):
            target = assign.targets[0].target
            if dotted(target) == name:
                return assign.value
            if isinstance(target, cst.Tuple) and isinstance(assign.value, cst.Tuple):
                for left, right in zip(target.elements, assign.value.elements, strict=False):
                    if dotted(left.value) == name:
                        return right.value
            names = [dotted(e.value) for e in target.elements] if isinstance(target, cst.Tuple) else []
            if name in names and isinstance(assign.value, cst.GeneratorExp):
                return assign.value.elt
        return None

    def _element(self, owner: cst.ClassDef, name: str) -> cst.Call | None:
        """What a ModuleList of one kind of layer holds."""
        value = self._attribute(owner, name)
        if not isinstance(value, cst.Call) or not value.args:
            return None
        inner = value.args[0].value
        if isinstance(inner, cst.ListComp | cst.GeneratorExp):
            return inner.elt if isinstance(inner.elt, cst.Call) else None
        calls = [e.value for e in inner.elements] if isinstance(inner, cst.List) else []
        kinds = {self._names.short(c.func) for c in calls if isinstance(c, cst.Call)}
        first = calls[0] if calls else None
        return first if len(kinds) == 1 and isinstance(first, cst.Call) else None

    def kind(self, call: cst.Call | None) -> str:
        """linear, conv or empty."""
        short = self._names.short(call.func) if call is not None else ""
        return "linear" if short in LINEAR else "conv" if short in CONV else ""

    def is_sequence(self, call: cst.Call) -> bool:
        """``nn.Sequential(...)``, and ``super().__init__(...)`` in a class that is one."""
        if self._names.short(call.func) == "Sequential":
            return True
        owner = self._script.enclosing(call, cst.ClassDef) if method(call) == "__init__" else None
        bases = [base.value for base in owner.bases] if owner is not None else []
        return any(self._names.short(base) == "Sequential" for base in bases)

    # -- outputs ------------------------------------------------------------------------------------------------

    def is_output(self, node: cst.BaseExpression) -> bool:
        """Whether what is computed or built here is the model's output rather than something inside it."""
        return self.makes_output(node) or self._is_outside(node)

    def makes_output(self, node: cst.BaseExpression) -> bool:
        """Whether it is the last thing that the model does."""
        return self._ends_sequence(node) or self.is_returned(node)

    def _ends_sequence(self, node: cst.BaseExpression) -> bool:
        """The last element of a Sequential that is the model, or whose result its forward returns."""
        arg = self._script.parent(node)
        call = self._script.parent(arg) if isinstance(arg, cst.Arg) else None
        if not isinstance(call, cst.Call) or not self.is_sequence(call) or call.args[-1] is not arg:
            return False
        owner = self._script.enclosing(call, cst.ClassDef)
        if owner is not None and method(call) == "__init__":
            return owner in self.root_classes
        if owner is None:
            statement = self._script.statement(call)
            named = isinstance(statement, cst.Assign) and dotted(statement.targets[0].target) in self.roots
            return named or isinstance(statement, cst.Return)
        above = self._script.parent(call)
        name = dotted(above.targets[0].target) if isinstance(above, cst.Assign) else ""
        return (
            owner in self.root_classes
            and bool(name)
            and any(f"{name}(" in self._script.text(r) for r in self._returns(owner))
        )

    def _returns(self, owner: cst.ClassDef) -> list[cst.Return]:
        forwards = [f for f in self._script.find(cst.FunctionDef, owner) if f.name.value == "forward"]
        return [r for f in forwards for r in self._script.find(cst.Return, f)]

    def is_returned(self, node: cst.BaseExpression) -> bool:
        """The value of a return in the root model's forward, perhaps reshaped."""
        owner = self._script.enclosing(node, cst.ClassDef)
        if owner not in self.root_classes:
            return False
        for statement in self._returns(owner):
            value = statement.value
            values = [element.value for element in value.elements] if isinstance(value, cst.Tuple) else [value]
            if any(_unshaped(each) is node for each in values):
                return True
        return False

    def _is_outside(self, node: cst.BaseExpression) -> bool:
        """In no module: part of the loss, or of what is made with the output."""
        if not self.classes and not self.roots:
            return False
        built = any(isinstance(a, cst.Call) and self._builds(a) for a in self._script.ancestors(node))
        built = built or (isinstance(node, cst.Call) and self._builds(node))
        return self._script.enclosing(node, cst.ClassDef) is None and not built

    def _builds(self, call: cst.Call) -> bool:
        name = self._names.of(call.func)
        own = dotted(call.func) in {c.name.value for c in self.classes}
        return own or (name.startswith("torch.nn.") and name.rpartition(".")[2][:1].isupper())


def _unshaped(value: cst.BaseExpression | None) -> cst.BaseExpression | None:
    """What is behind calls that change a shape only."""
    while isinstance(value, cst.Call) and method(value) in ("squeeze", "view", "reshape", "flatten"):
        value = receiver(value)
    return value
