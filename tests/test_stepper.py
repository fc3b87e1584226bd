"""The stepper against torch's plain loop, and its promise that a step is taken whole or not at all."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau
from training import ALL, FUSED, batches, distance, mse, network, same, state_of

from steadygrad import Guard, InputError, NonFiniteError, Stepper
from steadygrad.clip import AdaGC, GlobalNorm, Quantile, Scheduled, ZScore

every_optimizer = pytest.mark.parametrize("name", ALL)


def plain_loop(name: str, n: int = 12, *, max_norm: float | None = None, accumulate: int = 1) -> nn.Module:
    model = network()
    optimizer = ALL[name](list(model.parameters()))
    scheduler = CosineAnnealingLR(optimizer, 10)
    for i, batch in enumerate(batches(n)):
        (mse(model, batch) / accumulate).backward()
        if (i + 1) % accumulate == 0:
            if max_norm is not None:
                clip_grad_norm_(model.parameters(), max_norm)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    return model


def stepped(name: str, n: int = 12, **options: Any) -> tuple[nn.Module, Stepper]:
    model = network()
    optimizer = ALL[name](list(model.parameters()))
    stepper = Stepper(optimizer, scheduler=CosineAnnealingLR(optimizer, 10), model=model, **options)
    for batch in batches(n):
        stepper.step(mse(model, batch))
    return model, stepper


# -- against the plain loop ---------------------------------------------------------------------------------------


@every_optimizer
def test_without_a_clip_it_is_the_plain_loop_to_the_bit(name: str) -> None:
    model, stepper = stepped(name)
    assert same(state_of(model), state_of(plain_loop(name)))
    assert (stepper.steps, stepper.skipped) == (12, 0)


@every_optimizer
def test_with_a_clip_it_is_the_plain_loop_with_torchs_clip(name: str) -> None:
    model, _ = stepped(name, clip=GlobalNorm(0.3))
    assert distance(model, plain_loop(name, max_norm=0.3)) < 1e-6


@every_optimizer
def test_with_accumulation_it_is_the_plain_loop_clipping_once_per_step(name: str) -> None:
    model, stepper = stepped(name, clip=GlobalNorm(0.3), accumulate=3)
    assert distance(model, plain_loop(name, max_norm=0.3, accumulate=3)) < 1e-6
    assert stepper.steps == 4


def test_accumulating_is_one_large_batch() -> None:
    def train(accumulate: int) -> nn.Module:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))
        stepper = Stepper(torch.optim.SGD(model.parameters(), 0.1), clip=GlobalNorm(0.5), accumulate=accumulate)
        for x, y in batches(5, rows=32):
            for part in zip(x.chunk(accumulate), y.chunk(accumulate), strict=True):
                stepper.step(mse(model, part))
        return model

    assert distance(train(1), train(4)) < 1e-5


def test_the_last_step_of_an_epoch_has_the_mean_of_fewer_micro_batches() -> None:
    model, other = network(), network()
    stepper = Stepper(torch.optim.SGD(model.parameters(), 0.1), accumulate=4)
    plain = torch.optim.SGD(other.parameters(), 0.1)
    given_batches = list(batches(2))
    results = [stepper.step(mse(model, batch), last=i == 1) for i, batch in enumerate(given_batches)]
    for batch in given_batches:
        (mse(other, batch) / 2).backward()
    plain.step()
    assert [r.boundary for r in results] == [False, True]
    assert distance(model, other) < 1e-6
    assert stepper.step(mse(model, given_batches[0])).boundary is False, "the next step starts anew"


def test_what_a_result_says() -> None:
    model = network()
    stepper = Stepper(torch.optim.SGD(model.parameters(), 0.1), clip=GlobalNorm(0.1, eps=0.0), accumulate=2)
    losses = []
    for batch in batches(2):
        loss = mse(model, batch)
        losses.append(float(loss.detach()))
        result = stepper.step(loss)
        if not result.boundary:
            assert (result.stepped, result.skipped, result.norm_before, result.clip) == (False, False, None, None)
            assert repr(result) == "StepResult(accumulating)"
    assert result.stepped and not result.skipped and result.reason == ""
    assert result.loss is not None and float(result.loss) == pytest.approx(np.mean(losses))
    assert result.norm_before is not None and float(result.norm_before) > 0.1
    assert result.norm_after is not None and float(result.norm_after) == pytest.approx(0.1)
    assert result.coefficient is not None
    assert float(result.coefficient) == pytest.approx(0.1 / float(result.norm_before))
    assert result.clipped is not None and bool(result.clipped)
    assert repr(result) == "StepResult(stepped)"


@pytest.mark.parametrize("defer", [False, True])
def test_a_loss_of_one_element_will_do(defer: bool) -> None:
    model = network()
    stepper = Stepper(torch.optim.AdamW(model.parameters(), fused=True), accumulate=2, guard=Guard(), defer=defer)
    for batch in batches(4):
        result = stepper.step(mse(model, batch).reshape(1))
    assert result.stepped and result.loss is not None and result.loss.shape == ()


def test_gradients_of_other_backward_passes_do_not_leak_in() -> None:
    """A generator's loss also fills the discriminator's gradients."""
    model, other = network(), network()
    stepper = Stepper(torch.optim.SGD(model.parameters(), 0.1))
    first, second = batches(2)
    mse(model, first).backward()
    stepper.step(mse(model, second))
    (mse(other, second)).backward()
    torch.optim.SGD(other.parameters(), 0.1).step()
    assert distance(model, other) == 0


def test_without_a_loss_the_gradients_are_taken_as_they_are() -> None:
    model = network()
    stepper = Stepper(torch.optim.SGD(model.parameters(), 0.1))
    before = state_of(model)
    mse(model, next(batches(1))).backward()
    result = stepper.step()
    assert result.stepped and result.loss is None
    assert not same(state_of(model), before)
    mse(model, next(batches(1))).backward()
    model[0].weight.grad[0, 0] = math.nan  # type: ignore[index, union-attr]
    assert stepper.step().reason == "non-finite gradient"


# -- taken whole, or not at all -----------------------------------------------------------------------------------

BAD: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "nan loss": lambda _, loss: loss * math.nan,
    "inf loss, finite gradient": lambda _, loss: loss + math.inf,
    "nan gradient": lambda model, loss: loss + 0 * _with_gradient(model[3].bias, math.nan).sum(),  # type: ignore[index]
    "inf gradient": lambda model, loss: loss + 0 * _with_gradient(model[0].weight, math.inf).sum(),  # type: ignore[index]
}


class _Spoiled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, value: float) -> Tensor:
        ctx.value = value
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        spoiled = grad.clone()
        spoiled.view(-1)[0] = ctx.value
        return spoiled, None


def _with_gradient(parameter: Tensor, value: float) -> Tensor:
    """The parameter itself, whose gradient will have a bad entry."""
    spoiled: Tensor = _Spoiled.apply(parameter, value)  # type: ignore[no-untyped-call]
    return spoiled


@every_optimizer
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("first_bad", [0, 3])
@pytest.mark.parametrize("defer", [False, True])
def test_a_bad_step_leaves_no_trace(name: str, bad: str, first_bad: int, defer: bool) -> None:
    """Bit for bit, from the first step on, decided by host or kernel. And training goes on as if it had not been."""
    model, clean = network(), network()
    optimizer = ALL[name](list(model.parameters()))
    scheduler = OneCycleLR(optimizer, 0.01, 20) if "momentum" in str(optimizer) or "betas" in str(optimizer) else None
    scheduler = scheduler or CosineAnnealingLR(optimizer, 20)
    clip = GlobalNorm(0.3)
    stepper = Stepper(optimizer, clip=clip, scheduler=scheduler, model=model, defer=defer)
    other = ALL[name](list(clean.parameters()))
    other_scheduler = type(scheduler)(other, *((0.01, 20) if isinstance(scheduler, OneCycleLR) else (20,)))
    other_stepper = Stepper(other, clip=GlobalNorm(0.3), scheduler=other_scheduler, model=clean, defer=defer)
    parts = (model, optimizer, scheduler, clip)
    for i, batch in enumerate(batches(6)):
        if i == first_bad:
            before = state_of(*parts)
            result = stepper.step(BAD[bad](model, mse(model, batch)))
            stepper.settle()
            assert same(state_of(*parts), before)
            assert result.skipped and result.reason == ("non-finite loss" if "loss" in bad else "non-finite gradient")
        else:
            assert stepper.step(mse(model, batch)).stepped
            assert other_stepper.step(mse(clean, batch)).stepped
    assert same(state_of(model, optimizer), state_of(clean, other))
    assert (stepper.steps, stepper.skipped) == (5, 1)


def test_a_bad_batch_does_not_reach_the_running_statistics() -> None:
    """One NaN and BatchNorm is broken in evaluation for ever, although no step was taken."""
    model = network()
    stepper = Stepper(torch.optim.SGD(model.parameters(), 0.1), model=model)
    x, y = next(batches(1))
    stepper.step(mse(model, (x, y)))
    before = state_of(model)
    stepper.step(mse(model, (x.clone().index_put_((torch.tensor(0),), torch.tensor(math.nan)), y)))
    assert same(state_of(model), before)
    assert model.eval()(x).isfinite().all()


def test_raise_names_the_parameters_and_changes_nothing() -> None:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters())
    stepper = Stepper(optimizer, on_nonfinite="raise", model=model)
    batch = next(batches(1))
    stepper.step(mse(model, batch))
    before = state_of(model, optimizer)
    with pytest.raises(NonFiniteError, match=r"non-finite gradient: of 3\.bias$"):
        stepper.step(BAD["nan gradient"](model, mse(model, batch)))
    with pytest.raises(NonFiniteError, match="non-finite loss: while every gradient is finite"):
        stepper.step(BAD["inf loss, finite gradient"](model, mse(model, batch)))
    assert same(state_of(optimizer), before[1:])
    assert stepper.step(mse(model, batch)).stepped
    nameless = Stepper(optimizer, on_nonfinite="raise")
    with pytest.raises(NonFiniteError, match=r"parameter 0 of group 0 of AdamW with shape \(16, 8\)"):
        nameless.step(BAD["inf gradient"](model, mse(model, batch)))


def test_zero_steps_with_the_finite_rest() -> None:
    model, other = network(), network()
    stepper = Stepper(torch.optim.SGD(model.parameters(), 0.1), on_nonfinite="zero", clip=GlobalNorm(0.3, eps=0))
    batch = next(batches(1))
    result = stepper.step(BAD["nan gradient"](model, mse(model, batch)))
    mse(other, batch).backward()
    other[3].bias.grad[0] = 0.0  # type: ignore[index, union-attr]
    clip_grad_norm_(other.parameters(), 0.3)
    torch.optim.SGD(other.parameters(), 0.1).step()
    assert result.stepped
    assert distance(model, other) < 1e-6
    assert stepper.step(mse(model, batch) * math.nan).skipped, "a loss that is NaN leaves nothing to step with"


def test_one_bad_micro_batch_spoils_its_step_only() -> None:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters())
    stepper = Stepper(optimizer, accumulate=3, model=model)
    before = state_of(model, optimizer)
    reasons = [stepper.step(mse(model, b) * (math.nan if i == 1 else 1.0)).reason for i, b in enumerate(batches(3))]
    assert reasons == ["", "", "non-finite loss"]
    assert same(state_of(model, optimizer), before)
    assert [stepper.step(mse(model, b)).stepped for b in batches(3)] == [False, False, True]


@settings(max_examples=20, deadline=None)
@given(bad=st.sets(st.integers(0, 7)), accumulate=st.integers(1, 3), name=st.sampled_from(sorted(ALL)))
def test_bad_batches_are_as_if_they_had_never_come(bad: set[int], accumulate: int, name: str) -> None:
    def train(skip: bool) -> tuple[nn.Module, Stepper]:
        model = network()
        stepper = Stepper(ALL[name](list(model.parameters())), clip=GlobalNorm(0.2), accumulate=accumulate, model=model)
        for i, group in enumerate(zip(*[iter(batches(8 * accumulate))] * accumulate, strict=True)):
            for k, batch in enumerate(group):
                if not (skip and i in bad):
                    stepper.step(mse(model, batch) * (math.nan if i in bad and k == 0 else 1.0))
        return model, stepper

    (with_them, stepper), (without, _) = train(skip=False), train(skip=True)
    assert same(state_of(with_them), state_of(without))
    assert stepper.skipped == len(bad)


STATEFUL = {
    "quantile": lambda: Quantile(0.9),
    "zscore": lambda: ZScore(warmup=2),
    "adagc": lambda: AdaGC(warmup=2),
    "scheduled": lambda: Scheduled(ZScore(warmup=2), lambda t: 1.0),
}


@pytest.mark.parametrize("clipper", STATEFUL)
@pytest.mark.parametrize("bad", [*BAD, "spike"])
@pytest.mark.parametrize("defer", [False, True])
def test_a_skipped_step_teaches_the_clipper_nothing(clipper: str, bad: str, defer: bool) -> None:
    """One NaN makes the statistics of ZClip and AutoClip NaN for ever. A skipped spike must not count either."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), 0.01, fused=True)
    clip = STATEFUL[clipper]()
    stepper = Stepper(optimizer, clip=clip, guard=Guard(warmup=5), model=model, defer=defer)
    for batch in batches(8):
        stepper.step(mse(model, batch))
    stepper.settle()
    before = state_of(clip, model, optimizer)
    loss = mse(model, next(batches(1)))
    result = stepper.step(loss * 1e5 if bad == "spike" else BAD[bad](model, loss))
    assert result.skipped
    assert same(state_of(clip, model, optimizer), before)
    assert stepper.step(mse(model, next(batches(1)))).stepped
    assert not same(state_of(clip), before[:1])


