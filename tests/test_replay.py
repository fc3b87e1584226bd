"""A stored run gives, byte for byte, the answer that the live run gave."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from steadygrad.history import History
from steadygrad.records import Diagnosis, Fact, StepRecord
from steadygrad.replay import answer, load, replay
from steadygrad.session import Session
from steadygrad.store import Recorder, Run, to_json

HEAD = """
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
x = torch.randn(64, 8)
y = (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()
"""

SCRIPTS = {
    "healthy": """
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for step in range(120):
    loss = F.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
""",
    "nan": """
model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(60):
    p = model(x).softmax(1)
    if step > 40:
        p = p * (p > p.mean())
    loss = -torch.log(p.gather(1, y[:, None])).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
""",
    "gan": """
maker, judge = nn.Linear(4, 8), nn.Sequential(nn.Linear(8, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
make, judging = torch.optim.Adam(maker.parameters(), lr=1e-3), torch.optim.Adam(judge.parameters(), lr=1e-3)
for step in range(80):
    fake = maker(torch.randn(64, 4))
    judging.zero_grad()
    (F.softplus(-judge(x)).mean() + F.softplus(judge(fake.detach())).mean()).backward()
    judging.step()
    make.zero_grad()
    F.softplus(-judge(fake)).mean().backward()
    make.step()
""",
    "never cleared": """
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for step in range(80):
    F.cross_entropy(model(x), y).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
""",
    "lstm": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(2, 16, batch_first=True), nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])

model = Net()
optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-2)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 30, 0.5)
for step in range(70):
    loss = F.cross_entropy(model(x.view(64, 4, 2).repeat(1, 4, 1)), y)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_value_(model.parameters(), 0.5)
    optimizer.step()
    scheduler.step()
""",
    "batchnorm and a late layer": """
body, head = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Sigmoid()), nn.Linear(16, 4)
optimizer = torch.optim.SGD(body.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
for step in range(60):
    if step == 20:
        late = nn.Linear(4, 4)
        optimizer.add_param_group({"params": late.parameters()})
    z = head(body(x[2 * step % 60:][:2]))
    z = late(z) if step >= 20 else z
    loss = F.cross_entropy(z, y[2 * step % 60:][:2])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
""",
    "a scaler that skips": """
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
scaler = torch.amp.GradScaler("cpu", init_scale=2.0 ** 120, growth_interval=20)
for step in range(60):
    loss = F.cross_entropy(model(x), y)
    optimizer.zero_grad()
    scaler.scale(1000 * loss).backward()
    scaler.step(optimizer)
    scaler.update()
""",
    "updates by hand": """
w = torch.randn(8, 4, requires_grad=True)
for step in range(40):
    loss = F.cross_entropy(x @ w, y)
    loss.backward()
    with torch.no_grad():
        w -= 0.1 * w.grad
        w.grad = None
""",
    "no training": "print(model.sum()) if (model := x) is None else None\n",
}


@dataclass(frozen=True)
class Observed:
    """A script's live answer and where it was recorded."""

    folder: Path
    history: History
    answer: Diagnosis
    meta: dict


@pytest.fixture(scope="module", params=SCRIPTS)
def observed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    folder = tmp_path_factory.mktemp("replay")
    script = folder / "train.py"
    script.write_text(HEAD + SCRIPTS[request.param])
    session = Session(folder / "run", every=7, meta={"script": "train.py"})
    try:
        exec(compile(script.read_text(), str(script), "exec"), {"__name__": "__main__"})
    finally:
        live = session.close()
    yield Observed(folder / "run", session.history, live, session.meta)
    shutil.rmtree(folder)


def text(diagnosis: Diagnosis) -> str:
    return json.dumps(to_json({}, diagnosis), indent=1)


def test_observation_did_not_fail(observed: Observed) -> None:
    assert "observation_failed" not in observed.meta


def test_live_equals_replay_byte_for_byte(observed: Observed) -> None:
    with Run(observed.folder) as run:
        assert text(replay(run)) == text(observed.answer)


def test_live_equals_what_was_stored(observed: Observed) -> None:
    with Run(observed.folder) as run:
        stored = run.diagnosis()
    assert stored is not None
    assert text(stored) == text(observed.answer)


def test_replaying_twice_gives_the_same(observed: Observed) -> None:
    with Run(observed.folder) as run:
        assert text(replay(run)) == text(replay(run))


def test_the_loaded_history_is_the_live_one(observed: Observed) -> None:
    with Run(observed.folder) as run:
        loaded = load(run)
    live = observed.history
    assert loaded.steps == live.steps
    assert [dataclasses.astuple(p) for p in map(no_nan, loaded.parameters)] == [
        dataclasses.astuple(p) for p in map(no_nan, live.parameters)
    ]
    assert loaded.sites == live.sites
    assert [(o.index, o.type) for o in loaded.optimizers] == [(o.index, o.type) for o in live.optimizers]
    assert loaded.streams.keys() == live.streams.keys()
    for index, stream in live.streams.items():
        assert repr(loaded.streams[index].loss) == repr(stream.loss)
        assert repr(loaded.streams[index].grad_norm) == repr(stream.grad_norm)
        assert loaded.streams[index].missing.tolist() == stream.missing.tolist()
        assert [step for step, _ in loaded.streams[index].samples.all()] == [step for step, _ in stream.samples.all()]


def no_nan(info):
    return dataclasses.replace(info, init_rms=repr(info.init_rms))


EXPECTED = {
    "healthy": ("healthy", None),
    "nan": ("unhealthy", "unstable-operation"),
    "gan": ("healthy", None),
    "never cleared": ("unhealthy", "missing-zero-grad"),
    "lstm": ("healthy", None),
    "batchnorm and a late layer": ("unhealthy", "tiny-batch-batchnorm"),
    "no training": ("unknown", None),
}


def test_the_answers_are_worth_comparing(observed: Observed, request: pytest.FixtureRequest) -> None:
    """Equality of empty answers would prove nothing: the scripts do have what their names say."""
    name = request.node.callspec.params["observed"]
    verdict, cause = EXPECTED.get(name, (observed.answer.verdict, None))
    assert observed.answer.verdict == verdict
    if cause is not None:
        assert cause in [c.code for c in observed.answer.causes]
    steps = {"gan": 80, "no training": 0, "healthy": 120}.get(name)
    assert steps is None or observed.history.steps == steps


# -- runs cut short -----------------------------------------------------------------------------------------------


def test_an_empty_run_is_unknown(tmp_path: Path) -> None:
    Recorder(tmp_path / "run", {"script": "train.py"}).close()
    with Run(tmp_path / "run") as run:
        assert replay(run).verdict == "unknown"


def test_a_run_without_its_end_can_be_diagnosed(tmp_path: Path) -> None:
    """The process was killed: no diagnosis was stored, but the steps are there."""
    recorder = Recorder(tmp_path / "run", {"script": "train.py"})
    for step in range(1, 41):
        recorder.step(StepRecord(step=step, loss=float("nan") if step > 30 else 1.0))
    recorder.fact(Fact("origin", 31, {"why": "no source"}))
    recorder.flush()
    with Run(tmp_path / "run") as run:
        assert run.diagnosis() is None
        assert [s.code for s in replay(run).symptoms] == ["non-finite"]
    recorder.close()


def test_answer_of_nothing() -> None:
    assert answer(History()).verdict == "unknown"
