"""The guard around scripts nobody has changed: it acts, it composes with observation, and it leaves nothing behind."""

from __future__ import annotations

import gc
import math
import os
import re
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from training import ALL, batches, mse, network, same, state_of

import steadygrad
from steadygrad import Guard, GuardStopError
from steadygrad.guard import Budget
from steadygrad.guard.zerocode import ZeroCode, install
from steadygrad.store import Run

every_optimizer = pytest.mark.parametrize("name", ALL)


@pytest.fixture
def guarded() -> Any:
    installed = install(Guard(warmup=5, snapshot_every=10, budget=Budget(skips=2, span=10)))
    yield installed
    installed.remove()


def loop(name: str, bad: dict[int, float], n: int = 12) -> tuple[nn.Module, Optimizer]:
    """A script's own loop."""
    model = network()
    optimizer = ALL[name](list(model.parameters()))
    for i, batch in enumerate(batches(n)):
        optimizer.zero_grad()
        (mse(model, batch) * bad.get(i, 1.0)).backward()
        optimizer.step()
    return model, optimizer


@every_optimizer
def test_a_healthy_script_ends_the_same(name: str, guarded: ZeroCode) -> None:
    model, optimizer = loop(name, {})
    guarded.remove()
    assert same(state_of(model, optimizer), state_of(*loop(name, {})))
    assert guarded.summary() == ["guard: every step was taken"]


@every_optimizer
@pytest.mark.parametrize("factor", [math.nan, 1e6])
def test_bad_steps_are_as_if_they_had_never_come(name: str, factor: float, guarded: ZeroCode) -> None:
    model, optimizer = loop(name, {7: factor, 10: factor})
    guarded.remove()
    other = network()
    other_optimizer = ALL[name](list(other.parameters()))
    for i, batch in enumerate(batches(12)):
        if i not in (7, 10):
            other_optimizer.zero_grad()
            mse(other, batch).backward()
            other_optimizer.step()
    assert same(state_of(model, optimizer), state_of(other, other_optimizer))
    assert guarded.summary()[0].startswith("guard: skipped 2 steps (2 ")
    assert "data loader" in guarded.summary()[1]


def test_the_ladder_works_without_code() -> None:
    installed = install(Guard(warmup=5, snapshot_every=10, budget=Budget(skips=2, span=10, rollbacks=1)))
    try:
        model = network()
        optimizer = torch.optim.AdamW(model.parameters(), 0.01)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)
        seen: list[float] = []
        optimizer.register_step_pre_hook(lambda *_: seen.append(1.0))
        with pytest.raises(GuardStopError):
            for i, batch in enumerate(batches(60)):
                optimizer.zero_grad()
                (mse(model, batch) * (math.nan if i > 30 else 1.0)).backward()
                optimizer.step()
                scheduler.step()
        actions = [event.action for event in installed.guards[0].events]
        assert [a for a in actions if a != "skip"] == ["damp", "rollback", "stop"]
        assert len(seen) == 40, "hooks see skipped steps as well"
        assert scheduler.last_epoch == 39 and optimizer.param_groups[0]["lr"] == scheduler.get_last_lr()[0]
        assert all(p.isfinite().all() for p in model.parameters())
        assert (
            installed.summary()[0] == "guard: skipped 9 steps (9 non-finite loss), damped 1x, went back 1x, stopped 1x"
        )
    finally:
        installed.remove()


def test_a_scalers_overflow_is_left_to_the_scaler(guarded: ZeroCode) -> None:
    for fused in (False, True):
        model = network()
        optimizer = torch.optim.AdamW(model.parameters(), 0.01, fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
        for batch in batches(20):
            optimizer.zero_grad()
            scaler.scale(1e4 * mse(model, batch)).backward()
            scaler.step(optimizer)
            scaler.update()
        assert scaler.get_scale() < 2.0**127
    assert guarded.summary() == ["guard: every step was taken"]


def test_the_norm_is_that_of_unscaled_gradients_and_the_loss_that_of_the_script(guarded: ZeroCode) -> None:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), 0.0, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    batch = next(batches(1))
    loss = mse(model, batch)
    loss.backward()
    norm = float(nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]))
    for _ in range(6):
        optimizer.zero_grad()
        scaler.scale(mse(model, batch)).backward()
        scaler.step(optimizer)
        scaler.update()
    guard = guarded.guards[0]
    assert guard.norm.median() == pytest.approx(norm, rel=1e-4)
    assert guard.loss.median() == pytest.approx(float(loss.detach()), rel=1e-4)


