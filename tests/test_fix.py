"""``steadygrad fix``: the search, the command, what it prints and stores."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from interrupting import STEADYGRAD
from rich.console import Console

from steadygrad.commands.fixing import seconds_of
from steadygrad.errors import InputError, StoreError
from steadygrad.history import History
from steadygrad.records import Candidate, Cause, Diagnosis, RemedySpec, StepRecord, TrialResult
from steadygrad.report import write_report
from steadygrad.store import Recorder, Run
from steadygrad.terminal.fixing import FixDisplay, Silence, print_fix
from steadygrad.trials.attempt import Watcher
from steadygrad.trials.job import Attempt, Job, Script, title
from steadygrad.trials.judge import Standing
from steadygrad.trials.local import Done
from steadygrad.trials.patching import source_of, with_change, write_patch
from steadygrad.trials.reading import FIX_FILE, read_fix
from steadygrad.trials.result import FixResult, Patch, to_fix_json
from steadygrad.trials.search import CONTROL, LEADERS, Search
from steadygrad.trials.settings import Settings
from steadygrad.trials.stopping import Rule
from steadygrad.trials.words import gain, headline, outcome

NO_OP = Candidate((RemedySpec("no-op"),), "", "the script as it is", "no-op")
RANDOM = Candidate((RemedySpec("raise-lr", "9"),), "", "drawn at random", "random")
LOWER = [
    Candidate((RemedySpec("lower-lr", str(10.0**-i)),), "learning-rate-too-high", "Smaller steps.") for i in range(8)
]
SICK = Diagnosis("unhealthy", (), (Cause("learning-rate-too-high", 0.8, "train.py:9", ("the loss alternates",)),))


class Bench:
    """A backend that trains nothing: the loss of each candidate is given, with a little noise by seed."""

    def __init__(self, ends: Callable[[Candidate], float | None]) -> None:
        self.ends, self.jobs, self.rounds = ends, list[Job](), 0

    def run(self, jobs: Sequence[Job], *, watcher: Watcher, done: Done, deadline: float = math.inf) -> list[Attempt]:
        self.rounds += 1
        found = []
        for job in jobs:
            self.jobs.append(job)
            watcher(job, job.rule.steps, 1.0)
            found.append(self._attempt(job))
            done(job, found[-1])
        return found

    def _attempt(self, job: Job) -> Attempt:
        end = self.ends(job.candidate)
        end = end if end is None else end * (1 + 0.01 * job.seed)
        curve = ((1, 2.0), (job.rule.steps, math.nan if end is None else end))
        status = "finished" if end is not None else "non-finite"
        result = TrialResult(job.candidate, job.seed, status, job.rule.steps, end, curve, (), "healthy", 1.0)
        return Attempt(result, limited=True, overhead=0.1)

    def close(self) -> None:
        pass

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Observed(Search):
    """A search whose control has been diagnosed already."""

    def _observe(self) -> History:
        attempt = self._run([self._job(CONTROL, 0, Rule(self.settings.steps))], math.inf)[0]
        self.control, self.diagnosis, self.clock.plain = [attempt.result], SICK, 100.0
        history = History()
        history.add(StepRecord(1, loss=1.0))
        return history


def search(
    ends: Callable[[Candidate], float | None],
    candidates: Sequence[Candidate],
    bench: Bench | None = None,
    **options: Any,
) -> tuple[FixResult, Bench]:
    bench = bench or Bench(ends)

    def propose(history: History, diagnosis: Diagnosis, limit: int) -> list[Candidate]:
        return [*candidates[: limit - 2], NO_OP, RANDOM]

    found = Observed(
        Script(("train.py",), "."),
        Settings(**options),
        folder=Path("none"),
        backend=bench,
        propose=propose,
        display=Silence(),
    )
    return found.run(), bench


def better(candidate: Candidate) -> float:
    """The third rate is best."""
    return 0.2 if candidate == LOWER[3] else 0.5 if candidate == LOWER[4] else 2.0


# -- the search ---------------------------------------------------------------------------------------------------


def test_the_best_is_found_and_repeated_beside_the_control() -> None:
    result, bench = search(better, LOWER)
    assert result.verdict == "fixed"
    assert result.recommended is not None
    assert result.recommended.candidate == LOWER[3]
    assert [r.seed for r in result.recommended.results] == [r.seed for r in result.control] == [0, 1, 2]
    repeated = {job.candidate for job in bench.jobs if job.seed > 0}
    assert repeated == {CONTROL, LOWER[3], LOWER[4]}
    assert result.diagnosis.causes[0].confidence == pytest.approx(0.94)
    assert result.trials == len(bench.jobs)


def test_later_candidates_are_held_against_the_best_of_the_first() -> None:
    _, bench = search(better, LOWER)
    bars = [job.rule.best for job in bench.jobs if job.seed == 0]
    assert bars[:7] == [None] * 7  # control, no-op and the first five
    assert set(bars[7:]) == {0.2}
    assert {job.rule.usual for job in bench.jobs[1:]} == {2.0}, "and all against what the control reaches itself"


def test_what_ends_at_nothing_leaves_the_others_their_time() -> None:
    """Below a ten-thousandth of the start losses are equal: nobody is far behind a loss of 1e-9."""
    _, bench = search(lambda c: 1e-9 if c == LOWER[3] else 2.0, LOWER)
    assert max(job.rule.best or 0.0 for job in bench.jobs) == pytest.approx(2e-4)


def test_what_works_is_tried_together() -> None:
    clip = Candidate((RemedySpec("clip-norm", "1"),), "long-recurrence", "Bounded steps.")

    def ends(candidate: Candidate) -> float:
        return 2.0 * math.prod(0.5 for spec in candidate.specs if spec in (*LOWER[0].specs, *clip.specs))

    result, bench = search(ends, [LOWER[0], clip])
    assert result.recommended is not None
    assert title(result.recommended.candidate) == "lower-lr:1.0 + clip-norm:1"
    assert result.recommended.candidate.cause == "learning-rate-too-high"
    together = [job for job in bench.jobs if job.candidate == result.recommended.candidate]
    assert together[0].rule.best == 1.0


def test_the_number_of_the_best_is_refined_for_as_long_as_that_helps() -> None:
    best = 30.0

    def ends(candidate: Candidate) -> float:
        spec = candidate.specs[0] if candidate.specs else None
        if spec is None or spec.code != "clip-norm":
            return 2.0
        return 0.1 * (1 + abs(math.log(float(spec.value) / best)))

    result, bench = search(ends, [Candidate((RemedySpec("clip-norm", "1.0"),), "long-recurrence", "")])
    assert result.recommended is not None
    assert title(result.recommended.candidate) == "clip-norm:27"
    first = [title(job.candidate) for job in bench.jobs if job.seed == 0]
    assert {"clip-norm:0.33", "clip-norm:3", "clip-norm:9"} < set(first)
    assert len(first) == len(set(first)), "nothing is tried twice"


def test_another_rate_may_be_needed_beside_a_remedy() -> None:
    swap = Candidate((RemedySpec("swap-activation", "relu"),), "saturating-activation", "")
    both = "swap-activation:relu + lower-lr:/3"
    result, _ = search(lambda c: 0.1 if title(c) == both else 0.5 if c == swap else 2.0, [swap])
    assert result.recommended is not None
    assert title(result.recommended.candidate) == both
    assert result.recommended.candidate.cause == "saturating-activation"


def test_what_works_as_well_alone_is_not_combined() -> None:
    clip = Candidate((RemedySpec("clip-norm", "1"),), "long-recurrence", "")
    result, _ = search(lambda c: 0.5 if c.kind == "remedy" else 2.0, [LOWER[0], clip])
    assert result.recommended is not None
    assert result.recommended.candidate == LOWER[0]


def test_nothing_helps() -> None:
    result, bench = search(lambda _: 2.0, LOWER)
    assert result.verdict == "no-fix-found"
    assert result.recommended is None
    assert not [job for job in bench.jobs if job.seed > 0]  # there is no leader to repeat
    assert "nothing that was tried" in headline(result)


def test_where_nothing_helps_more_is_tried() -> None:
    many = [Candidate((RemedySpec("clip-norm", str(i)),), "learning-rate-too-high", "") for i in range(1, 25)]
    result, _ = search(lambda c: 0.1 if c == many[20] else 2.0, many)
    assert result.recommended is not None
    assert result.recommended.candidate == many[20]


def test_a_random_remedy_that_works_is_shown_but_not_recommended() -> None:
    result, _ = search(lambda c: 0.01 if c == RANDOM else 2.0, LOWER)
    assert result.recommended is None
    assert next(s for s in result.standings if s.candidate == RANDOM).works


def test_no_more_than_the_leaders_are_repeated() -> None:
    _, bench = search(lambda c: 2.0 if c in (CONTROL, NO_OP) else 0.1, LOWER)
    assert len({job.candidate for job in bench.jobs if job.seed == 1}) == LEADERS + 1


def test_one_seed_needs_no_repetition() -> None:
    result, bench = search(better, LOWER, seeds=1)
    assert result.verdict == "fixed"
    assert {job.seed for job in bench.jobs} == {0}
    assert result.recommended is not None
    assert result.recommended.interval is None


def test_without_time_only_the_first_candidates_are_tried() -> None:
    _, bench = search(better, LOWER, budget=1e-9)
    tried = [job.candidate for job in bench.jobs if job.seed == 0 and job.candidate.kind == "remedy"]
    assert tried == LOWER[:5]


class Crowded(Bench):
    """Trials take three times as long as the control did."""

    def _attempt(self, job: Job) -> Attempt:
        attempt = super()._attempt(job)
        return replace(attempt, result=replace(attempt.result, seconds=3.0), script_seconds=1.0)


def test_time_is_kept_for_repetitions_at_the_pace_that_trials_have() -> None:
    bench = Crowded(better)
    found = Observed(
        Script(("train.py",), "."), Settings(budget=30.0),
        folder=Path("none"), backend=bench, propose=lambda *_: [*LOWER, NO_OP, RANDOM], display=Silence(),
    )  # fmt: skip
    found.clock.alone = 1.0
    before = found.clock.affordable(least=0)
    found.run()
    assert before == pytest.approx(60 - 8, abs=1)  # thirty seconds, two at a time, but for eight repetitions
    assert found.clock.affordable(least=0) == pytest.approx(20 - 8, abs=1)


class Timed(Bench):
    """Keeps how many seconds each round is given."""

    def run(self, jobs: Sequence[Job], *, watcher: Watcher, done: Done, deadline: float = math.inf) -> list[Attempt]:
        self.given = [*getattr(self, "given", []), deadline - time.monotonic()]
        return super().run(jobs, watcher=watcher, done=done, deadline=deadline)


def test_a_budget_that_repetitions_would_use_up_still_tries_something() -> None:
    bench = Timed(better)
    found = Observed(
        Script(("train.py",), "."), Settings(budget=12.0),
        folder=Path("none"), backend=bench, propose=lambda *_: [*LOWER, NO_OP, RANDOM], display=Silence(),
    )  # fmt: skip
    found.clock.alone = 3.0  # eight repetitions, two at a time, take as long as there is
    found.run()
    assert bench.given[1] == pytest.approx(6.0, abs=0.5), "the first round after the control has half of it"


def test_it_is_said_where_there_was_no_time_to_try_anything() -> None:
    control = TrialResult(CONTROL, 0, "finished", 300, 2.0, ((1, 2.0),), ("stalled-loss",), "unhealthy", 1.0)
    cut = TrialResult(LOWER[0], 0, "cut", 0, None, (), (), "", 0.0)
    nothing = Standing(LOWER[0], (cut,), None, None, works=False)
    assert "no time to try" in headline(FixResult("train.py", "no-fix-found", 300, 1, (control,), (nothing,)))
    early = replace(control, status="cut", steps=0, loss=None)
    assert "before its first step" in headline(FixResult("train.py", "unknown", 300, 1, (early,)))


class Late(Bench):
    """The time is up after five trials; the sixth was under way."""

    def _attempt(self, job: Job) -> Attempt:
        attempt = super()._attempt(job)
        turn = LOWER.index(job.candidate) if job.candidate in LOWER else 0
        steps = 0 if turn > 5 else 40
        cut = replace(attempt.result, status="cut", steps=steps, loss=None)
        return replace(attempt, result=cut) if turn >= 5 and job.seed == 0 else attempt


def test_what_there_was_no_time_for_is_said_and_not_counted() -> None:
    found, bench = search(better, LOWER, Late(better))
    untried = len(LOWER) - 6
    assert f"{untried} more remed{'y was' if untried == 1 else 'ies were'} not tried" in found.remarks[-1]
    assert found.trials == len(bench.jobs) - untried
    assert not any("not tried" in remark for remark in search(better, LOWER)[0].remarks)


class Broken(Bench):
    """Ctrl-C in the second round, when one of its trials is over."""

    def run(self, jobs: Sequence[Job], *, watcher: Watcher, done: Done, deadline: float = math.inf) -> list[Attempt]:
        if self.rounds < 2:
            return super().run(jobs, watcher=watcher, done=done, deadline=deadline)
        super().run(jobs[:1], watcher=watcher, done=done, deadline=deadline)
        raise KeyboardInterrupt


def test_an_interruption_loses_no_trial_that_was_over() -> None:
    bench = Broken(better)
    found = Observed(
        Script(("train.py",), "."), Settings(),
        folder=Path("none"), backend=bench, propose=lambda *_: [*LOWER, NO_OP, RANDOM], display=Silence(),
    )  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        found.run()
    result = found.result()
    assert result.trials == len(bench.jobs) == 8  # control, no-op, five candidates, and the first of the second round
    assert result.recommended is not None


def test_luck_with_one_seed_gives_way_to_the_next() -> None:
    lucky = LOWER[:LEADERS]

    class Lucky(Bench):
        def _attempt(self, job: Job) -> Attempt:
            attempt = super()._attempt(job)
            worse = job.candidate in lucky and job.seed > 0
            return replace(attempt, result=replace(attempt.result, loss=5.0)) if worse else attempt

    bench = Lucky(lambda c: 0.1 if c in lucky else 0.4 if c == LOWER[4] else 2.0)
    found = Observed(
        Script(("train.py",), "."), Settings(),
        folder=Path("none"), backend=bench, propose=lambda *_: [*LOWER, NO_OP, RANDOM], display=Silence(),
    )  # fmt: skip
    result = found.run()
    assert result.recommended is not None
    assert result.recommended.candidate == LOWER[4]
    assert [r.seed for r in result.control] == [0, 1, 2]


class Cut(Bench):
    """The control is cut off after 60 steps, which are on record."""

    def _attempt(self, job: Job) -> Attempt:
        attempt = super()._attempt(job)
        if not job.folder:
            return attempt
        with Recorder(Path(job.folder), {"script": "train.py"}) as recorder:
            for step in range(1, 61):
                recorder.step(StepRecord(step, loss=2.0 * 1.2**step))
        return replace(attempt, result=replace(attempt.result, status="cut", steps=60, verdict=""), limited=False)


def test_a_short_budget_shortens_the_trials(tmp_path: Path) -> None:
    bench, asked = Cut(better), list[str]()

    def propose(history: History, diagnosis: Diagnosis, limit: int) -> list[Candidate]:
        asked.append(diagnosis.verdict)
        return [*LOWER, NO_OP, RANDOM]

    found = Search(
        Script(("train.py",), str(tmp_path)), Settings(budget=60.0),
        folder=tmp_path / "run", backend=bench, propose=propose, display=Silence(),
    )  # fmt: skip
    result = found.run()
    assert result.steps == 60
    assert {job.rule.steps for job in bench.jobs} == {300, 60}
    assert asked == ["unhealthy"]
    assert result.control[0].status == "finished"
    assert "the budget allows 60 steps for each trial" in result.remarks
    assert result.verdict == "fixed"


def test_a_control_of_which_nothing_can_be_read_is_no_healthy_one(tmp_path: Path) -> None:
    found = Search(
        Script(("train.py",), str(tmp_path)), Settings(), folder=tmp_path / "gone", backend=Bench(better),
        propose=lambda *_: [], display=Silence(),
    )  # fmt: skip
    result = found.run()
    assert result.verdict == "unknown"
    assert "the control run cannot be read" in headline(result)


def test_a_control_that_ends_in_nan_is_beaten() -> None:
    result, _ = search(lambda c: 0.2 if c == LOWER[2] else None, LOWER)
    assert result.recommended is not None
    assert "ends in NaN" in outcome(result, result.recommended)
    assert gain(result, result.recommended) == "finite"


# -- the change that is written -----------------------------------------------------------------------------------

SCALED = "import torch\noptimizer = torch.optim.SGD(model.parameters(), lr=1.0)\nrate = 1.0\n"


class Written(Bench):
    """Trials go well; of the changed scripts only those with some text in them do."""

    end = 0.2

    def __init__(self, ends: Callable[[Candidate], float | None], good: str) -> None:
        super().__init__(ends)
        self.good, self.changed = good, list[str]()

    def _attempt(self, job: Job) -> Attempt:
        attempt = super()._attempt(job)
        if job.candidate.kind != "patched":
            return attempt
        text = Path(job.script.cwd, job.script.words[0]).read_text()
        self.changed.append(text)
        return replace(attempt, result=replace(attempt.result, loss=self.end if self.good in text else 2.0))


@pytest.mark.parametrize(
    ("good", "said", "verified", "runs"),
    [
        ("lr=0.001", "lower-lr:0.001", True, 1),
        ("lr=1e-4", "lower-lr:0.0001", True, 2),
        ("none", "lower-lr:0.001", False, 2),
    ],
)
def test_a_change_that_does_not_hold_gives_way_to_the_next_best(
    tmp_path: Path, good: str, said: str, verified: bool, runs: int
) -> None:
    (tmp_path / "train.py").write_text(SCALED)
    bench = Written(better, good)
    found = Observed(
        Script(("train.py",), str(tmp_path)), Settings(),
        folder=tmp_path / "run", backend=bench, propose=lambda *_: [*LOWER, NO_OP, RANDOM], display=Silence(),
    )  # fmt: skip
    result = with_change(found.run(), found)
    assert result.recommended is not None
    assert title(result.recommended.candidate) == said
    assert result.patch.verified is verified
    assert len(bench.changed) == runs
    assert bool(result.remarks) is (verified and runs > 1)
    assert any(said in words for words in result.diagnosis.causes[0].evidence)


@pytest.mark.parametrize(("end", "verified"), [(0.019, True), (0.021, False)])
def test_a_change_that_recovers_the_run_is_verified_however_low_the_trial_ended(
    tmp_path: Path, end: float, verified: bool
) -> None:
    (tmp_path / "train.py").write_text(SCALED)
    bench = Written(lambda candidate: 1e-5 if candidate == LOWER[3] else 2.0, "lr=0.001")
    bench.end = end
    found = Observed(
        Script(("train.py",), str(tmp_path)), Settings(),
        folder=tmp_path / "run", backend=bench, propose=lambda *_: [*LOWER, NO_OP, RANDOM], display=Silence(),
    )  # fmt: skip
    assert with_change(found.run(), found).patch.verified is verified


# -- what is stored and shown -------------------------------------------------------------------------------------


@pytest.fixture
def fixed() -> FixResult:
    result, _ = search(better, LOWER)
    patch = Patch("new", "--- a/train.py\n+++ b/train.py\n@@ -1 +1 @@\n-lr=1\n+lr=0.1\n", (), True, 0.2)
    return replace(result, patch=patch, remarks=("the script writes 1 file",))


def test_json_is_plain_and_reads_back(fixed: FixResult, tmp_path: Path) -> None:
    broken = replace(fixed, control=(replace(fixed.control[0], loss=None, curve=((1, 2.0), (2, math.nan))),))
    for result in (fixed, replace(fixed, recommended=None, verdict="no-fix-found", patch=Patch()), broken):
        text = json.dumps(to_fix_json(result), allow_nan=False)
        (tmp_path / FIX_FILE).write_text(text)
        again = read_fix(tmp_path)
        assert again is not None
        assert json.dumps(to_fix_json(again), allow_nan=False) == text
    answer = to_fix_json(fixed)
    assert answer["schema"] == "steadygrad.fix/1"
    assert answer["recommended"]["remedies"] == [title(LOWER[3])]
    assert answer["recommended"]["patch_verified"] is True
    assert answer["diagnosis"]["schema"] == "steadygrad.run/1"


def test_the_guide_shows_the_json_as_it_is(fixed: FixResult) -> None:
    guide = (Path(__file__).parents[1] / "docs" / "guide-fix.md").read_text()
    shown, answer = json.loads(guide.split("```json\n")[1].split("```")[0]), to_fix_json(fixed)
    assert shown.keys() == answer.keys()
    assert shown["control"].keys() == answer["control"].keys()
    assert shown["recommended"].keys() | {"why", "kind", "changes_loss_scale"} == answer["recommended"].keys()


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": "steadygrad.fix/9"}', '{"schema": "steadygrad.fix/1"}'])
def test_a_damaged_result_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / FIX_FILE).write_text(text)
    with pytest.raises(StoreError, match=r"fix\.json"):
        read_fix(tmp_path)


def printed(result: FixResult, width: int = 100) -> str:
    console = Console(file=StringIO(), width=width)
    print_fix(result, Path("runs/report.html"), console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_the_answer_says_what_a_person_needs(fixed: FixResult) -> None:
    text = printed(fixed)
    for part in ("FIXED", "learning-rate-too-high", "train.py:9", "lower-lr:0.001", "0.1×", "★", "+lr=0.1", "verified"):
        assert part in text
    assert "report: runs/report.html" in text
    assert "the script writes 1 file" in text
    assert "at random" in text
    assert fixed.recommended is not None
    assert printed(replace(fixed, recommended=replace(fixed.recommended))) == text, "the same one, judged again"
    unlike = printed(replace(fixed, patch=replace(fixed.patch, verified=False, loss=1.9)))
    assert "NOT verified: the changed script ends at 1.9, the trial at 0.2" in unlike


def test_a_control_that_rises_is_compared_as_it_is_counted(fixed: FixResult) -> None:
    """0.2 in place of 170 is no 0.1 of anything but of the first loss, as which a run that rises counts."""
    control = replace(fixed.control[0], loss=170.0, curve=((1, 2.0), (300, 170.0)))
    risen = replace(fixed, control=(control, *fixed.control[1:]))
    assert fixed.recommended is not None
    assert outcome(risen, fixed.recommended).startswith("the loss is 0.2, 0.1× of the 2 that it began with")
    assert outcome(risen, fixed.recommended).endswith("; the script as it is rises to 170")
    assert gain(risen, fixed.recommended) == "0.1× of start"


def test_lines_are_wrapped_but_for_the_change(fixed: FixResult) -> None:
    long = replace(fixed, patch=replace(fixed.patch, diff=f"+{'y' * 150} = 1\n"), remarks=("word " * 40,))
    lines = printed(long, width=60).splitlines()
    assert f"  +{'y' * 150} = 1" in lines
    assert max(len(line) for line in lines if "yyy" not in line) <= 60
    assert not [line for line in lines if line != line.rstrip()]


def test_names_from_the_script_cannot_format_the_terminal(fixed: FixResult) -> None:
    nasty = replace(fixed, script="[red]\x1b[31mtrain.py", remarks=("[bold]\x07",))
    assert "\x1b[31m" not in printed(nasty)
    assert "[bold]" in printed(nasty)


def test_the_report_shows_trials_and_change(fixed: FixResult, tmp_path: Path) -> None:
    with Recorder(tmp_path, {"script": "train.py"}) as recorder:
        for step in range(1, 30):
            recorder.step(StepRecord(step, loss=2.0))
    with Run(tmp_path) as run:
        assert 'id="fix"' not in write_report(run, tmp_path / "before.html").read_text()
        (tmp_path / FIX_FILE).write_text(json.dumps(to_fix_json(fixed)))
        page = write_report(run, tmp_path).read_text()
    for part in (
        'id="fix"',
        "A fix was found",
        "lower-lr:0.001",
        'class="added">+lr=0.1',
        "Control against candidates",
    ):
        assert part in page


def test_progress_is_a_line_for_each_trial_where_there_is_no_terminal() -> None:
    console = Console(file=StringIO(), width=120)
    bench = Bench(lambda _: 0.5)
    with FixDisplay(console) as display:
        display.say("Trying remedies")
        jobs = [Job(1, Script(("train.py",), "."), LOWER[0], 0, replace_rule())]
        display.added(jobs)
        bench.run(jobs, watcher=display.progress, done=display.over)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.startswith("Trying remedies\n  lower-lr:1.0")
    assert "0.5" in text
    assert "\x1b" not in text


def replace_rule() -> Any:
    from steadygrad.trials.stopping import Rule

    return Rule(40)


# -- the change ---------------------------------------------------------------------------------------------------


def test_only_a_verified_change_is_written(tmp_path: Path) -> None:
    script = Script(("train.py",), str(tmp_path))
    (tmp_path / "train.py").write_text("old")
    for patch in (Patch(), Patch("new", "d"), Patch("new", "d", verified=False)):
        assert "left as it is" in write_patch(script, patch)
        assert (tmp_path / "train.py").read_text() == "old"
    assert "was written" in write_patch(script, Patch("new", "d", verified=True))
    assert (tmp_path / "train.py").read_text() == "new"


def test_a_changed_script_is_run_as_it_will_be_written(tmp_path: Path) -> None:
    """Where the locale knows ASCII only, too."""
    code = """
        from pathlib import Path
        from types import SimpleNamespace
        from steadygrad.trials import patching
        from steadygrad.trials.job import Script

        def read(script):
            return Path(script.words[0]).read_bytes()

        search = SimpleNamespace(script=Script(("train.py",), "."), plain=read)
        assert patching._run(search, Path("train.py").absolute(), "größe = 1\\r\\n") == "größe = 1\\r\\n".encode()
    """
    env = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    (tmp_path / "check.py").write_text(textwrap.dedent(code), encoding="utf-8")
    subprocess.run([sys.executable, "check.py"], cwd=tmp_path, env=env, check=True, timeout=60)


def test_the_source_of_a_command_line(tmp_path: Path) -> None:
    (tmp_path / "package" / "tool").mkdir(parents=True)
    for name in ("train.py", "package/train.py", "package/tool/__main__.py", "train.pyc"):
        (tmp_path / name).write_text("")
    here = str(tmp_path)
    assert source_of(Script(("train.py", "-m"), here)) == tmp_path / "train.py"
    assert source_of(Script(("-m", "package.train"), here)) == tmp_path / "package" / "train.py"
    assert source_of(Script(("-m", "package.tool"), here)) == tmp_path / "package" / "tool" / "__main__.py"
    for words in (("train.pyc",), ("none.py",), ("-m", "none"), ("package",)):
        assert source_of(Script(words, here)) is None


# -- the command --------------------------------------------------------------------------------------------------

STEEP = """
import torch
torch.manual_seed(0)
x = torch.randn(64, 8)
y = x @ torch.randn(8, 1)
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=3.0)  # much too fast
for step in range(60):
    loss = torch.nn.functional.mse_loss(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print("trained")
"""
FIX = [sys.executable, "-m", "steadygrad.cli", "fix"]


def call(*words: str, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*FIX, *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        stdin=subprocess.DEVNULL,
        **options,
    )


def test_from_a_failing_script_to_a_changed_one(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(STEEP)
    done = call("--seeds", "2", "--out", "run", "--json", "answer.json", "--write", "train.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""  # the answer goes to standard error, and the script's own output nowhere
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer["verdict"] == "fixed"
    assert answer["control"]["status"] != "finished" or answer["control"]["loss"] > 3 * answer["recommended"]["loss"]
    assert answer["recommended"]["patch_verified"] is True
    assert (tmp_path / "train.py").read_text() == answer["recommended"]["patch"] != STEEP
    assert "# much too fast" in answer["recommended"]["patch"]  # comments are kept
    assert sorted(p.name for p in tmp_path.iterdir()) == ["answer.json", "run", "train.py"]
    assert 'id="fix"' in (tmp_path / "run" / "report.html").read_text()
    assert "FIXED" in done.stderr
    plain = subprocess.run([sys.executable, "train.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert plain.stdout == "trained\n"


def test_nothing_to_fix(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(STEEP.replace("3.0", "0.05"))
    done = call("--json", "-", "train.py", cwd=tmp_path)
    assert done.returncode == 0
    answer = json.loads(done.stdout)
    assert (answer["verdict"], answer["recommended"], answer["candidates"]) == ("nothing-to-fix", None, [])
    assert "NOTHING TO FIX" in done.stderr


def test_a_script_that_does_not_train_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "prepare.py").write_text("print('done')\n")
    done = call("prepare.py", cwd=tmp_path)
    assert done.returncode == 1
    assert "UNKNOWN  prepare.py, 0 steps: no training was seen" in " ".join(done.stderr.split(" "))
    assert "error" not in done.stderr


def test_a_script_that_crashes_in_the_middle_is_not_called_healthy(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        STEEP.replace("3.0", "0.05").replace('print("', '    if step == 40:\n        print(los, "')
    )
    done = call("train.py", cwd=tmp_path)
    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert "UNKNOWN train.py, 41 steps: nothing wrong was found before it ended with an error: NameError" in said


def test_a_script_that_crashes_at_once_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("raise FileNotFoundError('data.csv')\n")
    done = call("train.py", cwd=tmp_path)
    assert done.returncode == 1
    assert "UNKNOWN" in done.stderr
    assert "FileNotFoundError: data.csv" in done.stderr
    assert "no report" not in done.stderr, "of a run that never began"


def test_ctrl_c_ends_the_trials_and_keeps_what_was_found(tmp_path: Path) -> None:
    slow = STEEP.replace("    optimizer.step()", "    optimizer.step(); import time; time.sleep(0.05)")
    (tmp_path / "train.py").write_text(slow + "open(f'ran-{__import__(\"os\").getpid()}', 'w')\n")
    with subprocess.Popen(
        [*STEADYGRAD, "fix", "--json", "answer.json", "--out", "run", "train.py"],
        cwd=tmp_path, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("  no-op"):  # some trials are over, others run
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
    assert process.returncode == 130, rest
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer["interrupted"]
    assert answer["control"]["steps"] == 60
    assert "interrupted" in rest
    assert not _children_of(process.pid)


def _children_of(pid: int) -> list[int]:
    deadline = time.monotonic() + 10
    left: list[int] = []
    while time.monotonic() < deadline:
        left = [p for p in _pids() if _parent(p) == pid]
        if not left:
            break
        time.sleep(0.05)
    return left


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except (OSError, IndexError):
        return 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--budget", "soon", "train.py"], "90s, 5m or 2h"),
        (["--backend", "slurm", "train.py"], "neither local nor ray"),
        (["--steps", "3", "train.py"], "--steps"),
        (["none.py"], "there is no such file"),
        (["--out", "train.py", "train.py"], "Choose another with --out"),
        ([], "name the script"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, words: list[str], said: str) -> None:
    (tmp_path / "train.py").write_text(STEEP)
    done = call(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("text", ["", "m", "-5s", "0", "nan", "inf", "5d"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        seconds_of(text)
