"""Where the number behind an expression is written: a literal, a constant, a default, an option of the command line."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from steadygrad.rewrite.names import dotted
from steadygrad.rewrite.script import Script

_DEPTH = 8


@dataclass(frozen=True)
class Constant:
    """A value as it is written once in the script, and the option of the command line that it is the default of."""

    node: cst.BaseExpression
    flag: str = ""


def number(node: cst.CSTNode) -> float | None:
    """The value of a literal, also of ``-1.0``, ``1e-3 * 2`` and ``float("inf")``."""
    try:
        return _value(ast.parse(cst.Module([]).code_for_node(node).strip(), mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, OverflowError):
        return None


def _value(node: ast.expr) -> float:
    literal = node.value if isinstance(node, ast.Constant) else None
    if isinstance(literal, int | float) and not isinstance(literal, bool):
        return float(literal)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left), _value(node.right)
        operations = {ast.Add: float.__add__, ast.Sub: float.__sub__, ast.Mult: float.__mul__,
                      ast.Div: float.__truediv__, ast.Pow: math.pow}  # fmt: skip
        if type(node.op) in operations:
            return operations[type(node.op)](left, right)
    if ast.unparse(node) in ("float('inf')", "math.inf", "np.inf"):
        return math.inf
    raise ValueError(ast.unparse(node))


class Constants:
    """Follows an expression to the one place where its value is written."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._functions = {f.name.value: f for f in script.find(cst.FunctionDef)}
        self._classes = {c.name.value: c for c in script.find(cst.ClassDef)}

    def find(self, node: cst.BaseExpression) -> Constant | None:
        """The constant behind an expression, or None where there is none or more than one."""
        return self._find(node, _DEPTH)

    def _find(self, node: cst.BaseExpression, depth: int) -> Constant | None:
        if depth == 0:
            return None
        if number(node) is not None or isinstance(node, cst.SimpleString):
            return Constant(node)
        if isinstance(node, cst.Name):
            return self._name(node, depth)
        if isinstance(node, cst.Attribute):
            return self._attribute(node, depth)
        if isinstance(node, cst.Subscript):
            return self._entry(node, depth)
        return None

    def value(self, name: cst.Name) -> cst.BaseExpression | cst.Param | None:
        """What a variable is: the one expression assigned to it, or a parameter of a function around."""
        function = self._script.function(name)
        if any(name.value in _targets(loop.target) for loop in self._script.find(cst.For)):
            return None
        while function is not None:
            values = list(self._assigned(name.value, function))
            parameters = [p for p in self._parameters(function) if p.name.value == name.value]
            if values or parameters:
                return (values or parameters)[0] if len(values) + len(parameters) == 1 else None
            function = self._script.function(function)
        found = list(self._assigned(name.value, None))
        return found[0] if len(found) == 1 else None

    def _assigned(self, name: str, function: cst.FunctionDef | None) -> Iterator[cst.BaseExpression]:
        """Values given to a variable directly in a function, or at the top of the file and its classes left out."""
        for node in self._script.nodes:
            if isinstance(node, cst.Assign):
                pairs = [pair for target in node.targets for pair in _pairs(target.target, node.value)]
            elif isinstance(node, cst.AnnAssign | cst.AugAssign) and node.value is not None:
                pairs = [(node.target, node.value)]
            else:
                continue
            scope = self._script.enclosing(node, cst.FunctionDef, cst.ClassDef)
            if scope is function:
                yield from (value for target, value in pairs if dotted(target) == name)

    @staticmethod
    def _parameters(function: cst.FunctionDef) -> list[cst.Param]:
        params = function.params
        return [*params.posonly_params, *params.params, *params.kwonly_params]

    def _name(self, node: cst.Name, depth: int) -> Constant | None:
        value = self.value(node)
        if isinstance(value, cst.Param):
            return self._parameter(value, depth)
        return self._find(value, depth - 1) if value is not None else None

    def _parameter(self, parameter: cst.Param, depth: int) -> Constant | None:
        """What the only call of the function gives, else the default."""
        given = list(self.given(parameter))
        if len(given) == 1 and given[0] is not None:
            return self._find(given[0], depth - 1)
        if all(value is None for value in given) and parameter.default is not None:
            return self._find(parameter.default, depth - 1)
        return None

    def given(self, parameter: cst.Param) -> Iterator[cst.BaseExpression | None]:
        """What each call of a parameter's function gives for it; None where it is left to the default."""
        function = self._script.function(parameter)
        if function is None:
            return
        names = self._parameters(function)
        method = bool(names) and names[0].name.value in ("self", "cls")
        called = function.name.value
        owner = self._script.enclosing(function, cst.ClassDef)
        if called == "__init__" and owner is not None:
            called = owner.name.value
        position = names.index(parameter) - method
        for call in self._script.find(cst.Call):
            if dotted(call.func).rpartition(".")[2] == called:
                yield _given(call, parameter.name.value, position)

    def _attribute(self, node: cst.Attribute, depth: int) -> Constant | None:
        key = node.attr.value
        if isinstance(node.value, cst.Name) and node.value.value == "self":
            owner = self._script.enclosing(node, cst.ClassDef)
            found = list(self._own(owner, key)) if owner is not None else []
            return self._find(found[0], depth - 1) if len(found) == 1 else None
        if isinstance(node.value, cst.Name) and node.value.value in self._classes:
            return self._first(self._fields(self._classes[node.value.value], key), depth)
        value = self._object(node.value, depth)
        if isinstance(value, cst.Call):
            callee = dotted(value.func).rpartition(".")[2]
            keyword = _given(value, key, -1)
            if keyword is not None:
                return self._find(keyword, depth - 1)
            if callee in self._classes:
                return self._first(self._fields(self._classes[callee], key), depth)
        return self._option(key, depth)

    def _object(self, node: cst.BaseExpression, depth: int) -> cst.BaseExpression | None:
        """The call or the dictionary that made what a name stands for, through parameters and attributes."""
        if depth == 0:
            return None
        value: cst.BaseExpression | cst.Param | None = None
        if isinstance(node, cst.Name):
            value = self.value(node)
        elif isinstance(node, cst.Attribute) and dotted(node).count(".") == 1 and dotted(node).startswith("self."):
            owner = self._script.enclosing(node, cst.ClassDef)
            found = list(self._own(owner, node.attr.value)) if owner is not None else []
            value = found[0] if len(found) == 1 else None
        if isinstance(value, cst.Param):
            given = [v for v in self.given(value) if v is not None]
            value = given[0] if len(given) == 1 else value.default
        return self._object(value, depth - 1) if isinstance(value, cst.Name | cst.Attribute) else value

    def _own(self, owner: cst.ClassDef, key: str) -> Iterator[cst.BaseExpression]:
        for assign in self._script.find(cst.Assign, owner):
            for target in assign.targets:
                yield from (v for t, v in _pairs(target.target, assign.value) if dotted(t) == f"self.{key}")

    @staticmethod
    def _fields(owner: cst.ClassDef, key: str) -> Iterator[cst.BaseExpression]:
        for line in owner.body.body:
            for field in line.body if isinstance(line, cst.SimpleStatementLine) else ():
                if isinstance(field, cst.AnnAssign) and dotted(field.target) == key and field.value is not None:
                    yield field.value
                if isinstance(field, cst.Assign) and dotted(field.targets[0].target) == key:
                    yield field.value

    def _first(self, values: Iterator[cst.BaseExpression], depth: int) -> Constant | None:
        value = next(values, None)
        return self._find(value, depth - 1) if value is not None else None

    def _option(self, key: str, depth: int) -> Constant | None:
        """``args.lr``: the default of ``add_argument("--lr", default=...)``, or of click's and typer's options."""
        found = []
        for call in self._script.find(cst.Call):
            if dotted(call.func).rpartition(".")[2] in ("add_argument", "option"):
                flags = [f for f in (_string(arg.value) for arg in call.args if arg.keyword is None) if f]
                dest = _given(call, "dest", -1)
                name = _string(dest) if dest is not None else max(flags, key=len, default="").lstrip("-")
                default = _given(call, "default", -1)
                if name.replace("-", "_") == key and default is not None:
                    found.append((default, max(flags, key=len, default="")))
        if len(found) != 1:
            return None
        inner = self._find(found[0][0], depth - 1)
        return Constant(inner.node, found[0][1]) if inner is not None else None

    def _entry(self, node: cst.Subscript, depth: int) -> Constant | None:
        """``config["lr"]`` of a dictionary that is written out."""
        index = node.slice[0].slice if len(node.slice) == 1 else None
        key = _string(index.value) if isinstance(index, cst.Index) else ""
        value = self._object(node.value, depth)
        if not key or value is None:
            return None
        if isinstance(value, cst.Dict):
            for element in value.elements:
                if isinstance(element, cst.DictElement) and _string(element.key) == key:
                    return self._find(element.value, depth - 1)
        keyword = _given(value, key, -1) if isinstance(value, cst.Call) and dotted(value.func) == "dict" else None
        return self._find(keyword, depth - 1) if keyword is not None else None


