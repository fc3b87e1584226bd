"""Score the diagnosis on the zoo: ``python -m zoo.score [--split SET] [--replay] [--jobs N] [NAME ...]``.

Every script runs once under ``steadygrad run``; its stored run is kept under ``zoo-results/``, so that ``--replay``
scores changed rules in seconds. Printed: recall, false alarms, root-cause and location accuracy, beside two baselines.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from steadygrad.replay import load, replay
from steadygrad.store import Run, to_json
from zoo.baselines import guess, rival
from zoo.labels import SPLITS, Case, cases

RESULTS = Path("zoo-results")


@dataclass
class Result:
    """The tool's answer for one script, and the baselines'."""

    case: Case
    unhealthy: bool
    causes: list[str]
    places: list[str]
    symptoms: list[str]
    rival: list[str]
    guess: list[str]
    problem: str = ""

    @property
    def located(self) -> bool:
        """Whether the first cause or a symptom points to an accepted place."""
        named = any(same_place(want, got) for want in self.case.location for got in self.places if want and got)
        return named or "" in self.case.location  # no single place: any answer will do


def same_place(want: str, got: str) -> bool:
    """Equal, or one names a module (or line) inside what the other names."""
    words = got.translate(str.maketrans("(),", "   ")).split()
    return any(w == want or w.startswith((want + ".", want + ":")) or want.startswith(w + ".") for w in words)


def folder(case: Case) -> Path:
    """Where the stored run of a case lies."""
    return RESULTS / case.split / f"{case.kind}-{case.name}"


def observe(case: Case, timeout: float = 300.0) -> str:
    """Run the script under the tool; returns what went wrong, if anything."""
    target = folder(case)
    shutil.rmtree(target, ignore_errors=True)
    command = [sys.executable, "-m", "steadygrad.cli", "run", "--quiet", "--no-report", "--out", str(target.resolve())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [*command, str(case.script.resolve())], capture_output=True, text=True, timeout=timeout, env=environment
        )
    except subprocess.TimeoutExpired:
        return f"no end after {timeout:.0f} s"
    if done.returncode or "internal error" in done.stderr:
        return done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}"
    return ""


def answer(case: Case, problem: str = "") -> Result:
    """Diagnose the stored run of a case."""
    with Run(folder(case)) as run:
        found = json.loads(json.dumps(to_json(run.meta, replay(run))))
        history = load(run)
    causes = found["causes"]
    places = [c["location"] for c in causes[:1]] + [s["location"] for s in found["symptoms"]]
    return Result(
        case,
        found["verdict"] == "unhealthy",
        [c["code"] for c in causes],
        places,
        [s["code"] for s in found["symptoms"]],
        rival(history),
        guess(case.name),
        problem,
    )


def share(hits: Sequence[bool]) -> str:
    """``12/15 (80%)``."""
    return f"{sum(hits)}/{len(hits)} ({sum(hits) / len(hits):.0%})" if hits else "-"


def summary(results: list[Result]) -> Table:
    """The score table."""
    faulty = [r for r in results if r.case.kind == "faulty"]
    table = Table("", "steadygrad", "rival rules", "random guess", title="Zoo score")
    table.add_row("something wrong, faulty", share([r.unhealthy for r in faulty]), share([bool(r.rival) for r in faulty]), "-")
    for kind in ("healthy", "fixed"):
        quiet = [r for r in results if r.case.kind == kind]
        table.add_row(f"false alarms, {kind}", share([r.unhealthy for r in quiet]), share([bool(r.rival) for r in quiet]), "-")
    for title, n in (("first cause right", 1), ("among the first three", 3)):
        columns = [
            share([bool(set(getattr(r, who)[:n]) & set(r.case.causes)) for r in faulty]) for who in ("causes", "rival", "guess")
        ]
        table.add_row(title, *columns)
    placed = [r for r in faulty if r.case.location]
    table.add_row("location right", share([r.located for r in placed]), "-", "-")
    return table


def per_cause(results: list[Result]) -> Table:
    """First-cause accuracy cause by cause."""
    groups: dict[str, list[Result]] = defaultdict(list)
    for r in results:
        if r.case.kind == "faulty":
            groups[r.case.causes[0]].append(r)
    table = Table("cause", "noticed", "first", "first three", "wrong answers")
    for code, rows in sorted(groups.items()):
        first = [bool(set(r.causes[:1]) & set(r.case.causes)) for r in rows]
        three = [bool(set(r.causes[:3]) & set(r.case.causes)) for r in rows]
        wrong = [f"{r.case.name}: {r.causes[0] if r.causes else 'nothing'}" for r, ok in zip(rows, first, strict=True) if not ok]
        table.add_row(code, share([r.unhealthy for r in rows]), share(first), share(three), "; ".join(wrong))
    return table


def main() -> int:
    """Run, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only these cases")
    parser.add_argument("--split", choices=[*SPLITS, "all"], default="all")
    parser.add_argument("--replay", action="store_true", help="do not run anything: diagnose the stored runs again")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    splits = list(SPLITS) if options.split == "all" else [options.split]
    chosen = [c for s in splits for c in cases(s) if not options.names or c.name in options.names]
    console = Console(width=None if sys.stdout.isatty() else 140)
    started = time.perf_counter()
    problems = dict.fromkeys(chosen, "")
    if not options.replay:
        with ThreadPoolExecutor(options.jobs) as pool:
            problems = dict(zip(chosen, pool.map(observe, chosen), strict=True))
    results = [answer(case, problems[case]) for case in chosen if (folder(case) / "run.db").exists()]
    for r in results:
        if r.problem:
            console.print(f"[red]{r.case.kind} {r.case.name}: {r.problem}[/]")
        if r.case.kind != "faulty" and r.unhealthy:
            console.print(f"false alarm on {r.case.kind} {r.case.name}: {', '.join(r.symptoms + r.causes[:2])}")
        elif r.case.kind == "faulty" and r.case.location and not r.located:
            console.print(f"place of {r.case.name}: {r.places}, accepted {list(r.case.location)}", style="dim")
    for split in splits:
        console.print(f"\nsplit {split}")
        console.print(summary([r for r in results if r.case.split == split]))
        console.print(per_cause([r for r in results if r.case.split == split]))
    console.print(f"{len(results)} of {len(chosen)} runs, {time.perf_counter() - started:.0f} s")
    return 0 if len(results) == len(chosen) and not any(problems.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
