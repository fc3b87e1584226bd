"""Packages that only some commands need, and that need not be installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from steadygrad.errors import InputError


@contextmanager
def needed(*packages: str, otherwise: str) -> Iterator[None]:
    """Imports inside may find one of these packages missing: the user is then told what to do.

    Args:
        packages: top-level names. That any other is missing is a fault of ours and raised as it is.
        otherwise: what to say; ``{name}`` stands for the package that is missing.

    Raises:
        InputError: one of the packages is not installed.

    >>> with needed("no_such_package", otherwise="this needs {name}: pip install {name}"):
    ...     import no_such_package
    Traceback (most recent call last):
    steadygrad.errors.InputError: this needs no_such_package: pip install no_such_package
    """
    try:
        yield
    except ModuleNotFoundError as error:
        name = str(error.name).partition(".")[0]
        if name not in packages:
            raise
        raise InputError(otherwise.format(name=name)) from error
