"""Which remedy works: trials compared with the control of the same seed, and what is certain about the difference.

**The scale.** A loss that is never negative is compared by its logarithm: halving it is worth the same at 2 and at
0.002, and an improvement is a ratio. A loss that takes both signs is compared as it is, in units of how far the best
trial came from the start. Where two optimizers take turns against each other (a GAN) a loss says nothing about
progress: there only health decides.

**A run that ends in NaN** has lost what it had learned: it counts as the loss before the first step. So does a run that
diverged beyond it, since how far beyond means nothing. To be *finite* is therefore no merit by itself: a clip that
keeps a badly initialised network where it started gains nothing over the NaN.

**A remedy that changes what the loss means** (its reduction, what it is fed) is compared by how far the loss fell from
its own first value.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from steadygrad.records import Candidate, TrialResult
from steadygrad.trials.numbers import interval
from steadygrad.trials.stopping import DIVERGED
from steadygrad.view import View

#: An improvement below this is not worth a change of the script: 5% of the loss, or of the way from start to best.
MATERIAL = 0.05
#: Losses below this share of where training begins are equally good: what is left is rounding, or noise of the data.
FLOOR = 1e-4
#: Trials this close are equal, and the better-founded one is preferred.
EQUAL = 0.05
#: Differences of more than this, 22% of a loss, need no statistics where every repetition agrees.
CLEAR = 0.25
#: A remedy of a cause that is as good as certain is preferred to what ends up to 30% below it, or gains a little more:
#: that makes up for the fault, this takes it away. So is one remedy to a combination with others.
FOUNDED, FOUNDED_SHARE = 0.35, 0.12
#: Of the symptoms, those that a remedy must not leave behind.
FATAL = frozenset({"non-finite", "diverging-loss"})
#: Remedies whose first forward is that of the script as it is.
REHEARSED = frozenset({"swap-activation", "add-normalization", "add-residual", "reinit-lsuv"})


@dataclass(frozen=True, slots=True)
class Standing:
    """A candidate among the others.

    Args:
        results: its trials, by seed.
        improvement: over the control, the mean over seeds; None where nothing can be compared. A difference of
            logarithms, of shares of the way to the best, or of numbers of symptoms, see `Comparison.scale`.
        interval: of the improvement, at 90%; None with a single seed.
        works: it improves on control and no-op beyond the noise, and nothing fatal is left.
    """

    candidate: Candidate
    results: tuple[TrialResult, ...]
    improvement: float | None
    interval: tuple[float, float] | None
    works: bool

    @property
    def first(self) -> TrialResult:
        """The trial with the script's own seed."""
        return self.results[0]

    @property
    def healthy(self) -> bool:
        """Nothing was found wrong in any of its trials."""
        return all(r.verdict == "healthy" for r in self.results)


@dataclass(frozen=True, slots=True)
class Scale:
    """How losses are turned into numbers of which less is better.

    Args:
        kind: "log", "linear" or "health".
        start: the control's first loss, by seed; the finite one of another seed where it has none.
        unit: what a difference of 1 stands for on the linear scale.
        floor: losses below it are equally good, on the logarithmic scale.
        void: a loss below zero is meaningless, and gains nothing.
    """

    kind: str
    start: dict[int, float]
    unit: float = 1.0
    floor: float = 1e-300
    void: bool = False

    def of(self, result: TrialResult) -> float | None:
        """The number of a trial that ended, None for one that was not run to its end."""
        lost = result.status == "stopped-early" and result.note == DIVERGED
        if result.status in ("stopped-early", "not-applicable", "cut") and not lost:
            return None
        if self.kind == "health":
            least = 0 if result.verdict == "healthy" else 1  # too little to judge by is no clean bill of health
            return float(max(len(result.symptoms), least)) if result.status == "finished" else 10.0
        nothing = result.loss is None or result.status != "finished" or (self.void and lowest([result]) < 0)
        if nothing:
            return self.unlearned(result.seed)
        start = self._start(result.seed)
        return self._number(min(start, self.end(result, start)))

    def unlearned(self, seed: int) -> float:
        """The number of a run that has lost all that it learned, or learned nothing."""
        return self._number(self._start(seed))

    def _start(self, seed: int) -> float:
        return self.start.get(seed, self.start.get(0, 1.0))

    def end(self, result: TrialResult, start: float) -> float:
        """The loss at the end in the units of the control."""
        assert result.loss is not None
        own = result.curve[0][1] if result.curve else math.nan
        if not result.candidate.changes_loss_scale or not math.isfinite(own):
            return result.loss
        return result.loss * start / own if self.kind == "log" and own > 0 else start + result.loss - own

    def _number(self, loss: float) -> float:
        return math.log(max(loss, self.floor)) if self.kind == "log" else loss / self.unit


