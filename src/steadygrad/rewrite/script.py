"""A script as a syntax tree with positions, and changes to it as pieces of text, so that all else stays as it is."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import libcst as cst
from libcst.metadata import MetadataWrapper, ParentNodeProvider, PositionProvider

from steadygrad.errors import InputError

Node = TypeVar("Node", bound=cst.CSTNode)
Function = cst.FunctionDef | cst.Lambda | cst.Module
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$")
#: Expressions that a method can be called on as they stand.
_ATOMS = (cst.Name, cst.Attribute, cst.Call, cst.Subscript, cst.List, cst.Dict)


class Refused(Exception):  # noqa: N818  (an answer, not an error)
    """A change that cannot be made safely. ``line`` is where to look instead, 0 where that is not known."""

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(reason)
        self.reason, self.line = reason, line


@dataclass(frozen=True, slots=True)
class Edit:
    """Characters ``start`` to ``end`` are replaced by ``text``."""

    start: int
    end: int
    text: str


class Script:
    """One file: its nodes in the order of the text, where they are, and the changes that were asked for.

    Raises:
        InputError: the source is not valid Python.
    """

    def __init__(self, source: str) -> None:
        try:
            wrapper = MetadataWrapper(cst.parse_module(source))
        except cst.ParserSyntaxError as error:
            raise InputError(f"Only valid Python can be rewritten, but the source cannot be parsed: {error}") from error
        self.source, self.tree = source, wrapper.module
        self.indent, self.newline = self.tree.default_indent, self.tree.default_newline
        self._parents = wrapper.resolve(ParentNodeProvider)
        self._positions = wrapper.resolve(PositionProvider)
        self._starts = [match.start() for match in _LINE.finditer(source)]
        self.nodes: list[cst.CSTNode] = list(_preorder(self.tree))
        self._edits: list[Edit] = []
        self._imports: list[str] = []

    # -- looking ------------------------------------------------------------------------------------------------

    def find(self, kind: type[Node], within: cst.CSTNode | None = None) -> Iterator[Node]:
        """Nodes of a kind in the order of the text, all or those inside another."""
        nodes = self.nodes if within is None else _preorder(within)
        return (node for node in nodes if isinstance(node, kind))

    def line(self, node: cst.CSTNode) -> int:
        """The line on which a node begins, from 1."""
        return int(self._positions[node].start.line)

    def last_line(self, node: cst.CSTNode) -> int:
        """The line on which a node ends; for a block the last one of its statements."""
        end = self._positions[node].end
        return int(end.line if end.column else max(end.line - 1, self.line(node)))

    def span(self, node: cst.CSTNode) -> tuple[int, int]:
        """Where a node begins and ends, in characters; parentheses around an expression are not part of it."""
        place = self._positions[node]
        return self._offset(place.start.line, place.start.column), self._offset(place.end.line, place.end.column)

    def text(self, node: cst.CSTNode) -> str:
        """A node as it is written."""
        start, end = self.span(node)
        return self.source[start:end]

    def atom(self, node: cst.BaseExpression) -> str:
        """An expression as it must be written to take an operator or a method."""
        text = self.text(node)
        return text if isinstance(node, _ATOMS) and not node.lpar else f"({text})"

    def factor(self, node: cst.BaseExpression) -> str:
        """An expression as it must be written to stand in a product; "1" where it is that number."""
        product = isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Multiply | cst.Divide)
        plain = isinstance(node, cst.Float | cst.Integer) or product
        return self.text(node) if plain and not node.lpar else self.atom(node)

    def parent(self, node: cst.CSTNode) -> cst.CSTNode | None:
        """The node that directly holds another."""
        return self._parents.get(node)

    def ancestors(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """Whatever holds a node, from the inside out."""
        above = self.parent(node)
        while above is not None:
            yield above
            above = self.parent(above)

    def enclosing(self, node: cst.CSTNode, *kinds: type[Node]) -> Node | None:
        """The innermost node of these kinds around another."""
        return next((above for above in self.ancestors(node) if isinstance(above, kinds)), None)

    def function(self, node: cst.CSTNode) -> cst.FunctionDef | None:
        """The function in which a node is written."""
        return self.enclosing(node, cst.FunctionDef)

    def statement(self, node: cst.CSTNode) -> cst.CSTNode:
        """The statement that a node is part of."""
        kinds = (cst.BaseSmallStatement, cst.BaseCompoundStatement)
        if isinstance(node, kinds):
            return node
        found = next((above for above in self.ancestors(node) if isinstance(above, kinds)), None)
        assert found is not None, "every expression is part of a statement"
        return found

    def is_import(self, node: cst.CSTNode) -> bool:
        """Whether a name is part of an import."""
        return isinstance(self.statement(node), cst.Import | cst.ImportFrom)

    def block(self, statement: cst.CSTNode) -> cst.CSTNode | None:
        """The block that a statement stands in."""
        return self.enclosing(statement, cst.IndentedBlock, cst.Module, cst.SimpleStatementSuite)

    def loops(self, node: cst.CSTNode) -> list[cst.For | cst.While]:
        """The loops around a node inside its own function, innermost first."""
        found: list[cst.For | cst.While] = []
        for above in self.ancestors(node):
            if isinstance(above, cst.FunctionDef | cst.Lambda | cst.ClassDef):
                break
            if isinstance(above, cst.For | cst.While):
                found.append(above)
        return found

    # -- changing -----------------------------------------------------------------------------------------------

    def replace(self, node: cst.CSTNode, text: str) -> None:
        """Write something else in the place of a node."""
        start, end = self.span(node)
        self._change(start, end, text)

    def replace_whole(self, node: cst.BaseExpression, text: str) -> None:
        """Write something else in the place of an expression and of the parentheses around it."""
        start, end = self.span(node)
        for _ in node.lpar:
            start = self.source.rindex("(", 0, start)
            end = self.source.index(")", end) + 1
        self._change(start, end, text)

    def around(self, node: cst.BaseExpression, before: str, after: str) -> None:
        """Put text before and after an expression and its parentheses, which it is given where it needs them."""
        start, end = self.span(node)
        for _ in node.lpar:
            start, end = self.source.rindex("(", 0, start), self.source.index(")", end) + 1
        if not node.lpar and not isinstance(node, _ATOMS) and after.startswith("."):
            before, after = f"{before}(", f"){after}"
        if before:
            self._change(start, start, before)
        self._change(end, end, after)

    def cut(self, start: int, end: int, text: str = "") -> None:
        """Replace a stretch of characters."""
        self._change(start, end, text)

    def before(self, node: cst.CSTNode, *code: str) -> None:
        """Put lines of code before the statement that a node is part of."""
        statement = self.statement(node)
        start, _ = self.span(statement)
        if self._has_own_line(statement):
            self._insert_lines(self._line_start(start), self._margin(statement), code)
        else:
            self._change(start, start, _inline(code, self.line(node)) + "; ")

    def after(self, node: cst.CSTNode, *code: str) -> None:
        """Put lines of code after the statement that a node is part of."""
        statement = self.statement(node)
        if self._has_own_line(statement):
            self._insert_lines(self._offset(self.last_line(statement) + 1, 0), self._margin(statement), code)
        else:
            _, end = self.span(statement)
            self._change(end, end, "; " + _inline(code, self.line(node)))

    def delete(self, node: cst.CSTNode) -> None:
        """Take the statement away that a node is part of."""
        statement = self.statement(node)
        block = self.block(statement)
        alone = isinstance(block, cst.IndentedBlock) and len(block.body) == 1
        if alone or not self._has_own_line(statement):
            self.replace(statement, "pass")
        else:
            first = self._line_start(self.span(statement)[0])
            self._change(first, self._offset(self.last_line(statement) + 1, 0), "")

    def under(self, node: cst.CSTNode, header: str) -> None:
        """Put the statement that a node is part of under a compound statement's first line."""
        statement = self.statement(node)
        if not self._has_own_line(statement) or self.line(statement) != self.last_line(statement):
            raise Refused("it shares its line or takes several, so it cannot be indented safely", self.line(statement))
        start, end = self.span(statement)
        margin = self._margin(statement)
        self._change(start, end, f"{header}{self.newline}{margin}{self.indent}{self.source[start:end]}")

    def add_import(self, statement: str) -> None:
        """Import something at the top of the file."""
        if statement not in self._imports:
            self._imports.append(statement)

    def changed(self) -> str:
        """The source with every change made."""
        edits = sorted(self._edits, key=lambda edit: (edit.start, edit.end))
        for one, two in pairwise(edits):
            if two.start < one.end:
                raise Refused("two changes meet in one place", self.source.count("\n", 0, two.start) + 1)
        parts, at = [], 0
        for edit in [*edits]:
            parts += [self.source[at : edit.start], edit.text]
            at = edit.end
        return self._with_imports("".join([*parts, self.source[at:]]))

    # -- how it is done -----------------------------------------------------------------------------------------

    def _with_imports(self, source: str) -> str:
        """Modules of Python go before the first import at the top, others after the last; else after the docstring."""
        if not self._imports:
            return source
        body = Script(source)
        tops = [s for s in body.tree.body if isinstance(s, cst.SimpleStatementLine)]
        imports = [s for s in tops if isinstance(s.body[0], cst.Import | cst.ImportFrom)]
        first = body.tree.body[0] if body.tree.body else None
        lead = [first] if first in tops and isinstance(first, cst.SimpleStatementLine) and is_docstring(first) else []
        last = body._offset(body.last_line((imports or lead)[-1]) + 1, 0) if imports or lead else 0
        later = next((s for s in imports if "__future__" not in body.text(s)), None)
        first_at = body._offset(body.line(later), 0) if later is not None else last
        own = [statement for statement in self._imports if _is_own(statement)]
        gap = [""] if own and later is not None and not _is_own(body.text(later)) else []
        others = sorted({*self._imports} - {*own})
        blocks = (
            [(last, others), (first_at, [*sorted(own), *gap])] if first_at < last else [(last, [*sorted(own), *others])]
        )
        for at, rows in blocks:
            before = self.newline if rows and at and source[at - 1] not in "\r\n" else ""
            source = source[:at] + before + "".join(f"{row}{self.newline}" for row in rows) + source[at:]
        return source

    def _change(self, start: int, end: int, text: str) -> None:
        edit = Edit(start, end, text)
        if edit not in self._edits:
            self._edits.append(edit)

    def _insert_lines(self, at: int, margin: str, code: Sequence[str]) -> None:
        text = "".join(f"{margin}{line}{self.newline}" for line in code)
        if at and self.source[at - 1] not in "\r\n":
            text = self.newline + text.removesuffix(self.newline)
        self._change(at, at, text)

    def _has_own_line(self, statement: cst.CSTNode) -> bool:
        above = self.parent(statement)
        if isinstance(statement, cst.BaseCompoundStatement):
            return isinstance(above, cst.IndentedBlock | cst.Module)
        return isinstance(above, cst.SimpleStatementLine) and len(above.body) == 1

    def _margin(self, statement: cst.CSTNode) -> str:
        start, _ = self.span(statement)
        return self.source[self._line_start(start) : start]

    def _line_start(self, offset: int) -> int:
        return max((start for start in self._starts if start <= offset), default=0)

    def _offset(self, line: int, column: int) -> int:
        return self._starts[line - 1] + column if line <= len(self._starts) else len(self.source)


def _is_own(statement: str) -> bool:
    """Whether an import is of a module that comes with Python."""
    return statement.split()[1].partition(".")[0] in sys.stdlib_module_names


def is_docstring(statement: cst.SimpleStatementLine) -> bool:
    """Whether a statement is just a text."""
    only = statement.body[0]
    return isinstance(only, cst.Expr) and isinstance(only.value, cst.SimpleString | cst.ConcatenatedString)


def _preorder(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    yield node
    for child in node.children:
        yield from _preorder(child)


def _inline(code: Sequence[str], line: int) -> str:
    if any(part.endswith(":") or part.startswith(" ") for part in code):
        raise Refused("the statement shares its line with others", line)
    return "; ".join(code)
