"""The short way through an ordinary step says what the long way says, of every way to train."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from idioms import IDIOMS
from test_monitor import Kept, mlp, reraise
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from steadygrad.attach import attached
from steadygrad.monitor import Monitor
from steadygrad.monitor.ordinary import Ordinary
from steadygrad.monitor.state import Stream
from steadygrad.monitor.streams import Streams
from steadygrad.monitor.waiting import TOGETHER, Passed, Waiting
from steadygrad.records import StepRecord

SHORT = ("forward", "backward", "total_norm", "clipped", "step")


class Counted(Kept):
    """A sink that counts the steps that came the short way."""

    def __init__(self) -> None:
        super().__init__()
        self.short = 0


def record(train: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> Counted:
    sink = Counted()

    def counting(step: Passed) -> StepRecord:
        sink.short += 1
        return made(step)

    with monkeypatch.context() as patch:
        made = Passed.record
        patch.setattr(Passed, "record", counting)
        torch.manual_seed(0)
        with attached(Monitor(sink, trace=False), reraise) as attachment:
            train()
            attachment.finish()
    return sink


def refuse(*_: Any) -> bool:
    return False


def fail(*_: Any) -> bool:
    raise ZeroDivisionError("our own fault")


def vars_of(a: Any) -> dict[str, Any]:
    return {field.name: getattr(a, field.name) for field in dataclasses.fields(a)}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True)
    if dataclasses.is_dataclass(a) and dataclasses.is_dataclass(b):
        return same(vars_of(a), vars_of(b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return bool(a == b or (a != a and b != b))


def differing(a: StepRecord, b: StepRecord) -> list[str]:
    found = [name for name in StepRecord.__slots__ if name != "detail" and not same(getattr(a, name), getattr(b, name))]
    x, y = a.detail, b.detail
    if (x is None) != (y is None):
        return [*found, "detail"]
    kinds = () if x is None else ("parameters", "sites", "batch")
    return found + [kind for kind in kinds if not same(dict(getattr(x, kind)), dict(getattr(y, kind)))]


def agree(some: Counted, others: Counted) -> None:
    assert len(some.steps) == len(others.steps)
    assert [differing(a, b) for a, b in zip(some.steps, others.steps, strict=True)] == [[]] * len(some.steps)
    assert [(f.kind, f.step) for f in some.facts] == [(f.kind, f.step) for f in others.facts]


@pytest.mark.parametrize("name", IDIOMS)
def test_both_ways_say_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    short = record(IDIOMS[name].train, monkeypatch)
    for method in SHORT:
        monkeypatch.setattr(Ordinary, method, refuse if method != "total_norm" else lambda *_: None)
    long = record(IDIOMS[name].train, monkeypatch)
    assert long.short == 0
    agree(short, long)


def training(*, clip: bool = True, steps: int = 60, each: Callable[[int], None] = lambda _: None) -> Callable[[], Any]:
    def train() -> list[Tensor]:
        model = mlp()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for step in range(1, steps + 1):
            each(step)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(torch.randn(16, 8)), torch.randint(0, 3, (16,))).backward()
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
        return [p.detach().clone() for p in model.parameters()]

    return train


@pytest.mark.parametrize("clip", [True, False])
def test_most_steps_of_a_usual_loop_go_the_short_way(clip: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = record(training(clip=clip), monkeypatch)
    looked_at = sum(r.detail is not None for r in sink.steps)
    assert sink.short >= 60 - 2 * looked_at  # the step before one that is looked at goes the long way too
    assert sink.short > 30


@pytest.mark.parametrize("method", SHORT)
def test_what_fails_the_short_way_is_done_the_long_way(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    short = record(training(), monkeypatch)
    monkeypatch.setattr(Ordinary, method, fail)
    agree(short, record(training(), monkeypatch))


def test_a_mode_of_the_script_sees_nothing_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    class Seen(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(getattr(func, "__name__", str(func)))
            return func(*args, **(kwargs or {}))

    def train() -> None:
        with Seen():
            training(clip=False, steps=30)()

    seen: list[str] = []
    torch.manual_seed(0)
    train()
    plain, seen = seen, []
    record(train, monkeypatch)
    assert [name for name in seen if name not in plain] == []
    assert seen.count("item") == plain.count("item")


def test_an_optimizer_that_got_other_parameters_is_looked_at_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = nn.Parameter(torch.ones(3))

    def train() -> None:
        model = mlp()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
        for step in range(40):
            if step == 14:
                optimizer.add_param_group({"params": [extra]})
            optimizer.zero_grad()
            loss = model(torch.randn(16, 8)).square().mean()
            (loss + extra.sum() if step >= 14 else loss).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()

    sink = record(train, monkeypatch)
    assert len(sink.table) == 5
    assert sink.steps[13].norms is not None and len(sink.steps[13].norms) == 4
    assert sink.steps[14].norms is not None and sink.steps[14].norms[4] > 1.7  # 3 ** 0.5


def test_a_step_that_raises_is_over_when_the_next_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    def train() -> None:
        model = mlp()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
        usual = optimizer.param_groups[0]["momentum"]
        for step in range(30):
            optimizer.zero_grad()
            model(torch.randn(16, 8)).square().mean().backward()
            optimizer.param_groups[0]["momentum"] = "much" if step == 13 else usual
            try:
                optimizer.step()
            except TypeError:
                assert step == 13

    sink = record(train, monkeypatch)
    assert [r.step for r in sink.steps] == list(range(1, 31))


def test_the_own_updates_of_a_script_go_the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, forward = [], Ordinary.forward
    monkeypatch.setattr(Ordinary, "forward", lambda *args: taken.append(forward(*args)) or taken[-1])
    record(IDIOMS["manual_update_through_data"].train, monkeypatch)
    assert taken and not any(taken)


def test_steps_that_wait_are_handed_on_in_order_and_before_anything_else() -> None:
    sink = Kept()
    waiting = Waiting(sink)
    waiting.passed(Passed(1, 0, 0.5, 0.1, 1.0, None, torch.ones(2), None, 2))
    waiting.step(StepRecord(2, loss=0.4, grad_norm=1.0))
    assert sink.steps == []
    waiting.parameters([])
    assert [r.step for r in sink.steps] == [1, 2]
    assert sink.steps[0].norms is not None and sink.steps[0].norms.tolist() == [1.0, 1.0]
    for step in range(3, 3 + TOGETHER):
        waiting.step(StepRecord(step, loss=0.4, grad_norm=1.0))
    assert len(sink.steps) == 2 + TOGETHER
    waiting.step(StepRecord(900, loss=0.4))  # without a gradient: not ordinary
    assert sink.steps[-1].step == 900


@pytest.mark.parametrize(("dropout", "copied"), [(0.0, False), (0.5, True)])
def test_the_random_state_is_copied_for_models_that_draw(
    dropout: float, copied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, backward = [], Ordinary.backward

    def looking(ordinary: Ordinary, *args: Any) -> bool:
        if ordinary.stream is not None:
            kept.append(ordinary._pending.rng is not None)
        return backward(ordinary, *args)

    def train() -> None:
        model = nn.Sequential(nn.Linear(8, 16), nn.Dropout(dropout) if dropout else nn.ReLU(), nn.Linear(16, 3))
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
        for _ in range(40):
            optimizer.zero_grad()
            model(torch.randn(16, 8)).square().mean().backward()
            optimizer.step()

    monkeypatch.setattr(Ordinary, "backward", looking)
    record(train, monkeypatch)
    assert len(kept) > 20
    assert all(state == copied for state in kept)


MIXED = {
    "one type": [torch.arange(6.0), torch.ones(2, 3)],
    "double": [torch.arange(6.0).double()],
    "two types": [torch.arange(6.0), torch.ones(4).bfloat16(), torch.full((3,), 0.3)],
    "sparse": [torch.eye(3).to_sparse(), torch.ones(2)],
    "with a zero-dimensional one": [torch.tensor(2.0), torch.ones(2)],
}


@pytest.mark.parametrize("kind", MIXED)
def test_a_total_norm_asked_for_in_an_ordinary_step_is_torchs_to_the_bit(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def norm() -> Any:
        try:
            return nn.utils.get_total_norm(MIXED[kind]), nn.utils.get_total_norm(MIXED[kind], 3.0)
        except (RuntimeError, NotImplementedError) as error:
            return type(error)

    found = []
    record(training(clip=False, steps=30, each=lambda _: found.append(norm())), monkeypatch)
    assert found == [norm()] * 30


def test_another_clip_between_norm_and_clip_is_not_overlooked(monkeypatch: pytest.MonkeyPatch) -> None:
    def train() -> list[Tensor]:
        torch.manual_seed(0)
        model = mlp()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
        for _ in range(30):
            optimizer.zero_grad()
            model(torch.randn(16, 8)).square().mean().backward()
            total = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
            for p in model.parameters():
                p.grad = 2.0 * p.grad if p.grad is not None else None
            with torch.no_grad():
                nn.utils.clip_grads_with_norm_(model.parameters(), 0.1, total)
            optimizer.step()
        return [p.detach().clone() for p in model.parameters()]

    plain, watched = train(), []
    sink = record(lambda: watched.extend(train()), monkeypatch)
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))
    assert len(sink.steps) == 30


def test_a_step_that_fails_the_short_way_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What raises has changed nothing by then."""
    sole = Streams.sole

    def counted() -> set[tuple[int, int, int]]:
        seen: list[Stream] = []
        with monkeypatch.context() as patch:
            patch.setattr(Streams, "sole", lambda *args: seen.append(sole(*args)) or seen[-1])
            record(training(), monkeypatch)
        return {(s.steps, s.spread.count, s.steepness.count) for s in seen if s is not None}

    def failing(*_: Any) -> Passed:
        raise ValueError

    usual = counted()
    assert len(usual) == 1
    monkeypatch.setattr("steadygrad.monitor.ordinary.Passed", failing)
    assert counted() == usual
