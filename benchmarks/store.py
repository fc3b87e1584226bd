"""The run file: what 100,000 recorded steps cost to write, to keep and to read back.

The writer and the reader run in processes of their own, so that each peak of memory is its own. Vectors are random, as
nothing compresses worse; sampled steps come as the monitor makes them, every ten steps at first and about 2% of the run
so far later.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.memory import peak_mib
from benchmarks.timing import ROOT
from steadygrad.records import PARAMETER_STATS, SITE_STATS, Clip, Detail, ParameterInfo, SiteInfo, StepRecord, Vector

PARAMETERS, SITES = 100, 60


def sampled_steps(total: int, every: int = 10) -> Iterator[int]:
    """The steps that carry details."""
    step = 1
    while step <= total:
        yield step
        step += max(every, step // 50)


def records(total: int) -> Iterator[StepRecord]:
    """Synthetic steps of a run with 100 parameters and 60 sites."""
    rng = np.random.default_rng(0)
    due = set(sampled_steps(total))

    def vectors(names: tuple[str, ...], size: int) -> dict[str, Vector]:
        return {name: rng.random(size, dtype=np.float32) for name in names}

    for step in range(1, total + 1):
        detail = None
        if step in due:
            batch = {"input_mean": 0.0, "input_std": 1.0}
            detail = Detail(vectors(PARAMETER_STATS, PARAMETERS), vectors(SITE_STATS, SITES), batch)
        norms = rng.random(PARAMETERS, dtype=np.float32)
        norm = float(np.linalg.norm(norms))
        clip = Clip("norm", 1.0, norm, min(1.0, 1.0 / norm))
        yield StepRecord(step, loss=1.0 / step, lr=1e-3, grad_norm=norm, clip=clip, norms=norms, detail=detail)


def write(folder: Path, total: int) -> dict[str, float]:
    """Record ``total`` steps."""
    from steadygrad.store import Recorder

    table = [
        ParameterInfo(i, f"blocks.{i}.weight", (64, 64), "float32", "weight", f"blocks.{i}", "Linear", True, 0, 64)
        for i in range(PARAMETERS)
    ]
    recorder = Recorder(folder, {"script": "benchmark"})
    recorder.parameters(table)
    recorder.sites([SiteInfo(i, f"blocks.{i}", "Linear", "linear") for i in range(SITES)])
    spent = 0.0
    for record in records(total):
        start = time.perf_counter()
        recorder.step(record)
        spent += time.perf_counter() - start
    start = time.perf_counter()
    recorder.close()
    return {"seconds": spent + time.perf_counter() - start}


def read(folder: Path) -> dict[str, float]:
    """Open the run and go through every step."""
    from steadygrad.store import Run

    start = time.perf_counter()
    steps, last = 0, 0.0
    with Run(folder) as run:
        opened = time.perf_counter() - start
        for record in run.records():
            steps += 1
            last = 0.0 if record.norms is None else float(record.norms[-1])
    return {"open_seconds": opened, "seconds": time.perf_counter() - start, "steps": steps, "last": last}


def measure(total: int) -> dict[str, Any]:
    """Write and read in fresh processes; sizes in bytes, times in seconds, memory in MiB."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        base = _child("idle", folder, total)
        written = _child("write", folder, total)
        size = sum(f.stat().st_size for f in folder.iterdir())
        back = _child("read", folder, total)
    return {
        "steps": total,
        "parameters": PARAMETERS,
        "sites": SITES,
        "sampled_steps": len(list(sampled_steps(total))),
        "bytes": size,
        "bytes_per_step": size / total,
        "write_seconds": written["seconds"],
        "write_us_per_step": 1e6 * written["seconds"] / total,
        "read_seconds": back["seconds"],
        "open_seconds": back["open_seconds"],
        "steps_read": back["steps"],
        "idle_peak_mib": base["peak_mib"],
        "write_peak_mib": written["peak_mib"],
        "read_peak_mib": back["peak_mib"],
    }


def _child(task: str, folder: Path, total: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.store", task, str(folder), str(total)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return dict(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.store")
    parser.add_argument("task", choices=["idle", "write", "read"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("total", type=int)
    args = parser.parse_args()
    result: dict[str, float] = {}
    if args.task == "write":
        result = write(args.folder, args.total)
    elif args.task == "read":
        result = read(args.folder)
    else:
        import steadygrad.store  # noqa: F401
    result["peak_mib"] = peak_mib()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
