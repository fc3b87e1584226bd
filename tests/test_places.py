"""Findings point to what a person would name: modules, parameters, lines; the origin and not its victims."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from histories import WIDTH, Net, flat, noise
from torch import Tensor, nn

import steadygrad
from steadygrad import graph
from steadygrad.detectors import detect
from steadygrad.diagnosis import diagnose
from steadygrad.records import Diagnosis, Fact, Symptom
from steadygrad.view import View


def symptom(net: Net, code: str) -> Symptom:
    """The one symptom of a code."""
    (found,) = [s for s in detect(net.history()) if s.code == code]
    return found


def answer(net: Net) -> Diagnosis:
    history = net.history()
    return diagnose(history, detect(history))


def location(diagnosis: Diagnosis, code: str) -> str:
    """Where a cause is placed."""
    return next(c.location for c in diagnosis.causes if c.code == code)


# -- functional activations ---------------------------------------------------------------------------------------


def functional() -> Net:
    """Two linear layers and a head, with relu called as a function: once in the model itself, once in a block."""
    net = Net(layers=0)
    net.linear("inp").site("relu", "relu", "activation", (), "relu")
    net.linear("block.fc").site("block:relu#1", "relu#1", "activation", (), "relu")
    return net.linear("out")


def test_a_functional_activation_lies_at_the_layer_that_feeds_it() -> None:
    view = View(functional().history())
    assert [view.place(i) for i in range(5)] == ["inp", "inp", "block.fc", "block.fc", "out"]
    assert view.label(3) == "block.fc (relu)"


def test_a_functional_activation_before_any_layer_lies_in_its_module() -> None:
    net = Net(layers=0).site("stem:tanh", "tanh", "activation", (), "tanh").linear("head")
    assert View(net.history()).place(0) == "stem"


def test_an_activation_module_keeps_its_name() -> None:
    view = View(Net(layers=3).history())
    assert view.place(1) == view.label(1) == "act.0"


def test_dead_units_of_a_function_are_placed_at_a_module() -> None:
    net = functional()
    dead = np.array([np.nan, 0.0, np.nan, 1.0, np.nan])
    net.change(3, init_rms=8.0)
    net.train(100, loss=flat, stats=lambda _: {"dead_units": dead})
    found = symptom(net, "dead-units")
    assert found.location == "block.fc"
    assert "block.fc (relu)" in found.message
    assert location(answer(net), "dying-relu") == "block.fc"


def test_biases_that_switch_a_module_off_are_named_beside_it() -> None:
    net = Net(layers=3)
    net.change(3, init_rms=8.0)
    net.train(100, loss=flat, stats=lambda _: {"dead_units": np.array([np.nan, 0.0, np.nan, 1.0, np.nan])})
    assert location(answer(net), "dying-relu") == "act.1 (layers.1.bias)"


# -- the origin and not its victims -------------------------------------------------------------------------------


def test_what_was_saturated_from_the_start_comes_before_what_became_so() -> None:
    net = Net(layers=4, activation="tanh")
    start, late = np.array([0.0, 0.8, 0.8]), np.array([0.9, 0.9, 0.9])

    def stats(step: int) -> dict[str, np.ndarray]:
        column = np.full(len(net.sites), np.nan)
        column[[1, 3, 5]] = start if step == 1 else late
        return {"saturated": column}

    net.train(100, loss=flat, stats=stats)
    assert symptom(net, "saturated-units").location == "act.1"
    assert location(answer(net), "saturating-activation") == "act.1"


def test_the_normalisation_with_the_fewest_values_is_named() -> None:
    net = Net(layers=1).site("wide", "BatchNorm2d", "norm").site("narrow", "BatchNorm1d", "norm").linear("head")
    counts, rows = np.array([np.nan, 512, 2, np.nan]), np.array([np.nan, 2, 2, np.nan])
    net.train(100, stats=lambda _: {"channel_samples": counts, "batch_rows": rows})
    found = symptom(net, "unreliable-batchnorm")
    assert (found.location, found.evidence["samples_per_channel"]) == ("narrow", 2.0)
    assert location(answer(net), "tiny-batch-batchnorm") == "narrow"


def multiplied(gradient: float) -> Net:
    """A vector that each forward multiplies a state with a hundred times, and a head; NaN after two steps."""
    net = Net(layers=0)
    row = net.parameter("decay", (WIDTH,), "other")
    net.linear("head")
    walked = {"nodes": 300, "ops": {}, "chain": [], "norms": 0, "readers": ["Mul", "T", "Addmm"]}
    net.fact("graph", **walked, parameters=[0, 1, 2], shortest=[1, 1, 0], longest=[1, 1, 0], uses=[100, 1, 1])
    per_row = [gradient if r == row else 1.0 for r in range(3)]
    net.train(60, loss=lambda s: 2.0 if s == 1 else float("nan"), gradient=per_row, ratio=5.0)
    for event in net.events:
        if getattr(event, "detail", None) is not None:
            event.detail.parameters["grad_mean"] = event.detail.parameters["grad_std"] * 0  # type: ignore[union-attr]
    return net


def test_a_loss_that_hangs_on_a_weight_used_many_times_is_a_long_recurrence() -> None:
    first = answer(multiplied(2000.0)).causes[0]
    assert (first.code, first.location) == ("long-recurrence", "decay")
    assert "used 100 times by one forward" in first.evidence[0]


def test_elasticity_is_free_of_units() -> None:
    view = View(multiplied(2000.0).history())
    assert view.elasticity[0] == pytest.approx(2000 / WIDTH * np.sqrt(WIDTH) * 8.0 / 2.0, rel=1e-5)
    assert view.repeated == {0: 100}


def leverage(*, head: float = 1.0, loss: Callable[[int], float] = flat, **fact: object) -> list[str]:
    """What the cause says of a vector with a large gradient that one forward uses a hundred times."""
    net = multiplied(2000.0)
    facts = [event for event in net.events if isinstance(event, Fact)]
    net.events = []
    net.train(200, loss=loss, gradient=[2000.0, head, head])
    for event in net.events:
        if getattr(event, "detail", None) is not None:
            event.detail.parameters["grad_mean"] = event.detail.parameters["grad_std"] * 0  # type: ignore[union-attr]
    net.events = [*facts, *net.events]
    if fact:
        net.fact("loss-call", reduction="mean", **fact)
    said = [reason for cause in answer(net).causes for reason in cause.evidence]
    return [reason for reason in said if "used 100 times by one forward" in reason]


def test_a_loss_at_its_level_has_leverage() -> None:
    assert leverage()
    assert leverage(loss=lambda s: 5 + noise(s, 4.8))


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"loss": lambda s: flat(s) - 2.5}, id="negative"),
        pytest.param({"loss": lambda s: 2.3 - s / 50 if s < 150 else 90.0}, id="becomes negative, then diverges"),
        pytest.param({"loss": lambda s: 0.01 if s == 1 else 5 + noise(s, 4.8)}, id="next to zero at first"),
        pytest.param({"loss": lambda s: 0.0 if s == 1 else flat(s)}, id="zero at first"),
        pytest.param({"loss": lambda s: 1e-9 + 1e-10 * noise(s), "head": 1000.0}, id="all weights have as much"),
        pytest.param(
            {"loss": lambda s: 1e-6 + 1e-7 * noise(s), "name": "cross_entropy", "value": 1e-6, "classes": 4,
             "target_shape": [32]},
            id="far better than a guess",
        ),
    ],
)  # fmt: skip
def test_a_first_loss_next_to_zero_or_below_has_no_leverage(options: dict[str, Any]) -> None:
    assert not leverage(**options)


@pytest.mark.parametrize("loss", [-2.5, 0.0, lambda s: 1.0 - s / 30])
def test_there_is_no_relative_change_of_what_is_not_positive(loss: Any) -> None:
    def elasticity(values: Any) -> dict[int, float]:
        net = Net().train(60, loss=values)
        for event in net.events:
            if event.detail is not None:  # type: ignore[union-attr]
                event.detail.parameters["grad_mean"] = event.detail.parameters["grad_std"] * 0  # type: ignore
        return View(net.history()).elasticity

    assert elasticity(1.0)
    assert elasticity(loss) == {}


def test_leverage_counts_where_the_loss_ran_away_from_its_first_value() -> None:
    assert leverage(loss=lambda s: 2.0 * 1.5 ** min(s, 60))


def test_a_weight_used_many_times_without_leverage_is_none() -> None:
    assert answer(multiplied(1.0)).causes[0].code == "learning-rate-too-high"


# -- losses that stand still --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "stalled"),
    [
        pytest.param(flat, True, id="flat"),
        pytest.param(lambda s: 5 + noise(s, 4.0), False, id="all noise"),
        pytest.param(
            lambda s: (1.0 if s == 1 else 1.25 - 0.4 * s / 200) + noise(s, 0.2), False, id="lucky first value"
        ),
        pytest.param(lambda s: 9.0 if 1 < s < 20 else 2.3 + noise(s, 0.02), True, id="back down from a bad start"),
    ],
)
def test_standing_still(loss: Callable[[int], float], stalled: bool) -> None:
    net = Net(layers=4).train(200, loss=loss)
    assert ("stalled-loss" in {s.code for s in detect(net.history())}) == stalled


# -- differences that make squares --------------------------------------------------------------------------------


def huber(prediction: Tensor, target: Tensor) -> Tensor:
    """A loss of a script's own, with a branch."""
    error = prediction - target
    return torch.where(error.abs() < 1, 0.5 * error * error, error.abs() - 0.5).mean()


