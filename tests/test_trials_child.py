"""What runs inside a trial: the end after N steps, shifted seeds, progress."""

from __future__ import annotations

import json
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from steadygrad.child import StepLimit, StepsReached, shift_seeds
from steadygrad.child.seeding import STRIDE
from steadygrad.records import StepRecord

LOOP = """
import torch
torch.manual_seed(3)
model = torch.nn.Linear(4, 1)
x = torch.randn(16, 4)
optimizer = {optimizer}
try:
    for step in range(200):
        {body}
finally:
    print("cleaned up after", step + 1)
print("the end")
"""
STEP = """optimizer.zero_grad(); loss = model(x).square().mean(); loss.backward(); optimizer.step()"""
CLOSURE = """
        def closure():
            optimizer.zero_grad(); loss = model(x).square().mean(); loss.backward(); return loss
        optimizer.step(closure)"""
BY_HAND = """
        model.zero_grad(); loss = model(x).square().mean(); loss.backward()
        with torch.no_grad():
            for p in model.parameters(): p -= 0.01 * p.grad"""


def trial(tmp_path: Path, script: str, *options: str) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
    (tmp_path / "train.py").write_text(script)
    read, write = os.pipe()
    command = [
        sys.executable,
        "-m",
        "steadygrad.cli",
        "run",
        "-q",
        "--no-report",
        "--progress-fd",
        str(write),
        *options,
    ]
    done = subprocess.run(
        [*command, "train.py"], cwd=tmp_path, pass_fds=[write], capture_output=True, text=True, timeout=120, check=False
    )
    os.close(write)
    with open(read) as lines:
        return done, [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("optimizer", "body"),
    [
        ("torch.optim.SGD(model.parameters(), 0.01)", STEP),
        ("torch.optim.LBFGS(model.parameters(), max_iter=3)", CLOSURE),
        ("None", BY_HAND),
    ],
    ids=["optimizer", "closure", "by hand"],
)
def test_a_script_is_left_after_so_many_steps(tmp_path: Path, optimizer: str, body: str) -> None:
    done, lines = trial(tmp_path, LOOP.format(optimizer=optimizer, body=body), "--max-steps", "25")
    assert (done.returncode, done.stderr) == (0, "")
    taken = int(done.stdout.removeprefix("cleaned up after "))
    assert taken == 25 if optimizer != "None" else 25 < taken < 40  # by hand: when the record arrives
    assert [line["step"] for line in lines[:25]] == list(range(1, 26))
    assert lines[-1]["end"]["limited"]
    assert lines[-1]["end"]["outcome"] == "exit"
    assert not list(tmp_path.glob("steadygrad-runs"))  # a trial leaves no run folder unless asked


def test_a_run_goes_on_while_nothing_is_wrong(tmp_path: Path) -> None:
    body = STEP.replace("0.01", "0.1")
    script = LOOP.format(optimizer="torch.optim.SGD(model.parameters(), 0.01)", body=body)
    _, lines = trial(tmp_path, script, "--max-steps", "40", "--extend", "100")
    assert lines[-1]["end"]["verdict"] == "healthy"
    assert lines[-2]["step"] == 100


@pytest.mark.parametrize(
    ("found", "asked"),
    [
        (["warning"], [40]),
        (["", "", "critical"], [40, 60, 90]),
        (["", "", "warning", "warning"], [40, 60, 90, 135]),
        (["", "warning", "", "warning", "critical"], [40, 60, 90, 135, 202]),  # the first has passed
    ],
)
def test_it_stops_growing_once_something_is_certainly_wrong(found: list[str], asked: list[int]) -> None:
    seen: list[int] = []

    def gravest() -> str:
        seen.append(limit.steps)
        return found[len(seen) - 1]

    limit = StepLimit(40, extend=1000, gravest=gravest)
    limit.install()
    taken = 0
    with pytest.raises(StepsReached):
        for taken in range(1, 1000):
            limit.count(StepRecord(taken))
    limit.remove()
    assert seen == asked
    assert taken == asked[-1]


def test_the_busiest_stream_counts() -> None:
    limit = StepLimit(10)
    limit.install()
    for step in range(1, 10):
        limit.count(StepRecord(step, stream=0))
        limit.count(StepRecord(step, stream=1))
    with pytest.raises(StepsReached):
        limit.count(StepRecord(10, stream=1))
    limit.remove()


def draws() -> list[float]:
    """One number from each source of randomness, every one of them seeded with 7 as scripts do."""
    random.seed(7)
    np.random.seed(7)
    torch.manual_seed(7)
    generator = torch.Generator()
    generator.manual_seed(7)
    chained = torch.Generator().manual_seed(7)
    return [
        random.random(),
        float(np.random.rand()),
        float(torch.rand(1)),
        float(torch.rand(1, generator=generator)),
        float(torch.rand(1, generator=chained)),
        float(np.random.default_rng(7).random()),
        float(np.random.default_rng(seed=7).random()),
        float(np.random.RandomState(7).rand()),
    ]


def test_a_shift_changes_every_seed_and_is_undone() -> None:
    plain = draws()
    undo = shift_seeds(0)
    try:
        assert draws() == plain
    finally:
        undo()
    undo = shift_seeds(2)
    try:
        shifted, again = draws(), draws()
    finally:
        undo()
    assert shifted == again
    assert not set(shifted) & set(plain)
    assert draws() == plain


def test_the_shifted_seed_is_the_seed_plus_a_stride() -> None:
    undo = shift_seeds(1)
    try:
        torch.manual_seed(5)
        value = torch.rand(3)
    finally:
        undo()
    assert torch.equal(value, torch.rand(3, generator=torch.Generator().manual_seed(5 + STRIDE)))


def test_unseeded_scripts_repeat() -> None:
    seen = []
    for shift in (0, 0, 1):
        shift_seeds(shift)()
        seen.append((random.random(), float(np.random.rand()), float(torch.rand(1))))
    assert seen[0] == seen[1]
    assert seen[0] != seen[2]


def test_shifted_generators_are_torch_generators() -> None:
    undo = shift_seeds(1)
    try:
        assert isinstance(torch.default_generator, torch.Generator)
        generator = torch.Generator()
        assert isinstance(generator, torch.Generator)
        assert isinstance(np.random.RandomState(1), np.random.RandomState)
        state = pickle.loads(pickle.dumps(np.random.RandomState(1)))
        loader = torch.utils.data.DataLoader(list(range(8)), shuffle=True, generator=generator)
        assert sorted(int(v) for v in loader) == list(range(8))
        assert state.rand() == np.random.RandomState(1).rand()
    finally:
        undo()


def test_an_orphan_ends_by_itself(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        LOOP.format(optimizer="torch.optim.SGD(model.parameters(), 0.01)", body=STEP).replace("200", "10**9")
    )
    read, write = os.pipe()
    command = [sys.executable, "-m", "steadygrad.cli", "run", "-q", "--no-report", "--progress-fd", str(write)]
    child = subprocess.Popen([*command, "train.py"], cwd=tmp_path, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    os.read(read, 1)  # it trains
    os.close(read)
    assert child.wait(timeout=60) == 1
