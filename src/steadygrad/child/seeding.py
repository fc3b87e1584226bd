"""The same script with other random numbers: its seeds are shifted, and what it leaves unseeded is seeded."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

#: Seed of a script that sets none, so that a control and its candidates begin alike.
UNSEEDED = 20_260_101
_WORD = 2**32
#: Far apart: a script that seeds each epoch or worker with seed + index must not meet the numbers of another trial.
STRIDE = 1_000_003

Seeder = Callable[..., Any]


def shift_seeds(shift: int) -> Callable[[], None]:
    """Shift every seed that the script sets from here on. Returns what puts the originals back.

    Covers ``torch.manual_seed``, ``torch.Generator().manual_seed``, ``random.seed`` and numpy's ``seed``,
    ``default_rng`` and ``RandomState``. All of them are first seeded with a fixed seed, likewise shifted. A shift of 0
    leaves seeds as they are written. Only whole numbers are shifted.

    Args:
        shift: number of the repetition; the seed becomes ``seed + shift * 1_000_003``, modulo 2**32.

    >>> undo = shift_seeds(0)
    >>> undo()
    """
    offset = shift * STRIDE
    random.seed(UNSEEDED + offset)
    np.random.seed((UNSEEDED + offset) % _WORD)
    torch.manual_seed(UNSEEDED + offset)
    places = [(torch, "manual_seed"), (torch.random, "manual_seed"), (random, "seed")]
    places += [(np.random, name) for name in ("seed", "default_rng", "RandomState")]
    originals = [(place, name, getattr(place, name)) for place, name in places]
    if offset:
        for place, name, original in originals:
            setattr(place, name, _shifted(original, offset))
        originals.append((torch, "Generator", torch.Generator))
        torch.Generator = _generator(torch.Generator, offset)  # type: ignore[misc]

    def undo() -> None:
        for place, name, original in originals:
            setattr(place, name, original)

    return undo


def _shifted(original: Seeder, offset: int) -> Any:
    """A seeding function, or class whose first argument is a seed, with that seed shifted."""
    if isinstance(original, type):
        return _SeededClass(original.__name__, (original,), {"_offset": offset})

    def seed(*args: Any, **kwargs: Any) -> Any:
        return original(*_moved(args, offset), **{key: _move(value, offset) for key, value in kwargs.items()})

    seed.__name__, seed.__doc__, seed.__wrapped__ = original.__name__, original.__doc__, original  # type: ignore[attr-defined]
    return seed


def _moved(args: tuple[Any, ...], offset: int) -> tuple[Any, ...]:
    return (_move(args[0], offset), *args[1:]) if args else args


def _move(value: Any, offset: int) -> Any:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return (int(value) + offset) % _WORD if whole else value


class _SeededClass(type):
    """A class that stands for its base: what is built is of the base, so that it pickles and compares as before."""

    _offset: int

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        moved = {k: _move(v, cls._offset) if k == "seed" else v for k, v in kwargs.items()}
        return cls.__mro__[1](*_moved(args, cls._offset), **moved)

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.__mro__[1])


def _generator(original: Any, offset: int) -> Any:
    class Shifted(original):  # type: ignore[misc]
        def manual_seed(self, seed: int) -> Any:
            super().manual_seed(_move(seed, offset))
            return self

    meta = type("_Generator", (type(original),), {"__instancecheck__": lambda _, other: isinstance(other, original)})
    return meta("Generator", (Shifted,), {"__module__": original.__module__, "__qualname__": original.__qualname__})
