"""What a schedule is, and how schedules are combined: one after another, scaled, multiplied, strict about their end.

Nothing here imports torch.
"""

# ruff: noqa: D102 (what is overridden is described where it is declared)
from __future__ import annotations

import math
import re
import sys
from abc import ABC, abstractmethod
from bisect import bisect_right
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from itertools import accumulate
from numbers import Integral, Real
from typing import Any, NamedTuple

from steadygrad.errors import InputError

#: Beyond this, floats no longer count in steps of one.
MAX = 2**53


class Joint(NamedTuple):
    """Where one piece of a sequence hands over to the next: the factor it would have reached, and the new one."""

    t: float
    before: float
    after: float


class Schedule(ABC):
    """A factor as a function of ``t``, the number of optimizer steps already made: the first update uses ``t = 0``.

    Schedules are frozen and hold no state: the value at ``t`` never depends on which values were asked for before, so
    resuming needs one integer. They compare by value, pickle, and print as the text :func:`~steadygrad.schedules.parse`
    reads. ``a >> b`` puts one after the other, ``a * b`` multiplies, ``0.1 * a`` scales.

    Past its end a schedule holds its last value; :class:`Strict` makes it raise instead.
    """

    @property
    def length(self) -> float:
        """Steps until the last value is reached and held; ``inf`` if it never ends."""
        return math.inf

    @abstractmethod
    def factor(self, t: float) -> float:
        """The formula, for ``0 <= t <= length``."""

    def __call__(self, t: float) -> float:
        """The factor after ``t`` steps.

        Raises:
            InputError: ``t`` is negative, not finite or beyond all counting.
        """
        if not isinstance(t, Real) or not 0 <= t <= MAX:
            raise InputError(f"t counts the steps made so far: a number from 0 to 2**53, not {t!r}")
        return float(self._at(t))

    def _at(self, t: float) -> float:
        return self.factor(min(t, self.length))

    @property
    def joints(self) -> tuple[Joint, ...]:
        """Where pieces meet; empty for a single form."""
        return ()

    def __rshift__(self, following: Schedule) -> Schedule:
        if isinstance(following, Schedule):
            return sequence(self, following)
        return NotImplemented

    def __mul__(self, other: Schedule | float) -> Schedule:
        if isinstance(other, Schedule):
            return Product((self, other))
        if isinstance(other, Real):
            return Scaled(self, other)
        return NotImplemented

    def __rmul__(self, other: float) -> Schedule:
        return self * other

    def __str__(self) -> str:
        """The text form: :func:`~steadygrad.schedules.parse` gives an equal schedule back."""
        words = []
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if field.default is MISSING or value != field.default:
                words.append(f"{field.name}={_word(value)}" if field.kw_only else _word(value))
        return f"{text_name(type(self))}({', '.join(words)})"


def _word(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_word, value))}]"
    return str(value) if isinstance(value, Schedule) else repr(value)


