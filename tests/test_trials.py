"""Trials: numbers, when to stop, what works, and processes."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event, Timer

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from steadygrad.history import History
from steadygrad.records import Candidate, Cause, Diagnosis, RemedySpec, StepRecord, TrialResult
from steadygrad.trials import numbers
from steadygrad.trials.job import Attempt, Job, Script
from steadygrad.trials.judge import EQUAL, Standing, adversarial, best_of, noise_of, relieved, scale_for, standing
from steadygrad.trials.local import LocalBackend
from steadygrad.trials.result import confirmed
from steadygrad.trials.stopping import BROKEN, Rule, hopeless
from steadygrad.trials.workplace import listing, workplace, written
from steadygrad.view import View

CONTROL = Candidate((), "", "", "control")
NO_OP = Candidate((RemedySpec("no-op"),), "", "", "no-op")
LOWER = Candidate((RemedySpec("lower-lr", "0.1"),), "learning-rate-too-high", "")
CLIP = Candidate((RemedySpec("clip-norm", "1"),), "learning-rate-too-high", "")
BOTH = Candidate((*LOWER.specs, *CLIP.specs), "learning-rate-too-high", "")
MEAN = Candidate((RemedySpec("mean-reduction"),), "loss-misuse", "", changes_loss_scale=True)

finite = st.floats(1e-3, 1e3)


def trial(
    candidate: Candidate,
    end: float | None,
    *,
    seed: int = 0,
    start: float = 2.0,
    status: str = "finished",
    symptoms: Sequence[str] = (),
) -> TrialResult:
    curve = ((1, start), (300, math.nan if end is None else end))
    verdict = "unhealthy" if symptoms or end is None else "healthy"
    return TrialResult(candidate, seed, status, 300, end, curve, tuple(symptoms), verdict)


def judged(control: list[TrialResult], *groups: list[TrialResult], adversarial: bool = False) -> list[Standing]:
    scale = scale_for(control, [r for group in groups for r in group], adversarial=adversarial)
    return [standing(group[0].candidate, group, control, scale, 0.0) for group in groups]


def seeds(candidate: Candidate, ends: Sequence[float | None], **options: float) -> list[TrialResult]:
    return [
        trial(candidate, end, seed=seed, status="finished" if end is not None else "non-finite", **options)  # type: ignore[arg-type]
        for seed, end in enumerate(ends)
    ]


# -- numbers ------------------------------------------------------------------------------------------------------


@given(st.lists(finite, min_size=1, max_size=400))
def test_the_end_is_the_median_of_the_last_tenth(losses: list[float]) -> None:
    tail = losses[-max(5, len(losses) // 10) :]
    assert numbers.end_loss(losses) == pytest.approx(float(np.median(tail)))


@pytest.mark.parametrize(("broken", "ends"), [(2, True), (3, False), (5, False)])
def test_a_loss_that_is_mostly_not_finite_has_no_end(broken: int, ends: bool) -> None:
    losses = [1.0] * 20 + [1.0] * (5 - broken) + [math.nan] * broken
    assert (numbers.end_loss(losses) is not None) is ends


@given(st.lists(finite, min_size=2, max_size=25), st.floats(0, 10))
def test_the_interval_is_students(values: list[float], spread: float) -> None:
    low, high = numbers.interval(values, least_spread=spread) or (0.0, 0.0)
    deviation = max(float(np.std(values, ddof=1)), spread)
    half = scipy_stats.t.ppf(0.95, len(values) - 1) * deviation / math.sqrt(len(values))
    assert (high - low) / 2 == pytest.approx(half, rel=2e-3, abs=1e-9)
    assert (high + low) / 2 == pytest.approx(float(np.mean(values)), abs=1e-6)


def test_one_value_has_no_interval() -> None:
    assert numbers.interval([1.0]) is None


@given(st.lists(finite, min_size=1, max_size=1000), st.integers(2, 200))
def test_thinning_keeps_the_ends_and_the_order(losses: list[float], points: int) -> None:
    kept = numbers.thinned(losses, points)
    assert len(kept) == min(points, len(losses))
    assert kept[0] == (1, losses[0])
    assert kept[-1] == (len(losses), losses[-1])
    assert all(losses[step - 1] == loss for step, loss in kept)
    assert [step for step, _ in kept] == sorted({step for step, _ in kept})


# -- stopping -----------------------------------------------------------------------------------------------------


def falling(rate: float, steps: int, start: float = 2.0) -> list[float]:
    return [start * rate**step for step in range(steps)]


@pytest.mark.parametrize(
    ("losses", "best", "why"),
    [
        ([1.0] * 10 + [math.nan] * BROKEN, None, "not finite"),
        ([1.0] * 10 + [math.nan] * (BROKEN - 1), None, ""),
        (falling(1.1, 100), None, "diverged"),
        (falling(1.1, 70), None, ""),  # not a quarter of the way yet
        ([2.0] * 299, None, ""),  # there is nothing to be behind
        ([2.0] * 151, 0.1, "far behind"),
        ([2.0] * 149, 0.1, ""),
        (falling(0.99, 160), 0.1, ""),  # would get there
        (falling(0.999, 160), 0.1, "far behind"),
        ([2.0] * 100 + [0.0] * 60, 0.1, ""),  # as good as can be
        ([0.0] + [2.0] * 159, 0.1, "far behind"),
        ([-1.0] * 160, 0.1, ""),  # no ratio of such losses means anything
        ([2.0] * 160, -0.1, ""),
    ],
)
def test_hopeless(losses: list[float], best: float | None, why: str) -> None:
    assert hopeless(Rule(300, best), losses) == why


def test_a_loss_that_rises_in_the_script_as_it_is_may_rise_in_a_trial() -> None:
    """Measured with Q-learning, whose loss begins at nothing and follows its own targets."""
    rising = falling(1.03, 100, start=0.001)
    assert hopeless(Rule(300), rising) == "diverged"
    assert hopeless(Rule(300, usual=0.016), rising) == ""
    assert hopeless(Rule(300, usual=0.016), falling(1.1, 100, start=0.001)) == "diverged"


@given(st.floats(0.9, 1.0), st.integers(30, 300), finite)
def test_what_is_better_than_the_best_is_never_stopped(rate: float, steps: int, start: float) -> None:
    losses = falling(rate, steps, start)
    assert hopeless(Rule(300, best=losses[-1] * 2), losses) == ""


@given(st.floats(0.95, 1.05), st.integers(1, 300), finite, st.floats(0.01, 100))
def test_stopping_does_not_depend_on_the_unit_of_the_loss(rate: float, steps: int, best: float, unit: float) -> None:
    losses = falling(rate, steps)
    scaled = [value * unit for value in losses]
    assert hopeless(Rule(300, best), losses) == hopeless(Rule(300, best * unit), scaled)


# -- judging ------------------------------------------------------------------------------------------------------


def test_a_clear_improvement_works_and_is_a_ratio() -> None:
    (found,) = judged(seeds(CONTROL, [2.0, 2.1, 1.9]), seeds(LOWER, [0.2, 0.22, 0.18]))
    assert found.works
    assert found.improvement == pytest.approx(math.log(10), abs=0.02)
    low, high = found.interval or (0.0, 0.0)
    assert low < math.log(10) < high


@pytest.mark.parametrize(
    "ends",
    [
        [1.96, 2.05, 1.86],  # two in a hundred: not worth it
        [1.0, 4.1, 1.9],  # no better on the whole
        [0.5, 2.1, 1.9],  # by one seed alone
    ],
)
def test_noise_does_not_work(ends: list[float]) -> None:
    (found,) = judged(seeds(CONTROL, [2.0, 2.1, 1.9]), seeds(LOWER, ends))
    assert not found.works


def test_a_script_that_is_not_deterministic_has_a_wider_interval() -> None:
    control, better = seeds(CONTROL, [2.0, 2.0]), seeds(LOWER, [1.0, 1.0])
    scale = scale_for(control, better, adversarial=False)
    noise = noise_of(control[0], trial(NO_OP, 1.0), scale)
    assert noise == pytest.approx(math.log(2))
    certain, doubtful = (standing(LOWER, better, control, scale, n) for n in (0.0, noise))
    assert certain.works
    assert not doubtful.works
    width = [high - low for low, high in (certain.interval or (0, 0), doubtful.interval or (0, 0))]
    assert width[1] > width[0]


@pytest.mark.parametrize(
    ("ends", "works"),
    [
        ([0.32, 0.77], True),  # 36 and 13 times: an interval from two such numbers says nothing
        ([1.0, 0.001, 0.5], True),
        ([1.7, 0.001, 0.01], False),  # one run is hardly better than the control's best
    ],
)
def test_runs_that_all_end_clearly_below_the_control_need_no_interval(ends: list[float], works: bool) -> None:
    (found,) = judged(seeds(CONTROL, [2.0, 1.9, 1.95][: len(ends)]), seeds(LOWER, ends))
    assert found.interval is not None
    assert found.interval[0] < 0
    assert found.works is works


@pytest.mark.parametrize(
    ("control", "ends", "works"),
    [
        ([None, 0.0011, None], [0.0015, 0.0011, 0.0014], True),
        ([2.0, 0.5, 2.1], [0.3, 0.5, 0.3], True),  # stuck, not broken
        ([None, 0.0011, None], [0.0015, 0.0030, 0.0014], False),  # harms what was well
        ([None, 0.0011, None], [0.0015, 0.0011, 2.0], False),  # and helps by luck
        ([None, 0.0011, 0.0012], [0.0015, 0.0011, 0.0012], False),  # one failure proves nothing
    ],
)
def test_a_fault_that_strikes_with_some_seeds_is_healed_with_those(
    control: list[float | None], ends: list[float | None], works: bool
) -> None:
    """Measured with LBFGS: two of three seeds end in NaN, the third is well as it is."""
    (found,) = judged(seeds(CONTROL, control), seeds(LOWER, ends))
    assert found.works is works


def test_being_finite_is_no_merit() -> None:
    """Clipping keeps a badly initialised network where it began; re-initialised it learns (measured: 6.6e28)."""
    control = seeds(CONTROL, [None, None, None], start=6.6e28)
    clipped, renewed = judged(
        control, seeds(CLIP, [6.6e28] * 3, start=6.6e28), seeds(LOWER, [0.1, 0.12, 0.11], start=3.0)
    )
    assert not clipped.works
    assert renewed.works


def test_a_control_that_is_nan_from_the_first_step_can_be_beaten() -> None:
    control = [TrialResult(CONTROL, 0, "non-finite", 300, None, ((1, math.nan),), ("non-finite",), "unhealthy")]
    (found,) = judged(control, [trial(LOWER, 0.1)])
    assert found.works


@pytest.mark.parametrize("symptom", ["non-finite", "diverging-loss"])
def test_what_leaves_something_fatal_does_not_work(symptom: str) -> None:
    (found,) = judged([trial(CONTROL, 2.0)], [trial(LOWER, 0.1, symptoms=[symptom])])
    assert not found.works


def test_the_first_forward_of_a_remedy_that_learns_from_it_may_break() -> None:
    swap = Candidate((RemedySpec("swap-activation", "softplus"),), "unstable-operation", "")
    broken = replace(trial(swap, 0.1, symptoms=["non-finite"]), curve=((1, math.nan), (2, 1.0), (300, 0.1)))
    (found,) = judged([trial(CONTROL, None, status="non-finite")], [broken])
    assert found.works
    later = replace(broken, curve=((1, math.nan), (2, math.nan), (300, 0.1)))
    assert not judged([trial(CONTROL, None, status="non-finite")], [later])[0].works


def test_another_unit_of_the_loss_is_no_improvement() -> None:
    """A mean over 64 samples is 64 times smaller than the sum, and no better for that."""
    control = [trial(CONTROL, 128.0, start=128.0)]
    (same,) = judged(control, [trial(MEAN, 2.0, start=2.0)])
    (better,) = judged(control, [trial(MEAN, 0.2, start=2.0)])
    assert same.improvement == pytest.approx(0.0)
    assert not same.works
    assert better.improvement == pytest.approx(math.log(10))


def test_a_loss_below_zero_that_was_none_gains_nothing() -> None:
    control = [trial(CONTROL, -3e5, start=-0.1)]
    (found,) = judged(control, [trial(MEAN, 0.2, start=2.3)])
    assert found.works


def test_a_loss_of_zero_is_still_compared_by_ratio() -> None:
    """Cross-entropy rounds to 0 where nothing is left to learn: a hundred times that of another is not its equal."""
    done, slow = judged([trial(CONTROL, 0.7)], [trial(BOTH, 0.0)], [trial(CLIP, 0.04)])
    assert done.improvement is not None
    assert slow.improvement == pytest.approx(math.log(0.7 / 0.04))
    best = best_of([done, slow], rank={CLIP: 0, BOTH: 1})
    assert best is not None
    assert best.candidate is BOTH


def test_signed_losses_are_compared_by_difference() -> None:
    """A Gaussian likelihood: from 1 to -3 is the whole way, the control got a quarter of it."""
    (found,) = judged(seeds(CONTROL, [0.0, 0.0], start=1.0), seeds(LOWER, [-3.0, -3.0], start=1.0))
    assert found.improvement == pytest.approx(0.75)
    assert found.works


def test_adversaries_are_judged_by_health_alone() -> None:
    control = [trial(CONTROL, 0.01, symptoms=["zero-gradients", "stalled-loss"])]
    (found,) = judged(control, [trial(LOWER, 1.3)], adversarial=True)
    assert found.works
    assert found.improvement == 2.0


def test_a_certain_cause_without_symptoms_is_something_to_get_rid_of() -> None:
    """Measured with a Wasserstein critic whose gradients are never cleared."""
    control = [replace(trial(CONTROL, 2.2), verdict="unhealthy")]
    same, cured = judged(
        control, [replace(trial(CLIP, 1.7), verdict="unhealthy")], [trial(LOWER, -0.3)], adversarial=True
    )
    assert cured.works
    assert not same.works


@pytest.mark.parametrize(("second", "expected"), [(lambda step: 1 / step, False), (lambda step: 0.5, True)])
def test_two_optimizers_of_one_loss_are_no_adversaries(second: Callable[[int], float], expected: bool) -> None:
    history = History()
    for step in range(1, 40):
        history.add(StepRecord(2 * step - 1, stream=0, loss=1 / step))
        history.add(StepRecord(2 * step, stream=1, loss=second(step)))
    view = View(history)
    assert view.interleaved
    assert adversarial(view) is expected


def test_a_calm_run_is_a_relief_where_the_loss_was_fine() -> None:
    control = seeds(CONTROL, [1.0, 1.0])
    control = [replace(r, symptoms=("loss-spike",), verdict="unhealthy") for r in control]
    (calm,) = judged(control, seeds(CLIP, [1.0, 1.01]))
    scale = scale_for(control, calm.results, adversarial=False)
    assert not calm.works
    assert relieved(calm, control, scale)
    (worse,) = judged(control, seeds(CLIP, [1.2, 1.2]))
    assert not relieved(worse, control, scale)


def test_among_equals_the_simple_and_well_founded_is_recommended() -> None:
    control = [trial(CONTROL, 2.0)]
    within = math.exp(-EQUAL / 2)
    found = judged(control, [trial(BOTH, 0.1 * within)], [trial(CLIP, 0.1)], [trial(LOWER, 0.1)])
    rank = {LOWER: 0, CLIP: 1, BOTH: 2}
    best = best_of(found, rank=rank)
    assert best is not None
    assert best.candidate is LOWER
    far = judged(control, [trial(BOTH, 0.05)], [trial(LOWER, 0.1)])
    best = best_of(far, rank=rank)
    assert best is not None
    assert best.candidate is BOTH


def test_what_takes_a_certain_fault_away_is_preferred_to_what_makes_up_for_it() -> None:
    """Measured where zero_grad was missing: a clip ends 17% to 34% lower than zero_grad does."""
    clear = Candidate((RemedySpec("zero-grad"),), "missing-zero-grad", "")
    control = seeds(CONTROL, [3.64, 3.56, 3.6])
    found = judged(
        control, seeds(CLIP, [0.147, 0.104, 0.131], start=4.0), seeds(clear, [0.178, 0.157, 0.175], start=4.0)
    )
    chosen = {lead: best_of(found, rank={}, lead=lead) for lead in ("missing-zero-grad", "learning-rate-too-high", "")}
    assert {lead: s.candidate.specs[0].code for lead, s in chosen.items() if s is not None} == {
        "missing-zero-grad": "zero-grad", "learning-rate-too-high": "clip-norm", "": "clip-norm",
    }  # fmt: skip
    far = judged(control, seeds(CLIP, [0.05] * 3), seeds(clear, [0.178, 0.157, 0.175]))
    best = best_of(far, rank={}, lead="missing-zero-grad")
    assert best is not None
    assert best.candidate is CLIP


@pytest.mark.parametrize(
    ("alone", "verdict", "recommended"), [(0.2, "healthy", LOWER), (0.4, "healthy", BOTH), (0.2, "unhealthy", BOTH)]
)
def test_a_second_remedy_has_to_pay(alone: float, verdict: str, recommended: Candidate) -> None:
    part = [replace(r, verdict=verdict) for r in seeds(LOWER, [alone] * 3)]
    best = best_of(judged(seeds(CONTROL, [2.0] * 3), seeds(BOTH, [0.15] * 3), part), rank={})
    assert best is not None
    assert best.candidate is recommended


def test_a_fault_that_is_certain_is_taken_away_rather_than_left_as_it_was() -> None:
    swap = Candidate((RemedySpec("replace-batchnorm"),), "tiny-batch-batchnorm", "why")
    left = [replace(r, verdict="unhealthy", symptoms=("unreliable-batchnorm",)) for r in seeds(CLIP, [0.1] * 3)]
    control = seeds(CONTROL, [0.4] * 3)
    for found, recommended in (("unreliable-batchnorm", swap), ("loss-spike", CLIP)):
        standings = judged(control, left, seeds(swap, [0.3] * 3))
        best = best_of(standings, rank={}, lead="tiny-batch-batchnorm", found=frozenset({found}))
        assert best is not None
        assert best.candidate is recommended


def test_nothing_that_works_is_no_recommendation() -> None:
    assert best_of(judged([trial(CONTROL, 2.0)], [trial(LOWER, 2.0)]), rank={}) is None


@given(st.lists(finite, min_size=2, max_size=4), st.floats(1e-2, 1e2))
def test_judging_does_not_depend_on_the_unit_of_the_loss(ends: list[float], unit: float) -> None:
    def improvement(unit: float) -> float | None:
        control = seeds(CONTROL, [2.0 * unit for _ in ends], start=4.0 * unit)
        return judged(control, seeds(LOWER, [e * unit for e in ends], start=4.0 * unit))[0].improvement

    assert improvement(unit) == pytest.approx(improvement(1.0), abs=1e-6)


def test_trials_are_evidence_for_the_diagnosis() -> None:
    causes = (
        Cause("init-too-large", 0.6, "", ("a",)),
        Cause("learning-rate-too-high", 0.5, "", ("b",)),
    )
    other = Candidate((RemedySpec("reinit-kaiming"),), "init-too-large", "")
    more = Candidate((RemedySpec("reinit-xavier"),), "init-too-large", "")
    found = judged([trial(CONTROL, 2.0)], [trial(LOWER, 0.1)], [trial(other, 2.0)], [trial(more, 2.0)])
    after = confirmed(Diagnosis("unhealthy", (), causes), tuple(found), found[0])
    assert [cause.code for cause in after.causes] == ["learning-rate-too-high", "init-too-large"]
    assert after.causes[0].confidence == pytest.approx(0.85)
    assert "lower-lr:0.1" in after.causes[0].evidence[0]
    assert after.causes[1].confidence == pytest.approx(0.42)
    assert "2 of its remedies" in after.causes[1].against[0]


# -- processes ----------------------------------------------------------------------------------------------------

SCRIPT = """
import sys, torch
torch.manual_seed(0)
x = torch.randn(32, 4)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=float(sys.argv[1]))
for step in range(int(sys.argv[2]) if len(sys.argv) > 2 else 60):
    loss = (model(x) - x[:, :1]).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


