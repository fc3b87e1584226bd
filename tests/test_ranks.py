"""Several processes of one training: what each leaves, what rank 0 makes of it, and a real launch with torchrun."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from histories import Net, falling

from steadygrad.detectors import detect
from steadygrad.history import History
from steadygrad.ranks import Mailbox, Part, Rank, compare, current, summarize
from steadygrad.records import Diagnosis, Fact, Symptom
from steadygrad.store import Run


def history_of(loss: Any = falling, *, nudge: float = 0.0, after: int = 0, gradient: float = 1.0) -> History:
    """A rank's run of 60 steps, whose first layer's weights are moved by a share of their size after some step."""
    net = Net(layers=3).train(60, loss=loss, gradient=gradient)
    history = History()
    history.parameters, history.sites, history.optimizers = net.parameters, net.sites, net.optimizers
    for event in net.events:
        if not isinstance(event, Fact) and event.detail is not None and event.step > after:
            event.detail.parameters["weight_norm"][0] *= np.float32(1 + nudge)
        history.add(event)
    return history


def summaries(*histories: History) -> dict[int, dict[str, Any]]:
    """As they are after the way through a file."""
    made = (summarize(h, None, rank=i, outcome="finished") for i, h in enumerate(histories))
    return {summary["rank"]: json.loads(json.dumps(summary, allow_nan=False)) for summary in made}


# -- who am I ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"RANK": "0"},
        {"RANK": "0", "WORLD_SIZE": "1"},
        {"RANK": "x", "WORLD_SIZE": "2"},
        {"RANK": "2", "WORLD_SIZE": "2"},
    ],
)
def test_a_process_that_trains_alone_has_no_rank(given: dict[str, str]) -> None:
    assert current(given) is None


def test_ranks_of_one_launch_share_a_group_and_those_of_a_restart_do_not() -> None:
    given = {"WORLD_SIZE": "2", "MASTER_ADDR": "a/b", "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "none"}
    zero, one = (current({**given, "RANK": rank}) for rank in "01")
    assert zero == Rank(0, 2, "a_b-29500-none") and one is not None and one.group == zero.group
    again = current({**given, "RANK": "0", "TORCHELASTIC_RESTART_COUNT": "1"})
    assert again is not None and again.group != zero.group


# -- what they know together ------------------------------------------------------------------------------------


def test_equal_replicas_have_nothing_to_say() -> None:
    fact = compare(summaries(history_of(), history_of(), history_of()), world=3)
    assert fact["missing"] == fact["running"] == [] and not fact["failed"]
    assert not fact.keys() & {"nonfinite", "worst", "drift"}


def test_the_rank_whose_loss_broke_first_is_named_and_not_those_that_caught_it() -> None:
    broken = history_of(lambda s: float("nan") if s >= 41 else falling(s))
    caught = history_of(lambda s: float("nan") if s >= 42 else falling(s))
    found = compare(summaries(caught, caught, broken), world=3)["nonfinite"]
    assert (found["ranks"], found["step"]) == ([2], 41)


def test_the_rank_whose_loss_stands_out_is_named() -> None:
    odd = history_of(lambda s: 100 * falling(s) if s == 33 else falling(s))
    worst = compare(summaries(history_of(), odd, history_of()), world=3)["worst"]
    assert (worst["rank"], worst["step"]) == (1, 33) and worst["ratio"] == pytest.approx(100)


def test_drift_is_told_from_shards_and_from_rounding() -> None:
    drift = compare(summaries(history_of(), history_of(), history_of(nudge=0.01, after=15)), world=3)["drift"]
    assert drift["parameter"] == "layers.0.weight" and drift["rank"] == 2 and 15 < drift["step"] <= 20
    assert drift["relative"] == pytest.approx(0.01, rel=1e-3) and not drift["from_start"]
    of_two = compare(summaries(history_of(), history_of(nudge=0.01, after=15)), world=2)["drift"]
    assert "rank" not in of_two, "of two, neither is the right one"
    rounding = compare(summaries(history_of(), history_of(nudge=1e-7, after=15)), world=2)
    shards = compare(summaries(history_of(), history_of(nudge=0.5, gradient=2.0)), world=2)
    assert "drift" not in rounding and "drift" not in shards


def test_replicas_that_share_gradients_but_never_were_equal() -> None:
    drift = compare(summaries(history_of(), history_of(nudge=0.5)), world=2)["drift"]
    assert drift["from_start"] and drift["step"] == 1


def test_ranks_of_other_models_are_not_compared() -> None:
    other = History()
    other.parameters = history_of().parameters[:2]
    assert "drift" not in compare(summaries(history_of(), other), world=2)


# -- files ------------------------------------------------------------------------------------------------------


def test_a_mailbox_gives_back_what_was_left_and_one_rank_speaks(tmp_path: Path) -> None:
    box = Mailbox(tmp_path / "deep" / "ranks")
    box.write(1, {"rank": 1, "outcome": "running"})
    box.write(1, {"rank": 1, "outcome": "finished"})
    (box.folder / "rank-2.json").write_text('{"rank": 2, "outc')  # a rank that was killed as it wrote
    assert box.read() == {1: {"rank": 1, "outcome": "finished"}}
    assert [box.claim("non-finite"), box.claim("non-finite")] == [True, False]
    box.keep(tmp_path / "run" / "ranks")
    assert (tmp_path / "run" / "ranks" / "rank-1.json").is_file() and not box.folder.exists()


def test_a_mailbox_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    box = Mailbox(tmp_path / "file" / "ranks")
    box.write(1, {"rank": 1})
    box.clear_stale()
    assert box.read() == {} and box.claim("x")


def test_files_of_a_killed_run_are_not_taken_for_this_one(tmp_path: Path) -> None:
    box = Mailbox(tmp_path)
    box.write(1, {"rank": 1, "outcome": "finished"})
    box.write(2, {"rank": 2, "outcome": "finished"})
    os.utime(tmp_path / "rank-1.json", (time.time() - 3600,) * 2)
    Part(0, 3, box, say=print).begin()
    assert set(box.read()) == {2}


def test_rank_0_does_not_wait_for_ever(tmp_path: Path) -> None:
    box = Mailbox(tmp_path)
    box.write(1, {**summarize(history_of(), None, rank=1, outcome="running")})
    started = time.monotonic()
    facts = Part(0, 3, box, say=print).gather(history_of(), outcome="finished", error="", wait=0.2)
    assert time.monotonic() - started < 2
    assert facts[0].data["running"] == [1] and facts[0].data["missing"] == [2]


# -- what is said -----------------------------------------------------------------------------------------------


def test_rank_0_names_what_only_another_rank_has_seen(tmp_path: Path) -> None:
    broken = history_of(lambda s: float("nan") if s >= 41 else falling(s))
    origin = {"found": True, "op": "log", "result": "inf", "source": "train.py:7", "inputs": []}
    broken.add(Fact("origin", 41, origin))
    Part(1, 2, Mailbox(tmp_path), say=print).leave(broken, Diagnosis("unhealthy"), outcome="finished", error="")
    mine = history_of()
    assert not [s for s in detect(mine) if s.code == "non-finite"]
    for fact in Part(0, 2, Mailbox(tmp_path), say=print).gather(mine, outcome="finished", error=""):
        mine.add(fact)
    symptom = next(s for s in detect(mine) if s.code == "non-finite")
    assert symptom.location == "train.py:7" and symptom.first_step == 41
    assert "on rank 1 only: log gave inf at train.py:7" in symptom.message


def test_other_ranks_are_silent_unless_they_know_better(tmp_path: Path) -> None:
    said: list[str] = []
    box = Mailbox(tmp_path)
    ranks = [Part(i, 3, box, say=said.append) for i in range(3)]
    stalled = Symptom("stalled-loss", "warning", "", 30, 40, {}, "the loss has not moved")
    broken = Symptom("non-finite", "critical", "", 41, 41, {}, "the loss became non-finite at step 41")
    ranks[1].found(stalled, history_of())
    assert said == []
    ranks[2].found(broken, history_of())
    ranks[1].found(broken, history_of())
    assert said == ["rank 2: the loss became non-finite at step 41"], "the first to see it, and nobody else"
    ranks[1].leave(history_of(), Diagnosis("unhealthy", (broken,)), outcome="finished", error="")
    assert len(said) == 1, "rank 0 answers for all"
    ranks[2].leave(history_of(), Diagnosis("unhealthy", (broken, stalled)), outcome="error", error="ValueError: nan")
    assert said[1:] == ["rank 2: non-finite: the loss became non-finite at step 41"]
    remarks = ranks[0].remark(ranks[0].gather(history_of(), outcome="finished", error=""))
    assert "rank 2 ended with ValueError: nan" in remarks


# -- a launch ---------------------------------------------------------------------------------------------------

SCRIPT = """
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
model = DistributedDataParallel(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
data = torch.Generator().manual_seed(rank)
for step in range(1, 41):
    x = torch.rand(16, 4, generator=data)
    loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
    if rank == 1 and step == 30:
        loss = loss + 0 * torch.log(x.sum() * 0)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if rank == 1 and step == 12:
        with torch.no_grad():
            model.module[0].weight.mul_(1.5)
sys.stdout.write(f"rank {rank} done\\n")  # at once: both ranks write into one pipe
sys.stdout.flush()
dist.destroy_process_group()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_torchrun(tmp_path: Path) -> None:
    """A NaN on rank 1 alone is named with its line, drifting replicas are told, and rank 0 answers for both."""
    (tmp_path / "train.py").write_text(SCRIPT)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port"]
    ours = ["-m", "steadygrad.cli", "run", "--no-report", "--json", "answer.json", "train.py"]
    done = subprocess.run(
        [*launcher, str(free_port()), *ours], cwd=tmp_path, capture_output=True, text=True, timeout=170, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split("\n")[:2]) == ["rank 0 done", "rank 1 done"]
    assert done.stderr.count("UNHEALTHY") == 1, "only one rank answers"
    assert "steadygrad: rank 1: the loss became non-finite at step 30: log gave" in done.stderr
    answer = json.loads((tmp_path / "answer.json").read_text())
    found = {symptom["code"]: symptom for symptom in answer["symptoms"]}
    line = SCRIPT.splitlines().index("        loss = loss + 0 * torch.log(x.sum() * 0)") + 1
    assert found["non-finite"]["location"] == f"train.py:{line}" and "on rank 1 only" in found["non-finite"]["message"]
    assert found["replica-drift"]["location"] == "module.0.weight" and found["replica-drift"]["first_step"] == 20
    assert answer["causes"][0]["code"] == "unstable-operation"
    (folder,) = (path for path in (tmp_path / "steadygrad-runs").iterdir() if path.is_dir())
    assert [path.name for path in (folder / "ranks").iterdir()] == ["rank-1.json"]
    with Run(folder) as run:
        assert run.diagnosis() is not None and [f.kind for f in run.facts()].count("ranks") == 1
