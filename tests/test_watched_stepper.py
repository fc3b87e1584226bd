"""What an observer sees of the library's own stepper: the gradients before its clip, measured once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import steadygrad
from steadygrad import clip, notices, stats
from steadygrad.records import Fact, StepRecord
from steadygrad.session import Session


class Kept(Session):
    """A session that keeps every record and fact."""

    def __init__(self) -> None:
        self.records: list[StepRecord] = []
        self.facts: list[Fact] = []
        super().__init__(every=2, on_step=self.records.append)

    def fact(self, fact: Fact) -> None:
        self.facts.append(fact)
        super().fact(fact)


def train(clipper: clip.Clipper | None, *, fused: bool, steps: int = 6, bad: int = -1) -> Kept:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=fused)
    with Kept() as session:
        stepper = steadygrad.Stepper(optimizer, clip=clipper)
        for step in range(steps):
            loss = 100 * model(torch.randn(32, 8) if step != bad else torch.full((32, 8), torch.inf)).square().mean()
            stepper.step(loss)
    return session


def by_hand(steps: int = 6) -> list[float]:
    """Gradient norms of the same training, clipped by torch."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    norms = []
    for _ in range(steps):
        optimizer.zero_grad()
        (100 * model(torch.randn(32, 8)).square().mean()).backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)))
        optimizer.step()
    return norms


@pytest.mark.parametrize("fused", [True, False])
def test_norms_are_those_before_the_clip_whether_folded_or_not(fused: bool) -> None:
    session = train(clip.GlobalNorm(0.5), fused=fused)
    expected = by_hand()
    assert [r.grad_norm for r in session.records] == pytest.approx(expected, rel=1e-4)
    assert [r.clip.norm for r in session.records] == pytest.approx(expected, rel=1e-4)
    assert [r.clip.coefficient for r in session.records] == pytest.approx([0.5 / n for n in expected], rel=1e-3)
    detail = next(r for r in session.records if r.detail is not None)
    assert detail.detail.parameters["grad_l1"].sum() >= detail.grad_norm * 0.99  # of the unclipped gradients as well
    assert "ineffective-clipping" not in {s.code for s in session.diagnosis().symptoms} or min(expected) > 0.5


def test_a_clipper_for_each_part_of_the_model_is_one_joint_clip() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with Kept() as session:
        for _ in range(3):
            optimizer.zero_grad()
            (100 * model(torch.randn(32, 8)).square().mean()).backward()
            before = torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item()
            for part in (model[0], model[2]):
                clip.GlobalNorm(0.5)(part)
            optimizer.step()
            assert session.history.main is not None
            assert session.records[-1].grad_norm == pytest.approx(before, rel=1e-4)
            assert session.records[-1].clip.norm == pytest.approx(before, rel=1e-4)


def test_an_unclipped_stepper_is_no_clip() -> None:
    session = train(None, fused=False)
    assert all(r.clip is None and r.grad_norm > 0 for r in session.records)


def test_the_gradients_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    plain: Callable[..., torch.Tensor] = stats.norms
    monkeypatch.setattr(stats, "norms", lambda tensors: calls.append(len(tensors)) or plain(tensors))
    session = train(clip.GlobalNorm(0.5), fused=True, steps=9)
    parameters = len(session.history.parameters)
    assert calls.count(parameters) <= 1  # after the first backward, when no clip has been seen yet


def test_a_skipped_step_leaves_no_mark_on_the_next_one() -> None:
    session = train(clip.GlobalNorm(0.5), fused=False, bad=3)
    assert [r.step for r in session.records] == [1, 2, 3, 4, 5]
    assert all(r.loss is not None and r.loss < 1e4 for r in session.records)
    assert [f.data["reason"] for f in session.facts if f.kind == "skipped-step"] == ["non-finite loss"]