# -- mixed precision ----------------------------------------------------------------------------------------------


def scaled_loop(name: str, overflow: set[int], n: int = 12) -> tuple[nn.Module, torch.amp.GradScaler]:
    """The order that torch's documentation prescribes."""
    model = network()
    optimizer = ALL[name](list(model.parameters()))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3)
    for i, batch in enumerate(batches(n)):
        optimizer.zero_grad()
        loss = mse(model, batch)
        scaler.scale(BAD["inf gradient"](model, loss) if i in overflow else loss).backward()
        scaler.unscale_(optimizer)
        clip_grad_norm_(model.parameters(), 0.3)
        scaler.step(optimizer)
        scaler.update()
    return model, scaler


@every_optimizer
@pytest.mark.parametrize("defer", [False, True])
def test_a_scaler_is_used_in_torchs_order_and_ends_the_same(name: str, defer: bool) -> None:
    overflow = {4, 5, 9}
    expected, expected_scaler = scaled_loop(name, overflow)
    model = network()
    optimizer = ALL[name](list(model.parameters()))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    stepper = Stepper(optimizer, scaler=scaler, clip=GlobalNorm(0.3), scheduler=scheduler, defer=defer)
    for i, batch in enumerate(batches(12)):
        loss = mse(model, batch)
        result = stepper.step(BAD["inf gradient"](model, loss) if i in overflow else loss)
        assert result.reason == ("loss scale overflow" if i in overflow else "")
    assert distance(model, expected) < 1e-6
    assert scaler.state_dict() == expected_scaler.state_dict()
    assert (stepper.skipped, scheduler.last_epoch) == (3, 9), "Accelerate moves the rate here when the kernel skipped"


