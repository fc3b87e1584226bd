"""``steadygrad run``: run a script with observation on, and answer at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from steadygrad.child import Trial, TrialOptions
from steadygrad.errors import StoreError
from steadygrad.guard import Guard, zerocode
from steadygrad.jsonfile import write_json
from steadygrad.launch import Outcome, Target, anchored, launch, seen_from
from steadygrad.ranks import Mailbox, Part, current
from steadygrad.records import Diagnosis, Fact, RemedySpec, StepRecord, Symptom
from steadygrad.remedies import format_spec, install
from steadygrad.report import write_report
from steadygrad.session import Session, say
from steadygrad.store import RUNS_FOLDER, Run, new_run_folder, to_json
from steadygrad.terminal import LiveStatus, print_diagnosis, print_finding
from steadygrad.watching import activate

#: Exit code of ``--fail-on`` when the run has findings of that severity.
FINDINGS_EXIT = 3
_SEVERITY = {"warning": 1, "critical": 2}


@dataclass(frozen=True)
class RunOptions:
    """What ``steadygrad run`` was asked for."""

    target: Target
    out: Path | None = None
    json_file: Path | None = None
    every: int = 10
    fail_on: str | None = None
    report: bool = True
    quiet: bool = False
    trace: bool = True
    apply: tuple[RemedySpec, ...] = ()
    trial: TrialOptions = field(default_factory=TrialOptions)
    guard: bool = False


class ObservedRun:
    """Holds what lives from before the script's first line until after its last."""

    def __init__(self, options: RunOptions) -> None:
        self._here = Path.cwd()  # the script may go elsewhere
        self._options = options = replace(options, out=anchored(options.out), json_file=anchored(options.json_file))
        self._session: Session | None = None
        self._status = LiveStatus()
        self._state = "healthy"
        self.verdict: Diagnosis | None = None
        self._notes: list[tuple[RemedySpec, str]] = []
        self._undo: Callable[[], None] | None = None
        self._trial = Trial(options.trial, self._gravest)
        self._guard: zerocode.ZeroCode | None = None
        self._part = _part(options)
        if self._part is not None and not self._part.records:  # rank 0 answers for all
            self._options = replace(options, quiet=True, report=False, json_file=None, fail_on=None)

    @property
    def name(self) -> str:
        """The script as the user typed it."""
        target = self._options.target
        return target.script or f"-m {target.module}"

    def before(self) -> None:
        """Observation on."""
        options = self._options
        if self._part is not None:
            self._part.begin()
        folder = self._folder()
        if options.guard:  # before the observation, whose hooks are then around it
            self._guard = zerocode.install(Guard(folder=folder), say=say)
        session = Session(
            folder,
            every=options.every,
            trace=options.trace,
            meta=self._meta(),
            on_step=self._step,
            on_finding=self._finding,
        )
        activate(session)
        self._session = session
        self._undo = install(options.apply, notes=self._notes)  # last, so that the treated script is observed
        self._trial.begin()
        if not options.quiet:
            self._status.__enter__()

    def _meta(self) -> dict[str, Any]:
        return {
            "script": self.name,
            "argv": list(self._options.target.argv),
            "cwd": str(self._here),
            "started_at": time.strftime("%Y-%m-%d %H:%M:%S"),
        }

    def _folder(self) -> Path | None:
        if self._part is not None and not self._part.records:
            return None
        if self._options.out is not None:
            return self._options.out
        if not self._options.trial.recorded:
            return None
        try:
            return new_run_folder(
                self._here / RUNS_FOLDER, self._options.target.script or self._options.target.module or "run"
            )
        except StoreError as error:
            say(f"this run is not recorded: {error}")
            return None

    def _step(self, record: StepRecord) -> None:
        if not self._options.quiet:
            self._status.update(
                step=record.step, loss=record.loss, grad_norm=record.grad_norm, lr=record.lr, state=self._state
            )
        self._trial.step(record, self._notes)

    def _gravest(self) -> str:
        found = self._session.diagnosis() if self._session is not None else None
        if found is None or found.verdict != "unhealthy":
            return ""
        return "critical" if any(s.severity == "critical" for s in found.symptoms) else "warning"

    def _finding(self, symptom: Symptom) -> None:
        self._state = symptom.severity if self._state != "critical" else self._state
        if self._part is not None and self._session is not None and not self._session.closed:
            self._part.found(symptom, self._session.history)
        if not self._options.quiet:
            print_finding(symptom)

    def after(self, outcome: Outcome) -> None:
        """Observation off; answer in the terminal, as JSON and as a report."""
        session = self._session
        if session is None:
            return
        seconds = self._trial.script_ended()
        if not self._options.quiet:
            self._status.__exit__(None, None, None)
        session.update_meta(exit_code=outcome.exit_code)
        self._take_back(session)
        if self._guard is not None:
            session.fact(Fact("guard-summary", session.history.steps, self._guard.as_fact()))
        remarks = self._gather(session, outcome)
        self.verdict = session.close()
        if self._part is not None and not self._part.records:
            self._part.leave(session.history, self.verdict, outcome=outcome.kind, error=_one_line(outcome.error))
        self._unguard()
        steps, overhead = session.history.steps, session.overhead[0]
        self._trial.answer(
            self.verdict, self._notes, steps=steps, outcome=outcome.kind, seconds=seconds, overhead=overhead
        )
        self._show(session, {**session.meta, "steps": steps, "exit_code": outcome.exit_code}, self.verdict)
        if not self._options.quiet:
            for code in session.withdrawn:
                say(f"{code}, announced earlier, does not hold over the whole run")
            for line in remarks:
                say(line)

    def _show(self, session: Session, meta: dict[str, Any], verdict: Diagnosis) -> None:
        """The answer as a report, as JSON and in the terminal."""
        report = self._report(session)
        if self._options.json_file is not None:
            write_json(self._options.json_file, to_json(meta, verdict))
        if not self._options.quiet:
            print_diagnosis(verdict, meta, report)

    def _gather(self, session: Session, outcome: Outcome) -> list[str]:
        """What the other ranks of this training left, into the run's record; and what to say of them."""
        if self._part is None or not self._part.records:
            return []
        facts = self._part.gather(session.history, outcome=outcome.kind, error=_one_line(outcome.error))
        for fact in facts:
            session.fact(fact)
        if session.folder is not None:
            self._part.keep(session.folder)
        return self._part.remark(facts)

    def _take_back(self, session: Session) -> None:
        """The remedies off again, and what came of them into the run's record."""
        if self._undo is None:
            return
        self._undo()
        for spec, note in self._notes:
            fact = {"spec": format_spec(spec), "applied": note.startswith("applied"), "note": note}
            session.fact(Fact("remedy", session.history.steps, fact))
            if not self._options.quiet:
                say(f"{format_spec(spec)} {note}")

    def _unguard(self) -> None:
        """The guard off again, after the observation that was put around it, and what it did in words."""
        if self._guard is not None:
            self._guard.remove()
            if not self._options.quiet:
                for line in self._guard.summary():
                    say(line)

    def _report(self, session: Session) -> Path | None:
        folder = session.folder
        if folder is None or not self._options.report or session.history.steps == 0:
            return None
        try:
            with Run(folder) as run:
                return seen_from(self._here, write_report(run, folder / "report.html"))
        except (StoreError, OSError) as error:
            say(f"no report was written: {error}")
            return None

    def fails(self) -> bool:
        """Whether ``--fail-on`` asks for a failing exit code."""
        if self.verdict is None or self._options.fail_on is None:
            return False
        limit = _SEVERITY[self._options.fail_on]
        return any(_SEVERITY[s.severity] >= limit for s in self.verdict.symptoms)


def _part(options: RunOptions) -> Part | None:
    """This process's part where a launcher such as torchrun started several."""
    rank = current()
    if rank is None or not options.trial.recorded:
        return None
    box = options.out / "ranks" if options.out is not None else anchored(RUNS_FOLDER) / f".ranks-{rank.group}"
    return Part(rank.index, rank.world, Mailbox(box), say=say)


def _one_line(error: BaseException | None) -> str:
    """Kind and first line of an exception."""
    return "" if error is None else f"{type(error).__name__}: {error}".splitlines()[0][:300]


def run(options: RunOptions) -> int:
    """Run the script and return the exit code to leave with: the script's own, or 3 where ``--fail-on`` applies.

    Raises:
        InputError: a remedy does not take the value it is given.
    """
    install(options.apply)()  # put in place and taken back: a value that no remedy takes is said before the script runs
    observed = ObservedRun(options)
    code = launch(options.target, before=observed.before, after=observed.after)
    return FINDINGS_EXIT if code == 0 and observed.fails() else code
