"""The outcome of a search for a fix, as data and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from steadygrad.records import Candidate, Cause, Diagnosis, TrialResult
from steadygrad.remedies import format_spec
from steadygrad.store import plain, to_json
from steadygrad.trials.judge import Standing

FIX_SCHEMA = "steadygrad.fix/1"


@dataclass(frozen=True, slots=True)
class Patch:
    """The script with the remedy written into it.

    Args:
        source: the patched script; "" where it could not be written.
        diff: as a unified diff.
        lines: what to change by hand, as "file:line: what", where the script cannot be patched.
        verified: the patched script, run plainly, ended like the trial; None where that was not tried.
        loss: at its end.
    """

    source: str = ""
    diff: str = ""
    lines: tuple[str, ...] = ()
    verified: bool | None = None
    loss: float | None = None


@dataclass(frozen=True, slots=True)
class FixResult:
    """All that came of ``steadygrad fix``.

    Args:
        verdict: "fixed", "nothing-to-fix", "no-fix-found" or "unknown".
        steps: of every trial.
        control: the script as it is, by seed.
        standings: candidates, best first.
        scale: how they were compared: "log", "linear" or "health".
        noise: how far two runs with equal seeds are apart on that scale.
        plain_seconds: the script's own time for these steps, without observation.
        remarks: what the reader has to know besides: a budget that ran out, noise, files.
    """

    script: str
    verdict: str
    steps: int
    seeds: int
    control: tuple[TrialResult, ...]
    standings: tuple[Standing, ...] = ()
    recommended: Standing | None = None
    diagnosis: Diagnosis = field(default_factory=lambda: Diagnosis("unknown"))
    scale: str = "log"
    noise: float = 0.0
    seconds: float = 0.0
    plain_seconds: float = 0.0
    remarks: tuple[str, ...] = ()
    patch: Patch = field(default_factory=Patch)
    interrupted: bool = False

    def is_recommended(self, standing: Standing) -> bool:
        """Whether it is this candidate that is recommended."""
        return self.recommended is not None and self.recommended.candidate == standing.candidate

    @property
    def trials(self) -> int:
        """How many times the script was run, if only in part."""
        return len(self.control) + sum(not left_out(r) for s in self.standings for r in s.results)


def left_out(result: TrialResult) -> bool:
    """Whether the time was up before a trial took a step."""
    return result.status == "cut" and not result.steps


def untried(standings: Sequence[Standing]) -> list[str]:
    """What was proposed and not tried for lack of time, as a remark."""
    count = sum(all(left_out(r) for r in s.results) for s in standings)
    which = "remedy was" if count == 1 else "remedies were"
    return [f"{count} more {which} not tried for lack of time; --budget gives more"] if count else []


def to_fix_json(result: FixResult) -> dict[str, Any]:
    """The result under schema ``steadygrad.fix/1``. NaN and infinities are the strings "nan", "inf" and "-inf"."""
    answer: dict[str, Any] = plain(
        {
            "schema": FIX_SCHEMA,
            "script": result.script,
            "verdict": result.verdict,
            "steps": result.steps,
            "seeds": result.seeds,
            "control": _trial(result.control[0]) if result.control else None,
            "control_seeds": [_trial(r) for r in result.control],
            "recommended": _recommended(result),
            "candidates": [_standing(s) for s in result.standings],
            "diagnosis": to_json({"script": result.script}, result.diagnosis),
            "scale": result.scale,
            "noise": result.noise,
            "seconds": result.seconds,
            "plain_seconds": result.plain_seconds,
            "trials": result.trials,
            "remarks": result.remarks,
            "interrupted": result.interrupted,
        }
    )
    return answer


def _recommended(result: FixResult) -> dict[str, Any] | None:
    best = result.recommended
    if best is None:
        return None
    return {
        **_candidate(best.candidate),
        "loss": best.first.loss,
        "control_loss": result.control[0].loss,
        "improvement": best.improvement,
        "interval": best.interval,
        "healthy": best.healthy,
        "patch": result.patch.source,
        "diff": result.patch.diff,
        "by_hand": result.patch.lines,
        "patch_verified": result.patch.verified,
        "patched_loss": result.patch.loss,
    }


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {
        "remedies": [format_spec(spec) for spec in candidate.specs],
        "specs": [asdict(spec) for spec in candidate.specs],
        "kind": candidate.kind,
        "cause": candidate.cause,
        "why": candidate.why,
        "changes_loss_scale": candidate.changes_loss_scale,
    }


def _standing(standing: Standing) -> dict[str, Any]:
    return {
        **_candidate(standing.candidate),
        "improvement": standing.improvement,
        "interval": standing.interval,
        "works": standing.works,
        "trials": [_trial(r) for r in standing.results],
    }


def _trial(result: TrialResult) -> dict[str, Any]:
    data = asdict(result)
    del data["candidate"]
    return data


def confirmed(diagnosis: Diagnosis, standings: tuple[Standing, ...], best: Standing | None) -> Diagnosis:
    """The diagnosis with the trials as evidence: a remedy that works speaks for its cause, failed ones against theirs.

    The cause whose remedy is recommended keeps at most 30% of the doubt about it. A cause of which two or more remedies
    were tried and none worked keeps 70% of its confidence.
    """
    causes = [_argued(cause, standings, best) for cause in diagnosis.causes]
    return replace(diagnosis, causes=tuple(sorted(causes, key=lambda c: -c.confidence)))


def _argued(cause: Cause, standings: tuple[Standing, ...], best: Standing | None) -> Cause:
    if best is not None and best.candidate.cause == cause.code:
        said = (
            f"confirmed by a trial: with {' and '.join(format_spec(s) for s in best.candidate.specs)} the run recovers"
        )
        return replace(cause, confidence=round(1 - 0.3 * (1 - cause.confidence), 3), evidence=(said, *cause.evidence))
    tried = [
        s for s in standings if s.candidate.cause == cause.code and s.first.status not in ("cut", "not-applicable")
    ]
    if len(tried) < 2 or any(s.works for s in tried):
        return cause
    said = f"{len(tried)} of its remedies were tried on the script, and none helped"
    return replace(cause, confidence=round(0.7 * cause.confidence, 3), against=(*cause.against, said))