def test_a_measurement_is_no_clip() -> None:
    """For logging, say; or because the caller decides otherwise."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    clipper = clip.GlobalNorm(0.5)
    with Kept() as session:
        for step in range(4):
            optimizer.zero_grad()
            (100 * model(torch.randn(32, 8)).square().mean()).backward()
            info = clipper.measure(model)
            if step % 2:
                clipper.apply(model, info)
            optimizer.step()
            assert session.history.main is not None
            assert session.records[-1].grad_norm == pytest.approx(float(info.norm_before), rel=1e-5)
    assert [r.clip is not None for r in session.records] == [False, True, False, True]


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("defer", [True, False])
def test_a_clip_is_told_once_a_step_and_not_for_steps_that_the_host_skips(fold: bool, defer: bool) -> None:
    told: list[float] = []

    def tell(_: object, max_norm: float, __: object) -> None:
        told.append(max_norm)

    model = nn.Linear(8, 1)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    stepper = steadygrad.Stepper(optimizer, clip=clip.GlobalNorm(0.5), fold=fold, defer=defer)
    notices.clip_measured.append(tell)
    try:
        for factor in (1.0, 1.0, torch.nan, 1.0):
            stepper.step(factor * model(torch.ones(4, 8)).square().mean())
    finally:
        notices.clip_measured.remove(tell)
    assert told == [0.5] * (4 if fold and defer else 3)


@pytest.mark.parametrize("bad", [3, 5])
def test_a_step_that_the_device_skips_is_told_when_its_decision_is_read(bad: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    with Kept() as session:
        stepper = steadygrad.Stepper(torch.optim.AdamW(model.parameters(), fused=True), defer=True)
        for step in range(6):
            x = torch.randn(32, 8) if step != bad else torch.full((32, 8), torch.inf)
            result = stepper.step(100 * model(x).square().mean())
        assert result.skipped == (bad == 5)  # reading it is enough, where no step follows
        stepper.settle()
    skipped = [f for f in session.facts if f.kind == "skipped-step"]
    assert [(f.step, f.data) for f in skipped] == [(bad + 1, {"reason": "non-finite loss", "recorded": True})]
    assert [r.step for r in session.records] == [1, 2, 3, 4, 5, 6], "the kernel was called, so it is recorded"
    finite = [r for r in session.records if r.step != bad + 1]
    assert all(r.loss < 1e4 and r.grad_norm < 1e4 for r in finite), "the news come late and disturb no other step"


def test_a_step_given_up_because_the_guard_went_back_is_told() -> None:
    reasons: list[tuple[str, bool]] = []

    def tell(reason: str, recorded: bool) -> None:
        reasons.append((reason, recorded))

    torch.manual_seed(0)
    model = nn.Linear(8, 1)
    budget = steadygrad.guard.Budget(skips=0, damps=0)
    guard = steadygrad.Guard(warmup=5, snapshot_every=5, budget=budget)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    stepper = steadygrad.Stepper(optimizer, guard=guard, model=model, defer=True)
    notices.step_skipped.append(tell)
    try:
        for step in range(12):
            stepper.step(model(torch.ones(4, 8)).square().mean() * (torch.nan if step == 10 else 1.0))
    finally:
        notices.step_skipped.remove(tell)
    assert reasons == [("non-finite loss", True), ("rolled back", False)]


def test_the_last_evaluation_of_a_closure_is_the_clip_of_its_step() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1)), torch.randn(32, 8)
    seen: list[float] = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        seen.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 0.05)))
        return loss

    with Kept() as session:
        optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
        for _ in range(3):
            optimizer.step(closure)  # type: ignore[arg-type]
            assert session.history.main is not None
            assert session.records[-1].clip.norm == pytest.approx(seen[-1], rel=1e-4)
            assert session.records[-1].clip.coefficient == pytest.approx(min(1.0, 0.05 / seen[-1]), rel=1e-4)
    assert len(seen) > 6


def test_a_closure_that_turns_bad_is_told_as_a_skipped_step() -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(8, 1), torch.randn(32, 8)
    factors = iter([1.0, 1.0, torch.nan, 1.0, 1.0, 1.0])
    with Kept() as session:
        stepper = steadygrad.Stepper(torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=2, max_eval=2), model=model)
        for _ in range(3):
            stepper.step(lambda: model(x).square().mean() * next(factors))
    assert [f.data for f in session.facts if f.kind == "skipped-step"] == [{"reason": "non-finite loss"}]
    assert len(session.records) == 2 and all(r.loss < 10 for r in session.records)


def test_listeners_go_with_the_session() -> None:
    before = list(notices.clip_measured), list(notices.step_skipped)
    train(None, fused=False, steps=1)
    assert (notices.clip_measured, notices.step_skipped) == before
