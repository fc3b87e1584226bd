"""The data of the lab: generated, or shipped with what is installed anyway. Nothing is downloaded."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from steadygrad.errors import InputError

Pair = tuple[Tensor, Tensor]


def generator(seed: int) -> torch.Generator:
    """A generator of its own for everything that a seed draws."""
    return torch.Generator().manual_seed(seed)


def regression(seed: int, *, rows: int = 256, columns: int = 10, noise: float = 0.1) -> Pair:
    """Standard normal inputs; the target is their sum, with its variance of ``columns``, and a little noise."""
    g = generator(seed)
    x = torch.randn(rows, columns, generator=g)
    y = x.sum(1, keepdim=True) + noise * torch.randn(rows, 1, generator=g)
    return x, y


def teacher(seed: int, *, rows: int = 512, columns: int = 16) -> Pair:
    """A smooth nonlinear target of unit variance: the output of a random two-layer network."""
    g = generator(seed)
    x = torch.randn(rows, columns, generator=g)
    hidden = torch.tanh(x @ torch.randn(columns, 32, generator=g) / columns**0.5)
    y = hidden @ torch.randn(32, 1, generator=g)
    return x, (y - y.mean()) / y.std()


@cache
def _digits() -> Pair:
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise InputError("the lab needs scipy and scikit-learn: pip install 'steadygrad[lab]'") from error
    data = load_digits()
    return torch.tensor(data.images, dtype=torch.float32).div_(8).sub_(1).unsqueeze(1), torch.tensor(data.target)


def digits(seed: int, *, size: int = 8, channels: int = 1) -> tuple[Pair, Pair]:
    """Scikit-learn's 1797 handwritten digits in [-1, 1], as (train, test) of 1437 and 360, shuffled by the seed.

    ``size`` other than 8 is interpolated; ``channels`` repeats the grey value.
    """
    images, labels = _digits()
    order = torch.randperm(len(images), generator=generator(seed))
    x, y = images[order], labels[order]
    if size != 8:
        x = F.interpolate(x, size=(size, size), mode="bilinear")
    x = x.expand(-1, channels, -1, -1).contiguous()
    return (x[:1437], y[:1437]), (x[1437:], y[1437:])


@cache
def _text() -> tuple[Tensor, int]:
    """Python's own help topics, lower case, as numbers of characters: prose that is on every machine."""
    from pydoc_data.topics import topics

    text = " ".join(topics[key] for key in sorted(topics)).lower()
    letters = "abcdefghijklmnopqrstuvwxyz .,()\n"
    known = {letter: i for i, letter in enumerate(letters)}
    return torch.tensor([known.get(c, len(letters) - 1) for c in text[:200_000]]), len(letters)


def vocabulary() -> int:
    """How many different characters :func:`text` has."""
    return _text()[1]


def text(g: torch.Generator, *, batch: int, length: int) -> Pair:
    """Random stretches of English prose as (characters, next characters), each of shape [batch, length]."""
    stream, _ = _text()
    starts = torch.randint(0, len(stream) - length - 1, (batch,), generator=g)
    rows = torch.stack([stream[s : s + length + 1] for s in starts.tolist()])
    return rows[:, :-1], rows[:, 1:]
