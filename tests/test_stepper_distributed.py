"""Steppers in two processes, started by torchrun."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent


def test_two_ranks_step_alike_and_like_one_process() -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, str(TESTS / "ranks_stepper.py")],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    passed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("passed")]
    assert passed == [
        "ddp_accumulates",
        "ddp_ends_early",
        "fsdp_accumulates",
        "one_rank_only",
        "scaler_agrees",
        "guard_agrees",
        "old_fsdp_is_refused",
    ]
