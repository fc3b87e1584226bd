"""Clippers and the stepper on devices other than the CPU: everything in its place, nothing waited for, the same result.

No accelerator is needed: see tests/devices.py for what stands in for one.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from devices import CPU, ONE, OTHER, Devices, HostReadError
from test_clip import CASES, Case, leaves
from torch import Tensor, nn
from torch.utils._foreach_utils import _get_fused_kernels_supported_devices
from training import FUSED

from steadygrad import Stepper
from steadygrad.clip import GlobalNorm
from steadygrad.stepper import folding

#: All but those that reduce over processes: a process group of another device is what these devices do not have.
every = pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("Sharded")])


@pytest.fixture
def devices() -> Iterator[Devices]:
    with Devices() as mode:
        yield mode


def spread(tensors: list[Tensor], places: list[torch.device]) -> list[Tensor]:
    """The same parameters and gradients, dealt out to devices."""
    out = []
    for i, tensor in enumerate(tensors):
        place = places[i % len(places)]
        assert tensor.grad is not None
        moved = tensor.detach().clone().to(place).requires_grad_()
        moved.grad = tensor.grad.clone().to(place)
        out.append(moved)
    return out


def back(tensors: list[Tensor]) -> list[Tensor]:
    return [t.grad.to(CPU) for t in tensors if t.grad is not None]


@every
@pytest.mark.parametrize("mixed", [False, True], ids=["float32", "mixed"])
@pytest.mark.parametrize("poison", [0.0, math.nan])
def test_several_accelerators_clip_as_one_cpu_and_nobody_waits(
    name: str, mixed: bool, poison: float, devices: Devices
) -> None:
    case: Case = CASES[name]
    ours, theirs = case.acting(), case.acting()
    for step in range(4):
        made = leaves(seed=step, size=3.0)
        if mixed:
            made += leaves([(4, 4), (3,)], seed=step, dtype=torch.bfloat16)
        if step == 2:
            made[1].grad.view(-1)[0] += poison  # type: ignore[union-attr]
        away = spread(made, [ONE, OTHER])
        ours.state_dict()  # what was decided one step before is read
        with devices.unread():
            info = ours(away)
        wanted = theirs(made)
        assert all(t.grad.device == t.device for t in away if t.grad is not None)
        assert float(info.norm_before) == pytest.approx(float(wanted.norm_before), rel=1e-5, nan_ok=True)
        assert float(info.norm_after) == pytest.approx(float(wanted.norm_after), rel=1e-3, nan_ok=True)
        assert bool(info.clipped) == bool(wanted.clipped)
        for mine, other in zip(back(away), made, strict=True):
            torch.testing.assert_close(mine, other.grad, rtol=1e-2, atol=1e-4, equal_nan=True)
            if mine.dtype == torch.float32:
                torch.testing.assert_close(mine, other.grad, rtol=2e-5, atol=1e-7, equal_nan=True)


@every
@pytest.mark.parametrize("places", [[CPU, ONE], [OTHER, CPU, ONE]], ids=str)
def test_parameters_left_on_the_host_are_clipped_with_those_on_devices(
    name: str, places: list[torch.device], devices: Devices
) -> None:
    case: Case = CASES[name]
    ours, theirs = case.acting(), case.acting()
    for step in range(4):
        made = leaves(seed=step, size=3.0)
        away = spread(made, places)
        info, wanted = ours(away), theirs(made)
        assert float(info.norm_after) == pytest.approx(float(wanted.norm_after), rel=1e-5)
        for mine, other in zip(back(away), made, strict=True):
            torch.testing.assert_close(mine, other.grad, rtol=2e-5, atol=1e-7)


def test_the_devices_forbid_what_real_ones_do(devices: Devices) -> None:
    here, there, other = torch.ones(3), torch.ones(3).to(ONE), torch.ones(3).to(OTHER)
    for a, b in ((here, there), (there, other)):
        with pytest.raises(RuntimeError, match="same device"):
            a + b
    assert (there + torch.tensor(1.0)).device == ONE
    with devices.unread():
        for read in (
            lambda: float(there.sum()), lambda: bool(there.any()), there.cpu, there[0].item,
            there.nonzero, lambda: torch.equal(there, there), lambda: here.to(ONE), lambda: there[there > 0],
            lambda: here.copy_(there),
        ):  # fmt: skip
            with pytest.raises(HostReadError):
                read()
        assert here.to(ONE, non_blocking=True).device == ONE


# -- the stepper --------------------------------------------------------------------------------------------------


@pytest.fixture
def as_real_ones(devices: Devices, monkeypatch: pytest.MonkeyPatch) -> Devices:
    """Fused optimizers, and our checks for them, take these tensors for ordinary ones of a device they know."""
    known = _get_fused_kernels_supported_devices()
    checking = sys.modules[torch.optim.Optimizer.__module__]
    monkeypatch.setattr(checking, "_get_fused_kernels_supported_devices", lambda: [*known, ONE.type])
    monkeypatch.setattr("steadygrad.clip.gradients._ordinary", lambda grads, groups: True)
    folding.verified.cache_clear()
    return devices


def fused(name: str, held: list[nn.Parameter]) -> torch.optim.Optimizer:
    """torch's list of devices with fused kernels is closed, so the optimizer gets these parameters when it is built."""
    optimizer = FUSED[name]([nn.Parameter(torch.zeros(1))])
    optimizer.state.clear()
    optimizer.param_groups[0]["params"] = held
    return optimizer


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in [(4, 3), (5,), (2, 2)]]


