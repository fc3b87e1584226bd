"""The whole ladder, end to end and with the guard's own defaults: trouble that comes and does not go away."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training import same, state_of

from steadygrad import Guard, GuardStopError, Stepper
from steadygrad.clip import GlobalNorm
from steadygrad.store import Run

LADDER = ["skip", "damp", "skip", "rollback", "skip", "rollback", "skip", "stop"]
#: The data source breaks after this many batches, for good: its numbers are a thousand times too large, or NaN.
BREAKS = 250


def batch_of(step: int, damage: float) -> tuple[Tensor, Tensor]:
    x = torch.randn(32, 8, generator=torch.Generator().manual_seed(step))
    factor = damage if step >= BREAKS else 1.0
    return factor * x, factor * (x[:, :1].sin() + x[:, 1:2] * x[:, 2:3])


class Training:
    """A network with BatchNorm, so that every kind of state is there to be damaged."""

    def __init__(self, folder: Path, *, fused: bool) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.BatchNorm1d(32), nn.Linear(32, 1))
        optimizer = torch.optim.AdamW(self.model.parameters(), 1e-2, fused=fused)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 400)
        self.guard = Guard(folder=folder)
        self.stepper = Stepper(
            optimizer, clip=GlobalNorm(1.0), scheduler=scheduler, guard=self.guard, model=self.model
        )  # fmt: skip

    def run(self, steps: int, damage: float = 1.0) -> float:
        """Train up to so many batches and return the loss on fresh data."""
        for step in range(self.guard.step, steps):
            x, y = batch_of(step, damage)
            self.stepper.step((self.model(x) - y).square().mean(), batch=step)
        x, y = batch_of(100_000, 1.0)
        self.model.eval()
        with torch.no_grad():
            return float((self.model(x) - y).square().mean())


def rungs(events: list[Any]) -> list[str]:
    return [action for action, _ in groupby(events)]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("damage", [1e3, float("nan")])
def test_a_stepper_climbs_the_ladder_and_its_state_goes_on_with_good_data(
    fused: bool, damage: float, tmp_path: Path
) -> None:
    clean = Training(tmp_path / "clean", fused=fused).run(400)
    training = Training(tmp_path, fused=fused)
    with pytest.raises(GuardStopError, match="did not help; the state of step 201 is restored and written to"):
        training.run(400, damage)
    assert rungs([event.action for event in training.guard.events]) == LADDER
    assert [e.data["to_step"] for e in training.guard.events if e.action == "rollback"] == [201, 101]
    assert all(t.isfinite().all() for t in training.model.state_dict().values())
    other = Training(tmp_path, fused=fused)
    other.guard.load(tmp_path / "guard-state.pt")
    assert same(state_of(other.model), state_of(training.model))
    other.guard.step = 201  # the data, which is whole again, from where the state was taken
    assert other.run(400) < 1.1 * clean


SCRIPT = """
import torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
optimizer = torch.optim.Adam(model.parameters(), 1e-2)
for step in range(400):
    x = torch.randn(32, 8)
    y = x[:, :1].sin()
    if step >= 250:
        x, y = 1000 * x, 1000 * y
    loss = (model(x) - y).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(step)
"""


def test_the_command_climbs_the_ladder_on_a_script_nobody_has_changed(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    words = [sys.executable, "-m", "steadygrad.cli", "run", "--guard", "--no-report", "--out", "run", "train.py"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert "GuardStopError: training stopped at step" in done.stderr and "after a loss spike" in done.stderr
    with Run(tmp_path / "run") as run:
        facts = [fact for fact in run.facts() if fact.kind == "guard"]
        losses = [record.loss for record in run.records()]
    assert rungs([fact.data["action"] for fact in facts]) == LADDER
    stop = facts[-1]
    assert stop.data["reason"] == "loss spike" and stop.data["loss"] > 1e4 * losses[200]
    # Skipped steps are recorded as well. The one that raised is if it was ordinary: those are recorded as they begin.
    assert len(losses) in (stop.step - 1, stop.step)
    assert int(done.stdout.split()[-1]) == stop.step - 2, "the script got no further than that step"
    kept = torch.load(tmp_path / "run" / "guard-state.pt", weights_only=True)
    weight, bias = kept["training"]["tensors"][:2]
    assert weight.isfinite().all() and weight.abs().max() < 5 and bias.abs().max() < 5
    assert kept["guard"]["step"] == stop.step
