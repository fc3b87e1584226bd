"""Paired, interleaved timing: each tool in its own process beside a process with the plain loop.

The two processes take turns, block by block (plain, tool, tool, plain, ...), while the other one sleeps: a change of
the machine's speed hits neighbours alike, and no tool can disturb another. Every two blocks give one ratio; the
result is the median ratio with a bootstrap interval.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Plan:
    """How long to measure. ``block`` is a multiple of every tool's sampling interval, so no block misses one.

    ``clock`` is "wall", or "cpu" for the time that a process itself has computed. Two processes that do the same differ
    by several per cent for as long as they live (where their memory happens to lie), so there are several ``pairs`` of
    them.
    """

    pairs: int = 3
    rounds: int = 10
    block: int = 100
    warmup: int = 50
    threads: int = 1
    clock: str = "wall"


QUICK = Plan(pairs=1, rounds=4, block=20, warmup=20)


@dataclass
class Result:
    """One tool on one workload. ``ratio`` is its time by the plain loop's; the interval is 95%."""

    workload: str
    contestant: str
    status: str = "ok"  # ok | not installed | failed
    why: str = ""
    plain_ms: float = float("nan")
    ratio: float = float("nan")
    total_ratio: float = float("nan")  # all steps together: rare expensive ones count here, but so does noise
    low: float = float("nan")
    high: float = float("nan")
    extra_us: float = float("nan")  # added per step
    extra_mib: float = float("nan")  # added peak resident memory
    close_s: float = float("nan")
    ratios: list[float] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)


class WorkerError(RuntimeError):
    """The worker process ended or could not attach its tool."""


class Worker:
    """A :mod:`benchmarks.worker` process."""

    def __init__(self, workload: str, contestant: str, plan: Plan) -> None:
        command = [sys.executable, "-m", "benchmarks.worker", "--workload", workload, "--contestant", contestant]
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in __exit__
        self._process = subprocess.Popen(
            [*command, "--threads", str(plan.threads), "--clock", plan.clock],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=ROOT,
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                pipe.close()

    def read(self) -> dict[str, Any]:
        """The next answer."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(self._last_words())
        return dict(json.loads(line))

    def ask(self, command: str) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise WorkerError(self._last_words()) from None
        return self.read()

    def run(self, count: int) -> float:
        """Seconds per iteration over a block."""
        return float(self.ask(f"run {count}")["ns"]) / count / 1e9

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        return lines[-1][:200] if lines else "ended without a word"


def interval(values: list[float], *, seed: int = 0, draws: int = 4000) -> tuple[float, float, float]:
    """Median and its 95% bootstrap interval."""
    x = np.asarray(values)
    rng = np.random.default_rng(seed)
    medians = np.median(x[rng.integers(len(x), size=(draws, len(x)))], axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return float(np.median(x)), float(low), float(high)


def compare(workload: str, contestant: str, plan: Plan) -> Result:
    """Time a tool against the plain loop. A tool that breaks is reported, not raised."""
    turns: list[tuple[float, float]] = []
    try:
        for _ in range(plan.pairs):
            with Worker(workload, "none", plan) as plain, Worker(workload, contestant, plan) as tool:
                plain.read()
                tool.read()
                plain.run(plan.warmup)
                tool.run(plan.warmup)
                turns += [_turn(plain, tool, plan.block, swap=bool(i % 2)) for i in range(plan.rounds)]
                closing = plain.ask("close"), tool.ask("close")
        return _result(workload, contestant, turns, *closing)
    except WorkerError as error:
        return Result(workload, contestant, status="failed", why=str(error))


def _turn(plain: Worker, tool: Worker, block: int, *, swap: bool) -> tuple[float, float]:
    if swap:
        second = tool.run(block)
        return plain.run(block), second
    return plain.run(block), tool.run(block)


def _result(
    workload: str, contestant: str, turns: list[tuple[float, float]], plain: dict[str, Any], tool: dict[str, Any]
) -> Result:
    ratios = [b / a for a, b in turns]
    ratio, low, high = interval(ratios)
    return Result(
        workload,
        contestant,
        plain_ms=1e3 * float(np.median([a for a, _ in turns])),
        ratio=ratio,
        total_ratio=sum(b for _, b in turns) / sum(a for a, _ in turns),
        low=low,
        high=high,
        extra_us=1e6 * float(np.median([b - a for a, b in turns])),
        extra_mib=tool["peak_mib"] - plain["peak_mib"],
        close_s=tool["close_s"],
        ratios=ratios,
        details={"plain": plain, "tool": tool, "seconds_per_step": turns},
    )


def as_json(results: list[Result]) -> list[dict[str, Any]]:
    """Plain data; what was not measured is null."""
    rows = [asdict(result) for result in results]
    return [{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()} for row in rows]
