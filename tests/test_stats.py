"""The kernels against numpy in float64, and the laws that hold whatever the numbers are."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from steadygrad import stats

ORDINARY = st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-1e6, max_value=1e6)
ANY = st.floats(width=32)
SIZES = st.lists(st.integers(0, 40), min_size=1, max_size=8)


def reference(tensor: Tensor) -> list[float]:
    dense = tensor.coalesce().values() if tensor.layout == torch.sparse_coo else tensor
    dense = torch.view_as_real(dense.resolve_conj()) if dense.is_complex() else dense
    x = dense.detach().double().reshape(-1).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        magnitude = np.abs(x)
        return [magnitude.sum(), np.sqrt((x**2).sum()), x.sum(), magnitude.max(initial=0.0), float((x == 0).sum())]


def agree(tensors: list[Tensor], rtol: float = 2e-6) -> None:
    got = stats.moments(tensors)
    assert got.dtype == torch.float64
    assert got.shape == (len(tensors), len(stats.MOMENTS))
    for row, tensor in zip(got.tolist(), tensors, strict=True):
        expected = reference(tensor)
        size = max(1e-30, expected[0]) if math.isfinite(expected[0]) else 0.0
        np.testing.assert_allclose(row, expected, rtol=rtol, atol=rtol * size)


KINDS = {
    "float32": torch.randn(7, 5),
    "float64": torch.randn(11, dtype=torch.float64),
    "half": torch.randn(9).half(),
    "bfloat16": torch.randn(9).bfloat16(),
    "complex": torch.randn(4, 3, dtype=torch.complex64),
    "conjugate": torch.randn(4, dtype=torch.complex64).conj(),
    "sparse": torch.sparse_coo_tensor(
        [[0, 3, 3]], [[1.0, 0.0], [2.0, 3.0], [4.0, -5.0]], (5, 2), check_invariants=True
    ),
    "strided": torch.randn(8, 6).t()[::2],
    "expanded": torch.ones(3).expand(4, 3),
    "empty": torch.zeros(0, 3),
    "scalar": torch.tensor(-2.5),
    "parameter": torch.nn.Parameter(torch.randn(3, 3)),
    "huge": torch.full((50,), 1e30),
    "tiny": torch.full((50,), 1e-30),
    "nan": torch.tensor([1.0, math.nan, 0.0]),
    "inf": torch.tensor([1.0, -math.inf, 0.0, 0.0]),
    "integers": torch.tensor([3, -4, 0]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_moments_of_every_kind(kind: str) -> None:
    agree([KINDS[kind]])


def test_moments_of_all_kinds_at_once() -> None:
    agree(list(KINDS.values()))
    assert stats.moments([]).shape == (0, 5)


def test_large_blocks_are_cut_and_large_counts_are_exact() -> None:
    zeros = torch.zeros(stats.STACK_LIMIT // 3)
    zeros[::1000] = 1.0
    agree([zeros, zeros.clone(), zeros * 2, zeros.clone(), zeros * 3])
    assert stats.moments([zeros])[0, 4].item() == int((zeros == 0).sum())


def tensors_of(values: list[list[float]]) -> list[Tensor]:
    return [torch.tensor(row, dtype=torch.float32) for row in values]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(ORDINARY, max_size=30), min_size=1, max_size=6))
def test_moments_of_ordinary_numbers(values: list[list[float]]) -> None:
    agree(tensors_of(values), rtol=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(ANY, max_size=12), min_size=1, max_size=6))
def test_moments_of_any_numbers(values: list[list[float]]) -> None:
    agree(tensors_of(values), rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(SIZES, st.randoms(use_true_random=False))
def test_order_of_tensors_does_not_matter(sizes: list[int], random: object) -> None:
    tensors = [torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in sizes]
    order = list(range(len(sizes)))
    random.shuffle(order)  # type: ignore[attr-defined]
    mixed = stats.moments([tensors[i] for i in order])
    assert torch.equal(mixed, stats.moments(tensors)[order])
    assert torch.equal(stats.norms([tensors[i] for i in order]), stats.norms(tensors)[order])


COMBINE = {
    "sum": lambda parts: parts.sum(0),
    "max": lambda parts: parts.max(0).values,
    "root-sum-square": lambda parts: parts.square().sum(0).sqrt(),
}


@settings(max_examples=60, deadline=None)
@given(st.lists(ORDINARY, min_size=1, max_size=60), st.integers(1, 5))
def test_parts_combine_as_the_table_says(values: list[float], ranks: int) -> None:
    whole = torch.tensor(values, dtype=torch.float32)
    parts = stats.moments(list(whole.tensor_split(ranks)))
    exact = stats.moments([whole])[0]
    size = float(whole.double().abs().sum()) + 1e-30
    for column, statistic in enumerate(stats.MOMENTS):
        joined = COMBINE[statistic.across_ranks](parts[:, column])
        np.testing.assert_allclose(joined.item(), exact[column].item(), rtol=1e-5, atol=1e-5 * size)


def test_every_statistic_has_a_law() -> None:
    assert {s.across_ranks for s in stats.MOMENTS} <= COMBINE.keys()
    assert len({s.key for s in stats.MOMENTS}) == len(stats.MOMENTS)


def test_norms_equal_those_of_torch_to_the_bit() -> None:
    tensors = [torch.randn(30, 20), torch.randn(7), torch.zeros(0)]
    expected = torch.stack([torch.linalg.vector_norm(t) for t in tensors])
    assert torch.equal(stats.norms(tensors), expected)


def test_norms_of_mixed_kinds() -> None:
    kinds = [t for name, t in KINDS.items() if name not in ("huge", "tiny", "integers")]
    expected = [reference(t)[1] for t in kinds]
    np.testing.assert_allclose(stats.norms(kinds).numpy(), expected, rtol=1e-5)
    assert stats.norms([]).shape == (0,)


def test_safe_norms_survive_what_overflows() -> None:
    huge = torch.full((100,), 1e30)
    assert math.isinf(stats.norms([huge]).item())
    assert stats.safe_norms([huge, torch.ones(4)]).tolist() == pytest.approx([1e31, 2.0])
    assert stats.safe_norms([]).shape == (0,)


@pytest.mark.parametrize("kind", ["float32", "float64", "half", "strided", "complex", "empty", "scalar", "parameter"])
def test_change_is_the_distance(kind: str) -> None:
    tensor = KINDS[kind].detach().clone()
    others = [torch.randn(7, 5), torch.randn(35)]
    before = [t.clone() for t in (tensor, *others)]
    kept = stats.snapshot([tensor, *others])
    for t in (tensor, *others):
        t.add_(torch.randn(t.shape).to(t.dtype) * 0.1)
    expected = [reference(t - b)[1] for t, b in zip((tensor, *others), before, strict=True)]
    np.testing.assert_allclose(stats.change(kept, [tensor, *others]).numpy(), expected, rtol=1e-3)


def test_change_of_large_tensors_is_estimated_without_favouring_columns() -> None:
    large = torch.zeros(1 << 12, 1 << 8)
    kept = stats.snapshot([large])
    assert kept.blocks[0][1].numel() <= 2 * stats.UPDATE_SAMPLE
    large[:, ::2] += 1.0
    assert stats.change(kept, [large]).item() == pytest.approx(math.sqrt(large.numel() / 2), rel=0.02)


def test_nothing_is_written_to_the_tensors() -> None:
    tensors = [t.clone() for t in KINDS.values() if t.layout == torch.strided and not isinstance(t, torch.nn.Parameter)]
    before = [t.clone() for t in tensors]
    versions = [t._version for t in tensors]
    stats.change(stats.snapshot(tensors), tensors)
    stats.moments(tensors)
    stats.norms(tensors)
    assert [t._version for t in tensors] == versions
    for t, b in zip(tensors, before, strict=True):
        assert torch.equal(torch.nan_to_num(torch.view_as_real(t.resolve_conj()) if t.is_complex() else t),
                           torch.nan_to_num(torch.view_as_real(b.resolve_conj()) if b.is_complex() else b))  # fmt: skip


def test_buffers_made_in_inference_mode_do_not_leak_out_of_it() -> None:
    stats._scratch._buffers.clear()
    pair = [torch.randn(5), torch.randn(5)]
    with torch.inference_mode():
        stats.moments(pair)
    agree(pair)


def test_measurable() -> None:
    assert stats.measurable(torch.zeros(3))
    assert not stats.measurable(torch.zeros(3, device="meta"))
    assert not stats.measurable(KINDS["sparse"])
    seen = []
    torch.func.vmap(lambda t: seen.append(stats.measurable(t)) or t)(torch.zeros(2, 2))
    assert seen == [False]
