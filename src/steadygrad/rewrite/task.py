"""One remedy to be written into one script: what it may look at, and how numbers are changed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import libcst as cst

from steadygrad.records import RemedySpec
from steadygrad.rewrite.constants import Constant, Constants, number
from steadygrad.rewrite.hints import Hints, split_place
from steadygrad.rewrite.names import Names
from steadygrad.rewrite.script import Refused, Script
from steadygrad.rewrite.training import Training
from steadygrad.values import Rate, one_of, positive, rate

#: Constants of such names may be changed although they are read in several places.
_KNOBS = re.compile(r"lr|rate|eta|alpha|peak|step_?size|decay|wd|norm|clip|max|limit|thresh", re.IGNORECASE)


class Task:
    """A script, a remedy and what a run knows of both."""

    def __init__(self, source: str, path: str, spec: RemedySpec, hints: Hints) -> None:
        self.script = Script(source)
        self.names = Names(self.script)
        self.constants = Constants(self.script)
        self.training = Training(self.script, self.names, hints, path)
        self.spec, self.hints, self.path = spec, hints, path
        self.said: list[str] = []

    # -- the remedy's own words ---------------------------------------------------------------------------------

    def positive(self, default: float) -> float:
        """The remedy's value."""
        return positive(self.spec, default)

    def rate(self, default: str) -> Rate:
        """The remedy's value as a number, or relative to the old one: ``/10``, ``x3``."""
        return rate(self.spec, default)

    def one_of(self, *choices: str) -> str:
        """The remedy's value where it is a word; the first is the default."""
        return one_of(self.spec, *choices)

    @property
    def place_line(self) -> int:
        """The line of this file that the remedy is meant for; 0 for none."""
        name, line = split_place(self.spec.place)
        if line and name != self.path.replace("\\", "/").rpartition("/")[2]:
            raise Refused(f"it is meant for {self.spec.place}, which is another file")
        return line

    def say(self, words: str, node: cst.CSTNode | None = None) -> None:
        """Note a change that is made."""
        line = f"line {self.script.line(node)}: " if node is not None else ""
        self.said.append(line + words)

    # -- numbers ------------------------------------------------------------------------------------------------

    def change(self, node: cst.BaseExpression, new: Callable[[float], float], otherwise: str, what: str) -> None:
        """Write another number where this expression gets its value.

        Args:
            node: the expression that is used, a literal or a name that stands for one.
            new: the new value from the old one.
            otherwise: what to write in place of the expression itself, where no single constant stands behind it.
            what: what the number is, for the note.
        """
        constant = self.constants.find(node)
        if constant is None or number(constant.node) is None or self._shared(node, constant):
            return self._replace(node, otherwise, what)
        self._refuse_given(constant, what)
        old = number(constant.node)
        assert old is not None
        text = write(new(old))
        if constant.node is not node:
            what = f"{what} ({self.script.text(node)})"
        if constant.flag:
            what = f"{what}, the default of {constant.flag}"
        return self._replace(constant.node, text, what)

    def _replace(self, node: cst.BaseExpression, text: str, what: str) -> None:
        self.say(f"{what}: {self.script.text(node)} -> {text}", node)
        self.script.replace(node, text)

    def _shared(self, node: cst.BaseExpression, constant: Constant) -> bool:
        """Whether a constant is read for other purposes as well."""
        if constant.node is node or not isinstance(node, cst.Name) or _KNOBS.search(node.value):
            return False
        reads = [n for n in self.script.find(cst.Name) if n.value == node.value]
        return len(reads) > 2

    def _refuse_given(self, constant: Constant, what: str) -> None:
        if constant.flag and any(arg.partition("=")[0] == constant.flag for arg in self.hints.argv):
            raise Refused(f"{what} was given on the command line: pass another {constant.flag}")


def write(value: float) -> str:
    """A number as a person writes it: ``0.01``, ``1e-5``.

    >>> write(1e-05), write(0.30000000000000004), write(20.0)
    ('1e-5', '0.3', '20.0')
    """
    if math.isinf(value):
        return 'float("inf")'
    text = f"{value:.6g}"
    if "e" in text or 0 < abs(value) < 1e-3:
        mantissa, _, power = f"{value:.5e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(power)}"
    return text if "." in text else f"{text}.0"
