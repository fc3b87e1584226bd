"""Clippers against the ``clipvalue``, ``clipnorm`` and ``global_clipnorm`` of Keras, which clips in its optimizers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from steadygrad.clip import Clipper, GlobalNorm, PerTensorNorm, Value

SHAPES = [(8, 6), (6,), (4, 3, 3, 3), (3000,)]


@pytest.fixture(scope="module")
def keras() -> Iterator[Any]:
    """Keras on JAX, its settings in a folder of ours: it writes them into the user's home otherwise."""
    with tempfile.TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patched:
        patched.setenv("KERAS_HOME", home)
        patched.setenv("KERAS_BACKEND", "jax")
        import keras

        yield keras


def gradients(size: float) -> list[NDArray[np.float32]]:
    generator = np.random.default_rng(1)
    return [(generator.standard_normal(shape) * size).astype(np.float32) for shape in SHAPES]


def by_keras(keras: Any, options: dict[str, float], given: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """A step of SGD at a rate of 1 from zero leaves minus what is left of the gradient."""
    variables = [keras.Variable(np.zeros_like(g)) for g in given]
    keras.optimizers.SGD(learning_rate=1.0, **options).apply([keras.ops.array(g) for g in given], variables)
    return [-np.asarray(v) for v in variables]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Value(0.5), {"clipvalue": 0.5}),
        (PerTensorNorm(2.0), {"clipnorm": 2.0}),
        (GlobalNorm(1.0, eps=0.0), {"global_clipnorm": 1.0}),
    ],
    ids=["value", "norm", "global"],
)
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_keras(keras: Any, ours: Clipper, theirs: dict[str, float], size: float) -> None:
    given = gradients(size)
    leaves = [torch.zeros(shape, requires_grad=True) for shape in SHAPES]
    for leaf, gradient in zip(leaves, given, strict=True):
        leaf.grad = torch.from_numpy(gradient.copy())
    ours(leaves)
    for leaf, wanted in zip(leaves, by_keras(keras, theirs, given), strict=True):
        assert leaf.grad is not None
        np.testing.assert_allclose(leaf.grad.numpy(), wanted, rtol=2e-6, atol=1e-12)
