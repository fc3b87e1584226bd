"""Schedules as text: ``warmup(200) > cosine(800)``."""

from __future__ import annotations

import ast
import difflib
import inspect
import warnings
from collections.abc import Callable
from typing import Any

from steadygrad.errors import InputError
from steadygrad.schedules import base, builders, decays, ramps
from steadygrad.schedules.base import Schedule, sequence, text_name

#: What can be called in text, under the name it is printed with.
WORDS: dict[str, Callable[..., Schedule]] = {
    **{
        text_name(form): form
        for form in (
            decays.Constant,
            ramps.Warmup,
            ramps.Linear,
            ramps.Cosine,
            ramps.CosineRestarts,
            decays.Step,
            decays.MultiStep,
            decays.Exponential,
            ramps.Polynomial,
            decays.InverseSqrt,
            decays.Noam,
            ramps.Sqrt,
            ramps.Halving,
            ramps.Geometric,
        )
    },
    "one_cycle": builders.one_cycle,
    "wsd": builders.wsd,
    "sequence": base.sequence,
    "continued": base.continued,
    "strict": base.Strict,
}
#: Longer texts are refused: Python's parser recurses.
MAX_LENGTH = 4000


def parse(text: str) -> Schedule:
    """Read a schedule from text.

    ``a > b`` runs one after the other, ``0.1 * a`` scales, ``a * b`` multiplies, brackets group, and a form is called
    as in Python: ``cosine(800, end=0.1)``. Numbers may be written ``1/25`` or ``1e-4``. Names are those of the forms
    in lower case (``multi_step``; underscores may be left out). Nothing else is understood, and nothing is executed.

    Args:
        text: for example ``"warmup(200) > cosine(800)"``.

    Raises:
        InputError: the text is no schedule; the message points at the place.

    Example:
        >>> schedule = parse("warmup(200) > cosine(800)")
        >>> schedule(199), schedule(600)
        (1.0, 0.5)
        >>> parse(str(schedule)) == schedule
        True
        >>> parse("warmup(200) > cosin(800)")
        Traceback (most recent call last):
        ...
        steadygrad.errors.InputError: no schedule is called 'cosin'; did you mean cosine?
            warmup(200) > cosin(800)
                          ^
    """
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"a schedule in text reads like 'warmup(200) > cosine(800)'; received {text!r}")
    if len(text) > MAX_LENGTH:
        raise InputError(f"a schedule in text has at most {MAX_LENGTH} characters, not {len(text)}; build it in Python")
    text = " ".join(text.split())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python, about odd spellings
            tree = ast.parse(text, mode="eval")
        found = _Reader(text).read(tree.body)
    except SyntaxError as error:
        why = "" if error.msg == "invalid syntax" else f": {error.msg}"
        raise _refusal(f"this is not a schedule{why}", text, (error.offset or len(text) + 1) - 1) from None
    except (RecursionError, MemoryError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"this is not a schedule: {error}") from None
    if not isinstance(found, Schedule):
        raise _refusal(f"a schedule is wanted, not {found!r}; perhaps constant(value={found!r})", text, 0)
    return found


def _refusal(rule: str, text: str, column: int) -> InputError:
    return InputError(f"{rule}\n    {text}\n    {' ' * min(max(column, 0), len(text))}^")


class _Reader:
    """Turns the syntax tree into schedules and numbers; anything it does not know is refused."""

    def __init__(self, text: str) -> None:
        self._text = text

    def refuse(self, node: ast.AST, rule: str) -> InputError:
        return _refusal(rule, self._text, getattr(node, "col_offset", 0))

    def read(self, node: ast.AST) -> Any:
        match node:
            case ast.Compare(left, ops, rights) if all(isinstance(op, ast.Gt) for op in ops):
                return self._sequence(node, [left, *rights])
            case ast.BinOp(left, ast.RShift(), right):
                return self._sequence(node, [left, right])
            case ast.BinOp(left, ast.Mult() | ast.Div() as op, right):
                return self._arithmetic(node, self.read(left), op, self.read(right))
            case ast.UnaryOp(ast.USub(), operand):
                return -self._number(operand)
            case ast.Call(ast.Name(name), args, keywords):
                return self._call(node, name, args, keywords)
            case ast.List(parts) | ast.Tuple(parts):
                return [self.read(part) for part in parts]
            case ast.Constant(value) if value is None or isinstance(value, int | float | str):
                return value
            case ast.Name(name):
                raise self.refuse(node, f"{name!r} needs its arguments in brackets, as in {name}(100)")
        raise self.refuse(node, "here stands something that is no schedule; use forms, numbers, `>`, `*` and brackets")

    def _sequence(self, node: ast.AST, parts: list[ast.expr]) -> Any:
        pieces = [self.read(part) for part in parts]
        for part, piece in zip(parts, pieces, strict=True):
            if not isinstance(piece, Schedule):
                raise self.refuse(part, f"`>` stands between schedules, and {piece!r} is none; try constant(100)")
        return self._made(node, sequence, pieces, {})

    def _number(self, node: ast.AST) -> float:
        value = self.read(node)
        if isinstance(value, int | float):
            return value
        raise self.refuse(node, "a minus sign stands before a number")

    def _arithmetic(self, node: ast.AST, left: Any, op: ast.operator, right: Any) -> Any:
        numbers = [value for value in (left, right) if isinstance(value, int | float) and not isinstance(value, bool)]
        if isinstance(op, ast.Mult) and isinstance(left, Schedule | int | float):
            if isinstance(right, Schedule | int | float):
                return self._made(node, lambda: left * right, [], {})
        elif len(numbers) == 2 and right != 0:
            return left / right
        raise self.refuse(node, "numbers and schedules are multiplied; only numbers are divided, and not by 0")

    def _call(self, node: ast.AST, name: str, args: list[ast.expr], keywords: list[ast.keyword]) -> Any:
        known = {word.replace("_", ""): word for word in WORDS}
        word = known.get(name.replace("_", "").lower())
        if word is None:
            near = difflib.get_close_matches(name.lower(), WORDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(WORDS)}"
            raise self.refuse(node, f"no schedule is called {name!r}; {hint}")
        named = {str(keyword.arg): self.read(keyword.value) for keyword in keywords if keyword.arg}
        if len(named) < len(keywords) or any(isinstance(arg, ast.Starred) for arg in args):
            raise self.refuse(node, "arguments are written out one by one")
        return self._made(node, WORDS[word], [self.read(arg) for arg in args], named)

    def _made(self, node: ast.AST, make: Callable[..., Any], args: list[Any], named: dict[str, Any]) -> Any:
        try:
            inspect.signature(make).bind(*args, **named)
        except TypeError as error:
            raise self.refuse(node, f"{error}; it is {usage(make)}") from None
        try:
            return make(*args, **named)
        except InputError as error:
            raise self.refuse(node, str(error)) from None


def usage(make: Callable[..., Schedule]) -> str:
    """How a form is written.

    Example:
        >>> usage(ramps.Cosine)
        'cosine(steps, start=1.0, end=0.0)'
    """
    words = []
    for parameter in inspect.signature(make).parameters.values():
        default = parameter.default
        star = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
        words.append(star + parameter.name + ("" if default is parameter.empty else f"={_shown(default)}"))
    name = next(word for word, known in WORDS.items() if known is make)
    return f"{name}({', '.join(words)})"


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) and value != round(value, 3) else repr(value)
