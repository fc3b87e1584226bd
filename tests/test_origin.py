"""The operation that made the first NaN is named, with its line and module, and looking for it changes nothing."""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from steadygrad import origin
from steadygrad.origin import forked
from steadygrad.session import Session

HEAD = """
import torch, sys, math
from torch import nn
import torch.nn.functional as F
torch.manual_seed(0)
x = torch.randn(6, 4)
"""


@dataclass(frozen=True)
class Case:
    """A script with one fault in the line that ends in ``# here``, and what must be said of it."""

    body: str
    op: str
    module: str = ""
    backward: bool = False
    module_named: bool = True


NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.head = nn.Linear(4, 4), nn.Linear(4, 1)
        self.inner = Inner()
    def forward(self, x):
        return self.head(self.inner(self.fc(x)))
class Inner(nn.Module):
    def forward(self, x):
        {inner}
net = Net()
opt = torch.optim.SGD(net.parameters(), 0.1)
for step in range(3):
    opt.zero_grad()
    out = net(x)
    loss = out.square().mean()
    loss.backward()
    opt.step()
"""
PLAIN = """
net = nn.Linear(4, 4)
opt = torch.optim.SGD(net.parameters(), 0.1)
for step in range(3):
    opt.zero_grad()
    {loss}
    loss.backward()
    opt.step()
"""

AUGMENTED = """
net = nn.Linear(4, 4)
opt = torch.optim.SGD(net.parameters(), 0.0)
def augment(x):
    return x * (1000.0 if torch.rand(()) < 0.05 else 0.1)
for step in range(100):
    opt.zero_grad()
    loss = torch.exp(net(augment(x))).mean()  # here
    loss.backward()
    opt.step()
"""

CASES = {
    "several statements on one line": Case("""
net = nn.Linear(4, 4); opt = torch.optim.SGD(net.parameters(), 0.1)
for step in range(3):
    loss = torch.log(F.relu(net(x)) * 0).mean()  # here
    opt.zero_grad(); loss.backward(); opt.step()
