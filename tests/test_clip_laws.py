"""Laws of clipping, over many drawn gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from steadygrad.clip import BlockRMS, Clipper, GlobalNorm, PerTensorNorm, Value
from steadygrad.clip.norms import norms

SIZES = st.lists(st.sampled_from([1, 2, 3, 17, 2048, 2049]), min_size=1, max_size=5)
SCALES = st.sampled_from([2.0**k for k in (-60, -20, -3, 0, 3, 20, 60)])
SEEDS = st.integers(0, 1000)
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.bfloat16])

Make = Callable[[float], Clipper]
MAKERS: dict[str, Make] = {
    "global": lambda bound: GlobalNorm(bound, eps=0.0),
    "global, p=1": lambda bound: GlobalNorm(bound, p=1.0, eps=0.0),
    "global, p=inf": lambda bound: GlobalNorm(bound, p=math.inf, eps=0.0),
    "per tensor": PerTensorNorm,
    "rms": BlockRMS,
    "value": Value,
}
fixed = pytest.mark.parametrize("make", MAKERS.values(), ids=list(MAKERS))
drawn = settings(max_examples=25, deadline=None)


def leaves(sizes: list[int], seed: int, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    out = []
    for size in sizes:
        leaf = torch.zeros(size, dtype=dtype, requires_grad=True)
        leaf.grad = (torch.randn(size, generator=generator) * scale).to(dtype)
        out.append(leaf)
    return out


def grads(tensors: list[Tensor]) -> list[Tensor]:
    return [t.grad.clone() for t in tensors if t.grad is not None]


def joined(tensors: list[Tensor]) -> Tensor:
    return torch.cat([g.double() for g in grads(tensors)])


@fixed
@drawn
@given(sizes=SIZES, seed=SEEDS, scale=SCALES, dtype=DTYPES)
def test_a_huge_threshold_is_the_identity(
    make: Make, sizes: list[int], seed: int, scale: float, dtype: torch.dtype
) -> None:
    tensors = leaves(sizes, seed, scale, dtype)
    before = grads(tensors)
    info = make(1e30)(tensors)
    assert all(map(torch.equal, before, grads(tensors)))
    assert not info.clipped


@drawn
@given(sizes=SIZES, seed=SEEDS, scale=SCALES, share=st.floats(1e-3, 0.99), p=st.sampled_from([1.0, 2.0, 3.0, math.inf]))
def test_a_tight_threshold_lands_on_the_bound(
    sizes: list[int], seed: int, scale: float, share: float, p: float
) -> None:
    tensors = leaves(sizes, seed, scale)
    bound = share * float(torch.linalg.vector_norm(joined(tensors), p))
    before = joined(tensors)
    info = GlobalNorm(bound, p=p, eps=0.0)(tensors)
    after = joined(tensors)
    assert float(torch.linalg.vector_norm(after, p)) == pytest.approx(bound, rel=1e-6)
    assert float(info.norm_after) == pytest.approx(bound, rel=1e-6)
    cosine = torch.dot(after, before) / (after.norm() * before.norm())
    assert float(cosine) == pytest.approx(1.0, abs=1e-9)


@fixed
@drawn
@given(sizes=SIZES, seed=SEEDS, bound=st.floats(0.01, 3.0))
def test_clipping_again_changes_nothing(make: Make, sizes: list[int], seed: int, bound: float) -> None:
    tensors = leaves(sizes, seed)
    make(bound)(tensors)
    once = grads(tensors)
    make(bound)(tensors)
    torch.testing.assert_close(grads(tensors), once, rtol=1e-6, atol=0)


@fixed
@drawn
@given(sizes=SIZES, seed=SEEDS, bound=st.floats(0.01, 3.0), power=st.integers(-40, 40))
def test_gradients_and_threshold_scale_together(
    make: Make, sizes: list[int], seed: int, bound: float, power: int
) -> None:
    bound, scale = float(torch.tensor(bound)), 2.0**power  # in float32, so that nothing is rounded by scaling
    plain, scaled = leaves(sizes, seed), leaves(sizes, seed, scale)
    make(bound)(plain)
    make(bound * scale)(scaled)
    torch.testing.assert_close([g * scale for g in grads(plain)], grads(scaled), rtol=1e-6, atol=0)


@fixed
@drawn
@given(sizes=SIZES, seed=SEEDS, bound=st.floats(0.01, 3.0), data=st.data())
def test_the_order_of_parameters_does_not_matter(
    make: Make, sizes: list[int], seed: int, bound: float, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(sizes))))
    a, b = leaves(sizes, seed), leaves(sizes, seed)
    make(bound)(a)
    make(bound)([b[i] for i in order])
    torch.testing.assert_close(grads(a), grads(b), rtol=1e-6, atol=0)


@drawn
@given(seed=SEEDS, bound=st.floats(0.01, 30.0), cuts=st.lists(st.integers(0, 5000), max_size=5))
def test_the_joint_norm_does_not_see_how_parameters_are_cut(seed: int, bound: float, cuts: list[int]) -> None:
    (whole,) = leaves([5000], seed)
    ends = [*sorted(cuts), 5000]
    pieces = [torch.zeros(b - a, requires_grad=True) for a, b in zip([0, *ends], ends, strict=False)]
    assert whole.grad is not None
    for piece, part in zip(pieces, whole.grad.clone().split([p.numel() for p in pieces]), strict=True):
        piece.grad = part.clone()
    GlobalNorm(bound)([whole])
    GlobalNorm(bound)(pieces)
    torch.testing.assert_close(torch.cat(grads(pieces)), whole.grad, rtol=1e-6, atol=0)


@fixed
@drawn
@given(sizes=SIZES, seed=SEEDS, bad=st.sampled_from([math.nan, math.inf, -math.inf]), data=st.data())
def test_one_bad_entry_leaves_everything_as_it_was(
    make: Make, sizes: list[int], seed: int, bad: float, data: st.DataObject
) -> None:
    tensors = leaves(sizes, seed)
    which = data.draw(st.integers(0, len(sizes) - 1))
    place = data.draw(st.integers(0, sizes[which] - 1))
    tensors[which].grad[place] = bad  # type: ignore[index]
    before = grads(tensors)
    info = make(0.1)(tensors)
    torch.testing.assert_close(grads(tensors), before, rtol=0, atol=0, equal_nan=True)
    assert info.non_finite
    assert info.bad_parameters() == (f"parameters[{which}]",)


@drawn
@given(
    sizes=st.lists(st.integers(0, 5000), max_size=8),
    dtypes=st.lists(st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]), min_size=8),
    scales=st.lists(st.sampled_from([1e-25, 1e-12, 1.0, 1e4, 1e25]), min_size=8),
    seed=SEEDS,
)
def test_norms_are_those_of_float64(
    sizes: list[int], dtypes: list[torch.dtype], scales: list[float], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    tensors = []
    for size, dtype, scale in zip(sizes, dtypes, scales, strict=False):
        limit = torch.finfo(dtype).max
        tensors.append((torch.randn(size, generator=generator).double() * scale).clamp(-limit, limit).to(dtype))
    found = norms(tensors)
    wanted = torch.stack([t.double().norm() for t in tensors]) if tensors else torch.zeros(0, dtype=torch.float64)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)
