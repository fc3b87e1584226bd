"""What watching reads from an accelerator: in an ordinary step once, when the gradient is there, and all of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from devices import CPU, ONE, OTHER, Devices, HostReadError
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from steadygrad import stats
from steadygrad.clip import GlobalNorm
from steadygrad.monitor import Monitor
from steadygrad.monitor.clipping import Clips
from steadygrad.monitor.losses import Losses
from steadygrad.monitor.scaling import Scaling
from steadygrad.monitor.state import Pending
from steadygrad.records import Fact, OptimizerInfo, ParameterInfo, SiteInfo, StepRecord

aten = torch.ops.aten


@pytest.fixture
def devices() -> Iterator[Devices]:
    with Devices() as mode:
        yield mode


class Copies(TorchDispatchMode):
    """Counts copies to the host."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        if func.overloadpacket is aten._to_copy and args[0].device != CPU:
            self.count += torch.device(kwargs.get("device", args[0].device)) == CPU
        return func(*args, **kwargs)


def parameters(device: torch.device) -> list[Tensor]:
    torch.manual_seed(0)
    made = [torch.randn(shape).to(device).requires_grad_() for shape in ((3, 2), (3,))]
    for parameter in made:
        parameter.grad = torch.randn(parameter.shape).to(device)
    return made


def clipped(clips: Clips, given: list[Tensor], max_norm: float) -> None:
    """What torch's clip does, as far as it is watched."""
    norms = torch.stack([torch.linalg.vector_norm(p.grad) for p in given])
    clips.scaled(given, max_norm, torch.linalg.vector_norm(norms), ours=True)


def losses_of(device: torch.device, values: list[float], *, at_once: bool = False) -> Pending:
    pending, losses = Pending(), Losses()
    for value in values:
        loss = torch.tensor(value).to(device, non_blocking=True)
        losses.add(pending, loss, loss, at_once=at_once)
    return pending


@pytest.mark.parametrize("max_norm", [0.5, 1e6, math.inf])
def test_a_clip_is_read_with_the_loss_and_as_on_the_cpu(max_norm: float, devices: Devices) -> None:
    given = parameters(ONE)
    with devices.unread():
        pending = losses_of(ONE, [1.5, 2.5])
        clipped(pending.clips, given, max_norm)
    with Copies() as copies:
        assert pending.fetch() == [1.5, 2.5]
    assert copies.count == 1
    there = Clips()
    clipped(there, parameters(CPU), max_norm)
    assert pending.clips.summary is not None
    assert there.summary is not None
    assert pending.clips.summary.coefficient == pytest.approx(there.summary.coefficient, rel=1e-6)
    assert pending.clips.summary.norm == pytest.approx(there.summary.norm, rel=1e-6)
    assert pending.losses == {("", 0): [1.5, 2.5]}


def test_a_clipper_of_ours_is_read_with_the_loss(devices: Devices) -> None:
    given = parameters(ONE)
    with devices.unread():
        pending = losses_of(ONE, [1.5])
        pending.clips.told(given, 0.5, GlobalNorm(0.5)(given))
    with Copies() as copies:
        pending.fetch()
    assert copies.count == 1
    norms, total = pending.clips.plain(given) or (torch.empty(0), math.nan)
    assert norms.device == CPU
    assert total == pytest.approx(float(torch.linalg.vector_norm(norms)), rel=1e-6)


def test_a_second_clip_of_a_step_is_told_as_on_the_cpu(devices: Devices) -> None:
    pending, there = Pending(), Clips()
    for bound in (2.0, 0.5):
        clipped(pending.clips, parameters(ONE), bound)
        clipped(there, parameters(CPU), bound)
    pending.fetch()
    assert pending.clips.summary is not None
    assert there.summary is not None
    assert pending.clips.summary.coefficient == pytest.approx(there.summary.coefficient, rel=1e-6)


def test_what_is_wanted_at_once_is_read_at_once(devices: Devices) -> None:
    with pytest.raises(HostReadError), devices.unread():
        losses_of(ONE, [1.5], at_once=True)
    assert losses_of(ONE, [1.5], at_once=True).losses == {("", 0): [1.5]}
    assert losses_of(CPU, [1.5]).unread == []


def test_a_loss_that_is_not_finite_is_told_when_it_arrives(devices: Devices) -> None:
    assert losses_of(ONE, [1.0, math.nan]).fetch() == [1.0, pytest.approx(math.nan, nan_ok=True)]


class Silent:
    """A sink that keeps facts and losses only."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self.losses: list[float | None] = []

    def parameters(self, table: list[ParameterInfo]) -> None: ...

    def sites(self, table: list[SiteInfo]) -> None: ...

    def optimizers(self, table: list[OptimizerInfo]) -> None: ...

    def step(self, record: StepRecord) -> None:
        self.losses.append(record.loss)

    def fact(self, fact: Fact) -> None:
        self.facts.append(fact)


def underway(sink: Silent) -> tuple[Monitor, torch.optim.Optimizer]:
    """A monitor in the fourth step, which is the first that is not sampled, with the gradient in place."""
    monitor, weight = Monitor(sink), torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.ones(2)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    for _ in range(3):
        monitor.step_begins(optimizer, False)
        monitor.step_ended(optimizer, False)
    return monitor, optimizer


def test_an_ordinary_backward_waits_for_nothing_and_a_nan_is_followed_up_at_the_step(devices: Devices) -> None:
    sink = Silent()
    monitor, optimizer = underway(sink)
    loss = torch.tensor(math.nan).to(ONE)
    with devices.unread():
        monitor.backward_begins([loss], None)
    assert "origin" not in [fact.kind for fact in sink.facts]
    monitor.step_begins(optimizer, False)
    assert "origin" in [fact.kind for fact in sink.facts]


def test_the_loss_of_a_step_that_a_scaler_left_out_is_read_as_well(devices: Devices) -> None:
    sink = Silent()
    monitor, optimizer = underway(sink)
    monitor.backward_begins([torch.tensor(1.5).to(ONE)], None)
    monitor.scaler_begins(optimizer)
    monitor.scaler_ended(optimizer)
    assert sink.losses[-1] == 1.5


def test_nothing_is_read_twice(devices: Devices) -> None:
    pending = losses_of(ONE, [1.5])
    pending.fetch()
    with devices.unread():
        assert pending.fetch() == []


def test_numbers_of_several_devices_come_in_one_copy_each(devices: Devices) -> None:
    given = [torch.tensor(1.0).to(ONE), torch.ones(2, 2).to(OTHER), torch.arange(3.0), torch.tensor([2.0]).to(ONE)]
    with Copies() as copies:
        host = stats.on_host(given)
    assert copies.count == 2
    assert [h.tolist() for h in host] == [1.0, [[1.0, 1.0], [1.0, 1.0]], [0.0, 1.0, 2.0], [2.0]]


def test_the_loss_scale_is_read_when_it_is_asked_for() -> None:
    asked: list[int] = []

    def get_scale() -> float:
        asked.append(1)
        return 8.0

    scaling = Scaling()
    scaling.scaled(torch.tensor(1.0), torch.tensor(8.0), SimpleNamespace(get_scale=get_scale))
    assert scaling.active
    assert not asked
    assert (scaling.scale, scaling.scale, len(asked)) == (8.0, 8.0, 1)
