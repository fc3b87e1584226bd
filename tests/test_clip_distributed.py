"""Clipping over 2 and 4 ranks (gloo, CPU), started here with torchrun. ``clip_ranks.py`` holds the checks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("clip_ranks.py")
NEEDED = {
    2: [
        "rows: GlobalNorm",
        "columns: AdaptiveUnit",
        "mixed with plain: one bad rank",
        "fully_shard",
        "torch's clip of fully_shard, observed",
        "DDP",
        "copies: Value",
    ],
    4: ["two dimensions: GlobalNorm, p=inf", "hybrid: reductions", "two meshes and plain: GlobalNorm"],
}


@pytest.mark.parametrize("ranks", [2, 4])
def test_spread_over_ranks_is_as_whole(ranks: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command += [str(SCRIPT), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(ranks)]
    assert all(results.keys() == found[0].keys() for results in found)
    assert {*NEEDED[ranks]} <= found[0].keys()
    told = [f"rank {rank}, {name}: {text}" for rank in range(ranks) for name, text in found[rank].items()]
    wrong = [line for line in told if not line.endswith(": ok")]
    assert not wrong, "\n".join(wrong)
