"""The initialisers: how the numbers of a weight are drawn.

Each takes a tensor, a module with everything in it, or several modules. Of a module every trainable weight is filled
once, with the fans that the module really has (see :func:`~steadygrad.init.fans`), and its biases are set to 0. Norm
layers and embeddings are left alone. With a tensor, torch's rule for its shape is used, and the numbers are those of
``torch.nn.init`` bit for bit for the same generator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn

from steadygrad.errors import InputError
from steadygrad.init.gains import gain as gain_of
from steadygrad.init.weights import NORMS, Weight, modules, weights

T = TypeVar("T", Tensor, nn.Module, Iterable[nn.Module])
Random = torch.Generator | None


def _apply(target: T, fill: Callable[[Weight], Callable[[Tensor], object]], bias: float | None = 0.0) -> T:
    if isinstance(target, Iterable) and not isinstance(target, Tensor | nn.Module):
        target = list(target)  # an iterator can be read only once
    for weight in weights(target):
        weight.write(fill(weight))
        if bias is not None:
            set_biases(weight, bias)
    return target


@torch.no_grad()
def set_biases(weight: Weight, value: float) -> None:
    """Set the biases that go with a weight, where there are any that train."""
    for name in weight.biases:
        bias = getattr(weight.module, name, None)
        if isinstance(bias, Tensor) and bias.requires_grad:
            bias.fill_(value)


def positive(name: str, value: float, *, zero: bool = False) -> float:
    """Check a spread or gain that has to be a finite number above 0 (or 0)."""
    if not (value > 0 or (zero and value == 0)) or not math.isfinite(value):
        raise InputError(f"{name} must be a finite number {'of at least' if zero else 'above'} 0, not {value!r}")
    return float(value)


def draw(value: Tensor, std: float, distribution: str, generator: Random) -> Tensor:
    """Fill with zero mean and this standard deviation, as torch's initialisers do."""
    if distribution == "normal":
        return value.normal_(0, std, generator=generator)
    if distribution == "uniform":
        bound = math.sqrt(3.0) * std
        return value.uniform_(-bound, bound, generator=generator)
    raise InputError(f"distribution must be 'normal' or 'uniform', not {distribution!r}")


def uniform_(target: T, low: float = -0.05, high: float = 0.05, *, generator: Random = None) -> T:
    """Fill with U(low, high): variance ``(high - low)**2 / 12``, whatever the fans. Returns the target.

    Raises:
        InputError: ``low`` is not below ``high``.

    Example:
        >>> _ = uniform_(nn.Linear(3, 2), -0.1, 0.1, generator=torch.Generator().manual_seed(0))
    """
    if not low < high:
        raise InputError(f"low must be below high; received low={low!r}, high={high!r}")
    return _apply(target, lambda _: lambda v: v.uniform_(low, high, generator=generator))


def normal_(target: T, *, mean: float = 0.0, std: float = 0.02, generator: Random = None) -> T:
    """Fill with N(mean, std**2), whatever the fans; 0.02 is what GPT-2 uses. Returns the target.

    Raises:
        InputError: ``std`` is negative or not finite.
    """
    positive("std", std, zero=True)
    return _apply(target, lambda _: lambda v: v.normal_(mean, std, generator=generator))


