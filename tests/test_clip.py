"""What every clipper keeps to. A clipper that is missing from the table fails the suite.

That nothing waits for a device is in tests/test_clip_devices.py.
"""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.testing._internal.distributed.fake_pg import FakeStore

import steadygrad
from steadygrad import clip
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
from steadygrad.clip.gradients import collect

Shapes = list[tuple[int, ...]]
SHAPES: Shapes = [(3, 5), (7,), (), (3000,), (2, 3, 4, 5), (1, 1)]


@dataclass(frozen=True)
class Case:
    """A clipper that acts on gradients of about 1, one that only measures, and a way to give it a bad threshold."""

    acting: Callable[[], Clipper]
    measuring: Callable[[], Clipper]
    bad: Callable[[float], Clipper]
    keeps_direction: bool = False
    settles: bool = True  # a second clip changes nothing


def world() -> dist.ProcessGroup:
    assert dist.group.WORLD is not None
    return dist.group.WORLD


@pytest.fixture(autouse=True, scope="module")
def _pretended_group() -> Iterator[None]:
    """A process group of one, whose reductions do nothing. tests/test_clip_distributed.py has real ones."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


CASES = {
    "GlobalNorm": Case(lambda: GlobalNorm(0.5), lambda: GlobalNorm(math.inf), GlobalNorm, keeps_direction=True),
    "Value": Case(lambda: Value(0.5), lambda: Value(math.inf), Value),
    "PerTensorNorm": Case(lambda: PerTensorNorm(0.5), lambda: PerTensorNorm(math.inf), PerTensorNorm),
    "BlockRMS": Case(lambda: BlockRMS(0.5), lambda: BlockRMS(math.inf), BlockRMS),
    "AdaptiveUnit": Case(lambda: AdaptiveUnit(0.1), lambda: AdaptiveUnit(math.inf), AdaptiveUnit),
    "Quantile": Case(
        lambda: Quantile(0.1, window=8),
        lambda: Quantile(1.0),
        Quantile,
        keeps_direction=True,
        settles=False,
    ),
    "ZScore": Case(
        lambda: ZScore(warmup=3, max_norm=20.0),
        lambda: ZScore(1e300, max_norm=math.inf),
        lambda x: ZScore(max_norm=x),
        keeps_direction=True,
        settles=False,
    ),
    "AdaGC": Case(
        lambda: AdaGC(0.5, absolute=1.0, warmup=2),
        lambda: AdaGC(math.inf, absolute=math.inf),
        AdaGC,
        settles=False,
    ),
    "Scheduled": Case(
        lambda: Scheduled(GlobalNorm(1.0), {0: 0.5, 3: 0.25}),
        lambda: Scheduled(GlobalNorm(1.0), lambda t: math.inf),
        lambda x: Scheduled(GlobalNorm(x), lambda t: 1.0),
        keeps_direction=True,
    ),
    "Sharded": Case(
        lambda: Sharded(GlobalNorm(0.5), world()),
        lambda: Sharded(GlobalNorm(math.inf), world()),
        lambda x: Sharded(GlobalNorm(x), world()),
        keeps_direction=True,
    ),
    "Sharded in stages": Case(
        lambda: Sharded(PerTensorNorm(0.5), world(), parts="stages"),
        lambda: Sharded(Value(math.inf), world(), parts="stages"),
        lambda x: Sharded(Value(x), world(), parts="stages"),
    ),
    "Chain": Case(
        lambda: Chain(PerTensorNorm(1.0), GlobalNorm(0.5)),
        lambda: Chain(GlobalNorm(math.inf), Value(math.inf)),
        lambda x: Chain(Value(1.0), GlobalNorm(x)),
    ),
    "Chain of different kinds": Case(
        lambda: Chain(Value(0.5), GlobalNorm(0.5), ZScore(warmup=2)),
        lambda: Chain(Value(math.inf), BlockRMS(math.inf)),
        lambda x: Chain(GlobalNorm(1.0), Value(x)),
        settles=False,
    ),
}
every = pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))


def leaves(
    shapes: Shapes = SHAPES, *, seed: int = 0, size: float = 1.0, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """Parameters with weights and gradients drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    out = []
    for shape in shapes:
        leaf = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        leaf.grad = (torch.randn(shape, generator=generator, dtype=torch.float64) * size).to(dtype)
        out.append(leaf)
    return out


def grads(tensors: list[Tensor]) -> list[Tensor]:
    return [t.grad.to_dense().clone() for t in tensors if t.grad is not None]