def test_a_broadcast_behind_branches_is_seen() -> None:
    prediction, target = nn.Linear(3, 1)(torch.randn(8, 3)), torch.randn(8)
    assert graph.walk([huber(prediction, target)]).broadcast == "[8, 1] against [8]"
    assert graph.walk([huber(prediction.squeeze(1), target)]).broadcast == ""


@pytest.mark.parametrize("column", ["amax", "mean", "sum"])
def test_columns_made_on_purpose_are_left_alone(column: str) -> None:
    rows = nn.Linear(3, 5)(torch.randn(8, 3))
    reduced = getattr(rows, column)(1, keepdim=True)
    assert graph.walk([(reduced - torch.randn(8)).pow(2).mean()]).broadcast == ""
    assert graph.walk([(rows[:, :1, None][:, 0] - torch.randn(8)).pow(2).mean()]).broadcast in (
        "",
        "[8, 1] against [8]",
    )


# -- lines --------------------------------------------------------------------------------------------------------

RATE = 1e-9
TIGHT = 1e-9


def trained(rate: float, clip: float = 0.0) -> Diagnosis:
    torch.manual_seed(0)
    x = torch.randn(64, 8)
    y = x.sum(1, keepdim=True)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    with steadygrad.watch(model) as monitor:
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        for _ in range(90):
            loss = nn.functional.mse_loss(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
    return monitor.close()


def line_of(text: str) -> int:
    """The line of this file that starts with a text."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    return next(i for i, line in enumerate(lines, 1) if line.strip().startswith(text))


def test_a_rate_is_placed_where_it_is_set_and_where_it_is_used() -> None:
    places = location(trained(rate=RATE), "learning-rate-too-low")
    expected = f"test_places.py:{line_of('RATE =')} (test_places.py:{line_of('optimizer = torch')})"
    assert places == expected


def test_a_clip_is_placed_where_its_threshold_is_set() -> None:
    places = location(trained(0.05, clip=TIGHT), "clip-threshold-too-low")
    assert places == f"test_places.py:{line_of('TIGHT =')} (test_places.py:{line_of('nn.utils.clip_grad_norm_')})"


def test_probabilities_for_logits_are_placed_at_the_module_the_loss_and_its_criterion() -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 8)
    y = (x[:, 0] > 0).long()
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 2), nn.Softmax(dim=1))
    criterion = nn.CrossEntropyLoss()
    with steadygrad.watch(model) as monitor:
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        for _ in range(40):
            error = criterion(model(x), y)
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
    places = location(monitor.close(), "loss-misuse")
    call, built = line_of("error = criterion"), line_of("criterion = nn")
    assert places == f"3 (test_places.py:{call}, test_places.py:{built})"


def test_a_corrupt_batch_is_placed_at_the_first_module_and_the_line_that_feeds_it() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    with steadygrad.watch(model) as monitor:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for step in range(30):
            x = torch.randn(32, 8) if step != 20 else torch.full((32, 8), float("nan"))
            misfit = (model(x) - x.sum(1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            misfit.backward()
            optimizer.step()
    assert location(monitor.close(), "corrupt-batch") == f"0 (test_places.py:{line_of('misfit = (model')})"


def test_a_gradient_that_fades_in_training_is_told_by_how_much() -> None:
    net = Net(layers=6)
    net.train(100, loss=flat, ratio=1e-3, signal=lambda s: net.along_depth(100.0 if s == 1 else 1e-6, 1.0))
    assert "shrinks by a factor of 1e" in symptom(net, "vanishing-gradients").message
    shown = symptom(net, "vanishing-gradients").message.split("1e")[1].split()[0]
    assert int(shown) == pytest.approx(-symptom(net, "vanishing-gradients").evidence["decades_median"], abs=1)


def test_a_batch_of_outliers_that_ruins_the_weights_comes_before_the_rate() -> None:
    torch.manual_seed(0)
    centres = torch.randn(3, 8)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))
    with steadygrad.watch(model) as monitor:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        for step in range(120):
            y = torch.randint(3, (32,))
            x = (centres[y] + 0.5 * torch.randn(32, 8)) * (3e4 if step == 24 else 1.0)
            y = (y + 1) % 3 if step == 24 else y
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    causes = {c.code: c for c in monitor.close().causes}
    assert next(iter(causes)) == "corrupt-batch"
    assert any("no rate makes inputs" in o for o in causes["learning-rate-too-high"].against)
