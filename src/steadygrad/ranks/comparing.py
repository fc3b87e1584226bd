"""What the ranks know together: who failed first, who is worst, and whether replicas are still the same."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import median
from typing import Any

#: Replicas take the same updates, to the bit. Anything above rounding is a difference that will not go away.
DRIFT = 1e-5
#: A rank stands out where its loss is this many times the others' at one step.
OUTSTANDING = 5.0
Summaries = Mapping[int, Mapping[str, Any]]


def compare(summaries: Summaries, *, world: int) -> dict[str, Any]:
    """Compare the ranks of one training.

    Args:
        summaries: by rank, as :func:`~steadygrad.ranks.summarize` makes them.
        world: how many ranks there are.

    Returns:
        ``world``; ``missing``, the ranks that left no file; ``running``, those that had not ended; ``failed``, the
        errors of ranks by number; ``verdicts``; where there is something to say also ``nonfinite``, ``worst`` and
        ``drift``.
    """
    fact: dict[str, Any] = {
        "world": world,
        "missing": [rank for rank in range(world) if rank not in summaries],
        "running": [rank for rank, s in summaries.items() if s["outcome"] == "running" and rank],
        "failed": {str(rank): s["error"] for rank, s in summaries.items() if s["outcome"] == "error"},
        "verdicts": {str(rank): s["verdict"] for rank, s in summaries.items()},
    }
    found = {"nonfinite": _first_nonfinite(summaries), "worst": _worst(summaries), "drift": _drift(summaries)}
    return fact | {key: value for key, value in found.items() if value is not None}


def _first_nonfinite(summaries: Summaries) -> dict[str, Any] | None:
    """The rank whose loss was the first to be not finite: gradients are averaged, so theirs are everybody's at once."""
    bad = [(s["nonfinite_loss"], rank) for rank, s in summaries.items() if s["nonfinite_loss"] is not None]
    spread = [s["nonfinite_gradient"] for s in summaries.values() if s["nonfinite_gradient"] is not None]
    if not bad:
        return None
    step = min(bad)[0]
    return {
        "step": step,
        "ranks": sorted(rank for at, rank in bad if at == step),
        "spread": bool(spread) and min(spread) <= step + 1,
    }


def _worst(summaries: Summaries) -> dict[str, Any] | None:
    """The rank and step at which a loss stood out most from those of the other ranks at the same step."""
    curves = {rank: {int(t): v for t, v in s["losses"] if v is not None} for rank, s in summaries.items()}
    best: dict[str, Any] | None = None
    for rank, curve in curves.items():
        for step, loss in curve.items():
            others = [abs(other[step]) for r, other in curves.items() if r != rank and step in other]
            if not others or median(others) <= 0:
                continue
            ratio = abs(loss) / median(others)
            if ratio > OUTSTANDING and (best is None or ratio > best["ratio"]):
                best = {"rank": rank, "step": step, "loss": loss, "others": median(others), "ratio": ratio}
    return best


def _drift(summaries: Summaries) -> dict[str, Any] | None:
    """The first sampled step at which weights that were equal on all ranks are not any more."""
    groups: dict[str, list[int]] = {}
    for rank, summary in summaries.items():
        groups.setdefault(str(summary["parameters"]), []).append(rank)
    ranks = max(groups.values(), key=len, default=[])
    if len(ranks) < 2:
        return None
    first = {rank: dict(zip(summaries[rank]["weights"]["steps"], summaries[rank]["weights"]["norms"], strict=True))
             for rank in ranks}  # fmt: skip
    common = sorted(set.intersection(*(set(by_step) for by_step in first.values())))
    names = summaries[ranks[0]]["weights"]["names"]
    for step in common:
        rows = {rank: by_step[step] for rank, by_step in first.items()}
        apart = _largest_difference(rows)
        if apart is None or apart[0] <= DRIFT:
            continue
        if step == common[0] and not _share_gradients(summaries, ranks):
            return None  # never equal: not replicas, but shards or trainings of their own
        relative, row, rank = apart
        whose = {"rank": rank} if len(ranks) > 2 else {}  # of two, neither is the right one
        return {"step": step, "parameter": names[row], "relative": relative, "from_start": step == common[0], **whose}
    return None


def _share_gradients(summaries: Summaries, ranks: list[int]) -> bool:
    """Whether the ranks' optimizers got the same gradients in the first steps: then they are meant as replicas."""
    curves = [{int(step): norm for step, norm in summaries[rank]["norms"][:5] if norm is not None} for rank in ranks]
    common = set.intersection(*map(set, curves))
    known = [row for step in sorted(common) if max(row := [curve[step] for curve in curves]) > 0]
    return len(known) > 1 and all(max(row) - min(row) <= DRIFT * max(row) for row in known)


def _largest_difference(rows: Mapping[int, list[float | None]]) -> tuple[float, int, int] | None:
    """(relative difference, parameter, rank) of the weight that is furthest from the ranks' median."""
    found: list[tuple[float, int, int]] = []
    for row in range(min(map(len, rows.values()))):
        values = {rank: norms[row] for rank, norms in rows.items()}
        known = [v for v in values.values() if v is not None]
        if len(known) < len(values):
            continue
        centre = sorted(known)[len(known) // 2]
        apart = [(abs((v or 0.0) - centre) / max(centre, 1e-30), row, rank) for rank, v in values.items()]
        found.append(max(apart))
    finite = [one for one in found if math.isfinite(one[0])]
    return max(finite, default=None)