@pytest.fixture(scope="module")
def backend() -> Iterator[LocalBackend]:
    with LocalBackend(2) as opened:
        yield opened


def run(
    backend: LocalBackend, folder: Path, *candidates: Candidate, text: str = SCRIPT, **options: object
) -> list[Attempt]:
    (folder / "train.py").write_text(text)
    words = options.pop("words", ("train.py", "0.1"))
    script = Script(words, str(folder), **options)  # type: ignore[arg-type]
    jobs = [Job(i, script, c, 0, Rule(40)) for i, c in enumerate(candidates)]
    return backend.run(jobs, watcher=lambda *_: None, done=lambda *_: None)


def test_no_op_is_the_control_to_the_last_digit(backend: LocalBackend, tmp_path: Path) -> None:
    control, no_op, lower = (a.result for a in run(backend, tmp_path, CONTROL, NO_OP, LOWER))
    assert control.status == no_op.status == "finished"
    assert control.curve == no_op.curve
    assert len(control.curve) == control.steps == 40
    assert lower.curve[0] == control.curve[0]  # the same first batch and weights
    assert lower.note.startswith("lr 0.1 ->")


def test_forks_and_fresh_processes_agree(backend: LocalBackend, tmp_path: Path) -> None:
    (forked,) = run(backend, tmp_path, CONTROL)
    with LocalBackend(1, fresh=True) as fresh:
        (started,) = run(fresh, tmp_path, CONTROL)
    assert replace(forked.result, seconds=0.0) == replace(started.result, seconds=0.0)


