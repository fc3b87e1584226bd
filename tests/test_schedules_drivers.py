"""Schedules at work on optimizers: as torch schedulers that resume, and on any other number."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import lr_scheduler

from steadygrad.clip import GlobalNorm
from steadygrad.errors import InputError
from steadygrad.schedules import Constant, Cosine, Driver, Linear, ScheduledLR, Step, Warmup

SCHEDULE = Warmup(10, start="0") >> Cosine(40, end=0.1)


def optimizer(lr: Any = 0.4, *, kind: type[torch.optim.Optimizer] = torch.optim.SGD, **options: Any) -> Any:
    return kind([torch.ones(1, requires_grad=True)], lr=lr, **options)


def train(stepped: torch.optim.Optimizer, scheduler: Any, steps: int) -> list[float]:
    """The first group's rate before each step."""
    rates = []
    for _ in range(steps):
        rates.append(float(stepped.param_groups[0]["lr"]))
        stepped.step()
        scheduler.step()
    return rates


# -- the learning rate --------------------------------------------------------------------------------------------


def test_it_is_a_torch_scheduler_with_the_rates_of_the_schedule() -> None:
    stepped = optimizer()
    scheduler = ScheduledLR(stepped, SCHEDULE)
    assert isinstance(scheduler, lr_scheduler.LRScheduler)
    assert train(stepped, scheduler, 60) == [0.4 * SCHEDULE(t) for t in range(60)]
    assert scheduler.get_last_lr() == [0.4 * SCHEDULE(60)]
    assert scheduler.last_epoch == 60


def test_a_schedule_may_be_given_as_text() -> None:
    stepped = optimizer()
    scheduler = ScheduledLR(stepped, "warmup(10, start=0) > cosine(40, end=0.1)")
    assert train(stepped, scheduler, 20) == [0.4 * SCHEDULE(t) for t in range(20)]


def test_groups_keep_their_own_base() -> None:
    a, b = (torch.ones(1, requires_grad=True) for _ in range(2))
    stepped = torch.optim.AdamW([{"params": [a]}, {"params": [b], "lr": 0.01}], lr=0.1)
    scheduler = ScheduledLR(stepped, Linear(10, end=0.5))
    train(stepped, scheduler, 10)
    # transformers' min_lr ratio goes by the optimizer's default rate, which is wrong for the second group
    assert scheduler.get_last_lr() == [0.05, 0.005]


def test_groups_may_have_schedules_of_their_own() -> None:
    a, b = (torch.ones(1, requires_grad=True) for _ in range(2))
    stepped = torch.optim.SGD([{"params": [a]}, {"params": [b]}], lr=1.0)
    scheduler = ScheduledLR(stepped, [Linear(10), "constant()"])
    train(stepped, scheduler, 5)
    assert scheduler.get_last_lr() == [0.5, 1.0]
    stepped.add_param_group({"params": [torch.ones(1, requires_grad=True)]})
    with pytest.raises(InputError, match=r"3 groups by now.*append one"):
        scheduler.step()
    scheduler.schedules.append(Constant(value=0.25))
    scheduler.step()
    assert scheduler.get_last_lr()[2] == 0.25


def test_groups_may_be_added_on_the_way() -> None:
    lambdas = optimizer()
    theirs = lr_scheduler.LambdaLR(lambdas, SCHEDULE)
    stepped = optimizer()
    ours = ScheduledLR(stepped, SCHEDULE)
    for each in (lambdas, stepped):
        each.add_param_group({"params": [torch.ones(1, requires_grad=True)], "lr": 0.02})
        each.step()
    with pytest.raises(ValueError, match="zip"):
        theirs.step()
    ours.step()
    assert ours.get_last_lr() == [0.4 * SCHEDULE(1), 0.02 * SCHEDULE(1)]


def test_tensor_rates_stay_the_same_tensor() -> None:
    rate = torch.tensor(0.4, dtype=torch.float64)
    stepped = optimizer(rate, kind=torch.optim.Adam)
    scheduler = ScheduledLR(stepped, SCHEDULE)
    rates = train(stepped, scheduler, 15)
    assert rates == pytest.approx([0.4 * SCHEDULE(t) for t in range(15)], rel=1e-12)
    assert stepped.param_groups[0]["lr"] is rate
    scheduler.load_state_dict({"last_epoch": 3})
    assert float(rate) == pytest.approx(0.4 * SCHEDULE(3))
    (last,) = scheduler.get_last_lr()
    assert isinstance(last, Tensor)
    assert last is not rate


# -- resuming -----------------------------------------------------------------------------------------------------


def interrupted(make: Any, at: int) -> tuple[dict[str, Any], dict[str, Any]]:
    stepped = optimizer(momentum=0.9)
    scheduler = make(stepped)
    train(stepped, scheduler, at)
    return copy.deepcopy(stepped.state_dict()), copy.deepcopy(scheduler.state_dict())


