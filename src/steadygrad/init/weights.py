"""The weights of a model: each once, with the fans its module really has and the blocks it is made of.

A weight tensor may hold several maps: the gates of an LSTM, query, key and value, the groups of a convolution. Fans,
and what is orthogonal or the identity, belong to one such block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from steadygrad.errors import InputError

Target = Tensor | nn.Module | Iterable[nn.Module]

_GATES = {"RNN_TANH": 1, "RNN_RELU": 1, "RNN": 1, "GRU": 3, "LSTM": 4}
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMS = (
    nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm,
)  # fmt: skip
EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)


@dataclass(frozen=True, slots=True)
class Fans:
    """How many inputs reach an output (``fan_in``) and how many outputs an input reaches (``fan_out``), on average."""

    fan_in: float
    fan_out: float

    def mode(self, mode: str) -> float:
        """The fan of a Kaiming mode."""
        if mode not in ("fan_in", "fan_out"):
            raise InputError(f"mode must be 'fan_in' or 'fan_out', not {mode!r}")
        return self.fan_in if mode == "fan_in" else self.fan_out


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight to fill: where it is, its fans, and how it divides into blocks."""

    name: str
    module: nn.Module | None
    attribute: str
    tensor: Tensor
    fans: Fans
    groups: int = 1
    transposed: bool = False
    biases: tuple[str, ...] = ()

    def blocks(self, value: Tensor) -> list[Tensor]:
        """Views of ``value``, each a map of shape (outputs, inputs, *kernel)."""
        parts = value.chunk(self.groups, 0)
        return [part.transpose(0, 1) for part in parts] if self.transposed else list(parts)

    @torch.no_grad()
    def write(self, fill: Callable[[Tensor], object]) -> None:
        """Fill in place; a parametrized weight (weight_norm, spectral_norm) is assigned, so that it really changes."""
        if self.module is None or not parametrize.is_parametrized(self.module, self.attribute):
            fill(self.tensor)
            return
        value = getattr(self.module, self.attribute).detach().clone()
        fill(value)
        setattr(self.module, self.attribute, value)

    def read(self) -> Tensor:
        """Its current value; the computed one where it is parametrized."""
        value: Tensor = self.tensor if self.module is None else getattr(self.module, self.attribute)
        return value.detach()


def fans(target: Tensor | nn.Module) -> Fans:
    """Fans of a weight tensor (torch's rule for its shape) or of a module with one weight (what it really computes).

    For grouped, depthwise, strided and transposed convolutions a tensor's shape does not tell: torch's own rule gives a
    fan_out of 288 for a depthwise 3x3 convolution of 32 channels, where every input reaches 9 outputs.

    Raises:
        InputError: fewer than two dimensions, or a module without exactly one kind of weight.

    Example:
        >>> fans(nn.Conv2d(32, 32, 3, groups=32))
        Fans(fan_in=9.0, fan_out=9.0)
        >>> fans(nn.ConvTranspose2d(64, 16, 2, stride=2))
        Fans(fan_in=64.0, fan_out=64.0)
    """
    if isinstance(target, Tensor):
        return _tensor_fans(target)
    found = list(_of_module(target, ""))
    if len({w.fans for w in found}) != 1:
        raise InputError(f"fans() takes a tensor or a module with one kind of weight, not {type(target).__name__}")
    return found[0].fans


def _tensor_fans(tensor: Tensor) -> Fans:
    if tensor.dim() < 2:
        shape = tuple(tensor.shape)
        raise InputError(f"fan_in and fan_out need at least two dimensions, not shape {shape}; is this a bias?")
    field = math.prod(tensor.shape[2:])
    return Fans(float(tensor.shape[1] * field), float(tensor.shape[0] * field))


def _conv(module: Any, name: str) -> Weight:
    """Along each axis, a kernel of k taps with stride s meets k / s positions of its strided side on average."""
    field = math.prod(module.kernel_size)
    strided = math.prod(k / s for k, s in zip(module.kernel_size, module.stride, strict=True))
    ins, outs = module.in_channels / module.groups, module.out_channels / module.groups
    if isinstance(module, TRANSPOSED):
        fans, transposed = Fans(ins * strided, float(outs * field)), True
    else:
        fans, transposed = Fans(float(ins * field), outs * strided), False
    return Weight(f"{name}weight", module, "weight", module.weight, fans, module.groups, transposed, ("bias",))


