"""The learning-rate range test: the sweep leaves the script as it is, and what is read off it is right."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from steadygrad.errors import InputError
from steadygrad.figures.rangetest import range_test_chart
from steadygrad.launch import Target
from steadygrad.lrfind import Curve, Enough, RangeTestOptions, Sweep, _read
from steadygrad.schedules import Geometric, ScheduledLR
from steadygrad.schedules.rangetest import Divergence, RangeTest, read_range_test
from steadygrad.session import Session
from steadygrad.terminal.rangetest import print_range_test

# -- reading a sweep ----------------------------------------------------------------------------------------------


def sweep_of(loss: Callable[[float], float], *, steps: int = 100, noise: float = 0.0) -> RangeTest:
    """``loss`` is a function of log10 of the rate."""
    rates = [Geometric(steps - 1, start=1e-6, end=10)(t) for t in range(steps)]
    drawn = np.random.default_rng(0).normal(size=steps) * noise
    return read_range_test(rates, [loss(math.log10(rate)) + e for rate, e in zip(rates, drawn, strict=True)])


def valley(x: float) -> float:
    """Falls fastest at 1e-3, by tanh; rises from about 0.1 on."""
    return 1.5 - math.tanh(2 * (x + 3)) + 10 ** (3 * (x + 0.5))


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.1])
def test_the_steepest_and_the_lowest_rate_are_found(noise: float) -> None:
    found = sweep_of(valley, noise=noise)
    assert found.complete
    assert found.reason == ""
    assert abs(math.log10(found.suggested or 1) + 3) < 0.1 + 3 * noise
    xs = np.linspace(-6, 1, 10001)
    lowest = xs[np.argmin([valley(x) for x in xs])]
    assert abs(math.log10(found.lowest or 1) - lowest) < 0.2 + 10 * noise  # the valley's floor is flat
    assert found.careful == min(found.suggested, found.lowest / 10)  # type: ignore[operator,type-var]


def test_slopes_are_with_respect_to_the_logarithm_of_the_rate() -> None:
    """Per unit of the rate itself this curve is steepest at its very start, five decades too low."""
    found = sweep_of(lambda x: 1.5 - math.tanh(0.5 * (x + 1)))
    rates, losses = found.rates, found.losses
    linear = rates[1:][np.argmin(np.diff(losses) / np.diff(rates))]
    assert linear < 1e-5
    assert found.steepest == pytest.approx(0.1, rel=0.3)


@given(st.floats(0.1, 1000), st.floats(-1000, 1000))
def test_scale_and_offset_of_the_loss_do_not_matter(scale: float, offset: float) -> None:
    plain, moved = sweep_of(valley), sweep_of(lambda x: offset + scale * valley(x))
    assert moved.steepest == pytest.approx(plain.steepest, rel=0.2)
    assert moved.lowest == pytest.approx(plain.lowest, rel=0.2)


def test_the_end_shooting_up_does_not_move_the_answer() -> None:
    calm = sweep_of(lambda x: min(valley(x), 3.0))
    wild = sweep_of(lambda x: valley(x) if x < 0.2 else 1e30)
    assert wild.steepest == pytest.approx(calm.steepest, rel=0.2)
    assert wild.lowest == pytest.approx(calm.lowest, rel=0.2)


def test_what_cannot_be_read_is_said() -> None:
    flat = sweep_of(lambda x: 2.3, noise=0.1)
    assert flat.suggested is None
    assert "never fell" in flat.reason
    assert sweep_of(lambda x: 5.0).suggested is None
    rising = sweep_of(lambda x: 1 + 10**x)
    assert rising.suggested is None
    assert "begin with lower rates" in rising.reason
    short = sweep_of(valley, steps=5)
    assert short.suggested is None
    assert "only 5 updates" in short.reason
    assert read_range_test([], []).suggested is None
    broken = sweep_of(lambda x: math.nan)
    assert broken.suggested is None
    assert "only 0 updates" in broken.reason


def test_a_loss_that_is_not_finite_ends_the_curve_and_completes_it() -> None:
    found = sweep_of(lambda x: 1.5 - math.tanh(2 * (x + 3)) if x < -1 else math.inf)
    assert found.complete
    assert found.steepest == pytest.approx(1e-3, rel=0.2)
    assert np.isnan(found.smoothed[-1])


def test_a_curve_that_still_falls_is_not_complete() -> None:
    assert not sweep_of(lambda x: 10 - x).complete


def test_divergence_is_four_times_the_best_and_works_below_zero() -> None:
    watch = Divergence()
    assert not any(watch.seen(2.0) for _ in range(30))
    assert watch.limit == pytest.approx(8.0)
    seen = [watch.seen(8.5) for _ in range(30)]
    assert not seen[0]  # a single outlier
    assert seen[-1]
    negative = Divergence()
    assert not any(negative.seen(-5.0 - t) for t in range(30))
    assert not negative.seen(-10.0)
    assert any(negative.seen(100.0) for _ in range(10))
    tiny = Divergence()
    assert not any(tiny.seen(loss) for loss in [1.0] + [1e-9, 3e-8] * 50)  # noise around zero
    assert Divergence().seen(math.inf)


# -- the sweep ----------------------------------------------------------------------------------------------------


def swept(train: Callable[[], Any], *, steps: int = 30, low: float = 1e-4, high: float = 1.0) -> Sweep:
    """Train under a sweep, in this process."""
    sweep = Sweep(low, high, steps)
    session = Session(None, every=10**9, trace=False, on_step=sweep.observed)
    sweep.install(lambda: session)
    try:
        train()
    except Enough as enough:
        assert enough.code == 0
    finally:
        sweep.remove()
        session.close()
    return sweep


def problem() -> tuple[nn.Module, Callable[[], torch.Tensor]]:
    torch.manual_seed(0)
    model, x, y = nn.Linear(4, 1), torch.randn(64, 4), torch.randn(64, 1)
    return model, lambda: (model(x) - y).square().mean()


def update(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def test_each_update_is_made_with_the_rate_of_the_sweep_and_the_script_never_sees_it() -> None:
    """Plain SGD moves a weight by rate times gradient, so the rates used can be read off the weights."""
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.3)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    moved, seen = [], []

    def train() -> None:
        for _ in range(100):
            before = weight.item()
            seen.append(optimizer.param_groups[0]["lr"])
            update(optimizer, weight.sum() * 1.0)
            moved.append(before - weight.item())
            scheduler.step()

    sweep = swept(train)
    # the last update is made only to see the loss after the one before
    assert moved == pytest.approx([Geometric(29, start=1e-4, end=1.0)(t) for t in range(30)], rel=1e-3, abs=1e-6)
    assert seen == pytest.approx([0.3 * 0.9**t for t in range(len(seen))])
    curve = sweep.curves[0]
    assert curve.rates == pytest.approx([Geometric(29, start=1e-4, end=1.0)(t) for t in range(30)])
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.3 * 0.9 ** (len(seen) - 1))  # put back


def test_the_loss_belongs_to_the_update_before_it() -> None:
    model, loss = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    computed: list[float] = []

    def train() -> None:
        while True:
            value = loss()
            computed.append(value.item())
            update(optimizer, value)

    sweep = swept(train)
    assert sweep.curves[0].losses == pytest.approx(computed[1:])


def test_after_the_sweep_nothing_is_left() -> None:
    model, loss = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    swept(lambda: [update(optimizer, loss()) for _ in range(3)])
    before = [p.detach().clone() for p in model.parameters()]
    update(optimizer, loss())
    for old, parameter in zip(before, model.parameters(), strict=True):
        assert torch.equal(parameter.detach(), old - 0.1 * parameter.grad)  # type: ignore[operator]


def test_it_stops_when_the_loss_diverges() -> None:
    model, loss = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sweep = swept(lambda: [update(optimizer, loss()) for _ in range(500)], steps=100, high=1e4)
    assert sweep.over
    assert 30 < len(sweep.curves[0].losses) < 100
    assert read_range_test(sweep.curves[0].rates, sweep.curves[0].losses).complete


def test_it_stops_at_a_nan() -> None:
    model, loss = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    steps = []

    def train() -> None:
        for step in range(100):
            steps.append(step)
            update(optimizer, loss() * (1.0 if step < 20 else math.nan))

    sweep = swept(train, steps=100)
    assert len(steps) == 21
    assert math.isnan(sweep.curves[0].losses[-1])


def test_groups_keep_their_ratio_and_a_warm_up_from_zero_is_no_obstacle() -> None:
    a, b = (torch.zeros(1, requires_grad=True) for _ in range(2))
    optimizer = torch.optim.SGD([{"params": [a], "lr": 0.1}, {"params": [b], "lr": 0.01}])
    scheduler = ScheduledLR(optimizer, "warmup(10, start=0)")

    def train() -> None:
        for _ in range(5):
            update(optimizer, (a + b).sum())
            scheduler.step()

    swept(train)
    assert a.item() == pytest.approx(-sum(Geometric(29, start=1e-4, end=1.0)(t) for t in range(5)))
    assert b.item() == pytest.approx(a.item() / 10)


def test_tensor_rates_keep_their_identity() -> None:
    rate = torch.tensor(0.5)
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([weight], lr=rate)
    swept(lambda: [update(optimizer, weight.sum()) for _ in range(4)])
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate.item() == 0.5
    assert weight.item() == pytest.approx(-sum(Geometric(29, start=1e-4, end=1.0)(t) for t in range(4)), rel=1e-3)


def test_lbfgs_is_swept_by_its_steps_not_its_evaluations() -> None:
    model, loss = problem()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=5)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    def train() -> None:
        for _ in range(60):
            optimizer.step(closure)  # type: ignore[arg-type]

    sweep = swept(train)
    assert len(sweep.curves[0].rates) == 30
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_several_optimizers_are_swept_together() -> None:
    (first, loss_a), (second, loss_b) = problem(), problem()
    fast = torch.optim.SGD(first.parameters(), lr=0.1)
    slow = torch.optim.SGD(second.parameters(), lr=0.1)

    def train() -> None:
        for step in range(100):
            update(fast, loss_a())
            if step % 3 == 2:
                update(slow, loss_b())

    sweep = swept(train)
    assert len(sweep.curves[0].rates) == 30
    assert len(sweep.curves[1].rates) == pytest.approx(9, abs=1)
    assert sweep.curves[1].rates == pytest.approx(sweep.curves[0].rates[2::3][: len(sweep.curves[1].rates)])


def test_a_script_that_ends_first_gives_what_it_has() -> None:
    model, loss = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sweep = swept(lambda: [update(optimizer, loss()) for _ in range(8)])
    assert not sweep.over
    assert len(sweep.curves[0].rates) == 7


def test_updates_by_hand_are_not_taken_for_a_sweep() -> None:
    model, loss = problem()

    def train() -> None:
        for _ in range(20):
            loss().backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.sub_(0.01 * parameter.grad)  # type: ignore[operator]
                    parameter.grad = None

    assert swept(train).curves == {}


def test_a_curve_cut_off_while_it_falls_suggests_nothing() -> None:
    full = sweep_of(valley)
    for points, suggested in ((55, False), (100, True)):
        read = _read(Curve(full.rates[:points].tolist(), full.losses[:points].tolist()), cut=True)
        assert (read.suggested is not None) == suggested
    assert _read(Curve(full.rates[:55].tolist(), full.losses[:55].tolist()), cut=False).suggested is not None


# -- the answer ---------------------------------------------------------------------------------------------------


def test_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    found, flat = sweep_of(valley), sweep_of(lambda x: 2.3)
    print_range_test({"SGD": found}, high=10.0, picture=Path("lr-find.html"))
    err = capsys.readouterr().err
    assert f"Try lr = {found.suggested:.1e}" in err
    assert "1e-06 to 1e+01" in err
    assert "Picture: lr-find.html" in err
    print_range_test({"SGD 0": flat, "SGD 1": sweep_of(lambda x: 10 - x)}, high=10.0)
    err = capsys.readouterr().err
    assert "SGD 0: No rate can be suggested: the loss never fell" in err
    assert "SGD 1: The loss was still low at 1e+01: try higher rates too (--high 100)" in err
    print_range_test({"SGD": sweep_of(valley, steps=15)}, high=10.0, short=15)
    assert "ended after 15 updates" in capsys.readouterr().err


def test_what_is_drawn() -> None:
    found = sweep_of(lambda x: valley(x) if x < 0.5 else math.nan)
    figure = range_test_chart({"SGD": found, "<b>": sweep_of(lambda x: 2.3)}).figure
    names = [trace.name for trace in figure.data]
    assert names == ["SGD: loss", "SGD: smoothed", "SGD: NaN, Inf", "&lt;b&gt;: loss", "&lt;b&gt;: smoothed"]
    assert [shape.x0 for shape in figure.layout.shapes] == [found.lowest, found.suggested]
    assert figure.layout.yaxis.range[1] < 6  # what shoots up is out of the picture
    assert range_test_chart({"SGD": read_range_test([1.0], [math.nan])}).figure.layout.yaxis.range == (-0.08, 1.08)


# -- the command --------------------------------------------------------------------------------------------------

SCRIPT = """
import sys, torch
from torch import nn
torch.manual_seed(0)
x = torch.randn(256, 8)
y = (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-8)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)
print("arguments", sys.argv[1:])
for step in range(int(sys.argv[1])):
    loss = nn.functional.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
