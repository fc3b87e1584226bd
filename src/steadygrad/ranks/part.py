"""One process's part in a training of several: what it leaves for rank 0, what it says, what rank 0 makes of it all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from steadygrad.history import History
from steadygrad.ranks.comparing import compare
from steadygrad.ranks.mailbox import WAIT_SECONDS, Mailbox
from steadygrad.ranks.summary import summarize
from steadygrad.records import Diagnosis, Fact, Symptom

#: What is local to a rank and reaches the others only as its consequences.
LOCAL = ("non-finite",)
#: After an error the launcher is about to end the other ranks: they have little time to leave anything.
WAIT_AFTER_ERROR = 1.0


class Part:
    """Rank ``index`` of ``world``.

    Args:
        index: this process's rank; 0 records and answers.
        world: how many there are.
        box: the folder that all of them can reach.
        say: tells the user one line.
    """

    def __init__(self, index: int, world: int, box: Mailbox, *, say: Callable[[str], object]) -> None:
        self.index, self.world = index, world
        self._box, self._say = box, say

    @property
    def records(self) -> bool:
        """Whether this is the rank that records and answers."""
        return self.index == 0

    def begin(self) -> None:
        """Before the script's first line."""
        if self.records:
            self._box.clear_stale()

    def found(self, symptom: Symptom, history: History) -> None:
        """A finding while the script runs. What only this rank may have seen is told at once, by the first who has."""
        if not self.records:
            self._box.write(self.index, summarize(history, None, rank=self.index, outcome="running"))
        if symptom.code in LOCAL and self._box.claim(symptom.code) and not self.records:
            self._say(f"rank {self.index}: {symptom.message}")

    def leave(self, history: History, diagnosis: Diagnosis, *, outcome: str, error: str) -> None:
        """The script has ended on a rank other than 0. If it failed, rank 0 may be ended before it can tell why."""
        self._box.write(self.index, summarize(history, diagnosis, rank=self.index, outcome=outcome, error=error))
        if outcome != "error":
            return
        for symptom in diagnosis.symptoms:
            if symptom.severity == "critical":
                self._say(f"rank {self.index}: {symptom.code}: {symptom.message}")
        for cause in diagnosis.causes[:1]:
            self._say(f"rank {self.index}: likeliest cause: {cause.code} at {cause.location or 'no one place'}")

    def gather(self, history: History, *, outcome: str, error: str, wait: float = WAIT_SECONDS) -> list[Fact]:
        """The script has ended on rank 0: what all ranks know together, as facts of this run."""
        own = summarize(history, None, rank=0, outcome=outcome, error=error)
        found = self._box.collect(self.world, wait=WAIT_AFTER_ERROR if outcome == "error" else wait)
        summaries = {**{rank: s for rank, s in found.items() if 0 < rank < self.world}, 0: own}
        data = compare(summaries, world=self.world)
        facts = [Fact("ranks", history.steps, data)]
        own_origins = {fact.data.get("op") for fact in history.facts("origin") if fact.data.get("found")}
        for rank in data.get("nonfinite", {}).get("ranks", ()):
            origins = [] if own_origins or not rank else summaries[rank]["origins"]
            facts += [Fact("origin", int(o["step"]), {**o, "rank": rank}) for o in origins[:1]]
            batches = summaries[rank]["bad_batches"] if rank else []
            facts += [Fact("bad-batch", int(b["step"]), {**b, "rank": rank}) for b in batches[:1]]
        return facts

    def remark(self, facts: list[Fact]) -> list[str]:
        """Lines about the ranks for the user: how many answered, and who stood out where something is wrong."""
        data = facts[0].data
        seen = self.world - len(data["missing"])
        lines = [f"{seen} of {self.world} ranks told what they saw"] if seen < self.world else []
        lines += [f"rank {rank} ended with {error}" for rank, error in data["failed"].items() if rank != "0"]
        unhealthy = [rank for rank, verdict in data["verdicts"].items() if verdict == "unhealthy"]
        worst = data.get("worst")
        if worst is not None and unhealthy:
            lines.append(
                f"the worst loss beside the others' was rank {worst['rank']}'s at step {worst['step']}: "
                f"{worst['loss']:.3g} against {worst['others']:.3g}"
            )
        return lines

    def keep(self, folder: Path) -> None:
        """Move what the ranks left into the run folder."""
        self._box.keep(folder / "ranks")
