"""Gentler steps: lower rates for one step, without anybody noticing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch.optim import Optimizer

from steadygrad.guard.verdict import Damping


@contextlib.contextmanager
def damped(optimizer: Optimizer, damping: Damping | None) -> Iterator[None]:
    """Lower the rates for one step. The groups get their own values back: schedulers compute the next from them."""
    if damping is None:
        yield
        return
    rates = [group["lr"] for group in optimizer.param_groups]
    try:
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * damping.lr
        yield
    finally:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
