"""The same trials on a local Ray cluster of two workers, one of which is killed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from steadygrad.records import Candidate, RemedySpec
from steadygrad.trials.cluster import RayBackend
from steadygrad.trials.job import Attempt, Job, Script
from steadygrad.trials.local import Backend, LocalBackend
from steadygrad.trials.stopping import Rule

CANDIDATES = [
    Candidate((), "", "", "control"),
    Candidate((RemedySpec("lower-lr", "0.01"),), "", ""),
    Candidate((RemedySpec("clip-norm", "0.1"),), "", ""),
    Candidate((RemedySpec("replace-batchnorm"),), "", ""),
]
SCRIPT = """
import torch
torch.manual_seed(0)
x = torch.randn(32, 4)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(40):
    loss = (model(x) - x[:, :1]).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
#: The first time, at step 20, it kills the Ray worker that runs it.
DEADLY = SCRIPT.replace(
    "    loss = ",
    """    import os, signal
    if step == 20 and not os.path.exists("killed"):
        open("killed", "w").close()
        os.kill(os.getppid(), signal.SIGKILL)
    loss = """,
    1,
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayBackend]:
    with RayBackend(2) as backend:
        yield backend


def run(backend: Backend, folder: Path, text: str) -> list[Attempt]:
    (folder / "train.py").write_text(text)
    script = Script(("train.py",), str(folder))
    jobs = [Job(i, script, c, i % 2, Rule(30)) for i, c in enumerate(CANDIDATES)]
    over: list[int] = []
    found = backend.run(jobs, watcher=lambda *_: None, done=lambda job, _: over.append(job.number))
    assert sorted(over) == [job.number for job in jobs]
    return found


def timeless(found: list[Attempt]) -> list[Attempt]:
    return [
        replace(a, result=replace(a.result, seconds=0.0), overhead=0.0, script_seconds=0.0, modules=()) for a in found
    ]


def test_results_are_equal_between_backends(cluster: RayBackend, tmp_path: Path) -> None:
    with LocalBackend(2) as local:
        here = run(local, tmp_path, SCRIPT)
    there = run(cluster, tmp_path, SCRIPT)
    assert timeless(here) == timeless(there)
    assert [a.result.status for a in there] == ["finished", "finished", "finished", "not-applicable"]


def test_a_trial_whose_worker_is_killed_is_run_again(cluster: RayBackend, tmp_path: Path) -> None:
    found = run(cluster, tmp_path, DEADLY)
    assert (tmp_path / "killed").exists()
    assert [a.result.status for a in found] == ["finished", "finished", "finished", "not-applicable"]
    assert [a.result.steps for a in found[:3]] == [30, 30, 30]