def norm(tensors: list[Tensor]) -> float:
    return float(torch.linalg.vector_norm(torch.cat([g.double().flatten() for g in grads(tensors)])))


def acted(case: Case, steps: int = 4) -> Clipper:
    """An acting clipper with some history."""
    clipper = case.acting()
    for step in range(steps):
        clipper(leaves(seed=step))
    return clipper


def same(a: object, b: object) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    return a == b


def test_no_clipper_is_missing() -> None:
    members = {name for name in clip.__all__ if isinstance(getattr(clip, name), type)} - {"ClipInfo", "Clipper"}
    members = {name for name in members if issubclass(getattr(clip, name), Clipper)}
    assert members == {name for name in CASES if " " not in name}


@every
def test_a_threshold_that_is_never_met_changes_no_bit(case: Case) -> None:
    clipper = case.measuring()
    for step in range(5):
        tensors = leaves(seed=step, size=10.0 ** (step - 2))
        before = grads(tensors)
        info = clipper(tensors)
        assert all(map(torch.equal, before, grads(tensors)))
        assert float(info.coefficient) == 1.0
        assert not info.clipped
        assert float(info.norm_after) == float(info.norm_before)
        if isinstance(clipper, Quantile):  # of one norm, every quantile is the norm itself
            clipper = case.measuring()


@every
def test_what_is_said_is_what_was_done(case: Case) -> None:
    clipper = acted(case)
    tensors = leaves(seed=9, size=3.0)
    before, unclipped = norm(tensors), grads(tensors)
    info = clipper(tensors)
    assert float(info.norm_before) == pytest.approx(before, rel=1e-6)
    assert float(info.norm_after) == pytest.approx(norm(tensors), rel=1e-5)
    assert float(info.coefficient) == pytest.approx(norm(tensors) / before, rel=1e-5)
    assert bool(info.clipped) is True
    assert bool(info.non_finite) is False
    assert info.coefficient.dtype == torch.float32
    assert info.norms.tolist() == pytest.approx([float(g.double().norm()) for g in unclipped], rel=1e-6)
    if info.coefficients is not None:
        for a, b, c in zip(grads(tensors), unclipped, info.coefficients, strict=True):
            torch.testing.assert_close(a, b * c)


@every
def test_gradients_only_become_smaller(case: Case) -> None:
    clipper = acted(case)
    tensors = leaves(seed=9, size=3.0)
    before = grads(tensors)
    clipper(tensors)
    for a, b in zip(grads(tensors), before, strict=True):
        assert (a.abs() <= b.abs()).all()
        assert (a * b >= 0).all()


@every
def test_one_factor_where_the_direction_is_kept(case: Case) -> None:
    clipper = acted(case)
    assert clipper.foldable is case.keeps_direction
    tensors = leaves(seed=9, size=3.0)
    before = grads(tensors)
    info = clipper(tensors)
    factors = torch.cat([(a / b).flatten() for a, b in zip(grads(tensors), before, strict=True)])
    one = torch.allclose(factors, info.coefficient.expand_as(factors), rtol=1e-5)
    assert one is case.keeps_direction
    if case.keeps_direction:
        assert info.coefficients is None


@every
def test_a_second_clip_changes_nothing(case: Case) -> None:
    if not case.settles:
        return
    clipper, tensors = case.acting(), leaves(size=3.0)
    clipper(tensors)
    once = grads(tensors)
    clipper(tensors)
    torch.testing.assert_close(grads(tensors), once, rtol=3e-6, atol=0)


@every
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 3])
def test_what_is_not_finite_is_left_alone_and_not_learnt(case: Case, poison: float, place: int) -> None:
    clipper = acted(case)
    state = clipper.state_dict()
    tensors = leaves(seed=9, size=3.0)
    tensors[place].grad.view(-1)[0] = poison  # type: ignore[union-attr]
    before = grads(tensors)
    info = clipper([(f"p{i}", t) for i, t in enumerate(tensors)])
    torch.testing.assert_close(grads(tensors), before, rtol=0, atol=0, equal_nan=True)
    assert bool(info.non_finite) is True
    assert bool(info.clipped) is False
    assert float(info.coefficient) == 1.0
    assert info.bad_parameters() == (f"p{place}",)
    assert same(clipper.state_dict(), state)


