"""What is printed: the machine, the versions, the method, and the tables."""

from __future__ import annotations

import math
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.rivals import CONTESTANTS
from benchmarks.timing import Plan, Result
from benchmarks.workloads import WORKLOADS

METHOD = (
    "Each tool runs in its own process beside a process with the plain loop (forward, backward, clip_grad_norm_, "
    "step); the two take turns in blocks of {block} steps after {warmup} untimed ones, {rounds} turns, order "
    "alternating, with {pairs} pairs of processes. Shown: median of the turns' ratios tool/plain with a 95% bootstrap "
    "interval, and that of all steps together. {threads} torch "
    "thread(s), garbage collector off inside a block, {clock}, device synchronised at the ends of a block."
)


def machine() -> dict[str, Any]:
    """Hardware, versions and date."""
    return {
        "cpu": _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "ram_gib": round(int((_field("/proc/meminfo", "MemTotal") or "0 kB").split()[0]) / 2**20, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load": [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "versions": {c.package: c.version for c in CONTESTANTS.values() if c.package},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _field(path: str, key: str) -> str | None:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), None)


def method(plan: Plan) -> str:
    """The method in words."""
    return METHOD.format(
        block=plan.block,
        warmup=plan.warmup,
        rounds=plan.rounds,
        pairs=plan.pairs,
        threads=plan.threads,
        clock=f"{plan.clock} time",
    )


def print_machine(console: Console, facts: dict[str, Any], plan: Plan) -> None:
    """Hardware, versions, method."""
    gpu = f", {facts['gpu']}" if facts["gpu"] else ""
    console.print(f"[bold]{facts['cpu']}[/], {facts['cores']} cores, {facts['ram_gib']} GiB{gpu}; load {facts['load']}")
    versions = ", ".join(f"{name} {version or 'not installed'}" for name, version in facts["versions"].items())
    console.print(f"Python {facts['python']}, torch {facts['torch']}; {versions}; {facts['date']}")
    console.print(f"[dim]{method(plan)}[/]\n")


def print_overhead(console: Console, results: list[Result]) -> None:
    """One row per tool, one column per workload."""
    names = list(dict.fromkeys(r.workload for r in results))
    table = Table(title="Time per step by that of the plain loop (1.00 = free)", title_justify="left")
    table.add_column("tool")
    for name in names:
        first = next(r for r in results if r.workload == name)
        plain = "" if math.isnan(first.plain_ms) else f"\n{first.plain_ms:.2f} ms"
        table.add_column(f"{name}{plain}", justify="right")
    for contestant in dict.fromkeys(r.contestant for r in results):
        cells = {r.workload: _cell(r) for r in results if r.contestant == contestant}
        table.add_row(CONTESTANTS[contestant].title, *(cells.get(name, "") for name in names))
    console.print(table)
    for name in names:
        console.print(f"[dim]{name}: {WORKLOADS[name].about}[/]")
    for result in results:
        if result.status == "failed":
            console.print(f"[red]{result.contestant} on {result.workload} failed:[/] {result.why}", markup=True)


def _cell(result: Result) -> str:
    if result.status != "ok":
        return f"[dim]{result.status}[/]"
    more = f"{result.extra_us:+.0f} us, all {result.total_ratio:.3f}"
    return f"{result.ratio:.3f} ({result.low:.3f}-{result.high:.3f})\n[dim]{more}[/]"


def print_store(console: Console, figures: dict[str, Any]) -> None:
    """The run file's figures."""
    table = Table(
        title=f"Run file: {figures['steps']:,} steps, {figures['parameters']} parameters, {figures['sites']} sites, "
        f"{figures['sampled_steps']:,} sampled steps",
        title_justify="left",
    )
    for column in ("bytes/step", "file", "write", "per step", "open", "read all", "peak RSS idle/write/read"):
        table.add_column(column, justify="right")
    table.add_row(
        f"{figures['bytes_per_step']:.0f}",
        f"{figures['bytes'] / 2**20:.1f} MiB",
        f"{figures['write_seconds']:.1f} s",
        f"{figures['write_us_per_step']:.0f} us",
        f"{1e3 * figures['open_seconds']:.1f} ms",
        f"{figures['read_seconds']:.1f} s",
        f"{figures['idle_peak_mib']:.0f} / {figures['write_peak_mib']:.0f} / {figures['read_peak_mib']:.0f} MiB",
    )
    console.print(table)
