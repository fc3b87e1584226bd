"""The search for a remedy that works: a control, all candidates once, the leaders again with other seeds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock

from steadygrad.history import History
from steadygrad.records import Candidate, Diagnosis, NotRun, TrialResult
from steadygrad.remedies import alike, nearby
from steadygrad.replay import load, replay
from steadygrad.store import Run
from steadygrad.trials.clock import Clock
from steadygrad.trials.combining import pairs
from steadygrad.trials.job import Attempt, Job, Script
from steadygrad.trials.judge import (
    Scale,
    Standing,
    adversarial,
    best_first,
    in_order,
    noise_of,
    relieved,
    repeated,
    scale_for,
    standing,
)
from steadygrad.trials.local import Backend
from steadygrad.trials.result import FixResult, confirmed, untried
from steadygrad.trials.settings import Display, Settings
from steadygrad.trials.stopping import Rule
from steadygrad.trials.workplace import Listing, listing, written
from steadygrad.view import View
from steadygrad.wording import count, listed

CONTROL = Candidate((), "", "the script as it is", "control")
PATCHED = Candidate((), "", "the script with the remedy written in", "patched")
#: A run in which nothing is wrong yet goes on to this many times the steps.
EXTEND = 5
#: Candidates tried before the others, which are then stopped when they fall behind these.
FIRST = 5
LEADERS = 3
#: A leading cause of this confidence is not in doubt.
CERTAIN = 0.8
#: Rounds in which the best is combined with others and its numbers are changed.
IMPROVED = 3
#: Candidates proposed at first, and where none of them works, controls included.
PROPOSED, MORE = 18, 32

Propose = Callable[[History, Diagnosis, int], list[Candidate]]


class Search:
    """One search. `run` may be interrupted; `result` then tells what was found so far.

    Args:
        script: what is tried.
        folder: where the control is recorded.
        backend: where trials run.
        propose: gives the candidates for a diagnosed history, best first.
        display: shows how it goes.
    """

    def __init__(
        self, script: Script, settings: Settings, *, folder: Path, backend: Backend, propose: Propose, display: Display
    ) -> None:
        self.script, self.settings, self.folder = script, settings, folder
        self._backend, self._propose, self._display = backend, propose, display
        self.clock = Clock(settings, repeated=LEADERS + 1)
        self._number = 0
        self._lock = Lock()
        self.attempts: dict[Candidate, list[TrialResult]] = {}
        self.control: list[TrialResult] = []
        self.diagnosis = Diagnosis("unknown")
        self.history = History()
        self.steps = settings.steps
        self.remarks: list[str] = []
        self._rank: dict[Candidate, int] = {}
        self._adversarial = False
        self._rate = math.nan

    # -- running ------------------------------------------------------------------------------------------------

    def run(self) -> FixResult:
        """Search to the end."""
        history = self.history = self._observe()
        if self.diagnosis.verdict != "unhealthy" or not history.steps:
            return self.result()
        self._try(self._propose(history, self.diagnosis, PROPOSED))
        if not self._leaders() and self.clock.left > 0:
            self._try([c for c in self._propose(history, self.diagnosis, MORE) if c not in self.attempts])
        self._improve()
        self._repeat(self._leaders())
        if not any(s.works for s in repeated(self.standings())):
            self._repeat(self._leaders())  # what worked with one seed may have been luck: the next ones
        return self.result()

    def _observe(self) -> History:
        """The control run, its diagnosis, and from it the number of steps and the time there is."""
        self._display.say("Watching the script as it is")
        rule = Rule(self.settings.steps)
        job = self._job(CONTROL, 0, rule, extend=EXTEND * self.settings.steps, folder=str(self.folder))
        before = self._files() if self.script.isolation == "none" else None
        attempt = self._run([job], self.clock.control_deadline)[0]
        self.control = [attempt.result]
        self._keep_apart(before)
        history = self._read()
        self._measure(attempt)
        if self._too_short():
            self.remarks.append(f"the script made only {count(self.steps, 'step')}: what shows later was not seen")
        if attempt.limited and self.diagnosis.verdict == "healthy":
            self.remarks.append(f"only the first {self.steps} steps were looked at; --steps looks at more")
        return history

    def _read(self) -> History:
        """What was recorded of the control, and its diagnosis."""
        try:
            with Run(self.folder) as run:
                history, self.diagnosis = load(run), replay(run)
        except Exception as error:
            unread = f"the control run cannot be read: {error}"
            self.diagnosis = Diagnosis("unknown", checks_not_run=(NotRun("observation", unread),))
            return History()
        view = View(history)
        self._adversarial = adversarial(view)
        rates = view.main.lr.values() if view.main is not None else ()
        self._rate = float(max(rates, default=math.nan))
        return history

    def _measure(self, attempt: Attempt) -> None:
        """The steps that the trials are to make, and the time that the script takes for them."""
        if attempt.result.status == "cut" and attempt.result.steps:
            self._settle_for_less(attempt.result)
        ill = self.diagnosis.verdict == "unhealthy"  # then the trials may come further than the script as it is
        if attempt.result.status in ("finished", "cut") or attempt.limited or not ill:
            self.steps = attempt.result.steps
        self.clock.alone = attempt.script_seconds
        self.clock.plain = max(0.1, attempt.result.seconds - attempt.overhead)

    def _settle_for_less(self, result: TrialResult) -> None:
        """The budget is short: what the control did in its share of it is what all trials do."""
        symptoms = tuple(dict.fromkeys(s.code for s in self.diagnosis.symptoms))
        status = "finished" if result.loss is not None else "non-finite"
        self.control = [replace(result, status=status, verdict=self.diagnosis.verdict, symptoms=symptoms, note="")]
        self.remarks.append(f"the budget allows {result.steps} steps for each trial")

    def _too_short(self) -> bool:
        """The script ended by itself, nothing was found, and only the number of steps leaves a doubt."""
        seen = not any(check.check == "observation" for check in self.diagnosis.checks_not_run)
        ended = bool(self.control) and self.control[0].status == "finished" and self.control[0].steps > 0
        return self.diagnosis.verdict == "unknown" and ended and seen and not self.diagnosis.symptoms

    def _files(self) -> Listing | None:
        """What lies where the script runs, but for our own record of the control."""
        return listing(self.script.cwd, ours=self.folder)

    def _keep_apart(self, before: Listing | None) -> None:
        """Where the script writes files, give every trial its own."""
        new, changed = written(before, self._files() if before is not None else None)
        if new or changed:
            self.script = replace(self.script, isolation="links", new=new, changed=changed)
            files = f"{count(len(new) + len(changed), 'file')} ({listed(new + changed, 1)})"
            self.remarks.append(f"the script writes {files}: each trial wrote its own")

    def _try(self, candidates: Sequence[Candidate]) -> None:
        """Every candidate once; the first few without a limit but divergence, the others against the best of them."""
        for candidate in candidates:
            self._rank.setdefault(candidate, len(self._rank))
        controls = [c for c in candidates if c.kind != "remedy"]
        remedies = [c for c in candidates if c.kind == "remedy"][: self.clock.affordable(least=FIRST)]
        self._display.say("Trying remedies")
        no_op = [c for c in controls if c.kind == "no-op"]
        self._round([*no_op, *remedies[:FIRST]], 0)
        self._round([*remedies[FIRST:], *(c for c in controls if c.kind == "random")], 0)

    def _improve(self) -> None:
        """The best together with others that work by themselves, and with other numbers, while there is time for it."""
        for _ in range(IMPROVED):
            best = next(iter(self._leaders()), None)
            fresh = self._variants(best)[: self.clock.affordable(least=0)] if best is not None else []
            if not fresh:
                return
            for candidate in fresh:
                self._rank.setdefault(candidate, len(self._rank))
            self._display.say("Improving on the best")
            self._round(fresh, 0)

    def _variants(self, best: Candidate) -> list[Candidate]:
        able = [s.candidate for s in self.standings() if s.works and s.candidate.kind == "remedy"]
        found = [*pairs(best, able), *nearby(best, rate=self._rate, steps=self.steps)]
        return [c for c in found if not any(alike(c, tried) for tried in self.attempts)]

    def _repeat(self, leaders: Sequence[Candidate]) -> None:
        """Leaders and control again with other seeds, side by side."""
        if not leaders or self.settings.seeds < 2:
            return
        self._display.say("Repeating the best with other seeds")
        rule = self._rule()
        together = leaders if len(self.control) > 1 else (CONTROL, *leaders)
        jobs = [self._job(c, s, rule) for s in range(1, self.settings.seeds) for c in together]
        self._run(jobs, self.clock.deadline, keep=True)
        if len(self.control) < self.settings.seeds:
            self.remarks.append("the time ran out before all seeds were repeated")

    def plain(self, script: Script) -> TrialResult:
        """Run another script, such as the patched one, for as many steps with the first seed."""
        self._display.say("Running the changed script")
        job = replace(self._job(PATCHED, 0, self._rule()), script=script)
        return self._run([job], time.monotonic() + job.timeout)[0].result

    def _round(self, candidates: Sequence[Candidate], seed: int) -> None:
        if not candidates:
            return
        scale = self.scale()
        ends = [
            r.loss
            for candidate, results in self.attempts.items()
            for r in results
            if r.status == "finished" and not candidate.changes_loss_scale
        ]
        finite = [max(e, scale.floor) for e in ends if e is not None]  # what ends below the floor is as good
        best = min(finite, default=None) if scale.kind == "log" else None
        jobs = [self._job(c, seed, self._rule(None if c.changes_loss_scale else best)) for c in candidates]
        reserve = self.clock.reserve
        if not self.attempts:  # what is kept for repetitions is of no use where nothing was tried
            reserve = min(reserve, self.clock.left / 2)
        self._run(jobs, self.clock.deadline - reserve, keep=True)

    def _rule(self, best: float | None = None) -> Rule:
        first = self.control[0] if self.control and self.control[0].status == "finished" else None
        losses = sorted(loss for _, loss in first.curve if math.isfinite(loss)) if first is not None else []
        return Rule(self.steps, best, losses[9 * len(losses) // 10] if losses else 0.0)

    def _job(self, candidate: Candidate, seed: int, rule: Rule, *, extend: int = 0, folder: str = "") -> Job:
        self._number += 1
        timeout = 30 + 5 * self.clock.trial if self.clock.trial else 1e9
        return Job(self._number, self.script, candidate, seed, rule, extend, folder, timeout)

    def _run(self, jobs: Sequence[Job], deadline: float, *, keep: bool = False) -> list[Attempt]:
        """Run jobs; ``keep`` their results as they come, so that an interruption loses none."""

        def over(job: Job, attempt: Attempt) -> None:
            with self._lock:
                if keep:
                    self._keep(job, attempt.result)
            self._display.over(job, attempt)

        self._display.added(jobs)
        return self._backend.run(jobs, watcher=self._display.progress, done=over, deadline=deadline)

    def _keep(self, job: Job, result: TrialResult) -> None:
        if job.seed and result.status == "cut":
            return
        kept = self.control if job.candidate is CONTROL else self.attempts.setdefault(job.candidate, [])
        kept.append(result)
        kept.sort(key=lambda r: r.seed)
        if result.status == "finished":
            self.clock.lasted(result.seconds)

    # -- judging ------------------------------------------------------------------------------------------------

    def scale(self) -> Scale:
        """How the trials so far are compared."""
        others = [r for results in self.attempts.values() for r in results]
        return scale_for(self.control, others, adversarial=self._adversarial)

    def _noise(self, scale: Scale) -> float:
        no_op = next((results[0] for c, results in self.attempts.items() if c.kind == "no-op"), None)
        return noise_of(self.control[0], no_op, scale) if self.control else 0.0

    def standings(self) -> list[Standing]:
        """Every candidate among the others, as far as it was tried."""
        scale = self.scale()
        noise = self._noise(scale)
        in_turn = sorted(self.attempts.items(), key=lambda item: self._rank.get(item[0], 0))
        found = [standing(c, results, self.control, scale, noise) for c, results in in_turn]
        if not any(s.works and s.candidate.kind == "remedy" for s in found):
            found = [replace(s, works=True) if relieved(s, self.control[: len(s.results)], scale) else s for s in found]
        return in_order(found)

    def _leaders(self) -> list[Candidate]:
        """The best of those that work and were not repeated yet."""
        once = (s for s in self.standings() if len(s.results) == 1)
        return [s.candidate for s in self._best_first(once)[:LEADERS]]

    def _best_first(self, standings: Iterable[Standing]) -> list[Standing]:
        found = frozenset(self.control[0].symptoms if self.control else ())
        return best_first(standings, rank=self._rank, lead=self._lead, found=found)

    @property
    def _lead(self) -> str:
        """The cause that is as good as certain, by the control alone."""
        first = next(iter(self.diagnosis.causes), None)
        return first.code if first is not None and first.confidence >= CERTAIN else ""

    def recommendable(self) -> list[Standing]:
        """What works on every seed, the best first."""
        return self._best_first(repeated(self.standings()))

    def result(self) -> FixResult:
        """What was found so far."""
        scale = self.scale()
        standings = tuple(self.standings())
        best = next(iter(self._best_first(repeated(standings))), None)
        crashed = bool(self.control) and self.control[0].status == "crashed"
        healthy = (self.diagnosis.verdict == "healthy" and not crashed) or self._too_short()
        verdict = "fixed" if best else "nothing-to-fix" if healthy else "no-fix-found" if self.attempts else "unknown"
        return FixResult(
            script=" ".join(self.script.words),
            verdict=verdict,
            steps=self.steps,
            seeds=len(self.control),
            control=tuple(self.control),
            standings=standings,
            recommended=best,
            diagnosis=confirmed(self.diagnosis, standings, best),
            scale=scale.kind,
            noise=self._noise(scale),
            seconds=self.clock.seconds,
            plain_seconds=self.clock.plain,
            remarks=(*self.remarks, *untried(standings)),
        )
