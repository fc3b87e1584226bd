"""Every form against an independent implementation of it, the laws of composition, and known traps of others."""

from __future__ import annotations

import copy
import math
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from steadygrad import schedules
from steadygrad.errors import InputError
from steadygrad.schedules import (
    Constant,
    Cosine,
    CosineRestarts,
    Exponential,
    Geometric,
    Halving,
    InverseSqrt,
    Linear,
    MultiStep,
    Noam,
    Polynomial,
    Schedule,
    Sqrt,
    Step,
    Strict,
    Warmup,
    continued,
    one_cycle,
    sequence,
    wsd,
)

BASE = 0.7


def optimizer(lr: float = BASE, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr, **options)


def torch_rates(make: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler], steps: int) -> list[float]:
    """The rates of a torch scheduler before each step."""
    stepped = optimizer()
    scheduler, rates = make(stepped), []
    for _ in range(steps):
        rates.append(float(stepped.param_groups[0]["lr"]))
        stepped.step()
        scheduler.step()
    return rates


# -- against torch ------------------------------------------------------------------------------------------------

AGAINST_TORCH = {
    "constant": (Constant(5, value=1 / 3) >> Constant(), lambda o: lr_scheduler.ConstantLR(o, 1 / 3, 5)),
    "step": (Step(7, gamma=0.3), lambda o: lr_scheduler.StepLR(o, 7, 0.3)),
    "multistep": (MultiStep([5, 20, 20, 31], gamma=0.5), lambda o: lr_scheduler.MultiStepLR(o, [5, 20, 20, 31], 0.5)),
    "exponential": (Exponential(gamma=0.93), lambda o: lr_scheduler.ExponentialLR(o, 0.93)),
    "linear": (Linear(12, start=1 / 3, end=1), lambda o: lr_scheduler.LinearLR(o, 1 / 3, 1, 12)),
    "linear down": (Linear(30, start=0.9, end=0.05), lambda o: lr_scheduler.LinearLR(o, 0.9, 0.05, 30)),
    "polynomial": (Polynomial(40, power=2.5), lambda o: lr_scheduler.PolynomialLR(o, 40, 2.5)),
    "cosine": (Cosine(49, end=0.1 / BASE), lambda o: lr_scheduler.CosineAnnealingLR(o, 49, 0.1)),
    "restarts": (CosineRestarts(8), lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 8)),
    "growing restarts": (
        CosineRestarts(4, growth=2, end=0.07 / BASE),
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4, 2, 0.07),
    ),
    "one cycle": (one_cycle(50), lambda o: lr_scheduler.OneCycleLR(o, BASE, 50, cycle_momentum=False)),
    "linear cycle": (
        one_cycle(50, peak=0.2, shape="linear", start=0.1, end=0.01),
        lambda o: lr_scheduler.OneCycleLR(
            o,
            BASE,
            50,
            pct_start=0.2,
            anneal_strategy="linear",
            div_factor=10,
            final_div_factor=10,
            cycle_momentum=False,
        ),
    ),
    "three phases": (
        one_cycle(50, three_phase=True),
        lambda o: lr_scheduler.OneCycleLR(o, BASE, 50, three_phase=True, cycle_momentum=False),
    ),
    "sequence": (
        Linear(10, start=0.1, end=1) >> Cosine(15) >> Exponential(gamma=0.9),
        lambda o: lr_scheduler.SequentialLR(
            o,
            [
                lr_scheduler.LinearLR(o, 0.1, 1, 10),
                lr_scheduler.LambdaLR(o, lambda t: 0.5 * (1 + math.cos(math.pi * t / 15))),
                lr_scheduler.LambdaLR(o, lambda t: 0.9**t),
            ],
            [10, 25],
        ),
    ),
    "product": (
        Linear(10, start=0.1, end=1) * Step(12, gamma=0.5),
        lambda o: lr_scheduler.ChainedScheduler(
            [lr_scheduler.LinearLR(o, 0.1, 1, 10), lr_scheduler.StepLR(o, 12, 0.5)]
        ),
    ),
}


