"""``python -m benchmarks``: print what watching costs, beside the plain loop and other tools."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import clipping, report, soak, stepping, store, timing
from benchmarks.rivals import CONTESTANTS
from benchmarks.timing import Plan, Result
from benchmarks.workloads import WORKLOADS, available


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short blocks: a look, not a measurement")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    parts = ["overhead", "store", "clipping", "stepping", "soak"]
    parser.add_argument("--only", choices=parts, help="one part of the benchmark; soak is run only if asked for")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, metavar="NAME", help=", ".join(WORKLOADS))
    parser.add_argument("--tools", nargs="+", choices=CONTESTANTS, metavar="NAME", help=", ".join(CONTESTANTS))
    parser.add_argument("--pairs", type=int, help="pairs of processes")
    parser.add_argument("--rounds", type=int, help="blocks of each process")
    parser.add_argument("--threads", type=int, help="torch threads in each process")
    parser.add_argument("--clock", choices=("wall", "cpu"), help="cpu: the processes' own time, beside other programs")
    return parser.parse_args()


def plan_of(args: argparse.Namespace) -> Plan:
    """The plan the options ask for."""
    plan = timing.QUICK if args.quick else Plan()
    changes = {name: getattr(args, name) for name in ("pairs", "rounds", "threads", "clock") if getattr(args, name)}
    return replace(plan, **changes)


def overhead(console: Console, args: argparse.Namespace, plan: Plan) -> list[Result]:
    """Every tool on every workload."""
    results = []
    for workload in args.workloads or available():
        for name in args.tools or CONTESTANTS:
            if CONTESTANTS[name].version is None:
                results.append(Result(workload, name, status="not installed"))
                continue
            with console.status(f"{workload}: {CONTESTANTS[name].title}"):
                results.append(timing.compare(workload, name, plan))
    return results


def main() -> None:
    args = parse()
    plan = plan_of(args)
    console = Console()
    if not console.is_terminal:
        console.width = 120
    facts = report.machine()
    report.print_machine(console, facts, plan)
    out: dict[str, Any] = {"machine": facts, "plan": asdict(plan), "method": report.method(plan)}
    if args.only in (None, "overhead"):
        results = overhead(console, args, plan)
        report.print_overhead(console, results)
        out["overhead"] = timing.as_json(results)
    if args.only in (None, "store"):
        with console.status("run file"):
            out["store"] = store.measure(5_000 if args.quick else 100_000)
        report.print_store(console, out["store"])
    if args.only in (None, "clipping"):
        with console.status("clipping"):
            pairs = clipping.measure(quick=args.quick)
        clipping.show(console, pairs)
        out["clipping"] = [asdict(pair) for pair in pairs]
    if args.only in (None, "stepping"):
        with console.status("clipped steps"):
            out["stepping"] = stepping.measure(8 if args.quick else 30)
        stepping.show(console, out["stepping"])
    if args.only == "soak":  # minutes, and no measurement of time
        with console.status("training with faults"):
            out["soak"] = soak.measure(1_000 if args.quick else 10_000)
        soak.show(console, out["soak"])
    if args.json is not None:
        args.json.write_text(json.dumps(out, indent=2, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
