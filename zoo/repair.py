"""Score the repairs on the zoo: ``python -m zoo.repair [--split core|heldout|blind|all] [--kind KIND] [NAME ...]``.

Every script goes through ``steadygrad fix``; what is recommended is compared with the known minimal fix, run for as many
steps with the same seeds. Printed: repaired, within 10% of the known fix, a remedy at random, trials and wall time as a
multiple of the script's own. Answers are kept under ``zoo-results/``; ``--replay`` prints the table from them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from rich.console import Console
from rich.table import Table

from steadygrad.records import Candidate
from steadygrad.trials.job import Job, Script
from steadygrad.trials.local import LocalBackend
from steadygrad.trials.stopping import Rule
from zoo.labels import SPLITS, Case, cases
from zoo.score import RESULTS, share

#: At most this much above the known fix.
WITHIN = 1.10
#: Losses below this share of the start are nothing to tell apart: rounding, or what the data leave.
FLOOR = 1e-4
KNOWN = Candidate((), "", "the known fix", "control")


@dataclass
class Repair:
    """The answer of ``steadygrad fix`` for one script, and the known fix beside it."""

    case: Case
    answer: dict[str, Any]
    known: list[dict[str, Any]]  # seed -> {"start", "loss"}

    @property
    def repaired(self) -> bool:
        """Whether a remedy is recommended."""
        return self.answer["verdict"] == "fixed"

    @property
    def verified(self) -> bool:
        """Whether the remedy was written into the script, which then did as well."""
        return self.repaired and self.answer["recommended"]["patch_verified"] is True

    @property
    def multiple(self) -> float:
        """Wall time as a multiple of the script's own."""
        return self.answer["seconds"] / max(1e-9, self.answer["plain_seconds"])

    def trials_of(self, kind: str) -> list[dict[str, Any]]:
        """Trials of what is recommended, or of the random remedy."""
        if kind == "random":
            return next((c["trials"] for c in self.answer["candidates"] if c["kind"] == "random"), [])
        wanted = (self.answer["recommended"] or {}).get("remedies")
        return next((c["trials"] for c in self.answer["candidates"] if c["remedies"] == wanted), []) if wanted else []

    def reaches(self, kind: str = "recommended") -> bool:
        """Whether the loss is at most 10% above the known fix's, the mean over the seeds that both were run with."""
        trials = [t for t in self.trials_of(kind) if t["status"] == "finished" and number(t["loss"]) is not None]
        pairs = [(number(t["loss"]), self.known[t["seed"]]) for t in trials if t["seed"] < len(self.known)]
        pairs = [(mine, known) for mine, known in pairs if known["loss"] is not None]
        if not pairs:
            return False
        floor = FLOOR * fmean(abs(known["start"]) for _, known in pairs)
        mine, theirs = fmean(m for m, _ in pairs), fmean(known["loss"] for _, known in pairs)
        return mine <= max(floor, theirs + (WITHIN - 1) * abs(theirs))

    @property
    def random_works(self) -> bool:
        """Whether the remedy drawn at random beats the control."""
        return any(c["kind"] == "random" and c["works"] for c in self.answer["candidates"])