def test_a_remedy_that_does_not_apply_says_why(backend: LocalBackend, tmp_path: Path) -> None:
    candidate = Candidate((RemedySpec("replace-batchnorm"),), "", "")
    (found,) = run(backend, tmp_path, candidate)
    assert found.result.status == "not-applicable"
    assert "BatchNorm" in found.result.note


@pytest.mark.parametrize(
    ("text", "status", "note"),
    [
        ("raise ValueError('no data')\n", "crashed", "ValueError: no data"),
        ("import os; os._exit(7)\n", "crashed", "exit code 7"),
        ("print('no training')\n", "crashed", "it took no training step"),
        (SCRIPT.replace("square()", "log()"), "non-finite", ""),
    ],
)
def test_trials_that_end_badly(backend: LocalBackend, tmp_path: Path, text: str, status: str, note: str) -> None:
    (found,) = run(backend, tmp_path, CONTROL, text=text)
    assert (found.result.status, found.result.note) == (status, note)


def test_every_trial_reads_the_same_standard_input(backend: LocalBackend, tmp_path: Path) -> None:
    (tmp_path / "input").write_text("0.05\n")
    text = SCRIPT.replace("float(sys.argv[1])", "float(input())")
    found = run(backend, tmp_path, CONTROL, CONTROL, text=text, stdin=str(tmp_path / "input"))
    assert [a.result.status for a in found] == ["finished", "finished"]
    assert found[0].result.curve == found[1].result.curve