@pytest.mark.parametrize("order", ["optimizer first", "scheduler first", "no scheduler state", "state before rates"])
def test_a_resumed_run_has_the_rates_of_one_that_was_not_interrupted(order: str) -> None:
    saved, state = interrupted(lambda o: ScheduledLR(o, SCHEDULE), 23)
    assert state == {"last_epoch": 23}
    stepped = optimizer(momentum=0.9)
    if order == "optimizer first":
        stepped.load_state_dict(saved)
        scheduler = ScheduledLR(stepped, SCHEDULE)
        scheduler.load_state_dict(state)
    elif order == "scheduler first":
        scheduler = ScheduledLR(stepped, SCHEDULE)
        stepped.load_state_dict(saved)
        scheduler.load_state_dict(state)
    elif order == "state before rates":
        scheduler = ScheduledLR(stepped, SCHEDULE)
        scheduler.load_state_dict(state)
        stepped.load_state_dict(saved)
    else:  # as with torch's: only the count is known
        stepped.load_state_dict(saved)
        scheduler = ScheduledLR(stepped, SCHEDULE, last_epoch=22)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if order == "no scheduler state" else "error")
        assert train(stepped, scheduler, 37) == [0.4 * SCHEDULE(t) for t in range(23, 60)]


def test_torch_shrinks_the_rest_where_ours_does_not() -> None:
    """Built after ``optimizer.load_state_dict``, torch's recursion starts from the rate that was already lowered."""

    def theirs(stepped: Any) -> Any:
        return lr_scheduler.LinearLR(stepped, 0.1, 1.0, 20)

    saved, state = interrupted(theirs, 5)
    stepped = optimizer(momentum=0.9)
    stepped.load_state_dict(saved)
    scheduler = theirs(stepped)
    scheduler.load_state_dict(state)
    assert max(train(stepped, scheduler, 30)) < 0.05  # of 0.4

    schedule = Linear(20, start=0.1, end=1)
    saved, state = interrupted(lambda o: ScheduledLR(o, schedule), 5)
    stepped = optimizer(momentum=0.9)
    stepped.load_state_dict(saved)
    scheduler = ScheduledLR(stepped, schedule)
    scheduler.load_state_dict(state)
    assert max(train(stepped, scheduler, 30)) == 0.4


def test_sequences_resume_inside_any_piece() -> None:
    """A resumed torch SequentialLR has been wrong; here there is nothing to restore but the count."""
    schedule = Warmup(5) >> (Cosine(10, end=0.2) >> 0.2 * Step(4, gamma=0.5))
    for at in range(25):
        stepped = optimizer()
        scheduler = ScheduledLR(stepped, schedule)
        scheduler.load_state_dict({"last_epoch": at})
        assert train(stepped, scheduler, 3) == [0.4 * schedule(t) for t in range(at, at + 3)]


def test_the_state_of_a_torch_scheduler_is_understood_and_nonsense_refused() -> None:
    stepped = optimizer()
    theirs = lr_scheduler.LambdaLR(stepped, SCHEDULE)
    train(stepped, theirs, 12)
    stepped = optimizer()
    scheduler = ScheduledLR(stepped, SCHEDULE)
    scheduler.load_state_dict(theirs.state_dict())
    assert scheduler.get_last_lr() == [0.4 * SCHEDULE(12)]
    for nonsense in ({}, {"last_epoch": -1}, {"last_epoch": "3"}):
        with pytest.raises(InputError, match="steps made"):
            scheduler.load_state_dict(nonsense)


def test_two_on_one_optimizer_do_not_multiply() -> None:
    def rates(make: Any) -> list[float]:
        stepped = optimizer()
        schedulers = [make(stepped), make(stepped)]
        for _ in range(10):
            stepped.step()
            for scheduler in schedulers:
                scheduler.step()
        return [float(stepped.param_groups[0]["lr"])]

    assert rates(lambda o: lr_scheduler.ExponentialLR(o, 0.9)) == pytest.approx([0.4 * 0.9**20])
    assert rates(lambda o: ScheduledLR(o, "exponential(gamma=0.9)")) == pytest.approx([0.4 * 0.9**10])