@pytest.mark.parametrize("defer", [False, True])
@pytest.mark.parametrize("name", ["adamw", "foreach adamw"])
def test_a_loss_that_is_not_finite_says_nothing_about_the_scale(name: str, defer: bool) -> None:
    model = network()
    optimizer = ALL[name](list(model.parameters()))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=50)
    stepper = Stepper(optimizer, scaler=scaler, defer=defer)
    for batch in batches(3):
        stepper.step(mse(model, batch))
    before = state_of(scaler, model, optimizer)
    for bad in ("nan loss", "inf loss, finite gradient"):
        result = stepper.step(BAD[bad](model, mse(model, next(batches(1)))))
        assert result.reason == "non-finite loss"
        assert same(state_of(scaler, optimizer), [before[0], before[2]])
    assert stepper.step(mse(model, next(batches(1)))).stepped


def test_an_overflow_is_told_from_a_gradient_that_is_not_finite_at_any_scale() -> None:
    model = network()
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    stepper = Stepper(torch.optim.SGD(model.parameters(), 0.1), scaler=scaler, on_nonfinite="raise")
    for _ in range(2):
        loss = BAD["inf gradient"](model, mse(model, next(batches(1))))
        assert stepper.step(loss).reason == "loss scale overflow"
    with pytest.raises(NonFiniteError):
        stepper.step(BAD["inf gradient"](model, mse(model, next(batches(1)))))
    assert stepper.step(mse(model, next(batches(1)))).stepped, "the scaler is not left half-way"


