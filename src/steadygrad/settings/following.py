"""From an argument of a call back to the line that gives it its value."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from types import ModuleType

from steadygrad.settings.scopes import Function, Scope, called, key

_DEEPEST = 8


def argument(scope: Scope, calls: list[ast.Call], keyword: str, position: int) -> str:
    """What the innermost call that takes the argument is given."""
    for call in calls:
        given = next((k.value for k in call.keywords if k.arg == keyword), None)
        if given is None and position >= 0 and len(call.args) > position and not _starred(call.args):
            given = call.args[position]
        given = given if given is not None else _of_group(call, keyword)
        if given is not None:
            return resolve(scope, given, 0)
    spread = [k.value for call in calls for k in call.keywords if k.arg is None]
    return _entry(scope, keyword, 0) if spread or any(_starred(c.args) for c in calls) else ""


def _of_group(call: ast.Call, keyword: str) -> ast.expr | None:
    """The one value, other than zero, that parameter groups written in the call give: ``{"params": p, "lr": 1.0}``."""
    found = []
    for node in (n for argument in call.args for n in ast.walk(argument) if isinstance(n, ast.Dict)):
        for word, value in zip(node.keys, node.values, strict=True):
            zero = isinstance(value, ast.Constant) and not value.value
            if isinstance(word, ast.Constant) and word.value == keyword and not zero:
                found.append(value)
    return found[0] if len(found) == 1 else None


def _starred(arguments: list[ast.expr]) -> bool:
    return any(isinstance(a, ast.Starred) for a in arguments)


def resolve(scope: Scope, value: ast.expr, depth: int) -> str:
    """The line where an expression gets its value; that of the expression where it is no name."""
    if depth > _DEEPEST:
        return ""
    if isinstance(value, ast.Call) and called(value) in ("float", "int", "tensor", "parse") and len(value.args) == 1:
        return resolve(scope, value.args[0], depth + 1)
    if isinstance(value, ast.Name):
        return _name(scope, value.id, depth + 1)
    if isinstance(value, ast.Attribute):
        return _attribute(scope, value, depth + 1)
    if isinstance(value, ast.Subscript) and key(value):
        return _entry(scope, key(value), depth + 1)
    return scope.where(value)


# -- names --------------------------------------------------------------------------------------------------------


def _name(scope: Scope, name: str, depth: int) -> str:
    for function in scope.functions:
        before = [n for n in assignments(function.body, name) if n.lineno < scope.line]
        if before:
            return _follow(scope, before[-1], name, depth)
        if name in _parameters(function):
            return _parameter(scope, function, name, depth)
    bound = assignments(scope.tree.body, name)
    if not scope.functions:
        bound = [n for n in bound if n.lineno < scope.line]
    if bound:
        return _follow(scope.at(bound[-1]), bound[-1], name, depth)
    return _imported(scope, name, depth)


def assignments(body: list[ast.stmt], name: str) -> list[ast.stmt]:
    """Statements that bind a name, in order, those in nested functions and classes aside."""
    found: list[ast.stmt] = []
    for statement in body:
        if isinstance(statement, Function | ast.ClassDef):
            continue
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        names = [n for t in targets if t is not None for n in ast.walk(t)]
        if any(isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Store) for n in names):
            found.append(statement)
        for part in ("body", "orelse", "finalbody"):
            found += assignments(getattr(statement, part, []), name)
    return found


def _follow(scope: Scope, statement: ast.stmt, name: str, depth: int) -> str:
    """Through ``lr = args.lr`` to where that is set; any other statement is the place itself."""
    value = getattr(statement, "value", None)
    target = statement.targets[0] if isinstance(statement, ast.Assign) else None
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        names = [getattr(t, "id", "") for t in target.elts]
        value = value.elts[names.index(name)] if name in names and len(names) == len(value.elts) else None
    if isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(
        value, ast.Name | ast.Attribute | ast.Subscript
    ):
        return resolve(scope, value, depth) or scope.where(statement)
    return scope.where(statement)


def _parameters(function: Function) -> list[str]:
    arguments = function.args
    return [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]


def _default(function: Function, name: str) -> ast.expr | None:
    arguments = function.args
    plain = [*arguments.posonlyargs, *arguments.args]
    pairs = [*zip(plain[len(plain) - len(arguments.defaults) :], arguments.defaults, strict=True)]
    pairs += [(a, d) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d is not None]
    return next((default for argument, default in pairs if argument.arg == name), None)


def _parameter(scope: Scope, function: Function, name: str, depth: int) -> str:
    """What the caller passes: the calling frame where the function is running, else the only call in the file."""
    for place, call in _callers(scope, function):
        given = next((k.value for k in call.keywords if k.arg == name), None)
        index = _parameters(function).index(name)
        index -= _parameters(function)[:1] in (["self"], ["cls"])
        if given is None and 0 <= index < len(call.args) and not _starred(call.args):
            given = call.args[index]
        if given is not None:
            return resolve(place, given, depth + 1)
        if any(k.arg is None for k in call.keywords):
            return _entry(place, name, depth + 1)
    default = _default(function, name)
    return scope.where(default) if default is not None else ""


def _callers(scope: Scope, function: Function) -> Iterator[tuple[Scope, ast.Call]]:
    frame = scope.frame
    if frame is not None and frame.f_code.co_name == function.name:
        caller = frame.f_back
        while caller is not None and caller.f_code.co_filename.startswith("<"):
            caller = caller.f_back
        if caller is not None:
            place = Scope.of(caller)
            calls = [c for c in place.calls_at(caller.f_lineno) if _names_function(scope, c, function)]
            yield from ((place, call) for call in calls[:1])
        return
    calls = [c for c in ast.walk(scope.tree) if isinstance(c, ast.Call) and _names_function(scope, c, function)]
    yield from ((scope.at(call), call) for call in calls if len(calls) == 1)


def _names_function(scope: Scope, call: ast.Call, function: Function) -> bool:
    if function.name != "__init__":
        return called(call) == function.name
    owners = [c.name for c in ast.walk(scope.tree) if isinstance(c, ast.ClassDef) and function in c.body]
    return called(call) in owners


def _imported(scope: Scope, name: str, depth: int) -> str:
    """``from settings import LR``: the line in that file."""
    for node in ast.walk(scope.tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _in_module(_module(scope, node), alias.name, depth)
    return ""


def _module(scope: Scope, node: ast.ImportFrom) -> ModuleType | None:
    package = str(scope.frame.f_globals.get("__package__") or "") if scope.frame is not None and node.level else ""
    parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
    return sys.modules.get(".".join([*filter(None, parts), *([node.module] if node.module else [])]))


def _in_module(module: object, name: str, depth: int) -> str:
    path = getattr(module, "__file__", None)
    if not isinstance(path, str) or not path.endswith(".py"):
        return ""
    place = Scope(path, 1 << 30, None)
    bound = assignments(place.tree.body, name)
    return _follow(place.at(bound[-1]), bound[-1], name, depth) if bound else ""


# -- attributes and entries ---------------------------------------------------------------------------------------


def _attribute(scope: Scope, value: ast.Attribute, depth: int) -> str:
    """``args.lr``, ``config.optim.lr``, ``self.lr``, ``settings.LR``."""
    if isinstance(value.value, ast.Name) and scope.frame is not None:
        held = scope.frame.f_globals.get(value.value.id)
        if isinstance(held, ModuleType):
            return _in_module(held, value.attr, depth)
    if _from_command_line(scope, value.value):  # not to be taken for a ``self.lr`` that is given the option
        options = list(_options(scope, value.attr))
        return scope.where(options[0]) if len(options) == 1 else ""
    return _entry(scope, value.attr, depth)


def _from_command_line(scope: Scope, owner: ast.expr) -> bool:
    """Whether this is what ``parser.parse_args()`` gave."""
    for node in ast.walk(scope.tree):
        if isinstance(node, ast.Assign) and ast.unparse(owner) in map(ast.unparse, node.targets):
            calls = [called(n) for n in ast.walk(node.value) if isinstance(n, ast.Call)]
            return "parse_args" in calls or "parse_known_args" in calls
    return False


def _entry(scope: Scope, name: str, depth: int) -> str:
    """The one place of the file that gives this attribute, option or key a value; the more specific kind first."""
    for kind in (_set_attributes, _keywords, _options, _fields):
        places = list(kind(scope, name))
        if len({node.lineno for node in places}) == 1:
            place = scope.at(places[0])
            return resolve(place, places[0], depth + 1) or scope.where(places[0])
        if places:
            return ""
    return ""


def _set_attributes(scope: Scope, name: str) -> Iterator[ast.expr]:
    """``self.lr = ...``, ``config.lr = ...``, ``config["lr"] = ...``."""
    for node in ast.walk(scope.tree):
        if isinstance(node, ast.Assign):
            target = node.targets[0]
            held = isinstance(target, ast.Attribute) and target.attr == name
            if (held or (isinstance(target, ast.Subscript) and key(target) == name)) and not _in_groups(target):
                yield node.value


def _in_groups(target: ast.expr) -> bool:
    """A schedule's ``group["lr"] = ...`` sets a later value, not the first one."""
    return isinstance(target, ast.Subscript) and "group" in ast.unparse(target.value)