print("the end", optimizer.param_groups[0]["lr"])
"""


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "train.py").write_text(SCRIPT)
    (folder / "moves.py").write_text("import os\nos.chdir('elsewhere')\n" + SCRIPT)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "CUDA_VISIBLE_DEVICES": ""}
    line = [sys.executable, "-m", "steadygrad.cli", "lr-find", *words]
    return subprocess.run(line, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_finds_a_rate_for_an_unmodified_script(tmp_path: Path) -> None:
    done = command(tmp_path, "--json", "found.json", "--out", "found.html", "train.py", "400", "--mine")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "arguments ['400', '--mine']\n"  # stopped in the middle, without a traceback
    assert "Traceback" not in done.stderr
    answer = json.loads((tmp_path / "found.json").read_text())
    assert {k: answer[k] for k in ("schema", "script", "exit_code")} == {
        "schema": "steadygrad.lr-find/1",
        "script": "train.py",
        "exit_code": 0,
    }
    (adam,) = answer["optimizers"]
    assert adam["optimizer"] == "Adam"
    assert 1e-3 < adam["suggested"] < 0.3
    assert len(adam["rates"]) == len(adam["losses"]) == answer["steps"]
    assert f"Try lr = {adam['suggested']:.1e}" in done.stderr
    assert "Plotly.newPlot" in (tmp_path / "found.html").read_text()


def test_a_script_that_changes_its_folder_moves_neither_picture_nor_answer(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    done = command(tmp_path, "--json", "found.json", "moves.py", "400")
    assert done.returncode == 0, done.stderr
    assert "Picture: lr-find.html" in done.stderr
    assert (tmp_path / "lr-find.html").is_file() and (tmp_path / "found.json").is_file()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_script_too_short_runs_to_its_end_and_says_so(tmp_path: Path) -> None:
    done = command(tmp_path, "train.py", "9")
    assert done.returncode == 3
    assert "the end 1e-08" in done.stdout
    assert "only 8 updates with a finite loss were seen" in done.stderr
    assert "ended after 8 updates" in done.stderr


def test_a_script_without_an_optimizer_is_said(tmp_path: Path) -> None:
    (tmp_path / "idle.py").write_text("import sys\nprint('idle')\n")
    done = command(tmp_path, "idle.py")
    assert (done.returncode, done.stdout) == (3, "idle\n")
    assert "no learning rate was tested" in done.stderr


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"low": 0.0}, "both above 0"),
        ({"low": 1.0, "high": 0.1}, "rise from --low to --high"),
        ({"high": math.nan}, "rise from"),
        ({"steps": 5}, "at least 20 steps"),
        ({"out": Path("found.pdf")}, "written as .html or .png"),
    ],
)
def test_bad_ranges_are_refused(changes: dict[str, Any], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        RangeTestOptions(Target("train.py", None), **changes)
