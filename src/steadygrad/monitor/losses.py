"""The losses of a step's backward passes, as one number."""

from __future__ import annotations

import math

from torch import Tensor

from steadygrad import graph, stats
from steadygrad.monitor.state import Pending, Site


def loss_number(loss: Tensor) -> Tensor:
    """The loss as one number: its sum where it is not a scalar, its real part where it is complex."""
    if type(loss) is Tensor and not loss.dim() and not loss.is_complex():  # as nearly always
        return loss.detach()
    loss = stats.local(loss.detach())
    return (loss.real if loss.is_complex() else loss).sum()


class Losses:
    """Adds up the losses of different lines, and averages those of one line: gradients accumulated over batches.

    A script that accumulates over n batches divides each loss by n, or by the number of targets in all of them. That
    is undone, or a loss would be told to be a share of what it is.
    """

    def __init__(self) -> None:
        self._usual: dict[Site, float] = {}  # by how much the losses of a line are divided
        self.latest: float | None = None

    def add(self, pending: Pending, root: Tensor, loss: Tensor, *, at_once: bool) -> float | None:
        """One backward pass, from ``root``, which is ``loss`` unless that was scaled.

        Returns its value; None where it is read later, with the gradients, because a device is still at it: unless the
        value is wanted ``at_once``.
        """
        site = (pending.frame.f_code.co_filename, pending.line) if pending.frame is not None else ("", 0)
        values = pending.losses.setdefault(site, [])
        number = loss_number(loss)
        later = number.device.type != "cpu" and not at_once
        if later:
            pending.unread.append((values, len(values), number))
        values.append(math.nan if later else float(number.item()))
        if len(values) > 1 or site in self._usual:
            pending.divisors[site] = graph.divisor(root)
        return None if later else values[-1]

    def is_divided(self, site: Site) -> bool:
        """Whether a line's losses are known to be shares of what they should be."""
        return site in self._usual

    def of_step(self, pending: Pending) -> float | None:
        """The loss of the step; that of the one before where nothing was differentiated in between."""
        if pending.losses:
            self.latest = sum(sum(v) / len(v) * self._share(pending, site) for site, v in pending.losses.items())
        return self.latest

    def _share(self, pending: Pending, site: Site) -> float:
        """What the mean of a line's losses has to be multiplied with."""
        count, divisor = len(pending.losses[site]), pending.divisors.get(site, 1.0)
        if count > 1 and divisor == count:
            self._usual[site] = divisor
        if divisor == self._usual.get(site):
            return divisor  # also where the last batches of an epoch are fewer
        targets = max((t.numel() for t in pending.all_targets()), default=0)
        return float(count) if 0 < targets < divisor else 1.0