def text_name(form: type[Schedule]) -> str:
    """The name of a form in text.

    Example:
        >>> from steadygrad.schedules import InverseSqrt
        >>> text_name(InverseSqrt)
        'inverse_sqrt'
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", form.__name__).lower()


# -- checks of arguments ------------------------------------------------------------------------------------------


def checked(name: str, value: object, *, low: float = 0.0, high: float = MAX, open_low: bool = False) -> float:
    """``value`` as a plain number, where it is finite and in the interval.

    Args:
        name: what it is called in the error.
        value: what was received.
        low: smallest value allowed.
        high: largest value allowed.
        open_low: ``low`` itself is not allowed.

    Raises:
        InputError: it is no such number.

    Example:
        >>> checked("steps", -1)
        Traceback (most recent call last):
        ...
        steadygrad.errors.InputError: steps must be a finite number of at least 0, not -1
    """
    if isinstance(value, Real) and not isinstance(value, bool) and low <= value <= high:  # type: ignore[operator]
        number = int(value) if isinstance(value, Integral) else float(value)
        if number > low or not open_low:
            return number
    bounds = f"above {low:g}" if open_low else f"of at least {low:g}"
    bounds += f" and at most {high:g}" if high < MAX else ""
    raise InputError(f"{name} must be a finite number {bounds}, not {value!r}")


def check(schedule: Schedule, **bounds: dict[str, Any]) -> None:
    """Check fields with :func:`checked` and store the plain numbers; None passes where it is the default."""
    defaults = {field.name: field.default for field in fields(schedule)}  # type: ignore[arg-type]
    for name, bound in bounds.items():
        value = getattr(schedule, name)
        if value is not None or defaults[name] is not None:
            object.__setattr__(schedule, name, checked(name, value, **bound))


# -- combinations -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sequence(Schedule):
    """Pieces one after another, each counting its own steps from 0. Built by :func:`sequence` or ``>>``."""

    pieces: tuple[Schedule, ...]

    def __post_init__(self) -> None:
        flat = [p for piece in self.pieces for p in (piece.pieces if isinstance(piece, Sequence) else (piece,))]
        object.__setattr__(self, "pieces", tuple(flat))
        if not flat:
            raise InputError("a sequence needs at least one schedule")
        for piece in flat[:-1]:
            if not math.isfinite(piece.length):
                raise InputError(
                    f"only the last schedule of a sequence may be endless, but {piece} is followed by another: "
                    f"give it a length, e.g. steps=1000"
                )

    @cached_property
    def starts(self) -> tuple[float, ...]:
        """The step at which each piece takes over."""
        return tuple(accumulate((piece.length for piece in self.pieces[:-1]), initial=0))

    @property
    def length(self) -> float:
        return self.starts[-1] + self.pieces[-1].length

    @property
    def joints(self) -> tuple[Joint, ...]:
        found: dict[float, float] = {}
        for start, piece in zip(self.starts[1:], self.pieces, strict=False):
            found.setdefault(start, piece._at(piece.length))  # an empty piece in between takes no step
        found.pop(0, None)
        return tuple(Joint(start, before, self._at(start)) for start, before in found.items())

    def factor(self, t: float) -> float:
        return self._at(t)

    def _at(self, t: float) -> float:
        if t >= self.length:  # t - start could round to just before the end
            return self.pieces[-1]._at(self.pieces[-1].length + (t - self.length))
        index = bisect_right(self.starts, t) - 1
        return self.pieces[index]._at(t - self.starts[index])

    def __str__(self) -> str:
        return " > ".join(map(str, self.pieces))


@dataclass(frozen=True)
class Scaled(Schedule):
    """A schedule times a number."""

    schedule: Schedule
    by: float

    def __post_init__(self) -> None:
        check(self, by={"high": sys.float_info.max})

    @property
    def length(self) -> float:
        return self.schedule.length

    @property
    def joints(self) -> tuple[Joint, ...]:
        return tuple(Joint(j.t, self.by * j.before, self.by * j.after) for j in self.schedule.joints)

    def factor(self, t: float) -> float:
        return self.by * self.schedule._at(t)

    def _at(self, t: float) -> float:
        return self.factor(t)

    def __str__(self) -> str:
        return f"{self.by!r} * {_bracketed(self.schedule)}"


@dataclass(frozen=True)
class Product(Schedule):
    """The factors of several schedules, all counting from step 0, multiplied. Built by ``*``."""

    pieces: tuple[Schedule, ...]

    def __post_init__(self) -> None:
        flat = [p for piece in self.pieces for p in (piece.pieces if isinstance(piece, Product) else (piece,))]
        object.__setattr__(self, "pieces", tuple(flat))

    @property
    def length(self) -> float:
        return max(piece.length for piece in self.pieces)

    def factor(self, t: float) -> float:
        return math.prod(piece._at(t) for piece in self.pieces)

    def _at(self, t: float) -> float:
        return self.factor(t)

    def __str__(self) -> str:
        return " * ".join(map(_bracketed, self.pieces))


def _bracketed(schedule: Schedule) -> str:
    return f"({schedule})" if isinstance(schedule, Sequence | Scaled | Product) else str(schedule)


@dataclass(frozen=True)
class Strict(Schedule):
    """The same schedule, but asking beyond its end is an error instead of holding the last value.

    ``t = length`` is still allowed: schedulers compute the next rate after the last step.

    Example:
        >>> from steadygrad.schedules import Linear
        >>> Linear(10)(11), Strict(Linear(10))(10)
        (0.0, 0.0)
        >>> Strict(Linear(10))(11)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        steadygrad.errors.InputError: linear(10) ends after 10 steps, and the factor was asked for after 11; ...
    """

    schedule: Schedule

    @property
    def length(self) -> float:
        return self.schedule.length

    @property
    def joints(self) -> tuple[Joint, ...]:
        return self.schedule.joints

    def factor(self, t: float) -> float:
        return self._at(t)

    def _at(self, t: float) -> float:
        if t > self.length:
            raise InputError(
                f"{self.schedule} ends after {self.length:g} steps, and the factor was asked for after {t:g}; "
                f"make it longer, or let it hold its last value by leaving out strict()"
            )
        return self.schedule._at(t)


def sequence(*pieces: Schedule) -> Schedule:
    """Schedules one after another: each takes over at the step where the one before ends, and counts from 0 again.

    The factors are those of the pieces, whatever the piece before ended at. :func:`continued` scales them so that each
    goes on from there. Nesting changes nothing: ``a >> (b >> c)`` equals ``(a >> b) >> c``. Same as ``a >> b``.

    Args:
        pieces: all but the last must have a finite length.

    Raises:
        InputError: an endless schedule is followed by another.

    Example:
        >>> from steadygrad.schedules import Cosine, Warmup
        >>> schedule = sequence(Warmup(200), Cosine(800))
        >>> schedule(0), schedule(200), schedule(600), schedule(1000)
        (0.005, 1.0, 0.5, 0.0)
    """
    for piece in pieces:
        if not isinstance(piece, Schedule):
            raise InputError(f"a sequence is made of schedules, not {type(piece).__name__}: {piece!r}")
    whole = Sequence(pieces)
    return whole.pieces[0] if len(whole.pieces) == 1 else whole


def continued(*pieces: Schedule) -> Schedule:
    """Schedules one after another, each scaled so that it starts where the one before ended: no jumps.

    Raises:
        InputError: an endless schedule is followed by another, or a later piece starts at 0 and cannot be scaled up.

    Example:
        >>> from steadygrad.schedules import Cosine, Step
        >>> print(continued(Cosine(100, end=0.1), Step(30)))
        cosine(100, end=0.1) > 0.1 * step(30)
    """
    whole: tuple[Schedule, ...] = pieces[:1]
    for piece in pieces[1:]:
        reached, begin = whole[-1](whole[-1].length) if math.isfinite(whole[-1].length) else 1.0, piece(0)
        if begin == 0:
            raise InputError(f"{piece} starts at 0, so no scaling makes it go on from {reached:g}; use sequence()")
        whole = (*whole, piece if reached == begin else Scaled(piece, reached / begin))
    return sequence(*whole)