def set_gradients(held: list[Any], step: int, factor: float) -> None:
    generator = torch.Generator().manual_seed(step)
    for p in held:
        p.grad = (factor * torch.randn(p.shape, generator=generator)).to(p.device)


@pytest.mark.parametrize("name", FUSED)
def test_folded_steps_on_several_accelerators_wait_for_nothing(name: str, as_real_ones: Devices) -> None:
    here = parameters()
    there = [nn.Parameter(p.detach().clone().to(place)) for p, place in zip(here, [ONE, OTHER, ONE], strict=True)]
    optimizers = FUSED[name](list(here)), fused(name, there)
    schedulers = [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20) for optimizer in optimizers]
    layer = nn.BatchNorm1d(2)
    layer.running_mean, layer.running_var = torch.ones(2).to(OTHER), torch.ones(2).to(OTHER)
    layer.num_batches_tracked = torch.tensor(0).to(OTHER)
    wanted = Stepper(optimizers[0], clip=GlobalNorm(0.5), scheduler=schedulers[0])
    stepper = Stepper(optimizers[1], clip=GlobalNorm(0.5), scheduler=schedulers[1], model=layer)
    for step, factor in enumerate((1.0, 1.0, 2.0**-10, math.nan, 3.0)):
        set_gradients(here, step, factor)
        set_gradients(there, step, factor)
        expected = wanted.step()
        if step == 0:  # there is no optimizer state yet: the host decides
            stepper.step()
            continue
        stepper.settle()  # what was decided one step before is read
        layer.running_mean.fill_(factor)  # as the forward pass would have
        with as_real_ones.unread():
            result = stepper.step()
        assert layer.running_mean.to(CPU).tolist() == [2.0**-10 if math.isnan(factor) else factor] * 2
        assert stepper.fold_refused == ""
        assert result.skipped == expected.skipped == math.isnan(factor)
        assert float(result.norm_before) == pytest.approx(float(expected.norm_before), rel=1e-5, nan_ok=True)
    assert (stepper.steps, stepper.skipped) == (4, 1)
    assert [scheduler.last_epoch for scheduler in schedulers] == [4, 4]
    for mine, other in zip(there, here, strict=True):
        torch.testing.assert_close(mine.detach().to(CPU), other.detach(), rtol=1e-5, atol=1e-7)


def test_with_a_loss_and_without_a_fused_kernel_one_number_is_read_a_step(as_real_ones: Devices) -> None:
    weight = nn.Parameter(torch.ones(4).to(ONE))
    stepper = Stepper(torch.optim.SGD([weight], lr=0.1), clip=GlobalNorm(0.5))
    with pytest.raises(HostReadError, match="_to_copy"), as_real_ones.unread():
        stepper.step(weight.square().sum())
    assert stepper.step(weight.square().sum()).stepped
    assert weight.detach().to(CPU).tolist() == pytest.approx([1 - 0.1 * 0.25] * 4)
