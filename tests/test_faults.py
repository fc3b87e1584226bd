"""Injected faults are what they say, as often as they say, and the same again after a restart."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from training import batches, mse, network

from steadygrad import InputError
from steadygrad.faults import KINDS, Faults


def test_faults_come_at_their_rates_and_follow_from_the_step_alone() -> None:
    rates = {"spike": 0.1, "nan-loss": 0.05}
    faults = Faults(seed=3, rates=rates)
    kinds = [faults.at(step) for step in range(4000)]
    count = Counter(kinds)
    assert set(count) == {"", *rates}
    for kind, rate in rates.items():
        assert count[kind] / 4000 == pytest.approx(rate, abs=4 * math.sqrt(rate / 4000))
    again = Faults(seed=3, rates=rates)
    assert [again.at(step) for step in reversed(range(4000))] == kinds[::-1]
    assert [Faults(seed=4, rates=rates).at(step) for step in range(4000)] != kinds


@pytest.mark.parametrize("kind", KINDS)
def test_each_fault_is_what_it_says(kind: str) -> None:
    faults = Faults(rates={kind: 1.0}, size=1e4)
    model = network()
    (x, y), = batches(1)  # fmt: skip
    given = faults.batch(0, x)
    clean = mse(model, (x, y))
    loss = faults.loss(0, mse(model, (given, y)), model.parameters())
    loss.backward()
    gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    changed = (given != x).sum().item()
    if kind in ("nan-gradient", "inf-gradient"):
        assert loss.item() == clean.item()
        bad = gradients.isnan() if kind == "nan-gradient" else gradients.isinf()
        assert bad.sum() == 1 == (~gradients.isfinite()).sum()
    elif kind == "nan-loss":
        assert loss.isnan() and gradients.isnan().all()
    elif kind == "inf-loss":
        assert loss.item() == math.inf and gradients.isfinite().all()
    elif kind == "spike":
        assert loss.item() == pytest.approx(1e4 * clean.item(), rel=1e-5)
    elif kind == "corrupt-batch":
        assert changed == x.numel() // 10
        assert given.max() == 1e4 and gradients.isfinite().all()
    else:
        assert changed == given.isnan().sum().item() == 1
    assert x.isfinite().all(), "the given batch is left alone"


def test_without_a_fault_everything_passes_through() -> None:
    faults = Faults(rates={})
    x = torch.ones(3, requires_grad=True)
    assert faults.batch(0, x) is x
    loss = x.sum()
    assert faults.loss(0, loss) is loss
    assert faults.at(7) == ""


@pytest.mark.parametrize("rates", [{"typo": 0.1}, {"spike": -0.1}, {"spike": 0.6, "nan-loss": 0.6}])
def test_impossible_faults_are_named(rates: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"unknown faults: typo|shares of the steps"):
        Faults(rates=rates)