""", "log"),
    "random augmentation on the way into the model": Case(AUGMENTED, "exp"),
    "log of zero in the loss": Case(PLAIN.format(loss="loss = torch.log(F.relu(net(x)) * 0).mean()  # here"), "log"),
    "sqrt at zero, backward only": Case(PLAIN.format(
        loss="p = net(x)\n    root = (p * 0).sqrt()  # here\n    loss = root.mean()"), "sqrt", backward=True),
    "norm at zero, backward only": Case(PLAIN.format(
        loss="p = net(x) * 0\n    loss = (p.square().sum(1) ** 0.5).mean()  # here"), "pow", backward=True),
    "division by zero in a module": Case(NET.format(inner="return x / (x - x)  # here"), "div", "inner"),
    "exp overflow in a module": Case(NET.format(inner="return torch.exp(x * 1e4).sum(1, keepdim=True) - torch.exp("
                                     "x * 1e4)  # here"), "exp", "inner"),
    "zero times infinity": Case(PLAIN.format(
        loss="far = torch.full((6, 4), float('inf'))\n    loss = (net(x) * 0 * far).mean()  # here"), "mul"),
    "fully masked softmax": Case(NET.format(
        inner="return x.masked_fill(torch.ones(6, 4).bool(), float('-inf')).softmax(-1)  # here"), "softmax", "inner"),
    "a harmless mask before the fault": Case(NET.format(
        inner="""mask = torch.ones(6, 4).triu(1).bool()
        a = x.masked_fill(mask, float('-inf')).softmax(-1)
        return a + torch.log(a * 0 - 1)  # here"""), "log", "inner"),
    "in a function": Case("""
net = nn.Linear(4, 4)
opt = torch.optim.SGD(net.parameters(), 0.1)
def inner(p):
    return torch.acos(p.abs() + 2)  # here
def outer(p, scale=1.0):
    q = p * scale
    return inner(q).mean()
def step():
    opt.zero_grad()
    loss = outer(net(x), scale=2.0)
    loss.backward()
    opt.step()
for i in range(2):
    step()
""", "acos"),
    "nested calls in the call to backward": Case("""
net = nn.Linear(4, 4)
opt = torch.optim.SGD(net.parameters(), 0.1)
def entropy(p):
    return -(p * p.log()).sum(1)  # here
for i in range(2):
    opt.zero_grad()
    entropy(F.relu(net(x)) * 0).mean().backward()
    opt.step()
""", "log"),
    "in a training_step": Case("""
class Trainer:
    def __init__(self):
        self.net = nn.Linear(4, 4)
        self.opt = torch.optim.SGD(self.net.parameters(), 0.1)
    def loss(self, p):
        return p.rsqrt().mean()  # here
    def training_step(self, batch):
        p = self.net(batch[0]).abs() * -1 - 1
        return self.loss(p)
    def fit(self):
        for i in range(2):
            self.opt.zero_grad()
            loss = self.training_step((x, None))
            loss.backward()
            self.opt.step()
Trainer().fit()
""", "rsqrt"),
    "loss in forward": Case("""
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
    def forward(self, x, y=None):
        p = self.fc(x)
        return p, (p.sigmoid() * 0).log().mean()  # here
net = Net()
opt = torch.optim.SGD(net.parameters(), 0.1)
for i in range(2):
    opt.zero_grad()
    p, loss = net(x)
    loss.backward()
    opt.step()
""", "log"),
    "handed through a trainer's calls": Case("""
class Strategy:
    def backward(self, loss, *more):
        loss = loss / 2
        loss.backward(*more)
class Trainer:
    def fit(self, module, inputs):
        for _ in range(2):
            self.step(module, inputs)
    def step(self, module, inputs):
        loss = module.training_step(inputs)
        del inputs
        self.call("backward", loss)
        opt.step()
        opt.zero_grad()
    def call(self, what, *args):
        return getattr(Strategy(), what)(*args)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
    def forward(self, x):
        return self.fc(x)
    def training_step(self, x):
        return torch.log(self(x) * 0).mean()  # here
net = Net()
opt = torch.optim.SGD(net.parameters(), 0.1)
Trainer().fit(net, x)
""", "log"),
    "kept in a result by a trainer": Case("""
class Result:
    def __init__(self, loss):
        self.loss = loss
class Closure:
    def __init__(self, step, backward):
        self.step, self.backward = step, backward
    def __call__(self):
        result = self.step()
        self.backward(result.loss)
def training_step():
    out = net(x)
    loss = torch.sqrt(out * 0).mean()  # here
    return Result(loss)
net = nn.Linear(4, 4)
opt = torch.optim.SGD(net.parameters(), 0.1)
for i in range(2):
    opt.zero_grad()
    Closure(training_step, lambda loss: loss.backward())()
    opt.step()
""", "sqrt", backward=True),
    "an attribute of the trainer": Case("""
class Trainer:
    def train(self):
        for i in range(2):
            opt.zero_grad()
            with torch.autocast("cpu", enabled=False):
                out = net(x)
                self.loss = torch.log(out * 0).mean()  # here
            self.loss.backward()
            opt.step()
net = nn.Linear(4, 4)
opt = torch.optim.SGD(net.parameters(), 0.1)
Trainer().train()
""", "log"),
    "accumulated over a list": Case("""
net = nn.Linear(4, 4)
opt = torch.optim.SGD(net.parameters(), 0.1)
for i in range(2):
    opt.zero_grad()
    losses = []
    for row in x:
        losses.append(torch.log(net(row) * 0).sum())  # here
    total = sum(losses)
    total.backward()
    opt.step()
""", "log"),
}  # fmt: skip


def execute(tmp_path: Path, source: str) -> tuple[dict[str, Any], str]:
    path = tmp_path / "train.py"
    path.write_text(source)
    with Session() as session, contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        runpy.run_path(str(path))
    assert "observation_failed" not in session.meta
    facts = session.history.facts("origin")
    return (dict(facts[0].data) if facts else {}), source


def line_of(source: str) -> int:
    return next(i for i, line in enumerate(source.splitlines(), 1) if "# here" in line)


@pytest.mark.parametrize("name", CASES)
def test_the_operation_and_its_place_are_named(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    found, source = execute(tmp_path, HEAD + case.body)
    assert found["found"], found
    assert case.op in found["op"], found
    assert found["source"] == f"train.py:{line_of(source)}", found
    assert "# here" in found["code"]
    assert found.get("module", "") == case.module
    assert found.get("backward", False) is case.backward


def test_a_mask_that_does_no_harm_is_no_fault(tmp_path: Path) -> None:
    inner = "return x.masked_fill(torch.ones(6, 4).triu(1).bool(), float('-inf')).softmax(-1)"
    found, _ = execute(tmp_path, HEAD + NET.format(inner=inner))
    assert found == {}


def test_parameters_that_were_bad_before_are_named(tmp_path: Path) -> None:
    body = PLAIN.format(loss="net.weight.data[0, 0] = float('nan')\n    loss = net(x).mean()")
    found, _ = execute(tmp_path, HEAD + body)
    assert found["parameter"] == "weight"


WITNESS = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.norm, self.noise = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)
        self.calls = []
    def forward(self, x):
        self.calls.append(len(self.calls))
        print("forward", len(self.calls), flush=True)
        log.write("forward\\n"); log.flush()
        return self.noise(self.norm(self.fc(x)))