def scale_for(control: Sequence[TrialResult], others: Iterable[TrialResult], *, adversarial: bool) -> Scale:
    """Find the scale on which these trials can be compared."""
    others = [r for r in others if r.status == "finished" and r.loss is not None]
    start = {r.seed: r.curve[0][1] for r in control if r.curve and math.isfinite(r.curve[0][1])}
    fallback = [r.curve[0][1] for r in others if r.curve and math.isfinite(r.curve[0][1])]
    if not start:
        start = {0: max(fallback, default=1.0)}
    if adversarial:
        return Scale("health", start)
    kept = [r for r in others if not r.candidate.changes_loss_scale] or others
    changed = [r for r in others if r.candidate.changes_loss_scale]
    if min(start.values()) > 0 and lowest([*control, *kept]) >= 0:
        return Scale("log", start, floor=FLOOR * max(1e-290, min([*start.values(), *fallback])))
    if changed and lowest(changed) > 0 and lowest(control) < -max(start.values()):
        return Scale("log", {}, floor=FLOOR, void=True)
    best = min((r.loss for r in kept if r.loss is not None), default=0.0)
    return Scale("linear", start, max(abs(fmean(start.values()) - best), 1e-12))


def adversarial(view: View) -> bool:
    """Whether two optimizers take turns, each with a loss of its own, as in a GAN; parts of one model share theirs."""
    losses = [s.loss.values().tolist() for s in view.streams if s.steps > 2]
    steps = zip(*losses, strict=False)
    shared = all(len({repr(loss) for loss in step}) == 1 for step in steps)  # NaN is like NaN
    return view.interleaved and not shared


def lowest(results: Iterable[TrialResult]) -> float:
    """The lowest finite loss of any of these trials; 1 where there is none."""
    return min((value for r in results for _, value in r.curve if math.isfinite(value)), default=1.0)


def noise_of(control: TrialResult, no_op: TrialResult | None, scale: Scale) -> float:
    """How much two runs with equal seeds differ: 0 for a deterministic script."""
    if no_op is None:
        return 0.0
    first, second = scale.of(control), scale.of(no_op)
    return 0.0 if first is None or second is None else abs(first - second)


def standing(
    candidate: Candidate, results: Sequence[TrialResult], control: Sequence[TrialResult], scale: Scale, noise: float
) -> Standing:
    """Compare the trials of a candidate with the control's, seed by seed."""
    before = {r.seed: scale.of(r) for r in control}
    pairs = {r.seed: (before.get(r.seed), scale.of(r)) for r in results}
    gains = {seed: a - b for seed, (a, b) in pairs.items() if a is not None and b is not None}
    complete = bool(gains) and len(gains) == len(results)
    mean = fmean(gains.values()) if complete else None
    bounds = interval(list(gains.values()), least_spread=noise / math.sqrt(2)) if complete else None
    beats = mean is not None and (
        _certain(mean, bounds, scale, noise)
        or _parted([pair for pair in pairs.values() if None not in pair], scale, noise)
        or _rescues(gains, before, scale, noise)
    )
    works = beats and _sound(results)
    return Standing(candidate, tuple(results), mean, bounds, works and candidate.kind in ("remedy", "random"))


def _certain(mean: float, bounds: tuple[float, float] | None, scale: Scale, noise: float) -> bool:
    """Whether an improvement is worth the change, and beyond the noise."""
    least = 0.5 if scale.kind == "health" else MATERIAL
    return mean > max(least, noise) and (bounds[0] > 0 if bounds is not None else mean > 3 * noise)


def _parted(pairs: Sequence[tuple[float | None, float | None]], scale: Scale, noise: float) -> bool:
    """Whether the worst run of several is clearly better than the control's best.

    Gains that are large with one seed and huge with the next have a mean of which an interval tells little.
    """
    if len(pairs) < 2 or scale.kind == "health":
        return False
    best, worst = min(a for a, _ in pairs if a is not None), max(b for _, b in pairs if b is not None)
    return best - worst > max(CLEAR, 3 * noise)