@every
def test_an_error_names_the_parameter_and_touches_nothing(case: Case) -> None:
    clipper = acted(case)
    clipper.error_if_nonfinite = True
    state, tensors = clipper.state_dict(), leaves(seed=9)
    tensors[1].grad[2] = math.nan  # type: ignore[index]
    before = grads(tensors)
    with pytest.raises(steadygrad.NonFiniteError, match=r"those of parameters\[1\] hold NaN"):
        clipper(tensors)
    torch.testing.assert_close(grads(tensors), before, rtol=0, atol=0, equal_nan=True)
    assert same(clipper.state_dict(), state)


@every
def test_statistics_survive_a_checkpoint(case: Case) -> None:
    first = acted(case, steps=12)
    second = case.acting()
    second.load_state_dict(first.state_dict())
    for step in range(20, 26):
        a, b = leaves(seed=step, size=step / 10), leaves(seed=step, size=step / 10)
        first(a)
        second(b)
        assert all(map(torch.equal, grads(a), grads(b)))
    assert same(first.state_dict(), second.state_dict())


@every
def test_a_stored_state_does_not_change_any_more(case: Case) -> None:
    clipper = acted(case)
    state, again = clipper.state_dict(), clipper.state_dict()
    clipper(leaves(seed=9))
    assert same(state, again)


@every
def test_memory_stays_bounded(case: Case) -> None:
    def stored(state: object) -> int:
        if isinstance(state, dict):
            return sum(map(stored, state.values()))
        return state.numel() if isinstance(state, Tensor) else 1

    clipper = acted(case)
    before = stored(clipper.state_dict())
    for step in range(40):
        clipper(leaves(seed=step))
    assert stored(clipper.state_dict()) == before


@every
def test_another_state_is_refused(case: Case) -> None:
    with pytest.raises(steadygrad.InputError):
        case.acting().load_state_dict({"something": 1})


@every
@pytest.mark.parametrize("value", [-1.0, math.nan])
def test_bad_thresholds_are_refused(case: Case, value: float) -> None:
    with pytest.raises(steadygrad.InputError, match=r"must be (0 or more|between 0 and 1)"):
        case.bad(value)


@every
def test_three_phases_are_the_call(case: Case) -> None:
    a, b = acted(case), acted(case)
    x, y = leaves(seed=9, size=3.0), leaves(seed=9, size=3.0)
    whole = a(x)
    state, before = b.state_dict(), grads(y)
    info = b.measure(y)
    assert all(map(torch.equal, before, grads(y)))
    assert same(b.state_dict(), state)
    b.apply(y, info)
    assert same(b.state_dict(), state)
    b.commit(info)
    assert all(map(torch.equal, grads(x), grads(y)))
    assert same(a.state_dict(), b.state_dict())
    assert float(whole.norm_after) == float(info.norm_after)


@every
def test_a_result_keeps_no_gradient_alive(case: Case) -> None:
    """Results are collected in logs; gradients are as large as the model."""
    clipper, tensors = acted(case), leaves(seed=9, size=3.0)
    info = clipper(tensors)
    watched = [weakref.ref(t) for leaf in tensors for t in (leaf, leaf.grad)]
    del tensors
    gc.collect()
    assert not any(ref() is not None for ref in watched)
    assert len(info.names) == len(info.norms)


# -- what comes in ------------------------------------------------------------------------------------------------


@every
def test_parameters_come_in_every_shape(case: Case) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))

    def fill() -> None:
        for i, p in enumerate(model.parameters()):
            p.grad = torch.full_like(p, i + 1.0)

    ways: list[Callable[[], object]] = [
        lambda: model,
        model.parameters,
        model.named_parameters,
        lambda: list(model.parameters()),
        lambda: [*model.parameters(), *model.parameters()],
        lambda: collect(model),
    ]
    results = []
    for way in ways:
        fill()
        case.acting()(way())  # type: ignore[arg-type]
        results.append([p.grad.clone() for p in model.parameters()])  # type: ignore[union-attr]
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


@every
def test_nothing_to_clip(case: Case) -> None:
    for tensors in ([], [torch.zeros(3, requires_grad=True)]):
        info = acted(case, steps=0)(tensors)
        assert (float(info.norm_before), float(info.norm_after), float(info.coefficient)) == (0.0, 0.0, 1.0)
        assert info.norms.shape == (0,)
        assert info.names == ()
        assert not info.clipped
        assert not info.non_finite