def _keywords(scope: Scope, name: str) -> Iterator[ast.expr]:
    """``Config(lr=...)``, ``dict(lr=...)``, ``{"lr": ...}``; not another optimizer, which is given parameters too."""
    current = {id(call) for call in scope.calls_at(scope.line)}
    for node in ast.walk(scope.tree):
        if isinstance(node, ast.Call) and id(node) not in current and (not node.args or called(node) == "replace"):
            yield from (k.value for k in node.keywords if k.arg == name and _plain(k.value))
        elif isinstance(node, ast.Dict):
            for word, value in zip(node.keys, node.values, strict=True):
                if isinstance(word, ast.Constant) and word.value == name and _plain(value):
                    yield value


def _plain(value: ast.expr) -> bool:
    """A number in the source, or made of numbers."""
    kinds = ast.Constant | ast.UnaryOp | ast.BinOp | ast.operator | ast.unaryop
    return all(isinstance(n, kinds) for n in ast.walk(value))


def _options(scope: Scope, name: str) -> Iterator[ast.expr]:
    """``parser.add_argument("--lr", default=...)`` (and click's and typer's ``option``)."""
    for node in ast.walk(scope.tree):
        if isinstance(node, ast.Call) and called(node) in ("add_argument", "option", "Option"):
            words = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            if any(word.lstrip("-").replace("-", "_") == name for word in words):
                yield next((k.value for k in node.keywords if k.arg == "default"), node)


def _fields(scope: Scope, name: str) -> Iterator[ast.expr]:
    """``lr: float = 0.1`` in a class."""
    for node in ast.walk(scope.tree):
        for statement in node.body if isinstance(node, ast.ClassDef) else []:
            target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
            value = getattr(statement, "value", None)
            if isinstance(target, ast.Name) and target.id == name and value is not None:
                yield value
