"""One trial as data: what to run, and what came of it. Both travel between processes and machines."""

from __future__ import annotations

from dataclasses import dataclass, field

from steadygrad.records import Candidate, TrialResult
from steadygrad.remedies import format_spec
from steadygrad.trials.stopping import Rule


@dataclass(frozen=True, slots=True)
class Script:
    """What is tried: a script or a module with its arguments, and where it runs.

    Args:
        words: ``["train.py", ...]`` or ``["-m", "package.train", ...]``, as after ``steadygrad run``.
        cwd: the folder it runs in.
        stdin: what it may read, as a file; "" for nothing.
        isolation: "none", "links" or "copy", see :mod:`steadygrad.trials.workplace`.
        new: files that it writes, relative to ``cwd``.
        changed: of these, such as existed before.
    """

    words: tuple[str, ...]
    cwd: str
    stdin: str = ""
    isolation: str = "none"
    new: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """One run of the script with a candidate in place.

    Args:
        number: unique within a search; results come back in the order of the jobs, whoever finished first.
        extend: a control goes on up to this many steps while nothing is wrong.
        folder: where to record the run; "" for not at all.
        timeout: seconds after which it is ended.
    """

    number: int
    script: Script
    candidate: Candidate
    seed: int
    rule: Rule
    extend: int = 0
    folder: str = ""
    timeout: float = 3600.0

    @property
    def name(self) -> str:
        """The remedies in words, and the repetition where it is not the first."""
        text = title(self.candidate)
        return text if self.seed == 0 else f"{text}, seed {self.seed + 1}"

    def command(self, descriptor: int) -> list[str]:
        """What follows ``python -m steadygrad.cli``."""
        words = ["run", "--quiet", "--no-report", "--progress-fd", str(descriptor), "--seed-shift", str(self.seed)]
        words += ["--max-steps", str(self.rule.steps)]
        words += ["--extend", str(self.extend)] if self.extend else []
        words += ["--out", self.folder] if self.folder else ["--no-trace", "--every", "20"]
        for spec in self.candidate.specs:
            words += ["--apply", format_spec(spec)]
        return [*words, *self.script.words]


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of a job.

    Args:
        result: as it is reported.
        finite: whether the loss ended finite.
        limited: the script was left at the step limit; it had not ended by itself.
        overhead: seconds of ``result.seconds`` that observation took.
        script_seconds: of these, what the script itself took, without the start of its process.
        modules: top-level modules that the script had imported at its end.
    """

    result: TrialResult
    limited: bool = False
    overhead: float = 0.0
    script_seconds: float = 0.0
    modules: tuple[str, ...] = field(default=(), repr=False)


def title(candidate: Candidate) -> str:
    """A candidate in words.

    >>> from steadygrad.records import RemedySpec
    >>> title(Candidate((RemedySpec("clip-norm", "1.0"), RemedySpec("lower-lr", "0.1")), "", ""))
    'clip-norm:1.0 + lower-lr:0.1'
    >>> title(Candidate((), "", "", "control"))
    'control'
    """
    return " + ".join(format_spec(spec) for spec in candidate.specs) or candidate.kind
