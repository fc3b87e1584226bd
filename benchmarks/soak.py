"""A long training with faults injected at random, guarded: does it end where the clean one ends?

Every number is checked after every step: nothing that is not finite may reach parameters, buffers or moments. The data
of a step follows from its number, so a process that was killed can go on where its last file left off, and has to end
at the same bits. Under torchrun only the last rank has faults.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.timing import ROOT
from steadygrad import Guard, Stepper
from steadygrad.clip import GlobalNorm
from steadygrad.faults import Faults
from steadygrad.guard.copies import finite, tensors_in

RATES = {
    "nan-gradient": 0.005, "inf-gradient": 0.005, "nan-loss": 0.005, "inf-loss": 0.005, "spike": 0.01,
    "corrupt-batch": 0.01, "nan-batch": 0.005,
}  # fmt: skip


@dataclass
class Soak:
    """One training. ``digest`` is of parameters and moments at the end."""

    steps: int
    loss: float
    faults: int
    skipped: int
    rollbacks: int
    damps: int
    bad_numbers: int
    seconds: float
    digest: str


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(16, 64),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.Dropout(0.05),
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Linear(64, 4),
    )


def batch_of(step: int, rank: int = 0, rows: int = 32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1_000_003 * step + rank)
    x = torch.randn(rows, 16, generator=generator)
    return x, torch.sin(2 * x[:, :4]) + 0.5 * x[:, 4:8] * x[:, 8:12]


def train(steps: int, *, faulty: bool, state: Path | None = None, seed: int = 0) -> Soak:
    """Train; where ``state`` names a file, go on from it and keep it up to date."""
    started = time.perf_counter()
    rank = dist.get_rank() if dist.is_initialized() else 0
    model = network()
    called = DistributedDataParallel(model) if dist.is_initialized() else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    guard = Guard()
    stepper = Stepper(optimizer, clip=GlobalNorm(1.0), scheduler=scheduler, guard=guard, model=called)
    wrong_here = faulty and rank == (dist.get_world_size() - 1 if dist.is_initialized() else 0)
    faults = Faults(seed=seed, rates=RATES if wrong_here else {})
    if state is not None and state.exists():
        guard.load(state)
    bad = 0
    while guard.step < steps:
        step = guard.step
        x, y = batch_of(step, rank)
        loss = nn.functional.mse_loss(called(faults.batch(step, x)), y)
        stepper.step(faults.loss(step, loss, model.parameters()), batch=step)
        bad += not finite(tensors_in([dict(model.state_dict()), [dict(s) for s in optimizer.state.values()]]))
        if state is not None and (step + 1) % 50 == 0:
            guard.save(state)
            print(f"at {step + 1}", flush=True)
    actions = [event.action for event in guard.events]
    everywhere = Faults(seed=seed, rates=RATES if faulty else {})
    count = sum(bool(everywhere.at(step)) for step in range(steps))
    return Soak(
        steps, held_out(model), count, actions.count("skip"), actions.count("rollback"), actions.count("damp"), bad,
        time.perf_counter() - started, digest(model, optimizer),
    )  # fmt: skip


@torch.no_grad()
def held_out(model: nn.Module) -> float:
    """Loss on data that no training sees."""
    model.eval()
    x, y = batch_of(10**9, rows=4096)
    return float(nn.functional.mse_loss(model(x), y))


def digest(model: nn.Module, optimizer: torch.optim.Optimizer) -> str:
    found = hashlib.sha256()
    for tensor in tensors_in([dict(model.state_dict()), [dict(s) for s in optimizer.state.values()]]):
        found.update(tensor.detach().numpy().tobytes())
    return found.hexdigest()[:16]


# -- in processes -------------------------------------------------------------------------------------------------


def command(steps: int, *, faulty: bool, state: Path | None = None, ranks: int = 1) -> list[str]:
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    words = [sys.executable, *start, "-m", "benchmarks.soak", "--steps", str(steps)]
    return words + (["--faulty"] if faulty else []) + (["--state", str(state)] if state is not None else [])


def run(steps: int, *, faulty: bool, ranks: int = 1) -> dict[str, Any]:
    done = subprocess.run(
        command(steps, faulty=faulty, ranks=ranks),
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=_one_thread(),
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def run_killed(steps: int, kills: int) -> dict[str, Any]:
    """Kill the training by SIGKILL again and again, at moments of its own, and let it go on."""
    with tempfile.TemporaryDirectory() as scratch:
        words = command(steps, faulty=True, state=Path(scratch) / "state.pt")
        for kill in range(kills):
            limit = (kill + 1) * steps // (kills + 1)
            with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=_one_thread()) as child:
                assert child.stdout is not None
                for line in child.stdout:
                    if line.startswith("at ") and int(line.split()[1]) >= limit:
                        time.sleep(0.02 * kill)  # not always right after a file was written
                        child.kill()
        done = subprocess.run(words, check=True, capture_output=True, text=True, cwd=ROOT, env=_one_thread())
        return dict(json.loads(done.stdout.splitlines()[-1]))


def _one_thread() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}


def measure(steps: int, *, kills: int = 3, ranks: tuple[int, ...] = (1, 2)) -> dict[str, Any]:
    """Clean, faulty, and killed."""
    out: dict[str, Any] = {"steps": steps, "rates": RATES, "ranks": {}}
    for each in ranks:
        clean, faulty = run(steps, faulty=False, ranks=each), run(steps, faulty=True, ranks=each)
        out["ranks"][each] = {"clean": clean, "faulty": faulty, "loss_ratio": faulty["loss"] / clean["loss"]}
    killed = run_killed(steps, kills)
    out["killed"] = {"kills": kills, "same_bits": killed["digest"] == out["ranks"][1]["faulty"]["digest"]}
    return out


def show(console: Console, found: dict[str, Any]) -> None:
    """What each training came to."""
    rate = sum(found["rates"].values())
    title = f"{found['steps']:,} steps, {len(found['rates'])} kinds of faults on {rate:.1%} of them"
    table = Table(title=title, title_justify="left")
    for column in (
        "processes",
        "faults",
        "skipped",
        "damped",
        "rolled back",
        "bad numbers",
        "loss",
        "by clean",
    ):
        table.add_column(column, justify="right")
    for ranks, pair in found["ranks"].items():
        row = pair["faulty"]
        cells = (row[key] for key in ("faults", "skipped", "damps", "rollbacks", "bad_numbers"))
        table.add_row(str(ranks), *map(str, cells), f"{row['loss']:.4f}", f"{pair['loss_ratio']:.3f}")
    console.print(table)
    killed = found["killed"]
    same = "the same bits" if killed["same_bits"] else "[red]other bits[/]"
    console.print(f"killed by SIGKILL {killed['kills']} times and resumed: {same} as without\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.soak")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--faulty", action="store_true")
    parser.add_argument("--state", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group("gloo")
    found = asdict(train(args.steps, faulty=args.faulty, state=args.state))
    if not dist.is_initialized() or dist.get_rank() == 0:
        print(json.dumps(found))
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
