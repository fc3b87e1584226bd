"""A place in the user's source: the tree of its file, the functions around a line, the calls on it."""

from __future__ import annotations

import ast
import linecache
import os
from functools import lru_cache
from types import FrameType

#: Longer files are not read.
_LONGEST = 5000
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Scope:
    """A place in the source: the file's tree, the functions around a line, and the frame where there is one."""

    def __init__(self, path: str, line: int, frame: FrameType | None) -> None:
        self.path, self.line, self.frame = path, line, frame
        self.file = os.path.basename(path)
        self.tree = parsed(path)
        inside = [n for n in ast.walk(self.tree) if isinstance(n, Function) and covers(n, line)]
        self.functions: list[Function] = sorted(inside, key=lambda n: -n.lineno)

    @classmethod
    def of(cls, frame: FrameType) -> Scope:
        """The present line of a frame."""
        return cls(frame.f_code.co_filename, frame.f_lineno, frame)

    def at(self, node: ast.stmt | ast.expr) -> Scope:
        """The same file at another line, no longer tied to the frame's function."""
        return Scope(self.path, node.lineno, None)

    def calls_at(self, line: int) -> list[ast.Call]:
        """Calls that cover a line, innermost first."""
        found = [n for n in ast.walk(self.tree) if isinstance(n, ast.Call) and covers(n, line)]
        return sorted(found, key=lambda n: (n.end_lineno or n.lineno) - n.lineno or len(ast.dump(n)))

    def where(self, node: ast.stmt | ast.expr) -> str:
        """``file:line`` of a node."""
        return f"{self.file}:{node.lineno}"


@lru_cache(maxsize=32)
def parsed(path: str) -> ast.Module:
    """The tree of a file; an empty one where it cannot be had."""
    lines = linecache.getlines(path)
    try:
        return ast.parse("".join(lines)) if len(lines) <= _LONGEST else ast.Module([], [])
    except (SyntaxError, ValueError):
        return ast.Module([], [])


def covers(node: ast.stmt | ast.expr, line: int) -> bool:
    """Whether a node extends over a line."""
    return node.lineno <= line <= (node.end_lineno or node.lineno)


def called(call: ast.Call) -> str:
    """The last part of the name that is called."""
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def key(node: ast.Subscript) -> str:
    """The word a subscript asks for; "" where it is none."""
    return node.slice.value if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str) else ""