def test_float16_on_the_cpu_trains() -> None:
    model = network()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)
    stepper = Stepper(torch.optim.AdamW(model.parameters(), 0.01), scaler=scaler, clip=GlobalNorm(1.0), model=model)
    losses = []
    for batch in batches(40):
        with torch.autocast("cpu", torch.float16):
            loss = mse(model, batch)
        losses.append(float(loss.detach()))
        stepper.step(loss)
    assert 0 < stepper.skipped < 20
    assert scaler.get_scale() < 2.0**24
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_the_sharded_scaler_is_refused() -> None:
    """Without a reduction of its flag one rank skips and the other steps; after ``unscale_`` it crashes."""

    class ShardedGradScaler(torch.amp.GradScaler):
        pass

    with pytest.raises(InputError, match="fully_shard"):
        Stepper(torch.optim.SGD(network().parameters(), 0.1), scaler=ShardedGradScaler("cpu"))


def test_a_switched_off_scaler_is_none() -> None:
    model, _ = stepped("adamw", scaler=torch.amp.GradScaler("cpu", enabled=False))
    assert same(state_of(model), state_of(plain_loop("adamw")))


# -- schedulers ---------------------------------------------------------------------------------------------------


def test_a_skipped_first_step_does_not_move_the_rate() -> None:
    """pytorch#44511: with a GradScaler the scheduler is usually stepped anyway, and warns."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), 0.1)
    scheduler = CosineAnnealingLR(optimizer, 10)
    stepper = Stepper(optimizer, scheduler=scheduler)
    stepper.step(mse(model, next(batches(1))) * math.nan)
    assert (scheduler.last_epoch, optimizer.param_groups[0]["lr"]) == (0, 0.1)
    stepper.step(mse(model, next(batches(1))))
    assert scheduler.last_epoch == 1


def test_a_provisional_scheduler_step_is_taken_back() -> None:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), 0.1, fused=True)
    scheduler = OneCycleLR(optimizer, 0.1, 20)
    stepper = Stepper(optimizer, scheduler=scheduler, defer=True)
    batch = next(batches(1))
    stepper.step(mse(model, batch))
    before = state_of(scheduler, optimizer)
    stepper.step(mse(model, batch) * math.nan)
    assert scheduler.last_epoch == 2, "not known yet"
    assert stepper.skipped == 1
    assert same(state_of(scheduler, optimizer), before)


# -- closures, several optimizers ---------------------------------------------------------------------------------


def test_lbfgs_is_torchs_lbfgs() -> None:
    def train(own: bool) -> nn.Module:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)).double()
        optimizer = torch.optim.LBFGS(model.parameters(), max_iter=5, line_search_fn="strong_wolfe")
        stepper = Stepper(optimizer)
        x, y = (t.double() for t in next(batches(1, rows=64)))

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = mse(model, (x, y))
            loss.backward()
            return loss

        for _ in range(4):
            if own:
                stepper.step(closure)
            else:
                optimizer.step(closure)
        return model

    assert same(state_of(train(True)), state_of(train(False)))


@pytest.mark.parametrize("bad_call", [1, 3])
def test_a_closure_that_turns_bad_half_way_undoes_the_step(bad_call: int) -> None:
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=6)
    stepper = Stepper(optimizer, clip=GlobalNorm(1.0), model=model)
    batch = next(batches(1))
    assert stepper.step(lambda: mse(model, batch)).stepped
    before = state_of(model, optimizer)
    calls = []

    def closure() -> Tensor:
        calls.append(1)
        return mse(model, batch) * (math.nan if len(calls) == bad_call else 1.0)

    result = stepper.step(closure)
    assert result.skipped and result.reason == "non-finite loss"
    assert same(state_of(model, optimizer), before)

    def broken() -> Tensor:
        calls.append(1)
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        stepper.step(broken)
    assert same(state_of(model, optimizer), before)
    raising = Stepper(optimizer, on_nonfinite="raise")
    calls.clear()
    with pytest.raises(NonFiniteError, match="LBFGS"):
        raising.step(closure)


def test_a_diverging_line_search_is_undone() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    optimizer = torch.optim.LBFGS([weight], lr=1e39, max_iter=1)
    stepper = Stepper(optimizer)
    result = stepper.step(lambda: -(weight**3).sum() * 1e20)
    assert result.skipped
    assert weight.item() == 1.0


def test_several_optimizers_share_one_clip_and_one_decision() -> None:
    model, other = network(), network()
    halves = [[*model[0].parameters(), *model[1].parameters()], list(model[3].parameters())]
    optimizers = [torch.optim.AdamW(halves[0], 0.01, fused=True), torch.optim.SGD(halves[1], 0.1)]
    stepper = Stepper(optimizers, clip=GlobalNorm(0.2))
    theirs = [[*other[0].parameters(), *other[1].parameters()], list(other[3].parameters())]
    plain = [torch.optim.AdamW(theirs[0], 0.01), torch.optim.SGD(theirs[1], 0.1)]
    for batch in batches(5):
        stepper.step(mse(model, batch))
        mse(other, batch).backward()
        clip_grad_norm_(other.parameters(), 0.2)
        for optimizer in plain:
            optimizer.step()
            optimizer.zero_grad()
    assert distance(model, other) < 1e-6
    before = state_of(model[0], model[3], *optimizers)
    assert stepper.step(BAD["nan gradient"](model, mse(model, next(batches(1))))).skipped
    assert same(state_of(model[0], model[3], *optimizers), before)


def test_two_steppers_train_a_gan() -> None:
    torch.manual_seed(0)
    generator, critic = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    for_generator = Stepper(torch.optim.Adam(generator.parameters(), 0.01), clip=GlobalNorm(1.0))
    for_critic = Stepper(torch.optim.Adam(critic.parameters(), 0.01), clip=GlobalNorm(1.0))
    softplus = nn.functional.softplus
    for _ in range(30):
        real, noise = torch.randn(16, 2) + 2, torch.randn(16, 2)
        fake = generator(noise)
        assert for_critic.step((softplus(-critic(real)) + softplus(critic(fake.detach()))).mean()).stepped
        assert for_generator.step(softplus(-critic(fake)).mean()).stepped
    assert float(generator.bias.detach().mean()) > 0.1


# -- exceptions, state, arguments ---------------------------------------------------------------------------------


def test_an_exception_in_backward_leaves_a_clean_stepper() -> None:
    model = network()
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    stepper = Stepper(torch.optim.SGD(model.parameters(), 0.1), accumulate=2, scaler=scaler)
    batch = next(batches(1))
    stepper.step(mse(model, batch))
    loss = mse(model, batch)
    loss.backward()
    with pytest.raises(RuntimeError, match="second time"):
        stepper.step(loss)
    assert [stepper.step(mse(model, batch)).boundary for _ in range(2)] == [False, True]


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize("defer", [False, True])
def test_an_exception_in_the_optimizer_leaves_no_attributes(name: str, defer: bool) -> None:
    model = network()
    optimizer = FUSED[name](list(model.parameters()))
    stepper = Stepper(optimizer, clip=GlobalNorm(1e-3), defer=defer)
    stepper.step(mse(model, next(batches(1))))
    handle = optimizer.register_step_post_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("hook")))
    with pytest.raises(RuntimeError, match="hook"):
        stepper.step(mse(model, next(batches(1))))
    assert not {"grad_scale", "found_inf"} & vars(optimizer).keys()
    handle.remove()
    assert stepper.step(mse(model, next(batches(1)))).stepped


def test_state_survives_a_round_trip() -> None:
    model, stepper = stepped("adamw", clip=GlobalNorm(0.3))
    stepper.step(mse(model, next(batches(1))) * math.nan)
    fresh = Stepper(torch.optim.SGD(network().parameters(), 0.1), clip=GlobalNorm(0.3))
    fresh.load_state_dict(stepper.state_dict())
    assert (fresh.steps, fresh.skipped) == (12, 1)
    with pytest.raises(InputError, match="not the state of a Stepper"):
        fresh.load_state_dict({"param_groups": []})


def test_the_optimizer_stays_what_it_is() -> None:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    attributes = set(vars(optimizer))
    stepper = Stepper(optimizer, clip=GlobalNorm(1e-3))
    stepper.step(mse(model, next(batches(1))))
    assert type(optimizer) is torch.optim.AdamW
    assert seen == ["before", "after"]
    assert set(vars(optimizer)) == attributes
    stepper.step(mse(model, next(batches(1))) * math.nan)
    assert seen == ["before", "after"], "an optimizer that is not stepped runs no hooks"


def test_clippers_that_are_not_foldable_scale_the_gradients() -> None:
    class Halves(GlobalNorm):
        foldable = False

        def factors(self, gradients: Any, norms: Tensor, total: Tensor, factor: float) -> Tensor:
            return torch.where(torch.arange(len(norms)) % 2 == 0, 0.5, 1.0)

    model, other = network(), network()
    Stepper(torch.optim.AdamW(model.parameters(), fused=True), clip=Halves()).step(mse(model, next(batches(1))))
    optimizer = torch.optim.AdamW(other.parameters(), fused=True)
    mse(other, next(batches(1))).backward()
    for p in list(other.parameters())[::2]:
        p.grad.mul_(0.5)  # type: ignore[union-attr]
    optimizer.step()
    assert same(state_of(model), state_of(other))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accumulate": 0}, "accumulate"),
        ({"accumulate": 1.5}, "accumulate"),
        ({"accumulate": True}, "accumulate"),
        ({"on_nonfinite": "ignore"}, "skip, raise, zero"),
        ({"scheduler": 3}, "step"),
        ({"clip": 2.0}, r"such as steadygrad.clip.GlobalNorm\(2.0\)"),
        ({"clip": torch.nn.utils.clip_grad_norm_}, "clip must be a clipper"),
        ({"guard": True}, r"such as steadygrad.Guard\(\)"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Stepper(torch.optim.SGD(network().parameters(), 0.1), **options)


def test_bad_optimizers_and_losses_are_named() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for wrong in ([], model, [optimizer, None], None):
        with pytest.raises(InputError, match="optimizer"):
            Stepper(wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="two of the optimizers"):
        Stepper([optimizer, torch.optim.Adam(model.parameters())])
    with pytest.raises(InputError, match="metric"):
        Stepper(optimizer, scheduler=ReduceLROnPlateau(optimizer))
    stepper = Stepper(optimizer)
    with pytest.raises(InputError, match=r"scalar loss, not a tensor of shape \(16,\)"):
        stepper.step(torch.ones(16, requires_grad=True))
    with pytest.raises(InputError, match="a number has no gradient"):
        stepper.step(0.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="does not depend"):
        stepper.step(mse(model, next(batches(1))).detach())
    with pytest.raises(InputError, match="closure"):
        Stepper(optimizer, accumulate=2).step(lambda: mse(model, next(batches(1))))


# -- against optax ------------------------------------------------------------------------------------------------

OPTAX = """
import json, sys
import jax.numpy as jnp
import optax
gradients, kind = json.loads(sys.argv[1]), sys.argv[2]
if kind == "skip":
    theirs = optax.apply_if_finite(optax.adam(0.1), max_consecutive_errors=100)
