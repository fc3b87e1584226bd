"""Advice on thresholds."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import steadygrad
from steadygrad.clip import GlobalNorm, advise


def lognormal(middle: float, steps: int = 500, spikes: int = 5) -> NDArray[np.float64]:
    generator = np.random.default_rng(0)
    norms = middle * np.exp(0.3 * generator.standard_normal(steps))
    norms[:: steps // spikes] *= 50
    return norms


@pytest.mark.parametrize("middle", [0.01, 0.7, 3.0, 500.0])
@pytest.mark.parametrize("recurrent", [False, True])
def test_the_share_told_is_the_share_clipped(middle: float, recurrent: bool) -> None:
    norms = lognormal(middle)
    advice = advise(norms, recurrent=recurrent)
    clipper, leaf, clipped = GlobalNorm(advice.threshold, eps=0.0), torch.zeros(1, dtype=torch.float64), 0
    leaf.requires_grad_()
    for norm in norms:
        leaf.grad = torch.full((1,), norm, dtype=torch.float64)
        clipped += bool(clipper([leaf]).clipped)
    assert clipped / len(norms) == advice.clipped
    assert 0.005 < advice.clipped < 0.5
    for level in advice.levels:
        above = norms[norms > level.threshold]
        assert level.clipped == len(above) / len(norms)
        assert level.factor == pytest.approx(np.median(level.threshold / above) if len(above) else 1.0)


def test_one_is_proposed_where_it_acts_on_some_steps_but_not_on_most() -> None:
    assert advise(lognormal(0.7)).threshold == 1.0
    assert advise(lognormal(3.0)).threshold == pytest.approx(4.4, abs=0.5)
    assert advise(lognormal(0.001)).threshold == pytest.approx(0.0015, abs=0.0003)


def test_recurrent_networks_stay_between_one_and_two_where_that_acts() -> None:
    assert advise(lognormal(0.7), recurrent=True).threshold == pytest.approx(1.0, abs=0.1)
    assert advise(lognormal(1.1), recurrent=True).threshold == pytest.approx(1.6, abs=0.2)
    assert advise(lognormal(1.8), recurrent=True).threshold == 2.0
    assert advise(lognormal(30.0), recurrent=True).threshold > 20
    assert "1.0 to 2.0" in str(advise(lognormal(1.0), recurrent=True))


def test_spikes_do_not_move_the_threshold() -> None:
    few, many = advise(lognormal(5.0, spikes=1)), advise(lognormal(5.0, spikes=50))
    assert few.threshold == pytest.approx(many.threshold, rel=0.1)
    assert many.clipped > few.clipped


def test_levels_go_from_far_too_small_to_far_too_large() -> None:
    advice = advise(lognormal(2.0))
    assert [level.threshold for level in advice.levels] == sorted(level.threshold for level in advice.levels)
    assert advice.levels[0].clipped == 1.0
    assert advice.levels[0].factor == pytest.approx(0.1, rel=0.2)
    assert advice.levels[-1].clipped == 0.0


def test_few_steps_give_the_usual_start_and_say_so() -> None:
    advice = advise([3.0] * 5)
    assert advice.threshold == 1.0
    assert math.isnan(advice.clipped)
    assert "Only 5 steps" in str(advice)


def test_what_depends_on_rate_batch_and_optimizer_is_said() -> None:
    text = str(advise(lognormal(5.0), lr=0.1, batch_size=32, optimizer="SGD"))
    threshold = advise(lognormal(5.0)).threshold
    assert f"at most {0.1 * threshold:.3g}" in text
    assert f"(128), norms that are mostly noise halve: expect a threshold between {threshold / 2:.2g}" in text
    adam = str(advise(lognormal(5.0), lr=0.1, optimizer="AdamW"))
    assert "with AdamW a constant factor cancels" in adam
    assert "plain SGD" not in adam


def test_bad_steps_are_counted_and_not_used() -> None:
    norms = lognormal(0.7)
    with_bad = np.concatenate([norms, [math.nan, math.inf, 0.0]])
    assert advise(with_bad).threshold == advise(norms).threshold
    assert "2 steps had a norm of NaN or Inf" in str(advise(with_bad))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "one norm per step"),
        ([[1.0, 2.0]], "one norm per step"),
        ([1.0, -2.0], "0 or more"),
        (["a"], "takes gradient norms"),
        (3, "takes gradient norms"),
    ],
)
def test_bad_input(given: object, message: str) -> None:
    with pytest.raises(steadygrad.InputError, match=message):
        advise(given)  # type: ignore[arg-type]


@pytest.mark.parametrize("recurrent", [False, True])
def test_a_stored_run_is_read(tmp_path: Path, recurrent: bool) -> None:
    torch.manual_seed(0)
    model: nn.Module = nn.RNN(4, 8) if recurrent else nn.Linear(4, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    norms = []
    with steadygrad.watch(model, optimizer, folder=tmp_path):
        for _ in range(30):
            out = model(torch.randn(6, 3, 4))
            loss = (out[0] if recurrent else out).square().mean()
            optimizer.zero_grad()
            loss.backward()
            norms.append(float(GlobalNorm(math.inf)(model).norm_before))
            optimizer.step()
    wanted = advise(norms, recurrent=recurrent, lr=0.05, optimizer="SGD")
    found = advise(tmp_path)
    assert found.threshold == wanted.threshold
    assert found.clipped == pytest.approx(wanted.clipped, abs=0.04)
    assert ("recurrent networks" in str(found)) is recurrent
    assert "learning rate of 0.05" in str(found)
    with steadygrad.Run(tmp_path) as run:
        assert advise(run) == found
        with pytest.raises(steadygrad.InputError, match="no gradient norms of optimizer 1"):
            advise(run, stream=1)


def test_advice_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None\nfrom steadygrad.clip import advise\nprint(advise([1.0, 2.0] * 20))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "max_norm=" in done.stdout
