"""When we fail, the training does not: faults of our own, folders that cannot be written, processes that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from steadygrad import batch, graph, origin, patching, probes, stats, timeflow
from steadygrad.monitor import Monitor, structure
from steadygrad.monitor.clip_events import ClipEvents
from steadygrad.monitor.waiting import Waiting
from steadygrad.naming import Registry
from steadygrad.records import Symptom
from steadygrad.session import Session
from steadygrad.store import Run

SCRIPT = """
    import sys, torch
    from torch import nn
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for step in range({steps}):
        optimizer.zero_grad()
        loss = model(torch.randn(8, 4)).square().mean()
        loss.backward()
        optimizer.step()
        {extra}
    print("trained", step + 1, flush=True)
    {end}
"""


def write(folder: Path, *, steps: int = 12, extra: str = "pass", end: str = "pass") -> Path:
    path = folder / "train.py"
    path.write_text(textwrap.dedent(SCRIPT).format(steps=steps, extra=extra, end=end))
    return path


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "steadygrad.cli", "run", *map(str, arguments)]


def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command(*arguments), cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.norm, self.head = nn.LSTM(3, 4, batch_first=True), nn.BatchNorm1d(4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _, (hidden, _) = self.rnn(x)
        return self.head(self.norm(torch.tanh(hidden[-1])))


def train(steps: int = 24) -> list[float]:
    """A little of everything that has a hook."""
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.Adam(model.parameters())
    scaler, losses = torch.amp.GradScaler("cpu", init_scale=4.0), []
    for step in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(torch.randn(5, 6, 3)), torch.zeros(5, dtype=torch.long))
        if step % 2:
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
        else:
            loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        nn.utils.clip_grad_value_(model.parameters(), 0.01)
        if step % 2:
            scaler.step(optimizer)
            scaler.update()
        else:
            optimizer.step()
        losses.append(loss.item())
    return losses


PLACES: list[tuple[Any, str]] = [
    *((Monitor, name) for name in (
        "forward_begins", "forward_ended", "loss_called", "backward_begins", "backward_ended", "scaled",
        "scaler_begins", "scaler_ended", "optimizer_built", "step_begins", "step_ended", "finish",
    )),
    *((ClipEvents, name) for name in ("total_norm", "clipped", "value_clipped")), (Waiting, "hand_on"),
    *((probes.Probe, name) for name in ("leave", "function", "keep_grad", "measure", "measure_outputs")),
    (probes.RecurrentCall, "_keep_hidden"), (probes, "batchnorm_numbers"),
    (graph, "walk"), (batch, "inspect_loss"), (batch, "describe"), (stats, "norms"), (stats, "moments"),
    (stats, "snapshot"), (stats, "change"), (structure, "flow_through_time"), (Registry, "add_root"),
    (Registry, "site"), (Session, "_review"), (Session, "step"), (Session, "fact"),
]  # fmt: skip


@pytest.mark.parametrize(("holder", "name"), PLACES, ids=lambda v: v if isinstance(v, str) else v.__name__)
def test_an_error_of_ours_is_said_once_and_training_goes_on(
    holder: Any, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = train()
    calls = []

    def broken(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        raise ZeroDivisionError("our own fault")

    monkeypatch.setattr(holder, name, broken)
    with Session(every=1) as session:
        watched = train()
    lines = capsys.readouterr().err.splitlines()
    assert watched == plain
    assert calls == [name]
    assert len(lines) == 1
    assert lines[0].startswith("steadygrad: internal error, observation is off and the training goes on: ZeroDivision")
    assert "our own fault" in session.meta["observation_failed"]
    assert session.closed


def test_an_error_in_the_search_for_an_origin(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError("our own fault")

    monkeypatch.setattr(origin, "find_origin", broken)
    w = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.SGD([w], 0.1)
    with Session():
        for _ in range(3):
            w.log().sum().backward()
            optimizer.step()
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_interrupts_are_not_ours_to_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Monitor, "step_ended", interrupted)
    with Session(), pytest.raises(KeyboardInterrupt):
        train(1)
    assert not patching.in_forks


def test_what_torch_lacks_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.nn.utils.clip_grad, "_get_total_norm")
    monkeypatch.delattr(torch, "compile")
    with Session() as session:
        optimizer = torch.optim.SGD([torch.ones(2, requires_grad=True)], 0.1)
        optimizer.param_groups[0]["params"][0].square().sum().backward()
        optimizer.step()
    assert session.history.steps == 1


def test_a_script_runs_to_its_end_though_we_fail(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import steadygrad.stats as s\ndef broken(*a): raise ZeroDivisionError('our own fault')\ns.norms = broken\n"
    )
    script = write(tmp_path, end="sys.exit(7)")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        command("--quiet", script), cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 7, done.stderr
    assert done.stdout == "trained 12\n"
    assert done.stderr.count("internal error") == 1
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("end", "code"), [("pass", 0), ("sys.exit(5)", 5), ("raise ValueError('theirs')", 1), ("sys.exit('no')", 1)]
)
def test_exit_codes_and_output_are_the_scripts_own(tmp_path: Path, end: str, code: int) -> None:
    done = run(tmp_path, "--no-report", "--out", tmp_path / "run", write(tmp_path, end=end))
    assert done.returncode == code, done.stderr
    assert done.stdout == "trained 12\n"
    assert ("ValueError: theirs" in done.stderr) == ("ValueError" in end)
    assert "steadygrad/attach/" not in done.stderr
    with Run(tmp_path / "run") as stored:
        assert stored.meta["exit_code"] == code
        assert sum(1 for _ in stored.records()) == 12


def test_a_folder_that_cannot_be_written_is_said_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run(tmp_path, "--out", tmp_path / "file" / "run", "--json", tmp_path / "out.json", write(tmp_path))
    assert done.returncode == 0
    assert "this run is not recorded" in done.stderr
    assert '"steps": 12' in (tmp_path / "out.json").read_text()


def test_a_disk_that_fills_up_stops_the_recording_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from steadygrad.errors import StoreError
    from steadygrad.store import Recorder

    def full(*args: Any) -> None:
        raise StoreError("no space left on device")

    with Session(tmp_path / "run") as session:
        train(4)
        monkeypatch.setattr(Recorder, "step", full)
        train(4)
    assert capsys.readouterr().err.count("recording stopped, the training goes on") == 1
    assert session.history.steps == 8


def test_a_second_run_does_not_spoil_the_first_ones_folder(tmp_path: Path) -> None:
    script = write(tmp_path)
    first = run(tmp_path, "--no-report", "--out", "run", script)
    second = run(tmp_path, "--no-report", "--out", "run", write(tmp_path, steps=3))
    assert (first.returncode, second.returncode) == (0, 0)
    assert second.stdout == "trained 3\n"
    with Run(tmp_path / "run") as stored:
        assert sum(1 for _ in stored.records()) in (12, 3)


@pytest.mark.parametrize(
    "body", ["", "print('no training')", "import torch; torch.nn.Linear(2, 2)(torch.zeros(1, 2))",
             "import torch; torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1).step()"]
)  # fmt: skip
def test_scripts_that_do_not_train(tmp_path: Path, body: str) -> None:
    (tmp_path / "script.py").write_text(body)
    done = run(tmp_path, "--json", "out.json", "script.py")
    assert done.returncode == 0, done.stderr
    assert "internal error" not in done.stderr
    assert '"verdict": "healthy"' not in (tmp_path / "out.json").read_text()


def test_a_killed_run_can_be_read(tmp_path: Path) -> None:
    script = write(tmp_path, steps=100_000, extra="step == 400 and print('now', flush=True)")
    process = subprocess.Popen(
        command("--quiet", "--out", "run", script), cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "now\n"
    time.sleep(2.5)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with Run(tmp_path / "run") as stored:
        steps = [record.step for record in stored.records()]
        assert len(steps) > 100
        assert steps == list(range(1, len(steps) + 1))
        assert stored.parameters[0].name == "0.weight"


def forked(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_is_not_watched(tmp_path: Path) -> None:
    with Session(tmp_path / "run") as session:
        train(2)
        assert forked(lambda: train(5) and None) == 0
        train(2)
    assert session.history.steps == 4


def test_timeflow_and_origin_do_not_count_as_steps() -> None:
    assert timeflow.flow_through_time(nn.RNN(2, 3), (), torch.zeros(2, 2, 3)) == []


def test_a_finding_that_does_not_last_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    early = Symptom("loss-spike", "warning", "", 3, 3, {}, "the loss jumped")
    monkeypatch.setattr("steadygrad.session.detect", lambda _: [early])
    with Session(tmp_path / "run", every=1) as session:
        train()
    assert session.withdrawn == ["loss-spike"]
    announced, taken_back = Run(tmp_path / "run").findings()
    assert (announced["code"], announced["first_step"]) == ("loss-spike", 3)
    assert (taken_back["code"], taken_back["withdrawn"]) == ("loss-spike", True)
