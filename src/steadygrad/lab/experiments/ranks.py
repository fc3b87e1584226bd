"""Clipping on two ranks: gloo in one process, a thread for each rank."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from steadygrad import init
from steadygrad.figures.style import PALETTE, blank
from steadygrad.lab.data import generator, teacher
from steadygrad.lab.experiment import Arms, Condition, Experiment, Picture, Run, Runs
from steadygrad.lab.experiments.clipping import angle
from steadygrad.lab.training import mlp

RANKS = 2
#: Nets and batches per seed, of which the median is taken.
DRAWS = 9


def _gradients(seed: int, rows: slice) -> list[Tensor]:
    """Gradients of the mean loss over some rows; rank 1 has the harder samples."""
    x, y = teacher(seed, rows=64)
    model = mlp([16, 32, 32, 1], nn.ReLU)
    init.auto_(model, generator=generator(seed))
    y = torch.where(torch.arange(64)[:, None] < 32, y, 5 * y)
    loss = F.mse_loss(model(x[rows]), y[rows])
    return [g.double() for g in torch.autograd.grad(loss, list(model.parameters()))]


def _flat(gradients: Sequence[Tensor]) -> Tensor:
    return torch.cat([g.flatten() for g in gradients])


class _Rank:
    """One of the ranks: a gloo process group, and what it does with its gradients."""

    def __init__(self, store: Any, rank: int, mine: list[Tensor], whole: list[Tensor]) -> None:
        self.rank, self.mine, self.whole = rank, mine, whole
        self.group: Any = dist.ProcessGroupGloo(store, rank, RANKS, timedelta(seconds=60))

    def total(self, value: Tensor) -> Tensor:
        """Sum over all ranks."""
        kept = value.clone().reshape(-1)
        self.group.allreduce([kept]).wait()
        return kept.reshape(value.shape)

    def copies(self, limit: float) -> Tensor:
        """As DDP: every rank averages the gradients of all, then clips its copy by its own norm."""
        whole = self.total(_flat(self.mine)) / RANKS
        norm = float(whole.norm())
        return whole * min(1.0, limit / norm)

    def early(self, limit: float) -> Tensor:
        """Clips its own gradients before they are averaged."""
        mine = _flat(self.mine)
        norm = float(mine.norm())
        return self.total(mine * min(1.0, limit / norm)) / RANKS

    def shards(self, limit: float, *, together: bool) -> Tensor:
        """As FSDP: the averaged gradients are cut in two; a rank clips its half by its own or by the joint norm."""
        mine = _flat(self.whole[self.rank :: RANKS])
        norm = float((self.total(mine.square().sum()) if together else mine.square().sum()).sqrt())
        halves = [torch.zeros_like(_flat(self.whole[r::RANKS])) for r in range(RANKS)]
        halves[self.rank] = mine * min(1.0, limit / norm)
        return torch.cat([self.total(half) for half in halves])


def _draw(seed: int) -> dict[str, float]:
    """Degrees off the whole gradient, for every way to clip."""
    whole = _gradients(seed, slice(0, 64))
    parts = [_gradients(seed, slice(32 * rank, 32 * rank + 32)) for rank in range(RANKS)]
    limit = 0.5 * float(_flat(whole).norm())
    in_shards = [t for rank in range(RANKS) for t in whole[rank::RANKS]]
    store = dist.HashStore()  # type: ignore[attr-defined]
    angles: dict[str, float] = {}
    with ThreadPoolExecutor(RANKS) as pool:
        ranks = list(pool.map(lambda rank: _Rank(store, rank, parts[rank], whole), range(RANKS)))
        for name, act, right in (
            ("copies, own norm", lambda r: r.copies(limit), whole),
            ("before averaging, own norm", lambda r: r.early(limit), whole),
            ("shards, own norm", lambda r: r.shards(limit, together=False), in_shards),
            ("shards, one norm", lambda r: r.shards(limit, together=True), in_shards),
        ):
            results = list(pool.map(act, ranks))
            assert torch.equal(results[0], results[1]), "an all-reduce leaves all ranks with the same"
            angles[name] = angle(_flat(right), results[0])
    return angles


def _arms(seed: int, scale: float) -> Arms:
    del scale
    draws = [_draw(DRAWS * seed + d) for d in range(DRAWS)]
    return {name: Run(numbers={"angle": statistics.median(d[name] for d in draws)}) for name in draws[0]}


def _angle(arm: str) -> Condition:
    label = {
        "shards, own norm": "ranks hold shards (FSDP)",
        "before averaging, own norm": "ranks clip before gradients are averaged",
        "copies, own norm": "ranks hold copies and clip after averaging (DDP)",
    }[arm]
    what = "degrees off the direction of the whole gradient"
    return Condition(label, what, lambda arms: arms[arm].numbers["angle"], 1.0, "difference")


def _picture(runs: Runs) -> list[Picture]:
    figure = blank(x="", y="degrees off the whole gradient", height=340)
    for index, name in enumerate(next(iter(runs.values()))):
        values = [arms[name].numbers["angle"] for arms in runs.values()]
        figure.add_box(y=values, name=name, boxpoints="all", line={"color": PALETTE[index % len(PALETTE)]})
    figure.update_layout(showlegend=False)
    caption = "Every seed is a dot. With one norm for all ranks, shards are clipped as the whole gradient would be."
    return [Picture("ranks", "Direction after clipping on two ranks", caption, figure)]


RANKS_EXPERIMENT = Experiment(
    "clip-two-ranks",
    "Clipping on two ranks",
    "On several ranks, clipping by each rank's own norm turns the gradient; the norm has to be synchronised.",
    "tutorial on gradient clipping",
    _arms,
    tuple(_angle(arm) for arm in ("shards, own norm", "before averaging, own norm", "copies, own norm")),
    _picture,
    "After DDP's averaging all ranks hold the same gradient, so their own norms are the global norm already.",
)

EXPERIMENTS: tuple[Experiment, ...] = (RANKS_EXPERIMENT,)
