"""Clippers against torch, optax, timm, numpy and the published formulas written slowly in float64.

Keras has a module of its own, tests/test_clip_keras.py. timm cannot be installed beside a CPU build of torch: it
imports torchvision, whose wheels on the package index are built for CUDA. Two of its three modes call torch's own
functions; of the third, its own, there are recorded numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from steadygrad.clip import AdaGC, AdaptiveUnit, BlockRMS, Chain, Clipper, GlobalNorm, PerTensorNorm, Quantile, Value
from steadygrad.clip import ZScore as ZScoreClipper

Array = NDArray[np.float32]
SHAPES = [(8, 6), (6,), (4, 3, 3, 3), (3000,)]


def draw(seed: int, size: float = 1.0) -> list[Array]:
    generator = np.random.default_rng(seed)
    return [(generator.standard_normal(shape) * size).astype(np.float32) for shape in SHAPES]


def leaves(weights: list[Array], gradients: list[Array]) -> list[Tensor]:
    out = [torch.from_numpy(w.copy()).requires_grad_() for w in weights]
    for leaf, gradient in zip(out, gradients, strict=True):
        leaf.grad = torch.from_numpy(gradient.copy())
    return out


def clipped(clipper: Clipper, weights: list[Array], gradients: list[Array]) -> list[Array]:
    tensors = leaves(weights, gradients)
    clipper(tensors)
    return [t.grad.numpy() for t in tensors if t.grad is not None]


def assert_same(ours: list[Array], theirs: list[Array], rtol: float = 1e-6) -> None:
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12)


# -- torch --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_torch_value(size: float) -> None:
    ours, theirs = leaves(draw(0), draw(1, size)), leaves(draw(0), draw(1, size))
    Value(0.5)(ours)
    torch.nn.utils.clip_grad_value_(theirs, 0.5)
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(ours, theirs, strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, math.inf])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_torch_norm(p: float, size: float) -> None:
    ours, theirs = leaves(draw(0), draw(1, size)), leaves(draw(0), draw(1, size))
    info = GlobalNorm(1.0, p=p)(ours)
    total = torch.nn.utils.clip_grad_norm_(theirs, 1.0, p)
    assert float(info.norm_before) == pytest.approx(float(total), rel=3e-6)  # torch sums in float32
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=3e-6, atol=1e-12)


def test_accumulated_gradients_clip_as_one_large_batch() -> None:
    def fresh() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))

    x, y = torch.randn(32, 6), torch.randn(32, 1) * 10
    whole, parts = fresh(), fresh()
    (whole(x) - y).square().mean().backward()
    for rows in torch.arange(32).split(8):
        ((parts(x[rows]) - y[rows]).square().mean() / 4).backward()
    a, b = GlobalNorm(0.1)(whole), GlobalNorm(0.1)(parts)
    assert float(a.norm_before) == pytest.approx(float(b.norm_before), rel=1e-5)
    for p, q in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-7)


# -- optax --------------------------------------------------------------------------------------------------------


def by_optax(transform: optax.GradientTransformation, weights: list[Array], gradients: list[Array]) -> list[Array]:
    tree = [jnp.asarray(w) for w in weights]
    updates, _ = transform.update([jnp.asarray(g) for g in gradients], transform.init(tree), tree)
    return [np.asarray(u) for u in updates]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Value(0.5), optax.clip(0.5)),
        (GlobalNorm(1.0, eps=0.0), optax.clip_by_global_norm(1.0)),
        (BlockRMS(0.5), optax.clip_by_block_rms(0.5)),
        (Chain(Value(0.5), GlobalNorm(1.0, eps=0.0)), optax.chain(optax.clip(0.5), optax.clip_by_global_norm(1.0))),
        (
            Chain(BlockRMS(0.5), GlobalNorm(1.0, eps=0.0)),
            optax.chain(optax.clip_by_block_rms(0.5), optax.clip_by_global_norm(1.0)),
        ),
    ],
    ids=["value", "global", "rms", "value, global", "rms, global"],
)
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_optax(ours: Clipper, theirs: optax.GradientTransformation, size: float) -> None:
    weights, gradients = draw(0), draw(1, size)
    assert_same(clipped(ours, weights, gradients), by_optax(theirs, weights, gradients), rtol=2e-6)


@pytest.mark.parametrize("size", [1e-4, 1e-2, 1.0])
def test_optax_adaptive(size: float) -> None:
    """optax has the unit in the last axis of a kernel; torch in the first."""
    weights, gradients = [draw(0)[i] for i in (0, 2)], [draw(1, size)[i] for i in (0, 2)]
    ours = clipped(AdaptiveUnit(0.05), weights, gradients)
    axes = [(1, 0), (2, 3, 1, 0)]
    moved = [[np.transpose(x, a) for x, a in zip(xs, axes, strict=True)] for xs in (weights, gradients)]
    theirs = by_optax(optax.adaptive_grad_clip(0.05), *moved)
    assert_same(ours, [np.transpose(t, np.argsort(a)) for t, a in zip(theirs, axes, strict=True)])


# -- timm ---------------------------------------------------------------------------------------------------------

#: ``timm.utils.clip_grad.dispatch_clip_grad(parameters, 0.02, mode="agc")`` of timm 1.0.31, on :func:`pattern`.
TIMM: dict[tuple[int, ...], list[float]] = {
    (3, 4): [
        -1.44463047e-05, -2.40771737e-06, 9.6308695e-06, -9.6308695e-06, 0.00180277554, 0.0108166533,
        -0.00360555109, 0.00540832663, -0.0116216848, 0.0, 0.0116216848, -0.00697301049,
    ],
    (2, 1, 2, 2): [
        -1.44463047e-05, -2.40771737e-06, 9.6308695e-06, -9.6308695e-06, 0.00180277554, 0.0108166533,
        -0.00360555109, 0.00540832663,
    ],
    (3,): [-0.0118361451, -0.00197269092, 0.00789076369],
}  # fmt: skip


def pattern(shape: tuple[int, ...], step: int, size: int, unit: float) -> Tensor:
    """Numbers that float32 holds exactly."""
    return (((torch.arange(math.prod(shape)) * step) % size - size // 2).float() * unit).reshape(shape)


def test_timm_adaptive() -> None:
    weights = [pattern(shape, 7, 11, 1 / 8) for shape in TIMM]
    for weight in weights[:2]:
        weight.view(-1)[:4] = 0.0  # the first unit starts at zero
    for weight in weights:
        weight.requires_grad_().grad = pattern(tuple(weight.shape), 5, 13, 1 / 256)
    AdaptiveUnit(0.02)(weights)
    for weight, wanted in zip(weights, TIMM.values(), strict=True):
        assert weight.grad is not None
        np.testing.assert_allclose(weight.grad.flatten().numpy(), wanted, rtol=1e-6, atol=1e-12)


# -- numpy and the papers -----------------------------------------------------------------------------------------


def adaptive_slowly(w: Array, g: Array, scale: float, eps: float) -> NDArray[np.float64]:
    w64, g64 = w.astype(np.float64), g.astype(np.float64).copy()
    units = [(w64, g64)] if w.ndim < 2 else list(zip(w64, g64, strict=True))
    for w_unit, g_unit in units:
        bound = scale * max(np.linalg.norm(w_unit), eps)
        if np.linalg.norm(g_unit) > bound:
            g_unit[...] = g_unit * (bound / max(np.linalg.norm(g_unit), 1e-6))
    return g64


@pytest.mark.parametrize("size", [1e-4, 1e-2, 1.0])
def test_adaptive_unit(size: float) -> None:
    weights, gradients = draw(0), draw(1, size)
    weights[0][3] = 0.0
    wanted = [adaptive_slowly(w, g, 0.05, 1e-3) for w, g in zip(weights, gradients, strict=True)]
    assert_same(clipped(AdaptiveUnit(0.05), weights, gradients), wanted)  # type: ignore[arg-type]


def test_a_complex_vector_is_one_unit() -> None:
    weight = torch.full((3,), 3.0 + 4.0j, requires_grad=True)
    weight.grad = torch.tensor([100.0j, 0.0, 1.0])
    AdaptiveUnit(0.01)([weight])
    bound = 0.01 * 5 * math.sqrt(3)
    assert float(torch.linalg.vector_norm(weight.grad)) == pytest.approx(bound, rel=1e-5)
    assert abs(weight.grad[0] / weight.grad[2]) == pytest.approx(100.0)


def norms_seen(steps: int) -> Iterator[float]:
    generator = np.random.default_rng(0)
    for step in range(steps):
        yield float(np.exp(generator.normal()) * (50.0 if step % 17 == 16 else 1.0) * (0.1 if step < 30 else 1.0))


def walk(clipper: Clipper, norms: Iterator[float]) -> list[float]:
    """The norm after each clip, of a gradient of one entry."""
    out = []
    for norm in norms:
        leaf = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        leaf.grad = torch.full((1,), norm, dtype=torch.float64)
        clipper([leaf])
        out.append(float(leaf.grad))
    return out


@pytest.mark.parametrize("q", [0.0, 0.1, 0.37, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("window", [7, 1000])
def test_quantile_is_that_of_numpy(q: float, window: int) -> None:
    clipper, seen = Quantile(q, window=window), []
    for norm in norms_seen(60):
        seen.append(norm)
        here = torch.tensor(norm, dtype=torch.float64)
        assert float(clipper.threshold(here)) == np.percentile(seen[-window:], 100 * q)
        walk(clipper, iter([norm]))


def zclip_slowly(norms: Iterator[float], z: float, max_norm: float, decay: float, warmup: int) -> Iterator[float]:
    """The norm after the clip; ``zclip/zclip.py`` of its authors, in plain numbers."""
    first: list[float] = []
    mean = variance = 0.0
    for norm in norms:
        if len(first) < warmup:
            first.append(norm)
            mean, variance = float(np.mean(first)), float(np.var(first))
            yield norm * min(1.0, max_norm / (norm + 1e-6))
            continue
        score = (norm - mean) / (math.sqrt(variance) + 1e-6)
        tamed = mean + z * math.sqrt(variance) / (score / z) if score > z else norm
        bound = min(tamed, max_norm)
        yield norm * bound / (norm + 1e-6) if norm > bound else norm
        mean = decay * mean + (1 - decay) * tamed
        variance = decay * variance + (1 - decay) * (tamed - mean) ** 2


@pytest.mark.parametrize("max_norm", [1.0, 8.0, math.inf])
def test_zscore_is_zclip(max_norm: float) -> None:
    ours = walk(ZScoreClipper(2.5, max_norm=max_norm, decay=0.9, warmup=12), norms_seen(120))
    assert ours == pytest.approx(list(zclip_slowly(norms_seen(120), 2.5, max_norm, 0.9, 12)), rel=1e-6)
    assert sum(a < b * 0.99 for a, b in zip(ours, norms_seen(120), strict=True)) > 5


def adagc_slowly(
    steps: list[list[Array]], relative: float, absolute: float, decay: float, warmup: int
) -> Iterator[list[NDArray[np.float64]]]:
    gamma = [math.inf] * len(steps[0])
    for t, gradients in enumerate(steps):
        g = [x.astype(np.float64) for x in gradients]
        total = math.sqrt(sum(float((x**2).sum()) for x in g))
        for i, x in enumerate(g):
            if t < warmup:
                g[i] = x * min(1.0, absolute / total)
                gamma[i] = min(gamma[i], float(np.linalg.norm(g[i])))
            else:
                g[i] = x * min(1.0, relative * gamma[i] / float(np.linalg.norm(x)))
                gamma[i] = decay * gamma[i] + (1 - decay) * float(np.linalg.norm(g[i]))
        yield g


def test_adagc() -> None:
    steps = [draw(t, 10.0 if t % 9 == 8 else 1.0) for t in range(40)]
    clipper = AdaGC(1.05, absolute=20.0, decay=0.9, warmup=5)
    for gradients, wanted in zip(steps, adagc_slowly(steps, 1.05, 20.0, 0.9, 5), strict=True):
        assert_same(clipped(clipper, draw(99), gradients), wanted, rtol=2e-6)  # type: ignore[arg-type]


# -- what goes wrong elsewhere ------------------------------------------------------------------------------------


def leaf_of(values: list[float], dtype: torch.dtype = torch.float32) -> Tensor:
    leaf = torch.zeros(len(values), dtype=dtype, requires_grad=True)
    leaf.grad = torch.tensor(values, dtype=dtype)
    return leaf


def test_measuring_with_an_infinite_gradient_poisons_nothing() -> None:
    """torch: max_norm=inf and one Inf make every gradient NaN."""
    leaf = leaf_of([1.0, math.inf])
    info = GlobalNorm(math.inf)([leaf])
    assert leaf.grad is not None
    assert leaf.grad.tolist() == [1.0, math.inf]
    assert float(info.norm_before) == math.inf


@pytest.mark.parametrize(("value", "dtype"), [(2e19, torch.float32), (3e38, torch.float32), (6e4, torch.float16)])
def test_large_finite_gradients_are_clipped_and_do_not_vanish(value: float, dtype: torch.dtype) -> None:
    """torch: the norm overflows, and every gradient becomes zero."""
    leaf = leaf_of([value, value], dtype)
    info = GlobalNorm(1.0)([leaf])
    assert leaf.grad is not None
    assert leaf.grad.tolist() == pytest.approx([math.sqrt(0.5)] * 2, rel=1e-3)
    assert not info.non_finite


def test_the_norm_of_bfloat16_gradients_has_more_than_eight_bits() -> None:
    """torch: 316.0 for 316.63."""
    leaf = torch.zeros(100_000, dtype=torch.bfloat16, requires_grad=True)
    leaf.grad = torch.randn(100_000, generator=torch.Generator().manual_seed(0)).bfloat16()
    wanted = float(leaf.grad.double().norm())
    info = GlobalNorm(1.0)([leaf])
    assert float(info.norm_before) == pytest.approx(wanted, rel=3e-6)
    assert float(leaf.grad.double().norm()) == pytest.approx(1.0, rel=1e-3)


def test_a_threshold_of_zero_on_gradients_of_zero() -> None:
    """optax: 0 / 0 is NaN."""
    leaf = leaf_of([0.0, 0.0])
    for clipper in (GlobalNorm(0.0, eps=0.0), PerTensorNorm(0.0), BlockRMS(0.0), Value(0.0), AdaptiveUnit(0.0)):
        info = clipper([leaf])
        assert float(info.norm_after) == 0.0
        assert leaf.grad is not None
        assert leaf.grad.tolist() == [0.0, 0.0]


def test_clipping_by_value_does_not_hide_an_infinite_gradient() -> None:
    """torch: Inf becomes an ordinary limit."""
    leaf = leaf_of([1.0, -math.inf])
    assert Value(0.5)([leaf]).non_finite
    assert leaf.grad is not None
    assert leaf.grad.tolist() == [1.0, -math.inf]


def test_parameters_that_start_at_zero_can_learn() -> None:
    """Composer: without eps their factor is 0 for ever."""
    leaf = leaf_of([1.0, 1.0])
    AdaptiveUnit(0.01)([leaf])
    assert leaf.grad is not None
    assert float(leaf.grad.norm()) == pytest.approx(0.01 * 1e-3, rel=1e-5)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
@pytest.mark.parametrize(
    "make", [lambda: ZScoreClipper(warmup=3, max_norm=math.inf), lambda: Quantile(0.5), lambda: AdaGC(warmup=3)]
)
def test_one_bad_step_is_forgotten(poison: float, make: Callable[[], Clipper]) -> None:
    """ZClip: mean and variance are NaN for ever; AutoClip: the quantile is."""
    calm, hit = make(), make()
    norms = list(norms_seen(12))
    walk(calm, iter(norms))
    for i, norm in enumerate(norms):
        walk(hit, iter([norm, poison] if i % 3 == 1 else [norm]))
    assert walk(calm, iter([1e4])) == walk(hit, iter([1e4]))
    assert walk(hit, iter([1e4]))[0] < 100


def test_a_tensor_whose_gradient_was_zero_once_goes_on_learning() -> None:
    """AdaGC as published: its average is 0, so every later gradient is clipped to 0."""
    clipper, weight = AdaGC(absolute=math.inf, warmup=3), torch.zeros(1, requires_grad=True)
    other = torch.zeros(1, requires_grad=True)
    for size in (1.0, 0.0, 1.0, 1.0, 1.0):
        weight.grad, other.grad = torch.full((1,), size), torch.ones(1)
        clipper([weight, other])
    assert float(weight.grad) == 1.0


def test_adagc_finds_each_parameter_again_when_some_have_no_gradient() -> None:
    clipper = AdaGC(1.0, absolute=math.inf, warmup=1)
    a, b = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    a.grad, b.grad = torch.ones(1), torch.full((1,), 10.0)
    clipper([a, b])
    a.grad, b.grad = None, torch.full((1,), 12.0)
    clipper([a, b])
    assert float(b.grad) == pytest.approx(10.0)
    a.grad, b.grad = torch.full((1,), 5.0), None
    clipper([a, b])
    assert float(a.grad) == pytest.approx(1.0)
