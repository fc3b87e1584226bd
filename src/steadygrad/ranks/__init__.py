"""Several processes of one training (``torchrun``): what each of them saw, and what only they know together.

Rank 0 records and answers. Every other rank observes itself in memory and leaves a small file in the run folder; rank 0
reads these at the end. Nothing here takes part in the training's own communication: a collective that only some ranks
enter would hang all of them.

>>> current({"RANK": "1", "WORLD_SIZE": "4", "MASTER_PORT": "29500"})
Rank(index=1, world=4, group='29500')
>>> current({}) is None
True
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from steadygrad.ranks.comparing import compare
from steadygrad.ranks.mailbox import Mailbox
from steadygrad.ranks.part import Part
from steadygrad.ranks.summary import summarize

_GROUP = ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT")


@dataclass(frozen=True, slots=True)
class Rank:
    """This process among those that train together. ``group`` is the same for all of them and for no others."""

    index: int
    world: int
    group: str

    @property
    def records(self) -> bool:
        """Whether this is the rank that records and answers."""
        return self.index == 0


def current(environ: Mapping[str, str] | None = None) -> Rank | None:
    """This process's rank as the launcher gave it; None for a process that trains alone."""
    given = os.environ if environ is None else environ
    index, world = given.get("RANK", ""), given.get("WORLD_SIZE", "")
    if not (index.isdigit() and world.isdigit()) or int(world) < 2 or int(index) >= int(world):
        return None
    group = "-".join(given[key] for key in _GROUP if given.get(key))
    return Rank(int(index), int(world), re.sub(r"[^\w.-]+", "_", group) or "ranks")


__all__ = ["Mailbox", "Part", "Rank", "compare", "current", "summarize"]
