"""Clipping against torch, optax, numpy and slow float64 formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import steadygrad
from steadygrad.clip import GlobalNorm
from steadygrad.clip.norms import MEDIUM, RUN, SMALL, norms

Shapes = list[tuple[int, ...]]
SHAPES: Shapes = [(3, 5), (7,), (), (SMALL + 1,), (RUN + 3,), (0, 4), (2, 3, 4, 5)]


def leaves(shapes: Shapes = SHAPES, *, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Parameters with random gradients."""
    out = []
    for i, shape in enumerate(shapes):
        generator = torch.Generator().manual_seed(i)
        leaf = torch.zeros(shape, dtype=dtype, requires_grad=True)
        leaf.grad = (torch.randn(shape, generator=generator, dtype=torch.float64) * scale).to(dtype)
        out.append(leaf)
    return out


def exact(tensors: list[Tensor], p: float = 2.0) -> float:
    """The joint p-norm of the gradients in float64."""
    joined = torch.cat([t.grad.detach().double().flatten() for t in tensors if t.grad is not None])
    return float(torch.linalg.vector_norm(joined, p))


def gradients(tensors: list[Tensor]) -> list[Tensor]:
    return [t.grad.clone() for t in tensors if t.grad is not None]


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, math.inf])
@pytest.mark.parametrize("max_norm", [0.0, 0.3, 1.0, 1e6])
def test_global_norm_is_that_of_torch(p: float, max_norm: float) -> None:
    shapes = [shape for shape in SHAPES if math.prod(shape) <= SMALL]  # torch loses digits in longer ones
    ours, theirs = leaves(shapes), leaves(shapes)
    info = GlobalNorm(max_norm, p=p)(ours)
    total = torch.nn.utils.clip_grad_norm_([t for t in theirs if t.numel()], max_norm, p)
    assert float(info.norm_before) == pytest.approx(float(total), rel=2e-6)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=2e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_norms_are_exact_in_every_format(dtype: torch.dtype) -> None:
    tensors = leaves(dtype=dtype)
    info = GlobalNorm(math.inf)(tensors)
    wanted = [exact([t]) for t in tensors]
    np.testing.assert_allclose(info.norms.numpy(), wanted, rtol=2e-6)
    assert float(info.norm_before) == pytest.approx(exact(tensors), rel=2e-6)


@pytest.mark.parametrize("size", [1, SMALL, SMALL + 1, MEDIUM, MEDIUM + 1, RUN, RUN + 1, 5 * RUN + 7])
@pytest.mark.parametrize("value", [3e-38, 1e-25, 0.3, 2e19, 3e38])
def test_norms_are_right_over_the_whole_range(size: int, value: float) -> None:
    x = torch.full((size,), value)  # equal numbers are the worst case of a sum in float32
    assert float(norms([x])[0]) == pytest.approx(float(x[0].double()) * math.sqrt(size), rel=3e-5)


@pytest.mark.parametrize("value", [1e-200, 1e200])
def test_norms_of_float64_are_right_where_its_squares_are_not(value: float) -> None:
    for size in (3, SMALL + 1):
        x = torch.full((size,), value, dtype=torch.float64)
        assert float(norms([x])[0]) == pytest.approx(value * math.sqrt(size), rel=1e-12)


def test_the_error_names_the_parameters() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model(torch.ones(1, 2)).sum().backward()
    model[1].bias.grad[0] = math.nan
    with pytest.raises(steadygrad.NonFiniteError, match=r"of 1\.bias hold"):
        GlobalNorm(1.0, error_if_nonfinite=True)(model)
    assert GlobalNorm(1.0)(model).bad_parameters() == ("1.bias",)


def test_a_gradient_is_counted_once() -> None:
    (weight,) = leaves([(4,)])
    info = GlobalNorm(1.0)([weight, weight])
    assert float(info.norm_after) == pytest.approx(exact([weight]), rel=1e-5)
    assert info.norms.shape == (1,)


@pytest.mark.parametrize("bad", [-1.0, math.nan, -math.inf])
def test_thresholds_are_checked(bad: float) -> None:
    with pytest.raises(steadygrad.InputError, match="max_norm must be 0 or more"):
        GlobalNorm(bad)