log = open({log!r}, "w")
net, kept = Net(), []
opt = torch.optim.Adam(net.parameters(), 0.1)
for step in range(4):
    opt.zero_grad()
    out = net(x)
    kept.append(out.sum().item())
    loss = torch.log(out.abs().mean() * (step != 2))
    loss.backward()
    if step != 2:
        opt.step()
log.close()
state = (net.state_dict(), opt.state_dict(), [p.grad for p in net.parameters()], torch.get_rng_state(), kept, net.calls)
"""


def flat(value: Any) -> list[Any]:
    if isinstance(value, torch.Tensor):
        return [value.dtype, value.contiguous().view(-1).view(torch.uint8).tolist()]
    if isinstance(value, Mapping):
        return [part for item in value.items() for part in flat(item)]
    if isinstance(value, list | tuple):
        return [part for item in value for part in flat(item)]
    return [value]


def test_the_scripts_state_and_files_are_untouched(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, log = tmp_path / "train.py", tmp_path / "log.txt"
    path.write_text(HEAD + WITNESS.format(log=str(log)))
    seen = []
    for watched in (False, True):
        with Session() if watched else contextlib.nullcontext() as session, warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            state = runpy.run_path(str(path))["state"]
        seen.append((flat(state), capfd.readouterr().out, log.read_text()))
    assert session is not None
    assert session.history.facts("origin")[0].data["op"] == "log"
    assert seen[0] == seen[1]


@pytest.mark.parametrize("how", ["exec", "lambda"])
def test_source_that_cannot_be_read_is_said(how: str) -> None:
    w = torch.zeros(3, requires_grad=True)
    code = "loss = w.log().sum()\nloss.backward()\n"
    with Session() as session:
        optimizer = torch.optim.SGD([w], 0.1)
        if how == "exec":
            exec(compile(code, "<string>", "exec"), {"w": w})
        else:
            back = eval("lambda: w.log().sum().backward()", {"w": w})
            back()
        optimizer.step()
    found = session.history.facts("origin")[0].data
    assert not found["found"]
    assert "source" in found["why"]
    said = {check.check: check.why for check in session.diagnosis().checks_not_run}
    assert said["unstable-operation"] == f"where the first NaN or Inf came from is not known: {found['why']}"


def test_a_replay_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forked, "TIMEOUT_SECONDS", 0.3)
    started = time.monotonic()
    found = origin.in_forked_copy(lambda: time.sleep(60) or {})
    assert time.monotonic() - started < 10
    assert "did not finish" in found["why"]


def test_a_replay_that_fails_or_dies_is_said() -> None:
    def fail() -> dict[str, Any]:
        raise RuntimeError("no such data")

    assert "RuntimeError: no such data" in origin.in_forked_copy(fail)["why"]
    assert "why" in origin.in_forked_copy(lambda: os._exit(3))
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_large_answers_come_back_whole() -> None:
    assert len(origin.in_forked_copy(lambda: {"text": "x" * 300_000})["text"]) == 300_000


def test_it_is_looked_for_twice_at_most(tmp_path: Path) -> None:
    body = PLAIN.format(loss="loss = torch.log(net(x) * 0).mean()").replace("opt.step()", "pass").replace("(3)", "(9)")
    (tmp_path / "train.py").write_text(HEAD + body)
    with Session() as session, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        runpy.run_path(str(tmp_path / "train.py"))
    assert len(session.history.facts("origin")) <= 2


def test_not_looked_for_when_switched_off() -> None:
    w = torch.zeros(3, requires_grad=True)
    with Session(trace=False) as session:
        w.log().sum().backward()
    assert not session.history.facts("origin")


def test_half_precision_ranges_are_evidence(tmp_path: Path) -> None:
    body = PLAIN.format(loss="loss = (net(x) * 1e3).half().square().float().mean()  # here")
    found, _ = execute(tmp_path, HEAD + body)
    assert found["dtype"] == "float16"
    assert found["result"] == "inf"
    assert found["inputs"][0]["max"] > 100


def test_modules_stay_as_they_are() -> None:
    net = nn.Linear(2, 2)
    with Session() as session, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        (net(torch.ones(1, 2)) * 0).log().sum().backward()
    assert session.history.facts("origin")
    assert not net._forward_hooks