def _rescues(gains: dict[int, float], before: dict[int, float | None], scale: Scale, noise: float) -> bool:
    """Whether runs that got nowhere recover, and those that did well are not harmed, seed by seed.

    A fault that strikes with some seeds only makes gains of two kinds, about which no interval of their mean says
    anything.
    """
    if scale.kind == "health":
        return False
    lost = {seed for seed in gains if (b := before[seed]) is not None and b >= scale.unlearned(seed) - MATERIAL}
    recovered = all(gains[seed] > max(CLEAR, 3 * noise) for seed in lost)
    return 2 * len(lost) > len(gains) and recovered and all(gains[seed] > -CLEAR for seed in gains)


def _sound(results: Sequence[TrialResult]) -> bool:
    """Whether every trial ended well: run to its end, and nothing fatal left."""
    return all(r.status == "finished" and not _fatal(r) for r in results)


def _fatal(result: TrialResult) -> frozenset[str]:
    """Where bad steps are left out, a batch may still be NaN: it is no longer trained on.

    Nor is the first forward of a remedy that learns from it where to act, and which runs as the script wrote it.
    """
    codes = {spec.code for spec in result.candidate.specs}
    passed = bool(codes & REHEARSED) and all(math.isfinite(loss) for _, loss in result.curve[1:])
    return FATAL.intersection(result.symptoms) - ({"non-finite"} if passed or "skip-bad-step" in codes else set())


def relieved(result: Standing, control: Sequence[TrialResult], scale: Scale) -> bool:
    """Whether a candidate removes every symptom and costs no loss: it heals a run whose loss was never in danger."""
    ill = all(r.symptoms for r in control)
    done = all(r.status == "finished" and not r.symptoms and r.verdict == "healthy" for r in result.results)
    if not (ill and done and result.candidate.kind == "remedy"):
        return False
    return scale.kind == "health" or (result.improvement is not None and result.improvement > -MATERIAL / 2)


def best_of(
    standings: Sequence[Standing],
    *,
    rank: dict[Candidate, int],
    lead: str = "",
    found: frozenset[str] = frozenset(),
) -> Standing | None:
    """The one to recommend: the best that works, or its equal that is healthier, simpler or better founded.

    Args:
        standings: all candidates.
        rank: the order in which they were proposed, which is that of the causes behind them.
        lead: the cause that is as good as certain, if there is one.
        found: what was found wrong with the script as it is.
    """
    able = [s for s in standings if s.works and s.candidate.kind == "remedy" and s.improvement is not None]
    if not able:
        return None
    top = max(s.improvement or 0.0 for s in able)
    equals = [s for s in able if (s.improvement or 0.0) >= top - EQUAL]
    best = min(equals, key=lambda s: (not s.healthy, len(s.candidate.specs), rank.get(s.candidate, 99)))
    best = best_of(_parts(best, able), rank=rank) or best
    if lead and best.candidate.cause != lead:
        untouched = bool(found) and all(found <= set(r.symptoms) for r in best.results)
        least = 0.0 if untouched else _nearly(top)
        founded = [s for s in able if s.candidate.cause == lead and s.healthy and (s.improvement or 0.0) >= least]
        return best_of(founded, rank=rank) or best
    return best


def _parts(whole: Standing, able: Sequence[Standing]) -> list[Standing]:
    """Remedies of a combination that leave the run healthy, and bring nearly all of the gain, without the others."""
    specs, least = set(whole.candidate.specs), _nearly(whole.improvement or 0.0)
    return [s for s in able if set(s.candidate.specs) < specs and s.healthy and (s.improvement or 0.0) >= least]


def _nearly(gain: float) -> float:
    """What is hardly less than a gain."""
    return gain - min(FOUNDED, FOUNDED_SHARE * gain)


def best_first(
    standings: Iterable[Standing], *, rank: dict[Candidate, int], lead: str = "", found: frozenset[str] = frozenset()
) -> list[Standing]:
    """All that work, each recommended over those after it; see `best_of`."""
    left, ranked = list(standings), list[Standing]()
    while (best := best_of(left, rank=rank, lead=lead, found=found)) is not None:
        left.remove(best)
        ranked.append(best)
    return ranked


def in_order(standings: Iterable[Standing]) -> list[Standing]:
    """Best first: those that work, then by improvement; those without a number last."""
    return sorted(standings, key=lambda s: (not s.works, -(s.improvement if s.improvement is not None else -math.inf)))


def repeated(standings: Sequence[Standing]) -> list[Standing]:
    """Those tried with as many seeds as any."""
    most = max((len(s.results) for s in standings), default=0)
    return [s for s in standings if len(s.results) == most]
