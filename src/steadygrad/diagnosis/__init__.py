"""Causes: why a run went wrong, ranked, with the evidence for and against each."""

from __future__ import annotations

from collections.abc import Sequence

from steadygrad.detectors import checks_not_run, failure
from steadygrad.diagnosis import data, initial, numerics, plumbing, stepsize, structure
from steadygrad.diagnosis.base import Argument, CauseRule, Findings
from steadygrad.history import History
from steadygrad.records import Cause, Diagnosis, NotRun, Symptom
from steadygrad.view import View

CAUSES: tuple[CauseRule, ...] = (
    initial.TOO_LARGE,
    initial.TOO_SMALL,
    structure.SATURATING,
    structure.DEEP,
    structure.RECURRENCE,
    structure.DYING,
    stepsize.TOO_HIGH,
    stepsize.TOO_LOW,
    stepsize.WARMUP,
    stepsize.CLIP_LOW,
    stepsize.DECAY,
    data.UNNORMALIZED,
    data.CORRUPT,
    data.MISUSE,
    numerics.UNSTABLE,
    numerics.PRECISION,
    plumbing.ZERO_GRAD,
    plumbing.DETACHED,
    plumbing.TINY_BATCH,
)

#: Below this a cause is not worth the reader's time.
SHOWN = 0.2
#: At this a cause is a finding even if no symptom fired.
CERTAIN = 0.6
#: The code of that finding: a fault that is certain enough, though no number of the run shows it yet.
LATENT = "latent-fault"
#: Runs shorter than this are not called healthy.
ENOUGH_STEPS = 20


def diagnose(history: History, symptoms: Sequence[Symptom], view: View | None = None) -> Diagnosis:
    """Rank the causes of a run's symptoms and settle the verdict.

    The verdict is unhealthy just where there is a finding, and causes are named for findings only. So a cause that is
    certain without any symptom becomes a finding itself.
    """
    view = view or View(history)
    causes = rank(Findings(view, tuple(symptoms)))
    gaps = _observation_gaps(view)
    not_run = [*checks_not_run(view), *numerics.untraced(view), *gaps] if view.streams else gaps
    found = tuple(symptoms) or tuple(latent(cause, history) for cause in causes[:1] if cause.confidence >= CERTAIN)
    if found:
        return Diagnosis("unhealthy", found, tuple(causes), (), tuple(not_run))
    unsure = history.steps < ENOUGH_STEPS or any(n.check == "observation" for n in not_run)
    return Diagnosis("unknown" if unsure else "healthy", checks_not_run=tuple(not_run))


def latent(cause: Cause, history: History) -> Symptom:
    """The finding that a cause is by itself."""
    said = f"the numbers of this run look sound so far, but {cause.evidence[0]}"
    evidence = {"confidence": cause.confidence}
    return Symptom(LATENT, "warning", cause.location, 1, max(1, history.steps), evidence, said)


def rank(findings: Findings) -> list[Cause]:
    """Argue every cause, let strong ones explain weaker ones away, and sort."""
    made: dict[str, Argument] = {}
    for rule in CAUSES:
        argument = Argument(rule.code)
        try:
            rule.argue(findings, argument)
        except Exception as error:
            findings.view.failures.append(failure(rule.code, error))
        made[rule.code] = argument
    before = {code: argument.confidence for code, argument in made.items()}
    for rule in CAUSES:
        for other in rule.explains:
            if before[rule.code] >= 0.5 and before[rule.code] > 0.6 * before[other] > 0:
                made[other].doubt(0.6 * before[rule.code], f"{rule.code} would explain this as well")
    causes = [made[rule.code].cause(rule.remedies) for rule in CAUSES]
    return sorted((c for c in causes if c.confidence >= SHOWN), key=lambda c: -c.confidence)


def _observation_gaps(view: View) -> list[NotRun]:
    failed = view.history.fact("observation-failed")
    if failed is not None:
        return [NotRun("observation", f"our own code failed at step {failed.step}: {failed.data['error']}")]
    if not view.streams:
        return [
            NotRun(
                "observation", "no training was seen: neither a backward call nor an optimizer step in the main thread"
            )
        ]
    return []


__all__ = ["CAUSES", "LATENT", "diagnose", "rank"]
