"""What an activation does to the scale of its input, and the gain of the weights that makes up for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steadygrad.errors import InputError

#: name -> (the function of input and parameter, default parameter). "linear" is "no activation follows".
SHAPES: dict[str, tuple[Callable[[Tensor, float], Tensor], float]] = {
    "linear": (lambda z, _: z, 0.0),
    "relu": (lambda z, _: F.relu(z), 0.0),
    "leaky_relu": (F.leaky_relu, 0.01),
    "prelu": (F.leaky_relu, 0.25),
    "relu6": (lambda z, _: F.relu6(z), 0.0),
    "elu": (F.elu, 1.0),
    "celu": (F.celu, 1.0),
    "selu": (lambda z, _: F.selu(z), 0.0),
    "gelu": (lambda z, _: F.gelu(z), 0.0),
    "silu": (lambda z, _: F.silu(z), 0.0),
    "mish": (lambda z, _: F.mish(z), 0.0),
    "hardswish": (lambda z, _: F.hardswish(z), 0.0),
    "softplus": (lambda z, _: F.softplus(z), 0.0),
    "tanh": (lambda z, _: torch.tanh(z), 0.0),
    "hardtanh": (lambda z, _: F.hardtanh(z), 0.0),
    "softsign": (lambda z, _: F.softsign(z), 0.0),
    "sigmoid": (lambda z, _: torch.sigmoid(z), 0.0),
    "hardsigmoid": (lambda z, _: F.hardsigmoid(z), 0.0),
}
#: Gains with a convention of their own. Tanh and sigmoid: torch's. SELU: its fixed point needs Var = 1/fan_in.
_CONVENTION = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5.0 / 3.0, "selu": 1.0}
#: Leaky and parametric ReLU have a closed form, and a slope of their own.
_LEAKY = frozenset({"leaky_relu", "prelu"})

MODULES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu", nn.LeakyReLU: "leaky_relu", nn.PReLU: "prelu", nn.ReLU6: "relu6", nn.RReLU: "leaky_relu",
    nn.ELU: "elu", nn.CELU: "celu", nn.SELU: "selu", nn.GELU: "gelu", nn.SiLU: "silu", nn.Mish: "mish",
    nn.Hardswish: "hardswish", nn.Softplus: "softplus", nn.Tanh: "tanh", nn.Hardtanh: "hardtanh",
    nn.Softsign: "softsign", nn.Sigmoid: "sigmoid", nn.Hardsigmoid: "hardsigmoid",
}  # fmt: skip
FUNCTIONS: dict[Any, str] = {
    F.relu: "relu", F.relu_: "relu", torch.relu: "relu", torch.relu_: "relu", Tensor.relu: "relu",
    Tensor.relu_: "relu", F.leaky_relu: "leaky_relu", F.leaky_relu_: "leaky_relu", F.prelu: "prelu",
    F.relu6: "relu6", F.elu: "elu", F.elu_: "elu", F.celu: "celu", F.selu: "selu", F.selu_: "selu", F.gelu: "gelu",
    F.silu: "silu", F.mish: "mish", F.hardswish: "hardswish", F.softplus: "softplus", F.hardtanh: "hardtanh",
    F.hardtanh_: "hardtanh", F.softsign: "softsign", F.tanh: "tanh", torch.tanh: "tanh", torch.tanh_: "tanh",
    Tensor.tanh: "tanh", Tensor.tanh_: "tanh", F.sigmoid: "sigmoid", torch.sigmoid: "sigmoid",
    torch.sigmoid_: "sigmoid", Tensor.sigmoid: "sigmoid", Tensor.sigmoid_: "sigmoid", F.hardsigmoid: "hardsigmoid",
}  # fmt: skip
#: Methods, as a traced graph names them.
METHODS = {name: shape for name in ("relu", "tanh", "sigmoid") for name, shape in ((name, name), (f"{name}_", name))}


@dataclass(frozen=True, slots=True)
class Activation:
    """An activation by name, with its slope or alpha where it has one."""

    name: str
    parameter: float = 0.0

    def __str__(self) -> str:
        return f"{self.name}({self.parameter:g})" if self.parameter else self.name


LINEAR = Activation("linear")


def gain(nonlinearity: str, parameter: float | None = None) -> float:
    """The gain of weights that are followed by this activation: their variance is ``gain**2 / fan``.

    Args:
        nonlinearity: a name of :data:`SHAPES`, such as ``relu``, ``gelu`` or ``tanh``; ``linear`` for none.
        parameter: negative slope of leaky_relu (0.01) and prelu (0.25), alpha of elu and celu (1.0).

    Returns:
        For the ReLU family sqrt(2 / (1 + slope**2)) (He et al. 2015); tanh 5/3 and sigmoid 1 as torch has them; SELU 1,
        which its fixed point needs (Klambauer et al. 2017; torch's 3/4 is not that); for every other activation
        ``1 / sqrt(E[f(z)**2])`` with z standard normal, the condition from which He's gain follows for ReLU.

    Raises:
        InputError: there is no activation of that name.

    Example:
        >>> round(gain("relu"), 4), round(gain("gelu"), 4), round(gain("silu"), 4)
        (1.4142, 1.5335, 1.6765)
    """
    if nonlinearity not in SHAPES:
        raise InputError(f"nonlinearity must be one of {', '.join(sorted(SHAPES))}, not {nonlinearity!r}")
    value = SHAPES[nonlinearity][1] if parameter is None else float(parameter)
    if nonlinearity in _CONVENTION:
        return _CONVENTION[nonlinearity]
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity in _LEAKY:
        return math.sqrt(2.0 / (1 + value**2))
    return 1 / math.sqrt(second_moment(nonlinearity, value))


@lru_cache(maxsize=1024)
def second_moment(nonlinearity: str, parameter: float = 0.0, scale: float = 1.0, slope: bool = False) -> float:
    """E[f(scale * z)**2] for standard normal z; with ``slope`` that of the derivative, which scales gradients.

    The midpoint rule on a grid whose cells end where activations have their kinks; good to about 1e-7.

    Example:
        >>> round(second_moment("relu"), 6), round(second_moment("relu", slope=True), 6)
        (0.5, 0.5)
    """
    f = SHAPES[nonlinearity][0]
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        z = (torch.arange(-12000, 12000, dtype=torch.float64) + 0.5).div_(1000).requires_grad_()
        y = f(z * scale, parameter)
        if slope:
            (y,) = torch.autograd.grad(y.sum(), z)
            y = y / scale
        density = torch.exp(-(z.detach() ** 2) / 2) / math.sqrt(2 * math.pi)
        return float((y.detach() ** 2 * density).sum() / 1000)


def module_activation(module: nn.Module) -> Activation | None:
    """The activation that a module is, or None."""
    name = MODULES.get(type(module))
    if name is None:
        return None
    if isinstance(module, nn.PReLU):
        return Activation(name, float(module.weight.detach().mean()))
    if isinstance(module, nn.RReLU):
        return Activation(name, (module.lower + module.upper) / 2)
    return Activation(name, float(getattr(module, "negative_slope", getattr(module, "alpha", SHAPES[name][1]))))


def function_activation(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Activation | None:
    """The activation that a call of a function is, or None; ``function`` may be a method's name."""
    name = METHODS.get(function) if isinstance(function, str) else FUNCTIONS.get(function)
    if name is None:
        return None
    given = next((kwargs[key] for key in ("negative_slope", "alpha", "weight") if key in kwargs), None)
    if given is None and name in ("leaky_relu", "prelu", "elu", "celu") and len(args) > 1:
        given = args[1]
    if isinstance(given, Tensor):
        given = float(given.detach().mean())
    return Activation(name, float(given) if isinstance(given, int | float) else SHAPES[name][1])