def test_a_closure_that_ends_badly_is_undone(guarded: ZeroCode) -> None:
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)
    batch = next(batches(1))
    factor = [1.0]

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = mse(model, batch) * factor[0]
        loss.backward()
        return loss

    optimizer.step(closure)
    before = state_of(model, optimizer)
    factor[0] = math.nan
    optimizer.step(closure)
    after = state_of(model, optimizer)
    assert same([after[0][k] for k in after[0] if "running" not in k and "batches" not in k],
                [before[0][k] for k in before[0] if "running" not in k and "batches" not in k])  # fmt: skip
    assert same(after[1], before[1])


def test_each_optimizer_has_its_own_guard_and_none_is_kept_alive(guarded: ZeroCode) -> None:
    for _ in range(3):
        model, optimizer = loop("adamw", {})
    assert len(guarded.guards) == 3
    watched = weakref.ref(optimizer)
    del model, optimizer
    gc.collect()
    assert watched() is None
    assert all(not guard.ring.held for guard in guarded.guards)


def test_nothing_is_left_behind() -> None:
    before = torch.autograd.backward, torch.amp.GradScaler.scale, vars(Optimizer)["profile_hook_step"]
    model, optimizer = loop("adamw", {})  # its class is hooked before the guard comes
    installed = install(Guard())

    class Own(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    Own(model.parameters(), 0.1)
    installed.remove()
    after = torch.autograd.backward, torch.amp.GradScaler.scale, vars(Optimizer)["profile_hook_step"]
    assert after == before
    for kind in (torch.optim.AdamW, torch.optim.SGD, Own):
        assert not hasattr(getattr(kind.step, "__wrapped__", None), "_unguarded")
        assert getattr(kind.step, "hooked", False) or kind not in (Own, torch.optim.AdamW)
    seen = []
    optimizer.register_step_post_hook(lambda *_: seen.append(1))
    (model(torch.ones(4, 8)) * math.nan).sum().backward()
    optimizer.step()
    assert seen == [1]
    assert any(p.isnan().any() for p in model.parameters()), "nobody guards any more"


def test_an_error_of_the_guard_is_said_once_and_the_training_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    installed = install(Guard(), say=said.append)
    try:
        monkeypatch.setattr(Guard, "limits", lambda _: 1 / 0)
        model, _ = loop("adamw", {})
    finally:
        installed.remove()
    monkeypatch.undo()
    assert said == ["the guard is off, the training goes on: ZeroDivisionError: division by zero"]
    assert same(state_of(model), state_of(loop("adamw", {})[0]))


def test_observation_sees_guarded_steps_and_records_what_was_done(tmp_path: Path) -> None:
    installed = install(Guard(warmup=5))
    try:
        with steadygrad.watch(folder=tmp_path / "run") as monitor:
            loop("adamw", {8: math.nan}, n=30)
        assert monitor.history.steps == 30
    finally:
        installed.remove()
    assert torch.autograd.backward.__module__ == "torch.autograd"
    with Run(tmp_path / "run") as run:
        facts = [fact for fact in run.facts() if fact.kind == "guard"]
    with Run(tmp_path / "run") as run:
        assert all(record.clip is None for record in run.records()), "measuring is no clip"
    assert [(f.step, f.data["action"], f.data["reason"]) for f in facts] == [(9, "skip", "non-finite loss")]


SCRIPT = """
import torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
optimizer = torch.optim.Adam(model.parameters(), 1e-2)
for i in range(90):
    x = torch.randn(32, 8)
    if i in (40, 60) or i > {stop}:
        x[0, 0] = float("nan")
    loss = (model(x) - x[:, :1]).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(all(t.isfinite().all() for t in model.state_dict().values()))
"""


def command(tmp_path: Path, stop: int) -> subprocess.CompletedProcess[str]:
    (tmp_path / "train.py").write_text(SCRIPT.format(stop=stop))
    words = [sys.executable, "-m", "steadygrad.cli", "run", "--guard", "--no-report", "--out", "run", "train.py"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_saves_a_script_with_bad_batches(tmp_path: Path) -> None:
    done = command(tmp_path, 1000)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("True\n")
    assert "guard: skipped 2 steps (2 non-finite loss)" in done.stderr
    assert "data loader" in done.stderr
    with Run(tmp_path / "run") as run:
        facts = {fact.kind: fact.data for fact in run.facts()}
    assert facts["guard"]["action"] == "skip"
    assert facts["guard-summary"]["steps"] == [90]


def test_the_command_stops_a_script_that_is_lost_and_keeps_its_state(tmp_path: Path) -> None:
    done = command(tmp_path, 50)
    assert done.returncode == 1
    last = [line for line in done.stderr.splitlines() if "GuardStopError" in line]
    assert re.search(
        r"training stopped at step \d+ after a non-finite loss: .* written to .*run/guard-state.pt", last[0]
    )
    assert "steadygrad/guard" not in done.stderr, "the traceback is the script's"
    kept = torch.load(tmp_path / "run" / "guard-state.pt", weights_only=True)
    assert all(t.isfinite().all() for t in kept["training"]["tensors"])