def test_a_cycle_in_a_sequence_leaves_the_base_alone() -> None:
    theirs = optimizer(1.0)
    parts = [lr_scheduler.LinearLR(theirs, 0.1, 1.0, 5), lr_scheduler.OneCycleLR(theirs, 1.0, 20, cycle_momentum=False)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lr_scheduler.SequentialLR(theirs, parts, [5])
    assert theirs.param_groups[0]["lr"] == pytest.approx(0.004)  # not 0.1: OneCycleLR has overwritten initial_lr
    ours = optimizer(1.0)
    ScheduledLR(ours, "linear(5, start=0.1, end=1) > one_cycle(20)")
    assert ours.param_groups[0]["lr"] == pytest.approx(0.1)
    assert ours.param_groups[0]["initial_lr"] == 1.0


# -- among others -------------------------------------------------------------------------------------------------


def test_torch_can_compose_it() -> None:
    stepped = optimizer()
    parts = [ScheduledLR(stepped, Linear(10, start=0.1, end=1)), ScheduledLR(stepped, Cosine(10))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SequentialLR uses the deprecated epoch
        scheduler = lr_scheduler.SequentialLR(stepped, parts, [10])
        rates = train(stepped, scheduler, 20)
    both = Linear(10, start=0.1, end=1) >> Cosine(10)
    assert rates == pytest.approx([0.4 * both(t) for t in range(20)])


def test_trainers_may_look_at_and_change_the_base_rates() -> None:
    stepped = optimizer()
    scheduler = ScheduledLR(stepped, Linear(10))
    assert scheduler.base_lrs == [0.4]
    scheduler.base_lrs = [0.8]
    stepped.step()
    scheduler.step()
    assert scheduler.get_last_lr() == pytest.approx([0.72])


def test_it_warns_as_torch_does_when_stepped_before_the_optimizer() -> None:
    scheduler = ScheduledLR(optimizer(), SCHEDULE)
    with pytest.warns(UserWarning, match="before `optimizer.step"):
        scheduler.step()


def test_its_state_is_saved_and_loaded_safely(tmp_path: Path) -> None:
    stepped = optimizer()
    scheduler = ScheduledLR(stepped, SCHEDULE)
    train(stepped, scheduler, 7)
    torch.save(scheduler.state_dict(), tmp_path / "scheduler.pt")
    assert torch.load(tmp_path / "scheduler.pt", weights_only=True) == {"last_epoch": 7}


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (("not an optimizer", SCHEDULE), "schedules a torch.optim.Optimizer, not str"),
        ((None, [SCHEDULE, SCHEDULE]), "2 schedules for 1 groups"),
        ((None, lambda t: 1.0), "not function"),
        ((None, 3), "not int"),
        ((None, "cosin(3)"), "did you mean"),
    ],
)
def test_bad_arguments_are_refused(arguments: Any, rule: str) -> None:
    target, schedule = arguments
    with pytest.raises(InputError, match=rule):
        ScheduledLR(target or optimizer(), schedule)


# -- other numbers ------------------------------------------------------------------------------------------------


def test_weight_decay_follows_in_every_group_and_resumes() -> None:
    a, b = (torch.ones(1, requires_grad=True) for _ in range(2))
    groups = [{"params": [a], "weight_decay": 0.2}, {"params": [b], "weight_decay": 0.0}]
    stepped = torch.optim.AdamW(groups)
    driver = Driver(stepped, "weight_decay", Linear(10, start=1, end=0.5))
    for _ in range(4):
        driver.step()
    assert driver.values == pytest.approx([0.16, 0.0])
    twin = torch.optim.AdamW([{"params": [a], "weight_decay": 0.2}, {"params": [b], "weight_decay": 0.0}])
    twin.load_state_dict(stepped.state_dict())
    resumed = Driver(twin, "weight_decay", Linear(10, start=1, end=0.5))
    resumed.load_state_dict(driver.state_dict())
    assert resumed.values == driver.values


def test_momentum_and_betas_follow() -> None:
    sgd = optimizer(momentum=0.8)
    assert Driver(sgd, "momentum", Constant(value=0.5)).values == [0.4]
    adam = optimizer(kind=torch.optim.Adam)
    driver = Driver(adam, "betas[0]", "linear(10, end=0.5)")
    driver.step()
    assert adam.param_groups[0]["betas"] == (pytest.approx(0.9 * 0.95), 0.999)


def test_a_threshold_follows() -> None:
    clipper = GlobalNorm(4.0)
    driver = Driver(clipper, "max_norm", "linear(10, end=0.25)")
    thresholds = []
    for _ in range(12):
        thresholds.append(clipper.max_norm)
        driver.step()
    assert thresholds == pytest.approx([4.0 * (1 - 0.075 * min(t, 10)) for t in range(12)])
    assert driver.state_dict() == {"last_step": 12}


def test_what_has_no_such_number_is_refused() -> None:
    with pytest.raises(InputError, match=r"SGD has no number called 'weight_decai' to drive; it has lr, momentum"):
        Driver(optimizer(), "weight_decai", SCHEDULE)
    with pytest.raises(InputError, match=r"no number called 'betas\[0\]'"):
        Driver(optimizer(), "betas[0]", SCHEDULE)
    with pytest.raises(InputError, match="it has none"):
        Driver(object(), "max_norm", SCHEDULE)