def truncated_normal_(
    target: T,
    *,
    mean: float = 0.0,
    std: float = 0.02,
    low: float = -2.0,
    high: float = 2.0,
    keep_std: bool = False,
    generator: Random = None,
) -> T:
    """Fill with a normal distribution cut at ``low`` and ``high`` standard deviations. Returns the target.

    The bounds are relative. Those of ``torch.nn.init.trunc_normal_`` are absolute values, -2 and 2 by default, so that
    a std of 0.02 is not truncated at all.

    Args:
        target: a tensor, a module or modules.
        mean: centre of the distribution.
        std: standard deviation before the cut.
        low: lower bound in standard deviations, below ``high``.
        high: upper bound in standard deviations.
        keep_std: widen the distribution so that ``std`` is the standard deviation after the cut (at 2 standard
            deviations it is otherwise 0.88 of it); the bounds then count the wider one.
        generator: where the random numbers come from; torch's global state by default.

    Raises:
        InputError: bounds or std out of order.

    Example:
        >>> w = truncated_normal_(torch.empty(100, 100), std=0.02)
        >>> bool(w.abs().max() <= 0.04)
        True
    """
    positive("std", std)
    if not low < high:
        raise InputError(f"low must be below high, in standard deviations; received low={low!r}, high={high!r}")
    wide = std / truncated_std(low, high) if keep_std else std

    def fill(value: Tensor) -> Tensor:
        exact = value if value.dtype in (torch.float32, torch.float64) else torch.empty_like(value, dtype=torch.float32)
        nn.init.trunc_normal_(exact, mean, wide, mean + low * wide, mean + high * wide, generator=generator)
        return value if exact is value else value.copy_(exact)

    return _apply(target, lambda _: fill)


def truncated_std(low: float, high: float) -> float:
    """Standard deviation of a standard normal variable cut at ``low`` and ``high``.

    Example:
        >>> round(truncated_std(-2, 2), 4)
        0.8796
    """
    density = [math.exp(-x * x / 2) / math.sqrt(2 * math.pi) if math.isfinite(x) else 0.0 for x in (low, high)]
    mass = (math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2))) / 2
    if mass <= 0:
        raise InputError(f"no normal numbers lie between {low!r} and {high!r} standard deviations; widen the bounds")
    edge = sum(s * x * d for s, x, d in zip((1, -1), (low, high), density, strict=True) if math.isfinite(x))
    return math.sqrt(1 + edge / mass - ((density[0] - density[1]) / mass) ** 2)


def xavier_(target: T, *, gain: float = 1.0, distribution: str = "uniform", generator: Random = None) -> T:
    """Variance ``gain**2 * 2 / (fan_in + fan_out)`` (Glorot and Bengio 2010). Returns the target.

    Args:
        target: a tensor, a module or modules.
        gain: a factor on the standard deviation, such as ``gain("tanh")``.
        distribution: ``uniform``, within ``gain * sqrt(6 / (fan_in + fan_out))``, or ``normal``.
        generator: where the random numbers come from; torch's global state by default.

    Raises:
        InputError: an unknown distribution, or a gain that is negative or not finite.

    Example:
        >>> layer = xavier_(nn.Linear(40, 20))
        >>> bool(layer.weight.abs().max() <= (6 / 60) ** 0.5), layer.bias.abs().sum().item()
        (True, 0.0)
    """
    positive("gain", gain, zero=True)
    return _apply(target, lambda w: lambda v: draw(v, xavier_std(w, gain), distribution, generator))


def xavier_std(weight: Weight, gain: float) -> float:
    """The standard deviation that Xavier gives a weight."""
    return gain * math.sqrt(2.0 / (weight.fans.fan_in + weight.fans.fan_out))


def kaiming_(
    target: T,
    *,
    nonlinearity: str = "relu",
    slope: float | None = None,
    mode: str = "fan_in",
    distribution: str = "normal",
    generator: Random = None,
) -> T:
    """Variance ``gain**2 / fan`` with the gain of the activation that follows (He et al. 2015). Returns the target.

    Args:
        target: a tensor, a module or modules.
        nonlinearity: a name that :func:`~steadygrad.init.gain` knows; ``linear`` gives LeCun's rule.
        slope: negative slope or alpha, for activations that have one.
        mode: ``fan_in`` keeps the scale of activations, ``fan_out`` that of gradients.
        distribution: ``normal``, or ``uniform`` within ``gain * sqrt(3 / fan)``.
        generator: where the random numbers come from; torch's global state by default.

    Raises:
        InputError: an unknown nonlinearity, mode or distribution.

    Example:
        >>> layer = kaiming_(nn.Linear(500, 500), generator=torch.Generator().manual_seed(0))
        >>> round(layer.weight.std().item() / (2 / 500) ** 0.5, 2)
        1.0
    """
    factor = gain_of(nonlinearity, slope)
    return _apply(target, lambda w: lambda v: draw(v, factor / math.sqrt(w.fans.mode(mode)), distribution, generator))