def test_what_the_script_starts_is_ended_with_it(tmp_path: Path) -> None:
    """A loader's worker, or anything else: nothing is left when a trial is cut off."""
    text = (
        "import subprocess, sys, time\np = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    )
    text += "open('pid', 'w').write(str(p.pid))\ntime.sleep(600)\n"
    with LocalBackend(1) as backend:
        Timer(0.1, lambda: _when(tmp_path / "pid", backend.cancel)).start()
        (found,) = run(backend, tmp_path, CONTROL, text=text)
    assert found.result.status == "cut"
    pid = int((tmp_path / "pid").read_text())
    assert _gone(pid)


def test_nothing_is_left_when_the_search_itself_is_killed(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(600)\n")
    search = (
        "from steadygrad.trials.local import LocalBackend\n"
        "from steadygrad.trials.job import Job, Script\n"
        "from steadygrad.trials.stopping import Rule\n"
        "from steadygrad.records import Candidate\n"
        "job = Job(0, Script(('train.py',), '.'), Candidate((), '', ''), 0, Rule(40))\n"
        "LocalBackend(1).run([job], watcher=print, done=print)\n"
    )
    with subprocess.Popen([sys.executable, "-c", search], cwd=tmp_path) as process:
        _when(tmp_path / "pid", process.kill)
    assert _gone(int((tmp_path / "pid").read_text()))


def _when(path: Path, act: object) -> None:
    while not (path.exists() and path.read_text()):
        time.sleep(0.05)
    act()  # type: ignore[operator]


def _gone(pid: int) -> bool:
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().split()[2]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_a_deadline_cuts_trials_off(backend: LocalBackend, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import time\ntime.sleep(600)\n")
    job = Job(0, Script(("train.py",), str(tmp_path)), CONTROL, 0, Rule(40))
    (found,) = backend.run([job], watcher=lambda *_: None, done=lambda *_: None, deadline=time.monotonic() + 0.3)
    assert found.result.status == "cut"


def test_the_child_is_watched_and_the_order_kept(backend: LocalBackend, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    script = Script(("train.py", "0.1"), str(tmp_path))
    seen: dict[int, int] = {}
    over = Event()
    jobs = [Job(i, script, c, 0, Rule(20 + 10 * i)) for i, c in enumerate([CONTROL, NO_OP, LOWER])]
    found = backend.run(
        jobs,
        watcher=lambda job, steps, _: seen.__setitem__(job.number, steps),
        done=lambda *_: over.set(),
    )
    assert [a.result.steps for a in found] == [20, 30, 40]
    assert seen == {0: 20, 1: 30, 2: 40}
    assert over.is_set()


# -- folders ------------------------------------------------------------------------------------------------------


def test_links_hide_what_is_written_and_copy_what_is_changed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "logs").mkdir(parents=True)
    (home / "data.txt").write_text("data")
    (home / "logs" / "old.txt").write_text("old")
    (home / "best.pt").write_text("before")
    before = listing(str(home))
    (home / "logs" / "new.txt").write_text("new")
    (home / "best.pt").write_text("after the control")
    new, changed = written(before, listing(str(home)))
    assert (new, changed) == (("logs/new.txt",), ("best.pt",))
    script = Script(("train.py",), str(home), isolation="links", new=new, changed=changed)
    with workplace(script) as apart:
        there = Path(apart.cwd)
        assert (there / "data.txt").read_text() == "data"
        assert (there / "logs" / "old.txt").read_text() == "old"
        assert not (there / "logs" / "new.txt").exists()
        (there / "best.pt").write_text("by the trial")
        (there / "logs" / "new.txt").write_text("by the trial")
    assert not there.exists()
    assert (home / "best.pt").read_text() == "after the control"
    assert (home / "logs" / "new.txt").read_text() == "new"


def test_a_copy_is_whole_and_runs_the_copied_script(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".git").mkdir(parents=True)
    (home / "sub").mkdir()
    (home / "sub" / "train.py").write_text("print(1)")
    script = Script((str(home / "sub" / "train.py"), "--lr", "1"), str(home), isolation="copy")
    with workplace(script) as apart:
        there = Path(apart.cwd)
        assert apart.words == (str(there / "sub" / "train.py"), "--lr", "1")
        assert not (there / ".git").exists()
        (there / "sub" / "train.py").write_text("changed")
    assert (home / "sub" / "train.py").read_text() == "print(1)"


def test_folders_too_large_to_compare_are_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steadygrad.trials.workplace.MOST", 2)
    for name in "abc":
        (tmp_path / name).write_text("")
    assert listing(str(tmp_path)) is None
    assert written(None, {}) == ((), ())


def test_our_own_record_is_no_file_of_the_script(tmp_path: Path) -> None:
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "runs" / "first" / "run.db").write_text("")
    (tmp_path / "runs" / "notes").write_text("")
    found = listing(str(tmp_path), ours=tmp_path / "runs" / "first")
    assert found is not None
    assert set(found) == {"runs/notes"}


def test_each_trial_has_its_own_checkpoint(backend: LocalBackend, tmp_path: Path) -> None:
    """A script that resumes from what it finds would otherwise go on where the trial before it stopped."""
    text = SCRIPT + "import os\nassert not os.path.exists('last.pt')\ntorch.save(model.state_dict(), 'last.pt')\n"
    found = run(
        backend,
        tmp_path,
        CONTROL,
        NO_OP,
        text=text,
        words=("train.py", "0.1", "30"),
        isolation="links",
        new=("last.pt",),
    )
    assert [a.result.status for a in found] == ["finished", "finished"]
    assert not os.path.exists(tmp_path / "last.pt")