def _targets(node: cst.BaseExpression) -> set[str]:
    """The variables that a loop sets."""
    if isinstance(node, cst.Tuple | cst.List):
        return {name for element in node.elements for name in _targets(element.value)}
    return {dotted(node)}


def _string(node: cst.CSTNode) -> str:
    if isinstance(node, cst.SimpleString):
        value = node.evaluated_value
        return value if isinstance(value, str) else ""
    return ""


def _given(call: cst.Call, name: str, position: int) -> cst.BaseExpression | None:
    for arg in call.args:
        if arg.keyword is not None and arg.keyword.value == name:
            return arg.value
    plain = [arg.value for arg in call.args if arg.keyword is None and not arg.star]
    return plain[position] if 0 <= position < len(plain) else None


def _pairs(
    target: cst.BaseExpression, value: cst.BaseExpression
) -> Iterator[tuple[cst.BaseExpression, cst.BaseExpression]]:
    """``a, b = 1, 2`` is two assignments."""
    if isinstance(target, cst.Tuple) and isinstance(value, cst.Tuple) and len(target.elements) == len(value.elements):
        for left, right in zip(target.elements, value.elements, strict=True):
            yield left.value, right.value
    elif isinstance(target, cst.Tuple | cst.List):
        yield from ((element.value, value) for element in target.elements)
    else:
        yield target, value
