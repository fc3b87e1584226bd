"""What names mean: ``nn.ReLU`` is ``torch.nn.ReLU`` where the script imported it so, and how to write it there."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from steadygrad.rewrite.script import Script


def dotted(node: cst.CSTNode | None) -> str:
    """``a.b.c`` for a plain chain of attributes, else empty."""
    if isinstance(node, cst.Name):
        return node.value
    if isinstance(node, cst.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr.value}" if base else ""
    return ""


class Names:
    """The imports of a script, read in both directions."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._meaning: dict[str, str] = {}
        self._top: set[str] = set()
        self._stars: list[str] = []
        self._given: set[str] = set()
        for plain in script.find(cst.Import):
            self._plain(plain)
        for selected in script.find(cst.ImportFrom):
            self._selected(selected)
        self._own = {n.target.value for n in script.find(cst.AssignTarget) if isinstance(n.target, cst.Name)}
        self._own |= {n.name.value for n in script.nodes if isinstance(n, cst.FunctionDef | cst.ClassDef | cst.Param)}

    def _plain(self, node: cst.Import) -> None:
        for alias in node.names:
            full = dotted(alias.name)
            if alias.asname is not None:
                self._bind(node, dotted(alias.asname.name), full)
            else:
                self._bind(node, full.partition(".")[0], full.partition(".")[0])

    def _selected(self, node: cst.ImportFrom) -> None:
        module = dotted(node.module)
        if isinstance(node.names, cst.ImportStar):
            self._stars.append(module)
            return
        for alias in node.names:
            local = dotted(alias.asname.name) if alias.asname is not None else dotted(alias.name)
            self._bind(node, local, f"{module}.{dotted(alias.name)}")

    def _bind(self, node: cst.CSTNode, local: str, full: str) -> None:
        self._meaning[local] = full
        if self._script.function(node) is None:
            self._top.add(local)

    def of(self, node: cst.CSTNode | None) -> str:
        """The full name of an imported thing; empty for what is the script's own."""
        name = dotted(node)
        first, dot, rest = name.partition(".")
        if first in self._meaning:
            return self._meaning[first] + dot + rest
        if first and first not in self._own and self._stars and first[0].isupper():
            return f"{self._stars[-1]}.{name}"
        return ""

    def short(self, node: cst.CSTNode | None) -> str:
        """The last part of a full name of torch's, ``ReLU`` or ``softmax``; empty for anything else."""
        full = self.of(node)
        return full.rpartition(".")[2] if full.partition(".")[0] == "torch" else ""

    def calls(self, *short: str) -> Iterator[cst.Call]:
        """Calls of things of torch's by their last name."""
        return (call for call in self._script.find(cst.Call) if self.short(call.func) in short)

    def spell(self, full: str, otherwise: str = "") -> str:
        """How a full name is written in this script; where nothing is imported, its package or ``otherwise`` is."""
        best = ""
        for local in self._top:
            meaning = self._meaning[local]
            reaches = full == meaning or full.startswith(meaning + ".")
            if reaches and local not in self._own and len(meaning) > len(self._meaning.get(best, "")):
                best = local
        if best:
            return best + full.removeprefix(self._meaning[best])
        if otherwise:
            self._script.add_import(otherwise)
            return full.removeprefix(otherwise.split()[1] + ".")
        self._script.add_import(f"import {full.partition('.')[0]}")
        return full

    def fresh(self, wish: str) -> str:
        """A name that the script does not use yet."""
        attributes = {id(node.attr) for node in self._script.find(cst.Attribute)}
        used = {node.value for node in self._script.find(cst.Name) if id(node) not in attributes} | self._given
        name = next(name for name in [wish, *(f"{wish}_{i}" for i in range(2, 1000))] if name not in used)
        self._given.add(name)
        return name


def argument(call: cst.Call, name: str, position: int = -1) -> cst.Arg | None:
    """An argument by keyword or, where it is given so, by position."""
    for arg in call.args:
        if arg.keyword is not None and arg.keyword.value == name:
            return arg
    plain = [arg for arg in call.args if arg.keyword is None and not arg.star]
    starred = any(arg.star for arg in call.args)
    return plain[position] if 0 <= position < len(plain) and not starred else None


def method(call: cst.CSTNode) -> str:
    """The attribute that is called: ``step`` in ``optimizer.step()``."""
    return call.func.attr.value if isinstance(call, cst.Call) and isinstance(call.func, cst.Attribute) else ""


def receiver(call: cst.CSTNode) -> cst.BaseExpression:
    """What a method is called on."""
    assert isinstance(call, cst.Call) and isinstance(call.func, cst.Attribute)
    return call.func.value