else:
    theirs = optax.MultiSteps(optax.chain(optax.clip_by_global_norm(0.5), optax.adam(0.1)), every_k_schedule=3)
params = jnp.ones(5)
state = theirs.init(params)
for gradient in gradients:
    updates, state = theirs.update(jnp.asarray(gradient), state, params)
    params = optax.apply_updates(params, updates)
    print(json.dumps(params.tolist()))
"""


def optax_says(gradients: np.ndarray[Any, Any], kind: str) -> list[list[float]]:
    """The parameters after each step. In a process of its own: JAX starts threads, and other tests fork."""
    command = [sys.executable, "-c", OPTAX, json.dumps(gradients.tolist()), kind]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=100)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_skipping_is_optax_apply_if_finite() -> None:
    gradients = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    gradients[3, 2] = np.nan
    gradients[4, 0] = np.inf
    weight = nn.Parameter(torch.ones(5))
    stepper = Stepper(torch.optim.Adam([weight], 0.1))
    for gradient, theirs in zip(gradients, optax_says(gradients, "skip"), strict=True):
        weight.grad = torch.from_numpy(gradient.copy())
        stepper.step()
        np.testing.assert_allclose(weight.detach().numpy(), theirs, rtol=1e-5)
    assert stepper.skipped == 2


def test_accumulating_is_optax_multisteps() -> None:
    gradients = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    weight = nn.Parameter(torch.ones(5))
    stepper = Stepper(torch.optim.Adam([weight], 0.1), clip=GlobalNorm(0.5, eps=0), accumulate=3)
    for gradient, theirs in zip(gradients, optax_says(gradients, "accumulate"), strict=True):
        stepper.step((weight * torch.from_numpy(gradient)).sum())
        np.testing.assert_allclose(weight.detach().numpy(), theirs, rtol=1e-5)