def _recurrent(module: nn.RNNBase | nn.RNNCellBase, name: str) -> Iterator[Weight]:
    gates = _GATES[str(getattr(module, "mode", type(module).__name__.removesuffix("Cell")))]
    for key, value in module.named_parameters(recurse=False):
        if value.dim() == 2:
            rows = value.shape[0] // (1 if "_hr" in key else gates)
            fans = Fans(float(value.shape[1]), float(rows))
            bias = key.replace("weight", "bias")
            yield Weight(name + key, module, key, value, fans, value.shape[0] // rows, biases=(bias,))


def _attention(module: nn.MultiheadAttention, name: str) -> Iterator[Weight]:
    for key in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
        value = getattr(module, key)
        if value is not None:
            groups = 3 if key.startswith("in") else 1
            shape = Fans(float(value.shape[1]), float(value.shape[0] // groups))
            yield Weight(name + key, module, key, value, shape, groups, biases=("in_proj_bias",))


def _of_module(module: nn.Module, name: str) -> Iterator[Weight]:
    """The weights that a module itself owns. Norm layers and embeddings have none: fans do not set their scale."""
    if any(nn.parameter.is_lazy(p) for p in module.parameters(recurse=False)):
        raise InputError(f"{name or 'the module'} is lazy and has no shape yet; run one batch through the model first")
    if isinstance(module, (*CONVOLUTIONS, *TRANSPOSED)):
        yield _conv(module, name)
    elif isinstance(module, nn.RNNBase | nn.RNNCellBase):
        yield from _recurrent(module, name)
    elif isinstance(module, nn.MultiheadAttention):
        yield from _attention(module, name)
    elif isinstance(module, (*NORMS, *EMBEDDINGS, nn.PReLU)):
        return
    else:
        yield from _linear_like(module, name)


def _linear_like(module: nn.Module, name: str) -> Iterator[Weight]:
    """Linear, Bilinear, the Conv1D of transformers (a transposed Linear), layers written by hand with a ``weight``."""
    value = getattr(module, "weight", None)
    if isinstance(value, Tensor) and value.dim() >= 2 and value.is_floating_point():
        plain = _tensor_fans(value)
        transposed = type(module).__name__ == "Conv1D" and hasattr(module, "nf")
        shape = Fans(plain.fan_out, plain.fan_in) if transposed else plain
        yield Weight(f"{name}weight", module, "weight", value, shape, 1, transposed, ("bias",))


def modules(target: nn.Module | Iterable[nn.Module]) -> list[tuple[str, nn.Module]]:
    """Every module of a model or of several, with its dotted prefix, in registration order, each once."""
    if not isinstance(target, nn.Module):
        roots = list(target)
        wrong = next((m for m in roots if not isinstance(m, nn.Module)), None)
        if wrong is not None:
            raise InputError(f"give a tensor, a module or modules, not a {type(wrong).__name__} among them")
        named = [(f"{i}.{n}" if n else str(i), m) for i, root in enumerate(roots) for n, m in root.named_modules()]
    else:
        named = list(target.named_modules())
    once = {id(module): (name + "." if name else "", module) for name, module in reversed(named)}
    return list(reversed(once.values()))


def weights(target: Target, *, frozen: bool = False) -> list[Weight]:
    """The weights of a target, in registration order; a tied weight is listed once, where it is met first.

    Args:
        target: a tensor, a module with everything in it, or several modules.
        frozen: also those with ``requires_grad=False``, which are left alone otherwise.

    Raises:
        InputError: not such a target; a lazy module without shapes; a tensor with fewer than two dimensions.

    Example:
        >>> [w.name for w in weights(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)))]
        ['0.weight', '2.weight']
    """
    if isinstance(target, Tensor):
        return [Weight("tensor", None, "", target, _tensor_fans(target))]
    if not isinstance(target, Iterable | nn.Module):
        raise InputError(f"give a tensor, a module or modules, not a {type(target).__name__}")
    found: dict[int, Weight] = {}
    embedded = {id(m.weight) for _, m in modules(target) if isinstance(m, EMBEDDINGS)}
    for name, module in modules(target):
        for weight in _of_module(module, name):
            if (frozen or _trains(weight)) and id(weight.tensor) not in embedded:
                found.setdefault(id(weight.tensor), weight)
    return list(found.values())


def _trains(weight: Weight) -> bool:
    if weight.module is not None and parametrize.is_parametrized(weight.module, weight.attribute):
        inside = weight.module.parametrizations[weight.attribute].parameters()  # type: ignore[index,union-attr]
        return any(p.requires_grad for p in inside)
    return weight.tensor.requires_grad