@pytest.mark.parametrize("name", AGAINST_TORCH)
def test_the_rates_are_those_of_torch(name: str) -> None:
    ours, make = AGAINST_TORCH[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SequentialLR calls its children with the deprecated epoch
        theirs = torch_rates(make, 50)
    assert [BASE * ours(t) for t in range(50)] == pytest.approx(theirs, rel=1e-12, abs=1e-12)


# -- against optax and the formulas of others ---------------------------------------------------------------------


def optax_cases() -> dict[str, tuple[Schedule, Any]]:
    import optax

    return {
        "linear": (Linear(40, start=0.2, end=0.9), optax.linear_schedule(0.2, 0.9, 40)),
        "cosine": (Cosine(40, end=0.05), optax.cosine_decay_schedule(1.0, 40, alpha=0.05)),
        "polynomial": (Polynomial(40, power=2, end=0.1), optax.polynomial_schedule(1.0, 0.1, 2, 40)),
        "exponential": (Exponential(gamma=0.5, every=10), optax.exponential_decay(1.0, 10, 0.5)),
        "staircase": (Step(10, gamma=0.5), optax.exponential_decay(1.0, 10, 0.5, staircase=True)),
        "warmup and cosine": (
            Warmup(10, start="0") >> Cosine(40, end=0.1),
            optax.warmup_cosine_decay_schedule(0.0, 1.0, 10, 50, 0.1),
        ),
        "join": (
            Linear(10, start=0.5, end=1) >> Cosine(20) >> Constant(value=0.3),
            optax.join_schedules(
                [
                    optax.linear_schedule(0.5, 1.0, 10),
                    optax.cosine_decay_schedule(1.0, 20),
                    optax.constant_schedule(0.3),
                ],
                [10, 30],
            ),
        ),
    }


@pytest.mark.parametrize(
    "name", ["linear", "cosine", "polynomial", "exponential", "staircase", "warmup and cosine", "join"]
)
def test_the_factors_are_those_of_optax(name: str) -> None:
    ours, theirs = optax_cases()[name]
    assert [ours(t) for t in range(70)] == pytest.approx([float(theirs(t)) for t in range(70)], abs=1e-6)


W, S, D, T = 13, 31, 20, 64


def hf_linear(t: int) -> float:
    return t / max(1, W) if t < W else max(0.0, (T - t) / max(1, T - W))


def hf_cosine(t: int) -> float:
    progress = (t - W) / max(1, T - W)
    return t / max(1, W) if t < W else max(0.0, 0.5 * (1.0 + math.cos(math.pi * 0.5 * 2.0 * progress)))


def hf_restarts(t: int) -> float:
    progress = (t - W) / max(1, T - W)
    if t < W:
        return t / max(1, W)
    return 0.0 if progress >= 1 else max(0.0, 0.5 * (1.0 + math.cos(math.pi * ((3.0 * progress) % 1.0))))


def hf_polynomial(t: int) -> float:
    """With lr_init 0.7, lr_end 0.05 and power 2."""
    if t < W:
        return t / max(1, W)
    return 0.05 / 0.7 if t > T else ((0.7 - 0.05) * (1 - (t - W) / (T - W)) ** 2 + 0.05) / 0.7


def hf_inverse_sqrt(t: int) -> float:
    return t / max(1, W) if t < W else 1.0 / math.sqrt((t + W - W) / W)


def hf_wsd(decay: Callable[[float], float], ratio: float) -> Callable[[int], float]:
    def factor(t: int) -> float:
        if t < W:
            return t / W
        if t < W + S:
            return 1.0
        return ratio if t >= W + S + D else decay((t - W - S) / D) * (1.0 - ratio) + ratio

    return factor


def torchtitan_wsd(t: int) -> float:
    """Its stable phase ends one step earlier in our count: at that step we still have factor 1, as it does."""
    if t < W:
        return (t + 1) / W
    if t < W + S:
        return 1.0
    return 1 - (t + 1 - W - S) / D


def megatron(decay: Callable[[float], float]) -> Callable[[int], float]:
    return lambda t: t / W if t <= W else 1.0 if t <= W + S else 0.1 + 0.9 * decay((t - W - S) / D)


def noam(t: int) -> float:
    s = t + 1
    return 2 * 64**-0.5 * min(s**-0.5, s * W**-1.5)


def timm_cosine(t: int) -> float:
    """With warmup_prefix and warmup_lr_init = 0.1 of the rate."""
    return 0.1 + t * (1 - 0.1) / W if t < W else 0.5 * (1 + math.cos(math.pi * min(1, (t - W) / 50)))


ZERO = Warmup(W, start="0")
FORMULAS: dict[str, tuple[Schedule, Callable[[int], float]]] = {
    "transformers linear": (ZERO >> Linear(T - W), hf_linear),
    "transformers cosine": (ZERO >> Cosine(T - W), hf_cosine),
    "transformers cosine with restarts": (ZERO >> CosineRestarts((T - W) / 3, cycles=3), hf_restarts),
    "transformers polynomial": (ZERO >> Polynomial(T - W, power=2, end=0.05 / 0.7), hf_polynomial),
    "transformers inverse sqrt": (ZERO >> InverseSqrt(W), hf_inverse_sqrt),
    "transformers wsd": (
        wsd(T, warmup=W, decay=D, start="0", shape="cosine", end=0.1),
        hf_wsd(lambda r: 0.5 * (1.0 + math.cos(math.pi * r)), 0.1),
    ),
    "transformers wsd linear": (wsd(T, warmup=W, decay=D, start=0), hf_wsd(lambda r: 1 - r, 0.0)),
    "transformers wsd sqrt": (
        wsd(T, warmup=W, decay=D, start=0, shape="sqrt", end=0.2),
        hf_wsd(lambda r: 1.0 - math.sqrt(r), 0.2),
    ),
    "torchtitan wsd": (wsd(T - 1, warmup=W, decay=D), torchtitan_wsd),
    "megatron wsd": (
        wsd(T, warmup=W, decay=D, start=0, shape="halving", end=0.1),
        megatron(lambda r: 2.0 * math.pow(0.5, r) - 1.0),
    ),
    "noam": (Noam(64, warmup=W, scale=2), noam),
    "timm": (Warmup(W, start=0.1) >> Cosine(50), timm_cosine),
    "cosine warm-up": (Warmup(W, start=0, shape="cosine"), lambda t: 0.5 * (1.0 - math.cos(math.pi * min(1, t / W)))),
    "sqrt warm-up": (Warmup(W, start=0, shape="sqrt"), lambda t: 1.0 - math.sqrt(1.0 - min(1, t / W))),
    "natural exponential": (Exponential(rate=0.03), lambda t: math.e ** (-0.03 * t)),
    "geometric": (Geometric(T, start=1e-8), lambda t: 10 ** (-8 + 8 * t / T)),
    "decaying restarts": (
        CosineRestarts(10, decay=0.5),
        lambda t: 0.5 ** (t // 10) * 0.5 * (1 + math.cos(math.pi * (t % 10) / 10)),
    ),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_the_factors_are_those_of_the_formula(name: str) -> None:
    ours, formula = FORMULAS[name]
    assert [ours(t) for t in range(T)] == pytest.approx([formula(t) for t in range(T)], rel=1e-12, abs=1e-12)


# -- laws ---------------------------------------------------------------------------------------------------------

LENGTHS = st.integers(0, 60) | st.floats(0.01, 60)
FACTORS = st.floats(0, 4)
SHARES = st.floats(0.01, 1)
FINITE: st.SearchStrategy[Schedule] = st.one_of(
    st.builds(Constant, LENGTHS, value=FACTORS),
    st.builds(Step, st.integers(1, 20), gamma=SHARES, steps=LENGTHS),
    st.builds(MultiStep, st.lists(st.integers(0, 60), max_size=3).map(sorted), gamma=SHARES, steps=LENGTHS),
    st.builds(Exponential, rate=st.floats(0, 1), steps=LENGTHS),
    st.builds(Exponential, gamma=SHARES, every=st.integers(1, 9), steps=LENGTHS),
    st.builds(InverseSqrt, st.integers(1, 50), steps=LENGTHS),
    st.builds(Noam, st.integers(1, 512), warmup=st.integers(1, 50), steps=LENGTHS),
    *(st.builds(form, LENGTHS, start=FACTORS, end=FACTORS) for form in (Linear, Cosine, Sqrt, Halving)),
    st.builds(Polynomial, LENGTHS, power=st.floats(0.1, 4), start=FACTORS, end=FACTORS),
    st.builds(Geometric, LENGTHS, start=SHARES, end=SHARES),
    st.builds(
        Warmup,
        LENGTHS,
        start=st.sampled_from(["0", "1/W", 0.25]),
        shape=st.sampled_from(["linear", "cosine", "sqrt"]),
    ),
    st.builds(
        CosineRestarts,
        st.integers(1, 20),
        growth=st.sampled_from([1, 2, 1.5]),
        decay=SHARES,
        end=st.floats(0, 1),
        cycles=st.integers(1, 4),
    ),
)
ANY: st.SearchStrategy[Schedule] = st.recursive(
    FINITE,
    lambda inner: st.one_of(
        st.builds(sequence, inner, inner),
        st.builds(lambda s, by: by * s, inner, FACTORS),
        st.builds(lambda a, b: a * b, inner, inner),
    ),
    max_leaves=4,
)
TIMES = st.integers(0, 300) | st.floats(0, 300)


@given(ANY, TIMES)
def test_factors_are_finite_and_not_negative(schedule: Schedule, t: float) -> None:
    factor = schedule(t)
    assert isinstance(factor, float)
    assert 0 <= factor < math.inf


@given(st.sampled_from([Linear, Cosine, Sqrt, Halving, Polynomial]), LENGTHS, FACTORS, FACTORS, TIMES)
def test_ramps_are_exact_at_both_ends_and_stay_between(
    form: Callable[..., Schedule], steps: float, start: float, end: float, t: float
) -> None:
    ramp = form(steps, start=start, end=end)
    assert ramp(0) == (start if steps else end)
    assert ramp(steps) == end
    assert min(start, end) * (1 - 1e-12) <= ramp(t) <= max(start, end) * (1 + 1e-12)


@given(ANY, st.floats(0, 1000))
def test_past_the_end_the_last_value_is_held(schedule: Schedule, later: float) -> None:
    assert schedule(schedule.length + later) == schedule(schedule.length)


@given(ANY, st.floats(0.001, 1000))
def test_a_strict_schedule_raises_past_its_end_and_is_the_same_before(schedule: Schedule, later: float) -> None:
    strict = Strict(schedule)
    assert strict(schedule.length) == schedule(schedule.length)
    with pytest.raises(InputError, match=r"ends after .* steps"):
        strict(schedule.length + later)


def test_the_last_piece_of_a_sequence_may_be_strict() -> None:
    schedule = 2 * (Warmup(5) >> Strict(Cosine(10)))
    assert schedule(15) == 0
    with pytest.raises(InputError, match="ends after 10 steps"):
        schedule(16)


@given(ANY, ANY, ANY, TIMES)
def test_sequences_nest(a: Schedule, b: Schedule, c: Schedule, t: float) -> None:
    assert sequence(a, sequence(b, c)) == sequence(sequence(a, b), c) == a >> b >> c
    assert sequence(a, sequence(b, c))(t) == sequence(a, b, c)(t)


@given(ANY, ANY, st.integers(0, 100))
def test_each_piece_of_a_sequence_counts_from_its_own_start(a: Schedule, b: Schedule, later: int) -> None:
    both = a >> b
    assert both.length == pytest.approx(a.length + b.length)
    assert both(a.length) == b(0)
    assert both(a.length + later) == pytest.approx(b(later), abs=1e-9) or b.joints or _steps_in(b)
    if a.length:
        before = math.nextafter(a.length, 0) * 0.999
        assert both(before) == a(before)


def _steps_in(schedule: Schedule) -> bool:
    """It has jumps of its own, where a rounded time may fall on the other side."""
    return any(word in str(schedule) for word in ("step", "restarts"))


@given(ANY, ANY)
def test_joints_tell_what_happens_there(a: Schedule, b: Schedule) -> None:
    both = a >> b
    for joint in both.joints:
        assert joint.after == both(joint.t)
    if a.length and not a.joints:
        assert both.joints[0].t == a.length
        assert both.joints[0].before == a(a.length)


@given(st.integers(1, 200), st.sampled_from(["0", "1/W", 0.3]), st.sampled_from(["linear", "cosine", "sqrt"]))
def test_a_warm_up_reaches_its_peak_and_joins_without_a_jump(steps: int, start: Any, shape: str) -> None:
    for after in (Cosine(50), Linear(50), InverseSqrt(steps), Step(10), Exponential(rate=0.1), Constant()):
        schedule = Warmup(steps, start=start, shape=shape) >> after
        factors = [schedule(t) for t in range(steps + 1)]
        assert factors == sorted(factors)
        assert factors[-1] == 1.0 == schedule.joints[0].before
        assert factors[0] == pytest.approx({"0": 0.0, 0.3: 0.3}.get(start, factors[0]))
    assert Warmup(steps)(0) == 1 / steps
    assert Warmup(steps)(steps - 1) == 1.0


@given(FINITE, FINITE)
def test_continued_schedules_have_no_jumps(a: Schedule, b: Schedule) -> None:
    if 0 < b(0) < 1e-9:
        return
    if b(0) == 0:
        with pytest.raises(InputError, match="starts at 0"):
            continued(a, b)
        return
    for joint in continued(a, b).joints:
        assert joint.after == pytest.approx(joint.before)


@given(ANY, TIMES)
def test_they_pickle_copy_compare_and_hash(schedule: Schedule, t: float) -> None:
    for twin in (pickle.loads(pickle.dumps(schedule)), copy.deepcopy(schedule), schedules.parse(str(schedule))):
        assert twin == schedule
        assert hash(twin) == hash(schedule)
        assert twin(t) == schedule(t)


@given(ANY, ANY, FACTORS, TIMES)
def test_products_multiply(a: Schedule, b: Schedule, by: float, t: float) -> None:
    assert (a * b)(t) == pytest.approx(a(t) * b(t), rel=1e-12)
    assert (by * a)(t) == (a * by)(t) == by * a(t)
    assert (by * a).length == a.length
    assert (a * b).length == max(a.length, b.length)


@given(st.integers(1, 300), st.integers(0, 100), st.integers(0, 100))
def test_wsd_infers_its_stable_length(steps: int, warmup: int, decay: int) -> None:
    if warmup + decay > steps:
        with pytest.raises(InputError, match="must fit"):
            wsd(steps, warmup=warmup, decay=decay)
        return
    schedule = wsd(steps, warmup=warmup, decay=decay)
    assert schedule.length == steps
    assert schedule(steps) == 0.0
    assert schedule(warmup) == (1.0 if decay or warmup < steps else 0.0)


@given(st.integers(1, 30), st.sampled_from([1, 2, 3, 1.1, 1.7]), st.integers(0, 12))
def test_restarts_begin_where_the_cycles_add_up_to(steps: int, growth: float, cycle: int) -> None:
    schedule = CosineRestarts(steps, growth=growth)
    begin = sum(steps * growth**k for k in range(cycle))
    assert schedule.begin(cycle) == pytest.approx(begin)
    assert schedule(schedule.begin(cycle)) == 1.0
    assert schedule(math.nextafter(schedule.begin(cycle + 1), 0)) < 0.01
    assert CosineRestarts(steps, growth=growth, cycles=cycle + 1).length == schedule.begin(cycle + 1)


# -- traps of others ----------------------------------------------------------------------------------------------


def test_cosine_does_not_rise_again() -> None:
    assert lr_scheduler.CosineAnnealingLR(optimizer(), 10)._get_closed_form_lr is not None
    assert torch_rates(lambda o: lr_scheduler.CosineAnnealingLR(o, 10), 16)[15] > 0.3  # torch's does
    assert Cosine(10)(15) == 0.0


def test_a_ramp_may_start_at_zero() -> None:
    with pytest.raises(ValueError, match="Starting multiplicative factor"):
        lr_scheduler.LinearLR(optimizer(), start_factor=0.0)
    assert Linear(10, start=0, end=1)(0) == 0.0


def test_an_empty_piece_is_over_not_stuck_at_its_start() -> None:
    assert optax_zero() == 1.0  # optax stays at the initial value for ever
    assert Linear(0)(0) == Cosine(0)(3) == 0.0
    assert (Warmup(0) >> Cosine(10))(0) == 1.0
    assert (Cosine(10) >> Linear(0) >> Constant(value=0.5))(10) == 0.5
    assert (Warmup(10, start=0) >> Polynomial(0))(10) == 0.0  # transformers divides by zero where W = T


def optax_zero() -> float:
    import optax

    return float(optax.linear_schedule(1.0, 0.0, transition_steps=0)(5))


def test_noam_is_defined_at_the_first_step_and_peaks_at_the_end_of_warmup() -> None:
    schedule = Noam(128, warmup=40)
    assert schedule(0) == pytest.approx(40**-1.5 * 128**-0.5)
    assert max(range(200), key=schedule) == 39
    assert schedule(39) == pytest.approx((128 * 40) ** -0.5)


def test_a_product_forgets_none_of_its_factors() -> None:
    def chained(o: torch.optim.Optimizer) -> lr_scheduler.ChainedScheduler:
        return lr_scheduler.ChainedScheduler([lr_scheduler.StepLR(o, 5, 0.5), lr_scheduler.LambdaLR(o, lambda t: 0.9)])

    assert torch_rates(chained, 21)[20] == pytest.approx(BASE * 0.9)  # the steps are gone
    assert (Step(5, gamma=0.5) * Constant(value=0.9))(20) == pytest.approx(0.5**4 * 0.9)


def test_asking_once_more_after_a_cycle_is_no_error() -> None:
    with pytest.raises(ValueError, match="Tried to step"):
        torch_rates(lambda o: lr_scheduler.OneCycleLR(o, BASE, 10, cycle_momentum=False), 12)
    assert one_cycle(10)(12) == one_cycle(10)(9) == 1 / 25e4


def test_cosine_then_steps_joins_as_written_or_goes_on() -> None:
    absolute = Cosine(100, end=0.1) >> 0.1 * Step(30, gamma=0.5)
    assert continued(Cosine(100, end=0.1), Step(30, gamma=0.5)) == absolute
    assert [absolute(t) for t in (100, 129, 130, 160)] == pytest.approx([0.1, 0.1, 0.05, 0.025])
    assert (Cosine(100, end=0.1) >> Step(30)).joints == ((100, 0.1, 1.0),)


def test_a_sequence_inside_a_sequence_keeps_its_place() -> None:
    inner = Linear(5, start=0.5, end=1) >> Constant(5) >> Cosine(10)
    outer = Warmup(4) >> inner >> Constant(value=0.2)
    assert [outer(4 + t) for t in range(20)] == [inner(t) for t in range(20)]
    assert outer(24) == 0.2


# -- what is refused ----------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "an endless piece in the middle": (lambda: Constant() >> Cosine(10), "only the last schedule"),
    "a negative length": (lambda: Cosine(-1), "steps must be a finite number of at least 0, not -1"),
    "an infinite length": (lambda: Linear(math.inf), "steps must be"),
    "a length that is NaN": (lambda: Linear(math.nan), "steps must be"),
    "no length": (lambda: Linear(None), "steps must be"),  # type: ignore[arg-type]
    "a length in words": (lambda: Cosine("long"), "steps must be"),  # type: ignore[arg-type]
    "True for a length": (lambda: Cosine(True), "steps must be"),
    "a negative factor": (lambda: Cosine(10, end=-0.1), "end must be"),
    "growth by decay": (lambda: Step(10, gamma=2), "gamma must be a finite number above 0 and at most 1"),
    "both exponents": (lambda: Exponential(rate=0.1, gamma=0.5), "either rate"),
    "no exponent": (Exponential, "either rate"),
    "rate and every": (lambda: Exponential(rate=0.1, every=5), "belongs to gamma"),
    "falling milestones": (lambda: MultiStep([5, 3]), "must rise"),
    "one milestone": (lambda: MultiStep(5), "list of steps"),  # type: ignore[arg-type]
    "an unknown start": (lambda: Warmup(10, start="2/W"), "'0', '1/W'"),
    "an unknown shape": (lambda: Warmup(10, shape="round"), "linear, cosine, sqrt"),
    "an unknown decay": (lambda: wsd(10, warmup=1, decay=1, shape="round"), "halving"),
    "a cycle too short": (lambda: one_cycle(3), "no room"),
    "an unknown cycle": (lambda: one_cycle(30, shape="sqrt"), "cosine or linear"),
    "half a cycle": (lambda: CosineRestarts(10, cycles=1.5), "whole number"),  # type: ignore[arg-type]
    "cycles without end": (lambda: CosineRestarts(10, growth=2, cycles=5000), "never end"),
    "an empty sequence": (sequence, "at least one"),
    "a number in a sequence": (lambda: sequence(Cosine(1), 3), "made of schedules"),  # type: ignore[arg-type]
    "geometric from zero": (lambda: Geometric(10, start=0), "start must be"),
    "a time before the start": (lambda: Cosine(10)(-1), "t counts the steps"),
    "a time that is NaN": (lambda: Cosine(10)(math.nan), "t counts the steps"),
    "no time": (lambda: Cosine(10)("0"), "t counts the steps"),  # type: ignore[arg-type]
    "a time beyond floats": (lambda: Cosine(10)(10**400), "t counts the steps"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_arguments_are_refused_with_the_rule(case: str) -> None:
    build, rule = REFUSED[case]
    with pytest.raises(InputError, match=rule):
        build()


def test_operators_leave_other_types_to_python() -> None:
    with pytest.raises(TypeError):
        Cosine(10) >> 3  # type: ignore[operator]
    with pytest.raises(TypeError):
        Cosine(10) * "3"  # type: ignore[operator]


def test_schedules_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Cosine(10).steps = 5  # type: ignore[misc]


def test_without_torch_schedules_still_compute() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\nfrom steadygrad.schedules import parse\nprint(parse('cosine(10)')(5))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "0.5\n"


def test_the_public_names_are_sorted_and_exist() -> None:
    assert list(schedules.__all__) == sorted(schedules.__all__)
    assert all(getattr(schedules, name) for name in schedules.__all__)
    with pytest.raises(AttributeError):
        schedules.Sine  # noqa: B018
