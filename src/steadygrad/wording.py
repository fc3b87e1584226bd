"""Numbers and lists as parts of a sentence, so that one of a thing is not called several."""

from __future__ import annotations

from collections.abc import Sequence


def count(number: float, what: str) -> str:
    """A number with its noun.

    >>> count(1, "step"), count(1234567, "step"), count(1.5, "finding")
    ('1 step', '1234567 steps', '1.5 findings')
    """
    shown = str(number) if isinstance(number, int) else f"{number:g}"
    return f"{shown} {what}{'' if number == 1 else 's'}"


def listed(names: Sequence[str], limit: int = 3) -> str:
    """The first few names, and how many more there are.

    >>> listed(["a", "b"]), listed(["a", "b", "c", "d", "e"])
    ('a, b', 'a, b, c and 2 more')
    """
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def portion(share: float) -> str:
    """A share as it stands before what it is a share of: in per cent, from the double on as a multiple.

    >>> f"{portion(0.066)} their norm", f"{portion(1.2)} their norm", f"{portion(104.0)} their norm"
    ('6.6% of their norm', '120% of their norm', '104 times their norm')
    """
    if share >= 2:
        return f"{share:.3g} times"
    return f"{share:.0%} of" if share >= 0.1 else f"{100 * share:.2g}% of"
