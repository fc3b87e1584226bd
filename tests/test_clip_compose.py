"""Clippers made of clippers, and the options that single ones have."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import steadygrad
from steadygrad.clip import (
    AdaGC,
    AdaptiveUnit,
    BlockRMS,
    Chain,
    Clipper,
    GlobalNorm,
    PerTensorNorm,
    Quantile,
    Scheduled,
    Sharded,
    Value,
    ZScore,
)
from steadygrad.clip.gradients import Gradients
from steadygrad.schedules import Cosine, Warmup

SIZES = [3000, 5, 40]


def leaves(seed: int = 0, scale: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    out = []
    for size in SIZES:
        leaf = torch.ones(size, requires_grad=True)
        leaf.grad = torch.randn(size, generator=generator) * scale
        out.append(leaf)
    return out


def grads(tensors: list[Tensor]) -> list[Tensor]:
    return [t.grad.clone() for t in tensors if t.grad is not None]


def of(norm: float) -> Tensor:
    leaf = torch.zeros(1, requires_grad=True)
    leaf.grad = torch.full((1,), norm)
    return leaf


def after(clipper: Clipper, norm: float = 100.0) -> float:
    """The norm that a gradient of this norm is clipped to."""
    return float(clipper([of(norm)]).norm_after)


# -- Chain --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "members",
    [
        [GlobalNorm(3.0), PerTensorNorm(1.0), GlobalNorm(0.5)],
        [GlobalNorm(0.7), GlobalNorm(2.0)],
        [BlockRMS(0.4), Value(0.3), PerTensorNorm(0.5), GlobalNorm(0.1)],
        [GlobalNorm(3.0, p=1.0), GlobalNorm(0.5)],
    ],
)
def test_a_chain_is_one_after_another(members: list[Clipper]) -> None:
    chained, single = leaves(), leaves()
    info = Chain(*members)(chained)
    infos = [clipper(single) for clipper in members]
    torch.testing.assert_close(grads(chained), grads(single), rtol=2e-6, atol=0)
    assert float(info.norm_before) == float(infos[0].norm_before)
    assert float(info.norm_after) == pytest.approx(float(infos[-1].norm_after), rel=1e-6)


def test_a_chain_of_scalings_reads_the_gradients_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    original = Gradients.norms

    def counted(self: Gradients, *args: Any) -> Any:
        reads.append(1)
        return original(self, *args)

    monkeypatch.setattr(Gradients, "norms", counted)
    chain = Chain(GlobalNorm(3.0), PerTensorNorm(1.0), ZScore(), AdaGC(), Quantile())
    chain(leaves())
    assert len(reads) == 1
    assert Chain(GlobalNorm(3.0), ZScore()).foldable
    assert not chain.foldable
    assert not Chain(GlobalNorm(3.0), GlobalNorm(p=1.0)).foldable


def test_each_member_of_a_chain_learns_what_reached_it() -> None:
    chain = Chain(GlobalNorm(1.0, eps=0.0), Quantile(1.0, window=4))
    for norm in (0.5, 30.0, 0.7):
        after(chain, norm)
    assert sorted(chain.state_dict()["1"]["ring"].tolist()) == pytest.approx([0.0, 0.5, 0.7, 1.0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Chain, "at least one clipper"),
        (lambda: Chain(GlobalNorm(), 1.0), "got float"),  # type: ignore[arg-type]
        (lambda: Chain(ZScore()).load_state_dict({}), "state for members"),
    ],
)
def test_chains_that_make_no_sense(make: Any, message: str) -> None:
    with pytest.raises(steadygrad.InputError, match=message):
        make()


# -- Scheduled ----------------------------------------------------------------------------------------------------


def test_phases_begin_at_their_step() -> None:
    clipper = Scheduled(GlobalNorm(2.0, eps=0.0), {4: 0.5, 0: 5.0, 2: 1.0})
    assert [after(clipper) for _ in range(6)] == pytest.approx([10, 10, 2, 2, 1, 1])
    assert clipper.step == 6


def test_any_schedule_of_the_library_drives_a_threshold() -> None:
    schedule = Warmup(2) >> Cosine(4, start=1.0, end=0.25)
    clipper = Scheduled(GlobalNorm(3.0, eps=0.0), schedule)
    assert [after(clipper) for _ in range(6)] == pytest.approx([3 * schedule(t) for t in range(6)], abs=1e-6)


def test_a_threshold_follows_the_rate() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.4)
    clipper = Scheduled(GlobalNorm(1.0, eps=0.0), lambda lr: 10 * lr, by="lr", optimizer=optimizer)
    assert after(clipper) == pytest.approx(4.0)
    optimizer.param_groups[0]["lr"] = 0.05
    assert after(clipper) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("clipper", "norm", "expected"),
    [
        (Value(1.0), 100.0, 3.0),
        (PerTensorNorm(1.0), 100.0, 3.0),
        (BlockRMS(1.0), 100.0, 3.0),
        (AdaptiveUnit(1.0, eps=1.0), 100.0, 3.0),
        (ZScore(max_norm=1.0), 100.0, 3.0),
        (AdaGC(absolute=1.0), 100.0, 3.0),
        (Chain(Value(1.0), GlobalNorm(1.0)), 100.0, 3.0),
        (Scheduled(GlobalNorm(1.0), {0: 2.0}), 100.0, 6.0),
    ],
)
def test_every_threshold_can_be_scheduled(clipper: Clipper, norm: float, expected: float) -> None:
    assert after(Scheduled(clipper, {0: 3.0}), norm) == pytest.approx(expected, rel=1e-5)


def test_steps_that_are_not_finite_do_not_count() -> None:
    clipper = Scheduled(GlobalNorm(1.0, eps=0.0), {0: 3.0, 2: 1.0})
    norms = [10.0, math.nan, math.nan, 10.0, 10.0]
    assert [after(clipper, norm) for norm in norms] == pytest.approx([3, math.nan, math.nan, 3, 1], nan_ok=True)
    assert clipper.step == 3


def test_a_schedule_goes_on_where_it_was() -> None:
    clipper = Scheduled(ZScore(warmup=1), {0: 3.0, 2: 1.0})
    for _ in range(3):
        after(clipper)
    again = Scheduled(ZScore(warmup=1), {0: 3.0, 2: 1.0})
    again.load_state_dict(clipper.state_dict())
    assert again.step == 3
    assert after(again, 7.0) == after(clipper, 7.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scheduled(GlobalNorm(), {5: 1.0}), "first of which is 0"),
        (lambda: Scheduled(GlobalNorm(), {}), "first of which is 0"),
        (lambda: Scheduled(GlobalNorm(), 3.0), "a callable or a mapping"),  # type: ignore[arg-type]
        (lambda: Scheduled(1.0, {0: 1.0}), "got float"),  # type: ignore[arg-type]
        (lambda: Scheduled(GlobalNorm(), {0: 1.0}, by="phase"), "'step' or 'lr'"),  # type: ignore[arg-type]
        (lambda: Scheduled(GlobalNorm(), {0: 1.0}, by="lr"), "needs an optimizer"),
        (lambda: after(Scheduled(GlobalNorm(), lambda t: -1.0)), "gave -1.0 at 0"),
        (lambda: after(Scheduled(GlobalNorm(), lambda t: math.nan)), "gave nan at 0"),
        (lambda: Scheduled(GlobalNorm(), {0: 1.0}).load_state_dict({"step": 1}), "'step' and 'clipper'"),
    ],
)
def test_schedules_that_make_no_sense(make: Any, message: str) -> None:
    with pytest.raises(steadygrad.InputError, match=message):
        make()


@pytest.mark.parametrize("wrap", [lambda c: Chain(c, Value()), lambda c: Scheduled(c, {0: 1.0})])
def test_an_error_asked_of_a_member_is_raised(wrap: Any) -> None:
    with pytest.raises(steadygrad.NonFiniteError):
        after(wrap(GlobalNorm(error_if_nonfinite=True)), math.nan)


# -- options of single clippers -----------------------------------------------------------------------------------


def model() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    return net


@pytest.mark.parametrize("exclude", ["1.*", ["1.weight", "1.bias"]])
def test_parameters_can_be_left_out_by_name(exclude: Any) -> None:
    net = model()
    info = AdaptiveUnit(0.01, exclude=exclude)(net)
    for name, p in net.named_parameters():
        assert p.grad is not None
        assert (float(p.grad.abs().max()) == 1.0) is name.startswith("1.")
    total = math.sqrt(sum(float(p.grad.square().sum()) for p in net.parameters() if p.grad is not None))
    assert float(info.norm_after) == pytest.approx(total, rel=1e-6)


def test_leaving_out_needs_names() -> None:
    with pytest.raises(steadygrad.InputError, match=r"named_parameters\(\)"):
        AdaptiveUnit(exclude="head.*")(model().parameters())


def test_averages_belong_to_the_same_parameters() -> None:
    clipper = AdaGC()
    clipper(leaves())
    with pytest.raises(steadygrad.InputError, match="of 3 so far, but was given 2"):
        clipper(leaves()[:2])


def test_a_window_of_another_size_is_refused() -> None:
    with pytest.raises(steadygrad.InputError, match="build the clipper with the options it was saved with"):
        Quantile(window=5).load_state_dict(Quantile(window=6).state_dict())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GlobalNorm(p=0.0), "p must be positive"),
        (lambda: PerTensorNorm(p=-1.0), "p must be positive"),
        (lambda: GlobalNorm(eps=-1e-6), "eps must be at least 0"),
        (lambda: GlobalNorm(eps=math.inf), "eps must be at least 0 and below inf"),
        (lambda: Quantile(1.5), "between 0 and 1"),
        (lambda: Quantile(window=0), "window must be at least 1"),
        (lambda: ZScore(decay=1.0), "decay must be at least 0 and below 1"),
        (lambda: ZScore(warmup=0), "warmup must be at least 1"),
        (lambda: AdaGC(warmup=0), "warmup must be at least 1"),
        (lambda: Sharded(GlobalNorm(), None, parts="rows"), "'shards' or 'stages'"),  # type: ignore[arg-type]
        (lambda: Sharded(GlobalNorm(), None, parts="stages", replicated="*"), "none is replicated"),  # type: ignore[arg-type]
    ],
)
def test_options_are_checked(make: Any, message: str) -> None:
    with pytest.raises(steadygrad.InputError, match=message):
        make()


@pytest.mark.parametrize("q", [0.1, 0.9])
def test_the_window_forgets(q: float) -> None:
    clipper = Quantile(q, window=5)
    for norm in [1e6] * 10 + [1.0] * 5:
        after(clipper, norm)
    assert after(clipper, 50.0) < 51


def test_a_graph_through_the_gradient_is_no_hindrance() -> None:
    weight = torch.ones(3, requires_grad=True)
    (weight.grad,) = torch.autograd.grad((weight**3).sum(), weight, create_graph=True)
    assert weight.grad.requires_grad
    for clipper in (GlobalNorm(1.0), Value(0.5), AdaptiveUnit(0.1), Quantile()):
        assert not clipper([weight]).norm_after.requires_grad
    assert float(weight.grad.detach().norm()) == pytest.approx(0.1 * math.sqrt(3), rel=1e-5)
    weight.grad = None