def orthogonal_(target: T, *, gain: float = 1.0, generator: Random = None) -> T:
    """Rows or columns orthonormal, times the gain (Saxe et al. 2014), in every block. Returns the target.

    Each gate of an LSTM, each of query, key and value, and each group of a convolution is orthogonal by itself. Half
    precision is computed in float32 (torch's own raises NotImplementedError for it).

    Raises:
        InputError: a gain that is negative or not finite.

    Example:
        >>> w = orthogonal_(torch.empty(3, 5, dtype=torch.bfloat16))
        >>> torch.allclose(w.float() @ w.float().T, torch.eye(3), atol=0.02)
        True
    """
    positive("gain", gain, zero=True)
    return _apply(target, lambda weight: orthogonal_filler(weight, gain, generator))


def orthogonal_filler(weight: Weight, gain: float, generator: Random) -> Callable[[Tensor], None]:
    """What makes every block of a weight orthogonal."""

    def fill(value: Tensor) -> None:
        wide = value.dtype if value.dtype in (torch.float32, torch.float64) else torch.float32
        for block in weight.blocks(value):
            exact = torch.empty(block.shape, dtype=wide, device=block.device)
            block.copy_(nn.init.orthogonal_(exact, gain, generator))

    return fill


def identity_(target: T, *, gain: float = 1.0) -> T:
    """Pass the input on unchanged: the identity matrix, or a kernel that is 1 at its centre. Returns the target.

    Where a block is not square, as many inputs as fit are passed on and other outputs are 0. Each group of a
    convolution and each gate of a recurrent layer is the identity by itself.

    Example:
        >>> layer = identity_(nn.Conv2d(4, 4, 3, padding=1, groups=2))
        >>> x = torch.randn(1, 4, 5, 5)
        >>> bool((layer(x) == x).all())
        True
    """
    positive("gain", gain)

    def fill(weight: Weight) -> Callable[[Tensor], None]:
        def deltas(value: Tensor) -> None:
            value.zero_()
            for block in weight.blocks(value):
                centre: list[int] = [size // 2 for size in block.shape[2:]]
                for unit in range(min(block.shape[:2])):
                    block[(unit, unit, *centre)] = gain

        return deltas

    return _apply(target, fill)


def residual_(target: T, *, branches: int, std: float = 0.02, generator: Random = None) -> T:
    """N(0, std**2 / branches), for the last weight of every residual branch (GPT-2). Returns the target.

    ``branches`` such branches are summed on the residual stream, so that its variance stays that of one. A transformer
    of L blocks has 2 L: one attention and one feed-forward branch per block.

    Raises:
        InputError: ``branches`` below 1, or a std that is not positive.

    Example:
        >>> w = residual_(torch.empty(300, 300), branches=24, generator=torch.Generator().manual_seed(0))
        >>> round(w.std().item() * 24**0.5, 3)
        0.02
    """
    if branches < 1:
        raise InputError(f"branches counts the residual branches of the whole model, at least 1, not {branches!r}")
    return normal_(target, std=positive("std", std) / math.sqrt(branches), generator=generator)


@torch.no_grad()
def norm_layers_(target: nn.Module | Iterable[nn.Module]) -> int:
    """Set every norm layer to gamma 1, beta 0 and fresh running statistics; frozen parameters stay. Returns how many.

    Example:
        >>> norm_layers_(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))
        1
    """
    found = [module for _, module in modules(target) if isinstance(module, NORMS)]
    for module in found:
        for name, value in (("weight", 1.0), ("bias", 0.0)):
            parameter = getattr(module, name, None)
            if isinstance(parameter, Tensor) and parameter.requires_grad:
                parameter.fill_(value)
        frozen = any(not p.requires_grad for p in module.parameters(recurse=False))
        if isinstance(module, nn.modules.batchnorm._NormBase) and not frozen:
            module.reset_running_stats()
    return len(found)
