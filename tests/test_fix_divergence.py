"""What counts as a trial that learned nothing, and what as one that ended well."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from steadygrad.records import Candidate, RemedySpec, TrialResult
from steadygrad.trials.job import Script
from steadygrad.trials.judge import best_of, scale_for, standing
from steadygrad.trials.patching import write_patch
from steadygrad.trials.result import Patch

CONTROL = Candidate((), "", "", "control")
BETTER = Candidate((RemedySpec("lower-lr", "0.1"),), "learning-rate-too-high", "")


def trial(candidate: Candidate, seed: int, end: float) -> TrialResult:
    curve = tuple((step, 4.0 + (end - 4.0) * step / 100) for step in range(0, 101, 10))
    return TrialResult(candidate, seed, "finished", 100, end, curve, (), "healthy", 1.0, "")


def test_a_control_that_was_stopped_for_diverging_can_be_beaten() -> None:
    control = [
        replace(trial(CONTROL, 0, 9e9), status="non-finite", loss=None),
        replace(trial(CONTROL, 1, 80.0), status="stopped-early", note="diverged"),
    ]
    better = [trial(BETTER, 0, 1.7), trial(BETTER, 1, 1.8)]
    scale = scale_for(control, better, adversarial=False)
    found = standing(BETTER, better, control, scale, 0.0)
    assert found.works
    assert best_of([found], rank={BETTER: 0}) is found


def test_a_remedy_that_was_stopped_for_falling_behind_is_not_compared() -> None:
    control = [trial(CONTROL, 0, 2.0)]
    behind = [replace(trial(BETTER, 0, 1.0), status="stopped-early", note="far behind")]
    assert standing(BETTER, behind, control, scale_for(control, behind, adversarial=False), 0.0).improvement is None


def test_leaving_out_bad_batches_leaves_their_losses() -> None:
    control = [replace(trial(CONTROL, 0, 9e9), status="non-finite", loss=None)]
    skipping = Candidate((RemedySpec("skip-bad-step"),), "corrupt-batch", "")
    left_out = [replace(trial(skipping, 0, 0.5), symptoms=("non-finite",), verdict="unhealthy")]
    scale = scale_for(control, left_out, adversarial=False)
    assert standing(skipping, left_out, control, scale, 0.0).works
    others = [replace(left_out[0], candidate=BETTER)]
    assert not standing(BETTER, others, control, scale, 0.0).works


def test_line_ends_are_kept_where_a_change_is_written(tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_bytes(b"lr = 1\r\n")
    said = write_patch(Script(("train.py",), str(tmp_path)), Patch(source="lr = 0.1\r\n", diff="-", verified=True))
    assert "written" in said
    assert path.read_bytes() == b"lr = 0.1\r\n"
