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


def test_listeners_go_with_the_session() -> None:
    before = list(notices.clip_measured), list(notices.step_skipped)
    train(None, fused=False, steps=1)
    assert (notices.clip_measured, notices.step_skipped) == before
