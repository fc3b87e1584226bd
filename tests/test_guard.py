"""The guard: what it calls bad, each rung of its ladder, and that going back is going back to the bit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from training import batches, mse, network, same, state_of

from steadygrad import Guard, GuardStopError, InputError, Stepper
from steadygrad.clip import GlobalNorm
from steadygrad.guard import Budget, Event, SpikeTest, events
from steadygrad.guard.snapshots import Ring, Snapshot, Subject
from steadygrad.guard.verdict import Found, Limits

# -- what is a spike ----------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1e6, 1e6), min_size=20, max_size=200), st.floats(1.0, 10.0))
def test_the_limit_is_its_formula(values: list[float], factor: float) -> None:
    test = SpikeTest(window=64, factor=factor)
    for value in values:
        test.add(value)
    kept = np.array(values[-64:])
    middle = np.median(kept)
    deviation = 1.4826 * np.median(np.abs(kept - middle))
    limit = middle + max(factor * deviation, 2 * (kept.max() - middle), 0.1 * abs(middle))
    assert test.limit() == pytest.approx(limit, rel=1e-12, abs=1e-12)
    assert test.median() == pytest.approx(middle)


def test_the_limit_on_a_log_scale_is_a_factor() -> None:
    test = SpikeTest(log=True, floor=math.log(4))
    for value in [100.0] * 30 + [0.0, math.nan, math.inf]:
        test.add(value)
    assert len(test) == 30
    assert test.limit() == pytest.approx(400)
    assert test.median() == pytest.approx(100)


def test_nothing_is_a_spike_during_the_warm_up() -> None:
    test = SpikeTest(warmup=10)
    for _ in range(9):
        test.add(1.0)
    assert test.limit() == math.inf
    test.add(1.0)
    assert test.limit() == pytest.approx(1.1)


def noise(kind: str, n: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    rng = np.random.default_rng(0)
    if kind == "falling":
        return 5 * np.exp(-np.arange(n) / 500) + 0.1 * rng.normal(size=n)
    if kind == "heavy tails":
        return np.asarray(rng.lognormal(0.0, 1.0, n))
    return rng.normal(2.0, 0.3, n) if kind == "noisy" else rng.normal(0.0, 1.0, n)


@pytest.mark.parametrize("kind", ["falling", "heavy tails", "noisy", "around zero"])
def test_healthy_losses_are_left_alone(kind: str) -> None:
    test, called = SpikeTest(), 0
    for value in noise(kind, 5000):
        if value > test.limit():
            called += 1
        else:
            test.add(value)
    assert called <= 5, "at most one in a thousand"


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (Found(1.0, 1.0), ""),
        (Found(1.0, None), ""),
        (Found(1.0, math.nan), "non-finite loss"),
        (Found(1.0, -math.inf), "non-finite loss"),
        (Found(math.nan, 1.0), "non-finite gradient"),
        (Found(1.0, 1.0, True), "non-finite gradient"),
        (Found(1.0, 9.0), "loss spike"),
        (Found(9.0, 1.0), "gradient spike"),
    ],
)
def test_the_reason_of_a_bad_step(found: Found, reason: str) -> None:
    assert Limits(loss=5.0, norm=5.0).reason(found) == reason


# -- the ladder ---------------------------------------------------------------------------------------------------

BUDGET = Budget(skips=2, span=10, damps=1, rollbacks=2, horizon=300)


class Training:
    """A training whose good and bad steps are called for."""

    def __init__(self, *, scaler: torch.amp.GradScaler | None = None, defer: bool = False, **settings: Any) -> None:
        self.model = network()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 0.01, fused=True)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, 1000)
        self.clip = GlobalNorm(1.0)
        self.guard = Guard(**{"budget": BUDGET, "snapshot_every": 10, "warmup": 10, "damped_steps": 5} | settings)
        self.stepper = Stepper(
            self.optimizer, clip=self.clip, scheduler=self.scheduler, guard=self.guard, model=self.model,
            scaler=scaler, defer=defer,
        )  # fmt: skip
        self._batches = batches(100_000)
        self.taken = 0

    def good(self, n: int = 1) -> Any:
        for _ in range(n):
            result = self.stepper.step(mse(self.model, next(self._batches)), batch=self.taken)
            self.taken += 1
        return result

    def bad(self, n: int = 1, factor: float = math.nan) -> Any:
        for _ in range(n):
            result = self.stepper.step(factor * mse(self.model, next(self._batches)), batch=self.taken)
            self.taken += 1
        return result

    def state(self) -> list[Any]:
        return state_of(self.model, self.optimizer, self.scheduler, self.clip)

    def actions(self) -> list[str]:
        return [event.action for event in self.guard.events]


def test_what_is_rejected_teaches_nothing() -> None:
    training = Training(budget=Budget(skips=100))
    training.good(60)
    limits = training.guard.limits()
    assert limits.loss < 3 and limits.norm < 100
    training.bad(30, factor=1e4)
    training.bad(30)
    assert training.guard.limits() == limits


@pytest.mark.parametrize("factor", [math.nan, 1e4])
def test_single_bad_steps_are_skipped_and_nothing_else(factor: float) -> None:
    training = Training()
    for _ in range(10):
        training.good(15)
        before = training.state()
        assert training.bad(factor=factor).skipped
        assert same(training.state(), before)
    assert training.actions() == ["skip"] * 10
    event = training.guard.events[0]
    assert event.reason == ("non-finite loss" if factor != factor else "loss spike")
    assert event.batch == 15


def test_each_rung_comes_after_the_one_before_it(tmp_path: Path) -> None:
    training = Training(folder=tmp_path)
    training.good(30)
    training.bad(2)
    assert training.actions() == ["skip", "skip"]
    training.bad()
    assert training.actions()[2:] == ["skip", "damp"]
    training.bad(3)
    assert training.actions()[4:] == ["skip", "skip", "skip", "rollback"]
    training.bad(3)
    assert training.actions()[-1] == "rollback"
    with pytest.raises(
        GuardStopError, match=r"after a non-finite loss: .*the state of step .* is restored and written"
    ):
        training.bad(3)
    assert training.actions()[-1] == "stop"
    assert (tmp_path / "guard-state.pt").exists()
    assert all(p.isfinite().all() for p in training.model.parameters())


def test_going_back_is_going_back_to_the_bit() -> None:
    training = Training(budget=Budget(skips=2, span=10, damps=0))
    states = {}
    for step in range(1, 46):
        training.good()
        states[step] = training.state()
    training.bad(3)
    event = training.guard.events[-1]
    assert event.action == "rollback"
    assert event.data["to_step"] == 41, "taken at 1, 11, 21, 31, 41; the first bad step was 46"
    assert same(training.state(), states[41])
    assert event.data["batches"] == list(range(41, 48))
    assert event.data["left_out"] == 7
    training.bad(3)
    assert training.guard.events[-1].data["to_step"] == 31, "the next time further back"
    assert same(training.state(), states[31])
    assert training.good(50).stepped


def test_damping_is_gentle_and_leaves_the_schedule_alone() -> None:
    training = Training()
    training.good(30)
    training.bad(3)
    rate = training.optimizer.param_groups[0]["lr"]
    seen: list[float] = []
    handle = training.optimizer.register_step_pre_hook(lambda o, *_: seen.append(o.param_groups[0]["lr"]))
    usual = training.guard.norm.median()
    result = training.bad(factor=1e4)
    assert result.stepped, "while damping, steps are small and so may be taken"
    assert seen == [pytest.approx(0.1 * rate)]
    assert float(result.norm_after) <= usual * (1 + 1e-5)
    assert training.optimizer.param_groups[0]["lr"] == pytest.approx(training.scheduler.get_last_lr()[0])
    assert training.guard.loss.limit() < 100, "what it lets pass teaches it nothing"
    assert training.bad().skipped, "but not what is not finite"
    training.good(4)
    assert seen[-1] == pytest.approx(0.1 * training.optimizer.param_groups[0]["lr"], rel=1e-3)
    training.good()
    handle.remove()
    assert seen[-1] > 0.5 * training.optimizer.param_groups[0]["lr"]
    assert training.bad(factor=1e4).skipped


def test_damping_folded_and_scaled_agree() -> None:
    def run(**options: Any) -> list[Any]:
        model = network()
        guard = Guard(budget=BUDGET, warmup=5, damped_steps=8)
        stepper = Stepper(
            torch.optim.AdamW(model.parameters(), 0.01, fused=True), clip=GlobalNorm(0.5), guard=guard, **options
        )
        for i, batch in enumerate(batches(19)):
            stepper.step(mse(model, batch) * (math.nan if 8 <= i < 11 else 50.0 if i > 12 else 1.0))
        assert [e.action for e in guard.events] == ["skip", "skip", "skip", "damp"]
        return list(model.parameters())

    for a, b in zip(run(), run(fold=False), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    for a, b in zip(run(), run(defer=True), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_new_level_can_be_accepted() -> None:
    training = Training(exhausted="accept", budget=Budget(skips=2, span=10, damps=0, rollbacks=1))
    training.good(40)
    training.bad(6, factor=100.0)
    assert training.actions()[-1] == "accept"
    assert training.bad(20, factor=100.0).stepped
    assert training.bad().skipped
    with pytest.raises(GuardStopError):
        training.bad(6)


def test_budgets_are_refilled_after_a_while() -> None:
    training = Training()
    training.good(30)
    training.bad(3)
    training.good(BUDGET.horizon)
    training.bad(3)
    assert training.actions().count("damp") == 2
    assert "rollback" not in training.actions()


def test_without_a_snapshot_there_is_no_going_back() -> None:
    training = Training(memory=1000)
    training.good(30)
    assert [str(e) for e in training.guard.events] == [
        "step 1: no-snapshot: a snapshot needs 0 MiB, the budget is 0 MiB"
    ]
    with pytest.raises(GuardStopError, match=r"did not help$"):
        training.bad(6)


@pytest.mark.parametrize("defer", [False, True])
def test_overflows_of_the_loss_scale_are_no_trouble(defer: bool) -> None:
    training = Training(scaler=torch.amp.GradScaler("cpu", init_scale=2.0**120), defer=defer)
    training.good()
    training.stepper._update.scaling.scale.fill_(2.0**126)  # type: ignore[union-attr]
    for _ in range(10):
        training.bad(factor=1e6)
    assert training.stepper.skipped > 5
    assert "damp" not in training.actions() and "stop" not in training.actions()


def test_deciding_on_the_device_ends_the_same() -> None:
    results = []
    for defer in (False, True):
        training = Training(defer=defer, budget=Budget(skips=3, span=5))
        for i in range(60):
            if i in (25, 40, 41):
                training.bad(factor=1e4 if i == 25 else math.nan)
            else:
                training.good()
        training.stepper.settle()
        results.append((training.state(), [e.plain()["reason"] for e in training.guard.events]))
    assert same(results[0][0], results[1][0])
    assert results[0][1] == results[1][1] == ["loss spike", "non-finite loss", "non-finite loss"]


def test_going_back_when_the_device_decides_drops_the_gradient_of_the_state_left() -> None:
    training = Training(defer=True, budget=Budget(skips=2, span=10, damps=0))
    training.good(45)
    training.bad(3)
    before = [p.detach().clone() for p in training.model.parameters()]
    result = training.good()
    assert result.reason == "rolled back"
    assert training.actions()[-1] == "rollback"
    assert any(not torch.equal(a, b) for a, b in zip(before, training.model.parameters(), strict=True))
    assert training.good().stepped


def test_random_state_goes_back_only_where_asked_for() -> None:
    for restore in (False, True):
        training = Training(restore_rng=restore, budget=Budget(skips=2, span=10, damps=0), snapshot_every=1000)
        training.good()
        kept = torch.get_rng_state()
        training.good(20)
        torch.rand(5)
        training.bad(3)
        assert torch.equal(torch.get_rng_state(), kept) == restore


# -- snapshots ----------------------------------------------------------------------------------------------------


def snapshot(step: int, value: float = 1.0, numbers: int = 256) -> Snapshot:
    return Snapshot(step, {"tensors": [torch.full((numbers,), value)], "optimizers": []})


def test_only_finite_states_are_kept() -> None:
    ring = Ring(keep=3, memory=1 << 20)
    assert ring.add(snapshot(1))
    assert not ring.add(snapshot(2, math.nan))
    assert not ring.add(snapshot(3, math.inf))
    assert [s.step for s in ring.held] == [1]


@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 12))
def test_the_ring_stays_within_number_and_memory(keep: int, room: int, added: int) -> None:
    ring = Ring(keep=keep, memory=room * 1024)
    for step in range(added):
        assert ring.add(snapshot(step))
        assert len(ring.held) <= min(keep, room)
        assert sum(s.nbytes() for s in ring.held) <= ring.memory
        assert ring.held[-1].step == step


def test_a_snapshot_that_does_not_fit_says_so() -> None:
    ring = Ring(keep=3, memory=1000)
    assert not ring.add(snapshot(1))
    assert ring.refused.startswith("a snapshot needs")


def test_each_time_goes_further_back_and_the_newest_stays_known() -> None:
    ring = Ring(keep=5, memory=1 << 20)
    for step in (10, 20, 30):
        ring.add(snapshot(step))

    def step_of(found: Snapshot | None) -> int:
        assert found is not None
        return found.step

    assert [step_of(ring.take(before)) for before in (25, 25, 5, 5)] == [20, 10, 10, 10]
    assert [step_of(ring.newest(before)) for before in (99, 25, 5)] == [30, 20, 10]
    ring.add(snapshot(40))
    assert [step_of(ring.take(50)) for _ in range(3)] == [40, 10, 10]
    assert Ring(keep=1, memory=1).take(5) is None


def test_state_of_other_types_than_the_parameters_comes_back_as_it_was() -> None:
    """``load_state_dict`` would cast float32 moments of bfloat16 parameters."""
    weight = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    optimizer = torch.optim.SGD([weight], 0.1, momentum=0.9)
    optimizer.state[weight]["momentum_buffer"] = torch.full((3,), 1 / 3)
    subject = Subject([optimizer])
    kept = subject.capture()
    buffer = optimizer.state[weight]["momentum_buffer"]
    buffer.mul_(5)
    optimizer.state[weight]["more"] = 1
    optimizer.param_groups[0]["lr"] = 7.0
    subject.restore(kept, rng=False)
    assert optimizer.state[weight]["momentum_buffer"] is buffer, "the same tensor: others may hold it"
    assert buffer.dtype == torch.float32 and buffer.tolist() == [pytest.approx(1 / 3)] * 3
    assert "more" not in optimizer.state[weight]
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_the_state_of_another_training_is_refused() -> None:
    kept = Subject([torch.optim.SGD(network().parameters(), 0.1)]).capture()
    with pytest.raises(InputError, match="other parameters"):
        Subject([torch.optim.SGD(nn.Linear(2, 2).parameters(), 0.1)]).restore(kept, rng=False)


# -- saving -------------------------------------------------------------------------------------------------------


def test_a_saved_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    def part(training: Training, n: int) -> None:
        for _ in range(n):
            if training.guard.step % 17 in (15, 16):
                training.bad(factor=math.nan if training.guard.step % 2 else 1e4)
            else:
                training.good()

    whole = Training()
    part(whole, 80)
    first = Training()
    part(first, 43)
    first.guard.save(tmp_path / "state.pt")
    second = Training()
    for _ in range(43):
        next(second._batches)
    second.guard.load(tmp_path / "state.pt")
    part(second, 37)
    assert same(second.state(), whole.state())
    assert second.guard.state_dict() == whole.guard.state_dict()
    assert [s.step for s in second.guard.ring.held] == [s.step for s in whole.guard.ring.held]


def test_what_a_guard_has_not_saved_is_refused(tmp_path: Path) -> None:
    training = Training()
    torch.save(training.model.state_dict(), tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"was not written by Guard\.save: it has no guard, ring, training"):
        training.guard.load(tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"not the state of a Guard: it has no .*damping_left"):
        training.guard.load_state_dict({"step": 3})


def test_saving_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = Training()
    training.good()
    path = tmp_path / "deep" / "state.pt"
    training.guard.save(path)
    before = path.read_bytes()

    def fails(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fails)
    with pytest.raises(OSError, match="disk full"):
        training.guard.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["state.pt"]


def test_a_stopped_training_can_be_taken_up_again(tmp_path: Path) -> None:
    training = Training(folder=tmp_path)
    training.good(30)
    with pytest.raises(GuardStopError):
        training.bad(30)
    again = Training()
    again.guard.load(tmp_path / "guard-state.pt")
    assert same(again.state(), training.state())
    assert again.good(3).stepped


def test_the_steppers_state_holds_the_guards() -> None:
    training = Training()
    training.good(20)
    training.bad()
    other = Training()
    other.stepper.load_state_dict(training.stepper.state_dict())
    assert other.guard.state_dict() == training.guard.state_dict()


# -- events, arguments --------------------------------------------------------------------------------------------


def test_events_reach_everyone_who_listens_and_read_well() -> None:
    mine: list[Event] = []
    everyones: list[Event] = []
    events.listeners.append(everyones.append)
    try:
        training = Training(on_event=mine.append)
        training.good(40)
        training.bad(factor=1e4)
        training.bad(5)
    finally:
        events.listeners.remove(everyones.append)
    assert mine == everyones == list(training.guard.events)
    lines = [str(e) for e in mine]
    assert lines[0].startswith("step 41: skip (loss spike ")
    assert lines[0].endswith(", batch 40")
    assert lines[1] == "step 42: skip (non-finite loss), batch 41"
    assert "damp (non-finite loss)" in lines[3] and "5 steps at 0.1 times the rate" in lines[3]
    assert lines[-1].endswith("back to step 31, 15 batches left out")
    stored = mine[-1].plain()
    assert stored["batches"] == list(range(31, 46))
    assert all(isinstance(v, int | float | str | list | None) for v in stored.values())


def test_a_guard_watches_over_one_stepper() -> None:
    training = Training()
    with pytest.raises(InputError, match="one for each"):
        Stepper(torch.optim.SGD(network().parameters(), 0.1), guard=training.guard)
    other = training.guard.another()
    Stepper(torch.optim.SGD(network().parameters(), 0.1), guard=other)
    assert other.budget == BUDGET
    fresh = Guard()
    for use in (fresh.save, fresh.load):
        with pytest.raises(InputError, match="Stepper"):
            use("nowhere")


@pytest.mark.parametrize(
    "settings",
    [
        {"factor": -1.0}, {"factor": math.nan}, {"warmup": 0}, {"window": 10, "warmup": 20}, {"damped_lr": 0.0},
        {"damped_lr": 2.0}, {"snapshot_every": 0}, {"keep": 0}, {"exhausted": "panic"}, {"memory": -1},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_named(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(settings))):
        Guard(**settings)


def test_a_closure_is_guarded_too() -> None:
    model = network()
    guard = Guard(warmup=5)
    stepper = Stepper(torch.optim.LBFGS(model.parameters(), 0.1, max_iter=3), guard=guard, model=model)
    batch = next(batches(1))
    for _ in range(8):
        assert stepper.step(lambda: mse(model, batch)).stepped
    before = state_of(model)
    result = stepper.step(lambda: 1e6 * mse(model, batch))
    assert result.reason == "loss spike"
    assert same(state_of(model), before)
    assert [e.action for e in guard.events] == ["skip"]
