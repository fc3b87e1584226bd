"""Small tensors updated together: the same bits, only where that is known, and nothing left behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, optim
from torch.optim import Optimizer

from steadygrad import Stepper
from steadygrad.clip import GlobalNorm
from steadygrad.stepper.grouping import MANY, SAME_BITS, SMALL

SETTINGS: list[tuple[type[Optimizer], dict[str, Any]]] = [
    (optim.SGD, {"lr": 0.1}),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "maximize": True}),
    (optim.Adam, {"lr": 0.1, "weight_decay": 0.1, "amsgrad": True}),
    (optim.AdamW, {"lr": 0.1, "betas": (0.8, 0.99), "maximize": True}),
    (optim.RMSprop, {"lr": 0.1, "centered": True, "momentum": 0.5}),
    (optim.RMSprop, {"lr": 0.1, "weight_decay": 0.1}),
    (optim.Adagrad, {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1}),
    (optim.Adadelta, {"lr": 1.0, "weight_decay": 0.1}),
    (optim.Adamax, {"lr": 0.1, "weight_decay": 0.1}),
    (optim.Rprop, {"lr": 0.1}),
]


def tensors(count: int = MANY, *, size: int = 7, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    torch.manual_seed(0)
    shapes = [(size, size), (size,), ()] * count
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes[:count]]


def ways(optimizer: Optimizer) -> list[object]:
    """What each step of the optimizer is asked to do with lists."""
    seen: list[object] = []
    optimizer.register_step_pre_hook(lambda o, *_: seen.append(o.param_groups[0].get("foreach")))
    return seen


def step(optimizer: Optimizer, parameters: list[Tensor], seed: int = 0) -> None:
    torch.manual_seed(seed)
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    Stepper(optimizer, clip=GlobalNorm(1.0), fold=False).step()


def test_every_kind_is_tried() -> None:
    assert {kind for kind, _ in SETTINGS} == set(SAME_BITS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("kind", "settings"), SETTINGS)
def test_gives_the_same_bits(kind: type[Optimizer], settings: dict[str, Any], dtype: torch.dtype) -> None:
    ours, theirs = tensors(dtype=dtype), tensors(dtype=dtype)
    # mypy: an optimizer's own class takes other arguments than its base class
    one, other = kind(ours, **settings), kind(theirs, **settings, foreach=False)  # type: ignore[call-arg]
    seen = ways(one)
    for seed in range(30):
        step(one, ours, seed)
        step(other, theirs, seed)
    assert seen == [True] * 30
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert one.param_groups[0]["foreach"] is None


def test_two_groups_may_differ() -> None:
    def groups(parameters: list[Tensor]) -> list[dict[str, Any]]:
        return [{"params": parameters[:3], "lr": 0.1}, {"params": parameters[3:], "lr": 0.2, "momentum": 0.9}]

    ours, theirs = tensors(), tensors()
    step(optim.SGD(groups(ours)), ours)
    step(optim.SGD(groups(theirs), foreach=False), theirs)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(ours, tensors(), strict=True))


@pytest.mark.parametrize(
    ("settings", "way"),
    [
        ({"foreach": False}, False),
        ({"foreach": True}, True),
        ({"fused": False}, None),
        ({"fused": True}, None),
        ({"differentiable": True}, None),
        ({"lr": torch.tensor(0.1)}, None),
    ],
)
def test_what_the_user_chose_is_left_alone(settings: dict[str, Any], way: object) -> None:
    parameters = tensors()
    if "differentiable" in settings:
        parameters = [p.detach().clone().requires_grad_() * 1.0 for p in parameters]
    optimizer = optim.Adam(parameters, **{"lr": 0.1, **settings})
    seen = ways(optimizer)
    step(optimizer, parameters)
    assert seen == [way]


@pytest.mark.parametrize(
    "parameters",
    [
        tensors(MANY - 1),
        [torch.zeros(SMALL + 1, requires_grad=True) for _ in range(MANY)],
        tensors(dtype=torch.bfloat16),
    ],
    ids=["few", "large", "half"],
)
def test_where_it_would_not_help(parameters: list[Tensor]) -> None:
    optimizer = optim.SGD(parameters, lr=0.1)
    seen = ways(optimizer)
    step(optimizer, parameters)
    assert seen == [None]


def test_kinds_that_round_differently_are_left_alone() -> None:
    class Mine(optim.SGD):
        pass

    for kind in (optim.NAdam, optim.RAdam, optim.ASGD, Mine):
        parameters = tensors()
        optimizer = kind(parameters, lr=0.1)
        seen = ways(optimizer)
        step(optimizer, parameters)
        assert seen == [None]


def test_nothing_is_left_behind_by_a_step_that_raises() -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no")

    parameters = tensors()
    optimizer = optim.SGD(parameters, lr=0.1)
    optimizer.register_step_pre_hook(fail)
    with pytest.raises(RuntimeError, match="no"):
        step(optimizer, parameters)
    assert optimizer.param_groups[0]["foreach"] is None