@every
def test_gradients_of_zero_stay_zero(case: Case) -> None:
    clipper = case.acting()
    for _ in range(4):
        tensors = leaves(size=0.0)
        info = clipper(tensors)
        assert not any(g.any() for g in grads(tensors))
        assert float(info.coefficient) == 1.0
    tensors = leaves(size=1e-3)
    before = grads(tensors)
    clipper(tensors)
    assert all(a.any() for a, b in zip(grads(tensors), before, strict=True) if b.any())


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_formats_agree_with_float32(case: Case, dtype: torch.dtype) -> None:
    ours, wanted = leaves(size=3.0, dtype=dtype), leaves(size=3.0, dtype=dtype)
    wanted = [w.detach().float().requires_grad_() for w in wanted]
    for w, o in zip(wanted, ours, strict=True):
        w.grad = o.grad.float()  # type: ignore[union-attr]
    a, b = case.acting()(ours), case.acting()(wanted)
    assert float(a.norm_after) == pytest.approx(float(b.norm_after), rel=2e-3)
    tolerance = {torch.float16: 1e-3, torch.bfloat16: 8e-3, torch.float64: 1e-5}[dtype]
    for x, y in zip(grads(ours), grads(wanted), strict=True):
        torch.testing.assert_close(x.float(), y, rtol=tolerance, atol=1e-6)


@every
def test_formats_and_empty_tensors_mix(case: Case) -> None:
    tensors = [*leaves(size=3.0), *leaves([(4, 4)], dtype=torch.bfloat16), *leaves([(3,)], dtype=torch.float64)]
    tensors += leaves([(0,), (0, 5)])
    before = norm(tensors)
    info = case.acting()(tensors)
    assert float(info.norm_before) == pytest.approx(before, rel=1e-6)
    assert float(info.norm_after) == pytest.approx(norm(tensors), rel=2e-3)
    assert info.norms.shape == (len(tensors),)


@every
def test_layout_does_not_matter(case: Case) -> None:
    def transposed(x: Tensor) -> Tensor:
        return x.t().contiguous().t() if x.dim() == 2 else x.contiguous(memory_format=torch.channels_last)

    a = leaves([(6, 5), (2, 3, 4, 4), (8,)], size=3.0)
    b = leaves([(6, 5), (2, 3, 4, 4), (8,)], size=3.0)
    for leaf in b[:2]:
        leaf.grad = transposed(leaf.grad)  # type: ignore[arg-type]
    b[2].grad = torch.stack([b[2].grad, b[2].grad], dim=1)[:, 0]  # type: ignore[list-item]
    case.acting()(a)
    case.acting()(b)
    torch.testing.assert_close(grads(a), grads(b))


@every
def test_a_gradient_whose_entries_share_memory(case: Case) -> None:
    leaf = torch.ones(4, 3, requires_grad=True)
    leaf.grad = torch.full((), 9.0).expand(4, 3)
    info = case.acting()([leaf])
    assert float(info.norm_before) == pytest.approx(9.0 * math.sqrt(12))
    assert norm([leaf]) == pytest.approx(float(info.norm_after), rel=1e-5)


@every
def test_sparse_gradients_are_clipped_as_dense_ones(case: Case) -> None:
    def embedding(sparse: bool) -> Tensor:
        torch.manual_seed(0)
        table = nn.Embedding(10, 3, sparse=sparse)
        (table(torch.tensor([1, 1, 7])) * 5).square().sum().backward()
        return table.weight

    dense, sparse = embedding(sparse=False), embedding(sparse=True)
    a, b = case.acting()([dense]), case.acting()([sparse])
    assert sparse.grad is not None
    assert sparse.grad.is_sparse
    if not isinstance(case.acting(), BlockRMS):
        assert float(a.norm_after) == pytest.approx(float(b.norm_after), rel=1e-5)
    torch.testing.assert_close(grads([dense]), grads([sparse]))


@every
def test_complex_gradients_count_as_pairs(case: Case) -> None:
    leaf = torch.ones(5, dtype=torch.complex64, requires_grad=True)
    leaf.grad = torch.full((5,), 3.0 + 4.0j).conj()
    info = case.acting()([leaf])
    assert float(info.norm_before) == pytest.approx(5 * math.sqrt(5))
    after = float(torch.linalg.vector_norm(leaf.grad.to(torch.complex128)))
    assert after == pytest.approx(float(info.norm_after), rel=1e-5)


def test_what_is_no_parameter_is_said() -> None:
    with pytest.raises(steadygrad.InputError, match=r"met str; pass model, model\.parameters"):
        GlobalNorm(1.0)(["weight"])  # type: ignore[list-item]
