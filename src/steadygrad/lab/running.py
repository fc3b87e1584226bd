"""Running an experiment: every seed once, side by side in processes, and from the store where it was run before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from steadygrad.errors import InputError
from steadygrad.lab.experiment import Arms, Experiment, Runs
from steadygrad.lab.store import load, save
from steadygrad.lab.verdict import Verdict, judge
from steadygrad.lab.workers import Workers


@dataclass(frozen=True, slots=True)
class Result:
    """An experiment that was run: all arms of all seeds, and the verdict."""

    experiment: Experiment
    runs: Runs
    verdict: Verdict


def perform(
    experiment: Experiment,
    *,
    seeds: Iterable[int] = range(5),
    workers: Workers | None = None,
    scale: float = 1.0,
    folder: Path | None = None,
    fresh: bool = False,
    done: Callable[[int], None] = lambda _: None,
) -> Result:
    """Run an experiment over seeds and judge it.

    Args:
        experiment: one of :data:`steadygrad.lab.EXPERIMENTS`.
        seeds: distinct integers; at least two, as the interval comes from how they differ.
        workers: processes to run seeds side by side; None runs them in this one.
        scale: below 1 for a shorter form with fewer steps, whose verdict means little.
        folder: where runs are kept and looked up; None keeps nothing.
        fresh: run again what is stored.
        done: called with each seed when it is finished.

    Returns:
        A :class:`Result`. The random state of the caller is not used and not changed.

    Raises:
        InputError: fewer than two seeds, or a setting out of range.
    """
    wanted = list(dict.fromkeys(seeds))
    if len(wanted) < 2:
        raise InputError(f"an interval needs at least 2 different seeds; received {len(wanted)}")
    if not 0 < scale <= 1:
        raise InputError(f"scale is a share of the steps, above 0 and at most 1; received {scale}")
    runs: dict[int, Arms] = {}
    for seed in wanted:
        stored = None if folder is None or fresh else load(folder, experiment.stored_as, seed, scale)
        if stored is not None:
            runs[seed] = stored
            done(seed)
    for seed, arms in _computed(experiment, [s for s in wanted if s not in runs], scale, workers):
        runs[seed] = arms
        if folder is not None:
            save(folder, experiment.stored_as, seed, scale, arms)
        done(seed)
    ordered = {seed: runs[seed] for seed in wanted}
    return Result(experiment, ordered, judge(experiment, ordered))


def _computed(
    experiment: Experiment, seeds: list[int], scale: float, workers: Workers | None
) -> Iterator[tuple[int, Arms]]:
    if workers is not None:
        yield from workers.run(experiment.name, seeds, scale)
        return
    for seed in seeds:
        yield seed, compute(experiment.name, seed, scale)


def compute(name: str, seed: int, scale: float) -> Arms:
    """All arms of an experiment with one seed, on one thread, with the caller's random state left alone."""
    import torch

    from steadygrad.lab import EXPERIMENTS

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            return EXPERIMENTS[name].arms(seed, scale)
    finally:
        torch.set_num_threads(threads)