def number(value: Any) -> float | None:
    """A number as JSON holds it; None where it is not finite."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def file(case: Case) -> Path:
    """Where the answer for a case is kept."""
    return RESULTS / "repair" / case.split / f"{case.kind}-{case.name}.json"


def fix(case: Case, timeout: float = 1800.0) -> Repair | str:
    """Fix a script, and run the known fix for as many steps with the same seeds."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "answer.json"
        command = [sys.executable, "-m", "steadygrad.cli", "fix", "--quiet", "--json", str(out), "--out", f"{folder}/run"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        try:
            done = subprocess.run(
                [*command, str(case.script.resolve())], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, env=environment
            )
        except subprocess.TimeoutExpired:
            return f"no end after {timeout:.0f} s"
        if not out.exists():
            return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        answer = json.loads(out.read_text())
        known = known_fix(case, answer, folder) if case.kind == "faulty" else []
    repair = Repair(case, answer, known)
    file(case).parent.mkdir(parents=True, exist_ok=True)
    file(case).write_text(json.dumps({"answer": slim(answer), "known": known}))
    return repair


def slim(answer: dict[str, Any]) -> dict[str, Any]:
    """Without the curves, which make up most of it."""
    trials = [t for c in answer["candidates"] for t in c["trials"]] + answer["control_seeds"] + [answer["control"] or {}]
    for trial in trials:
        trial["curve"] = trial.get("curve", [])[:1]
    return answer


def known_fix(case: Case, answer: dict[str, Any], folder: str) -> list[dict[str, Any]]:
    """First and last loss of the repaired twin, by seed."""
    fixed = case.script.parent.parent / "fixed" / case.script.name
    script, steps = Script((str(fixed.resolve()),), folder), max(1, answer["steps"])
    jobs = [Job(seed, script, KNOWN, seed, Rule(steps)) for seed in range(max(1, answer["seeds"]))]
    with LocalBackend(2) as backend:
        attempts = backend.run(jobs, watcher=lambda *_: None, done=lambda *_: None)
    return [{"start": a.result.curve[0][1] if a.result.curve else 0.0, "loss": a.result.loss} for a in attempts]


def stored(case: Case) -> Repair | str:
    """The answer kept from an earlier run."""
    if not file(case).exists():
        return "was not run"
    data = json.loads(file(case).read_text())
    return Repair(case, data["answer"], data["known"])


def summary(repairs: list[Repair]) -> Table:
    """The repair table, one row per cause and one for all."""
    table = Table(
        "cause", "scripts", "repaired", "within 10% of the known fix", "random remedy works", "within 10%", "change verified",
        "trials", "wall time", "at most",
        title="Repairs",
    )
    groups: dict[str, list[Repair]] = defaultdict(list)
    for repair in repairs:
        groups[repair.case.causes[0]].append(repair)
    for name, rows in [*sorted(groups.items()), ("all", repairs)]:
        table.add_row(
            name,
            str(len(rows)),
            share([r.repaired for r in rows]),
            share([r.reaches() for r in rows]),
            share([r.random_works for r in rows]),
            share([r.reaches("random") for r in rows]),
            share([r.verified for r in rows]),
            f"{median(r.answer['trials'] for r in rows):.0f}" if rows else "-",
            f"{median(r.multiple for r in rows):.1f}×" if rows else "-",
            f"{max(r.multiple for r in rows):.1f}×" if rows else "-",
        )
    return table


def line(repair: Repair) -> str:
    """One script in one line."""
    answer, best = repair.answer, repair.answer["recommended"]
    known = ", ".join("-" if k["loss"] is None else f"{k['loss']:.4g}" for k in repair.known)
    control = (answer["control"] or {}).get("loss")
    said = f"{' + '.join(best['remedies'])} -> {best['loss']:.4g}" if best else answer["verdict"]
    reached = "" if not best else "  ok" if repair.reaches() else "  FAR"
    return f"{repair.case.name}: {control} {said} (known {known}){reached}, {answer['trials']} trials, {repair.multiple:.1f}x"


def main() -> int:
    """Run, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only these cases")
    parser.add_argument("--split", choices=[*SPLITS, "all"], default="core")
    parser.add_argument("--kind", choices=["faulty", "healthy", "fixed", "all"], default="faulty")
    parser.add_argument("--replay", action="store_true", help="do not run anything: score the stored answers")
    parser.add_argument("--missing", action="store_true", help="run only what has no stored answer")
    options = parser.parse_args()
    splits = list(SPLITS) if options.split == "all" else [options.split]
    kinds = ("faulty", "healthy", "fixed") if options.kind == "all" else (options.kind,)
    chosen = [c for s in splits for c in cases(s) if c.kind in kinds and (not options.names or c.name in options.names)]
    console = Console(width=None if sys.stdout.isatty() else 140)
    started, repairs, failed = time.perf_counter(), [], 0
    for case in chosen:
        kept = options.replay or (options.missing and file(case).exists())
        repair = stored(case) if kept else fix(case)
        if isinstance(repair, str):
            failed += 1
            console.print(f"{case.kind} {case.name}: {repair}", style="red", highlight=False)
            continue
        repairs.append(repair)
        if case.kind == "faulty":
            console.print(line(repair), highlight=False, soft_wrap=True)
        elif repair.answer["verdict"] != "nothing-to-fix":
            console.print(f"{case.kind} {case.name}: {repair.answer['verdict']}", style="red", highlight=False)
    for split in splits:
        rows = [r for r in repairs if r.case.split == split]
        console.print(f"\nsplit {split}")
        if any(r.case.kind == "faulty" for r in rows):
            console.print(summary([r for r in rows if r.case.kind == "faulty"]))
        for kind in ("healthy", "fixed"):
            quiet = [r.answer["verdict"] == "nothing-to-fix" for r in rows if r.case.kind == kind]
            console.print(f"nothing to fix, {kind}: {share(quiet)}") if quiet else None
    console.print(f"{len(repairs)} of {len(chosen)} scripts, {time.perf_counter() - started:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
